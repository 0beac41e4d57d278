from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from restore_lib.catalog.tables import tape_sets
from tests.cli.test_retention import point_states, two_points
from tests.support.commands import as_json, refused, succeeds
from tests.support.sites import open_site

FIRST = "live-00001"
VOLUMES = [f"TF{number:04}L9" for number in range(6)]


@pytest.fixture
def expired(fresh: Path) -> Path:
    two_points(fresh)
    succeeds(fresh, "retention", "apply", "--yes")
    return fresh


def wait(root: Path) -> None:
    """Let the quarantine pass."""
    site = open_site(root)
    with site.catalog.write() as connection:
        begun = site.clock.now() - timedelta(days=15)
        connection.execute(update(tape_sets).values(expired_at=begun))
    site.close()


def contents(root: Path) -> set[str]:
    found = as_json(root, "volumes")["volumes"]
    return {volume["content"] for volume in found if volume["barcode"] in VOLUMES}


def test_the_plan_shows_what_is_next_and_changes_nothing(expired: Path) -> None:
    [step] = as_json(expired, "reclaim", "plan")["sets"]
    assert (step["tape_set"], step["step"], step["volumes"]) == (FIRST, "quarantine", VOLUMES)
    assert as_json(expired, "reclaim", "run", "--dry-run")["sets"] == [step]
    for words in (["plan"], ["run", "--dry-run"]):
        assert "nothing on it is live" in succeeds(expired, "reclaim", *words).stdout
    assert "--yes" in refused(expired, "reclaim", "run", code=64)
    assert contents(expired) == {"full"}


def test_a_set_is_quarantined_and_reclaimed(expired: Path) -> None:
    done = as_json(expired, "reclaim", "run", "--yes")["done"]
    assert done["quarantined"] == [FIRST]
    assert contents(expired) == {"reclaim_quarantine"}
    text = succeeds(expired, "reclaim", "run").stdout
    assert "in quarantine" in text
    wait(expired)
    text = succeeds(expired, "reclaim", "run", "--yes").stdout
    assert f"free volumes           {', '.join(VOLUMES)}" in text
    assert contents(expired) == {"labelled"}
    assert point_states(expired) == ["purged", "committed"]
    assert "There is no set to reclaim." in succeeds(expired, "reclaim", "plan").stdout
    assert "some of it is reclaimed" in refused(expired, "retention", "undo", 1, code=64)
    assert as_json(expired, "audit", "verify")["verdict"] == "passed"


def test_a_set_is_brought_back(expired: Path) -> None:
    assert "is closed, not quarantined" in refused(expired, "reclaim", "undo", FIRST, code=78)
    succeeds(expired, "reclaim", "run", "--yes")
    text = succeeds(expired, "reclaim", "undo", FIRST).stdout
    assert f"Set {FIRST} is out of quarantine." in text
    assert "Recovery points that can be restored again: 1." in text
    assert contents(expired) == {"full"}
    assert point_states(expired) == ["committed", "committed"]
