"""`ETag` and `If-Match` (RFC 9110, 8.8.3 and 13.1.1): a change that was meant for what its sender saw, and for nothing else.

Sent, the condition is held; where it need not be sent, a change without it is meant for whatever is there. A tag covers what
people and the controller decide about a thing, not what it merely reports: a heartbeat must not stale everybody's view.
"""

import hashlib
import re
from typing import Annotated

from fastapi import Header

from controlplane.errors import Invalid, Stale

IfMatch = Annotated[
    str | None,
    Header(
        max_length=1000,
        description="the `ETag` of what this change was decided on; 412 when that has changed since",
    ),
]
_TAG = re.compile(r'\s*(W/)?"([\x21\x23-\x7e]*)"\s*')


def etag(*parts: object) -> str:
    """A strong tag of these values, quoted."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"'


def check(if_match: str | None, current: str, *, what: str) -> None:
    """what: names the thing in the refusal. Raises Stale, or Invalid for a header that is none. Weak tags never match."""
    if if_match is None or if_match.strip() == "*":
        return
    tags = []
    for text in if_match.split(","):
        found = _TAG.fullmatch(text)
        if found is None:
            raise Invalid(
                f'If-Match: send the `ETag` as it was answered, quotes included, like "3"; got {if_match[:40]}'
            )
        if found.group(1) is None:
            tags.append(f'"{found.group(2)}"')
    if current not in tags:
        raise Stale(f"{what} has changed since you read it: read it again, and decide anew", etag=current)
