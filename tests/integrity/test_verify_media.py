"""Verification of media: real virtual volumes are read through, and each damage is named."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from restore_lib.catalog import audit, verifications
from restore_lib.catalog.leases import CatalogLeases
from restore_lib.catalog.tables import volumes
from restore_lib.catalog.verifications import VolumeResult
from restore_lib.catalog.volumes import change, history, known, set_flag
from restore_lib.errors import DriveBusy, LibraryOffline, Refused
from restore_lib.integrity import verify_media
from restore_lib.integrity.tape_check import MAX_BAD_BLOCKS, Findings, check_volume
from restore_lib.integrity.verify_media import (
    begin_verification,
    finish_verification,
    plan_verification,
    verify_volume,
)
from restore_lib.library.faults import DriveDies, Faults
from restore_lib.library.mounting import mounted
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Custody, Flag, Health, Volume
from restore_lib.site import Site
from tests.integrity.tapes import (
    BLOCK,
    DATA,
    PARITY,
    SPARE,
    harm,
    image,
    make_library,
    read_volume,
    write_set,
    write_volume,
)
from tests.support.clock import ManualClock


@pytest.fixture
def written(sqlite_site: Site, tmp_path: Path) -> Site:
    """The site with a set of one data and one parity volume, of two stripes."""
    write_set(sqlite_site, tmp_path)
    return sqlite_site


def test_a_run_on_each_database(site: Site, tmp_path: Path) -> None:
    write_set(site, tmp_path)
    harm(site, DATA, Faults(unreadable_blocks=((1, 2, 2),)))
    run_id, results = verify(site)
    assert {b: r.verdict for b, r in results.items()} == {
        DATA: Verdict.FAILED,
        PARITY: Verdict.PASSED,
    }
    assert volume(site, DATA).health is Health.SUSPECT
    assert finish_verification(site, run_id) is Verdict.FAILED


def verify(site: Site, *barcodes: str) -> tuple[int, dict[str, VolumeResult]]:
    run_id = begin_verification(site, plan_verification(site, barcodes=barcodes or None), "ann")
    with site.catalog.read() as connection:
        planned = verifications.results(connection, run_id)
    return run_id, {p.barcode: verify_volume(site, run_id, p.barcode) for p in planned}


def volume(site: Site, barcode: str) -> Volume:
    with site.catalog.read() as connection:
        return known(connection, [barcode])[0]


def problems(result: VolumeResult) -> list[tuple[int | None, str | None]]:
    return [(problem["file"], problem["member"]) for problem in result.problems]


class Counter:
    def __init__(self) -> None:
        self.staged: tuple[int | None, int | None] = (None, None)
        self.done = (0, 0)

    def stage(self, label: str, objects: int | None = None, size: int | None = None) -> None:
        self.staged = (objects, size)

    def advance(self, objects: int = 0, size: int = 0) -> None:
        self.done = (self.done[0] + objects, self.done[1] + size)


def test_sound_volumes_pass(written: Site) -> None:
    run_id, results = verify(written)
    assert set(results) == {DATA, PARITY}
    for barcode, result in results.items():
        assert (result.verdict, result.files, result.problems) == (Verdict.PASSED, 2, ())
        assert result.bytes > 2 * 4 * 3 * BLOCK
        found = volume(written, barcode)
        assert (found.health, found.verified_at) == (Health.OK, written.clock.now())
    assert finish_verification(written, run_id) is Verdict.PASSED
    with written.catalog.read() as connection:
        run = verifications.run(connection, run_id)
        assert audit.verify(connection).count == 2
    assert (run.verdict, run.ended_at) == (Verdict.PASSED, written.clock.now())


def test_progress_comes_to_what_was_announced(written: Site) -> None:
    run_id = begin_verification(written, plan_verification(written), "ann")
    counter = Counter()
    verify_volume(written, run_id, DATA, counter)
    assert counter.done == counter.staged
    assert counter.done[0] == 2


def test_a_bad_block_names_its_members_and_spares_the_rest(written: Site) -> None:
    harm(written, DATA, Faults(unreadable_blocks=((1, 2, 2), (2, 5, 6))))
    run_id, results = verify(written, DATA)
    result = results[DATA]
    assert (result.verdict, result.files) == (Verdict.FAILED, 2)
    assert (1, "objects/00000000.age") in problems(result)
    assert (1, None) in problems(result)
    assert not {(1, "objects/00000001.age"), (2, "objects/00000000.age")} & set(problems(result))
    assert [p["what"] for p in result.problems if p["file"] == 2 and p["member"] is None] == [
        "these blocks can't be read: 5, 6"
    ]
    assert volume(written, DATA).health is Health.SUSPECT
    assert volume(written, DATA).verified_at == written.clock.now()
    assert finish_verification(written, run_id) is Verdict.FAILED


def test_a_bad_last_block_is_found(written: Site) -> None:
    last = len(read_volume(written, DATA, 3)[2]) // BLOCK - 1
    harm(written, DATA, Faults(unreadable_blocks=((2, last, last),)))
    _, results = verify(written, DATA)
    assert results[DATA].problems[-1]["what"] == f"these blocks can't be read: {last}"


def test_changed_bytes_are_named_by_member(written: Site) -> None:
    path = image(written, DATA)
    tape = bytearray(path.read_bytes())
    files = read_volume(written, DATA, 3)
    tape[tape.index(files[2][BLOCK : 2 * BLOCK]) + 100] ^= 1
    path.write_bytes(tape)
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(2, "objects/00000000.age"), (2, None)]
    assert "SHA-256" in results[DATA].problems[1]["what"]
    assert volume(written, DATA).health is Health.SUSPECT


def test_changed_parity_is_found_by_its_digest(written: Site) -> None:
    files = read_volume(written, PARITY, 3)
    files[1] = files[1][:-1] + bytes([files[1][-1] ^ 1])
    write_volume(written, PARITY, files)
    _, results = verify(written, PARITY)
    assert problems(results[PARITY]) == [(1, None)]
    assert results[PARITY].files == 2


def test_a_manifest_that_agrees_with_other_bytes_does_not_pass(written: Site) -> None:
    """Tape file 2 in the place of 1: sound in itself, but not what the catalog has."""
    files = read_volume(written, DATA, 3)
    write_volume(written, DATA, [files[0], files[2], files[2]])
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(1, None)]


def test_a_tape_file_of_another_length_is_found(written: Site) -> None:
    files = read_volume(written, PARITY, 3)
    write_volume(written, PARITY, [files[0], files[1][:-BLOCK], files[2]])
    _, results = verify(written, PARITY)
    assert "the catalog has" in results[PARITY].problems[0]["what"]


def test_a_segment_that_does_not_parse(written: Site) -> None:
    files = read_volume(written, DATA, 3)
    write_volume(written, DATA, [files[0], b"\xff" * len(files[1]), files[2]])
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(1, None)]
    assert results[DATA].files == 2
    assert volume(written, DATA).health is Health.SUSPECT


def test_a_tape_that_ends_early(written: Site) -> None:
    write_volume(written, DATA, read_volume(written, DATA, 2))
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(2, None)]
    assert (results[DATA].verdict, results[DATA].files) == (Verdict.FAILED, 1)
    assert volume(written, DATA).health is Health.SUSPECT


def test_a_closing_tape_file_is_checked(written: Site) -> None:
    for barcode in (DATA, PARITY):
        files = read_volume(written, barcode, 4)
        files[3] = files[3][:600] + bytes([files[3][600] ^ 1]) + files[3][601:]
        write_volume(written, barcode, files)
    _, results = verify(written)
    assert {barcode: problems(result) for barcode, result in results.items()} == {
        DATA: [(3, None)],
        PARITY: [(3, None)],
    }


def test_a_volume_without_room_for_a_closing_tape_file_is_sound(written: Site) -> None:
    write_volume(written, DATA, read_volume(written, DATA, 3))
    _, results = verify(written, DATA)
    assert results[DATA].verdict is Verdict.PASSED


def test_only_a_label_is_left(written: Site) -> None:
    write_volume(written, DATA, read_volume(written, DATA, 1))
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(1, None), (2, None)]
    assert volume(written, DATA).health is Health.BROKEN


def test_a_file_with_too_many_bad_blocks_is_given_up(written: Site, tmp_path: Path) -> None:
    assert len(read_volume(written, DATA, 2)[1]) > MAX_BAD_BLOCKS * BLOCK
    harm(written, DATA, Faults(unreadable_blocks=((1, 0, 1000),)))
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(1, None)]
    assert (results[DATA].files, volume(written, DATA).health) == (1, Health.SUSPECT)


@pytest.mark.parametrize(
    "faults", [Faults(unreadable=True), Faults(unreadable_blocks=((0, 0, 0),))]
)
def test_an_unreadable_volume_or_label_is_broken(written: Site, faults: Faults) -> None:
    harm(written, DATA, faults)
    run_id, results = verify(written, DATA)
    assert (results[DATA].verdict, results[DATA].files) == (Verdict.FAILED, 0)
    assert volume(written, DATA).health is Health.BROKEN
    with written.catalog.read() as connection:
        last = history(connection, DATA)[-1]
    assert (last.field, last.before, last.after) == ("health", "ok", "broken")
    assert last.actor == f"verification {run_id}"


def test_a_blank_tape_and_half_a_label_are_broken(written: Site) -> None:
    label = read_volume(written, DATA, 1)[0]
    image(written, PARITY).write_bytes(b"")
    write_volume(written, DATA, [label[:BLOCK]])
    _, results = verify(written)
    assert "blank" in results[PARITY].problems[0]["what"]
    assert {volume(written, barcode).health for barcode in (DATA, PARITY)} == {Health.BROKEN}


def test_the_label_of_another_volume_is_flagged(written: Site) -> None:
    write_volume(written, DATA, read_volume(written, PARITY, 3))
    _, results = verify(written, DATA)
    assert problems(results[DATA]) == [(0, None)]
    assert f"volume {PARITY}" in results[DATA].problems[0]["what"]
    found = volume(written, DATA)
    assert (found.health, found.flags) == (Health.SUSPECT, frozenset({Flag.LABEL_MISMATCH}))


def test_a_foreign_tape_is_flagged(written: Site) -> None:
    write_volume(written, DATA, [b"someone else's" * 100])
    _, results = verify(written, DATA)
    assert results[DATA].verdict is Verdict.FAILED
    assert volume(written, DATA).flags == {Flag.FOREIGN}


def test_a_volume_that_is_not_there_stays_unchecked(written: Site) -> None:
    plan = plan_verification(written)
    written.library.export(DATA)
    run_id = begin_verification(written, plan, "ann")
    result = verify_volume(written, run_id, DATA)
    assert (result.verdict, result.files) == (Verdict.NOT_CHECKED, 0)
    found = volume(written, DATA)
    assert found.flags == {Flag.MISSING}
    assert (found.verified_at, found.health) == (None, Health.OK)
    assert verify_volume(written, run_id, PARITY).verdict is Verdict.PASSED
    assert finish_verification(written, run_id) is Verdict.PARTIAL


def test_a_volume_that_was_sent_out_meanwhile_is_not_missing(written: Site) -> None:
    plan = plan_verification(written)
    written.library.export(DATA)
    how: dict[str, Any] = {"actor": "ann", "reason": "to the vault", "at": written.clock.now()}
    with written.catalog.write() as connection:
        change(connection, [DATA], "custody", Custody.MOUNTABLE, Custody.NOTMOUNTABLE, **how)
    result = verify_volume(written, begin_verification(written, plan, "ann"), DATA)
    assert result.verdict is Verdict.NOT_CHECKED
    assert volume(written, DATA).flags == frozenset()


def test_zero_checked_never_passes(written: Site) -> None:
    empty = begin_verification(written, [], "ann")
    assert finish_verification(written, empty) is Verdict.NOT_CHECKED
    unread = begin_verification(written, plan_verification(written), "ann")
    assert finish_verification(written, unread) is Verdict.NOT_CHECKED


def test_the_oldest_verified_is_first(written: Site) -> None:
    assert [c.barcode for c in plan_verification(written)] == [DATA, PARITY]
    verify(written, DATA)
    assert [c.barcode for c in plan_verification(written)] == [PARITY, DATA]
    assert isinstance(written.clock, ManualClock)
    written.clock.advance(timedelta(days=1))
    verify(written, PARITY)
    plan = plan_verification(written)
    assert [c.barcode for c in plan] == [DATA, PARITY]
    assert [c.barcode for c in plan_verification(written, limit=1)] == [DATA]
    assert (plan[0].files, plan[0].verified_at is not None) == (2, True)


@pytest.mark.parametrize(
    "values", [{"custody": "vault"}, {"health": "broken"}, {"health": "disabled"}]
)
def test_only_what_can_be_mounted_is_planned(written: Site, values: Mapping[str, Any]) -> None:
    with written.catalog.write() as connection:
        connection.execute(update(volumes).where(volumes.c.barcode == DATA).values(**values))
    assert [c.barcode for c in plan_verification(written)] == [PARITY]
    for barcode in (DATA, SPARE, "VT9999"):
        with pytest.raises(Refused, match=barcode):
            plan_verification(written, barcodes=[barcode, PARITY])


def test_a_library_without_data_has_nothing_to_verify(sqlite_site: Site) -> None:
    make_library(sqlite_site)
    assert plan_verification(sqlite_site) == []


def test_steps_done_twice_change_nothing(written: Site) -> None:
    plan = plan_verification(written)
    run_id = begin_verification(written, plan, "ann")
    assert begin_verification(written, plan, "ann") == run_id
    first = verify_volume(written, run_id, DATA)
    harm(written, DATA, Faults(unreadable=True))
    assert verify_volume(written, run_id, DATA) == first
    assert begin_verification(written, plan, "ann") != run_id
    assert finish_verification(written, run_id) is Verdict.PARTIAL
    assert verify_volume(written, run_id, PARITY).verdict is Verdict.NOT_CHECKED
    assert finish_verification(written, run_id) is Verdict.PARTIAL


def test_a_run_or_volume_that_is_not_there(written: Site) -> None:
    run_id = begin_verification(written, plan_verification(written, barcodes=[DATA]), "ann")
    with pytest.raises(Refused, match="no verification 999"):
        verify_volume(written, 999, DATA)
    with pytest.raises(Refused, match=PARITY):
        verify_volume(written, run_id, PARITY)


def test_a_busy_volume_is_tried_again_later(written: Site) -> None:
    run_id = begin_verification(written, plan_verification(written), "ann")
    leases = CatalogLeases(written.catalog, written.clock)
    with mounted(written.library, leases, DATA, "a restore"), pytest.raises(DriveBusy):
        verify_volume(written, run_id, DATA)
    assert verify_volume(written, run_id, DATA).verdict is Verdict.PASSED


def test_a_drive_that_dies_is_not_the_volume_s_fault(written: Site) -> None:
    run_id = begin_verification(written, plan_verification(written), "ann")
    harm(written, DATA, Faults(drive_dies=DriveDies(after_blocks=9)))
    with pytest.raises(LibraryOffline):
        verify_volume(written, run_id, DATA)
    found = volume(written, DATA)
    assert (found.health, found.verified_at) == (Health.OK, None)
    assert CatalogLeases(written.catalog, written.clock).holders() == {}


def test_a_second_finding_makes_a_suspect_broken(written: Site) -> None:
    harm(written, DATA, Faults(unreadable_blocks=((1, 2, 2),)))
    for _ in range(2):
        verify(written, DATA)
        assert volume(written, DATA).health is Health.SUSPECT
    harm(written, DATA, Faults(unreadable=True))
    verify(written, DATA)
    assert volume(written, DATA).health is Health.BROKEN
    with written.catalog.read() as connection:
        changes = [e.after for e in history(connection, DATA) if e.field == "health"]
    assert changes == ["ok", "suspect", "broken"]


def doubt(site: Site, barcode: str, health: Health, *flags: Flag) -> None:
    how: dict[str, Any] = {"actor": "ann", "reason": "test", "at": site.clock.now()}
    with site.catalog.write() as connection:
        if health is not Health.OK:
            change(connection, [barcode], "health", Health.OK, health, **how)
        for flag in flags:
            set_flag(connection, [barcode], flag, **how)


def test_a_volume_that_passes_is_absolved(written: Site) -> None:
    doubt(written, DATA, Health.SUSPECT, *Flag)
    doubt(written, PARITY, Health.OK, Flag.MISSING)
    run_id, results = verify(written)
    assert {result.verdict for result in results.values()} == {Verdict.PASSED}
    for barcode in (DATA, PARITY):
        found = volume(written, barcode)
        assert (found.health, found.flags) == (Health.OK, frozenset())
    with written.catalog.read() as connection:
        last = history(connection, DATA)[-1]
    assert (last.field, last.before, last.after) == ("health", "suspect", "ok")
    assert (last.actor, last.reason) == (f"verification {run_id}", "passed verification")


def test_swapped_volumes_that_are_put_right_are_absolved(written: Site) -> None:
    right = read_volume(written, DATA, 4)
    write_volume(written, DATA, read_volume(written, PARITY, 4))
    verify(written, DATA)
    assert volume(written, DATA).flags == {Flag.LABEL_MISMATCH}
    write_volume(written, DATA, right)
    verify(written, DATA)
    assert (volume(written, DATA).health, volume(written, DATA).flags) == (Health.OK, frozenset())


@pytest.mark.parametrize(
    "faults", [Faults(unreadable_blocks=((1, 2, 2),)), Faults(unreadable_blocks=((3, 0, 0),))]
)
def test_only_a_volume_that_passes_whole_is_absolved(written: Site, faults: Faults) -> None:
    doubt(written, DATA, Health.SUSPECT, Flag.MISSING)
    harm(written, DATA, faults)
    _, results = verify(written, DATA)
    assert results[DATA].verdict is Verdict.FAILED
    found = volume(written, DATA)
    assert (found.health, found.flags) == (Health.SUSPECT, frozenset({Flag.MISSING}))


def test_what_comes_up_while_a_volume_is_verified_stays(
    written: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: Any) -> Findings:
        found = check_volume(*arguments)
        doubt(written, DATA, Health.SUSPECT, Flag.SEAL_BROKEN)
        return found

    doubt(written, DATA, Health.OK, Flag.UNEXPECTED)
    monkeypatch.setattr(verify_media, "check_volume", meanwhile)
    _, results = verify(written, DATA)
    assert results[DATA].verdict is Verdict.PASSED
    found = volume(written, DATA)
    assert (found.health, found.flags) == (Health.SUSPECT, frozenset({Flag.SEAL_BROKEN}))


def test_no_key_is_needed(written: Site) -> None:
    assert written.config.keys.identity_file is None
    _, results = verify(written)
    assert {result.verdict for result in results.values()} == {Verdict.PASSED}
