"""Secrets at rest: what a dump of either database shows, keys that are given late, replaced and lost, and the command."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import Engine, inspect, text
from sqlalchemy.orm import Session

from controlplane import schema
from controlplane.db import engine_of, make_engine, session_scope
from controlplane.errors import Invalid
from controlplane.events import outbox
from controlplane.fleets import service as fleets
from controlplane.fleets.models import Node
from controlplane.resealing import NotOpened, Resealed, reseal
from controlplane.sealing import NO_KEYS, SEALED, KeyRing
from controlplane.sealing_key import new_key
from controlplane.settings import ControlPlaneSettings
from controlplane.webhooks import delivering, dial, service
from controlplane.webhooks.models import WebhookEndpoint
from controlplane.webhooks.schemas import WebhookIn
from tests.support.registrations import registration
from trimtab.cli import app

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NODE_TOKEN, ROUTING_KEY, CHAT = "n0de-admin-token-for-tests", "r0uting-key-of-a-pager", "ch4t-path-of-a-hook"
PAGER, HOOK = "pager", "hook"


@pytest.fixture
def url(empty_database_url: str) -> str:
    engine = make_engine(empty_database_url)
    schema.upgrade(engine)
    engine.dispose()
    return empty_database_url


def plant(session: Session) -> str:
    """A node, a pager with its routing key and a chat at a secret address; the pager's signing secret."""
    fleets.register_node(session, registration("node-1", admin_token=NODE_TOKEN), now=NOW)
    rules = dial.Rules()
    pager = WebhookIn.model_validate(
        {
            "name": PAGER,
            "url": "https://events.pagerduty.com/v2/enqueue",
            "format": "pagerduty",
            "credential": ROUTING_KEY,
        }
    )
    _, signing = service.create_endpoint(session, pager, rules, by="ann", now=NOW)
    chat = {"name": HOOK, "url": f"https://hooks.slack.com/services/{CHAT}", "format": "slack"}
    service.create_endpoint(session, WebhookIn.model_validate(chat), rules, by="ann", now=NOW)
    return signing


def read(session: Session, signing: str) -> bool:
    """Whether all that was planted comes back as it was."""
    pager, chat = (_named(session, name) for name in (PAGER, HOOK))
    return (
        session.query(Node).one().admin_token == NODE_TOKEN
        and pager.credential == ROUTING_KEY
        and delivering.valid_secrets(pager, NOW) == [signing]
        and chat.url.endswith(CHAT)
    )


def _named(session: Session, name: str) -> WebhookEndpoint:
    return session.query(WebhookEndpoint).filter_by(name=name).one()


def dump(engine: Engine) -> str:
    """All rows of all tables as text, as a backup holds them."""
    names = inspect(engine).get_table_names()
    with engine.connect() as connection:
        return "\n".join(str(row) for name in names for row in connection.execute(text(f'SELECT * FROM "{name}"')))


class TestAtRest:
    def test_a_dump_holds_none_of_them_and_who_has_the_key_reads_them(self, url: str) -> None:
        engine = make_engine(url, KeyRing([new_key()]))
        with session_scope(engine) as session:
            signing = plant(session)
        kept = dump(engine)
        assert PAGER in kept
        assert not [each for each in (NODE_TOKEN, ROUTING_KEY, CHAT, signing) if each in kept]
        with session_scope(engine, read_only=True) as session:
            assert read(session, signing)
        engine.dispose()

    def test_what_was_kept_in_clear_is_read_and_sealed(self, url: str) -> None:
        plain, keyed = make_engine(url), make_engine(url, KeyRing([new_key()]))
        with session_scope(plain) as session:
            signing = plant(session)
        assert signing in dump(plain)
        with session_scope(keyed, read_only=True) as session:
            assert read(session, signing)
        with session_scope(keyed) as session:
            assert reseal(session, only_clear=True) == Resealed(secrets=6, in_clear=6, by_older_key=0)
        kept = dump(keyed)
        assert not [each for each in (NODE_TOKEN, ROUTING_KEY, CHAT, signing) if each in kept]
        with session_scope(keyed) as session:
            assert read(session, signing)
            assert reseal(session) == Resealed(secrets=6, in_clear=0, by_older_key=0)
        plain.dispose()
        keyed.dispose()

    def test_a_key_is_replaced_without_a_moment_in_which_somebody_cannot_read(self, url: str) -> None:
        old, new = new_key(), new_key()
        before, between, after = (make_engine(url, KeyRing(ring)) for ring in ([old], [new, old], [new]))
        with session_scope(before) as session:
            signing = plant(session)
        with session_scope(between) as session:
            assert read(session, signing)
            assert reseal(session, only_clear=True).by_older_key == 6  # counted, and left to who asks for it
        with session_scope(before, read_only=True) as session:
            assert read(session, signing)
        with session_scope(between) as session:
            reseal(session)
        with session_scope(after) as session:
            assert read(session, signing)
            assert reseal(session).by_older_key == 0
        for engine in (before, between, after):
            engine.dispose()

    def test_what_cannot_be_opened_is_never_written_over(self, url: str) -> None:
        first, stranger = make_engine(url, KeyRing([new_key()])), make_engine(url, KeyRing([new_key()]))
        with session_scope(first) as session:
            signing = plant(session)
        with pytest.raises(NotOpened, match=r"webhook_endpoints .* opens its url"), session_scope(stranger) as session:
            reseal(session)
        with session_scope(first, read_only=True) as session:
            assert read(session, signing)
        first.dispose()
        stranger.dispose()


