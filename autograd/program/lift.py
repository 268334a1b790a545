"""lift: the arrays in a graph of scalars.

Scalars of one primitive whose operands lie in the same arrays form an array. Its axes are found by
comparing coordinates: a coordinate of the operands' elements is a column of numbers, one for each scalar,
and equal columns are one axis. Columns that agree make an element-wise operation; columns that run through
a grid make an outer product; an axis along which the terms of a sum run is contracted, as in a matrix
product. The examples are one more axis, of everything that depends on an input. Operands that do not line
up are gathered element by element.

An operand lies along the axes if its positions are affine in them, with integer strides: an axis of its
array is then a slice, or splits into several, x[4 i + j], or is a window along two, x[i + k].
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents, topological_order
from ..ops import CONDITIONS, REDUCTIONS, VECTOR_ROWS
from ..value import Constant as Number
from ..value import Value
from . import grids
from .arrays import (
    Array,
    Constant,
    Contract,
    Gather,
    Input,
    Leaf,
    Map,
    Reduce,
    Rows,
    Select,
    Spread,
    Stack,
    View,
    coordinates,
    listing,
    reached,
    size,
    whole,
)
from .grids import Columns, Part, Runs
from .scalars import Scalars, shapes_of
from .simplify import COMMUTATIVE, ROW_SUM

MOST_PIECES = 8  # slices that are stacked as the adjoints of one array
SMALLEST = 5  # groups of fewer Values are not worth an array of their operands
TOTAL = (ops.add, ops.sub, ops.mul, ops.neg, ops.dot, ops.total, *CONDITIONS)  # these are defined everywhere
ADDED = (ops.dot, ops.add, ops.total)  # their adjoints are factors in the gradient by weights
NUMBER, LEAF = -2, -1  # in a signature, instead of an array's number: a constant; a leaf in no array yet


class _Kinds(dict[Any, int]):
    """The number of the array that a scalar is in, or else NUMBER or LEAF."""

    def __missing__(self, x: Any) -> int:
        return NUMBER if _is_number(x) else LEAF


class Lifted:
    """The arrays of a graph of scalars, operands first.

    `leaves` has the arrays of live leaves; `results` those of f's outputs, or of the mean; and `gradient`, if
    it is wanted, an array of the same shape for each of `leaves`.
    """

    def __init__(self, scalars: Scalars):
        self.scalars = scalars
        self._became: Mapping[Array, Array] = {}
        self._find(scalars)
        outputs, by_row = iter(scalars.outputs), scalars.kind == "rows" and scalars.by_row
        self.results = [
            self.stacked(shape, list(itertools.islice(outputs, math.prod(shape))), by_row)
            for shape in shapes_of(scalars.form)
        ]
        self.gradient = [
            self.stacked(leaf.shape, [scalars.gradient.get(v, 0.0) for v in leaf.values.flat])
            for leaf in (self.leaves if scalars.kind == "gradient" else [])
        ]

    @property
    def outputs(self) -> list[Array]:
        """The results, and then the gradient by leaf array."""
        return [*self.results, *self.gradient]

    def __str__(self) -> str:
        return listing(reached(self.outputs) if self._became else self.arrays, self.outputs)

    def _find(self, scalars: Scalars) -> None:
        """Put every scalar into an array."""
        values = [v for v in scalars.wanted() if isinstance(v, Value)]
        inputs, leaves, rows = scalars.inputs, scalars.leaves, scalars.rows
        self.arrays: list[Array] = []
        self._numbers: dict[Array, int] = {}  # the place of each in `arrays`
        self._kind = _Kinds()  # the number of the array that a scalar is in
        self._at: dict[Value, int] = {}  # a scalar's position in that array
        order = topological_order(*values)[::-1]  # first operands come before second ones
        known = {rows, *scalars.input_leaves}
        self._rank = {v: i for i, v in enumerate(leaves)}
        # Users wait for their operands, but for live leaves. A vector, such as the operands that a layer's
        # neurons share, waits for its elements, and is known by its id.
        self._users: dict[Any, list[Any]] = {v: [] for v in [*known, *order]}
        self._missing: dict[Any, int] = {}  # how many of a user's operands are in no array
        self._ready: list[Value] = []
        self._partial: set[Array] = set()  # arrays with elements that stand for no Value
        self._heights: dict[Any, int] = {}  # how many steps lead from each to an output
        # The Values that a Value is the adjoint of; and the adjoints of sums that are in arrays, by the array
        # of the sums and the place in it.
        self._primals: dict[Value, list[Value]] = defaultdict(list)
        self._adjoints: dict[int, dict[int, Value]] = defaultdict(dict)
        for v, adjoint in scalars.adjoints.items():
            if isinstance(a := scalars.latest(adjoint), Value):
                self._primals[a].append(scalars.latest(v))
        for leaf, gradient in scalars.gradient.items():
            if isinstance(gradient, Value):
                self._primals[gradient].append(leaf)
        # The Values whose order a Value shares: it is their adjoint, or a part of that sum.
        self._beside: dict[Any, list[Value]] = dict(self._primals)
        self._stacked_once: set[Value] = set()  # Values that were operands when they were stacked
        self._borders: dict[Any, Array] = {}  # arrays between borders
        self._moved: set[int] = set()  # the numbers of arrays whose elements are in another one now

        def awaited(operands: Iterable[Any]) -> set[Any]:
            return {p for p in operands if isinstance(p, Value) and (p.row or p in known)}

        for v in order:  # here users come before operands
            users = self._users[v]
            height = self._heights[v] = 1 + max([self._heights[user] for user in users], default=-1)
            if v not in self._beside and len(users) == 1 and isinstance(users[0], Value):
                if users[0] in self._beside and users[0].row in TOTAL:
                    self._beside[v] = self._beside[users[0]]
            if v.row in VECTOR_ROWS:
                for x in (v.x,) if v.y is None else (v.x, v.y):
                    if id(x) not in self._users:
                        self._users[id(x)] = []
                        self._wait(id(x), awaited(x))
                    self._heights[id(x)] = max(height, self._heights.get(id(x), 0))
                self._wait(v, {id(x) for x in (v.x, v.y) if self._missing.get(id(x))})
            elif v.row:
                self._wait(v, awaited(parents(v)))
            if v.row and not self._missing[v]:
                self._ready.append(v)
        for i, array in enumerate(inputs):
            self._place(self._new(Input(array.shape, scalars.by_row, i)), array.ravel())
        self._place(self._new(Rows((), False)), [rows])
        self._place_declared()
        self._form_all()
        for v in order:
            if v not in self._at and not isinstance(v, Number):  # a leaf that is an output, and no operand
                self._place_leaf_array((), [v])
        self.leaves = [array for array in self.arrays if isinstance(array, Leaf)]
        first = {array: i for i, array in enumerate(_in_use(self.arrays, len(self.leaves)))}
        self.leaves.sort(key=lambda leaf: first.get(leaf, len(first)))

    def _wait(self, user: Any, operands: set[Any]) -> None:
        self._missing[user] = len(operands)
        for p in operands:
            self._users[p].append(user)

    def place(self, v: Any) -> tuple[Array, int] | None:
        """The array that a scalar is in, and its position; None for numbers and scalars not computed."""
        if not isinstance(v, Value) or v not in self._at:
            return None
        array = self.arrays[self._kind[v]]
        return self._became.get(array, array), self._at[v]

    def array_of(self, v: Any) -> Array | None:
        """The array that a scalar is in; None for numbers and scalars not computed."""
        place = self.place(v)
        return place and place[0]

    def replace(self, became: Mapping[Array, Array]) -> None:
        """Let other arrays of the same shapes and elements stand for these."""
        self._became = became
        self.results = [became.get(array, array) for array in self.results]
        self.gradient = [became.get(array, array) for array in self.gradient]

    def stacked(self, shape: Sequence[int], members: Sequence[Any], by_row: bool = False) -> Array:
        """An array of `shape` of Values and numbers; `by_row`: with rows, even if those are all equal."""
        array = self._stacked(tuple(shape), members)
        if by_row and not array.by_row:
            return self._new(Spread(array.shape, True, whole(array)))
        return array

    def _stacked(self, shape: tuple[int, ...], members: Sequence[Any]) -> Array:
        chosen: dict[int, list[int]] = {}  # which members are in each array, or are numbers
        for i, v in enumerate(members):
            chosen.setdefault(self._kind[v], []).append(i)
        if not chosen.keys() - {NUMBER}:
            return self._new(Constant(shape, False, _floats(members).reshape(shape)))
        pieces = []
        for kind, which in chosen.items():
            if kind == NUMBER:
                array: Array = self._new(Constant((len(which),), False, _floats([members[i] for i in which])))
                where = np.arange(len(which))
            else:
                array, where = self.arrays[kind], np.array([self._at[members[i]] for i in which])
            if len(chosen) == 1:
                return self._spread(array, where, shape)
            pieces.append((grids.view_of(array, where), len(which)))
        by_row = any(view.array.by_row for view, _ in pieces)
        order = np.argsort(np.concatenate(list(chosen.values())))
        if (order[1:] < order[:-1]).any() or _gathers([[view for view, _ in pieces]]):
            if tiles := self._tiles(shape, members):
                return self._tiled(shape, tiles)
        return self._new(Stack(shape, by_row, pieces, order))

    def _tiles(self, shape: tuple[int, ...], members: Sequence[Any]) -> list[tuple[Any, Array]]:
        """Blocks of an array of these members, each with its place; [] if they are many, or take gathers."""
        kinds = np.array([self._kind[v] for v in members]).reshape(shape)
        index = np.arange(len(members)).reshape(shape)
        found: list[tuple[Any, Array]] = []
        for block in grids.blocks_of(kinds, MOST_PIECES + 1):
            tile = self._stacked(index[block].shape, [members[i] for i in index[block].ravel().tolist()])
            if isinstance(tile, Spread) and isinstance(tile.view, Gather):
                return []
            found.append((block, tile))
        return found

    def _tiled(self, shape: tuple[int, ...], tiles: Sequence[tuple[Any, Array]]) -> Array:
        """A new array of blocks."""
        order = np.empty(shape, dtype=int)
        pieces, start = [], 0
        for block, array in tiles:
            n = size(array)
            order[block] = np.arange(start, start + n).reshape(array.shape)
            pieces.append((Select(array, (0,), (slice(None),), (n,)), n))
            start += n
        return self._new(Stack(shape, any(array.by_row for _, array in tiles), pieces, order.ravel()))

    def _spread(self, array: Array, where: np.ndarray, shape: tuple[int, ...]) -> Array:
        """The elements of an array that lie at these positions, as an array of `shape`."""
        view = self._viewed(array, where.reshape(shape))
        if isinstance(view, Gather):
            finer = grids.lengths_of([where])  # perhaps several axes of these are one of the shape
            if finer is not None and finer != shape:
                array = self._new(Spread(finer, array.by_row, grids.view_of(array, where.reshape(finer))))
                view = grids.view_of(array, np.arange(len(where)).reshape(shape))
        if array.shape == shape and view.is_whole:
            return array
        return self._new(Spread(shape, array.by_row, view))

    def _new(self, array: Array) -> Array:
        self._numbers[array] = len(self.arrays)
        self.arrays.append(array)
        return array

    def _place(self, array: Array, members: Iterable[Value], at: Iterable[int] | None = None) -> None:
        number = self._numbers[array]
        for v, i in zip(members, at if at is not None else itertools.count()):
            self._kind[v], self._at[v] = number, i
            for z in self._primals.get(v, ()):
                if z in self._at and z.row in ADDED:
                    of = self._adjoints[self._kind[z]]
                    of[self._at[z]] = v
                    if len(of) == size(self.arrays[self._kind[z]]):
                        self._stack_adjoints(self.arrays[self._kind[z]], [of[k] for k in range(len(of))])
            for user in self._users.get(v, ()):
                self._missing[user] -= 1
                if self._missing[user]:
                    continue
                if isinstance(user, Value):
                    self._ready.append(user)
                    continue
                for w in self._users[user]:
                    self._missing[w] -= 1
                    if not self._missing[w]:
                        self._ready.append(w)

    def _stack_adjoints(self, sums: Array, adjoints: list[Value]) -> None:
        """Stack the adjoints of an array of sums, if they lie in a few slices: of gates, of several losses.

        The gradient by weights then is one product, as the sums are.
        """
        runs = grids.runs_of([(self.arrays[self._kind[v]], self._at[v]) for v in adjoints])
        arrays = {array for array, _ in runs}
        if (
            not 1 < len(arrays) <= len(runs) <= MOST_PIECES
            or len({*adjoints}) < max(SMALLEST, len(adjoints))
            or len({array.by_row for array in arrays}) > 1
        ):
            return
        self._moved.update(map(self._numbers.__getitem__, arrays))
        self._stack(adjoints, runs, sums.shape)

    def _stack(self, values: Sequence[Value], runs: Runs, shape: tuple[int, ...]) -> None:
        """Let Values that lie in these runs be the elements of a new array."""
        first = runs[0][0]
        if len(shape) == 1 and all(
            a.shape == first.shape and where == [*range(size(a))] for a, where in runs
        ):
            shape = (len(runs), *first.shape)
        pieces = [(grids.view_of(array, np.array(where)), len(where)) for array, where in runs]
        stack = self._new(Stack(shape, first.by_row, pieces, np.arange(len(values))))
        for i, v in enumerate(values):
            self._kind[v], self._at[v] = self._numbers[stack], i

    # Which scalars form an array

    def _form_all(self) -> None:
        """Form arrays until every Value is in one.

        The group that is farthest from the outputs comes first: others may grow while they wait. Values with
        a live leaf that is in no array yet wait until nothing else is left.
        """
        groups: dict[Any, list[Value]] = {}
        heights: dict[Any, int] = {}
        farthest: list[tuple[int, int, Any]] = []  # a heap of keys by height, the oldest first
        count = itertools.count()
        alike: dict[Any, dict[Any, bool]] = defaultdict(dict)  # keys by form, and if they were compared
        families: dict[Any, dict[Any, None]] = defaultdict(dict)  # keys that differ in the number of terms
        alike_rows: dict[Any, dict[Any, None]] = defaultdict(dict)  # keys of the same row
        tried: set[Any] = set()
        waiting: list[Value] = []
        while self._ready or groups or waiting:
            for k in list(groups) if self._moved else ():
                if any(not self._moved.isdisjoint(kind) for kind, _ in k[1:]):
                    self._ready += groups.pop(k)
                    del heights[k]
            self._moved.clear()
            ready, self._ready = self._ready, []
            for v in ready:
                kinds = self._kinds(v)
                if any(LEAF in kind for kind in kinds):
                    waiting.append(v)
                    continue
                key = (v.row, *sorted(kinds.items()))
                if key not in groups:
                    groups[key] = []
                    alike[_form_of(key)][key] = False
                    alike_rows[_row_of(key)][key] = None
                    families[_family(key)][key] = None
                groups[key].append(v)
                height = self._heights[v]
                if height > heights.get(key, -1):
                    heights[key] = height
                    heapq.heappush(farthest, (-height, next(count), key))
            if groups:
                while (key := heapq.heappop(farthest)[2]) not in groups:
                    pass
                mates, family, others = alike[_form_of(key)], families[_family(key)], alike_rows[_row_of(key)]
                for keys in (mates, family, others):
                    for k in [k for k in keys if k not in groups]:
                        del keys[k]
                for kin in (self._kin(key, others, groups), tuple(family) if len(family) > 1 else ()):
                    if kin and kin not in tried:
                        tried.add(kin)
                        if self._form_together(kin, groups):
                            break
                else:
                    kin = ()
                if kin:
                    for k in kin:
                        del groups[k], heights[k]
                    continue
                if len(mates) > 1 and not all(mates.values()):
                    mates.update(dict.fromkeys(mates, True))
                    every = [groups[k] for k in mates]
                    level = [groups[k] for k in mates if heights[k] == heights[key]]
                    if self._stack_operands(level) or self._stack_operands(every, only_apart=True):
                        continue
                del heights[key]
                self._form_each(self._by_number(groups.pop(key)))
            else:
                self._place_leaves(waiting)
                self._ready, waiting = waiting, []

    def _kin(self, key: Any, level: Collection[Any], groups: Mapping[Any, list[Value]]) -> tuple[Any, ...]:
        """Of the keys of one row, those that share operands with the largest group, if key is among these.

        Sums have terms of one kind in common, and others an operand in one array.
        """
        if len(level) < 2:
            return ()
        largest = max(level, key=lambda k: len(groups[k]))
        shared = _kinds_of(largest)
        kin = tuple(k for k in level if not shared.isdisjoint(_kinds_of(k)))
        several = len(kin) > 1 and key in kin and sum(len(groups[k]) for k in kin) >= SMALLEST
        return kin if several and (_is_map(key) or shared.intersection(*map(_kinds_of, kin))) else ()

    def _form_together(self, kin: Sequence[Any], groups: Mapping[Any, list[Value]]) -> bool:
        """Make one array of groups whose operands are in other arrays, or numbers; return if it is one."""
        members = [v for k in kin for v in groups[k]]
        if not all(map(_is_map, kin)):
            return self._form_padded(members)
        _, (kinds, _) = max(kin, key=lambda k: len(groups[k]))
        return self._form_bordered(members, kinds)

    def _stack_operands(self, groups: list[list[Value]], only_apart: bool = False) -> bool:
        """Stack operands of groups that differ only in their operands' arrays, if the result is regular.

        One operand of all groups has to be in one array, at different places for each group. Four groups or
        more may share places; with `only_apart`, only if they are sums of products. Returns whether operands
        are stacked.
        """
        if len(groups) < 2 or sum(map(len, groups)) < SMALLEST:
            return False
        common = set.intersection(*({*itertools.chain(*self._kinds(group[0]))} for group in groups))
        if not common - {NUMBER}:
            return False
        slots = list(zip(*(zip(*map(_vectors, group)) for group in groups)))
        arrays = [{self._kind[x] for rows in slot for row in rows for x in row} for slot in slots]
        anchors = [slot for slot, found in zip(slots, arrays) if len(found) == 1 and NUMBER not in found]
        if not anchors:
            return False
        places = [[self._at[row[0]] for row in rows] for rows in anchors[0]]
        apart = len({*itertools.chain(*places)}) == sum(len({*of_group}) for of_group in places)
        if not apart and ((only_apart and groups[0][0].row not in VECTOR_ROWS) or len(groups) < 4):
            return False
        members = [(p, i, j) for i, of_group in enumerate(places) for j, p in enumerate(of_group)]
        if apart:
            members.sort(key=lambda member: member[0])
        before: dict[Value, tuple[int, int]] = {}
        moved: set[int] = set()
        for i, found in enumerate(arrays):
            given = any(isinstance(self.arrays[kind], Input | Leaf | Rows) for kind in found)
            if len(found) == 1 or given or NUMBER in found:
                continue
            values = list(dict.fromkeys(x for _, g, j in members for x in slots[i][g][j]))
            if not self._stacked_once.isdisjoint(values):  # two groups could stack them in turn, without end
                continue
            runs = grids.runs_of([(self.arrays[self._kind[v]], self._at[v]) for v in values])
            if len({array.by_row for array, _ in runs}) > 1 or len(runs) > len(found) + 1:
                continue
            moved |= found
            before.update((v, (self._kind[v], self._at[v])) for v in values)
            self._stack(values, runs, (len(values),))
            self._stacked_once.update(values)
        if moved:
            group = [groups[g][j] for _, g, j in members]
            parts = [grids.aligned(self._located(part))[0] for part in self._parts(group)]
            if len(parts) > 1 or not grids.node_axes(parts, len(group))[2]:
                for v, (kind, at) in before.items():
                    self._kind[v], self._at[v] = kind, at
                return False
        self._moved |= moved
        return bool(moved)

    def _kinds(self, v: Value) -> Mapping[tuple[int, ...], int]:
        """How many of v's terms have operands in the same arrays, by those arrays' numbers."""
        vectors = _vectors(v)
        if v.row in VECTOR_ROWS:
            found = [{*map(self._kind.__getitem__, xs)} for xs in vectors]
            if all(len(kinds) == 1 for kinds in found):
                return {tuple([kind for (kind,) in found]): len(vectors[0])}
            return Counter(zip(*(map(self._kind.__getitem__, xs) for xs in vectors)))
        kind = tuple([self._kind[x] for (x,) in vectors])
        return {tuple(sorted(kind)) if v.row in COMMUTATIVE else kind: 1}

    def _parts(self, group: list[Value], sums: bool = False) -> list[Columns]:
        """The operands of a group's Values, which all have the same kinds: a part for each kind.

        `sums` that differ in the number of terms, of some kinds, are all taken for sums of products.
        """
        row = group[0].row
        if row not in COMMUTATIVE and not sums and len(self._kinds(group[0])) == 1:
            return [list(zip(*map(_vectors, group)))]
        return [_transposed(list(rows.values())) for rows in self._terms_by_kind(group, sums).values()]

    def _terms_by_kind(self, group: list[Value], sums: bool = False) -> dict[Any, dict[int, list[Any]]]:
        """For each kind of terms of a group's Values, those of each Value that has some, by its place."""
        row = group[0].row
        parts: dict[Any, tuple[Any, dict[int, list[Any]]]] = {}
        for i, v in enumerate(group):
            for term in [(v.x,), (v.y,)] if sums and v.row is ops.add else zip(*_vectors(v)):
                kind = tuple([self._kind[x] for x in term])
                key = tuple(sorted(kind)) if sums or row in COMMUTATIVE else kind
                as_first, rows = parts.setdefault(key, (kind, defaultdict(list)))
                rows[i].append(term if kind == as_first else term[::-1])
        return {key: rows for key, (_, rows) in parts.items()}

    def _form_each(self, groups: Iterable[list[Value]]) -> None:
        """Make an array of each group; if that moves operands, the others are ready for other groups."""
        for group in groups:
            if self._moved:
                self._ready += group
            else:
                self._form(group)

    def _form(self, group: list[Value]) -> None:
        """Make an array of the Values of one signature."""
        v, *others = group
        if not others and v.row not in VECTOR_ROWS:
            return self._form_one(v)
        if v.row is ops.total and len(v.x) == 1:  # these are no other numbers than their terms
            first = v.x[0]
            return self._place(self.arrays[self._kind[first]], group, [self._at[w.x[0]] for w in group])
        parts = [grids.aligned(self._located(part)) for part in self._parts(group)]
        if v.row in REDUCTIONS and (len(parts) > 1 or any(map(self._has_twice, group))):
            parts = [grids.aligned([self._side_by_side(group)])]
        where = [part for part, _ in parts]
        own = functools.partial(self._own_coordinates, group)
        shape, order, regular = grids.node_axes(where, len(group), v.row is ops.dot, own)
        in_order = [[(array, positions[order]) for array, positions in part] for part in where]
        terms = self._terms(in_order, [along for _, along in parts], shape)
        if _gathers(terms) and v.row in (ops.dot, ops.total):
            terms = self._apart(in_order, shape) or terms
        filled = None
        if not regular and _gathers(terms):
            if several := grids.divided(where, len(group)):
                return self._form_each([[group[i] for i in some] for some in several])
            if filled := None if v.row in REDUCTIONS else grids.filled(where, len(group)):
                shape, order, where = filled
                terms = self._terms(where, [along for _, along in parts], shape)
        labels = {label for term in terms for x in term if isinstance(x, View) for label in x.axes}
        if shape and labels.isdisjoint(range(len(shape))):
            array = self._computed(v.row, (), terms)  # all Values of the group are equal
            for same in group:
                self._place(array, [same])
        elif filled:
            if v.row not in TOTAL and not (v.row is ops.div and isinstance(terms[0][1], float)):
                terms = [tuple([self._ones_elsewhere(x, shape, order) for x in terms[0]])]
            array = self._computed(v.row, shape, terms)
            self._partial.add(array)
            self._place(array, group, order.tolist())
        else:
            self._place(self._computed(v.row, shape, terms), [group[i] for i in order])

    def _form_bordered(self, group: list[Value], kinds: tuple[int, ...]) -> bool:
        """Make an array of Values whose operands are in arrays of these kinds, or beside their ends.

        The first cell of a rod has a number for a neighbour, or an element of another array.
        """
        rows = [[x for (x,) in _vectors(v)] for v in group]
        if group[0].row in COMMUTATIVE:
            rows = [
                xs if any(self._kind[x] == kind for x, kind in zip(xs, kinds)) else xs[::-1] for xs in rows
            ]
        slots = []
        for kind, xs in zip(kinds, zip(*rows)):
            inside = np.array([self._kind[x] == kind for x in xs])
            if kind == NUMBER:
                if not inside.all():
                    return False
                continue
            at = np.array([self._at[x] if there else 0 for x, there in zip(xs, inside)])
            slots.append((kind, xs, inside, [*coordinates(at, self.arrays[kind].shape)]))
        own = functools.partial(self._own_coordinates, group)
        if not grids.go_on([(columns, inside) for _, _, inside, columns in slots]):
            return False
        contents: dict[int, dict[tuple[int, ...], Any]] = defaultdict(dict)
        for kind, xs, inside, columns in slots:
            for i in np.flatnonzero(~inside):
                point = tuple([int(column[i]) for column in columns])
                if contents[kind].setdefault(point, self._where(xs[i])) != self._where(xs[i]):
                    return False
        between = {}
        for kind in {kind for kind, *_ in slots}:
            of = [columns for other, _, _, columns in slots if other == kind]
            found = self._between(self.arrays[kind], of, contents[kind], 0.0)
            if found is None:
                return False
            between[kind] = found[0]
        part: Part = []
        known = iter(slots)
        for kind, xs in zip(kinds, zip(*rows)):
            if kind == NUMBER:
                part.append((None, _floats(xs)[:, None]))
            else:
                *_, columns = next(known)
                array = between[kind]
                part.append(
                    (
                        array,
                        (np.zeros(len(xs), dtype=int) + grids.positions_of(columns, array.shape))[:, None],
                    )
                )
        shape, order, regular = grids.node_axes([part], len(group), False, own)
        terms = self._terms([[(array, where[order]) for array, where in part]], [()], shape)
        if not regular or _gathers(terms):
            return False
        self._place(self._computed(group[0].row, shape, terms), [group[i] for i in order])
        return True

    def _where(self, x: Any) -> Any:
        """A number, or the kind and the position of a Value."""
        return _float(x) if _is_number(x) else (self._kind[x], self._at[x])

    def _between(
        self,
        array: Array,
        slots: Sequence[list[np.ndarray]],
        contents: Mapping[tuple[int, ...], Any],
        nothing: float,
    ) -> tuple[Array, Callable[[tuple[int, ...]], Any]] | None:
        """An array between borders, so that points outside are inside; their coordinates change.

        `contents` has a number, or the kind and position of a Value, by the point where it is; `nothing` is at
        other points. Also returns a function for what is at a point. None if the borders are no slices.
        """
        if any(all(0 <= i < n for i, n in zip(point, array.shape)) for point in contents):
            return None
        sides: dict[tuple[int, int], Any] = {}  # by axis and coordinate
        lows = [0] * len(array.shape)
        for axis, n in enumerate(array.shape):
            low = lows[axis] = min(0, *(int(columns[axis].min()) for columns in slots))
            high = max(n - 1, *(int(columns[axis].max()) for columns in slots))
            border: list[list[Any]] = []
            for places in (range(low, 0), range(n, high + 1)):
                border.append([])
                for at in places:
                    points = {
                        (*(i - lows[k] for k, i in enumerate(p[:axis])), *p[axis + 1 :]): x
                        for p, x in contents.items()
                        if p[axis] == at
                        and all(0 <= i < m for i, m in zip(p[axis + 1 :], array.shape[axis + 1 :]))
                    }
                    side = sides[axis, at] = self._side(array, axis, points, nothing)
                    if side is None:
                        return None
                    border[-1].append(self._slice_at(array, axis, *side) if isinstance(side, tuple) else side)
            array = self._bordered(array, axis, *border)
            for columns in slots:
                columns[axis] = columns[axis] - low

        def content(point: tuple[int, ...]) -> Any:
            axis = max([k for k, i in enumerate(point) if (k, i) in sides], default=-1)
            side = sides.get((axis, point[axis]), nothing)
            if not isinstance(side, tuple):
                return side
            kind, grid = side
            at = (*(i - low for i, low in zip(point[:axis], lows)), *point[axis + 1 :])
            return kind, int(grid[at])

        return array, content

    def _side(self, array: Array, axis: int, points: Mapping[tuple[int, ...], Any], nothing: float) -> Any:
        """What is at one place of a border along an axis, by what is at some points: a number, or else the
        kind and positions of an array's elements; None if that is irregular.
        """
        if not points:
            return nothing
        numbers = {x for x in points.values() if isinstance(x, float)}
        if numbers:
            return numbers.pop() if len(numbers) == len({*points.values()}) == 1 else None
        kind, *more = {kind for kind, _ in points.values()}
        of = self.arrays[kind]
        lengths = (*array.shape[:axis], *array.shape[axis + 1 :])
        strides = grids.strides_of(of.shape)
        if len(of.shape) == len(array.shape):
            del strides[axis]
        if len(strides) != len(lengths):
            strides = [0] * len(lengths)
        grid = grids.affine_through({point: at for point, (_, at) in points.items()}, lengths, strides)
        if grid is None or more or of.by_row > array.by_row or grid.min() < 0 or grid.max() >= size(of):
            return None
        return kind, grid

    def _slice_at(self, array: Array, axis: int, kind: int, grid: np.ndarray) -> Array:
        """An array of the elements at these positions of another array, to lie beside `array` along an axis."""
        key = array, axis, kind, grid.tobytes()
        if key not in self._borders:
            of, shape = self.arrays[kind], (*array.shape[:axis], 1, *array.shape[axis + 1 :])
            self._borders[key] = self._new(Spread(shape, array.by_row, self._viewed(of, grid.reshape(shape))))
        return self._borders[key]

    def _viewed(self, array: Array, grid: np.ndarray) -> View:
        """The elements of an array that lie at the positions in a grid, perhaps by an array with borders.

        Neighbours on a ring, u[i - 1 mod n], or at a wall, u[max(i - 1, 0)], are slices of u between borders.
        """
        view = grids.view_of(array, grid)
        if not isinstance(view, Gather):
            return view
        columns = []
        for axis, column in enumerate(coordinates(grid, array.shape)):
            if grids.affine_of(column) is None:
                found = grids.continued(column, array.shape[axis])
                if found is None:
                    return view
                column, before, after = found
                array = self._bordered(array, axis, before, after)
            columns.append(column)
        return grids.view_of(array, grids.positions_of(columns, array.shape))

    def _bordered(self, array: Array, axis: int, before: list[Any], after: list[Any]) -> Array:
        """An array between borders along an axis: slices of it, by their coordinates, others, or numbers."""
        if not before and not after:
            return array
        key = array, axis, repr(before), repr(after)  # 0 is a coordinate, and 0.0 a number
        if key in self._borders:
            return self._borders[key]
        slices = [self._slices(array, axis, some) for some in (before, after)]
        tiles, start = [], 0
        for part in (*slices[0], array, *slices[1]):
            stop = start + part.shape[axis]
            tiles.append(((slice(None),) * axis + (slice(start, stop),), part))
            start = stop
        shape = (*array.shape[:axis], start, *array.shape[axis + 1 :])
        made = self._borders[key] = self._tiled(shape, tiles)
        if array in self._partial:
            self._partial.add(made)
        return made

    def _apart(self, parts: Sequence[Part], shape: tuple[int, ...]) -> list[tuple[Any, ...]]:
        """Terms without gathers for a sum: one for each of its terms, or for each block of an array; or []."""
        ways = [[one for part in parts for one in grids.by_term(part)]]
        if not shape:
            ways.append([one for part in parts for one in grids.by_block(part, MOST_PIECES)])
        for each in ways:
            if len(parts) < len(each) <= MOST_PIECES:
                aligned = [grids.aligned(part) for part in each]
                terms = self._terms([part for part, _ in aligned], [along for _, along in aligned], shape)
                if not _gathers(terms):
                    return terms
        return []

    def _terms(
        self, parts: Sequence[Part], along: Sequence[tuple[int, ...]], shape: tuple[int, ...]
    ) -> list[tuple[Any, ...]]:
        """A term for each part: views and numbers along the axes of a grid of Values and one of terms."""
        terms = []
        for part, inner in zip(parts, along):
            placed = [(array, positions.reshape((*shape, *inner))) for array, positions in part]
            term = [
                self._constant(grid) if array is None else self._viewed(array, grid) for array, grid in placed
            ]
            labels = {label for x in term if isinstance(x, View) for label in x.axes}
            repeats = math.prod(n for i, n in enumerate(inner, len(shape)) if i not in labels)
            terms.append(tuple(term) if repeats == 1 else (float(repeats), *term))
        return terms

    def _own_coordinates(self, group: list[Value]) -> list[np.ndarray]:
        """The coordinates of the Values whose order a group shares, if they are in one array."""
        found: dict[int, list[int]] = defaultdict(list)
        for v in group:
            known = {self._kind[z]: self._at[z] for z in self._beside.get(v, ()) if z in self._at}
            for kind, at in known.items():
                found[kind].append(at)
        for kind, places in found.items():
            if len(places) == len({*places}) == len(group):
                return [*coordinates(np.array(places), self.arrays[kind].shape)]
        return []

    def _slices(self, array: Array, axis: int, border: list[Any]) -> list[Array]:
        """The arrays of a border: slices at these coordinates along an axis, others, or of numbers."""
        slices: list[Array] = []
        for kind, some in itertools.groupby(border, lambda x: x if isinstance(x, float) else type(x)):
            if not isinstance(kind, type):
                shape = (*array.shape[:axis], len([*some]), *array.shape[axis + 1 :])
                number = self._new(Constant((), False, np.array(kind)))
                slices.append(self._new(Spread(shape, array.by_row, whole(number))))
                continue
            if kind is not int:
                slices += some
                continue
            for _, run in grids.runs_of([(array, i) for i in some]):
                step = run[1] - run[0] if len(run) > 1 else 1
                n = len(run) if step else 1
                index: list[Any] = [slice(None)] * len(array.shape)
                index[axis] = grids.slice_of(run[0], step or 1, n)
                shape = (*array.shape[:axis], n, *array.shape[axis + 1 :])
                view = Select(array, tuple(range(len(shape))), tuple(index), array.shape)
                slices += [self._new(Spread(shape, array.by_row, view))] * (len(run) // n)
        return slices

    def _has_twice(self, v: Value) -> bool:
        """Whether two terms of a reduction are one element of an array."""
        return len({(self._kind[x], self._at.get(x, x)) for x in v.x}) < len(v.x)

    def _side_by_side(self, group: list[Value]) -> tuple[Array, np.ndarray]:
        """An array of the operands of all terms of a group, and their positions there."""
        terms = [x for v in group for x in _vectors(v)[0]]
        stacked = self._stacked((len(terms),), terms)
        return stacked, np.arange(len(terms)).reshape(len(group), -1)

    def _form_padded(self, group: list[Value]) -> bool:
        """Make an array of sums of several lengths, if they line up; a product is a sum of one."""
        row = group[0].row if group[0].row in REDUCTIONS else ops.dot
        nothing = REDUCTIONS.get(row, 0.0)
        found = [*map(grids.aligned, self._padded_parts(group, nothing))]
        if not found or (row in REDUCTIONS and len(found) > 1):
            return False
        shape, order, regular = grids.node_axes([part for part, _ in found], len(group), products=True)
        if not regular:
            return False
        terms: list[tuple[Any, ...]] = []
        missing = {*range(len(shape))}
        for part, along in found:
            part = [(array, positions[order]) for array, positions in part]
            several = [self._factors(part, shape + along)]
            if _gathers(several[0]):
                if row in REDUCTIONS or part[0][1].shape[1] > MOST_PIECES:
                    return False
                several, along = [self._factors(each, shape) for each in grids.by_term(part)], ()
            for factors, masks in several:
                labels = {label for x in (*factors, *masks) if isinstance(x, View) for label in x.axes}
                missing -= labels
                if not labels.issuperset(range(len(shape), len(shape + along))) or _gathers([factors]):
                    return False
                for mask in masks:
                    factors = self._masked(factors, mask, nothing)
                terms.append(tuple(factors))
        if missing:
            return False
        self._place(self._computed(row, shape, terms), [group[i] for i in order])
        return True

    def _factors(self, part: Part, shape: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
        """The operands of a part along the axes of a grid, and its mask if it needs one."""
        placed = [(array, positions.reshape(shape)) for array, positions in part]
        factors = [
            grids.view_of(array, grid) if array else self._constant(grid)
            for array, grid in placed
            if grid.dtype != bool
        ]
        return factors, [self._constant(grid) for _, grid in placed if grid.dtype == bool and not grid.all()]

    def _padded_parts(self, group: list[Value], nothing: float) -> list[Part]:
        """A part for each kind of terms of sums that may lack some; [] if those that lack some do not line up."""
        n = len(group)
        of_kind = []
        for rows in self._terms_by_kind(group, sums=True).values():
            if nothing == 0.0:
                kept = {i: [term for term in terms if not _adds_nothing(term)] for i, terms in rows.items()}
                rows = {i: terms for i, terms in kept.items() if terms}
            of_kind.append(rows)
        of_kind = sorted(filter(None, of_kind), key=len)
        parts, ragged = [], []
        for rows in of_kind:
            if len(rows) == n:
                operands = _transposed(list(rows.values()))
                if len({*map(len, operands[0])}) > 1:
                    ragged.append(operands)
                else:
                    parts.append(self._located(operands))
        partial = [rows for rows in of_kind if len(rows) < n]
        # Either all that some sums have lies beside the elements of one array, or each kind is in its own.
        for k in dict.fromkeys((len(partial) if len(ragged) == 1 else len(partial) - 1, 0)):
            others: list[list[Any]] = [[] for _ in group]
            for i, terms in itertools.chain(*(rows.items() for rows in partial[: max(k, 0)])):
                others[i] += terms
            if any(len(term) > 1 for terms in others for term in terms) or (k and len(ragged) > 1):
                continue
            beside = [[self._where(x) for (x,) in terms] for terms in others]
            more = [self._padded(operands, nothing, beside) for operands in ragged]
            more += [self._one_or_none(rows, parts, nothing, beside) for rows in partial[max(k, 0) :]]
            if all(more):
                return [*parts, *more]
        return []

    def _one_or_none(
        self, rows: Mapping[int, list[Any]], parts: Sequence[Part], nothing: float, others: list[list[Any]]
    ) -> Part:
        """A term that some sums have, as one that all have; [] if it does not lie beside those of the parts."""
        known = np.isin(np.arange(len(others)), [*rows])
        if not parts or any(len(terms) > 1 for terms in rows.values()):
            return []
        arrays, slots = [], []
        for operand in zip(*(rows[i][0] if known[i] else rows[min(rows)][0] for i in range(len(known)))):
            array, at = self._one_located([operand])
            if array is None:
                return []
            arrays.append(array)
            slots.append(([*coordinates(at[0], array.shape)], known))
        around = [
            ([c[:, 0] for c in coordinates(where, array.shape)], np.ones_like(known))
            for part in parts
            for array, where in part
            if array
        ]
        if not grids.go_on([*slots, *around]):
            return []
        columns = [[column[:, None] for column in of] for of, _ in slots]
        return self._within(arrays, columns, known[:, None], nothing, others)

    def _padded(self, operands: Columns, nothing: float, others: list[list[Any]]) -> Part:
        """Sums of different lengths as one part, as long as the longest; [] if they do not line up."""
        rows = operands[0]
        located = [self._one_located(operand) for operand in operands]
        columns = [
            [coordinates(where, array.shape) if array else (where,) for where in of] for array, of in located
        ]
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        labelled = [grids.labels_of(array, of) for (array, _), of in zip(located, columns) if array]
        for labels in itertools.chain(*labelled):
            every = np.unique(labels[longest])
            if len(every) < len(rows[longest]) or 2 * sum(map(len, rows)) < len(rows) * len(every):
                continue
            if not all(len(np.unique(some)) == len(some) and np.isin(some, every).all() for some in labels):
                continue
            places = [np.searchsorted(every, some) for some in labels]
            there = np.zeros((len(rows), len(every)), dtype=bool)
            for i, at in enumerate(places):
                there[i, at] = True
            found = [grids.extended(of, places) for of in columns]
            extended = [of for of in found if of is not None]
            if len(extended) == len(found):
                part = self._within([array for array, _ in located], extended, there, nothing, others)
                if part:
                    return part
        return []

    def _within(
        self,
        arrays: Sequence[Array | None],
        columns: Sequence[list[np.ndarray]],
        there: np.ndarray,
        nothing: float,
        others: list[list[Any]],
    ) -> Part:
        """A part with operands at these coordinates, of which some are outside of their arrays.

        Where a sum has no term, an operand may be outside its array, as a window at a wall is: there is one
        of the `others` that the sum has, or `nothing`. Otherwise a mask is the last operand, True where there
        is a term: for queries and the keys before them, each query has a place for every key.
        """
        outside = np.zeros_like(there)
        part: Part = []
        if len(arrays) > 1 and any(others):
            return []
        for array, of in zip(arrays, columns):
            if array is None:
                part.append((None, of[0]))
                continue
            for n, where in zip(array.shape, of):
                outside |= (where < 0) | (where >= n)
            between = self._with_others(array, of, there, nothing, others if len(arrays) == 1 else [])
            if between is None:
                return []
            part.append((between, np.zeros(there.shape, dtype=int) + grids.positions_of(of, between.shape)))
        # Elements that stand for no Value are masked, as they may be infinite: ∞ · 0 is not 0.
        if (outside | there).all() and self._partial.isdisjoint(arrays):
            return part
        return [] if any(others) else [*part, (None, there)]

    def _with_others(
        self,
        array: Array,
        of: list[np.ndarray],
        there: np.ndarray,
        nothing: float,
        others: list[list[Any]],
    ) -> Array | None:
        """An array between borders of what sums have beside its elements; None if that is irregular.

        The coordinates of sums' terms change with it. `there` says which terms are elements of the array.
        """
        points = np.stack(of, axis=-1) if of else np.zeros((*there.shape, 0), dtype=int)
        contents: dict[tuple[int, ...], Any] = {}
        several = []
        for i, has in enumerate(others):
            missing = [tuple(point) for point in points[i][~there[i]].tolist()]
            missing = [p for p in missing if not all(0 <= k < n for k, n in zip(p, array.shape))]
            if len(has) > len(missing):
                return None
            if len(missing) == 1:
                x = has[0] if has else nothing
                if contents.setdefault(missing[0], x) != x:
                    return None
            elif missing:
                several.append((missing, has))
        found = self._between(array, [of], contents, nothing)
        if found is None:
            return None
        array, at = found
        is_right = all(_are_equal([*map(at, missing)], has, nothing) for missing, has in several)
        return array if is_right else None

    def _one_located(self, operand: Any) -> tuple[Array | None, list[np.ndarray]]:
        """The array of an operand, and its positions there by Value; None and numbers, if it is numbers."""
        if _is_number(operand[0][0]):
            return None, [*map(_floats, operand)]
        at = [np.array([self._at[x] for x in row]) for row in operand]
        return self.arrays[self._kind[operand[0][0]]], at

    def _masked(self, factors: list[Any], mask: Select, nothing: float) -> list[Any]:
        """Factors with `nothing` where no term is: in one of them, and in each of an array in `_partial`."""
        views = [x for x in factors if isinstance(x, View)]
        best = min(views, key=lambda x: (x.array not in self._partial, not {*mask.axes} <= {*x.axes}))
        found = []
        for view in factors:
            if view is best or (view in views and view.array in self._partial):
                labels = sorted({*mask.axes, *view.axes})
                lengths = {label: n for x in (mask, view) for label, n in zip(x.axes, x.lengths)}
                shape = tuple(lengths[label] for label in labels)
                used, x = (replace(x, axes=tuple(map(labels.index, x.axes))) for x in (mask, view))
                there = self._new(Map(shape, view.array.by_row, ops.where, (used, x, nothing)))
                view = replace(whole(there), axes=tuple(labels))
            found.append(view)
        return found

    def _ones_elsewhere(self, x: Any, shape: tuple[int, ...], at: np.ndarray) -> Any:
        """A view with 1 for elements that stand for no Value, where a primitive may not be defined."""
        if not isinstance(x, View):
            return x
        mask = np.zeros(math.prod(shape), dtype=bool)
        mask[at] = True
        used = whole(self._new(Constant(shape, False, mask.reshape(shape))))
        return whole(self._new(Map(shape, x.array.by_row, ops.where, (used, x, 1.0))))

    def _computed(self, row: Any, shape: tuple[int, ...], terms: list[tuple[Any, ...]]) -> Array:
        """A new array: a row of the table, sums of products, or a sum over the rows."""
        by_row = any(x.array.by_row for term in terms for x in term if isinstance(x, View))
        if row is ROW_SUM:
            return self._new(Contract(shape, False, terms, over_rows=True))
        if row in REDUCTIONS:
            row = {ops.largest: ops.maximum, ops.smallest: ops.minimum}.get(row, row)
            return self._new(Reduce(shape, by_row, row, terms[0]))
        if row in VECTOR_ROWS:
            products = [term for term in terms if any(isinstance(x, View) for x in term)]
            contract = self._new(Contract(shape, by_row, products))
            number = float(
                sum(math.prod(term) for term in terms if not any(isinstance(x, View) for x in term))
            )
            if not number:
                return contract
            return self._new(Map(shape, by_row, ops.add, (whole(contract), number)))
        return self._new(Map(shape, by_row, row, terms[0]))

    def _by_number(self, group: list[Value]) -> list[list[Value]]:
        """The group itself or, if operands occur with several numbers, several groups.

        There is a group for each number or, if those are many, for what computes with the products: for the
        cosines and sines of a rotation, one for each coordinate of the result.
        """
        numbers: dict[Any, list[Value]] = {}
        by_user: dict[Any, list[Value]] = defaultdict(list)
        times: Counter[Any] = Counter()  # of an operand, for users of these kinds
        others = set()
        for v in group:
            term = [x for (x,) in _vectors(v)] if v.row not in VECTOR_ROWS else []
            fixed = tuple([_float(x) for x in term if _is_number(x)])
            if not fixed:
                return [group]
            numbers.setdefault(fixed, []).append(v)
            other = tuple([x for x in term if not _is_number(x)])
            users = tuple([user.op if isinstance(user, Value) else "" for user in self._users[v]])
            others.add(other)
            times[other, users] += 1
            by_user[users, times[other, users]].append(v)
        outer = len(numbers) > 3 and len(others) * len(numbers) == len(group)
        if outer or len(others) == len(group):
            return [group]
        many = len(numbers) > 3 and len(group) < SMALLEST * len(numbers)
        return list(by_user.values() if many else numbers.values())

    def _form_one(self, v: Value) -> None:
        """Make an array of one Value, as _form would, without the time that NumPy takes."""
        term: list[Any] = []
        for (x,) in _vectors(v):
            if _is_number(x):
                term.append(_float(x))
            else:
                array, position = self.arrays[self._kind[x]], self._at[x]
                term.append(Select(array, (), coordinates(position, array.shape), array.shape))
        self._place(self._computed(v.row, (), [tuple(term)]), [v])

    def _located(self, operands: Columns) -> Part:
        """For each operand of a part's terms, its array and, by Value and term, its positions there."""
        part: Part = []
        for rows in operands:
            first = rows[0][0]
            if _is_number(first):
                part.append((None, np.array([*map(_floats, rows)])))
            else:
                where = np.array([list(map(self._at.__getitem__, row)) for row in rows])
                part.append((self.arrays[self._kind[first]], where))
        return part

    def _constant(self, grid: np.ndarray) -> Any:
        """Numbers as an operand: a float if they are all equal."""
        grid, labels = grids.varying(grid)
        if not labels:
            return float(grid)
        return Select(
            self._new(Constant(grid.shape, False, grid)), labels, (slice(None),) * grid.ndim, grid.shape
        )

    # Which live leaves form an array

    def _place_declared(self) -> None:
        """Put leaves into the arrays that the user declared.

        Labels name[0,0], name[0,1], ... through a whole grid declare an array; so do arrays and nested lists
        of two axes or more if half of them is used: a stencil leaves the corners out. A list of one axis may
        be a row of a matrix, which use will tell.
        """
        declared: dict[tuple[str, int], dict[tuple[int, ...], Value]] = {}
        names: Counter[str] = Counter()
        for v in self._rank:
            name, bracket, rest = self.scalars.label(v).partition("[")
            names[name] += 1
            indices = [i.strip() for i in rest.removesuffix("]").split(",")]
            if bracket and rest.endswith("]") and v in self._users and all(i.isdecimal() for i in indices):
                declared.setdefault((name, len(indices)), {})[tuple(map(int, indices))] = v
        for (name, _), grid in declared.items():
            shape = tuple(max(index) + 1 for index in zip(*grid))
            if math.prod(shape) == len(grid) == names[name]:
                self._place_leaf_array(
                    grids.without_ones(*shape), [grid[index] for index in np.ndindex(*shape)]
                )
        for array in self.scalars.declared:
            members = list(dict.fromkeys(array.flat)) if array.ndim > 1 else []
            used = [v for v in members if v in self._rank and v in self._users]
            free = not any(v in self._at or (v in self._users and v not in self._rank) for v in members)
            if free and len(members) == array.size > 1 and 2 * len(used) >= array.size:
                self._place_leaf_array(grids.without_ones(*array.shape), members)

    def _place_leaves(self, waiting: list[Value]) -> None:
        """Put the leaves that some of the waiting Values use into arrays, as those Values use them.

        Values that multiply leaves with an array come first, and a dot before others: rows of a matrix.
        """
        groups: dict[Any, list[Value]] = {}
        for v in waiting:
            groups.setdefault((v.row, *sorted(self._kinds(v).items())), []).append(v)

        def rank(signature: Any) -> tuple[bool, bool]:
            op, *kinds = signature
            anchored = any(LEAF in kind and max(kind) >= 0 for kind, _ in kinds)
            return anchored, op is ops.dot

        for terms in self._parts(groups[max(groups, key=rank)]):
            for leaves, others in zip(terms, terms[::-1]):  # the same two, if there is one operand
                if LEAF in (self._kind[x] for row in leaves for x in row):
                    self._place_leaves_of(leaves, others)

    def _place_leaves_of(self, leaves: list[list[Value]], others: list[list[Any]]) -> None:
        """Put leaves, a row for each Value and a column for each term, into an array.

        If the others, their partners in products or sums, are in arrays, the leaves lie as these do, and
        otherwise as given.
        """
        first = [min(self._rank[leaf] for leaf in row) for row in leaves]
        rows: list[Any] = list(dict.fromkeys(tuple(leaves[i]) for i in np.argsort(first, kind="stable")))
        shape = grids.without_ones(len(rows), len(rows[0]))
        if all(self._kind[x] >= 0 for row in others for x in row):
            located = self._located([others])
            ((_, where),) = located
            terms = np.argsort(where, axis=1, kind="stable")
            nodes = np.lexsort((first, np.min(where, axis=1)))
            rows = list(dict.fromkeys(tuple(leaves[i][t] for t in terms[i]) for i in nodes))
            aligned, along = grids.aligned(located)
            if len(rows) == len(leaves) and not along:
                shape, *_ = grids.node_axes([aligned], len(leaves))
            else:
                shape = (*grids.without_ones(len(rows)), *along)
        members = [leaf for row in rows for leaf in row]
        distinct = [leaf for leaf in dict.fromkeys(members) if leaf not in self._at]
        if len(distinct) < len(members):
            shape = grids.without_ones(len(distinct))
        self._place_leaf_array(shape, distinct)

    def _place_leaf_array(self, shape: Sequence[int], leaves: list[Value]) -> None:
        data = np.empty(len(leaves), dtype=object)
        data[:] = leaves
        self._place(self._new(Leaf(tuple(shape), False, data.reshape(tuple(shape)))), leaves)


def _vectors(v: Value) -> list[Sequence[Any]]:
    """The operands of v, each as a sequence of its elements in the terms of v."""
    x, y = v.x, v.y
    if type(x) is tuple:
        return [x] if y is None else [x, y]
    return [(x,)] if y is None else [(x,), *zip(y)] if type(y) is tuple else [(x,), (y,)]


def _gathers(terms: Iterable[Sequence[Any]]) -> bool:
    return any(isinstance(x, Gather) for term in terms for x in term)


def _is_number(x: Any) -> bool:
    """Whether x is one of the program's numbers, which is a Value among Values."""
    return type(x) is float or type(x) is Number


def _adds_nothing(term: Sequence[Any]) -> bool:
    """Whether a term of a sum is 0 or a product with 0."""
    return any(_is_number(x) and _float(x) == 0.0 for x in term)


def _float(number: Any) -> float:
    return number._data if type(number) is Number else number


def _floats(numbers: Sequence[Any]) -> np.ndarray:
    return np.array([*map(_float, numbers)])


def _are_equal(some: Sequence[Any], others: Sequence[Any], nothing: float) -> bool:
    """Whether numbers and places of Values are the same; as terms of a sum, numbers may be added up."""
    places = [Counter(x for x in each if not isinstance(x, float)) for each in (some, others)]
    numbers = [sorted(x for x in each if isinstance(x, float) and x != nothing) for each in (some, others)]
    if nothing == 0.0 and numbers[0] != numbers[1]:
        return places[0] == places[1] and math.isclose(*map(sum, numbers), rel_tol=1e-15)
    return places[0] == places[1] and numbers[0] == numbers[1]


def _is_map(key: Any) -> bool:
    """Whether the operands of a signature's row have places of their own, unlike the terms of a sum."""
    return key[0] not in VECTOR_ROWS and key[0] is not ops.add


def _row_of(key: Any) -> Any:
    """What keys share whose groups may be one, if their operands are in other arrays or numbers."""
    row, *kinds = key
    if _is_map(key):
        return (row, *(len(kind) for kind, _ in kinds))
    return row if row in REDUCTIONS else ops.dot


def _kinds_of(key: Any) -> set[Any]:
    """The kinds of a signature's terms that have no number; or the arrays of its operands, if it has one term."""
    kinds = [kind for kind, _ in key[1:]]
    if _is_map(key) or key[0] is ops.add:
        each = {x for kind in kinds for x in kind if x >= 0}
        return each if _is_map(key) else {(x,) for x in each}
    return {tuple(sorted(kind)) for kind in kinds if NUMBER not in kind}


def _family(key: Any) -> Any:
    """The key of all sums over the same arrays, of any number of terms; a product is a sum of one."""
    row, *counts = key
    kinds = {tuple(sorted(kind)) for kind, _ in counts}
    if any(NUMBER in kind for kind in kinds):
        return key
    if row in (ops.dot, ops.mul):
        return ops.dot, *sorted(kinds)
    if row in REDUCTIONS and len(kinds) == 1:
        return row, *kinds
    if row in (ops.total, ops.add):
        return ops.total, *sorted({(x,) for kind in kinds for x in kind})
    return key


def _in_use(arrays: Iterable[Array], n: int) -> dict[Array, None]:
    """The arrays of leaves in the order of their first use, but for products with 0, until there are n."""
    found: dict[Array, None] = {}
    for array in arrays:
        views = [x for term in array.terms if 0.0 not in term for x in term if isinstance(x, View)]
        found.update((view.array, None) for view in views if isinstance(view.array, Leaf))
        if len(found) == n:
            break
    return found


def _form_of(key: Any) -> Any:
    """The common part of signatures that differ only in the arrays of their operands."""
    row, *kinds = key
    if len(kinds) > 1:
        return key
    return row, *sorted((tuple([x == NUMBER for x in kind]), n) for kind, n in kinds)


def _transposed(rows: list[list[tuple[Any, ...]]]) -> list[Any]:
    """Rows by Value, term and operand as columns by operand, Value and term."""
    return list(zip(*(zip(*row) for row in rows)))
