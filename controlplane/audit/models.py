"""Table: `audit_heads`, signatures under the chain of events as it was at some moments."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, BigId


class AuditHead(Base):
    """position and hash: of the last event then. key_id: which key signed, so that keys can change. Signed anew while nothing
    happens, so that `signed_at` of the last one also says until when nothing was cut off."""

    __tablename__ = "audit_heads"

    position: Mapped[int] = mapped_column(BigId, primary_key=True, autoincrement=False)
    hash: Mapped[str] = mapped_column(String(64))
    signed_at: Mapped[datetime]
    key_id: Mapped[str] = mapped_column(String(16))
    signature: Mapped[str] = mapped_column(String(64))
