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
    assert as_json(cluster, "vault", "receive")["rejected"] == ["odd.json"]


def test_unknown_volumes_and_reasons_are_refused(cluster: Path) -> None:
    assert "NONE" in refused(cluster, "vault", "recall", "NONE", "--reason", "drill", code=64)
    result = succeeds(cluster, "vault", "recall", "TF0001L9", "--reason", "whim", code=2)
    assert "whim" in result.stderr
