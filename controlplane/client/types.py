"""Shapes of the API's answers and bodies. Written by `python -m controlplane.openapi`; not by hand."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Action = Literal["pause", "roll_back", "freeze", "protect"]
ApplyMode = Literal["live", "background", "drain"]
Autonomy = Literal["off", "observe", "advise", "approve", "auto"]
CheckState = Literal["met", "binds", "broken", "unknown", "asks"]
DeliveryState = Literal["waiting", "delivered", "failed"]
EffectState = Literal["set", "joined", "none", "done", "lifted"]
ExplorationMode = Literal["off", "random", "model"]
ForecastMetric = Literal["offered_rps", "ttft_p95_s", "itl_p95_s"]
ForecastUse = Literal["off", "always", "earned"]
Format = Literal["standard", "slack", "teams", "pagerduty", "ticket", "alertmanager"]
KvPrecision = Literal["model", "int8", "fp8"]
MeshKind = Literal["istio", "gateway_api"]
ModelState = Literal["learning", "level", "ready", "degraded"]
NodeHealth = Literal["ready", "starting", "draining", "failed", "unreachable"]
NodeStateOutput = Literal[
    "PENDING",
    "DISPATCHED",
    "APPLIED",
    "REJECTED",
    "UNREACHABLE",
    "REVERTING",
    "REVERTED",
    "QUARANTINED",
]
OnDrift = Literal["reassert", "leave", "adopt"]
OnInconclusive = Literal["pause", "promote"]
Outcome = Literal["APPLY", "HOLD", "REJECT", "ADVISE"]
PausedBy = Literal["person", "inconclusive", "error", "freeze"]
Precision = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4"]
ProfileKind = Literal["cpu", "torch"]
ProfileState = Literal["running", "done", "failed"]
Quantity = Literal["ttft_p95_s", "itl_p95_s", "step_time"]
Reason = Literal[
    "breach_predicted",
    "slo_broken",
    "alarm",
    "recovery",
    "quality_budget",
    "queue_fitted",
    "forecast_unproven",
    "within_slo",
    "no_data",
    "stale_data",
    "model_not_ready",
    "learning",
    "nodes_not_ready",
    "rollout_active",
    "frozen",
    "cooldown",
    "too_many_changes",
    "recovering",
    "no_better_candidate",
    "autonomy",
    "error_budget",
    "recently_rolled_back",
]
RoleInput = Literal["viewer", "operator", "approver", "admin"]
RolloutPhase = Literal[
    "VALIDATING",
    "PENDING_APPROVAL",
    "SCHEDULED",
    "BASELINING",
    "CANARY",
    "ANALYZING",
    "PAUSED",
    "PROMOTING",
    "BAKING",
    "ROLLING_BACK",
    "COMPLETED",
    "ROLLED_BACK",
    "ROLLBACK_FAILED",
    "REJECTED",
    "CANCELLED",
    "EXPIRED",
    "SUPERSEDED",
]
SafeDirection = Literal["lower", "higher", "either"]
SchedulingPolicy = Literal["fcfs", "deadline", "prefix"]
Setting = Literal["watch", "page"]
Severity = Literal["info", "warning", "error"]
Standing = Literal["no_change", "not_in_force", "too_early", "known"]
Trigger = Literal["tick", "protective", "relaxing"]
TryVerdict = Literal["better", "same", "worse", "unclear"]
Verb = Literal["pause", "resume", "promote", "abort", "rollback"]
AccountsRolesRole = Literal["viewer", "operator", "approver", "admin"]
ForecastingSpikesAlarmVerdict = Literal["open", "right", "late", "neutral", "false", "unknown"]
RolloutsAnalysisVerdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR"]
RolloutsPlanRole = Literal["canary", "control", "member"]
TelemetryObservationQuality = Literal["ok", "partial", "missing", "stale"]


class Acceptance(TypedDict):
    secret: str
    password: str


class AlertIn(TypedDict):
    """endsAt is year 1 while the alert fires."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: NotRequired[dict[str, str]]
    startsAt: str
    generatorURL: NotRequired[str]
    fingerprint: NotRequired[str]


class AlertOut(TypedDict):
    id: str
    source: str
    name: str
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    pool_id: str | None
    generator_url: str
    starts_at: str
    received_at: str
    last_seen_at: str
    resolved_at: str | None
    effects: list[EffectOut]


class AlertRuleIn(TypedDict):
    name: str
    matchers: list[str]
    action: Action
    pool_id: NotRequired[str | None]
    enabled: NotRequired[bool]


class AlertRuleOut(TypedDict):
    id: str
    name: str
    matchers: list[str]
    action: Action
    pool_id: str | None
    enabled: bool
    created_at: str
    created_by: str


class AlertmanagerIn(TypedDict):
    version: Literal["4"]
    groupKey: NotRequired[str]
    truncatedAlerts: NotRequired[int]
    alerts: list[AlertIn]


class AnalysisOut(TypedDict):
    id: str
    at: str
    verdict: RolloutsAnalysisVerdict
    explanation: str
    measurements: list[MeasurementOut]


class ApprovalIn(TypedDict):
    settings_hash: str
    comment: NotRequired[str]


class ApprovalOut(TypedDict):
    actor: str
    at: str
    agrees: bool
    comment: str


