"""What clients see of the audit log."""

from pydantic import Field

from controlplane.events.schemas import EventOut
from controlplane.schemas import Out, UtcTime


class AuditEntry(EventOut):
    """An event with its place in the chain."""

    position: int = Field(description="counts up without gaps")
    hash: str = Field(description="SHA-256 over the entry and the hash before; see docs/audit.md")


class FindingOut(Out):
    position: int
    problem: str
    event_id: int | None


class VerificationOut(Out):
    intact: bool
    checked: int = Field(description="entries")
    head_hash: str = Field(description="of the last entry: kept elsewhere, it is proof of everything until here")
    loose: int = Field(description="events that have no place in the chain yet, for a moment")
    signatures: int = Field(description="good ones; 0 where no key is configured (CONTROLPLANE_AUDIT_KEY)")
    signed_position: int | None
    signed_until: UtcTime | None
    findings: list[FindingOut]
