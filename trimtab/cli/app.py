"""Puts the commands together, and turns whatever they raise into one clear line and an exit code."""

import os
import sys

import typer
from typer.exceptions import TyperException

from controlplane.errors import ControlPlaneError
from inference_node.errors import NodeError
from trimtab import version as installed_version
from trimtab.cli import (
    audit,
    bench,
    decisions,
    events,
    grafana,
    mesh,
    nodes,
    pools,
    processes,
    rollouts,
    secrets,
    status,
    traffic,
    up,
)
from trimtab.cli.output import AsJson, print_json
from trimtab.errors import CommandError

DEBUG_VARIABLE = "TRIMTAB_DEBUG"
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="trimtab",
    help="AIOps control plane for self-tuning LLM inference fleets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("status")(status.status)
app.command("decisions")(decisions.decisions)
app.command("events")(events.events)
app.command("grafana")(grafana.grafana)
app.add_typer(nodes.app, name="nodes")
app.add_typer(pools.app, name="pools")
app.add_typer(rollouts.app, name="rollouts")
app.add_typer(mesh.app, name="mesh")
app.add_typer(audit.app, name="audit")
app.add_typer(secrets.app, name="secrets")
app.add_typer(bench.app, name="bench")
app.command("api")(processes.api)
app.command("controller")(processes.controller)
app.command("worker")(processes.worker)
app.command(
    "node",
    # The node's own parser reads the options, --help too.
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(processes.node)
app.command("migrate")(processes.migrate)
app.command("demo-traffic")(traffic.demo_traffic)


@app.command("version")
def version(as_json: AsJson = False) -> None:
    """The installed version."""
    if as_json:
        print_json({"version": installed_version()})
    else:
        typer.echo(installed_version())


def main(arguments: list[str] | None = None) -> None:
    """Runs one command and exits: 0 done, 1 failed, 2 wrong usage or input."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """As `main`, but returns the exit code."""
    try:
        code = app(args=arguments, prog_name="trimtab", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Exit as ended:
        return ended.exit_code
    except TyperException as error:
        return _say(f"{error.format_message().rstrip('.')}; see `trimtab --help`", error.exit_code)
    except CommandError as error:
        return _say(str(error), error.exit_code)
    except (NodeError, ControlPlaneError) as error:
        return _say(str(error), BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # whoever read us has gone; the interpreter's last flush must not fail
        return FAILED
    except Exception as error:  # the last door: a person gets a sentence, and the trace on request
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _say(f"{type(error).__name__}: {error} (this is a bug; {DEBUG_VARIABLE}=1 shows where)", FAILED)


def _say(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code
