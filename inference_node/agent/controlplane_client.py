"""The four words a node says to its control plane, as HTTP calls. No retries here: the agent decides about those."""

from types import TracebackType
from typing import Self, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from inference_node.contract.history import HistoryTaken, NodeHistory
from inference_node.contract.messages import (
    Heartbeat,
    HeartbeatReply,
    NodeRegistered,
    NodeRegistration,
    SettingsPush,
)
from inference_node.errors import NodeError, Unavailable

M = TypeVar("M", bound=BaseModel)


class ControlPlaneUnreachable(Unavailable):
    """No answer, or one that says that the control plane is ill (5xx, not our protocol). Trying again later may help."""


class NotEnrolled(NodeError):
    """The token was refused (401): register (again)."""


class EnrolmentRefused(NodeError):
    """The registration itself was refused; a person must mend it, though it is tried again in case someone does."""


class ControlPlaneClient:
    """One control plane. Use as an async context manager; safe for concurrent calls."""

    def __init__(self, base_url: str, *, timeout_s: float = 10.0) -> None:
        # Proxies of the environment are not for us: the address was given by the operator.
        self._http = httpx2.AsyncClient(
            base_url=f"{base_url.rstrip('/')}/api/v1/agents", timeout=timeout_s, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def register(self, registration: NodeRegistration, enrolment_token: str) -> NodeRegistered:
        """Raises EnrolmentRefused, ControlPlaneUnreachable."""
        response = await self._send("POST", "/register", enrolment_token, registration)
        if 400 <= response.status_code < 500:
            raise EnrolmentRefused(f"{response.status_code}: {_reason(response)}")
        return _parse(NodeRegistered, response)

    async def heartbeat(self, node_id: str, token: str, heartbeat: Heartbeat) -> HeartbeatReply:
        """Raises NotEnrolled, ControlPlaneUnreachable."""
        return _parse(HeartbeatReply, await self._send("POST", f"/{node_id}/heartbeat", token, heartbeat))

    async def desired(self, node_id: str, token: str, after: int, wait_s: float) -> SettingsPush | None:
        """The newest wish above generation `after`, waited for up to wait_s; None if there is none.

        Raises NotEnrolled, ControlPlaneUnreachable.
        """
        query = {"after": str(after), "wait_s": f"{wait_s:g}"}
        response = await self._send("GET", f"/{node_id}/desired", token, query=query, read_timeout_s=wait_s + 10)
        return None if response.status_code == 204 else _parse(SettingsPush, response)

    async def history(self, node_id: str, token: str, part: NodeHistory) -> HistoryTaken:
        """Raises NotEnrolled, ControlPlaneUnreachable."""
        return _parse(HistoryTaken, await self._send("POST", f"/{node_id}/history", token, part))

    async def _send(
        self,
        method: str,
        path: str,
        token: str,
        body: BaseModel | None = None,
        *,
        query: dict[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = body.model_dump_json()
        timeout = httpx2.Timeout(10.0, read=read_timeout_s) if read_timeout_s else httpx2.USE_CLIENT_DEFAULT
        try:
            return await self._http.request(
                method, path, content=content, params=query, headers=headers, timeout=timeout
            )
        except httpx2.HTTPError as error:
            raise ControlPlaneUnreachable(f"{type(error).__name__}: {error}") from error


def _parse(model: type[M], response: httpx2.Response) -> M:
    if response.status_code == 401:
        raise NotEnrolled(_reason(response))
    if response.status_code != 200 and response.status_code != 201:
        raise ControlPlaneUnreachable(f"{response.status_code}: {_reason(response)}")
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise ControlPlaneUnreachable(f"an answer that is no {model.__name__}: {error.errors()[0]['msg']}") from None


def _reason(response: httpx2.Response) -> str:
    """What problem+json says, or the beginning of whatever came."""
    try:
        document = response.json()
        return str(document.get("detail") or document.get("title") or document)[:300]
    except (ValueError, AttributeError):
        return response.text[:300]