class ArmWindowOut(TypedDict):
    """Latencies in seconds, the geometric mean over the arm's nodes, null when no request finished; counts are
    sums.
    """

    ttft_p95_s: float | None
    itl_p95_s: float | None
    requests: int
    errors: int
    rejected: int
    offered_rps: float


class AtRateOut(TypedDict):
    rate: float
    ttft_p95_s: EstimateOut
    itl_p95_s: EstimateOut


class AttemptOut(TypedDict):
    number: int
    at: str
    duration_ms: int
    request_headers: dict[str, Any]
    request_body: str
    status: int | None
    response_headers: dict[str, Any]
    response_body: str
    error: str | None


class AuditEntry(TypedDict):
    """An event with its place in the chain."""

    id: int
    at: str
    kind: str
    severity: str
    actor: str
    message: str
    pool_id: str | None
    node_id: str | None
    rollout_id: str | None
    decision_id: str | None
    data: dict[str, Any]
    position: int
    hash: str


class CameOut(TypedDict):
    """Seconds, or tokens per second."""

    metric: str
    without: float
    expected: float
    realised: float | None


class CandidateOut(TypedDict):
    settings: EngineSettings
    changes: dict[str, list[bool | int | float | str]]
    predicted: PredictedOut
    feasible: bool
    violation: float
    verdict: str


class CertifiedVariant(TypedDict):
    """A precision and pruning level whose quality was measured for this model. Nothing else is ever proposed but
    what all nodes of the pool have measured themselves and found good; of pruned levels only those with a step
    time, listed here or measured by all nodes.
    """

    precision: Precision
    pruning_threshold: NotRequired[float]
    quality_loss_ratio: float
    step_time_ratio: NotRequired[float | None]


class CheckOut(TypedDict):
    """A limit, and how these settings stand to it."""

    name: str
    state: CheckState
    share: float | None
    detail: str


class ConstraintOut(TypedDict):
    name: str
    effect: str
    detail: str


class CountsOut(TypedDict):
    requests: int
    requests_peers: int
    failed: int
    failed_peers: int


class DatabaseOut(TypedDict):
    kind: str
    revision: str


class DecisionEffectOut(TypedDict):
    """What was expected of a decision beside what came, from when its rollout completed."""

    decision_id: str
    standing: Standing
    in_force_at: str | None
    until: str | None
    stretches: list[StretchOut]


class DecisionOut(TypedDict):
    """A decision and its reasons. Equal consecutive holds are one, `repeats` times, last at `last_at`."""

    id: str
    pool_id: str
    pool: str
    at: str
    last_at: str
    repeats: int
    outcome: Outcome
    reason: Reason
    explanation: str
    trigger: Trigger
    actor: str
    mode: Autonomy
    epoch: int
    code_version: str
    previous: EngineSettings
    chosen: EngineSettings | None
    changes: dict[str, list[bool | int | float | str]]
    forecast: dict[str, Any]
    breach_probability: float | None
    candidates: list[CandidateOut]
    constraints: list[ConstraintOut]
    rollout_id: str | None


class DecisionRef(TypedDict):
    id: str
    at: str
    outcome: str
    reason: str
    explanation: str


class DeliveryDetail(TypedDict):
    id: str
    webhook_id: str
    kind: str
    num_events: int
    state: DeliveryState
    created_at: str
    next_at: str | None
    ended_at: str | None
    attempts: int
    last_status: int | None
    last_error: str | None
    events: list[dict[str, Any]]
    attempts_made: list[AttemptOut]


class DeliveryOut(TypedDict):
    id: str
    webhook_id: str
    kind: str
    num_events: int
    state: DeliveryState
    created_at: str
    next_at: str | None
    ended_at: str | None
    attempts: int
    last_status: int | None
    last_error: str | None


class DesiredOut(TypedDict):
    """What the node should have."""

    generation: int
    epoch: int
    revision: int
    settings: EngineSettings
    since: str | None


class EffectOut(TypedDict):
    rule_name: str
    action: Action
    pool_id: str | None
    rollout_id: str | None
    state: EffectState
    at: str
    detail: str
    lifted_at: str | None


class EngineSettings(TypedDict):
    """All tunables of one engine at one moment. Immutable; a change is a new object. Bounds here are the
    product's; a node may offer less (see `NodeCapabilities`), and refuses what it does not have.
    """

    max_batch_size: NotRequired[int]
    batch_wait_ms: NotRequired[float]
    max_batched_tokens: NotRequired[int]
    target_itl_ms: NotRequired[float]
    precision: NotRequired[Precision]
    kv_precision: NotRequired[KvPrecision]
    pruning_threshold: NotRequired[float]
    prefix_cache: NotRequired[bool]
    scheduling_policy: NotRequired[SchedulingPolicy]
    max_queue: NotRequired[int]


class EnrolmentTokenCreated(TypedDict):
    id: str
    note: str
    prefix: str
    state: Literal["open", "used", "revoked", "expired"]
    created_by: str
    created_at: str
    expires_at: str
    used_at: str | None
    used_by: str | None
    token: str


class EnrolmentTokenIn(TypedDict):
    note: NotRequired[str]
    valid_hours: NotRequired[float]


class EnrolmentTokenOut(TypedDict):
    id: str
    note: str
    prefix: str
    state: Literal["open", "used", "revoked", "expired"]
    created_by: str
    created_at: str
    expires_at: str
    used_at: str | None
    used_by: str | None


