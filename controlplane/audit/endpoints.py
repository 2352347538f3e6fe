"""The audit log: read, taken elsewhere, verified."""

from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.audit import export
from controlplane.audit.schemas import AuditEntry, FindingOut, VerificationOut
from controlplane.audit.search import Search, everything, page
from controlplane.audit.verify import verify
from controlplane.dependencies import DatabaseEngine, Now, ProcessSettings, ReadSession
from controlplane.events.kinds import Severity
from controlplane.paging import Paged
from controlplane.problem import declared
from controlplane.schemas import Cursor, Limit, Page, decode_int_cursor, encode_cursor

router = APIRouter(prefix="/audit", tags=["audit"])
_VIEWER = [require(Role.VIEWER)]
_MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


def _search(
    actor: Annotated[str | None, Query(max_length=128, description="who did it, as the entry says")] = None,
    kind: Annotated[str | None, Query(max_length=64, description="a kind, or a group: `access.*`")] = None,
    severity: Severity | None = None,
    pool_id: Annotated[str | None, Query(max_length=36)] = None,
    since: Annotated[AwareDatetime | None, Query(description="from then on")] = None,
    until: Annotated[AwareDatetime | None, Query(description="before then")] = None,
    text: Annotated[str | None, Query(max_length=200, description="stands in the message")] = None,
) -> Search:
    return Search(actor, kind, severity, pool_id, since, until, text)


Asked = Annotated[Search, Depends(_search)]


@router.get("", dependencies=_VIEWER, responses=declared(401, 403, 422))
def list_audit_entries(
    session: ReadSession, paged: Paged, search: Asked, cursor: Cursor = None, limit: Limit = 50
) -> Page[AuditEntry]:
    """What happened, newest first, each entry with its place in the chain."""
    rows = page(session, search, limit=limit + 1, before=decode_int_cursor(cursor))
    entries = [AuditEntry.model_validate(row) for row in rows[:limit]]
    return paged.page(entries, encode_cursor(entries[-1].position) if len(rows) > limit else None)


@router.get(
    "/export",
    dependencies=_VIEWER,
    response_class=StreamingResponse,
    responses=declared(401, 403, 422)
    | {200: {"content": {media.partition(";")[0]: {} for media in _MEDIA.values()}, "description": "the entries"}},
)
def export_audit_entries(
    engine: DatabaseEngine,
    now: Now,
    search: Asked,
    format: Literal["csv", "jsonl"] = "jsonl",  # noqa: A002
) -> StreamingResponse:
    """All entries that were asked for, oldest first, as a file."""
    rows = everything(engine, search)
    pieces: Iterator[bytes] = export.as_csv(rows) if format == "csv" else export.as_jsonl(rows)
    name = f"trimtab-audit-{now:%Y%m%dT%H%M%SZ}.{format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return StreamingResponse(pieces, media_type=_MEDIA[format], headers=headers)


@router.get("/verification", dependencies=[require(Role.OPERATOR)], responses=declared(401, 403))
def verify_audit_log(engine: DatabaseEngine, settings: ProcessSettings) -> VerificationOut:
    """Reads the whole chain and says whether it is as it was written. `trimtab audit verify` does so without this server."""
    key = None if settings.audit_key is None else settings.audit_key.get_secret_value()
    report = verify(engine, key)
    return VerificationOut(
        intact=report.is_intact, checked=report.checked, head_hash=report.head_hash, loose=report.loose,
        signatures=report.signatures, signed_position=report.signed_position, signed_until=report.signed_until,
        findings=[FindingOut.model_validate(found) for found in report.findings],
    )  # fmt: skip
