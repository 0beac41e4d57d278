"""Verification runs in the catalog, on both databases."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from restore_lib.catalog import verifications
from restore_lib.catalog.engine import Catalog
from restore_lib.catalog.tables import (
    recovery_points,
    stripes,
    tape_files,
    tape_sets,
    verification_results,
    volumes,
)
from restore_lib.catalog.verifications import ExpectedFile, VerificationRun, VolumeResult
from restore_lib.errors import Refused
from restore_lib.model.verdict import Verdict
from tests.integrity.backups import AT

LATER = AT + timedelta(days=1)
FOUND = VolumeResult(
    "V1", Verdict.FAILED, 3, 4096, ({"file": 1, "member": None, "what": "bad"},), LATER
)


@pytest.fixture
def filled(catalog: Catalog) -> Catalog:
    """A 1+1 set of V1 and V2 with stripes 1 and 2, and V3 with nothing on it."""
    with catalog.write() as connection:
        rp = {"policy": "p", "store": "s", "state": "committed", "started_at": AT, "summary": {}}
        connection.execute(insert(recovery_points).values(id=1, **rp))
        set_row = {"policy": "p", "k": 1, "m": 1, "block_size": 512, "recipients": []}
        connection.execute(
            insert(tape_sets).values(id="S", state="closed", stripes=2, created_at=AT, **set_row)
        )
        for number, barcode in enumerate(["V1", "V2", "V3"]):
            member = {"tape_set": "S", "position": number} if barcode != "V3" else {}
            states = {"content": "full", "health": "ok", "custody": "mountable", "flags": []}
            connection.execute(
                insert(volumes).values(barcode=barcode, place="library", **states, **member)
            )
        stripe = {"tape_set": "S", "rp_id": 1, "rows": 9, "committed_at": AT}
        connection.execute(
            insert(stripes), [{"id": 1, "number": 2, **stripe}, {"id": 2, "number": 1, **stripe}]
        )
        connection.execute(insert(tape_files), [file(1, 0), file(2, 0), file(1, 1), file(2, 1)])
    return catalog


def file(stripe: int, position: int) -> dict[str, Any]:
    digest = f"{stripe:02}" * 32
    barcode = f"V{position + 1}"
    return {
        "stripe_id": stripe,
        "position": position,
        "barcode": barcode,
        "blocks": stripe * 10,
        "sha256": digest,
    }


def begin(catalog: Catalog, *barcodes: str) -> int:
    with catalog.write() as connection:
        return verifications.begin_run(connection, barcodes, AT)


def keep(catalog: Catalog, run_id: int, found: VolumeResult) -> bool:
    with catalog.write() as connection:
        return verifications.add_result(connection, run_id, found)


def untouched(catalog: Catalog, barcodes: Sequence[str]) -> int | None:
    with catalog.read() as connection:
        return verifications.untouched_run(connection, barcodes)


def test_what_should_be_on_a_volume(filled: Catalog) -> None:
    with filled.read() as connection:
        found = verifications.expected_volume(connection, "V2")
        with pytest.raises(Refused, match="V3"):
            verifications.expected_volume(connection, "V3")
    assert (found.tape_set, found.position, found.k, found.block_size) == ("S", 1, 1, 512)
    assert found.closed
    assert found.files == (ExpectedFile(1, 20, "02" * 32), ExpectedFile(2, 10, "01" * 32))


def test_whether_a_volume_holds_what_it_did(filled: Catalog) -> None:
    with filled.write() as connection:
        assert verifications.holds_data(connection, "V2", AT)
        assert not verifications.holds_data(connection, "V3", AT)
        connection.execute(update(tape_sets).values(created_at=LATER))
        assert verifications.holds_data(connection, "V2")
        assert not verifications.holds_data(connection, "V2", AT)


def test_candidates_hold_data_and_come_in_order(filled: Catalog) -> None:
    with filled.write() as connection:
        verifications.set_verified(connection, ["V1"], AT)
        found = verifications.candidates(connection)
    assert [(c.barcode, c.files, c.bytes) for c in found] == [("V2", 2, 15360), ("V1", 2, 15360)]
    assert [c.verified_at for c in found] == [None, AT]


def test_a_run_begins_with_nothing_checked(filled: Catalog) -> None:
    run_id = begin(filled, "V2", "V1")
    with filled.read() as connection:
        found = verifications.results(connection, run_id)
        assert verifications.run(connection, run_id) == VerificationRun(
            run_id, "running", AT, None, None
        )
    assert [(r.barcode, r.verdict, r.at) for r in found] == [
        ("V1", Verdict.NOT_CHECKED, None),
        ("V2", Verdict.NOT_CHECKED, None),
    ]


def test_the_first_result_is_kept(filled: Catalog) -> None:
    run_id = begin(filled, "V1")
    assert keep(filled, run_id, FOUND)
    assert not keep(filled, run_id, VolumeResult("V1", Verdict.PASSED, 9, 9, (), LATER))
    with filled.read() as connection:
        assert verifications.result(connection, run_id, "V1") == FOUND
        with pytest.raises(Refused, match="V2"):
            verifications.result(connection, run_id, "V2")


def test_a_run_ends_once(filled: Catalog) -> None:
    run_id = begin(filled, "V1")
    with filled.write() as connection:
        assert verifications.end_run(connection, run_id, Verdict.FAILED, LATER)
        assert not verifications.end_run(connection, run_id, Verdict.PASSED, LATER)
        ended = verifications.run(connection, run_id)
        assert connection.execute(select(verification_results.c.run_id)).scalar_one() == run_id
    assert (ended.state, ended.verdict, ended.ended_at) == ("ended", Verdict.FAILED, LATER)


def test_runs_come_newest_first_with_their_verdicts(filled: Catalog) -> None:
    first, second = begin(filled, "V1", "V2"), begin(filled)
    keep(filled, first, FOUND)
    with filled.read() as connection:
        assert [run.id for run in verifications.runs(connection)] == [second, first]
        assert verifications.verdicts(connection) == {
            first: {Verdict.FAILED: 1, Verdict.NOT_CHECKED: 1}
        }


def test_only_the_same_run_unread_is_taken_up(filled: Catalog) -> None:
    assert untouched(filled, ["V1"]) is None
    run_id = begin(filled, "V1", "V2")
    assert untouched(filled, ["V2", "V1"]) == run_id
    assert untouched(filled, ["V1"]) is None
    keep(filled, run_id, FOUND)
    assert untouched(filled, ["V1", "V2"]) is None


def test_a_run_that_is_not_there(catalog: Catalog) -> None:
    with catalog.read() as connection, pytest.raises(Refused, match="no verification 5"):
        verifications.run(connection, 5)
