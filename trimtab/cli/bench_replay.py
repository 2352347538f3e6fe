"""`trimtab bench replay`: the controller's own code against recorded requests, beside policies that anybody could run."""

from pathlib import Path
from typing import Annotated

import typer

from controlplane.errors import ControlPlaneError
from trimtab.cli.output import AsJson, print_json, print_table
from trimtab.errors import UsageError


def replay(
    traces: Annotated[Path, typer.Option(metavar="DIR", help="Holds NAME.requests.parquet, one trace each.")],
    step_table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What GET /admin/v1/step-model of a real node answered.",
            show_default="a table measured on an H200",
        ),
    ] = None,
    policy: Annotated[str, typer.Option(help="Names with commas between them, or all.")] = "all",
    nodes: Annotated[int, typer.Option(min=1, max=256, help="Simulated.")] = 4,
    utilisation: Annotated[
        float, typer.Option(min=0.05, max=3, help="How full the trace's median five minutes make the pool.")
    ] = 0.9,
    window_s: Annotated[float, typer.Option(min=300, help="Of a long trace, three windows of that length.")] = 1800.0,
    limit_s: Annotated[
        float | None, typer.Option(min=60, help="Of each trace.", show_default="the whole of it")
    ] = None,
    faults: Annotated[bool, typer.Option(help="With nodes that fail and telemetry that goes missing.")] = True,
    seed: int = 0,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write plots, as HTML.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay request traces through simulated nodes and compare policies by the share of requests within their objectives.

    Nothing is asserted. Nodes step as the measured table says, never as the controller's own model does.
    """
    # The reading commands need none of this.
    from controlplane.bench.replay import page as plots  # noqa: PLC0415
    from controlplane.bench.replay import run  # noqa: PLC0415
    from controlplane.bench.replay.arrivals import read_folder  # noqa: PLC0415
    from controlplane.bench.replay.case import Options, prepare_all  # noqa: PLC0415
    from controlplane.bench.replay.step_table import SHIPPED, read_levels  # noqa: PLC0415

    wanted = run.POLICIES if policy == "all" else tuple(name.strip() for name in policy.split(","))
    unknown = [name for name in wanted if name not in run.POLICIES]
    if unknown:
        raise UsageError(f"--policy {unknown[0]}: there are {', '.join(run.POLICIES)}")
    options = Options(
        nodes=nodes, utilisation=utilisation, window_s=window_s, limit_s=limit_s, faults=faults, seed=seed
    )
    results, notes = [], []
    try:
        levels = read_levels(step_table or SHIPPED)
        for arrivals in read_folder(traces):
            for case in prepare_all(arrivals, levels, options):
                slo = case.policy.slo
                notes.append(
                    f"{case.arrivals.name}: {len(case.arrivals)} requests ({case.share:.2f} x the trace), objectives TTFT "
                    f"{slo.ttft_p95_s:.2f} s and {1000 * slo.itl_p95_s:.0f} ms between tokens, quality budget {case.budget:.2%}"
                )
                results += run.replay(case, levels, options, wanted, lambda line: typer.echo(line, err=True))
    except ControlPlaneError as error:
        raise UsageError(error.detail) from None
    document = run.document(results, notes, options)
    if page is not None:
        page.write_text(plots.page(results, document), encoding="utf-8")
    if as_json:
        print_json(document)
        return
    head = ("trace", "policy", "within objectives", "quality loss", "goodput", "changes", "reversals", "regret")
    rows = [
        (
            row["trace"],
            row["policy"],
            f"{100 * row['slo_attainment']:.2f} %",
            f"{100 * row['quality_loss']:.2f} %",
            f"{row['goodput_rps']:.3f} req/s",
            row["changes"],
            row["reversals"],
            None if row["regret_vs_oracle"] is None else f"{100 * row['regret_vs_oracle']:.2f}",
        )
        for row in document["results"]
    ]
    print_table("Replay", head, rows, "nothing")
    for note in notes:
        typer.echo(note)
