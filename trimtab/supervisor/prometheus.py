"""The Prometheus of a local fleet: yours by `PROMETHEUS_URL`, else a program on the PATH, else Debian's, unpacked (debian.py)."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx2

from trimtab.errors import CommandError
from trimtab.supervisor import debian
from trimtab.supervisor.children import Probe, Spawned
from trimtab.supervisor.credentials import write_secret
from trimtab.supervisor.ports import HOST
from trimtab.supervisor.report import Reporter

VARIABLE = "PROMETHEUS_URL"
DISCOVERY_PATH = "/api/v1/sd/prometheus"
RETENTION = "3d"
RULES = ("recording_rules.yml", "alerts.yml")


async def find_server(folder: Path, report: Reporter) -> str:
    """Path of the program; fetched below `folder` when this machine has none. Raises CommandError with the ways out."""
    if found := shutil.which("prometheus"):
        return found
    try:
        unpacked = await debian.unpacked_program(
            "prometheus", "usr/bin/prometheus", folder, lambda words: report.note("prometheus", words)
        )
    except debian.PackageUnavailable as error:
        raise CommandError(
            f"Prometheus is not on this machine, and Debian's package could not be fetched ({error}): install prometheus, "
            f"or set {VARIABLE} to a running one"
        ) from None
    return str(unpacked)


def write_config(folder: Path, *, api_url: str, token: str, scrape_interval_s: float) -> Path:
    """Configuration and the secret it refers to, below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "discovery_token"
    write_secret(secret, token)
    path = folder / "prometheus.yml"
    rules = [folder / name for name in RULES]
    for rule in rules:
        # Copied, since the folder of an installed package may be replaced under a Prometheus that runs.
        rule.write_text((rules_folder() / rule.name).read_text(encoding="utf-8"), encoding="utf-8")
    path.write_text(render_config(api_url=api_url, secret=secret, scrape_interval_s=scrape_interval_s, rules=rules))
    return path


def rules_folder() -> Path:
    """Where the shipped rules lie: inside an installed package (hatch_build.py puts them there), or in the source tree."""
    installed = Path(__file__).parent / "rules"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "dashboards" / "prometheus"


def render_config(*, api_url: str, secret: Path, scrape_interval_s: float, rules: Sequence[Path] = ()) -> str:
    """The same jobs as dashboards/prometheus/prometheus.yml, as JSON, which is YAML too (YAML 1.2, section 1.3)."""
    interval = f"{round(scrape_interval_s * 1000)}ms"
    document = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "15s"},
        "rule_files": [str(rule) for rule in rules],
        "scrape_configs": [
            {
                "job_name": "inference-nodes",
                "http_sd_configs": [
                    {
                        "url": f"{api_url}{DISCOVERY_PATH}",
                        "refresh_interval": "5s",
                        "authorization": {"type": "Bearer", "credentials_file": str(secret)},
                    }
                ],
            },
            {
                "job_name": "controlplane",
                "scrape_interval": "15s",
                "scrape_timeout": "10s",
                "static_configs": [{"targets": [api_url.removeprefix("http://")]}],
            },
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def command(program: str, config: Path, folder: Path, port: int) -> tuple[str, ...]:
    return (
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address={HOST}:{port}",
        "--log.level=warn",
    )


def probe(url: str, http: httpx2.AsyncClient) -> Probe:
    async def is_up(_: Spawned) -> bool:
        return await _why_not(url, http) is None

    return is_up


async def require(url: str, http: httpx2.AsyncClient) -> None:
    """Raises CommandError unless a Prometheus answers there."""
    if (why := await _why_not(url, http)) is not None:
        raise CommandError(
            f"{VARIABLE} is set, but no Prometheus answers at {url} ({why}): start it, or unset {VARIABLE} to have one started "
            "here"
        )


async def _why_not(url: str, http: httpx2.AsyncClient) -> str | None:
    try:
        response = await http.get(f"{url.rstrip('/')}/-/ready")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return str(error) or type(error).__name__
    return None if response.is_success else f"status {response.status_code}"
