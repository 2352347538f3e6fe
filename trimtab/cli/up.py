"""`trimtab up`: a whole fleet on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.connection import default_data_dir


def up(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept.", show_default="~/.local/share/trimtab")
    ] = None,
    port: Annotated[
        int, typer.Option(help="Of the API; nodes, Prometheus and Redis take the ones after it.", min=1, max=65535)
    ] = 8700,
    nodes: Annotated[int, typer.Option(help="Inference nodes to run.", min=1, max=16)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per component on standard output.")] = False,
    demo_traffic: Annotated[bool, typer.Option(help="A realistic load on the nodes, with surges.")] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder in Hugging Face format (config.json, tokenizer, *.safetensors).",
            show_default="the demo model",
        ),
    ] = None,
) -> None:
    """Run a whole fleet on this machine: control plane, worker, nodes, Redis, Prometheus.

    Everything listens on loopback only and ends with this command. REDIS_URL and PROMETHEUS_URL name servers of yours to use
    instead of own ones.
    """
    # The reading commands need none of this: policy, asyncio, redis.
    from trimtab.supervisor.up import UpOptions, run_up  # noqa: PLC0415

    options = UpOptions(data_dir or default_data_dir(), port, nodes, as_json, demo_traffic, model)
    raise typer.Exit(run_up(options))
