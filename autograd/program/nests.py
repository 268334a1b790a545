"""nests: a plan as nests of loops over the elements of its arrays, for machine code and for C.

    for i < 4:                 a nest of shape (4,)
        z[i] = Σⱼ w[i,j] x[j]
        h[i] = tanh(z[i])

The statements of a nest are computed one after the other for each element, so that an array that no other
nest reads is never in memory. Three lists of nests follow each other: `once`, whatever is the same for all
rows; `rows`, for each row of the data; `after`, whatever needs sums over the rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..ops import CONDITIONS
from .arrays import (
    Array,
    Constant,
    Contract,
    Gather,
    Input,
    Leaf,
    Loop,
    Map,
    Member,
    Rows,
    Select,
    Series,
    Spread,
    Stack,
    Stacked,
    View,
    Window,
    coordinates,
    has_truth_values,
    size,
    terms_through,
    whole,
)
from .masking import masked
from .plan import Plan

ONCE, ROWS, AFTER = "once", "rows", "after"
LONGEST = 200  # statements of a nest: compilers take long for more


class Storage(NamedTuple):
    """Where an array is: in a space of memory, from `start` on, `step` further with each step of a loop.

    The spaces: "input", "leaf", "count" (the number of rows), "rows" (a number for each row), "uniform" (one
    for all rows), and "constant", which has a `table` of numbers for each array or list.
    """

    space: str
    start: int
    step: int = 0
    table: int = 0


class Affine(NamedTuple):
    """The position of a view's element: start + step · (step of a loop) + Σ stride · coordinate, by axis.

    With `table`, that is a position in the table, where the element's position stands.
    """

    start: int
    step: int
    strides: Mapping[int, int]
    table: np.ndarray | None = None

    def at(self, coordinates: Mapping[int, Any]) -> Any:
        """The position of the element at these coordinates, or the positions at arrays of coordinates."""
        position = self.start + sum(stride * coordinates[axis] for axis, stride in self.strides.items())
        return position if self.table is None else self.table[position]


@dataclass(eq=False, slots=True)
class Statement:
    """An array, computed as `definition` at an element of a nest. `watched`: see Nests."""

    array: Array
    definition: Array
    watched: Sequence[Any] = ()

    @property
    def views(self) -> list[View]:
        return [*self.definition.views, *(x for x in self.watched if isinstance(x, View))]

    @property
    def beside(self) -> list[Any]:
        """The watched operands that the definition has not among its own: those of a condition."""
        own = [x for term in self.definition.terms for x in term]
        return [x for x in self.watched if not any(x is each for each in own)]

    @property
    def is_sum_over_rows(self) -> bool:
        return isinstance(self.definition, Contract) and self.definition.over_rows

    @property
    def has_sums(self) -> bool:
        """Whether an element needs loops of its own."""
        n = len(self.definition.shape)
        return any(axis >= n for view in self.definition.views for axis in view.axes)


@dataclass(eq=False, slots=True)
class Nest:
    """Loops over the elements of `shape`, and what is computed for each; once for each row if `by_row`."""

    shape: tuple[int, ...]
    by_row: bool
    statements: list[Statement] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Repeat:
    """Nests that are computed `steps` times."""

    steps: int
    nests: list[Nest]


class Nests:
    """The nests of a plan, and where its arrays are.

    `outputs` are the arrays of the plan's outputs. `constants` has arrays of numbers. `sizes` has how many
    numbers the spaces take; `sums` has the arrays that are sums over rows, which begin at 0, and how many
    numbers they have in all steps of a loop. `conditions` has the arrays of truth values. `reserved` has the
    places in "rows" and "uniform" that belong together, in order, and how many numbers are at each.

    A statement's `watched` operands are those whose infinities or NaN its result could hide, although they
    are computed and no data: see masking.py. Without `watch` there are none. Raises NotImplementedError where
    they cannot be told, or where rows depend on a sum over the rows.
    """

    def __init__(self, planned: Plan, watch: bool = True):
        self.plan, self.outputs, self._watch = planned, planned.lifted.outputs, watch
        self.storage: dict[Array, Storage] = {}
        self.constants: list[np.ndarray] = []
        self.sizes = {"rows": 0, "uniform": 0, "input": 0, "leaf": 0}
        self.reserved: list[tuple[Storage, int]] = []
        self.sums: dict[Array, int] = {}
        self.own: set[Array] = set()  # arrays that share their memory with no other
        self.conditions: set[Array] = set()
        self._series: dict[Series, Storage] = {}
        self._member: dict[
            Array, tuple[Series, int]
        ] = {}  # the list that an array is in, and its place there
        self._positions: dict[View, Affine] = {}
        self._moved: dict[Array, dict[int, tuple[View, int]]] = {}
        self._phase: dict[Any, str] = {}
        self._data: set[Array] = set()  # arrays of data, and copies of data
        phases: dict[str, list[Any]] = {ONCE: [], ROWS: [], AFTER: []}
        self._place_given()
        for statement in planned.statements:
            if isinstance(statement, Loop):
                self._loop(statement, phases)
            elif isinstance(statement, Series):
                self._begin(statement, phases)
            elif statement.terms or isinstance(statement, Contract):  # a sum of nothing is 0
                self._state(statement, planned.written.get(statement, statement), phases)
        self.once, self.rows, self.after = (_scheduled(phases[name]) for name in (ONCE, ROWS, AFTER))
        self._store()

    def storage_of(self, array: Array) -> Storage:
        """Where an array is that is in memory; a Member of a series is at the first step's place."""
        if isinstance(array, Member):
            storage, one = self._series[array.series], size(array)
            return storage._replace(start=storage.start + array.start * one, step=array.stride * one)
        return self.storage[array]

    # Statements, by phase

    def _place_given(self) -> None:
        """Place the arrays that are not computed."""
        lifted = self.plan.lifted
        *inputs, self.sizes["input"] = itertools.accumulate(
            (a.size for a in lifted.scalars.inputs), initial=0
        )
        *leaves, self.sizes["leaf"] = itertools.accumulate(map(size, lifted.leaves), initial=0)
        starts = dict(zip(lifted.leaves, leaves))
        for array in self.plan.arrays:
            if isinstance(array, Input):
                self.storage[array] = Storage("input", inputs[array.argument])
            elif isinstance(array, Leaf):
                self.storage[array] = Storage("leaf", starts[array])
            elif isinstance(array, Rows):
                self.storage[array] = Storage("count", 0)
            elif isinstance(array, Constant):
                self._place_constant(array)
            if not array.terms:
                self._phase[array] = ROWS if array.by_row else ONCE
                self._data.add(array)
        for array in self.outputs:  # perhaps of no statement
            if isinstance(array, Constant) and array not in self.storage:
                self._place_constant(array)

    def _place_constant(self, array: Constant) -> None:
        if array.numbers.dtype == bool:
            self.conditions.add(array)
        self.storage[array] = Storage("constant", 0, table=len(self.constants))
        self.constants.append(array.numbers.astype(float).ravel())
        self._phase.setdefault(array, ONCE)
        self._data.add(array)

    def _latest(self, views: Iterable[View], by_row: bool) -> str:
        """The phase of an array that is computed from these views."""
        arrays = [view.array for view in views]
        phases = {self._phase[a.series if isinstance(a, Member) else a] for a in arrays}
        if by_row:
            if AFTER in phases:
                raise NotImplementedError("there is no machine code for rows that depend on a sum over rows")
            return ROWS
        return AFTER if AFTER in phases else ONCE

    def _state(self, array: Array, definition: Array, phases: dict[str, list[Any]]) -> None:
        """Add an array's statement to its phase."""
        definition = self._sliced(definition) if isinstance(definition, Stacked) else definition
        if isinstance(definition, Contract) and definition.over_rows:
            self._latest(definition.views, True)
            self.sums[array] = size(array)
            self._phase[array], where = AFTER, ROWS
        else:
            where = self._phase[array] = self._latest(definition.views, array.by_row)
        self._note(array, definition)
        phases[where].append(Statement(array, definition, self._watched(definition)))

    def _sliced(self, definition: Stacked) -> Array:
        """Arrays one after the other as a slice of the list that has them, if one does."""
        found = [self._member[member] for member in definition.members if member in self._member]
        if len(found) < max(2, len(definition.members)):
            return definition
        (series, first), (_, second), *_ = found
        step = second - first
        if not step or found != [(series, first + k * step) for k in range(len(found))]:
            return definition
        one, n = definition.members[0], len(series.members)
        of_all = Array((n, *one.shape), definition.by_row)
        self.storage[of_all], self._phase[of_all] = self._at(series, 0), self._phase[series]
        for kind in (self.conditions, self._data):
            if one in kind:
                kind.add(of_all)
        axes, end = tuple(range(1 + len(one.shape))), first + len(found) * step
        slices = slice(first, end if end >= 0 else None, step), *[slice(None)] * len(one.shape)
        return Spread(definition.shape, definition.by_row, Select(of_all, axes, slices, of_all.shape))

    def _note(self, array: Array, definition: Array) -> None:
        """Note whether an array has truth values, or copies of data."""
        of = [view.array for view in definition.views]
        if isinstance(definition, Spread | Stack | Stacked):
            if all(map(self.is_condition, of)):
                self.conditions.add(array)
            if all(map(self._is_data, of)):
                self._data.add(array)
        elif isinstance(definition, Map) and has_truth_values(definition, self.is_condition):
            self.conditions.add(array)

    def is_condition(self, array: Array) -> bool:
        """Whether an array has truth values."""
        if isinstance(array, Member):
            return any(member in self.conditions for member in array.series.members)
        return array in self.conditions

    def _is_data(self, array: Array) -> bool:
        if isinstance(array, Member):
            return all(member in self._data for member in array.series.members)
        return array in self._data

    def _watched(self, definition: Array) -> Sequence[Any]:
        """The operands to watch."""
        if not self._watch or not isinstance(definition, Map) or definition.row in CONDITIONS:
            return ()
        found = []
        for masks, x in zip(masked(definition.row), definition.operands):
            if masks and self._is_computed(x):
                found.append(x)
        if definition.row is ops.where:
            found += self._compared(definition.operands[0])
        return found

    def _compared(self, condition: Any) -> list[View]:
        """The computed operands that a condition compares, as views along the condition's axes."""
        if not isinstance(condition, View) or self._is_data(condition.array):
            return []
        array = condition.array
        if not isinstance(array, Map):
            raise NotImplementedError("there is no machine code for conditions that are moved")
        terms = terms_through(condition)
        operands = terms[0] if terms else [self._seen_through(condition, x) for x in array.operands]
        found = []
        for x in operands:
            if isinstance(x, View) and self.is_condition(x.array):
                found += self._compared(x)
            elif self._is_computed(x):
                found.append(x)
        return found

    def _is_computed(self, x: Any) -> bool:
        """Whether an operand is a computed number, of which an infinity is an error."""
        if not isinstance(x, View) or x.array in self.plan.infinite:
            return False
        return not self._is_data(x.array) and not self.is_condition(x.array)

    def _seen_through(self, view: View, inner: Any) -> Any:
        """An operand of the view's array, as a view along the view's axes."""
        if not isinstance(inner, View):
            return inner
        places, of = self.affine(view), self.affine(inner)
        if places.step or of.step or len({*view.axes}) < len(view.axes):
            raise NotImplementedError("there is no machine code for conditions that move with a loop's steps")
        at = dict(zip(view.axes, np.indices(view.lengths)))
        coordinates_of_it = coordinates(places.at(at), view.array.shape)
        positions = np.asarray(of.at(dict(enumerate(coordinates_of_it))))
        return Gather(inner.array, view.axes, np.broadcast_to(positions, view.lengths))

    # Loops

    def _begin(self, series: Series, phases: dict[str, list[Any]]) -> None:
        """Add the statements that put a list's given arrays into its memory."""
        members = series.members
        one, by_row = size(members[0]), any(member.by_row for member in members)
        for array in members[: series.given]:
            if isinstance(array, Constant) and array not in self.storage:
                self._place_constant(array)
        constants = [member for member in members if isinstance(member, Constant)]
        if len(constants) == len(members):
            self._series[series] = Storage("constant", 0, one, table=len(self.constants))
            self.constants.append(np.array([x for c in constants for x in c.numbers.flat], dtype=float))
            self._phase[series] = ONCE
            return
        self._series[series] = self._reserved(by_row, one * len(members), one)
        for i, array in enumerate(members[: series.given]):
            # An array that is computed elsewhere is copied to here.
            here = Spread(array.shape, by_row, whole(array)) if array in self._phase else array
            self._state(here, self.plan.written.get(here, here), phases)
            self.storage[here] = self._at(series, i)
        given = {
            self._phase[array] for array in members[: series.given]
        }  # sums over rows come after the rows
        self._phase[series] = ROWS if by_row else AFTER if AFTER in given else ONCE
        self._member.update((array, (series, i)) for i, array in enumerate(members))
        for i, array in enumerate(members[series.given :], series.given):
            self.storage[array] = self._at(series, i)

    def _at(self, series: Series, i: int) -> Storage:
        storage = self._series[series]
        return Storage(storage.space, storage.start + i * storage.step)

    def _reserved(self, by_row: bool, n: int, step: int = 0) -> Storage:
        space = "rows" if by_row else "uniform"
        start = self.sizes[space]
        self.sizes[space] += n
        self.reserved.append((storage := Storage(space, start, step), n))
        return storage

    def _loop(self, loop: Loop, phases: dict[str, list[Any]]) -> None:
        """Add a loop to each phase that it has statements of: no phase needs a later one."""
        while True:  # until the phases of lists that the loop continues are known
            before = {series: self._phase[series] for series in loop.series.values()}
            parts: dict[str, list[Any]] = {ONCE: [], ROWS: [], AFTER: []}
            sums = dict(self.sums)
            for array in loop.body:
                self._state(array, array, parts)
                if series := loop.series.get(array):
                    phase = self._phase[array]
                    if phase == AFTER and self._phase[series] == ONCE:
                        self._phase[series] = AFTER
            if before == {series: self._phase[series] for series in loop.series.values()}:
                break
            self.sums = sums
        for j, array in enumerate(loop.body):
            if series := loop.series.get(array):
                self.storage[array] = self._at(series, series.given)._replace(step=self._series[series].step)
            elif array in self.sums or self._is_read_elsewhere(array, parts):
                self.storage[array] = self._reserved(array.by_row, size(array) * len(loop.steps), size(array))
            if array in self.sums:
                self.sums[array] *= len(loop.steps)
            for step in loop.steps:
                self._phase[step[j]] = self._phase[array]
                for kind in (self.conditions, self._data):
                    if array in kind:
                        kind.add(step[j])
        for name, statements in parts.items():
            if statements:
                phases[name].append(Repeat(len(loop.steps), _scheduled(statements)))
        for array in loop.last:
            self._state(array, array, phases)

    def _is_read_elsewhere(self, array: Array, parts: Mapping[str, list[Statement]]) -> bool:
        """Whether another phase of a loop reads an array that the loop computes."""
        read = {name for name in parts for s in parts[name] for view in s.views if view.array is array}
        return not read <= {self._phase[array]}

    # Elements

    def affine(self, view: View) -> Affine:
        """Where a view's elements are, among those of its array."""
        if view not in self._positions:
            self._positions[view] = _strides(view)
        return self._positions[view]

    def terms_at(self, statement: Statement, position: int) -> list[tuple[Any, ...]]:
        """The numbers, and the arrays with positions, that an element is computed from, term by term.

        The watched operands of a condition come last. A statement of a loop has no such terms.
        """
        definition = statement.definition
        if isinstance(definition, Stack | Stacked):
            if definition not in self._moved:
                moved = self._moved[definition] = {}
                for view, sources, places in pieces(definition):
                    for source, place in zip(sources.tolist(), places.tolist()):
                        moved[place] = view, source
            view, source = self._moved[definition][position]
            if isinstance(definition, Stacked):
                return [((view.array, source),)]
            return [(self._entry(view, dict.fromkeys(view.axes, source)),)]
        own = dict(enumerate(coordinates(position, definition.shape)))
        terms: list[tuple[Any, ...]] = []
        for term in definition.terms:
            lengths = summed(term, len(own))
            for numbers in itertools.product(*map(range, lengths.values())):
                at = {**own, **dict(zip(lengths, numbers))}
                terms.append(tuple([self._entry(x, at) for x in (*term, *statement.beside)]))
        return terms

    def _entry(self, x: Any, at: Mapping[int, int]) -> Any:
        return (x.array, self.affine(x).at(at)) if isinstance(x, View) else x

    def needed_sums(self) -> list[tuple[Array, int]]:
        """The elements of sums over rows that outputs need, in the order in which they need them."""
        statements = {s.array: s for nest in nests_of(self.after) for s in nest.statements}
        stack = [(array, k) for array in reversed(self.outputs) for k in reversed(range(size(array)))]
        seen: set[tuple[Array, int]] = set()
        found: list[tuple[Array, int]] = []
        while stack:
            element = stack.pop()
            if element in seen:
                continue
            seen.add(element)
            array, position = element
            if array in self.sums:
                found.append(element)
            elif array in statements:
                terms = self.terms_at(statements[array], position)
                stack += [x for term in reversed(terms) for x in reversed(term) if isinstance(x, tuple)]
        return found

    # Memory

    def _store(self) -> None:
        """Find memory for arrays that another nest reads, and for outputs."""
        for array in self.sums:
            self._keep(array)
        for items in (self.once, self.rows, self.after):
            for nest in nests_of(items):
                here: set[Array] = set()
                for statement in nest.statements:
                    for view in statement.views:
                        if view.array not in here or not view.is_whole_in(nest.shape):
                            self._keep(view.array)
                    here.add(statement.array)
        for array in self.outputs:
            self._keep(array)

    def _keep(self, array: Array) -> None:
        if not isinstance(array, Member) and array not in self.storage:
            self.storage[array] = self._reserved(array.by_row, size(array))
            self.own.add(array)


