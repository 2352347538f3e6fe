"""`trimtab bench`: measurements that anybody can repeat. With --json the report is the only thing on standard output."""

from typing import Annotated, Any

import typer

from inference_node.bench import serve as serving
from trimtab.cli import (
    bench_api,
    bench_canary,
    bench_engine,
    bench_fleet,
    bench_forecast,
    bench_fusion,
    bench_quality,
    bench_reconfigure,
    bench_replay,
    bench_report,
    bench_surge,
)
from trimtab.cli.output import AsJson, number, print_json, print_table
from trimtab.errors import CommandError, UsageError

app = typer.Typer(help="Measurements that anybody can repeat.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measurements that anybody can repeat."""


app.add_typer(bench_canary.app, name="canary")
app.command("api")(bench_api.api)
app.command("engine")(bench_engine.engine)
app.command("fleet")(bench_fleet.fleet)
app.command("forecast")(bench_forecast.forecast)
app.command("fusion")(bench_fusion.fusion)
app.command("peers")(bench_engine.peers)
app.command("quality")(bench_quality.quality)
app.command("reconfigure")(bench_reconfigure.reconfigure)
app.command("replay")(bench_replay.replay)
app.command("report")(bench_report.report)
app.command("surge")(bench_surge.surge)


@app.command("serve")
def serve(
    url: Annotated[str, typer.Option(help="Of the server, ours or a peer's; say http://127.0.0.1:8701.")],
    model: Annotated[str | None, typer.Option(help="Name to ask for.", show_default="its only one")] = None,
    concurrency: Annotated[str, typer.Option(help="Closed loops of so many clients, one after the other.")] = "1,8,32",
    rates: Annotated[
        str | None, typer.Option(help="Open loops of so many requests/s instead.", show_default=False)
    ] = None,
    requests: Annotated[int | None, typer.Option(help="Per level.", show_default="2 x concurrency, at least 4")] = None,
    prompt_tokens: int = 128,
    output_tokens: int = 64,
    shared_prefix_tokens: Annotated[int, typer.Option(help="Of each prompt, the same in all.")] = 0,
    repeats: int = 2,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Put the same load on any OpenAI-compatible server and report tokens/s, TTFT, ITL and E2E."""
    options = serving.ServeOptions(
        url=url,
        model=model,
        concurrency=tuple(int(level) for level in _numbers("--concurrency", concurrency, whole=True)),
        rates_rps=_numbers("--rates", rates, whole=False) if rates else (),
        requests=requests,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        shared_prefix_tokens=shared_prefix_tokens,
        repeats=repeats,
        seed=seed,
    )
    try:
        report = serving.run(options, progress=lambda line: typer.echo(line, err=True))
    except serving.ServerUnreachable as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(report)
        return
    columns = ("load", "tokens/s", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99", "E2E p50", "requests", "errors")
    print_table(f"{report['model']} at {report['url']}", columns, [_row(row) for row in report["results"]], "no result")


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    load = f"{row['concurrency']} clients" if row["concurrency"] else f"{row['rate_rps']:g} req/s"
    times = [
        number((row[metric] or {}).get(quantile), "ms")
        for metric, quantile in (
            ("ttft_ms", "p50"),
            ("ttft_ms", "p99"),
            ("itl_ms", "p50"),
            ("itl_ms", "p99"),
            ("e2e_ms", "p50"),
        )
    ]
    return (load, number(row["output_tokens_per_s"]), *times, row["requests"], row["errors"])


def _numbers(option: str, text: str, *, whole: bool) -> tuple[float, ...]:
    try:
        return tuple(float(int(part)) if whole else float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: write numbers with commas between them, say 1,8,32") from None