class TestALostKey:
    def test_costs_secrets_and_not_the_fleet(self, url: str) -> None:
        """Nodes bring new tokens when they start, people enter credentials again, and until then nothing goes out unsigned."""
        first, other = make_engine(url, KeyRing([new_key()])), make_engine(url, KeyRing([new_key()]))
        with session_scope(first) as session:
            plant(session)
            service.send_test(session, _named(session, HOOK), by="ann", now=NOW)
        with session_scope(other) as session:
            assert session.query(Node).one().admin_token == ""
            item = next(due for due in outbox.take_due(session, NOW) if "delivery_id" in due.payload)
            assert delivering.begin(session, item, NOW, "http://x") is None
            session.refresh(item)
            assert item.done_at is None
            assert item.available_at > NOW
        with session_scope(other) as session:
            fleets.register_node(session, registration("node-1", admin_token=NODE_TOKEN, instance_id="b"), now=NOW)
            secret = service.rotate_secret(session, _named(session, PAGER), keep_s=0, by="ann", now=NOW)
        with session_scope(other, read_only=True) as session:
            assert session.query(Node).one().admin_token == NODE_TOKEN
            assert delivering.valid_secrets(_named(session, PAGER), NOW) == [secret]
        first.dispose()
        other.dispose()


class TestKeyRing:
    def test_the_first_seals_and_all_open(self) -> None:
        old, new = new_key(), new_key()
        sealed = KeyRing([old]).seal("words")
        assert sealed.startswith(SEALED)
        assert KeyRing([new, old]).open(sealed) == "words"
        assert KeyRing([new]).open(sealed) is None
        assert KeyRing([new]).open(KeyRing([new, old]).seal("words")) == "words"

    def test_what_was_tampered_with_is_not_opened(self) -> None:
        ring = KeyRing([new_key()])
        sealed = ring.seal("words")
        for at in range(len(SEALED), len(sealed), 7):
            bent = sealed[:at] + ("A" if sealed[at] != "A" else "B") + sealed[at + 1 :]
            assert ring.open(bent) is None

    def test_without_a_key_all_stays_as_it_is(self) -> None:
        assert NO_KEYS.seal("words") == "words"
        assert NO_KEYS.open("words") == "words"

    @pytest.mark.parametrize("text", ["short", "x" * 44, "ünïcode" * 8])
    def test_what_is_no_key_is_refused_and_not_repeated(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(Invalid) as caught:
            engine_of(ControlPlaneSettings(database_url="sqlite://", secret_keys=SecretStr(text)))
        assert text not in str(caught.value)
        (tmp_path / "keys").write_text(text)
        with pytest.raises(Invalid):
            engine_of(ControlPlaneSettings(database_url="sqlite://", secret_key_file=tmp_path / "keys"))

    def test_two_places_for_keys_are_one_too_many(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="leave one of them out"):
            ControlPlaneSettings(secret_keys=SecretStr(new_key()), secret_key_file=tmp_path / "keys")


def test_the_command_makes_keys_and_seals_with_them(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, file = make_engine(url), tmp_path / "keys"
    with session_scope(plain) as session:
        plant(session)
    monkeypatch.setenv("CONTROLPLANE_DATABASE_URL", url)
    assert app.run(["secrets", "reseal"]) == 2
    assert app.run(["secrets", "new-key", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("CONTROLPLANE_SECRET_KEY_FILE", str(file))
    capsys.readouterr()
    assert app.run(["secrets", "reseal", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"secrets": 6, "in_clear": 6, "by_older_key": 0}
    assert app.run(["secrets", "new-key", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["keys"] == 2
    assert app.run(["secrets", "reseal", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"secrets": 6, "in_clear": 0, "by_older_key": 6}
    assert ROUTING_KEY not in dump(plain)
    plain.dispose()
