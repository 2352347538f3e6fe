"""Events to real receivers by the worker's own code, round by round, on a clock that the test moves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from controlplane.db import make_engine, session_scope
from controlplane.events import chain, outbox
from controlplane.events import service as events
from controlplane.events.models import OutboxItem
from controlplane.settings import ControlPlaneSettings
from controlplane.webhooks import fan_out, service
from controlplane.webhooks.dial import Rules
from controlplane.webhooks.models import WebhookDelivery, WebhookEndpoint
from controlplane.webhooks.schemas import WebhookIn
from tests.support.database import sqlite_url
from workers.context import WorkerContext
from workers.tasks.webhooks import deliver

LOOPBACK = ip_network("127.0.0.0/8")


class MovableClock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class WebhookLab:
    """`work()` does what relay and worker would do now; loopback is an allowed network, as of an operator's own receivers."""

    def __init__(self, url: str) -> None:
        self.engine: Engine = make_engine(url)
        self.clock = MovableClock(datetime.now(UTC).replace(microsecond=0))
        self.settings = ControlPlaneSettings(
            database_url=url,
            webhook_allowed_networks=(LOOPBACK,),
            webhook_timeout_s=10,
            public_url="https://trimtab.test",
        )
        self.context = WorkerContext(self.settings, name="lab", clock=self.clock)

    def close(self) -> None:
        self.engine.dispose()
        self.context.engine.dispose()

    def endpoint(self, url: str, **wish: Any) -> tuple[str, str]:
        """Id and signing secret."""
        body = WebhookIn.model_validate({"name": "hook", "url": url, **wish})
        with session_scope(self.engine) as session:
            made, secret = service.create_endpoint(
                session, body, Rules((LOOPBACK,)), by="test", now=self.clock.now() - timedelta(seconds=1)
            )
            return made.id, secret

    def happen(self, kind: str = "rollout.completed", **said: Any) -> None:
        with session_scope(self.engine) as session:
            events.record(session, **{"kind": kind, "message": "it is done", "at": self.clock.now(), **said})

    def work(self) -> int:
        """One round: what has happened is owed, what is due is tried. Returns how many attempts were due."""
        with session_scope(self.engine) as session:
            chain.extend(session)
        with session_scope(self.engine) as session:
            fan_out.fan_out(session, self.clock.now())
        with session_scope(self.engine) as session:
            due = [item.id for item in outbox.take_due(session, self.clock.now())]
        deliver(self.context, due)
        return len(due)

    def wait_for_next(self) -> float:
        """Moves the clock to the next thing due; returns by how many seconds. Raises LookupError when nothing is owed."""
        with session_scope(self.engine) as session:
            open_rows = (
                select(OutboxItem.available_at).where(OutboxItem.done_at.is_(None)).order_by(OutboxItem.available_at)
            )
            at = session.scalars(open_rows).first()
        if at is None:
            raise LookupError("nothing is owed")
        moved = max(0.0, (at - self.clock.at).total_seconds())
        self.clock.pass_(moved + 0.001)
        return moved

    def deliveries(self) -> list[WebhookDelivery]:
        with session_scope(self.engine) as session:
            return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))

    def endpoint_row(self, webhook_id: str) -> WebhookEndpoint:
        with session_scope(self.engine) as session:
            return service.get_endpoint(session, webhook_id)


@contextmanager
def webhook_lab(folder: Path, url: str | None = None) -> Iterator[WebhookLab]:
    lab = WebhookLab(url or sqlite_url(folder))
    try:
        yield lab
    finally:
        lab.close()


def told(body: bytes) -> list[str]:
    """The messages in a standard delivery."""
    document = json.loads(body)
    several = document["data"].get("events")
    return [each["data"]["message"] for each in several] if several else [document["data"]["message"]]
