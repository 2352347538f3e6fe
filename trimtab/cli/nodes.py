"""`trimtab nodes`: what serves, under which settings."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from controlplane.client.types import NodeDetail
from trimtab.cli import completion
from trimtab.cli.knobs import parse_settings
from trimtab.cli.output import (
    AsJson,
    DataDir,
    PoolName,
    age,
    client,
    number,
    pool_id,
    print_facts,
    print_json,
    print_table,
    seconds,
)
from trimtab.client import ApiClient
from trimtab.errors import UsageError


class NamesAsVerbs(TyperGroup):
    """`trimtab nodes NAME` is `trimtab nodes show NAME`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = not args or args[0] in self.commands or args[0].startswith("-")
        return super().resolve_command(ctx, args if known else ["show", *args])


app = typer.Typer(cls=NamesAsVerbs, help="What serves, under which settings.", no_args_is_help=False)
NodeName = Annotated[str, typer.Argument(help="Name or id.", show_default=False, autocompletion=completion.nodes)]


@app.callback(invoke_without_command=True)
def nodes(context: typer.Context, pool: PoolName = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Lists nodes when no name and no verb is given."""
    if context.invoked_subcommand is not None:
        context.obj = (pool, as_json, data_dir)
        return
    with client(data_dir) as api:
        rows = api.nodes(pool_id(api, pool))
    if as_json:
        print_json({"items": rows})
        return
    columns = ("name", "pool", "health", "in sync", "load", "running", "waiting", "ITL p95", "batch", "heartbeat")
    empty = "no node yet: start one with `trimtab node --model DIR`"
    print_table("", columns, [_row(row) for row in rows], empty)


@app.command("show")
def show(
    context: typer.Context, node: NodeName, pool: PoolName = None, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """One node in detail."""
    before = context.obj or (None, False, None)
    with client(data_dir or before[2]) as api:
        found = _find(api, node, pool or before[0])
    if as_json or before[1]:
        print_json(found)
    else:
        print_facts(_facts(found))


@app.command("remove")
def remove(
    node: NodeName,
    pool: PoolName = None,
    force: Annotated[bool, typer.Option("--force", help="Also one that is still heard of.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take a node out of its pool for good; its history stays. One of its name that joins again is let in."""
    with client(data_dir) as api:
        found = _find(api, node, pool)
        api.remove_node(found["id"], force=force)
    _say({"id": found["id"], "name": found["name"], "removed": True}, as_json)


@app.command("release")
def release(node: NodeName, pool: PoolName = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """End a node's quarantine: changes reach it again."""
    with client(data_dir) as api:
        found = _find(api, node, pool)
        api.release_node(found["id"])
    _say({"id": found["id"], "name": found["name"], "quarantined": False}, as_json)


@app.command("try")
def try_settings(
    node: NodeName,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KNOB=VALUE, as often as there are knobs to turn.",
            show_default=False,
            autocompletion=completion.knobs,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; it stands in the history.", show_default=False)] = "",
    lease: Annotated[float, typer.Option(help="Seconds after which the node goes back by itself.")] = 900.0,
    end: Annotated[bool, typer.Option("--end", help="End what is tried on it now.")] = False,
    pool: PoolName = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Try settings on this node alone, under a lease. --end takes it back before the lease is over."""
    if end == bool(settings):
        raise UsageError("give either the settings to try, as --set KNOB=VALUE, or --end")
    if settings and not reason:
        raise UsageError("--reason: say why, so that those who wonder can read it")
    with client(data_dir) as api:
        found = _find(api, node, pool)
        if end or not settings:
            api.end_experiment(found["id"])
            _say({"id": found["id"], "name": found["name"], "experiment": False}, as_json)
            return
        begun = api.begin_experiment(found["id"], parse_settings(settings), reason=reason, lease_s=lease)
    if as_json:
        print_json(begun)
        return
    print_facts([
        ("node", found["name"]),
        ("revision", begun["revision"]),
        ("lease", f"{begun['lease_s']:g} s: the node goes back by itself, or with `trimtab nodes try {found['name']} --end`"),
    ])  # fmt: skip


def _find(api: ApiClient, node: str, pool: str | None) -> NodeDetail:
    """By name or id. Raises UsageError, also when several pools have a node of that name."""
    rows = api.nodes(pool_id(api, pool))
    found = [row for row in rows if node in (row["name"], row["id"])]
    if not found:
        known = ", ".join(row["name"] for row in rows) or "none"
        raise UsageError(f"no node {node!r} here; there are: {known}")
    if len(found) > 1:
        raise UsageError(f"several pools have a node {node!r}: name one with --pool, or give its id")
    return found[0]


def _say(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
    else:
        print_facts(
            [(name, str(value).lower() if isinstance(value, bool) else value) for name, value in document.items()]
        )


def _row(node: Mapping[str, Any]) -> tuple[object, ...]:
    latest, observed = node["latest"] or {}, node["observed"] or {}
    return (
        node["name"],
        node["pool"],
        node["health"],
        "yes" if node["in_sync"] else "no",
        number(latest.get("offered_rps"), "req/s"),
        node["running"],
        node["waiting"],
        seconds(latest.get("itl_p95_s")),
        (observed.get("settings") or {}).get("max_batch_size"),
        age(node["last_heartbeat_at"]),
    )


def _facts(node: Mapping[str, Any]) -> list[tuple[str, object]]:
    desired, observed = node["desired"] or {}, node["observed"] or {}
    wished, has = desired.get("settings") or {}, observed.get("settings") or {}
    facts: list[tuple[str, object]] = [
        ("id", node["id"]),
        ("name", node["name"]),
        ("pool", node["pool"]),
        ("model", node["model"]),
        ("url", node["url"]),
        ("health", node["health"]),
        ("heartbeat", age(node["last_heartbeat_at"])),
        ("generation", f"desired {desired.get('generation', '-')}, observed {observed.get('generation', '-')}"),
        ("in sync", "yes" if node["in_sync"] else "no"),
        ("drifted", "yes: its settings were changed on the node itself" if node["drifted"] else "no"),
    ]
    if node["experiment"]:
        facts.append(
            ("experiment", f"revision {node['experiment']['revision']}, until {node['experiment']['ends_at']}")
        )
    if node["rejected"]:
        facts.append(("rejected", f"generation {node['rejected']['generation']}: {node['rejected']['reason']}"))
    for knob, value in has.items():
        wish = wished.get(knob, value)
        facts.append((knob, value if wish == value else f"{value} (desired {wish})"))
    return facts
