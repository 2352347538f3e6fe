// What the REST API says, under the names that the app uses.

export type KnobValue = boolean | number | string;
export type EngineSettings = Record<string, KnobValue>;
export type Changes = Record<string, [KnobValue, KnobValue]>;

export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

export interface Observation {
  window_end: string;
  window_s: number;
  quality: string;
  offered_rps?: number | null;
  prompt_tokens_per_s?: number | null;
  generation_tokens_per_s?: number | null;
  requests?: number | null;
  errors?: number | null;
  rejected?: number | null;
  running?: number | null;
  waiting?: number | null;
  kv_usage?: number | null;
  ttft_p50_s?: number | null;
  ttft_p95_s?: number | null;
  itl_p50_s?: number | null;
  itl_p95_s?: number | null;
  e2e_p95_s?: number | null;
  queue_p95_s?: number | null;
  step_mean_s?: number | null;
  decode_rows_mean?: number | null;
  prefill_tokens_mean?: number | null;
  prefix_hit_ratio?: number | null;
  prompt_tokens_mean?: number | null;
  generation_tokens_mean?: number | null;
  nodes_up?: number | null;
}

export interface Slo {
  ttft_p95_s: number;
  itl_p95_s: number;
  error_rate: number;
}

export interface Revision {
  id: string;
  number: number;
  settings: EngineSettings;
}

export interface Pool {
  id: string;
  name: string;
  fleet: string;
  model: string;
  nodes: number;
  ready: number;
  in_sync: number;
  frozen: { at: string; reason: string | null } | null;
  current_revision: Revision | null;
  latest: Observation | null;
  slo: Slo;
  breach_probability: number | null;
  active_rollout: { id: string; phase: string } | null;
  last_decision: { id: string; at: string; outcome: string; reason: string; explanation: string } | null;
}

export interface Fleet {
  pools: Pool[];
  totals: { nodes: number; ready: number; tokens_per_s: number | null; requests_per_s: number | null };
}

export interface Node {
  id: string;
  name: string;
  pool_id: string;
  pool: string;
  url: string;
  model: string;
  health: string;
  state: string;
  last_heartbeat_at: string;
  version: string;
  hardware: Record<string, unknown>;
  capabilities: Record<string, unknown>;
  running: number;
  waiting: number;
  kv_usage: number;
  desired: {
    generation: number;
    epoch: number;
    revision: number;
    settings: EngineSettings;
    since: string | null;
  } | null;
  observed: {
    generation: number;
    epoch: number;
    settings: EngineSettings;
    hash: string;
    at: string;
    applied_step: number;
  };
  in_sync: boolean;
  preparing_generation: number | null;
  rejected: { generation: number; reason: string | null } | null;
  drifted: boolean;
  latest: Observation | null;
}

export interface ForecastPoint {
  at: string;
  q10: number;
  q50: number;
  q90: number;
}

export interface Forecast {
  id: string;
  metric: string;
  made_at: string;
  model: string;
  step_s: number;
  points: ForecastPoint[];
  scores: Record<string, number | null>;
}

export interface Candidate {
  settings: EngineSettings;
  changes: Changes;
  predicted: Record<string, number | null>;
  feasible: boolean;
  verdict: string;
}

export interface Constraint {
  name: string;
  effect: string;
  detail: string;
}

export interface Decision {
  id: string;
  pool_id: string;
  pool: string;
  at: string;
  last_at: string;
  repeats: number;
  outcome: string;
  reason: string;
  explanation: string;
  trigger: string;
  actor: string;
  mode: string;
  epoch: number;
  previous: EngineSettings;
  chosen: EngineSettings | null;
  changes: Changes;
  forecast: Record<string, unknown>;
  breach_probability: number | null;
  candidates: Candidate[];
  constraints: Constraint[];
  rollout_id: string | null;
}

export interface Replay {
  identical: boolean;
  decision: unknown;
}

export interface Measurement {
  metric: string;
  verdict: string;
  canary: number | null;
  baseline: number | null;
  effect_ratio: number | null;
  ci_low: number | null;
  ci_high: number | null;
  margin: number | null;
  samples_canary: number | null;
  samples_baseline: number | null;
  detail: string | null;
}

export interface Analysis {
  id: string;
  at: string;
  verdict: string;
  explanation: string;
  measurements: Measurement[];
}

export interface RolloutStep {
  index: number;
  name: string;
  state: string;
  nodes: number;
}

export interface RolloutNode {
  node_id: string;
  name: string;
  role: string;
  wave: number;
  state: string;
  generation: number | null;
  dispatched_at: string | null;
  applied_at: string | null;
  detail: string | null;
}

export interface TimelineEvent {
  id: number;
  at: string;
  kind: string;
  severity: string;
  actor: string;
  message: string;
  pool_id: string | null;
  node_id: string | null;
  rollout_id: string | null;
  decision_id: string | null;
  data: Record<string, unknown>;
}

export interface Rollout {
  id: string;
  pool_id: string;
  pool: string;
  decision_id: string | null;
  phase: string;
  phase_since: string;
  step: number;
  steps: RolloutStep[];
  from_revision: { number: number; settings: EngineSettings };
  to_revision: { number: number; settings: EngineSettings };
  changes: Changes;
  nodes: RolloutNode[];
  paused_reason: string | null;
  reason: string;
  outcome: string | null;
  created_by: string;
  created_at: string;
  ended_at: string | null;
  analyses: Analysis[];
  timeline: TimelineEvent[];
}

export interface Knob {
  name: string;
  kind: "int" | "float" | "bool" | "choice";
  unit: string;
  minimum: number | null;
  maximum: number | null;
  choices: string[];
  default: KnobValue;
  apply_mode: string;
  safe_direction: string;
  changes_numerics: boolean;
  help: string;
}

export interface Process {
  name: string;
  kind: string;
  at: string;
  alive: boolean;
  detail: Record<string, unknown>;
}

export interface System {
  version: string;
  database: { kind: string; revision: string | null };
  leader: { holder: string; epoch: number; expires_at: string } | null;
  processes: Process[];
  outbox: { open: number; dead: number; oldest_age_s: number | null };
  prometheus: { ok: boolean | null; detail: string };
  redis: { ok: boolean | null; detail: string };
  frozen_pools: number;
}

export interface Session {
  role: "viewer" | "operator" | "admin";
  name: string;
}
