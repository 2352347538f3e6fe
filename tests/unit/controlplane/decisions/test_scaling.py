from dataclasses import replace
from datetime import UTC, datetime, timedelta

from controlplane.decisions.decide import decide
from controlplane.decisions.scaling import Advice, Outlook, advise
from tests.support.decision_inputs import CALM_RPS, THREAT_RPS, decision_inputs

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TICK_S = 15.0


def last(load: float, windows: int = 12) -> Outlook:
    given = decision_inputs(NOW, load, windows=windows)
    made = decide(given)
    return Outlook(
        last_at=NOW, forecast=made.to_json()["forecast"], reason=made.reason.value, explanation=made.explanation,
        breach_probability=made.breach_probability, nodes=given.to_json()["nodes"],
    )  # fmt: skip


def advised(load: float) -> Advice:
    found = advise(last(load), NOW + timedelta(seconds=TICK_S), TICK_S)
    assert isinstance(found, Advice), found
    return found


def test_more_load_wants_more_nodes_and_calm_wants_one() -> None:
    wanted = [advised(load).nodes_wanted for load in (CALM_RPS, THREAT_RPS, 2 * THREAT_RPS)]
    assert wanted[0] == 1
    assert wanted == sorted(wanted)
    assert wanted[2] > wanted[0]


def test_it_carries_the_planned_load_at_four_fifths_and_one_node_less_does_not() -> None:
    found = advised(THREAT_RPS)
    assert found.nodes_wanted * 0.8 * found.node_rps >= found.planned_rps
    assert (found.nodes_wanted - 1) * 0.8 * found.node_rps < found.planned_rps


def test_nothing_is_said_of_now_by_an_old_decision() -> None:
    found = advise(last(THREAT_RPS), NOW + timedelta(seconds=5 * TICK_S), TICK_S)
    assert isinstance(found, str)
    assert "75 s old" in found


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert advise(None, NOW, TICK_S) == "no decision was made for this pool yet"
    found = advise(replace(last(THREAT_RPS), forecast={}, reason="no_data"), NOW, TICK_S)
    assert isinstance(found, str)
    assert "no_data" in found
