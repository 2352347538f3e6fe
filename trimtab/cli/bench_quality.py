"""`trimtab bench quality`: what a precision, a KV cache or a pruning level costs in answers."""

from pathlib import Path
from typing import Annotated

import typer

from trimtab.cli.bench_engine import ModelFolder
from trimtab.cli.bench_report import print_report
from trimtab.cli.output import AsJson, print_json
from trimtab.connection import default_data_dir
from trimtab.errors import UsageError


def quality(
    model: ModelFolder = None,
    precision: Annotated[
        str | None, typer.Option(help="Say bf16,int8,int4.", show_default="all that this machine has but fp32")
    ] = None,
    pruning: Annotated[str, typer.Option(help="Levels to measure at each precision, besides none.")] = "0,0.25,0.4",
    kv: Annotated[str, typer.Option(help="Forms of the KV cache at each precision: model,int8.")] = "model",
    keep_in: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="NODE_DATA_DIR of a node: its guard finds the records there at its next start.",
            show_default="nowhere",
        ),
    ] = None,
    max_perplexity_ratio: Annotated[float | None, typer.Option(min=1, show_default="as a node's")] = None,
    max_kl: Annotated[float | None, typer.Option(show_default="as a node's")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what each precision, KV cache and pruning level costs against bf16 on held-out text: perplexity, KL, agreement.

    Some seconds a level for a small model. Nothing is asserted; what is above the ceiling is shown as failed.
    """
    # The reading commands need none of this.
    from inference_node.bench import quality as measuring  # noqa: PLC0415
    from inference_node.contract.settings import KvPrecision, Precision  # noqa: PLC0415
    from inference_node.demo_model import ensure_demo_model  # noqa: PLC0415

    kept = default_data_dir()
    try:
        precisions = None if precision is None else tuple(Precision(word.strip()) for word in precision.split(","))
    except ValueError:
        raise UsageError(f"--precision {precision}: write some of {', '.join(Precision)}") from None
    try:
        kv_precisions = tuple(KvPrecision(word.strip()) for word in kv.split(","))
    except ValueError:
        raise UsageError(f"--kv {kv}: write some of {', '.join(KvPrecision)}") from None
    try:
        prunings = tuple(float(word) for word in pruning.split(","))
    except ValueError:
        raise UsageError(f"--pruning {pruning}: write numbers with commas between them, say 0,0.25,0.4") from None
    options = measuring.QualityOptions(
        model=model or ensure_demo_model(kept, lambda what, share: None),
        data_dir=keep_in or kept / "bench",
        precisions=precisions,
        prunings=prunings,
        kv_precisions=kv_precisions,
        keep=keep_in is not None,
        max_perplexity_ratio=max_perplexity_ratio,
        max_kl=max_kl,
    )
    report = measuring.run(options, progress=lambda line: typer.echo(line, err=True))
    if as_json:
        print_json(report)
        return
    print_report(report)
    if report["kept_in"] is not None:
        typer.echo(f"Records kept in {report['kept_in']}.")
