"""Work that a server repeats beside its requests."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)


async def repeat(name: str, period_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` every `period_s` until cancelled. What it raises is logged once per change, never the end of it."""
    failing = False
    while True:
        try:
            await work()
        except Exception as error:
            if not failing:
                log.exception("background_work_failing", work=name, error=str(error))
            failing = True
        else:
            if failing:
                log.info("background_work_recovered", work=name)
            failing = False
        await asyncio.sleep(period_s)
