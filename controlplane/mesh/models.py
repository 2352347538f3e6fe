"""Table: `mesh_routes`, what each pool's route should say, and what it is known to say."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Text
from sqlalchemy.orm import Mapped, mapped_column

from controlplane.db import Base, Id


class MeshRoute(Base):
    """One row a pool whose route is kept through the Kubernetes API.

    `generation` numbers what is desired and only grows; it travels with the object as an annotation, so that an older one
    never overwrites a newer one. `desired` and `applied` are a `Wish` as JSON; `error` is why the last try failed.
    """

    __tablename__ = "mesh_routes"

    pool_id: Mapped[str] = mapped_column(ForeignKey("pools.id"), primary_key=True)
    rollout_id: Mapped[str | None] = mapped_column(Id)
    generation: Mapped[int] = mapped_column(default=1)
    desired: Mapped[dict[str, Any]]
    desired_at: Mapped[datetime]
    owed_at: Mapped[datetime]
    applied_generation: Mapped[int] = mapped_column(default=0)
    applied: Mapped[dict[str, Any] | None]
    applied_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)
