"""SSH connections whose host key is known, and the SFTP channels over them."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
from paramiko.pkey import UnknownKeyType

from restore_lib.errors import ConfigError, HostKeyRefused, StoreUnavailable
from restore_lib.stores.sftp_protocol import ProtocolError, SftpChannel

TIMEOUT = 60
KEEPALIVE = 30
LOST = (OSError, EOFError, ProtocolError, paramiko.SSHException)


@dataclass(frozen=True, slots=True)
class Server:
    """Where to log in, as whom, and how both sides prove who they are.

    Without ``key_file``, the SSH agent and the user's default keys are tried.
    """

    host: str
    port: int
    user: str
    known_hosts: Path
    key_file: Path | None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


class SftpConnection:
    """A pool of SFTP channels over one SSH connection, made on first use and again when lost.

    Safe for threads: each takes a channel of its own (OpenSSH allows ten at a time by default).
    """

    def __init__(self, store: str, server: Server) -> None:
        self._store = store
        self._server = server
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None
        self._idle: list[SftpChannel] = []

    @contextlib.contextmanager
    def channel(self) -> Iterator[SftpChannel]:
        """Lend a channel; one that is not usable at the end is closed.

        Raises StoreUnavailable, HostKeyRefused (nothing was sent) or ConfigError.
        """
        channel = self._take()
        try:
            yield channel
        finally:
            with self._lock:
                if channel.reusable:
                    self._idle.append(channel)
                else:
                    channel.close()

    def close(self) -> None:
        """End the connection; a later call would make a new one."""
        with self._lock:
            self._drop()

    def _take(self) -> SftpChannel:
        with self._lock:
            if self._client is not None and not self._alive(self._client):
                self._drop()
            while self._idle:
                channel = self._idle.pop()
                if channel.reusable:
                    return channel
                channel.close()
            fresh = self._client is None
            try:
                return self._open(self._client or self._connect())
            except LOST as error:
                self._drop()
                if fresh:
                    raise self._unavailable(error) from error
            try:
                return self._open(self._connect())
            except LOST as error:
                self._drop()
                raise self._unavailable(error) from error

    def _drop(self) -> None:
        self._idle.clear()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*LOST):
                client.close()

    @staticmethod
    def _alive(client: paramiko.SSHClient) -> bool:
        transport = client.get_transport()
        return transport is not None and transport.is_active()

    @staticmethod
    def _open(client: paramiko.SSHClient) -> SftpChannel:
        transport = client.get_transport()
        if transport is None:
            raise EOFError("the connection is closed")
        channel = transport.open_session(timeout=TIMEOUT)
        channel.settimeout(TIMEOUT)
        channel.invoke_subsystem("sftp")
        return SftpChannel(channel)

    def _connect(self) -> paramiko.SSHClient:
        server = self._server
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_RefuseUnknown(server))
        self._load_known_hosts(client)
        key = self._load_key()
        try:
            client.connect(
                server.host,
                server.port,
                server.user,
                pkey=key,
                allow_agent=server.key_file is None,
                look_for_keys=server.key_file is None,
                timeout=TIMEOUT,
                banner_timeout=TIMEOUT,
                auth_timeout=TIMEOUT,
            )
        except paramiko.BadHostKeyException as error:
            client.close()
            raise HostKeyRefused(
                f"{server.host}:{server.port} shows another host key than {server.known_hosts} has."
            ) from error
        except paramiko.AuthenticationException as error:
            client.close()
            raise ConfigError(
                f"Store {self._store}: {server} does not let us in: {error}.",
                remedy="check user and key_file in tapeflow.toml, and authorized_keys there",
                store=self._store,
            ) from error
        except BaseException:
            client.close()
            raise
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(KEEPALIVE)
        self._client = client
        return client

    def _load_known_hosts(self, client: paramiko.SSHClient) -> None:
        try:
            client.load_host_keys(self._server.known_hosts)
        except (OSError, UnicodeDecodeError, paramiko.SSHException) as error:
            raise ConfigError(
                f"Store {self._store}: {self._server.known_hosts} can't be read: {error}.",
                remedy="write the server's host key there, after comparing it with its owner",
                store=self._store,
            ) from error

    def _load_key(self) -> paramiko.PKey | None:
        path = self._server.key_file
        if path is None:
            return None
        try:
            return paramiko.PKey.from_path(path)
        except (OSError, ValueError, TypeError, paramiko.SSHException, UnknownKeyType) as error:
            raise ConfigError(
                f"Store {self._store}: the key {path} can't be used: {error}.",
                remedy="give key_file an SSH private key without a passphrase, or use the agent",
                store=self._store,
            ) from error

    def _unavailable(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"Store {self._store}: {self._server} does not answer: {error or type(error).__name__}",
            store=self._store,
        )


class _RefuseUnknown(paramiko.MissingHostKeyPolicy):
    def __init__(self, server: Server) -> None:
        self._server = server

    def missing_host_key(
        self,
        client: paramiko.SSHClient,  # noqa: ARG002 - paramiko's signature
        hostname: str,
        key: paramiko.PKey,
    ) -> None:
        raise HostKeyRefused(
            f"The host key of {hostname} ({key.get_name()}) is not in {self._server.known_hosts}.",
            remedy="compare the key with the server's owner, then add it there (ssh-keyscan)",
        )
