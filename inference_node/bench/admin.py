"""The admin API of a node, as far as measurements need it."""

import asyncio
import time
from typing import Any

import httpx2

from inference_node.bench.changes import Change, Outcome
from inference_node.errors import Invalid, Unavailable

_POLL_S = 0.005
_ANSWER_WITHIN_S = 120.0
# A change of the arithmetic waits until its quality is measured, below everything else in priority: minutes on a full machine.
_PREPARED_WITHIN_S = 900.0


class NodeUnreachable(Unavailable):
    """The node does not answer, or not as one of ours."""


class AdminClient:
    """One node. `async with` closes the connection."""

    def __init__(self, url: str, token: str, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"}
        self._client = httpx2.AsyncClient(
            base_url=url.rstrip("/"),
            headers=headers,
            timeout=_ANSWER_WITHIN_S,
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> "AdminClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def settings(self) -> dict[str, Any]:
        """What is in force. Raises NodeUnreachable; Invalid for a wrong token."""
        try:
            answer = await self._client.get("/admin/v1/settings")
        except httpx2.HTTPError as error:
            raise NodeUnreachable(f"{self._client.base_url} does not answer: {error}. Is the node running?") from None
        if answer.status_code == 401:
            raise Invalid(
                "the node refuses this admin token; it lies in the node's data folder, nodes/NAME/admin_token"
            )
        if answer.status_code != 200:
            raise NodeUnreachable(f"{self._client.base_url} is no ready Trimtab node ({answer.status_code})")
        document: dict[str, Any] = answer.json()
        return document

    async def change(self, change: Change) -> Outcome:
        """Ask, and wait until it is in force. A refusal is an outcome; raises NodeUnreachable when the node is gone."""
        asked_s = time.perf_counter()
        try:
            answer = await self._client.patch("/admin/v1/settings", json={change.knob: change.value})
        except httpx2.HTTPError as error:
            raise NodeUnreachable(f"the node went away during a change of {change.knob}: {error}") from None
        document = answer.json()
        if answer.status_code not in (200, 202):
            reason = document.get("message") or document.get("error", {}).get("message") or answer.status_code
            return Outcome(change, asked_s, time.perf_counter(), refusal=str(reason))
        asked_step, applied_step = document["asked_step"], document["applied_step"]
        while applied_step is None:
            await asyncio.sleep(_POLL_S)
            shown = await self.settings()
            # The engine's settings change a moment before the node has written down since which step: until then
            # `applied_step` is still that of the change before.
            if shown["settings"][change.knob] == change.value and shown["applied_step"] > asked_step:
                applied_step = shown["applied_step"]
            elif refusal := shown.get("edit_refused"):
                return Outcome(change, asked_s, time.perf_counter(), refusal=refusal)
            elif time.perf_counter() - asked_s > _PREPARED_WITHIN_S:
                reason = f"not in force within {_PREPARED_WITHIN_S:g} s"
                return Outcome(change, asked_s, time.perf_counter(), refusal=reason)
        return Outcome(change, asked_s, time.perf_counter(), steps=applied_step - asked_step)
