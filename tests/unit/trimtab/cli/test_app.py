"""Every error is one line with a way out and the right exit code, and the command starts without the heavy packages."""

import subprocess
import sys
from pathlib import Path

import pytest

from trimtab.cli import app
from trimtab.cli.knobs import parse_settings
from trimtab.errors import UsageError


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = app.run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(autouse=True)
def _nothing_runs_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TRIMTAB_URL", "TRIMTAB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRIMTAB_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)


class TestExitCodes:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["nope"], "No such command"),
            (["status", "--nope"], "No such option"),
            (["up", "--nodes", "0"], "--nodes"),
            (["status"], "trimtab up"),
            (["rollouts", "show"], "rollout"),
            (["rollouts", "create", "--set", "max_batch_size=0", "--reason", "x"], "max_batch_size"),
            (["bench", "serve", "--url", "http://127.0.0.1:9", "--concurrency", "a"], "--concurrency"),
            (["node", "--model", "/does/not/exist", "--port", "x"], ""),
        ],
    )
    def test_bad_input_is_2_and_one_line(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
    ) -> None:
        code, out, err = run(capsys, *arguments)
        assert code == 2
        assert says in err
        assert "Traceback" not in err
        assert out == ""

    def test_failure_is_1(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRIMTAB_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("TRIMTAB_TOKEN", "tt_x")
        code, _, err = run(capsys, "nodes", "--json")
        assert code == 1
        assert err.startswith("error: cannot reach Trimtab at http://127.0.0.1:9")
        assert err.count("\n") == 1

    def test_an_unforeseen_error_is_one_line_too(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def boom(_: object) -> None:
            raise ZeroDivisionError("oops")

        monkeypatch.setattr("trimtab.cli.status.client", boom)
        code, _, err = run(capsys, "status")
        assert (code, err.count("\n")) == (1, 1)
        assert "ZeroDivisionError: oops" in err

    def test_bad_settings_of_a_process_name_the_variable(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONTROLPLANE_PORT", "99999")
        code, _, err = run(capsys, "api")
        assert code == 2
        assert "CONTROLPLANE_PORT" in err


class TestVersion:
    def test_is_json_on_demand(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out, _ = run(capsys, "version", "--json")
        assert code == 0
        assert '"version": "' in out


class TestParseSettings:
    def test_gives_typed_values_of_the_named_knobs_only(self) -> None:
        given = ["max_batch_size=8", "prefix_cache=false", "precision=int8", "batch_wait_ms=2.5"]
        wanted = {"max_batch_size": 8, "prefix_cache": False, "precision": "int8", "batch_wait_ms": 2.5}
        assert parse_settings(given) == wanted

    @pytest.mark.parametrize(
        ("pair", "says"),
        [("max_batch_size", "KNOB=VALUE"), ("speed=9", "no knob 'speed'"), ("precision=fp1", "precision=fp1")],
    )
    def test_names_what_is_wrong(self, pair: str, says: str) -> None:
        with pytest.raises(UsageError, match=says):
            parse_settings([pair])


def test_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys, trimtab.cli; "
        "heavy = {'torch', 'transformers', 'sqlalchemy', 'celery', 'fastapi', 'statsmodels', 'numpy'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0
