"""What is left of a selection as an integer program, solved by HiGHS."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from threading import Thread
from typing import Any

from restore_lib.restore.ways import Prices, Way

_INFINITY = float("inf")


@dataclass(frozen=True, slots=True)
class Solved:
    """The volumes to take (None: none were found in time), a bound of the cost, is it proven."""

    opened: frozenset[str] | None
    bound: float
    exact: bool


def load_solver() -> None:
    """Load the solver beside other work; ``solve`` waits for it, and raises what went wrong."""
    Thread(target=_load, name="solver").start()


def _load() -> None:
    with suppress(ImportError):
        import_module("highspy")


def solve(
    groups: Sequence[Sequence[Way]], prices: Prices, taken: Collection[str], seconds: float
) -> Solved:
    """Choose a way for each group; what is ``taken``, and its trucks, costs nothing more.

    ``bound`` holds also when the time was up: no choice costs less.
    """
    program = _Program(prices, taken)
    for group in groups:
        program.add(group)
    return program.run(seconds)


@dataclass
class _Rows:
    """Rows of a program: the lower and upper bound of each, and its entries."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, entries: Sequence[tuple[int, float]], lower: float, upper: float) -> None:
        self.lower.append(lower)
        self.upper.append(upper)
        for column, value in entries:
            self.columns.append(column)
            self.values.append(value)
        self.starts.append(len(self.columns))


class _Program:
    """Columns are 0 or 1: a volume is taken, a truck drives, a set is rebuilt, a way is chosen."""

    def __init__(self, prices: Prices, taken: Collection[str]) -> None:
        self._prices, self._taken = prices, taken
        self._driving = prices.trucks_for(taken)
        self._costs: list[float] = []
        self._volumes: dict[str, int] = {}
        self._trucks: dict[str, int] = {}
        self._sets: dict[str, int] = {}
        self._rows = _Rows()

    def add(self, group: Sequence[Way]) -> None:
        """Add a group: one of its ways is chosen, and has what it needs."""
        columns = [self._column(way.cost) for way in group]
        self._rows.add([(column, 1.0) for column in columns], 1.0, 1.0)
        needed_by: dict[int, list[int]] = {}
        for way, column in zip(group, columns, strict=True):
            needs = [self._volume(barcode) for barcode in way.volumes if barcode not in self._taken]
            needs += [self._set(name) for name in way.sets]
            for need in needs:
                needed_by.setdefault(need, []).append(column)
        for need, users in needed_by.items():
            self._rows.add([(need, 1.0), *((user, -1.0) for user in users)], 0.0, _INFINITY)

    def _column(self, cost: float) -> int:
        self._costs.append(cost)
        return len(self._costs) - 1

    def _volume(self, barcode: str) -> int:
        if barcode not in self._volumes:
            column = self._volumes[barcode] = self._column(self._prices.volumes[barcode])
            truck = self._prices.truck_of.get(barcode)
            if truck is not None and truck not in self._driving:
                self._rows.add([(self._truck(truck), 1.0), (column, -1.0)], 0.0, _INFINITY)
        return self._volumes[barcode]

    def _truck(self, truck: str) -> int:
        if truck not in self._trucks:
            self._trucks[truck] = self._column(self._prices.trucks[truck])
        return self._trucks[truck]

    def _set(self, name: str) -> int:
        """Return the column that says that enough of a set is taken to rebuild the others."""
        if name not in self._sets:
            column = self._sets[name] = self._column(0.0)
            members = self._prices.sets[name]
            lacking = members.k - len(set(members.volumes).intersection(self._taken))
            others = [barcode for barcode in members.volumes if barcode not in self._taken]
            entries = [(self._volume(barcode), 1.0) for barcode in others]
            self._rows.add([*entries, (column, -float(lacking))], 0.0, _INFINITY)
        return self._sets[name]

    def run(self, seconds: float) -> Solved:
        """Solve it within so many seconds."""
        import highspy  # noqa: PLC0415 - slow to import, and most plans have nothing to choose

        solver = highspy.Highs()
        for option, value in (
            ("output_flag", False),
            ("threads", 1),
            ("random_seed", 0),
            ("mip_rel_gap", 1e-9),
            ("mip_abs_gap", 1e-6),
            ("time_limit", seconds),
        ):
            solver.setOptionValue(option, value)
        solver.passModel(self._model(highspy))
        solver.run()
        info = solver.getInfo()
        exact = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
        found = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        opened = None
        if found:
            values = solver.getSolution().col_value
            opened = frozenset(b for b, column in self._volumes.items() if values[column] > 0.5)
        bound = info.mip_dual_bound
        return Solved(opened, bound if bound > -1e20 else 0.0, exact and found)

    def _model(self, highspy: Any) -> Any:
        import numpy as np  # noqa: PLC0415 - as above

        count, rows = len(self._costs), self._rows
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = count, len(rows.lower)
        model.col_cost_ = np.array(self._costs)
        model.col_lower_, model.col_upper_ = np.zeros(count), np.ones(count)
        model.row_lower_, model.row_upper_ = np.array(rows.lower), np.array(rows.upper)
        model.integrality_ = [highspy.HighsVarType.kInteger] * count
        model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        model.a_matrix_.start_ = np.array(rows.starts)
        model.a_matrix_.index_ = np.array(rows.columns)
        model.a_matrix_.value_ = np.array(rows.values)
        return model
