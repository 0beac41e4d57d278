from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.errors import Refused
from restore_lib.restore.plant import (
    DAY,
    HOUR,
    Chance,
    Factor,
    Plant,
    VaultTimes,
    lto9_plant,
)
from restore_lib.restore.simulate import Outcome, Setting, simulate
from restore_lib.restore.spans import Stage
from restore_lib.restore.work import HERE, Coming, Job, TapeSet, Work

K = 2
ALWAYS = Chance(1e9, 1e-3)
NEVER = Chance(0, 1)
SIZE = 40_000_000_000
VAULTS = {"hill": VaultTimes(HOUR), "lake": VaultTimes(2 * HOUR)}


def certain(drives: int = 1, **values: object) -> Plant:
    """Return a plant on which nothing goes wrong and every number is as the model says."""
    fixed = {
        "vaults": VAULTS,
        "reading": Factor(),
        "mount_noise": 0.0,
        "moving": Factor(),
        "importing": Factor(),
        "picking": Factor(),
        "driving": Factor(),
        "publishing": Factor(),
        "omitted": NEVER,
        "omitted_again": NEVER,
        "bad": NEVER,
        "dies": NEVER,
    }
    return lto9_plant(drives, **(fixed | values))


def sets_of(count: int, place: str = HERE) -> Work:
    """A job for each data volume of ``count`` sets of 2+1."""
    sets = {
        f"s{number}": TapeSet(K, tuple(f"s{number}v{n}" for n in range(K + 1)))
        for number in range(count)
    }
    places = {barcode: place for found in sets.values() for barcode in found.members}
    jobs = [Job((b,), 10, SIZE) for found in sets.values() for b in found.members[:K]]
    return Work(jobs, places, sets)


def run(work: Work, plant: Plant, seed: int = 1) -> Outcome:
    return simulate(Setting(work, plant), seed)


def mount(plant: Plant, objects: int = 10, size: int = SIZE) -> float:
    return plant.batch_seconds(1, objects, size)


def test_one_volume_at_hand_takes_one_mount() -> None:
    plant = certain()
    outcome = run(Work([Job(("A",), 10, SIZE)]), plant)
    assert outcome.seconds == pytest.approx(mount(plant))
    assert outcome.stages[Stage.READ].seconds == pytest.approx(mount(plant))
    assert outcome.stages[Stage.RECALL].seconds == 0
    assert outcome.crowding == pytest.approx(1.0)


def test_one_drive_reads_one_after_the_other() -> None:
    plant = certain()
    assert run(sets_of(5), plant).seconds == pytest.approx(10 * mount(plant))


def test_nothing_to_do_is_done_at_once() -> None:
    outcome = run(Work([]), certain(drives=0))
    assert (outcome.seconds, outcome.ended, outcome.lost) == (0.0, 0, 0)


def test_without_drives_nothing_is_simulated() -> None:
    with pytest.raises(Refused, match="No drive"):
        Setting(sets_of(1), certain(drives=0))


def test_an_unknown_vault_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="'sea'"):
        Setting(sets_of(1, "sea"), certain())


def test_all_robots_busy_is_the_limit_with_many_drives() -> None:
    plant = certain(drives=100)
    outcome = run(Work([Job((f"V{n}",), 1, 0) for n in range(1000)]), plant)
    moves = 2 * plant.times.move * 1000
    assert moves <= outcome.seconds <= moves + mount(plant)
    assert outcome.crowding > 2
    twice = run(Work([Job((f"V{n}",), 1, 0) for n in range(1000)]), replace(plant, robots=2))
    assert twice.seconds == pytest.approx(outcome.seconds / 2, rel=0.05)


def test_a_store_that_takes_little_holds_the_drives() -> None:
    plant = certain(drives=10, store_rate=1e6)
    outcome = run(sets_of(5), plant)
    assert outcome.seconds >= 10 * SIZE / 1e6
    assert outcome.seconds <= 10 * SIZE / 1e6 + mount(plant)


def test_vaulted_volumes_are_driven_rested_and_let_in() -> None:
    plant = certain()
    outcome = run(sets_of(1, "hill"), plant)
    ends = [outcome.stages[stage].ends for stage in (Stage.RECALL, Stage.ACCLIMATION, Stage.IMPORT)]
    picked = 2 / 600 * HOUR
    assert ends == pytest.approx([picked + HOUR, picked + HOUR + DAY, picked + HOUR + DAY + 12])
    assert outcome.seconds == pytest.approx(ends[-1] + 2 * mount(plant))


def test_planning_comes_before_all_else() -> None:
    plant = certain(objects_per_second=10.0)
    work = replace(sets_of(1), objects=600)
    assert run(work, plant).seconds == pytest.approx(60 + 2 * mount(plant))


def test_a_volume_is_read_by_one_drive_at_a_time() -> None:
    plant = certain(drives=4)
    outcome = run(Work([Job(("A",), 10, SIZE)] * 3), plant)
    assert outcome.seconds == pytest.approx(3 * mount(plant))


