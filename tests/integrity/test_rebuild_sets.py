from pathlib import Path

from restore_lib.catalog.findings import Found, FoundVolume
from restore_lib.integrity.rebuild_sets import state_of, states
from tests.support.found import label, member, note_set


def test_a_sound_set_lacks_nothing(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "f.db", [[member(0, b"a")], []])
    [state] = states(findings)
    assert (state.stripes, state.lost, state.left_out, state.unnamed) == (2, (), (), [])
    assert not state.closed
    findings.close()


def test_a_spoiled_segment_is_lost_and_its_sources_are_named(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "f.db", [[member(0, b"a")]])
    findings.database.execute("DELETE FROM segments")
    findings.note_spoiled("live-00001", 1, 0, "00001-0", "scratched")
    [state] = states(findings)
    [lost] = state.lost
    assert (lost.position, lost.whole, lost.sources, lost.why) == (0, False, (1,), "scratched")
    findings.note_spoiled("live-00001", 1, 1, "00001-1", "scratched too")
    [state] = states(findings)
    assert not state.lost[0].possible
    findings.close()


def test_a_stripe_counts_on_k_volumes_or_on_all(tmp_path: Path) -> None:
    findings = note_set(tmp_path / "f.db", [[], []])
    findings.note_volume(FoundVolume("00001-1", Found.READ, "live-00001", 1, 1))
    state = state_of(findings, findings.sets()[0])
    assert (state.stripes, state.short, state.closed) == (2, ("00001-1",), True)
    findings.close()


def test_unreadable_volumes_take_the_places_that_are_free_in_order(tmp_path: Path) -> None:
    note_set(tmp_path / "f.db", [[]], "live-00002", day=1).close()
    findings = note_set(tmp_path / "f.db", [[]])
    for one in (label("live-00001", 1), label("live-00002", 0, day=1)):
        findings.database.execute("DELETE FROM named WHERE barcode = ?", [one.barcode])
        findings.note_volume(FoundVolume(one.barcode, Found.UNREADABLE, problem="torn"))
    assert [state.assumed for state in states(findings)] == [{1: "00001-1"}, {0: "00002-0"}]
    findings.note_volume(FoundVolume("X", Found.UNREADABLE, problem="torn"))
    assert [state.unnamed for state in states(findings)] == [[1], [0]]
    findings.close()
