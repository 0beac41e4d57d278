"""Column types give back what they were given, on both databases."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, MetaData, Table, insert, select
from sqlalchemy.exc import StatementError

from restore_lib.catalog.columns import Digest, Id, Json, UtcDateTime
from restore_lib.catalog.engine import Catalog

TABLE = Table(
    "samples",
    MetaData(),
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime),
    Column("digest", Digest),
    Column("json", Json),
)
SAME_CATALOG = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def samples(catalog: Catalog) -> Catalog:
    TABLE.create(catalog.engine)
    return catalog


def round_trip(catalog: Catalog, **values: Any) -> Any:
    with catalog.write() as connection:
        done = connection.execute(insert(TABLE).values(values))
        assert done.inserted_primary_key is not None
        row_id = done.inserted_primary_key[0]
    with catalog.read() as connection:
        return connection.execute(select(TABLE).where(TABLE.c.id == row_id)).one()


@SAME_CATALOG
@given(
    at=st.datetimes(
        min_value=datetime(1901, 1, 2),  # noqa: DTZ001 - Hypothesis wants naive bounds
        max_value=datetime(9998, 12, 30),  # noqa: DTZ001 - Hypothesis wants naive bounds
        timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-5, minutes=-30))),
    )
)
def test_times_come_back_in_utc_to_the_microsecond(samples: Catalog, at: datetime) -> None:
    found = round_trip(samples, at=at).at
    assert found == at
    assert found.utcoffset() == timedelta()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Lima"])
@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_the_calendar_come_back_whatever_the_server_s_zone(
    samples: Catalog, zone: str, at: datetime
) -> None:
    if samples.engine.dialect.name == "postgresql":
        with samples.write() as connection:
            database = samples.engine.url.database
            connection.exec_driver_sql(f"ALTER DATABASE \"{database}\" SET TimeZone = '{zone}'")
        samples.close()
    assert round_trip(samples, at=at).at == at


def test_a_time_without_a_zone_is_refused(samples: Catalog) -> None:
    with pytest.raises(StatementError, match="time zone"):
        round_trip(samples, at=datetime(2030, 1, 1))  # noqa: DTZ001 - the point of this test


def test_times_compare_as_times(samples: Catalog) -> None:
    early = datetime(2030, 1, 1, 23, 30, tzinfo=timezone(timedelta(hours=5)))
    late = datetime(2030, 1, 1, 20, 0, tzinfo=UTC)
    with samples.write() as connection:
        connection.execute(insert(TABLE), [{"at": early}, {"at": late}])
    with samples.read() as connection:
        found = connection.execute(select(TABLE.c.at).where(TABLE.c.at < late)).scalars().all()
    assert found == [early]


def test_a_digest_is_hex_here_and_raw_there(samples: Catalog) -> None:
    digest = "00ff" * 16
    assert round_trip(samples, digest=digest).digest == digest
    with samples.read() as connection:
        raw = connection.exec_driver_sql("SELECT digest FROM samples").scalar_one()
    assert bytes(raw) == bytes.fromhex(digest)


@SAME_CATALOG
@given(value=st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers() | st.booleans()))
def test_json_comes_back(samples: Catalog, value: dict[str, Any]) -> None:
    assert round_trip(samples, json=value).json == value


def test_nothing_stays_nothing(samples: Catalog) -> None:
    row = round_trip(samples, at=None, digest=None)
    assert (row.at, row.digest) == (None, None)


def test_ids_are_given_by_the_database_and_grow(samples: Catalog) -> None:
    assert [round_trip(samples).id for _ in range(3)] == [1, 2, 3]
