"""One pool's route, one write. Told the outbox row only; what the route should say by now is read from SQL."""

from datetime import timedelta

import structlog

from controlplane.db import session_scope
from controlplane.errors import ControlPlaneError
from controlplane.events import outbox
from controlplane.mesh import service
from controlplane.mesh.kubernetes import Kubernetes, KubernetesSilent, Overtaken
from controlplane.mesh.models import MeshRoute
from controlplane.mesh.wish import Wish
from workers.context import WorkerContext

log = structlog.get_logger()

# An API that is silent costs each task seconds, and the same workers bring nodes their settings: a pause after each silence.
PAUSE = timedelta(seconds=15)


def apply_route(context: WorkerContext, item_id: int) -> None:
    """Brings a pool's route to the Kubernetes API. Harmless when repeated, overtaken, or run twice at once.

    The call lies between two transactions. The generation that the object carries keeps an old write from undoing a new one.
    """
    with session_scope(context.engine) as session:
        item = outbox.claim(session, item_id, context.clock.now())
        if item is None:
            return
        row = session.get(MeshRoute, item.payload["pool_id"])
        if row is None or row.generation != item.payload["generation"]:
            outbox.finish(session, item_id, context.clock.now(), note="overtaken by a newer wish")
            return
        pool_id, generation, attempts = row.pool_id, row.generation, item.attempts
        wish = Wish.model_validate(row.desired)
        before = None if row.applied is None else Wish.model_validate(row.applied)
    answer = _apply(context, wish, before, generation)
    with session_scope(context.engine) as session:
        now = context.clock.now()
        if isinstance(answer, list):
            service.record_applied(session, pool_id, generation, now, missing=answer)
            outbox.finish(session, item_id, now)
        elif isinstance(answer, Overtaken):
            service.overtake(session, pool_id, answer.generation, now)
            outbox.finish(session, item_id, now, note=answer.detail)
        else:
            service.record_failure(session, pool_id, generation, now, error=answer.detail)
            if attempts < outbox.MAX_ATTEMPTS:
                outbox.fail(session, item_id, now, error=answer.detail)
            else:  # the controller owes it again for as long as the route is not in force, so this is no dead end
                outbox.finish(session, item_id, now, note=f"owed again soon: {answer.detail}")
    outcome = "applied" if isinstance(answer, list) else type(answer).__name__
    log.info("mesh_route_applied", pool=wish.pool, generation=generation, weight=wish.canary_weight, outcome=outcome)


def _apply(context: WorkerContext, wish: Wish, before: Wish | None, generation: int) -> list[str] | ControlPlaneError:
    """Names of pods that there are none of, or why it failed.

    On the way up the arm has its pods before it gets requests; on the way down it gets none before it loses its pods.
    """
    pods, url, now = wish.pods(), context.settings.kubernetes_url or "", context.clock.now()
    if context.away.get(url, now) > now:
        return KubernetesSilent(
            f"the Kubernetes API at {url} did not answer a moment ago: it is left alone for a while"
        )
    falls = before is not None and wish.canary_weight < before.canary_weight
    try:
        with Kubernetes.of(context.settings) as api:
            if falls:
                api.apply(wish.route(generation))
            missing = [pod["metadata"]["name"] for pod in pods if not api.label(pod)]
            if not falls:
                api.apply(wish.route(generation))
    except ControlPlaneError as error:
        if isinstance(error, KubernetesSilent):
            context.away[url] = context.clock.now() + PAUSE
        return error
    return missing
