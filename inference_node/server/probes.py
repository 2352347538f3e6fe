"""Is it alive, is it ready, what does it measure: probes, version and `/metrics`. None of them needs a token."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from inference_node.contract.messages import NodeState
from inference_node.server.node import Node

_PREFIXES = {"all": "", "inference": "inference_", "vllm": "vllm:"}


def probes_router(node: Node) -> APIRouter:
    """Probes and metrics of this node."""
    router = APIRouter(tags=["Operations"])

    @router.get("/livez")
    async def livez() -> dict[str, str]:
        """200 while the process answers at all; also while it loads or drains."""
        return {"status": "alive"}

    @router.get("/readyz", response_model=None)
    async def readyz() -> Response:
        """200 while the node takes requests; 503 while it loads, drains or has failed, and says which."""
        body: dict[str, Any] = {"status": node.state.value}
        if node.state is NodeState.STARTING:
            body |= {"doing": node.doing, "progress": round(node.progress, 3)}
        return JSONResponse(body, 200 if node.is_ready else 503)

    @router.get("/health", response_model=None)
    @router.get("/ping", response_model=None)
    @router.post("/ping", response_model=None, include_in_schema=False)
    async def health() -> Response:
        """vLLM's and SageMaker's word for ready."""
        return Response(status_code=200 if node.is_ready else 503)

    @router.get("/version")
    async def version() -> dict[str, str]:
        """The node's version."""
        return {"version": node.version}

    @router.get("/metrics", response_model=None)
    async def metrics(
        request: Request, names: Annotated[Literal["all", "inference", "vllm"], Query()] = "all"
    ) -> Response:
        """Prometheus text 0.0.4 or OpenMetrics, as Accept asks; `names` picks vLLM's or our own."""
        body, content_type = node.metrics.expose(request.headers.get("accept", ""), _PREFIXES[names])
        return Response(body, media_type=content_type)

    return router
