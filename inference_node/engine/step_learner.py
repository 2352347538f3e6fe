"""Keeps a StepModel up to date beside the engine: fits anew what was learned, and puts it on disk now and then."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from inference_node.engine.kept_steps import load_steps, save_steps
from inference_node.engine.step_fit import Measured
from inference_node.engine.step_model import StepModel
from inference_node.engine.step_probe import CHECKS, STEPS, ProbedStep

_LOOKS_EVERY_S = 1.0
# A killed node loses at most what it learned in this time; the probe and the level make up for most of it.
_SAVES_EVERY_S = 60.0
_PROBE_S, _CHECK_S = 2.0, 0.4

# (steps, seconds to spend) to what was measured.
Probe = Callable[[tuple[ProbedStep, ...], float], Sequence[Measured]]

log = logging.getLogger(__name__)


class StepLearner:
    """One thread of its own, asleep most of the time. `begin`, then `start`, then `stop`."""

    def __init__(self, model: StepModel, folder: Path) -> None:
        self.model = model
        self._folder = folder
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._saved_s = time.monotonic()
        self._unsaved = False

    def begin(self, probe: Probe) -> None:
        """The first knowledge: what an earlier run kept, if a short check finds it still true, else a full probe."""
        kept = load_steps(self._folder, self.model.identity)
        if kept is not None and self.model.restore(kept) and self.model.recognise(probe(CHECKS, _CHECK_S)):
            return
        self.model.begin(probe(STEPS, _PROBE_S))
        self._unsaved = True

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="step-times", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Saves what was learned and ends the thread; again does nothing."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopped.wait(_LOOKS_EVERY_S):
            self._unsaved |= self.model.refit()
            if self._unsaved and time.monotonic() - self._saved_s >= _SAVES_EVERY_S:
                self._save()
        self._unsaved |= self.model.refit(after=1)
        if self._unsaved:
            self._save()

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        try:
            save_steps(self._folder, self.model.keep())
        except OSError as error:  # a full disk must not stop a node that serves: it probes again at its next start
            log.warning("step times could not be kept in %s: %s", self._folder, error)
        else:
            self._unsaved = False