class ErrorBudgetOut(TypedDict):
    """How fast the budget was spent over the last `window_s`, as the newest decision saw it; at 1 it lasts."""

    burn_rate: float | None
    limit: float | None
    freezes: bool
    worst: str | None
    bad_ratio: float
    known_ratio: float
    window_s: float
    detail: str


class EstimateOut(TypedDict):
    value: float
    low: float
    high: float


class EventOut(TypedDict):
    id: int
    at: str
    kind: str
    severity: str
    actor: str
    message: str
    pool_id: str | None
    node_id: str | None
    rollout_id: str | None
    decision_id: str | None
    data: dict[str, Any]


class ExperimentIn(TypedDict):
    """Knobs to try; those that are left out stay as the pool has them."""

    settings: dict[str, bool | int | float | str]
    lease_s: NotRequired[float]
    reason: str


class ExperimentOut(TypedDict):
    """What is tried on one node alone. It ends by itself, on the node and here."""

    revision: int
    generation: int
    settings: EngineSettings
    lease_s: float
    ends_at: str


class ExplorationOut(TypedDict):
    """Settings that the controller tried on one node by itself, and what came of it."""

    id: str
    pool_id: str
    node_id: str
    node: str
    at: str
    arm: ExplorationMode
    lease_s: float
    revision: int
    settings: EngineSettings
    base: EngineSettings
    changes: dict[str, list[bool | int | float | str]]
    explanation: str
    now: PredictedOut
    considered: list[OptionOut]
    options: int
    safe: int
    applied_at: str | None
    ended_at: str | None
    ended_why: str | None
    outcome: TryOutcomeOut | None
    epoch: int
    code_version: str


class ExplorationPolicy(TypedDict):
    """Only knobs on `auto` are tried, in a calm pool, on one node under a lease. Nothing that is tried is promoted
    by it.
    """

    mode: NotRequired[ExplorationMode]
    per_h: NotRequired[int]
    lease_s: NotRequired[float]
    min_budget_left: NotRequired[float]


class FactorsOut(TypedDict):
    """How many times as long as the nodes expect each part of a step takes in service."""

    base: float
    rows: float
    prefill: float


class FieldProblem(TypedDict):
    field: str
    message: str


class FindingOut(TypedDict):
    position: int
    problem: str
    event_id: int | None


class FleetOut(TypedDict):
    pools: list[PoolOut]
    totals: Totals
    frozen: GeneralFreezeOut | None


class ForecastMeritOut(TypedDict):
    """Whether forecasts of the load have earned the right to act, which counts where the policy's `forecast.use`
    is earned. Sums over about the last hundred horizons, held against planning on the newest load alone. Null:
    nothing to judge by.
    """

    at: str
    may_act: bool
    truths: int
    cost_ratio: float | None
    loss_ratio: float | None
    threats: int
    precision: float | None
    explanation: str


class ForecastOut(TypedDict):
    """`model` "fluid" is load projected against capacity; `scores` is the past pinball loss per model (lower is
    better).
    """

    id: str
    metric: str
    made_at: str
    model: str
    step_s: float
    points: list[ForecastPointOut]
    scores: dict[str, float]


class ForecastPointOut(TypedDict):
    """A moment ahead, in the metric's unit."""

    at: str
    q10: float
    q50: float
    q90: float


class ForecastPolicy(TypedDict):
    use: NotRequired[ForecastUse]
    horizon_s: NotRequired[float]
    min_windows: NotRequired[int]


class ForecastQualityOut(TypedDict):
    """Forecasts of one metric made in [since, until], held against what came. Horizons without any are left out.
    `warnings`: of spikes, over the last 14 days, by setting. `merit`: of the load; null for other metrics, and
    before anything was kept.
    """

    metric: str
    since: str
    until: str
    horizons: list[HorizonQualityOut]
    warnings: list[WarningQualityOut]
    merit: ForecastMeritOut | None


class ForecastTrackOut(TypedDict):
    """Forecasts of one metric so far ahead, oldest first, beside what came."""

    metric: str
    horizon_s: float
    since: str
    until: str
    points: list[TrackedOut]
    stints: list[StintOut]
    scores: dict[str, float]


class FreezeIn(TypedDict):
    reason: str


class FreezeWindow(TypedDict):
    """A time that comes back in which the pool must not change. Rollbacks stay possible."""

    cron: str
    duration_s: float
    timezone: NotRequired[str]
    reason: str


class FrozenOut(TypedDict):
    at: str
    reason: str


class GeneralFreezeOut(TypedDict):
    """No pool may change, whichever there are."""

    at: str
    reason: str
    actor: str


class GrafanaIn(TypedDict):
    version: Literal["1"]
    groupKey: NotRequired[str]
    truncatedAlerts: NotRequired[int]
    alerts: list[AlertIn]


class Guardrails(TypedDict):
    """What bounds every change, whoever proposes it."""

    bounds: NotRequired[dict[str, KnobBounds]]
    max_change_ratio: NotRequired[float]
    max_relax_ratio: NotRequired[float]
    cooldown_protective_s: NotRequired[float]
    cooldown_relaxing_s: NotRequired[float]
    max_changes_per_h: NotRequired[int]
    hysteresis: NotRequired[float]
    rolled_back_hold_s: NotRequired[float]
    flap_reversals: NotRequired[int]
    flap_window_s: NotRequired[float]
    flap_hold_s: NotRequired[float]
    min_ready_ratio: NotRequired[float]
    max_burn_rate: NotRequired[float | None]
    burn_window_s: NotRequired[float]


