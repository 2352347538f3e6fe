"""The agent against a control plane on a real socket: enrol, beat, ask, lose it, find it again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from inference_node.agent.agent import Agent, Enrolment, Link
from inference_node.agent.keeper import SettingsKeeper
from inference_node.agent.store import NodeStore
from inference_node.contract.history import NodeChange, NodeWindow
from inference_node.contract.messages import NodeRegistration, NodeState
from inference_node.contract.served import ServedWatch
from inference_node.contract.settings import EngineSettings, Precision
from inference_node.metrics import NodeMetrics
from inference_node.readings import read
from tests.support.fake_controlplane import (
    ENROLMENT_TOKEN,
    NODE_ID,
    FakeControlPlane,
    eventually,
    fake_controlplane,
    push_of,
)
from tests.support.fake_engine import FakeEngine
from tests.support.served_answers import Answers, told

SMALL = EngineSettings(max_batch_size=4)


@pytest.fixture
def plane() -> Iterator[FakeControlPlane]:
    with fake_controlplane() as plane:
        yield plane


class Running:
    """A node's agent with what it works on."""

    def __init__(self, plane: FakeControlPlane, folder: Path, token: str | None) -> None:
        self.engine = FakeEngine()
        self.engine.start()
        self.store = NodeStore(folder)
        self.state = NodeState.READY
        self.keeper = SettingsKeeper(self.engine, self.store, self.store.load_settings(), preparing_after_s=0.05)
        enrolment = Enrolment(plane.url, token, self.describe, lambda: self.state)
        self.metrics = NodeMetrics("fake", "0")
        self.agent = Agent(
            enrolment, self.engine, self.keeper, self.store, readings=lambda: read(self.metrics.registry), backoff_cap_s=0.1,
            window_s=0.2,
        )  # fmt: skip

    def describe(self) -> NodeRegistration:
        return NodeRegistration(
            name="node-1",
            pool="default",
            model="fake",
            url="http://127.0.0.1:1",
            admin_token="0123456789abcdef",
            instance_id="i",
            version="0",
            capabilities=self.engine.capabilities,
            hardware=self.engine.hardware,
            settings=self.engine.settings,
            observed_generation=self.keeper.observed.generation,
        )


