"""Servers for peers that are libraries: a thin HTTP door (`door.py`), and behind it, in a process of its own, the engine.

Two processes, because a library that holds Python's global lock while it computes would starve a door in its own: with
OpenVINO GenAI that cost some 15 % of its throughput (docs/benchmarks.md). All files here are run by the peer's own Python, so
they import their neighbours and the standard library, and nothing else of ours.
"""
