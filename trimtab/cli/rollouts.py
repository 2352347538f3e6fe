"""`trimtab rollouts`: changes on their way, and what a person may do to them."""

from datetime import datetime
from typing import Annotated

import typer

from controlplane.client.types import MeasurementOut, PlanOut, RolloutOut, Verb
from trimtab.cli import completion
from trimtab.cli.knobs import parse_settings
from trimtab.cli.output import (
    AsJson,
    DataDir,
    Limit,
    PoolName,
    age,
    changes,
    client,
    first_sentence,
    number,
    only_pool,
    pool_id,
    print_facts,
    print_json,
    print_table,
    seconds,
)
from trimtab.cli.waiting import BACK, DONE, Timeout, Wait, check_end
from trimtab.errors import UsageError

app = typer.Typer(help="Changes of settings on their way.", no_args_is_help=False)
RolloutId = Annotated[
    str, typer.Argument(help="Id of the rollout.", show_default=False, autocompletion=completion.rollouts)
]


@app.callback(invoke_without_command=True)
def rollouts(
    context: typer.Context,
    pool: PoolName = None,
    active: Annotated[bool, typer.Option("--active", help="Only those still under way.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Lists rollouts when no verb is given."""
    if context.invoked_subcommand is None:
        list_rollouts(pool, active, limit, as_json, data_dir)


@app.command("list")
def list_rollouts(
    pool: PoolName = None,
    active: Annotated[bool, typer.Option("--active", help="Only those still under way.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The latest rollouts."""
    with client(data_dir) as api:
        rows = api.rollouts(limit=limit, pool_id=pool_id(api, pool), active=True if active else None)
    if as_json:
        print_json({"items": rows})
        return
    table = [
        (age(r["created_at"]), r["pool"], r["phase"], changes(r["changes"]), first_sentence(r["reason"]), r["id"])
        for r in rows
    ]
    print_table("", ("created", "pool", "phase", "changes", "reason", "id"), table, "no rollout yet")


@app.command("show")
def show(rollout: RolloutId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """One rollout: its nodes, the latest analysis, and its timeline."""
    with client(data_dir) as api:
        document = api.rollout(rollout)
    _print(document, as_json)


@app.command("analysis")
def analysis(rollout: RolloutId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """What its verdicts rest on: canary and control by window, and each measurement with interval, margin and power."""
    with client(data_dir) as api:
        found = api.analysis(rollout)
    if as_json:
        print_json(found)
        return
    print_facts([
        ("canary", ", ".join(found["canary"])),
        ("control", ", ".join(found["control"]) or None),
        ("windows", f"{len(found['before'])} before, {len(found['after'])} after, of {found['windows_wanted']} wanted"),
    ])  # fmt: skip
    latest = found["analyses"][0] if found["analyses"] else None
    rows = [
        (m["metric"], m["verdict"], _effect(m), f"{m['samples_canary']}, {m['samples_baseline']}", number(m["power"]))
        for m in (latest["measurements"] if latest else [])
    ]
    title = f"\n{latest['verdict']}: {latest['explanation']}" if latest else ""
    print_table(title, ("metric", "verdict", "effect (interval)", "samples", "power"), rows, "no verdict yet")
    pairs = [("before", pair) for pair in found["before"]] + [("after", pair) for pair in found["after"]]
    table = [
        (
            age(pair["end"]),
            part,
            *(seconds(arm["itl_p95_s"]) if arm else None for arm in (pair["canary"], pair["control"])),
        )
        for part, pair in pairs
    ]
    print_table("\nWindows", ("end", "part", "canary ITL p95", "control ITL p95"), table, "no window yet")


@app.command("create")
def create(
    settings: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="KNOB=VALUE, as often as there are knobs to turn.",
            show_default=False,
            autocompletion=completion.knobs,
        ),
    ],
    reason: Annotated[str, typer.Option(help="Why; it stands in the timeline.", show_default=False)],
    pool: PoolName = None,
    not_before: Annotated[
        str | None, typer.Option(help="When it may begin, as 2026-11-23T18:00:00+01:00.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    wait: Wait = False,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Roll out new settings by hand: canary first, then the rest. --wait fails unless it completes."""
    knobs, begin = parse_settings(settings), parse_time(not_before)
    with client(data_dir) as api:
        where = pool_id(api, pool) or only_pool(api)
        if dry_run:
            _print_plan(api.plan_rollout(where, knobs, reason), as_json)
            return
        document = api.create_rollout(where, knobs, reason, not_before=begin)
        if wait:
            document = api.wait_for_rollout(document["id"], timeout_s=timeout)
    _print(document, as_json)
    check_end(document, wait, DONE)


def _verb(name: Verb, says: str, ends: tuple[str, ...]) -> None:
    @app.command(name, help=says)
    def verb(
        rollout: RolloutId,
        reason: Annotated[str, typer.Option(help="Why; it stands in the timeline.", show_default=False)] = "",
        wait: Wait = False,
        timeout: Timeout = 600.0,
        as_json: AsJson = False,
        data_dir: DataDir = None,
    ) -> None:
        with client(data_dir) as api:
            # Rolling back what has completed answers with another rollout, which is the one to watch.
            document = api.ask(rollout, name, reason)
            if wait:
                document = api.wait_for_rollout(document["id"], timeout_s=timeout)
        _print(document, as_json)
        check_end(document, wait, DONE if document["id"] != rollout else ends)


_verb("resume", "Go on after a pause.", DONE)
_verb("promote", "Skip what is left of the analysis and go to all nodes.", DONE)
_verb("abort", "Give up and return the touched nodes to the old settings.", BACK)
_verb("rollback", "Return to the settings from before, also after it has completed.", BACK)


@app.command("pause")
def pause(
    rollout: RolloutId,
    reason: Annotated[str, typer.Option(help="Why; it stands in the timeline.", show_default=False)] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Stop where it is; nothing more is changed."""
    with client(data_dir) as api:
        document = api.ask(rollout, "pause", reason)
    _print(document, as_json)


@app.command("approve")
def approve(
    rollout: RolloutId,
    comment: Annotated[str, typer.Option(help="Stands beside the approval.", show_default=False)] = "",
    settings_hash: Annotated[
        str | None, typer.Option("--hash", help="Of the settings that you reviewed.", show_default="as they are now")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Agree to a rollout that waits for approval."""
    with client(data_dir) as api:
        reviewed = settings_hash or api.rollout(rollout)["to_revision"]["content_hash"]
        document = api.approve(rollout, reviewed, comment)
    _print(document, as_json)


@app.command("refuse")
def refuse(
    rollout: RolloutId,
    comment: Annotated[str, typer.Option(help="Why.", show_default=False)] = "",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """End a rollout that has not begun."""
    with client(data_dir) as api:
        document = api.refuse(rollout, api.rollout(rollout)["to_revision"]["content_hash"], comment)
    _print(document, as_json)


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 with its offset. Raises UsageError."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise UsageError(f"--not-before {text}: write it as 2026-11-23T18:00:00+01:00, with the offset from UTC")
    return when


def _effect(measured: MeasurementOut) -> str | None:
    low, high = measured["ci_low"], measured["ci_high"]
    if measured["effect_ratio"] is None:
        has_all = measured["canary"] is not None and low is not None and high is not None
        return f"{measured['canary']:.3g} ({low:.3g} to {high:.3g})" if has_all else None
    inside = "" if low is None or high is None else f" ({low - 1:+.1%} to {high - 1:+.1%})"
    return f"{measured['effect_ratio'] - 1:+.1%}{inside}"


def _print_plan(plan: PlanOut, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    facts: list[tuple[str, object]] = [
        ("pool", plan["pool"]),
        ("changes", changes(plan["changes"])),
        ("reaches", f"{len(plan['nodes'])} nodes"),
        ("canary", f"watched for {plan['canary_watch_s']:g} s at least"),
        *(("note", note) for note in plan["notes"]),
    ]
    print_facts(facts)
    rows = [(node["name"], node["role"], node["wave"]) for node in plan["nodes"]]
    print_table("\nNodes, in order", ("node", "role", "wave"), rows, "")


def _print(rollout: RolloutOut, as_json: bool) -> None:
    if as_json:
        print_json(rollout)
        return
    facts: list[tuple[str, object]] = [
        ("id", rollout["id"]),
        ("pool", rollout["pool"]),
        ("phase", rollout["phase"]),
        ("since", age(rollout["phase_since"])),
        ("changes", changes(rollout["changes"])),
        ("by", f"{rollout['created_by']}: {rollout['reason']}"),
        ("paused", rollout["paused_reason"]),
        ("outcome", rollout["outcome"]),
    ]
    print_facts([fact for fact in facts if fact[1] is not None])
    nodes = [(n["name"], n["role"], n["state"], n["generation"], n["detail"]) for n in rollout["nodes"]]
    print_table("\nNodes", ("node", "role", "state", "generation", "detail"), nodes, "")
    if rollout["analyses"]:
        print_facts([("analysis", f"{rollout['analyses'][0]['verdict']}: {rollout['analyses'][0]['explanation']}")])
    events = [(event["at"], event["message"]) for event in rollout["timeline"]]
    print_table("\nTimeline", ("when", "what"), events, "")