class HorizonQualityOut(TypedDict):
    """How right forecasts so far ahead have been. Errors are mean absolute ones, in the metric's unit."""

    horizon_s: float
    scored: int
    coverage_80: float
    error: float
    last_value_error: float
    bias: float


class InvitationOut(TypedDict):
    """A link for one person. Whoever opens it chooses that person's password, so hand it over in private."""

    user: UserOut
    url: str
    expires_at: str


class InvitationSecret(TypedDict):
    secret: str


class InvitedOut(TypedDict):
    name: str
    role: AccountsRolesRole
    expires_at: str


class KnobBounds(TypedDict):
    """Range of a numeric knob inside which a node's own reflex may move."""

    min: float
    max: float


class KnobOut(TypedDict):
    """A tunable, as forms need it."""

    name: str
    kind: Literal["int", "float", "bool", "choice"]
    unit: str
    minimum: float | None
    maximum: float | None
    choices: list[str]
    default: bool | int | float | str
    apply_mode: ApplyMode
    safe_direction: SafeDirection
    changes_numerics: bool
    help: str


class LeaderOut(TypedDict):
    holder: str
    epoch: int
    expires_at: str
    pools: int


class LogErrorOut(TypedDict):
    """How wrong the model was, as log(measured / predicted): what the next choice is made by."""

    quantity: Quantity
    value: float
    sd: float


class MachineOut(TypedDict):
    """A kind of node that was among the pool's, as its nodes call themselves."""

    hardware: str
    model: str
    engine_version: str


class MeasurementOut(TypedDict):
    """Latencies in seconds, shares 0 to 1; `effect_ratio` 1.2 means 20 % more than without the change, and the
    interval is of it. `served_kl` (nats per token) and `served_top1_loss` (share of places) tell how far what
    the canary really served lies from full precision, whose own is 0: they have no ratio, interval and margin
    are of the figure itself, samples are requests.
    """

    metric: str
    verdict: RolloutsAnalysisVerdict
    canary: float | None
    baseline: float | None
    effect_ratio: float | None
    ci_low: float | None
    ci_high: float | None
    margin: float | None
    samples_canary: int
    samples_baseline: int
    detail: str
    power: NotRequired[float | None]
    advisory: NotRequired[bool]


class MeshAppliedOut(TypedDict):
    """What is known of the object in the cluster, where Trimtab applies it."""

    generation: int
    applied_generation: int
    applied_at: str | None
    error: str | None


class MeshArmOut(TypedDict):
    service: str
    weight: int
    nodes: list[str]


class MeshOut(TypedDict):
    pool: str
    rollout_id: str | None
    kind: MeshKind
    baseline: MeshArmOut
    canary: MeshArmOut
    why: str
    manifest: dict[str, Any]
    applied: MeshAppliedOut | None


class MeshPolicy(TypedDict):
    """The route object belongs to Trimtab as a whole: it holds one rule, with two services and their weights."""

    kind: MeshKind
    namespace: NotRequired[str]
    route: str
    baseline_service: str
    canary_service: str
    port: int
    hosts: NotRequired[list[str]]
    gateways: NotRequired[list[str]]
    step_weights: NotRequired[list[int]]
    abort_baseline_ratio: NotRequired[float]
    label_pods: NotRequired[bool]


class NodeCapabilities(TypedDict):
    """What this node can be set to, beyond the product's own bounds."""

    precisions: list[Precision]
    kv_precisions: NotRequired[list[KvPrecision]]
    max_batch_size: int
    max_batched_tokens: int
    max_model_len: int
    kv_tokens: int
    quality: NotRequired[NodeQuality | None]


class NodeDetail(TypedDict):
    id: str
    name: str
    pool_id: str
    pool: str
    url: str
    model: str
    health: NodeHealth
    state: str
    last_heartbeat_at: str
    registered_at: str
    started_at: str
    version: str
    hardware: NodeHardware
    capabilities: NodeCapabilities
    running: int
    waiting: int
    kv_usage: float
    desired: DesiredOut | None
    observed: ObservedOut
    in_sync: bool
    preparing_generation: int | None
    rejected: RejectedOut | None
    drifted: bool
    quarantine: QuarantineOut | None
    experiment: ExperimentOut | None
    latest: ObservationOut | None


class NodeHardware(TypedDict):
    """The machine below the node, for people and for the performance model."""

    device: str
    cpu_model: NotRequired[str]
    cpu_cores: int
    threads: int
    memory_bytes: int
    features: NotRequired[list[str]]
    hardware_class: NotRequired[str]
    physical_cores: NotRequired[int]
    numa_nodes: NotRequired[int]
    read_bytes_per_s: NotRequired[float]
    flops_per_s: NotRequired[dict[str, float]]


class NodeQuality(TypedDict):
    """What a node measured so far, and the ceiling that it goes by."""

    max_perplexity_ratio: float
    max_kl: float
    records: NotRequired[list[QualityRecord]]


class Objective(TypedDict):
    """When to act, and what counts as better."""

    breach_probability: NotRequired[float]
    slo_margin: NotRequired[float]
    min_gain: NotRequired[float]


