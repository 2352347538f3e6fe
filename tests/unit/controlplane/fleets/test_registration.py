from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import Invalid
from controlplane.events.models import Event, OutboxItem
from controlplane.fleets import service
from controlplane.fleets.models import Node
from controlplane.fleets.registration import ModelMismatch
from controlplane.processes import shards
from inference_node.contract.messages import AckOutcome, SettingsAck
from inference_node.contract.settings import EngineSettings
from tests.support.registrations import heartbeat_of, registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SMALL = EngineSettings(max_batch_size=4)


def kinds(session: Session) -> list[str]:
    return list(session.scalars(select(Event.kind).order_by(Event.id)))


def register(session: Session, name: str = "node-1", *, at: datetime = NOW, **changes: object) -> Node:
    return service.register_node(session, registration(name, **changes), now=at).node


class TestFirstNode:
    def test_makes_its_pool_with_its_own_settings_as_revision_1(self, session: Session) -> None:
        node = register(session, settings=SMALL)
        pool = service.get_pool(session, node.pool_id)
        revision = service.current_revision(session, pool)
        assert (pool.name, pool.fleet.name, pool.model) == ("main", "default", "tiny")
        assert (revision.number, service.settings_of(revision)) == (1, SMALL)
        assert service.in_sync(node)
        assert service.desired_push(session, node) is None
        assert kinds(session) == ["pool.created", "node.registered"]

    def test_gets_a_token_whose_hash_alone_is_kept(self, session: Session) -> None:
        registered = service.register_node(session, registration(), now=NOW)
        assert registered.token.startswith("ttn_")
        kept = [str(value) for value in vars(registered.node).values()]
        assert not any(registered.token in value for value in kept)


class TestSecondNode:
    def test_with_other_settings_gets_the_pools(self, session: Session) -> None:
        register(session)
        node = register(session, "node-2", settings=SMALL)
        push = service.desired_push(session, node)
        assert push is not None
        assert (push.generation, push.settings) == (1, EngineSettings())
        assert not service.in_sync(node)
        owed = session.scalars(select(OutboxItem)).one()
        assert owed.payload == {"node_id": node.id, "generation": 1, "epoch": 0, "rollout_id": None}

    def test_with_another_model_is_refused_by_the_names_of_both(self, session: Session) -> None:
        register(session)
        with pytest.raises(ModelMismatch, match=r"'other'.*'tiny'"):
            register(session, "node-2", model="other")

    def test_may_have_the_name_of_a_node_in_another_pool(self, session: Session) -> None:
        assert register(session).id != register(session, pool="other", model="other").id


class TestReturningNode:
    def test_keeps_its_id_and_is_recorded_as_restarted(self, session: Session) -> None:
        first = register(session)
        again = register(session, instance_id="second-life", at=NOW + timedelta(minutes=1))
        assert again.id == first.id
        assert again.started_at == NOW + timedelta(minutes=1)
        assert kinds(session)[-1] == "node.restarted"

    def test_that_registers_twice_in_one_life_is_not_a_restart(self, session: Session) -> None:
        register(session)
        register(session)
        assert "node.restarted" not in kinds(session)

    def test_what_its_last_life_applied_and_could_not_tell_is_in_the_history(self, session: Session) -> None:
        node = register(session)
        wished = service.create_revision(session, node.pool, SMALL, created_by="t", reason="", now=NOW)
        service.set_desired(session, node, wished, epoch=3, now=NOW)
        register(session, settings=SMALL, observed_generation=1, observed_epoch=3, instance_id="second-life")
        assert service.in_sync(node)
        assert kinds(session)[-2:] == ["node.restarted", "node.settings_applied"]

    def test_what_it_said_after_it_sent_the_registration_counts_and_is_told_once(self, session: Session) -> None:
        """A push reached the new process, and its answer SQL, before the registration did, which was sent first."""
        node = register(session)
        wished = service.create_revision(session, node.pool, SMALL, created_by="t", reason="", now=NOW)
        service.set_desired(session, node, wished, epoch=3, now=NOW)
        ack = SettingsAck(
            generation=1, epoch=3, outcome=AckOutcome.APPLIED, applied_step=1, instance_id="second-life",
            config_hash=SMALL.content_hash(), settings=SMALL,
        )  # fmt: skip
        service.record_ack(session, node.id, ack, NOW)
        register(session, instance_id="second-life")  # with the settings of before
        assert (node.observed_generation, service.in_sync(node)) == (1, True)
        beat = heartbeat_of(
            node, instance_id="second-life", observed_generation=1, observed_epoch=3, settings=SMALL, applied_step=1
        )
        service.heartbeat(session, node, beat, now=NOW)
        assert kinds(session).count("node.settings_applied") == 1

    def test_that_lost_its_settings_is_owed_them_again(self, session: Session) -> None:
        node = register(session, settings=SMALL)
        wished = service.create_revision(session, node.pool, EngineSettings(), created_by="t", reason="", now=NOW)
        assert service.set_desired(session, node, wished, epoch=3, now=NOW) == 1
        again = register(session, settings=SMALL, instance_id="second-life")
        assert (again.desired_generation, again.observed_generation) == (1, 0)
        assert len(session.scalars(select(OutboxItem)).all()) == 2

    def test_that_is_ahead_of_a_restored_database_gets_a_wish_above_what_it_has_seen(self, session: Session) -> None:
        register(session)
        node = register(session, settings=SMALL, observed_generation=41, observed_epoch=9, instance_id="second-life")
        push = service.desired_push(session, node)
        assert push is not None
        assert push.generation == 42
        assert push.epoch == 10
        assert shards.epoch_of(session, node.pool_id) == 10

    def test_that_is_ahead_but_has_the_right_settings_is_left_alone(self, session: Session) -> None:
        register(session)
        node = register(session, observed_generation=41, observed_epoch=9, instance_id="second-life")
        assert service.in_sync(node)
        assert session.scalars(select(OutboxItem)).all() == []

    def test_started_with_other_settings_by_hand_gets_the_pools_back(self, session: Session) -> None:
        register(session)
        node = register(session, settings=SMALL, instance_id="second-life")
        assert (node.desired_generation, service.in_sync(node)) == (1, False)


@pytest.mark.parametrize(
    "url",
    ["ftp://host:1", "host:8701", "http://", "http://user@host", "http://host/?x=1", "http://[::1", "http://host:x"],
)
def test_an_address_that_is_none_is_refused(session: Session, url: str) -> None:
    with pytest.raises(Invalid, match="base address"):
        register(session, url=url)
