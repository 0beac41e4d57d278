import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.catalog.requests import Outcome
from restore_lib.errors import DigestMismatch, DiskFull, KeyUnusable, ObjectUnreadable
from restore_lib.model.states import ItemState, Overwrite, Way
from restore_lib.restore.publish import Publisher
from restore_lib.stores.aside import Aside
from restore_lib.stores.local import LocalStore
from restore_lib.stores.local_group import LocalGroup
from restore_lib.tape.age import Identity, Recipients, encrypt, load_identities, new_identity
from tests.support.sites import digests, write_files

AT = datetime(2020, 5, 6, 7, 8, 9, tzinfo=UTC)


class Desk:
    """A target store, an alternate one, and objects as they lie on tape."""

    def __init__(self, folder: Path) -> None:
        self.out, self.shop, self.staging = folder / "out", folder / "shop", folder / "staging"
        self.staging.mkdir()
        self.target = LocalStore("out", self.out, create=True)
        self.alternate = LocalStore("shop", self.shop, create=True)
        text, recipient = new_identity()
        (folder / "key").write_text(text)
        self.identities = load_identities(folder / "key")
        self.recipients = Recipients.parse([recipient])

    def publisher(
        self, overwrite: Overwrite = Overwrite.NEVER, identities: list[Identity] | None = None
    ) -> Publisher:
        keys = self.identities if identities is None else identities
        return Publisher(self.target, overwrite, keys, self.staging)

    def payload(self, data: bytes, part: int = 1) -> tuple[BatchExtent, bytes]:
        sealed = encrypt(data, self.recipients)
        extent = BatchExtent(
            part,
            1,
            0,
            "V00001",
            "set",
            "objects/00000000.age",
            512,
            len(data),
            hashlib.sha256(data).hexdigest(),
            len(sealed),
            hashlib.sha256(sealed).hexdigest(),
        )
        return extent, sealed


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def item(data: bytes | None, key: bytes = b"a/b", **values: Any) -> BatchItem:
    fields: dict[str, Any] = {
        "id": 7,
        "attempts": 0,
        "key": key,
        "size": None if data is None else len(data),
        "sha256": None if data is None else hashlib.sha256(data).hexdigest(),
        "modified_at": AT,
        "content_type": None,
        "metadata": {"mode": "0640"},
        "extents": (),
    }
    return BatchItem(**(fields | values))


def publish(
    publisher: Publisher,
    wanted: BatchItem,
    *payloads: tuple[BatchExtent, bytes],
    way: Way = Way.TAPE,
    meanwhile: Callable[[], None] = lambda: None,
) -> Outcome:
    """Bring one object back; ``meanwhile`` happens while it is read."""
    sealed = {extent.part: data for extent, data in payloads}

    def read(extent: BatchExtent) -> Iterator[bytes]:
        meanwhile()
        data = sealed[extent.part]
        return (data[start : start + 4096] for start in range(0, len(data), 4096))

    with publisher:
        extents = tuple(extent for extent, _ in payloads)
        publisher.add(replace(wanted, extents=extents), read, way)
        [(found, outcome)] = publisher.finish()
        assert found.id == wanted.id
        assert publisher.finish() == []
    return outcome


def test_a_verified_object_appears_with_its_time_and_mode(desk: Desk) -> None:
    outcome = publish(desk.publisher(), item(b"hello"), desk.payload(b"hello"))
    assert (outcome.item_id, outcome.state, outcome.way) == (7, ItemState.RESTORED, Way.TAPE)
    path = desk.out / "a" / "b"
    assert path.read_bytes() == b"hello"
    assert path.stat().st_mtime == AT.timestamp()
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_came_to_stand_there_during_the_read_is_kept(desk: Desk) -> None:
    def newer() -> None:
        write_files(desk.out, {b"a/b": b"newer work"})

    publisher = desk.publisher()
    assert publisher.standing(item(b"hello")) is None
    outcome = publish(publisher, item(b"hello"), desk.payload(b"hello"), meanwhile=newer)
    assert outcome.state is ItemState.KEPT
    assert (desk.out / "a" / "b").read_bytes() == b"newer work"


def test_an_object_in_parts_is_put_together(desk: Desk) -> None:
    parts = [os.urandom(100), os.urandom(200), b""]
    whole = b"".join(parts)
    payloads = [desk.payload(data, n) for n, data in enumerate(parts, 1)]
    assert publish(desk.publisher(), item(whole), *payloads, way=Way.PARITY).way is Way.PARITY
    assert (desk.out / "a" / "b").read_bytes() == whole


