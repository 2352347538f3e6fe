"""`trimtab bench canary`: how often the canary analysis is wrong, on noise that was recorded from real nodes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from inference_node.bench.report import Table
from trimtab.canary import operating
from trimtab.canary.noise import Recording
from trimtab.canary.record import RecordOptions
from trimtab.canary.record import record as make_recording
from trimtab.cli.output import AsJson, print_json, print_table

app = typer.Typer(help="How often the canary analysis is wrong, on recorded noise.", no_args_is_help=True)
RECORDED = Path(__file__).resolve().parents[1] / "canary" / "recorded.json"


@app.command("run")
def run(
    recording: Annotated[Path, typer.Option(help="Made by `record`.", show_default="ours")] = RECORDED,
    trials: Annotated[int, typer.Option(help="Per design and effect.", min=1)] = 500,
    seed: int = 0,
    markdown: Annotated[bool, typer.Option("--markdown", help="As it goes into the documentation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge simulated canaries with the analysis of real ones: shares of PASS, FAIL and INCONCLUSIVE for each effect."""
    report = operating.run(
        Recording.read(recording), trials=trials, seed=seed, progress=lambda line: typer.echo(line, err=True)
    )
    if as_json:
        print_json(report)
        return
    table = as_table(report)
    if markdown:
        typer.echo(table.markdown())
        return
    print_table(table.title, table.columns, table.rows, "none")
    for note in table.notes:
        typer.echo(note)


def as_table(report: dict[str, Any]) -> Table:
    """For a terminal and for docs/canary-analysis.md, which is this table and what must be known to read it."""
    rows = tuple(
        (
            f"{row['nodes_per_arm']}+{row['nodes_per_arm']}", f"{row['windows']}", f"{row['repeated_windows']}", row["effect"],
            *(f"{row[name]:.1%}" for name in ("fail", "guard", "pass", "inconclusive")),
        )
        for row in report["results"]
    )  # fmt: skip
    spread = "; ".join(
        f"{name} {deviation['shared_sd']:.2f} shared by all nodes and {deviation['own_sd']:.2f} of each alone"
        for name, deviation in report["spread"].items()
    )
    return Table(
        f"{report['results'][0]['trials']} trials each, windows of {report['window_s']:g} s, seed {report['seed']}",
        ("nodes", "windows", "of these repeated", "change", "FAIL", "of these by guard", "PASS", "INCONCLUSIVE"),
        rows,
        (
            f"Noise: {report['about']}; {report['recorded_windows']} undisturbed windows of {report['recorded_nodes']} nodes "
            f"with {report['model']} at {report['rate_rps']:g} requests a second each, {report['recorded_at'][:10]}.",
            f"Standard deviation of log latency: {spread}.",
        ),
    )


@app.command("record")
def record(
    out: Annotated[Path, typer.Argument(help="Where to write the recording.")],
    url: Annotated[list[str], typer.Option(help="A node that runs; at least two.")],
    about: Annotated[str, typer.Option(help="The machine, and what else it did: stands with every figure.")],
    rate_rps: Annotated[float, typer.Option(help="Requests per second and node.")] = 1.0,
    windows: Annotated[int, typer.Option(help="How many.", min=2)] = 180,
    window_s: Annotated[float, typer.Option(help="How long each, in seconds.")] = 10.0,
    seed: int = 0,
) -> None:
    """Put an even load on nodes and record their windows while nobody changes anything."""
    options = RecordOptions(urls=url, rate_rps=rate_rps, windows=windows, window_s=window_s, seed=seed, about=about)
    make_recording(options, lambda line: typer.echo(line, err=True)).write(out)
