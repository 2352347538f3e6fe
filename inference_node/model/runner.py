"""ModelRunner: a ScheduledBatch in, sampled tokens out. Owns weights, KV tensors and pruning; decides nothing."""

from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from inference_node.contract.settings import KvPrecision, Precision
from inference_node.model.backend import Store, kv_form, make_cache, why_not_native
from inference_node.model.foreign.store import ForeignStore
from inference_node.model.forward import ActivationHook, Forward, StepInputs, TokenRun, plan_step
from inference_node.model.gpu.store import GpuStore
from inference_node.model.kv_cache import KvCache
from inference_node.model.native_forward import NativeForward
from inference_node.model.native_weights import NativeStore
from inference_node.model.sampler import SampledToken, SampleRequest, pick, sample
from inference_node.model.spec import ModelSpec
from inference_node.model.weights import WeightStore
from inference_node.pruning.prune import Pruner
from inference_node.scheduling.batch import ScheduledBatch
from inference_node.scheduling.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Numerics:
    """All that decides the arithmetic of a step: the weights, the pruner or None when nothing is dropped, and how keys and values
    are kept."""

    store: Store
    pruner: Pruner | None
    kv: KvPrecision = KvPrecision.MODEL


class SideRunner:
    """Steps of any arithmetic on one thread with a KV cache of its own, beside what an engine serves. One at a time."""

    def __init__(
        self, step: Callable[[SequenceOf[TokenRun], Numerics, KvCache], Tensor], numerics: Numerics, kv: KvCache
    ) -> None:
        self._step, self._numerics = step, numerics
        self.kv = kv

    def logits(self, runs: SequenceOf[TokenRun]) -> Tensor:
        """[R, V] fp32 for the runs that sample."""
        return self._step(runs, self._numerics, self.kv)


