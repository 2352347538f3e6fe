"""ServedText: of what an engine served, the few sequences that are to be scored again, for as long as that takes.

Texts of clients are held here in memory only, while a watch is on, at most `_ROOM` of them and of each its last 256 tokens. They
are forgotten with their score, and all of them with the end of the watch; nothing here is written, logged or sent.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence

from inference_node.contract.served import LENGTH_CLASSES, AnswerMix, ServedWatch
from inference_node.quality.texts import WINDOW_TOKENS, Window

# Sequences that wait for their score. More would be scored minutes after they were served, under a watch that may be over.
_ROOM = 16


class ServedText:
    """`finished` is for the engine's thread and takes microseconds; the rest is for any thread."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._lock = threading.Lock()
        self._watch: ServedWatch | None = None
        self._waiting: deque[Window] = deque()
        self._taken = 0
        self._stopped = self._cut = 0
        self._lengths = [0] * LENGTH_CLASSES

    @property
    def mix(self) -> AnswerMix:
        """Of the answers since the last `begin`."""
        with self._lock:
            return AnswerMix(stopped=self._stopped, cut=self._cut, lengths=tuple(self._lengths))

    def begin(self, watch: ServedWatch | None) -> AnswerMix:
        """Counts anew from now on, for this watch or for none. Forgets all that waits. Returns the mix of answers until now."""
        before = self.mix
        self.close()
        with self._lock:
            self._watch, self._taken = watch, 0
            self._stopped = self._cut = 0
            self._lengths = [0] * LENGTH_CLASSES
        return before

    def close(self) -> None:
        """The watch is over: what waits is forgotten. Answers are counted on."""
        with self._lock:
            self._watch = None
            self._waiting.clear()

    def finished(self, tokens: Sequence[int], num_generated: int, *, cut: bool) -> None:
        """An answer is complete: `tokens` are its prompt and itself. Until `least` are there each is taken, then a share."""
        with self._lock:
            self._stopped += not cut
            self._cut += cut
            self._lengths[min(max(num_generated, 1).bit_length(), LENGTH_CLASSES) - 1] += 1
            watch = self._watch
            if watch is None or self._taken >= watch.most or len(self._waiting) >= _ROOM or len(tokens) < 2:
                return
            if self._taken < watch.least or self._draw() < watch.share:
                self._taken += 1
                self._waiting.append(tuple(tokens[-WINDOW_TOKENS:]))

    def take(self) -> Window | None:
        """The sequence that has waited longest, which is then forgotten here; None when none waits."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None
