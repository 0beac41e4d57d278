"""Loss scans: every lost object by name, in its class, in one incident."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from restore_lib.catalog import audit
from restore_lib.catalog.incidents import Loss, incident, incidents_of, losses_of
from restore_lib.catalog.tables import audit_events, losses, objects, restore_requests, versions
from restore_lib.errors import Refused, StoreUnavailable
from restore_lib.integrity import loss_scan
from restore_lib.integrity.loss_scan import LossScan, scan_for_loss
from restore_lib.integrity.reference import write_reference
from restore_lib.model.objects import StoredObject
from restore_lib.model.states import LossClass
from restore_lib.site import Site
from tests.integrity.backups import AT, Content, back_up

LATER = AT + timedelta(days=1)
ON_TAPE, NEVER, CHANGED = LossClass


def put(live: Path, **files: bytes) -> None:
    for name, data in files.items():
        (live / name).write_bytes(data)


def scan(site: Site, reference: Path | None = None, **options: object) -> LossScan:
    return scan_for_loss(site, "live", reference=reference, actor="ann", **options)  # type: ignore[arg-type]  # options are spelled out where they are given


def table(tmp_path: Path, rows: Mapping[bytes, Content]) -> Path:
    """A reference table that knows sizes and times, as an application's has them."""
    path = tmp_path / "reference.parquet"
    write_reference(
        [StoredObject(key, len(each.data), each.modified_at) for key, each in rows.items()], path
    )
    return path


def with_digests(tmp_path: Path, rows: Mapping[bytes, Content]) -> Path:
    path = tmp_path / "reference.csv"
    lines = [f"{key.decode()},{len(c.data)},{c.sha256}" for key, c in rows.items()]
    path.write_text("\n".join(["key,size,sha256", *lines]))
    return path


def found(site: Site, scanned: LossScan) -> dict[bytes, LossClass]:
    assert scanned.incident_id is not None
    with site.catalog.read() as connection:
        return {loss.key: loss.loss_class for loss in losses_of(connection, scanned.incident_id)}


def nothing_is_recorded(site: Site) -> bool:
    with site.catalog.read() as connection:
        lost = connection.execute(select(losses)).first()
        return not incidents_of(connection) and lost is None and audit.verify(connection).count == 0


def test_against_the_newest_recovery_point(site: Site, live: Path) -> None:
    back_up(site.catalog, {b"a": Content(b"1"), b"b": Content(b"22"), b"c": Content(b"333")})
    rp_id = back_up(site.catalog, {b"b": Content(b"new"), b"d": Content()}, gone=[b"c"])
    put(live, a=b"1", new=b"x")
    scanned = scan(site)
    assert scanned.reference == f"recovery point {rp_id}"
    assert scanned.counts == loss_scan.LossCounts(
        expected=3,
        present=1,
        lost=2,
        on_tape=2,
        never_backed_up=0,
        changed_after_backup=0,
        differs=0,
        unexpected=1,
    )
    assert found(site, scanned) == {b"b": ON_TAPE, b"d": ON_TAPE}


def test_the_incident_has_each_loss_with_what_it_should_be(site: Site, tmp_path: Path) -> None:
    content = {b"on": Content(b"tape"), b"old": Content(b"older")}
    rp_id = back_up(site.catalog, content)
    expected = {b"on": content[b"on"], b"old": Content(b"newer!"), b"new": Content(b"never")}
    scanned = scan(site, with_digests(tmp_path, expected))
    with site.catalog.read() as connection:
        made = incident(connection, scanned.incident_id or 0)
        rows = list(losses_of(connection, made.id))
        keys = select(objects.c.key, versions.c.id).join(versions)
        ids = {bytes(key): version_id for key, version_id in connection.execute(keys)}
    assert (made.store, made.rp_id, made.state) == ("live", rp_id, "open")
    assert made.found_at == site.clock.now()
    assert made.counts == asdict(scanned.counts)
    assert rows == [
        Loss(b"new", NEVER, None, 5, expected[b"new"].sha256),
        Loss(b"old", CHANGED, ids[b"old"], 6, expected[b"old"].sha256),
        Loss(b"on", ON_TAPE, ids[b"on"], 4, expected[b"on"].sha256),
    ]


