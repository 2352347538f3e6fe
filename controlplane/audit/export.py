"""Entries as CSV (RFC 4180) and as JSON lines."""

import csv
import io
import json
from collections.abc import Iterable, Iterator

from controlplane.audit.schemas import AuditEntry
from controlplane.events.models import Event

COLUMNS = tuple(AuditEntry.model_fields)
# What a spreadsheet would take for a formula (OWASP, "CSV Injection"): it gets an apostrophe before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_jsonl(rows: Iterable[Event]) -> Iterator[bytes]:
    for row in rows:
        yield AuditEntry.model_validate(row).model_dump_json().encode() + b"\n"


def as_csv(rows: Iterable[Event]) -> Iterator[bytes]:
    """With a header line; `data` is JSON in one cell."""
    yield _line(COLUMNS)
    for row in rows:
        entry = AuditEntry.model_validate(row).model_dump(mode="json")
        yield _line([_cell(entry[name]) for name in COLUMNS])


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    text = str(value)
    return "'" + text if isinstance(value, str) and text.startswith(_FORMULA) else text


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
