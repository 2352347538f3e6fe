"""`trimtab decisions`: what was decided, and why."""

from typing import Annotated

import typer

from trimtab.cli.output import (
    AsJson,
    DataDir,
    Limit,
    PoolName,
    age,
    changes,
    client,
    number,
    pool_id,
    print_facts,
    print_json,
    print_table,
    seconds,
)
from trimtab.client import Json


def decisions(
    decision: Annotated[str | None, typer.Argument(help="Id of one decision.", show_default=False)] = None,
    pool: PoolName = None,
    outcome: Annotated[str | None, typer.Option(help="Only APPLY, HOLD, REJECT or ADVISE.", show_default=False)] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Decide again from the recorded inputs.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The latest decisions, or one with its reasons, candidates and constraints."""
    with client(data_dir) as api:
        if decision is None:
            chosen = outcome.upper() if outcome else None
            rows = api.items("/decisions", limit=limit, pool_id=pool_id(api, pool), outcome=chosen)
            if as_json:
                print_json({"items": rows})
            else:
                print_table(
                    "", ("when", "pool", "outcome", "reason", "changes", "id"), [_row(r) for r in rows], "none yet"
                )
            return
        document = api.get(f"/decisions/{decision}{'/replay' if replay else ''}")
    if as_json:
        print_json(document)
    elif replay:
        same = (
            "the same inputs give the same decision"
            if document["identical"]
            else "the same inputs now decide otherwise"
        )
        print_facts([("replay", same), *_facts(document["decision"])])
    else:
        print_facts(_facts(document))
        _print_candidates(document)


def _row(decision: Json) -> tuple[object, ...]:
    times = f" x{decision['repeats']}" if decision.get("repeats", 1) > 1 else ""
    return (
        age(decision["last_at"]),
        decision["pool"],
        decision["outcome"],
        f"{decision['reason']}{times}",
        changes(decision["changes"]),
        decision["id"],
    )


def _facts(decision: Json) -> list[tuple[str, object]]:
    breach = decision["breach_probability"]
    return [
        ("id", decision.get("id")),
        ("outcome", f"{decision['outcome']} ({decision['reason']})"),
        ("when", decision.get("at")),
        ("why", decision["explanation"]),
        ("changes", changes(decision["changes"])),
        ("breach", None if breach is None else f"{breach:.0%}"),
        *((f"bound by {row['name']}", f"{row['effect']}: {row['detail']}") for row in decision["constraints"]),
        ("rollout", decision.get("rollout_id")),
    ]


def _print_candidates(decision: Json) -> None:
    rows = []
    for candidate in decision["candidates"]:
        predicted = candidate["predicted"] or {}
        rows.append(
            (
                changes(candidate["changes"]) if candidate["changes"] else "as it is",
                seconds(predicted.get("ttft_p95_s")),
                seconds(predicted.get("itl_p95_s")),
                number(predicted.get("throughput_tokens_per_s"), "tok/s"),
                candidate["verdict"],
            )
        )
    if rows:
        print_table("\nCandidates", ("settings", "TTFT p95", "ITL p95", "throughput", "verdict"), rows, "")
