"""A handful of deliveries, one attempt each. The requests lie between two transactions; a receiver may get one twice, under the
same `webhook-id`, when the worker dies in between."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import structlog

from controlplane.db import session_scope
from controlplane.errors import ControlPlaneError
from controlplane.events import outbox
from controlplane.webhooks.delivering import Errand, Result, begin, settle
from controlplane.webhooks.dial import Dialler, Rules
from workers.context import WorkerContext

log = structlog.get_logger()


def deliver(context: WorkerContext, item_ids: Sequence[int]) -> None:
    """Makes the attempts that the rows stand for, side by side. Harmless when repeated or run twice at once."""
    errands: list[Errand] = []
    with session_scope(context.engine) as session:
        items = outbox.claim_many(session, item_ids, context.clock.now())
    for item in items:  # each on its own: two tasks that hold several endpoints could wait for each other
        with session_scope(context.engine) as session:
            errand = begin(session, item, context.clock.now(), context.settings.base_url)
        if errand is not None:
            errands.append(errand)
    if not errands:
        return
    dialler = Dialler(Rules(context.settings.webhook_allowed_networks, context.settings.webhook_timeout_s, context.tls))
    with ThreadPoolExecutor(len(errands), thread_name_prefix="webhook") as threads:
        asked = {threads.submit(_send, context, dialler, errand): errand for errand in errands}
        for done in as_completed(asked):
            errand, result = asked[done], done.result()
            with session_scope(context.engine) as session:
                verdict = settle(session, errand, result, context.clock.now())
            log.info(
                "webhook_attempted",
                delivery=errand.delivery_id,
                attempt=errand.number,
                status=result.status,
                outcome=str(verdict),
            )


def _send(context: WorkerContext, dialler: Dialler, errand: Errand) -> Result:
    at, began_s = context.clock.now(), time.monotonic()
    try:
        answer = dialler.post(errand.outgoing.url, errand.outgoing.headers, errand.outgoing.body)
    except ControlPlaneError as error:
        return Result(at, round(1000 * (time.monotonic() - began_s)), error=error.detail)
    took_ms = round(1000 * (time.monotonic() - began_s))
    return Result(at, took_ms, answer.status, answer.headers, answer.body)
