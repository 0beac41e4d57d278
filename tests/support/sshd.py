"""A real OpenSSH server for SFTP tests, on loopback, with keys of its own."""

import contextlib
import getpass
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from restore_lib.stores.sftp import SftpStore
from tests.support.programs import require_program

_START_SECONDS = 20.0
_PRIVILEGE_SEPARATION = Path("/run/sshd")


class Sshd:
    """One server over a folder of keys; ``stop`` ends it with all its connections."""

    def __init__(self, folder: Path) -> None:
        self._program = require_program("sshd")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.host = "127.0.0.1"
        self.user = getpass.getuser()
        self.port = free_port()
        self.key_file = self._make_key("user")
        self.known_hosts = folder / "known_hosts"
        self._host_key = self._make_key("host")
        (folder / "authorized_keys").write_bytes(self.key_file.with_suffix(".pub").read_bytes())
        self.write_known_hosts(self._host_key)

    def write_known_hosts(self, key: Path) -> None:
        """Make ``key`` the one that clients expect."""
        kind, value, *_ = key.with_suffix(".pub").read_text().split()
        self.known_hosts.write_text(f"[{self.host}]:{self.port} {kind} {value}\n")

    def make_other_key(self) -> Path:
        """Return a key that the server does not have and does not accept."""
        return self._make_key("other")

    def start(self) -> None:
        """Start, and return when it listens."""
        if os.geteuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        config = self._folder / "sshd_config"
        config.write_text(self._config())
        log = (self._folder / "sshd.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [self._program, "-D", "-e", "-f", config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(f"sshd does not start: {self.log()}")

    def stop(self) -> None:
        """Kill it and every process that serves a connection, as a power cut would."""
        if self._process is None:
            return
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=30)
        self._process = None

    def log(self) -> str:
        """Return what the server has told."""
        return (self._folder / "sshd.log").read_text("utf-8", "replace")

    def store(self, root: Path, name: str = "remote") -> SftpStore:
        """Return a store in the folder ``root`` of this server."""
        return SftpStore(
            name,
            self.host,
            self.port,
            self.user,
            str(root),
            known_hosts=self.known_hosts,
            key_file=self.key_file,
        )

    def _make_key(self, name: str) -> Path:
        path = self._folder / name
        command: list[str | Path] = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            "",
            "-f",
            path,
        ]
        subprocess.run(command, check=True)
        return path

    def _config(self) -> str:
        return (
            f"ListenAddress {self.host}\n"
            f"Port {self.port}\n"
            f"HostKey {self._host_key}\n"
            f"AuthorizedKeysFile {self._folder}/authorized_keys\n"
            "AuthenticationMethods publickey\n"
            "PermitRootLogin prohibit-password\n"
            "StrictModes no\n"
            "UsePAM no\n"
            "PidFile none\n"
            "MaxStartups 100\n"
            "Subsystem sftp internal-sftp\n"
        )


@contextlib.contextmanager
def running_sshd(folder: Path) -> Iterator[Sshd]:
    """Run a server whose keys and log are in ``folder``."""
    server = Sshd(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (*_descendants(child), child)]
