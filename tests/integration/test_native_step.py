"""The native step against transformers, against torch's own path, and against itself in other company."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from inference_node.contract.settings import KvPrecision, Precision
from inference_node.kernels.native.build import NativeUnavailable
from inference_node.kernels.native.library import load
from inference_node.model import weights
from inference_node.model.backend import build, describe, make_cache
from inference_node.model.checkpoint import Checkpoint
from inference_node.model.forward import TokenRun
from inference_node.model.kv_cache import KvCache, KvLayout
from inference_node.model.native_forward import NativeForward
from inference_node.model.native_weights import NativeStore
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.pruning.observe import Observer
from inference_node.pruning.prune import Pruner
from tests.support.models import oracle_logits, save_tiny_model

SHAPES = (
    "llama-native",
    "llama-native-tied-deep",
    "llama-native-biases",
    "llama-native-yarn",
    "qwen3-native",
    "mistral-native-window",
    "glm-native",
    "glm4-native",
    "gemma3-native",
    "gemma3-native-softcap",
)
KV = (KvPrecision.MODEL, KvPrecision.INT8)
PRECISIONS = (Precision.BF16, Precision.INT8, Precision.INT4)
TOKENS = torch.randint(0, 256, (150,), generator=torch.Generator().manual_seed(1)).tolist()
SLOW_SETUP = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

pytestmark = pytest.mark.skipif(isinstance(load(), NativeUnavailable), reason=f"no native kernels here: {load()}")


class Native:
    """One tiny model in one precision, and what the tests ask of it."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        self.folder, self.spec = folder, describe(folder)
        store = build(Checkpoint.open(folder), self.spec, precision)
        assert isinstance(store, NativeStore)
        self.store = store

    def logits(
        self,
        chunks: Sequence[int],
        *,
        threads: int = 2,
        use_amx: bool = True,
        block_size: int = 32,
        pruner: Pruner | None = None,
        beside: int = 0,
        kv: KvPrecision = KvPrecision.MODEL,
        walk_above: float | None = None,
    ) -> Tensor:
        """Logits of every token of TOKENS, computed in chunks, each next to `beside` rows of another sequence."""
        forward = NativeForward(self.spec, threads, use_amx=use_amx, walk_above=walk_above)
        cache = make_cache(self.spec, self.store, num_blocks=64, block_size=block_size, kv=kv)
        rows: list[Tensor] = []
        start = 0
        for count in chunks:
            run = TokenRun(TOKENS[start : start + count], start, range(20), samples=True)
            others = [TokenRun([7] * beside, 0, range(30, 60), samples=True)] if beside else []
            found = forward([run, *others], self.store, cache, every_token=True, pruner=pruner).logits
            assert found is not None
            rows.append(found[:count])
            start += count
        return torch.cat(rows)


@pytest.fixture(scope="module", params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("native"), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Native]:
    path = save_tiny_model(tmp_path_factory.mktemp("native"), "llama-native-tied-deep")
    return {precision: Native(path, precision) for precision in PRECISIONS}


@pytest.fixture(scope="module", params=["llama-native-tied-deep", "glm4-native", "gemma3-native"])
def various(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Native]:
    """Norms where they are in Llama, and behind what is summed, with and without windows."""
    path = save_tiny_model(tmp_path_factory.mktemp("native"), request.param)
    return {precision: Native(path, precision) for precision in PRECISIONS}


@pytest.fixture(autouse=True)
def _few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def similarity(found: Tensor, expected: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(found, expected, dim=-1).min())


