"""What was measured, for charts: windows of pools and nodes."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.dependencies import Now, ReadSession
from controlplane.fleets import service as fleets
from controlplane.problem import declared
from controlplane.schemas import Page
from controlplane.telemetry import service
from controlplane.telemetry.schemas import ObservationOut

router = APIRouter(tags=["telemetry"], dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422))

Since = Annotated[
    AwareDatetime | None, Query(description="windows that end after this; by default the last 15 minutes")
]
Until = Annotated[AwareDatetime | None, Query(description="windows that end at this or before")]
Windows = Annotated[int, Query(ge=1, le=2000, description="how many windows at most: the newest ones")]

_DEFAULT_SPAN = timedelta(minutes=15)


@router.get("/pools/{pool_id}/observations")
def list_pool_observations(
    pool_id: str, session: ReadSession, now: Now, since: Since = None, until: Until = None, limit: Windows = 500
) -> Page[ObservationOut]:
    """A pool's windows, oldest first."""
    pool = fleets.get_pool(session, pool_id)
    return _page(session, pool.id, now, since, until, limit)


@router.get("/nodes/{node_id}/observations")
def list_node_observations(
    node_id: str, session: ReadSession, now: Now, since: Since = None, until: Until = None, limit: Windows = 500
) -> Page[ObservationOut]:
    """A node's windows, oldest first."""
    node = fleets.get_node(session, node_id)
    return _page(session, node.id, now, since, until, limit)


def _page(
    session: ReadSession, subject_id: str, now: datetime, since: datetime | None, until: datetime | None, limit: int
) -> Page[ObservationOut]:
    start = since or (until or now) - _DEFAULT_SPAN
    windows = service.recent(session, subject_id, start, until, limit)
    return Page(items=[ObservationOut.of(seen) for seen in windows])
