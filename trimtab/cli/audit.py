"""`trimtab audit`: the history read and taken elsewhere through the API, and checked straight in the database without it."""

from typing import Annotated

import typer

from trimtab.cli.output import AsJson, DataDir, Limit, PoolName, age, client, pool_id, print_json, print_table
from trimtab.cli.processes import settings_from_environment
from trimtab.errors import CommandError, UsageError

app = typer.Typer(help="The history as evidence.", no_args_is_help=True)


Actor = Annotated[str | None, typer.Option(help="Who did it.", show_default=False)]
Kind = Annotated[str | None, typer.Option(help="A kind, or a group of them: `access.*`.", show_default=False)]
Text = Annotated[str | None, typer.Option("--text", help="Stands in the message.", show_default=False)]
Since = Annotated[str | None, typer.Option(help="From then on, as 2026-11-30T00:00:00Z.", show_default=False)]
Until = Annotated[str | None, typer.Option(help="Before then.", show_default=False)]


@app.command("list")
def list_entries(
    pool: PoolName = None,
    actor: Actor = None,
    kind: Kind = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 20,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """What was done and by whom, newest first, each entry with its place in the chain."""
    with client(data_dir) as api:
        rows = api.audit(
            limit=limit, pool_id=pool_id(api, pool), actor=actor, kind=kind, text=text, since=since, until=until
        )
    if as_json:
        print_json({"items": rows})
        return
    table = [(row["position"], age(row["at"]), row["kind"], row["actor"], row["message"]) for row in rows]
    print_table("", ("place", "when", "kind", "by", "what"), table, "nothing of that kind")


@app.command("export")
def export(
    pool: PoolName = None,
    actor: Actor = None,
    kind: Kind = None,
    text: Text = None,
    since: Since = None,
    until: Until = None,
    csv: Annotated[bool, typer.Option("--csv", help="A table, in place of one JSON document a line.")] = False,
    data_dir: DataDir = None,
) -> None:
    """All that was asked for, oldest first, on standard output: `trimtab audit export > audit.jsonl`."""
    with client(data_dir) as api:
        pieces = api.audit_export(
            csv=csv, pool_id=pool_id(api, pool), actor=actor, kind=kind, text=text, since=since, until=until
        )
        for piece in pieces:
            typer.echo(piece, nl=False)


@app.command("verify")
def verify(
    anchor: Annotated[
        list[str] | None,
        typer.Option("--anchor", metavar="POSITION:HASH", help="A head that you kept elsewhere; may be repeated."),
    ] = None,
    max_age_s: Annotated[
        float | None,
        typer.Option("--max-age", min=1, help="Fail if the newest signature is older than so many seconds."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no event was changed, dropped, added or reordered (CONTROLPLANE_DATABASE_URL, CONTROLPLANE_AUDIT_KEY).

    Exit code 1 when something was.
    """
    from controlplane.audit.verify import Anchor  # noqa: PLC0415 (lazy, see processes)
    from controlplane.audit.verify import verify as walk  # noqa: PLC0415
    from controlplane.clock import SystemClock  # noqa: PLC0415
    from controlplane.db import engine_of  # noqa: PLC0415

    settings = settings_from_environment()
    anchors = []
    for text in anchor or []:
        position, _, kept = text.partition(":")
        if not position.isdigit() or len(kept) != 64:
            raise UsageError(f"--anchor {text}: give POSITION:HASH, as `trimtab audit verify` printed them")
        anchors.append(Anchor(int(position), kept))
    key = None if settings.audit_key is None else settings.audit_key.get_secret_value()
    engine = engine_of(settings)
    try:
        report = walk(engine, key, anchors=tuple(anchors))
    finally:
        engine.dispose()
    problems = [f"at {found.position}: {found.problem}" for found in report.findings]
    if max_age_s is not None:
        until = report.signed_until
        age_s = None if until is None else (SystemClock().now() - until).total_seconds()
        if age_s is None or age_s > max_age_s:
            problems.append(f"the newest signature is from {until or 'never'}: events after it may have been cut off")
    signed = "without a key: signatures not looked at" if key is None else f"{report.signatures} good signatures"
    if as_json:
        print_json(
            {
                "intact": not problems,
                "checked": report.checked,
                "head": f"{report.checked}:{report.head_hash}",
                "loose": report.loose,
                "signatures": report.signatures,
                "signed_until": None if report.signed_until is None else report.signed_until.isoformat(),
                "problems": problems,
            }
        )
    else:
        typer.echo(f"{report.checked} events checked; {signed}")
        typer.echo(f"head {report.checked}:{report.head_hash}")
    if problems:
        raise CommandError("the history is not as it was written:\n" + "\n".join(problems))
