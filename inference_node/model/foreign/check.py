"""Whether a module computes over paged keys and values what it computes by itself."""

import torch

from inference_node.contract.settings import Precision
from inference_node.model.errors import ModelUnsupported
from inference_node.model.foreign.attention import NAME
from inference_node.model.foreign.store import ForeignStore
from inference_node.model.forward import TokenRun, plan_step
from inference_node.model.kv_cache import KvCache
from inference_node.model.spec import ModelSpec

# Of the largest logit. Another order of sums leaves 1e-5 in fp32 and some hundredths in bf16; a wrong one, half and more.
_TOLERANCE = {Precision.FP32: 1e-3, Precision.BF16: 0.1}
_CHUNKS = (9, 1, 10)
_BLOCK = 16


def check(spec: ModelSpec, store: ForeignStore) -> None:
    """Runs 20 tokens in chunks through pages, and whole through the module's own eager attention.

    Catches what a family may keep beside attention (convolutions, recurrent states), positions that it counts by itself, and any
    term of its scores that it does not pass on. Raises ModelUnsupported.
    """
    tokens = [(37 * place + 11) % spec.vocab_size for place in range(sum(_CHUNKS))]
    try:
        expected, found = _own(store, tokens), _paged(spec, store, tokens)
    # What a family's own code raises when it is run in chunks.
    except Exception as error:  # noqa: BLE001
        raise ModelUnsupported(
            f"models of type {spec.family!r} do not run over paged keys and values: {type(error).__name__}: {error}"
        ) from None
    distance = float((found - expected).abs().max() / expected.abs().max())
    if not distance <= _TOLERANCE[store.precision]:
        raise ModelUnsupported(
            f"models of type {spec.family!r} are not supported: over paged keys and values transformers' module is "
            f"{distance:.2g} of the largest logit away from what it computes by itself"
        )


@torch.inference_mode()
def _own(store: ForeignStore, tokens: list[int]) -> torch.Tensor:
    module = store.module
    module.set_attn_implementation("eager")
    try:
        logits = module(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()
    finally:
        module.set_attn_implementation(NAME)
    result: torch.Tensor = logits[torch.tensor(_CHUNKS).cumsum(0) - 1]
    return result


@torch.inference_mode()
def _paged(spec: ModelSpec, store: ForeignStore, tokens: list[int]) -> torch.Tensor:
    blocks = range(-(-len(tokens) // _BLOCK))
    kv = KvCache(
        num_layers=spec.num_layers,
        num_blocks=len(blocks),
        block_size=_BLOCK,
        num_heads=spec.num_key_heads,
        head_dim=spec.head_dim,
        dtype=store.arithmetic.kv,
    )
    rows, start = [], 0
    for count in _CHUNKS:
        run = TokenRun(tokens[start : start + count], start, blocks, samples=True)
        rows.append(store.forward(plan_step([run], store, kv, spec), kv))
        start += count
    return torch.cat(rows)
