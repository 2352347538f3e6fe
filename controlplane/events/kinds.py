"""The words for what can happen: one list for history, webhooks, live stream and web app."""

from enum import StrEnum


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    FORECAST_BREACH_PREDICTED = "forecast.breach_predicted"
    FORECAST_BREACH_CLEARED = "forecast.breach_cleared"
    FORECAST_SPIKE_PREDICTED = "forecast.spike_predicted"
    FORECAST_SPIKE_CLEARED = "forecast.spike_cleared"
    FORECAST_ANOMALY = "forecast.anomaly"
    SLO_BURNING = "slo.burning"
    SLO_RECOVERED = "slo.recovered"
    CAPACITY_INSUFFICIENT = "capacity.insufficient"
    CAPACITY_SUFFICIENT = "capacity.sufficient"
    MODEL_DEGRADED = "model.degraded"
    MODEL_RECOVERED = "model.recovered"
    DECISION_MADE = "decision.made"
    TELEMETRY_IMPLAUSIBLE = "telemetry.implausible"

    ROLLOUT_CREATED = "rollout.created"
    ROLLOUT_STARTED = "rollout.started"
    ROLLOUT_NOT_BEGUN = "rollout.not_begun"
    ROLLOUT_APPROVAL_REQUIRED = "rollout.approval_required"
    ROLLOUT_APPROVED = "rollout.approved"
    ROLLOUT_SCHEDULED = "rollout.scheduled"
    ROLLOUT_EXPIRED = "rollout.expired"
    ROLLOUT_SUPERSEDED = "rollout.superseded"
    ROLLOUT_STUCK = "rollout.stuck"
    ROLLOUT_REQUESTED = "rollout.requested"
    ROLLOUT_CANARY_STARTED = "rollout.canary_started"
    ROLLOUT_CANARY_APPLIED = "rollout.canary_applied"
    ROLLOUT_ANALYSIS = "rollout.analysis"
    ROLLOUT_PAUSED = "rollout.paused"
    ROLLOUT_RESUMED = "rollout.resumed"
    ROLLOUT_PROMOTING = "rollout.promoting"
    ROLLOUT_BAKING = "rollout.baking"
    ROLLOUT_COMPLETED = "rollout.completed"
    ROLLOUT_ROLLING_BACK = "rollout.rolling_back"
    ROLLOUT_ROLLED_BACK = "rollout.rolled_back"
    ROLLOUT_ROLLBACK_FAILED = "rollout.rollback_failed"
    ROLLOUT_CANCELLED = "rollout.cancelled"
    ROLLOUT_REJECTED = "rollout.rejected"

    NODE_REGISTERED = "node.registered"
    NODE_RESTARTED = "node.restarted"
    NODE_UNREACHABLE = "node.unreachable"
    NODE_RECOVERED = "node.recovered"
    NODE_DRIFTED = "node.drifted"
    NODE_SETTINGS_APPLIED = "node.settings_applied"
    NODE_SETTINGS_REJECTED = "node.settings_rejected"
    NODE_EXPERIMENT_STARTED = "node.experiment_started"
    NODE_EXPERIMENT_ENDED = "node.experiment_ended"
    NODE_EXPERIMENT_MEASURED = "node.experiment_measured"
    NODE_CHANGED_AWAY = "node.changed_away"
    NODE_HISTORY_TAKEN = "node.history_taken"
    NODE_PROFILED = "node.profiled"
    NODE_QUARANTINED = "node.quarantined"
    NODE_RELEASED = "node.released"
    NODE_REMOVED = "node.removed"

    MESH_APPLIED = "mesh.applied"
    MESH_FAILED = "mesh.failed"

    OUTBOX_DEAD = "outbox.dead"

    CONTROL_LEADER_CHANGED = "control.leader_changed"
    CONTROL_FROZEN = "control.frozen"
    CONTROL_UNFROZEN = "control.unfrozen"
    POOL_CREATED = "pool.created"
    POOL_FROZEN = "pool.frozen"
    POOL_UNFROZEN = "pool.unfrozen"
    POLICY_CHANGED = "policy.changed"

    ACCESS_USER_CREATED = "access.user_created"
    ACCESS_USER_DISABLED = "access.user_disabled"
    ACCESS_USER_ENABLED = "access.user_enabled"
    ACCESS_ROLE_CHANGED = "access.role_changed"
    ACCESS_PASSWORD_SET = "access.password_set"  # noqa: S105
    ACCESS_PASSWORD_RESET = "access.password_reset"  # noqa: S105
    ACCESS_TOKEN_CREATED = "access.token_created"  # noqa: S105
    ACCESS_TOKEN_REVOKED = "access.token_revoked"  # noqa: S105
    ACCESS_ENROLMENT_CREATED = "access.enrolment_created"
    ACCESS_ENROLMENT_REVOKED = "access.enrolment_revoked"

    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_ENABLED = "webhook.enabled"
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"  # noqa: S105
    WEBHOOK_DELIVERY_FAILED = "webhook.delivery_failed"

    ALERT_FIRING = "alert.firing"
    ALERT_RESOLVED = "alert.resolved"
    ALERT_TRUNCATED = "alert.truncated"
    ALERT_RULE_CHANGED = "alert.rule_changed"
