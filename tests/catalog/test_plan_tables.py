import pytest
from sqlalchemy import func, insert, inspect, select

from restore_lib.catalog import plan_tables
from restore_lib.catalog.engine import Catalog


def test_a_plan_leaves_no_table_behind(catalog: Catalog) -> None:
    with catalog.write() as connection:
        before = inspect(connection).get_temp_table_names()
        for _ in range(2):
            with plan_tables.planning(connection):
                connection.execute(insert(plan_tables.parts).values(part=1, batch_id=2))
                plan_tables.analyze(connection, plan_tables.parts)
                count = select(func.count()).select_from(plan_tables.parts)
                assert connection.execute(count).scalar_one() == 1
        assert inspect(connection).get_temp_table_names() == before


def test_a_plan_that_fails_leaves_no_table_behind(catalog: Catalog) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        catalog.write() as connection,
        plan_tables.planning(connection),
    ):
        _ = 1 / 0
    with catalog.write() as connection, plan_tables.planning(connection):
        assert connection.execute(select(plan_tables.wanted)).all() == []
