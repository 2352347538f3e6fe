"""`trimtab rollouts`: changes on their way, and what a person may do to them."""

from datetime import datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from controlplane.client.types import PlanOut, RolloutOut, Verb
from inference_node.contract.settings import KNOBS, EngineSettings
from trimtab.cli.output import (
    AsJson,
    DataDir,
    Limit,
    PoolName,
    age,
    changes,
    client,
    first_sentence,
    only_pool,
    pool_id,
    print_facts,
    print_json,
    print_table,
)
from trimtab.errors import CommandError, UsageError

app = typer.Typer(help="Changes of settings on their way.", no_args_is_help=False)
RolloutId = Annotated[str, typer.Argument(help="Id of the rollout.", show_default=False)]
Wait = Annotated[bool, typer.Option("--wait", help="Until it has ended; fails if it ends otherwise than asked for.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Of --wait, in seconds.", min=1)]
_BACK = ("ROLLED_BACK", "CANCELLED")


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


@app.command("create")
def create(
    settings: Annotated[
        list[str], typer.Option("--set", help="KNOB=VALUE, as often as there are knobs to turn.", show_default=False)
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
    _check_end(document, wait, ("COMPLETED",))


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
        _check_end(document, wait, ("COMPLETED",) if document["id"] != rollout else ends)


_verb("resume", "Go on after a pause.", ("COMPLETED",))
_verb("promote", "Skip what is left of the analysis and go to all nodes.", ("COMPLETED",))
_verb("abort", "Give up and return the touched nodes to the old settings.", _BACK)
_verb("rollback", "Return to the settings from before, also after it has completed.", _BACK)


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


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """`["max_batch_size=8"]` to typed values. Raises UsageError naming the knob."""
    knobs: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise UsageError(f"--set {pair}: write it as KNOB=VALUE")
        if name not in KNOBS:
            raise UsageError(f"--set {pair}: there is no knob {name!r}; there are {', '.join(KNOBS)}")
        knobs[name] = value
    try:
        checked = EngineSettings.model_validate(knobs)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"--set {first['loc'][0]}={first['input']}: {first['msg']}") from None
    typed = checked.model_dump(mode="json")
    return {name: typed[name] for name in knobs}


def _check_end(rollout: RolloutOut, waited: bool, wanted: tuple[str, ...]) -> None:
    """Raises CommandError when it was waited for and ended otherwise."""
    if waited and rollout["phase"] not in wanted:
        raise CommandError(f"the rollout ended as {rollout['phase']}: {rollout['outcome'] or rollout['reason']}")


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
