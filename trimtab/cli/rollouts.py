"""`trimtab rollouts`: changes on their way, and what a person may do to them."""

import time
from typing import Annotated, Any

import typer
from pydantic import ValidationError

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
    pool_id,
    print_facts,
    print_json,
    print_table,
)
from trimtab.client import ApiClient, Json
from trimtab.errors import CommandError, UsageError

app = typer.Typer(help="Changes of settings on their way.", no_args_is_help=False)
RolloutId = Annotated[str, typer.Argument(help="Id of the rollout.", show_default=False)]
POLL_S = 1.0


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
        rows = api.items("/rollouts", limit=limit, pool_id=pool_id(api, pool), active=True if active else None)
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
        document = api.get(f"/rollouts/{rollout}")
    _print(document, as_json)


@app.command("create")
def create(
    settings: Annotated[
        list[str], typer.Option("--set", help="KNOB=VALUE, as often as there are knobs to turn.", show_default=False)
    ],
    reason: Annotated[str, typer.Option(help="Why; it stands in the timeline.", show_default=False)],
    pool: PoolName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, change nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    timeout: Annotated[float, typer.Option(help="Of --wait, in seconds.", min=1)] = 600.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Roll out new settings by hand: canary first, then the rest. --wait fails unless it completes."""
    knobs = parse_settings(settings)
    with client(data_dir) as api:
        body = {
            "pool_id": pool_id(api, pool) or _only_pool(api),
            "settings": knobs,
            "reason": reason,
            "dry_run": dry_run,
        }
        document = api.post("/rollouts", body)
        if wait and not dry_run:
            document = _wait(api, str(document["id"]), timeout)
    if dry_run:
        print_json(document)
        return
    _print(document, as_json)
    if wait and document["phase"] != "COMPLETED":
        raise CommandError(f"the rollout ended as {document['phase']}: {document['outcome'] or document['reason']}")


def _verb(name: str, says: str) -> None:
    @app.command(name, help=says)
    def verb(rollout: RolloutId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
        with client(data_dir) as api:
            api.post(f"/rollouts/{rollout}/{name}")
            document = api.get(f"/rollouts/{rollout}")
        _print(document, as_json)


_verb("pause", "Stop where it is; nothing more is changed.")
_verb("resume", "Go on after a pause.")
_verb("promote", "Skip what is left of the analysis and go to all nodes.")
_verb("abort", "Give up and return the touched nodes to the old settings.")
_verb("rollback", "Return to the settings from before, also after it has completed.")


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


def _only_pool(api: ApiClient) -> str:
    pools = api.items("/pools", limit=2)
    if len(pools) != 1:
        raise UsageError("there is no pool yet" if not pools else "there are several pools: name one with --pool")
    return str(pools[0]["id"])


def _wait(api: ApiClient, rollout: str, timeout_s: float) -> Json:
    deadline = time.monotonic() + timeout_s
    while (document := api.get(f"/rollouts/{rollout}"))["ended_at"] is None:
        if time.monotonic() > deadline:
            raise CommandError(f"the rollout is still in phase {document['phase']} after {timeout_s:g} s: {rollout}")
        time.sleep(POLL_S)
    return document


def _print(rollout: Json, as_json: bool) -> None:
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
