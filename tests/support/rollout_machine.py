"""A rollout's life in SQL as a state machine for hypothesis: people, nodes, Prometheus, two leaders and time do what they like.

What must hold whatever they do stands in the invariants; what a rule promises is asserted in it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.decisions.policy import OnInconclusive, Policy, RolloutPolicy
from controlplane.errors import Conflict, Fenced, Forbidden
from controlplane.events.models import Event, OutboxItem
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.rollouts import approvals, convergence, experiments, in_flight, service, windows
from controlplane.rollouts.execute import Overtaken, execute
from controlplane.rollouts.models import Analysis, Rollout, RolloutNode
from controlplane.rollouts.phases import MOVES, WAITING, NodeState, RolloutPhase, Verb
from controlplane.rollouts.plan import Mode, NoNodeReady, RolloutPlan
from controlplane.rollouts.reconcile import reconcile
from controlplane.rollouts.requests import request
from controlplane.rollouts.snapshot import RolloutSnapshot
from controlplane.telemetry.observation import Observation
from inference_node.contract.settings import EngineSettings
from tests.support.arms import window
from tests.support.leading import take_over
from tests.support.rollouts_in_sql import NOW, TIMEOUT_S, Lab, lab
from tests.support.served_answers import Answers, told_of

P = RolloutPhase
NODES = 4
MAX_ROLLOUTS = 6
ONWARDS = {P.PROMOTING, P.BAKING, P.COMPLETED}
PEOPLE = st.sampled_from(["alice", "bob", "carol"])
which = st.integers(0, NODES - 1)


class RolloutMachine(RuleBasedStateMachine):
    """One pool. `open_session` gives a session whose work is undone at its end, on the database under test."""

    open_session: Callable[[], AbstractContextManager[Session]]

    @initialize(on_inconclusive=st.sampled_from(list(OnInconclusive)), needed=st.sampled_from([0, 0, 1, 2]))
    def begin(self, on_inconclusive: OnInconclusive, needed: int) -> None:
        self.scope = self.open_session()
        self.session = self.scope.__enter__()
        self.lab: Lab = lab(self.session, nodes=NODES)
        self.now = NOW
        self.policy = Policy(
            rollout=RolloutPolicy(
                window_s=2, windows=7, settle_s=1, bake_s=6, progress_deadline_s=30, min_requests=20, approvals=needed,
                on_inconclusive=on_inconclusive, start_within_s=300, pause_limit_s=120, quarantine_s=60,
            )
        )  # fmt: skip
        self.sky, self.answers = "calm", Answers.GOOD
        self.deaf: set[str] = set()  # neither beat nor answer
        self.old_snapshot: RolloutSnapshot | None = None
        self.aborted: set[str] = set()
        self.promoted: set[str] = set()
        self.votes: dict[str, set[str]] = {}
        self.generations: dict[str, int] = {}
        self.seen_events = 0
        self.path: dict[str, RolloutPhase] = {}
        self.lives = 0

    # People -----------------------------------------------------------------------------------------------------

    @rule(
        who=PEOPLE,
        batch=st.integers(9, 30),
        later=st.sampled_from([None, None, None, 20]),
        by_controller=st.booleans(),
        pruning=st.sampled_from([None, None, 0.0, 0.2, 0.4]),
    )
    def create(self, who: str, batch: int, later: int | None, by_controller: bool, pruning: float | None) -> None:
        if len(self._rollouts()) >= MAX_ROLLOUTS:
            return
        before = service.active_rollout(self.session, self.lab.pool.id)
        active = None if before is None else (P(before.phase), before.created_by)
        start = None if later is None else self.now + timedelta(seconds=later)
        author = "controller" if by_controller else who
        try:
            with self.session.begin_nested():
                self.lab.begin(
                    batch, now=self.now, policy=self.policy, created_by=author, not_before=start,
                    knobs=None if pruning is None else {"pruning_threshold": pruning},
                )  # fmt: skip
        except (Conflict, service.NothingToChange, NoNodeReady):
            return
        if active is not None:
            assert active[0] in WAITING, "only what waits is superseded"
            assert active[1] in {"controller", author}, "nobody's change is pushed aside by others"

    @rule(verb=st.sampled_from([Verb.PAUSE, Verb.RESUME, Verb.RESUME, Verb.PROMOTE, Verb.ABORT]), who=PEOPLE)
    def ask(self, verb: Verb, who: str) -> None:
        rollout = self._active()
        if rollout is None:
            return
        try:
            with self.session.begin_nested():
                request(self.session, rollout.id, verb, who, now=self.now)
        except Conflict:
            return
        if verb is Verb.ABORT:
            self.aborted.add(rollout.id)
        if verb is Verb.PROMOTE:
            self.promoted.add(rollout.id)

    @rule(who=PEOPLE, agrees=st.sampled_from([True, True, True, False]), shown=st.sampled_from([True, True, False]))
    def vote(self, who: str, agrees: bool, shown: bool) -> None:
        rollout = self._active()
        if rollout is None:
            return
        right = fleets.get_revision(self.session, rollout.to_revision_id).content_hash
        cast = approvals.approve if agrees else approvals.refuse
        try:
            with self.session.begin_nested():
                cast(self.session, rollout.id, who, settings_hash=right if shown else "something else", now=self.now)
        except (Conflict, Forbidden):
            assert not shown or who == rollout.created_by or P(rollout.phase) not in {P.VALIDATING, *WAITING}
            return
        assert shown
        votes = self.votes.setdefault(rollout.id, set())
        votes.add(who) if agrees else votes.discard(who)

    @rule(on=st.booleans())
    def freeze(self, on: bool) -> None:
        if on and self.lab.pool.frozen_at is None:
            fleets.freeze_pool(self.session, self.lab.pool, reason="incident", actor="alice", now=self.now)
        elif not on:
            fleets.unfreeze_pool(self.session, self.lab.pool, actor="alice", now=self.now)

    @rule(number=which, batch=st.integers(31, 40), lease_s=st.sampled_from([5.0, 30.0]))
    def try_settings(self, number: int, batch: int, lease_s: float) -> None:
        """On one node alone: what `_settles` finds at the end is then over."""
        current = fleets.current_revision(self.session, self.lab.pool)
        wanted = fleets.settings_of(current).replace(max_batch_size=batch)
        busy = self._active() is not None
        try:
            with self.session.begin_nested():
                experiments.begin_experiment(
                    self.session, self._node(number).id, wanted, lease_s=lease_s, reason="curious", created_by="alice",
                    epoch=self.lab.epoch, now=self.now, heartbeat_timeout_s=TIMEOUT_S,
                )  # fmt: skip
        except (Conflict, service.NothingToChange):
            return
        assert not busy, "nothing is tried beside a rollout"
        assert sum(node.lease_s is not None for node in self._nodes()) <= experiments.allowed(NODES)

    @rule(number=which)
    def release(self, number: int) -> None:
        fleets.release_node(self.session, self._node(number).id, actor="alice", now=self.now)

    # Nodes and metrics ------------------------------------------------------------------------------------------

    @rule(number=which, silent=st.booleans())
    def fall_silent_or_wake(self, number: int, silent: bool) -> None:
        name = self._node(number).name
        self.deaf.add(name) if silent else self.deaf.discard(name)

    @rule(number=which)
    def restart(self, number: int) -> None:
        node = self._node(number)
        self.lives += 1
        node.instance_id, node.started_at, node.state = f"life-{self.lives}", self.now, "ready"
        self.session.flush()

    @rule(number=which)
    def refuse(self, number: int) -> None:
        node = self._node(number)
        if node.name not in self.deaf and node.desired_generation > node.observed_generation:
            self.lab.beat(
                node, self.now, rejected_generation=node.desired_generation, rejected_reason="no memory for it"
            )

    @rule(sky=st.sampled_from(["calm", "calm", "worse", "errors", "idle", "missing"]))
    def change_weather(self, sky: str) -> None:
        self.sky = sky

    @rule(answers=st.sampled_from([Answers.GOOD, *Answers]))
    def change_answers(self, answers: Answers) -> None:
        """What canaries tell of theirs, once a rollout has made somebody ask."""
        self.answers = answers

    # The controller ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 1, 2, 5, 15]), obey=st.sampled_from([True, True, True, False]))
    def pass_time(self, seconds: int, obey: bool) -> None:
        """Second by second: nodes beat and do as they are told (or only beat), the leader reconciles."""
        for _ in range(seconds):
            self._tick(1, obey)

    @rule(rounds=st.sampled_from([5, 10, 20]))
    def pass_much_time(self, rounds: int) -> None:
        for _ in range(rounds):
            self._tick(4)

    @rule()
    def reconcile_twice(self) -> None:
        """While the world stands still, what was ordered is not ordered again."""
        for _ in range(12):
            if not self._step():
                break
        else:
            raise AssertionError("never comes to rest while nothing happens")
        wishes = self._wishes()
        assert not self._step()
        assert self._wishes() == wishes

    @rule()
    def remember(self) -> None:
        """A leader reads, and is stopped before it writes."""
        rollout = self._active()
        self.old_snapshot = None if rollout is None else self._snapshot(rollout.id)
        self.old_epoch = self.lab.epoch

    @precondition(lambda self: self.old_snapshot is not None)
    @rule()
    def write_late(self) -> None:
        """It goes on with what it read: fenced if deposed, overtaken if the rollout has moved, or nothing has changed."""
        assert self.old_snapshot is not None
        before = self._wishes()
        step = reconcile(self.old_snapshot, self.now)
        row = service.get_rollout(self.session, self.old_snapshot.id)
        self.session.refresh(row)
        moved = (row.version, row.phase) != (self.old_snapshot.version, self.old_snapshot.phase.value)
        deposed = self.old_epoch != self.lab.epoch
        try:
            with self.session.begin_nested():
                execute(self.session, self.old_snapshot, step, epoch=self.old_epoch, now=self.now)
        except (Fenced, Overtaken):
            self.session.expire_all()
            assert self._wishes() == before, "a stale write left something behind"
        else:
            assert not step.actions or not (moved or deposed), "a stale write was accepted"
        self.old_snapshot = None

    @rule()
    def take_over(self) -> None:
        """Another controller leads from now on."""
        self.lives += 1
        epoch = take_over(self.session, f"controller-{self.lives}")
        assert epoch > self.lab.epoch
        self.lab.epoch = epoch

    # What holds always ------------------------------------------------------------------------------------------

    @invariant()
    def moves_are_legal_and_told_one_by_one(self) -> None:
        if not hasattr(self, "lab"):
            return
        query = select(Event).where(Event.id > self.seen_events, Event.rollout_id.is_not(None)).order_by(Event.id)
        for event in self.session.scalars(query):
            self.seen_events = event.id
            if "to" not in event.data:
                continue
            assert event.rollout_id is not None
            source, target = P(event.data["from"]), P(event.data["to"])
            assert self.path.get(event.rollout_id, P.VALIDATING) is source, "a move began where no other had ended"
            assert target in MOVES[source], f"{source} -> {target}"
            self.path[event.rollout_id] = target
            self._check_move(event.rollout_id, source, target)
        for rollout in self._rollouts():
            assert self.path.get(rollout.id, P.VALIDATING) == rollout.phase

    def _check_move(self, rollout_id: str, source: RolloutPhase, target: RolloutPhase) -> None:
        rollout = service.get_rollout(self.session, rollout_id)
        if target in ONWARDS and source in {P.ANALYZING, P.PAUSED} and rollout.plan["mode"] == Mode.CANARY:
            verdicts = set(self.session.scalars(select(Analysis.verdict).where(Analysis.rollout_id == rollout_id)))
            allowed = "PASS" in verdicts or rollout_id in self.promoted
            allowed = allowed or self.policy.rollout.on_inconclusive is OnInconclusive.PROMOTE
            assert allowed, f"inconclusive was promoted: {verdicts}"
        if target is P.BASELINING:
            others = self.votes.get(rollout_id, set()) - {rollout.created_by}
            assert len(others) >= rollout.approvals_needed, "it began without its approvals"
            assert rollout.not_before is None or self.now >= rollout.not_before, "it began before its time"

    @invariant()
    def abort_always_wins(self) -> None:
        if not hasattr(self, "lab"):
            return
        for rollout in self._rollouts():
            if rollout.id in self.aborted:
                assert P(rollout.phase) is not P.COMPLETED, "an abort that was accepted was lost"

    @invariant()
    def a_pool_has_one_under_way_and_its_end_is_the_end(self) -> None:
        if not hasattr(self, "lab"):
            return
        rows = self._rollouts()
        assert sum(row.active_pool_id is not None for row in rows) <= 1
        for row in rows:
            assert (row.active_pool_id is None) == P(row.phase).is_terminal == (row.ended_at is not None)
            if P(row.phase) in {P.CANCELLED, P.REJECTED, P.EXPIRED, P.SUPERSEDED}:
                sent = select(RolloutNode.id).where(
                    RolloutNode.rollout_id == row.id, RolloutNode.generation.is_not(None)
                )
                assert self.session.scalar(sent) is None, f"{row.phase} though settings were sent"

    @invariant()
    def generations_never_go_back_and_every_wish_is_owed_once(self) -> None:
        if not hasattr(self, "lab"):
            return
        for node in self._nodes():
            assert node.desired_generation >= self.generations.get(node.id, 0)
            self.generations[node.id] = node.desired_generation
        keys = list(self.session.scalars(select(OutboxItem.key)))
        assert len(keys) == len(set(keys))

    @invariant()
    def no_more_than_a_tenth_is_in_flight(self) -> None:
        if not hasattr(self, "lab"):
            return
        rollout = self._active()
        if rollout is None or rollout.plan["mode"] == Mode.DIRECT:
            return
        sent = select(RolloutNode).where(
            RolloutNode.rollout_id == rollout.id, RolloutNode.state == NodeState.DISPATCHED.value
        )
        assert len(list(self.session.scalars(sent))) <= in_flight.allowed(NODES)

    @invariant()
    def before_its_wave_a_node_has_the_old_settings(self) -> None:
        if not hasattr(self, "lab"):
            return
        rollout = self._active()
        if rollout is None:
            return
        plan = RolloutPlan.from_json(rollout.plan)
        rows = self.session.scalars(select(RolloutNode).where(RolloutNode.rollout_id == rollout.id))
        touched = {row.node_id for row in rows if row.generation is not None}
        if P(rollout.phase) in {P.CANARY, P.ANALYZING}:
            assert touched <= set(plan.canary)
        if P(rollout.phase) in {P.VALIDATING, P.BASELINING, *WAITING}:
            assert not touched

    def teardown(self) -> None:
        if not hasattr(self, "lab"):
            return
        try:
            self._settles()
        finally:
            self.scope.__exit__(None, None, None)

    def _settles(self) -> None:
        """The storm is over: what is under way ends or waits for a person, and every node gets what its pool has."""
        self.sky, self.deaf, self.answers = "calm", set(), Answers.GOOD
        fleets.unfreeze_pool(self.session, self.lab.pool, actor="alice", now=self.now)
        for _ in range(150):  # longer than a wait and a pause may last together
            self._tick(5)
            if self._active() is None:
                break
        assert self._active() is None, f"still {self._active().phase}"  # type: ignore[union-attr]
        for number in range(NODES):
            self.release(number)
        wanted = fleets.current_revision(self.session, self.lab.pool)
        for _ in range(int(convergence.AGAIN_MOST_S / 5) + 8):  # a node that refused is asked again later and later
            self._tick(5)
            if all(node.observed_hash == wanted.content_hash and fleets.in_sync(node) for node in self._nodes()):
                break
        for node in self._nodes():
            assert node.desired_revision_id == wanted.id and node.observed_hash == wanted.content_hash

    # Means --------------------------------------------------------------------------------------------------------

    def _rollouts(self) -> list[Rollout]:
        query = select(Rollout).where(Rollout.pool_id == self.lab.pool.id).order_by(Rollout.id)
        return list(self.session.scalars(query.execution_options(populate_existing=True)))

    def _active(self) -> Rollout | None:
        return next((row for row in self._rollouts() if row.active_pool_id is not None), None)

    def _nodes(self) -> list[Node]:
        return fleets.list_nodes(self.session, self.lab.pool.id)

    def _node(self, number: int) -> Node:
        return self._nodes()[number]

    def _wishes(self) -> list[tuple[str, int]]:
        columns = select(Node.id, Node.desired_generation).order_by(Node.id)
        return [(row.id, row.desired_generation) for row in self.session.execute(columns)]

    def _snapshot(self, rollout_id: str) -> RolloutSnapshot:
        from_sql = self.lab.snapshot(service.get_rollout(self.session, rollout_id), self.now)
        due = windows.due(from_sql, self.now)
        if due and self.sky != "missing":
            found = {end: {node.id: self._measured(node, end) for node in self._nodes()} for end in due}
            windows.save(self.session, rollout_id, found)
            from_sql = self.lab.snapshot(service.get_rollout(self.session, rollout_id), self.now)
        return from_sql

    def _measured(self, node: Node, end: datetime) -> Observation:
        rollout = self._active()
        changed = (
            rollout is not None
            and node.observed_hash == fleets.get_revision(self.session, rollout.to_revision_id).content_hash
        )
        match self.sky:
            case "worse" if changed:
                return window(end, ttft_s=3.0, itl_s=0.6, window_s=2)
            case "errors" if changed:
                return window(end, requests=10, errors=10, window_s=2)
            case "idle":
                return window(end, ttft_s=None, itl_s=None, requests=0, window_s=2)
        return window(end, window_s=2)

    def _tick(self, seconds: int, obey: bool = True) -> None:
        self.now += timedelta(seconds=seconds)
        self._beats(obey)
        strays = convergence.find_strays(
            self.session, now=self.now, heartbeat_timeout_s=TIMEOUT_S, terms=self.lab.terms
        )
        if strays:
            convergence.converge(self.session, strays, terms=self.lab.terms, now=self.now)
        self._step()

    def _step(self) -> bool:
        """One step of the leader; whether it did anything."""
        rollout = self._active()
        if rollout is None:
            return False
        seen = self._snapshot(rollout.id)
        once, twice = reconcile(seen, self.now), reconcile(seen, self.now)
        assert once == twice, "reconcile is not pure"
        execute(self.session, seen, once, epoch=self.lab.epoch, now=self.now)
        return bool(once.actions)

    def _beats(self, obey: bool) -> None:
        for node in self._nodes():
            if node.name in self.deaf:
                continue
            refused = node.rejected_generation == node.desired_generation
            if obey and not refused and node.desired_revision is not None:
                self.lab.beat(
                    node, self.now, settings=EngineSettings.model_validate(node.desired_revision.settings),
                    observed_generation=node.desired_generation, observed_epoch=node.desired_epoch,
                    served=told_of(node, self.answers),
                )  # fmt: skip
            else:
                self.lab.beat(node, self.now)
