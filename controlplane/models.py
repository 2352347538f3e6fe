"""Every table, imported in one place: for the migrations, and so that foreign keys resolve whoever opens the database."""

from controlplane.accounts import models as accounts
from controlplane.alerts import models as alerts
from controlplane.audit import models as audit
from controlplane.db import Base
from controlplane.decisions import models as decisions
from controlplane.events import models as events
from controlplane.fleets import models as fleets
from controlplane.forecasting import models as forecasting
from controlplane.idempotency import models as idempotency
from controlplane.mesh import models as mesh
from controlplane.processes import models as processes
from controlplane.rollouts import models as rollouts
from controlplane.telemetry import models as telemetry
from controlplane.webhooks import models as webhooks

ROOMS = (
    accounts, alerts, audit, decisions, events, fleets, forecasting, idempotency, mesh, processes, rollouts, telemetry, webhooks,
)  # fmt: skip
metadata = Base.metadata
