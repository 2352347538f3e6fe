"""One installation for all tests that look at the whole app: it is started once."""

from collections.abc import Iterator

import pytest

from tests.support.whole_site import WholeSite, whole_site


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeSite]:
    with whole_site(tmp_path_factory.mktemp("whole")) as site:
        yield site
