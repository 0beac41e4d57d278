"""What every store keeps, whatever is behind it."""

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from restore_lib.errors import DigestMismatch, ObjectNameRefused, ObjectUnreadable, StoreUnavailable
from restore_lib.stores import s3_parts
from restore_lib.stores.base import Group, Store
from tests.stores.conftest import Place, failing, get, keys, noise, put

MOMENT = datetime(2012, 3, 4, 5, 6, 7, tzinfo=UTC)

HOSTILE = [
    b"space in name",
    b" lead and trail ",
    b"new\nline",
    b"quote'\"quote",
    b"back\\slash",
    b"percent%2e%2E%00",
    b"a+b&c=d?e#f",
    b"*?[x]$HOME`id`;|<>",
    b"-rf",
    b"...",
    b".hidden",
    b".tapeflow-tmp.not",
    b"deep/.tapeflow-tmp/file",
    "ünïcode/名前/🗝".encode(),
    "e\u0301 and \u00e9".encode(),
    b"x" * 255,
    b"/".join([b"y" * 255] * 3 + [b"z" * 248]),
]
PATH_LIKE = [b"/absolute", b"../up", b"a/../b", b"./here", b"a//b", b"trailing/", b"/", b".", b".."]


def test_an_object_comes_back_as_it_was_put(store: Store) -> None:
    put(store, b"a/b", b"hello", metadata={"mode": "0640"}, modified_at=MOMENT)
    assert get(store, b"a/b") == b"hello"
    found = store.head(b"a/b")
    assert found is not None
    assert (found.key, found.size) == (b"a/b", 5)
    assert found.metadata["mode"] == "0640"


def test_what_is_in_stays_when_it_is_made_safe(store: Store) -> None:
    put(store, b"a/b", b"hello")
    store.secure()
    assert get(store, b"a/b") == b"hello"


def test_every_size_comes_back(store: Store) -> None:
    for size in (0, 1, 32768, 32769, 3_000_000):
        data = noise(size)
        put(store, b"object", data, chunk=100_001)
        assert get(store, b"object") == data
        assert [found.size for found in store.list()] == [size]


def test_a_large_object_comes_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_parts, "MULTIPART_THRESHOLD", 5 << 20)
    monkeypatch.setattr(s3_parts, "PART_SIZE", 5 << 20)
    data = noise((12 << 20) + 7)
    put(store, b"large", data, chunk=(1 << 20) + 1, content_type="text/plain")
    digest = hashlib.sha256()
    with store.open(b"large") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    assert digest.digest() == hashlib.sha256(data).digest()


def test_list_and_head_tell_the_same(store: Store) -> None:
    put(store, b"one", b"1" * 100)
    (listed,) = store.list()
    head = store.head(b"one")
    assert head is not None
    assert (listed.key, listed.size, listed.modified_at, listed.etag, listed.version) == (
        head.key,
        head.size,
        head.modified_at,
        head.etag,
        head.version,
    )
    assert listed.modified_at.tzinfo is not None


def test_hostile_names_come_back_byte_for_byte(store: Store) -> None:
    for key in HOSTILE:
        put(store, key, key)
    assert keys(store) == sorted(HOSTILE)
    for key in HOSTILE:
        assert get(store, key) == key
        store.delete(key)
        assert store.head(key) is None
    assert keys(store) == []


def test_names_that_are_no_paths_are_kept_or_refused(place: Place, store: Store) -> None:
    if place.root is None:
        for key in PATH_LIKE:
            put(store, key, key)
        assert keys(store) == sorted(PATH_LIKE)
        assert [get(store, key) for key in PATH_LIKE] == PATH_LIKE
        return
    before = sorted(place.root.parent.rglob("*"))
    uses = (lambda key: put(store, key), store.head, store.delete, lambda key: get(store, key))
    for key in [*PATH_LIKE, b"nul\0byte", b".tapeflow-tmp/x"]:
        for use in uses:
            with pytest.raises(ObjectNameRefused):
                use(key)
    assert sorted(place.root.parent.rglob("*")) == before


