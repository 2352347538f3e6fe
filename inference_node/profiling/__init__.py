"""Recordings on demand: where processor time goes, and what the steps are made of."""
