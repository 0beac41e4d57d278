from pathlib import Path

import pytest
from sqlalchemy import text

from benchmarks.plan import Run, measure
from benchmarks.plan_catalog import MEMBERS, Size, build
from restore_lib.catalog.engine import Catalog
from restore_lib.tape.age import new_identity

SIZE = Size(objects=60_000, wanted=800, volumes=52 * MEMBERS, never=50)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_catalog_is_built_and_a_plan_of_it_measured(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    identity, recipient = new_identity()
    (tmp_path / "operating.txt").write_text(identity)
    (tmp_path / "recipient.txt").write_text(recipient)
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    if database == "postgresql":
        url = str(request.getfixturevalue("empty_postgres_url"))
    build(url, SIZE, recipient)
    [run] = measure(tmp_path, url, 1)
    check(run)
    catalog = Catalog(url)
    with catalog.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM objects")).scalar_one() >= SIZE.objects
        assert connection.execute(text("SELECT count(*) FROM losses")).scalar_one() == 850
        assert connection.execute(text("SELECT count(*) FROM items")).scalar_one() == 0
    catalog.close()


def check(run: Run) -> None:
    assert run.batches > 0
    assert run.volumes > 0
    assert run.unrestorable == 50
    assert run.seconds > 0
    assert run.cpu > 0
    assert run.peak > 1 << 20
