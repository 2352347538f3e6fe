"""How many requests may wait at a node: what stands behind a longer queue gets its first token after the objective, and whoever
comes later with it. A node that refuses those at once (429 with Retry-After) serves the others in time.

Known from load shedding in general: a queue that is worked off first come, first served turns an overload of a tenth into a miss
of nearly all (Google, Site Reliability Engineering, 2016, chapters 21 and 22).
"""

import math
from dataclasses import replace

from controlplane.decisions.decision import DecisionInputs
from controlplane.decisions.performance import PoolModel
from controlplane.decisions.policy import Autonomy, Policy
from inference_node.contract.settings import KNOBS, EngineSettings

KNOB = "max_queue"
# From rules 4 on.
_RULES = 4
# Answers are cut at a maximum, which leaves a squared coefficient of variation of about 0.5 (as `PoolModel.wait_p95_s` takes it).
_VARIATION = 0.5
_Z95 = 1.645
# A limit that is off by less is left as it is: it is worth no change of its own.
_TOO_LONG, _TOO_SHORT, _FAR_TOO_LONG = 1.5, 0.5, 2.0


def turns_queue(inputs: DecisionInputs) -> bool:
    """Only where the controller may turn the limit by itself: whether clients are refused or wait is for people to say."""
    return inputs.rules >= _RULES and inputs.policy.autonomy_of(KNOB) is Autonomy.AUTO


def fitting_queue(model: PoolModel, policy: Policy, rate: float) -> float:
    """Requests that may wait at a full node under `rate`, so that 95 % of those that are let in get their first token within the
    objective, with the policy's margin. Below 1 where the full batch alone takes longer: no limit helps there, but another batch.

    n requests ahead take n times as long as one on average, and 1.645 standard deviations of their sum more in 95 % of cases.
    """
    served = model.node_rps * (1 - min(max(model.step.error_ratio, 0.0), 0.3))
    spare_s = policy.objective.slo_margin * policy.slo.ttft_p95_s - model.own_ttft_p95_s(model.capacity_rps)
    if spare_s <= 0:
        return 0.0
    spread = _Z95 * math.sqrt(_VARIATION)
    ahead = ((math.sqrt(spread * spread + 4 * spare_s * served) - spread) / 2) ** 2
    return ahead - model.prompts_in_batch_s(rate) * served - model.rows_without_memory


def limited(model: PoolModel, current: EngineSettings, policy: Policy, rate: float) -> PoolModel:
    """The model under the limit that fits it, as near to that as one change may go; a limit that is near enough stays."""
    wanted = fitting_queue(model, policy, rate)
    if _is_near(current.max_queue, wanted):
        queue = current.max_queue
    else:
        low, high = _reach(current, policy)
        queue = min(max(_rounded(wanted), low), high)
    return model if queue == model.settings.max_queue else replace(model, settings=with_queue(model.settings, queue))


def is_too_long(model: PoolModel, policy: Policy, rate: float) -> bool:
    """Whether the limit in force lets in far more than are served in time. One that is too short shows by itself: it refuses."""
    return model.settings.max_queue > _FAR_TOO_LONG * max(fitting_queue(model, policy, rate), 1.0)


def with_queue(settings: EngineSettings, queue: int) -> EngineSettings:
    """Not validated again: the limit comes from within the knob's bounds, and a decision weighs hundreds."""
    return settings.model_copy(update={KNOB: queue})


def bare_hash(settings: EngineSettings) -> str:
    """Of the settings without this limit."""
    return with_queue(settings, _BARE).content_hash()


def _is_near(queue: int, wanted: float) -> bool:
    return _TOO_SHORT * wanted <= queue <= max(_TOO_LONG * wanted, 1.0)


def _rounded(wanted: float) -> int:
    """Down to 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on: what moves with every window would never be the same settings twice."""
    if wanted < 2:
        return 1
    power = 2 ** math.floor(math.log2(wanted))
    return int(power * 1.5) if wanted >= power * 1.5 else int(power)


def _reach(current: EngineSettings, policy: Policy) -> tuple[int, int]:
    """Where the knob's own bounds, the policy's and its trust region overlap."""
    knob, ratio = KNOBS[KNOB], policy.guardrails.max_change_ratio
    low, high = current.max_queue / ratio, current.max_queue * ratio
    bounds = policy.guardrails.bounds.get(KNOB)
    if bounds is not None:
        low, high = max(low, bounds.min), min(high, bounds.max)
    least, most = knob.minimum or 1.0, knob.maximum or float(_MOST)
    low, high = max(low, least), min(high, most)
    return math.ceil(low), max(math.ceil(low), math.floor(high))


_MOST = 100_000
_BARE = 1
