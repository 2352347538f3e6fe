"""Decisions that were made and stored by the code of older rules: they come out the same to the last bit."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.decisions.decide import decide
from controlplane.decisions.decision import RULES, DecisionInputs

STORED = [
    Path(__file__).parents[3] / "support" / name
    for name in ("decisions_before_rules_4.json.gz", "decisions_of_rules_4.json.gz")
]
RECORDS: list[dict[str, Any]] = [record for path in STORED for record in json.loads(gzip.decompress(path.read_bytes()))]


def test_they_are_of_all_older_rules_and_of_changes_and_holds() -> None:
    assert {record["inputs"]["rules"] for record in RECORDS} == set(range(1, RULES))
    assert {record["decision"]["reason"] for record in RECORDS} >= {
        "slo_broken",
        "recovery",
        "within_slo",
        "recovering",
        "quality_budget",
        "queue_fitted",
    }


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"rules {r['inputs']['rules']} {r['decision']['reason']}")
def test_a_stored_decision_is_made_again_exactly(record: dict[str, Any]) -> None:
    again = decide(DecisionInputs.from_json(record["inputs"]))
    assert json.loads(json.dumps(again.to_json(), allow_nan=False)) == record["decision"]


def test_some_of_them_would_come_out_otherwise_under_the_next_rules() -> None:
    """Or they would show nothing."""
    own = [DecisionInputs.from_json(record["inputs"]) for record in RECORDS if record["inputs"]["rules"] == RULES - 1]
    assert any(decide(replace(inputs, rules=RULES)).chosen != decide(inputs).chosen for inputs in own)
