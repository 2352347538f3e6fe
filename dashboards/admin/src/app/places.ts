import type { ComponentType } from "react";
import {
  DecisionIcon,
  FleetIcon,
  ForecastIcon,
  KeyIcon,
  LinkIcon,
  RolloutIcon,
  SystemIcon,
  TableIcon,
  WarnIcon,
  WhatIfIcon,
} from "../components/icons";

export interface Place {
  label: string;
  to: string;
  key: string;
  hint: string;
  icon: ComponentType<{ size?: number }>;
}

/** The main pages: for the side bar, the search, and the keys after `g`. */
export const PLACES: Place[] = [
  { label: "Fleet", to: "/", key: "f", hint: "Pools, nodes, load and objectives now", icon: FleetIcon },
  { label: "Decisions", to: "/decisions", key: "d", hint: "What was decided, and why", icon: DecisionIcon },
  { label: "What if", to: "/what-if", key: "i", hint: "Other settings or load, tried on the model", icon: WhatIfIcon },
  {
    label: "Forecasts",
    to: "/forecasts",
    key: "o",
    hint: "What was foreseen, and how right it was",
    icon: ForecastIcon,
  },
  { label: "Rollouts", to: "/rollouts", key: "r", hint: "Changes on their way, and their canaries", icon: RolloutIcon },
  { label: "System", to: "/system", key: "s", hint: "Trimtab's own processes and health", icon: SystemIcon },
  { label: "Alerts", to: "/alerts", key: "a", hint: "What monitoring said, and what it set off", icon: WarnIcon },
  { label: "Webhooks", to: "/webhooks", key: "w", hint: "Who is told of events, and every delivery", icon: LinkIcon },
  { label: "Audit log", to: "/audit", key: "l", hint: "Every change, by whom, and its proof", icon: TableIcon },
  { label: "Access", to: "/access", key: "u", hint: "Users, sessions, tokens, and how nodes join", icon: KeyIcon },
];
