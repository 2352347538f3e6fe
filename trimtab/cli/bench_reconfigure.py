"""`trimtab bench reconfigure`: live changes under load."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from trimtab.cli.bench_engine import KeptIn, ModelFolder
from trimtab.cli.bench_report import print_report
from trimtab.cli.output import AsJson, print_json
from trimtab.connection import default_data_dir
from trimtab.errors import CommandError, UsageError

TOKEN_VARIABLE = "TRIMTAB_NODE_TOKEN"  # noqa: S105 - its name


def reconfigure(
    url: Annotated[
        str | None, typer.Option(help="Of a running node.", show_default="a node of its own, started and ended")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help=f"With the node's admin token: nodes/NAME/admin_token in its data folder. Or set {TOKEN_VARIABLE}.",
            show_default=False,
        ),
    ] = None,
    model: ModelFolder = None,
    changes: Annotated[int, typer.Option(min=1)] = 100,
    streams: Annotated[int, typer.Option(min=1, help="Closed loops that run all the time.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="About so many.")] = 64,
    output_tokens: Annotated[int, typer.Option(min=2)] = 64,
    precisions: Annotated[
        str | None, typer.Option(help="Change to these only, say int8,int4.", show_default="all but fp32")
    ] = None,
    pause_s: Annotated[float, typer.Option(min=0, help="Between two changes, in the mean.")] = 0.25,
    steady_s: Annotated[float, typer.Option(help="Without changes, before and after.")] = 10.0,
    seed: int = 0,
    data_dir: KeptIn = None,
    as_json: AsJson = False,
) -> None:
    """Turn a node's knobs at random while streams run, and count every token: none may be lost, doubled or missing."""
    # The reading commands need none of this.
    from inference_node.bench import reconfigure as measuring  # noqa: PLC0415
    from inference_node.bench.admin import NodeUnreachable  # noqa: PLC0415
    from inference_node.bench.process import ServerFailed  # noqa: PLC0415

    try:
        with _node(url, token_file, model, data_dir or default_data_dir(), streams) as target:
            options = measuring.ReconfigureOptions(
                **target,
                changes=changes,
                streams=streams,
                prompt_tokens=prompt_tokens,
                output_tokens=output_tokens,
                precisions=tuple(precisions.split(",")) if precisions else None,
                pause_s=pause_s,
                steady_s=steady_s,
                seed=seed,
            )
            report = measuring.run(options, progress=lambda line: typer.echo(line, err=True))
    except (NodeUnreachable, ServerFailed) as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(report)
    else:
        print_report(report)


@contextmanager
def _node(
    url: str | None, token_file: Path | None, model: Path | None, kept: Path, streams: int
) -> Iterator[dict[str, Any]]:
    """url, token, model and server_pid of the node under test."""
    from inference_node.bench.contender import ours  # noqa: PLC0415 - see reconfigure
    from inference_node.bench.peers.peer import Setting  # noqa: PLC0415
    from inference_node.bench.process import ServerProcess, ends_on_signals  # noqa: PLC0415
    from inference_node.bench.serve import model_of  # noqa: PLC0415
    from inference_node.contract.settings import Precision  # noqa: PLC0415
    from inference_node.demo_model import ensure_demo_model  # noqa: PLC0415

    if url is not None:
        yield {"url": url, "token": _token(token_file), "model": model_of(url), "server_pid": None}
        return
    folder = model or ensure_demo_model(kept, lambda what, share: None)
    cores = len(os.sched_getaffinity(0))
    setting = Setting(folder, folder.resolve().name, kept / "bench", max(streams, 8), cores)
    with tempfile.TemporaryDirectory(prefix="trimtab-bench-") as home:
        entrant = ours(setting, Precision.BF16, 0.0, Path(home), {})
        typer.echo(f"starting {entrant.name}", err=True)
        with ends_on_signals(), ServerProcess(entrant.name, entrant.launch, Path(home) / "node.log") as server:
            token = (Path(home) / "nodes" / "node-1" / "admin_token").read_text().strip()
            yield {
                "url": entrant.launch.url,
                "token": token,
                "model": setting.model_name,
                "server_pid": server.pid,
            }


def _token(file: Path | None) -> str:
    if file is None:
        if token := os.environ.get(TOKEN_VARIABLE):
            return token
        raise UsageError(
            f"the node's admin API needs a token: name its file with --token-file, or set {TOKEN_VARIABLE}"
        )
    try:
        return file.read_text().strip()
    except OSError as error:
        raise UsageError(f"--token-file {file} cannot be read: {error.strerror}") from None
