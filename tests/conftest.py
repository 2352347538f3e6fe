"""Fixtures that more than one kind of test shares: each kind starts them at most once a session."""

from tests.support.fleet import fleet as fleet
