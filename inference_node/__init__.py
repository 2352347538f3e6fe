"""One model on one machine: serves tokens, reports metrics, takes new settings while running.

Importing this package loads no torch; the heavy parts load when they are named.
"""
