"""`trimtab bench forecast`: how well spikes and loads are foreseen, on any folder of traces."""

from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.errors import ControlPlaneError
from trimtab.cli.output import AsJson, number, print_json, print_table
from trimtab.errors import UsageError

Folder = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Holds NAME.metrics.parquet, one service each.", show_default=False)
]


def forecast(
    train: Folder = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Traces to score: those named as in --train go on where they end there; others are services never seen.",
            show_default="the last third of each training trace",
        ),
    ] = None,
    traces: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The same as --train, alone.", show_default=False)
    ] = None,
    warnings: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Every warning raised, as Parquet.", show_default="not kept"),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plots, as one HTML page.", show_default="not made")
    ] = None,
    keep_model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The risk model trained here.", show_default="not kept")
    ] = None,
    only: Annotated[str, typer.Option(help="Parts to run: warnings, load or both.")] = "both",
    lstm: Annotated[
        bool, typer.Option(help="With the LSTM in the race of load forecasters (minutes; needs torch).")
    ] = False,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Score spike warnings and load forecasts by fixed rules: thresholds from training data alone, intervals beside each figure.

    Nothing is asserted. The rules stand in docs/benchmarks/forecast.md.
    """
    folder = train or traces
    if folder is None:
        raise UsageError("name a folder of traces: --train DIR, or --traces DIR")
    if only not in ("warnings", "load", "both"):
        raise UsageError(f"--only {only}: write warnings, load or both")
    # The reading commands need none of this.
    from controlplane.bench.forecast import document as documents  # noqa: PLC0415
    from controlplane.bench.forecast import plots  # noqa: PLC0415

    try:
        found = documents.measure(
            folder,
            test,
            parts=("warnings", "load") if only == "both" else (only,),
            with_lstm=lstm,
            seed=seed,
            say=lambda line: typer.echo(line, err=True),
        )
    except ControlPlaneError as error:
        raise UsageError(error.detail) from None
    if warnings is not None:
        documents.write_warnings(found, warnings)
    if page is not None:
        page.write_text(plots.page(found), encoding="utf-8")
    if keep_model is not None and found.spikes is not None and found.spikes.model is not None:
        keep_model.write_bytes(found.spikes.model.to_bytes())
    if as_json:
        print_json(found.document)
        return
    _print(found.document)


def _print(document: dict[str, Any]) -> None:
    head = ("trace", "model", "setting", "P", "R", "F1", "95 % of F1", "lead", "a day", "spikes")
    for title, key in (
        ("Spike warnings on the test part", "results"),
        ("Out of fold on the training part", "development"),
        ("Each service of the training part as one never seen", "strangers"),
    ):
        if document[key]:
            print_table(title, head, [_warning_row(row) for row in document[key]], "nothing")
    if document["load"]:
        columns = ("trace", "model", "horizon", "MASE", "wQL", "80 % band", "90 % band", "fit", "a prediction")
        print_table("Load forecasts", columns, [_load_row(row) for row in document["load"]], "nothing")
    for note in document["notes"]:
        typer.echo(note)


def _warning_row(row: dict[str, Any]) -> tuple[object, ...]:
    interval = row["intervals"]["f1"]
    return (
        row["trace"] + ("" if row["seen"] else " (never seen)"),
        row["model"],
        row["setting"],
        *(None if row[key] is None else f"{row[key]:.2f}" for key in ("precision", "recall", "f1")),
        None if interval is None else f"{interval[0]:.2f}-{interval[1]:.2f}",
        number(row["lead_time_s"]["p50"], "s"),
        f"{row['warnings_per_day']:.1f}",
        row["spikes"],
    )


def _load_row(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["trace"],
        row["model"],
        f"{row['horizon_s']:.0f} s",
        f"{row['mase']:.3f}",
        f"{row['wql']:.4f}",
        f"{100 * row['coverage_80']:.1f} %",
        f"{100 * row['coverage_90']:.1f} %",
        number(row["fit_ms"], "ms"),
        number(row["predict_ms"], "ms"),
    )