class ObservationOut(TypedDict):
    """One window. Rates per second, latencies in seconds over the window; absent (null) means not measured, never
    0.
    """

    window_end: str
    window_s: float
    quality: TelemetryObservationQuality
    offered_rps: float | None
    prompt_tokens_per_s: float | None
    generation_tokens_per_s: float | None
    requests: float | None
    errors: float | None
    rejected: float | None
    running: float | None
    waiting: float | None
    kv_usage: float | None
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    itl_p50_s: float | None
    itl_p95_s: float | None
    e2e_p95_s: float | None
    queue_p95_s: float | None
    step_mean_s: float | None
    decode_rows_mean: float | None
    prefill_tokens_mean: float | None
    prefix_hit_ratio: float | None
    prompt_tokens_mean: float | None
    generation_tokens_mean: float | None
    nodes_up: int | None


class ObservedOut(TypedDict):
    """What the node says that it has."""

    generation: int
    epoch: int
    settings: EngineSettings
    hash: str
    at: str
    applied_step: int


class OidcWay(TypedDict):
    name: str
    url: str


class OptionOut(TypedDict):
    """Settings that might have been tried. What ends in `_high` is two standard deviations above what is likely."""

    settings: EngineSettings
    predicted: PredictedOut
    ttft_high_s: float
    itl_high_s: float
    utilisation_high: float
    gain: float
    sd: float
    score: float
    safe: bool


class OutboxOut(TypedDict):
    open: int
    dead: int
    oldest_age_s: float | None


class OutlookOut(TypedDict):
    """What is expected of one side. Latencies range over what the step times, or the model in the newest windows,
    were off by.
    """

    settings: EngineSettings
    predicted: PredictedOut
    ttft_p95_s: EstimateOut
    itl_p95_s: EstimateOut
    throughput_tokens_per_s: EstimateOut
    capacity_rps: EstimateOut
    quality_loss: EstimateOut | None
    kv_share: EstimateOut | None
    weight_bytes: int | None
    checks: list[CheckOut]
    notes: list[str]
    curve: list[AtRateOut]


class OutsideOut(TypedDict):
    ok: bool | None
    detail: str


class PairOut(TypedDict):
    """One window of both arms; `control` is null in a pool without one."""

    end: str
    canary: ArmWindowOut
    control: ArmWindowOut | None


class PasswordChange(TypedDict):
    present: str
    password: str


class PerformanceModelOut(TypedDict):
    """What was learned of one level: an arithmetic on one kind of machine."""

    precision: Precision
    kv_precision: KvPrecision
    pruning: float
    machine: list[MachineOut]
    state: ModelState
    factors: FactorsOut
    windows: int
    error_ratio: float | None
    fast_error_ratio: float | None
    changes: int
    in_force_since: str | None
    learned_at: str | None
    share: float


class PerformanceOut(TypedDict):
    pool_id: str
    levels: list[PerformanceModelOut]


class PlanOut(TypedDict):
    """What a rollout would do."""

    dry_run: NotRequired[Literal[True]]
    pool_id: str
    pool: str
    from_revision: RevisionShort
    settings: EngineSettings
    changes: dict[str, list[bool | int | float | str]]
    steps: list[RungOut]
    nodes: list[PlannedNodeOut]
    canary_watch_s: float
    notes: list[str]


class PlannedNodeOut(TypedDict):
    node_id: str
    name: str
    role: RolloutsPlanRole
    wave: int


class PolicyInput(TypedDict):
    """The whole document. Raises pydantic.ValidationError that names the field."""

    slo: NotRequired[Slo]
    autonomy: NotRequired[dict[str, Autonomy]]
    guardrails: NotRequired[Guardrails]
    objective: NotRequired[Objective]
    quality: NotRequired[QualityInput]
    rollout: NotRequired[RolloutPolicy]
    forecast: NotRequired[ForecastPolicy]
    exploration: NotRequired[ExplorationPolicy]
    on_drift: NotRequired[OnDrift]
    freeze_windows: NotRequired[list[FreezeWindow]]


class PolicyOutput(TypedDict):
    """The whole document. Raises pydantic.ValidationError that names the field."""

    slo: NotRequired[Slo]
    autonomy: NotRequired[dict[str, Autonomy]]
    guardrails: NotRequired[Guardrails]
    objective: NotRequired[Objective]
    quality: NotRequired[DecisionsPolicyQuality]
    rollout: NotRequired[RolloutPolicy]
    forecast: NotRequired[ForecastPolicy]
    exploration: NotRequired[ExplorationPolicy]
    on_drift: NotRequired[OnDrift]
    freeze_windows: NotRequired[list[FreezeWindow]]


class PolicyOut(TypedDict):
    """A pool's policy. Version 0 are the defaults; the ETag is the version."""

    version: int
    document: PolicyOutput


class PolicySchemaOut(TypedDict):
    """The document's own description, for forms: JSON Schema (2020-12), with bounds, defaults and help."""

    document_schema: dict[str, Any]
    defaults: PolicyOutput


class PolicyTrialIn(TypedDict):
    document: PolicyInput
    hours: NotRequired[float]


class PolicyTrialOut(TypedDict):
    """Past decisions made again, each from its own recorded inputs, under another policy."""

    since: str
    decisions: int
    looked_at: int
    proposed: int
    would_propose: int
    differing: int
    differences: list[TrialDifferenceOut]


