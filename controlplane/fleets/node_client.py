"""Pushes settings to a node over HTTP: one PUT, one answer, no retries (the outbox has those)."""

from types import TracebackType
from typing import Self

import httpx2
from pydantic import ValidationError

from controlplane.errors import ControlPlaneError, Unavailable
from inference_node.contract.messages import SettingsAck, SettingsPush, SettingsReject

MAX_ANSWER_BYTES = 64_000
_PATH = "/admin/v1/settings"


class NodeUnreachable(Unavailable):
    """No answer, or one that says that the node is ill or still loading. Trying again later may help."""

    title = "The node does not answer"


class NodeRejected(ControlPlaneError):
    """The node refused the push and changed nothing; `reject` says why."""

    title = "The node refused the settings"

    def __init__(self, reject: SettingsReject) -> None:
        super().__init__(f"{reject.code.value}: {reject.message}")
        self.reject = reject


class NodeClient:
    """One per process or thread; keeps connections to many nodes. `timeout_s` bounds connecting and each wait for bytes."""

    def __init__(self, *, timeout_s: float = 5.0, transport: httpx2.BaseTransport | None = None) -> None:
        # Proxies of the environment are not for us, and a redirect would carry the node's token elsewhere.
        self._http = httpx2.Client(timeout=timeout_s, trust_env=False, follow_redirects=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def push(self, url: str, admin_token: str, push: SettingsPush) -> SettingsAck:
        """Raises NodeUnreachable, NodeRejected."""
        headers = {"authorization": f"Bearer {admin_token}", "content-type": "application/json"}
        try:
            response = self._http.put(f"{url.rstrip('/')}{_PATH}", content=push.model_dump_json(), headers=headers)
        except httpx2.TimeoutException as error:
            raise NodeUnreachable(f"{url} did not answer in time ({type(error).__name__})") from error
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise NodeUnreachable(f"{url} cannot be reached: {error}") from error
        if len(response.content) > MAX_ANSWER_BYTES:
            raise NodeUnreachable(f"{url} answered with {len(response.content)} bytes: that is no node of ours")
        if response.status_code in (409, 422):
            raise NodeRejected(_parse_reject(url, response))
        if response.status_code not in (200, 202):
            raise NodeUnreachable(f"{url} answered with status {response.status_code}: {response.text[:200]}")
        try:
            return SettingsAck.model_validate_json(response.content)
        except ValidationError as error:
            raise NodeUnreachable(f"{url} answered, but not as a node does: {error.errors()[0]['msg']}") from None


def _parse_reject(url: str, response: httpx2.Response) -> SettingsReject:
    try:
        return SettingsReject.model_validate_json(response.content)
    except ValidationError:
        raise NodeUnreachable(f"{url} answered with status {response.status_code}: {response.text[:200]}") from None
