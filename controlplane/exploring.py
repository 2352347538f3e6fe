"""The exploring part of a tick: after the decision, goes on with what is being tried in the pool, or begins to try something.

What goes wrong here costs a try; the decision was made and recorded before. The node ends its lease whatever becomes of us.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controlplane.db import session_scope
from controlplane.decisions.decision import Decision, DecisionInputs
from controlplane.decisions.exploration import Asked, choose
from controlplane.decisions.exploration_gates import Declined
from controlplane.decisions.exploration_policy import ExplorationMode
from controlplane.decisions.explored import Tried
from controlplane.decisions.reasons import Outcome, Reason
from controlplane.errors import ControlPlaneError, Fenced
from controlplane.processes import shards
from controlplane.rollouts import explorations
from controlplane.rollouts.exploration_watch import ending
from controlplane.rollouts.models import Exploration

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Known:
    """Of a pool in an epoch: the try that goes on, and those before it, None where they were not read yet."""

    epoch: int
    active_id: str | None
    tried: tuple[Tried, ...] | None = None


class Explorer:
    """Not thread-safe. Remembers what SQL says for as long as one process leads a pool: nobody else writes it meanwhile."""

    def __init__(self, engine: Engine, heartbeat_timeout_s: float) -> None:
        self._engine, self._timeout_s = engine, heartbeat_timeout_s
        self._known: dict[str, _Known] = {}
        self._waits: dict[str, str] = {}

    def turn(self, pool_id: str, epoch: int, inputs: DecisionInputs, decision: Decision) -> None:
        """Once after each tick's decision, in transactions of its own. Raises Fenced."""
        try:
            known = self._of(pool_id, epoch)
            if known.active_id is not None:
                self._go_on(pool_id, known, inputs, decision)
            elif _may_begin(inputs, decision):
                self._begin(pool_id, known, inputs)
        except Fenced:
            self._known.pop(pool_id, None)
            raise
        except Exception as error:  # noqa: BLE001 (the decision stands, and the node's lease ends without us)
            self._known.pop(pool_id, None)
            log.warning("exploration_failed", pool_id=pool_id, reason=f"{type(error).__name__}: {error}")

    def forget_all_but(self, pool_ids: Iterable[str]) -> None:
        there = set(pool_ids)
        self._known = {pool_id: known for pool_id, known in self._known.items() if pool_id in there}
        self._waits = {pool_id: why for pool_id, why in self._waits.items() if pool_id in there}

    def _of(self, pool_id: str, epoch: int) -> _Known:
        known = self._known.get(pool_id)
        if known is None or known.epoch != epoch:
            with session_scope(self._engine, read_only=True) as session:
                active = explorations.active_exploration(session, pool_id)
                known = self._known[pool_id] = _Known(epoch, None if active is None else active.id)
        return known

    def _go_on(self, pool_id: str, known: _Known, inputs: DecisionInputs, decision: Decision) -> None:
        with session_scope(self._engine) as session:
            shards.assert_leads(session, pool_id, known.epoch)
            row = explorations.active_exploration(session, pool_id)
            is_over = row is None or self._one_step(session, row, inputs, decision)
        if is_over:
            del self._known[pool_id]  # what it showed is read with the next choice

    def _one_step(self, session: Session, row: Exploration, inputs: DecisionInputs, decision: Decision) -> bool:
        """Whether its outcome is known: the tick after the one that stopped it, when the node's last window is there."""
        if row.ended_at is not None:
            outcome = explorations.conclude(session, row, inputs.now)
            log.info("exploration_ended", pool_id=row.pool_id, verdict=outcome.verdict.value, why=row.ended_why)
            return True
        over = ending(explorations.look(session, row, inputs.now, self._timeout_s), inputs, decision)
        if over is not None:
            explorations.stop(session, row, over, inputs.now)
        return False

    def _begin(self, pool_id: str, known: _Known, inputs: DecisionInputs) -> None:
        if known.tried is None:
            with session_scope(self._engine, read_only=True) as session:
                known.tried = explorations.tried_before(session, pool_id, inputs.now)
        chosen = choose(inputs, known.tried)
        if isinstance(chosen, Declined):
            self._say(pool_id, chosen.why.value, chosen.detail)
            return
        try:
            with session_scope(self._engine) as session:
                shards.assert_leads(session, pool_id, known.epoch)
                row = explorations.begin(
                    session, pool_id, chosen, Asked(inputs, known.tried), epoch=known.epoch,
                    heartbeat_timeout_s=self._timeout_s,
                )  # fmt: skip
                active_id, node_id = row.id, row.node_id
        except Fenced:
            raise
        except ControlPlaneError as error:  # a person or a rollout was quicker
            self._say(pool_id, "not_begun", error.detail)
            return
        self._waits.pop(pool_id, None)
        self._known[pool_id] = _Known(known.epoch, active_id)
        log.info("exploration_begun", pool_id=pool_id, node_id=node_id, arm=chosen.arm.value, what=chosen.explanation)

    def _say(self, pool_id: str, why: str, detail: str) -> None:
        """Once for each reason in a row, since it may hold for hours."""
        if self._waits.get(pool_id) != why:
            self._waits[pool_id] = why
            log.info("exploration_waits", pool_id=pool_id, why=why, detail=detail)


def _may_begin(inputs: DecisionInputs, decision: Decision) -> bool:
    """Whether the decision found nothing to do or to fear. Whatever else it may look at, `choose` looks again by itself."""
    calm = decision.outcome is Outcome.HOLD and decision.reason is Reason.WITHIN_SLO
    return calm and inputs.policy.exploration.mode is not ExplorationMode.OFF
