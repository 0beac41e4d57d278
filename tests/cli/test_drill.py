import json
from pathlib import Path

from restore_lib.library.faults import Faults, write_faults
from tests.support.commands import as_json, refused, send_all_to_the_vault, succeeds, vendor
from tests.support.sites import digests, image, open_site


def test_a_dry_run_shows_the_plan_and_begins_nothing(cluster: Path) -> None:
    plan = as_json(cluster, "drill", "run", "monthly", "--seed", "5", "--dry-run")
    assert plan["seed"] == 5
    assert plan["restores"]["sample"]["counts"]["asked"] == 7
    assert plan["restores"]["prefix"]["counts"]["asked"] == 12
    assert "sample" in succeeds(cluster, "drill", "run", "monthly", "--dry-run").stdout
    assert as_json(cluster, "drill", "list") == {"drills": []}


def test_a_drill_passes_and_leaves_only_its_evidence(cluster: Path) -> None:
    ended = as_json(cluster, "drill", "run", "monthly", "--seed", "5")
    assert ended["verdict"] == "passed"
    assert ended["evidence"]["objects"] == {"asked": 19, "verified": 19}
    assert digests(cluster / "scratch") == {}
    kept = json.loads((cluster / "reports" / "drill-1.json").read_text())
    assert kept["seed"] == 5
    assert "passed" in succeeds(cluster, "drill", "list").stdout
    shown = succeeds(cluster, "drill", "show", "1").stdout
    assert "time to restore (rto)" in shown
    assert "met" in shown
    assert as_json(cluster, "drill", "show", "1")["evidence"] == kept


def test_a_drill_that_can_not_restore_all_fails(cluster: Path) -> None:
    site = open_site(cluster)
    for barcode in ("TF0000L9", "TF0001L9", "TF0002L9"):
        write_faults(image(site, barcode), Faults(unreadable=True))
    site.close()
    result = succeeds(cluster, "drill", "run", "monthly", "--seed", "5", code=1)
    assert "verdict: failed." in result.stdout
    assert digests(cluster / "scratch") == {}


def test_out_of_time_it_goes_on_with_the_same_sample(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    said = refused(cluster, "drill", "run", "monthly", "--seed", "5", "--timeout", "0s", code=75)
    assert "`tapeflow drill run monthly`" in said
    with vendor(cluster):
        ended = as_json(cluster, "drill", "run", "monthly", "--seed", "6")
    assert (ended["drill"], ended["evidence"]["seed"], ended["verdict"]) == (1, 5, "passed")


def test_an_unknown_drill_is_refused_with_those_known(cluster: Path) -> None:
    assert "use one of monthly" in refused(cluster, "drill", "run", "daily", code=64)
    assert "no drill 9" in refused(cluster, "drill", "show", "9", code=64)
