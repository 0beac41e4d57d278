from pathlib import Path

from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.objects import display_key
from tests.support.commands import as_json, keys_on, refused, succeeds
from tests.support.sites import add_volumes, image, open_site

BAD = "TF0001L9"


def damage(root: Path) -> None:
    site = open_site(root)
    write_faults(image(site, BAD), Faults(unreadable_blocks=((1, 2, 3),)))
    site.close()


def test_verifications_are_listed_newest_first(cluster: Path) -> None:
    assert as_json(cluster, "verifications", "list") == {"verifications": []}
    succeeds(cluster, "verify", "--volume", "TF0000L9")
    damage(cluster)
    succeeds(cluster, "verify", code=1)
    found = as_json(cluster, "verifications", "list")["verifications"]
    kept = ("run", "state", "verdict", "volumes", "passed", "failed", "not_checked")
    assert [[each[name] for name in kept] for each in found] == [
        [2, "ended", "failed", 6, 5, 1, 0],
        [1, "ended", "passed", 1, 1, 0, 0],
    ]
    assert all(each["started_at"] < each["ended_at"] for each in found)
    head, newest, _ = succeeds(cluster, "verifications", "list").stdout.splitlines()
    assert head.split()[-5:] == ["volumes", "passed", "failed", "not", "checked"]
    assert newest.split()[-5:] == ["failed", "6", "5", "1", "0"]


def test_one_is_shown_as_when_it_was_made(cluster: Path) -> None:
    damage(cluster)
    said = as_json(cluster, "verify", code=1)
    assert as_json(cluster, "verifications", "show", 1) == said
    text = succeeds(cluster, "verifications", "show", 1).stdout
    bad = {row["member"] for row in said["objects"][BAD]["listed"]}
    assert all(member in text for member in bad)
    assert text.splitlines()[-1] == "Verification 1: failed."
    whole = succeeds(cluster, "verifications", "show", 1, "--objects").stdout
    assert all(display_key(key) in whole for key in keys_on(cluster)[BAD])
    assert "There is no verification 9." in refused(cluster, "verifications", "show", 9, code=64)


def test_of_a_volume_that_was_replaced_since_it_names_no_objects(cluster: Path) -> None:
    damage(cluster)
    succeeds(cluster, "verify", "--volume", BAD, code=1)
    site = open_site(cluster)
    add_volumes(site, ["TF0006L9"])
    site.close()
    succeeds(cluster, "repair", BAD)
    found = as_json(cluster, "verifications", "show", 1)
    assert [each["barcode"] for each in found["volumes"]] == [BAD]
    assert (found["objects"][BAD]["known"], found["objects"][BAD]["listed"]) == (False, [])
    assert (
        f"{BAD} was replaced or reclaimed since"
        in succeeds(cluster, "verifications", "show", 1).stdout
    )
