from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane.errors import Unauthorized
from controlplane.events.models import Event
from controlplane.fleets import service
from controlplane.fleets.health import NodeHealth
from controlplane.fleets.models import Node
from inference_node.contract.messages import (
    AckOutcome,
    NodeCapabilities,
    NodeState,
    RejectCode,
    SettingsAck,
    SettingsReject,
)
from inference_node.contract.quality import NodeQuality
from inference_node.contract.settings import EngineSettings
from tests.support.quality_records import quality_record
from tests.support.registrations import heartbeat_of, registration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LARGE = EngineSettings(max_batch_size=32)


@pytest.fixture
def node(session: Session) -> Node:
    """A node of which generation 1, with LARGE, is desired under epoch 5."""
    node = service.register_node(session, registration(), now=NOW).node
    revision = service.create_revision(session, node.pool, LARGE, created_by="t", reason="", now=NOW)
    service.set_desired(session, node, revision, epoch=5, now=NOW)
    return node


def events(session: Session, kind: str) -> list[Event]:
    return list(session.scalars(select(Event).where(Event.kind == kind)))


def applied(settings: EngineSettings = LARGE, *, generation: int = 1) -> SettingsAck:
    return SettingsAck(
        generation=generation,
        epoch=5,
        outcome=AckOutcome.APPLIED,
        applied_step=77,
        config_hash=settings.content_hash(),
        settings=settings,
    )


class TestRecordAck:
    def test_an_applied_push_brings_the_node_into_sync(self, session: Session, node: Node) -> None:
        service.record_ack(session, node.id, applied(), NOW)
        assert service.in_sync(node)
        assert (node.observed_epoch, node.applied_step) == (5, 77)
        assert "max_batch_size 8 → 32" in events(session, "node.settings_applied")[0].message

    def test_twice_is_once(self, session: Session, node: Node) -> None:
        service.record_ack(session, node.id, applied(), NOW)
        service.record_ack(session, node.id, applied(), NOW)
        assert len(events(session, "node.settings_applied")) == 1

    def test_an_answer_overtaken_by_a_later_one_changes_nothing(self, session: Session, node: Node) -> None:
        service.record_ack(session, node.id, applied(generation=2), NOW)
        service.record_ack(session, node.id, applied(EngineSettings(), generation=1), NOW)
        assert (node.observed_generation, node.observed_hash) == (2, LARGE.content_hash())

    def test_preparing_is_not_applied(self, session: Session, node: Node) -> None:
        ack = applied(EngineSettings()).model_copy(update={"outcome": AckOutcome.PREPARING, "applied_step": None})
        service.record_ack(session, node.id, ack, NOW)
        assert (node.preparing_generation, node.observed_generation) == (1, 0)


class TestRecordReject:
    def test_keeps_the_reason_and_tells_once(self, session: Session, node: Node) -> None:
        reject = SettingsReject(code=RejectCode.OUT_OF_MEMORY, message="2 GiB more than there is")
        service.record_reject(session, node.id, 1, reject, NOW)
        service.record_reject(session, node.id, 1, reject, NOW)
        assert (node.rejected_generation, node.rejected_reason) == (1, "2 GiB more than there is")
        assert len(events(session, "node.settings_rejected")) == 1

    def test_of_a_wish_that_is_no_longer_one_is_ignored(self, session: Session, node: Node) -> None:
        service.record_reject(session, node.id, 7, SettingsReject(code=RejectCode.INVALID, message="x"), NOW)
        assert node.rejected_generation is None

    def test_by_a_node_ahead_of_sql_leads_to_the_same_wish_under_higher_numbers(
        self, session: Session, node: Node
    ) -> None:
        reject = SettingsReject(code=RejectCode.STALE_GENERATION, message="", observed_generation=30, observed_epoch=12)
        service.record_reject(session, node.id, 1, reject, NOW)
        push = service.desired_push(session, node)
        assert push is not None
        assert (push.generation, push.epoch, push.settings) == (31, 13, LARGE)
        assert node.rejected_generation is None

    def test_for_a_stale_epoch_that_we_do_not_lag_behind_is_ignored(self, session: Session, node: Node) -> None:
        reject = SettingsReject(code=RejectCode.STALE_EPOCH, message="", observed_generation=0, observed_epoch=5)
        service.record_reject(session, node.id, 1, reject, NOW)
        assert node.desired_generation == 1

    def test_of_settings_that_the_engine_could_not_apply_is_kept_and_not_tried_for_ever(
        self, session: Session, node: Node
    ) -> None:
        reject = SettingsReject(code=RejectCode.CONFLICT, message="the engine could not apply them", observed_epoch=5)
        service.record_reject(session, node.id, 1, reject, NOW)
        assert (node.desired_generation, node.rejected_generation) == (1, 1)

    def test_of_a_generation_known_by_other_settings_leads_to_a_fresh_one(self, session: Session, node: Node) -> None:
        reject = SettingsReject(code=RejectCode.CONFLICT, message="", observed_generation=1, observed_epoch=5)
        service.record_reject(session, node.id, 1, reject, NOW)
        assert (node.desired_generation, node.rejected_generation) == (2, None)