def test_a_name_that_is_not_utf8_is_kept_or_refused(place: Place, store: Store) -> None:
    key = b"caf\xe9/\xff\xfe"
    if place.root is None:
        with pytest.raises(ObjectNameRefused):
            put(store, key)
        return
    put(store, key, b"latin")
    assert get(store, key) == b"latin"
    assert keys(store, b"caf\xe9") == [key]
    assert (place.root / "caf\udce9/\udcff\udcfe").read_bytes() == b"latin"


def test_the_empty_name_is_refused(store: Store) -> None:
    with pytest.raises(ObjectNameRefused):
        put(store, b"")


def test_names_that_are_too_long_are_refused(place: Place, store: Store) -> None:
    key = b"x" * 256 if place.root else b"x" * 1025
    with pytest.raises(ObjectNameRefused):
        put(store, key)
    with pytest.raises(ObjectNameRefused):
        store.head(key)


def test_names_that_differ_in_case_or_form_are_different_objects(store: Store) -> None:
    names = [b"A", b"a", "e\u0301".encode(), "\u00e9".encode()]
    for name in names:
        put(store, name, name)
    assert keys(store) == sorted(names)
    assert [get(store, name) for name in names] == names


ORDERED = [b"a-b", b"a.b/c", b"a/b", b"a/b-c", b"a0", b"ab/c", b"b", "é/x".encode()]


@pytest.fixture
def filled(store: Store) -> Store:
    for key in ORDERED:
        put(store, key, key)
    return store


def test_list_keeps_to_the_prefix(filled: Store) -> None:
    for prefix in (b"", b"a", b"a/", b"a/b", b"b", b"zz", b"a.b/c", b"\xc3"):
        assert keys(filled, prefix) == [key for key in ORDERED if key.startswith(prefix)]


def test_list_keeps_to_its_bounds(filled: Store) -> None:
    for after in (None, b"", b"a", b"a-b", b"a/", b"a/a", b"a/b", b"a1", b"\xc3"):
        for until in (None, b"a/b", b"a/b-d", b"b"):
            expected = [
                key
                for key in ORDERED
                if (after is None or key > after) and (until is None or key <= until)
            ]
            assert keys(filled, after=after, until=until) == expected


def test_put_replaces(store: Store) -> None:
    put(store, b"key", b"old")
    (old,) = store.list()
    put(store, b"key", b"newer")
    (new,) = store.list()
    assert get(store, b"key") == b"newer"
    assert (old.size, new.size) == (3, 5)


@pytest.mark.parametrize("wrong", ["digest", "short", "long"])
def test_wrong_bytes_leave_the_old_object(store: Store, wrong: str) -> None:
    put(store, b"key", b"old")
    sha256 = hashlib.sha256(b"new bytes" if wrong != "digest" else b"others").hexdigest()
    size = {"digest": 9, "short": 10, "long": 8}[wrong]
    with pytest.raises(DigestMismatch):
        store.put(b"key", [b"new ", b"bytes"], size=size, sha256=sha256)
    assert get(store, b"key") == b"old"
    with pytest.raises(DigestMismatch):
        store.put(b"fresh/one", [b"new ", b"bytes"], size=size, sha256=sha256)
    assert keys(store) == [b"key"]


@pytest.mark.parametrize("error", [OSError("source"), EOFError("source"), ValueError("source")])
def test_a_failing_source_leaves_the_old_object(store: Store, error: Exception) -> None:
    put(store, b"key", b"old")
    with pytest.raises(type(error)) as raised:
        store.put(b"key", failing(b"new", error), size=6, sha256="0" * 64)
    assert raised.value is error
    assert get(store, b"key") == b"old"
    assert keys(store) == [b"key"]
    put(store, b"key", b"new")
    assert get(store, b"key") == b"new"


