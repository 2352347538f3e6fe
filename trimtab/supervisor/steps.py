"""A program that runs once during the start and whose outcome is waited for; cancelling the wait ends the program."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trimtab.supervisor.children import kill_group, launched


@dataclass(frozen=True, slots=True)
class Outcome:
    code: int
    out: str
    err: str


async def run_step(
    *command: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Outcome:
    """Runs `command` to its end. on_line gets each line of its standard error as it comes."""
    process = await asyncio.create_subprocess_exec(
        *launched(command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=None if env is None else dict(env),
        cwd=cwd,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines: list[str] = []
    reading = asyncio.create_task(process.stdout.read())
    try:
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            lines.append(line)
            if on_line is not None and line:
                on_line(line)
        out = await reading
        code = await process.wait()
    except asyncio.CancelledError:
        reading.cancel()
        kill_group(process.pid)
        await process.wait()
        raise
    return Outcome(code, out.decode(errors="replace"), "\n".join(lines))
