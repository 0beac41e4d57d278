import shutil
from pathlib import Path
from typing import Any

import pytest

from restore_lib.errors import (
    DigestMismatch,
    DiskFull,
    MediumError,
)
from restore_lib.integrity import member_files
from restore_lib.integrity.repair import run_repair
from restore_lib.library.faults import Faults, write_faults
from restore_lib.library.virtual_drive import VirtualDrive
from restore_lib.site import Site
from tests.integrity.repairs import (
    NAMES,
    K,
    M,
    known,
    lose,
    tape_files,
    verify,
)
from tests.restore.test_batch import flip
from tests.support.sites import (
    ACTOR,
    image,
)


def test_a_member_without_a_readable_block_is_left_early(
    five: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(member_files, "_PATIENCE", 2)
    write_faults(image(five, NAMES[0]), Faults(unreadable_blocks=((1, 0, 99), (2, 0, 99))))
    failed = 0
    read = VirtualDrive.read

    def counting(drive: VirtualDrive) -> bytes | None:
        nonlocal failed
        try:
            return read(drive)
        except MediumError:
            failed += 1
            raise

    monkeypatch.setattr(VirtualDrive, "read", counting)
    assert verify(five, run_repair(five, NAMES[0], ACTOR).replacement) == "passed"
    assert failed == 2


def test_wrong_bytes_of_the_member_or_of_another_are_gone_around(five: Site) -> None:
    flip(five, NAMES[0], 1, 3)
    flip(five, NAMES[2], 1, 4)
    result = run_repair(five, NAMES[0], ACTOR)
    assert verify(five, result.replacement) == "passed"
    lose(five, NAMES[1])
    assert verify(five, run_repair(five, NAMES[1], ACTOR).replacement) == "passed"


def test_when_all_sources_are_wrong_nothing_is_written(five: Site) -> None:
    for barcode in NAMES[: K + M]:
        flip(five, barcode, 1, 3)
    with pytest.raises(DigestMismatch, match="Tape file 1"):
        run_repair(five, NAMES[0], ACTOR)
    assert known(five, NAMES[0]).tape_set == "live-00001"
    assert known(five, NAMES[K + M]).files == 0


def test_a_row_with_too_few_blocks_is_named(five: Site) -> None:
    for barcode in NAMES[: M + 1]:
        write_faults(image(five, barcode), Faults(unreadable_blocks=((2, 3, 3),)))
    with pytest.raises(MediumError, match=r"Block 3 of tape file 2 .* only 2 of the 3"):
        run_repair(five, NAMES[0], ACTOR)
    assert known(five, NAMES[0]).tape_set == "live-00001"
    write_faults(image(five, NAMES[2]), Faults())
    result = run_repair(five, NAMES[0], ACTOR)
    assert verify(five, result.replacement) == "passed"


def test_little_room_takes_more_mounts_and_none_is_an_error(
    five: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(five.staging)
    mounts: list[str] = []
    stage = member_files.stage

    def staged(*args: Any) -> list[Path]:
        mounts.append("group")
        return stage(*args)

    monkeypatch.setattr("restore_lib.integrity.repair.stage", staged)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_001))
        with pytest.raises(DiskFull, match="tape file 1"):
            run_repair(five, NAMES[0], ACTOR)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_600_000))
        result = run_repair(five, NAMES[0], ACTOR)
    assert len(mounts) == len({file.stripe for file in tape_files(five)})
    assert verify(five, result.replacement) == "passed"
