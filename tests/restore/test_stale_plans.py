"""Plans whose world changes before they are carried out, and those that read copies."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select, update

from restore_lib.backup.run import begin_backup, commit_backup, job_ids, run_job
from restore_lib.catalog import batches, requests, shipments, tables
from restore_lib.catalog.liveness import has_live_extents
from restore_lib.model.states import (
    BatchState,
    ItemState,
    RecoveryPointState,
    RequestState,
    TakeRedundancy,
)
from restore_lib.model.volume import Custody, Health, Reason, vault_place
from restore_lib.restore import flow
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    finish,
    image,
    make_site,
    restore,
    run_wave,
    write_files,
)

CONTENTS = {b"d/%02d" % n: os.urandom(n * 9_000) for n in range(10)}
MIRROR = """
[stores.mirror]
kind = "local"
path = "mirror"
[policies.mirror]
store = "mirror"
k = 2
m = 1
block_size = "4KiB"
segment_size = "256KiB"
"""
EVERYTHING = RestoreSpec(store="live", prefix=b"", target="out")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make_site(tmp_path, extra=MIRROR)
    write_files(tmp_path / "live", CONTENTS)
    back_up(made)
    yield made
    made.close()


@pytest.fixture
def mirrored(site: Site, tmp_path: Path) -> Site:
    """The site with every object once more, on the tapes of another policy."""
    (tmp_path / "mirror").mkdir()
    write_files(tmp_path / "mirror", {b"copy/" + key: data for key, data in CONTENTS.items()})
    point = begin_backup(site, "mirror", ACTOR)
    for job_id in job_ids(site, point.id):
        run_job(site, job_id, ACTOR)
    commit_backup(site, point.id, ACTOR)
    return site


def change(site: Site, barcodes: list[str], **values: object) -> None:
    with site.catalog.write() as connection:
        connection.execute(
            update(tables.volumes).where(tables.volumes.c.barcode.in_(barcodes)).values(values)
        )


def set_of(site: Site, policy: str) -> str:
    query = select(tables.tape_sets.c.id).where(tables.tape_sets.c.policy == policy)
    with site.catalog.read() as connection:
        return str(connection.execute(query).scalar_one())


def names_of(site: Site, policy: str) -> list[str]:
    query = select(tables.volumes.c.barcode).where(
        tables.volumes.c.tape_set == set_of(site, policy)
    )
    with site.catalog.read() as connection:
        return sorted(connection.execute(query).scalars())


def started(site: Site) -> int:
    request_id = plan_restore(site, EVERYTHING, ACTOR).request_id or 0
    start_restore(site, request_id, ACTOR)
    return request_id


def states(site: Site, request_id: int) -> set[str]:
    with site.catalog.read() as connection:
        counts = requests.count_items(connection, request_id)
    return {state for state, count in counts.items() if count}


def sources(site: Site, request_id: int) -> list[int | None]:
    query = select(tables.items.c.source_id).where(tables.items.c.request_id == request_id)
    with site.catalog.read() as connection:
        return list(connection.execute(query).scalars())


def test_a_volume_lost_since_is_gone_around(site: Site, tmp_path: Path) -> None:
    request_id = started(site)
    image(site, "TF0000L9").unlink()
    change(site, ["TF0000L9"], health=Health.LOST)
    finish(site, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_too_many_volumes_lost_since_are_named(site: Site) -> None:
    request_id = started(site)
    change(site, ["TF0000L9", "TF0002L9"], health=Health.BROKEN)
    finish(site, request_id)
    assert states(site, request_id) == {ItemState.RESTORED, ItemState.UNRESTORABLE}


def test_volumes_that_went_to_a_vault_since_are_asked_for_and_not_read(site: Site) -> None:
    request_id = started(site)
    away = ["TF0000L9", "TF0001L9"]
    change(site, away, custody=Custody.VAULT, place=vault_place("north"))
    done = flow.advance(site, ACTOR)
    assert len(done.recalls) == 1
    run_wave(site)
    assert states(site, request_id) == {ItemState.BATCHED}


def test_what_is_not_on_tape_any_more_is_named(site: Site) -> None:
    request_id = started(site)
    with site.catalog.write() as connection:
        for batch in batches.batches_of(connection, request_id=request_id):
            batches.end_batch(connection, batch.id, BatchState.CANCELLED, site.clock.now(), "gone")
        connection.execute(tables.extents.delete())
    finish(site, request_id)
    assert states(site, request_id) == {ItemState.UNRESTORABLE}


def test_objects_come_back_from_the_copies_of_another_policy(
    mirrored: Site, tmp_path: Path
) -> None:
    change(mirrored, names_of(mirrored, "live"), health=Health.LOST)
    for barcode in names_of(mirrored, "live"):
        image(mirrored, barcode).unlink()
    request_id = restore(mirrored, EVERYTHING)
    assert None not in sources(mirrored, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    for path in (tmp_path / "live" / "d").iterdir():
        copy = tmp_path / "out" / path.relative_to(tmp_path / "live")
        assert copy.stat().st_mtime_ns // 1000 == path.stat().st_mtime_ns // 1000


def test_copies_that_are_lost_since_give_way_to_an_objects_own_volumes(
    mirrored: Site, tmp_path: Path
) -> None:
    own = names_of(mirrored, "live")
    change(mirrored, own, custody=Custody.VAULT, place=vault_place("north"))
    request_id = started(mirrored)
    assert None not in sources(mirrored, request_id)
    change(mirrored, own, custody=Custody.MOUNTABLE, place="library")
    change(mirrored, names_of(mirrored, "mirror"), health=Health.LOST)
    finish(mirrored, request_id)
    assert sources(mirrored, request_id) == [None] * len(CONTENTS)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_copies_that_are_planned_to_be_read_stay_on_tape_until_then(
    mirrored: Site, tmp_path: Path
) -> None:
    own = names_of(mirrored, "live")
    change(mirrored, own, custody=Custody.VAULT, place=vault_place("north"))
    request_id = started(mirrored)
    copies = set_of(mirrored, "mirror")
    with mirrored.catalog.write() as connection:
        connection.execute(
            update(tables.recovery_points)
            .where(tables.recovery_points.c.store == "mirror")
            .values(state=RecoveryPointState.EXPIRED)
        )
        assert has_live_extents(connection, copies)
    finish(mirrored, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")
    with mirrored.catalog.read() as connection:
        assert requests.request(connection, request_id).state is RequestState.ENDED
        assert not has_live_extents(connection, copies)


def test_copies_that_are_moved_to_other_sets_since_are_planned_anew(
    mirrored: Site, tmp_path: Path
) -> None:
    own = names_of(mirrored, "live")
    change(mirrored, own, custody=Custody.VAULT, place=vault_place("north"))
    request_id = started(mirrored)
    copies = set_of(mirrored, "mirror")
    with mirrored.catalog.write() as connection:
        of_mirror = select(tables.stripes.c.id).where(tables.stripes.c.tape_set == copies)
        connection.execute(tables.extents.delete().where(tables.extents.c.stripe_id.in_(of_mirror)))
    change(mirrored, own, custody=Custody.MOUNTABLE, place="library")
    with mirrored.catalog.write() as connection:
        connection.execute(update(tables.items).values(state=ItemState.PENDING, batch_id=None))
        connection.execute(tables.batches.delete())
    finish(mirrored, request_id)
    assert digests(tmp_path / "out") == digests(tmp_path / "live")


def test_spares_are_asked_for_with_the_volumes_that_are_away(site: Site) -> None:
    own = names_of(site, "live")
    change(site, own, custody=Custody.VAULT, place=vault_place("north"))
    spec = replace(EVERYTHING, take_redundancy=TakeRedundancy.ALWAYS)
    plan = plan_restore(site, spec, ACTOR)
    assert plan.detail["redundancy"]["volumes"] == own[2:]
    start_restore(site, plan.request_id or 0, ACTOR)
    assert len(flow.advance(site, ACTOR).recalls) == 2
    with site.catalog.read() as connection:
        found = shipments.find(connection, request_id=plan.request_id)
        asked = {
            one.reason: [line.barcode for line in shipments.lines_of(connection, one.id)]
            for one in found
        }
    assert asked == {Reason.RESTORE: own[:2], Reason.REDUNDANCY: own[2:]}
    assert flow.advance(site, ACTOR).recalls == []
