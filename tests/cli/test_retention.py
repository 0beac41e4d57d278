from pathlib import Path

import pytest

from tests.support.commands import as_json, refused, succeeds
from tests.support.sites import back_up, open_site

RULE = '[policies.live.retention]\nkeep_within = "0.001s"\nminimum_redundancy = 1\n'


def two_points(root: Path) -> None:
    """Add a retention rule, and two recovery points that have nothing in common."""
    site = open_site(root)
    back_up(site)
    with (root / "tapeflow.toml").open("a") as file:
        file.write(RULE)
    for path in (root / "live").rglob("*"):
        if path.is_file():
            path.write_bytes(b"new")
    back_up(site)
    site.close()


def point_states(root: Path) -> list[str]:
    points = as_json(root, "backup", "list")["recovery_points"]
    return [point["state"] for point in reversed(points)]


@pytest.fixture
def ruled(fresh: Path) -> Path:
    two_points(fresh)
    return fresh


def test_the_plan_tells_why_and_changes_nothing(ruled: Path) -> None:
    [policy] = as_json(ruled, "retention", "plan")["policies"]
    assert (policy["policy"], policy["store"], policy["expiring"]) == ("live", "live", [1])
    assert [(d["point"], d["kept"]) for d in policy["decisions"]] == [
        (2, "before_window"),
        (1, None),
    ]
    text = succeeds(ruled, "retention", "plan", "--policy", "live").stdout
    assert "1 of 2 would expire" in text
    assert "expires  older than 0.001 seconds" in text
    assert as_json(ruled, "retention", "apply", "--dry-run")["policies"] == [policy]
    assert "1 of 2 would expire" in succeeds(ruled, "retention", "apply", "--dry-run").stdout
    assert point_states(ruled) == ["committed", "committed"]
    assert "no policy 'x'" in refused(ruled, "retention", "plan", "--policy", "x", code=64)


def test_points_expire_after_a_question_and_come_back(ruled: Path) -> None:
    assert "--yes" in refused(ruled, "retention", "apply", code=64)
    assert point_states(ruled) == ["committed", "committed"]
    text = succeeds(ruled, "retention", "apply", "--yes").stdout
    assert "1 recovery point expired." in text
    assert point_states(ruled) == ["expired", "committed"]
    asked = ("restore", "run", "--recovery-point", 1, "--everything", "--dry-run")
    assert "tapeflow retention undo 1" in refused(ruled, *asked, code=64)
    done = as_json(ruled, "retention", "undo", 1)["brought_back"]
    assert done == {"points": [1], "sets": []}
    assert point_states(ruled) == ["committed", "committed"]
    assert as_json(ruled, *asked)["counts"]["asked"] > 0
    assert as_json(ruled, "retention", "apply")["expired"] == {"points": {}, "incidents": {}}
    actions = [each["action"] for each in as_json(ruled, "audit", "list")["events"]]
    assert {"retention.apply", "retention.undo"} <= set(actions)


def test_without_a_rule_nothing_expires(cluster: Path) -> None:
    text = succeeds(cluster, "retention", "apply").stdout
    assert "Policy live has no retention: nothing expires." in text
    assert "0 recovery points expired." in text
