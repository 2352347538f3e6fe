"""One installation for the tests of a file that look at the whole app.

Not for a whole session: an open browser of Playwright keeps an event loop running, in which no asynchronous test of another
file can run.
"""

from collections.abc import Iterator

import pytest

from tests.support.whole_site import WholeSite, whole_site


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeSite]:
    with whole_site(tmp_path_factory.mktemp("whole")) as site:
        yield site
