from pathlib import Path

import pytest

from restore_lib.tape.age import new_identity
from tests.support.commands import (
    as_json,
    refused,
    succeeds,
    tapeflow,
    vendor,
)
from tests.support.repacks import NEW, NEXT, OLD, K, M, build, copied
from tests.support.sites import digests, image, open_site


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mostly-expired")
    build(root).close()
    return root


@pytest.fixture
def sparse(origin: Path, tmp_path: Path) -> Path:
    """The folder of a cluster: its set ``OLD`` is mostly expired, ``NEXT`` is live."""
    return copied(origin, tmp_path / "sparse")


def volumes_of(root: Path, tape_set: str, what: str = "barcode") -> list[str]:
    found = as_json(root, "volumes")["volumes"]
    held = [each for each in found if each["tape_set"] == tape_set]
    return [each[what] for each in sorted(held, key=lambda each: each["position"])]


def lose(root: Path, *barcodes: str) -> None:
    site = open_site(root)
    for barcode in barcodes:
        image(site, barcode).unlink()
    site.close()


def test_objects_come_back_when_their_old_set_is_gone(sparse: Path) -> None:
    planned = as_json(sparse, "repack", "plan")
    [one], [new] = planned["sets"], planned["new"]
    assert (one["tape_set"], one["ready"]) == (OLD, True)
    assert one["live_size"] * 2 < one["size"]
    assert (new["payloads"], new["tape_sets"], new["volumes"]) == (one["live_extents"], 1, K + M)
    assert as_json(sparse, "repack", "run", "--dry-run") == planned
    assert OLD in succeeds(sparse, "repack", "run", "--dry-run").stdout
    assert "--yes" in refused(sparse, "repack", "run", code=64)
    assert as_json(sparse, "repack", "plan") == planned
    [done] = as_json(sparse, "repack", "run", "--yes")["repacked"]["sets"]
    assert (done["tape_set"], done["moved"], done["empty"]) == (OLD, one["live_extents"], True)
    assert "nothing to repack" in succeeds(sparse, "repack", "run", "--yes").stdout
    reclaimable = as_json(sparse, "reclaim", "plan")["sets"]
    assert [each["tape_set"] for each in reclaimable] == [OLD]
    shown = as_json(sparse, "backup", "show", 1)["volumes"]
    assert {volume["tape_set"] for volume in shown} == {OLD, NEW}
    lose(sparse, *volumes_of(sparse, OLD))
    succeeds(sparse, "restore", "run", "--everything", "--store", "live", "--to", "out", "--yes")
    assert digests(sparse / "out") == digests(sparse / "live")


def test_sets_are_chosen_by_share_or_by_name(sparse: Path) -> None:
    assert as_json(sparse, "repack", "plan", "--below", "10%")["sets"] == []
    every = as_json(sparse, "repack", "plan", "--below", "100")["sets"]
    assert [one["tape_set"] for one in every] == [OLD]
    [named] = as_json(sparse, "repack", "plan", "--set", NEXT)["sets"]
    assert named["live_size"] == named["size"]
    assert "no closed tape set" in refused(sparse, "repack", "plan", "--set", "nosuch", code=64)
    for bad in ("0%", "101%", "half"):
        assert tapeflow(sparse, "repack", "plan", "--below", bad).exit_code == 2
    text = succeeds(sparse, "repack", "run", "--set", NEXT, "--set", OLD, "--yes").stdout
    assert f"Written to {NEW}." in text


def test_volumes_in_the_vault_are_named_then_called_back(sparse: Path) -> None:
    with vendor(sparse):
        succeeds(sparse, "vault", "out")
        while set(volumes_of(sparse, OLD, "custody")) != {"vault"}:
            succeeds(sparse, "vault", "receive")
    [one] = as_json(sparse, "repack", "plan")["sets"]
    away = [barcode for held in one["recall"].values() for barcode in held]
    assert set(away) <= set(volumes_of(sparse, OLD)[:K])
    assert "to recall: " in succeeds(sparse, "repack", "plan").stdout
    assert "--recall" in refused(sparse, "repack", "run", "--yes", code=64)
    assert "--yes" in refused(sparse, "repack", "run", "--recall", code=64)
    assert {s["direction"] for s in as_json(sparse, "vault", "list", "--all")["shipments"]} == {
        "out"
    }
    with vendor(sparse):
        assert "recalled" in refused(sparse, "repack", "run", "--recall", "--yes", code=75)
        assert "on their way" in refused(sparse, "repack", "run", "--yes", code=75)
        while not as_json(sparse, "repack", "plan")["sets"][0]["ready"]:
            succeeds(sparse, "vault", "receive")
    recalls = as_json(sparse, "vault", "list", "--all")["shipments"]
    assert {s["reason"] for s in recalls if s["direction"] == "in"} == {"migrate"}
    [done] = as_json(sparse, "repack", "run", "--yes")["repacked"]["sets"]
    assert done["empty"]


def test_what_is_left_is_named(sparse: Path) -> None:
    lose(sparse, *volumes_of(sparse, OLD)[1:])
    result = succeeds(sparse, "repack", "run", "--yes", code=3)
    assert "left where it is: cut: " in result.stderr
    assert "payloads are lost" in succeeds(sparse, "repack", "plan").stdout
    assert "can't be repacked" in refused(sparse, "repack", "run", "--yes", code=64)


def test_other_recipients_are_named_in_the_plan(sparse: Path) -> None:
    config = sparse / "tapeflow.toml"
    site = open_site(sparse)
    [before] = site.recipients.names
    site.close()
    config.write_text(config.read_text().replace(before, new_identity()[1]))
    assert f"stay encrypted to {before}" in succeeds(sparse, "repack", "plan").stdout
    assert as_json(sparse, "repack", "plan")["new"][0]["recipients"] == [before]
