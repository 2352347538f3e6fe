"""Claims keys and keeps answers, in the transaction of the change itself: either both stand, or neither.

So a crash leaves no key whose outcome is unknown, and of two requests that race under one key the second waits for the first
(PostgreSQL: in the unique index; SQLite: for the write lock) and gets its answer. A refused request changes nothing, and so
leaves no key behind: sent again, it is judged again.
After "The Idempotency-Key HTTP Header Field" (IETF draft-ietf-httpapi-idempotency-key-header-07), sections 2.4 to 2.7.
"""

import hashlib
import json
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.db import insert_if_absent
from controlplane.errors import Invalid
from controlplane.idempotency.models import IdempotencyRecord

KEPT = timedelta(hours=24)


class IdempotencyKeyReused(Invalid):
    title = "Idempotency key used for another request"


def fingerprint(method: str, target: str, if_match: str, body: bytes) -> str:
    """What makes two requests the same one. Spacing and order of members of a JSON body do not."""
    try:
        same = json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        same = body
    parts = (method.encode(), target.encode(), if_match.encode(), same)
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()


def claim(session: Session, *, token_id: str, key: str, fingerprint: str, now: datetime) -> IdempotencyRecord | None:
    """None: the key is ours, go on. Else the answer that stands under it, to be given again.

    Raises IdempotencyKeyReused when the key stands for another request. A key is forgotten after `KEPT`.
    """
    mine = (IdempotencyRecord.token_id == token_id, IdempotencyRecord.key == key)
    session.execute(delete(IdempotencyRecord).where(*mine, IdempotencyRecord.expires_at <= now))
    inserted = insert_if_absent(
        session,
        IdempotencyRecord,
        token_id=token_id,
        key=key,
        fingerprint=fingerprint,
        status=None,
        headers={},
        body="",
        created_at=now,
        expires_at=now + KEPT,
    )
    if inserted:
        return None
    record = session.scalars(select(IdempotencyRecord).where(*mine)).one()
    if record.fingerprint != fingerprint:
        raise IdempotencyKeyReused(
            f"Idempotency-Key: this key was used at {record.created_at:%Y-%m-%d %H:%M:%S} UTC for a request with another "
            "path, body or If-Match: take a fresh key for each change, and the same one only to send a change again"
        )
    assert record.status is not None, "a committed key without an answer"
    return record


def keep(session: Session, *, token_id: str, key: str, status: int, headers: dict[str, str], body: str) -> None:
    """Keeps the answer under a key that was claimed in the same transaction."""
    mine = (IdempotencyRecord.token_id == token_id, IdempotencyRecord.key == key)
    session.execute(update(IdempotencyRecord).where(*mine).values(status=status, headers=headers, body=body))
