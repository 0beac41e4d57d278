"""The restore of March 2012 as it would go today: the counts of then, on LTO-9 drives.

436,223 objects in 5,475 batches on 5,337 volumes of 9+2, 1.5 PB in equal batches; 35% of the
volumes are left out of the first shipment, and 17 can't be read. A truck takes the eight hours of
2012. Doors let in 600 volumes an hour for each robot, where 2012 loaded by hand. Volumes rest for
the day that the makers ask for, or, at a person's own risk, are read at once.
"""

from dataclasses import replace
from typing import Any

from restore_lib.restore.forecast import estimate
from restore_lib.restore.plant import DAY, HOUR, Chance, Plant, VaultTimes, lto9_plant
from restore_lib.restore.work import Job, TapeSet, Work

FACTS = {
    "users_affected": 21_000,
    "objects_on_tape": 436_223,
    "objects_lost_before_backup": 161_000,
    "bytes": 1_500_000_000_000_000,
    "restore_jobs": 5475,
    "tapes_recalled": 5337,
    "plan_hours": 4,
    "truck_hours": 8,
    "hand_loading_hours": 3,
    "tapes_omitted_from_first_shipment": 1862,
    "percent_back_after_first": 74,
    "bad_tapes": 17,
    "estimated_days": 2,
    "restore_days": 5,
    "total_days": 7,
}
"""Of the restore of 2012, as published in the SRE book, chapter 26."""
K, M = 9, 2
VAULTS = ("east", "middle", "west")


def work_2012() -> Work:
    """Return the batches of 2012; 138 of the volumes have a second one."""
    sets: dict[str, TapeSet] = {}
    places: dict[str, str] = {}
    data: list[str] = []
    for number in range(FACTS["tapes_recalled"] // K):
        members = tuple(f"{number:03}-{position:02}" for position in range(K + M))
        sets[f"{number:03}"] = TapeSet(K, members)
        data += members[:K]
        for position, barcode in enumerate(members):
            places[barcode] = VAULTS[position % len(VAULTS)]
    batches = FACTS["restore_jobs"]
    objects, size = FACTS["objects_on_tape"] // batches, FACTS["bytes"] // batches
    read = [*data, *data[: batches - len(data)]]
    jobs = [Job((barcode,), objects, size) for barcode in read]
    return Work(jobs, places, sets, objects=FACTS["objects_on_tape"])


def plant_2012(drives: int) -> Plant:
    """Return LTO-9 drives, a robot for each 25 of them, and the faults of 2012."""
    omitted, recalled = FACTS["tapes_omitted_from_first_shipment"], FACTS["tapes_recalled"]
    vaults = {name: VaultTimes(FACTS["truck_hours"] * HOUR) for name in VAULTS}
    return lto9_plant(
        drives,
        robots=max(1, drives // 25),
        vaults=vaults,
        omitted=Chance(omitted, recalled - omitted),
        bad=Chance(FACTS["bad_tapes"], recalled - FACTS["bad_tapes"]),
    )


def forecasts_2012() -> list[dict[str, Any]]:
    """Return the forecasts, in days, for 10, 50 and 100 drives, rested and read at once."""
    work = work_2012()
    rows: list[dict[str, Any]] = []
    for rest in (DAY, 0.0):
        for drives in (10, 50, 100):
            plant = replace(plant_2012(drives), acclimation=rest)
            found = estimate(work, plant)
            rows.append(
                {
                    "drives": drives,
                    "robots": plant.robots,
                    "acclimation_hours": rest / HOUR,
                    "p50_days": found.seconds.p50 / DAY,
                    "p95_days": found.seconds.p95 / DAY,
                    "stages_p50_days": {
                        name: stage.seconds.p50 / DAY for name, stage in found.stages.items()
                    },
                }
            )
    return rows


def shown_2012(rows: list[dict[str, Any]]) -> str:
    """Return forecasts as a table, beside what happened."""
    lines = ["drives  robots  rest   P50 days  P95 days"]
    lines += [
        f"{row['drives']:6}  {row['robots']:6}  {row['acclimation_hours']:2.0f} h  "
        f"{row['p50_days']:9.1f} {row['p95_days']:9.1f}"
        for row in rows
    ]
    facts = f"2012: {FACTS['estimated_days']} days estimated, {FACTS['restore_days']} days taken"
    return "\n".join([*lines, facts])
