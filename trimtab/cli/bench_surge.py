"""`trimtab bench surge`: a real fleet under one surge, tuned by the controller, by nobody, and fixed in hindsight."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlplane.errors import ControlPlaneError
from trimtab.cli.output import AsJson, print_json, print_table
from trimtab.errors import UsageError

if TYPE_CHECKING:
    from trimtab.surge_bench.options import SurgeOptions


def surge(
    nodes: Annotated[int, typer.Option(min=1, max=32, help="Real ones on this machine, of one thread each.")] = 2,
    minutes: Annotated[float, typer.Option(min=0.5, max=240, help="Of the load that is scored.")] = 10.0,
    policy: Annotated[str, typer.Option(help="trimtab, default, static; with commas between them, or all.")] = "all",
    levels: Annotated[str, typer.Option(help="Measured before any policy runs.")] = "bf16,int8,int4",
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL:BATCH,…", help="Fixed settings.", show_default="levels within the quality budget at 4 and 16"
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Whole rounds, one after the other.")] = 1,
    ttft_slo_s: Annotated[
        float | None, typer.Option(min=0.001, help="In seconds.", show_default="5 x what one client a node waits")
    ] = None,
    itl_slo_ms: Annotated[
        float | None, typer.Option(min=0.1, help="Mean gap.", show_default="2 x what one client a node sees")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="What answers may lose on average.", show_default="half of what the fastest level loses"
        ),
    ] = None,
    calm: Annotated[
        float | None, typer.Option(min=0.01, help="Of what the best level carries.", show_default="0.5")
    ] = None,
    surge: Annotated[
        float | None,
        typer.Option(min=0.01, help="Of the same.", show_default="half way to the fastest level, as a ratio"),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="NAME.requests.parquet: its arrivals instead.", show_default=False),
    ] = None,
    prompt_tokens: Annotated[str, typer.Option(help="From and to.")] = "24-48",
    output_tokens: Annotated[str, typer.Option(help="From and to.")] = "32-96",
    warm_s: Annotated[float, typer.Option(min=0, max=600, help="Calm load before, served and not scored.")] = 60.0,
    rest_s: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            help="Calm load before trimtab's run: it would plan for the loops that measured to come again.",
        ),
    ] = 300.0,
    measure_s: Annotated[float, typer.Option(min=1, max=120, help="For each level and number of clients.")] = 6.0,
    seed: int = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where the fleet keeps its data.", show_default="a temporary folder"),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write plots, as HTML.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a real fleet, put the same surge on it under each policy, and compare the shares of requests within the objectives.

    Nothing is asserted. Nothing else should run on the machine meanwhile. The rules stand in docs/benchmarks/surge.md.
    """
    # The reading commands need none of this.
    from controlplane.bench.replay.arrivals import read_requests  # noqa: PLC0415
    from trimtab.surge_bench import options as surge_options  # noqa: PLC0415
    from trimtab.surge_bench import page as plots  # noqa: PLC0415
    from trimtab.surge_bench import run as running  # noqa: PLC0415
    from trimtab.surge_bench.level import parse_levels  # noqa: PLC0415
    from trimtab.surge_bench.load import Lengths, Span, rising_window  # noqa: PLC0415
    from trimtab.surge_bench.policies import parse_grid, parse_kinds  # noqa: PLC0415

    if trace is not None and not trace.is_file():
        raise UsageError(f"--trace {trace}: there is no such file; name one called NAME.requests.parquet")
    if page is not None and not page.parent.is_dir():
        raise UsageError(f"--page {page}: there is no folder {page.parent}")
    try:
        shape = surge_options.shape_of(minutes, warm_s)
        window = None if trace is None else rising_window(read_requests(trace), shape)
    except ControlPlaneError as error:
        raise UsageError(error.detail) from None
    options: SurgeOptions = surge_options.SurgeOptions(
        nodes=nodes,
        minutes=minutes,
        warm_s=warm_s,
        rest_s=rest_s,
        levels=parse_levels(levels, "--levels"),
        policies=parse_kinds(policy),
        grid=None if grid is None else parse_grid(grid),
        repeats=repeats,
        measure_s=measure_s,
        lengths=Lengths(Span.parse(prompt_tokens, "--prompt-tokens"), Span.parse(output_tokens, "--output-tokens")),
        ttft_slo_s=ttft_slo_s,
        itl_slo_ms=itl_slo_ms,
        budget=budget,
        calm=calm,
        surge=surge,
        window=window,
        seed=seed,
        data_dir=data_dir,
    )
    report = running.run(options, lambda line: typer.echo(line, err=True))
    if page is not None:
        page.write_text(plots.page(report), encoding="utf-8")
    if as_json:
        print_json(report)
    else:
        _print(report)


def _print(report: dict[str, Any]) -> None:
    head = (
        "policy",
        "within objectives",
        "95 %",
        "goodput",
        "TTFT p95",
        "gap p95",
        "quality loss",
        "refused",
        "failed",
        "changes",
    )
    print_table("Surge", head, [_row(row) for row in report["results"]], "nothing")
    sign = report["sign"]
    first, second = sign["trimtab_over_static_best_points"], sign["static_best_over_default_points"]
    if first is not None and second is not None:
        budget = "within" if sign["trimtab_within_budget"] else "ABOVE"
        typer.echo(
            f"trimtab over static-best {first:+.2f} points, {budget} the quality budget; static-best over default {second:+.2f}"
        )
    for note in report["notes"]:
        typer.echo(note)


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    share, loss, (low, high) = row["slo_attainment"], row["quality_loss"], row["slo_attainment_interval"]
    name = f"{row['policy']} ({row['is'].removeprefix('static: ')})" if "is" in row else row["policy"]
    ttft_s, gap_ms = row["ttft_s"]["p95"], row["gap_ms"]["p95"]
    return (
        name,
        None if share is None else f"{100 * share:.2f} %",
        f"{100 * low:.1f} to {100 * high:.1f}",
        f"{row['goodput_rps']:.2f} req/s",
        None if ttft_s is None else f"{ttft_s:.2f} s",
        None if gap_ms is None else f"{gap_ms:.1f} ms",
        None if loss is None else f"{100 * loss:.2f} %",
        row["refused"],
        row["failed"] + row["cut_short"],
        f"{row['changes']} ({row['rollbacks']} back)" if row["changes"] else 0,
    )