def _strides(view: View) -> Affine:
    """See Nests.affine."""
    taken: dict[int, int] = {}
    if isinstance(view, Gather):
        factor = 1
        for axis, length in reversed([*zip(view.axes, view.positions.shape)]):
            taken[axis] = taken.get(axis, 0) + factor
            factor *= length
        return Affine(0, 0, taken, view.positions.ravel())
    assert isinstance(view, Select)
    axes, start, step, factor = iter(view.axes), 0, 0, size(view.array)
    for n, index in zip(view.shape, view.index):
        factor //= n
        if isinstance(index, Window):
            start += factor * index.start
            strides = [index.step, index.stride]
        elif isinstance(index, slice):
            each = range(n)[index]
            start += factor * each.start
            step += factor * getattr(index.start, "stride", 0)
            strides = [each.step]
        else:
            start += factor * index
            step += factor * getattr(index, "stride", 0)
            strides = []
        for stride in strides:
            axis = next(axes)
            taken[axis] = taken.get(axis, 0) + factor * stride
    return Affine(start, step, taken)


def nests_of(items: Iterable[Nest | Repeat]) -> Iterator[Nest]:
    """All nests, those that are repeated too."""
    for item in items:
        if isinstance(item, Repeat):
            yield from item.nests
        else:
            yield item


