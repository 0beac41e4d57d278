"""The virtual library as folders: shape, room, strays, doubles, and a crash at every rename."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from restore_lib.errors import LibraryOffline, Refused
from restore_lib.library import virtual
from restore_lib.library.base import ElementKind
from restore_lib.library.faults import Faults, read_faults, write_faults
from restore_lib.library.virtual import VirtualLibrary


def reopened(library: VirtualLibrary) -> VirtualLibrary:
    return VirtualLibrary(library.root, slots=6, drives=2, import_export=2, capacity_bytes=1 << 20)


def images(library: VirtualLibrary) -> dict[str, str]:
    """Return the folder of each image under the root; fails when there are two of one."""
    found: dict[str, str] = {}
    for image in library.root.rglob("*.tap"):
        assert image.stem not in found
        found[image.stem] = image.parent.name
    return found


def test_layout(library: VirtualLibrary) -> None:
    library.load("VT0002", 1, token=1)
    library.export("VT0003")
    assert images(library) == {"VT0001": "slot-0001", "VT0002": "drive-1", "VT0003": "dock"}
    assert sorted(p.name for p in (library.root / "library").iterdir()) == [
        ".last", ".robot", "drive-0", "drive-1", "ie-01", "ie-02",
        *(f"slot-000{n}" for n in range(1, 7)),
    ]  # fmt: skip


def test_create_again_changes_nothing(library: VirtualLibrary) -> None:
    library.load("VT0002", 1, token=4)
    before = images(library)
    again = VirtualLibrary.create(
        library.root, slots=6, drives=2, import_export=2, capacity_bytes=1 << 20
    )
    assert images(again) == before
    assert again.inventory() == library.inventory()


def test_create_adds_slots(library: VirtualLibrary) -> None:
    larger = VirtualLibrary.create(
        library.root, slots=8, drives=3, import_export=2, capacity_bytes=1 << 20
    )
    assert len(larger.inventory()) == 8 + 3 + 2


def test_no_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryOffline, match="no virtual library at"):
        VirtualLibrary(tmp_path / "x", slots=1, drives=1, import_export=1, capacity_bytes=1)


@pytest.mark.parametrize(
    ("slots", "wrong"), [(7, "slot-0007 is missing"), (5, "slot-0006 is too many")]
)
def test_another_shape(library: VirtualLibrary, slots: int, wrong: str) -> None:
    with pytest.raises(LibraryOffline, match=wrong):
        VirtualLibrary(library.root, slots=slots, drives=2, import_export=2, capacity_bytes=1)


def test_library_that_goes_away(library: VirtualLibrary) -> None:
    shutil.rmtree(library.root)
    with pytest.raises(LibraryOffline):
        library.inventory()
    with pytest.raises(LibraryOffline):
        library.dock()
    with pytest.raises(LibraryOffline):
        library.load("VT0001", 0, token=1)


def test_blanks_all_or_none(library: VirtualLibrary) -> None:
    before = images(library)
    for wrong, why in [
        (["VT0004", "VT0001"], "volume VT0001 already"),
        (["VT0004", "VT0004"], "volume VT0004 already"),
        (["VT0004", "no barcode"], "not a barcode"),
        (["VT0004", "VT0005", "VT0006", "VT0007"], "3 are free"),
    ]:
        with pytest.raises(Refused, match=why):
            library.add_blank(wrong)
    assert images(library) == before
    library.add_blank(["VT0004", "VT0005", "VT0006"])
    assert set(images(library).values()) == {f"slot-000{n}" for n in range(1, 7)}


def test_blank_of_a_barcode_on_the_dock(library: VirtualLibrary) -> None:
    library.export("VT0001")
    with pytest.raises(Refused, match="VT0001"):
        library.add_blank(["VT0001"])


def test_a_slot_is_kept_for_each_volume_in_a_drive(library: VirtualLibrary) -> None:
    library.export("VT0003")
    library.add_blank(["VT0004", "VT0005", "VT0006", "VT0007"])
    library.load("VT0001", 0, token=1)
    with pytest.raises(Refused, match="No storage slot is free"):
        library.admit("VT0003")
    with pytest.raises(Refused, match="0 are free"):
        library.add_blank(["VT0008"])
    library.load("VT0002", 0, token=1)
    library.unload(0, token=1)
    library.export("VT0007")
    library.admit("VT0003")
    assert images(library)["VT0003"].startswith("slot")


def test_import_export_slots_taken(library: VirtualLibrary) -> None:
    library.export("VT0003")
    for n in (1, 2):
        (library.root / "library" / f"ie-0{n}" / f"XX000{n}.tap").touch()
    with pytest.raises(Refused, match="import/export slots are taken"):
        library.export("VT0001")
    with pytest.raises(Refused, match="import/export slots are taken"):
        library.admit("VT0003")
    library.export("XX0001")
    library.admit("XX0002")
    library.export("VT0001")
    assert library.dock() == {"VT0001", "VT0003", "XX0001"}


def test_volume_in_an_import_export_slot_loads(library: VirtualLibrary) -> None:
    (library.root / "library" / "ie-01" / "XX0001.tap").touch()
    assert library.load("XX0001", 0, token=1).barcode() == "XX0001"
    library.unload(0, token=1)
    assert images(library)["XX0001"].startswith("slot")


@pytest.mark.parametrize("second", ["library/slot-0005", "dock"])
def test_one_barcode_at_two_places(library: VirtualLibrary, second: str) -> None:
    (library.root / second / "VT0001.tap").touch()
    for move in (
        lambda: library.load("VT0001", 0, token=1),
        lambda: library.export("VT0001"),
        lambda: library.admit("VT0001"),
    ):
        with pytest.raises(Refused, match="VT0001 is in slot-0001 and in"):
            move()
    assert library.load("VT0002", 0, token=1).barcode() == "VT0002"


def test_two_volumes_at_one_place(library: VirtualLibrary) -> None:
    (library.root / "library" / "slot-0001" / "VT0009.tap").touch()
    with pytest.raises(LibraryOffline, match="VT0001 and VT0009"):
        library.inventory()


def test_faults_follow_their_volume(library: VirtualLibrary) -> None:
    faults = Faults(unreadable=True)
    write_faults(library.root / "library" / "slot-0001" / "VT0001.tap", faults)
    library.load("VT0001", 0, token=1)
    library.unload(0, token=1)
    library.export("VT0001")
    assert read_faults(library.root / "dock" / "VT0001.tap") == faults
    library.admit("VT0001")
    assert [p.parent.name for p in library.root.rglob("*.faults.json")] == [
        images(library)["VT0001"]
    ]


class Crash(BaseException):
    """Stands for a kill at this very instant."""


@pytest.mark.parametrize("survived", range(24))
def test_crash_at_each_step_of_a_move(
    library: VirtualLibrary, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults(capacity_bytes=999)
    write_faults(library.root / "library" / "slot-0001" / "VT0001.tap", faults)
    left = survived

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1
            return real(*arguments, **named)

        return step

    def carry(machine: VirtualLibrary) -> None:
        machine.export("VT0001")
        machine.admit("VT0001")
        machine.load("VT0001", 0, token=1)
        machine.unload(0, token=1)

    with monkeypatch.context() as patch:
        for name in ("rename", "unlink", "hardlink_to"):
            patch.setattr(Path, name, dying(getattr(Path, name)))
        with pytest.raises(Crash):
            carry(library)
    again = reopened(library)
    assert set(images(again)) == {"VT0001", "VT0002", "VT0003"}
    [image] = library.root.rglob("VT0001.tap")
    assert read_faults(image) == faults
    again.unload(0, token=1)
    carry(again)
    place = library.root / "library" / images(again)["VT0001"]
    assert place.name.startswith("slot")
    assert read_faults(place / "VT0001.tap") == faults
    kinds = {e.barcode: e.kind for e in again.inventory() if e.barcode}
    assert set(kinds.values()) == {ElementKind.STORAGE}


def test_a_volume_goes_back_to_its_slot_or_to_another_where_that_is_taken(
    library: VirtualLibrary,
) -> None:
    library.export("VT0001")
    library.load("VT0003", 0, token=1)
    library.unload(0, token=1)
    assert images(library)["VT0003"] == "slot-0003"
    library.load("VT0003", 0, token=1)
    shutil.copy(library.root / "dock" / "VT0001.tap", library.root / "library/slot-0003/XX0001.tap")
    library.unload(0, token=1)
    assert images(library)["VT0003"] == "slot-0001"


def test_loaded_tells_what_is_in_which_drive(library: VirtualLibrary) -> None:
    assert library.loaded() == {}
    library.load("VT0002", 1, token=1)
    assert reopened(library).loaded() == {1: "VT0002"}


def test_a_volume_that_a_person_has_moved_is_found(library: VirtualLibrary) -> None:
    library.load("VT0001", 0, token=1)
    library.unload(0, token=1)
    image = library.root / "library" / "slot-0001" / "VT0001.tap"
    image.rename(library.root / "library" / "slot-0005" / "VT0001.tap")
    library.load("VT0001", 1, token=1)
    assert images(library)["VT0001"] == "drive-1"
    (library.root / "library" / ".last" / "VT0001").unlink()
    assert reopened(library).load("VT0001", 1, token=2).barcode() == "VT0001"


def test_a_volume_is_found_where_it_was_without_a_search(
    library: VirtualLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.export("VT0001")
    monkeypatch.setattr(virtual, "holding", lambda *_: pytest.fail("all places were searched"))
    again = reopened(library)
    again.admit("VT0001")
    again.load("VT0001", 0, token=1)
    again.unload(0, token=1)
    again.export("VT0001")
    assert images(again)["VT0001"] == "dock"
