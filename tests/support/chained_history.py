"""A database with a chained and signed history, and what somebody who can write to it might do."""

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from controlplane.audit import heads
from controlplane.audit.models import AuditHead
from controlplane.db import make_engine, session_scope
from controlplane.events import chain
from controlplane.events import service as events
from controlplane.events.models import ChainHead, Event
from tests.support.database import sqlite_url

KEY = "ttk_a_key_for_tests_that_is_long_enough"
EVENTS = 40
START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def chained_history(folder: Path) -> Path:
    """The file of a database with EVENTS events in their places, signed after every tenth; without the triggers, which who can
    write the database takes away first."""
    url = sqlite_url(folder)
    engine = make_engine(url)
    for number in range(EVENTS):
        with session_scope(engine) as session:
            events.record(
                session, kind="policy.changed", message=f"change {number}", at=START + timedelta(minutes=number), actor="ada",
                pool_id="p1", data={"from": number, "to": {"value": number + 0.5}},
            )  # fmt: skip
        if number % 10 == 9:
            with session_scope(engine) as session:
                chain.extend(session)
                heads.sign(session, KEY, START + timedelta(minutes=number))
    with engine.begin() as connection:
        connection.execute(text("DROP TRIGGER events_no_update"))
        connection.execute(text("DROP TRIGGER events_no_delete"))
    engine.dispose()
    return folder / "trimtab.sqlite3"


def copy_of(file: Path, name: str) -> Engine:
    fresh = file.with_name(name)
    shutil.copyfile(file, fresh)
    return make_engine(f"sqlite:///{fresh}")


def rehash(session: Session, start: int = 1) -> None:
    """What somebody without the key, but with this program, can do: a chain that is whole again, from a position on."""
    session.flush()
    rows = list(session.scalars(select(Event).where(Event.position >= start).order_by(Event.position)))
    before = session.scalars(select(Event.hash).where(Event.position == start - 1)).first() or chain.GENESIS
    for position, row in enumerate(rows, start):
        row.position = position
        row.hash = before = chain.link(before, position, row)
    end = session.scalars(select(ChainHead)).one()
    end.position, end.hash = start - 1 + len(rows), before
    session.flush()


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, datetime):
        return value + timedelta(seconds=rng.choice((-1, 1)) * rng.randint(1, 10**6))
    if isinstance(value, dict):
        return {**value, "to": {"value": rng.random()}}
    if value is None:
        return f"forged-{rng.randrange(10**6)}"
    if isinstance(value, int):
        return value + 1000 + rng.randrange(10**6)
    return value[:-1] + rng.choice("QXYZ")


def _one(session: Session, rng: random.Random) -> Event:
    return session.scalars(select(Event).where(Event.position == rng.randint(1, EVENTS))).one()


def change(session: Session, rng: random.Random) -> None:
    row = _one(session, rng)
    field = rng.choice(
        (
            "at",
            "kind",
            "severity",
            "actor",
            "message",
            "pool_id",
            "node_id",
            "rollout_id",
            "decision_id",
            "data",
            "hash",
            "id",
        )
    )
    setattr(row, field, _other(getattr(row, field), rng))


def change_with_its_hash(session: Session, rng: random.Random) -> None:
    row = _one(session, rng)
    row.actor = "nobody"
    before = session.scalars(select(Event.hash).where(Event.position == (row.position or 0) - 1)).first()
    row.hash = chain.link(before or chain.GENESIS, row.position or 0, row)


def change_and_write_anew(session: Session, rng: random.Random) -> None:
    row = _one(session, rng)
    row.message = "nothing happened here"
    rehash(session, row.position or 1)


def drop(session: Session, rng: random.Random) -> None:
    session.delete(_one(session, rng))


def drop_and_write_anew(session: Session, rng: random.Random) -> None:
    position = rng.randint(1, EVENTS)
    session.execute(text("DELETE FROM events WHERE position = :p"), {"p": position})
    rehash_after_gap(session, position)


def rehash_after_gap(session: Session, position: int) -> None:
    for later in range(position + 1, EVENTS + 1):
        session.execute(text("UPDATE events SET position = :q WHERE position = :p"), {"p": later, "q": later - 1})
    rehash(session, position)


def cut_the_end(session: Session, rng: random.Random) -> None:
    session.execute(text("DELETE FROM events WHERE position > :p"), {"p": rng.randint(0, EVENTS - 1)})


def cut_the_end_and_move_it(session: Session, rng: random.Random) -> None:
    keep = rng.randint(1, EVENTS - 1)
    session.execute(text("DELETE FROM events WHERE position > :p"), {"p": keep})
    rehash(session, keep)


def swap(session: Session, rng: random.Random) -> None:
    one, other = rng.sample(range(1, EVENTS + 1), 2)
    rows = [session.scalars(select(Event).where(Event.position == position)).one() for position in (one, other)]
    rows[0].message, rows[1].message = rows[1].message, rows[0].message


def take_out_of_order(session: Session, rng: random.Random) -> None:
    row = _one(session, rng)
    row.position = row.hash = None


def add_behind_the_end(session: Session, rng: random.Random) -> None:
    last = session.scalars(select(Event).where(Event.position == EVENTS)).one()
    row = Event(
        at=last.at, kind="policy.changed", severity="info", actor="eve", message="m", data={}, position=EVENTS + 1
    )
    session.add(row)
    session.flush()
    row.hash = chain.link(last.hash or "", EVENTS + 1, row)


def add_before_the_first(session: Session, rng: random.Random) -> None:
    row = Event(
        at=START, kind="policy.changed", severity="info", actor="eve", message="m", data={}, position=-rng.randint(0, 5)
    )
    session.add(row)
    session.flush()
    row.hash = chain.link(chain.GENESIS, row.position or 0, row)


def move_the_end(session: Session, rng: random.Random) -> None:
    end = session.scalars(select(ChainHead)).one()
    if rng.random() < 0.5:
        end.position += rng.choice((-1, 1)) * rng.randint(1, 30)
    else:
        session.delete(end)


def forge_a_signature(session: Session, rng: random.Random) -> None:
    head = session.scalars(select(AuditHead).where(AuditHead.position == 10 * rng.randint(1, EVENTS // 10))).one()
    match rng.randrange(4):
        case 0:
            head.signed_at += timedelta(seconds=rng.randint(1, 10**6))
        case 1:
            head.signature = heads.signature(
                "ttk_another_key_of_somebody_else_", head.position, head.hash, head.signed_at
            )
        case 2:
            head.hash = f"{rng.getrandbits(256):064x}"
        case _:
            head.key_id = heads.key_id("ttk_another_key_of_somebody_else_")


def throw_all_signatures_away(session: Session, rng: random.Random) -> None:
    session.execute(text("DELETE FROM audit_heads"))
    change_and_write_anew(session, rng)


TAMPERINGS: tuple[Callable[[Session, random.Random], None], ...] = (
    change, change, change, change_with_its_hash, change_and_write_anew, drop, drop_and_write_anew, cut_the_end,
    cut_the_end_and_move_it, swap, take_out_of_order, add_behind_the_end, add_before_the_first, move_the_end,
    forge_a_signature, throw_all_signatures_away,
)  # fmt: skip
