"""A calm pool of two nodes with nothing to do, in which something may be tried; and tries of its past."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controlplane.decisions.decision import RULES, DecisionInputs, NodeFacts
from controlplane.decisions.error_budget import Tally
from controlplane.decisions.exploration_policy import ExplorationMode, ExplorationPolicy
from controlplane.decisions.explored import LogError, Quantity, Tried, TryVerdict
from controlplane.decisions.policy import Policy
from inference_node.contract.settings import EngineSettings
from tests.support.decision_inputs import decision_inputs

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNSPENT = Tally(known_s=3600, first_tokens=1000, gaps=40_000, answers=1000)
NODES = (NodeFacts("n1", "node-1", True), NodeFacts("n2", "node-2", True))


def exploring(mode: ExplorationMode = ExplorationMode.MODEL, **changes: Any) -> Policy:
    """changes: of the section; others go by `replace` on what this returns."""
    return Policy(exploration=ExplorationPolicy(mode=mode, **changes))


def calm(
    at: datetime = AT, *, load: float = 1.5, policy: Policy | None = None, windows: int = 70, **changes: Any
) -> DecisionInputs:
    """All gates are open: six minutes of equal windows, an unspent budget. changes: of the inputs."""
    given = decision_inputs(at, load, windows=windows)
    filled = replace(given, nodes=NODES, served=UNSPENT, rules=RULES, policy=policy or exploring())
    return replace(filled, **changes)


def tried(
    settings: EngineSettings,
    base: EngineSettings,
    *,
    hours: float = 2,
    slower: dict[Quantity, float] | None = None,
    sd: float = 0.03,
    verdict: TryVerdict = TryVerdict.SAME,
    node_rps: float = 0.75,
) -> Tried:
    """Ended so many hours before AT. slower: measured over predicted."""
    at = AT - timedelta(hours=hours)
    errors = tuple(LogError(quantity, math.log(ratio), sd) for quantity, ratio in (slower or {}).items())
    return Tried(at, settings, base, node_rps, until=at + timedelta(seconds=900), verdict=verdict, errors=errors)
