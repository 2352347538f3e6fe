"""The engine: schedules, runs and reports steps, and takes new settings between two of them.

`requests`, `streams`, `listener`, `errors` and `serving` load no torch; `async_engine` does.
"""
