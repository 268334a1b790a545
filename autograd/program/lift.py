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

import heapq
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents, topological_order
from ..ops import CONDITIONS, REDUCTIONS, VECTOR_ROWS
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
    Reduce,
    Rows,
    Select,
    Spread,
    Stack,
    View,
    Window,
    coordinates,
    listing,
    reached,
    size,
    whole,
)
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
        # The sums that a Value is the adjoint of, and the adjoints that are in an array, by the array of the
        # sums and the place in it.
        self._sums: dict[Value, list[Value]] = defaultdict(list)
        self._adjoints: dict[int, dict[int, Value]] = defaultdict(dict)
        for v, adjoint in scalars.adjoints.items():
            if v.row in ADDED and isinstance(a := scalars.latest(adjoint), Value):
                self._sums[a].append(scalars.latest(v))
        self._stacked_once: set[Value] = set()  # Values that were operands when they were stacked
        self._moved: set[int] = set()  # the numbers of arrays whose elements are in another one now

        def awaited(operands: Iterable[Any]) -> set[Any]:
            return {p for p in operands if isinstance(p, Value) and (p.row or p in known)}

        for v in order:  # here users come before operands
            height = self._heights[v] = 1 + max([self._heights[user] for user in self._users[v]], default=-1)
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
            pieces.append((_view(array, where), len(which)))
        by_row = any(view.array.by_row for view, _ in pieces)
        order = np.argsort(np.concatenate(list(chosen.values())))
        return self._new(Stack(shape, by_row, pieces, order))

    def _spread(self, array: Array, where: np.ndarray, shape: tuple[int, ...]) -> Array:
        """The elements of an array that lie at these positions, as an array of `shape`."""
        view = _view(array, where.reshape(shape))
        if isinstance(view, Gather):
            finer = _lengths([where])  # perhaps several axes of these are one of the shape
            if finer is not None and finer != shape:
                array = self._new(Spread(finer, array.by_row, _view(array, where.reshape(finer))))
                view = _view(array, np.arange(len(where)).reshape(shape))
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
            for z in self._sums.get(v, ()):
                if z in self._at:
                    of = self._adjoints[self._kind[z]]
                    of[self._at[z]] = v
                    if len(of) == size(self.arrays[self._kind[z]]):
                        self._stack_adjoints(self.arrays[self._kind[z]], [of[k] for k in range(len(of))])
            for user in self._users[v]:
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
        runs = _runs([(self.arrays[self._kind[v]], self._at[v]) for v in adjoints])
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
        pieces = [(_view(array, np.array(where)), len(where)) for array, where in runs]
        stack = self._new(Stack(shape, runs[0][0].by_row, pieces, np.arange(len(values))))
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
        alike: dict[Any, list[Any]] = defaultdict(list)  # keys by height and primitive
        families: dict[Any, dict[Any, None]] = defaultdict(dict)  # keys that differ in the number of terms
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
                    if family := _family(key):
                        families[family][key] = None
                groups[key].append(v)
                height = self._heights[v]
                if height > heights.get(key, -1):
                    heights[key] = height
                    heapq.heappush(farthest, (-height, next(count), key))
                    alike[height, v.row].append(key)
            if groups:
                while (key := heapq.heappop(farthest)[2]) not in groups:
                    pass
                family = _family(key)
                kin = tuple(k for k in families.get(family, ()) if k in groups)
                if len(kin) > 1 and kin not in tried:
                    tried.add(kin)
                    if self._form_padded([v for k in kin for v in groups[k]]):
                        for k in kin:
                            del groups[k], heights[k]
                        continue
                mates = alike.pop((heights[key], key[0]), [])  # they are compared once
                if len(mates) > 1:
                    form = _form_of(key)
                    mates = [k for k in dict.fromkeys(mates) if heights.get(k) == heights[key]]
                    alike[heights[key], key[0]] = [k for k in mates if _form_of(k) != form]
                    mates = [k for k in mates if _form_of(k) == form]
                if len(mates) > 1 and self._stack_operands([groups[k] for k in mates]):
                    continue
                del heights[key]
                for group in self._by_number(groups.pop(key)):
                    self._form(group)
            else:
                self._place_leaves(waiting)
                self._ready, waiting = waiting, []

    def _stack_operands(self, groups: list[list[Value]]) -> bool:
        """Stack operands of groups that differ only in their operands' arrays, if the result is regular.

        One operand of all groups has to be in one array, at different places for each group unless there are
        four groups or more. Returns whether operands are stacked.
        """
        if sum(map(len, groups)) < SMALLEST:
            return False
        slots = list(zip(*(zip(*map(_vectors, group)) for group in groups)))
        arrays = [{self._kind[x] for rows in slot for row in rows for x in row} for slot in slots]
        anchors = [slot for slot, found in zip(slots, arrays) if len(found) == 1 and NUMBER not in found]
        if not anchors:
            return False
        places = [[self._at[row[0]] for row in rows] for rows in anchors[0]]
        apart = len({*itertools.chain(*places)}) == sum(len({*of_group}) for of_group in places)
        if not apart and len(groups) < 4:
            return False
        members = [(p, v) for of_group, group in zip(places, groups) for p, v in zip(of_group, group)]
        if apart:
            members.sort(key=lambda member: member[0])
        before: dict[Value, tuple[int, int]] = {}
        moved: set[int] = set()
        for i, found in enumerate(arrays):
            given = any(isinstance(self.arrays[kind], Input | Leaf | Rows) for kind in found)
            if len(found) == 1 or given or NUMBER in found:
                continue
            values = list(dict.fromkeys(x for _, v in members for x in _vectors(v)[i]))
            if not self._stacked_once.isdisjoint(values):  # two groups could stack them in turn, without end
                continue
            runs = _runs([(self.arrays[self._kind[v]], self._at[v]) for v in values])
            if len({array.by_row for array, _ in runs}) > 1 or len(runs) > len(found) + 1:
                continue
            moved |= found
            before.update((v, (self._kind[v], self._at[v])) for v in values)
            self._stack(values, runs, (len(values),))
            self._stacked_once.update(values)
        if moved:
            group = [v for _, v in members]
            parts = [_aligned(self._located(part))[0] for part in self._parts(group)]
            if len(parts) > 1 or not _node_axes(parts, len(group))[2]:
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

    def _parts(self, group: list[Value]) -> list[Columns]:
        """The operands of a group's Values, which all have the same kinds: a part for each kind."""
        row = group[0].row
        if row not in COMMUTATIVE and len(self._kinds(group[0])) == 1:
            return [list(zip(*map(_vectors, group)))]
        parts: dict[Any, tuple[Any, dict[int, list[Any]]]] = {}
        for i, v in enumerate(group):
            for term in zip(*_vectors(v)):
                kind = tuple([self._kind[x] for x in term])
                key = tuple(sorted(kind)) if row in COMMUTATIVE else kind
                as_first, rows = parts.setdefault(key, (kind, defaultdict(list)))
                rows[i].append(term if kind == as_first else term[::-1])
        return [_transposed(list(rows.values())) for _, rows in parts.values()]

    def _form(self, group: list[Value]) -> None:
        """Make an array of the Values of one signature."""
        v, *others = group
        if not others and v.row not in VECTOR_ROWS:
            return self._form_one(v)
        if v.row is ops.total and len(v.x) == 1:  # these are no other numbers than their terms
            first = v.x[0]
            return self._place(self.arrays[self._kind[first]], group, [self._at[w.x[0]] for w in group])
        parts = [_aligned(self._located(part)) for part in self._parts(group)]
        if v.row in REDUCTIONS and (len(parts) > 1 or any(len({*w.x}) < len(w.x) for w in group)):
            parts = [_aligned([self._side_by_side(group)])]
        where = [part for part, _ in parts]
        shape, order, regular = _node_axes(where, len(group), v.row is ops.dot)
        if not regular and (several := _divided(where, len(group))):
            for some in several:
                self._form([group[i] for i in some])
            return
        filled = None if regular or v.row in REDUCTIONS else _filled(where, len(group))
        if filled:
            shape, order, where = filled
        else:
            where = [[(array, positions[order]) for array, positions in part] for part in where]
        terms = []
        for part, (_, along) in zip(where, parts):
            grids = [(array, positions.reshape((*shape, *along))) for array, positions in part]
            term = [self._constant(grid) if array is None else _view(array, grid) for array, grid in grids]
            labels = {label for x in term if isinstance(x, View) for label in x.axes}
            repeats = math.prod(n for i, n in enumerate(along, len(shape)) if i not in labels)
            terms.append(tuple(term) if repeats == 1 else (float(repeats), *term))
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

    def _side_by_side(self, group: list[Value]) -> tuple[Array, np.ndarray]:
        """An array of the operands of all terms of a group, and their positions there."""
        terms = [x for v in group for x in _vectors(v)[0]]
        stacked = self._stacked((len(terms),), terms)
        return stacked, np.arange(len(terms)).reshape(len(group), -1)

    def _form_padded(self, group: list[Value]) -> bool:
        """Make an array of sums of several lengths, if they line up; a product is a sum of one."""
        row = group[0].row if group[0].row in REDUCTIONS else ops.dot
        rows: list[list[tuple[Any, ...]]] = []
        for v in group:
            terms = [(v.x,), (v.y,)] if v.row is ops.add else list(zip(*_vectors(v)))
            first = self._kind[rows[0][0][0]] if rows else self._kind[terms[0][0]]
            rows.append([term if self._kind[term[0]] == first else term[::-1] for term in terms])
        padded = self._padded(_transposed(rows)) if len({*map(len, rows)}) > 1 else []
        if not padded:
            return False
        part, along = _aligned(padded)
        shape, order, regular = _node_axes([part], len(group), products=True)
        grids = [(array, positions[order].reshape((*shape, *along))) for array, positions in part]
        factors = [_view(array, grid) for array, grid in grids if array]
        mask = self._constant(grids[-1][1])
        labels = {label for x in (*factors, mask) for label in x.axes}
        if not regular or len(labels) < len(shape + along) or any(isinstance(x, Gather) for x in factors):
            return False
        term = self._masked(factors, mask, REDUCTIONS.get(row, 0.0))
        self._place(self._computed(row, shape, [tuple(term)]), [group[i] for i in order])
        return True

    def _padded(self, operands: Columns) -> Part:
        """Sums of different lengths as one part, as long as the longest; [] if they do not line up.

        A mask is added as the last operand, True where there is a term: for queries and the keys before them,
        each query has a place for every key.
        """
        rows = operands[0]
        arrays = [self.arrays[self._kind[operand[0][0]]] for operand in operands]
        columns = [
            [coordinates(np.array([self._at[x] for x in row]), array.shape) for row in operand]
            for array, operand in zip(arrays, operands)
        ]
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        for labels in (column for operand in columns for column in zip(*operand)):
            every = np.unique(labels[longest])
            if len(every) < len(rows[longest]) or 2 * sum(map(len, rows)) < len(rows) * len(every):
                continue
            if not all(len(np.unique(some)) == len(some) and np.isin(some, every).all() for some in labels):
                continue
            places = [np.searchsorted(every, some) for some in labels]
            there = np.zeros((len(rows), len(every)), dtype=bool)
            for i, at in enumerate(places):
                there[i, at] = True
            part: Part = [(array, _extended(array, of, places)) for array, of in zip(arrays, columns)]
            if all(where is not None for _, where in part):
                return [*part, (None, there)]
        return []

    def _masked(self, factors: list[View], mask: Select, nothing: float) -> list[View]:
        """Factors with `nothing` where no term is: in one of them, and in each of an array in `_partial`."""
        best = min(factors, key=lambda x: (x.array not in self._partial, not {*mask.axes} <= {*x.axes}))
        found = []
        for view in factors:
            if view is best or view.array in self._partial:
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
            return self._new(Contract(shape, by_row, terms))
        return self._new(Map(shape, by_row, row, terms[0]))

    def _by_number(self, group: list[Value]) -> list[list[Value]]:
        """The group itself or, if operands occur with several numbers, a group for each number."""
        numbers: dict[Any, list[Value]] = {}
        others = set()
        for v in group:
            term = [x for (x,) in _vectors(v)] if v.row not in VECTOR_ROWS else []
            fixed = tuple([_float(x) for x in term if _is_number(x)])
            if not fixed:
                return [group]
            numbers.setdefault(fixed, []).append(v)
            others.add(tuple([x for x in term if not _is_number(x)]))
        outer = len(numbers) > 3 and len(others) * len(numbers) == len(group)
        return [group] if outer or len(others) == len(group) else list(numbers.values())

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
        grid, labels = _varying(grid)
        if not labels:
            return float(grid)
        return Select(
            self._new(Constant(grid.shape, False, grid)), labels, (slice(None),) * grid.ndim, grid.shape
        )

    # Which live leaves form an array

    def _place_declared(self) -> None:
        """Put leaves into the arrays that the user declared.

        Labels name[0,0], name[0,1], ... through a whole grid declare an array; so do arrays and nested lists
        of two axes or more. A list of one may be a row of a matrix, which use will tell.
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
                self._place_leaf_array(_without_ones(*shape), [grid[index] for index in np.ndindex(*shape)])
        for array in self.scalars.declared:
            members = list(dict.fromkeys(array.flat)) if array.ndim > 1 else []
            free = all(v in self._rank and v in self._users and v not in self._at for v in members)
            if free and len(members) == array.size > 1:
                self._place_leaf_array(_without_ones(*array.shape), members)

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
        shape = _without_ones(len(rows), len(rows[0]))
        if all(self._kind[x] >= 0 for row in others for x in row):
            located = self._located([others])
            ((_, where),) = located
            terms = np.argsort(where, axis=1, kind="stable")
            nodes = np.lexsort((first, np.min(where, axis=1)))
            rows = list(dict.fromkeys(tuple(leaves[i][t] for t in terms[i]) for i in nodes))
            aligned, along = _aligned(located)
            if len(rows) == len(leaves) and not along:
                shape, *_ = _node_axes([aligned], len(leaves))
            else:
                shape = (*_without_ones(len(rows)), *along)
        members = [leaf for row in rows for leaf in row]
        distinct = [leaf for leaf in dict.fromkeys(members) if leaf not in self._at]
        if len(distinct) < len(members):
            shape = _without_ones(len(distinct))
        self._place_leaf_array(shape, distinct)

    def _place_leaf_array(self, shape: Sequence[int], leaves: list[Value]) -> None:
        data = np.empty(len(leaves), dtype=object)
        data[:] = leaves
        self._place(self._new(Leaf(tuple(shape), False, data.reshape(tuple(shape)))), leaves)


# Coordinates. An operand's elements have an array of positions, by Value and term. The Values, and the terms
# of each, are the points of a grid: its axes are found so that positions are affine in them. For example,
# C[i*n + j] = Σₚ A[i*k + p] B[p*n + j]: A's positions are k i by Value plus p by term, B's are j plus n p.

Runs = list[tuple[Any, list[int]]]  # arrays, each with evenly spaced positions
Columns = list[Any]  # operands, by Value and term
# For each operand: its array, or None for numbers; its positions there, or the numbers, by Value and term.
Part = list[tuple[Any, np.ndarray]]


def _vectors(v: Value) -> list[Sequence[Any]]:
    """The operands of v, each as a sequence of its elements in the terms of v."""
    x, y = v.x, v.y
    if type(x) is tuple:
        return [x] if y is None else [x, y]
    return [(x,)] if y is None else [(x,), *zip(y)] if type(y) is tuple else [(x,), (y,)]


def _is_number(x: Any) -> bool:
    """Whether x is one of the program's numbers, which is a Value among Values."""
    return type(x) is float or type(x) is Number


