"""Everything under /api/v1, room by room."""

from fastapi import APIRouter

from controlplane import overview_endpoints
from controlplane.accounts import access_endpoints, token_endpoints
from controlplane.accounts import endpoints as accounts
from controlplane.accounts.oidc import endpoints as oidc
from controlplane.alerts import endpoints as alerts
from controlplane.audit import endpoints as audit
from controlplane.decisions import effect_endpoints, performance_endpoints, what_if_endpoints
from controlplane.decisions import endpoints as decisions
from controlplane.decisions import policy_endpoints as policies
from controlplane.events import endpoints as events
from controlplane.fleets import agent_endpoints, membership_endpoints, profile_endpoints, sd_endpoints
from controlplane.fleets import endpoints as fleets
from controlplane.forecasting import endpoints as forecasting
from controlplane.forecasting import track_endpoints
from controlplane.mesh import endpoints as mesh
from controlplane.rollouts import approval_endpoints, experiment_endpoints, exploration_endpoints
from controlplane.rollouts import endpoints as rollouts
from controlplane.telemetry import endpoints as telemetry
from controlplane.telemetry import history_endpoints
from controlplane.webhooks import endpoints as webhooks

ROUTERS = (
    overview_endpoints.router,
    accounts.router,
    oidc.router,
    access_endpoints.router,
    token_endpoints.router,
    fleets.router,
    membership_endpoints.router,
    profile_endpoints.router,
    telemetry.router,
    forecasting.router,
    track_endpoints.router,
    decisions.router,
    effect_endpoints.router,
    what_if_endpoints.router,
    performance_endpoints.router,
    policies.router,
    rollouts.router,
    approval_endpoints.router,
    experiment_endpoints.router,
    exploration_endpoints.router,
    mesh.router,
    events.router,
    audit.router,
    webhooks.router,
    alerts.router,
    agent_endpoints.router,
    history_endpoints.router,
    sd_endpoints.router,
)

router = APIRouter(prefix="/api/v1")
for room in ROUTERS:
    router.include_router(room)
