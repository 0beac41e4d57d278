import contextlib
import sqlite3
from pathlib import Path

from restore_lib.library.faults import Faults, write_faults
from tests.support.commands import FILES, as_json, refused, succeeds
from tests.support.rebuilds import lose_catalog, sha256s
from tests.support.sites import digests, image, open_site


def contents(root: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as database:
        return list(database.iterdump())


def revise(root: Path, revision: str) -> None:
    with contextlib.closing(sqlite3.connect(root / "catalog.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])


def test_a_catalog_is_made_and_checked(fresh: Path) -> None:
    (fresh / "catalog.db").unlink()
    assert "`tapeflow catalog migrate`" in refused(fresh, "catalog", "check", code=78)
    assert as_json(fresh, "catalog", "migrate") == {"catalog": "ready"}
    assert "ready" in succeeds(fresh, "catalog", "check").stdout
    succeeds(fresh, "catalog", "migrate")


def test_a_catalog_newer_than_the_code_is_left_alone(cluster: Path) -> None:
    revise(cluster, "9999")
    before = contents(cluster)
    for command in (["catalog", "migrate"], ["backup", "run", "live"], ["volumes"]):
        said = refused(cluster, *command, code=78)
        assert "newer than this code" in said
        assert "install the version of tapeflow" in said
    assert contents(cluster) == before


def test_a_foreign_database_is_left_alone(fresh: Path) -> None:
    (fresh / "catalog.db").unlink()
    with sqlite3.connect(fresh / "catalog.db") as database:
        database.execute("CREATE TABLE customers (id INTEGER)")
    said = refused(fresh, "catalog", "migrate", code=78)
    assert "no tapeflow catalog" in said
    assert "database of its own" in said


def test_a_lost_catalog_is_rebuilt(cluster: Path) -> None:
    site = open_site(cluster)
    for number in (1, 4):
        write_faults(image(site, f"TF000{number}L9"), Faults(unreadable=True))
    site.close()
    lose_catalog(cluster)
    plan = as_json(cluster, "catalog", "rebuild", "--dry-run")
    assert plan == {"to_read": [f"TF000{n}L9" for n in range(6)], "read": []}
    found = as_json(cluster, "catalog", "rebuild")["rebuilt"]
    assert (found["complete"], found["written"], found["objects"]) == (True, True, len(FILES))
    assert found["by_parity"] == found["stripes"]
    assert "requests" in " ".join(found["unknowable"])
    assert "not empty" in refused(cluster, "catalog", "rebuild", code=64)
    succeeds(cluster, "restore", "run", "--store", "live", "--everything", "--to", "out", "--yes")
    assert digests(cluster / "out") == sha256s(FILES)


def test_what_is_missing_stops_a_rebuild(cluster: Path) -> None:
    site = open_site(cluster)
    for number in (0, 1, 2):
        write_faults(image(site, f"TF000{number}L9"), Faults(unreadable=True))
    site.close()
    lose_catalog(cluster)
    shown = succeeds(cluster, "catalog", "rebuild", code=3).stdout
    assert "missing: live-00001, position 0, tape file 1" in shown
    assert "Nothing is written" in shown
    assert not as_json(cluster, "volumes")["volumes"]
    plan = as_json(cluster, "catalog", "rebuild", "--dry-run")
    assert plan == {
        "to_read": [f"TF000{n}L9" for n in (0, 1, 2)],
        "read": [f"TF000{n}L9" for n in (3, 4, 5)],
    }
    shown = succeeds(cluster, "catalog", "rebuild", "--incomplete", code=3).stdout
    assert "The catalog is written, without what is missing." in shown
    assert len(as_json(cluster, "volumes")["volumes"]) == 6


def test_a_live_catalog_is_compared_with_its_tapes(cluster: Path) -> None:
    before = contents(cluster)
    shown = succeeds(cluster, "catalog", "rebuild", "--diff").stdout
    assert "The catalog says what the tapes say." in shown
    assert "not known from tapes: requests" in shown
    ours = [line for line in contents(cluster) if "drive_leases" not in line]
    assert ours == [line for line in before if "drive_leases" not in line]
    with contextlib.closing(sqlite3.connect(cluster / "catalog.db")) as database, database:
        database.execute("DELETE FROM extents WHERE member = 'objects/00000003.age'")
    found = as_json(cluster, "catalog", "rebuild", "--diff", code=1)
    assert found["differences"] == len(found["first"]) >= 1
    assert {(each["kind"], each["catalog"]) for each in found["first"]} <= {
        ("object", None),
        ("change token", None),
    }
    assert not list((cluster / "staging").glob("catalog-compare/*"))
