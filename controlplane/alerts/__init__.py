"""Alerts that others raise about our pools, what we do about them, and what is taken back when they end."""
