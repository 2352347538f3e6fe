"""The control plane's way to a node's recordings: passes orders and files on, keeps nothing. No database in here."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from controlplane.errors import Conflict, ControlPlaneError, Invalid, NotFound
from controlplane.fleets.node_client import NodeUnreachable
from inference_node.contract.profiling import ProfileList, ProfileRecording, ProfileRequest

_TIMEOUT_S = 5.0
_PIECE_BYTES = 64 * 1024
M = TypeVar("M", bound=BaseModel)


class RecordingRefused(Conflict):
    """The node records already, or has no file yet."""

    title = "Not now"


class RecordingGone(NotFound):
    """The node has no such recording, or none any more."""


@dataclass(frozen=True, slots=True)
class NodeProfiles:
    """Recordings of the node at `url`. Methods raise NodeUnreachable, RecordingRefused, RecordingGone, Invalid.

    Each opens a connection of its own: somebody looks at a node now and then.
    """

    url: str
    admin_token: str

    def start(self, request: ProfileRequest) -> ProfileRecording:
        return self._ask(ProfileRecording, "POST", content=request.model_dump_json())

    def recordings(self) -> ProfileList:
        return self._ask(ProfileList, "GET")

    def get(self, number: str) -> ProfileRecording:
        return self._ask(ProfileRecording, "GET", f"/{number}")

    def delete(self, number: str) -> None:
        with self._answer("DELETE", f"/{number}") as response:
            _require_success(response)

    @contextmanager
    def file(self, number: str) -> Iterator[Iterator[bytes]]:
        """The file in pieces, while it is entered. Fails, if it does, before the first of them."""
        with self._answer("GET", f"/{number}/file") as response:
            _require_success(response)
            yield response.iter_raw(_PIECE_BYTES)

    def _ask(self, model: type[M], method: str, path: str = "", **more: Any) -> M:
        with self._answer(method, path, **more) as response:
            _require_success(response)
            try:
                return model.model_validate_json(response.read())
            except ValidationError:
                raise NodeUnreachable(f"{response.url} answered with something that no node says") from None

    @contextmanager
    def _answer(self, method: str, path: str, **more: Any) -> Iterator[httpx2.Response]:
        target = f"{self.url.rstrip('/')}/admin/v1/profile{path}"
        headers = {"Authorization": f"Bearer {self.admin_token}", "Content-Type": "application/json"}
        try:
            # Not packed on the way: a trace is packed already. trust_env: a proxy of the environment is for the world outside.
            with (
                httpx2.Client(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
                client.stream(method, target, headers=headers | {"Accept-Encoding": "identity"}, **more) as response,
            ):
                yield response
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # the last two: an address that is none
            raise NodeUnreachable(f"{target} does not answer: {error or type(error).__name__}") from None


def _require_success(response: httpx2.Response) -> None:
    if response.is_success:
        return
    said = _message(response)
    refusals: dict[int, type[ControlPlaneError]] = {
        HTTPStatus.CONFLICT: RecordingRefused,
        HTTPStatus.NOT_FOUND: RecordingGone,
        HTTPStatus.BAD_REQUEST: Invalid,
    }
    if said is None and response.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        raise NodeUnreachable(f"{response.url} answered {response.status_code}: is this a node of ours?")
    if said is not None and response.status_code in refusals:
        raise refusals[response.status_code](said)
    raise NodeUnreachable(f"{response.url} answered {response.status_code}{f': {said}' if said else ''}")


def _message(response: httpx2.Response) -> str | None:
    """What the node says of an error, in OpenAI's form; None from anything else."""
    try:
        response.read()
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return None
