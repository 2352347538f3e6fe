"""QualityGuard: settings that change the arithmetic come into force only with a record that their answers are good enough."""

from collections.abc import Callable, Sequence
from pathlib import Path

from inference_node.config import NodeConfig
from inference_node.contract.messages import RejectCode
from inference_node.contract.quality import FULL_PRECISIONS, QualityRecord, StepTimeRatio
from inference_node.contract.settings import EngineSettings, KvPrecision
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.pruning_speed import time_pruned_steps
from inference_node.model.backend import Store
from inference_node.model.runner import ModelRunner, Numerics
from inference_node.quality.ceiling import Ceiling, Judgement, Standing, judge
from inference_node.quality.divergence import NotMeasurable, Progress
from inference_node.quality.laboratory import Laboratory, Subject
from inference_node.quality.records import QualityRecords

# Of a measurement's progress, looking up the reference is this share where it has to be done.
_REFERENCE_SHARE = 0.5
# And the timing of pruned steps this one.
_SPEED_SHARE = 0.1

# Times ready numerics, telling its progress.
Stopwatch = Callable[[Numerics, Progress], tuple[StepTimeRatio, ...]]


class QualityGuard:
    """Judges by the node's records, and makes those that are missing. `measure` takes seconds, the rest is quick; any thread."""

    def __init__(
        self, ceiling: Ceiling, records: QualityRecords, laboratory: Laboratory, stopwatch: Stopwatch = lambda *_: ()
    ) -> None:
        self.ceiling = ceiling
        self._records, self._laboratory, self._stopwatch = records, laboratory, stopwatch

    @classmethod
    def of(
        cls,
        config: NodeConfig,
        runner: ModelRunner,
        fingerprint: str,
        encode: Callable[[str], Sequence[int]],
        *,
        longest: int,
        folder: Path | None = None,
    ) -> "QualityGuard":
        """For one model. longest: tokens that one sequence may have; folder: of the records, by default in the node's own."""
        kept = folder or config.data_dir / "quality"
        subject = Subject.of(runner, fingerprint, encode, longest)
        return cls(
            Ceiling(config.max_perplexity_ratio, config.max_kl),
            QualityRecords(kept / f"{fingerprint}.json", model=fingerprint, arithmetic=subject.arithmetic),
            Laboratory(subject, runner, kept),
            lambda numerics, progress: time_pruned_steps(runner, numerics, longest, progress),
        )

    @property
    def records(self) -> tuple[QualityRecord, ...]:
        return self._records.all

    def judge(self, settings: EngineSettings) -> Judgement:
        return judge(settings, self._records.all, self.ceiling)

    def admits(self, settings: EngineSettings) -> bool:
        """Whether a record lets them through; False when one must be made first. Raises SettingsRefused when one forbids them."""
        found = self.judge(settings)
        if found.standing is Standing.FAILED:
            assert found.record is not None
            raise self._refusal(settings, found.record)
        return found.standing is not Standing.UNKNOWN

    def measure(
        self,
        settings: EngineSettings,
        numerics: Numerics,
        reference: Callable[[], Store],
        progress: Progress = lambda share: None,
    ) -> QualityRecord:
        """Makes and keeps the record of settings that are ready. `reference` gives bf16 weights, where they are needed still.

        Raises SettingsRefused when nothing can be measured, and what progress raises to give up.
        """
        begun, timed = 0.0, _SPEED_SHARE if settings.pruning_threshold > 0 else 0.0
        try:
            if not self._laboratory.has_reference:
                begun = _REFERENCE_SHARE
                self._laboratory.refer(reference(), lambda share: progress(begun * share))
            record = self._laboratory.measure(
                numerics, settings.pruning_threshold, lambda share: progress(begun + (1 - timed - begun) * share)
            )
        except NotMeasurable as error:
            raise SettingsRefused(
                RejectCode.QUALITY,
                _knob(settings),
                f"{_name(settings)} cannot be compared with full precision: {error}",
            ) from None
        # One that the ceiling refuses is never proposed, so its speed is of no interest.
        if settings.pruning_threshold > 0 and not self.ceiling.complaint(record):
            times = self._stopwatch(numerics, lambda share: progress(1 - _SPEED_SHARE * (1 - share)))
            record = record.model_copy(update={"step_times": times})
        self._records.add(record)
        return record

    def _refusal(self, settings: EngineSettings, record: QualityRecord) -> SettingsRefused:
        measured = settings.replace(kv_precision=record.kv_precision, pruning_threshold=record.pruning_threshold)
        at = f" already as {_name(measured)}" if _name(measured) != _name(settings) else ""
        return SettingsRefused(
            RejectCode.QUALITY,
            _knob(settings),
            f"{_name(settings)} is below this node's quality ceiling{at}: {self.ceiling.complaint(record)} (measured on "
            f"{record.tokens} held-out tokens, see `trimtab bench quality`). Choose a milder level, raise "
            "NODE_MAX_PERPLEXITY_RATIO or NODE_MAX_KL, or push with force.",
        )


def _knob(settings: EngineSettings) -> str:
    """The one that takes most from answers, of those that are not at their best."""
    if settings.pruning_threshold > 0:
        return "pruning_threshold"
    return "precision" if settings.precision not in FULL_PRECISIONS else "kv_precision"


def _name(settings: EngineSettings) -> str:
    pruned = f" pruned by {settings.pruning_threshold:g}" if settings.pruning_threshold > 0 else ""
    narrowed = "" if settings.kv_precision is KvPrecision.MODEL else f" with {settings.kv_precision} keys and values"
    return f"{settings.precision}{narrowed}{pruned}"
