from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.events import outbox, service
from controlplane.events.models import Event, OutboxItem
from controlplane.events.outbox import CLAIM_S, MAX_ATTEMPTS, REPUBLISH_AFTER_S

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def owe(session: Session, key: str = "push:n:1") -> int:
    return service.owe(session, kind="push", key=key, payload={"node_id": "n", "generation": 1}, at=NOW).id


class TestPublishing:
    def test_what_is_owed_is_taken_once(self, session: Session) -> None:
        item_id = owe(session)
        assert [item.id for item in outbox.take_due(session, NOW)] == [item_id]
        assert not outbox.has_due(session, after(REPUBLISH_AFTER_S - 1))

    def test_a_hint_that_led_to_nothing_is_sent_again(self, session: Session) -> None:
        """The queue was wiped, or the relay died between the mark and the message."""
        item_id = owe(session)
        outbox.take_due(session, NOW)
        assert [item.id for item in outbox.take_due(session, after(REPUBLISH_AFTER_S + 1))] == [item_id]

    def test_one_that_could_not_be_sent_is_due_at_once(self, session: Session) -> None:
        item_id = owe(session)
        outbox.take_due(session, NOW)
        outbox.not_published(session, [item_id])
        assert outbox.has_due(session, NOW)

    def test_what_is_done_is_never_sent_again(self, session: Session) -> None:
        item_id = owe(session)
        outbox.claim(session, item_id, NOW)
        outbox.finish(session, item_id, NOW)
        assert not outbox.has_due(session, after(86_400))

    def test_oldest_first_and_no_more_than_asked_for(self, session: Session) -> None:
        ids = [owe(session, f"push:n:{k}") for k in range(5)]
        assert [item.id for item in outbox.take_due(session, NOW, limit=3)] == ids[:3]


class TestClaiming:
    def test_only_one_holds_it(self, session: Session) -> None:
        item_id = owe(session)
        assert outbox.claim(session, item_id, NOW) is not None
        assert outbox.claim(session, item_id, after(1)) is None

    def test_a_worker_that_died_lets_go_in_time(self, session: Session) -> None:
        item_id = owe(session)
        outbox.claim(session, item_id, NOW)
        again = outbox.claim(session, item_id, after(CLAIM_S + 1))
        assert again is not None
        assert again.attempts == 2

    def test_of_what_is_gone_is_nothing(self, session: Session) -> None:
        assert outbox.claim(session, 4711, NOW) is None


class TestFailing:
    def test_is_tried_again_later(self, session: Session) -> None:
        item_id = owe(session)
        outbox.claim(session, item_id, NOW)
        outbox.fail(session, item_id, NOW, error="refused")
        assert not outbox.has_due(session, NOW)
        assert outbox.has_due(session, after(2))
        assert session.get_one(OutboxItem, item_id).last_error == "refused"

    def test_often_enough_is_dead_and_told(self, session: Session) -> None:
        item_id = owe(session)
        now = NOW
        for _ in range(MAX_ATTEMPTS):
            now += timedelta(seconds=60)
            assert outbox.claim(session, item_id, now) is not None
            outbox.fail(session, item_id, now, error="refused")
        assert session.get_one(OutboxItem, item_id).dead_at == now
        assert not outbox.has_due(session, now + timedelta(days=1))
        event = session.scalars(select(Event).where(Event.kind == "outbox.dead")).one()
        assert "refused" in event.message

    def test_killing_its_workers_often_enough_is_dead_too(self, session: Session) -> None:
        item_id = owe(session)
        now = NOW
        for _ in range(MAX_ATTEMPTS):
            assert outbox.claim(session, item_id, now) is not None
            now += timedelta(seconds=CLAIM_S + 1)
        assert outbox.claim(session, item_id, now) is None
        assert session.get_one(OutboxItem, item_id).dead_at == now
