from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.model.states import BatchKind
from restore_lib.model.volume import Content, Custody, Flag, Health
from restore_lib.restore.plan import Limits, Planner, readable
from tests.support.plans import Need, Planned, batches_of, member, plan_needs

K, M, SETS = 3, 2, 2
LIMITS = Limits(objects=4, size=1000)


MEMBERS = [member(number, position) for number in range(SETS) for position in range(K + M)]


def need(item: int, number: int, position: int, **values: object) -> Need:
    fields: dict[str, object] = {
        "item_id": item,
        "attempts": 0,
        "last_error": None,
        "barcode": f"S{number}P{position}",
        "stored_size": 100,
    }
    return Need(**(fields | values))  # type: ignore[arg-type]  # as above


def plan(
    needs: list[Need], changed: dict[str, dict[str, object]] | None = None, limits: Limits = LIMITS
) -> Planned:
    volumes = [
        replace(v, **(changed or {}).get(v.barcode, {}))  # type: ignore[arg-type]  # as above
        for v in MEMBERS
    ]
    shapes = {f"set{number}": K for number in range(SETS)}
    return plan_needs(Planner(volumes, shapes), needs, limits)


def lose(*barcodes: str) -> dict[str, dict[str, object]]:
    return {barcode: {"health": Health.BROKEN} for barcode in barcodes}


PLACES = st.lists(
    st.tuples(st.integers(0, SETS - 1), st.integers(0, K - 1)), min_size=1, max_size=3
)
NEEDS = st.lists(PLACES, max_size=20).map(
    lambda objects: [
        need(item, number, position)
        for item, places in enumerate(objects)
        for number, position in places
    ]
)
HEALTHS = st.fixed_dictionaries(
    {v.barcode: st.sampled_from([Health.OK] * 4 + list(Health)) for v in MEMBERS}
)


@given(needs=NEEDS, healths=HEALTHS, attempts=st.integers(0, 3))
def test_each_item_is_in_one_batch_or_named_as_unrestorable(
    needs: list[Need], healths: dict[str, Health], attempts: int
) -> None:
    needs = [replace(n, attempts=attempts) for n in needs]
    changed: dict[str, dict[str, object]] = {b: {"health": h} for b, h in healths.items()}
    planned = plan(needs, changed)
    lost = {barcode for barcode, health in healths.items() if health not in {"ok", "suspect"}}
    counted = Counter(item for batch in planned.batches for item in batch.item_ids)
    counted.update(list(planned.unrestorable))
    assert counted == Counter({n.item_id for n in needs})
    by_item = {i: [n for n in needs if n.item_id == i] for i in counted}
    gone = {
        name for name in ("set0", "set1") if sum(b.startswith("S" + name[-1]) for b in lost) > M
    }
    for item, held in by_item.items():
        hopeless = any(n.barcode in lost and f"set{n.barcode[1]}" in gone for n in held)
        assert (item in planned.unrestorable) == hopeless
    for batch in planned.batches:
        assert lost.isdisjoint(batch.volumes)
        assert len(batch.item_ids) <= LIMITS.objects
        assert len(set(batch.volumes)) == len(batch.volumes)
        read = batch.kind is BatchKind.READ
        assert not read or len(batch.volumes) == 1
        for item in batch.item_ids:
            for n in by_item[item]:
                in_set = [v for v in batch.volumes if v.startswith(n.barcode[:2])]
                assert n.barcode in batch.volumes or len(in_set) >= K
    assert plan(needs, changed) == planned


@given(needs=NEEDS, lost=st.data())
def test_with_up_to_m_losses_a_set_nothing_is_unrestorable(
    needs: list[Need], lost: st.DataObject
) -> None:
    gone: list[str] = []
    for number in range(SETS):
        members = [f"S{number}P{position}" for position in range(K + M)]
        gone += lost.draw(st.lists(st.sampled_from(members), max_size=M, unique=True))
    assert plan(needs, lose(*gone)).unrestorable == {}


