"""The command from a folder of requests to a report, and its errors in words."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from trimtab.cli.app import app


def _folder(path: Path) -> Path:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": np.sort(rng.uniform(0, 120, 60)), "input_tokens": 40, "output_tokens": 12})
    frame.to_parquet(path / "made.requests.parquet")
    return path


def test_reports_each_policy_with_the_shipped_table(tmp_path: Path) -> None:
    command = ["bench", "replay", "--traces", str(_folder(tmp_path)), "--policy", "static-default,trimtab", "--json"]
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    report = json.loads(ran.stdout)
    assert [row["policy"] for row in report["results"]] == ["static-default", "trimtab"]


def test_an_unknown_policy_is_named(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["bench", "replay", "--traces", str(tmp_path), "--policy", "best"])
    assert ran.exit_code != 0
    assert "best" in str(ran.exception or ran.output)