class TestAgainstTransformers:
    @pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.99), ("int4", 0.75)])
    def test_logits_follow_fp32(self, folder: Path, precision: str, least: float) -> None:
        """By mean cosine over 150 tokens of a random model, which is rougher ground than a trained one."""
        found = Native(folder, Precision(precision)).logits([len(TOKENS)])
        expected = oracle_logits(folder, TOKENS, torch.float32)
        assert torch.nn.functional.cosine_similarity(found, expected, dim=-1).mean() > least

    @pytest.mark.parametrize("kv", KV)
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_without_amx_the_same_bits(self, folder: Path, precision: Precision, kv: KvPrecision) -> None:
        """So that nodes of different ages in one fleet give the same answers."""
        native = Native(folder, precision)
        chunks = [37, 1, 112]
        assert torch.equal(native.logits(chunks, use_amx=False, kv=kv), native.logits(chunks, kv=kv))

    def test_keys_and_values_in_eight_bits_cost_little(self, folder: Path) -> None:
        """The furthest token's logits turn no further than twice what bf16 arithmetic turns them by."""
        native = Native(folder, Precision.BF16)
        wide = native.logits([len(TOKENS)])
        narrow = native.logits([len(TOKENS)], kv=KvPrecision.INT8)
        assert not torch.equal(narrow, wide)
        rounded = math.acos(similarity(wide, oracle_logits(folder, TOKENS, torch.float32)))
        assert math.acos(similarity(narrow, wide)) < 2 * rounded


class TestRowsStandAlone:
    @pytest.mark.parametrize(
        ("precision", "kv"), [*((p, KV[0]) for p in PRECISIONS), (Precision.INT8, KvPrecision.INT8)]
    )
    @SLOW_SETUP
    @given(data=st.data())
    def test_chunks_company_threads_and_blocks_change_no_bit(
        self, various: dict[Precision, Native], precision: Precision, kv: KvPrecision, data: st.DataObject
    ) -> None:
        chunks: list[int] = []
        while (left := len(TOKENS) - sum(chunks)) > 0:
            chunks.append(data.draw(st.integers(1, min(left, 70))))
        found = various[precision].logits(
            chunks,
            threads=data.draw(st.integers(1, 3)),
            block_size=data.draw(st.sampled_from([16, 32])),
            beside=data.draw(st.integers(0, 40)),
            kv=kv,
        )
        assert torch.equal(found, various[precision].logits([len(TOKENS)], kv=kv))

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_nor_do_they_where_weights_lie_to_one_side(self, precision: Precision, tmp_path: Path) -> None:
        """Zeros, factors and steps take other values there."""
        folder = save_tiny_model(tmp_path, "llama-native")
        file = folder / "model.safetensors"
        draw = torch.Generator().manual_seed(5)
        skewed = {}
        for name, weight in load_file(file).items():
            aside = (
                torch.randn(weight.shape[0], 1, generator=draw) * 2 * weight.float().std() if weight.ndim == 2 else 0
            )
            skewed[name] = (weight.float() + aside).to(weight.dtype)
        save_file(skewed, file, metadata={"format": "pt"})
        native = Native(folder, precision)
        assert torch.equal(native.logits([1] * len(TOKENS)), native.logits([len(TOKENS)]))

    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_what_is_skipped_is_what_would_have_been_zero(
        self, various: dict[Precision, Native], precision: Precision
    ) -> None:
        """One row walks along the inputs that are left; many rows multiply by zeros."""
        native = various[precision]
        pruner = Pruner(torch.tensor([0.8, 0.1, 0.8, 0.3]).expand(native.spec.num_layers, -1))
        alone = native.logits([1] * len(TOKENS), pruner=pruner, walk_above=1.0)
        share = pruner.ratio
        for above in (0.0, 0.5):  # all inputs, or those of some matrices
            assert torch.equal(alone, native.logits([1] * len(TOKENS), pruner=pruner, walk_above=above))
        assert torch.equal(alone, native.logits([len(TOKENS)], pruner=pruner))
        assert 0.2 < share < 0.9
        assert not torch.equal(alone, native.logits([len(TOKENS)]))


