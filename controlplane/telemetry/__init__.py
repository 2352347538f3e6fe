"""What the fleet measured: one validated window of facts per pool and node, out of Prometheus."""
