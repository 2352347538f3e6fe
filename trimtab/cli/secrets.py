"""`trimtab secrets`: the keys that secrets in the database are sealed with."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.sealing_key import new_key as make
from trimtab.cli.output import AsJson, print_json
from trimtab.cli.processes import settings_from_environment
from trimtab.errors import CommandError, UsageError
from trimtab.supervisor.credentials import write_secret

app = typer.Typer(help="The keys that secrets in the database are sealed with.", no_args_is_help=True)


@app.command("new-key")
def new_key(
    file: Annotated[
        Path, typer.Argument(help="Where it goes: before the keys that stand there already.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Make a key, put it first into FILE (for the owner only), and say what to do next."""
    try:
        before = file.read_text(encoding="ascii").split() if file.exists() else []
        write_secret(file, "\n".join([make(), *before]) + "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file}: {getattr(error, 'strerror', None) or 'holds no keys'}") from None
    if as_json:
        print_json({"file": str(file), "keys": len(before) + 1})
    elif before:
        typer.echo(f"{file} holds {len(before) + 1} keys. Restart every process with it, then: trimtab secrets reseal")
    else:
        typer.echo(
            f"{file} holds a key. Give every process CONTROLPLANE_SECRET_KEY_FILE={file}, and keep a copy elsewhere"
        )


@app.command("reseal")
def reseal(as_json: AsJson = False) -> None:
    """Seal with the newest key what stands in clear or was sealed by an older one; after that the older may go.

    Works straight in the database (CONTROLPLANE_DATABASE_URL, CONTROLPLANE_SECRET_KEY_FILE), while everything runs.
    """
    from controlplane.db import engine_of, session_scope  # noqa: PLC0415 (lazy, see processes)
    from controlplane.resealing import reseal as rewrite  # noqa: PLC0415
    from controlplane.sealing import ring_of  # noqa: PLC0415

    engine = engine_of(settings_from_environment())
    try:
        if not ring_of(engine.dialect):
            raise UsageError(
                "there is no key to seal with: set CONTROLPLANE_SECRET_KEY_FILE (trimtab secrets new-key FILE)"
            )
        with session_scope(engine) as session:
            found = rewrite(session)
    finally:
        engine.dispose()
    if as_json:
        print_json({"secrets": found.secrets, "in_clear": found.in_clear, "by_older_key": found.by_older_key})
    else:
        typer.echo(
            f"{found.secrets} secrets are sealed by the newest key; {found.in_clear} stood in clear, "
            f"{found.by_older_key} were sealed by an older one"
        )
