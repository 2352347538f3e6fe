"""Laboratory: measures one model's precisions, KV caches and pruning levels against full precision, beside a serving engine."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from torch import Tensor

import inference_node
from inference_node.contract.quality import QualityRecord
from inference_node.contract.settings import Precision
from inference_node.model.backend import Store, why_not_native
from inference_node.model.foreign.store import ForeignStore
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.quality import texts
from inference_node.quality.divergence import Progress, Reference, compare, look_up, num_predicted
from inference_node.quality.texts import Window

# What decides the bits of an answer; a change in any of these files voids what was measured.
_ARITHMETIC = ("kernels", "quantization", "pruning", "model", "quality")
REFERENCE = Precision.BF16


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: the model, the code and kernels that compute it, and the text as tokens."""

    model: str
    arithmetic: str
    windows: tuple[Window, ...]

    @classmethod
    def of(
        cls, runner: ModelRunner, fingerprint: str, encode: Callable[[str], Sequence[int]], longest: int
    ) -> "Subject":
        """longest: in tokens, of a sequence that the model may be shown."""
        by = "torch" if why_not_native(runner.spec) is not None else "native"
        windows = texts.windows(encode, longest=min(texts.WINDOW_TOKENS, longest))
        return cls(fingerprint, f"{metadata.version('trimtab')}-{by}-{_sources()}-{texts.digest()}", windows)

    @property
    def num_tokens(self) -> int:
        """Tokens that are predicted."""
        return num_predicted(self.windows)


class Laboratory:
    """Keeps the reference, so that full precision is needed in memory once. One measurement at a time."""

    def __init__(self, subject: Subject, runner: ModelRunner, folder: Path) -> None:
        self._subject, self._runner = subject, runner
        self._kept = folder / f"{hashlib.sha256(repr(subject).encode()).hexdigest()[:16]}.reference"
        self._reference = Reference.load(self._kept, subject.num_tokens)

    @property
    def has_reference(self) -> bool:
        return self._reference is not None

    def refer(self, store: Store, progress: Progress = lambda share: None) -> None:
        """Looks up what full precision says. Raises NotMeasurable."""
        assert store.precision is REFERENCE
        self._reference = look_up(
            self._subject.windows,
            lambda window: self._runner.logits_apart(window, store, None, every_token=True),
            progress,
        )
        with contextlib.suppress(OSError):  # the next start looks it up again
            self._reference.save(self._kept)

    def measure(
        self, numerics: Numerics, pruning_threshold: float, progress: Progress = lambda share: None
    ) -> QualityRecord:
        """Some seconds on one thread; after `refer`. Raises NotMeasurable, and what progress raises to give up."""
        assert self._reference is not None
        store, pruner = numerics.store, numerics.pruner
        assert not isinstance(store, ForeignStore), "it has no precision but the full ones"
        dropped: list[float] = []

        def predict(window: Window) -> Tensor:
            logits = self._runner.logits_apart(window, store, pruner, every_token=True, kv_precision=numerics.kv)
            dropped.append(0.0 if pruner is None else pruner.ratio * (len(window) - 1))
            return logits

        figures = compare(self._reference, self._subject.windows, predict, progress)
        return QualityRecord(
            precision=store.precision,
            kv_precision=numerics.kv,
            pruning_threshold=pruning_threshold,
            tokens=figures.tokens,
            perplexity=figures.perplexity,
            perplexity_ratio=figures.perplexity_ratio,
            perplexity_ratio_error=figures.perplexity_ratio_error,
            kl_mean=figures.kl_mean,
            kl_p99=figures.kl_p99,
            top1_agreement=figures.top1_agreement,
            kept_ratio=min(1.0, max(0.0, 1 - sum(dropped) / figures.tokens)),
            weight_bytes=store.nbytes,
            model=self._subject.model,
            arithmetic=self._subject.arithmetic,
            made_at=datetime.now(UTC),
        )


@cache
def _sources() -> str:
    digest = hashlib.sha256()
    for room in _ARITHMETIC:
        folder = Path(inference_node.__file__).parent / room
        for file in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".h", ".cpp")):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]
