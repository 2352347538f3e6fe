"""What must hold before anything is changed. Guardrails only tighten: each returns the constraint that blocks, or None."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from controlplane.decisions import explain_burn
from controlplane.decisions.admission import KNOB as QUEUE
from controlplane.decisions.admission import bare_hash, turns_queue
from controlplane.decisions.certified import loss_of
from controlplane.decisions.decision import Constraint, DecisionInputs, PastChange
from controlplane.decisions.error_budget import burn_of
from controlplane.decisions.reasons import Reason, Trigger
from controlplane.telemetry.observation import Quality
from inference_node.contract.settings import KNOBS, EngineSettings

BLOCKS = "blocks"


@dataclass(frozen=True, slots=True)
class Block:
    """Why nothing may change now."""

    reason: Reason
    constraint: Constraint


def world_blocks(inputs: DecisionInputs) -> Block | None:
    """Reasons that hold whatever is wanted: no facts, old facts, frozen, a rollout under way, too few nodes."""
    seen = inputs.observation
    if seen is None or seen.quality is Quality.MISSING:
        return _block(
            Reason.NO_DATA, "Prometheus has no figures for the newest window; without them nothing is changed."
        )
    if seen.quality is Quality.STALE:
        return _block(
            Reason.STALE_DATA, "The newest samples are older than three scrapes; nothing is changed on old figures."
        )
    age_s = (inputs.now - seen.window_end).total_seconds()
    if age_s > max(3 * seen.window_s, 30.0):
        return _block(
            Reason.STALE_DATA, f"The newest window ended {age_s:.0f} s ago; nothing is changed on old figures."
        )
    if inputs.frozen_reason is not None:
        return _block(Reason.FROZEN, f"The pool is frozen ({inputs.frozen_reason}); only rollbacks are possible.")
    if inputs.active_rollout is not None:
        return _block(Reason.ROLLOUT_ACTIVE, "A rollout is under way in this pool; one at a time.")
    ready = ready_nodes(inputs)
    if not inputs.nodes or ready < max(1.0, inputs.policy.guardrails.min_ready_ratio * len(inputs.nodes)):
        return _block(
            Reason.NODES_NOT_READY,
            f"{ready} of {len(inputs.nodes)} nodes are ready; a change needs "
            f"{inputs.policy.guardrails.min_ready_ratio:.0%} of them.",
        )
    return None


def change_blocks(inputs: DecisionInputs, trigger: Trigger) -> Block | None:
    """Reasons that depend on what was changed lately: the pause after a change, and the budget of changes."""
    rails = inputs.policy.guardrails
    cooldown_s = rails.cooldown_relaxing_s if trigger is Trigger.RELAXING else rails.cooldown_protective_s
    if inputs.changes:
        since_s = (inputs.now - max(change.at for change in inputs.changes)).total_seconds()
        if since_s < cooldown_s:
            return _block(
                Reason.COOLDOWN,
                f"The last change is {since_s:.0f} s old; the next {trigger.value} one may follow after {cooldown_s:.0f} s.",
            )
    hour_ago = inputs.now - timedelta(hours=1)
    own = sum(change.by_controller and not change.rolled_back and change.at > hour_ago for change in inputs.changes)
    if own >= rails.max_changes_per_h:
        return _block(
            Reason.TOO_MANY_CHANGES,
            f"The controller made {own} changes within an hour; the policy allows {rails.max_changes_per_h}.",
        )
    return None


def barred_settings(inputs: DecisionInputs) -> frozenset[str]:
    """Hashes of settings that a rollout had to take back lately: they are not tried again before the hold has passed."""
    since = inputs.now - timedelta(seconds=inputs.policy.guardrails.rolled_back_hold_s)
    back = [change for change in inputs.changes if change.rolled_back and change.at > since]
    hashes = {change.settings_hash for change in back}
    if turns_queue(inputs):
        hashes |= {change.bare_hash for change in back}
    return frozenset(each for each in hashes if each is not None)


def is_barred(settings: EngineSettings, barred: frozenset[str], inputs: DecisionInputs) -> bool:
    """Whether they are among `barred_settings`; where the limit of the queue is fitted to the rest, whatever it would be now."""
    if not barred:
        return False
    return settings.content_hash() in barred or (turns_queue(inputs) and bare_hash(settings) in barred)


def proven_settings(inputs: DecisionInputs) -> frozenset[str]:
    """Hashes of settings of which a rollout was completed lately, and none taken back."""
    return proven_by(inputs.changes)


def proven_by(changes: Sequence[PastChange]) -> frozenset[str]:
    done = {change.settings_hash for change in changes if not change.by_controller and not change.rolled_back}
    undone = {change.settings_hash for change in changes if change.rolled_back}
    return frozenset(each for each in done - undone if each is not None)


def burn_blocks(inputs: DecisionInputs) -> Block | None:
    """Whether the error budget burns too fast for anything but protection: an SLO that is being missed is no time to try things.

    What protects never asks, and neither do better answers that are owed to the quality budget: that is a promise of its own.
    """
    if inputs.rules < 3:
        return None
    burn = burn_of(inputs.served, inputs.policy)
    return _block(Reason.ERROR_BUDGET, explain_burn.blocked(burn, inputs.policy)) if burn.freezes else None


def burn_note(inputs: DecisionInputs) -> Constraint | None:
    """Said with a change that was made without knowing how fast the budget burns."""
    if inputs.rules < 3 or inputs.served is None or inputs.policy.guardrails.max_burn_rate is None:
        return None
    burn = burn_of(inputs.served, inputs.policy)
    if burn.rate is not None:
        return None
    return Constraint(Reason.ERROR_BUDGET.value, "notes", explain_burn.said(burn, inputs.policy))


def relaxing_blocks(inputs: DecisionInputs, breach_probability: float, error_ratio: float) -> Constraint | None:
    """Relaxing needs every signal. Returns the first that is missing, or None."""
    recent = change_blocks(inputs, Trigger.RELAXING)
    if recent is not None:
        return recent.constraint
    if inputs.rules >= 2 and (flapping := _flapping(inputs)) is not None:
        return Constraint("flapping", BLOCKS, f"Not relaxed: {flapping}.")
    missing = _missing_signal(inputs, breach_probability, error_ratio)
    if missing is None:
        return None
    return Constraint("relaxing", BLOCKS, f"Not relaxed towards the settings that people chose: {missing}.")


def _flapping(inputs: DecisionInputs) -> str | None:
    """Whether protecting and relaxing took turns too often lately. Protective moves stay possible: they end a turn."""
    rails = inputs.policy.guardrails
    own = [change for change in inputs.changes if change.by_controller and change.trigger is not Trigger.TICK]
    turns = [after.at for before, after in pairwise(own) if before.trigger is not after.trigger]
    for first, last in zip(turns, turns[rails.flap_reversals - 1 :], strict=False):
        within = (last - first).total_seconds() <= rails.flap_window_s
        if within and (inputs.now - last).total_seconds() < rails.flap_hold_s:
            return (
                f"protecting and relaxing took {rails.flap_reversals} turns within {(last - first).total_seconds():.0f} s, so "
                f"settings stay for {rails.flap_hold_s / 60:.0f} min"
            )
    return None


def _missing_signal(inputs: DecisionInputs, breach_probability: float, error_ratio: float) -> str | None:
    if inputs.alarm is not None:
        return f"protection is asked for ({inputs.alarm})"
    policy = inputs.policy
    since = inputs.now - timedelta(seconds=policy.guardrails.cooldown_relaxing_s)
    windows = [seen for seen in inputs.history if seen.window_end > since]
    if not windows or (windows[0].window_end - since).total_seconds() > max(
        0.1 * policy.guardrails.cooldown_relaxing_s, 30
    ):
        return f"the calm is not {policy.guardrails.cooldown_relaxing_s:.0f} s long yet"
    if any(seen.quality is not Quality.OK for seen in windows):
        return "not every window since then is complete"
    margin = policy.objective.slo_margin
    if any((seen.ttft_p95_s or 0.0) > margin * policy.slo.ttft_p95_s for seen in windows):
        return "p95 TTFT came near its objective since then"
    if any((seen.itl_p95_s or 0.0) > margin * policy.slo.itl_p95_s for seen in windows):
        return "p95 ITL came near its objective since then"
    if windows[-1].waiting:
        return "requests are waiting"
    if inputs.rules >= 4 and any(seen.rejected for seen in windows):
        return "requests were refused since then"
    if breach_probability > policy.objective.breach_probability / 3:
        return f"a breach is still possible (probability {breach_probability:.2f})"
    if error_ratio > _RELAX_MAX_ERROR:
        return f"the performance model is off by {error_ratio:.0%}"
    if ready_nodes(inputs) < len(inputs.nodes):
        return "not all nodes are ready"
    return None


def leads_home(settings: EngineSettings, inputs: DecisionInputs) -> bool:
    """Whether each changed knob moves towards the settings that people chose, not past them, by one slow step at most."""
    home, now = inputs.home, inputs.settings
    if home is None or settings == now:
        return False
    for knob, (here, there) in now.changed(settings).items():
        if knob == QUEUE and turns_queue(inputs):
            continue  # it follows from the rest, wherever that leads
        goal = getattr(home, knob)
        if isinstance(here, str | bool) or isinstance(there, str | bool):
            if there != goal and not (knob == "precision" and _is_on_the_way(settings, inputs)):
                return False
            continue
        if not min(here, goal) <= there <= max(here, goal):
            return False
        ratio = inputs.policy.guardrails.max_relax_ratio
        if KNOBS[knob].minimum and not here / ratio <= there <= here * ratio:
            return False
    return True


def _is_on_the_way(settings: EngineSettings, inputs: DecisionInputs) -> bool:
    """Whether their answers lose less than those of now, and no less than those that people chose: where the settings of home do
    not hold the objectives, answers are as good as they can be."""
    assert inputs.home is not None
    losses = [loss_of(each, inputs.policy, inputs.nodes) for each in (inputs.home, settings, inputs.settings)]
    return inputs.rules >= 5 and losses[0] <= losses[1] < losses[2]


# control-plane design 2.3: no relaxing moves on a model that is off by more.
_RELAX_MAX_ERROR = 0.15


def ready_nodes(inputs: DecisionInputs) -> int:
    return sum(node.ready for node in inputs.nodes)


def _block(reason: Reason, detail: str) -> Block:
    return Block(reason, Constraint(reason.value, BLOCKS, detail))