class TestHeartbeat:
    def test_what_a_node_measured_is_kept_until_it_tells_otherwise(self, session: Session, node: Node) -> None:
        quality = NodeQuality(max_perplexity_ratio=1.1, max_kl=0.2, records=(quality_record(),))
        before = dict(node.capabilities)
        service.heartbeat(session, node, heartbeat_of(node, quality=quality), now=NOW)
        service.heartbeat(session, node, heartbeat_of(node), now=NOW)
        session.refresh(node)

        kept = NodeCapabilities.model_validate(node.capabilities)
        assert kept.quality == quality
        assert {name: value for name, value in node.capabilities.items() if name != "quality"} == {
            name: value for name, value in before.items() if name != "quality"
        }

    def test_says_what_is_desired(self, session: Session, node: Node) -> None:
        reply = service.heartbeat(session, node, heartbeat_of(node), now=NOW)
        assert (reply.desired_generation, reply.desired_hash) == (1, LARGE.content_hash())

    def test_reports_what_was_applied_without_an_acknowledgement(self, session: Session, node: Node) -> None:
        beat = heartbeat_of(node, observed_generation=1, observed_epoch=5, settings=LARGE)
        service.heartbeat(session, node, beat, now=NOW)
        assert service.in_sync(node)
        assert len(events(session, "node.settings_applied")) == 1

    def test_overtaken_by_an_acknowledgement_takes_nothing_back(self, session: Session, node: Node) -> None:
        late = heartbeat_of(node)
        service.record_ack(session, node.id, applied(), NOW)
        service.heartbeat(session, node, late, now=NOW)
        assert service.in_sync(node)

    def test_of_a_process_that_did_not_register_is_refused(self, session: Session, node: Node) -> None:
        with pytest.raises(Unauthorized, match="register again"):
            service.heartbeat(session, node, heartbeat_of(node, instance_id="another"), now=NOW)

    def test_tells_of_drift_once(self, session: Session, node: Node) -> None:
        service.record_ack(session, node.id, applied(), NOW)
        drift = heartbeat_of(node, settings=LARGE.replace(max_queue=9), drifted=True)
        service.heartbeat(session, node, drift, now=NOW)
        service.heartbeat(session, node, drift, now=NOW)
        assert node.drifted
        assert not service.in_sync(node)
        assert "max_queue 256 → 9" in events(session, "node.drifted")[0].message
        assert len(events(session, "node.drifted")) == 1

    def test_tells_of_a_refusal_found_while_preparing(self, session: Session, node: Node) -> None:
        beat = heartbeat_of(node, rejected_generation=1, rejected_reason="quality gate")
        service.heartbeat(session, node, beat, now=NOW)
        service.heartbeat(session, node, beat, now=NOW)
        assert [e.data["reason"] for e in events(session, "node.settings_rejected")] == ["quality gate"]

    def test_ahead_of_a_restored_database_is_caught_up_with(self, session: Session, node: Node) -> None:
        beat = heartbeat_of(node, observed_generation=20, observed_epoch=8, settings=EngineSettings())
        reply = service.heartbeat(session, node, beat, now=NOW)
        assert reply.desired_generation == 21
        assert node.desired_epoch == 9

    def test_with_a_refusal_older_than_the_last_one_tells_nothing_again(self, session: Session, node: Node) -> None:
        late = heartbeat_of(node, rejected_generation=1, rejected_reason="quality gate")
        service.heartbeat(session, node, late, now=NOW)
        revision = service.get_revision(session, str(node.desired_revision_id))
        service.set_desired(session, node, revision, epoch=5, now=NOW)
        service.record_reject(session, node.id, 2, SettingsReject(code=RejectCode.INVALID, message="x"), NOW)
        service.heartbeat(session, node, late, now=NOW)
        assert node.rejected_generation == 2
        assert len(events(session, "node.settings_rejected")) == 2

    def test_of_a_node_that_would_refuse_the_wish_by_its_epoch_gets_it_under_a_higher_one(
        self, session: Session, node: Node
    ) -> None:
        reply = service.heartbeat(session, node, heartbeat_of(node, observed_epoch=8), now=NOW)
        assert (reply.desired_generation, node.desired_epoch) == (2, 9)

    def test_of_the_life_before_is_refused_when_the_next_one_registers_meanwhile(
        self, session: Session, node: Node
    ) -> None:
        beat = heartbeat_of(node, observed_generation=1, observed_epoch=5, settings=LARGE)
        session.execute(
            update(Node).values(instance_id="next-life").execution_options(synchronize_session=False)
        )  # by another process: this one's copy is old
        with pytest.raises(Unauthorized, match="register again"):
            service.heartbeat(session, node, beat, now=NOW)


class TestSilence:
    def test_is_told_once_and_so_is_the_return(self, session: Session, node: Node) -> None:
        later = NOW + timedelta(seconds=20)
        assert (
            service.mark_unreachable(session, now=NOW + timedelta(seconds=15), timeout_s=15, pool_ids=[node.pool_id])
            == []
        )
        assert service.mark_unreachable(session, now=later, timeout_s=15, pool_ids=[node.pool_id]) == [node]
        assert service.mark_unreachable(session, now=later, timeout_s=15, pool_ids=[node.pool_id]) == []
        assert service.node_health(node, later, 15) is NodeHealth.UNREACHABLE
        service.heartbeat(session, node, heartbeat_of(node), now=later)
        service.heartbeat(session, node, heartbeat_of(node), now=later)
        assert service.node_health(node, later, 15) is NodeHealth.READY
        assert len(events(session, "node.unreachable")) == len(events(session, "node.recovered")) == 1

    @pytest.mark.parametrize("state", list(NodeState))
    def test_a_node_that_is_heard_of_is_what_it_says(self, session: Session, node: Node, state: NodeState) -> None:
        service.heartbeat(session, node, heartbeat_of(node, state=state), now=NOW)
        assert service.node_health(node, NOW, 15).value == state.value
