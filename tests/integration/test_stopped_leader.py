"""A leader stopped amid a transaction (SIGSTOP, a frozen machine) holds the row of the lease; another must lead all the same."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from controlplane import db, schema
from controlplane.db import make_engine, session_scope
from controlplane.processes import shards
from controlplane.processes.shards import Terms
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.postgres

POOL = "a pool"


def _epoch(terms: Terms) -> int:
    epoch = terms.of(POOL)
    assert epoch is not None
    return epoch


def test_its_transaction_is_ended_and_another_leads(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database(postgres_url) as url:
        other = make_engine(url)
        schema.upgrade(other)
        monkeypatch.setattr(db, "IDLE_IN_TRANSACTION_S", 0.5)
        stopped = make_engine(url)
        with session_scope(other) as session:
            before = shards.share_out(session, holder="stopped", lease_s=0.001).terms
        with Session(stopped) as amid:
            shards.assert_leads(amid, POOL, _epoch(before))  # and nothing comes after it
            with session_scope(other) as session:
                after = shards.share_out(session, holder="other", lease_s=15).terms
            assert _epoch(after) > _epoch(before)
            with pytest.raises(DBAPIError):  # what it goes on with is written nowhere
                amid.execute(text("SELECT 1"))
            amid.rollback()
        with session_scope(stopped, read_only=True) as session:  # its pool takes a fresh connection
            assert shards.epoch_of(session, POOL) == _epoch(after)
        for engine in (stopped, other):
            engine.dispose()
