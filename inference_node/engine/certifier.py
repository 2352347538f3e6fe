"""Certifier: the guard at a running engine. Makes missing records beside it, below serving in priority, and tells of them."""

from collections.abc import Callable

import structlog

from inference_node.contract.quality import NodeQuality
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.engine import hardware
from inference_node.engine.errors import SettingsRefused
from inference_node.engine.guard import QualityGuard
from inference_node.engine.reconfigure import Reconfigurer, stop_unless
from inference_node.quality.ceiling import Standing

log = structlog.get_logger("engine.quality")


class Certifier:
    """`certify` takes seconds, on a thread that ends with it; the rest is quick, on any thread."""

    def __init__(self, guard: QualityGuard, reconfigurer: Reconfigurer) -> None:
        self._guard, self._reconfigurer = guard, reconfigurer
        self._progress: float | None = None
        self._failed: set[str] = set()

    @property
    def progress(self) -> float | None:
        """Share of a measurement that is done, 0 to 1; None while there is none."""
        return self._progress

    @property
    def quality(self) -> NodeQuality:
        """Ceiling and records as of now."""
        ceiling = self._guard.ceiling
        return NodeQuality(
            max_perplexity_ratio=ceiling.max_perplexity_ratio, max_kl=ceiling.max_kl, records=self._guard.records
        )

    def admits(self, settings: EngineSettings) -> bool:
        """As the guard's: False when a record must be made first. Raises SettingsRefused."""
        return self._guard.admits(settings)

    def overrides(self, settings: EngineSettings) -> bool:
        """Whether only force brings them through."""
        return self._guard.judge(settings).standing in (Standing.FAILED, Standing.UNKNOWN)

    def wants(self, settings: EngineSettings) -> bool:
        """Whether these settings, which run, lack a record that could be made."""
        return settings.numerics_key() not in self._failed and self._guard.judge(settings).standing is Standing.UNKNOWN

    def certify(self, settings: EngineSettings, running: Precision, is_wanted: Callable[[], bool]) -> None:
        """Makes the record of settings that are ready, if none decides yet. Raises SettingsRefused when they do not pass or
        cannot be measured, Superseded as soon as is_wanted() says that nobody needs it any more."""
        if self._guard.admits(settings):
            return
        hardware.step_back()

        def tell(share: float) -> None:
            stop_unless(is_wanted)
            self._progress = share

        self._progress = 0.0
        try:
            record = self._guard.measure(
                settings,
                self._reconfigurer.numerics(settings),
                lambda: self._reconfigurer.full_precision(running),
                tell,
            )
        except SettingsRefused:
            self._failed.add(settings.numerics_key())
            raise
        finally:
            self._progress = None
        log.info(
            "quality_measured",
            precision=record.precision.value,
            kv_precision=record.kv_precision.value,
            pruning_threshold=record.pruning_threshold,
            perplexity_ratio=round(record.perplexity_ratio, 4),
            kl_mean=round(record.kl_mean, 4),
            top1_agreement=round(record.top1_agreement, 3),
        )
        self._guard.admits(settings)
