import shutil
from pathlib import Path
from typing import Any

import pytest

from restore_lib.backup import write as backup_write
from restore_lib.catalog import audit, repairs, tape_sets
from restore_lib.catalog.volumes import history, volumes
from restore_lib.errors import (
    DiskFull,
    ForeignTape,
    LeaseLost,
    MediumError,
    NoScratchVolume,
    VolumeFull,
    VolumeStuck,
)
from restore_lib.integrity.repair import run_repair
from restore_lib.library.faults import DriveDies, Faults, write_faults
from restore_lib.model.volume import Content, Health, fold
from restore_lib.site import Site
from tests.integrity.repairs import (
    CONTENTS,
    NAMES,
    POLICY,
    K,
    M,
    check_restore,
    known,
    lose,
    tape_files,
    verify,
)
from tests.support.sites import (
    ACTOR,
    add_volumes,
    back_up,
    image,
    make_site,
    write_files,
)


@pytest.mark.parametrize("position", range(K + M))
def test_a_lost_member_is_written_anew_whatever_its_position(five: Site, position: int) -> None:
    lost, new = NAMES[position], NAMES[K + M]
    before = tape_files(five)
    assert len({file.stripe for file in before}) > 1
    lose(five, lost)
    result = run_repair(five, lost, ACTOR)
    assert (result.replacement, result.tape_set, result.position) == (new, "live-00001", position)
    after = tape_files(five)
    assert {f.barcode for f in after if f.position == position} == {new}
    assert [(f.stripe, f.blocks, f.sha256, f.index_offset) for f in after] == [
        (f.stripe, f.blocks, f.sha256, f.index_offset) for f in before
    ]
    old, fresh = known(five, lost), known(five, new)
    assert (old.content, old.health, old.tape_set) == (Content.RETIRED, Health.LOST, None)
    assert (fresh.content, fresh.health, fresh.tape_set) == (Content.FULL, Health.OK, "live-00001")
    assert (fresh.files, fresh.bytes) == (old.files, old.bytes)
    assert verify(five, new) == "passed"
    for barcode in (lost, new):
        with five.catalog.read() as connection:
            assert fold(history(connection, barcode)).content is known(five, barcode).content
    with five.catalog.read() as connection:
        assert audit.verify(connection).ok
    others = [name for name in NAMES[: K + M] if name != lost]
    for name in others[:M]:
        lose(five, name)
    check_restore(five)


def test_a_damaged_member_gives_what_it_can_and_each_row_takes_any_k(five: Site) -> None:
    for position, barcode in enumerate(NAMES[: K + M]):
        bad = tuple((1, row, row) for row in range(position, 15, K + M))
        write_faults(image(five, barcode), Faults(unreadable_blocks=bad))
    result = run_repair(five, NAMES[1], ACTOR)
    assert verify(five, result.replacement) == "passed"
    old = known(five, NAMES[1])
    assert (old.content, old.health) == (Content.RETIRED, Health.SUSPECT)
    check_restore(five)


def test_a_repair_that_is_done_is_not_done_again(five: Site) -> None:
    first = run_repair(five, NAMES[3], ACTOR)
    assert run_repair(five, NAMES[3], ACTOR) == first
    again = run_repair(five, first.replacement, ACTOR)
    assert again.replacement == NAMES[K + M + 1]
    assert again.position == first.position == 3
    check_restore(five)


def test_a_replacement_that_fails_is_given_up_for_another(five: Site) -> None:
    lose(five, NAMES[0])
    write_faults(image(five, NAMES[K + M]), Faults(unreadable_blocks=((1, 2, 2),)))
    with pytest.raises(MediumError):
        run_repair(five, NAMES[0], ACTOR)
    spoiled = known(five, NAMES[K + M])
    assert (spoiled.health, spoiled.tape_set) == (Health.SUSPECT, None)
    result = run_repair(five, NAMES[0], ACTOR)
    assert result.replacement == NAMES[K + M + 1]
    assert verify(five, result.replacement) == "passed"


