"""An LSTM in the race: one layer, all horizons and quantile levels at once, on the log of the load.

Optional: it needs torch (the extra `node`), and is fitted before `split` only. Its result is reported as it is.
Source of the recipe: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997); quantile heads as in Wen et al., "A
Multi-Horizon Quantile Recurrent Forecaster" (2017).
"""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from controlplane.forecasting.forecaster import CannotForecast
from controlplane.forecasting.load.arrays import Floats
from controlplane.forecasting.load.methods import Method

_PAST = 60  # steps that the network sees
_WIDTH = 32
_EPOCHS = 6
_BATCH = 256
_MAX_ROWS = 6000
_LEVELS = (0.1, 0.5, 0.9)


def method(seed: int) -> Method:
    """The contender; it says nothing where torch is not installed or the past is shorter than four hours."""

    def run(values: Floats, split: int, horizons: Sequence[int]) -> Floats:
        if find_spec("torch") is None:
            raise CannotForecast("torch is not installed")
        if split < 240:
            raise CannotForecast("less than four hours of past")
        import torch  # noqa: PLC0415 - optional, and half a second to load

        torch.manual_seed(seed)
        logs = np.log1p(values)
        past = np.lib.stride_tricks.sliding_window_view(logs, _PAST)  # row i ends at i + _PAST - 1
        newest = past[:, -1:]
        scale = float(np.diff(logs[:split]).std()) or 1.0
        # Relative to the newest value: what is learned is the change.
        table = torch.tensor((past - newest) / scale, dtype=torch.float32).unsqueeze(-1)
        reach = max(horizons)
        rows = np.arange(max(0, split - _PAST - reach - _MAX_ROWS), split - _PAST - reach)
        origins = rows + _PAST - 1
        target = torch.tensor(
            np.column_stack([(logs[origins + ahead] - logs[origins]) / scale for ahead in horizons]),
            dtype=torch.float32,
        )
        recurrent = torch.nn.LSTM(1, _WIDTH, batch_first=True)
        head = torch.nn.Linear(_WIDTH, len(horizons) * len(_LEVELS))
        parameters = [*recurrent.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=3e-3)
        levels = torch.tensor(_LEVELS)

        def out(part: torch.Tensor) -> torch.Tensor:
            seen, _ = recurrent(part)
            result: torch.Tensor = head(seen[:, -1]).view(-1, len(horizons), len(_LEVELS))
            return result

        order = np.random.default_rng(seed)
        for _ in range(_EPOCHS):
            for batch in np.array_split(order.permutation(len(rows)), max(1, len(rows) // _BATCH)):
                optimizer.zero_grad()
                miss = target[batch].unsqueeze(-1) - out(table[rows[batch]])
                loss = torch.maximum(levels * miss, (levels - 1) * miss).mean()
                loss.backward()  # type: ignore[no-untyped-call] # torch's own
                optimizer.step()
        with torch.no_grad():
            change = torch.cat([out(part)[:, :, 1] for part in torch.split(table, 4096)]).numpy() * scale
        found = np.full((len(values), len(horizons)), np.nan)
        found[_PAST - 1 :] = np.expm1(np.clip(newest + change, 0.0, 50.0))
        return found

    return run
