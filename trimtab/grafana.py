"""The dashboards for Grafana and what provisions them, written where a Grafana may read them."""

from pathlib import Path

NAMES = ("fleet", "node", "forecast", "rollouts")
_PROVIDED_PATH = "/var/lib/grafana/dashboards/trimtab"
_PROVIDED_URL = "http://prometheus.example:9090"


def source_folder() -> Path:
    """Where they lie: inside an installed package (hatch_build.py puts them there), or in the source tree."""
    installed = Path(__file__).parent / "dashboards"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "dashboards"


def write(folder: Path, prometheus_url: str | None) -> list[Path]:
    """Dashboards and provisioning below `folder`, in the layout of Grafana's own `provisioning` folder; the files written.

    prometheus_url: None leaves the data source out, for a Grafana that has one. Raises OSError.
    """
    source, dashboards = source_folder(), folder / "dashboards" / "trimtab"
    texts = {dashboards / f"{name}.json": (source / "grafana" / f"{name}.json").read_text("utf-8") for name in NAMES}
    provider = (source / "provisioning" / "dashboards" / "trimtab.yml").read_text("utf-8")
    texts[folder / "dashboards" / "trimtab.yml"] = provider.replace(_PROVIDED_PATH, str(dashboards.resolve()))
    if prometheus_url is not None:
        datasource = (source / "provisioning" / "datasources" / "trimtab.yml").read_text("utf-8")
        texts[folder / "datasources" / "trimtab.yml"] = datasource.replace(_PROVIDED_URL, prometheus_url.rstrip("/"))
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(texts)
