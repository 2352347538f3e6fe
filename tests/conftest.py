"""Fixtures that more than one kind of test shares: each kind starts them at most once a session. And how tests are run."""

import pytest
from hypothesis import settings

from tests.support import one_thread as one_thread  # isort: split

from tests.support.fleet import fleet as fleet
from tests.support.measured import measured as measured
from tests.support.order import longest_first

# How long an example takes says how busy the machine is: no test fails for that.
settings.register_profile("trimtab", parent=settings(), deadline=None)
settings.load_profile("trimtab")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = longest_first(items)
