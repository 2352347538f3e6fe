"""Step memories in SQL: what is written, read back, and told."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event, select, update
from sqlalchemy.orm import Session

from controlplane.decisions.models import PerformanceModelRecord
from controlplane.decisions.step_memory.levels import Level, PoolMemory
from controlplane.decisions.step_memory.memory import Memory
from controlplane.decisions.step_memory.store import Memories, read_memory
from controlplane.events.kinds import EventKind
from controlplane.events.models import Event
from controlplane.fleets.models import Pool
from controlplane.retention import prune
from inference_node.contract.settings import Precision
from inference_node.contract.step_profile import StepArithmetic
from tests.support.rollouts_in_sql import NOW, lab

BF16 = Level.of((("cpu", "m", "1"), ("gpu", "m", "1")), StepArithmetic(precision=Precision.BF16, pruning=0.3))
INT8 = Level.of((("cpu", "m", "1"),), StepArithmetic(precision=Precision.INT8))
MEMORY = Memory(
    (0.02, 0.1 + 0.2, 1 / 3), factors=(1.3, 0.9, 1.6), windows=40, misses=(0.05, 0.04), trials=30,
    is_proven=True, a=(0.1,) * 6, b=(1 / 7,) * 3, error=0.04, least_rows=1.0,
    most_rows=9.0, offs=(0.1, -0.1), learned_at=NOW, in_force_since=NOW,
)  # fmt: skip
LEARNED = PoolMemory({BF16: MEMORY, INT8: replace(MEMORY, in_force_since=None)})


@pytest.fixture
def pool(session: Session) -> Pool:
    return lab(session).pool


def kept(session: Session, pool: Pool, *memories: PoolMemory, epoch: int = 1) -> Memories:
    keeper = Memories()
    for memory in memories:
        keeper.of(session, pool.id, epoch)
        keeper.keep(session, pool.id, epoch, memory, NOW)
    return keeper


class TestKeeps:
    def test_comes_back_exactly(self, session: Session, pool: Pool) -> None:
        kept(session, pool, LEARNED)
        session.expire_all()
        assert read_memory(session, pool.id) == LEARNED

    def test_what_did_not_change_is_not_written(self, session: Session, pool: Pool) -> None:
        keeper = kept(session, pool, LEARNED)
        written: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            written.append(statement.split()[0])

        event.listen(session.get_bind(), "before_cursor_execute", note)
        try:
            keeper.keep(session, pool.id, 1, LEARNED, NOW)
            assert written == []
            more = LEARNED.with_level(INT8, replace(MEMORY, windows=41))
            keeper.keep(session, pool.id, 1, more, NOW)
        finally:
            event.remove(session.get_bind(), "before_cursor_execute", note)
        assert written == ["UPDATE"]
        assert read_memory(session, pool.id) == more

    def test_is_read_again_in_another_epoch(self, session: Session, pool: Pool) -> None:
        keeper = kept(session, pool, LEARNED)
        other = LEARNED.with_level(INT8, replace(MEMORY, windows=99))
        kept(session, pool, other, epoch=2)
        assert keeper.of(session, pool.id, 1) == LEARNED
        assert keeper.of(session, pool.id, 3) == other

    def test_what_was_forgotten_is_read_again(self, session: Session, pool: Pool) -> None:
        keeper = kept(session, pool, LEARNED)
        kept(session, pool, LEARNED.with_level(INT8, replace(MEMORY, windows=99)))
        keeper.forget_all_but({pool.id})
        assert keeper.of(session, pool.id, 1) == LEARNED
        keeper.forget(pool.id)
        assert keeper.of(session, pool.id, 1).levels[INT8].windows == 99
        keeper.forget_all_but(set())
        assert keeper._of == {}

    def test_a_row_that_was_pruned_is_written_anew(self, session: Session, pool: Pool) -> None:
        keeper = kept(session, pool, LEARNED)
        assert prune(session, NOW + timedelta(days=29)) == {}
        assert prune(session, NOW + timedelta(days=31)) == {"performance_models": 2}
        more = LEARNED.with_level(BF16, replace(MEMORY, windows=41))
        keeper.keep(session, pool.id, 1, more, NOW)
        assert read_memory(session, pool.id).levels == {BF16: more.levels[BF16]}

    def test_a_row_that_cannot_be_read_leaves_the_others(self, session: Session, pool: Pool) -> None:
        kept(session, pool, LEARNED)
        table = PerformanceModelRecord
        session.execute(update(table).where(table.key == INT8.key).values(memory={"reference": "none"}))
        session.expire_all()
        assert read_memory(session, pool.id).levels == {BF16: MEMORY}


class TestTells:
    def told(self, session: Session) -> list[str]:
        kinds = (EventKind.MODEL_DEGRADED, EventKind.MODEL_RECOVERED)
        return list(session.scalars(select(Event.kind).where(Event.kind.in_(kinds)).order_by(Event.id)))

    def test_once_when_a_machine_changed_and_once_when_that_is_over(self, session: Session, pool: Pool) -> None:
        degraded = [replace(MEMORY, is_degraded=True, windows=40 + i) for i in range(3)]
        calm = replace(MEMORY, windows=90)
        steps = [PoolMemory({BF16: each}) for each in (MEMORY, *degraded, calm, replace(calm, windows=91))]
        kept(session, pool, *steps)
        assert self.told(session) == ["model.degraded", "model.recovered"]

    def test_in_words_that_name_the_level(self, session: Session, pool: Pool) -> None:
        kept(session, pool, PoolMemory({BF16: MEMORY}), PoolMemory({BF16: replace(MEMORY, is_degraded=True)}))
        found = session.scalars(select(Event).where(Event.kind == EventKind.MODEL_DEGRADED)).one()
        assert "bf16" in found.message
        assert "pruning 0.3" in found.message
        assert (found.pool_id, found.severity) == (pool.id, "warning")


def test_levels_have_names_of_their_own() -> None:
    others = [replace(BF16, pruning=0.2), replace(BF16, precision=Precision.INT8), replace(BF16, machine=INT8.machine)]
    assert len({level.key for level in (BF16, INT8, *others)}) == 5
