"""`trimtab events`: the history, and what happens now."""

from typing import Annotated

import typer

from trimtab.cli.output import AsJson, DataDir, Limit, PoolName, age, client, pool_id, print_json, print_table


def events(
    pool: PoolName = None,
    kind: Annotated[
        str | None, typer.Option(help="A kind, or a group of them: `rollout.*`.", show_default=False)
    ] = None,
    rollout: Annotated[str | None, typer.Option(help="Id of a rollout.", show_default=False)] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Then each event as it happens, one JSON a line, until interrupted.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """What happened, newest first."""
    with client(data_dir) as api:
        if follow:
            latest = api.events(limit=1)
            for event in api.follow(latest[0]["id"] if latest else None):
                if event.id is not None and (kind is None or _fits(event.kind, kind)):
                    print_json(event.data, indent=None)
            return
        rows = api.events(limit=limit, pool_id=pool_id(api, pool), rollout_id=rollout, kind=kind)
    if as_json:
        print_json({"items": rows})
        return
    table = [(age(row["at"]), row["kind"], row["actor"], row["message"]) for row in rows]
    print_table("", ("when", "kind", "by", "what"), table, "nothing has happened yet")


def _fits(kind: str, wanted: str) -> bool:
    return kind.startswith(wanted[:-1]) if wanted.endswith("*") else kind == wanted
