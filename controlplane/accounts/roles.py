"""The roles, each including the ones before it, and who somebody is once they are known."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """viewer reads, operator changes fleets and rollouts, approver also agrees to others' changes, admin decides who may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


def greater(one: Role, other: Role) -> Role:
    """The one that allows more."""
    return one if one.includes(other) else other


def lesser(one: Role, other: Role) -> Role:
    """The one that allows less."""
    return other if one.includes(other) else one


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks.

    caller_id: id of the token shown, or of the user signed in; what is kept per caller is kept under it.
    name: stands in the history. A user's own tokens act under the user's name, so that four eyes are two people's.
    user_id: None for a token that belongs to no user.
    session_id: None for a token shown directly.
    role: holds everywhere. in_pools: more than that, by pool id.
    """

    caller_id: str
    name: str
    role: Role
    via: Literal["bearer", "session"]
    user_id: str | None = None
    session_id: str | None = None
    in_pools: Mapping[str, Role] = field(default_factory=dict)

    def role_in(self, pool_id: str | None) -> Role:
        """What they may do in a pool; None: in what belongs to no pool."""
        return greater(self.role, self.in_pools.get(pool_id or "", self.role))
