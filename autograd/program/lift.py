"""lift: the arrays in a graph of scalars.

Scalars of one primitive whose operands lie in the same arrays form an array. Its axes are found by
comparing coordinates: those of the operands' elements are columns of numbers, one for each scalar, and
equal columns are one axis. Columns that agree make an element-wise operation; columns that run through
a grid, an outer product; and what the terms of a sum run along is contracted: a matrix product. The
examples are one more axis, of everything that depends on an input. What does not line up is gathered
element by element.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents, topological_order
from ..value import Constant as Number
from ..value import Value
from .arrays import (
    Array,
    Constant,
    Contract,
    Gather,
    Input,
    Leaf,
    Map,
    Rows,
    Select,
    Spread,
    Stack,
    View,
    coordinates,
    whole,
)
from .simplify import COMMUTATIVE, ROW_SUM

NUMBER, LEAF = -2, -1  # in a signature, instead of an array's number: a constant; a leaf in no array yet


class Lifted:
    """The arrays of outputs' graph, operands first; `places[v]` is the array of v and its position there.

    `inputs` has an array of leaves for each argument; `leaves` are the live ones, in the order that
    their arrays are to have; `rows` stands for the number of rows.
    """

    def __init__(
        self, outputs: Iterable[Value], inputs: Sequence[np.ndarray], leaves: Iterable[Value], rows: Value
    ):
        self.arrays: list[Array] = []
        self._numbers: dict[Array, int] = {}  # their places there
        self.places: dict[Value, tuple[Array, int]] = {}
        order = topological_order(*outputs)[::-1]  # in which first operands come before second ones
        known = {rows, *(v for leaves in inputs for v in leaves.flat)}
        self._rank = {v: i for i, v in enumerate(leaves)}
        self._users: dict[Value, list[Value]] = {v: [] for v in [*known, *order]}
        self._missing: dict[Value, int] = {}  # how many of its operands are in no array; leaves do not count
        self._ready: list[Value] = []
        for v in order:
            if v.row:
                operands = {p for p in parents(v) if p.row or p in known}
                for p in operands:
                    self._users[p].append(v)
                self._missing[v] = len(operands)
                if not operands:
                    self._ready.append(v)
        for i, leaves in enumerate(inputs):
            self._place(self._new(Input(leaves.shape, True, i)), leaves.ravel())
        self._place(self._new(Rows((), False)), [rows])
        self._form_all()
        for v in order:
            if v not in self.places and not isinstance(
                v, Number
            ):  # a leaf that is an output, and meets nothing
                self._place_leaf_array((), [v])

    def stacked(self, shape: Sequence[int], members: Sequence[Any], by_row: bool = False) -> Array:
        """An array of `shape` of Values and numbers; `by_row`: with rows, even if those are all equal."""
        array = self._stacked(tuple(shape), members)
        if by_row and not array.by_row:
            return self._new(Spread(array.shape, True, whole(array)))
        return array

    def _stacked(self, shape: tuple[int, ...], members: Sequence[Any]) -> Array:
        axes = [ranks for ranks in coordinates(np.arange(len(members)), shape) if ranks.any()]
        chosen: dict[Array | None, list[int]] = {}  # which members are in each array, or are numbers
        for i, v in enumerate(members):
            chosen.setdefault(self.places[v][0] if isinstance(v, Value) else None, []).append(i)
        if list(chosen) == [None]:
            return self._new(Constant(shape, False, np.reshape(members, shape)))
        pieces = []
        for array, which in chosen.items():
            if array is None:
                array = self._new(Constant((len(which),), False, np.array([members[i] for i in which])))
                where = np.arange(len(which))
            else:
                where = np.array([self.places[members[i]][1] for i in which])
            if len(chosen) == 1:
                view = _view(array, where[:, None], axes, [])
                if array.shape == shape and view.is_whole:
                    return array
                return self._new(Spread(shape, array.by_row, view))
            pieces.append((_view(array, where[:, None], [np.arange(len(which))], []), len(which)))
        by_row = any(view.array.by_row for view, _ in pieces)
        order = np.argsort(np.concatenate(list(chosen.values())))
        return self._new(Stack(shape, by_row, pieces, order))

    def _new(self, array: Array) -> Array:
        self._numbers[array] = len(self.arrays)
        self.arrays.append(array)
        return array

    def _place(self, array: Array, members: Iterable[Value]) -> None:
        for i, v in enumerate(members):
            self.places[v] = (array, i)
            for user in self._users[v]:
                self._missing[user] -= 1
                if not self._missing[user]:
                    self._ready.append(user)

    # Which scalars form an array

    def _form_all(self) -> None:
        """Form arrays until every Value is in one.

        The Values of one signature become ready together, so that a group is whole when it is formed.
        Those that meet a live leaf which is in no array yet wait until nothing else is left.
        """
        groups: dict[Any, list[Value]] = {}
        waiting: list[Value] = []
        while self._ready or groups or waiting:
            ready, self._ready = self._ready, []
            for v in ready:
                kinds = self._kinds(v)
                if any(LEAF in kind for kind in kinds):
                    waiting.append(v)
                else:
                    groups.setdefault((v.row, *sorted(kinds.items())), []).append(v)
            if groups:
                for group in self._by_number(groups.pop(next(iter(groups)))):
                    self._form(group)
            else:
                self._place_leaves(waiting)
                self._ready, waiting = waiting, []

    def _kinds(self, v: Value) -> Counter[tuple[int, ...]]:
        """How many of v's terms have operands in the same arrays, by those arrays' numbers."""
        kinds = (tuple([self._kind(x) for x in term]) for term in _terms(v))
        return Counter((tuple(sorted(kind)) for kind in kinds) if v.row in COMMUTATIVE else kinds)

    def _kind(self, x: Any) -> int:
        if isinstance(x, float):
            return NUMBER
        place = self.places.get(x)
        return LEAF if place is None else self._numbers[place[0]]

    def _parts(self, group: list[Value]) -> list[list[list[tuple[Any, ...]]]]:
        """The terms of a group's Values: a part for each kind, in it a row for each Value."""
        parts: dict[Any, tuple[Any, dict[int, list[Any]]]] = {}
        for i, v in enumerate(group):
            for term in _terms(v):
                kind = tuple([self._kind(x) for x in term])
                key = tuple(sorted(kind)) if v.row in COMMUTATIVE else kind
                as_first, rows = parts.setdefault(key, (kind, defaultdict(list)))
                rows[i].append(term if kind == as_first else term[::-1])
        return [list(rows.values()) for _, rows in parts.values()]

    def _form(self, group: list[Value]) -> None:
        """Make an array of the Values of one signature."""
        v, *others = group
        if not others and v.row not in (ops.dot, ops.total):
            return self._form_one(v)
        parts = [self._located(rows) for rows in self._parts(group)]
        nodes = _node_axes(parts, len(group))
        shape = _lengths(nodes)
        terms = []
        for part in parts:
            part, along = _aligned(part)
            term = [
                self._constant(where, nodes, along) if array is None else _view(array, where, nodes, along)
                for array, where in part
            ]
            labels = {label for x in term if isinstance(x, View) for label in x.axes}
            repeats = math.prod(n for i, n in enumerate(_lengths(along), len(nodes)) if i not in labels)
            terms.append(tuple(term) if repeats == 1 else (float(repeats), *term))
        labels = {label for term in terms for x in term if isinstance(x, View) for label in x.axes}
        if nodes and labels.isdisjoint(range(len(nodes))):
            array = self._computed(v.row, (), terms)  # they are all the same
            for same in group:
                self._place(array, [same])
        else:
            members = [group[i] for i in np.argsort(_positions(nodes))] if nodes else group
            self._place(self._computed(v.row, shape, terms), members)

    def _computed(self, row: Any, shape: tuple[int, ...], terms: list[tuple[Any, ...]]) -> Array:
        """A new array: a row of the table, sums of products, or a sum over the rows."""
        by_row = any(x.array.by_row for term in terms for x in term if isinstance(x, View))
        if row is ROW_SUM:
            return self._new(Contract(shape, False, terms, over_rows=True))
        if row in (ops.dot, ops.total):
            return self._new(Contract(shape, by_row, terms))
        return self._new(Map(shape, by_row, row, terms[0]))

    def _by_number(self, group: list[Value]) -> list[list[Value]]:
        """The group itself, or, if operands are there with several numbers, a group for each number."""
        numbers: dict[Any, list[Value]] = {}
        others = set()
        for v in group:
            term = _terms(v)[0] if v.row not in (ops.dot, ops.total) else ()
            fixed = tuple([x for x in term if isinstance(x, float)])
            if not fixed:
                return [group]
            numbers.setdefault(fixed, []).append(v)
            others.add(tuple([x for x in term if not isinstance(x, float)]))
        whole = len(others) == len(group) or len(others) == 1 < len(group) - 1
        return [group] if whole else list(numbers.values())

    def _form_one(self, v: Value) -> None:
        """Make an array of one Value, as _form would, but for the time that NumPy takes."""
        term: list[Any] = []
        (operands,) = _terms(v)
        for x in operands:
            if isinstance(x, float):
                term.append(x)
            else:
                array, position = self.places[x]
                term.append(Select(array, (), coordinates(position, array.shape)))
        self._place(self._computed(v.row, (), [tuple(term)]), [v])

    def _located(self, rows: list[list[tuple[Any, ...]]]) -> Part:
        """For each operand of a part's terms, the array it is in and, by Value and term, where."""
        part: Part = []
        for operands in _transposed(rows):
            first = next(itertools.chain(*operands))
            if isinstance(first, float):
                part.append((None, np.array(operands)))
            else:
                where = [[self.places[x][1] for x in row] for row in operands]
                part.append((self.places[first][0], np.array(where)))
        return part

    def _constant(self, numbers: np.ndarray, nodes: Axes, along: Axes) -> Any:
        """Numbers as an operand: a float if they are all equal."""
        grid, labels = _grid(numbers, nodes, along)
        if not labels:
            return float(grid)
        return Select(self._new(Constant(grid.shape, False, grid)), labels, (slice(None),) * grid.ndim)

    # Which live leaves form an array

    def _place_leaves(self, waiting: list[Value]) -> None:
        """Put the leaves that some of the waiting Values meet into arrays, as those use them.

        Best are those that meet them in products with an array, in a dot before all: rows of a matrix.
        """
        groups: dict[Any, list[Value]] = {}
        for v in waiting:
            groups.setdefault((v.row, *sorted(self._kinds(v).items())), []).append(v)

        def rank(signature: Any) -> tuple[bool, bool]:
            op, *kinds = signature
            anchored = any(LEAF in kind and max(kind) >= 0 for kind, _ in kinds)
            return anchored, op is ops.dot

        for rows in self._parts(groups[max(groups, key=rank)]):
            terms = _transposed(rows)
            for leaves, others in zip(terms, terms[::-1]):  # which are the same, if there is one operand
                if LEAF in (self._kind(x) for row in leaves for x in row):
                    self._place_leaves_of(leaves, others)

    def _place_leaves_of(self, leaves: list[list[Value]], others: list[list[Any]]) -> None:
        """Put leaves, a row for each Value and a column for each term, into an array.

        They lie as the others, which they are multiplied with or added to, if those are; else as given.
        """
        first = [min(self._rank[leaf] for leaf in row) for row in leaves]
        rows: list[Any] = list(dict.fromkeys(tuple(leaves[i]) for i in np.argsort(first, kind="stable")))
        shape = _without_ones(len(rows), len(rows[0]))
        if all(self._kind(x) >= 0 for row in others for x in row):
            located = self._located([[(x,) for x in row] for row in others])
            ((_, where),) = located
            terms = np.argsort(where, axis=1, kind="stable")
            nodes = np.lexsort((first, np.min(where, axis=1)))
            rows = list(dict.fromkeys(tuple(leaves[i][t] for t in terms[i]) for i in nodes))
            _, along = _aligned(located)
            if len(rows) == len(leaves) and not along:
                shape = _lengths(_node_axes([located], len(leaves)))
            else:
                shape = (*_without_ones(len(rows)), *_lengths(along))
        members = [leaf for row in rows for leaf in row]
        distinct = [leaf for leaf in dict.fromkeys(members) if leaf not in self.places]
        if len(distinct) < len(members):
            shape = _without_ones(len(distinct))
        self._place_leaf_array(shape, distinct)

    def _place_leaf_array(self, shape: Sequence[int], leaves: list[Value]) -> None:
        data = np.empty(len(leaves), dtype=object)
        data[:] = leaves
        self._place(self._new(Leaf(tuple(shape), False, data.reshape(tuple(shape)))), leaves)