def pieces(definition: Stack | Stacked) -> Iterator[tuple[View, np.ndarray, np.ndarray]]:
    """For each piece, its view, and which of its elements are at which places of the result.

    An element of a Stack's piece is the coordinate along each of its axes, of a Stacked's piece its position.
    """
    if isinstance(definition, Stacked):
        n = size(definition) // len(definition.members)
        for i, view in enumerate(definition.views):
            yield view, np.arange(n), np.arange(i * n, (i + 1) * n)
        return
    starts = np.cumsum([0, *(n for _, n in definition.pieces)])
    order = definition.order.ravel()
    of = np.searchsorted(starts, order, side="right") - 1
    for i, (view, _) in enumerate(definition.pieces):
        places = np.flatnonzero(of == i)
        yield view, order[places] - starts[i], places


def operations(array: Array) -> int:
    """How many operations an array takes for each row."""
    n = len(array.shape)
    if isinstance(array, Stack | Stacked):
        return size(array)
    return size(array) * sum(math.prod(summed(term, n).values()) for term in array.terms)


def summed(term: Sequence[Any], n: int) -> dict[int, int]:
    """The lengths of the axes that a term is summed over: those beyond the first n."""
    pairs = [pair for x in term if isinstance(x, View) for pair in zip(x.axes, x.lengths)]
    return dict(sorted((axis, length) for axis, length in pairs if axis >= n))


