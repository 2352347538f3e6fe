"""Which code runs a model, by its spec: the own forward, or transformers' module for families that it does not know."""

from collections.abc import Callable
from pathlib import Path

from inference_node.contract.settings import Precision
from inference_node.model import weights
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.errors import ModelUnsupported
from inference_node.model.foreign.store import PRECISIONS, ForeignStore
from inference_node.model.spec import ModelSpec, read_configs
from inference_node.model.weights import WeightStore

Store = WeightStore | ForeignStore


def describe(folder: Path) -> ModelSpec:
    """Reads config.json; milliseconds for families that are known, some seconds for others.

    Raises ModelNotFound, ModelInvalid, ModelUnsupported.
    """
    config, generation = read_configs(folder)
    try:
        return ModelSpec.from_config(config, generation)
    except ModelUnsupported as reason:
        # transformers' modeling code takes 1.3 s and 120 MB to import, which other models need not pay.
        from inference_node.model.foreign import probe  # noqa: PLC0415

        return probe.describe(folder, config, generation, str(reason))


def supported_precisions(spec: ModelSpec) -> tuple[Precision, ...]:
    """What this machine and torch can run this model in, widest first."""
    here = weights.supported_precisions()
    return here if spec.foreign is None else tuple(p for p in here if p in PRECISIONS)


def build(
    checkpoint: Checkpoint,
    spec: ModelSpec,
    precision: Precision,
    progress: Callable[[float], None] = lambda share: None,
) -> Store:
    """Reads, converts and packs all weights; seconds for a small model. `progress` may raise to give up midway.

    Raises ModelInvalid when the checkpoint does not fit the spec, ModelUnsupported when transformers' module does not compute
    rightly over paged keys and values, PrecisionUnsupported.
    """
    if spec.foreign is None:
        return weights.build(checkpoint, spec, precision, progress)
    from inference_node.model.foreign import check, module  # noqa: PLC0415 - see describe

    built = module.build(checkpoint.folder, spec, precision, progress)
    check.check(spec, built)
    progress(1.0)
    return built
