import pytest
from starlette.datastructures import Headers

from controlplane.accounts.csrf import is_cross_site

HOST = {"host": "trimtab.example:8700"}


@pytest.mark.parametrize(
    ("method", "headers", "cross"),
    [
        ("POST", {"sec-fetch-site": "same-origin"}, False),
        ("POST", {"sec-fetch-site": "none"}, False),
        ("POST", {"sec-fetch-site": "same-site"}, True),
        ("POST", {"sec-fetch-site": "cross-site"}, True),
        ("DELETE", {"sec-fetch-site": "cross-site", "origin": "http://trimtab.example:8700"}, True),
        ("PUT", {"origin": "http://trimtab.example:8700"}, False),
        ("PUT", {"origin": "http://trimtab.example"}, True),
        ("PUT", {"origin": "https://evil.example"}, True),
        ("PUT", {"origin": "null"}, True),
        ("POST", {}, False),
        ("GET", {"sec-fetch-site": "cross-site"}, False),
    ],
)
def test_only_our_own_pages_may_change_things(method: str, headers: dict[str, str], cross: bool) -> None:
    assert is_cross_site(method, Headers(HOST | headers)) is cross
