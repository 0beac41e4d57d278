import shutil
from pathlib import Path

from restore_lib.library.faults import DriveDies, Faults, write_faults
from tests.support.commands import as_json, refused, succeeds
from tests.support.sites import image, open_site


def test_a_library_is_made_as_the_config_has_it(fresh: Path) -> None:
    shutil.rmtree(fresh / "tapes")
    assert "`tapeflow library create`" in refused(fresh, "library", "show", code=75)
    assert as_json(fresh, "library", "create")["drives"] == 2
    assert as_json(fresh, "library", "show")["used"] == 0
    assert "0 of 16" in succeeds(fresh, "library", "show").stdout


def test_blank_volumes_are_added_once(fresh: Path) -> None:
    succeeds(fresh, "library", "add-blank", "NEW1L9", "NEW2L9")
    assert "NEW2L9 already" in refused(fresh, "library", "add-blank", "NEW2L9", "NEW3L9", code=64)
    held = {row["volume"] for row in as_json(fresh, "library", "inventory")["volumes"]}
    assert {"NEW1L9", "NEW2L9"} < held
    assert "NEW3L9" not in held
    assert "not a barcode" in refused(fresh, "library", "add-blank", "lower", code=64)


def test_a_volume_put_in_by_hand_is_entered(fresh: Path) -> None:
    shutil.copy(fresh / "tapes/library/slot-0001/TF0000L9.tap", fresh / "HAND1L9.tap")
    (fresh / "HAND1L9.tap").rename(fresh / "tapes/library/slot-0016/HAND1L9.tap")
    rows = {row["volume"]: row for row in as_json(fresh, "library", "inventory")["volumes"]}
    assert rows["HAND1L9"]["catalog"] == "unknown"
    shown = succeeds(fresh, "library", "add-blank", "HAND1L9", "NEW1L9").stdout
    assert shown.splitlines() == [
        "1 blank volume added.",
        "Entered as they were found in the library: HAND1L9.",
    ]
    assert "HAND1L9   mountable" in succeeds(fresh, "library", "inventory").stdout


def test_the_inventory_names_what_is_missing(cluster: Path) -> None:
    site = open_site(cluster)
    image(site, "TF0002L9").unlink()
    site.close()
    rows = as_json(cluster, "library", "inventory")["volumes"]
    assert [row["volume"] for row in rows if row["place"] == "missing"] == ["TF0002L9"]


def health(root: Path, barcode: str) -> str:
    return str(as_json(root, "volumes", "show", barcode)["volume"]["health"])


def test_a_dead_drive_is_repaired_and_the_volume_in_it_is_used_again(cluster: Path) -> None:
    site = open_site(cluster)
    write_faults(image(site, "TF0001L9"), Faults(drive_dies=DriveDies(after_blocks=1)))
    site.close()
    common = ["--store", "live", "--to", "out", "--yes"]
    succeeds(cluster, "restore", "run", "--everything", *common)
    [dead] = [d for d in as_json(cluster, "library", "show")["drives"] if d["volume"]]
    assert health(cluster, "TF0001L9") == "disabled"
    again = ["library", "repair-drive", dead["drive"]]
    said = succeeds(cluster, *again).stdout
    assert "suspect until `tapeflow verify --volume TF0001L9` has passed" in said
    assert as_json(cluster, *again) == {"drive": dead["drive"], "enabled": []}
    assert not list((cluster / "tapes").rglob(".dead"))
    assert health(cluster, "TF0001L9") == "suspect"
    succeeds(cluster, "verify", "--volume", "TF0001L9")
    assert health(cluster, "TF0001L9") == "ok"
    assert "There is no drive 9" in refused(cluster, "library", "repair-drive", "9", code=64)
