"""Requests to one control plane: the token, problem documents as errors, pages, and changes that are sent again safely.

A change carries a fresh `Idempotency-Key`, so that one whose answer was lost is sent again without happening twice. Where the
API keeps no answers (tokens, recordings) the key is left out and nothing is sent twice.
"""

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import httpx2

from controlplane.client.errors import ApiError, BadAddress, NotTrimtab, Unreachable

Json = dict[str, Any]
Query = Mapping[str, str | int | float | bool | None]
PAGE = 200
TRIES = 4
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 10.0
_AGAIN = (429, 503)


class Http:
    """Use as a context manager. url: of the control plane, without `/api/v1`. timeout_s: of one try."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_s: float = 15.0,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = url.rstrip("/")
        self._sleep = sleep
        self._http = httpx2.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
            timeout=timeout_s,
            transport=transport,
            trust_env=False,  # a proxy of the environment would be asked for loopback addresses too
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int | float | bool | None) -> Json:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Json | None = None) -> Json:
        return self.request("POST", path, body=body)

    def put(self, path: str, body: Mapping[str, Any], *, if_match: int) -> Json:
        """Replaces a versioned document; refused when its version is no longer `if_match`."""
        return self.request("PUT", path, body=body, headers={"If-Match": f'"{if_match}"'})

    def delete(self, path: str, **query: str | int | float | bool | None) -> Json:
        return self.request("DELETE", path, query=query)

    def items(self, path: str, *, limit: int, **query: str | int | float | bool | None) -> list[Any]:
        """Up to `limit` rows of a list, following its cursor."""
        return [row for row, _ in zip(self.pages(path, page=min(PAGE, limit), **query), range(limit), strict=False)]

    def pages(self, path: str, *, page: int = PAGE, **query: str | int | float | bool | None) -> Iterator[Any]:
        """Every row of a list, page by page as they are asked for."""
        cursor: str | None = None
        while True:
            document = self.get(path, **query, cursor=cursor, limit=page)
            yield from document["items"]
            cursor = document.get("next_cursor")
            if cursor is None:
                return

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
        """The answer's JSON, `{}` for none. Raises ClientError. once: not sent again, because the API would do it again."""
        sent = dict(headers or {})
        if method != "GET" and not once:
            sent["Idempotency-Key"] = str(uuid.uuid4())
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        for left in reversed(range(1 if once else TRIES)):
            try:
                response = self._http.request(method, path, params=parameters, json=body, headers=sent)
            except httpx2.TransportError as error:
                if left and _may_have_arrived(error, method):
                    self._sleep(_pause(TRIES - left))
                    continue
                raise unreachable(self.url, error) from None
            except httpx2.InvalidURL as error:
                raise BadAddress(f"{self.url!r} is no usable address ({error})") from None
            if left and response.status_code in _AGAIN:
                self._sleep(_asked_pause(response) or _pause(TRIES - left))
                continue
            return self.document(response)
        raise AssertionError("the last try returns or raises")

    def document(self, response: httpx2.Response) -> Json:
        """What an answer says. Raises ApiError, NotTrimtab."""
        if not response.is_success:
            raise self._error(response)
        if not response.content:
            return {}
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise NotTrimtab(f"{self.url} answers, but not as Trimtab does")
        return document

    def _error(self, response: httpx2.Response) -> ApiError:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        status = response.status_code
        text = str(problem.get("detail") or problem.get("title") or f"{self.url} answered with status {status}")
        fields = "; ".join(f"{row.get('field')}: {row.get('message')}" for row in problem.get("errors") or [])
        return ApiError(f"{text} ({fields})" if fields and fields not in text else text, status, problem)


def unreachable(url: str, error: httpx2.TransportError) -> Unreachable:
    if isinstance(error, httpx2.TimeoutException):
        return Unreachable(f"{url} did not answer in time", timed_out=True)
    return Unreachable(f"cannot reach Trimtab at {url} ({error})")


def _may_have_arrived(error: httpx2.TransportError, method: str) -> bool:
    """Whether a new try helps. A caller's patience is over after a read's timeout; a change's outcome is worth knowing."""
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.UnsupportedProtocol)):
        return False
    return method != "GET" or not isinstance(error, httpx2.TimeoutException)


def _pause(tried: int) -> float:
    """Seconds before the next try: doubled each time, with full jitter so that clients do not come back together."""
    return random.uniform(0.5, 1.0) * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (tried - 1))


def _asked_pause(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(LONGEST_PAUSE_S, float(text)) if text.isascii() and text.isdigit() else None
