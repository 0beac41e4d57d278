"""The DAGs' logic, run in this process by ``dag.test`` on a small real cluster."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.sdk.exceptions import AirflowFailException
from airflow.utils.session import create_session
from sqlalchemy import update

from demo.airflow_local import ROOT
from demo.vendor import open_vendors
from restore_lib.catalog import batches, drills, incidents, requests
from restore_lib.catalog.recovery_points import newest_committed
from restore_lib.catalog.tables import recovery_points, tape_sets
from restore_lib.catalog.volumes import volumes
from restore_lib.errors import CatalogUnavailable
from restore_lib.integrity.loss_scan import scan_for_loss
from restore_lib.integrity.verify_media import begin_verification, plan_verification
from restore_lib.library.faults import Faults, write_faults
from restore_lib.model.states import Priority, RequestState
from restore_lib.model.verdict import Verdict
from restore_lib.model.volume import Custody, Health
from restore_lib.restore.claiming import claim
from restore_lib.restore.pausing import pause_restore, resume_restore
from restore_lib.restore.request import RestoreSpec, plan_restore, start_restore
from restore_lib.site import Site
from restore_lib.vault.receiving import receive
from tapeflow_airflow.operators import WaitForRestores, WaitForShipments
from tapeflow_airflow.triggers import RestoresEnded, ShipmentsEnded
from tests.support.repacks import expire
from tests.support.sites import (
    ACTOR,
    back_up,
    digests,
    finish,
    image,
    make_site,
    open_site,
    write_files,
)

FILES = {b"d%d/f%d" % (n % 3, n): b"%d" % n * 50 for n in range(40)}
Run = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster with files in its store ``live`` and no backup."""
    make_site(tmp_path, extra='[drills.small]\npolicy = "live"\nscratch = "out"\n').close()
    write_files(tmp_path / "live", FILES)
    monkeypatch.setenv("TAPEFLOW_CONFIG", str(tmp_path / "tapeflow.toml"))
    return tmp_path


@pytest.fixture
def site(root: Path) -> Iterator[Site]:
    with closing(open_site(root)) as opened:
        yield opened


@pytest.fixture
def run(root: Path) -> Run:
    def run_dag(dag_id: str, conf: Mapping[str, Any] | None = None) -> Any:
        # A DAG keeps the parameters of its last test.
        dag = DagBag(str(ROOT / "dags" / f"{dag_id}.py")).dags[dag_id]
        return dag.test(run_conf=dict(conf or {}))

    return run_dag


def states(dag_run: Any) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for task in dag_run.get_task_instances():
        found.setdefault(task.task_id, Counter())[str(task.state)] += 1
    return found


def state_of(dag_run: Any, task_id: str) -> str:
    [(state, _)] = states(dag_run)[task_id].items()
    return state


def returned(dag_run: Any, task_id: str) -> Any:
    with create_session() as session:
        found = XComModel.get_many(
            run_id=dag_run.run_id, dag_ids=dag_run.dag_id, task_ids=task_id, key="return_value"
        )
        values = [XComModel.deserialize_value(row) for row in session.scalars(found)]
    return values[0] if values else None


def test_backup_commits_a_recovery_point_even_if_nothing_changed(run: Run, site: Site) -> None:
    first = run("backup", {"policy": "live"})
    assert first.state == "success"
    assert state_of(first, "run_job") == "success"
    with site.catalog.read() as connection:
        point = newest_committed(connection, "live")
    assert point is not None
    assert point.summary["backed_up"] == len(FILES)
    again = run("backup", {"policy": "live"})
    assert again.state == "success"
    with site.catalog.read() as connection:
        newer = newest_committed(connection, "live")
    assert newer is not None
    assert newer.id > point.id
    assert newer.summary["backed_up"] == 0


def test_backup_of_an_unknown_policy_fails_at_once(run: Run, root: Path) -> None:
    done = run("backup", {"policy": "nothing"})
    assert done.state == "failed"
    assert {task.try_number for task in done.get_task_instances(state=["failed"])} == {1}


