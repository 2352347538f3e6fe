"""ModelRunner: a ScheduledBatch in, sampled tokens out. Owns weights, KV tensors and pruning; decides nothing."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor

from inference_node.model.backend import Store
from inference_node.model.foreign.store import ForeignStore
from inference_node.model.forward import ActivationHook, Forward, StepInputs, TokenRun, plan_step
from inference_node.model.kv_cache import KvCache
from inference_node.model.sampler import SampledToken, SampleRequest, sample
from inference_node.model.spec import ModelSpec
from inference_node.pruning.prune import Pruner
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Numerics:
    """All that decides the arithmetic of a step: the weights, and the pruner or None when nothing is dropped."""

    store: Store
    pruner: Pruner | None


class ModelRunner:
    """Runs steps, one at a time, on the thread that calls it."""

    def __init__(self, spec: ModelSpec, store: Store, *, num_blocks: int, block_size: int, max_model_len: int) -> None:
        self.spec = spec
        self._forward = Forward(spec, max_model_len) if spec.foreign is None else None
        self._numerics = Numerics(store, None)
        self.kv = KvCache(
            num_layers=spec.num_layers,
            num_blocks=num_blocks,
            block_size=block_size,
            num_heads=spec.num_key_heads,
            head_dim=spec.head_dim,
            dtype=store.arithmetic.kv,
        )

    @property
    def numerics(self) -> Numerics:
        return self._numerics

    @property
    def pruned_ratio(self) -> float:
        """Share of MLP channels dropped in the last step."""
        return 0.0 if self._numerics.pruner is None else self._numerics.pruner.ratio

    def switch(self, numerics: Numerics, used_blocks: list[int]) -> bool:
        """Other arithmetic from the next step on.

        Returns whether the KV changed its format; of it, only used_blocks survive that.
        """
        self._numerics = numerics
        dtype = numerics.store.arithmetic.kv
        if dtype == self.kv.dtype:
            return False
        self.kv.convert(dtype, used_blocks)
        return True

    def run(self, batch: ScheduledBatch, seeds: SequenceOf[int]) -> list[tuple[Sequence, SampledToken]]:
        """Computes the batch; `seeds` are the rows'. Returns a token for each row that samples, in row order."""
        runs = [
            TokenRun(
                tokens=row.sequence.tokens[row.start : row.start + row.count],
                start=row.start,
                block_table=row.sequence.block_table,
                samples=row.samples,
            )
            for row in batch.rows
        ]
        logits = self.logits(runs)
        sampling = [(row.sequence, seed) for row, seed in zip(batch.rows, seeds, strict=True) if row.samples]
        requests = [
            SampleRequest(sequence.sampling, sequence.tokens[sequence.num_prompt_tokens :], seed)
            for sequence, seed in sampling
        ]
        tokens = sample(logits, requests)
        return [(sequence, token) for (sequence, _), token in zip(sampling, tokens, strict=True)]

    def logits(self, runs: SequenceOf[TokenRun]) -> Tensor:
        """Computes runs that no scheduler made (probe, tests): [R, V] fp32 for those that sample."""
        numerics = self._numerics
        with torch.inference_mode():
            inputs = plan_step(runs, numerics.store, self.kv, self.spec)
            return self._compute(inputs, numerics.store, self.kv, numerics.pruner)

    def logits_apart(
        self, tokens: SequenceOf[int], store: Store, hook: ActivationHook | None, *, every_token: bool
    ) -> Tensor:
        """Runs a text through any store with a KV cache of its own, beside what the engine serves. May be called from any thread.

        Returns logits [T, V] fp32, or [1, V] of the last token.
        """
        size = self.kv.block_size
        num_blocks = -(-len(tokens) // size)
        kv = KvCache(
            num_layers=self.spec.num_layers,
            num_blocks=num_blocks,
            block_size=size,
            num_heads=self.spec.num_key_heads,
            head_dim=self.spec.head_dim,
            dtype=store.arithmetic.kv,
        )
        with torch.inference_mode():
            inputs = plan_step([TokenRun(tokens, 0, range(num_blocks), samples=True)], store, kv, self.spec)
            if every_token:
                inputs = inputs.sampling_all()
            return self._compute(inputs, store, kv, hook)

    def _compute(self, inputs: StepInputs, store: Store, kv: KvCache, hook: ActivationHook | None) -> Tensor:
        if isinstance(store, ForeignStore):
            assert hook is None, "a module's activations pass no hook"
            return store.forward(inputs, kv)
        assert self._forward is not None
        return self._forward(inputs, store, kv, hook)