class ModelRunner:
    """Runs steps, one at a time, on the thread that calls it."""

    # Tokens of a sequence that are computed before a batch asks for them, and whose places must be there.
    tokens_ahead = 0

    def __init__(
        self,
        spec: ModelSpec,
        store: Store,
        *,
        num_blocks: int,
        block_size: int,
        max_model_len: int,
        kv: KvPrecision = KvPrecision.MODEL,
        cpus: Collection[int] | None = None,
    ) -> None:
        """cpus: one for each thread of the native step, which then keeps to it; None leaves them where the caller runs."""
        self.spec = spec
        self._forward = Forward(spec, max_model_len) if spec.foreign is None else None
        self._numerics = Numerics(store, None, kv)
        native = why_not_native(spec) is None
        self._native = NativeForward(spec, torch.get_num_threads(), cpus=cpus) if native else None
        # Beside the engine's steps: quality is measured and thresholds are learned on one thread.
        self._native_apart = NativeForward(spec, 1) if native else None
        self.kv = make_cache(spec, store, num_blocks=num_blocks, block_size=block_size, kv=kv)

    @property
    def numerics(self) -> Numerics:
        return self._numerics

    @property
    def pruned_ratio(self) -> float:
        """Share of the layers' weights that the last step had no use for."""
        return 0.0 if self._numerics.pruner is None else self._numerics.pruner.ratio

    def switch(self, numerics: Numerics, used_blocks: list[int]) -> bool:
        """Other arithmetic from the next step on.

        Returns whether the KV changed its format; of it, only used_blocks survive that.
        """
        self._numerics = numerics
        form = kv_form(numerics.store, numerics.kv)
        if form == (self.kv.dtype, self.kv.layout):
            return False
        if self._native is not None and self._native.converts(self.kv, *form):
            self._native.convert(self.kv, form[0], used_blocks)
        else:
            self.kv.convert(*form, used_blocks)
        return True

    def warm(self, store: Store) -> None:
        """Prepares steps of all sizes with weights that do not run yet. May take seconds, beside steps."""

    def compile(self, precisions: Iterable[Precision], progress: Callable[[float], None]) -> None:
        """Compiles what steps in these formats run, without their weights, where that is done on this machine."""

    def begin(self, store: Store, kv: KvPrecision) -> None:
        """Prepares what weights beside such keys and values need to come into force within a second; steps may be slower until
        they are warm."""

    def ready_for(self, store: Store, kv: KvPrecision) -> bool:
        """Whether a switch to them would hold up no step by more than what is cached has to be converted."""
        return True

    def room_for(self, kv: KvPrecision) -> int:
        """Bytes that `begin` takes for such keys and values beside those in use; here they are converted where they lie."""
        return 0

    def warm_next(self, store: Store) -> bool:
        """Prepares one more size of step, beside steps; tenths of a second. Returns whether more are to be prepared."""
        return False

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
        sampling = [(row.sequence, seed) for row, seed in zip(batch.rows, seeds, strict=True) if row.samples]
        requests = [
            SampleRequest(sequence.sampling, sequence.tokens[sequence.num_prompt_tokens :], seed)
            for sequence, seed in sampling
        ]
        if isinstance(self._numerics.store, NativeStore):
            tokens = self._native_tokens(runs, self._numerics.store, requests)
        else:
            tokens = sample(self.logits(runs), requests)
        return [(sequence, token) for (sequence, _), token in zip(sampling, tokens, strict=True)]

    def logits(self, runs: SequenceOf[TokenRun]) -> Tensor:
        """Computes runs that no scheduler made (probe, tests): [R, V] fp32 for those that sample."""
        return self._logits(self._native, runs, self._numerics, self.kv)

    def beside(self, numerics: Numerics, num_blocks: int) -> SideRunner:
        """Steps of that arithmetic apart from the engine's; may be made and called on any thread."""
        kv = self._cache_apart(numerics.store, num_blocks, numerics.kv)
        return SideRunner(partial(self._logits, self._native_apart), numerics, kv)

    def _logits(
        self, native: NativeForward | None, runs: SequenceOf[TokenRun], numerics: Numerics, kv: KvCache
    ) -> Tensor:
        if isinstance(numerics.store, NativeStore):
            assert native is not None
            logits = native(runs, numerics.store, kv, pruner=numerics.pruner).logits
            assert logits is not None
            return logits
        assert not isinstance(numerics.store, GpuStore)
        with torch.inference_mode():
            inputs = plan_step(runs, numerics.store, kv, self.spec)
            return self._compute(inputs, numerics.store, kv, numerics.pruner)

    def logits_apart(
        self,
        tokens: SequenceOf[int],
        store: Store,
        hook: ActivationHook | None,
        *,
        every_token: bool,
        kv_precision: KvPrecision = KvPrecision.MODEL,
    ) -> Tensor:
        """Runs a text through any store with a KV cache of its own, beside what the engine serves. May be called from any thread.

        Every token attends to keys and values as the cache keeps them, its own among them.
        Returns logits [T, V] fp32, or [1, V] of the last token.
        """
        num_blocks = -(-len(tokens) // self.kv.block_size)
        kv = self._cache_apart(store, num_blocks, kv_precision)
        run = TokenRun(tokens, 0, range(num_blocks), samples=True)
        if isinstance(store, NativeStore):
            assert self._native_apart is not None
            return self._native_apart.watched(run, store, kv, hook, every_token=every_token)
        assert not isinstance(store, GpuStore)
        with torch.inference_mode():
            inputs = plan_step([run], store, kv, self.spec)
            if every_token:
                inputs = inputs.sampling_all()
            return self._compute(inputs, store, kv, hook)

    def _cache_apart(self, store: Store, num_blocks: int, kv: KvPrecision) -> KvCache:
        return make_cache(self.spec, store, num_blocks=num_blocks, block_size=self.kv.block_size, kv=kv)

    def _native_tokens(
        self, runs: SequenceOf[TokenRun], store: NativeStore, requests: SequenceOf[SampleRequest]
    ) -> list[SampledToken]:
        """Greedy answers need no logits: the step itself finds the likeliest token."""
        assert self._native is not None
        greedy = all(request.takes_likeliest for request in requests)
        found = self._native(runs, store, self.kv, pruner=self._numerics.pruner, with_logits=not greedy)
        if found.logits is not None:
            return sample(found.logits, requests)
        return [pick(token, logit) for token, logit in zip(found.tokens, found.best, strict=True)]

    def _compute(self, inputs: StepInputs, store: Store, kv: KvCache, hook: ActivationHook | None) -> Tensor:
        if isinstance(store, ForeignStore):
            assert hook is None, "a module's activations pass no hook"
            return store.forward(inputs, kv)
        assert self._forward is not None and isinstance(store, WeightStore)
        return self._forward(inputs, store, kv, hook)
