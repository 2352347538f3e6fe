"""Which events an endpoint wants."""

import pytest

from controlplane.webhooks.filters import EventFilter, unknown


@pytest.mark.parametrize(
    ("kinds", "kind", "wanted"),
    [
        (["*"], "anything.at_all", True),
        (["rollout.*"], "rollout.paused", True),
        (["rollout.*"], "rollouts.paused", False),
        (["rollout.paused"], "rollout.paused", True),
        (["rollout.paused"], "rollout.paused_again", False),
        (["node.*", "pool.frozen"], "pool.frozen", True),
    ],
)
def test_kinds(kinds: list[str], kind: str, wanted: bool) -> None:
    assert EventFilter(kinds).wants(kind, "info", None) is wanted


def test_a_pool_s_endpoint_hears_of_no_other_pool_and_of_none() -> None:
    mine = EventFilter(["*"], pool_id="p1")
    assert mine.wants("pool.frozen", "info", "p1")
    assert not mine.wants("pool.frozen", "info", "p2")
    assert not mine.wants("control.leader_changed", "info", None)


def test_severity_is_a_least_one_and_an_unknown_one_passes() -> None:
    loud = EventFilter(["*"], min_severity="warning")
    heard = {severity: loud.wants("x.y", severity, None) for severity in ("info", "warning", "error", "fatal")}
    assert heard == {"info": False, "warning": True, "error": True, "fatal": True}


def test_patterns_that_no_event_matches_are_named() -> None:
    assert unknown(["*", "rollout.*", "pool.frozen", "pool.fozen", "rolout.*", "rollout*"]) == [
        "pool.fozen",
        "rolout.*",
        "rollout*",
    ]