def test_a_replacement_that_is_stuck_in_a_dead_drive_is_given_up_for_another(five: Site) -> None:
    write_faults(image(five, NAMES[K + M]), Faults(drive_dies=DriveDies(after_blocks=3)))
    with pytest.raises(VolumeStuck, match=NAMES[K + M]):
        run_repair(five, NAMES[0], ACTOR)
    assert known(five, NAMES[K + M]).health is Health.DISABLED
    assert run_repair(five, NAMES[0], ACTOR).replacement == NAMES[K + M + 1]


def test_a_replacement_that_is_shorter_is_given_up_for_another(five: Site) -> None:
    write_faults(image(five, NAMES[K + M]), Faults(capacity_bytes=100_000))
    with pytest.raises(VolumeFull, match=NAMES[K + M]):
        run_repair(five, NAMES[0], ACTOR)
    assert known(five, NAMES[K + M]).health is Health.OK
    assert run_repair(five, NAMES[0], ACTOR).replacement == NAMES[K + M + 1]


def test_a_replacement_with_a_strangers_label_is_not_written(five: Site) -> None:
    stranger = image(five, NAMES[K + M])
    shutil.copy(image(five, NAMES[0]), stranger)
    before = stranger.read_bytes()
    with pytest.raises(ForeignTape):
        run_repair(five, NAMES[0], ACTOR)
    assert image(five, NAMES[K + M]).read_bytes() == before
    assert known(five, NAMES[K + M]).health is Health.SUSPECT
    assert run_repair(five, NAMES[0], ACTOR).replacement == NAMES[K + M + 1]


def test_without_a_blank_volume_nothing_is_begun(five: Site) -> None:
    for _ in range(2):
        run_repair(five, NAMES[0] if known(five, NAMES[0]).tape_set else NAMES[1], ACTOR)
    with pytest.raises(NoScratchVolume):
        run_repair(five, NAMES[2], ACTOR)
    add_volumes(five, NAMES[7:8])
    assert run_repair(five, NAMES[2], ACTOR).replacement == NAMES[7]


def test_a_set_that_still_takes_stripes_is_closed_as_it_is(tmp_path: Path) -> None:
    site = make_site(tmp_path, policy=POLICY + "\nkeep_open = true", blank=2 * (K + M) + 1)
    write_files(tmp_path / "live", CONTENTS)
    back_up(site)
    with site.catalog.read() as connection:
        assert tape_sets.tape_set(connection, "live-00001").state == "open"
    result = run_repair(site, NAMES[0], ACTOR)
    with site.catalog.read() as connection:
        assert tape_sets.tape_set(connection, "live-00001").state == "closed"
        held = volumes(connection, tape_sets=["live-00001"])
    assert {v.content for v in held} == {Content.FULL}
    assert verify(site, result.replacement) == "passed"
    write_files(tmp_path / "live", {b"later": b"1"})
    back_up(site)
    check_restore(site)
    site.close()


def test_two_runs_do_not_work_at_once(five: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(*_: Any) -> Any:
        with pytest.raises(LeaseLost, match=NAMES[0]):
            run_repair(five, NAMES[0], ACTOR)
        raise DiskFull("stop here")

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.integrity.repair.stage", second)
        with pytest.raises(DiskFull, match="stop here"):
            run_repair(five, NAMES[0], ACTOR)
    run_repair(five, NAMES[0], ACTOR)


def test_a_run_on_another_host_that_was_overtaken_changes_nothing(
    five: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = backup_write.append_files

    def overtaken(*args: Any) -> int:
        with five.catalog.write() as connection:
            repair = repairs.latest(connection, NAMES[0])
            assert repair is not None
            repairs.advance(connection, repair, repair.files + 1)
        return append(*args)

    with monkeypatch.context() as patch:
        patch.setattr("restore_lib.integrity.repair.append_files", overtaken)
        with pytest.raises(LeaseLost, match="Another run"):
            run_repair(five, NAMES[0], ACTOR)
    assert known(five, NAMES[0]).tape_set == "live-00001"


def test_on_each_database(tmp_path: Path, catalog_url: str) -> None:
    site = make_site(tmp_path, policy=POLICY, blank=K + M + 1, url=catalog_url)
    write_files(tmp_path / "live", CONTENTS)
    back_up(site)
    lose(site, NAMES[4])
    assert verify(site, run_repair(site, NAMES[4], ACTOR).replacement) == "passed"
    check_restore(site)
    site.close()
