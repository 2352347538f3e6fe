"""`trimtab pools`: pools of nodes, their revisions and policies, and the freeze."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli import completion
from trimtab.cli.output import (
    AsJson,
    DataDir,
    Limit,
    age,
    client,
    number,
    only_pool,
    pool_id,
    print_facts,
    print_json,
    print_table,
    seconds,
)
from trimtab.cli.waiting import DONE, Timeout, Wait, check_end
from trimtab.client import ApiClient
from trimtab.errors import UsageError

app = typer.Typer(help="Pools: the freeze, policies, revisions and the way back.", no_args_is_help=False)
Pool = Annotated[
    str | None,
    typer.Argument(
        help="Name or id; may be left out when there is one.", show_default=False, autocompletion=completion.pools
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", help="Every pool at once, also those yet to come.", show_default=False)
]


@app.callback(invoke_without_command=True)
def pools(context: typer.Context, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Lists pools when no verb is given."""
    if context.invoked_subcommand is not None:
        return
    with client(data_dir) as api:
        rows = api.pools()
    if as_json:
        print_json({"items": rows})
        return
    columns = ("pool", "model", "ready", "load", "ITL p95", "revision", "frozen", "id")
    table = []
    for row in rows:
        latest, revision, frozen = row["latest"], row["current_revision"], row["frozen"]
        load = None if latest is None else latest["offered_rps"]
        itl_s = None if latest is None else latest["itl_p95_s"]
        number_ = None if revision is None else revision["number"]
        reason = None if frozen is None else frozen["reason"]
        ready = f"{row['ready']}/{row['nodes']}"
        table.append(
            (row["name"], row["model"], ready, number(load, "req/s"), seconds(itl_s), number_, reason, row["id"])
        )
    print_table("", columns, table, "no pool yet: a node that enrols makes the first")


@app.command("freeze")
def freeze(
    reason: Annotated[str, typer.Option(help="Why; shown to everybody who wonders.", show_default=False)],
    pool: Pool = None,
    everything: Everything = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Stop new changes; rollbacks stay possible."""
    _one_or_all(pool, everything)
    with client(data_dir) as api:
        frozen = api.freeze_everything(reason) if everything else api.freeze(_id(api, pool), reason)
    if as_json:
        print_json(frozen)
    else:
        print_facts([("frozen", age(frozen["at"])), ("reason", frozen["reason"])])


@app.command("unfreeze")
def unfreeze(
    pool: Pool = None, everything: Everything = False, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Let changes happen again. Pools that are frozen for themselves stay so when everything is let go of."""
    _one_or_all(pool, everything)
    with client(data_dir) as api:
        where = None if everything else _id(api, pool)
        if where is None:
            api.unfreeze_everything()
        else:
            api.unfreeze(where)
    if as_json:
        print_json({"pool_id": where, "frozen": None})
    else:
        print_facts([("frozen", "no")])


@app.command("revisions")
def revisions(
    pool: Pool = None,
    good: Annotated[bool, typer.Option("--good", help="Only those that a rollback may go to.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The settings that a pool has had, newest first."""
    with client(data_dir) as api:
        where = _id(api, pool)
        rows = api.good_revisions(where) if good else api.revisions(where, limit=limit)
    if as_json:
        print_json({"items": rows})
        return
    table = [(row["number"], age(row["created_at"]), row["created_by"], row["reason"]) for row in rows]
    print_table("", ("revision", "made", "by", "reason"), table, "none yet")


@app.command("rollback")
def rollback(
    revision: Annotated[int, typer.Option(help="Number of a good revision.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; it stands in the timeline.", show_default=False)],
    pool: Pool = None,
    wait: Wait = False,
    timeout: Timeout = 600.0,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Straight back to a good revision on all nodes, also in a frozen pool; `trimtab rollouts show` tells how it goes."""
    with client(data_dir) as api:
        begun = api.roll_back_pool(_id(api, pool), revision, reason)
        if wait:
            begun = api.wait_for_rollout(begun["id"], timeout_s=timeout)
    if as_json:
        print_json(begun)
    else:
        print_facts([("rollout", begun["id"]), ("phase", begun["phase"])])
    check_end(begun, wait, DONE)


@app.command("policy")
def policy(
    pool: Pool = None,
    file: Annotated[
        Path | None, typer.Option("--set", help="JSON as this command prints it, changed.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Print a pool's policy as JSON, or set it. What somebody else changed in between is never overwritten."""
    wanted = None if file is None else read_policy(file)
    with client(data_dir) as api:
        where = _id(api, pool)
        if wanted is not None:
            api.put_policy(where, wanted["document"], version=wanted["version"])
        answer = api.policy(where)
    if as_json or wanted is None:
        print_json(answer)
    else:
        print_facts([("version", answer["version"])])


def read_policy(path: Path) -> dict[str, Any]:
    """`{"version": N, "document": {...}}`. Raises UsageError that names the file and what is wrong."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not (
        isinstance(document, dict)
        and isinstance(document.get("document"), dict)
        and type(document.get("version")) is int
    ):
        raise UsageError(f"{path} must hold `version` and `document`, as `trimtab pools policy` prints them")
    return document


def _one_or_all(pool: str | None, everything: bool) -> None:
    if pool is not None and everything:
        raise UsageError("--all means every pool: leave the pool's name out")


def _id(api: ApiClient, pool: str | None) -> str:
    return pool_id(api, pool) or only_pool(api)
