"""Whether a streamed answer is whole: every token once and in order, as numbered by the server's running usage."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Self

from inference_node.bench.wire import AnswerMalformed, Recording


@dataclass(slots=True)
class StreamTruth:
    """What one stream showed. `tokens` are (arrival on time.perf_counter, number of the token, numerics) as they came."""

    started_s: float
    asked_tokens: int
    tokens: list[tuple[float, int, str]] = field(default_factory=list)
    finish_reason: str | None = None
    usage_tokens: int | None = None
    error: str | None = None

    @classmethod
    def of(cls, recording: Recording, asked_tokens: int) -> Self:
        truth = cls(recording.started_s, asked_tokens, error=recording.failure)
        if recording.failure is None:
            try:
                truth._read(recording)
            except (AnswerMalformed, ValueError, KeyError, TypeError, AttributeError) as error:
                truth.error = f"{type(error).__name__}: {error}"
        return truth

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def truncated(self) -> bool:
        """It ended in good order, but not with the tokens that were asked for."""
        highest = max((number for _, number, _ in self.tokens), default=0)
        whole = highest >= self.asked_tokens and self.usage_tokens == self.asked_tokens
        return not self.failed and not (whole and self.finish_reason == "length")

    @property
    def duplicated(self) -> int:
        """Tokens that came again, or beyond those asked for."""
        numbers = [number for _, number, _ in self.tokens]
        return len(numbers) - len({number for number in numbers if number <= self.asked_tokens})

    @property
    def lost(self) -> int:
        """Numbers that were skipped before the last one that came."""
        numbers = {number for _, number, _ in self.tokens}
        return max(numbers, default=0) - len(numbers)

    @property
    def disordered(self) -> bool:
        numbers = [number for _, number, _ in self.tokens]
        return numbers != sorted(numbers)

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """(arrival, seconds since the token before)."""
        times = [at for at, _, _ in self.tokens]
        return [(at, at - before) for before, at in itertools.pairwise(times)]

    def _read(self, recording: Recording) -> None:
        answer = recording.answer()
        if answer.status != 200:
            self.error = f"{answer.status}: {answer.body[:200].decode(errors='replace')}"
            return
        for at, data in answer.events():
            if data == b"[DONE]":
                continue
            document = json.loads(data)
            if "error" in document:
                self.error = str(document["error"].get("message", document["error"]))
                return
            number = document["usage"]["completion_tokens"]
            if not document["choices"]:
                self.usage_tokens = number
                continue
            self.tokens.append((at, number, document["system_fingerprint"]))
            self.finish_reason = document["choices"][0]["finish_reason"] or self.finish_reason
        if self.finish_reason is None:
            self.error = "the stream ended without a finish_reason"
