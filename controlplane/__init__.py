"""Knows the fleet, foresees load, decides settings, and rolls them out with care."""
