"""A small client of the REST API: JSON in, JSON out, and one clear error for whatever goes wrong."""

from types import TracebackType
from typing import Any, Self

import httpx2

from trimtab.connection import TOKEN_VARIABLE, URL_VARIABLE, Connection
from trimtab.errors import CommandError, UsageError

Json = dict[str, Any]
Query = dict[str, str | int | bool | None]
PAGE = 200


class ApiError(CommandError):
    """The API refused; `status` is HTTP's, `problem` its problem+json document."""

    def __init__(self, text: str, status: int, problem: Json) -> None:
        super().__init__(text)
        self.status, self.problem = status, problem
        # 4xx is what the same input gets again, save for conflicts and limits, which time may heal.
        self.exit_code = UsageError.exit_code if status in (400, 404, 422) else CommandError.exit_code


class ApiClient:
    """Bound to one control plane. Use as a context manager; every call raises CommandError with a text for people."""

    def __init__(
        self, connection: Connection, *, timeout_s: float = 15.0, transport: httpx2.BaseTransport | None = None
    ) -> None:
        self._url = connection.url
        self._http = httpx2.Client(
            base_url=f"{connection.url}/api/v1",
            headers={"Authorization": f"Bearer {connection.token}", "Accept": "application/json"},
            timeout=timeout_s,
            transport=transport,
            trust_env=False,  # a proxy of the environment would be asked for loopback addresses too
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: str | int | bool | None) -> Json:
        return self._call("GET", path, query=query)

    def post(self, path: str, body: Json | None = None) -> Json:
        return self._call("POST", path, body=body)

    def put(self, path: str, body: Json, *, if_match: int) -> Json:
        """Replaces a versioned document; refused when its version is no longer `if_match`."""
        return self._call("PUT", path, body=body, headers={"If-Match": f'"{if_match}"'})

    def items(self, path: str, *, limit: int, **query: str | int | bool | None) -> list[Json]:
        """Up to `limit` rows of a list, following its cursor."""
        rows: list[Json] = []
        cursor: str | None = None
        while len(rows) < limit:
            page = self.get(path, **query, cursor=cursor, limit=min(PAGE, limit - len(rows)))
            rows += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        return rows[:limit]

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
    ) -> Json:
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = self._http.request(method, path, params=parameters, json=body, headers=headers)
        except httpx2.TimeoutException:
            raise CommandError(f"{self._url} did not answer in time; see `trimtab status` and its logs") from None
        except httpx2.TransportError as error:
            raise CommandError(
                f"cannot reach Trimtab at {self._url} ({error}): is `trimtab up` running? "
                f"Another address is given with {URL_VARIABLE} and {TOKEN_VARIABLE}"
            ) from None
        except httpx2.InvalidURL as error:
            raise UsageError(f"{self._url!r} is no usable address ({error}): check {URL_VARIABLE}") from None
        if response.is_success:
            return self._document(response)
        raise self._error(response)

    def _document(self, response: httpx2.Response) -> Json:
        if not response.content:
            return {}
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CommandError(f"{self._url} answers, but not as Trimtab does: check {URL_VARIABLE}")
        return document

    def _error(self, response: httpx2.Response) -> ApiError:
        try:
            problem = response.json()
        except ValueError:
            problem = {}
        if not isinstance(problem, dict):
            problem = {}
        status = response.status_code
        if status == httpx2.codes.UNAUTHORIZED:
            return ApiError(
                f"{self._url} does not know this token: check {TOKEN_VARIABLE}, or the data folder", status, problem
            )
        text = str(problem.get("detail") or problem.get("title") or f"{self._url} answered with status {status}")
        fields = "; ".join(f"{row.get('field')}: {row.get('message')}" for row in problem.get("errors") or [])
        return ApiError(f"{text} ({fields})" if fields else text, status, problem)
