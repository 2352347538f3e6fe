"""The recorder: one at a time, files for an hour, nothing left behind."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from inference_node.contract.profiling import ProfileKind, ProfileRecording, ProfileRequest, ProfileState
from inference_node.engine.listener import StepRecord
from inference_node.profiling import recorder as recorders
from inference_node.profiling.recorder import Recorder, RecordingBusy, RecordingNotDone, RecordingNotFound
from inference_node.profiling.sampler import Samples

SHORT = ProfileRequest(kind=ProfileKind.CPU, seconds=0.1)


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@contextmanager
def nothing_steps(watch: Callable[[StepRecord], None]) -> Iterator[None]:
    yield


class Held:
    """Stands where the sampler does: recordings last until they are let go, or stopped."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.error: Exception | None = None

    def __call__(self, seconds: float, stopped: threading.Event) -> Samples:
        while not self.go.wait(0.001) and not stopped.is_set():
            pass
        if self.error is not None:
            raise self.error
        return Samples(is_cpu_time=True, duration_s=seconds)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(recorders, "sample", held)
    return held


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorder(tmp_path: Path, clock: Clock) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "profiles", nothing_steps, node="n", version="1", clock=clock)
    yield recorder
    recorder.close()


def finish(recorder: Recorder, held: Held, recording: ProfileRecording) -> ProfileRecording:
    held.go.set()
    thread = recorder._thread
    assert thread is not None
    thread.join()
    held.go.clear()
    return recorder.get(recording.id)


class TestRecorder:
    def test_a_recording_ends_in_a_file(self, recorder: Recorder, held: Held) -> None:
        started = recorder.start(SHORT)
        assert (started.state, started.file_name) == (ProfileState.RUNNING, None)
        done = finish(recorder, held, started)
        assert done.state is ProfileState.DONE and done.size_bytes > 0
        assert done.file_name is not None and done.file_name.endswith(".speedscope.json")
        assert json.loads(recorder.file(done.id).read_text())["exporter"] == "trimtab 1"
        assert recorder.recordings() == (done,)

    def test_one_at_a_time(self, recorder: Recorder, held: Held) -> None:
        first = recorder.start(SHORT)
        with pytest.raises(RecordingBusy, match=first.id):
            recorder.start(SHORT)
        finish(recorder, held, first)
        finish(recorder, held, recorder.start(SHORT))
        assert len(recorder.recordings()) == 2

    def test_no_file_before_the_end(self, recorder: Recorder, held: Held) -> None:
        started = recorder.start(SHORT)
        with pytest.raises(RecordingNotDone, match="under way"):
            recorder.file(started.id)

    def test_a_failure_is_told_and_does_not_block_the_next(self, recorder: Recorder, held: Held) -> None:
        held.error = RuntimeError("no such counter")
        failed = finish(recorder, held, recorder.start(SHORT))
        assert (failed.state, failed.error) == (ProfileState.FAILED, "RuntimeError: no such counter")
        with pytest.raises(RecordingNotDone, match="no such counter"):
            recorder.file(failed.id)
        held.error = None
        assert finish(recorder, held, recorder.start(SHORT)).state is ProfileState.DONE

    def test_files_go_after_an_hour(self, recorder: Recorder, held: Held, clock: Clock) -> None:
        done = finish(recorder, held, recorder.start(SHORT))
        path = recorder.file(done.id)
        clock.now += timedelta(minutes=59)
        assert recorder.file(done.id) == path
        clock.now += timedelta(minutes=2)
        assert recorder.recordings() == () and not path.exists()
        with pytest.raises(RecordingNotFound):
            recorder.get(done.id)

    def test_only_the_newest_are_kept(self, recorder: Recorder, held: Held) -> None:
        numbers = [finish(recorder, held, recorder.start(SHORT)).id for _ in range(10)]
        kept = [recording.id for recording in recorder.recordings()]
        assert kept == numbers[:1:-1]
        assert len(list(recorder.file(kept[0]).parent.iterdir())) == len(kept)

    def test_deleting_stops_what_runs_and_leaves_no_file(self, recorder: Recorder, held: Held, tmp_path: Path) -> None:
        started = recorder.start(SHORT)
        recorder.delete(started.id)
        thread = recorder._thread
        assert thread is not None
        thread.join()
        assert list((tmp_path / "profiles").iterdir()) == []
        with pytest.raises(RecordingNotFound):
            recorder.delete(started.id)

    def test_closing_stops_and_clears(self, recorder: Recorder, held: Held, tmp_path: Path) -> None:
        recorder.start(SHORT)
        recorder.close()
        assert not (tmp_path / "profiles").exists()

    def test_what_an_earlier_process_left_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "x.speedscope.json").write_text("{}")
        Recorder(tmp_path / "old", nothing_steps, node="n", version="1")
        assert not (tmp_path / "old").exists()
