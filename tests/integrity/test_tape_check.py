"""Checking a mounted volume, with a drive of plain lists where only the reading matters."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from restore_lib.catalog.verifications import ExpectedFile, ExpectedVolume
from restore_lib.errors import EndOfData, LeaseLost, MediumError
from restore_lib.integrity.tape_check import MAX_BAD_BLOCKS, Damage, Findings, check_volume
from restore_lib.library.base import Position, Range
from restore_lib.tape.label import Label, encode_label
from restore_lib.tape.volume_index import Stripe, StripeMember, StripeTable, encode_stripe_table

BLOCK = 512
LABEL = Label("V1", "camp", "S", 1, 1, 1, BLOCK, datetime(2030, 1, 1, tzinfo=UTC), ("age1x",))
DATA = [hashlib.sha512(b"%d" % n).digest() * 8 for n in range(40)]


class ListDrive:
    """A drive over lists of blocks; ``bad`` raise when read, block -1 when its file is gone to."""

    number = 0

    def __init__(
        self,
        files: Sequence[Sequence[bytes]],
        bad: dict[tuple[int, int], Exception] | MappingProxyType[tuple[int, int], Exception],
    ) -> None:
        self.files = files
        self.bad = bad
        self.at = Position(0, 0)
        self.reads = 0

    def barcode(self) -> str | None:
        return "V1"

    def rewind(self) -> None:
        self.at = Position(0, 0)

    def locate(self, file: int, block: int = 0) -> None:
        if file >= len(self.files) or block > len(self.files[file]):
            raise EndOfData("The tape ends before.")
        if (file, -1) in self.bad:
            raise self.bad[file, -1]
        self.at = Position(file, block)

    def space_to_end(self) -> Position:
        raise NotImplementedError

    def position(self) -> Position:
        return self.at

    def read(self) -> bytes | None:
        self.reads += 1
        file, block = self.at.file, self.at.block
        if (file, block) in self.bad:
            raise self.bad[file, block]
        if file == len(self.files):
            raise EndOfData("The tape ends here.")
        if block == len(self.files[file]):
            self.at = Position(file + 1, 0)
            return None
        self.at = Position(file, block + 1)
        return self.files[file][block]

    def write(self, block: bytes) -> None:
        raise AssertionError("a check writes nothing")

    def write_filemark(self) -> None:
        raise AssertionError("a check writes nothing")

    def geometry(self) -> None:
        return None

    def recommended_order(self, ranges: Sequence[Range]) -> None:
        return None


def label_blocks(label: Label = LABEL) -> list[bytes]:
    data = encode_label(label)
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def check(
    files: Sequence[Sequence[bytes]],
    bad: dict[tuple[int, int], Exception] | None = None,
    expected: Sequence[Sequence[bytes]] = (DATA, DATA[:7]),
    *,
    closed: bool = False,
) -> tuple[Findings, list[tuple[int, int]]]:
    """Check a parity volume that should hold ``expected``."""
    volume = ExpectedVolume(
        "V1",
        "S",
        1,
        1,
        BLOCK,
        closed,
        tuple(
            ExpectedFile(number, len(blocks), hashlib.sha256(b"".join(blocks)).hexdigest())
            for number, blocks in enumerate(expected, start=1)
        ),
    )
    done: list[tuple[int, int]] = []
    drive = ListDrive(files, bad or MappingProxyType({}))
    findings = check_volume(drive, "camp", volume, lambda count, size: done.append((count, size)))
    return findings, done


def medium_errors(*blocks: tuple[int, int]) -> dict[tuple[int, int], Exception]:
    return dict.fromkeys(blocks, MediumError("That block can't be read."))


def test_what_is_as_it_should_be() -> None:
    findings, done = check([label_blocks(), DATA, DATA[:7]])
    assert findings == Findings(Damage.NONE, 2, 47 * BLOCK, [])
    assert done == [(1, 40 * BLOCK), (1, 7 * BLOCK)]


def test_what_lies_behind_an_open_set_is_not_read() -> None:
    findings, _ = check([label_blocks(), DATA, DATA[:7], [b"leftover"]])
    assert findings.damage is Damage.NONE


def closing_blocks(*stripes: Sequence[bytes]) -> list[bytes]:
    """The stripe table of a parity volume with these tape files."""
    listed = tuple(
        Stripe(
            number,
            (
                StripeMember(0, "V0", 3, "00" * 32),
                StripeMember(1, "V1", len(data), hashlib.sha256(b"".join(data)).hexdigest()),
            ),
        )
        for number, data in enumerate(stripes, start=1)
    )
    data = encode_stripe_table(StripeTable("V1", "S", 1, 1, 1, BLOCK, listed))
    return [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]


def test_the_closing_tape_file_of_a_closed_set_is_checked() -> None:
    files = [label_blocks(), DATA, DATA[:7]]
    sound = closing_blocks(DATA, DATA[:7])
    assert check([*files, sound], closed=True)[0].damage is Damage.NONE
    assert check(files, closed=True)[0].damage is Damage.NONE
    assert check([*files, [b"never committed" * 64]], closed=True)[0].damage is Damage.NONE
    cases: list[tuple[list[bytes], dict[tuple[int, int], Exception] | None]] = [
        (closing_blocks(DATA, DATA[:6]), None),
        (closing_blocks(DATA), None),
        ([*sound[:1], bytes(BLOCK), *sound[2:]], None),
        ([], None),
        (sound, medium_errors((3, 1))),
        (sound, {(3, 1): EndOfData("The tape ends here.")}),
        (sound, medium_errors((3, -1))),
    ]
    for closing, bad in cases:
        findings, done = check([*files, closing], bad, closed=True)
        assert (findings.damage, findings.files, len(done)) == (Damage.SOME, 2, 2)
        assert [problem["file"] for problem in findings.problems] == [3]


@pytest.mark.parametrize("bad", [[0], [39], [0, 1, 2], [5, 17, 39], list(range(MAX_BAD_BLOCKS))])
def test_bad_blocks_are_listed_and_read_around(bad: list[int]) -> None:
    findings, _ = check([label_blocks(), DATA, DATA[:7]], medium_errors(*[(1, n) for n in bad]))
    assert (findings.damage, findings.files) == (Damage.SOME, 2)
    (problem,) = findings.problems
    assert problem["what"].endswith(": " + ", ".join(map(str, bad)))


def test_too_many_bad_blocks_end_the_file_and_not_the_check() -> None:
    bad = medium_errors(*[(1, n) for n in range(MAX_BAD_BLOCKS + 1)])
    findings, done = check([label_blocks(), DATA, DATA[:7]], bad)
    assert (findings.damage, findings.files) == (Damage.SOME, 1)
    assert [problem["file"] for problem in findings.problems] == [1]
    assert done == [(1, 7 * BLOCK)]


def test_a_tape_cut_in_mid_file() -> None:
    findings, _ = check([label_blocks(), DATA], {(1, 30): EndOfData("The tape ends here.")})
    assert (findings.damage, findings.files) == (Damage.ALL, 0)
    assert [problem["file"] for problem in findings.problems] == [1, 2]


@pytest.mark.parametrize("wrong", [DATA[:6], [*DATA[:6], DATA[8]], [*DATA[:7], DATA[8]]])
def test_other_bytes_or_another_length(wrong: list[bytes]) -> None:
    findings, _ = check([label_blocks(), DATA, wrong])
    assert (findings.damage, findings.files) == (Damage.SOME, 2)
    assert [problem["file"] for problem in findings.problems] == [2]


def test_labels_that_are_not_the_expected_one() -> None:
    for other in (
        replace(LABEL, barcode="V2"),
        replace(LABEL, cluster="other"),
        replace(LABEL, tape_set="T"),
        replace(LABEL, position=0),
    ):
        findings, done = check([label_blocks(other), DATA, DATA[:7]])
        assert (findings.damage, findings.files, done) == (Damage.MISLABELLED, 0, [])


def test_a_label_that_is_not_ours_and_one_that_is_damaged() -> None:
    assert check([[b"no label" * 64]])[0].damage is Damage.STRANGER
    assert check([label_blocks()[:2]])[0].damage is Damage.ALL
    assert check([label_blocks()], medium_errors((0, 1)))[0].damage is Damage.ALL
    assert check([])[0].problems == [{"file": 0, "member": None, "what": "the tape is blank"}]


def test_what_is_not_the_tape_s_fault_passes() -> None:
    with pytest.raises(LeaseLost):
        check([label_blocks(), DATA], {(1, 3): LeaseLost("Another holder has the drive.")})
