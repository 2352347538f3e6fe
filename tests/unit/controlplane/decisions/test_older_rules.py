"""Decisions that were made and stored by the code before rules 4: they come out the same to the last bit."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import DecisionInputs

STORED = Path(__file__).parents[3] / "support" / "decisions_before_rules_4.json.gz"
RECORDS: list[dict[str, Any]] = json.loads(gzip.decompress(STORED.read_bytes()))


def test_they_are_of_all_older_rules_and_of_changes_and_holds() -> None:
    assert {record["inputs"]["rules"] for record in RECORDS} == {1, 2, 3}
    assert {record["decision"]["reason"] for record in RECORDS} >= {
        "slo_broken",
        "recovery",
        "within_slo",
        "recovering",
    }


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"rules {r['inputs']['rules']} {r['decision']['reason']}")
def test_a_stored_decision_is_made_again_exactly(record: dict[str, Any]) -> None:
    again = decide(DecisionInputs.from_json(record["inputs"]))
    assert json.loads(json.dumps(again.to_json(), allow_nan=False)) == record["decision"]
