import pytest

from controlplane.errors import Invalid, Stale
from controlplane.preconditions import check, etag

NOW = etag("a", 1)


def test_a_tag_says_whether_anything_differs() -> None:
    assert etag("a", 1) == NOW != etag("a", 2)
    assert NOW.startswith('"')


@pytest.mark.parametrize("sent", [None, "*", " * ", NOW, f'"other", {NOW}', f'{NOW} ,W/"x"'])
def test_what_matches_passes(sent: str | None) -> None:
    check(sent, NOW, what="the rollout")


@pytest.mark.parametrize("sent", ['"other"', f"W/{NOW}", '""', '"a","b"'])
def test_what_does_not_is_stale_and_hears_the_tag_of_now(sent: str) -> None:
    with pytest.raises(Stale, match="the rollout has changed since") as refused:
        check(sent, NOW, what="the rollout")
    assert refused.value.extra == {"etag": NOW}


@pytest.mark.parametrize("sent", ["", "3", '"a', 'w/"a"', f"{NOW},", '"a" "b"'])
def test_what_is_no_tag_is_refused(sent: str) -> None:
    with pytest.raises(Invalid, match="If-Match"):
        check(sent, NOW, what="the rollout")
