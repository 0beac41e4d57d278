"""A real PostgreSQL server of the tests' own, from the Debian package, on loopback.

The fixtures are for all tests: tests/conftest.py loads this module as a plugin. The server listens
on loopback alone, trusts it, syncs nothing to disk, and dies with the test process.
"""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from restore_lib.catalog.engine import Catalog

_OWNER = "postgres"
_START_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "autovacuum": "off",
}


class PostgresServer:
    """One server over a data folder; ``stop`` and ``start`` keep the data.

    A folder that has data already is taken as it is. ``settings`` override those of the tests.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._settings = _SETTINGS | dict(settings or {})
        self._programs = _programs()
        self._data = folder / "data"
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self.port = _free_port()
        if not (self._data / "PG_VERSION").exists():
            self._run("initdb", "-D", self._data, "-U", _OWNER, "-A", "trust", "-E", "UTF8", "-N")

    def start(self) -> None:
        """Start, and return when it answers; a port that was taken meanwhile is changed."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                self.port = self.port if self._process is None else _free_port()
                self._process = self._spawn()
            try:
                psycopg.connect(self._conninfo("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        pytest.fail(f"PostgreSQL does not start: {self._log.read_text('utf-8', 'replace')}")

    def stop(self) -> None:
        """End it and all its connections at once, keeping the data."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)
            self._process = None

    def url(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        return f"postgresql+psycopg://{_OWNER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, template: str = "template0") -> None:
        """Make a new database like ``template``."""
        self._sql(f"CREATE DATABASE {database} TEMPLATE {template}")

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Make a new database like ``template``, give its URL, and drop it at the end."""
        name = f"test_{next(self._numbers)}"
        self.create(name, template)
        try:
            yield self.url(name)
        finally:
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _sql(self, statement: str) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={_OWNER} dbname={database}"

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        program = self._programs / "postgres"
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*_as_owner(), program, "-D", self._data, "-p", str(self.port), *settings],
                stdout=log,
                stderr=log,
                cwd=self._data,
            )

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [*_as_owner(), self._programs / program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if done.returncode:
            pytest.fail(f"{program} failed: {done.stderr}")


def _as_owner() -> list[str]:
    """PostgreSQL refuses to run as root, so root runs it as the package's own user.

    It gets SIGINT, which ends it at once, when the tests die.
    """
    owner = [f"--reuid={_OWNER}", f"--regid={_OWNER}", "--clear-groups"]
    return ["setpriv", "--pdeathsig=INT", *(owner if os.geteuid() == 0 else [])]


def _programs() -> Path:
    """Return the folder of the server's programs, installing the package as root if need be."""
    found = _installed()
    if found is None and os.geteuid() == 0:
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        packages = ["install", "--no-install-recommends", "postgresql"]
        for arguments in (packages, ["update"], packages):
            done = subprocess.run([*apt, *arguments], env=quiet, capture_output=True, check=False)
            if done.returncode == 0 and _installed():
                break
        found = _installed()
    if found is None:
        pytest.fail("The tests need PostgreSQL: install the Debian package `postgresql`.")
    return found


def _installed() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    return found[-1].parent if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server, with a database ``migrated`` that holds an empty catalog."""
    with tempfile.TemporaryDirectory(prefix="tapeflow-postgres-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, _OWNER)
        server = PostgresServer(folder)
        server.start()
        try:
            server.create("migrated")
            catalog = Catalog(server.url("migrated"))
            catalog.migrate()
            catalog.close()
            yield server
        finally:
            server.stop()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of its own, with an empty catalog in it."""
    with postgres.database("migrated") as url:
        yield url


@pytest.fixture
def empty_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of its own without any table."""
    with postgres.database() as url:
        yield url
