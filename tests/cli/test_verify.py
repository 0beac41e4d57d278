import base64
from pathlib import Path
from typing import Any

from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.objects import display_key
from tests.support.commands import as_json, keys_on, refused, succeeds
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


def test_the_objects_on_a_damaged_volume_are_told_one_by_one(cluster: Path) -> None:
    site = open_site(cluster)
    write_faults(image(site, "TF0001L9"), Faults(unreadable_blocks=((1, 2, 3),)))
    write_faults(image(site, "TF0005L9"), Faults(unreadable_blocks=((1, 2, 2),)))
    site.close()
    on_it = keys_on(cluster)["TF0001L9"]
    damaged = ["--volume", "TF0001L9", "--volume", "TF0005L9"]
    found = as_json(cluster, "verify", *damaged, "--objects", code=1)["objects"]
    told = found["TF0001L9"]
    assert {key(each) for each in told["listed"]} == on_it
    bad = {key(each) for each in told["listed"] if each["state"] == "unreadable"}
    assert 0 < len(bad) == told["unreadable"] < len(on_it)
    assert told["readable"] == len(on_it) - len(bad)
    assert found["TF0005L9"]["listed"] == []
    text = succeeds(cluster, "verify", *damaged, code=1).stdout
    assert f"Objects on TF0001L9: {told['readable']} readable, {len(bad)} unreadable" in text
    assert "TF0005L9 holds parity" in text
    assert all(display_key(each) in text for each in bad)
    assert all(f" {display_key(each)}\n" not in text for each in on_it - bad)


def key(each: dict[str, Any]) -> bytes:
    return base64.b64decode(each["key_b64"]) if "key_b64" in each else each["key"].encode()
