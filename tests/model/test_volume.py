"""The fields of a volume: what may follow what, and what its history comes to."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restore_lib.errors import InvalidTransition
from restore_lib.model.volume import (
    CONTENT_CHANGES,
    CUSTODY_CHANGES,
    HEALTH_CHANGES,
    LIBRARY,
    Content,
    Custody,
    CustodyEvent,
    Flag,
    Health,
    Standing,
    check_change,
    fold,
    vault_of,
    vault_place,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)
RULES: Mapping[str, Mapping[Any, frozenset[Any]]] = {
    "content": CONTENT_CHANGES,
    "health": HEALTH_CHANGES,
    "custody": CUSTODY_CHANGES,
}


def event(number: int, field: str, before: str, after: str, place: str = LIBRARY) -> CustodyEvent:
    return CustodyEvent(number, "V1", AT, field, before, after, place, "ann", "test", None)


BIRTH = [
    event(1, "content", "", Content.BLANK),
    event(2, "health", "", Health.OK),
    event(3, "custody", "", Custody.MOUNTABLE),
]


def test_every_state_has_its_rule() -> None:
    for rules, states in zip(RULES.values(), (Content, Health, Custody), strict=True):
        assert set(rules) == set(states)
        assert all(state not in after for state, after in rules.items())


def test_the_way_to_the_vault_and_back() -> None:
    way = [
        Custody.MOUNTABLE,
        Custody.NOTMOUNTABLE,
        Custody.COURIER,
        Custody.VAULT,
        Custody.VAULTRETRIEVE,
        Custody.COURIERRETRIEVE,
        Custody.ONSITERETRIEVE,
        Custody.ACCLIMATING,
        Custody.MOUNTABLE,
    ]
    for before, after in pairwise(way):
        check_change(CUSTODY_CHANGES, "V1", before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [(Custody.VAULT, Custody.MOUNTABLE), (Custody.MOUNTABLE, Custody.COURIER)],
)
def test_nobody_carries_a_volume_past_a_hop(before: Custody, after: Custody) -> None:
    with pytest.raises(InvalidTransition, match=f"V1 can't go from {before} to {after}") as caught:
        check_change(CUSTODY_CHANGES, "V1", before, after)
    assert all(state in caught.value.remedy for state in CUSTODY_CHANGES[before])


def test_what_is_broken_is_never_trusted_again() -> None:
    assert HEALTH_CHANGES[Health.BROKEN] == {Health.DESTROYED}
    with pytest.raises(InvalidTransition) as caught:
        check_change(HEALTH_CHANGES, "V1", Health.DESTROYED, Health.OK)
    assert "it is an end" in caught.value.remedy


def test_full_volumes_are_reclaimed_after_quarantine_only() -> None:
    sources = {state for state, after in CONTENT_CHANGES.items() if Content.LABELLED in after}
    assert sources == {Content.BLANK, Content.RECLAIM_QUARANTINE}


def test_places_of_vaults() -> None:
    assert vault_of(vault_place("north")) == "north"
    assert vault_of(LIBRARY) is None


@given(data=st.data())
def test_a_history_comes_to_what_its_changes_did(data: st.DataObject) -> None:
    state: dict[str, StrEnum] = {
        "content": Content.BLANK,
        "health": Health.OK,
        "custody": Custody.MOUNTABLE,
    }
    flags: set[Flag] = set()
    place = LIBRARY
    events = list(BIRTH)
    for _ in range(data.draw(st.integers(0, 15))):
        place = data.draw(st.sampled_from([LIBRARY, "dock", vault_place("north")]))
        field = data.draw(st.sampled_from(["content", "health", "custody", "flag"]))
        if field == "flag":
            flag = data.draw(st.sampled_from(Flag))
            before, after = (flag, "") if flag in flags else ("", flag)
            flags ^= {flag}
        else:
            before = state[field]
            allowed = sorted(RULES[field][before])
            if not allowed:
                continue
            after = state[field] = data.draw(st.sampled_from(allowed))
        events.append(event(len(events) + 1, field, before, after, place))
    place = events[-1].place
    assert fold(events) == Standing(
        Content(state["content"]),
        Health(state["health"]),
        Custody(state["custody"]),
        frozenset(flags),
        place,
    )


@pytest.mark.parametrize(
    "broken",
    [
        [],
        BIRTH[:2],
        BIRTH[1:],
        [*BIRTH, event(4, "health", Health.SUSPECT, Health.OK)],
        [*BIRTH, event(4, "flag", Flag.MISSING, "")],
        [*BIRTH, event(4, "flag", "", Flag.MISSING), event(5, "flag", "", Flag.MISSING)],
        [*BIRTH, event(4, "colour", "", "red")],
        [*BIRTH, replace(BIRTH[0], id=4)],
    ],
)
def test_a_history_with_a_gap_is_found(broken: list[CustodyEvent]) -> None:
    with pytest.raises(InvalidTransition, match="not whole"):
        fold(broken)
