"""What the benchmark asks of the API, and how it counts what the controller did, with an API that plays a part."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from inference_node.contract.settings import EngineSettings
from trimtab.client import ApiClient, ApiError
from trimtab.errors import CommandError
from trimtab.surge_bench import hands as module
from trimtab.surge_bench.hands import Hands, LevelRefused

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT = EngineSettings(max_batch_size=4)
INT8 = DEFAULT.replace(precision="int8")


def _at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


class Api:
    """One pool of two nodes, whose rollouts go through `phases`, one a look."""

    def __init__(self, *phases: str) -> None:
        self.phases = list(phases)
        self.settings = DEFAULT
        self.wanted: EngineSettings | None = None
        self.asked: list[str] = []
        self.conflicts = 0
        self.decided: list[dict[str, Any]] = []
        self.done: list[dict[str, Any]] = []
        self.events_seen: list[dict[str, Any]] = []

    def pools(self) -> list[dict[str, Any]]:
        return [{"id": "p1"}]

    def pool(self, pool_id: str) -> dict[str, Any]:
        return {"current_revision": {"settings": self.settings.model_dump(mode="json")}}

    def nodes(self, pool_id: str) -> list[dict[str, Any]]:
        observed = {"settings": self.settings.model_dump(mode="json")}
        return [
            {"id": f"n{k}", "name": f"node-{k}", "health": "ready", "in_sync": True, "observed": observed, "running": 0,
             "waiting": 0}
            for k in (1, 2)
        ]  # fmt: skip

    def rollouts(self, *, pool_id: str, active: bool | None = None, limit: int = 50) -> list[dict[str, Any]]:
        return [] if active else self.done

    def create_rollout(self, pool_id: str, knobs: dict[str, Any], reason: str) -> dict[str, Any]:
        if self.conflicts:
            self.conflicts -= 1
            raise ApiError("a rollout is under way", 409, {})
        self.wanted = self.settings.replace(**knobs)
        return {"id": "r1"}

    def rollout(self, rollout_id: str) -> dict[str, Any]:
        phase = self.phases.pop(0)
        if phase == "COMPLETED" and self.wanted is not None:
            self.settings = self.wanted
        ended = _at(1) if not self.phases else None
        return {"phase": phase, "request": None, "ended_at": ended, "outcome": "worse answers"}

    def ask(self, rollout_id: str, verb: str, reason: str) -> None:
        self.asked.append(verb)

    def decisions(self, *, pool_id: str, limit: int) -> list[dict[str, Any]]:
        return self.decided

    def events(self, *, pool_id: str, kind: str, limit: int) -> list[dict[str, Any]]:
        return self.events_seen


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_S", 0.0)


def _hands(api: Api) -> Hands:
    return Hands(cast(ApiClient, api), lambda: None)


class TestBecome:
    def test_what_is_in_force_already_needs_no_rollout(self) -> None:
        api = Api()
        _hands(api).become(DEFAULT, "begin")
        assert api.wanted is None

    def test_the_rest_follows_the_canary_at_once(self) -> None:
        api = Api("BASELINING", "ANALYZING", "PROMOTING", "COMPLETED")
        _hands(api).become(INT8, "begin")
        assert (api.settings, api.asked) == (INT8, ["promote"])

    def test_settings_that_nodes_refuse_are_said_to_be_refused(self) -> None:
        with pytest.raises(LevelRefused, match=r"ROLLED_BACK.*worse answers"):
            _hands(Api("CANARY", "ROLLED_BACK")).become(INT8, "measure")

    def test_what_the_controller_began_just_before_is_ended_first(self) -> None:
        api = Api("COMPLETED")
        api.conflicts = 2
        _hands(api).become(INT8, "begin")
        assert api.settings == INT8

    def test_what_never_comes_is_an_error_that_says_what_was_awaited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "IN_FORCE_WITHIN_S", 0.0)
        with pytest.raises(CommandError, match="the end of a rollout"):
            _hands(Api("BASELINING", "BASELINING", "BASELINING")).become(INT8, "begin")


class TestDeeds:
    def test_only_what_reached_a_node_since_then_is_a_change(self) -> None:
        api = Api()
        nodes = [{"applied_at": None}, {"applied_at": _at(5)}]
        api.done = [
            {"id": "r3", "created_at": _at(20), "ended_at": None, "phase": "CANARY", "nodes": nodes, "outcome": None},
            {
                "id": "r2",
                "created_at": _at(4),
                "ended_at": _at(9),
                "phase": "ROLLED_BACK",
                "nodes": nodes,
                "outcome": "slow",
            },
            {
                "id": "r1",
                "created_at": _at(3),
                "ended_at": _at(3.5),
                "phase": "CANCELLED",
                "nodes": nodes[:1],
                "outcome": "no",
            },
            {
                "id": "r0",
                "created_at": _at(-3),
                "ended_at": _at(-1),
                "phase": "COMPLETED",
                "nodes": nodes,
                "outcome": None,
            },
        ]
        change = {"precision": ["bf16", "int8"]}
        held: dict[str, Any] = {
            "outcome": "HOLD",
            "reason": "within_slo",
            "changes": {},
            "rollout_id": None,
            "explanation": "fine",
        }
        made: dict[str, Any] = {
            "outcome": "APPLY",
            "reason": "slo_broken",
            "changes": change,
            "rollout_id": "r2",
            "explanation": "slow",
        }
        api.decided = [
            held | {"at": _at(6), "last_at": _at(16), "repeats": 3},
            made | {"at": _at(4), "last_at": _at(4), "repeats": 1},
            held | {"at": _at(-9), "last_at": _at(-4), "repeats": 2},
        ]
        api.events_seen = [{"at": _at(5), "node_id": "n1", "data": {"changes": change}}]
        deeds = _hands(api).deeds(BEGAN, warm_s=4)
        assert (deeds.changes, deeds.rollbacks, deeds.unfinished) == (2, 1, 1)
        assert deeds.reasons == {"within_slo": 3, "slo_broken": 1}
        assert [(entry["t_s"], entry["what"]) for entry in deeds.timeline] == [
            (-0.5, "rollout"), (0.0, "decision"), (1.0, "in force"), (5.0, "rollout"),
        ]  # fmt: skip
        assert deeds.timeline[2]["node"] == "node-1"