def _scheduled(items: Sequence[Statement | Repeat]) -> list[Any]:
    """Nests of statements: each statement in the first nest of its form that has or follows its operands."""
    nests: list[Any] = []
    home: dict[Array, int] = {}  # the place of the nest that computes an array
    first = 0  # nothing moves to before a loop
    for item in items:
        if isinstance(item, Repeat):
            nests.append(item)
            first = len(nests)
            continue
        places = [home.get(view.array, first) for view in item.views]
        begin = max([first, *places]) if _is_elementwise(item) else len(nests)
        found = (i for i in range(begin, len(nests)) if _joins(item, nests[i], i, home))
        at = next(found, len(nests))
        if at == len(nests):
            by_row = item.definition.by_row or item.is_sum_over_rows
            nests.append(Nest(item.definition.shape, by_row))
        nests[at].statements.append(item)
        home[item.array] = at
    return nests


def _is_elementwise(statement: Statement) -> bool:
    """Whether an element takes one operation and has one place."""
    if isinstance(statement.definition, Stack | Stacked) or statement.has_sums:
        return False
    return not (statement.is_sum_over_rows and statement.definition.shape)


def _joins(statement: Statement, nest: Nest, place: int, home: Mapping[Array, int]) -> bool:
    """Whether a nest may compute a statement too."""
    definition, first = statement.definition, nest.statements[0]
    by_row = definition.by_row or statement.is_sum_over_rows
    if (nest.shape, nest.by_row) != (definition.shape, by_row) or len(nest.statements) >= LONGEST:
        return False
    if isinstance(first.definition, Stack | Stacked) or (first.is_sum_over_rows and nest.shape):
        return False
    return all(view.is_whole_in(nest.shape) for view in statement.views if home.get(view.array) == place)