class PolicyVersionOut(TypedDict):
    version: int
    document: PolicyOutput
    created_by: str
    created_at: str


class PoolOut(TypedDict):
    id: str
    name: str
    fleet: str
    model: str
    nodes: int
    ready: int
    in_sync: int
    frozen: FrozenOut | None
    current_revision: RevisionRef | None
    latest: ObservationOut | None
    slo: SloOut
    breach_probability: float | None
    error_budget: ErrorBudgetOut | None
    active_rollout: RolloutRef | None
    last_decision: DecisionRef | None


class PredictedOut(TypedDict):
    """What the performance model expects under the planned load."""

    ttft_p95_s: float
    itl_p95_s: float
    capacity_rps: float
    throughput_tokens_per_s: float
    utilisation: float
    quality_loss_ratio: float
    breach_probability: float | None
    refused_ratio: NotRequired[float | None]


class Problem(TypedDict):
    """RFC 9457 problem details, with members of our own."""

    type: str
    title: str
    status: int
    detail: str
    trace_id: NotRequired[str | None]
    errors: NotRequired[list[FieldProblem] | None]


class ProcessOut(TypedDict):
    name: str
    kind: str
    at: str
    started_at: str
    alive: bool
    detail: dict[str, Any]


class ProfileRecording(TypedDict):
    """One recording. Its file is there once the state is done, and goes an hour later (`expires_at`)."""

    id: str
    kind: ProfileKind
    state: ProfileState
    seconds: float
    started_at: str
    finished_at: NotRequired[str | None]
    expires_at: NotRequired[str | None]
    file_name: NotRequired[str | None]
    size_bytes: NotRequired[int]
    error: NotRequired[str | None]


class ProfileRequest(TypedDict):
    """What to record."""

    kind: ProfileKind
    seconds: NotRequired[float]


class QualityInput(TypedDict):
    """What answers may lose."""

    max_loss_ratio: NotRequired[float]
    average_loss_ratio: NotRequired[float | None]
    average_over_s: NotRequired[float]
    certified: NotRequired[list[CertifiedVariant]]


class QualityRecord(TypedDict):
    """One measurement on held-out text, teacher-forced. The reference is bf16 without pruning, on the same tokens.
    `kl_mean` and `kl_p99` are Kullback-Leibler divergences of the reference from the candidate, in nats per
    token, over the reference's 64 likeliest tokens and the sum of all others: a lower bound of the divergence
    over the whole vocabulary.
    """

    precision: Precision
    kv_precision: NotRequired[KvPrecision]
    pruning_threshold: float
    tokens: int
    perplexity: float
    perplexity_ratio: float
    perplexity_ratio_error: NotRequired[float]
    kl_mean: float
    kl_p99: float
    top1_agreement: float
    kept_ratio: NotRequired[float]
    weight_bytes: int
    step_times: NotRequired[list[StepTimeRatio]]
    model: str
    arithmetic: str
    made_at: str


class QuarantineOut(TypedDict):
    until: str
    reason: str


class Recovered(TypedDict):
    resent: int


class Recovery(TypedDict):
    since: str


class RejectedOut(TypedDict):
    generation: int
    reason: str


class ReplayOut(TypedDict):
    """The decision made again from its recorded inputs by the code that runs now."""

    identical: bool
    decision: dict[str, Any]


class RequestIn(TypedDict):
    reason: NotRequired[str]


class RequestOut(TypedDict):
    """Asked for by a person, and not yet met by the controller."""

    verb: Verb
    actor: str
    reason: str | None


class RevisionOut(TypedDict):
    id: str
    number: int
    settings: EngineSettings
    pool_id: str
    content_hash: str
    created_by: str
    reason: str
    created_at: str


class RevisionRef(TypedDict):
    """A settings revision, named where it is used."""

    id: str
    number: int
    settings: EngineSettings


class RevisionShort(TypedDict):
    number: int
    content_hash: str
    settings: EngineSettings


class RollbackIn(TypedDict):
    revision: int
    reason: str


class RolloutAnalysisOut(TypedDict):
    """`before` and `after` are compared with each other, difference by difference; `watched` is the new settings
    by themselves, once the control has them, too.
    """

    canary: list[str]
    control: list[str]
    window_s: float
    windows_wanted: int
    margin: float
    min_requests: int
    judged_from: str | None
    before: list[PairOut]
    after: list[PairOut]
    watched: list[PairOut]
    analyses: list[AnalysisOut]


class RolloutIn(TypedDict):
    """A change to roll out: only the knobs that differ need to be named."""

    pool_id: str
    settings: dict[str, bool | int | float | str]
    reason: str
    not_before: NotRequired[str | None]
    propose: NotRequired[bool]
    dry_run: NotRequired[bool]


class RolloutNodeOut(TypedDict):
    node_id: str
    name: str
    role: RolloutsPlanRole
    wave: int
    state: NodeStateOutput
    generation: int | None
    dispatched_at: str | None
    applied_at: str | None
    detail: str | None


class RolloutOut(TypedDict):
    id: str
    pool_id: str
    pool: str
    decision_id: str | None
    phase: RolloutPhase
    phase_since: str
    step: int
    steps: list[RungOut]
    from_revision: RevisionShort
    to_revision: RevisionShort
    changes: dict[str, list[bool | int | float | str]]
    nodes: list[RolloutNodeOut]
    request: RequestOut | None
    paused_reason: str | None
    paused_by: PausedBy | None
    reason: str
    outcome: str | None
    created_by: str
    created_at: str
    not_before: str | None
    expires_at: str | None
    approvals_needed: int
    approvals: list[ApprovalOut]
    ended_at: str | None
    analyses: list[AnalysisOut]
    timeline: list[EventOut]


