"""`trimtab bench report`: kept results as tables."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from inference_node.bench.report import Table, tables
from trimtab.cli.output import print_table
from trimtab.errors import UsageError


def report(
    files: Annotated[list[Path], typer.Argument(help="Documents that a benchmark wrote with --json.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="As it goes into the documentation.")] = False,
) -> None:
    """Show kept results as tables."""
    for file in files:
        for table in tables(_read(file)):
            if markdown:
                typer.echo(table.markdown())
            else:
                _print(table)


def print_report(document: dict[str, Any]) -> None:
    """A fresh one, in the terminal."""
    for table in tables(document):
        _print(table)


def _print(table: Table) -> None:
    print_table(table.title, table.columns, table.rows, "no result")
    for note in table.notes:
        typer.echo(note)
    typer.echo()


def _read(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{file} is no report")
    return document
