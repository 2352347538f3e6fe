"""Cut-offs of one model: read from the data folder, or learned from a short text and kept there."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from inference_node.pruning.prune import Observer
from inference_node.pruning.thresholds import CalibrationInvalid, PruningTable

# Written for this purpose: prose, dialogue, numbers, code and a list, so that no one kind of text sets the quantiles.
TEXT = """A small harbour town wakes before the sun. Boats that left at three come back with herring, and the first bakery opens
its door so that the smell of bread reaches the quay. Nobody there speaks of efficiency, yet each of them knows how long a
crate may stand before the ice has melted, and which buyer pays on the day.

"Did you check the second engine?" asked Mara.
"Twice. It runs, but it runs hot. I would not take it out in that wind," her brother said, and wiped his hands.

To estimate the cost, add the fixed part to the variable part: 1,250 + 37.5 * 18 = 1,925. In March 2021 the same order came
to 1,610, an increase of about 19.6 percent, mostly because freight had doubled.

def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2

Steps to restart the service:
1. Stop the queue workers and wait until no task is running.
2. Take a backup of the database.
3. Install the new version, then run the migrations.
4. Start one worker, watch its log for five minutes, and start the others.

What is the capital of France? The capital of France is Paris. Water boils at 100 degrees Celsius at sea level, and at a lower
temperature in the mountains, because the pressure of the air is lower there.
"""


def load_or_learn(
    path: Path,
    *,
    fingerprint: str,
    num_layers: int,
    tokens: Sequence[int],
    run: Callable[[Sequence[int], Observer], None],
) -> PruningTable:
    """The model's table, from `path` if it is there and whole; otherwise `run` shows an Observer one forward over `tokens`.

    A table that cannot be written is used all the same: the next start learns it again.
    """
    with contextlib.suppress(OSError, CalibrationInvalid):
        return PruningTable.load(path, fingerprint, num_layers)
    observer = Observer(num_layers)
    run(tokens, observer)
    table = observer.table()
    with contextlib.suppress(OSError):
        table.save(path, fingerprint)
    return table
