import type { QueryKey } from "@tanstack/react-query";
import { keys } from "./keys";

/** The kinds that the live stream names; a kind of a newer server is not among them and is caught by polling. */
export const STREAM_KINDS = [
  "tick",
  "reset",
  "forecast.breach_predicted",
  "forecast.breach_cleared",
  "forecast.spike_predicted",
  "forecast.spike_cleared",
  "forecast.anomaly",
  "slo.burning",
  "slo.recovered",
  "capacity.insufficient",
  "capacity.sufficient",
  "model.degraded",
  "model.recovered",
  "decision.made",
  "telemetry.implausible",
  "rollout.created",
  "rollout.not_begun",
  "rollout.approval_required",
  "rollout.approved",
  "rollout.scheduled",
  "rollout.expired",
  "rollout.superseded",
  "rollout.stuck",
  "rollout.started",
  "rollout.requested",
  "rollout.canary_started",
  "rollout.canary_applied",
  "rollout.analysis",
  "rollout.paused",
  "rollout.resumed",
  "rollout.promoting",
  "rollout.baking",
  "rollout.completed",
  "rollout.rolling_back",
  "rollout.rolled_back",
  "rollout.rollback_failed",
  "rollout.cancelled",
  "rollout.rejected",
  "node.registered",
  "node.restarted",
  "node.unreachable",
  "node.recovered",
  "node.drifted",
  "node.settings_applied",
  "node.settings_rejected",
  "node.experiment_started",
  "node.experiment_ended",
  "node.experiment_measured",
  "node.changed_away",
  "node.history_taken",
  "node.profiled",
  "node.quarantined",
  "node.released",
  "node.removed",
  "mesh.applied",
  "mesh.failed",
  "outbox.dead",
  "control.leader_changed",
  "control.frozen",
  "control.unfrozen",
  "pool.created",
  "pool.frozen",
  "pool.unfrozen",
  "policy.changed",
  "access.user_created",
  "access.user_disabled",
  "access.user_enabled",
  "access.role_changed",
  "access.password_set",
  "access.password_reset",
  "access.token_created",
  "access.token_revoked",
  "access.enrolment_created",
  "access.enrolment_revoked",
  "webhook.created",
  "webhook.changed",
  "webhook.removed",
  "webhook.enabled",
  "webhook.disabled",
  "webhook.secret_rotated",
  "webhook.delivery_failed",
  "alert.firing",
  "alert.resolved",
  "alert.truncated",
  "alert.rule_changed",
] as const;

/** Which cached answers a message of the live stream makes old. The stream carries no data into the page: REST stays the truth. */
export function staleAfter(kind: string): QueryKey[] {
  const family = kind.split(".", 1)[0];
  switch (family) {
    case "tick":
      return [keys.fleet, keys.pools, keys.nodes, keys.observations, keys.forecasts, keys.decisions, keys.system];
    case "reset":
      return [[]]; // more was missed than the stream replays: everything is old
    case "forecast":
      return [keys.forecasts, keys.fleet, keys.pools, keys.events];
    case "decision":
    case "model":
      return [keys.decisions, keys.fleet, keys.pools, keys.events];
    case "rollout":
      return [keys.rollouts, keys.fleet, keys.pools, keys.nodes, keys.events, ["revisions"]];
    case "mesh":
      return [keys.rollouts, keys.events];
    case "node":
      return [keys.nodes, keys.fleet, keys.pools, keys.rollouts, keys.events];
    case "policy":
      return [["policies"], keys.fleet, keys.pools, keys.events];
    case "slo":
      return [keys.fleet, keys.pools, keys.events];
    case "pool":
      return [keys.fleet, keys.pools, keys.system, keys.events];
    case "control":
      return [keys.system, keys.fleet, keys.pools, keys.events];
    case "webhook":
      return [keys.webhooks, keys.events];
    case "alert":
      return [keys.alerts, keys.events];
    case "access":
      return [keys.access, keys.session, keys.events]; // a role that changed shows in what one may do
    default:
      return [keys.events];
  }
}

/** The queries of several messages, each once. */
export function staleAfterAll(kinds: Iterable<string>): QueryKey[] {
  const found = new Map<string, QueryKey>();
  for (const kind of kinds) for (const key of staleAfter(kind)) found.set(JSON.stringify(key), key);
  return [...found.values()];
}
