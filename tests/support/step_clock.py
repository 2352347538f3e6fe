"""Step times that follow a formula: the truth that a scheduler is tried against, and a predictor that knows it."""

from dataclasses import dataclass

from inference_node.scheduling.batch import ScheduledBatch


@dataclass(frozen=True, slots=True)
class StepClock:
    """A step takes fixed + rows + prompt tokens + context, each at its price in seconds. Is a `StepPredictor`."""

    fixed_s: float = 0.010
    row_s: float = 0.001
    prompt_token_s: float = 0.0005
    context_token_s: float = 0.0

    def predict_s(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> float | None:
        return (
            self.fixed_s
            + self.row_s * decode_rows
            + self.prompt_token_s * prefill_tokens
            + self.context_token_s * context_tokens
        )

    def of(self, batch: ScheduledBatch) -> float:
        seconds = self.predict_s(batch.num_decode_rows, batch.num_prefill_tokens, batch.context_tokens)
        assert seconds is not None
        return seconds


class KnowsNothing:
    """A predictor that has measured nothing yet."""

    def predict_s(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> float | None:
        return None
