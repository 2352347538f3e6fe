"""Step times foreseen from the measured table: straight lines between its cells."""

from bisect import bisect_left
from collections.abc import Iterable

from inference_node.contract.settings import Precision
from inference_node.engine.profile import StepTimes

# Asked this often, the table is read anew: its medians move slowly, and taking them costs a third of a millisecond.
_REFRESH_CALLS = 2048

_Line = tuple[tuple[float, ...], tuple[float, ...]]


class TablePredictor:
    """A `StepPredictor` over `StepTimes`. Knows nothing of context; the steps it has measured had that of real requests.

    A step with both kinds of row costs their sum less what they share, the pass over the weights: taken as the cheapest step.
    """

    def __init__(self, times: StepTimes, precision: Precision) -> None:
        self._times = times
        self._precision = precision
        self._calls = 0
        self._decode: _Line = ((), ())
        self._prefill: _Line = ((), ())

    def use(self, precision: Precision) -> None:
        """Speak of this precision from now on."""
        self._precision, self._calls = precision, 0

    def predict_s(self, decode_rows: int, prefill_tokens: int, context_tokens: int) -> float | None:
        """As in `StepPredictor`; None until both kinds of step were measured at two sizes, or at the one asked for."""
        if self._calls % _REFRESH_CALLS == 0:
            self._read()
        self._calls += 1
        decode = _at(self._decode, decode_rows) if decode_rows else 0.0
        prefill = _at(self._prefill, prefill_tokens) if prefill_tokens else 0.0
        if decode is None or prefill is None:
            return None
        if not (decode_rows and prefill_tokens):
            return decode + prefill
        return max(decode, prefill, decode + prefill - min(self._decode[1][0], self._prefill[1][0]))

    def _read(self) -> None:
        cells = [cell for cell in self._times.snapshot().cells if cell.precision is self._precision]
        self._decode = _line((cell.decode_rows, cell.step_s) for cell in cells if cell.prefill_tokens == 0)
        self._prefill = _line((cell.prefill_tokens, cell.step_s) for cell in cells if cell.decode_rows == 0)


def _line(points: Iterable[tuple[int, float]]) -> _Line:
    """Rising in both: a cell that was measured below a smaller one's time is noise."""
    sizes: list[float] = []
    times: list[float] = []
    for size, step_s in sorted(points):
        sizes.append(float(size))
        times.append(max(step_s, times[-1]) if times else step_s)
    return tuple(sizes), tuple(times)


def _at(line: _Line, size: float) -> float | None:
    sizes, times = line
    if not sizes:
        return None
    place = bisect_left(sizes, size)
    if place < len(sizes) and sizes[place] == size:
        return times[place]
    if len(sizes) < 2:
        return None
    if place == 0:  # smaller than the smallest that was measured
        return times[0]
    place = min(place, len(sizes) - 1)  # beyond the largest, the last stretch goes on
    slope = (times[place] - times[place - 1]) / (sizes[place] - sizes[place - 1])
    return times[place - 1] + slope * (size - sizes[place - 1])
