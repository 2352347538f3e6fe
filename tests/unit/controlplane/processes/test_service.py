from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from controlplane.processes import service

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_beat_moves_the_time_and_keeps_the_start(session: Session) -> None:
    service.beat(session, name="w", kind="worker", now=NOW, detail={"a": 1})
    service.beat(session, name="w", kind="worker", now=NOW + timedelta(seconds=10), detail={"a": 2})
    row = service.list_processes(session, NOW)[0]
    assert (row.at, row.started_at, row.detail) == (NOW + timedelta(seconds=10), NOW, {"a": 2})


def test_silence_is_not_alive_and_long_silence_is_forgotten(session: Session) -> None:
    service.beat(session, name="w", kind="worker", now=NOW)
    row = service.list_processes(session, NOW)[0]
    assert service.is_alive(row, NOW + timedelta(seconds=60))
    assert not service.is_alive(row, NOW + timedelta(seconds=61))
    assert service.list_processes(session, NOW + timedelta(hours=2)) == []


def test_who_signs_off_is_gone(session: Session) -> None:
    service.beat(session, name="w", kind="worker", now=NOW)
    service.sign_off(session, "w")
    assert service.list_processes(session, NOW) == []


def test_a_slot_is_taken_once(session: Session) -> None:
    assert service.take_slot(session, "prune", 7, NOW)
    assert not service.take_slot(session, "prune", 7, NOW)
    assert service.take_slot(session, "prune", 8, NOW)
    assert service.take_slot(session, "beat", 7, NOW)
