"""What a retention rule keeps, for any history and any flood of new recovery points."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from restore_lib.model.retention import Fragile, Kept, Point, Rule, Span, decide

NOW = datetime(2030, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULE = Rule(30 * DAY, 2)


def at(*ages: float) -> list[Point]:
    """Return points of these ages in days, numbered from 1."""
    return [Point(number, NOW - age * DAY) for number, age in enumerate(ages, 1)]


def expired(*args: object, **values: object) -> set[int]:
    return {d.point for d in decide(*args, **values) if d.kept is None}  # type: ignore[arg-type]  # passed on


def reasons(*args: object, **values: object) -> dict[int, Kept | None]:
    return {d.point: d.kept for d in decide(*args, **values)}  # type: ignore[arg-type]  # passed on


def test_age_gives_up_points_but_not_the_newest_old_one_and_not_the_minimum() -> None:
    assert reasons(at(90, 60, 50, 40, 20, 1), RULE, NOW) == {
        1: None,
        2: None,
        3: Kept.MINIMUM,
        4: Kept.BEFORE_WINDOW,
        5: Kept.WITHIN,
        6: Kept.WITHIN,
    }


def test_a_point_is_within_until_it_is_as_old_as_the_rule_says() -> None:
    assert reasons(at(30, 29.999), RULE, NOW) == {1: Kept.BEFORE_WINDOW, 2: Kept.WITHIN}


def test_only_good_ones_count_for_the_minimum() -> None:
    found = reasons(at(90, 80, 70, 60, 50, 1), RULE, NOW, damaged={3, 5})
    assert found == {
        1: None,
        2: Kept.MINIMUM,
        3: None,
        4: Kept.MINIMUM,
        5: Kept.BEFORE_WINDOW,
        6: Kept.WITHIN,
    }


def test_what_is_used_or_brought_back_stays() -> None:
    points = at(90, 80, 70, 60, 50)
    points[0] = Point(1, points[0].committed_at, kept_until=NOW + DAY)
    points[1] = Point(2, points[1].committed_at, kept_until=NOW)
    decided = {d.point: d for d in decide(points, RULE, NOW, used={3: "drill 7 rehearses with it"})}
    assert decided[1].kept is Kept.BROUGHT_BACK
    assert "2030-06-02" in decided[1].why
    assert decided[2].kept is None
    assert (decided[3].kept, decided[3].why) == (Kept.IN_USE, "drill 7 rehearses with it")


def test_the_last_good_copy_is_refused_by_name() -> None:
    fragile = [
        Fragile((Span(1, 3, good=True), Span(3, None, good=False)), 5, (b"a", b"b", b"c")),
        Fragile((Span(1, 2, good=True), Span(5, None, good=True)), 1, (b"healed",)),
        Fragile((Span(1, 2, good=False), Span(2, 3, good=True)), 1, (b"deleted",)),
    ]
    points = at(90, 80, 70, 60, 50)
    decided = {d.point: d for d in decide(points, RULE, NOW, damaged={3}, fragile=fragile)}
    assert decided[1].kept is None
    assert decided[2].kept is Kept.LAST_GOOD_COPY
    assert decided[2].why == "the last good copy of a, b, c and 2 more"
    assert decided[3].kept is None


def test_a_point_kept_for_one_object_needs_good_copies_of_its_others() -> None:
    fragile = [
        Fragile((Span(2, 3, good=True), Span(3, None, good=False)), 1, (b"one",)),
        Fragile((Span(1, 2, good=True), Span(2, 3, good=False)), 1, (b"other",)),
    ]
    decided = {
        d.point: d for d in decide(at(90, 80, 70, 60, 50), Rule(DAY, 1), NOW, fragile=fragile)
    }
    assert decided[2].why == "the last good copy of one"
    assert decided[1].why == "the last good copy of other"
    assert [decided[n].kept for n in (3, 4, 5)] == [None, None, Kept.BEFORE_WINDOW]


def test_a_newer_point_is_kept_for_an_older_one_that_is_kept_for_another_object() -> None:
    fragile = [
        Fragile((Span(1, 2, good=True), Span(4, None, good=False)), 1, (b"one",)),
        Fragile((Span(1, 2, good=False), Span(2, 3, good=True)), 1, (b"other",)),
    ]
    decided = {
        d.point: d.why for d in decide(at(90, 80, 70, 60), Rule(DAY, 1), NOW, fragile=fragile)
    }
    assert decided[1] == "the last good copy of one"
    assert decided[2] == "the last good copy of other"
    assert decided[3] == "older than 1 day"


def test_nothing_is_decided_for_a_store_without_points() -> None:
    assert decide([], RULE, NOW) == []


ages = st.lists(st.floats(0, 400), max_size=25)
rules = st.builds(Rule, st.integers(1, 200).map(lambda days: days * DAY), st.integers(1, 6))
numbers = st.sets(st.integers(1, 25))


@st.composite
def spans(draw: st.DrawFn) -> tuple[Span, ...]:
    """Versions of one object, one after the other, some of them with gaps between."""
    edges = sorted(draw(st.sets(st.integers(1, 26), min_size=2, max_size=8)))
    made = [
        Span(first, gone, draw(st.booleans()))
        for first, gone in pairwise(edges)
        if draw(st.booleans())
    ]
    if draw(st.booleans()):
        made.append(Span(edges[-1], None, draw(st.booleans())))
    return tuple(made)


@settings(max_examples=500)
@given(ages, rules, numbers, st.lists(spans(), max_size=6))
def test_for_any_history_what_is_needed_is_kept(
    history: list[float], rule: Rule, damaged: set[int], objects: list[tuple[Span, ...]]
) -> None:
    points = at(*sorted(history, reverse=True))
    fragile = [Fragile(each, 1, (b"x",)) for each in objects]
    gone = expired(points, rule, NOW, damaged=damaged, fragile=fragile)
    begin = NOW - rule.keep_within
    kept = {point.id for point in points} - gone
    older = [point.id for point in points if point.committed_at <= begin]
    assert kept >= {point.id for point in points if point.committed_at > begin}
    assert kept >= set(older[-1:])
    good = [point for point in older if point not in damaged]
    assert kept >= set(good[-rule.minimum_redundancy :])
    for each in fragile:
        if each.in_any(kept) and each.good_in_any(kept | gone):
            assert each.good_in_any(kept)


@given(ages, rules, numbers, st.integers(0, 1000))
def test_a_flood_pushes_nothing_out(
    history: list[float], rule: Rule, damaged: set[int], flood: int
) -> None:
    points = at(*sorted(history, reverse=True))
    new = [
        Point(len(points) + number, NOW - rule.keep_within * (flood - number) / (flood + 1))
        for number in range(1, flood + 1)
    ]
    assert expired([*points, *new], rule, NOW, damaged=damaged) == expired(
        points, rule, NOW, damaged=damaged
    )


@given(ages, rules, numbers, st.timedeltas(timedelta(0), 300 * DAY))
def test_nothing_goes_before_its_time_and_what_is_given_up_stays_so(
    history: list[float], rule: Rule, damaged: set[int], later: timedelta
) -> None:
    points = at(*sorted(history, reverse=True))
    first = expired(points, rule, NOW, damaged=damaged)
    assert first <= expired(points, rule, NOW + later, damaged=damaged)
    assert all(p.committed_at <= NOW - rule.keep_within for p in points if p.id in first)
