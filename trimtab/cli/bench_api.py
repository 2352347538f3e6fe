"""`trimtab bench api`: how fast people get answers, and how fast events reach their browsers."""

from typing import Annotated

import typer

from trimtab.cli.output import AsJson, print_json, print_table


def api(
    streams: Annotated[int, typer.Option(help="Live streams open at the same time.", min=0)] = 200,
    reads: Annotated[float, typer.Option(help="Reads a second, over what the web app's pages ask for.", min=0)] = 100,
    writes: Annotated[float, typer.Option(help="Changes a second, each with an event.", min=0)] = 5,
    duration_s: Annotated[float, typer.Option(help="In seconds.", min=1, max=3600)] = 60,
    pools: Annotated[int, typer.Option(min=1)] = 20,
    nodes: Annotated[int, typer.Option(help="Spread over the pools.", min=1)] = 200,
    database: Annotated[
        str | None, typer.Option(help="An empty database.", show_default="SQLite in a temporary folder")
    ] = None,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Read and change at a fixed rate while many live streams are open, on a real API process of its own."""
    # SQLAlchemy is of no use to the other commands.
    from trimtab.api_bench import run as running  # noqa: PLC0415 (lazy, see above)

    options = running.ApiOptions(streams, reads, writes, duration_s, pools, nodes, database, seed=seed)
    report = running.run(options, lambda line: typer.echo(line, err=True))
    if as_json:
        print_json(report)
        return
    rows = [
        (name, part["count"] if "count" in part else part["arrivals"], *part["seconds"].values())
        for name, part in (
            (f"{reads:g} reads/s", report["reads"]),
            (f"{writes:g} changes/s", report["writes"]),
            (f"event to each of {streams} streams", report["event_to_stream"]),
        )
        if part["seconds"]
    ]
    failed = ", ".join(f"{count} x {name}" for name, count in report["failures"].items()) or "no failure"
    title = (
        f"{report['pools']} pools, {report['nodes']} nodes, {report['database']}: {failed}, "
        f"{report['event_to_stream']['missed']} events missed, {report['api_cpu_s']:g} s of processor time (seconds)"
    )
    print_table(title, ("", "count", "p50", "p95", "p99", "max"), rows, "no figure")
