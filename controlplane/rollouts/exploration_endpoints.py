"""What the controller tried by itself, over HTTP. It is read only: people try things with experiments."""

from fastapi import APIRouter

from controlplane.accounts.dependencies import require
from controlplane.accounts.roles import Role
from controlplane.dependencies import ReadSession
from controlplane.fleets import service as fleets
from controlplane.paging import Paged
from controlplane.problem import declared
from controlplane.rollouts import explorations
from controlplane.rollouts.exploration_schemas import ExplorationOut
from controlplane.schemas import Cursor, Limit, Page, decode_time_cursor, encode_cursor

router = APIRouter(tags=["rollouts"])


@router.get(
    "/pools/{pool_id}/explorations", dependencies=[require(Role.VIEWER)], responses=declared(401, 403, 404, 422)
)
def list_explorations(
    pool_id: str, session: ReadSession, paged: Paged, cursor: Cursor = None, limit: Limit = 50
) -> Page[ExplorationOut]:
    """What the controller tried on single nodes of the pool by itself, newest first, with what it showed. It promotes nothing."""
    fleets.get_pool(session, pool_id)
    rows = explorations.list_explorations(session, pool_id, limit=limit + 1, before=decode_time_cursor(cursor))
    revisions = fleets.get_revisions(session, [row.revision_id for row in rows[:limit]])
    page = [
        ExplorationOut.of(row, fleets.get_node(session, row.node_id).name, revisions[row.revision_id].number)
        for row in rows[:limit]
    ]
    more = rows[limit - 1] if len(rows) > limit else None
    return paged.page(page, None if more is None else encode_cursor(f"{more.at.isoformat()} {more.id}"))
