"""A virtual drive's fence: tokens only grow, and a crash leaves the old claim or the new one."""

from pathlib import Path

import pytest

from restore_lib.errors import LeaseLost, LibraryOffline
from restore_lib.library.bay import Bay, Fence, single_image


@pytest.fixture
def bay(tmp_path: Path) -> Bay:
    made = Bay(tmp_path / "drive-3", 3)
    made.create()
    return made


def test_tokens_only_grow(bay: Bay) -> None:
    assert bay.fence() == Fence(0, 0)
    assert bay.claim(4) == Fence(4, 1)
    assert bay.claim(4) == Fence(4, 2)
    assert bay.claim(9) == bay.fence() == Fence(9, 3)
    with pytest.raises(LeaseLost, match="Drive 3 has a newer holder"):
        bay.claim(8)
    assert Bay(bay.folder, 3).fence() == Fence(9, 3)


def test_crash_before_the_claim_is_in_place_leaves_the_old_one(
    bay: Bay, monkeypatch: pytest.MonkeyPatch
) -> None:
    bay.claim(1)

    def crash(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            bay.claim(2)
    assert bay.fence() == Fence(1, 1)
    assert bay.claim(2) == Fence(2, 2)


def test_unreadable_fence_shuts_all_out(bay: Bay) -> None:
    (bay.folder / ".fence").write_text("seven")
    with pytest.raises(LibraryOffline, match="does not know its holder"):
        bay.claim(100)


def test_fence_that_cannot_be_written(bay: Bay) -> None:
    (bay.folder / ".fence.new").mkdir()
    with pytest.raises(LibraryOffline, match="Drive 3 can't be claimed"):
        bay.claim(1)


def test_dead_until_repaired(bay: Bay) -> None:
    bay.check_alive()
    bay.die()
    with pytest.raises(LibraryOffline, match="Drive 3 is dead"):
        bay.check_alive()
    with pytest.raises(LibraryOffline, match="Drive 3 is dead"):
        bay.claim(1)
    bay.repair()
    bay.repair()
    assert bay.claim(1) == Fence(1, 1)


def test_image(bay: Bay) -> None:
    assert bay.image() is None
    (bay.folder / "VT0001.tap").touch()
    assert bay.image() == bay.folder / "VT0001.tap"
    (bay.folder / "VT0002.tap").touch()
    with pytest.raises(LibraryOffline, match="VT0001 and VT0002"):
        single_image(bay.folder)
