"""For machines: is the process alive, may it get traffic, and how are its metrics."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.responses import Response

from controlplane import schema
from controlplane.accounts.access import access
from controlplane.dependencies import DatabaseEngine
from controlplane.problem import declared

router = APIRouter(tags=["probes"])


class Ready(BaseModel):
    database: str
    revision: str


@router.get("/livez", response_class=PlainTextResponse, openapi_extra=access("anyone"))
def livez() -> str:
    """The process answers. Says nothing of what it depends on: restarting it would not mend that."""
    return "ok"


@router.get("/readyz", responses=declared(503), openapi_extra=access("anyone"))
def readyz(engine: DatabaseEngine) -> Ready:
    """The database answers and is migrated. Redis and Prometheus do not count: without them we are degraded, not absent."""
    schema.check(engine)
    return Ready(database=engine.dialect.name, revision=schema.head())


@router.get("/metrics", response_class=PlainTextResponse, openapi_extra=access("anyone"))
def metrics(request: Request) -> Response:
    """Our own metrics for Prometheus, `controlplane_*`; counts are read from SQL, so any API process tells the whole."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics), headers={"content-type": content_type})
