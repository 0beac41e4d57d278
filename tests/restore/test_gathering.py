"""Objects that lie on several volumes: put together at the target, or from the staging disk."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog import batches, requests
from restore_lib.catalog.batches import Batch
from restore_lib.errors import DiskFull, DriveBusy, KeyUnusable, MediumError
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.states import BatchKind, ItemState, Way
from restore_lib.model.volume import Health
from restore_lib.restore import assembly
from restore_lib.restore.batch import run_batch
from restore_lib.restore.gather import Gathered
from restore_lib.restore.mount import Mounts
from restore_lib.restore.read import TapeReader
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.stores.aside import LocalDraft
from restore_lib.stores.local_group import LocalGroup
from restore_lib.tape.age import new_identity
from tests.restore.test_batch import flip, health, items, killed_everywhere
from tests.support.clock import ManualClock
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    finish,
    image,
    make_site,
    open_site,
    write_files,
)

POLICY = 'k = 3\nm = 1\nblock_size = "4KiB"\nsegment_size = "128KiB"'
CONTENTS = {
    b"cut": os.urandom(300_000),
    b"text": b"line of a text that zstd makes smaller\n" * 1000 + os.urandom(200_000),
}
"""Each lies on several volumes; the parts of the second are compressed."""


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly, "_LARGE", 100_000)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, policy=POLICY, blank=5)
    write_files(tmp_path / "live", CONTENTS)
    back_up(made)
    yield made
    made.close()


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes of which blocks were put on the staging disk."""
    found: list[str] = []
    collect = Gathered.collect

    def noted(self: Gathered, barcode: str, wanted: Any, *rest: Any) -> bool:
        found.extend([barcode] * bool(wanted))
        return collect(self, barcode, wanted, *rest)

    monkeypatch.setattr(Gathered, "collect", noted)
    return found


def ask(site: Site) -> tuple[int, list[Batch]]:
    spec = RestoreSpec(store="live", prefix=b"", target="out")
    request_id = plan_restore(site, spec, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    with site.catalog.read() as connection:
        found = batches.batches_of(connection, request_id=request_id)
    assert {batch.kind for batch in found} == {BatchKind.GATHER}
    return request_id, found


def unfinished(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "out" / ".tapeflow-tmp").iterdir())


def test_large_objects_are_put_together_at_their_target(
    site: Site, tmp_path: Path, staged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted: list[str] = []
    reader = Mounts.reader

    def noted(self: Mounts, barcode: str) -> AbstractContextManager[TapeReader]:
        mounted.append(barcode)
        return reader(self, barcode)

    monkeypatch.setattr(Mounts, "reader", noted)
    request_id, found = ask(site)
    for batch in found:
        run_batch(site, batch.id, ACTOR)
        assert sorted(mounted) == sorted(batch.volumes)
        mounted.clear()
    assert staged == []
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert {row.way for row in items(site, request_id).values()} == {Way.TAPE}
    assert unfinished(tmp_path) == []


def test_more_than_may_be_unfinished_pass_over_the_staging_disk(
    site: Site, tmp_path: Path, staged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assembly, "_MOST", 0)
    for batch in ask(site)[1]:
        run_batch(site, batch.id, ACTOR)
        assert set(staged) >= set(batch.volumes)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_bad_block_sends_its_object_to_parity(
    site: Site, tmp_path: Path, staged: list[str]
) -> None:
    request_id, [batch, *_] = ask(site)
    bad = batch.volumes[1]
    write_faults(image(site, bad), Faults(unreadable_blocks=((1, 2, 2),)))
    with pytest.raises(MediumError, match="planned again"):
        run_batch(site, batch.id, ACTOR)
    assert staged == []
    assert unfinished(tmp_path) == []
    assert health(site, bad) is Health.SUSPECT
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    assert Way.PARITY in {row.way for row in items(site, request_id).values()}


def test_what_the_drive_does_not_notice_is_found_and_rebuilt(site: Site, tmp_path: Path) -> None:
    request_id, [batch, *_] = ask(site)
    bad = batch.volumes[1]
    flip(site, bad, 1, 2)
    with pytest.raises(MediumError, match="planned again"):
        run_batch(site, batch.id, ACTOR)
    assert health(site, bad) is Health.SUSPECT
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_draft_that_is_not_the_object_is_gathered_anew(
    site: Site, tmp_path: Path, staged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalDraft, "write", lambda self, offset, data: None)
    request_id, [batch, *_] = ask(site)
    run_batch(site, batch.id, ACTOR)
    assert set(staged) >= set(batch.volumes)
    found = [row for row in items(site, request_id).values() if row.batch_id == batch.id]
    assert {row.state for row in found} == {ItemState.RESTORED}
    expected = {bytes(row.key): digests(tmp_path / "live")[bytes(row.key)] for row in found}
    assert digests(tmp_path / "out") == expected
    assert unfinished(tmp_path) == []


def test_a_key_that_does_not_open_it_is_told(site: Site, tmp_path: Path) -> None:
    _, [batch, *_] = ask(site)
    identity, _ = new_identity()
    (tmp_path / "operating.txt").write_text(identity)
    other = open_site(tmp_path)
    with pytest.raises(KeyUnusable):
        run_batch(other, batch.id, ACTOR)
    other.close()
    assert unfinished(tmp_path) == []


def test_a_volume_in_use_is_taken_last_and_what_was_placed_stays(
    site: Site, tmp_path: Path, staged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, [batch, *_] = ask(site)
    first = batch.volumes[0]
    tries: list[str] = []
    reader = Mounts.reader

    def busy_twice(self: Mounts, barcode: str) -> Any:
        tries.append(barcode)
        if barcode == first and tries.count(first) <= 2:
            raise DriveBusy("in use")
        return reader(self, barcode)

    monkeypatch.setattr(Mounts, "reader", busy_twice)
    run_batch(site, batch.id, ACTOR)
    assert tries.count(first) == 3
    assert {tries.count(barcode) for barcode in batch.volumes[1:]} == {1}
    assert staged == []


@pytest.mark.parametrize("fails", ["the second draft", "the group"])
def test_an_error_of_the_target_leaves_nothing_there(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(self: LocalGroup, *_: object) -> Any:
        raise DiskFull("no room")

    begin = LocalGroup.draft

    def begin_one(self: LocalGroup, key: bytes, size: int) -> LocalDraft | None:
        monkeypatch.setattr(LocalGroup, "draft", full)
        return begin(self, key, size)

    _, [batch] = ask(site)
    assert batch.objects == 2
    if fails == "the group":
        monkeypatch.setattr(LocalGroup, "finish", full)
        monkeypatch.setattr("restore_lib.restore.publish._GROUP_BYTES", 1)
    else:
        monkeypatch.setattr(LocalGroup, "draft", begin_one)
    before = open_files()
    with pytest.raises(DiskFull):
        run_batch(site, batch.id, ACTOR)
    assert open_files() == before
    assert unfinished(tmp_path) == []


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


BOUNDARIES = [
    (LocalDraft, "write"),
    (LocalDraft, "taken"),
    (LocalGroup, "finish"),
    (LocalGroup, "_name"),
    (requests, "settle_items"),
]


def test_killed_anywhere_it_goes_on_and_nothing_half_done_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda _: None)
    origin = tmp_path / "origin"
    site = make_site(origin, policy=POLICY, blank=4, clock=ManualClock())
    write_files(origin / "live", CONTENTS)
    back_up(site)
    request_id, [batch] = ask(site)
    site.close()
    step = killed_everywhere(origin, BOUNDARIES, batch.id, request_id)
    assert 12 < step < 49
