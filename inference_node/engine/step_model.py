"""What the engine knows of its own speed: learned from its steps, asked before it plans the next, told to whoever decides."""

import math
import statistics
import threading
from collections.abc import Sequence

from inference_node.contract.settings import EngineSettings
from inference_node.contract.step_profile import StepArithmetic, StepProfile, StepShape, is_same_arithmetic
from inference_node.engine.kept_steps import Identity, KeptSteps
from inference_node.engine.step_fit import Measured, fit_steps
from inference_node.engine.step_track import StepTrack
from inference_node.scheduling.batch import ScheduledBatch

# A fit takes some milliseconds of another thread; the level follows each step anyway.
_REFIT_AFTER = 64
# Kept times still hold when one factor brings a check's steps this near to them; steady steps scatter by a few per cent.
_RECOGNISED = 0.25


class StepModel:
    """Step times of every arithmetic that was run here; a `StepPredictor`. Knows nothing at first.

    Thread-safe: the engine's thread observes and asks, another refits, any takes snapshots. Predictions are for the settings that
    were last given to `use` or observed.
    """

    def __init__(self, identity: Identity | None = None, settings: EngineSettings | None = None) -> None:
        self.identity = identity or Identity()
        self._lock = threading.Lock()
        self._tracks: list[StepTrack] = []
        self._settings = settings or EngineSettings()
        self._numerics = self._settings.numerics_key()
        self._current = self._track(StepArithmetic.of(self._settings))
        self._epoch = 0

    def use(self, settings: EngineSettings) -> None:
        """The settings that coming steps run under."""
        if settings is not self._settings:
            with self._lock:
                before, self._settings = self._current, settings
                self._numerics = settings.numerics_key()
                self._current = self._track(StepArithmetic.of(settings))
                self._current.borrow(before)

    # Asked ------------------------------------------------------------------------------------------------------------

    def predict_s(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> float | None:
        """As in `StepPredictor`: context_tokens are those before the step's rows that they attend to."""
        return self.predict(StepShape.of_totals(decode_rows, prefill_tokens, context_tokens))

    def predict(self, shape: StepShape) -> float | None:
        """As predict_s, for a step that is known to the row."""
        return self._current.predict(shape)

    def snapshot(self) -> StepProfile:
        """Table and fits as of now."""
        with self._lock:
            fits = [track.leveled_fit() for track in self._tracks]
            return StepProfile(
                cells=tuple(cell for track in self._tracks for cell in track.table()),
                fits=tuple(fit for fit in fits if fit is not None),
                epoch=self._epoch,
                hardware=self.identity.hardware,
                model=self.identity.model,
                engine_version=self.identity.engine_version,
            )

    def error(self) -> tuple[float, float] | None:
        """Median and 95 % quantile of the relative error of the last served steps' predictions, under the settings in use."""
        with self._lock:
            return self._current.error()

    # Told -------------------------------------------------------------------------------------------------------------

    def observe(self, shape: StepShape, step_s: float, numerics: str | None = None) -> None:
        """A step that was served. One of other numerics than those in use, of a replica that is about to change, says nothing."""
        if step_s > 0 and numerics in (None, self._numerics):  # a clock that stood still is no measurement
            with self._lock:
                self._current.learn(shape, step_s)

    def begin(self, probed: Sequence[Measured]) -> None:
        """Steps of a probe under the settings in use: the first fit."""
        with self._lock:
            for step in probed:
                self._current.learn(step.shape, step.step_s, judged=False)
        self.refit(after=1)

    def refit(self, *, after: int = _REFIT_AFTER) -> bool:
        """Fits anew what has seen `after` steps since the last time. Whether anything changed. Not for the engine's thread."""
        changed = False
        for track in list(self._tracks):
            with self._lock:
                if track.unfitted < after:
                    continue
                steps = track.steps()
            fit = fit_steps(track.arithmetic, steps)  # outside the lock: the engine goes on meanwhile
            if fit is not None:
                with self._lock:
                    track.take(fit)
                    self._epoch += 1
                changed = True
        return changed

    # Kept -------------------------------------------------------------------------------------------------------------

    def keep(self) -> KeptSteps:
        """What is worth keeping over a restart."""
        with self._lock:
            tracks = [track.keep() for track in self._tracks]
            return KeptSteps(identity=self.identity, tracks=tuple(track for track in tracks if track.steps))

    def restore(self, kept: KeptSteps) -> bool:
        """Takes over what was kept, into a model that knows nothing yet. Whether it knows the settings in use."""
        for each in kept.tracks:
            self._track(each.arithmetic).restore(each)
        self.refit(after=1)
        return self._current.fit is not None

    def recognise(self, checked: Sequence[Measured]) -> bool:
        """Whether fresh steps fit what was restored, but for one factor, which becomes the level. If not, all is forgotten."""
        expected = [(step.step_s, self.predict(step.shape)) for step in checked]
        ratios = [math.log(step_s / predicted) for step_s, predicted in expected if predicted]
        with self._lock:
            if ratios:
                level = statistics.median(ratios)
                if sum(abs(ratio - level) <= _RECOGNISED for ratio in ratios) >= 0.8 * len(ratios):
                    for track in self._tracks:
                        track.level = level
                    return True
            self._tracks = []
            self._current = self._track(StepArithmetic.of(self._settings))
            return False

    def _track(self, arithmetic: StepArithmetic) -> StepTrack:
        for track in self._tracks:
            if is_same_arithmetic(track.arithmetic, arithmetic):
                return track
        self._tracks.append(StepTrack(arithmetic))
        return self._tracks[-1]


def shape_of(batch: ScheduledBatch) -> StepShape:
    """What of a batch decides how long its step takes."""
    rows = tokens = prefills = context = pairs = 0
    for row in batch.rows:
        if row.is_decode:
            rows += 1
            context += row.start
        else:
            prefills += 1
            tokens += row.count
            pairs += row.count * row.start + row.count * row.count // 2
    return StepShape(rows, tokens, prefills, context, pairs)
