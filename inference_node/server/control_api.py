"""The admin API: settings pushed and read, the step-time table, status. Needs the node's admin token as bearer."""

import dataclasses
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

from inference_node.agent.desired import PushRejected, rejection_of
from inference_node.contract.messages import AckOutcome, RejectCode, SettingsAck, SettingsPush, SettingsReject
from inference_node.contract.quality import NodeQuality
from inference_node.contract.settings import KNOBS
from inference_node.contract.signing import is_signed
from inference_node.contract.step_profile import StepProfile
from inference_node.server.admin import admin_only
from inference_node.server.node import Node

_STATUS = {
    RejectCode.STALE_EPOCH: 409,
    RejectCode.STALE_GENERATION: 409,
    RejectCode.CONFLICT: 409,
    RejectCode.OUT_OF_MEMORY: 409,
    RejectCode.QUALITY: 409,
    RejectCode.OUT_OF_BOUNDS: 422,
    RejectCode.NOT_SUPPORTED: 422,
    RejectCode.INVALID: 422,
}

_REFUSALS: dict[int | str, dict[str, Any]] = {409: {"model": SettingsReject}, 422: {"model": SettingsReject}}


def control_router(node: Node) -> APIRouter:
    """`/admin/v1` for this node, recordings apart."""

    class Route(APIRoute):
        """Refusals and malformed documents are answered in the words of the contract."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    return await handler(request)
                except RequestValidationError as error:
                    return _refused(rejection_of(error.errors()), node)
                except PushRejected as rejection:
                    return _refused(rejection, node)

            return answer

    router = APIRouter(prefix="/admin/v1", tags=["Admin"], dependencies=[Depends(admin_only(node))], route_class=Route)

    @router.put("/settings", response_model=SettingsAck, responses=_REFUSALS)
    async def push_settings(push: SettingsPush) -> Response:
        """Desired settings from the control plane; 202 while a background knob is still being prepared.

        The same push may come twice; an older generation or epoch is refused and changes nothing.
        """
        _, keeper = node.settled()
        # Whoever is here has shown the token itself; a signature tells in addition that nothing was changed on the way.
        if push.signature is not None and not is_signed(push, node.admin_token):
            raise PushRejected(
                RejectCode.INVALID, "the signature is not that of this document under this node's admin token"
            )
        return _acknowledged(await keeper.apply_push(push))

    @router.patch("/settings", response_model=SettingsAck, responses=_REFUSALS)
    async def edit_settings(changes: dict[str, Any], force: bool = False) -> Response:
        """Change some knobs on this node by hand. It counts as drifted until the control plane's next push.

        With `force` the quality guard lets it pass; bounds and memory it cannot skip. What takes longer is answered
        with 202: GET shows when it is in force, or in `edit_refused` why it never will be.
        """
        _, keeper = node.settled()
        if not changes:
            raise PushRejected(RejectCode.INVALID, "name at least one knob")
        return _acknowledged(await keeper.edit(changes, force=force))

    @router.get("/settings")
    async def show_settings() -> dict[str, Any]:
        """What is in force, from which step, and every knob that can be turned."""
        engine, keeper = node.settled()
        settings, observed, preparing = engine.settings, keeper.observed, keeper.preparing
        return {
            "settings": settings.model_dump(mode="json"),
            "config_hash": settings.content_hash(),
            "generation": observed.generation,
            "epoch": observed.epoch,
            "epoch_seen": keeper.epoch_seen,
            "revision": observed.revision,
            "applied_step": observed.applied_step,
            "step": engine.stats().step,
            "drifted": observed.drifted,
            "lease_s": observed.lease.seconds if observed.lease else None,
            "lapsed": observed.lapsed,
            "bounds": {name: bound.model_dump() for name, bound in observed.bounds.items()},
            "preparing": dataclasses.asdict(preparing) if preparing else None,
            "rejected": dataclasses.asdict(keeper.rejected) if keeper.rejected else None,
            "edit_refused": keeper.edit_refused,
            "knobs": [dataclasses.asdict(knob) for knob in KNOBS.values()],
            "capabilities": engine.capabilities.model_dump(mode="json"),
        }

    @router.get("/step-model")
    async def show_step_model() -> StepProfile:
        """How long steps take on this node: the measured table, the fit through it, and how wrong its predictions were."""
        engine, _ = node.settled()
        return engine.step_profile()

    @router.get("/quality")
    async def show_quality() -> NodeQuality:
        """What each measured precision and pruning level costs in answers, and the ceiling above which it needs force."""
        engine, _ = node.settled()
        return engine.quality()

    @router.get("/status")
    async def show_status() -> dict[str, Any]:
        """The node at a glance; answers while it loads, too."""
        engine, agent = node.engine, node.agent
        return {
            "name": node.config.name,
            "pool": node.config.pool,
            "fleet": node.config.fleet,
            "model": node.config.model_name,
            "version": node.version,
            "instance_id": node.instance_id,
            "state": node.state.value,
            "doing": node.doing,
            "progress": node.progress,
            "uptime_s": round(time.monotonic() - node.started_s, 3),
            "controlplane": {
                "url": node.config.controlplane_url,
                "link": agent.link.value if agent else None,
                "node_id": agent.node_id if agent else None,
            },
            "stats": _plain(engine.stats()) if engine else None,
            "hardware": engine.hardware.model_dump(mode="json") if engine else None,
            "last_error": engine.last_error if engine else None,
        }

    return router


def _acknowledged(ack: SettingsAck) -> Response:
    status = 202 if ack.outcome is AckOutcome.PREPARING else 200
    return JSONResponse(ack.model_dump(mode="json"), status)


def _refused(rejection: PushRejected, node: Node) -> Response:
    keeper = node.keeper
    body = SettingsReject(
        code=rejection.code,
        message=str(rejection),
        knob=rejection.knob,
        observed_generation=keeper.observed.generation if keeper else 0,
        observed_epoch=keeper.epoch_seen if keeper else 0,
    )
    return JSONResponse(body.model_dump(mode="json"), _STATUS[rejection.code])


def _plain(stats: Any) -> dict[str, Any]:
    values = dataclasses.asdict(stats)
    if stats.preparing is not None:
        values["preparing"] = stats.preparing.model_dump(mode="json")
    return values
