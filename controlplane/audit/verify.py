"""Walks the chain from its first event and says what is not as it was written."""

from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Engine, func, select

from controlplane.audit.heads import is_ours
from controlplane.audit.models import AuditHead
from controlplane.db import session_scope
from controlplane.events.chain import GENESIS, events_from, link
from controlplane.events.models import ChainHead, Event

PAGE = 1000
MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. position: where; event_id: of the event that stands there, if one does."""

    position: int
    problem: str
    event_id: int | None = None


@dataclass(frozen=True, slots=True)
class Anchor:
    """A head that was kept elsewhere, out of reach of whoever can write the database."""

    position: int
    hash: str


@dataclass(slots=True)
class Report:
    """loose: events that have no place in the chain yet. signed_until: the time of the newest good signature."""

    checked: int = 0
    head_hash: str = GENESIS
    loose: int = 0
    signatures: int = 0
    signed_position: int | None = None
    signed_until: datetime | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        return not self.findings

    def note(self, position: int, problem: str, event_id: int | None = None) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(position, problem, event_id))


def verify(engine: Engine, key: str | None, *, anchors: tuple[Anchor, ...] = ()) -> Report:
    """Reads all of the history, a page at a time. Without a key signatures are not looked at.

    A chain alone does not show that its end was cut off, or that all of it was written anew from some point by somebody who can
    compute hashes: that is what signatures show, and an anchor where signatures are thrown away too.
    """
    report = Report()
    with session_scope(engine, read_only=True) as session:
        heads = {head.position: head for head in session.scalars(select(AuditHead))}
    marks = {anchor.position: anchor for anchor in anchors}
    after = -(2**62)  # a forged event may stand before the first
    while True:
        with session_scope(engine, read_only=True) as session:
            rows = events_from(session, after, limit=PAGE)
            # Read with the last page: an event that was added after it stands behind both.
            end = session.scalars(select(ChainHead)).first()
            report.loose = session.scalar(select(func.count()).where(Event.position.is_(None))) or 0
        for row in rows:
            _check(report, row)
            _compare(report, row, heads.get(report.checked), key, marks.get(report.checked))
        if len(rows) < PAGE:
            break
        after = rows[-1].position or 0
    _check_end(report, end, heads, marks)
    if key is not None and report.checked and report.signatures == 0:
        report.note(report.checked, "no signature of this key stands under any part of the chain")
    return report


def _check(report: Report, row: Event) -> None:
    expected = report.checked + 1
    assert row.position is not None
    if row.position != expected:
        what = "an event before the first" if row.position < expected else f"{row.position - expected} missing"
        report.note(expected, f"the events' numbers do not follow each other: {what}", row.id)
    right = link(report.head_hash, expected, row)
    if row.hash != right:
        report.note(expected, "the event is not what was written, or not what was written here", row.id)
    # From what stands there on, so that one change is one finding and not one for all that follow.
    report.checked, report.head_hash = row.position, row.hash or ""


def _compare(report: Report, row: Event, head: AuditHead | None, key: str | None, anchor: Anchor | None) -> None:
    if head is not None and head.hash != row.hash:
        report.note(head.position, "the chain here is not the one that was signed", row.id)
    elif head is not None and key is not None:
        if is_ours(head, key):
            report.signatures += 1
            report.signed_position, report.signed_until = head.position, head.signed_at
        else:
            report.note(head.position, "the signature is not of this key, or not of this", row.id)
    if anchor is not None and anchor.hash != row.hash:
        report.note(anchor.position, "the chain here is not the one of the anchor", row.id)


def _check_end(report: Report, end: ChainHead | None, heads: dict[int, AuditHead], marks: dict[int, Anchor]) -> None:
    if end is not None and (end.position, end.hash) != (report.checked, report.head_hash):
        report.note(report.checked, f"the chain is recorded to end at {end.position}, with another hash or place")
    if end is None and (report.checked or heads):
        report.note(report.checked, "the record of the chain's end is gone")
    for what, positions in (("signed", heads), ("anchored", marks)):
        beyond = max(positions, default=0)
        if beyond > report.checked:
            report.note(report.checked + 1, f"events up to {beyond} were {what}, and are missing")
