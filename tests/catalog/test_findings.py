from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from restore_lib.catalog.findings import Findings, Found, FoundFile, FoundVolume
from tests.support.found import DIGEST, label, member, note_set


def test_what_is_noted_stays(tmp_path: Path) -> None:
    path = tmp_path / "findings.db"
    noted = note_set(path, [[member(0, b"a")], []])
    noted.note_volume(FoundVolume("X1", Found.UNREADABLE, problem="torn"))
    name = noted.id
    noted.close()
    findings = Findings(path)
    assert findings.id == name
    assert [v.barcode for v in findings.volumes()] == ["00001-0", "00001-1", "X1"]
    assert findings.volumes()[0] == FoundVolume("00001-0", Found.READ, "live-00001", 0, 2)
    [found] = findings.sets()
    assert (found.id, found.k, found.m, found.recipients) == ("live-00001", 1, 1, ("age1x",))
    assert found.created_at == label().created_at
    assert findings.named("live-00001") == {0: "00001-0", 1: "00001-1"}
    assert findings.files("live-00001", 2)[1] == FoundFile(2, 1, 4, DIGEST)
    assert findings.indexed("live-00001") == {(1, 0): (1024, False), (2, 0): (1024, False)}
    findings.close()


def test_first_hand_outranks_hearsay(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[]])
    told = [FoundFile(1, 0, 99, "cd" * 32), FoundFile(2, 0, 5, DIGEST)]
    findings.note_hearsay("live-00001", told, [(0, "OTHER"), (7, "SEVEN")])
    assert findings.files("live-00001", 1)[0].blocks == 4
    assert findings.files("live-00001", 2)[0].blocks == 5
    assert findings.named("live-00001") == {0: "00001-0", 1: "00001-1", 7: "SEVEN"}
    assert findings.has("live-00001", 1, 0)
    assert not findings.has("live-00001", 2, 0)
    findings.note_file("live-00001", FoundFile(1, 0, 6, DIGEST))
    assert findings.files("live-00001", 1)[0].blocks == 6
    findings.close()


def test_a_volume_that_is_read_again_is_forgiven(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[]])
    findings.note_spoiled("live-00001", 1, 0, "00001-0", "scratched")
    findings.note_spoiled("live-00001", 1, 1, "00001-1", "scratched")
    findings.forgive("00001-0")
    assert findings.spoiled("live-00001") == {(1, 1, "00001-1"): "scratched"}
    findings.close()


def test_of_two_volumes_with_one_place_the_sound_one_counts(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[]])
    for name in ("00000-9", "Z"):
        findings.note_label(replace(label(), barcode=name))
        findings.note_volume(FoundVolume(name, Found.READ, "live-00001", 0, 1))
    findings.note_hearsay("live-00001", (), [(0, "ZZ")])
    assert findings.named("live-00001")[0] == "Z"
    findings.note_volume(FoundVolume("Z", Found.READ, "live-00001", 0, 1, problem="torn"))
    assert findings.named("live-00001")[0] == "00001-0"
    findings.close()


def test_a_set_that_a_later_one_is_written_over_is_reclaimed(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[]])
    later = replace(label(), tape_set="live-00002", created_at=label().created_at + timedelta(1))
    findings.leave_out(["unknown"])
    assert (len(findings.sets()), findings.left_out()) == (1, [])
    findings.note_label(replace(later, barcode="NEW"))
    findings.note_volume(FoundVolume("NEW", Found.READ, "live-00002", 0, 1))
    findings.leave_out(())
    assert findings.left_out() == []
    findings.note_label(replace(later, barcode="OLD", position=1))
    findings.note_volume(FoundVolume("OLD", Found.READ, "live-00002", 1, 1))
    findings.note_hearsay("live-00001", (), [(1, "OLD")])
    findings.leave_out(())
    assert findings.left_out() == ["live-00001"]
    assert [found.id for found in findings.sets()] == ["live-00002"]
    findings.leave_out(["live-00002"])
    assert findings.sets() == []
    findings.close()


def test_an_earlier_set_reclaims_nothing(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "findings.db", [[]])
    early = replace(label(), tape_set="live-00000", created_at=label().created_at - timedelta(1))
    findings.note_label(replace(early, barcode="OLD"))
    findings.note_volume(FoundVolume("OLD", Found.READ, "live-00000", 0, 1))
    findings.note_hearsay("live-00001", (), [(1, "OLD")])
    findings.leave_out(())
    assert findings.left_out() == []
    findings.close()