def test_with_more_losses_exactly_the_objects_on_lost_volumes_are_named() -> None:
    needs = [need(position, 0, position) for position in range(K)] + [need(9, 1, 0)]
    planned = plan(needs, lose("S0P0", "S0P1", "S0P3"))
    assert planned.unrestorable == {
        0: ("S0P0", "S0P1", "S0P3"),
        1: ("S0P0", "S0P1", "S0P3"),
    }
    assert sorted(item for batch in planned.batches for item in batch.item_ids) == [2, 9]


def test_an_object_on_one_volume_is_read_there_even_in_parts() -> None:
    [batch] = plan([need(1, 0, 2), need(1, 0, 2)]).batches
    assert (batch.kind, batch.volumes) == (BatchKind.READ, ("S0P2",))


def test_an_object_over_several_volumes_is_gathered() -> None:
    [batch] = plan([need(1, 0, 0), need(1, 1, 2)]).batches
    assert (batch.kind, batch.volumes) == (BatchKind.GATHER, ("S0P0", "S1P2"))
    assert batch.barcode in batch.volumes


def test_a_lost_volume_is_rebuilt_from_the_nearest_sound_ones() -> None:
    changed = lose("S0P0") | {
        "S0P1": {"custody": Custody.VAULT},
        "S0P3": {"health": Health.SUSPECT},
    }
    [batch] = plan([need(1, 0, 0)], changed).batches
    assert (batch.kind, batch.barcode) == (BatchKind.GATHER, "S0P0")
    assert set(batch.volumes) == {"S0P1", "S0P2", "S0P4"}
    changed["S0P4"] = {"custody": Custody.VAULT}
    changed["S0P3"] = {}
    [batch] = plan([need(1, 0, 0)], changed).batches
    assert {"S0P2", "S0P3"} < set(batch.volumes)


def test_a_suspect_volume_is_read_at_first_and_passed_over_after_it_failed() -> None:
    suspect: dict[str, dict[str, object]] = {"S0P0": {"health": Health.SUSPECT}}
    [batch] = plan([need(1, 0, 0)], suspect).batches
    assert batch.volumes == ("S0P0",)
    [batch] = plan([need(1, 0, 0, attempts=1)], suspect).batches
    assert "S0P0" not in batch.volumes
    too_few = suspect | lose("S0P1", "S0P2")
    [batch] = plan([need(1, 0, 0, attempts=1)], too_few).batches
    assert batch.volumes == ("S0P0",)


def test_a_suspect_volume_is_read_again_when_what_stood_in_for_it_fails_too() -> None:
    suspect: dict[str, dict[str, object]] = {"S0P0": {"health": Health.SUSPECT}}
    [batch] = plan([need(1, 0, 0, attempts=2, last_error="medium_error")], suspect).batches
    assert "S0P0" in batch.volumes
    [batch] = plan([need(1, 0, 0, attempts=2, last_error="drive_busy")], suspect).batches
    assert batch.volumes == ("S0P0",)
    [batch] = plan([need(1, 0, 0, attempts=2, last_error="digest_mismatch")], suspect).batches
    assert "S0P0" not in batch.volumes


@pytest.mark.parametrize("custody", [Custody.NOTMOUNTABLE, Custody.COURIER])
def test_a_volume_that_vanished_on_its_way_out_is_not_waited_for(custody: Custody) -> None:
    gone: dict[str, object] = {"custody": custody, "flags": frozenset({Flag.MISSING})}
    [batch] = plan([need(1, 0, 0)], {"S0P0": gone}).batches
    assert "S0P0" not in batch.volumes
    [batch] = plan([need(1, 0, 0)], {"S0P0": gone | {"flags": frozenset()}}).batches
    assert batch.volumes == ("S0P0",)


def test_of_two_suspects_that_parity_cant_replace_both_one_is_tried_after_the_other() -> None:
    changed: dict[str, dict[str, object]] = {
        barcode: {"health": Health.SUSPECT} for barcode in ("S0P0", "S0P1")
    }
    changed |= lose("S0P4")
    needs = [need(1, 0, 0), need(1, 0, 1)]
    direct = set()
    for attempts in (1, 2):
        again = [replace(n, attempts=attempts) for n in needs]
        [batch] = plan(again, changed).batches
        direct |= {"S0P0", "S0P1"} - set(batch.volumes)
    assert direct == {"S0P0", "S0P1"}


