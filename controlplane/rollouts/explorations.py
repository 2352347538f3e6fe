"""What the controller tries by itself, in SQL: begun as a leased experiment, watched at each tick, ended with an outcome.

Nothing here promotes anything: what proved better is told, and is an ordinary proposal's to propose and an ordinary canary's to
measure afresh. The caller holds the pool's epoch (`shards.assert_leads`).
"""

import hashlib
from dataclasses import asdict
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session, defer

from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.exploration import Asked, Chosen, choose
from controlplane.decisions.exploration_gates import Declined
from controlplane.decisions.explored import Tried, TryVerdict
from controlplane.decisions.policy import ServedPolicy
from controlplane.errors import Conflict
from controlplane.events import service as events
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.ids import new_id
from controlplane.rollouts import experiments, served
from controlplane.rollouts.exploration_outcome import TryOutcome, measure
from controlplane.rollouts.exploration_watch import Ending, Under
from controlplane.rollouts.exploration_windows import start, stretches
from controlplane.rollouts.models import Exploration
from controlplane.rollouts.words import changes_words
from controlplane.telemetry import service as telemetry
from controlplane.telemetry.observation import Observation
from controlplane.version import program_version
from inference_node.contract.served import ServedQuality
from inference_node.contract.settings import KNOBS, EngineSettings

log = structlog.get_logger(__name__)

# `created_by` of settings that the controller only tries out on a node, and who is said to have done so.
ACTOR = "controller:exploration"
# How far back tries inform the next one, and how many of them: nodes and models change, and the posterior is cubic in them.
_REMEMBERED_FOR, _REMEMBERED = timedelta(days=30), 40
# What a try is held against: so long before it, and of so many peers at most.
_BEFORE, _MOST_PEERS = timedelta(seconds=900), 16


def active_exploration(session: Session, pool_id: str) -> Exploration | None:
    return session.scalar(select(Exploration).where(Exploration.active_pool_id == pool_id))


def tried_before(session: Session, pool_id: str, now: datetime) -> tuple[Tried, ...]:
    """What the next choice is made by, oldest first."""
    columns = (
        Exploration.at, Exploration.settings, Exploration.base, Exploration.ended_at, Exploration.verdict, Exploration.outcome,
    )  # fmt: skip
    query = select(*columns).where(Exploration.pool_id == pool_id, Exploration.at > now - _REMEMBERED_FOR)
    rows = session.execute(query.order_by(Exploration.at.desc(), Exploration.id.desc()).limit(_REMEMBERED)).all()
    return tuple(_tried(*row) for row in reversed(rows))


def list_explorations(
    session: Session, pool_id: str, *, limit: int, before: tuple[datetime, str] | None = None
) -> list[Exploration]:
    """Newest first; `before` is (at, id) of the last one of the page before. Without what they rest on, which is long."""
    query = select(Exploration).options(defer(Exploration.asked)).where(Exploration.pool_id == pool_id)
    if before is not None:
        at, row_id = before
        query = query.where((Exploration.at < at) | ((Exploration.at == at) & (Exploration.id < row_id)))
    return list(session.scalars(query.order_by(Exploration.at.desc(), Exploration.id.desc()).limit(limit)))


def replay(row: Exploration) -> tuple[bool, Chosen | Declined]:
    """Chooses again from what was recorded: (whether it comes out the same, the choice)."""
    asked = Asked.from_json(row.asked)
    again = choose(asked.inputs, asked.tried)
    return isinstance(again, Chosen) and again.to_json() == row.choice, again


