"""Fleets, pools and nodes; what is desired of each node and what it observed."""
