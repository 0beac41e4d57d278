from pathlib import Path

from tests.support.commands import as_json, refused, succeeds


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