class TestLikeliestToken:
    @pytest.mark.parametrize("precision", PRECISIONS)
    def test_it_is_the_largest_logit(self, llama: dict[Precision, Native], precision: Precision) -> None:
        native = llama[precision]
        forward = NativeForward(native.spec, 2)
        cache = make_cache(native.spec, native.store, num_blocks=8, block_size=32)
        run = TokenRun(TOKENS, 0, range(8), samples=True)
        found = forward([run], native.store, cache, every_token=True)
        assert found.logits is not None
        assert found.tokens == found.logits.argmax(-1).tolist()
        assert found.best == found.logits.amax(-1).tolist()

    def test_of_equals_the_first(self, tmp_path: Path) -> None:
        native = Native(zero_model(tmp_path, 0.0), Precision.BF16)
        found = NativeForward(native.spec, 3)(
            [TokenRun([1, 2], 0, [0], samples=True)],
            native.store,
            make_cache(native.spec, native.store, num_blocks=1, block_size=32),
            with_logits=False,
        )
        assert (found.tokens, found.best, found.logits) == ([0], [0.0], None)

    def test_no_number_is_said_to_be_none(self, tmp_path: Path) -> None:
        native = Native(zero_model(tmp_path, float("nan")), Precision.BF16)
        cache = make_cache(native.spec, native.store, num_blocks=1, block_size=32)
        found = NativeForward(native.spec, 2)([TokenRun([1], 0, [0], samples=True)], native.store, cache)
        assert math.isnan(found.best[0])


