"""`trimtab nodes`: what serves, under which settings."""

from typing import Annotated

import typer

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
from trimtab.client import Json
from trimtab.errors import UsageError


def nodes(
    node: Annotated[str | None, typer.Argument(help="Name or id of one node.", show_default=False)] = None,
    pool: PoolName = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """All nodes, or one in detail."""
    with client(data_dir) as api:
        rows = api.items("/nodes", limit=1000, pool_id=pool_id(api, pool))
    if node is None:
        if as_json:
            print_json({"items": rows})
        else:
            columns = (
                "name",
                "pool",
                "health",
                "in sync",
                "load",
                "running",
                "waiting",
                "ITL p95",
                "batch",
                "heartbeat",
            )
            print_table(
                "", columns, [_row(row) for row in rows], "no node yet: start one with `trimtab node --model DIR`"
            )
        return
    found = [row for row in rows if node in (row["name"], row["id"])]
    if not found:
        known = ", ".join(row["name"] for row in rows) or "none"
        raise UsageError(f"no node {node!r} here; there are: {known}")
    if as_json:
        print_json(found[0])
    else:
        print_facts(_facts(found[0]))


def _row(node: Json) -> tuple[object, ...]:
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


def _facts(node: Json) -> list[tuple[str, object]]:
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
    if node["rejected"]:
        facts.append(("rejected", f"generation {node['rejected']['generation']}: {node['rejected']['reason']}"))
    for knob, value in has.items():
        wish = wished.get(knob, value)
        facts.append((knob, value if wish == value else f"{value} (desired {wish})"))
    return facts
