import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog.batches import BatchExtent, BatchItem
from restore_lib.errors import DigestMismatch, DiskFull, KeyUnusable, ObjectUnreadable
from restore_lib.model.states import ItemState, Overwrite, Way
from restore_lib.restore.publish import Publisher
from restore_lib.stores.local import LocalStore
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


def streams(*payloads: tuple[BatchExtent, bytes]) -> list[tuple[BatchExtent, io.BytesIO]]:
    return [(extent, io.BytesIO(sealed)) for extent, sealed in payloads]


def test_a_verified_object_appears_with_its_time_and_mode(desk: Desk) -> None:
    outcome = desk.publisher().publish(item(b"hello"), streams(desk.payload(b"hello")), Way.TAPE)
    assert (outcome.item_id, outcome.state, outcome.way) == (7, ItemState.RESTORED, Way.TAPE)
    path = desk.out / "a" / "b"
    assert path.read_bytes() == b"hello"
    assert path.stat().st_mtime == AT.timestamp()
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_came_to_stand_there_during_the_read_is_kept(desk: Desk) -> None:
    def slow() -> Iterator[tuple[BatchExtent, io.BytesIO]]:
        yield from streams(desk.payload(b"hello"))
        (desk.out / "a").mkdir()
        (desk.out / "a" / "b").write_bytes(b"newer work")

    publisher = desk.publisher()
    assert publisher.standing(item(b"hello")) is None
    outcome = publisher.publish(item(b"hello"), slow(), Way.TAPE)
    assert outcome.state is ItemState.KEPT
    assert (desk.out / "a" / "b").read_bytes() == b"newer work"


def test_an_object_in_parts_is_put_together(desk: Desk) -> None:
    parts = [os.urandom(100), os.urandom(200), b""]
    whole = b"".join(parts)
    payloads = streams(*(desk.payload(data, n) for n, data in enumerate(parts, 1)))
    desk.publisher().publish(item(whole), payloads, Way.PARITY)
    assert (desk.out / "a" / "b").read_bytes() == whole


def test_an_object_larger_than_memory_allows_goes_over_the_staging_disk(desk: Desk) -> None:
    data = os.urandom(9 << 20)
    desk.publisher().publish(item(data), streams(desk.payload(data)), Way.TAPE)
    assert digests(desk.out) == {b"a/b": hashlib.sha256(data).hexdigest()}
    assert list(desk.staging.iterdir()) == []


@pytest.mark.parametrize("place", [0, 100, -1])
def test_damaged_bytes_are_never_published(desk: Desk, place: int) -> None:
    extent, sealed = desk.payload(b"hello" * 100)
    damaged = bytearray(sealed)
    damaged[place] ^= 1
    with pytest.raises(DigestMismatch):
        desk.publisher().publish(item(b"hello" * 100), streams((extent, bytes(damaged))), Way.TAPE)
    assert digests(desk.out) == {}


def test_without_a_key_that_opens_it_nothing_is_published(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").write_text(new_identity()[0])
    with pytest.raises(KeyUnusable):
        desk.publisher(identities=load_identities(tmp_path / "other")).publish(
            item(b"hello"), streams(desk.payload(b"hello")), Way.TAPE
        )
    assert digests(desk.out) == {}


def test_parts_that_are_not_the_whole_object_are_to_be_tried_again(desk: Desk) -> None:
    payloads = streams(desk.payload(b"one"), desk.payload(b"two", 2))
    outcome = desk.publisher().publish(item(b"onetwx"), payloads, Way.TAPE)
    assert (outcome.state, outcome.error_code) == (ItemState.PENDING, "digest_mismatch")
    assert digests(desk.out) == {}


@pytest.mark.parametrize("overwrite", list(Overwrite))
def test_a_name_that_the_target_cant_hold_fails_by_name(desk: Desk, overwrite: Overwrite) -> None:
    publisher = desk.publisher(overwrite)
    hostile = item(b"x", key=b"../outside")
    outcome = publisher.standing(hostile) or publisher.publish(
        hostile, streams(desk.payload(b"x")), Way.TAPE
    )
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

    monkeypatch.setattr("tempfile.SpooledTemporaryFile", full)
    with pytest.raises(DiskFull, match="staging"):
        desk.publisher().publish(item(b"hello"), streams(desk.payload(b"hello")), Way.TAPE)


def test_metadata_are_handed_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}

    def put(self: LocalStore, key: bytes, chunks: Iterable[bytes], **values: object) -> None:
        seen.update(values)

    monkeypatch.setattr(LocalStore, "put", put)
    wanted: Mapping[str, str] = {"x": "y"}
    described = item(b"hello", content_type="text/plain", metadata=wanted)
    desk.publisher().publish(described, streams(desk.payload(b"hello")), Way.TAPE)
    assert (seen["content_type"], seen["metadata"], seen["modified_at"]) == (
        "text/plain",
        wanted,
        AT,
    )
