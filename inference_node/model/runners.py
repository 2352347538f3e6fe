"""The runner that goes with a model's weights."""

from collections.abc import Collection

from inference_node.contract.settings import KvPrecision
from inference_node.model.backend import Store
from inference_node.model.gpu.store import GpuStore
from inference_node.model.runner import ModelRunner
from inference_node.model.spec import ModelSpec


def make_runner(
    spec: ModelSpec,
    store: Store,
    *,
    num_blocks: int,
    block_size: int,
    max_model_len: int,
    kv: KvPrecision = KvPrecision.MODEL,
    cpus: Collection[int] | None = None,
) -> ModelRunner:
    """Takes the memory of `num_blocks` blocks of keys and values, where the weights are. cpus: see ModelRunner."""
    if isinstance(store, GpuStore):
        # Triton is there on machines with a GPU only.
        from inference_node.model.gpu.runner import GpuRunner  # noqa: PLC0415

        return GpuRunner(spec, store, num_blocks=num_blocks, block_size=block_size, max_model_len=max_model_len, kv=kv)
    return ModelRunner(
        spec, store, num_blocks=num_blocks, block_size=block_size, max_model_len=max_model_len, kv=kv, cpus=cpus
    )
