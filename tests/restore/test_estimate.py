from restore_lib.restore.estimate import VIRTUAL, TimeModel

MODEL = TimeModel(move=1, load=2, locate=3, rate=100, rewind=4, unload=5, per_object=0.5)


def test_a_mount_costs_its_moves_its_reads_and_its_bytes() -> None:
    assert MODEL.mount(0, 0) == 2 * 1 + 2 + 3 + 4 + 5
    assert MODEL.mount(10, 1000) == MODEL.mount(0, 0) + 10 * 0.5 + 1000 / 100


def test_more_objects_and_more_bytes_take_longer() -> None:
    assert VIRTUAL.mount(1, 0) < VIRTUAL.mount(2, 0) < VIRTUAL.mount(2, 10**9)
