import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.catalog import verifications
from restore_lib.integrity.readable import ObjectOnVolume, Readability, objects_on
from restore_lib.integrity.verify_media import (
    begin_verification,
    finish_verification,
    plan_verification,
    verify_volume,
)
from restore_lib.library.faults import Faults, write_faults
from restore_lib.site import Site
from tests.restore.test_batch import flip
from tests.support.sites import ACTOR, back_up, image, make_site, write_files

DATA, PARITY, BLOCK = "TF0000L9", "TF0001L9", 4096
POLICY = 'k = 1\nm = 1\nblock_size = "4KiB"\nsegment_size = "128KiB"'
CONTENTS = {b"%02d" % n: os.urandom(1 + 1500 * n) for n in range(16)} | {
    b"cut": os.urandom(200_000)
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from made(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from made(tmp_path_factory.mktemp("shared"))


def made(root: Path) -> Iterator[Site]:
    opened = make_site(root, policy=POLICY)
    write_files(root / "live", CONTENTS)
    back_up(opened)
    yield opened
    opened.close()


def verify(site: Site, barcode: str = DATA) -> list[ObjectOnVolume]:
    plan = plan_verification(site, barcodes=[barcode])
    run_id = begin_verification(site, plan, ACTOR)
    result = verify_volume(site, run_id, barcode)
    finish_verification(site, run_id)
    return list(objects_on(site, result))


def places(site: Site) -> dict[tuple[int, str], range]:
    """Return the blocks that each object touches, by tape file and member."""
    with site.catalog.read() as connection:
        files = verifications.expected_volume(connection, DATA).files
        return {
            (file.number, m.name): range(m.offset // BLOCK, -(-(m.offset + m.stored_size) // BLOCK))
            for file in files
            for m in verifications.expected_members(connection, DATA, file.number)
        }


def test_on_a_sound_volume_every_object_is_readable_by_name(site: Site) -> None:
    found = verify(site)
    assert {each.key for each in found} == set(CONTENTS)
    assert {each.state for each in found} == {Readability.READABLE}
    parts = [(each.part, each.parts) for each in found if each.key == b"cut"]
    assert parts == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    assert len(parts) > 1
    assert verify(site, PARITY) == []


@settings(max_examples=30, deadline=None)
@given(bad=st.sets(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=14))
def test_exactly_the_objects_on_bad_blocks_are_unreadable(
    shared: Site, bad: set[tuple[int, int]]
) -> None:
    faults = Faults(unreadable_blocks=tuple((f, b, b) for f, b in sorted(bad)))
    write_faults(image(shared, DATA), faults)
    states = {(each.file, each.member): each.state for each in verify(shared)}
    expected = {
        (number, name): Readability.UNREADABLE
        if any((number, block) in bad for block in blocks)
        else Readability.READABLE
        for (number, name), blocks in places(shared).items()
    }
    assert states == expected


def test_wrong_bytes_in_a_header_do_not_hide_the_objects_behind_it(site: Site) -> None:
    before = places(site)
    flip(site, DATA, 1, 2)
    touched = {place for place, blocks in before.items() if place[0] == 1 and 2 in blocks}
    bad = {(o.file, o.member) for o in verify(site) if o.state is Readability.UNREADABLE}
    assert bad <= touched
    assert bad


def test_what_a_given_up_tape_file_has_left_is_not_read(site: Site) -> None:
    write_faults(image(site, DATA), Faults(unreadable_blocks=((1, 4, 99),)))
    found = verify(site)
    counted = Counter(each.state for each in found if each.file == 1)
    assert all(counted[state] for state in Readability)
    order = [each.state for each in found if each.file == 1]
    assert order == sorted(order, key=list(Readability).index)
    assert {each.state for each in found if each.file > 1} == {Readability.READABLE}


def test_without_a_label_nothing_is_read(site: Site) -> None:
    write_faults(image(site, DATA), Faults(unreadable=True))
    assert {each.state for each in verify(site)} == {Readability.NOT_READ}
