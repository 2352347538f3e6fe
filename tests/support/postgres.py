"""A real PostgreSQL for tests: `TRIMTAB_TEST_DATABASE_URL` (its user may create databases), or Debian's on a free port."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest
from sqlalchemy import URL, make_url, text

from controlplane.db import make_engine

ENVIRONMENT = "TRIMTAB_TEST_DATABASE_URL"
START_TIMEOUT_S = 60.0


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of a server's maintenance database. Skips the test, naming the reason, where there is no PostgreSQL."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        yield given
        return
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL here: install Debian's package postgresql, or set {ENVIRONMENT}")
    user = _user()
    folder = Path(mkdtemp(prefix="trimtab-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    server: subprocess.Popen[bytes] | None = None
    try:
        # Without fsync a power cut would lose data, which here is made anew each time.
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            folder / "data",
            "-U",
            "trimtab",
            "--auth=trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)
        port = free_port()
        options = [
            "fsync=off",
            "full_page_writes=off",
            "listen_addresses=127.0.0.1",
            f"port={port}",
            "max_connections=120",
        ]
        command: list[str | Path] = [binaries / "postgres", "-D", folder / "data", "-k", folder]
        command += [part for option in options for part in ("-c", option)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, user=user, cwd=folder, stdout=log, stderr=log)
        url = f"postgresql+psycopg://trimtab@127.0.0.1:{port}/postgres"
        _wait_until_it_answers(url, server, folder / "log")
        yield url
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)  # "fast shutdown": breaks connections off
            server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def fresh_database(server_url: str) -> Iterator[str]:
    """A database of its own on the server, dropped afterwards."""
    name = f"t_{uuid4().hex}"
    _run(server_url, f'CREATE DATABASE "{name}"')
    try:
        yield _on(server_url, name).render_as_string(hide_password=False)
    finally:
        _run(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


def _on(server_url: str, database: str) -> URL:
    return make_url(server_url).set(database=database)


def _run(server_url: str, statement: str) -> None:
    engine = make_engine(server_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    engine.dispose()


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return None if on_path is None else Path(on_path).resolve().parent


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _wait_until_it_answers(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            _run(url, "SELECT 1")
            return
        except Exception as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not answer ({error}): {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