def test_a_source_that_fails_late_leaves_nothing(
    store: Store, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "MULTIPART_THRESHOLD", 5 << 20)
    monkeypatch.setattr(s3_parts, "PART_SIZE", 5 << 20)
    with pytest.raises(ValueError, match="source"):
        store.put(b"key", failing(noise(11 << 20), ValueError("source")), size=99 << 20, sha256="")
    assert keys(store) == []
    assert store.head(b"key") is None
    if place.root:
        assert not [path for path in place.root.rglob("*") if path.is_file()]


def add(group: Group, key: bytes, data: bytes, **values: Any) -> None:
    fields: dict[str, Any] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    group.add(key, [data], **(fields | values))


def test_a_group_brings_all_its_objects_in(store: Store) -> None:
    objects = {b"%d/%02d" % (n % 3, n): noise(n * 1000) for n in range(40)}
    objects[b"large"] = noise(2_000_000)
    put(store, b"0/00", b"old")
    with store.group() as group:
        for key, data in objects.items():
            add(group, key, data, modified_at=MOMENT, metadata={"mode": "0640"})
        assert group.finish() == {}
        assert {key: get(store, key) for key in objects} == objects
        add(group, b"later", b"in the same group")
        assert group.finish() == {}
    assert get(store, b"later") == b"in the same group"
    found = store.head(b"2/38")
    assert found is not None
    assert found.metadata["mode"] == "0640"


def test_a_draft_is_added_as_any_object(place: Place, store: Store) -> None:
    """Where there is none, content comes in order."""
    data = noise(300_000)
    with store.group() as group:
        found = group.draft(b"key", len(data))
        assert (found is None) == (place.kind != "local")
        if found is None:
            return
        with found as draft:
            for begin in (200_000, 100_000, 0):
                draft.write(begin, data[begin : begin + 100_000])
            digest = hashlib.sha256(data).hexdigest()
            group.add(b"key", draft, size=len(data), sha256=digest, modified_at=MOMENT)
        assert group.finish() == {}
    assert get(store, b"key") == data
    assert [found.modified_at for found in store.list()] == [MOMENT]


@pytest.mark.parametrize("others", [2, 30])
def test_one_bad_object_of_a_group_fails_alone(place: Place, store: Store, others: int) -> None:
    put(store, b"taken/by/a/folder")
    put(store, b"bad", b"old")
    good = [b"key%02d" % number for number in range(others)]
    with store.group() as group:
        for key in good:
            add(group, key, key)
        with pytest.raises(DigestMismatch):
            add(group, b"bad", b"bytes", sha256="0" * 64)
        with pytest.raises(ValueError, match="source"):
            group.add(b"bad", failing(b"n", ValueError("source")), size=9, sha256="0" * 64)
        refused: list[bytes] = []
        for key in (b"taken", b"bad/below", b"x" * 2000):
            try:
                add(group, key, b"data")
            except ObjectNameRefused:
                refused.append(key)
        refused.extend(group.finish())
    if place.root:
        assert sorted(refused) == [b"bad/below", b"taken", b"x" * 2000]
        assert keys(store) == sorted([*good, b"bad", b"taken/by/a/folder"])
        assert not list((place.root / ".tapeflow-tmp").iterdir())
    else:
        assert refused == [b"x" * 2000]
    assert [get(store, key) for key in good] == good
    assert get(store, b"bad") == b"old"


def test_what_a_group_did_not_finish_leaves_nothing_half_done(place: Place, store: Store) -> None:
    data = noise(5000)
    with pytest.raises(KeyError), store.group() as group:  # noqa: PT012 - leaving is what is tested
        for number in range(20):
            add(group, b"%02d" % number, data)
        raise KeyError
    assert {get(store, key) for key in keys(store)} <= {data}
    if place.kind == "local":
        assert keys(store) == []
        assert place.root is not None
        assert not list((place.root / ".tapeflow-tmp").iterdir())


