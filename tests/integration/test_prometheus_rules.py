"""The rules that are shipped for Prometheus: promtool runs their tests, and every metric they read is one that we expose."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.exposed_metrics import exposed
from trimtab.supervisor import prometheus

FOLDER = Path(__file__).parents[2] / "dashboards" / "prometheus"
RULES = ("recording_rules.yml", "alerts.yml")
TESTS = FOLDER / "tests" / "alerts_test.yml"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on the PATH: apt-get install prometheus"
)


def _promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False, cwd=FOLDER)


def _expressions() -> str:
    """What the rules compute, without comments and without what they say to people."""
    lines = [line for name in RULES for line in (FOLDER / name).read_text().splitlines()]
    return "\n".join(line for line in lines if not re.match(r"\s*(#|summary:|description:|- name:)", line))


@needs_promtool
class TestPromtool:
    def test_rules_and_configuration_are_valid(self) -> None:
        for arguments in (("check", "rules", *RULES), ("check", "config", "prometheus.yml")):
            run = _promtool(*arguments)
            assert run.returncode == 0, run.stdout + run.stderr

    def test_the_configuration_of_trimtab_up_loads_them(self, tmp_path: Path) -> None:
        path = prometheus.write_config(tmp_path, api_url="http://x:1", token="t", scrape_interval_s=1)
        run = _promtool("check", "config", str(path))
        assert run.returncode == 0, run.stdout + run.stderr
        assert re.findall(r"SUCCESS: (\d+) rules found", run.stdout + run.stderr)
        assert (run.stdout + run.stderr).count("rules found") == len(RULES)

    def test_alerts_fire_on_what_they_are_for(self) -> None:
        run = _promtool("test", "rules", str(TESTS))
        assert run.returncode == 0, run.stdout + run.stderr


class TestAlerts:
    def test_each_is_shown_to_fire(self) -> None:
        alerts = set(re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text()))
        tests = TESTS.read_text()
        fired = set(re.findall(r"- alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:\n", tests))
        assert alerts == fired

    def test_each_metric_that_a_rule_reads_is_exposed(self) -> None:
        read = set(re.findall(r"\b(?:vllm:|inference_|controlplane_)\w+", _expressions()))
        assert read
        assert read <= exposed()
