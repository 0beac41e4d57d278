from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update

from restore_lib.catalog import offsite, repairs, shipments, tables, volumes
from restore_lib.catalog.engine import Catalog
from restore_lib.model.shipment import Direction, LineState
from restore_lib.model.states import BatchState, RequestState, SetState
from restore_lib.model.volume import Custody, Flag, Health, Reason

NOW = datetime(2030, 1, 1, tzinfo=UTC)
CAUSE: dict[str, Any] = {"actor": "ann", "reason": "test", "at": NOW}
MEMBERS = ["A1", "A2", "A3"]


def add_set(
    connection: Connection, set_id: str, members: Iterable[str], state: SetState = SetState.CLOSED
) -> None:
    volumes.add_blank(connection, members, actor="ann", at=NOW)
    connection.execute(
        insert(tables.tape_sets).values(
            id=set_id,
            policy="photos" if set_id == "a" else "mail",
            k=2,
            m=1,
            block_size=512,
            state=state,
            stripes=0,
            created_at=NOW,
            recipients=[],
        )
    )
    belong = update(tables.volumes).where(tables.volumes.c.barcode.in_(list(members)))
    connection.execute(belong.values(tape_set=set_id))


def add_request(connection: Connection, state: RequestState) -> int:
    row = {
        "store": "live",
        "target": "live",
        "overwrite": "never",
        "source": {},
        "reason": Reason.RESTORE,
        "actor": "ann",
        "state": state,
        "created_at": NOW,
    }
    made = connection.execute(
        insert(tables.restore_requests).values(row).returning(tables.restore_requests.c.id)
    )
    return int(made.scalar_one())


def ship(
    connection: Connection, barcodes: list[str], direction: Direction, request_id: int | None = None
) -> int:
    return shipments.create(
        connection,
        dict.fromkeys(barcodes, 1),
        direction=direction,
        vault="north",
        reason=Reason.RESTORE,
        at=NOW,
        due_at=NOW,
        request_id=request_id,
    )


def names(connection: Connection, policy: str | None = None) -> list[str]:
    return [c.barcode for c in offsite.candidates(connection, policy)]


def test_candidates_are_of_closed_sets(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        add_set(connection, "b", ["B1"])
        add_set(connection, "c", ["C1"], SetState.OPEN)
        volumes.add_blank(connection, ["X1"], actor="ann", at=NOW)
        assert offsite.candidates(connection, "photos") == [
            offsite.Candidate(name, "a", 1) for name in MEMBERS
        ]
        assert names(connection) == [*MEMBERS, "B1"]


def test_unusable_missing_and_absent_volumes_are_none(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", [*MEMBERS, "A4"])
        volumes.change(connection, ["A1"], "health", Health.OK, Health.BROKEN, **CAUSE)
        volumes.set_flag(connection, ["A2"], Flag.MISSING, **CAUSE)
        for step in (
            (Custody.MOUNTABLE, Custody.NOTMOUNTABLE),
            (Custody.NOTMOUNTABLE, Custody.COURIER),
        ):
            volumes.change(connection, ["A3"], "custody", *step, **CAUSE)
        assert names(connection) == ["A4"]


def test_what_is_in_an_open_shipment_is_none(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        shipment_id = ship(connection, ["A1", "A2"], Direction.OUT)
        lines = shipments.lines_of(connection, shipment_id)
        shipments.change_lines(connection, lines[1:], LineState.OMITTED)
        assert names(connection) == ["A2", "A3"]


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (RequestState.PLANNED, {"A1"}),
        (RequestState.ACTIVE, {"A1"}),
        (RequestState.ENDED, set()),
        (RequestState.CANCELLED, set()),
    ],
)
def test_what_a_running_restore_recalled_stays(
    catalog: Catalog, state: RequestState, kept: set[str]
) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        ship(connection, ["A1"], Direction.IN, add_request(connection, state))
        assert offsite.awaited(connection) == kept
        assert set(names(connection)) == set(MEMBERS) - kept


def test_what_a_running_restore_is_to_read_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        request_id = add_request(connection, RequestState.ACTIVE)
        for barcode, needs, state in (
            ("A1", ["A1"], BatchState.RUNNING),
            (None, ["A1", "A2"], BatchState.PLANNED),
            ("A3", ["A3"], BatchState.DONE),
        ):
            connection.execute(
                insert(tables.batches).values(
                    request_id=request_id,
                    kind="read",
                    barcode=barcode,
                    volumes=needs,
                    objects=1,
                    bytes=1,
                    estimate=1.0,
                    state=state,
                    attempts=0,
                )
            )
        assert offsite.awaited(connection) == {"A1", "A2"}
        assert names(connection) == ["A3"]


def test_what_a_batch_reads_stays_though_its_restore_was_cancelled(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        row = {
            "request_id": add_request(connection, RequestState.CANCELLED),
            "kind": "read",
            "volumes": ["A2"],
            "objects": 1,
            "bytes": 1,
            "estimate": 1.0,
            "state": BatchState.RUNNING,
            "attempts": 1,
        }
        connection.execute(insert(tables.batches).values(row))
        assert offsite.awaited(connection) == {"A2"}


def test_a_set_of_which_a_member_is_written_anew_stays(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        volumes.add_blank(connection, ["N1"], actor="ann", at=NOW)
        repair = repairs.begin(
            connection, barcode="A2", replacement="N1", tape_set="a", position=1, at=NOW
        )
        assert offsite.awaited(connection) == set(MEMBERS)
        repairs.abandon(connection, repair, NOW)
        assert offsite.awaited(connection) == set()


def test_members_are_counted_by_vault_also_on_their_way(catalog: Catalog) -> None:
    with catalog.write() as connection:
        add_set(connection, "a", MEMBERS)
        ship(connection, ["A1", "A2"], Direction.OUT)
        for step, place in (
            ((Custody.MOUNTABLE, Custody.NOTMOUNTABLE), "dock"),
            ((Custody.NOTMOUNTABLE, Custody.COURIER), "truck"),
            ((Custody.COURIER, Custody.VAULT), "vault:south"),
        ):
            volumes.change(connection, ["A3"], "custody", *step, place=place, **CAUSE)
        assert offsite.members_by_vault(connection) == {("a", "north"): 2, ("a", "south"): 1}
