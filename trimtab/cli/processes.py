"""`trimtab api|controller|worker|node|migrate`: one process each, configured by its environment.

What a process consists of is imported when it is run, so that no command pays for torch, Celery and SQLAlchemy of the others.
"""

from typing import TYPE_CHECKING

import typer

from trimtab.cli.output import AsJson, print_json
from trimtab.errors import CommandError, UsageError
from trimtab.one_thread import compute_on_one_thread

if TYPE_CHECKING:
    from controlplane.settings import ControlPlaneSettings


def api() -> None:
    """Run the API and the web app (settings: CONTROLPLANE_*)."""
    compute_on_one_thread()
    from controlplane.app import serve  # noqa: PLC0415 (lazy, see above)
    from trimtab.supervisor import ports  # noqa: PLC0415 (lazy, see above)

    settings = settings_from_environment()
    _logs(settings)
    ports.require_listenable(settings.host, settings.port)
    serve(settings)


def controller() -> None:
    """Run the controller: observe, forecast, decide, roll out (settings: CONTROLPLANE_*)."""
    compute_on_one_thread()
    from controlplane.controller import run_controller  # noqa: PLC0415 (lazy, see above)

    settings = settings_from_environment()
    _logs(settings)
    raise typer.Exit(run_controller(settings))


def worker() -> None:
    """Run the Celery worker that pushes settings to nodes (settings: CONTROLPLANE_*)."""
    compute_on_one_thread()
    from workers import run_worker  # noqa: PLC0415 (lazy, see above)

    settings = settings_from_environment()
    _logs(settings)
    raise typer.Exit(run_worker(settings))


def node(context: typer.Context) -> None:
    """Serve a model: `trimtab node --model DIR` (settings: NODE_*; `trimtab node --help` lists the options)."""
    from inference_node.__main__ import main  # noqa: PLC0415 (lazy, see above)

    raise typer.Exit(main(context.args))


def migrate(as_json: AsJson = False) -> None:
    """Bring the database to the newest schema (CONTROLPLANE_DATABASE_URL, by default ./trimtab.sqlite3)."""
    from sqlalchemy.exc import ArgumentError, OperationalError  # noqa: PLC0415 (lazy, see above)

    from controlplane import schema  # noqa: PLC0415 (lazy, see above)
    from controlplane.db import engine_of  # noqa: PLC0415 (lazy, see above)

    settings = settings_from_environment()
    try:
        engine = engine_of(settings)
    except (ArgumentError, ModuleNotFoundError) as error:
        raise UsageError(f"CONTROLPLANE_DATABASE_URL is not usable: {error}") from None
    try:
        migrated = schema.upgrade(engine)
    except OperationalError as error:
        raise CommandError(f"the database does not answer: {error.orig}. Check CONTROLPLANE_DATABASE_URL") from None
    finally:
        engine.dispose()
    if as_json:
        print_json({"before": migrated.before, "after": migrated.after})
    elif migrated.before == migrated.after:
        typer.echo(f"the database is at the newest schema already ({migrated.after})")
    else:
        typer.echo(f"database migrated from {migrated.before or 'nothing'} to {migrated.after}")


def _logs(settings: "ControlPlaneSettings") -> None:
    """Raises UsageError for an unknown level."""
    from controlplane.logs import configure_logs  # noqa: PLC0415 (lazy, see above)

    try:
        configure_logs(settings.log_level, as_json=settings.log_json)
    except ValueError as error:
        raise UsageError(f"CONTROLPLANE_LOG_LEVEL: {error}") from None


def settings_from_environment() -> "ControlPlaneSettings":
    """Raises UsageError that names the variables."""
    from pydantic import ValidationError  # noqa: PLC0415 (lazy, see above)
    from pydantic_settings import SettingsError  # noqa: PLC0415 (lazy, see above)

    from controlplane.settings import ControlPlaneSettings  # noqa: PLC0415 (lazy, see above)

    try:
        return ControlPlaneSettings()
    except ValidationError as error:
        wrong = (
            f"CONTROLPLANE_{str(row['loc'][0]).upper()}: {row['msg']}" if row["loc"] else row["msg"]
            for row in error.errors()
        )
        raise UsageError("; ".join(wrong)) from None
    except SettingsError as error:  # no JSON where there should be some; the text names the field and not its value
        raise UsageError(str(error)) from None
