from pathlib import Path

import pytest
from sqlalchemy import select

from restore_lib.catalog import tables
from restore_lib.errors import (
    Refused,
    RetryLater,
)
from restore_lib.integrity.repair import run_repair
from restore_lib.integrity.repair_plan import check_ready, plan_repair
from restore_lib.model.volume import Reason
from restore_lib.site import Site
from tests.integrity.repairs import (
    CONTENTS,
    NAMES,
    POLICY,
)
from tests.support.sites import (
    ACTOR,
    back_up,
    make_site,
    write_files,
)


def test_a_set_that_a_backup_writes_to_is_refused(five: Site) -> None:
    with five.catalog.write() as connection:
        [job] = connection.execute(select(tables.backup_jobs.c.id)).scalars()
        connection.execute(tables.backup_jobs.update().values(state="planned"))
        connection.execute(tables.tape_sets.update().values(state="open", job_id=job))
    with pytest.raises(Refused, match="A backup is writing"):
        run_repair(five, NAMES[0], ACTOR)


AWAY = {"custody": "vault", "place": "vault:north"}


def put(site: Site, barcode: str, **values: str) -> None:
    with site.catalog.write() as connection:
        table = tables.volumes
        connection.execute(table.update().where(table.c.barcode == barcode).values(values))


def test_the_best_sources_come_first_and_what_is_away_is_named(five: Site) -> None:
    put(five, NAMES[2], **AWAY)
    put(five, NAMES[1], health="suspect")
    plan = plan_repair(five, NAMES[0])
    assert plan.sources == (NAMES[0], NAMES[3], NAMES[4], NAMES[1])
    assert (plan.recall, plan.coming, plan.replacement) == ({}, (), NAMES[5])
    assert plan.reason is Reason.MIGRATE
    check_ready(plan)
    put(five, NAMES[3], **AWAY)
    put(five, NAMES[0], health="broken")
    plan = plan_repair(five, NAMES[0])
    assert plan.sources == (NAMES[4], NAMES[1])
    assert plan.recall == {"north": (NAMES[2],)}
    assert plan.reason is Reason.REDUNDANCY
    with pytest.raises(Refused, match=NAMES[2]):
        check_ready(plan)
    put(five, NAMES[3], custody="vaultretrieve")
    plan = plan_repair(five, NAMES[0])
    assert (plan.recall, plan.coming) == ({}, (NAMES[3],))
    with pytest.raises(RetryLater, match=NAMES[3]):
        check_ready(plan)


def test_without_parity_only_what_the_volume_itself_gives_can_be_kept(tmp_path: Path) -> None:
    site = make_site(tmp_path, policy=POLICY.replace("m = 2", "m = 0"), blank=4)
    write_files(tmp_path / "live", CONTENTS)
    back_up(site)
    assert plan_repair(site, NAMES[0]).sources[0] == NAMES[0]
    with site.catalog.write() as connection:
        connection.execute(tables.volumes.update().values(health="lost"))
    with pytest.raises(Refused, match="only 0 other volumes can be read, and 3 are needed"):
        plan_repair(site, NAMES[0])
    site.close()
