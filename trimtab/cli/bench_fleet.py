"""`trimtab bench fleet`: how fast and how surely changes reach many nodes."""

from typing import Annotated

import typer

from trimtab.cli.output import AsJson, print_json, print_table


def fleet(
    nodes: Annotated[int, typer.Option(help="Simulated nodes, each with its own address over HTTP.", min=1)] = 1000,
    pools: Annotated[int, typer.Option(help="They are spread over so many pools.", min=1)] = 100,
    rounds: Annotated[int, typer.Option(help="How often all pools change, before all go back.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 2,
    concurrency: Annotated[int, typer.Option(help="Pushes that each does at once.", min=1)] = 4,
    database: Annotated[
        str | None, typer.Option(help="An empty database.", show_default="SQLite in a temporary folder")
    ] = None,
    redis: Annotated[str | None, typer.Option(help="URL of a Redis.", show_default="one of its own")] = None,
    timeout_s: Annotated[float, typer.Option(help="For each round, in seconds.")] = 300.0,
    ticks: Annotated[
        int, typer.Option(help="Then time so many ticks of the controller over all pools, against a Prometheus.", min=0)
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Change all pools at once, and take all back at once: real controller, Celery, Redis and SQL over simulated nodes."""
    # SQLAlchemy and Celery are of no use to the other commands.
    from trimtab.fleet_bench import run as running  # noqa: PLC0415 (lazy, see above)

    options = running.FleetOptions(nodes, pools, rounds, workers, concurrency, database, redis, timeout_s, ticks)
    report = running.run(options, lambda line: typer.echo(line, err=True))
    for part in ("apply", "rollback"):
        for name in ("request_to_ack_s", "dispatch_to_ack_s"):
            report[part][name] = running.summary(report[part][name])
    if ticks:
        for name in ("tick_s", "nodes_s", "races_s"):
            report["ticks"][name] = running.summary(report["ticks"][name])
    if as_json:
        print_json(report)
        return
    columns = ("", "nodes", "p50", "p95", "p99", "max")
    rows = [
        (f"{part}: {name}", report[part]["nodes"], *report[part][name].values())
        for part in ("apply", "rollback")
        for name in ("request_to_ack_s", "dispatch_to_ack_s")
    ]
    if ticks:
        pools_ticked = report["ticks"]["pools"]
        rows += [
            (f"{what} {pools_ticked} pools", nodes, *report["ticks"][name].values())
            for what, name in (
                ("tick: decisions for", "tick_s"), ("afterwards: windows of the nodes of", "nodes_s"),
                ("afterwards: races of forecasters of", "races_s"),
            )
        ]  # fmt: skip
    title = (
        f"{report['rollouts']} rollouts, {report['applies']} applies on {report['database']}: {report['lost']} lost, "
        f"{report['doubled']} doubled, {report['dead_letters']} dead letters (seconds)"
    )
    print_table(title, columns, rows, "no figure")
