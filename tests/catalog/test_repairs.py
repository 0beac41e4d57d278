import pytest

from restore_lib.catalog import repairs, tape_sets, volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.repairs import Repair
from restore_lib.errors import LeaseLost
from tests.support.stripes import AT, back_up


@pytest.fixture
def repair(catalog: Catalog) -> Repair:
    """A repair of the first of three volumes of a set, just begun."""
    with catalog.write() as connection:
        _, held = back_up(connection, {b"1": b"1", b"2": b"2"})
        volumes.add_blank(connection, ["NEW"], actor="test", at=AT)
        return repairs.begin(
            connection,
            barcode=held.barcodes[0],
            replacement="NEW",
            tape_set=held.id,
            position=0,
            at=AT,
        )


def test_a_repair_is_found_again_by_the_volume(catalog: Catalog, repair: Repair) -> None:
    with catalog.write() as connection:
        assert repairs.latest(connection, repair.barcode) == repair
        assert repairs.latest(connection, "NEW") is None
        repairs.abandon(connection, repair, AT)
        abandoned = repairs.latest(connection, repair.barcode)
        assert abandoned is not None
        assert (abandoned.state, abandoned.ended_at) == (repairs.ABANDONED, AT)
        again = repairs.begin(
            connection,
            barcode=repair.barcode,
            replacement="NEW",
            tape_set=repair.tape_set,
            position=0,
            at=AT,
        )
        assert repairs.latest(connection, repair.barcode) == again != repair


def test_only_one_run_takes_it_further(catalog: Catalog, repair: Repair) -> None:
    with catalog.write() as connection:
        further = repairs.advance(connection, repair, 1)
        assert further.files == 1
        repairs.check(connection, further)
    for late in (
        lambda c: repairs.check(c, repair),
        lambda c: repairs.advance(c, repair, 1),
        lambda c: repairs.abandon(c, repair, AT),
        lambda c: repairs.finish(c, repair, AT),
    ):
        with pytest.raises(LeaseLost, match=repair.barcode), catalog.write() as connection:
            late(connection)
    with catalog.read() as connection:
        assert repairs.latest(connection, repair.barcode) == further


def test_at_the_end_the_replacement_stands_in_the_set(catalog: Catalog, repair: Repair) -> None:
    with catalog.write() as connection:
        before = tape_sets.files_of_set(connection, repair.tape_set)
        written = volumes.volume(connection, repair.barcode)
        done = repairs.finish(connection, repair, AT)
    assert (done.state, done.ended_at) == (repairs.DONE, AT)
    with catalog.read() as connection:
        held = tape_sets.tape_set(connection, repair.tape_set)
        after = tape_sets.files_of_set(connection, repair.tape_set)
        old = volumes.volume(connection, repair.barcode)
        new = volumes.volume(connection, "NEW")
    assert held.barcodes[0] == "NEW"
    assert len(held.barcodes) == 3
    assert (old.tape_set, old.position) == (None, None)
    assert (new.tape_set, new.position) == (repair.tape_set, 0)
    assert (new.files, new.bytes) == (written.files, written.bytes)
    changed = [(b.barcode, a.barcode) for b, a in zip(before, after, strict=True) if b != a]
    assert changed == [(repair.barcode, "NEW")]
    with pytest.raises(LeaseLost), catalog.write() as connection:
        repairs.finish(connection, repair, AT)