def _float(number: Any) -> float:
    return number._data if type(number) is Number else number


def _floats(numbers: Sequence[Any]) -> np.ndarray:
    return np.array([*map(_float, numbers)])


def _family(key: Any) -> Any:
    """The key of all sums over the same arrays, of any number of terms; a product is a sum of one."""
    row, *kinds = key
    ((kind, _),) = kinds if len(kinds) == 1 else ((None, 0),)
    if kind is None or NUMBER in kind:
        return None
    if row in (ops.dot, ops.mul):
        return ops.dot, *sorted(kind)
    if row in REDUCTIONS:
        return row, kind[0]
    if row is ops.total or (row is ops.add and kind[0] == kind[1]):
        return ops.total, kind[0]
    return None


def _in_use(arrays: Iterable[Array], n: int) -> dict[Array, None]:
    """The arrays of leaves in the order of their first use, until there are n of them."""
    found: dict[Array, None] = {}
    for array in arrays:
        found.update((view.array, None) for view in array.views if isinstance(view.array, Leaf))
        if len(found) == n:
            break
    return found


def _form_of(key: Any) -> Any:
    """The common part of signatures that differ only in the arrays of their operands."""
    row, *kinds = key
    return (
        (row, *sorted((tuple([x == NUMBER for x in kind]), n) for kind, n in kinds))
        if len(kinds) == 1
        else key
    )