def test_classes_by_size_and_time(site: Site, tmp_path: Path) -> None:
    old = Content(b"same size")
    back_up(
        site.catalog,
        dict.fromkeys([b"same", b"size", b"time", b"fraction"], old)
        | {b"part": Content(whole=False)},
    )
    expected = {
        b"same": old,
        b"size": Content(b"other"),
        b"time": Content(b"same size", LATER),
        b"fraction": Content(b"same size", AT + timedelta(microseconds=999_999)),
        b"part": Content(),
        b"new": Content(),
    }
    assert found(site, scan(site, table(tmp_path, expected))) == {
        b"same": ON_TAPE,
        b"size": CHANGED,
        b"time": CHANGED,
        b"fraction": ON_TAPE,
        b"part": NEVER,
        b"new": NEVER,
    }


def test_a_digest_decides_over_size_and_time(site: Site, tmp_path: Path) -> None:
    back_up(site.catalog, {b"touched": Content(b"x"), b"edited": Content(b"x")})
    path = tmp_path / "reference.csv"
    same, other = Content(b"x").sha256, Content(b"y").sha256
    later = LATER.isoformat()
    path.write_text(
        f"key,size,sha256,modified_at\ntouched,1,{same},{later}\nedited,1,{other},{AT.isoformat()}\n"
    )
    assert found(site, scan(site, path)) == {b"touched": ON_TAPE, b"edited": CHANGED}


def test_a_bare_name_that_is_on_tape_is_on_tape(site: Site, tmp_path: Path) -> None:
    back_up(site.catalog, {b"a": Content(b"x")})
    path = tmp_path / "reference.csv"
    path.write_text("key\na\nb\n")
    assert found(site, scan(site, path)) == {b"a": ON_TAPE, b"b": NEVER}


def test_a_backup_after_the_deletion_does_not_hide_what_is_on_tape(
    site: Site, tmp_path: Path
) -> None:
    gone = {b"a": Content(b"x")}
    back_up(site.catalog, gone)
    back_up(site.catalog, {b"b": Content()}, gone=[b"a"])
    assert found(site, scan(site, table(tmp_path, gone))) == {b"a": ON_TAPE}


def test_only_committed_backups_of_this_store_count(site: Site, tmp_path: Path) -> None:
    content = {b"a": Content(b"x")}
    back_up(site.catalog, content, commit=False)
    back_up(site.catalog, content, store="other")
    assert found(site, scan(site, table(tmp_path, content))) == {b"a": NEVER}


def test_an_uncommitted_backup_does_not_hide_the_one_before(site: Site, tmp_path: Path) -> None:
    old, new = Content(b"old"), Content(b"newer")
    back_up(site.catalog, {b"a": old})
    back_up(site.catalog, {b"a": new}, commit=False)
    assert found(site, scan(site, table(tmp_path, {b"a": new}))) == {b"a": CHANGED}
    assert found(site, scan(site)) == {b"a": ON_TAPE}


def test_another_size_is_not_a_loss(site: Site, live: Path) -> None:
    back_up(site.catalog, {b"a": Content(b"12345"), b"b": Content()})
    put(live, a=b"123")
    counts = scan(site).counts
    assert (counts.present, counts.lost, counts.differs) == (1, 1, 1)


def test_nothing_lost_makes_no_incident_but_an_audit_event(site: Site, live: Path) -> None:
    back_up(site.catalog, {b"a": Content(b"x")})
    put(live, a=b"x")
    scanned = scan(site)
    assert (scanned.incident_id, scanned.counts.lost) == (None, 0)
    with site.catalog.read() as connection:
        assert incidents_of(connection) == []
        (event,) = connection.execute(select(audit_events)).all()
    assert (event.actor, event.action, event.subject) == ("ann", "loss-scan", "live")
    assert event.detail["counts"]["present"] == 1


def test_a_dry_run_writes_nothing(site: Site) -> None:
    back_up(site.catalog, {b"a": Content(b"x")})
    scanned = scan(site, dry_run=True)
    assert (scanned.incident_id, scanned.counts.lost) == (None, 1)
    assert nothing_is_recorded(site)


@pytest.mark.parametrize("prefix", [b"a/", b"\xff", b"b", b"a"])
def test_a_prefix_bounds_all_sides(site: Site, live: Path, tmp_path: Path, prefix: bytes) -> None:
    keys = [b"a", b"a/1", b"a/2", b"a0", b"b", b"b/1", b"\xff", b"\xff\xff"]
    for key in (b"a0", b"zzz"):
        (live / key.decode()).write_bytes(b"")
    back_up(site.catalog, dict.fromkeys(keys, Content()))
    wanted = {key for key in keys if key.startswith(prefix)} - {b"a0"}
    by_table = scan(site, table(tmp_path, dict.fromkeys(keys, Content())), prefix=prefix)
    assert set(found(site, by_table)) == wanted
    assert by_table.counts.unexpected == 0
    assert set(found(site, scan(site, prefix=prefix))) == wanted


