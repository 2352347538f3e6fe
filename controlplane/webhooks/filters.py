"""Which events an endpoint wants: kinds, groups of kinds, a pool, a least severity. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.events.kinds import EventKind, Severity

_ORDER = [str(severity) for severity in Severity]


@dataclass(frozen=True, slots=True)
class EventFilter:
    """kinds: `rollout.completed`, `rollout.*` or `*`. pool_id: None for all pools, and for events that belong to none."""

    kinds: Sequence[str] = ("*",)
    pool_id: str | None = None
    min_severity: str = Severity.INFO

    def wants(self, kind: str, severity: str, pool_id: str | None) -> bool:
        if self.pool_id is not None and pool_id != self.pool_id:
            return False
        # A severity that is not known is one of newer code: better one message too many.
        if severity in _ORDER and _ORDER.index(severity) < _ORDER.index(self.min_severity):
            return False
        return any(_matches(pattern, kind) for pattern in self.kinds)


def unknown(patterns: Sequence[str]) -> list[str]:
    """Those that no event there is could match."""
    return [pattern for pattern in patterns if not any(_matches(pattern, kind) for kind in EventKind)]


def _matches(pattern: str, kind: str) -> bool:
    return pattern == "*" or pattern == kind or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))