def _runs(places: Iterable[tuple[Array, int]]) -> Runs:
    """The runs of evenly spaced elements of one array."""
    runs: Runs = []
    for array, i in places:
        if runs and runs[-1][0] is array:
            where = runs[-1][1]
            if len(where) == 1 or i - where[-1] == where[1] - where[0]:
                where.append(i)
                continue
        runs.append((array, [i]))
    return runs


def _transposed(rows: list[list[tuple[Any, ...]]]) -> list[Any]:
    """Rows by Value, term and operand as columns by operand, Value and term."""
    return list(zip(*(zip(*row) for row in rows)))


def _without_ones(*lengths: int) -> tuple[int, ...]:
    return tuple(n for n in lengths if n != 1)


def _columns(array: Any, where: np.ndarray) -> list[np.ndarray]:
    """The coordinates, or else the positions, that are the sum of a column by Value and one by term."""
    columns = [c for c in coordinates(where, array.shape) if _is_sum(c)]
    return columns if len(columns) == len(array.shape) or not _is_sum(where) else [where]


def _is_sum(column: np.ndarray) -> bool:
    """Whether a column by Value and term is the sum of one by Value and one by term."""
    return column.shape[1] == 1 or bool((column - column[:, :1] == column[0] - column[0, 0]).all())


