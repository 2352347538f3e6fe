"""Prometheus' http_sd: where the nodes' metrics are. Always the full list, as Prometheus expects it."""

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends

from controlplane.accounts import service as accounts
from controlplane.accounts.access import access
from controlplane.accounts.dependencies import Bearer
from controlplane.accounts.secrets import is_same
from controlplane.dependencies import Now, ProcessSettings, ReadSession
from controlplane.errors import Unauthorized
from controlplane.fleets import service
from controlplane.fleets.models import Node
from controlplane.fleets.schemas import SdTarget
from controlplane.problem import declared

router = APIRouter(prefix="/sd", tags=["service discovery"])

# A node that is away for less stays a target, so that `up` says so; one that is gone for good does not stay for ever.
FORGET_AFTER = timedelta(hours=24)


def check_reader(bearer: Bearer, settings: ProcessSettings, session: ReadSession, now: Now) -> None:
    """The enrolment token serves Prometheus as well, so that one secret configures both; any API token does too."""
    if bearer is not None:
        enrolment = settings.enrolment_token
        if enrolment is not None and is_same(bearer.credentials, enrolment.get_secret_value()):
            return
        if accounts.authenticate_token(session, bearer.credentials, now) is not None:
            return
    raise Unauthorized(
        "set `authorization.credentials` of http_sd_configs to the enrolment token or to a viewer's token"
    )


@router.get("/prometheus", responses=declared(401), openapi_extra=access("reader"))
def prometheus_targets(_: Annotated[None, Depends(check_reader)], session: ReadSession, now: Now) -> list[SdTarget]:
    """All nodes heard of within a day, one target each, for `http_sd_configs`."""
    return [_target(node) for node in service.list_nodes(session) if now - node.last_heartbeat_at < FORGET_AFTER]


def _target(node: Node) -> SdTarget:
    parts = urlsplit(node.url)
    labels = {
        "fleet": node.pool.fleet.name,
        "pool": node.pool.name,
        "node": node.name,
        "node_id": node.id,
        "model": node.pool.model,
    }
    if parts.scheme == "https":
        labels["__scheme__"] = "https"
    if parts.path not in {"", "/"}:
        labels["__metrics_path__"] = parts.path.rstrip("/") + "/metrics"
    return SdTarget(targets=[parts.netloc], labels=labels)