# Coordinates. An axis is a column of ranks, 0, 1, ...: for each of an array's Values, or for each term
# of a sum, where along the axis it lies.

Axes = list[np.ndarray]
# For each operand: its array, or None for numbers; and where it is there, by Value and term.
Part = list[tuple[Any, np.ndarray]]


def _terms(v: Value) -> Sequence[tuple[Any, ...]]:
    if v.row is ops.where:
        return [(v.x, *(y._data if isinstance(y, Number) else y for y in v.y))]
    operands = (v.x,) if v.y is None else (v.x, v.y)
    return list(zip(*operands)) if isinstance(v.x, tuple) else (operands,)


def _transposed(rows: list[list[tuple[Any, ...]]]) -> list[Any]:
    """By operand, Value and term what is by Value, term and operand."""
    return list(zip(*(zip(*row) for row in rows)))


def _without_ones(*lengths: int) -> tuple[int, ...]:
    return tuple(n for n in lengths if n != 1)


def _ranked(array: Any, where: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each axis of an array, the coordinates at which it is used, sorted, and which of them by use."""
    found = []
    for length, column in zip(array.shape, coordinates(where, array.shape)) if array else ():
        used = np.zeros(length, dtype=bool)
        used[column] = True
        found.append((np.flatnonzero(used), (np.cumsum(used) - 1)[column]))
    return found


def _positions(axes: Axes) -> np.ndarray:
    """Where the points of a grid with these axes lie in the flattened array."""
    positions = np.zeros_like(axes[0])
    for axis, length in zip(axes, _lengths(axes)):
        positions = positions * length + axis
    return positions


def _lengths(axes: Axes) -> tuple[int, ...]:
    return tuple(int(axis.max()) + 1 for axis in axes)


def _independent(columns: Iterable[np.ndarray], n: int) -> Axes | None:
    """The distinct ones of columns, if they run through a whole grid of n points, each once."""
    axes = list({column.tobytes(): column for column in columns if column.any()}.values())
    shape = _lengths(axes)
    if math.prod(shape) != n:
        return None
    if axes and len(np.unique(_positions(axes))) < n:
        return None
    return axes


def _node_axes(parts: list[Part], n: int) -> Axes:
    """The axes of an array of n Values: those of their operands along which no sum runs."""
    kept = []
    for part in parts:
        for array, where in part:
            columns = [r[:, 0] for _, r in _ranked(array, where) if r.any() and (r == r[:, :1]).all()]
            kept.append((len(columns), bool(array) and array.by_row, columns))
    kept.sort(key=lambda entry: entry[:2], reverse=True)
    for choice in ([c for *_, columns in kept for c in columns], *(columns for *_, columns in kept)):
        axes = _independent(choice, n)
        if axes is not None:
            return axes
    return [np.arange(n)]


def _aligned(part: Part) -> tuple[Part, Axes]:
    """A part with the terms of each Value in an order that all have in common, and the axes of terms."""
    (_, where), *_ = part
    n = where.shape[1]
    for _, first in reversed(part):
        order = np.lexsort((*(where for _, where in part), first), axis=1)
        sorted_part = [(array, np.take_along_axis(where, order, axis=1)) for array, where in part]
        columns = [r for array, where in sorted_part for _, r in _ranked(array, where)]
        axes = _independent([r[0] for r in columns if (r == r[:1]).all()], n)
        if axes is not None:
            return sorted_part, axes
    return part, [np.arange(n)]


def _view(array: Array, where: np.ndarray, nodes: Axes, along: Axes) -> View:
    """The elements of an array that lie at the given positions, by Value and term, along these axes."""
    index: list[Any] = []
    labels: list[int] = []
    for length, (values, ranks) in zip(array.shape, _ranked(array, where)):
        if len(values) == 1:
            index += values.tolist()
            continue
        label = _label(ranks, nodes, along)
        start, step = int(values[0]), int(values[1] - values[0])
        if label is None or label in labels or (values[1:] - values[:-1] != step).any():
            grid, grid_labels = _grid(where, nodes, along)
            return Gather(array, grid_labels, grid)
        whole = len(values) == length
        index.append(slice(None) if whole else slice(start, int(values[-1]) + 1, step if step > 1 else None))
        labels.append(label)
    return Select(array, tuple(labels), tuple(index))


def _label(ranks: np.ndarray, nodes: Axes, along: Axes) -> int | None:
    """The axis that a column of coordinates runs along."""
    for label, axis in enumerate(nodes):
        if (ranks == axis[:, None]).all():
            return label
    for label, axis in enumerate(along, len(nodes)):
        if (ranks == axis).all():
            return label
    return None


def _grid(numbers: np.ndarray, nodes: Axes, along: Axes) -> tuple[np.ndarray, tuple[int, ...]]:
    """Numbers by Value and term as an array with an axis for each of those along which they vary."""
    shape = (*_lengths(nodes), *_lengths(along))
    grid = np.empty(shape, dtype=numbers.dtype)
    coordinates = (*(axis[:, None] for axis in nodes), *(axis[None, :] for axis in along))
    grid[coordinates or ...] = numbers
    labels = []
    for axis in range(len(shape)):
        first = np.take(grid, [0], axis=axis)
        if (grid == first).all():
            grid = first
        else:
            labels.append(axis)
    return grid.reshape([shape[axis] for axis in labels]), tuple(labels)
