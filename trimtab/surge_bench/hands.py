"""What the benchmark does to the pool through the REST API, and what it hears there of the controller's deeds."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from controlplane.client.types import DecisionOut, NodeDetail, RolloutOut
from controlplane.decisions.policy import Policy
from inference_node.contract.settings import EngineSettings
from trimtab.client import ApiClient, ApiError
from trimtab.errors import CommandError
from trimtab.surge_bench.budget import losses_of, quality_in

IN_FORCE_WITHIN_S, IDLE_WITHIN_S, ENDED_WITHIN_S, TOLD_WITHIN_S = 300.0, 120.0, 120.0, 60.0
_POLL_S = 0.5
_CONFLICT = 409
_ROWS = 200

T = TypeVar("T")


class LevelRefused(CommandError):
    """The nodes do not take the settings: their answers would be too bad, or they lack the format."""


@dataclass(frozen=True, slots=True)
class Deeds:
    """What the controller did in a run. `changes`: those that reached a node; `unfinished`: those under way at its end.

    `timeline`: decisions that began a rollout, ends of rollouts, and settings that came into force, with seconds since scoring
    began. `reasons`: how many ticks ended with each.
    """

    timeline: list[dict[str, Any]]
    reasons: dict[str, int]
    changes: int
    rollbacks: int
    unfinished: int


class Hands:
    """One pool. Every wait is bounded, and raises CommandError that says what did not happen."""

    def __init__(self, api: ApiClient, check: Callable[[], None]) -> None:
        """check: raises when the fleet is no longer there; asked during every wait."""
        self._api, self._check = api, check
        pools = api.pools()
        if len(pools) != 1:
            raise CommandError(f"the fleet has {len(pools)} pools where one was expected: choose another --data-dir")
        self.pool_id = pools[0]["id"]

    def settings(self) -> EngineSettings:
        """Those of the pool's current revision. Raises CommandError where there is none."""
        revision = self._api.pool(self.pool_id)["current_revision"]
        if revision is None:
            raise CommandError("the pool has no settings yet: its nodes have not enrolled")
        return EngineSettings.model_validate(revision["settings"])

    @contextmanager
    def policy_kept(self) -> Iterator[None]:
        """The pool's policy is afterwards what it was before, as far as the API is still there to be told."""
        before = self._api.policy(self.pool_id)["document"]
        try:
            yield
        finally:
            with contextlib.suppress(CommandError):
                self.put_policy(Policy.model_validate(before))

    def put_policy(self, policy: Policy) -> None:
        version = self._api.policy(self.pool_id)["version"]
        self._api.put_policy(self.pool_id, policy.to_json(), version=version)

    def become(self, wanted: EngineSettings, reason: str) -> None:
        """The settings in force on every node, and nothing running or waiting. Raises LevelRefused, CommandError.

        To be called under a policy that lets the controller begin nothing.
        """
        self.end_rollouts()
        current = self.settings()
        if current != wanted:
            knobs = {knob: there for knob, (_, there) in current.changed(wanted).items()}
            self._push_through(self._begin(knobs, reason)["id"])
        self._until(
            lambda: all(_runs(node, wanted) for node in self._nodes()),
            IN_FORCE_WITHIN_S,
            "the new settings in force on every node",
        )
        self.wait_idle()

    def wait_idle(self) -> None:
        """By the nodes' heartbeats."""
        self._until(lambda: not any(n["running"] or n["waiting"] for n in self._nodes()), IDLE_WITHIN_S, "empty queues")

    def end_rollouts(self) -> None:
        """Takes back whatever is under way."""

        def ended() -> bool:
            active = self._api.rollouts(pool_id=self.pool_id, active=True)
            for rollout in active:
                if rollout["request"] is None and rollout["phase"] != "ROLLING_BACK":
                    self._ask(rollout["id"], "abort")
            return not active

        self._until(ended, ENDED_WITHIN_S, "the end of the rollout under way")

    def losses(self, names: set[str]) -> dict[str, float]:
        """By level, once every node has told its records of `names`: they come with heartbeats."""

        def told() -> dict[str, float] | None:
            found = losses_of(quality_in(dict(node["capabilities"])) for node in self._nodes())
            return found if names <= set(found) else None

        return self._until(told, TOLD_WITHIN_S, f"quality records of {', '.join(sorted(names))}")

    def deeds(self, began: datetime, warm_s: float) -> Deeds:
        """Since then. To be asked before anything is taken back."""
        decisions = [d for d in self._api.decisions(pool_id=self.pool_id, limit=_ROWS) if _time(d["last_at"]) >= began]
        rollouts = [r for r in self._api.rollouts(pool_id=self.pool_id, limit=_ROWS) if _time(r["created_at"]) >= began]
        applied = [
            event
            for event in self._api.events(pool_id=self.pool_id, kind="node.settings_applied", limit=_ROWS)
            if _time(event["at"]) >= began
        ]
        names = {node["id"]: node["name"] for node in self._nodes()}

        def since(at: str) -> float:
            return round((_time(at) - began).total_seconds() - warm_s, 1)

        timeline = [
            _decided(d, since(d["at"])) for d in decisions if d["rollout_id"] is not None and _time(d["at"]) >= began
        ]
        timeline += [
            {
                "t_s": since(r["ended_at"]),
                "what": "rollout",
                "phase": r["phase"],
                "rollout": r["id"],
                "words": r["outcome"],
            }
            for r in rollouts
            if r["ended_at"] is not None
        ]
        timeline += [
            {
                "t_s": since(e["at"]),
                "what": "in force",
                "node": names.get(e["node_id"] or ""),
                "changes": e["data"]["changes"],
            }
            for e in applied
        ]
        reasons: dict[str, int] = {}
        for decision in decisions:
            reasons[decision["reason"]] = reasons.get(decision["reason"], 0) + max(1, decision["repeats"])
        return Deeds(
            sorted(timeline, key=lambda entry: entry["t_s"]), reasons,
            changes=sum(any(node["applied_at"] is not None for node in r["nodes"]) for r in rollouts),
            rollbacks=sum(r["phase"] in {"ROLLING_BACK", "ROLLED_BACK", "ROLLBACK_FAILED"} for r in rollouts),
            unfinished=sum(r["ended_at"] is None for r in rollouts),
        )  # fmt: skip

    def _begin(self, knobs: dict[str, bool | int | float | str], reason: str) -> RolloutOut:
        """What the controller began just before its policy was taken from it is ended first."""
        deadline = time.monotonic() + ENDED_WITHIN_S
        while True:
            try:
                return self._api.create_rollout(self.pool_id, knobs, reason)
            except ApiError as error:
                if error.status != _CONFLICT or time.monotonic() > deadline:
                    raise
                self.end_rollouts()

    def _push_through(self, rollout_id: str) -> None:
        """Onto the other nodes as soon as the canary has it: nothing is judged here."""

        def ended() -> RolloutOut | None:
            rollout = self._api.rollout(rollout_id)
            if rollout["phase"] == "ANALYZING" and rollout["request"] is None:
                self._ask(rollout_id, "promote")
            return rollout if rollout["ended_at"] is not None else None

        rollout = self._until(ended, IN_FORCE_WITHIN_S, "the end of a rollout of the benchmark's own")
        if rollout["phase"] != "COMPLETED":
            raise LevelRefused(f"the nodes did not take it ({rollout['phase']}): {rollout['outcome']}")

    def _ask(self, rollout_id: str, verb: Any) -> None:
        try:
            self._api.ask(rollout_id, verb, "benchmark")
        except ApiError as error:
            if error.status != _CONFLICT:  # it has moved on meanwhile, and is looked at again
                raise

    def _nodes(self) -> list[NodeDetail]:
        return self._api.nodes(self.pool_id)

    def _until(self, condition: Callable[[], T | None], within_s: float, what: str) -> T:
        """The first value of `condition` that is something."""
        deadline, trouble = time.monotonic() + within_s, ""
        while True:
            try:
                if found := condition():
                    return found
            except LevelRefused:
                raise
            except CommandError as error:  # a busy API may answer the next time
                trouble = f" ({error})"
            self._check()
            if time.monotonic() > deadline:
                raise CommandError(
                    f"within {within_s:g} s there was no sign of {what}{trouble}: its logs, which --data-dir keeps, may tell why"
                )
            time.sleep(_POLL_S)


def _runs(node: NodeDetail, wanted: EngineSettings) -> bool:
    return (
        node["health"] == "ready"
        and node["in_sync"]
        and EngineSettings.model_validate(node["observed"]["settings"]) == wanted
    )


def _decided(decision: DecisionOut, at_s: float) -> dict[str, Any]:
    return {
        "t_s": at_s, "what": "decision", "outcome": decision["outcome"], "reason": decision["reason"],
        "changes": decision["changes"], "rollout": decision["rollout_id"], "words": decision["explanation"],
    }  # fmt: skip


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def now() -> datetime:
    return datetime.now(UTC)