def _lengths(columns: Sequence[np.ndarray] | np.ndarray) -> tuple[int, ...] | None:
    """The lengths of a grid along whose axes all columns are affine; the columns have its points in order.

    An inner axis goes on for as long as all columns go on by the same steps; outer axes are then found in
    the first points of its runs. [0, 1, 2, 0, 1, 2] and [0, 0, 0, 4, 4, 4] are affine in a grid of (2, 3).
    """
    lengths: list[int] = []
    points = np.array(columns)
    while points.shape[-1] > 1:
        steps = points[:, 1:] - points[:, :-1]
        ends = np.flatnonzero((steps != steps[:, :1]).any(axis=0)) + 1
        length = math.gcd(points.shape[1], int(np.gcd.reduce(ends)))
        if length == 1:
            return None
        lengths.append(length)
        points = points[:, ::length]
    return tuple(lengths[::-1])


def _ranks(columns: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Columns with ranks 0, 1, ... for their values, which need not be equally spaced."""
    return [np.unique(column, return_inverse=True)[1].ravel() for column in columns]


def _as_seen(numbers: np.ndarray) -> np.ndarray:
    """For each row of numbers, which distinct row it is; these are counted in order of appearance."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in numbers])


def _node_axes(
    parts: Sequence[Part], n: int, products: bool = False
) -> tuple[tuple[int, ...], np.ndarray, bool]:
    """The shape of an array of n Values, their order there, and whether they are evenly spaced.

    In sums of `products`, axes that all operands have come first: they count the products of matrices.
    """
    kept = []
    for part in parts:
        for array, where in part:
            columns = [c[:, 0] for c in _columns(array, where) if (c[:, 0] != c[0, 0]).any()] if array else []
            # An operand with an element for each Value comes first: the Values have its axes and order.
            one_each = bool(array) and len(np.unique(where[:, 0])) == n
            kept.append((one_each, len(columns), bool(array) and array.by_row, columns))
    kept.sort(key=lambda entry: entry[:3], reverse=True)
    found = [columns for *_, columns in kept if columns]
    every = [c for columns in found for c in columns]
    if products and len(found) > 1:
        common = set.intersection(*({c.tobytes() for c in columns} for columns in found))
        every.sort(key=lambda c: c.tobytes() not in common)
        found = [[c for c in every if c.tobytes() in common], *found] if common else found
    rotated = ([c for columns in found[i:] + found[:i] for c in columns] for i in range(len(found)))
    numbers = [_as_seen(w) for part in parts for array, w in part if not array and (w != w[0]).any()]
    irregular = map(_ranks, [every, *found])
    for regular, choices in (True, rotated), (True, [every + numbers]), (False, irregular):
        for choice in filter(None, choices):
            order = np.lexsort(choice[::-1])
            points = np.array(choice)[:, order]
            lengths = _lengths(points)
            if lengths is not None and (points[:, 1:] != points[:, :-1]).any(axis=0).all():
                return lengths, order, regular
    return _without_ones(n), np.arange(n), n == 1


def _divided(parts: Iterable[Part], n: int) -> list[np.ndarray]:
    """The Values of a group in a few regular groups, rather than with gathers; [] if there are none.

    Either their terms lie in different directions, or they have several runs of evenly spaced elements.
    """
    for part in parts:
        patterns = [where - where[:, :1] for array, where in part if array]
        relative = np.concatenate(patterns or [np.zeros((n, 1))], axis=1)
        if (relative != relative[0]).any():
            different, which = np.unique(relative, axis=0, return_inverse=True)
            if len(different) <= n // 4:
                return [np.flatnonzero(which.ravel() == i) for i in range(len(different))]
    for part in parts:
        for array, where in part:
            for column in _columns(array, where) if array else ():
                values = np.unique(column[:, 0])
                steps = values[1:] - values[:-1]
                starts = np.flatnonzero(steps != np.min(steps, initial=n)) + 1
                if 1 <= len(starts) <= len(values) // 3 - 1:
                    which = np.searchsorted(values[starts], column[:, 0], side="right")
                    return [np.flatnonzero(which == i) for i in range(len(starts) + 1)]
    return []


def _filled(parts: list[Part], n: int) -> tuple[tuple[int, ...], np.ndarray, list[Part]] | None:
    """A grid of which a group fills at least one half, the places of its Values, and parts for all places.

    For pairs i < j, or for queries and the keys before them, all pairs are computed, and half are not used.
    """
    axes: dict[bytes, np.ndarray] = {}
    for part in parts:
        for array, where in part:
            pattern = where - where[:, :1] if array else where
            if (pattern != pattern[0]).any():
                return None
            for rank in _ranks(coordinates(where[:, 0], array.shape)) if array else ():
                if rank.any():
                    axes[rank.tobytes()] = rank
    lengths = tuple(int(rank.max()) + 1 for rank in axes.values())
    at = np.zeros(n, dtype=int)
    for rank, length in zip(axes.values(), lengths):
        at = at * length + rank
    points_of_grid = math.prod(lengths)
    if not n < points_of_grid <= 2 * n or len(np.unique(at)) < n:
        return None
    points = dict(zip(axes, coordinates(np.arange(points_of_grid), lengths)))
    filled: list[Part] = []
    for part in parts:
        filled.append([])
        for array, where in part:
            start = np.zeros(points_of_grid, dtype=int)
            for length, column in zip(array.shape, coordinates(where[:, 0], array.shape)) if array else ():
                used, rank = np.unique(column, return_inverse=True)
                start = start * length + used[points.get(rank.ravel().tobytes(), 0)]
            everywhere = start[:, None] + where[0] - (where[0, 0] if array else 0)
            if array and not 0 <= np.min(everywhere) <= np.max(everywhere) < size(array):
                return None
            filled[-1].append((array, everywhere))
    return lengths, at, filled


def _aligned(part: Part) -> tuple[Part, tuple[int, ...]]:
    """A part with the terms of each Value in the order of a grid, and the lengths of the grid."""
    (_, where), *_ = part
    n = where.shape[1]
    keys = [where for _, where in part if where.dtype != bool]
    for first in keys[::-1] if n > 1 else ():
        order = np.lexsort((*keys, first), axis=1)
        ordered = [(array, np.take_along_axis(where, order, axis=1)) for array, where in part]
        columns = [c[0] for array, where in ordered if array for c in _columns(array, where) if _is_sum(c)]
        if not columns:
            continue
        lengths = _lengths(columns)
        if lengths and any(len(_affine(c.reshape(lengths))[1]) > 1 for c in columns):  # type: ignore[index]
            # An axis of one operand is several of another: perhaps they are one there too, reshaped.
            lengths = _lengths([where[0] for array, where in ordered if array and _is_sum(where)]) or lengths
        lengths = lengths or _lengths(_ranks(columns))
        if lengths:
            return ordered, lengths
    return part, _without_ones(n)


def _extended(array: Array, columns: Sequence[Any], places: list[np.ndarray]) -> Any:
    """Positions by Value and place, of terms that have these coordinates, and for places without a term.

    None if a coordinate is no sum of a column by Value and one by place, or if positions leave the array.
    """
    longest = max(range(len(places)), key=lambda i: len(places[i]))
    where = np.zeros((len(places), len(places[longest])), dtype=int)
    for length, column in zip(array.shape, zip(*columns)):
        by_place = np.empty(len(places[longest]), dtype=int)
        by_place[places[longest]] = column[longest]
        starts = np.array([some[0] - by_place[at[0]] for some, at in zip(column, places)])
        everywhere = starts[:, None] + by_place
        even = all((row[at] == some).all() for row, some, at in zip(everywhere, column, places))
        if not even or everywhere.min() < 0 or everywhere.max() >= length:
            return None
        where = where * length + everywhere
    return where


def _view(array: Array, grid: np.ndarray) -> View:
    """The elements of an array that lie at the positions in a grid, along its axes."""
    for shape in (array.shape, (size(array),)):
        found: list[tuple[int, Any, tuple[int, ...]]] = []  # the length, index and labels of each axis
        for length, column in zip(shape, coordinates(grid, shape)):
            affine = _affine(column)
            pieces = affine and _split(length, *affine)
            if not pieces:
                break
            found += pieces
        else:
            labels = tuple(label for *_, labels in found for label in labels)
            if len(set(labels)) == len(labels):
                return Select(array, labels, tuple(i for _, i, _ in found), tuple(n for n, *_ in found))
    positions, labels = _varying(grid)
    return Gather(array, labels, positions)


Strides = list[tuple[int, int, int, bool]]  # the stride, length and label of each, and if it is reversed


def _affine(column: np.ndarray) -> tuple[int, Strides] | None:
    """The start of a column over a grid, and its strides, longest first; None if it is not affine."""
    start = low = int(column.flat[0]) if column.ndim else int(column)
    along, rest = [], column - start
    for label, n in enumerate(column.shape):
        stride = int(rest[(0,) * label + (1,) + (0,) * (column.ndim - label - 1)]) if n > 1 else 0
        if stride:
            along.append((abs(stride), n, label, stride < 0))
            low += min(stride, 0) * (n - 1)
            rest = rest - stride * np.arange(n).reshape(n, *(1,) * (column.ndim - label - 1))
    return None if rest.any() else (low, sorted(along, reverse=True))


def _split(length: int, start: int, along: Strides) -> list[tuple[int, Any, tuple[int, ...]]] | None:
    """The axes that an axis splits into, so that one label runs along each, or two along a window."""
    for cut in range(1, len(along)):
        outer, inner = along[:cut], along[cut:]
        unit = outer[-1][0]
        whole = length % unit == 0 and all(stride % unit == 0 for stride, *_ in outer)
        if whole and start % unit + sum(stride * (n - 1) for stride, n, *_ in inner) < unit:
            reduced = [(stride // unit, n, label, back) for stride, n, label, back in outer]
            both = _split(length // unit, start // unit, reduced), _split(unit, start % unit, inner)
            if both[0] and both[1]:
                return both[0] + both[1]
    if not along:
        return [(length, start, ())]
    if len(along) == 1:
        ((stride, n, label, backward),) = along
        stop, step = start + stride * (n - 1) + 1, stride if stride > 1 else None
        if backward:
            return [(length, slice(stop - 1, start - 1 if start else None, -stride), (label,))]
        return [(length, slice(None) if n == length else slice(start, stop, step), (label,))]
    if len(along) == 2:
        (stride, n, label, backward), across = sorted(along, key=lambda each: (not each[3], each[1]))
        if not across[3]:
            first = start + stride * (n - 1) if backward else start
            window = Window(first, *across[:2], -stride if backward else stride, n)
            return [(length, window, (across[2], label))]
    return None


def _varying(grid: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A grid without the axes along which nothing varies, and the labels of the other axes."""
    labels = []
    for axis in range(grid.ndim):
        first = np.take(grid, [0], axis=axis)
        if (grid == first).all():
            grid = first
        else:
            labels.append(axis)
    return grid.reshape([grid.shape[axis] for axis in labels]), tuple(labels)
