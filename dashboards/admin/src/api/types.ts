// What the REST API says, under the names that the app uses. The shapes come from `docs/openapi.json` (`npm run types`).
import type { Readable } from "openapi-typescript-helpers";
import type { components } from "./schema";

/** A schema as the client hands it out (it reads a pair as an array). */
type Read<Name extends keyof components["schemas"]> = Readable<components["schemas"][Name]>;

export type KnobValue = boolean | number | string;
/** Settings as the app handles them: by the name of the knob, so that a knob added to the contract shows by itself. */
export type EngineSettings = Readonly<Record<string, KnobValue>>;
/** Knob to [from, to]. */
export type Changes = Readonly<Record<string, readonly KnobValue[]>>;

export type Observation = Read<"ObservationOut">;
export type Slo = Read<"SloOut">;
export type ErrorBudget = Read<"ErrorBudgetOut">;
export type Pool = Read<"PoolOut">;
export type Fleet = Read<"FleetOut">;
export type Node = Read<"NodeDetail">;
export type Forecast = Read<"ForecastOut">;
export type Candidate = Read<"CandidateOut">;
export type Constraint = Read<"ConstraintOut">;
export type Decision = Read<"DecisionOut">;
export type StepModel = Read<"PerformanceModelOut">;
export type Effect = Read<"DecisionEffectOut">;
export type WhatIf = Read<"WhatIfOut">;
export type Outlook = Read<"OutlookOut">;
export type Estimate = Read<"EstimateOut">;
export type Check = Read<"CheckOut">;
export type ForecastQuality = Read<"ForecastQualityOut">;
export type ForecastTrack = Read<"ForecastTrackOut">;
export type Replay = Read<"ReplayOut">;
export type TimelineEvent = Read<"EventOut">;
export type Knob = Read<"KnobOut">;
export type Recording = Read<"ProfileRecording">;
export type Process = Read<"ProcessOut">;
export type System = Read<"SystemOut">;
export type Session = Read<"SessionOut">;

export type Policy = components["schemas"]["Policy-Input"];
export type PolicyNow = Read<"PolicyOut">;
export type PolicyVersion = Read<"PolicyVersionOut">;
export type PolicyTrial = Read<"PolicyTrialOut">;

export type Rollout = Read<"RolloutOut">;
export type RolloutStep = Read<"RungOut">;
export type RolloutNode = Read<"RolloutNodeOut">;
export type RolloutPlan = Read<"PlanOut">;
export type Analysis = Read<"AnalysisOut">;
export type Measurement = Read<"MeasurementOut">;
