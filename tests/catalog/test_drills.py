from datetime import UTC, datetime

import pytest

from restore_lib.catalog import drills
from restore_lib.catalog.engine import Catalog
from restore_lib.errors import Refused
from restore_lib.model.states import DrillState
from restore_lib.model.verdict import Verdict
from tests.support.restores import History

AT = datetime(2030, 1, 2, tzinfo=UTC)


def test_a_drill_is_added_noted_and_ended_once(catalog: Catalog) -> None:
    with catalog.write() as connection:
        drill_id = drills.add_drill(connection, "monthly", AT, {"seed": 3})
        drills.note_requests(connection, drill_id, [4, 5])
    with catalog.write() as connection:
        begun = drills.drill(connection, drill_id)
        assert (begun.state, begun.requests, begun.verdict) == (DrillState.ACTIVE, (4, 5), None)
        assert drills.end_drill(connection, drill_id, AT, Verdict.PASSED, {"seed": 3, "x": 1})
        assert not drills.end_drill(connection, drill_id, AT, Verdict.FAILED, {})
    with catalog.read() as connection:
        ended = drills.drill(connection, drill_id)
    assert (ended.state, ended.ended_at, ended.verdict) == (DrillState.ENDED, AT, Verdict.PASSED)
    assert ended.evidence == {"seed": 3, "x": 1}


def test_drills_are_found_by_name_and_state(catalog: Catalog) -> None:
    with catalog.write() as connection:
        one = drills.add_drill(connection, "monthly", AT, {})
        other = drills.add_drill(connection, "weekly", AT, {})
        newer = drills.add_drill(connection, "monthly", AT, {})
        drills.end_drill(connection, one, AT, Verdict.FAILED, {})
    with catalog.read() as connection:
        assert [d.id for d in drills.drills_of(connection)] == [newer, other, one]
        assert [d.id for d in drills.drills_of(connection, "monthly")] == [newer, one]
        active = drills.drills_of(connection, "monthly", DrillState.ACTIVE)
        assert [d.id for d in active] == [newer]
        with pytest.raises(Refused, match="no drill 99"):
            drills.drill(connection, 99)


def test_requests_and_names_of_a_drill(catalog: Catalog) -> None:
    with catalog.write() as connection:
        mine = [
            History(connection, reason="drill", actor="drill 1"),
            History(connection, reason="drill", actor="drill 1"),
        ]
        History(connection, reason="drill", actor="drill 11").item(b"other", "restored")
        History(connection, reason="restore", actor="drill 1").item(b"another", "restored")
        for key in (b"b", b"\xff\x00", b"a"):
            mine[0].item(key, "restored")
        mine[1].item(b"a", "failed")
        mine[1].item(b"c", "pending")
    with catalog.read() as connection:
        found = drills.requests_by(connection, "drill 1")
        assert found == [(one.id, {"incident": 1}) for one in mine]
        asked = drills.asked_keys(connection, [one.id for one in mine])
        assert list(asked) == [b"a", b"b", b"c", b"\xff\x00"]
