"""The roles, each including the ones before it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """viewer reads, operator changes fleets and rollouts, admin hands out tokens."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        order = list(Role)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: an API token, shown directly or through the browser session that was opened with it."""

    token_id: str
    name: str
    role: Role
    via: Literal["bearer", "session"]
