"""Roles in single pools: what a user was given beyond the role that they have everywhere, and what a token may of it."""

from sqlalchemy import column, select, table
from sqlalchemy.orm import Session

from controlplane.accounts.models import ApiToken, User
from controlplane.accounts.roles import Role, greater, lesser
from controlplane.errors import Invalid

# The floor above owns this table; its key and name are all that is needed of it here.
_pools = table("pools", column("id"), column("name"))


def of_user(user: User) -> dict[str, Role]:
    """By pool id; empty for one who has the same role everywhere."""
    return {grant.pool_id: Role(grant.role) for grant in user.grants}


def of_token(token: ApiToken) -> tuple[Role, dict[str, Role]]:
    """The role everywhere, and by pool id: never more than its owner has now, and outside its own pool no more than reading."""
    most, in_pools = Role(token.role), {}
    everywhere = most
    if token.owner is not None:
        everywhere = lesser(most, Role(token.owner.role))
        in_pools = {pool_id: lesser(most, role) for pool_id, role in of_user(token.owner).items()}
    if token.pool_id is None:
        return everywhere, in_pools
    return Role.VIEWER, {token.pool_id: greater(in_pools.get(token.pool_id, everywhere), everywhere)}


def check_pool(session: Session, pool_id: str, *, field: str) -> None:
    """Raises Invalid, naming the field, unless there is such a pool."""
    if pool_name(session, pool_id) is None:
        message = f"there is no pool with id {pool_id!r}: GET /api/v1/pools lists them"
        raise Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])


def pool_name(session: Session, pool_id: str) -> str | None:
    return session.scalar(select(_pools.c.name).where(_pools.c.id == pool_id))
