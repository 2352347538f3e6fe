"""The control plane's own client as the command uses it: bound to a connection, with errors that say which variable to mend."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from controlplane.client import Client, StreamEvent
from controlplane.client import errors as e
from controlplane.client import types as t
from controlplane.client.http import Json, Query
from trimtab.connection import TOKEN_VARIABLE, URL_VARIABLE, Connection
from trimtab.errors import CommandError, OutOfTime, UsageError

__all__ = ["ApiClient", "ApiError", "Json"]


class ApiError(CommandError):
    """The API refused; `status` is HTTP's, `problem` its problem+json document."""

    def __init__(self, text: str, status: int, problem: Json) -> None:
        super().__init__(text)
        self.status, self.problem = status, problem
        # 4xx is what the same input gets again, save for conflicts and limits, which time may heal.
        self.exit_code = UsageError.exit_code if status in (400, 404, 422) else CommandError.exit_code


class ApiClient(Client):
    """Bound to one control plane. Use as a context manager; every call raises CommandError with a text for people."""

    def __init__(
        self, connection: Connection, *, timeout_s: float = 15.0, transport: httpx2.BaseTransport | None = None
    ) -> None:
        super().__init__(connection.url, connection.token, timeout_s=timeout_s, transport=transport)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        once: bool = False,
    ) -> Json:
        try:
            return super().request(method, path, query=query, body=body, headers=headers, once=once)
        except e.ClientError as error:
            raise _for_people(error, self.url) from None

    def wait_for_rollout(self, rollout_id: str, *, timeout_s: float = 600.0) -> t.RolloutOut:
        try:
            return super().wait_for_rollout(rollout_id, timeout_s=timeout_s)
        except e.WaitTimeout as error:
            raise OutOfTime(f"{error} (it goes on; `trimtab rollouts show` tells how)") from None

    def follow(self, last_event_id: int | None = None) -> Iterator[StreamEvent]:
        try:
            yield from super().follow(last_event_id)
        except e.ClientError as error:
            raise _for_people(error, self.url) from None


def _for_people(error: e.ClientError, url: str) -> CommandError:
    match error:
        case e.ApiError(status=401):
            text = f"{url} does not know this token: check {TOKEN_VARIABLE}, or the data folder"
            return ApiError(text, error.status, error.problem)
        case e.ApiError():
            return ApiError(str(error), error.status, error.problem)
        case e.Unreachable(timed_out=True):
            return CommandError(f"{error}; see `trimtab status` and its logs")
        case e.Unreachable():
            return CommandError(
                f"{error}: is `trimtab up` running? Another address is given with {URL_VARIABLE} and {TOKEN_VARIABLE}"
            )
        case e.BadAddress():
            return UsageError(f"{error}: check {URL_VARIABLE}")
        case e.NotTrimtab():
            return CommandError(f"{error}: check {URL_VARIABLE}")
        case _:
            return CommandError(str(error))
