import { Route, Routes } from "react-router";
import { page } from "./pages";
import { Shell } from "./Shell";
import { SignInGate } from "./SignInGate";

const FleetPage = page(async () => (await import("../pages/fleet/FleetPage")).FleetPage);
const PoolPage = page(async () => (await import("../pages/pool/PoolPage")).PoolPage);
const PolicyPage = page(async () => (await import("../pages/policy/PolicyPage")).PolicyPage);
const NodePage = page(async () => (await import("../pages/node/NodePage")).NodePage);
const DecisionsPage = page(async () => (await import("../pages/decisions/DecisionsPage")).DecisionsPage);
const DecisionPage = page(async () => (await import("../pages/decisions/DecisionPage")).DecisionPage);
const WhatIfPage = page(async () => (await import("../pages/whatif/WhatIfPage")).WhatIfPage);
const ForecastsPage = page(async () => (await import("../pages/forecasts/ForecastsPage")).ForecastsPage);
const RolloutsPage = page(async () => (await import("../pages/rollouts/RolloutsPage")).RolloutsPage);
const RolloutPage = page(async () => (await import("../pages/rollouts/RolloutPage")).RolloutPage);
const SystemPage = page(async () => (await import("../pages/system/SystemPage")).SystemPage);
const WebhooksPage = page(async () => (await import("../pages/webhooks/WebhooksPage")).WebhooksPage);
const AlertsPage = page(async () => (await import("../pages/alerts/AlertsPage")).AlertsPage);
const AuditPage = page(async () => (await import("../pages/audit/AuditPage")).AuditPage);
const AccessPage = page(async () => (await import("../pages/access/AccessPage")).AccessPage);
const AccountPage = page(async () => (await import("../pages/account/AccountPage")).AccountPage);
const NotFoundPage = page(async () => (await import("../pages/NotFoundPage")).NotFoundPage);

export function Pages() {
  return (
    <Routes>
      <Route
        element={
          <SignInGate>
            <Shell />
          </SignInGate>
        }
      >
        <Route index element={<FleetPage />} />
        <Route path="pools/:poolId" element={<PoolPage />} />
        <Route path="pools/:poolId/policy" element={<PolicyPage />} />
        <Route path="nodes/:nodeId" element={<NodePage />} />
        <Route path="decisions" element={<DecisionsPage />} />
        <Route path="decisions/:decisionId" element={<DecisionPage />} />
        <Route path="what-if" element={<WhatIfPage />} />
        <Route path="forecasts" element={<ForecastsPage />} />
        <Route path="rollouts" element={<RolloutsPage />} />
        <Route path="rollouts/:rolloutId" element={<RolloutPage />} />
        <Route path="system" element={<SystemPage />} />
        <Route path="webhooks" element={<WebhooksPage />} />
        <Route path="alerts" element={<AlertsPage />} />
        <Route path="audit" element={<AuditPage />} />
        <Route path="access" element={<AccessPage />} />
        <Route path="account" element={<AccountPage />} />
        <Route path="*" element={<NotFoundPage />} />
      </Route>
    </Routes>
  );
}
