import pytest

from restore_lib.restore.estimate import LTO9, VIRTUAL, TimeModel

MODEL = TimeModel(move=1, load=2, locate=3, rate=100, rewind=4, unload=5, per_object=0.5)


def test_a_mount_costs_its_moves_its_reads_and_its_bytes() -> None:
    assert MODEL.mount(0, 0) == 2 * 1 + 2 + 3 + 4 + 5
    assert MODEL.mount(10, 1000) == MODEL.mount(0, 0) + 10 * 0.5 + 1000 / 100


def test_a_whole_lto9_volume_takes_about_as_long_as_its_rate_says() -> None:
    hours = LTO9.mount(1, 18 * 10**12) / 3600
    assert hours == pytest.approx(12.5, abs=0.1)


@pytest.mark.parametrize("model", [LTO9, VIRTUAL])
def test_more_objects_and_more_bytes_take_longer(model: TimeModel) -> None:
    assert model.mount(1, 0) < model.mount(2, 0) < model.mount(2, 10**9)
