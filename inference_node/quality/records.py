"""The node's quality records: kept in its data folder, void as soon as model, code or text are others."""

import contextlib
import json
import os
import tempfile
import threading
from pathlib import Path

from pydantic import ValidationError

from inference_node.contract.quality import QualityRecord
from inference_node.contract.settings import KvPrecision, Precision

_VERSION = 1
_Level = tuple[Precision, KvPrecision, float]


class QualityRecords:
    """One record for each level of precision, KV cache and pruning. Safe from any thread.

    A file that cannot be read counts as empty, and one that cannot be written costs no more than another measurement.
    """

    def __init__(self, path: Path, *, model: str, arithmetic: str) -> None:
        self._path, self._model, self._arithmetic = path, model, arithmetic
        self._lock = threading.Lock()
        self._records = self._read()

    @property
    def all(self) -> tuple[QualityRecord, ...]:
        """By precision, then by form of the KV cache, then by pruning level."""
        with self._lock:
            return tuple(sorted(self._records.values(), key=_place))

    def of(self, precision: Precision) -> tuple[QualityRecord, ...]:
        return tuple(record for record in self.all if record.precision is precision)

    def add(self, record: QualityRecord) -> None:
        """In place of an earlier one of the same level."""
        assert (record.model, record.arithmetic) == (self._model, self._arithmetic), "a record of something else"
        with self._lock:
            # Another process may have measured meanwhile, say `trimtab bench quality` beside a node.
            self._records = self._read() | self._records | {record.level: record}
            with contextlib.suppress(OSError):
                self._write()

    def _read(self) -> dict[_Level, QualityRecord]:
        try:
            body = json.loads(self._path.read_text())
            if body["version"] != _VERSION:
                return {}
            records = [QualityRecord.model_validate(entry) for entry in body["records"]]
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return {}
        mine = (self._model, self._arithmetic)
        return {record.level: record for record in records if (record.model, record.arithmetic) == mine}

    def _write(self) -> None:
        body = {"version": _VERSION, "records": [r.model_dump(mode="json") for r in self._records.values()]}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self._path.parent, suffix=".new", delete=False) as handle:
            json.dump(body, handle, indent=1)
        os.replace(handle.name, self._path)


def _place(record: QualityRecord) -> tuple[int, int, float]:
    precision, kv, pruning = record.level
    return list(Precision).index(precision), list(KvPrecision).index(kv), pruning
