import json
from pathlib import Path

from tests.support.commands import as_json, refused, send_all_to_the_vault, succeeds, vendor


def test_a_dry_run_sends_nothing(cluster: Path) -> None:
    plan = as_json(cluster, "vault", "out", "--dry-run")
    boxes = [box for shipment in plan["shipments"] for box in shipment["boxes"]]
    assert sorted(boxes) == [[f"TF{n:04}L9"] for n in range(6)]
    assert "sent" not in plan
    assert "TF0003L9" in succeeds(cluster, "vault", "out", "--dry-run").stdout
    assert as_json(cluster, "vault", "list") == {"shipments": []}


def test_volumes_go_out_and_come_back(cluster: Path) -> None:
    assert as_json(cluster, "vault", "out")["sent"] == [1, 2, 3]
    underway = as_json(cluster, "vault", "list")["shipments"]
    assert {shipment["state"] for shipment in underway} == {"sealed"}
    assert sum(len(shipment["lines"]) for shipment in underway) == 6
    assert "picked: TF0000L9" in succeeds(cluster, "vault", "list").stdout
    send_all_to_the_vault(cluster)
    assert as_json(cluster, "vault", "list") == {"shipments": []}
    assert len(as_json(cluster, "vault", "list", "--all")["shipments"]) == 3
    recall = ["vault", "recall", "TF0001L9", "TF0002L9", "--reason", "verify"]
    planned = as_json(cluster, *recall, "--dry-run")
    assert planned["to_recall"] == {"north": ["TF0001L9", "TF0002L9"]}
    assert "shipments" not in planned
    assert as_json(cluster, *recall)["shipments"] == [4]
    assert "TF0001L9" in succeeds(cluster, *recall).stdout
    with vendor(cluster):
        while as_json(cluster, "vault", "list")["shipments"]:
            succeeds(cluster, "vault", "receive")
    custody = {v["barcode"]: v["custody"] for v in as_json(cluster, "volumes")["volumes"]}
    assert custody["TF0001L9"] == "mountable"
    assert custody["TF0003L9"] == "vault"


def test_receive_tells_the_news(cluster: Path) -> None:
    assert "Nothing new." in succeeds(cluster, "vault", "receive").stdout
    (cluster / "van" / "inbox" / "odd.json").write_text(json.dumps({"hello": 1}))
    [rejected] = as_json(cluster, "vault", "receive")["rejected"]
    assert rejected["document"] == "odd.json"
    assert "kind" in rejected["reason"]
    (cluster / "van" / "inbox" / "half.json").write_text('{"format":')
    said = succeeds(cluster, "vault", "receive").stdout
    assert "Set aside half.json: The document half.json can't be read" in said
    assert "Nothing new." not in said


def test_a_shipment_is_shown_with_its_boxes_and_its_seal(cluster: Path) -> None:
    said = refused(cluster, "vault", "show", "1", code=64)
    assert "no shipment 1" in said
    succeeds(cluster, "vault", "out")
    shown = succeeds(cluster, "vault", "show", "1").stdout
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "seal TF-00000001" in lines
    assert "1 TF0000L9 picked -" in lines
    assert "2 TF0003L9 picked -" in lines
    found = as_json(cluster, "vault", "show", "1")
    assert found["shipment"]["seal"] == "TF-00000001"
    assert [(line["barcode"], line["box"]) for line in found["lines"]] == [
        ("TF0000L9", 1),
        ("TF0003L9", 2),
    ]


def test_the_paper_of_a_shipment_is_printed(cluster: Path) -> None:
    succeeds(cluster, "vault", "out")
    first, second = succeeds(cluster, "vault", "show", "1", "--paper").stdout.split("\f")
    assert first.startswith("PACKING LIST   shipment 1   vault north\n")
    assert "seal TF-00000001, box 1 of 2, volumes: 1\n\n  TF0000L9\n" in first
    assert second.endswith("box 2 of 2, volumes: 1\n\n  TF0003L9\n")
    sent = json.loads((cluster / "van/outbox/packing-list-00000001.json").read_text())
    paper = as_json(cluster, "vault", "show", "1", "--paper")
    assert paper | {"issued_at": ""} == sent | {"issued_at": ""}
    send_all_to_the_vault(cluster)
    succeeds(cluster, "vault", "recall", "TF0001L9", "--reason", "drill")
    asked = succeeds(cluster, "vault", "show", "4", "--paper").stdout
    assert asked.startswith("PICK LIST   shipment 4   vault north\n")
    assert "reason drill" in asked
    with vendor(cluster):
        while as_json(cluster, "vault", "list")["shipments"]:
            succeeds(cluster, "vault", "receive")
    said = refused(cluster, "vault", "show", "4", "--paper", code=64)
    assert "Shipment 4 is closed, and has no paper." in said


def test_the_inventory_lists_all_volumes_by_place(cluster: Path) -> None:
    succeeds(cluster, "vault", "out")
    found = as_json(cluster, "vault", "inventory")
    assert {entry["place"] for entry in found["entries"]} == {"dock"}
    lines = succeeds(cluster, "vault", "inventory").stdout.splitlines()
    assert lines[0].startswith("VAULT INVENTORY   cluster test   ")
    assert [line.split()[0] for line in lines[3:]] == [f"TF{n:04}L9" for n in range(6)]


def test_unknown_volumes_and_reasons_are_refused(cluster: Path) -> None:
    assert "NONE" in refused(cluster, "vault", "recall", "NONE", "--reason", "drill", code=64)
    result = succeeds(cluster, "vault", "recall", "TF0001L9", "--reason", "whim", code=2)
    assert "whim" in result.stderr
