"""Recorder: one recording at a time, in a thread of its own; keeps the files for an hour and then clears them away."""

import contextlib
import json
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from inference_node.contract.profiling import ProfileKind, ProfileRecording, ProfileRequest, ProfileState
from inference_node.errors import Conflict, NotFound
from inference_node.profiling.sampler import sample
from inference_node.profiling.speedscope import to_speedscope
from inference_node.profiling.trace import WatchSteps, trace

KEPT_FOR = timedelta(hours=1)
_MOST_KEPT = 8
_SUFFIX = {ProfileKind.CPU: "speedscope.json", ProfileKind.TORCH: "trace.json.gz"}

log = structlog.get_logger("node.profiling")

Clock = Callable[[], datetime]


class RecordingBusy(Conflict):
    """Another recording is under way; two at once would record each other."""


class RecordingNotFound(NotFound):
    """No such recording, or it was cleared away."""


class RecordingNotDone(Conflict):
    """There is no file yet, or there never will be."""


@dataclass(slots=True)
class _Recording:
    id: str
    request: ProfileRequest
    started_at: datetime
    path: Path
    stopped: threading.Event = field(default_factory=threading.Event)
    state: ProfileState = ProfileState.RUNNING
    finished_at: datetime | None = None
    error: str | None = None

    def view(self) -> ProfileRecording:
        done = self.state is ProfileState.DONE
        return ProfileRecording(
            id=self.id,
            kind=self.request.kind,
            state=self.state,
            seconds=self.request.seconds,
            started_at=self.started_at,
            finished_at=self.finished_at,
            expires_at=None if self.finished_at is None else self.finished_at + KEPT_FOR,
            file_name=self.path.name if done else None,
            size_bytes=self.path.stat().st_size if done and self.path.exists() else 0,
            error=self.error,
        )


class Recorder:
    """Thread-safe. `folder` is its own: what an earlier process left there is removed."""

    def __init__(
        self,
        folder: Path,
        watch_steps: WatchSteps,
        *,
        node: str,
        version: str,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self._folder = folder
        self._watch_steps = watch_steps
        self._node, self._version = node, version
        self._clock = clock
        self._lock = threading.Lock()
        self._recordings: dict[str, _Recording] = {}
        self._thread: threading.Thread | None = None
        self._sweeper: threading.Timer | None = None
        shutil.rmtree(folder, ignore_errors=True)

    def start(self, request: ProfileRequest) -> ProfileRecording:
        """Begins a recording. Raises RecordingBusy."""
        with self._lock:
            self._clear()
            running = next((r for r in self._recordings.values() if r.state is ProfileState.RUNNING), None)
            if running is not None:
                raise RecordingBusy(
                    f"a {running.request.kind} recording of {running.request.seconds:g} s is under way ({running.id}): "
                    "wait for it, or delete it"
                )
            now, number = self._clock(), secrets.token_hex(6)
            name = f"{self._node}-{now:%Y%m%dT%H%M%S}-{number}.{_SUFFIX[request.kind]}"
            recording = _Recording(number, request, now, self._folder / name)
            self._recordings[number] = recording
            self._thread = threading.Thread(target=self._run, args=(recording,), name="recorder", daemon=True)
            self._thread.start()
            return recording.view()

    def recordings(self) -> tuple[ProfileRecording, ...]:
        """Newest first."""
        with self._lock:
            self._clear()
            return tuple(recording.view() for recording in reversed(self._recordings.values()))

    def get(self, number: str) -> ProfileRecording:
        """Raises RecordingNotFound."""
        return self._find(number).view()

    def file(self, number: str) -> Path:
        """The finished file. Raises RecordingNotFound, RecordingNotDone."""
        recording = self._find(number)
        if recording.state is not ProfileState.DONE:
            why = "is still under way" if recording.state is ProfileState.RUNNING else f"failed: {recording.error}"
            raise RecordingNotDone(f"the recording {number} {why}")
        return recording.path

    def delete(self, number: str) -> None:
        """Stops it, if it runs, and removes its file. Raises RecordingNotFound."""
        recording = self._find(number)
        recording.stopped.set()
        with self._lock:
            self._recordings.pop(number, None)
            if recording.state is not ProfileState.RUNNING:  # else its thread does, at its end
                recording.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stops what runs, waits for it, and removes all files."""
        with self._lock:
            for recording in self._recordings.values():
                recording.stopped.set()
            self._recordings.clear()
            thread, sweeper = self._thread, self._sweeper
            self._sweeper = None
        if sweeper is not None:
            sweeper.cancel()
        if thread is not None:
            thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _find(self, number: str) -> _Recording:
        with self._lock:
            self._clear()
            recording = self._recordings.get(number)
        if recording is None:
            kept = f"{KEPT_FOR.total_seconds() / 3600:g} h"
            raise RecordingNotFound(f"there is no recording {number}; finished ones are kept for {kept}")
        return recording

    def _run(self, recording: _Recording) -> None:
        try:
            self._record(recording)
        except Exception as error:  # noqa: BLE001 - whatever a profiler does, the node goes on and says so
            log.warning(
                "recording_failed", kind=recording.request.kind.value, problem=f"{type(error).__name__}: {error}"
            )
            recording.error = f"{type(error).__name__}: {error}"
        with self._lock:
            recording.finished_at = self._clock()
            recording.state = ProfileState.DONE if recording.error is None else ProfileState.FAILED
            if recording.id not in self._recordings:  # deleted meanwhile
                recording.path.unlink(missing_ok=True)
            elif self._sweeper is None:
                self._sweep_later()

    def _record(self, recording: _Recording) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        request, path = recording.request, recording.path
        if request.kind is ProfileKind.TORCH:
            trace(request.seconds, recording.stopped, self._watch_steps, path)
            return
        samples = sample(request.seconds, recording.stopped)
        document = to_speedscope(samples, f"{self._node}, {samples.duration_s:.1f} s", f"trimtab {self._version}")
        path.write_text(json.dumps(document))

    def _sweep_later(self) -> None:
        """Files go also when nobody asks any more."""
        self._sweeper = threading.Timer(KEPT_FOR.total_seconds(), self._sweep)
        self._sweeper.daemon = True
        self._sweeper.start()

    def _sweep(self) -> None:
        with self._lock:
            self._sweeper = None
            self._clear()
            if self._recordings:
                self._sweep_later()

    def _clear(self) -> None:
        """Removes what has expired, and the oldest of too many."""
        now = self._clock()
        finished = [r for r in self._recordings.values() if r.finished_at is not None]
        for place, recording in enumerate(reversed(finished)):
            assert recording.finished_at is not None
            if place >= _MOST_KEPT or now - recording.finished_at >= KEPT_FOR:
                del self._recordings[recording.id]
                with contextlib.suppress(OSError):
                    recording.path.unlink(missing_ok=True)
