"""Wrong input is refused in words before a fleet is started."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from trimtab.cli.app import app


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--policy", "best"], "best"),
        (["--levels", "int9"], "int9"),
        (["--grid", "int8"], "--grid"),
        (["--output-tokens", "9-3"], "--output-tokens"),
        (["--trace", "/nowhere.requests.parquet"], "/nowhere.requests.parquet"),
        (["--page", "/nowhere/page.html"], "/nowhere"),
        (["--minutes", "0"], "--minutes"),
    ],
)
def test_it_is_named(arguments: list[str], named: str) -> None:
    ran = CliRunner().invoke(app, ["bench", "surge", *arguments])
    assert ran.exit_code != 0
    assert named in f"{ran.exception} {ran.output}"


def test_the_command_says_where_its_rules_are() -> None:
    ran = CliRunner().invoke(app, ["bench", "surge", "--help"])
    assert "surge.md" in ran.output
    assert (Path(__file__).parents[4] / "docs" / "benchmarks" / "surge.md").is_file()