def begin(
    session: Session, pool_id: str, chosen: Chosen, asked: Asked, *, epoch: int, heartbeat_timeout_s: float
) -> Exploration:
    """Tries what was chosen on one of the pool's nodes. Raises Conflict where none can be tried on now, and what
    `begin_experiment` raises."""
    inputs, settings = asked.inputs, chosen.option.settings
    now, lease_s = inputs.now, inputs.policy.exploration.lease_s
    node = experiments.begin_experiment(
        session, _pick(session, pool_id, now, heartbeat_timeout_s), settings, lease_s=lease_s, reason=chosen.explanation,
        created_by=ACTOR, epoch=epoch, now=now, heartbeat_timeout_s=heartbeat_timeout_s,
    )  # fmt: skip
    _watch_answers(node, inputs.settings, settings, inputs.policy.rollout.served)
    assert node.desired_revision_id is not None, "it was wished for in this transaction"
    row = Exploration(
        id=new_id(), pool_id=pool_id, active_pool_id=pool_id, node_id=node.id, revision_id=node.desired_revision_id,
        arm=chosen.arm.value, at=now, lease_s=lease_s, generation=node.desired_generation, instance_id=node.instance_id,
        epoch=epoch, code_version=program_version(), settings=settings.model_dump(mode="json"),
        base=inputs.settings.model_dump(mode="json"), explanation=chosen.explanation, choice=chosen.to_json(),
        asked=asked.to_json(),
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def look(session: Session, row: Exploration, now: datetime, heartbeat_timeout_s: float) -> Under:
    """How the try stands, and notes what has become known of it."""
    node = fleets.get_node(session, row.node_id)
    is_ours = node.desired_generation == row.generation and node.removed_at is None
    if is_ours and row.applied_at is None and fleets.in_sync(node):
        told = _said(session, row, EventKind.NODE_SETTINGS_APPLIED)
        row.applied_at = now if told is None else told.at
    if is_ours and node.served is not None:
        row.served = node.served
    seen = () if row.applied_at is None else telemetry.recent(session, node.id, row.applied_at, now)
    return Under(
        began=row.at,
        lease_s=row.lease_s,
        node_name=node.name,
        overtaken=None if is_ours else max(node.desired_since or now, row.at),
        refused=_refusal(session, row),
        applied=row.applied_at is not None,
        restarted=node.instance_id != row.instance_id,
        reachable=fleets.node_health(node, now, heartbeat_timeout_s) is not fleets.NodeHealth.UNREACHABLE,
        windows=tuple(each for each in seen if row.applied_at is not None and start(each) >= row.applied_at),
        answers=_told(row),
    )


def stop(session: Session, row: Exploration, ending: Ending, now: datetime) -> None:
    """Takes the node back where it still has what was tried. What that showed is known once its last windows are."""
    node = fleets.get_node(session, row.node_id)
    if node.desired_generation == row.generation:
        experiments.end_experiment(session, node.id, now=now)
    row.ended_at, row.ended_why, row.unfit = ending.at, ending.why, ending.unfit
    session.flush()


def conclude(session: Session, row: Exploration, now: datetime) -> TryOutcome:
    """Keeps and tells what a try that was stopped has shown."""
    assert row.ended_at is not None, "it was stopped before"
    node = fleets.get_node(session, row.node_id)
    read = _read(row)
    outcome = _unreadable(row) if read is None else _measured(session, row, read[0].inputs, read[1], now)
    row.active_pool_id, row.verdict, row.outcome = None, outcome.verdict.value, outcome.to_json()
    session.flush()
    changes = {
        knob: (row.base[knob], value) for knob, value in row.settings.items() if row.base.get(knob, value) != value
    }
    events.record(
        session, kind=EventKind.NODE_EXPERIMENT_MEASURED, at=now, actor=ACTOR, pool_id=row.pool_id, node_id=row.node_id,
        message=f"{changes_words(changes)} on node {node.name} was {outcome.verdict.value}: {outcome.explanation}. "
        f"It ended since {row.ended_why}.",
        data={"exploration_id": row.id, "verdict": outcome.verdict.value, "arm": row.arm, "why": row.ended_why,
              "changes": {knob: list(pair) for knob, pair in changes.items()},
              "shown": [asdict(each) for each in outcome.shown]},
    )  # fmt: skip
    return outcome


def _read(row: Exploration) -> tuple[Asked, EngineSettings] | None:
    """What it rests on and what is tried; None where another version wrote them in a form that this one cannot read. The try is
    over all the same."""
    try:
        return Asked.from_json(row.asked), EngineSettings.model_validate(row.settings)
    except (KeyError, TypeError, ValueError) as error:
        log.warning("exploration_unreadable", exploration_id=row.id, code_version=row.code_version, reason=str(error))
        return None


def _unreadable(row: Exploration) -> TryOutcome:
    verdict = TryVerdict.WORSE if row.unfit else TryVerdict.UNCLEAR
    words = f"what it was begun on was written by version {row.code_version}, which this one cannot read"
    return TryOutcome(verdict, words, harmful=row.unfit)


def _measured(
    session: Session, row: Exploration, inputs: DecisionInputs, tried: EngineSettings, now: datetime
) -> TryOutcome:
    assert row.ended_at is not None, "it was stopped before"
    seen = stretches(
        _windows(session, row, inputs, now), row.node_id, began=row.at, applied=row.applied_at,
        ended=row.ended_at, settle_s=inputs.policy.rollout.settle_s,
    )  # fmt: skip
    told = _told(row)
    answers = () if told is None else served.measure([told], inputs.policy.rollout.served)
    is_early = row.ended_at < row.at + timedelta(seconds=row.lease_s)
    unfit = row.ended_why if row.unfit else None
    return measure(inputs, tried, seen, unfit, answers, is_early=is_early)


def _pick(session: Session, pool_id: str, now: datetime, heartbeat_timeout_s: float) -> str:
    """One of the nodes that are in order, in turn by the moment, so that no node is always the one."""
    nodes = fleets.list_nodes(session, pool_id)
    trying = [node.name for node in nodes if node.lease_s is not None]
    if trying:
        raise Conflict(f"something is being tried on {', '.join(trying)} already")
    fit = [
        node.id
        for node in nodes
        if fleets.node_health(node, now, heartbeat_timeout_s) is fleets.NodeHealth.READY
        and not fleets.is_quarantined(node, now)
        and fleets.in_sync(node)
        and not node.drifted
    ]
    if not fit:
        raise Conflict("no node is ready, out of quarantine and under its pool's settings")
    return fit[int.from_bytes(hashlib.sha256(now.isoformat().encode()).digest(), "big") % len(fit)]


def _watch_answers(node: Node, base: EngineSettings, tried: EngineSettings, policy: ServedPolicy) -> None:
    """Where answers may get worse, the node scores some of them again, as a canary does."""
    if policy.share > 0 and served.at_stake(base, tried):
        least, most = policy.min_sequences, max(policy.min_sequences, policy.max_sequences)
        fleets.watch_served(node, share=policy.share, least=least, most=most)


def _windows(
    session: Session, row: Exploration, inputs: DecisionInputs, until: datetime
) -> dict[str, list[Observation]]:
    """By node id: of the node and of some peers, from before the try on, though not from before the pool's last change."""
    since = max([row.at - _BEFORE, *(change.at for change in inputs.changes)])
    ended = select(Exploration.ended_at).where(
        Exploration.pool_id == row.pool_id, Exploration.id != row.id, Exploration.ended_at.is_not(None)
    )
    last = session.scalar(ended.order_by(Exploration.ended_at.desc()).limit(1))
    since = since if last is None else max(since, last)
    peers = [node.id for node in fleets.list_nodes(session, row.pool_id) if node.id != row.node_id][:_MOST_PEERS]
    found = {node_id: telemetry.recent(session, node_id, since, until) for node_id in (row.node_id, *peers)}
    return {node_id: [each for each in seen if start(each) >= since] for node_id, seen in found.items()}


def _said(session: Session, row: Exploration, kind: EventKind) -> Event | None:
    """What the node said of the try's wish: its row may have another one by now."""
    query = select(Event).where(Event.node_id == row.node_id, Event.kind == kind.value, Event.at >= row.at)
    return next((told for told in session.scalars(query) if told.data.get("generation") == row.generation), None)


def _refusal(session: Session, row: Exploration) -> str | None:
    told = _said(session, row, EventKind.NODE_SETTINGS_REJECTED)
    return None if told is None else str(told.data.get("reason"))


def _told(row: Exploration) -> ServedQuality | None:
    return None if row.served is None else ServedQuality.model_validate(row.served)


def _tried(
    at: datetime,
    settings: dict[str, object],
    base: dict[str, object],
    until: datetime | None,
    verdict: str | None,
    outcome: dict[str, object] | None,
) -> Tried:
    shown = None if outcome is None else TryOutcome.from_json(outcome)
    return Tried(
        at=at,
        settings=_known_knobs(settings),
        base=_known_knobs(base),
        node_rps=0.0 if shown is None else shown.node_rps,
        until=until,
        verdict=None if verdict is None else TryVerdict(verdict),
        errors=() if shown is None else shown.errors,
        harmful=shown is not None and shown.harmful,
    )


def _known_knobs(settings: dict[str, object]) -> EngineSettings:
    """A knob that another version had is left out: what was tried and did harm stays on record."""
    return EngineSettings.model_validate({knob: value for knob, value in settings.items() if knob in KNOBS})
