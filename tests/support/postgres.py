"""A real PostgreSQL for tests: `TRIMTAB_TEST_DATABASE_URL` (its user may create databases), or Debian's on a free port."""

import os
import pwd
import shutil
import signal
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
from tests.support.ports import free_port

ENVIRONMENT = "TRIMTAB_TEST_DATABASE_URL"
START_TIMEOUT_S = 60.0


class PostgresServer:
    """A fresh one on a fixed free port, started when made. `kill()` and `start()` again as a test needs; `close()` at the end."""

    def __init__(self, binaries: Path) -> None:
        self._binaries, self._user = binaries, _user()
        self._folder = Path(mkdtemp(prefix="trimtab-pg-"))
        self._server: subprocess.Popen[bytes] | None = None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        initdb: list[str | Path] = [binaries / "initdb", "-D", self._folder / "data", "-U", "trimtab"]
        initdb += ["--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, user=self._user, cwd=self._folder, stdout=subprocess.DEVNULL)
        self._port = free_port()
        self.url = f"postgresql+psycopg://trimtab@127.0.0.1:{self._port}/postgres"
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        # Without fsync a power cut would lose data, which here is made anew each time; a killed process loses nothing.
        options = [
            "fsync=off",
            "full_page_writes=off",
            "listen_addresses=127.0.0.1",
            f"port={self._port}",
            "max_connections=120",
        ]
        command: list[str | Path] = [self._binaries / "postgres", "-D", self._folder / "data", "-k", self._folder]
        command += [part for option in options for part in ("-c", option)]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, user=self._user, cwd=self._folder, stdout=log, stderr=log)
        _wait_until_it_answers(self.url, self._server, self._folder / "log")

    def kill(self) -> None:
        """SIGKILL to the server itself: its other processes see that and end, and the next start recovers from its log."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def close(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGINT)  # "fast shutdown": breaks connections off
            self._server.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)


def killable_postgres() -> PostgresServer:
    """Skips the test, naming the reason, where there is no PostgreSQL."""
    binaries = _binaries()
    if binaries is None:
        pytest.skip(f"no PostgreSQL here: install Debian's package postgresql, or set {ENVIRONMENT}")
    return PostgresServer(binaries)


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of a server's maintenance database. Skips the test, naming the reason, where there is no PostgreSQL."""
    given = os.environ.get(ENVIRONMENT)
    if given:
        yield given
        return
    server = killable_postgres()
    try:
        yield server.url
    finally:
        server.close()


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
