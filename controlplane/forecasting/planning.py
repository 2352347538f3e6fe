"""What load a forecast asks a pool to be fit for, and what load then came: the two sides that a decision's cost is made of."""

from collections.abc import Sequence

from controlplane.forecasting.forecaster import Forecast
from controlplane.forecasting.projection import lasting_q90

# A load that lasted over so many windows counts; a single window of few arrivals is chance.
LASTING_WINDOWS = 3
_BEYOND_SEEN = 1.5


def likely_rps(forecast: Forecast) -> float:
    """The highest median ahead."""
    return max(point.q50 for point in forecast.points)


def planned_rps(forecast: Forecast, window_s: float, highest_rps: float) -> float:
    """The 90 % quantile of the load that lasts, at its highest.

    It counts up to half again the highest load in sight: after a jump the band expects another of its size, for which one jump
    is thin evidence.
    """
    likely = likely_rps(forecast)
    upper = max(lasting_q90(point, window_s) for point in forecast.points)
    return max(likely, min(upper, _BEYOND_SEEN * max(likely, highest_rps)))


def lasting_rps(rates: Sequence[float]) -> float:
    """The highest mean of so many windows in a row as count; of all where there are fewer. Raises ValueError for none."""
    if not rates:
        raise ValueError("no load to take a mean of")
    width = min(LASTING_WINDOWS, len(rates))
    return max(sum(rates[i : i + width]) / width for i in range(len(rates) - width + 1))
