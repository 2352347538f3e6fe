"""Signatures under the chain's end. Whoever can write the database can compute hashes; without the key, nobody can sign them."""

import hashlib
import hmac
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.audit.models import AuditHead
from controlplane.events.models import ChainHead


def key_id(key: str) -> str:
    """Names a key without telling it: 16 hex digits of a hash of its own kind."""
    return hashlib.sha256(b"trimtab audit key id\0" + key.encode()).hexdigest()[:16]


def signature(key: str, position: int, head_hash: str, signed_at: datetime) -> str:
    """HMAC-SHA256 (RFC 2104), 64 hex digits. The time is signed in whole seconds."""
    text = f"trimtab audit head\0{position}\0{head_hash}\0{_seconds(signed_at)}"
    return hmac.digest(key.encode(), text.encode(), hashlib.sha256).hex()


def is_ours(head: AuditHead, key: str) -> bool:
    """Whether the key signed just this."""
    expected = signature(key, head.position, head.hash, head.signed_at)
    return head.key_id == key_id(key) and hmac.compare_digest(expected, head.signature)


def sign(session: Session, key: str, now: datetime) -> AuditHead | None:
    """Signs the chain's end as it is now. None while no event has its place yet."""
    end = session.scalars(select(ChainHead).with_for_update()).first()
    if end is None or end.position == 0:
        return None
    now = now.replace(microsecond=0)
    head = session.get(AuditHead, end.position) or AuditHead(position=end.position)
    head.hash, head.signed_at, head.key_id = end.hash, now, key_id(key)
    head.signature = signature(key, end.position, end.hash, now)
    session.add(head)
    session.flush()
    return head


def _seconds(at: datetime) -> int:
    return int(at.astimezone(UTC).timestamp())
