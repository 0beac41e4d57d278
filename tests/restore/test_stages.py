from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from restore_lib.catalog import reporting, requests
from restore_lib.catalog.engine import Catalog
from restore_lib.restore.spans import Stage
from restore_lib.restore.stages import TOTAL, compared, covered, reads, spans_of
from tests.support.restores import BEGAN, PLAN, History, at


@pytest.fixture
def history(catalog: Catalog) -> Iterator[History]:
    with catalog.write() as connection:
        yield History(connection)


def taken(connection: Connection, request_id: int) -> dict[str, float]:
    request = requests.request(connection, request_id)
    batches = reporting.batch_rows(connection, request_id)
    shipments = reporting.shipment_rows(connection, request_id)
    marks = reporting.volume_marks(connection, request_id, [], BEGAN, None)
    spans = spans_of(connection, request, batches, shipments, marks, at(500))
    return {stage: covered(went_on) for stage, went_on in spans.items()}


def test_each_stage_is_measured_by_what_the_catalog_holds(history: History) -> None:
    history.volume("V1", "V2", "P1")
    history.shipment(5, 25, {"V1": "loaded", "V2": "loaded"})
    history.shipment(100, 160, {"P1": "loaded"}, reason="redundancy")
    for barcode, came in (("V1", 25), ("V2", 25), ("P1", 160)):
        history.event(came, barcode, "custody", "courierretrieve", "onsiteretrieve")
        history.event(came + 2, barcode, "custody", "onsiteretrieve", "acclimating")
        history.event(came + 42, barcode, "custody", "acclimating", "mountable")
    history.batch(["V1"], 70, 90, barcode="V1")
    history.batch(["V2"], 80, 95, barcode="V2", state="failed")
    history.batch(["V1", "P1"], 210, 230, barcode="V2", kind="gather")
    assert taken(history.connection, history.id) == {
        Stage.PLAN: 5,
        Stage.RECALL: 20,
        Stage.IMPORT: 4,
        Stage.ACCLIMATION: 80,
        Stage.READ: 25,
        Stage.REDUNDANCY: 80,
        Stage.PUBLISH: 140,
        TOTAL: 500,
    }


def test_a_request_that_has_not_begun_took_nothing(history: History) -> None:
    history.batch(["V1"])
    found = taken(history.connection, history.id)
    assert found.pop(TOTAL) == 500
    assert set(found.values()) == {0.0}
    rows = reporting.batch_rows(history.connection, history.id)
    assert reads(rows) == []


def test_estimate_and_actual_stand_side_by_side() -> None:
    spans = {Stage.RECALL: [(at(0), at(10)), (at(5), at(20))], Stage.READ: [], TOTAL: []}
    assert compared(PLAN, spans) == {
        "recall": {"estimated_seconds": 60.0, "p95_seconds": 90.0, "actual_seconds": 20.0},
        "read": {"estimated_seconds": 40.0, "p95_seconds": 50.0, "actual_seconds": None},
        "total": {"estimated_seconds": 100.0, "p95_seconds": 150.0, "actual_seconds": None},
    }
    assert compared(None, spans)["read"]["estimated_seconds"] is None
