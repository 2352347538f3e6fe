"""Whether a browser sent a request because one of our own pages asked it to.

Rule: Fetch Metadata (W3C Working Draft "Fetch Metadata Request Headers", `Sec-Fetch-Site`), and where a browser does not send
it, the Origin header compared with the host. A request with neither comes from no browser and carries no ambient cookie.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def is_cross_site(method: str, headers: Headers) -> bool:
    """Whether a method that may change things was set off by a foreign page."""
    if method in SAFE_METHODS:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")
    if origin is None:
        return False
    return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
