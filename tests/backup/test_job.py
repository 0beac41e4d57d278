import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Connection

from restore_lib.backup import seal, stage
from restore_lib.backup.job import JobRun, changes_in, geometry_of
from restore_lib.backup.load import Load, Writer
from restore_lib.backup.pack import Piece
from restore_lib.backup.run import job_ids, run_job
from restore_lib.backup.select import Kind
from restore_lib.backup.sources import Sources
from restore_lib.catalog import bulk, recovery_points
from restore_lib.errors import LeaseLost, ObjectUnreadable
from restore_lib.model.progress import Silent
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from restore_lib.tape.parity import TapeFileSummary, encode_parity
from restore_lib.tape.streams import Readable
from tests.support.sites import (
    ACTOR,
    back_up,
    begin,
    digests,
    make_site,
    restore,
    write_files,
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    write_files(tmp_path / "live", {b"%02d" % n: os.urandom(n * 1000) for n in range(20)})
    yield made
    made.close()


def job_run(site: Site) -> JobRun:
    point = begin(site)
    [job_id] = job_ids(site, point.id)
    with site.catalog.read() as connection:
        job = recovery_points.job(connection, job_id)
    return JobRun(site, job, point, ACTOR, Silent())


def images(site: Site) -> dict[str, bytes]:
    found = site.config.library.path.rglob("*.tap")
    return {path.stem: path.read_bytes() for path in found}


def test_a_run_that_another_has_taken_over_writes_nothing(site: Site) -> None:
    first = job_run(site)
    second = job_run(site)
    with pytest.raises(LeaseLost):
        first.run()
    assert set(images(site).values()) == {b""}
    assert second.run()["backed_up"] == 20


def test_a_run_that_is_taken_over_before_its_commit_commits_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = job_run(site)
    commit = Writer.commit

    def late(self: Writer, load: Load, rp_id: int, store: str, started: dict[bytes, int]) -> None:
        monkeypatch.setattr(Writer, "commit", commit)
        back_up(site)
        commit(self, load, rp_id, store, started)

    monkeypatch.setattr(Writer, "commit", late)
    with pytest.raises(LeaseLost):
        slow.run()
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_a_run_that_is_taken_over_while_it_stages_ends_with_a_lost_lease(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = job_run(site)

    def late(
        data: Sequence[Path], outputs: Sequence[Path], block_size: int
    ) -> list[TapeFileSummary]:
        job_run(site)._folder()
        return encode_parity(data, outputs, block_size)

    monkeypatch.setattr(seal, "encode_parity", late)
    with pytest.raises(LeaseLost):
        slow.run()


def test_a_run_that_is_taken_over_leaves_the_staging_folder_of_the_other(site: Site) -> None:
    first = job_run(site)
    folder = job_run(site)._folder()
    with pytest.raises(LeaseLost):
        first.run()
    assert folder.is_dir()


def test_the_staging_folder_is_left_clean(site: Site, tmp_path: Path) -> None:
    point = begin(site)
    [job_id] = job_ids(site, point.id)
    stale = tmp_path / "staging" / "backup" / f"job-{job_id}-stale"
    stale.mkdir(parents=True)
    (stale / "stripe-000001-00").write_bytes(b"left by a crash")
    run_job(site, job_id, ACTOR)
    assert list((tmp_path / "staging" / "backup").iterdir()) == []


def test_no_state_of_the_catalog_is_held_on_to_while_a_share_is_backed_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(site)
    monkeypatch.setattr(bulk, "CHUNK", 3)
    seen = 0
    for change in changes_in(site, "live", None, None):
        assert change.kind is Kind.SAME
        assert site.catalog.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # QueuePool
        seen += 1
    assert seen == 20


def test_what_is_gone_is_marked_while_a_share_is_gone_through(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(site)
    for number in range(4, 15):
        (tmp_path / "live" / f"{number:02}").unlink()
    monkeypatch.setattr(bulk, "CHUNK", 4)
    marked: list[int] = []
    mark = recovery_points.mark_gone

    def noted(connection: Connection, versions: Sequence[int], rp_id: int) -> None:
        marked.append(len(versions))
        mark(connection, versions, rp_id)

    monkeypatch.setattr(recovery_points, "mark_gone", noted)
    assert job_run(site).run()["gone"] == 11
    assert marked == [4, 4, 3]


def test_of_many_unreadable_objects_the_first_are_named_and_all_are_counted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: Sources, piece: Piece) -> Readable:
        raise ObjectUnreadable(f"{piece.source.key!r} is gone.")

    monkeypatch.setattr(Sources, "open", gone)
    monkeypatch.setattr(stage, "_NAMED", 3)
    summary = job_run(site).run()
    assert (summary["unreadable_objects"], summary["backed_up"]) == (20, 0)
    assert list(summary["unreadable"]) == ["00", "01", "02"]


def test_changes_are_those_of_a_range_of_keys(site: Site, tmp_path: Path) -> None:
    back_up(site)
    (tmp_path / "live" / "03").unlink()
    write_files(tmp_path / "live", {b"05": b"changed", b"055": b"new", b"07": b"outside"})
    found = {
        (change.found or change.known).key: change.kind  # type: ignore[union-attr]  # one is there
        for change in changes_in(site, "live", b"02", b"06")
        if change.kind is not Kind.SAME
    }
    assert found == {b"03": Kind.GONE, b"05": Kind.CHANGED, b"055": Kind.NEW}


def test_the_geometry_is_that_of_the_policy_and_the_library(site: Site) -> None:
    geometry = geometry_of(site, "live")
    assert (geometry.k, geometry.m, geometry.block_size) == (2, 1, 4096)
    assert geometry.volume_size < site.config.library.capacity
    assert geometry.recipients == 1
