"""What a folder on an SSH server keeps beyond what every store keeps."""

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restore_lib.errors import (
    ConfigError,
    DiskFull,
    HostKeyRefused,
    ObjectNameRefused,
    ObjectUnreadable,
    Refused,
    StoreUnavailable,
)
from restore_lib.stores import sftp_protocol
from restore_lib.stores.sftp import SftpStore
from restore_lib.stores.sftp_protocol import SftpChannel
from tests.stores.conftest import failing, get, keys, made_old, noise, put, small_disk
from tests.support.sshd import Sshd, free_port


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def store(sshd: Sshd, root: Path) -> Iterator[SftpStore]:
    with contextlib.closing(sshd.store(root)) as opened:
        yield opened


@pytest.fixture
def own_store(own_sshd: Sshd, root: Path) -> Iterator[SftpStore]:
    with contextlib.closing(own_sshd.store(root)) as opened:
        yield opened


def test_an_unknown_host_is_refused(own_sshd: Sshd, own_store: SftpStore) -> None:
    own_sshd.known_hosts.write_text("")
    with pytest.raises(HostKeyRefused, match=r"127\.0\.0\.1"):
        put(own_store, b"key")
    assert "Accepted publickey" not in own_sshd.log()


def test_a_host_with_another_key_is_refused(own_sshd: Sshd, own_store: SftpStore) -> None:
    own_sshd.write_known_hosts(own_sshd.make_other_key())
    with pytest.raises(HostKeyRefused, match="another host key"):
        keys(own_store)
    assert "Accepted publickey" not in own_sshd.log()


def test_a_key_that_the_server_does_not_take(own_sshd: Sshd, root: Path) -> None:
    own_sshd.key_file = own_sshd.make_other_key()
    with pytest.raises(ConfigError, match="does not let us in"):
        keys(own_sshd.store(root))


@pytest.mark.parametrize("content", [None, "no key", ""])
def test_a_key_file_that_is_none(
    own_sshd: Sshd, root: Path, tmp_path: Path, content: str | None
) -> None:
    own_sshd.key_file = tmp_path / "key"
    if content is not None:
        own_sshd.key_file.write_text(content)
    with pytest.raises(ConfigError, match=str(own_sshd.key_file)):
        keys(own_sshd.store(root))


def test_known_hosts_that_are_missing(own_sshd: Sshd, own_store: SftpStore) -> None:
    own_sshd.known_hosts.unlink()
    with pytest.raises(ConfigError, match="known_hosts"):
        keys(own_store)


def test_a_server_that_is_not_there(sshd: Sshd, root: Path) -> None:
    store = SftpStore(
        "gone",
        "127.0.0.1",
        free_port(),
        sshd.user,
        str(root),
        known_hosts=sshd.known_hosts,
        key_file=sshd.key_file,
    )
    with pytest.raises(StoreUnavailable, match="gone"):
        keys(store)


def test_a_server_that_dies_and_comes_back(own_sshd: Sshd, own_store: SftpStore) -> None:
    data = noise(6_000_000)
    put(own_store, b"key", data)

    def read() -> None:
        with own_store.open(b"key") as stream:
            stream.read(10)
            own_sshd.stop()
            stream.read()

    with pytest.raises(StoreUnavailable):
        read()
    with pytest.raises(StoreUnavailable):
        keys(own_store)
    own_sshd.start()
    assert get(own_store, b"key") == data


def test_a_server_that_dies_during_a_put(own_sshd: Sshd, own_store: SftpStore, root: Path) -> None:
    put(own_store, b"key", b"old")

    def chunks() -> Iterator[bytes]:
        yield noise(3_000_000)
        own_sshd.stop()
        yield noise(3_000_000)

    with pytest.raises(StoreUnavailable):
        own_store.put(b"key", chunks(), size=6_000_000, sha256="0" * 64)
    (leftover,) = (root / ".tapeflow-tmp").iterdir()
    own_sshd.start()
    assert keys(own_store) == [b"key"]
    assert get(own_store, b"key") == b"old"
    put(own_store, b"key", b"new")
    assert leftover.exists()
    leftover = made_old(leftover)
    with contextlib.closing(own_sshd.store(root)) as later:
        put(later, b"key", b"newer")
    assert not leftover.exists()


def test_a_restart_between_two_calls_goes_unnoticed(own_sshd: Sshd, own_store: SftpStore) -> None:
    put(own_store, b"key", b"data")
    own_sshd.stop()
    own_sshd.start()
    for _ in range(2):
        with contextlib.suppress(StoreUnavailable):
            assert get(own_store, b"key") == b"data"
            return
    pytest.fail("the connection was not made again")


