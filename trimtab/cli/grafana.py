"""`trimtab grafana`: the dashboards, where a Grafana may read them."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from trimtab import grafana as files
from trimtab.cli.output import AsJson, print_json
from trimtab.errors import CommandError, UsageError


def grafana(
    folder: Annotated[
        Path, typer.Argument(help="Grafana's provisioning folder, e.g. /etc/grafana/provisioning.", show_default=False)
    ],
    prometheus_url: Annotated[
        str | None,
        typer.Option("--prometheus", help="Makes a data source of this Prometheus, too.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the four dashboards and what provisions them; Grafana shows them after its next start."""
    if prometheus_url is not None and urlsplit(prometheus_url).scheme not in {"http", "https"}:
        raise UsageError(f"--prometheus {prometheus_url}: an address begins with http:// or https://")
    try:
        written = files.write(folder, prometheus_url)
    except OSError as error:
        raise CommandError(f"{error.filename or folder}: {error.strerror or error}") from None
    if as_json:
        print_json({"files": [str(path) for path in written]})
    else:
        for path in written:
            typer.echo(path)