@pytest.mark.parametrize("size", [5, 6 << 20])
def test_what_is_to_stay_is_asked_just_before_it_is_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(s3_parts, "MULTIPART_THRESHOLD", 5 << 20)
    monkeypatch.setattr(s3_parts, "PART_SIZE", 5 << 20)
    data = noise(size)
    with store.group() as group:
        for key in (b"stays", b"goes", b"new"):
            standing = key != b"new"
            add(group, key, data, unless=lambda key=key, there=standing: there and key == b"stays")
            if standing:
                put(store, key, b"newer")
        assert group.finish() == {}
    assert get(store, b"new") == data
    digest = hashlib.sha256(data).hexdigest()
    put(store, b"stays", b"newest")
    store.put(b"stays", [data], size=size, sha256=digest, unless=lambda: True)
    assert get(store, b"stays") == b"newest"
    store.put(b"stays", [data], size=size, sha256=digest, unless=lambda: False)
    assert get(store, b"stays") == data
    assert keys(store) == [b"goes", b"new", b"stays"]


def test_an_object_that_is_gone(store: Store) -> None:
    assert store.head(b"no/such") is None
    store.delete(b"no/such")
    with pytest.raises(ObjectUnreadable, match="no/such"):
        get(store, b"no/such")
    put(store, b"no", b"a file where a folder would be")
    assert store.head(b"no/such") is None
    with pytest.raises(ObjectUnreadable):
        get(store, b"no/such")


def test_a_version_that_is_gone(store: Store) -> None:
    put(store, b"key")
    with pytest.raises(ObjectUnreadable):
        get(store, b"key", version="00000000-0000-0000-0000-000000000000")


def test_delete_removes_one_object(store: Store) -> None:
    for key in (b"a/b/c", b"a/b/d", b"e/f/g"):
        put(store, key)
    store.delete(b"a/b/c")
    store.delete(b"e/f/g")
    assert keys(store) == [b"a/b/d"]
    put(store, b"e", b"now a file")
    assert keys(store) == [b"a/b/d", b"e"]


def test_concurrent_puts_of_one_key_leave_one_of_them_whole(place: Place) -> None:
    datas = [bytes([number]) * 300_000 for number in range(6)]
    errors: list[Exception] = []
    start = threading.Barrier(len(datas))

    def write(data: bytes) -> None:
        try:
            with contextlib.closing(place.open()) as store:
                start.wait()
                # A server may fail a put that another overtakes; as tasks do, it is tried again.
                for _ in datas[1:]:
                    with contextlib.suppress(StoreUnavailable):
                        put(store, b"new/folder/key", data, chunk=10_000)
                        return
                put(store, b"new/folder/key", data, chunk=10_000)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=write, args=[data]) for data in datas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with contextlib.closing(place.open()) as store:
        assert keys(store) == [b"new/folder/key"]
        assert get(store, b"new/folder/key") in datas


def test_one_store_reads_while_it_writes_and_lists(store: Store) -> None:
    data = noise(4_000_000)
    for number in range(3):
        put(store, b"in/%d" % number, data)

    def chunks(key: bytes) -> Iterator[bytes]:
        with store.open(key) as stream:
            while chunk := stream.read(70_000):
                yield chunk

    for found in store.list(b"in/"):
        digest = hashlib.sha256(data).hexdigest()
        name = found.key.replace(b"in", b"out")
        store.put(name, chunks(found.key), size=found.size, sha256=digest)
    assert [get(store, key) == data for key in keys(store, b"out/")] == [True] * 3


def test_a_reader_may_stop_early(store: Store) -> None:
    data = noise(5_000_000)
    put(store, b"key", data)
    for _ in range(12):
        with store.open(b"key") as stream:
            assert stream.read(10) == data[:10]

    def fail() -> None:
        with store.open(b"key") as stream:
            stream.read(1_500_000)
            raise ValueError("reader")

    with pytest.raises(ValueError, match="reader"):
        fail()
    assert get(store, b"key") == data
