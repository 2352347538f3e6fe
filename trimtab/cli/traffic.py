"""`trimtab demo-traffic`: the load of `trimtab up --demo-traffic`, as a process of its own."""

from typing import Annotated

import typer

from trimtab.cli.output import DataDir
from trimtab.connection import default_data_dir, read, resolve
from trimtab.errors import UsageError
from trimtab.traffic.schedule import FIRST_SURGE_S


def demo_traffic(
    data_dir: DataDir = None,
    calm_s: Annotated[
        float, typer.Option("--calm-s", help="Before the first surge, in seconds.", min=0)
    ] = FIRST_SURGE_S,
    seed: Annotated[
        int | None, typer.Option(help="For the same arrivals and prompts again.", show_default="random")
    ] = None,
) -> None:
    """Put a realistic load with surges on the nodes of a running `trimtab up`; ends with the process that started it."""
    # httpx and asyncio are of no use to the other commands.
    from trimtab.traffic.demo import run_demo_traffic  # noqa: PLC0415

    connection = resolve(data_dir) if data_dir is not None else (read(default_data_dir()) or resolve(None))
    if not connection.nodes:
        raise UsageError("demo traffic goes to the nodes of a local `trimtab up`; none is known here")
    raise typer.Exit(run_demo_traffic(connection, data_dir or default_data_dir(), calm_s, seed))
