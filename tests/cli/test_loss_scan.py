from pathlib import Path

from tests.support.commands import FILES, as_json, refused, succeeds


def test_what_is_lost_becomes_an_incident(cluster: Path) -> None:
    (cluster / "live" / "d1" / "file-001.txt").unlink()
    result = succeeds(cluster, "loss-scan", "live")
    assert "lost                  1" in result.stdout
    assert "`tapeflow restore run --incident 1" in result.stderr


def test_a_dry_run_only_counts(cluster: Path) -> None:
    (cluster / "live" / "d1" / "file-001.txt").unlink()
    found = as_json(cluster, "loss-scan", "live", "--dry-run")
    assert found["counts"]["lost"] == 1
    assert found["incident_id"] is None
    assert as_json(cluster, "incident", "list") == {"incidents": []}


def test_nothing_lost_makes_no_incident(cluster: Path) -> None:
    found = as_json(cluster, "loss-scan", "live")
    assert found["counts"]["present"] == len(FILES)
    assert found["incident_id"] is None


def test_a_prefix_and_a_reference_table(cluster: Path) -> None:
    (cluster / "live" / "d1" / "file-001.txt").unlink()
    assert as_json(cluster, "loss-scan", "live", "--prefix", "d2/")["counts"]["lost"] == 0
    table = cluster / "should.csv"
    table.write_text("key\nd1/file-001.txt\nnever-seen\n")
    counts = as_json(cluster, "loss-scan", "live", "--reference", table)["counts"]
    assert (counts["on_tape"], counts["never_backed_up"]) == (1, 1)
    table.write_text("name\nx\n")
    assert str(table) in refused(cluster, "loss-scan", "live", "--reference", table, code=64)
    assert "no store 'nope'" in refused(cluster, "loss-scan", "nope", code=64)