def test_nothing_to_compare_with_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no committed recovery point"):
        scan(site)
    empty = tmp_path / "empty.csv"
    empty.write_text("key\n")
    with pytest.raises(Refused, match="nothing was checked"):
        scan(site, empty)
    back_up(site.catalog, {b"a": Content()})
    with pytest.raises(Refused, match="nothing was checked"):
        scan(site, prefix=b"other")
    with pytest.raises(Refused, match="no store 'other'"):
        scan_for_loss(site, "other", actor="ann")
    assert nothing_is_recorded(site)


def test_a_store_that_stops_answering_makes_no_incident(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(site.catalog, {b"a": Content(), b"b": Content()})

    def broken(prefix: bytes = b"") -> Iterator[StoredObject]:
        yield StoredObject(b"a", 0, AT)
        raise StoreUnavailable("The store does not answer.")

    monkeypatch.setattr(site.store("live"), "list", broken, raising=False)
    with pytest.raises(StoreUnavailable):
        scan(site)
    assert nothing_is_recorded(site)
    assert [each.name for each in (site.staging / "loss-scan").iterdir() if each.is_dir()] == []


def test_a_crash_leaves_no_half_incident(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    back_up(site.catalog, {b"a": Content(), b"b": Content()})
    with monkeypatch.context() as patch:
        patch.setattr(audit, "record", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scan(site)
    assert nothing_is_recorded(site)
    assert scan(site).incident_id is not None


def test_the_same_scan_again_gives_the_same_incident(site: Site, live: Path) -> None:
    back_up(site.catalog, {b"a": Content(), b"b": Content(), b"c": Content()})
    put(live, c=b"")
    first = scan(site)
    assert scan(site) == first
    put(live, a=b"")
    (live / "c").unlink()
    other = scan(site)
    assert other.counts == first.counts
    assert other.incident_id != first.incident_id
    with site.catalog.read() as connection:
        assert len(incidents_of(connection, "live")) == 2
        assert audit.verify(connection).count == 2


def test_once_a_restore_was_asked_for_a_scan_is_a_new_incident(site: Site) -> None:
    back_up(site.catalog, {b"a": Content()})
    first = scan(site)
    with site.catalog.write() as connection:
        connection.execute(
            insert(restore_requests).values(
                store="live",
                target="live",
                overwrite="never",
                source={},
                incident_id=first.incident_id,
                reason="restore",
                actor="ann",
                state="ended",
                created_at=AT,
            )
        )
    assert scan(site).incident_id != first.incident_id


def test_more_losses_than_one_chunk(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_scan, "_CHUNK", 7)
    monkeypatch.setattr("restore_lib.catalog.incidents.CHUNK", 5)
    monkeypatch.setattr("restore_lib.integrity.scratch._CHUNK", 11)
    keys = [b"key %03d" % number for number in range(100)]
    back_up(site.catalog, dict.fromkeys(keys, Content(b"x")))
    first = scan(site)
    assert list(found(site, first)) == keys
    assert scan(site) == first


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_lost_is_expected_without_present(site: Site, tmp_path: Path, data: st.DataObject) -> None:
    keys = st.sets(st.binary(min_size=1, max_size=6), max_size=12)
    expected, present = data.draw(keys.filter(bool)), data.draw(keys)
    path = table(tmp_path, dict.fromkeys(expected, Content()))
    here = [StoredObject(key, 0, datetime.now(UTC)) for key in sorted(present)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site.store("live"), "list", lambda prefix=b"": iter(here), raising=False)
        scanned = scan(site, path)
    assert scanned.counts.expected == len(expected)
    assert scanned.counts.lost == len(expected - present)
    assert scanned.counts.unexpected == len(present - expected)
    if expected - present:
        assert set(found(site, scanned)) == expected - present


def test_a_table_of_an_application(site: Site, live: Path, tmp_path: Path) -> None:
    """As the demo does it: the table is written from a listing, before the deletion."""
    put(live, a=b"1", b=b"22", c=b"333")
    objects_before = list(site.store("live").list())
    path = tmp_path / "objects.parquet"
    assert write_reference(objects_before, path) == 3
    assert duckdb.connect().read_parquet(str(path)).columns == [
        "key_b64",
        "size",
        "modified_at",
        "etag",
    ]
    back_up(site.catalog, {o.key: Content(b"1", o.modified_at) for o in objects_before[:1]})
    (live / "a").unlink()
    (live / "b").unlink()
    scanned = scan(site, path)
    assert found(site, scanned) == {b"a": ON_TAPE, b"b": NEVER}
    assert scanned.as_dict()["counts"]["present"] == 1
