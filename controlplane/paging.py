"""Lists in pages: the next one stands in the body as `next_cursor`, and as a link in the header (RFC 8288)."""

from collections.abc import Sequence
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from controlplane.schemas import Page

T = TypeVar("T")

LimitOrAll = Annotated[int | None, Query(ge=1, le=200, description="how many items at most; absent: all there are")]


class Paging:
    """Makes the answer of one request to a list."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request, self._response = request, response

    def page(self, items: Sequence[T], next_cursor: str | None) -> Page[T]:
        """next_cursor: None at the end."""
        if next_cursor is not None:
            query = {**dict(self._request.query_params), "cursor": next_cursor}
            # Relative: what host and scheme this has for the caller, a proxy before us knows better.
            self._response.headers["Link"] = f'<{self._request.url.path}?{urlencode(query)}>; rel="next"'
        return Page(items=list(items), next_cursor=next_cursor)


async def _paging(request: Request, response: Response) -> Paging:
    return Paging(request, response)


Paged = Annotated[Paging, Depends(_paging)]
