import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from restore_lib.vault.boxes import Cartridge, pack_boxes, plan_shipments

SETS = st.dictionaries(
    st.sampled_from([f"s{n}" for n in range(8)]),
    st.tuples(st.integers(1, 6), st.integers(0, 4)),
    max_size=8,
)


def cartridges(sets: dict[str, tuple[int, int]]) -> list[Cartridge]:
    return [
        Cartridge(f"{name}-{n}".upper(), name, max(1, m))
        for name, (k, m) in sets.items()
        for n in range(k + m)
    ]


@given(SETS, st.integers(1, 20))
def test_boxes_hold_everything_once_and_keep_sets_apart(
    sets: dict[str, tuple[int, int]], box_size: int
) -> None:
    all_of_them = cartridges(sets)
    set_of = {c.barcode: c.tape_set for c in all_of_them}
    boxes = pack_boxes(all_of_them, box_size)
    assert sorted(b for box in boxes for b in box) == sorted(set_of)
    for box in boxes:
        assert 1 <= len(box) <= box_size
        assert len({set_of[b] for b in box}) == len(box)
    largest = max((k + m for k, m in sets.values()), default=0)
    assert len(boxes) == max(math.ceil(len(all_of_them) / box_size), largest)


@given(SETS, st.integers(1, 20), st.integers(1, 6), st.randoms())
def test_trucks_and_vaults_take_no_more_than_a_set_can_lose(
    sets: dict[str, tuple[int, int]], box_size: int, vaults: int, random: object
) -> None:
    all_of_them = cartridges(sets)
    together = {c.barcode: (c.tape_set, c.together) for c in all_of_them}
    sizes = {f"v{n}": box_size for n in range(vaults)}
    plan = plan_shipments(all_of_them, sizes)
    assert sorted(b for s in plan.shipments for b in s.barcodes) == sorted(together)
    in_vault: Counter[tuple[str, str]] = Counter()
    for shipment in plan.shipments:
        on_truck = Counter(together[b] for b in shipment.barcodes)
        assert all(count <= limit for (_, limit), count in on_truck.items())
        for (tape_set, _), count in on_truck.items():
            in_vault[tape_set, shipment.vault] += count
    crowded = {
        tape_set for (tape_set, _), count in in_vault.items() if count > max(1, sets[tape_set][1])
    }
    too_few = {name for name, (k, m) in sets.items() if math.ceil((k + m) / max(1, m)) > vaults}
    assert crowded == too_few
    assert {note.split(":")[0].removeprefix("Tape set ") for note in plan.notes} == too_few


@given(SETS, st.permutations(range(50)))
def test_the_plan_does_not_depend_on_the_order(
    sets: dict[str, tuple[int, int]], order: list[int]
) -> None:
    ordered = cartridges(sets)
    shuffled = sorted(ordered, key=lambda c: order[hash(c.barcode) % 50])
    vaults = {"north": 5, "south": 3}
    assert plan_shipments(shuffled, vaults) == plan_shipments(ordered, vaults)


def test_a_4_2_set_goes_to_three_vaults_on_three_trucks_in_two_boxes_each() -> None:
    plan = plan_shipments(cartridges({"a": (4, 2)}), {"north": 20, "south": 20, "west": 20})
    assert [s.vault for s in plan.shipments] == ["north", "south", "west"]
    assert [[len(box) for box in s.boxes] for s in plan.shipments] == [[1, 1]] * 3
    assert plan.notes == ()


def test_with_one_vault_the_trucks_keep_the_set_apart_and_the_plan_says_so() -> None:
    plan = plan_shipments(cartridges({"a": (4, 2)}), {"only": 20})
    assert [len(s.barcodes) for s in plan.shipments] == [2, 2, 2]
    assert len(plan.notes) == 1
    assert "Tape set a: 6 members in vault only, where at most 2 should be" in plan.notes[0]
    assert "1 vault is too few" in plan.notes[0]


def test_members_that_are_in_a_vault_already_count() -> None:
    returning = [Cartridge("A-5", "a", 2)]
    present = {("a", "north"): 2, ("a", "south"): 1, ("a", "west"): 2}
    vaults = {"north": 20, "south": 20, "west": 20}
    plan = plan_shipments(returning, vaults, present)
    assert [s.vault for s in plan.shipments] == ["south"]
    assert plan.notes == ()


def test_nothing_to_send_is_no_shipment() -> None:
    assert plan_shipments([], {"north": 20}).shipments == ()
    assert plan_shipments([], {}).shipments == ()