class RolloutPolicy(TypedDict):
    """How a change is tried and watched. Short windows see less: see `min_requests` and `on_inconclusive`."""

    window_s: NotRequired[float]
    windows: NotRequired[int]
    settle_s: NotRequired[float]
    margin: NotRequired[float]
    min_requests: NotRequired[int]
    on_inconclusive: NotRequired[OnInconclusive]
    progress_deadline_s: NotRequired[float]
    bake_s: NotRequired[float]
    approvals: NotRequired[int]
    start_within_s: NotRequired[float]
    pause_limit_s: NotRequired[float]
    quarantine_s: NotRequired[float]
    known_for_s: NotRequired[float]
    served: NotRequired[ServedPolicy]
    mesh: NotRequired[MeshPolicy | None]


class RolloutRef(TypedDict):
    id: str
    phase: str


class RungOut(TypedDict):
    index: int
    name: str
    state: str
    nodes: int


class ScalingOut(TypedDict):
    """How many nodes a pool needs for the load that is planned for."""

    pool: str
    nodes_wanted: int
    nodes_ready: int
    planned_rps: float
    node_rps: float
    utilisation: float
    at: str


class SecretRotation(TypedDict):
    keep_s: NotRequired[int]


class ServedPolicy(TypedDict):
    """How far the answers of a canary may lie from full precision, on what it really served, when a change touches
    precision, keys and values, or pruning. A change that waits for such figures and gets none is no PASS.
    """

    share: NotRequired[float]
    min_sequences: NotRequired[int]
    max_sequences: NotRequired[int]
    max_kl: NotRequired[float]
    max_top1_loss: NotRequired[float]


class SessionOut(TypedDict):
    name: str
    role: AccountsRolesRole
    pools: NotRequired[dict[str, AccountsRolesRole]]
    user_id: NotRequired[str | None]
    session_id: NotRequired[str | None]
    set_up_due: NotRequired[bool]


class SetUp(TypedDict):
    name: str
    password: str


class ShownOut(TypedDict):
    """One metric of the node against its peers, by what the try changed of their ratio."""

    metric: str
    windows: int
    windows_before: int
    tried: float | None
    peers: float | None
    ratio: float | None
    low: float | None
    high: float | None
    expected_ratio: float | None


class SignIn(TypedDict):
    """Either a token, or a user's name and password."""

    token: NotRequired[str | None]
    name: NotRequired[str | None]
    password: NotRequired[str | None]


class SignInWays(TypedDict):
    """What the sign-in page must know before anybody is signed in."""

    password: bool
    oidc: OidcWay | None


class SignedOutOut(TypedDict):
    url: str | None


class SigningSecret(TypedDict):
    signing_secret: str


class Slo(TypedDict):
    """Service level objective. The defaults suit a small model on two shared CPU cores (decode steps of 35 to 90
    ms).
    """

    ttft_p95_s: NotRequired[float]
    itl_p95_s: NotRequired[float]
    error_rate: NotRequired[float]
    attainment: NotRequired[float]


class SloOut(TypedDict):
    ttft_p95_s: float
    itl_p95_s: float
    error_rate: float
    attainment: float


class SpikeWarningOut(TypedDict):
    """A warning that latency would break the SLO, and how it turned out: open, right (60-600 s ahead), late,
    neutral (a minor breach came), false, unknown (not measured).
    """

    id: int
    setting: Setting
    at: str
    probability: float
    threshold: float
    model: str
    lead_s: float
    load_ratio: float
    explanation: str
    verdict: ForecastingSpikesAlarmVerdict
    onset_at: str | None
    ended_at: str | None


class StepTimeRatio(TypedDict):
    """How long one pruned step of `rows` one-token rows, with its share of a prompt, takes against the unpruned
    one.
    """

    rows: int
    ratio: float


class StintOut(TypedDict):
    """A stretch in which one model won the race among the forecasters."""

    model: str
    since: str
    until: str
    forecasts: int


class StretchOut(TypedDict):
    after_s: float
    complete: bool
    windows: int
    offered_rps: float
    came: list[CameOut]


class SystemOut(TypedDict):
    version: str
    database: DatabaseOut
    leader: LeaderOut | None
    leaders: list[LeaderOut]
    unled_pools: int
    processes: list[ProcessOut]
    outbox: OutboxOut
    prometheus: OutsideOut
    redis: OutsideOut
    frozen: GeneralFreezeOut | None
    frozen_pools: int


class TakenOut(TypedDict):
    fired: int
    repeated: int
    resolved: int
    effects: list[EffectOut]


class TokenCreated(TypedDict):
    id: str
    name: str
    prefix: str
    role: AccountsRolesRole
    pool_id: NotRequired[str | None]
    owner: NotRequired[str | None]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None
    token: str


class TokenIn(TypedDict):
    name: str
    role: RoleInput
    pool_id: NotRequired[str | None]
    expires_at: NotRequired[str | None]


