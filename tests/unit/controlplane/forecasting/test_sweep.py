"""Predictors that answer for many origins in one pass say what they say for each."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from controlplane.forecasting.arima import Arima
from controlplane.forecasting.forecaster import CannotForecast, Forecaster, predictions
from controlplane.forecasting.holt_winters import HoltWinters
from controlplane.forecasting.quantile_line import QuantileLine


@given(
    st.lists(st.floats(0, 1e6, allow_nan=False), min_size=70, max_size=100),
    st.integers(40, 66),
    st.integers(1, 20),
)
@pytest.mark.parametrize("method", [HoltWinters(), Arima(), QuantileLine()], ids=lambda method: method.name)
def test_a_sweep_says_what_a_call_from_each_origin_says(
    method: Forecaster, values: list[float], first: int, steps: int
) -> None:
    try:
        predictor = method.fit(values[:40])
    except (CannotForecast, np.linalg.LinAlgError):
        reject()
    assert hasattr(predictor, "sweep")
    origins = range(first, len(values))
    swept = list(predictions(predictor, values, origins, steps))
    assert len(swept) == len(origins)
    for origin, ahead in zip(origins, swept, strict=True):
        assert ahead == pytest.approx(predictor(values[:origin], steps), rel=1e-6, abs=1e-6)
