"""A step's budget in time: how many rows and how long a chunk of a prompt keep every stream's next token in time."""

from dataclasses import dataclass

from inference_node.scheduling.predictor import StepPredictor

# However slow the decode rows alone are, a waiting prompt moves on by this much a step, or it would starve. One block.
LEAST_CHUNK = 16
# The predictor is right in the middle; promises are made of 95th percentiles. `bias` follows the 95th percentile of measured over
# predicted by stochastic approximation (Robbins and Monro 1951): up by 0.95 of a stride when above, down by 0.05 when below.
_QUANTILE, _STRIDE = 0.95, 0.02
_BIAS_BOUNDS = (0.25, 4.0)
# Changes of the limit below this are noise.
_HYSTERESIS = 0.05


@dataclass(slots=True)
class StepBudget:
    """Feed-forward from the predictor, corrected by what steps really took. Without a target or a predictor it limits nothing."""

    target_s: float
    predictor: StepPredictor | None
    bias: float = 1.0
    _limit: int | None = None

    @property
    def is_on(self) -> bool:
        return self.target_s > 0 and self.predictor is not None

    def predict_s(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> float | None:
        """95th percentile of such a step, as far as is known."""
        if self.predictor is None:
            return None
        predicted = self.predictor.predict_s(decode_rows, prefill_tokens, context_tokens)
        return None if predicted is None else self.bias * predicted

    def chunk(self, decode_rows: int, context_tokens: int, most: int) -> int:
        """Prompt tokens, at most `most`, that may share a step with these decode rows: in time, in whole LEAST_CHUNKs.

        A step without decode rows delays nobody's next token and is not limited.
        """
        if not self.is_on or decode_rows == 0 or most <= LEAST_CHUNK:
            return most
        if self._fits(decode_rows, most, context_tokens):
            return most
        low, high = 1, -(-most // LEAST_CHUNK)  # in chunks: `low` is taken in any case, `high` does not fit
        while high - low > 1:
            middle = (low + high) // 2
            if self._fits(decode_rows, middle * LEAST_CHUNK, context_tokens):
                low = middle
            else:
                high = middle
        return low * LEAST_CHUNK

    def rows(self, low: int, high: int, context_per_row: float) -> int:
        """The largest batch in low .. high whose decode step is in time; `low` when none is."""
        if not self.is_on or self._fits(high, 0, int(high * context_per_row)):
            self._limit = None
            return high
        lower, upper = low, high  # `lower` is taken in any case, `upper` does not fit
        while upper - lower > 1:
            middle = (lower + upper) // 2
            if self._fits(middle, 0, int(middle * context_per_row)):
                lower = middle
            else:
                upper = middle
        last = self._limit
        if last is None or not low <= last <= high or abs(lower - last) > _HYSTERESIS * last:
            self._limit = lower
        assert self._limit is not None
        return self._limit

    def learn(self, decode_rows: int, prefill_tokens: int, context_tokens: int, step_s: float) -> None:
        """A step of that shape took so long."""
        if self.predictor is None:
            return
        predicted = self.predictor.predict_s(decode_rows, prefill_tokens, context_tokens)
        if predicted is None or predicted <= 0:
            return
        above = step_s > self.bias * predicted
        self.bias += _STRIDE * self.bias * (_QUANTILE if above else _QUANTILE - 1)
        self.bias = min(max(self.bias, _BIAS_BOUNDS[0]), _BIAS_BOUNDS[1])

    def _fits(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> bool:
        predicted = self.predict_s(decode_rows, prefill_tokens, context_tokens)
        return predicted is None or predicted <= self.target_s
