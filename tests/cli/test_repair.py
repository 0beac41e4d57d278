from pathlib import Path

from restore_lib.library.faults import Faults, write_faults
from tests.support.commands import as_json, refused, send_all_to_the_vault, succeeds, vendor
from tests.support.sites import add_volumes, image, open_site

NAMES = [f"TF{number:04}L9" for number in range(6)]
NEW = "TF0006L9"


def add_blank(root: Path) -> None:
    site = open_site(root)
    add_volumes(site, [NEW])
    site.close()


def lose(root: Path, *barcodes: str) -> None:
    site = open_site(root)
    for barcode in barcodes:
        image(site, barcode).unlink()
    site.close()


def test_a_lost_volume_is_replaced_without_a_key(cluster: Path) -> None:
    (cluster / "operating.txt").unlink()
    add_blank(cluster)
    lose(cluster, NAMES[2])
    plan = as_json(cluster, "repair", NAMES[2], "--dry-run")
    assert (plan["replacement"], plan["role"], plan["done"]) == (NEW, "data", False)
    done = as_json(cluster, "repair", NAMES[2])["repaired"]
    assert (done["barcode"], done["replacement"], done["position"]) == (NAMES[2], NEW, 2)
    states = {v["barcode"]: v for v in as_json(cluster, "volumes")["volumes"]}
    assert (states[NAMES[2]]["content"], states[NAMES[2]]["health"]) == ("retired", "lost")
    assert as_json(cluster, "verify")["verdict"] == "passed"
    assert f"replaced by  {NEW}" in succeeds(cluster, "repair", NAMES[2], "--dry-run").stdout
    again = succeeds(cluster, "repair", NAMES[2]).stdout
    assert f"{NEW} stands in for {NAMES[2]} at position 2" in again
    actions = [each["action"] for each in as_json(cluster, "audit", "list")["events"]]
    assert {"repair.begin", "repair.done"} <= set(actions)


def test_a_dry_run_changes_nothing(cluster: Path) -> None:
    before = as_json(cluster, "volumes")
    text = succeeds(cluster, "repair", NAMES[5], "--dry-run").stdout
    assert "no blank volume" in text
    assert "position 5 of live-00001, parity" in text
    assert as_json(cluster, "volumes") == before
    assert "add-blank" in refused(cluster, "repair", NAMES[5], code=78)


def test_volumes_in_the_vault_are_named_then_called_back(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    add_blank(cluster)
    plan = as_json(cluster, "repair", NAMES[0], "--dry-run")
    assert [len(held) for held in plan["recall"].values()] == [4]
    assert "--recall" in refused(cluster, "repair", NAMES[0], code=64)
    with vendor(cluster):
        assert "recalled" in refused(cluster, "repair", NAMES[0], "--recall", code=75)
        assert "on their way" in refused(cluster, "repair", NAMES[0], code=75)
        while as_json(cluster, "repair", NAMES[0], "--dry-run")["coming"]:
            succeeds(cluster, "vault", "receive")
    recalls = as_json(cluster, "vault", "list", "--all")["shipments"]
    assert {s["reason"] for s in recalls if s["direction"] == "in"} == {"redundancy"}
    assert as_json(cluster, "repair", NAMES[0])["repaired"]["replacement"] == NEW
    assert as_json(cluster, "verify", "--volume", NEW)["verdict"] == "passed"


def test_what_can_not_be_repaired_is_refused_by_name(cluster: Path) -> None:
    add_blank(cluster)
    assert "no tape set" in refused(cluster, "repair", NEW, code=64)
    assert "does not know" in refused(cluster, "repair", "NOSUCH", code=64)
    lose(cluster, *NAMES[:3])
    refused(cluster, "repair", NAMES[0], code=74)
    assert "only 3 other volumes" in refused(cluster, "repair", NAMES[0], code=64)


def test_a_volume_with_bad_blocks_is_read_too(cluster: Path) -> None:
    site = open_site(cluster)
    write_faults(image(site, NAMES[1]), Faults(unreadable_blocks=((1, 1, 2),)))
    site.close()
    add_blank(cluster)
    succeeds(cluster, "verify", "--volume", NAMES[1], code=1)
    assert as_json(cluster, "repair", NAMES[1], "--dry-run")["sources"][0] == NAMES[1]
    succeeds(cluster, "repair", NAMES[1])
    assert as_json(cluster, "verify")["verdict"] == "passed"