def test_gathering_waits_for_room_on_the_staging_disk() -> None:
    work = Work([Job((f"A{n}", f"B{n}"), 10, SIZE) for n in range(4)])
    free = run(work, certain(drives=4, robots=8)).seconds
    assert run(work, certain(drives=4, robots=8, staging=2 * SIZE)).seconds == pytest.approx(
        2 * free
    )
    assert run(work, certain(drives=4, robots=8, staging=1)).seconds == pytest.approx(4 * free)


def test_a_bad_volume_is_rebuilt_from_others_that_are_fetched() -> None:
    work = sets_of(1)
    work = Work(work.jobs[:1], {**work.places, "s0v2": "hill"}, work.sets)
    outcome = next(
        found
        for seed in range(200)
        if (found := run(work, certain(bad=Chance(1, 2)), seed)).bad == 1 and not found.lost
    )
    redundancy = outcome.stages[Stage.REDUNDANCY]
    assert redundancy.seconds > HOUR
    assert outcome.seconds == redundancy.ends > DAY
    assert outcome.ended == 1


def test_more_bad_volumes_than_parity_makes_good_are_lost() -> None:
    outcome = run(sets_of(3), certain(bad=ALWAYS))
    assert (outcome.ended, outcome.lost) == (0, 6)


def test_volumes_that_never_come_are_rebuilt_or_lost() -> None:
    plant = certain(omitted=ALWAYS, omitted_again=ALWAYS)
    work = sets_of(2, "hill")
    outcome = run(work, plant)
    assert outcome.lost == 4
    assert outcome.omitted >= 4 * plant.rounds
    work = Work(work.jobs, {**work.places, "s0v1": HERE, "s0v2": HERE}, work.sets)
    assert (run(work, plant).ended, run(work, plant).lost) == (2, 2)


def test_a_dead_drive_comes_back_and_its_volume_is_read_at_last() -> None:
    plant = certain(dies=Chance(1e6, 9e6), rounds=9)
    outcome = run(Work([Job(("A",), 10, SIZE)] * 20), plant)
    assert (outcome.ended, outcome.lost) == (20, 0)
    assert outcome.seconds > plant.repair


def test_a_batch_is_tried_as_often_as_the_rounds_allow() -> None:
    plant = certain(dies=ALWAYS, rounds=3)
    outcome = run(Work([Job(("A",), 10, SIZE)]), plant)
    assert (outcome.ended, outcome.lost) == (0, 1)
    assert 2 * plant.repair < outcome.seconds < 3 * plant.repair


def test_batches_without_volumes_need_no_robot() -> None:
    plant = certain(drives=2)
    outcome = run(Work([Job((), 100, 0)] * 2), plant)
    assert outcome.seconds == pytest.approx(plant.drive_seconds(0, 100, 0))


@st.composite
def works(draw: st.DrawFn) -> Work:
    count = draw(st.integers(1, 8))
    sets = {
        f"s{n}": TapeSet(K, tuple(f"s{n}v{position}" for position in range(K + 2)))
        for n in range(count)
    }
    names = [barcode for found in sets.values() for barcode in found.members]
    places = {name: draw(st.sampled_from([HERE, "hill", "lake"])) for name in names}
    held = st.lists(st.sampled_from(names), max_size=3, unique=True).map(tuple)
    jobs = draw(
        st.lists(st.builds(Job, held, st.integers(1, 99), st.integers(0, SIZE)), max_size=40)
    )
    coming = [b for b in names if places[b] == "hill"][: draw(st.integers(0, 3))]
    ago = draw(st.sampled_from([1.0, HOUR, DAY]))
    shipments = [Coming("hill", tuple(coming), ago, draw(st.booleans()), 1)] if coming else []
    return Work(jobs, places, sets, shipments, draw(st.floats(0, DAY)), draw(st.integers(0, 9999)))


SHARES = st.sampled_from([NEVER, Chance(1, 9), Chance(5, 5), ALWAYS])


@settings(max_examples=200)
@given(works(), st.integers(1, 6), SHARES, SHARES, SHARES, st.integers(0, 2**30))
def test_every_batch_ends_once_whatever_goes_wrong(
    work: Work, drives: int, omitted: Chance, bad: Chance, dies: Chance, seed: int
) -> None:
    plant = lto9_plant(
        drives,
        vaults=VAULTS,
        omitted=omitted,
        omitted_again=omitted,
        bad=bad,
        dies=dies,
        staging=SIZE,
        store_rate=1e9,
    )
    outcome = run(work, plant, seed)
    assert outcome.ended + outcome.lost == len(work.jobs)
    assert outcome.ended >= 0
    assert outcome.lost >= 0
    if bad is NEVER and omitted is NEVER and dies is NEVER:
        assert outcome.lost == 0
    for span in outcome.stages.values():
        assert 0 <= span.seconds <= span.ends <= outcome.seconds
    assert run(work, plant, seed) == outcome


@settings(max_examples=50)
@given(works(), st.integers(1, 8))
def test_the_end_is_never_before_what_the_drives_must_do(work: Work, drives: int) -> None:
    plant = certain(drives)
    outcome = run(work, plant)
    held = sum(plant.drive_seconds(len(j.volumes), j.objects, j.size) for j in work.jobs)
    assert outcome.seconds >= held / drives - 1e-6
