from datetime import UTC, datetime

import pytest

from controlplane.rollouts.analysis import Verdict
from trimtab.canary.noise import NoiseWindow, Recording
from trimtab.canary.operating import DESIGNS, Design, Effect, run, take_apart, trial
from trimtab.cli.bench_canary import RECORDED, as_table


@pytest.fixture(scope="module")
def recorded() -> Recording:
    return Recording.read(RECORDED)


def recording(*nodes: list[NoiseWindow | None]) -> Recording:
    return Recording(
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC), model="m", window_s=10, rate_rps=1, about="a test", nodes=nodes
    )


def window(ttft_s: float | None = 0.1, itl_s: float | None = 0.05) -> NoiseWindow:
    return NoiseWindow(ttft_p95_s=ttft_s, itl_p95_s=itl_s, requests=10)


class TestTakeApart:
    def test_shared_and_own_add_up_to_what_was_seen(self) -> None:
        noise = take_apart(recording([window(0.1)], [window(0.4)]))
        level, rests = noise.shared["ttft_p95_s"][0], [node[0] for node in noise.own["ttft_p95_s"]]
        assert level == pytest.approx(-1.609, abs=1e-3)  # log 0.2, the geometric mean
        assert rests[0] == pytest.approx(-rests[1])  # type: ignore[operator]
        assert rests[1] == pytest.approx(2**0.5 * 0.6931, abs=1e-3)

    def test_leaves_out_what_a_stop_of_the_machine_left_behind(self) -> None:
        noise = take_apart(recording([window(), None, window(30.0), window()], [window()] * 4))
        assert noise.length == 2


class TestRepeated:
    def test_a_recording_too_short_for_a_design_is_told(self) -> None:
        noise = take_apart(recording([window()] * 30, [window()] * 30))
        assert [noise.repeated(Design(1, count)) for count in (12, 15, 20)] == [0, 0, 10]

    def test_the_design_beside_the_longest_needs_no_window_twice(self, recorded: Recording) -> None:
        """What is claimed of 3+3 nodes must rest on windows that are used once."""
        noise = take_apart(recorded)
        assert any(design.nodes == 3 and noise.repeated(design) == 0 for design in DESIGNS)


class TestTrial:
    def test_the_same_seed_is_the_same_trial(self, recorded: Recording) -> None:
        noise = take_apart(recorded)
        assert trial(noise, Design(1, 12), Effect("x"), "7") == trial(noise, Design(1, 12), Effect("x"), "7")

    def test_tells_harm_from_none_on_recorded_noise(self, recorded: Recording) -> None:
        """A slice of the table in docs/canary-analysis.md."""
        noise = take_apart(recorded)
        calm = [trial(noise, Design(3, 60), Effect("A/A"), f"a{k}")[0] for k in range(6)]
        slow = [trial(noise, Design(3, 60), Effect("slow", latency=1.3), f"b{k}")[0] for k in range(6)]
        assert Verdict.FAIL not in calm
        assert slow == [Verdict.FAIL] * 6

    def test_a_guard_takes_back_what_fails_one_in_ten(self, recorded: Recording) -> None:
        verdict, guard = trial(take_apart(recorded), Design(3, 60), Effect("errors", errors=0.1), "c")
        assert verdict is Verdict.FAIL
        assert guard is not None and "server error" in guard


def test_the_report_tells_where_its_noise_is_from(recorded: Recording) -> None:
    report = run(recorded, trials=1, progress=lambda _: None, designs=(Design(1, 12),), effects=(Effect("A/A"),))
    assert report["about"] == recorded.about
    assert report["results"][0]["trials"] == 1


def test_the_table_is_whole(recorded: Recording) -> None:
    report = run(recorded, trials=1, progress=lambda _: None, designs=(Design(1, 60),), effects=(Effect("A/A"),))
    table = as_table(report)
    assert [len(row) for row in table.rows] == [len(table.columns)]
    assert table.rows[0][2] == str(120 - take_apart(recorded).length)
    assert recorded.about in table.notes[0]
