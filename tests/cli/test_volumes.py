from pathlib import Path
from typing import Any

from restore_lib.catalog import volumes
from restore_lib.model.volume import Flag, Health
from tests.support.commands import as_json, refused, send_all_to_the_vault, succeeds
from tests.support.sites import ACTOR, image, open_site


def test_all_volumes_are_listed(cluster: Path) -> None:
    found = as_json(cluster, "volumes")["volumes"]
    assert [volume["barcode"] for volume in found] == [f"TF{n:04}L9" for n in range(6)]
    assert {volume["content"] for volume in found} == {"full"}
    assert "TF0005L9" in succeeds(cluster, "volumes").stdout


def test_one_volume_is_shown_with_its_history(cluster: Path) -> None:
    found = as_json(cluster, "volumes", "show", "TF0003L9")
    assert found["volume"]["tape_set"] == "live-00001"
    assert [e["after"] for e in found["history"] if e["field"] == "content"] == [
        "blank",
        "labelled",
        "appendable",
        "full",
    ]
    assert "appendable" in succeeds(cluster, "volumes", "show", "TF0003L9").stdout
    assert "does not know" in refused(cluster, "volumes", "show", "NONE", code=64)


def give_up(root: Path, barcode: str) -> None:
    site = open_site(root)
    how: dict[str, Any] = {"actor": ACTOR, "reason": "test", "at": site.clock.now()}
    with site.catalog.write() as connection:
        volumes.change(connection, [barcode], "health", Health.OK, Health.LOST, **how)
        volumes.set_flag(connection, [barcode], Flag.MISSING, **how)
    site.close()


def volume(root: Path, barcode: str) -> dict[str, Any]:
    found: dict[str, Any] = as_json(root, "volumes", "show", barcode)["volume"]
    return found


def test_a_lost_volume_that_is_found_is_verified_and_used_again(cluster: Path) -> None:
    give_up(cluster, "TF0003L9")
    verify = ["verify", "--volume", "TF0003L9"]
    assert "`tapeflow volumes found`" in refused(cluster, *verify, code=64)
    assert "`tapeflow volumes found`" in refused(
        cluster, "library", "add-blank", "TF0003L9", code=64
    )
    found = ["volumes", "found", "TF0003L9", "TF0004L9"]
    told = succeeds(cluster, *found, "--reason", "behind the shelf").stdout
    assert "TF0003L9 is suspect until `tapeflow verify --volume TF0003L9` has passed." in told
    assert "TF0004L9 was not given up, and stays as it is." in told
    assert as_json(cluster, *found) == {"found": [], "unchanged": ["TF0003L9", "TF0004L9"]}
    now = volume(cluster, "TF0003L9")
    assert (now["health"], now["flags"], now["custody"]) == ("suspect", [], "mountable")
    history = as_json(cluster, "volumes", "show", "TF0003L9")["history"]
    assert history[-1]["reason"] == "behind the shelf"
    assert history[-1]["actor"].startswith("cli:")
    succeeds(cluster, *verify)
    assert volume(cluster, "TF0003L9")["health"] == "ok"


def test_what_is_not_here_is_not_found(cluster: Path) -> None:
    send_all_to_the_vault(cluster)
    give_up(cluster, "TF0003L9")
    said = refused(cluster, "volumes", "found", "TF0003L9", code=74)
    assert "TF0003L9 is neither in the library nor on its dock" in said
    assert volume(cluster, "TF0003L9")["health"] == "lost"
    site = open_site(cluster)
    image(site, "TF0003L9").rename(cluster / "tapes/library/slot-0001/TF0003L9.tap")
    site.close()
    assert as_json(cluster, "volumes", "found", "TF0003L9")["found"] == ["TF0003L9"]
    assert volume(cluster, "TF0003L9")["place"] == "library"


def test_a_found_volume_that_holds_nothing_is_not_proven(fresh: Path) -> None:
    give_up(fresh, "TF0003L9")
    said = succeeds(fresh, "volumes", "found", "TF0003L9").stdout
    assert "TF0003L9 is suspect, and holds nothing that could prove it" in said
    assert volume(fresh, "TF0003L9")["health"] == "suspect"
