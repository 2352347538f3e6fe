"""What became of one request, as little as scoring needs, and the objectives that it is held against."""

import json
from dataclasses import dataclass
from enum import StrEnum

from inference_node.bench.load import Sample, read
from inference_node.bench.wire import AnswerMalformed, Recording
from trimtab.surge_bench.level import levels_in

_TOO_MANY = 429


class Ending(StrEnum):
    """answered: every token that was asked for came. cut_short: it ended well, with fewer. refused: the node's queue was full."""

    ANSWERED = "answered"
    CUT_SHORT = "cut_short"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Objectives:
    """Seconds: to the first token of an answer, and between two of its tokens on average."""

    ttft_s: float
    itl_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds since the run began. `due_s`: when the request was meant to be sent, which waiting counts from.

    `late_s`: by how much later the client sent it. first_s and last_s: arrival of the first and last piece of text; gaps_s:
    between pieces.
    """

    due_s: float
    ending: Ending
    late_s: float = 0.0
    tokens: int = 0
    first_s: float | None = None
    last_s: float | None = None
    levels: tuple[str, ...] = ()
    detail: str = ""
    gaps_s: tuple[float, ...] = ()

    @property
    def ttft_s(self) -> float | None:
        return None if self.first_s is None else self.first_s - self.due_s

    @property
    def gap_s(self) -> float | None:
        """Mean time between tokens; None for an answer of one."""
        if self.first_s is None or self.last_s is None or self.tokens < 2:
            return None
        return (self.last_s - self.first_s) / (self.tokens - 1)

    def meets(self, objectives: Objectives) -> bool:
        """In full, and within both objectives; an answer of one token has no gap that could be too long."""
        if self.ending is not Ending.ANSWERED or self.ttft_s is None or self.ttft_s > objectives.ttft_s:
            return False
        return self.gap_s is None or self.gap_s <= objectives.itl_s

    def tokens_by(self, at_s: float) -> float:
        """How many of its tokens had come, as if they came evenly."""
        if self.first_s is None or self.last_s is None or at_s < self.first_s:
            return 0.0
        if at_s >= self.last_s:
            return float(self.tokens)
        return 1 + (self.tokens - 1) * (at_s - self.first_s) / (self.last_s - self.first_s)


def outcome_of(recording: Recording, *, began_s: float, due_s: float, asked: int) -> Outcome:
    """began_s: of the run, on the recording's clock. due_s: since then. asked: tokens that the answer should have."""
    late_s = max(0.0, recording.started_s - began_s - due_s)
    sample = read(recording)
    if sample.error is not None:
        return Outcome(due_s, _ending(recording), late_s, detail=sample.error[:200])
    first_s, last_s = _ends(sample, recording.started_s - began_s)
    ending = Ending.ANSWERED if sample.output_tokens >= asked else Ending.CUT_SHORT
    levels, gaps_s = levels_in(sample.fingerprint), tuple(sample.gaps_s)
    return Outcome(due_s, ending, late_s, sample.output_tokens, first_s, last_s, levels, gaps_s=gaps_s)


def _ends(sample: Sample, started_s: float) -> tuple[float | None, float | None]:
    if sample.ttft_s is None:
        return None, None
    first_s = started_s + sample.ttft_s
    return first_s, first_s + sum(sample.gaps_s)


def _ending(recording: Recording) -> Ending:
    if recording.failure is not None:
        return Ending.FAILED
    try:
        answer = recording.answer()
    except AnswerMalformed:
        return Ending.FAILED
    if answer.status == _TOO_MANY:
        return Ending.REFUSED
    return Ending.CUT_SHORT if answer.status == 200 and _has_text(answer.body) else Ending.FAILED


def _has_text(body: bytes) -> bool:
    """Whether a stream that did not end as it should had begun to answer."""
    for line in body.split(b"\n"):
        try:
            document = json.loads(line.removeprefix(b"data:"))
        except ValueError:
            continue
        if isinstance(document, dict) and any(choice.get("text") for choice in document.get("choices", ())):
            return True
    return False
