import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from restore_lib.catalog.volumes import change, history, volume
from restore_lib.errors import DriveBusy, LeaseLost, LibraryOffline, MediumError, VolumeAbsent
from restore_lib.library.faults import DriveDies, Faults, write_faults
from restore_lib.library.simh import TapeImage
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.model.volume import Custody, Flag, Health, Volume
from restore_lib.restore.mount import Mounts
from restore_lib.restore.plan import readable
from restore_lib.site import Site
from tests.support.sites import ACTOR, back_up, image, make_site, write_files

NAME = "TF0000L9"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path)
    write_files(tmp_path / "live", {b"a": b"1"})
    back_up(made)
    yield made
    made.close()


def read(site: Site, barcode: str = NAME) -> bytes:
    with Mounts(site, ACTOR).reader(barcode) as reader:
        return next(reader.blocks(1, 0, 1))


def known(site: Site, barcode: str = NAME) -> Volume:
    with site.catalog.read() as connection:
        return volume(connection, barcode)


def test_a_mounted_volume_is_read_in_blocks_of_its_label(site: Site) -> None:
    assert len(read(site)) == 4096
    assert known(site).health is Health.OK


def test_an_absent_volume_is_marked_as_lost(site: Site, tmp_path: Path) -> None:
    image(site, NAME).rename(tmp_path / "gone.tap")
    with pytest.raises(VolumeAbsent):
        read(site)
    assert (known(site).health, known(site).flags) == (Health.LOST, frozenset({Flag.MISSING}))


def test_a_volume_that_was_sent_out_meanwhile_is_not_lost(site: Site, tmp_path: Path) -> None:
    with site.catalog.write() as connection:
        change(
            connection,
            [NAME],
            "custody",
            Custody.MOUNTABLE,
            Custody.NOTMOUNTABLE,
            actor=ACTOR,
            reason="to the vault",
            at=site.clock.now(),
        )
    image(site, NAME).rename(tmp_path / "gone.tap")
    with pytest.raises(VolumeAbsent):
        read(site)
    assert (known(site).health, known(site).flags) == (Health.OK, frozenset())


def test_an_unreadable_volume_is_broken(site: Site) -> None:
    write_faults(image(site, NAME), Faults(unreadable=True))
    with pytest.raises(MediumError, match=NAME):
        read(site)
    assert known(site).health is Health.BROKEN
    with site.catalog.read() as connection:
        last = history(connection, NAME)[-1]
    assert "can't be read at all" in last.reason
    assert last.actor == ACTOR


def test_a_damaged_label_is_a_broken_volume(site: Site) -> None:
    path = image(site, NAME)
    data = bytearray(path.read_bytes())
    data[4 + 600 : 4 + 700] = b"#" * 100
    path.write_bytes(data)
    with pytest.raises(MediumError):
        read(site)
    assert known(site).health is Health.BROKEN


def overwrite(path: Path, record: bytes | None) -> None:
    path.write_bytes(b"")
    if record is not None:
        with TapeImage(path, writable=True) as tape:
            tape.write(record)
            tape.write_filemark()


@pytest.mark.parametrize(
    ("record", "flag"), [(None, Flag.LABEL_MISMATCH), (b"a tar of theirs", Flag.FOREIGN)]
)
def test_a_blank_or_foreign_tape_is_flagged_and_not_given_up(
    site: Site, record: bytes | None, flag: Flag
) -> None:
    overwrite(image(site, NAME), record)
    with pytest.raises(MediumError, match=NAME):
        read(site)
    assert known(site).flags == frozenset({flag})
    assert known(site).health is Health.SUSPECT
    assert not readable(known(site))


def test_swapped_tapes_are_both_flagged(site: Site) -> None:
    one, other = image(site, NAME), image(site, "TF0001L9")
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    for barcode, found in ((NAME, "TF0001L9"), ("TF0001L9", NAME)):
        with pytest.raises(MediumError, match=f"{barcode}.*of volume {found}"):
            read(site, barcode)
        assert known(site, barcode).flags == frozenset({Flag.LABEL_MISMATCH})


def test_a_volume_stuck_in_a_dead_drive_is_disabled(site: Site) -> None:
    write_faults(image(site, NAME), Faults(drive_dies=DriveDies(after_blocks=1)))
    with pytest.raises(MediumError, match=f"{NAME} is in it"):
        read(site)
    assert known(site).health is Health.DISABLED


def test_when_all_drives_are_dead_a_volume_in_its_slot_is_not_blamed(site: Site) -> None:
    for bay in site.virtual_library()._bays:
        bay.die()
    with pytest.raises(LibraryOffline):
        read(site)
    assert known(site).health is Health.OK


@pytest.mark.parametrize("error", [LeaseLost, DriveBusy, LibraryOffline])
def test_what_may_pass_is_not_the_volumes_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(self: VirtualDrive) -> None:
        raise error("just now")

    monkeypatch.setattr(VirtualDrive, "rewind", fail)
    with pytest.raises(error):
        read(site)
    assert known(site).health is Health.OK


def test_two_that_find_the_same_damage_mark_it_once(postgres_url: str, tmp_path: Path) -> None:
    made = make_site(tmp_path, url=postgres_url)
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    how: dict[str, Any] = {"actor": ACTOR, "reason": "a bad block", "at": made.clock.now()}
    with ThreadPoolExecutor(1) as pool:
        with made.catalog.write() as connection:
            change(connection, [NAME], "health", Health.OK, Health.SUSPECT, **how)
            other = pool.submit(Mounts(made, ACTOR).mark, NAME, Health.SUSPECT, "a bad block")
            while not other.done() and not connection.execute(waiting).scalar_one():
                threading.Event().wait(0.01)
        other.result()
    assert known(made).health is Health.SUSPECT
    made.close()


def test_marks_never_make_a_volume_better(site: Site) -> None:
    mounts = Mounts(site, ACTOR)
    mounts.mark(NAME, Health.SUSPECT, "a bad block")
    mounts.mark(NAME, Health.BROKEN, "no label")
    mounts.mark(NAME, Health.SUSPECT, "a bad block")
    assert known(site).health is Health.BROKEN
