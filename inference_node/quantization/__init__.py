"""Narrower weight formats and their products."""
