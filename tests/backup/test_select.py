from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from restore_lib.backup.select import Change, Kind, changes
from restore_lib.catalog.recovery_points import LiveVersion
from restore_lib.model.objects import StoredObject

AT = datetime(2030, 1, 1, tzinfo=UTC)

Description = tuple[int, int, str | None, str | None]
DESCRIPTIONS = st.tuples(
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from([None, "e1", "e2"]),
    st.sampled_from([None, "v1", "v2"]),
)
STORES = st.dictionaries(st.binary(max_size=3), DESCRIPTIONS, max_size=20)


def found(key: bytes, what: Description) -> StoredObject:
    size, days, etag, version = what
    return StoredObject(key, size, AT + timedelta(days=days), etag=etag, version=version)


def known(number: int, key: bytes, what: Description) -> LiveVersion:
    size, days, etag, version = what
    return LiveVersion(number, key, size, etag, version, AT + timedelta(days=days))


def compare(store: dict[bytes, Description], catalog: dict[bytes, Description]) -> list[Change]:
    return list(
        changes(
            [found(key, what) for key, what in sorted(store.items())],
            [known(n, key, what) for n, (key, what) in enumerate(sorted(catalog.items()))],
        )
    )


def is_same(now: Description, before: Description) -> bool:
    if now[3] is not None and before[3] is not None:
        return now[3] == before[3]
    return now[:3] == before[:3]


@given(store=STORES, catalog=STORES)
def test_changes_are_the_difference_of_two_dictionaries(
    store: dict[bytes, Description], catalog: dict[bytes, Description]
) -> None:
    kinds: dict[bytes, Kind] = {}
    for change in compare(store, catalog):
        one = change.found or change.known
        assert one is not None
        assert one.key not in kinds
        kinds[one.key] = change.kind
        assert (change.found is None) == (change.kind is Kind.GONE)
        assert (change.known is None) == (change.kind is Kind.NEW)
    assert list(kinds) == sorted(store.keys() | catalog.keys())
    for key, kind in kinds.items():
        if key not in catalog:
            assert kind is Kind.NEW
        elif key not in store:
            assert kind is Kind.GONE
        else:
            assert kind is (Kind.SAME if is_same(store[key], catalog[key]) else Kind.CHANGED)


@given(store=STORES)
def test_a_store_that_is_as_the_catalog_has_it_has_nothing_to_back_up(
    store: dict[bytes, Description],
) -> None:
    assert all(change.to_back_up is None for change in compare(store, store))


def test_new_and_changed_objects_are_to_be_backed_up() -> None:
    described: Description = (1, 1, None, None)
    new, changed, gone = compare(
        {b"a": described, b"b": described}, {b"b": (2, 1, None, None), b"c": described}
    )
    assert new.to_back_up == found(b"a", described)
    assert changed.to_back_up == found(b"b", described)
    assert gone.to_back_up is None