def test_loss_scan_pushes_its_incident_or_nothing(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    whole = run("loss_scan", {"store": "live"})
    assert whole.state == "success"
    assert returned(whole, "scan") is None
    shutil.rmtree(root / "live" / "d1")
    done = run("loss_scan", {"store": "live", "prefix": "d1/"})
    with site.catalog.read() as connection:
        [incident] = incidents.incidents_of(connection)
    assert returned(done, "scan") == incident.id


def start(site: Site, **what: Any) -> int:
    plan = plan_restore(site, RestoreSpec(store="live", target="out", **what), ACTOR)
    assert plan.request_id is not None
    start_restore(site, plan.request_id, ACTOR)
    return plan.request_id


def test_a_wave_restores_what_is_here(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    request = start(site, prefix=b"")
    done = run("restore_wave")
    assert done.state == "success"
    assert state_of(done, "restore_batch") == "success"
    assert digests(root / "out") == digests(root / "live")
    with site.catalog.read() as connection:
        assert requests.request(connection, request).state is RequestState.ENDED


def test_a_courier_that_is_away_is_told_and_keeps_no_batch(
    run: Run, site: Site, root: Path
) -> None:
    back_up(site)
    start(site, prefix=b"")
    shutil.rmtree(root / "van", ignore_errors=True)
    (root / "van").write_text("not a folder")
    done = run("restore_wave")
    assert state_of(done, "advance") == "failed"
    assert digests(root / "out") == digests(root / "live")


def test_a_wave_with_nothing_to_read_is_skipped(run: Run, site: Site) -> None:
    done = run("restore_wave")
    assert done.state == "success"
    assert {task_id: dict(found) for task_id, found in states(done).items()} == {
        "advance": {"success": 1},
        "claim": {"skipped": 1},
        "restore_batch": {"skipped": 1},
        "settle": {"skipped": 1},
    }


def test_a_wave_reads_nothing_of_a_paused_restore(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    request = start(site, prefix=b"")
    pause_restore(site, request, ACTOR)
    paused = run("restore_wave")
    assert state_of(paused, "claim") == "skipped"
    assert digests(root / "out") == {}
    resume_restore(site, request, ACTOR)
    assert run("restore_wave").state == "success"
    assert digests(root / "out") == digests(root / "live")


def test_a_batch_whose_restore_was_paused_in_its_wave_is_left(
    run: Run, site: Site, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when it is paused after the wave was claimed and before its tasks began."""
    back_up(site)
    request = start(site, prefix=b"")

    def claim_and_pause(site: Site, runner: str) -> list[int]:
        claimed = claim(site, runner)
        pause_restore(site, request, ACTOR)
        return claimed

    monkeypatch.setattr("restore_lib.restore.claiming.claim", claim_and_pause)
    done = run("restore_wave")
    assert state_of(done, "restore_batch") == state_of(done, "settle") == "success"
    assert digests(root / "out") == {}
    with site.catalog.read() as connection:
        assert [b.attempts for b in batches.unclaimed(connection, request)] == [0]


def test_a_wave_is_of_all_requests_by_priority(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    ids = [start(site, prefix=b"d%d/" % n, priority=one) for n, one in enumerate(Priority)]
    done = run("restore_wave")
    claimed = returned(done, "claim")
    with site.catalog.read() as connection:
        of = {b.id: b.request_id for b in batches.batches_of(connection)}
        assert {r.state for r in requests.requests(connection)} == {RequestState.ENDED}
    assert list(dict.fromkeys(of[batch_id] for batch_id in claimed)) == ids
    assert digests(root / "out") == digests(root / "live")


def test_a_bad_medium_is_not_read_twice_and_parity_stands_in(
    run: Run, site: Site, root: Path
) -> None:
    back_up(site)
    request = start(site, prefix=b"")
    with site.catalog.read() as connection:
        bad = next(v.barcode for v in volumes(connection) if v.position == 0)
    write_faults(image(site, bad), Faults(unreadable=True))
    first = run("restore_wave")
    assert first.state == "success"
    assert states(first)["restore_batch"] == {"failed": 1}
    assert {task.try_number for task in first.get_task_instances(state=["failed"])} == {1}
    with site.catalog.read() as connection:
        [volume] = volumes(connection, [bad])
        assert requests.request(connection, request).state is RequestState.ACTIVE
    assert volume.health is Health.BROKEN
    second = run("restore_wave")
    assert states(second)["restore_batch"] == {"success": 1}
    assert digests(root / "out") == digests(root / "live")


def test_restore_reports_on_its_incident(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    before = digests(root / "live")
    shutil.rmtree(root / "live" / "d2")
    incident = scan_for_loss(site, "live", actor=ACTOR).incident_id
    done = run_with_waves(run, site, "restore", {"incident": incident})
    assert done.state == "success"
    assert digests(root / "live") == before
    assert (root / "reports" / "restore-1.html").exists()


def test_a_dry_run_of_a_restore_keeps_nothing(run: Run, site: Site) -> None:
    back_up(site)
    done = run("restore", {"everything": True, "store": "live", "target": "out", "dry_run": True})
    assert done.state == "success"
    assert {state for counts in states(done).values() for state in counts} == {"skipped"}
    with site.catalog.read() as connection:
        assert requests.requests(connection) == []


def test_a_plan_whose_task_was_killed_is_taken_up(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*arguments: Any, **options: Any) -> None:
        plan_restore(*arguments, **options)
        raise CatalogUnavailable("It goes away after the commit.")

    back_up(site)
    monkeypatch.setattr("restore_lib.restore.request.plan_restore", die)
    monkeypatch.setattr("tapeflow_airflow.policies.FIRST_DELAY", timedelta())
    done = run_with_waves(run, site, "restore", {"everything": True, "store": "live"})
    assert done.state == "success"
    with site.catalog.read() as connection:
        [only] = requests.requests(connection)
    assert only.state is RequestState.ENDED


def test_a_restore_that_brings_nothing_back_fails(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    write_files(root / "out", dict.fromkeys(FILES, b"something else"))
    done = run_with_waves(
        run, site, "restore", {"everything": True, "store": "live", "target": "out"}
    )
    assert done.state == "failed"
    assert state_of(done, "report") == "success"
    assert state_of(done, "verdict") == "failed"


@pytest.mark.parametrize(
    "conf",
    [{}, {"everything": True, "prefix": "d1/", "store": "live"}, {"incident": 9}],
    ids=["nothing", "two things", "unknown incident"],
)
def test_a_restore_of_what_makes_no_sense_is_refused(
    run: Run, site: Site, conf: dict[str, Any]
) -> None:
    back_up(site)
    done = run("restore", conf)
    assert done.state == "failed"
    assert state_of(done, "plan") == "failed"
    with site.catalog.read() as connection:
        assert requests.requests(connection) == []


def run_with_waves(run: Run, site: Site, dag_id: str, conf: Mapping[str, Any]) -> Any:
    """Run a DAG that waits for restores, with the waves read as soon as its trigger first asks."""

    class Working(RestoresEnded):
        def ended(self, site: Site) -> bool:
            for request_id in self.ids:
                finish(site, request_id)
            return super().ended(site)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WaitForRestores, "trigger", Working)
        return run(dag_id, conf)


class Answered(ShipmentsEnded):
    """Lets the vendor and the desk work before it looks."""

    def ended(self, site: Site) -> bool:
        for _ in range(4):
            for vendor in open_vendors(site.config):
                vendor.work()
            receive(site, ACTOR)
        return super().ended(site)


def test_vault_out_ends_when_the_vaults_have_all(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(site)
    monkeypatch.setattr(WaitForShipments, "trigger", Answered)
    done = run("vault_out")
    assert done.state == "success"
    assert state_of(done, "arrived") == "success"
    with site.catalog.read() as connection:
        held = [v for v in volumes(connection) if v.tape_set]
    assert {v.custody for v in held} == {Custody.VAULT}
    again = run("vault_out")
    assert again.state == "success"
    assert {state for counts in states(again).values() for state in counts} == {"skipped"}


def test_vault_out_fails_when_a_volume_did_not_arrive(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(site)
    with site.catalog.read() as connection:
        away = next(v.barcode for v in volumes(connection) if v.position == 0)

    class Robbed(Answered):
        def ended(self, site: Site) -> bool:
            image(site, away).unlink(missing_ok=True)
            monkeypatch.setattr(WaitForShipments, "trigger", Answered)
            return super().ended(site)

    monkeypatch.setattr(WaitForShipments, "trigger", Robbed)
    done = run("vault_out")
    assert done.state == "failed"
    assert state_of(done, "arrived") == "failed"


def test_verify_media_reads_what_is_here(run: Run, site: Site) -> None:
    nothing = run("verify_media")
    assert nothing.state == "success"
    assert state_of(nothing, "verdict") == "skipped"
    back_up(site)
    done = run("verify_media")
    assert done.state == "success"
    assert states(done)["verify_volume"] == {"success": 3}


def test_verify_media_fails_for_a_bad_volume_and_reads_the_others(run: Run, site: Site) -> None:
    back_up(site)
    with site.catalog.read() as connection:
        bad = next(v.barcode for v in volumes(connection) if v.position == 0)
    write_faults(image(site, bad), Faults(unreadable=True))
    done = run("verify_media", {"limit": 3})
    assert done.state == "failed"
    assert state_of(done, "verdict") == "failed"
    with site.catalog.read() as connection:
        checked = {v.barcode: v.health for v in volumes(connection) if v.verified_at}
    assert checked[bad] is Health.BROKEN
    assert list(checked.values()).count(Health.OK) == 2


def verdict_of(dag_id: str) -> Callable[[Any], None]:
    """Return what the task `verdict` of a DAG does."""
    dag: Any = DagBag(str(ROOT / "dags" / f"{dag_id}.py")).dags[dag_id]
    found: Callable[[Any], None] = dag.get_task("verdict").python_callable
    return found


def test_a_verification_that_did_not_pass_says_where_to_look(site: Site) -> None:
    back_up(site)
    run_id = begin_verification(site, plan_verification(site), ACTOR)
    with pytest.raises(AirflowFailException) as raised:
        verdict_of("verify_media")(run_id)
    assert str(raised.value) == (
        f"Verification {run_id}: the verdict is not_checked; see "
        f"`tapeflow verifications show {run_id}`."
    )


def test_drills_that_did_not_pass_say_where_to_look(site: Site) -> None:
    with site.catalog.write() as connection:
        ids = [drills.add_drill(connection, "small", site.clock.now(), {}) for _ in range(3)]
        for drill_id, verdict in zip(
            ids, (Verdict.FAILED, Verdict.PASSED, Verdict.NOT_CHECKED), strict=True
        ):
            drills.end_drill(connection, drill_id, site.clock.now(), verdict, {})
    with pytest.raises(AirflowFailException) as raised:
        verdict_of("dr_drill")(ids)
    assert str(raised.value) == (
        f"Not every drill passed: drill {ids[0]}: failed, see `tapeflow drill show {ids[0]}`; "
        f"drill {ids[2]}: not_checked, see `tapeflow drill show {ids[2]}`."
    )


def old_points(site: Site, root: Path) -> None:
    """Add a rule, and two recovery points of which one can expire."""
    with (root / "tapeflow.toml").open("a") as file:
        file.write('[policies.live.retention]\nkeep_within = "1d"\nminimum_redundancy = 1\n')
    back_up(site)
    write_files(root / "live", dict.fromkeys(FILES, b"new"))
    back_up(site)
    with site.catalog.write() as connection:
        at = site.clock.now() - timedelta(days=2)
        connection.execute(update(recovery_points).values(committed_at=at))


def contents(site: Site) -> Counter[str]:
    with site.catalog.read() as connection:
        return Counter(str(v.content) for v in volumes(connection))


def test_retention_expires_and_reclaims(run: Run, site: Site, root: Path) -> None:
    nothing = run("retention")
    assert nothing.state == "success"
    assert {state_of(nothing, name) for name in ("expire", "reclaim")} == {"skipped"}
    old_points(site, root)
    shown = run("retention", {"dry_run": True})
    assert {state_of(shown, name) for name in ("expire", "reclaim")} == {"skipped"}
    assert contents(site) == {"full": 6, "blank": 6}
    done = run("retention", {"policy": "live"})
    assert {state_of(done, name) for name in ("expire", "reclaim")} == {"success"}
    assert contents(site) == {"full": 3, "reclaim_quarantine": 3, "blank": 6}
    with site.catalog.write() as connection:
        at = site.clock.now() - timedelta(days=15)
        connection.execute(update(tape_sets).values(expired_at=at))
    later = run("retention")
    assert (state_of(later, "expire"), state_of(later, "reclaim")) == ("skipped", "success")
    assert contents(site) == {"full": 3, "labelled": 3, "blank": 6}


def test_repack_moves_what_is_live_and_then_finds_nothing_more(
    run: Run, site: Site, root: Path
) -> None:
    write_files(root / "live", dict.fromkeys(FILES, b"old" * 900))
    first = back_up(site)
    shown = run("repack", {"dry_run": True})
    assert {state_of(shown, name) for name in ("plan", "move")} == {"skipped"}
    nothing = run("repack")
    assert (state_of(nothing, "plan"), state_of(nothing, "move")) == ("success", "skipped")
    kept = sorted(FILES)[:4]
    write_files(root / "live", {key: b"new" for key in FILES if key not in kept})
    back_up(site)
    expire(site, first)
    wanted = digests(root / "live")
    done = run("repack", {"below": 30})
    assert (done.state, returned(done, "move")) == ("success", ["live-00003"])
    assert state_of(run("repack", {"below": 30}), "move") == "skipped"
    request = start(site, prefix=b"")
    finish(site, request)
    assert digests(root / "out") == wanted


def test_repack_calls_back_what_is_in_a_vault_and_leaves_it_for_the_next_run(
    run: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(site)
    monkeypatch.setattr(WaitForShipments, "trigger", Answered)
    assert run("vault_out").state == "success"
    away = run("repack", {"sets": ["live-00001"]})
    assert (away.state, state_of(away, "move")) == ("success", "skipped")
    assert returned(away, "plan") == []
    asked = run("repack", {"sets": ["live-00001"], "recall": True})
    assert (asked.state, state_of(asked, "move")) == ("success", "skipped")
    assert returned(asked, "plan")


def test_retention_of_an_unknown_policy_fails_and_reclaims_nothing(run: Run, site: Site) -> None:
    back_up(site)
    done = run("retention", {"policy": "none"})
    assert done.state == "failed"
    assert (state_of(done, "expire"), state_of(done, "reclaim")) == ("failed", "upstream_failed")


def test_a_drill_leaves_its_evidence_and_an_empty_store(run: Run, site: Site, root: Path) -> None:
    back_up(site)
    done = run_with_waves(run, site, "dr_drill", {"drill": "small", "seed": 5})
    assert done.state == "success"
    assert (root / "reports" / "drill-1.json").exists()
    assert digests(root / "out") == {}


def test_without_a_drill_there_is_nothing_to_rehearse(run: Run, root: Path) -> None:
    config = root / "tapeflow.toml"
    config.write_text(config.read_text().partition("[drills")[0])
    done = run("dr_drill")
    assert done.state == "success"
    assert {state for counts in states(done).values() for state in counts} == {"skipped"}
