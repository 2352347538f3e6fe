import { createBrowserRouter } from "react-router";
import { RouteFailed } from "./RouteFailed";
import { Shell } from "./Shell";
import { SignInGate } from "./SignInGate";

/** Each page is loaded when it is first opened. */
export const router = createBrowserRouter([
  {
    element: (
      <SignInGate>
        <Shell />
      </SignInGate>
    ),
    errorElement: <RouteFailed />,
    HydrateFallback: () => null,
    children: [
      {
        errorElement: <RouteFailed />,
        children: [
          { index: true, lazy: async () => ({ Component: (await import("../pages/fleet/FleetPage")).FleetPage }) },
          {
            path: "pools/:poolId",
            lazy: async () => ({ Component: (await import("../pages/pool/PoolPage")).PoolPage }),
          },
          {
            path: "pools/:poolId/policy",
            lazy: async () => ({ Component: (await import("../pages/policy/PolicyPage")).PolicyPage }),
          },
          {
            path: "nodes/:nodeId",
            lazy: async () => ({ Component: (await import("../pages/node/NodePage")).NodePage }),
          },
          {
            path: "decisions",
            lazy: async () => ({ Component: (await import("../pages/decisions/DecisionsPage")).DecisionsPage }),
          },
          {
            path: "decisions/:decisionId",
            lazy: async () => ({ Component: (await import("../pages/decisions/DecisionPage")).DecisionPage }),
          },
          {
            path: "what-if",
            lazy: async () => ({ Component: (await import("../pages/whatif/WhatIfPage")).WhatIfPage }),
          },
          {
            path: "forecasts",
            lazy: async () => ({ Component: (await import("../pages/forecasts/ForecastsPage")).ForecastsPage }),
          },
          {
            path: "rollouts",
            lazy: async () => ({ Component: (await import("../pages/rollouts/RolloutsPage")).RolloutsPage }),
          },
          {
            path: "rollouts/:rolloutId",
            lazy: async () => ({ Component: (await import("../pages/rollouts/RolloutPage")).RolloutPage }),
          },
          {
            path: "system",
            lazy: async () => ({ Component: (await import("../pages/system/SystemPage")).SystemPage }),
          },
          {
            path: "webhooks",
            lazy: async () => ({ Component: (await import("../pages/webhooks/WebhooksPage")).WebhooksPage }),
          },
          {
            path: "alerts",
            lazy: async () => ({ Component: (await import("../pages/alerts/AlertsPage")).AlertsPage }),
          },
          {
            path: "audit",
            lazy: async () => ({ Component: (await import("../pages/audit/AuditPage")).AuditPage }),
          },
          {
            path: "access",
            lazy: async () => ({ Component: (await import("../pages/access/AccessPage")).AccessPage }),
          },
          {
            path: "account",
            lazy: async () => ({ Component: (await import("../pages/account/AccountPage")).AccountPage }),
          },
          { path: "*", lazy: async () => ({ Component: (await import("../pages/NotFoundPage")).NotFoundPage }) },
        ],
      },
    ],
  },
]);
