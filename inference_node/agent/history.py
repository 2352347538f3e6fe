"""What the node writes down while nobody hears it, on disk, until the control plane has taken it.

A line of JSON each, in the order of time. Bounded: the oldest windows make room. A file that is torn loses the torn line only.
"""

import json
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import ValidationError

from inference_node.contract.history import (
    CHANGES_AT_ONCE,
    MOST_CHANGES,
    MOST_WINDOWS,
    WINDOWS_AT_ONCE,
    NodeChange,
    NodeHistory,
    NodeWindow,
)

log = structlog.get_logger("agent.history")


class History:
    """Windows and changes that the control plane does not know yet. Belongs to the event loop; `path` is its file."""

    def __init__(self, path: Path, *, most_windows: int = MOST_WINDOWS, most_changes: int = MOST_CHANGES) -> None:
        self._path = path
        self._windows: deque[NodeWindow] = deque(maxlen=most_windows)
        self._changes: deque[NodeChange] = deque(maxlen=most_changes)
        self._number, self._lines, self._failed = 0, 0, False
        self._part: NodeHistory | None = None
        self._load()

    def __len__(self) -> int:
        return len(self._windows) + len(self._changes)

    def add_window(self, window: NodeWindow) -> None:
        self._windows.append(window)
        self._append("window", window.model_dump_json())

    def add_change(self, change: NodeChange) -> None:
        self._changes.append(change)
        self._append("change", change.model_dump_json())

    def next_part(self) -> NodeHistory | None:
        """The oldest part that is still to be told, the same one until `taken`; None when there is nothing."""
        if self._part is None and len(self):
            # By the clock, so that a node that lost its folder does not begin below what it told before.
            self._number = max(self._number + 1, int(datetime.now(UTC).timestamp() * 1000))
            self._part = self._first(WINDOWS_AT_ONCE, CHANGES_AT_ONCE)
            self._append("part", json.dumps([self._number, len(self._part.windows), len(self._part.changes)]))
        return self._part

    def _first(self, windows: int, changes: int) -> NodeHistory:
        """The oldest so many of each, as the part of the present number."""
        told, changed = tuple(self._windows)[:windows], tuple(self._changes)[:changes]
        since = min((*(each.end for each in told[:1]), *(each.at for each in changed[:1])))
        return NodeHistory(number=self._number, away_since=since, windows=told, changes=changed)

    def taken(self, part: NodeHistory) -> None:
        """The control plane has it."""
        self._part = None
        # Not by their number: while the part was under way the oldest may have made room.
        windows, changes = {each.end for each in part.windows}, {each.at for each in part.changes}
        while self._windows and self._windows[0].end in windows:
            self._windows.popleft()
        while self._changes and self._changes[0].at in changes:
            self._changes.popleft()
        self._rewrite()

    def _append(self, kind: str, body: str) -> None:
        self._lines += 1
        if self._lines > 2 * ((self._windows.maxlen or 0) + (self._changes.maxlen or 0)):
            self._rewrite()
            return
        self._write(f'{{"{kind}":{body}}}\n', "a")

    def _rewrite(self) -> None:
        lines = [f'{{"number":{self._number}}}']
        lines += [f'{{"window":{window.model_dump_json()}}}' for window in self._windows]
        lines += [f'{{"change":{change.model_dump_json()}}}' for change in self._changes]
        self._lines = len(lines)
        self._write("".join(f"{line}\n" for line in lines), "w")

    def _write(self, text: str, mode: str) -> None:
        """Not flushed to the disk: a power loss may cost the last windows, a crash of the process none."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            target = self._path if mode == "a" else self._path.with_suffix(".new")
            with target.open(mode) as handle:
                handle.write(text)
            if mode == "w":
                target.replace(self._path)
            self._failed = False
        except OSError as error:
            # A full disk must stop nothing: what is in memory is told all the same.
            if not self._failed:
                log.error("history_not_saved", file=str(self._path), problem=str(error))
            self._failed = True

    def _load(self) -> None:
        try:
            lines = self._path.read_text(errors="replace").splitlines()
        except OSError:
            return
        under_way: tuple[int, int] | None = None
        damaged = 0
        for line in lines:
            try:
                document = json.loads(line)
                if "window" in document:
                    self._windows.append(NodeWindow.model_validate(document["window"]))
                elif "change" in document:
                    self._changes.append(NodeChange.model_validate(document["change"]))
                elif "part" in document:
                    self._number, *counts = map(int, document["part"])
                    under_way = (counts[0], counts[1])
                else:
                    self._number, under_way = int(document["number"]), None
            except (ValueError, TypeError, KeyError, IndexError, ValidationError):
                damaged += 1
        self._lines = len(lines)
        if damaged:
            log.warning("history_damaged", file=str(self._path), lines=damaged, goes_on_with=len(self))
        elif under_way is not None and len(self):
            # It may have been taken, without our hearing so: it is told again as the same part.
            self._part = self._first(*under_way)