def test_a_root_that_is_not_there_is_not_an_empty_store(sshd: Sshd, tmp_path: Path) -> None:
    with contextlib.closing(sshd.store(tmp_path / "unmounted")) as store:
        for use in (
            lambda: keys(store),
            lambda: store.head(b"key"),
            lambda: get(store, b"key"),
            lambda: put(store, b"key"),
            lambda: store.delete(b"key"),
        ):
            with pytest.raises(StoreUnavailable, match="unmounted"):
                use()
    assert not (tmp_path / "unmounted").exists()


def test_times_and_modes_come_back(store: SftpStore) -> None:
    moment = datetime(2012, 3, 4, 5, 6, 7, 890000, tzinfo=UTC)
    put(store, b"key", modified_at=moment, metadata={"mode": "0751"})
    (found,) = store.list()
    assert found.modified_at == moment.replace(microsecond=0)
    assert found.metadata == {"mode": "0751"}
    put(store, b"old", modified_at=datetime(1950, 1, 1, tzinfo=UTC))


def test_links_and_special_files_are_no_objects(
    store: SftpStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    os.mkfifo(root / "fifo")
    assert keys(store) == []
    for key in (b"link/secret", b"file", b"fifo"):
        assert store.head(key) is None
        with pytest.raises(ObjectUnreadable):
            get(store, key)
        store.delete(key)
    for key in (b"link/new", b"link/secret", b"file/below"):
        with pytest.raises(ObjectNameRefused):
            put(store, key)
    put(store, b"file", b"mine")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_bytes() == b"secret"
    assert get(store, b"file") == b"mine"


def test_a_sweep_leaves_an_old_object_that_is_about_to_get_its_name(
    store: SftpStore, sshd: Sshd, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = SftpStore._publish

    def meanwhile(self: SftpStore, *args: Any) -> None:
        if self is store:
            other = sshd.store(root)
            put(other, b"other")
            other.close()
        publish(self, *args)

    monkeypatch.setattr(SftpStore, "_publish", meanwhile)
    put(store, b"key", modified_at=datetime(2012, 1, 1, tzinfo=UTC))
    assert keys(store) == [b"key", b"other"]


def test_a_planted_temporary_folder_is_not_followed(
    store: SftpStore, root: Path, tmp_path: Path
) -> None:
    (root / ".tapeflow-tmp").symlink_to(tmp_path)
    with pytest.raises(Refused, match="tapeflow-tmp"):
        put(store, b"key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_a_folder_in_the_place_of_a_file(store: SftpStore) -> None:
    put(store, b"folder/key")
    with pytest.raises(ObjectNameRefused):
        put(store, b"folder")
    with pytest.raises(ObjectNameRefused):
        put(store, b"folder/key/below")
    assert keys(store) == [b"folder/key"]


def test_a_path_that_is_too_long_for_the_server(store: SftpStore) -> None:
    key = b"/".join([b"x" * 200] * 30)
    with pytest.raises(ObjectNameRefused):
        put(store, key)


def test_a_file_that_changes_while_it_is_read(store: SftpStore, root: Path) -> None:
    put(store, b"key", noise(6_000_000))

    def read() -> None:
        with store.open(b"key") as stream:
            stream.read(100)
            (root / "key").write_bytes(b"short")
            stream.read()

    with pytest.raises(ObjectUnreadable, match="changed"):
        read()
    assert get(store, b"key") == b"short"


def test_a_full_disk(sshd: Sshd, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk, contextlib.closing(sshd.store(disk)) as store:
        put(store, b"key", b"old")
        with pytest.raises(DiskFull, match="disk"):
            put(store, b"key", noise(5_000_000))
        assert get(store, b"key") == b"old"
        put(store, b"other", noise(400_000))
        assert keys(store) == [b"key", b"other"]


def test_a_server_without_extensions_replaces_nothing(
    store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SftpChannel, "offers", lambda channel, extension: False)
    put(store, b"a/key", b"old")
    with pytest.raises(Refused, match="a/key"):
        put(store, b"a/key", b"new")
    assert get(store, b"a/key") == b"old"
    store.delete(b"a/key")
    put(store, b"a/key", b"new")
    assert get(store, b"a/key") == b"new"


def test_answers_that_are_short_are_asked_for_again(
    store: SftpStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(3_000_000)
    put(store, b"key", data)
    monkeypatch.setattr(sftp_protocol, "BLOCK", 300_000)
    assert get(store, b"key") == data


def test_channels_are_used_again(store: SftpStore, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    greet = SftpChannel._greet

    def counted(channel: SftpChannel) -> frozenset[bytes]:
        opened.append(channel)
        return greet(channel)

    monkeypatch.setattr(SftpChannel, "_greet", counted)
    for number in range(20):
        put(store, b"%d" % number)
        with pytest.raises(ValueError, match="source"):
            store.put(b"x", failing(b"x", ValueError("source")), size=9, sha256="0" * 64)
        get(store, b"%d" % number)
    keys(store)
    assert len(opened) < 25
