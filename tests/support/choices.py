"""Small problems of choosing volumes, and their true answers by trying everything."""

import itertools
from collections.abc import Sequence

from hypothesis import strategies as st

from restore_lib.restore.ways import Group, Members, Prices, Way, cost_of

_NAMES = [f"v{number}" for number in range(6)]
_COSTS = st.integers(0, 9).map(float)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Group], Prices]:
    """Return up to five groups over six volumes, two trucks and a set."""
    trucks = draw(st.dictionaries(st.sampled_from(["t0", "t1"]), _COSTS.map(lambda c: 4 * c)))
    away = draw(st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(["t0", "t1"])))
    members = draw(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True))
    prices = Prices(
        {name: draw(_COSTS) for name in _NAMES},
        {name: truck for name, truck in away.items() if truck in trucks},
        trucks,
        {"set": Members(draw(st.integers(1, len(members))), tuple(members))},
    )
    some = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True).map(tuple)
    plain = st.builds(Way, some, _COSTS)
    rebuilt = st.builds(Way, st.just(()) | some, _COSTS, st.just(("set",)))
    groups: list[Group] = [
        [draw(plain), *draw(st.lists(plain | rebuilt, max_size=2))]
        for _ in range(draw(st.integers(0, 4)))
    ]
    return groups, prices


def cheapest(groups: Sequence[Group], prices: Prices) -> float:
    """Return what the best of all choices costs."""
    best = float("inf")
    for chosen in itertools.product(*(range(len(group)) for group in groups)):
        ways = [group[index] for group, index in zip(groups, chosen, strict=True)]
        direct = {barcode for way in ways for barcode in way.volumes}
        sets = sorted({name for way in ways for name in way.sets})
        picks = [
            itertools.combinations(prices.sets[name].volumes, prices.sets[name].k) for name in sets
        ]
        for more in itertools.product(*picks):
            taken = direct.union(*more)
            best = min(best, cost_of(groups, chosen, taken, prices))
    return best
