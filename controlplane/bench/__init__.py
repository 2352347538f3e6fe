"""Benchmarks of the control plane: how well it foresees and how well it decides, on recorded traffic."""
