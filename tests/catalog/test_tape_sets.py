import threading

import pytest
from sqlalchemy import delete, update

from restore_lib.catalog import recovery_points, repairs, tables, tape_sets, volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import InvalidTransition, NoScratchVolume
from restore_lib.model.states import SetState
from restore_lib.model.volume import Content, Custody, Health
from tests.support.stripes import AT, back_up, begin, new_set


def add(catalog: Catalog, *names: str) -> None:
    with catalog.write() as connection:
        volumes.add_blank(connection, names, actor="test", at=AT)


def test_a_set_is_made_of_blank_volumes_in_order(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = new_set(connection, job_id, k=3, m=2)
        assert held.barcodes == ("V00000", "V00001", "V00002", "V00003", "V00004")
        assert (held.k, held.m, held.stripes, held.state) == (3, 2, 0, SetState.OPEN)
        assert held.recipients == ("age1x",)
        assert tape_sets.sets_of_job(connection, job_id) == [held]
        members = volumes.volumes(connection, tape_sets=[held.id])
    assert [volume.position for volume in members] == [0, 1, 2, 3, 4]


def test_only_blank_sound_idle_volumes_in_the_library_are_taken(catalog: Catalog) -> None:
    add(catalog, "A00001", "A00002", "A00003", "A00004")
    how = {"actor": "test", "reason": "test", "at": AT}
    with catalog.write() as connection:
        volumes.change(connection, ["A00001"], "health", Health.OK, Health.SUSPECT, **how)  # type: ignore[arg-type]  # a test's shorthand
        custody = (Custody.MOUNTABLE, Custody.NOTMOUNTABLE)
        volumes.change(connection, ["A00003"], "custody", *custody, **how)  # type: ignore[arg-type]  # as above
    with pytest.raises(NoScratchVolume, match="3 blank volumes are needed, and the library has 2"):
        take(catalog, 2, 1)
    with catalog.read() as connection:
        assert all(volume.tape_set is None for volume in volumes.volumes(connection))
    assert take(catalog, 1, 1) == ("A00002", "A00004")


def reclaimed(catalog: Catalog, *names: str) -> None:
    """Make volumes those of a set that was reclaimed."""
    with catalog.write() as connection:
        connection.execute(
            update(tables.volumes)
            .where(tables.volumes.c.barcode.in_(names))
            .values(content=Content.LABELLED, former_set="gold-00001")
        )


def test_volumes_of_reclaimed_sets_come_behind_blank_ones(catalog: Catalog) -> None:
    add(catalog, "A00001", "A00002", "A00003", "A00004")
    reclaimed(catalog, "A00001", "A00002")
    with catalog.write() as connection:
        assert tape_sets.former_set(connection, "A00001") == "gold-00001"
        assert tape_sets.former_set(connection, "A00004") is None
        connection.execute(
            update(tables.volumes)
            .where(tables.volumes.c.barcode == "A00002")
            .values(content=Content.RECLAIM_QUARANTINE)
        )
    assert take(catalog, 2, 1) == ("A00003", "A00004", "A00001")


def test_one_whose_label_is_written_over_is_not_free(catalog: Catalog) -> None:
    add(catalog, "A00001")
    reclaimed(catalog, "A00001")
    with catalog.write() as connection:
        tape_sets.forget_former_set(connection, "A00001")
    with pytest.raises(NoScratchVolume):
        take(catalog, 1, 0)


def test_what_a_repair_writes_to_is_not_taken(catalog: Catalog) -> None:
    add(catalog, "A00001", "A00002")
    reclaimed(catalog, "A00001", "A00002")
    with catalog.write() as connection:
        _, held = back_up(connection, {})
        repair = repairs.begin(
            connection,
            barcode=held.barcodes[0],
            replacement="A00001",
            tape_set=held.id,
            position=0,
            at=AT,
        )
    assert take(catalog, 1, 0) == ("A00002",)
    with catalog.write() as connection:
        repairs.abandon(connection, repair, AT)
    assert take(catalog, 1, 0) == ("A00001",)


def take(catalog: Catalog, k: int, m: int) -> tuple[str, ...]:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = tape_sets.create_set(
            connection,
            policy="gold",
            k=k,
            m=m,
            block_size=512,
            recipients=[],
            job_id=job_id,
            at=AT,
        )
    return held.barcodes


def test_sets_made_at_once_share_no_volume_and_no_name(catalog: Catalog) -> None:
    add(catalog, *(f"A{number:05}" for number in range(24)))
    taken: list[tuple[str, ...]] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait(30)
        taken.append(take(catalog, 2, 2))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(taken) == 6
    assert len({barcode for barcodes in taken for barcode in barcodes}) == 24


def test_a_set_is_idle_when_no_job_at_work_holds_it(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [first] = begin(connection)
        held = new_set(connection, first)
        assert tape_sets.idle_open_sets(connection, "gold") == []
        tape_sets.release_set(connection, held.id)
        assert tape_sets.idle_open_sets(connection, "gold") == [held]
        assert tape_sets.idle_open_sets(connection, "silver") == []
        _, [second] = begin(connection)
        tape_sets.claim_set(connection, held.id, second)
        assert tape_sets.idle_open_sets(connection, "gold") == []
        assert tape_sets.sets_of_job(connection, second) == [held]
        recovery_points.end_job(connection, second, {})
        assert tape_sets.idle_open_sets(connection, "gold") == [held]
        tape_sets.close_set(connection, held.id, AT)
        assert tape_sets.idle_open_sets(connection, "gold") == []
        assert tape_sets.tape_set(connection, held.id).state is SetState.CLOSED


def test_a_blank_volume_takes_the_place_of_a_spoiled_one(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        volumes.add_blank(connection, ["W00001"], actor="test", at=AT)
        tape_sets.replace_volumes(connection, held.id, ["V00001"])
        assert tape_sets.tape_set(connection, held.id).barcodes == ("V00000", "W00001", "V00002")
        [spoiled] = volumes.volumes(connection, ["V00001"])
        assert (spoiled.tape_set, spoiled.position) == (None, None)


def test_without_a_blank_volume_nothing_is_replaced(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = new_set(connection, job_id)
        how = {"actor": "test", "reason": "test", "at": AT}
        volumes.change(connection, ["V00001"], "health", Health.OK, Health.SUSPECT, **how)  # type: ignore[arg-type]  # a test's shorthand
    with pytest.raises(NoScratchVolume), catalog.write() as connection:
        tape_sets.replace_volumes(connection, held.id, ["V00001"])
    with catalog.read() as connection:
        assert tape_sets.tape_set(connection, held.id) == held


def test_a_volume_is_in_one_set_only(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        held = new_set(connection, job_id)
    with pytest.raises(InvalidTransition, match="V00001"), catalog.write() as connection:
        tape_sets._assign(connection, held.id, 7, "V00001")


def test_the_files_of_a_set_are_in_order(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, held = back_up(connection, {b"a": b"1"})
        files = tape_sets.files_of_set(connection, held.id)
    assert [(f.stripe, f.position, f.barcode) for f in files] == [
        (1, position, barcode) for position, barcode in enumerate(held.barcodes)
    ]


def test_a_number_is_not_given_twice_where_a_set_is_missing(catalog: Catalog) -> None:
    with catalog.write() as connection:
        _, [job_id] = begin(connection)
        first, second = (new_set(connection, job_id) for _ in range(2))
        connection.execute(update(tables.volumes).values(tape_set=None, position=None))
        connection.execute(delete(tables.tape_sets).where(tables.tape_sets.c.id == first.id))
        assert second.id == "gold-00002"
        assert new_set(connection, job_id).id == "gold-00003"
