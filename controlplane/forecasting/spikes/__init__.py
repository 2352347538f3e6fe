"""Warnings of latency spikes: load against coming capacity, scale-free features of it, and the learned risk on top."""
