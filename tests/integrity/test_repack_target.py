"""The sets that a repack writes to: whole ones of its own, newer than what it reads."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from restore_lib.catalog import repacks, tape_sets
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.errors import LeaseLost, VolumeFull
from restore_lib.integrity.repack import run_repack
from restore_lib.integrity.repack_target import RepackRun
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.model.states import SetState
from restore_lib.model.volume import Health
from restore_lib.site import Site
from tests.integrity.repairs import check_restore, known, verify
from tests.support.repacks import NEW, NEXT, OLD, K, M, build, copied, live_extents_of, sets_in
from tests.support.sites import ACTOR, image, open_site


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mostly-expired")
    build(root).close()
    return root


@pytest.fixture
def site(origin: Path, tmp_path: Path) -> Iterator[Site]:
    opened = open_site(copied(origin, tmp_path / "site"))
    yield opened
    opened.close()


class Stopped(Exception):
    """What ends a run in the middle."""


def stopped_at_the_end(site: Site, monkeypatch: pytest.MonkeyPatch, *sets: str) -> TapeSet:
    """Let a repack end before it closes its set, and return that."""

    def stop(*_: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.integrity.repack.Target.end", stop)
        with pytest.raises(Stopped):
            run_repack(site, ACTOR, sets=sets)
    [left] = sets_in(site, SetState.OPEN)
    with site.catalog.read() as connection:
        return tape_sets.tape_set(connection, left)


def test_what_an_earlier_run_left_open_is_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = stopped_at_the_end(site, monkeypatch, OLD)
    result = run_repack(site, ACTOR)
    assert (result.sets, result.new_sets) == ([], [])
    assert sets_in(site, SetState.CLOSED) == [OLD, NEXT, NEW]
    assert verify(site, *left.barcodes) == "passed"
    check_restore(site)


def test_it_is_gone_on_with_unless_it_is_older_than_what_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = stopped_at_the_end(site, monkeypatch, OLD)
    more = stopped_at_the_end(site, monkeypatch, NEXT)
    assert more.id == left.id
    assert more.stripes > left.stripes
    with site.catalog.write() as connection:
        later = more.created_at + timedelta(days=1)
        connection.exec_driver_sql(
            "UPDATE tape_sets SET created_at = ? WHERE id = ?",
            (later.replace(tzinfo=None).isoformat(sep=" "), OLD),
        )
        connection.exec_driver_sql("UPDATE recovery_points SET state = 'committed'")
    [another] = run_repack(site, ACTOR, sets=[OLD]).new_sets
    with site.catalog.read() as connection:
        made = tape_sets.tape_set(connection, another)
        assert tape_sets.tape_set(connection, left.id).state is SetState.CLOSED
    assert made.id != left.id
    assert made.created_at == later
    check_restore(site)


def test_a_set_of_which_a_volume_has_failed_is_closed_as_it_is(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = stopped_at_the_end(site, monkeypatch, OLD)
    harmed = left.barcodes[0]
    with site.catalog.write() as connection:
        connection.exec_driver_sql(f"UPDATE volumes SET health='suspect' WHERE barcode='{harmed}'")
    [other] = run_repack(site, ACTOR, sets=[NEXT]).new_sets
    assert other != left.id
    assert sets_in(site, SetState.OPEN) == []
    check_restore(site)


def test_volumes_without_room_for_one_segment_are_set_aside(site: Site) -> None:
    names = [f"TF{number:04}L9" for number in range(2 * (K + M), 4 * (K + M))]
    for name in names:
        write_faults(image(site, name), Faults(capacity_bytes=20_000))
    before = live_extents_of(site)
    with pytest.raises(VolumeFull, match="no room for one segment"):
        run_repack(site, ACTOR)
    assert any(known(site, name).health is Health.SUSPECT for name in names)
    assert live_extents_of(site) == before
    check_restore(site)


def test_a_run_that_was_overtaken_does_not_commit(site: Site) -> None:
    with site.catalog.write() as connection:
        first = repacks.begin_run(connection, "live", site.recipients.names, site.clock.now())
    run = RepackRun(site, ACTOR, first)
    run.check()
    with run.write():
        pass
    with site.catalog.write() as connection:
        repacks.begin_run(connection, "live", site.recipients.names, site.clock.now())
    with pytest.raises(LeaseLost):
        run.check()
    with pytest.raises(LeaseLost), run.write():
        pass


def test_several_drives_write_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    most, mounted = 0, set()
    write = VirtualDrive.write

    def counted(self: VirtualDrive, block: bytes) -> None:
        nonlocal most
        mounted.add(self.number)
        most = max(most, len(mounted))
        write(self, block)

    monkeypatch.setattr(VirtualDrive, "write", counted)
    run_repack(site, ACTOR, drives=2)
    assert most == 2
    check_restore(site)