def test_a_large_object_passes_through_in_bounded_memory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest: list[int] = []

    write = Aside.write

    def noted(file: Aside, offset: int, data: bytes) -> None:
        largest.append(len(data))
        write(file, offset, data)

    monkeypatch.setattr(Aside, "write", noted)
    parts = [os.urandom(9 << 20), os.urandom(1 << 20)]
    payloads = [desk.payload(data, n) for n, data in enumerate(parts, 1)]
    publish(desk.publisher(), item(b"".join(parts)), *payloads)
    assert digests(desk.out) == {b"a/b": hashlib.sha256(b"".join(parts)).hexdigest()}
    assert max(largest) <= 1 << 20
    assert list(desk.staging.iterdir()) == []


def test_a_group_is_full_by_count_or_by_size(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restore_lib.restore.publish._GROUP_OBJECTS", 3)
    monkeypatch.setattr("restore_lib.restore.publish._GROUP_BYTES", 1000)
    extent, sealed = desk.payload(b"x" * 400)
    with desk.publisher() as publisher:
        full = []
        for number in range(6):
            wanted = item(b"x" * 400, key=b"%d" % number, extents=(extent,), id=number)
            publisher.add(wanted, lambda _: [sealed], Way.TAPE)
            full.append(publisher.full)
            if number == 2:
                assert [found.id for found, _ in publisher.finish()] == [0, 1, 2]
        assert full == [False, False, True] * 2
        for number in range(3):
            publisher.add(item(b"", key=b"0%d" % number), lambda _: [], Way.TAPE)
        assert publisher.full
    assert set(digests(desk.out)) == {b"0", b"1", b"2"}


def test_what_is_refused_when_it_gets_its_name_fails_by_name(desk: Desk) -> None:
    write_files(desk.out, {b"a/b/c": b"in the way"})
    outcome = publish(desk.publisher(), item(b"hello"), desk.payload(b"hello"))
    assert (outcome.state, outcome.error_code) == (ItemState.FAILED, "object_name_refused")


@pytest.mark.parametrize("size", [5, 9 << 20])
def test_bytes_that_are_right_when_read_again_are_to_be_tried_again(desk: Desk, size: int) -> None:
    data = os.urandom(size)
    extent, sealed = desk.payload(data)
    reads: list[bytes] = [sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed]
    with desk.publisher() as publisher:
        publisher.add(item(data, extents=(extent,)), lambda _: [reads.pop(0)], Way.TAPE)
        [(_, outcome)] = publisher.finish()
    assert outcome.state is ItemState.PENDING
    assert digests(desk.out) == {}


@pytest.mark.parametrize("size", [500, 9 << 20])
@pytest.mark.parametrize("place", [0, 100, -1])
def test_damaged_bytes_are_never_published(desk: Desk, place: int, size: int) -> None:
    data = os.urandom(size)
    extent, sealed = desk.payload(data)
    damaged = bytearray(sealed)
    damaged[place] ^= 1
    with pytest.raises(DigestMismatch):
        publish(desk.publisher(), item(data), (extent, bytes(damaged)))
    assert digests(desk.out) == {}


def test_without_a_key_that_opens_it_nothing_is_published(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(new_identity()[0])
    publisher = desk.publisher(identities=load_identities(tmp_path / "other"))
    with pytest.raises(KeyUnusable):
        publish(publisher, item(b"hello"), desk.payload(b"hello"))
    assert digests(desk.out) == {}


def test_parts_that_are_not_the_whole_object_are_to_be_tried_again(desk: Desk) -> None:
    payloads = desk.payload(b"one"), desk.payload(b"two", 2)
    outcome = publish(desk.publisher(), item(b"onetwx"), *payloads)
    assert (outcome.state, outcome.error_code) == (ItemState.PENDING, "digest_mismatch")
    assert digests(desk.out) == {}


@pytest.mark.parametrize("overwrite", list(Overwrite))
def test_a_name_that_the_target_cant_hold_fails_by_name(desk: Desk, overwrite: Overwrite) -> None:
    publisher = desk.publisher(overwrite)
    hostile = item(b"x", key=b"../outside")
    outcome = publisher.standing(hostile) or publish(publisher, hostile, desk.payload(b"x"))
    assert (outcome.state, outcome.error_code) == (ItemState.FAILED, "object_name_refused")
    assert "../outside" in (outcome.error or "")
    assert not (desk.out.parent / "outside").exists()


@pytest.mark.parametrize(
    ("overwrite", "there", "state"),
    [
        (Overwrite.NEVER, None, None),
        (Overwrite.NEVER, b"same", ItemState.RESTORED),
        (Overwrite.NEVER, b"diff", ItemState.KEPT),
        (Overwrite.NEVER, b"longer", ItemState.KEPT),
        (Overwrite.IF_DIFFERENT, b"same", ItemState.RESTORED),
        (Overwrite.IF_DIFFERENT, b"diff", None),
        (Overwrite.ALWAYS, b"same", None),
        (Overwrite.ALWAYS, b"diff", None),
    ],
)
def test_what_stands_at_the_target_is_verified_kept_or_replaced(
    desk: Desk, overwrite: Overwrite, there: bytes | None, state: ItemState | None
) -> None:
    if there is not None:
        write_files(desk.out, {b"a/b": there})
    outcome = desk.publisher(overwrite).standing(item(b"same"))
    assert (outcome and outcome.state) == state
    if state is ItemState.RESTORED:
        assert outcome is not None
        assert outcome.way is Way.PRESENT


def test_an_object_is_copied_from_an_alternate_store(desk: Desk) -> None:
    write_files(desk.shop, {b"a/b": b"original"})
    outcome = desk.publisher().copy(item(None, modified_at=None), desk.alternate)
    assert outcome is not None
    assert (outcome.state, outcome.way) == (ItemState.RESTORED, Way.ALTERNATE)
    assert (desk.out / "a" / "b").read_bytes() == b"original"


def test_copied_again_after_a_crash_it_is_verified_where_it_stands(desk: Desk) -> None:
    write_files(desk.shop, {b"a/b": b"original"})
    unknown = item(None, modified_at=None)
    desk.publisher().copy(unknown, desk.alternate)
    assert desk.publisher().standing(unknown) is None
    outcome = desk.publisher().copy(unknown, desk.alternate)
    assert outcome is not None
    assert (outcome.state, outcome.way) == (ItemState.RESTORED, Way.PRESENT)


@pytest.mark.parametrize("comes", ["meanwhile", "before", "never"])
def test_what_stands_there_is_made_safe_before_it_counts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, comes: str
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(LocalStore, "secure", lambda store: calls.append(store.name))

    def come() -> None:
        write_files(desk.out, {b"a/b": b"hello"})

    if comes == "before":
        write_files(desk.shop, {b"a/b": b"hello"})
        come()
        outcome = desk.publisher().copy(item(None), desk.alternate)
    else:
        meanwhile = come if comes == "meanwhile" else lambda: None
        payload = desk.payload(b"hello")
        outcome = publish(desk.publisher(), item(b"hello"), payload, meanwhile=meanwhile)
    assert outcome is not None
    assert outcome.state is ItemState.RESTORED
    assert calls == ([] if comes == "never" else ["out"])


def test_what_stands_there_is_not_replaced_by_an_alternate(desk: Desk) -> None:
    write_files(desk.shop, {b"a/b": b"original"})
    write_files(desk.out, {b"a/b": b"newer"})
    kept = desk.publisher().copy(item(None), desk.alternate)
    assert kept is not None
    assert kept.state is ItemState.KEPT
    replaced = desk.publisher(Overwrite.IF_DIFFERENT).copy(item(None), desk.alternate)
    assert replaced is not None
    assert (desk.out / "a" / "b").read_bytes() == b"original"


@pytest.mark.parametrize("wrong", [b"another", b"anothers"])
def test_an_alternate_of_another_content_is_passed_over(desk: Desk, wrong: bytes) -> None:
    write_files(desk.shop, {b"a/b": wrong})
    assert desk.publisher().copy(item(b"content"), desk.alternate) is None
    assert desk.publisher().copy(item(b"content", size=None), desk.alternate) is None
    assert digests(desk.out) == {}


def test_an_alternate_without_the_object_or_its_name_is_passed_over(desk: Desk) -> None:
    assert desk.publisher().copy(item(None), desk.alternate) is None
    assert desk.publisher().copy(item(None, key=b"../x"), desk.alternate) is None


def test_an_alternate_that_cant_be_read_raises(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(desk.shop, {b"a/b": b"1"})
    head = LocalStore.head

    def vanishing(self: LocalStore, key: bytes) -> object:
        found = head(self, key)
        (desk.shop / "a" / "b").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(LocalStore, "head", vanishing)
    with pytest.raises(ObjectUnreadable):
        desk.publisher().copy(item(None), desk.alternate)


def test_a_full_staging_disk_is_named(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> io.BufferedWriter:
        return Path("/dev/full").open("wb", buffering=0)  # type: ignore[return-value]  # any file

    write_files(desk.shop, {b"a/b": b"original"})
    monkeypatch.setattr("tempfile.SpooledTemporaryFile", full)
    with pytest.raises(DiskFull, match="staging"):
        desk.publisher().copy(item(None), desk.alternate)


def test_metadata_are_handed_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    add = LocalGroup.add

    def noted(self: LocalGroup, key: bytes, chunks: Iterable[bytes], **values: Any) -> None:
        seen.update(values)
        add(self, key, chunks, **values)

    monkeypatch.setattr(LocalGroup, "add", noted)
    wanted: Mapping[str, str] = {"x": "y"}
    described = item(b"hello", content_type="text/plain", metadata=wanted)
    publish(desk.publisher(), described, desk.payload(b"hello"))
    assert (seen["content_type"], seen["metadata"], seen["modified_at"]) == (
        "text/plain",
        wanted,
        AT,
    )
