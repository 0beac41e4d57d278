import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, update

from restore_lib.catalog import tables, volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import InvalidTransition, Refused
from restore_lib.model.volume import (
    CONTENT_CHANGES,
    CUSTODY_CHANGES,
    HEALTH_CHANGES,
    Content,
    Custody,
    CustodyEvent,
    Flag,
    Health,
    Standing,
    Volume,
    fold,
    vault_of,
    vault_place,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = ["V00001", "V00002", "V00003"]


def cause(reason: str, at: datetime = NOW) -> dict[str, Any]:
    return {"actor": "ann", "reason": reason, "at": at}


def add(connection: Connection, *barcodes: str) -> None:
    volumes.add_blank(connection, barcodes or NAMES, actor="ann", at=NOW)


def to_dock(connection: Connection, *barcodes: str) -> None:
    volumes.change(
        connection,
        barcodes,
        "custody",
        Custody.MOUNTABLE,
        Custody.NOTMOUNTABLE,
        place="dock",
        actor="ann",
        reason="out",
        at=NOW,
    )


def standing(volume: Volume) -> Standing:
    return Standing(volume.content, volume.health, volume.custody, volume.flags, volume.place)


def test_blank_volumes_are_mountable_in_the_library(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
    with catalog.read() as connection:
        found = volumes.volumes(connection)
        history = volumes.history(connection, "V00002")
    assert [v.barcode for v in found] == NAMES
    assert found[0] == Volume(
        barcode="V00001",
        tape_set=None,
        position=None,
        content=Content.BLANK,
        health=Health.OK,
        custody=Custody.MOUNTABLE,
        flags=frozenset(),
        place="library",
        files=0,
        bytes=0,
        verified_at=None,
        ready_at=None,
    )
    assert [(e.field, e.before, e.after) for e in history] == [
        ("content", "", "blank"),
        ("health", "", "ok"),
        ("custody", "", "mountable"),
    ]
    assert {(e.actor, e.at, e.place) for e in history} == {("ann", NOW, "library")}


def test_a_barcode_is_added_once(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection, "V00001")
    with pytest.raises(Refused, match="V00001"), catalog.write() as connection:
        add(connection, "V00001", "V00009")
    with catalog.read() as connection:
        assert len(volumes.volumes(connection)) == 1


def test_a_change_moves_all_and_records_each(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
        to_dock(connection, "V00001", "V00003")
    with catalog.read() as connection:
        moved = volumes.volumes(connection, custody=[Custody.NOTMOUNTABLE])
        last = volumes.history(connection, "V00003")[-1]
        untouched = volumes.volume(connection, "V00002")
    assert [(v.barcode, v.place) for v in moved] == [("V00001", "dock"), ("V00003", "dock")]
    assert last == CustodyEvent(
        id=last.id,
        barcode="V00003",
        at=NOW,
        field="custody",
        before="mountable",
        after="notmountable",
        place="dock",
        actor="ann",
        reason="out",
        shipment_id=None,
    )
    assert untouched.custody is Custody.MOUNTABLE


def test_a_change_of_volumes_that_have_moved_on_names_them_and_changes_none(
    catalog: Catalog,
) -> None:
    with catalog.write() as connection:
        add(connection)
        to_dock(connection, "V00002")
    with (
        pytest.raises(InvalidTransition, match="V00002 is notmountable") as caught,
        catalog.write() as connection,
    ):
        to_dock(connection, *NAMES)
    assert "V00001" not in caught.value.message
    with catalog.read() as connection:
        assert volumes.volume(connection, "V00001").custody is Custody.MOUNTABLE
        assert len(volumes.history(connection, "V00001")) == 3


def test_a_forbidden_change_is_refused(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
    to_vault = (Custody.MOUNTABLE, Custody.VAULT)
    with (
        pytest.raises(InvalidTransition, match="can't go from mountable to vault"),
        catalog.write() as connection,
    ):
        volumes.change(connection, NAMES, "custody", *to_vault, **cause("?"))


def test_an_unknown_volume_is_refused_by_name(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
    with pytest.raises(Refused, match="V00404"), catalog.write() as connection:
        to_dock(connection, "V00001", "V00404")
    with pytest.raises(Refused, match="V00404"), catalog.read() as connection:
        volumes.volume(connection, "V00404")


def test_changing_no_volumes_does_nothing(catalog: Catalog) -> None:
    with catalog.write() as connection:
        to_dock(connection)
        assert volumes.volumes(connection, []) == []


def test_flags_are_set_and_cleared_once(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
        by = cause("scan")
        assert volumes.set_flag(connection, NAMES[:2], Flag.MISSING, **by) == NAMES[:2]
        assert volumes.set_flag(connection, NAMES, Flag.MISSING, **by) == NAMES[2:]
        assert volumes.set_flag(connection, NAMES[:1], Flag.OVERDUE, **by) == NAMES[:1]
        assert volumes.clear_flag(connection, NAMES, Flag.MISSING, **by) == NAMES
        assert volumes.clear_flag(connection, NAMES, Flag.MISSING, **by) == []
    with catalog.read() as connection:
        flags = {v.barcode: v.flags for v in volumes.volumes(connection)}
        history = volumes.history(connection, "V00001")
    assert flags == {"V00001": {Flag.OVERDUE}, "V00002": set(), "V00003": set()}
    assert [(e.before, e.after) for e in history if e.field == "flag"] == [
        ("", "missing"),
        ("", "overdue"),
        ("missing", ""),
    ]


def test_more_volumes_than_one_statement_names(catalog: Catalog) -> None:
    many = [f"M{n:05}" for n in range(7000)]
    with catalog.write() as connection:
        add(connection, *many)
        to_dock(connection, *many)
        by = cause("scan")
        assert len(volumes.set_flag(connection, many, Flag.OVERDUE, **by)) == 7000
    with catalog.read() as connection:
        found = volumes.volumes(connection, many, custody=[Custody.NOTMOUNTABLE])
    assert [v.barcode for v in found] == many
    assert all(v.flags == {Flag.OVERDUE} for v in found)


FRESH = itertools.count()
RULES: dict[Any, Any] = {
    "content": CONTENT_CHANGES,
    "health": HEALTH_CHANGES,
    "custody": CUSTODY_CHANGES,
}


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_volume_is_the_fold_of_its_events(catalog: Catalog, data: st.DataObject) -> None:
    barcode = f"H{next(FRESH):05}"
    with catalog.write() as connection:
        add(connection, barcode)
        for step in range(data.draw(st.integers(0, 12))):
            now = NOW + timedelta(minutes=step)
            random_change(connection, barcode, data, now)
        assert fold(volumes.history(connection, barcode)) == standing(
            volumes.volume(connection, barcode)
        )


def random_change(connection: Connection, barcode: str, data: st.DataObject, now: datetime) -> None:
    field: Any = data.draw(st.sampled_from([*RULES, "set", "clear"]))
    by = cause("random", now)
    if field in {"set", "clear"}:
        act = volumes.set_flag if field == "set" else volumes.clear_flag
        act(connection, [barcode], data.draw(st.sampled_from(Flag)), **by)
        return
    before = getattr(volumes.volume(connection, barcode), field)
    allowed = sorted(RULES[field][before])
    if allowed:
        place = data.draw(st.sampled_from([None, "library", "dock", "truck", "vault:north"]))
        after = data.draw(st.sampled_from(allowed))
        volumes.change(connection, [barcode], field, before, after, place=place, **by)


def test_the_fold_notices_an_event_that_is_not_there(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
        to_dock(connection, "V00001")
        by = cause("scan")
        volumes.set_flag(connection, ["V00001"], Flag.MISSING, **by)
        history = volumes.history(connection, "V00001")
    assert fold(history).flags == {Flag.MISSING}
    for gap in range(3):
        with pytest.raises(InvalidTransition, match="not whole"):
            fold(history[:gap] + history[gap + 1 :])
    with pytest.raises(InvalidTransition, match="not whole"):
        fold(history[:2])
    with pytest.raises(InvalidTransition, match="not whole"):
        fold([*history, history[-1]])


def test_the_fold_differs_from_a_row_that_was_changed_behind_its_back(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add(connection)
        connection.execute(update(tables.volumes).values(place="elsewhere"))
        row = volumes.volume(connection, "V00001")
        assert fold(volumes.history(connection, "V00001")) != standing(row)


def test_places_of_vaults() -> None:
    assert vault_of(vault_place("north")) == "north"
    assert vault_of("library") is None


def test_a_vault_of_the_longest_name_is_a_place(catalog: Catalog) -> None:
    longest = vault_place("v" * 63)
    with catalog.write() as connection:
        volumes.add_blank(connection, NAMES, place=longest, actor="ann", at=NOW)
    with catalog.read() as connection:
        assert volumes.volume(connection, NAMES[0]).place == longest
