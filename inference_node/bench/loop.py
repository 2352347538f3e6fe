"""The event loop of the measuring client: uvloop where it is installed, since the client shares its cores with the server."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvicorn

T = TypeVar("T")


def run_on_fast_loop(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on the loop that uvicorn prefers."""
    with asyncio.Runner(loop_factory=uvicorn.Config(app="", log_config=None).get_loop_factory()) as runner:
        return runner.run(work)
