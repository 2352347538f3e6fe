"""Tomorrow is like today: the baseline that every other method must beat."""

from collections.abc import Sequence

from controlplane.forecasting.forecaster import CannotForecast, Predictor


class LastValue:
    """Repeats the newest value, or the mean of the newest `window` of them."""

    def __init__(self, window: int = 1) -> None:
        self._window = window

    @property
    def name(self) -> str:
        return "last_value" if self._window == 1 else f"last_{self._window}_mean"

    def fit(self, series: Sequence[float]) -> Predictor:
        if not series:
            raise CannotForecast("no values yet")
        return self._predict

    def _predict(self, series: Sequence[float], steps: int) -> list[float]:
        newest = series[-self._window :]
        return [max(0.0, sum(newest) / len(newest))] * steps
