from pathlib import Path

from restore_lib.library.faults import Faults, write_faults
from tests.support.commands import as_json, refused, succeeds
from tests.support.sites import image, open_site


def test_sound_volumes_pass_without_a_key(cluster: Path) -> None:
    (cluster / "operating.txt").unlink()
    found = as_json(cluster, "verify")
    assert found["verdict"] == "passed"
    assert [volume["barcode"] for volume in found["volumes"]] == [f"TF{n:04}L9" for n in range(6)]
    assert all(v["verified_at"] for v in as_json(cluster, "volumes")["volumes"])


def test_a_dry_run_lists_the_oldest_verified_first(cluster: Path) -> None:
    succeeds(cluster, "verify", "--volume", "TF0000L9", "--volume", "TF0001L9")
    planned = as_json(cluster, "verify", "--limit", "4", "--dry-run")["volumes"]
    assert [v["barcode"] for v in planned] == [f"TF{n:04}L9" for n in range(2, 6)]
    assert "TF0002L9" in succeeds(cluster, "verify", "--dry-run").stdout


def test_a_damaged_volume_fails_and_is_named(cluster: Path) -> None:
    site = open_site(cluster)
    write_faults(image(site, "TF0004L9"), Faults(unreadable_blocks=((1, 2, 3),)))
    site.close()
    result = succeeds(cluster, "verify", code=1)
    assert "failed" in result.stdout
    assert "tape file 1" in result.stdout
    health = {v["barcode"]: v["health"] for v in as_json(cluster, "volumes")["volumes"]}
    assert {b for b, state in health.items() if state != "ok"} == {"TF0004L9"}


def test_nothing_to_verify_is_no_success(fresh: Path) -> None:
    assert as_json(fresh, "verify", code=4)["verdict"] == "not_checked"
    assert "TF0000L9" in refused(fresh, "verify", "--volume", "TF0000L9", code=64)
