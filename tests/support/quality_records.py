"""Quality records as a node would have measured them."""

from datetime import UTC, datetime
from typing import Any

from inference_node.contract.quality import QualityRecord
from inference_node.contract.settings import Precision


def quality_record(
    precision: Precision = Precision.INT8, pruning_threshold: float = 0.0, **values: Any
) -> QualityRecord:
    """A good one, unless `values` say otherwise."""
    given = {
        "tokens": 3000,
        "perplexity": 14.9,
        "perplexity_ratio": 1.005,
        "perplexity_ratio_error": 0.002,
        "kl_mean": 0.009,
        "kl_p99": 0.05,
        "top1_agreement": 0.93,
        "weight_bytes": 149_000_000,
        "model": "model-1",
        "arithmetic": "code-1",
        "made_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return QualityRecord(precision=precision, pruning_threshold=pruning_threshold, **(given | values))
