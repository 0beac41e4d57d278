from collections.abc import Iterator

import pytest
from sqlalchemy import Connection

from restore_lib.catalog.dwelling import dwells
from restore_lib.catalog.engine import Catalog
from restore_lib.model.volume import Custody
from tests.support.restores import BEGAN, History, at

WANTED = [Custody.ONSITERETRIEVE, Custody.ACCLIMATING]


@pytest.fixture
def connection(catalog: Catalog) -> Iterator[Connection]:
    with catalog.write() as opened:
        yield opened


def test_stays_are_from_coming_to_leaving(connection: Connection) -> None:
    history = History(connection)
    history.volume("V1", "V2", "V3")
    for barcode, came in (("V1", 10), ("V2", 20)):
        history.event(came, barcode, "custody", "courierretrieve", "onsiteretrieve")
        history.event(came + 1, barcode, "health", "ok", "suspect")
        history.event(came + 5, barcode, "custody", "onsiteretrieve", "acclimating")
    history.event(90, "V1", "custody", "acclimating", "mountable")
    history.event(5, "V3", "custody", "courierretrieve", "onsiteretrieve")
    history.event(9, "V3", "custody", "onsiteretrieve", "mountable")
    found = sorted(dwells(connection, ["V1", "V2"], WANTED, BEGAN, None))
    assert found == [
        (Custody.ACCLIMATING, at(15), at(90)),
        (Custody.ONSITERETRIEVE, at(10), at(15)),
        (Custody.ONSITERETRIEVE, at(20), at(25)),
    ]
    assert list(dwells(connection, ["V1"], [Custody.ACCLIMATING], BEGAN, at(80))) == []
    assert list(dwells(connection, ["V3"], WANTED, at(6), None)) == []
