from datetime import UTC, datetime

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Conflict, NotFound
from controlplane.events.models import Event, OutboxItem
from controlplane.fleets import service
from controlplane.fleets.models import Node
from inference_node.contract.settings import EngineSettings
from tests.support.registrations import registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LARGE = EngineSettings(max_batch_size=32)


@pytest.fixture
def node(session: Session) -> Node:
    return service.register_node(session, registration(), now=NOW).node


class TestCreateRevision:
    def test_counts_up(self, session: Session, node: Node) -> None:
        made = service.create_revision(session, node.pool, LARGE, created_by="me", reason="why", now=NOW)
        assert (made.number, made.created_by, made.reason) == (2, "me", "why")

    def test_of_what_the_latest_holds_is_the_latest(self, session: Session, node: Node) -> None:
        first = service.create_revision(session, node.pool, LARGE, created_by="me", reason="", now=NOW)
        assert service.create_revision(session, node.pool, LARGE, created_by="you", reason="", now=NOW).id == first.id

    def test_of_what_an_older_one_holds_is_a_new_one(self, session: Session, node: Node) -> None:
        service.create_revision(session, node.pool, LARGE, created_by="me", reason="", now=NOW)
        back = service.create_revision(session, node.pool, EngineSettings(), created_by="me", reason="", now=NOW)
        assert back.number == 3


class TestSetDesired:
    def test_generations_only_grow_and_each_push_is_owed(self, session: Session, node: Node) -> None:
        revision = service.create_revision(session, node.pool, LARGE, created_by="me", reason="", now=NOW)
        generations = [service.set_desired(session, node, revision, epoch=4, now=NOW, rollout_id="r") for _ in range(3)]
        assert generations == [1, 2, 3]
        owed = session.scalars(select(OutboxItem).order_by(OutboxItem.id)).all()
        assert [item.key for item in owed] == [f"push:{node.id}:{g}" for g in generations]
        assert owed[-1].payload == {"node_id": node.id, "generation": 3, "epoch": 4, "rollout_id": "r"}

    def test_the_push_says_all_that_the_node_needs(self, session: Session, node: Node) -> None:
        revision = service.create_revision(session, node.pool, LARGE, created_by="me", reason="", now=NOW)
        service.set_desired(session, node, revision, epoch=4, now=NOW)
        push = service.desired_push(session, node)
        assert push is not None
        assert (push.node_id, push.generation, push.epoch, push.revision) == (node.id, 1, 4, 2)
        assert (push.settings, push.config_hash, push.issued_at) == (LARGE, LARGE.content_hash(), NOW)


class TestFreeze:
    def test_is_told_with_its_reason_and_lifted(self, session: Session, node: Node) -> None:
        service.freeze_pool(session, node.pool, reason="release day", actor="ann", now=NOW)
        assert service.count_frozen(session) == 1
        service.unfreeze_pool(session, node.pool, actor="ann", now=NOW)
        service.unfreeze_pool(session, node.pool, actor="ann", now=NOW)
        assert service.count_frozen(session) == 0
        told = session.scalars(select(Event).where(Event.kind.startswith("pool.")).order_by(Event.id)).all()
        assert [e.kind for e in told] == ["pool.created", "pool.frozen", "pool.unfrozen"]
        assert "release day" in told[1].message

    def test_twice_is_refused_with_the_reason_that_stands(self, session: Session, node: Node) -> None:
        service.freeze_pool(session, node.pool, reason="release day", actor="ann", now=NOW)
        with pytest.raises(Conflict, match="release day"):
            service.freeze_pool(session, node.pool, reason="other", actor="bob", now=NOW)


@pytest.mark.parametrize("read", [service.get_pool, service.get_node, service.get_revision])
def test_what_is_not_there_is_not_found_by_its_id(session: Session, read: object) -> None:
    assert callable(read)
    with pytest.raises(NotFound, match="'nope'"):
        read(session, "nope")
