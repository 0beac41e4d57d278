import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from restore_lib.backup.load import Run
from restore_lib.backup.run import job_ids
from restore_lib.catalog import tables, tape_sets
from restore_lib.catalog.tape_sets import TapeSet
from restore_lib.catalog.volumes import history, volumes
from restore_lib.errors import DiskFull, LeaseLost, VolumeFull
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.simh import TapeImage
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content, Health
from restore_lib.restore.request import RestoreSpec
from restore_lib.site import Site
from restore_lib.tape.label import decode_label
from restore_lib.tape.segment_reader import decode_index, read_index
from restore_lib.tape.streams import BlockReader
from restore_lib.tape.volume_index import VOLUME_INDEX, decode_stripe_table, read_volume_index
from tests.support.sites import (
    ACTOR,
    back_up,
    begin,
    digests,
    image,
    make_site,
    restore,
    write_files,
)

CONTENTS = {b"%02d" % n: os.urandom(n * 3000) for n in range(30)}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, blank=3)
    write_files(tmp_path / "live", CONTENTS)
    yield made
    made.close()


def the_set(site: Site) -> TapeSet:
    with site.catalog.read() as connection:
        name = connection.execute(select(tables.tape_sets.c.id)).scalar_one()
        return tape_sets.tape_set(connection, name)


def tape_files(path: Path) -> list[list[bytes]]:
    """Return the tape files of an image as blocks."""
    files: list[list[bytes]] = [[]]
    with TapeImage(path) as tape:
        end = tape.space_to_end()
        tape.rewind()
        while len(files) <= end.file:
            block = tape.read()
            if block is None:
                files.append([])
            else:
                files[-1].append(block)
    return files[:-1]


def test_the_tapes_of_a_closed_set_tell_all_by_themselves(site: Site) -> None:
    back_up(site)
    held = the_set(site)
    keys: dict[bytes, int] = {}
    for position, barcode in enumerate(held.barcodes):
        label, *files = tape_files(image(site, barcode))
        found = decode_label(b"".join(label))
        assert (found.barcode, found.tape_set, found.position) == (barcode, held.id, position)
        assert len(files) == held.stripes + 1
        if position < held.k:
            index, sealed = read_volume_index(BlockReader(files[-1]))
            for (number, data), segment in zip(sealed, files, strict=False):
                members = read_index(BlockReader(segment), site.identities)
                packed = BlockReader([data])
                assert decode_index(packed, site.identities, what="index") == members
                keys |= {member.meta.key: number for member in members}
            assert [file.blocks for file in index.files] == [len(s) for s in files[:-1]]
        else:
            table = decode_stripe_table(BlockReader(files[-1]))
            assert [len(stripe.members) for stripe in table.stripes] == [3] * held.stripes
    assert set(keys) == set(CONTENTS)


def test_volumes_are_counted_and_go_through_their_states(site: Site) -> None:
    back_up(site)
    held = the_set(site)
    with site.catalog.read() as connection:
        for member in volumes(connection, held.barcodes):
            files = tape_files(image(site, member.barcode))[1:-1]
            assert member.files == len(files)
            assert member.bytes == sum(len(block) for file in files for block in file)
            states = [e.after for e in history(connection, member.barcode) if e.field == "content"]
            assert states == ["blank", "labelled", "appendable", "full"]


def test_a_volume_without_room_for_its_closing_index_does_without(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = VirtualDrive.write

    def full_at_the_index(self: VirtualDrive, block: bytes) -> None:
        if self.barcode() == "TF0000L9" and block.startswith(VOLUME_INDEX.encode()):
            raise VolumeFull("no room")
        write(self, block)

    monkeypatch.setattr(VirtualDrive, "write", full_at_the_index)
    back_up(site)
    held = the_set(site)
    assert held.state is SetState.CLOSED
    assert len(tape_files(image(site, "TF0000L9"))) == held.stripes + 1
    assert len(tape_files(image(site, "TF0001L9"))) == held.stripes + 2
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_only_the_latest_run_of_a_job_may_write(site: Site) -> None:
    [job_id] = job_ids(site, begin(site).id)
    first = Run.begin(site, ACTOR, job_id)
    first.check()
    with first.write():
        pass
    second = Run.begin(site, ACTOR, job_id)
    with pytest.raises(LeaseLost):
        first.check()
    with pytest.raises(LeaseLost), first.write():
        pass
    second.check()


def test_a_failing_volume_is_marked_with_the_reason(site: Site) -> None:
    write_faults(image(site, "TF0001L9"), Faults(unreadable_blocks=((1, 0, 0),)))
    with pytest.raises(Exception, match="blank volumes are needed"):
        back_up(site)
    with site.catalog.read() as connection:
        [spoiled] = volumes(connection, ["TF0001L9"])
        event = history(connection, "TF0001L9")[-1]
    assert (spoiled.health, spoiled.content) == (Health.SUSPECT, Content.LABELLED)
    assert "TF0001L9" in event.reason
    assert event.actor == ACTOR


def test_a_full_staging_disk_at_the_stripe_table_loses_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DiskFull, match="closing"):
            back_up(site)
    back_up(site)
    restore(site, RestoreSpec(store="live", prefix=b"", target="out"))
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