@asynccontextmanager
async def running(plane: FakeControlPlane, folder: Path, token: str | None = ENROLMENT_TOKEN) -> AsyncIterator[Running]:
    node = Running(plane, folder, token)
    task = asyncio.create_task(node.agent.run())
    try:
        yield node
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestEnrolment:
    async def test_registers_and_beats(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: len(plane.heartbeats) >= 3)
            assert len(plane.registrations) == 1
            assert (node.agent.link, node.agent.node_id) == (Link.UP, NODE_ID)
            beat = plane.last_heartbeat
            assert beat.config_hash == node.engine.settings.content_hash()
            assert plane.heartbeats[0].step_profile is not None and plane.heartbeats[1].step_profile is None

    async def test_a_revoked_token_makes_it_register_again(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path):
            await eventually(lambda: plane.heartbeats)
            plane.token = "node-token-2"
            await eventually(lambda: len(plane.registrations) == 2)
            before = len(plane.heartbeats)
            await eventually(lambda: len(plane.heartbeats) > before)

    async def test_a_refused_enrolment_is_told_once_and_tried_again(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        plane.refuse_enrolment = True
        with structlog.testing.capture_logs() as logs:
            async with running(plane, tmp_path) as node:
                await eventually(lambda: node.agent.link is Link.DOWN)
                await asyncio.sleep(0.3)  # several tries
                refusals = [entry for entry in logs if entry["event"] == "registration_refused"]
                assert len(refusals) == 1 and "takes no more nodes" in refusals[0]["reason"]
                plane.refuse_enrolment = False
                await eventually(lambda: plane.heartbeats)

    async def test_known_credentials_go_on_when_the_enrolment_token_has_ended(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        async with running(plane, tmp_path):
            await eventually(lambda: plane.heartbeats)
        plane.heartbeats.clear()
        async with running(plane, tmp_path, "an ended token"):
            await eventually(lambda: plane.heartbeats)
        assert len(plane.registrations) == 1

    async def test_the_last_heartbeat_tells_that_it_drains(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            node.state = NodeState.DRAINING
            await node.agent.farewell()
            assert plane.last_heartbeat.state is NodeState.DRAINING


class TestSettings:
    async def test_a_wish_is_fetched_applied_and_reported(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.desired = push_of(SMALL, 1)
            await eventually(lambda: plane.last_heartbeat.observed_generation == 1)
            assert plane.last_heartbeat.settings == SMALL == node.engine.settings
            assert plane.last_heartbeat.applied_step == node.keeper.observed.applied_step > 0

    async def test_a_background_knob_is_told_while_prepared_and_when_applied(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        async with running(plane, tmp_path) as node:
            node.engine.prepare.clear()
            plane.desired = push_of(EngineSettings(precision=Precision.INT8), 1)
            await eventually(lambda: plane.heartbeats and plane.last_heartbeat.preparing_generation == 1)
            assert plane.last_heartbeat.observed_generation == 0
            node.engine.prepare.set()
            await eventually(lambda: plane.last_heartbeat.observed_generation == 1)
            assert plane.last_heartbeat.preparing_generation is None

    async def test_a_refused_wish_is_told_and_not_asked_for_again(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        async with running(plane, tmp_path):
            plane.desired = push_of(EngineSettings(precision=Precision.INT4), 3)
            await eventually(lambda: plane.heartbeats and plane.last_heartbeat.rejected_generation == 3)
            assert "precision" in (plane.last_heartbeat.rejected_reason or "")
            await eventually(lambda: plane.asked_after[-1] == 3)
            plane.desired = push_of(SMALL, 4)
            await eventually(lambda: plane.last_heartbeat.observed_generation == 4)
            assert plane.last_heartbeat.rejected_generation is None

    async def test_push_and_poll_at_once_apply_once(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.desired = push_of(SMALL, 1)
            await asyncio.gather(*(node.keeper.apply_push(push_of(SMALL, 1)) for _ in range(5)))
            await eventually(lambda: plane.last_heartbeat.observed_generation == 1)
            assert node.engine.applied == [SMALL]

    async def test_restarted_it_asks_for_newer_ones_only(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        plane.desired = push_of(SMALL, 7)
        async with running(plane, tmp_path):
            await eventually(lambda: plane.heartbeats and plane.last_heartbeat.observed_generation == 7)
        plane.asked_after.clear()
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.asked_after)
            assert plane.asked_after[0] == 7
            assert plane.registrations[-1].observed_generation == 7
            assert node.keeper.observed.drifted  # this engine started with other settings than were stored


class TestSignatures:
    async def test_what_another_made_up_is_not_taken_and_keeps_nothing_from_coming(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        plane.signs = False
        plane.desired = push_of(SMALL, 2_000_000)
        with structlog.testing.capture_logs() as logs:
            async with running(plane, tmp_path) as node:
                before = node.engine.settings
                await eventually(lambda: node.agent.link is Link.UP and len(plane.asked_after) >= 3)
                assert (node.engine.settings, node.keeper.known_generation) == (before, 0)
                assert any("not signed" in entry.get("reason", "") for entry in logs)
                plane.signs, plane.desired = True, push_of(SMALL, 1)
                await eventually(lambda: plane.last_heartbeat.observed_generation == 1)
                assert node.engine.settings == SMALL


class TestExperiments:
    async def test_a_lease_ends_with_the_control_plane_gone_and_that_is_told_when_it_is_back(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.desired = push_of(SMALL, 1, lease_s=0.3, fallback=node.engine.settings)
            before = node.engine.settings
            await eventually(lambda: node.engine.settings == SMALL)
            plane.stop()
            await eventually(lambda: node.keeper.observed.lapsed)
            assert node.engine.settings == before
            plane.start()
            await eventually(lambda: plane.last_heartbeat.lapsed)
            assert plane.last_heartbeat.settings == before


class TestControlPlaneGone:
    async def test_keeps_the_settings_and_comes_back(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        with structlog.testing.capture_logs() as logs:
            async with running(plane, tmp_path) as node:
                plane.desired = push_of(SMALL, 1)
                await eventually(lambda: plane.heartbeats and plane.last_heartbeat.observed_generation == 1)
                await asyncio.to_thread(plane.stop)
                await eventually(lambda: node.agent.link is Link.DOWN)
                await asyncio.sleep(0.5)  # several tries
                assert node.engine.settings == SMALL
                assert [entry["event"] for entry in logs].count("controlplane_unreachable") == 1
                plane.desired = push_of(EngineSettings(max_batch_size=5), 2)
                await asyncio.to_thread(plane.start)
                await eventually(lambda: plane.last_heartbeat.observed_generation == 2)
                # The answer to that heartbeat is read after it was seen.
                await eventually(lambda: node.agent.link is Link.UP)
                assert [entry["event"] for entry in logs].count("controlplane_reachable_again") == 1

    async def test_what_it_did_on_its_own_is_told_when_it_is_back_over_a_restart(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.stop()
            await eventually(lambda: node.agent.link is Link.DOWN)
            node.metrics.on_request_offered(32)
            await node.keeper.edit({"max_queue": 9})
            await asyncio.sleep(0.7)

        def windows() -> list[NodeWindow]:
            return [window for part in plane.histories for window in part.windows]

        def offered() -> float:
            return sum(each.increases["inference_requests_offered_total"] for each in windows())

        def changes() -> list[NodeChange]:
            return [change for part in plane.histories for change in part.changes]

        async with running(plane, tmp_path):
            await asyncio.sleep(0.5)
            plane.start()
            # A slow start has told of the time before it was heard first, so that the first part need not be this one.
            await eventually(lambda: offered() and changes())
        assert [each.end for each in windows()] == sorted({each.end for each in windows()})
        assert offered() == 1
        assert [(each.by, each.changes["max_queue"][1]) for each in changes()] == [("operator", 9)]

    async def test_while_it_is_heard_nothing_is_written_down(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: node.agent.link is Link.UP)
            await asyncio.sleep(0.7)
            plane.histories.clear()  # of the time before it was there
            await asyncio.sleep(0.5)
            await node.keeper.edit({"max_queue": 9})
            await asyncio.sleep(0.1)
            assert plane.histories == []

    async def test_one_that_answers_nonsense_is_survived(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.broken = True
            await eventually(lambda: node.agent.link is Link.DOWN)
            plane.broken = False
            await eventually(lambda: node.agent.link is Link.UP)

    async def test_not_there_at_start_is_waited_for(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        await asyncio.to_thread(plane.stop)
        async with running(plane, tmp_path) as node:
            await eventually(lambda: node.agent.link is Link.DOWN)
            await asyncio.to_thread(plane.start)
            await eventually(lambda: plane.heartbeats)


class TestServedAnswers:
    async def test_are_watched_once_the_settings_are_in_force_and_told_when_there_is_news(
        self, plane: FakeControlPlane, tmp_path: Path
    ) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.watch = ServedWatch(generation=5, share=0.5, least=2, most=4)
            seen = len(plane.heartbeats)
            await eventually(lambda: len(plane.heartbeats) > seen + 2)
            assert node.engine.watches in ([], [None])  # generation 5 is not here yet
            plane.desired = push_of(SMALL, 5)
            await eventually(lambda: node.engine.watches[-1:] == [plane.watch])

            node.engine.served_quality = told(Answers.GOOD, 5)
            await eventually(lambda: plane.last_heartbeat.served == node.engine.served_quality)
            await eventually(lambda: plane.last_heartbeat.served is None)  # told once
            node.engine.served_quality = told(Answers.BAD, 5)
            await eventually(lambda: plane.last_heartbeat.served == node.engine.served_quality)

            plane.watch = None
            await eventually(lambda: node.engine.watches[-1] is None)

    async def test_what_was_not_heard_is_told_again(self, plane: FakeControlPlane, tmp_path: Path) -> None:
        async with running(plane, tmp_path) as node:
            await eventually(lambda: plane.heartbeats)
            plane.broken = True
            node.engine.served_quality = told(Answers.GOOD, 5)
            await asyncio.sleep(0.2)
            assert all(beat.served is None for beat in plane.heartbeats)
            plane.broken = False
            await eventually(lambda: any(beat.served is not None for beat in plane.heartbeats))