class TestRunner:
    def test_fp32_takes_over_what_bf16_has_cached_and_back(self, tmp_path: Path) -> None:
        """The cache changes its form for running sequences, and only its rounding shows."""
        folder = save_tiny_model(tmp_path, "llama-native")
        spec, checkpoint = describe(folder), Checkpoint.open(folder)
        native = build(checkpoint, spec, Precision.BF16)
        exact = weights.build(checkpoint, spec, Precision.FP32)
        expected = oracle_logits(folder, TOKENS, torch.float32)
        runner = ModelRunner(spec, native, num_blocks=16, block_size=32, max_model_len=512)
        blocks = [3, 1, 9, 4, 7]
        runner.logits([TokenRun(TOKENS[:60], 0, blocks, samples=True)])
        assert runner.switch(Numerics(exact, None), blocks)
        middle = runner.logits([TokenRun(TOKENS[60:100], 60, blocks, samples=True)])
        assert runner.switch(Numerics(native, None), blocks)
        last = runner.logits([TokenRun(TOKENS[100:], 100, blocks, samples=True)])
        assert similarity(middle, expected[99:100]) > 0.995
        assert similarity(last, expected[149:150]) > 0.995

    def test_running_sequences_narrow_their_cache_and_widen_it_again(self, llama: dict[Precision, Native]) -> None:
        """What was cached is taken over by either form as the kernels themselves would have written it."""
        native = llama[Precision.INT8]
        runner = ModelRunner(native.spec, native.store, num_blocks=16, block_size=32, max_model_len=512)
        blocks = [3, 1, 9, 4, 7]
        runner.logits([TokenRun(TOKENS[:60], 0, blocks, samples=True)])
        assert runner.switch(Numerics(native.store, None, KvPrecision.INT8), blocks)
        assert runner.kv.dtype == torch.int8
        middle = runner.logits([TokenRun(TOKENS[60:100], 60, blocks, samples=True)])
        assert not runner.switch(Numerics(native.store, None, KvPrecision.INT8), blocks)
        assert runner.switch(Numerics(native.store, None), blocks)
        last = runner.logits([TokenRun(TOKENS[100:], 100, blocks, samples=True)])
        expected = native.logits([len(TOKENS)])
        assert similarity(middle, expected[99:100]) > 0.995
        assert similarity(last, expected[149:150]) > 0.995

    @pytest.mark.parametrize("block_size", [16, 32])
    def test_the_kernels_and_a_conversion_narrow_alike(self, llama: dict[Precision, Native], block_size: int) -> None:
        """The first layer's keys and values do not depend on how they are kept.

        Each form is half a step from what it was made of, and a conversion is made of bf16, a quarter of a step off at most.
        """
        native = llama[Precision.BF16]
        blocks, filled = list(range(10)), len(TOKENS) // block_size
        found = []
        for kv in KV:
            runner = ModelRunner(
                native.spec, native.store, num_blocks=10, block_size=block_size, max_model_len=160, kv=kv
            )
            runner.logits([TokenRun(TOKENS, 0, blocks, samples=True)])
            runner.switch(Numerics(native.store, None, KvPrecision.INT8), blocks)
            runner.kv.convert(torch.float32, KvLayout.ROWS, blocks)
            found.append(runner.kv.pages[0][:filled].clone())
        converted, written = found
        step = written.abs().amax(-1, keepdim=True) / 127
        assert ((converted - written).abs() <= 1.3 * step).all()
        assert (step > 0).all()

    @pytest.mark.parametrize("block_size", [16, 32])
    def test_the_kernels_convert_as_torch_does(self, llama: dict[Precision, Native], block_size: int) -> None:
        """There and back, for some blocks of many: the same bits, and the other blocks are empty."""
        native, blocks = llama[Precision.BF16], list(range(10))
        used = [1, 2, 5, 8]

        def filled() -> tuple[NativeForward, KvCache]:
            forward = NativeForward(native.spec, 3)
            cache = make_cache(native.spec, native.store, num_blocks=10, block_size=block_size)
            forward([TokenRun(TOKENS, 0, blocks, samples=True)], native.store, cache)
            return forward, cache

        forward, mine = filled()
        _, theirs = filled()
        for dtype in (torch.int8, torch.bfloat16):
            assert forward.converts(mine, dtype, KvLayout.TILES)
            forward.convert(mine, dtype, used)
            theirs.convert(dtype, KvLayout.TILES, used)
            assert torch.equal(mine.pages, theirs.pages) and mine.pages.any()
        assert not forward.converts(mine, torch.float32, KvLayout.ROWS)

    def test_int8_and_int4_are_one_store(self, tmp_path: Path) -> None:
        folder = save_tiny_model(tmp_path, "llama-native")
        spec, checkpoint = describe(folder), Checkpoint.open(folder)
        eight = build(checkpoint, spec, Precision.INT8)
        four = build(checkpoint, spec, Precision.INT4, resident=[eight])
        assert isinstance(eight, NativeStore) and isinstance(four, NativeStore)
        assert four.weights is eight.weights and four.nbytes < eight.nbytes
        built = Native(folder, Precision.INT4)
        runner = ModelRunner(spec, four, num_blocks=8, block_size=32, max_model_len=256)
        assert torch.equal(runner.logits_apart(TOKENS, four, None, every_token=True), built.logits([len(TOKENS)]))

    def test_an_observer_sees_what_the_torch_path_shows(self, tmp_path: Path) -> None:
        """Each site's activations, within bf16 rounding of what went before."""
        folder = save_tiny_model(tmp_path, "llama-native")
        spec, checkpoint = describe(folder), Checkpoint.open(folder)
        native = build(checkpoint, spec, Precision.BF16)
        exact = weights.build(checkpoint, spec, Precision.FP32)
        tables = []
        for store in (native, exact):
            runner = ModelRunner(spec, store, num_blocks=8, block_size=32, max_model_len=256)
            observer = Observer(spec.num_layers)
            runner.logits_apart(TOKENS, store, observer, every_token=False)
            tables.append(observer.quantiles())
        torch.testing.assert_close(*tables, rtol=0.1, atol=0.02)


def zero_model(folder: Path, head: float) -> Path:
    """A model whose logits are all the same: zero, or no number."""
    save_tiny_model(folder, "llama-native")
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"].fill_(head)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.INT4])
def test_what_no_grid_can_hold_is_no_number_in_any_company(precision: Precision, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path, "llama-native")
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"] = weights["model.norm.weight"].float() * 1e32
    save_file(weights, file, metadata={"format": "pt"})
    native = Native(folder, precision)
    alone, together = native.logits([1] * len(TOKENS)), native.logits([len(TOKENS)])
    assert alone.isnan().all() and together.isnan().all()
