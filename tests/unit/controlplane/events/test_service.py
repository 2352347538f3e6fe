from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from controlplane.events import service

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class TestOwe:
    def test_the_same_key_twice_is_the_row_that_stands(self, session: Session) -> None:
        first = service.owe(session, kind="push", key="k", payload={"a": 1}, at=NOW)
        second = service.owe(session, kind="push", key="k", payload={"a": 2}, at=NOW + timedelta(hours=1))
        assert second.id == first.id
        assert second.payload == {"a": 1}

    def test_is_due_at_once_unless_said_otherwise(self, session: Session) -> None:
        later = NOW + timedelta(minutes=5)
        assert service.owe(session, kind="push", key="a", payload={}, at=NOW).available_at == NOW
        assert service.owe(session, kind="push", key="b", payload={}, at=NOW, available_at=later).available_at == later


class TestListEvents:
    def test_is_newest_first_and_narrowed_by_what_is_given(self, session: Session) -> None:
        for kind, pool in (("rollout.started", "p1"), ("node.registered", "p1"), ("rollout.completed", "p2")):
            service.record(session, kind=kind, message="", at=NOW, pool_id=pool)
        assert [e.kind for e in service.list_events(session, limit=2)] == ["rollout.completed", "node.registered"]
        assert [e.kind for e in service.list_events(session, limit=9, pool_id="p1", kind="rollout.*")] == [
            "rollout.started"
        ]
        assert service.list_events(session, limit=9, kind="rollout%") == []

    def test_pages_by_id(self, session: Session) -> None:
        events = [service.record(session, kind="k", message="", at=NOW) for _ in range(5)]
        session.flush()
        made = [event.id for event in events]
        assert [e.id for e in service.list_events(session, limit=2, before_id=made[3])] == [made[2], made[1]]
        assert [e.id for e in service.events_after(session, made[2], limit=9)] == made[3:]
