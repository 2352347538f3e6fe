"""`trimtab bench fusion`: how many operators a step asks for and how long it takes, in transformers and in our graph."""

from pathlib import Path
from typing import Annotated, Any

import typer

from inference_node.contract.settings import Precision
from inference_node.demo_model import DemoModelError, ensure_demo_model
from inference_node.errors import NodeError
from trimtab.cli.output import AsJson, print_json, print_table
from trimtab.connection import default_data_dir
from trimtab.errors import CommandError, UsageError


def fusion(
    model: Annotated[
        Path | None, typer.Option(help="A folder in Hugging Face format.", show_default="the demo model")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16, which transformers has too.")] = "bf16",
    rows: Annotated[str, typer.Option(help="Decode batches.")] = "1,8,32",
    context: Annotated[int, typer.Option(help="Tokens that each decode row has before it.")] = 128,
    prompt_tokens: int = 128,
    repeats: Annotated[int, typer.Option(help="Timed steps of each way; they take turns.")] = 9,
    threads: Annotated[int | None, typer.Option(help="Of torch.", show_default="as torch chooses")] = None,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Count the operators of one step and time it: before, in transformers' eager module, and after, in our graph."""
    # torch and transformers take seconds to import, which no other command of this group needs.
    from inference_node.bench import fusion as fusing  # noqa: PLC0415

    try:
        folder = model or ensure_demo_model(default_data_dir())
        options = fusing.FusionOptions(
            model=folder,
            precision=_precision(precision),
            rows=_counts(rows),
            context=context,
            prompt_tokens=prompt_tokens,
            repeats=repeats,
            threads=threads,
            seed=seed,
        )
        report = fusing.run(options, progress=lambda line: typer.echo(line, err=True))
    except (NodeError, DemoModelError) as error:
        raise CommandError(str(error)) from None
    if as_json:
        print_json(report)
        return
    columns = ("step", "way", "operators", "computing", "step ms", "min", "max", "speed-up", "KL to first")
    title = f"{report['model']} ({report['family']}) in {options.precision}, {report['threads']} threads"
    print_table(title, columns, [row for case in report["results"] for row in _rows(case)], "no result")


def _rows(case: dict[str, Any]) -> list[tuple[object, ...]]:
    step = f"decode {case['rows']}" if case["phase"] == "decode" else f"prefill {case['tokens']}"
    return [
        (
            step,
            way["name"],
            _operators(way, way["operators_called"]),
            _operators(way, way["operators_computing"]),
            f"{way['step_ms']:.2f}",
            f"{way['step_ms_spread']['min']:.2f}",
            f"{way['step_ms_spread']['max']:.2f}",
            f"{way['speedup']:.2f}x",
            f"{way['kl_nats']:.4f}",
        )
        for way in case["ways"]
    ]


def _operators(way: dict[str, Any], count: int) -> str:
    return f"{count} + 1 of {way['native_stages']} stages" if way["native_calls"] else str(count)


def _precision(text: str) -> Precision:
    try:
        return Precision(text)
    except ValueError:
        raise UsageError(f"--precision {text}: this benchmark has fp32 and bf16") from None


def _counts(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--rows {text}: write whole numbers with commas between them, say 1,8,32") from None
