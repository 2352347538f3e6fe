"""`trimtab bench engine`, `bench peers`: our node beside other engines, each in an environment of its own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trimtab.cli.bench_report import print_report
from trimtab.cli.output import AsJson, print_json
from trimtab.connection import default_data_dir
from trimtab.errors import CommandError, UsageError

if TYPE_CHECKING:
    from inference_node.bench.engine import EngineOptions

ModelFolder = Annotated[
    Path | None,
    typer.Option(help="Folder in Hugging Face format.", show_default="the demo model"),
]
KeptIn = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Where converted models are kept.", show_default="~/.local/share/trimtab"),
]


def engine(
    model: ModelFolder = None,
    precision: Annotated[
        str, typer.Option(help="Of our node: bf16, int8, int4, or int8@0.4 for a pruned one.")
    ] = "bf16",
    pruning: Annotated[float, typer.Option(help="For those without an @ of their own.", min=0, max=0.7)] = 0.0,
    peer: Annotated[
        list[str] | None, typer.Option(help="NAME=VENV, say openvino=/path/to/venv; may be repeated.")
    ] = None,
    concurrency: Annotated[str, typer.Option(help="Closed loops of so many streams, one after the other.")] = "1,8,32",
    scenario: Annotated[str, typer.Option(help="streams, prefix, or both.")] = "streams",
    prompt_tokens: Annotated[int, typer.Option(min=1)] = 128,
    output_tokens: Annotated[int, typer.Option(min=2)] = 64,
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved: all engines once, then all again.")] = 3,
    retries: Annotated[int, typer.Option(min=0, help="More tries of a run that others disturbed.")] = 2,
    seed: int = 0,
    threads: Annotated[int | None, typer.Option(min=1, show_default="all cores")] = None,
    settings: Annotated[
        str, typer.Option(metavar="JSON", help="Knobs of our node, over those it is started with.")
    ] = "{}",
    data_dir: KeptIn = None,
    as_json: AsJson = False,
) -> None:
    """Serve one model with our node and with peers by turns, under the same load from the same client.

    Each engine is a process of its own, frozen while another is measured. Nothing is asserted; a peer that is ahead is shown
    ahead. `trimtab bench peers` tells how the peers' environments are made.
    """
    # The reading commands need none of this.
    from inference_node.bench import engine as measuring  # noqa: PLC0415
    from inference_node.bench.contender import parse_numerics  # noqa: PLC0415
    from inference_node.bench.peers.registry import parse_peer  # noqa: PLC0415
    from inference_node.bench.process import ServerFailed  # noqa: PLC0415
    from inference_node.bench.rates import RatesUnavailable  # noqa: PLC0415
    from inference_node.demo_model import ensure_demo_model  # noqa: PLC0415

    kept = data_dir or default_data_dir()
    wanted = [
        parse_numerics(part if "@" in part or not pruning else f"{part}@{pruning}") for part in precision.split(",")
    ]
    optional: dict[str, Any] = {} if threads is None else {"threads": threads}
    options: EngineOptions = measuring.EngineOptions(
        model=model or ensure_demo_model(kept, lambda what, share: None),
        numerics=tuple(wanted),
        peers=tuple(parse_peer(text) for text in peer or ()),
        concurrency=_levels(concurrency),
        scenarios=tuple(part.strip() for part in scenario.split(",")),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        repeats=repeats,
        retries=retries,
        seed=seed,
        knobs=_knobs(settings),
        cache_dir=kept / "bench",
        **optional,
    )
    try:
        report = measuring.run(options, progress=lambda line: typer.echo(line, err=True))
    except (ServerFailed, RatesUnavailable) as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(report)
    else:
        print_report(report)


def peers(
    folder: Annotated[Path, typer.Argument(help="Where the environments shall lie.")] = Path("peers"),
) -> None:
    """Shell lines that make each peer's virtual environment, and how it is then named."""
    from inference_node.bench.peers.registry import PEERS  # noqa: PLC0415 - see engine

    for name, adapter in PEERS.items():
        venv = folder / name
        typer.echo(f"# {name}: {', '.join(adapter.precisions)}")
        for line in adapter.install(venv):
            typer.echo(line)
        typer.echo(f"trimtab bench engine --precision {','.join(adapter.precisions)} --peer {name}={venv}\n")


def _levels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--concurrency {text}: write numbers with commas between them, say 1,8,32") from None


def _knobs(text: str) -> dict[str, Any]:
    try:
        knobs = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--settings is no JSON: {error}") from None
    if not isinstance(knobs, dict):
        raise UsageError('--settings must be a JSON object, say {"max_batched_tokens": 1024}')
    return knobs
