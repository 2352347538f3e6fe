"""The history as evidence: every way of tampering with it is found (500 of 500); who asks for it; what may not be done to it."""

import csv
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DatabaseError

from controlplane.audit import heads
from controlplane.audit.verify import Anchor, verify
from controlplane.db import session_scope
from controlplane.events import chain
from controlplane.events import service as events
from tests.support.api import Api, api_server
from tests.support.chained_history import EVENTS, KEY, TAMPERINGS, chained_history, copy_of, rehash
from tests.support.database import sqlite_url
from trimtab.cli.app import run


@pytest.mark.parametrize("tries", [96, pytest.param(500, marks=pytest.mark.slow)])
def test_all_tamperings_are_found(tmp_path: Path, tries: int) -> None:
    file = chained_history(tmp_path)
    clean = copy_of(file, "clean.sqlite3")
    assert verify(clean, KEY).is_intact
    clean.dispose()
    rng, missed = random.Random(tries), []
    for number in range(tries):
        tamper = TAMPERINGS[number % len(TAMPERINGS)]
        engine = copy_of(file, "tampered.sqlite3")
        with session_scope(engine) as session:
            tamper(session, rng)
        if verify(engine, KEY).is_intact:
            missed.append((number, tamper.__name__))
        engine.dispose()
        for leftover in tmp_path.glob("tampered.sqlite3*"):
            leftover.unlink()
    assert missed == []


def test_a_cut_with_its_signatures_is_found_by_what_was_kept_elsewhere(tmp_path: Path) -> None:
    engine = copy_of(chained_history(tmp_path), "cut.sqlite3")
    kept = Anchor(EVENTS, verify(engine, KEY).head_hash)
    with session_scope(engine) as session:
        session.execute(text("DELETE FROM events WHERE position > 30"))
        session.execute(text("DELETE FROM audit_heads WHERE position > 30"))
        rehash(session, 30)
    assert verify(engine, KEY).is_intact  # a shorter true history: its signature is true, and old
    assert not verify(engine, KEY, anchors=(kept,)).is_intact
    engine.dispose()


def test_one_change_is_one_finding_and_names_the_event(tmp_path: Path) -> None:
    engine = copy_of(chained_history(tmp_path), "one.sqlite3")
    with engine.begin() as connection:
        connection.execute(text("UPDATE events SET actor = 'eve' WHERE position = 17"))
    findings = verify(engine, KEY).findings
    assert [(found.position, found.event_id) for found in findings] == [(17, 17)]
    engine.dispose()


def test_many_pages_are_one_chain_and_late_commits_come_later(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlplane.audit.verify.PAGE", 7)
    for number in range(30):
        with session_scope(engine) as session:
            events.record(
                session, kind="policy.changed", message=f"{number} \N{SNOWMAN}", at=datetime.now(UTC), data={"x": 1e22}
            )
        if number % 4 == 0:
            with session_scope(engine) as session:
                chain.extend(session, limit=3)
    with session_scope(engine) as session:
        while chain.extend(session, limit=3):
            pass
        heads.sign(session, KEY, datetime.now(UTC))
    report = verify(engine, KEY)
    assert (report.is_intact, report.checked, report.loose, report.signatures) == (True, 30, 0, 1)


@pytest.mark.parametrize("statement", ["UPDATE events SET actor = 'eve'", "DELETE FROM events WHERE position = 1"])
def test_the_database_itself_refuses(engine: Engine, statement: str) -> None:
    with session_scope(engine) as session:
        events.record(session, kind="policy.changed", message="m", at=datetime.now(UTC))
    with session_scope(engine) as session:
        chain.extend(session)
    with pytest.raises(DatabaseError, match="append-only"), engine.begin() as connection:
        connection.execute(text(statement))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    url = sqlite_url(tmp_path)
    with api_server(url, audit_key=KEY) as made:
        yield made


@pytest.fixture
def history(api: Api) -> Iterator[Engine]:
    engine = copy_engine(api)
    with session_scope(engine) as session:
        for number in range(5):
            events.record(
                session,
                kind="policy.changed",
                message=f"change {number}",
                at=datetime(2026, 1, 1, number, tzinfo=UTC),
                actor="ada",
            )
        events.record(
            session,
            kind="access.token_created",
            message='=HYPERLINK("x")',
            at=datetime(2026, 1, 2, tzinfo=UTC),
            actor="bob",
        )
    with session_scope(engine) as session:
        chain.extend(session)
        heads.sign(session, KEY, datetime.now(UTC))
    yield engine
    engine.dispose()


def copy_engine(api: Api) -> Engine:
    from controlplane.db import make_engine

    return make_engine(api.settings.database_url)


class TestReading:
    def test_filters_and_pages(self, api: Api, history: Engine) -> None:
        def messages(**query: str) -> list[str]:
            return [row["message"] for row in api.client.get("/api/v1/audit", params=query).json()["items"]]

        assert messages(actor="ada") == [f"change {number}" for number in (4, 3, 2, 1, 0)]
        assert messages(kind="access.*") == ['=HYPERLINK("x")']
        assert messages(actor="ada", since="2026-01-01T01:00:00Z", until="2026-01-01T03:00:00Z") == [
            "change 2",
            "change 1",
        ]
        assert messages(text="GE 3") == ["change 3"]
        first = api.client.get("/api/v1/audit?limit=4&actor=ada").json()
        second = api.client.get(
            "/api/v1/audit", params={"limit": 4, "actor": "ada", "cursor": first["next_cursor"]}
        ).json()
        assert [row["message"] for row in second["items"]] == ["change 0"]

    def test_jsonl_has_every_entry_in_order(self, api: Api, history: Engine) -> None:
        answer = api.client.get("/api/v1/audit/export?format=jsonl")
        rows = [json.loads(line) for line in answer.text.splitlines()]
        assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
        assert answer.headers["content-disposition"].endswith('.jsonl"')

    def test_csv_holds_no_formula(self, api: Api, history: Engine) -> None:
        answer = api.client.get("/api/v1/audit/export?format=csv&actor=bob")
        (row,) = csv.DictReader(io.StringIO(answer.text))
        assert row["message"] == '\'=HYPERLINK("x")'

    def test_verification(self, api: Api, history: Engine) -> None:
        found = api.client.get("/api/v1/audit/verification").json()
        assert (found["intact"], found["signatures"], found["findings"]) == (True, 1, [])


class TestCommand:
    def test_it_says_what_was_done_and_exits_with_1(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = chained_history(tmp_path)
        monkeypatch.setenv("CONTROLPLANE_DATABASE_URL", f"sqlite:///{file}")
        monkeypatch.setenv("CONTROLPLANE_AUDIT_KEY", KEY)
        assert run(["audit", "verify"]) == 0
        head = capsys.readouterr().out.split("head ")[1].strip()
        assert run(["audit", "verify", "--anchor", head]) == 0
        assert run(["audit", "verify", "--anchor", "nonsense"]) == 2
        assert run(["audit", "verify", "--max-age", "60"]) == 1  # signed this morning
        engine = copy_of(file, "tampered.sqlite3")
        with engine.begin() as connection:
            connection.execute(text("UPDATE events SET message = 'x' WHERE position = 3"))
        engine.dispose()
        monkeypatch.setenv("CONTROLPLANE_DATABASE_URL", f"sqlite:///{file.with_name('tampered.sqlite3')}")
        capsys.readouterr()
        assert run(["audit", "verify"]) == 1
        assert "at 3:" in capsys.readouterr().err
