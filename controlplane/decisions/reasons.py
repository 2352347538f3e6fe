"""The closed vocabularies of decisions: outcome, reason, trigger. Log, metric label and web app read the same words."""

from enum import StrEnum


class Outcome(StrEnum):
    """APPLY: roll it out. HOLD: change nothing. REJECT: a proposal was refused on its merits. ADVISE: a person must agree."""

    APPLY = "APPLY"
    HOLD = "HOLD"
    REJECT = "REJECT"
    ADVISE = "ADVISE"


class Reason(StrEnum):
    """Why the outcome is what it is."""

    # APPLY and ADVISE
    BREACH_PREDICTED = "breach_predicted"
    SLO_BROKEN = "slo_broken"
    ALARM = "alarm"
    RECOVERY = "recovery"
    QUALITY_BUDGET = "quality_budget"
    QUEUE_FITTED = "queue_fitted"
    # ADVISE and HOLD
    FORECAST_UNPROVEN = "forecast_unproven"
    # HOLD
    WITHIN_SLO = "within_slo"
    NO_DATA = "no_data"
    STALE_DATA = "stale_data"
    MODEL_NOT_READY = "model_not_ready"
    LEARNING = "learning"
    NODES_NOT_READY = "nodes_not_ready"
    ROLLOUT_ACTIVE = "rollout_active"
    FROZEN = "frozen"
    COOLDOWN = "cooldown"
    TOO_MANY_CHANGES = "too_many_changes"
    RECOVERING = "recovering"
    NO_BETTER_CANDIDATE = "no_better_candidate"
    AUTONOMY = "autonomy"
    ERROR_BUDGET = "error_budget"
    # REJECT
    RECENTLY_ROLLED_BACK = "recently_rolled_back"


class Trigger(StrEnum):
    """What made the decision look for a change: nothing (the tick), a threat, or the way back after one."""

    TICK = "tick"
    PROTECTIVE = "protective"
    RELAXING = "relaxing"
