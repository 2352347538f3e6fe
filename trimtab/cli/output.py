"""How answers are printed: tables for people, JSON for programs. Options that several commands share live here too."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli import completion
from trimtab.client import ApiClient
from trimtab.connection import resolve
from trimtab.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Data folder of a running `trimtab up`.", show_default=False)
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many rows.")]
PoolName = Annotated[
    str | None, typer.Option("--pool", help="Name of a pool.", show_default=False, autocompletion=completion.pools)
]

NOTHING = "-"
_COLOURS = {
    "ready": "green",
    "apply": "green",
    "completed": "green",
    "failed": "red",
    "unreachable": "red",
    "reject": "red",
    "rolled_back": "red",
    "rollback_failed": "red",
    "advise": "yellow",
    "paused": "yellow",
}


def client(data_dir: Path | None) -> ApiClient:
    return ApiClient(resolve(data_dir))


def print_json(document: Any, *, indent: int | None = 2) -> None:
    typer.echo(json.dumps(document, indent=indent))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Rows of values as they are; None becomes a dash, known words get their colour (rich heeds NO_COLOR)."""
    console = Console(highlight=False)
    if not rows:
        console.print(empty)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def print_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Name and value, one a line."""
    console = Console(highlight=False)
    width = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        console.print(Text(name.ljust(width), style="bold") + _cell(value))


def pool_id(api: ApiClient, name: str | None) -> str | None:
    """The id behind a pool's name; an id is let through. None stays None, unknown names the API refuses."""
    if name is None:
        return None
    for pool in api.pools():
        if name in (pool["name"], pool["id"]):
            return pool["id"]
    return name


def only_pool(api: ApiClient) -> str:
    """The id of the one pool there is. Raises UsageError when it must be named."""
    pools = api.pools()
    if len(pools) != 1:
        raise UsageError("there is no pool yet" if not pools else "there are several pools: name one with --pool")
    return pools[0]["id"]


def seconds(value: float | None) -> str:
    """A latency in the unit that reads best."""
    if value is None:
        return NOTHING
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def number(value: float | None, unit: str = "") -> str:
    return NOTHING if value is None else f"{value:.3g}{unit and ' '}{unit}"


def first_sentence(text: str | None) -> str:
    """For a list; the whole stands in the detail."""
    head, stop, rest = (text or NOTHING).partition(". ")
    return f"{head} …" if stop and rest else head


def age(at: str | None, now: datetime | None = None) -> str:
    """`12 s ago`, from RFC 3339."""
    if at is None:
        return NOTHING
    past_s = ((now or datetime.now(UTC)) - datetime.fromisoformat(at)).total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if past_s >= 2 * size:
            return f"{past_s / size:.0f} {unit} ago"
    return f"{max(0.0, past_s):.0f} s ago"


def changes(document: Mapping[str, Sequence[object]] | None) -> str:
    """`max_batch_size 4 → 12`, from {knob: [from, to]}."""
    return ", ".join(f"{knob} {a} → {b}" for knob, (a, b) in (document or {}).items()) or NOTHING


def _cell(value: object) -> Text:
    text = NOTHING if value is None else str(value)
    return Text(text, style=_COLOURS.get(text.lower(), ""))
