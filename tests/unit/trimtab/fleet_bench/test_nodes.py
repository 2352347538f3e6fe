from datetime import UTC, datetime

from inference_node.contract.messages import AckOutcome, SettingsAck, SettingsPush, SettingsReject
from inference_node.contract.settings import EngineSettings
from trimtab.fleet_bench.nodes import SimulatedNode
from trimtab.fleet_bench.run import summary


def push(generation: int, epoch: int = 1) -> SettingsPush:
    settings = EngineSettings()
    return SettingsPush(
        node_id="n", generation=generation, epoch=epoch, revision=1, config_hash=settings.content_hash(),
        settings=settings, issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


class TestSimulatedNode:
    def test_the_same_again_is_no_second_effect(self) -> None:
        node = SimulatedNode()
        answers = [node.put(push(1), 0.0) for _ in range(2)]
        assert [answer.outcome for answer in answers if isinstance(answer, SettingsAck)] == [
            AckOutcome.APPLIED,
            AckOutcome.UNCHANGED,
        ]
        assert node.applied == {1: 1}

    def test_an_older_epoch_or_generation_is_refused(self) -> None:
        node = SimulatedNode()
        node.put(push(2, epoch=2), 0.0)
        for stale in (push(1, epoch=2), push(3, epoch=1)):
            assert isinstance(node.put(stale, 0.0), SettingsReject)
        assert (node.generation, node.stale) == (2, 2)


def test_the_summary_of_sorted_times() -> None:
    assert summary([float(k) for k in range(1, 101)]) == {"p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 100.0}
    assert summary([]) == {}
