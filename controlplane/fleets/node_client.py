"""The control plane's hand at a node: pushes settings over HTTP. No database in here."""

from http import HTTPStatus
from ssl import SSLContext
from types import TracebackType
from typing import Self

import httpx2
from pydantic import ValidationError

from controlplane.errors import ControlPlaneError, Unavailable
from inference_node.contract.messages import SettingsAck, SettingsPush, SettingsReject


class NodeUnreachable(Unavailable):
    """The node did not answer, or not as a node does; nothing is known of what became of the push."""

    title = "Node unreachable"


class NodeRejected(ControlPlaneError):
    """The node refused the push and changed nothing. `reject` tells why."""

    title = "Node refused the settings"

    def __init__(self, reject: SettingsReject) -> None:
        super().__init__(reject.message, code=reject.code)
        self.reject = reject


class NodeClient:
    """Pushes settings to nodes, from any number of threads. A connection serves one push: the next is for another node, and one
    kept open until then may have been closed at its other end just as it is used.

    timeout_s: for connecting and for each wait for bytes; a node answers a push within about a second even when it goes
    on preparing weights, so a longer silence is a fault. tls: whom to trust; reading the system's list anew costs 20 ms.
    """

    def __init__(self, *, timeout_s: float, tls: SSLContext | None = None) -> None:
        self._http = httpx2.Client(
            timeout=timeout_s,
            trust_env=False,  # a proxy of the environment is for the world outside, nodes are ours
            follow_redirects=False,
            verify=True if tls is None else tls,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def push(self, url: str, admin_token: str, push: SettingsPush) -> SettingsAck:
        """Puts the desired settings to the node at `url`. Safe to repeat: a node applies a generation once.

        Raises NodeRejected when the node says no, NodeUnreachable for everything that leaves its answer unknown.
        """
        target = f"{url.rstrip('/')}/admin/v1/settings"
        try:
            response = self._http.put(
                target,
                content=push.model_dump_json(),
                headers={"Authorization": f"Bearer {admin_token}", "Content-Type": "application/json"},
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # the last two: an address that is none
            raise NodeUnreachable(f"{target} does not answer: {error or type(error).__name__}") from None
        return _read(target, response)


def _read(target: str, response: httpx2.Response) -> SettingsAck:
    try:
        if response.status_code in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            return SettingsAck.model_validate_json(response.content)
        if response.status_code in {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            raise NodeRejected(SettingsReject.model_validate_json(response.content))
    except ValidationError:
        raise NodeUnreachable(f"{target} answered {response.status_code} with something that no node says") from None
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        raise NodeUnreachable(f"{target} does not know our admin token; the node sends it anew when it registers")
    raise NodeUnreachable(f"{target} answered {response.status_code}")