def test_after_wrong_bytes_another_survivor_is_left_out_each_time() -> None:
    left_out: list[str] = []
    for attempts in range(1, 5):
        again = need(1, 0, 0, attempts=attempts, last_error="digest_mismatch")
        [batch] = plan([again], lose("S0P0")).batches
        left_out += {"S0P1", "S0P2", "S0P3", "S0P4"} - set(batch.volumes)
    assert sorted(left_out) == ["S0P1", "S0P2", "S0P3", "S0P4"]


def test_after_a_bad_block_the_sound_volumes_are_taken_first_and_then_all() -> None:
    changed = lose("S0P0") | {"S0P1": {"health": Health.SUSPECT}}
    for attempts, taken in enumerate([{"S0P2", "S0P3", "S0P4"}] * 2):
        again = need(1, 0, 0, attempts=attempts, last_error="medium_error")
        [batch] = plan([again], changed).batches
        assert set(batch.volumes) == taken
    again = need(1, 0, 0, attempts=2, last_error="medium_error")
    [batch] = plan([again], changed).batches
    assert set(batch.volumes) == {"S0P1", "S0P2", "S0P3", "S0P4"}


def test_after_a_bad_block_the_volume_itself_still_gives_the_others() -> None:
    changed: dict[str, dict[str, object]] = {
        "S0P0": {"health": Health.SUSPECT},
        "S0P4": {"custody": Custody.VAULT},
    }
    again = need(1, 0, 0, attempts=1, last_error="medium_error")
    [batch] = plan([again], changed).batches
    assert (batch.kind, set(batch.volumes)) == (BatchKind.GATHER, {"S0P0", "S0P1", "S0P2", "S0P3"})
    [batch] = plan([replace(again, attempts=2)], changed).batches
    assert set(batch.volumes) == {f"S0P{position}" for position in range(K + M)}
    [batch] = plan([again], changed | lose("S0P1", "S0P2", "S0P3")).batches
    assert (batch.kind, batch.volumes) == (BatchKind.READ, ("S0P0",))


def test_a_retired_volume_is_not_read() -> None:
    assert not readable(member(0, 0, content=Content.RETIRED))


@pytest.mark.parametrize("flag", [Flag.FOREIGN, Flag.LABEL_MISMATCH])
def test_a_volume_that_is_another_one_is_not_read(flag: Flag) -> None:
    assert not readable(member(0, 0, flags=frozenset({flag})))
    [batch] = plan([need(1, 0, 0)], {"S0P0": {"flags": frozenset({flag})}}).batches
    assert "S0P0" not in batch.volumes


def test_other_flags_do_not_keep_a_volume_from_being_read() -> None:
    assert readable(member(0, 0, flags=frozenset({Flag.UNEXPECTED, Flag.OVERDUE})))


def test_batches_keep_the_order_of_the_tape_and_their_bounds() -> None:
    needs = [need(item, 0, 1, stored_size=300) for item in (5, 3, 8, 1, 9)]
    batches = plan(needs, limits=Limits(objects=10, size=700)).batches
    assert [batch.item_ids for batch in batches] == [(5, 3), (8, 1), (9,)]
    batches = plan(needs, limits=Limits(objects=3, size=10**6)).batches
    assert [batch.item_ids for batch in batches] == [(5, 3, 8), (1, 9)]
    assert [batch.size for batch in batches] == [900, 600]
    assert all(batch.estimate > 0 for batch in batches)


def test_an_object_larger_than_a_batch_has_one_for_itself() -> None:
    batches = plan([need(1, 0, 1, stored_size=10**6), need(2, 0, 1)]).batches
    assert [batch.item_ids for batch in batches] == [(1,), (2,)]


def test_what_was_never_backed_up_is_looked_for_in_batches() -> None:
    batches = batches_of(None, [(4, 0), (2, 0), (7, 0)], Limits(2, 10))
    assert [batch.item_ids for batch in batches] == [(4, 2), (7,)]
    assert {(batch.kind, batch.volumes) for batch in batches} == {(BatchKind.ALTERNATE, ())}