class TokenOut(TypedDict):
    id: str
    name: str
    prefix: str
    role: AccountsRolesRole
    pool_id: NotRequired[str | None]
    owner: NotRequired[str | None]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None


class Totals(TypedDict):
    nodes: int
    ready: int
    tokens_per_s: float
    requests_per_s: float


class TrackedOut(TypedDict):
    at: str
    model: str
    q10: float
    q50: float
    q90: float
    came: float | None


class TrialDifferenceOut(TypedDict):
    """A decision that would have come out otherwise."""

    decision_id: str
    at: str
    outcome: str
    reason: str
    changes: dict[str, Any]
    would_outcome: str
    would_reason: str
    would_change: dict[str, Any]
    would_explanation: str


class TryOutcomeOut(TypedDict):
    """What a try showed. Capacity is not measured: the pool was calm."""

    verdict: TryVerdict
    explanation: str
    shown: list[ShownOut]
    errors: list[LogErrorOut]
    node_rps: float
    counts: CountsOut
    harmful: bool
    answers: list[str]


class UserIn(TypedDict):
    name: str
    role: RoleInput
    pools: NotRequired[dict[str, RoleInput]]


class UserOut(TypedDict):
    id: str
    name: str
    role: AccountsRolesRole
    pools: dict[str, AccountsRolesRole]
    state: Literal["active", "invited", "disabled"]
    created_at: str
    created_by: str
    last_sign_in_at: str | None
    provider: str | None


class UserPatch(TypedDict):
    """What is left out stays as it is."""

    role: NotRequired[RoleInput | None]
    pools: NotRequired[dict[str, RoleInput] | None]
    disabled: NotRequired[bool | None]


class VerificationOut(TypedDict):
    intact: bool
    checked: int
    head_hash: str
    loose: int
    signatures: int
    signed_position: int | None
    signed_until: str | None
    findings: list[FindingOut]


class WarningQualityOut(TypedDict):
    """How right the warnings of one setting have been, by the rules of docs/benchmarks/forecast.md. Null: nothing
    to judge by.
    """

    setting: Setting
    warnings: int
    right: int
    late: int
    false: int
    neutral: int
    unjudged: int
    spikes: int
    foreseen: int
    precision: float | None
    precision_interval: list[float] | None
    recall: float | None
    recall_interval: list[float] | None
    lead_s: float | None
    false_per_day: float | None
    brier: float | None


class WebSessionOut(TypedDict):
    id: str
    name: str
    role: AccountsRolesRole
    address: str
    browser: str
    created_at: str
    last_seen_at: str
    expires_at: str
    current: bool


class WebhookChange(TypedDict):
    """What is absent stays. The format stays for good: another format is another webhook."""

    name: NotRequired[str | None]
    url: NotRequired[str | None]
    kinds: NotRequired[list[str] | None]
    pool_id: NotRequired[str | None]
    min_severity: NotRequired[Severity | None]
    coalesce_s: NotRequired[int | None]
    credential: NotRequired[str | None]
    enabled: NotRequired[bool | None]


class WebhookCreated(TypedDict):
    id: str
    name: str
    url: str
    format: Format
    kinds: list[str]
    pool_id: str | None
    min_severity: str
    coalesce_s: int
    has_credential: bool
    secrets: int
    created_at: str
    created_by: str
    disabled_at: str | None
    disabled_reason: str | None
    failures: int
    held_until: str | None
    last_delivered_at: str | None
    signing_secret: str


class WebhookIn(TypedDict):
    name: str
    url: str
    format: NotRequired[Format]
    kinds: NotRequired[list[str]]
    pool_id: NotRequired[str | None]
    min_severity: NotRequired[Severity]
    coalesce_s: NotRequired[int]
    credential: NotRequired[str | None]


class WebhookOut(TypedDict):
    id: str
    name: str
    url: str
    format: Format
    kinds: list[str]
    pool_id: str | None
    min_severity: str
    coalesce_s: int
    has_credential: bool
    secrets: int
    created_at: str
    created_by: str
    disabled_at: str | None
    disabled_reason: str | None
    failures: int
    held_until: str | None
    last_delivered_at: str | None


class WhatIfIn(TypedDict):
    """Settings and load to look at. What is left out is as it is: the knobs in force, the load that is planned
    for.
    """

    settings: NotRequired[dict[str, bool | int | float | str]]
    offered_rps: NotRequired[float | None]
    prompt_tokens: NotRequired[float | None]
    generation_tokens: NotRequired[float | None]


class WhatIfLoadOut(TypedDict):
    """The load that both sides carry, and what it was filled in from."""

    offered_rps: float
    prompt_tokens: float
    generation_tokens: float
    waiting: float
    horizon_s: float
    likely_rps: float
    planned_rps: float
    observed_rps: float | None


class WhatIfOut(TypedDict):
    """The settings in force beside others, under the same load, on the model that decisions use."""

    pool_id: str
    pool: str
    decision_id: str
    at: str
    load: WhatIfLoadOut
    changes: dict[str, list[bool | int | float | str]]
    error_ratio: float
    residual_windows: int
    now: OutlookOut
    then: OutlookOut | None
    unknown: str | None


class DecisionsPolicyQuality(TypedDict):
    """What answers may lose."""

    max_loss_ratio: NotRequired[float]
    average_loss_ratio: NotRequired[float | None]
    average_over_s: NotRequired[float]
    certified: NotRequired[list[CertifiedVariant]]
