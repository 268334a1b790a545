"""places: where the scalars of a graph lie, and arrays made of views of the arrays that they lie in.

An array may be read beyond its ends, as neighbours are at a wall, on a ring or on a torus: then it is made
once between borders, and read by slices.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents
from ..ops import REDUCTIONS, VECTOR_ROWS
from ..value import Constant as Number
from ..value import Value
from . import grids
from .arrays import (
    Array,
    Constant,
    Contract,
    Gather,
    Map,
    Reduce,
    Select,
    Spread,
    Stack,
    View,
    coordinates,
    size,
    whole,
)
from .grids import Columns, Part
from .simplify import COMMUTATIVE, ROW_SUM

MOST_BESIDE = 4  # operands, and users, beside which a Value is looked for
MOST_USERS = 6  # of a Value, and of its users and so on, beside which it is looked for
MOST_PIECES = 8  # blocks that make up an array
MOST_LAYERS = 3  # arrays, or a number, of which masks choose an array's elements
NUMBER, LEAF = -2, -1  # in a signature, instead of an array's number: a constant; a leaf in no array yet


class _Kinds(dict[Any, int]):
    """The number of the array that a scalar is in, or else NUMBER or LEAF."""

    def __missing__(self, x: Any) -> int:
        return NUMBER if is_number(x) else LEAF


class Places:
    """The places of scalars: the array that each is in, and its position there."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._became: Mapping[Array, Array] = {}
        self._numbers: dict[Array, int] = {}  # the place of each in `arrays`
        self._after_rows: set[Array] = set()  # arrays that depend on a sum over the rows
        self._kind = _Kinds()  # the number of the array that a scalar is in
        self._at: dict[Value, int] = {}  # a scalar's position in that array
        self._grids: dict[int, Array] = {}  # arrays in the shape in which they are used, by number
        # Arrays with elements that stand for no Value: where Values are, and what all others are, if known.
        self._partial: dict[Array, tuple[np.ndarray, Any]] = {}
        # Of data and leaves: whether an element is an operand of what is finite only if the element is.
        self._needed: dict[Array, list[bool]] = {}
        self._borders: dict[Any, Any] = {}  # arrays between borders, and their borders
        # The Values whose order a Value shares: it is their adjoint, or a part of that sum.
        self._beside: dict[Any, list[Value]] = {}
        # The users of each Value. A vector, such as the operands that a layer's neurons share, is a user that
        # is known by its id.
        self._users: dict[Any, list[Any]] = {}

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
            return self._new(Constant(shape, False, floats(members).reshape(shape)))
        pieces = []
        for kind, which in chosen.items():
            if kind == NUMBER:
                array: Array = self._new(Constant((len(which),), False, floats([members[i] for i in which])))
                where = np.arange(len(which))
            else:
                array, where = self.arrays[kind], np.array([self._at[members[i]] for i in which])
            if len(chosen) == 1:
                return self._spread(array, where, shape)
            pieces.append((grids.view_of(array, where), len(which)))
        by_row = any(view.array.by_row for view, _ in pieces)
        order = np.argsort(np.concatenate(list(chosen.values())))
        if (order[1:] < order[:-1]).any() or gathers([[view for view, _ in pieces]]):
            tiles = self._tiles(shape, members)
            few = 0 < len(tiles) <= 2 * len(shape) + 1  # a block between borders
            if not few and (layers := self._layers(shape, members, chosen)):
                return layers
            if tiles:
                return self._tiled(shape, tiles)
        return self._new(Stack(shape, by_row, pieces, order))

    def _tiles(self, shape: tuple[int, ...], members: Sequence[Any]) -> list[tuple[Any, Array]]:
        """Blocks of an array of these members, each with its place; [] if they are many, or take gathers."""
        kinds = np.array([self._kind[v] for v in members]).reshape(shape)
        index = np.arange(len(members)).reshape(shape)
        found: list[tuple[Any, Array]] = []
        blocks = grids.blocks_of(kinds, MOST_PIECES + 1)
        if not blocks and NUMBER in kinds:  # as of pairs i < j, whose last row and first column are zeros
            blocks = grids.blocks_of(grids.in_bounds(kinds != NUMBER), MOST_PIECES + 1)
        for block in blocks if len(blocks) > 1 else ():
            tile = self._stacked(index[block].shape, [members[i] for i in index[block].ravel().tolist()])
            if gathers(tile.terms) or (isinstance(tile, Stack) and (np.diff(tile.order) < 0).any()):
                return []
            found.append((block, tile))
        return found

    def _layers(
        self, shape: tuple[int, ...], members: Sequence[Any], chosen: Mapping[int, list[int]]
    ) -> Array | None:
        """These members, of few arrays and perhaps one number, chosen by masks; None if that takes gathers.

        So are the gradients by the elements on a diagonal, those below it, and 0 above.
        """
        numbers = {number_of(members[i]) for i in chosen.get(NUMBER, ())}
        if len(chosen) > MOST_LAYERS or len(numbers) > 1:
            return None
        result: Any = numbers.pop() if numbers else None
        for kind, which in sorted(chosen.items(), key=lambda item: len(item[1])):
            if kind == NUMBER:
                continue
            of = self.arrays[kind]
            where = zip(*coordinates(np.array(which), shape))
            points = dict(zip(where, (self._at[members[i]] for i in which)))
            alike = len(of.shape) == len(shape)
            ways = [grids.strides_of(of.shape)] if alike else np.eye(len(shape), dtype=int).tolist()
            grids_of = [grids.affine_through(points, shape, strides) for strides in ways]
            grid = next((g for g in grids_of if g is not None and g.min() >= 0 and g.max() < size(of)), None)
            if grid is None or isinstance(view := grids.view_of(of, grid), Gather):
                return None
            present = np.zeros(shape, dtype=bool)
            present.ravel()[which] = True
            result = view if result is None else whole(self._chosen(shape, present, view, result))
        return (
            result.array
            if result.is_whole_in(shape)
            else self._new(Spread(shape, result.array.by_row, result))
        )

    def _chosen(self, shape: tuple[int, ...], present: np.ndarray, view: View, other: Any) -> Array:
        """A new array of the elements of a view where a mask is True, and of another view, or a number."""
        by_row = any(x.array.by_row for x in (view, other) if isinstance(x, View))
        used = whole(self._new(Constant(shape, False, present)))
        return self._new(Map(shape, by_row, ops.where, (used, view, other)))

    def _tiled(self, shape: tuple[int, ...], tiles: Sequence[tuple[Any, Array]]) -> Array:
        """A new array of blocks."""
        order = np.empty(shape, dtype=int)
        pieces, start = [], 0
        for block, array in tiles:
            n = size(array)
            order[block] = np.arange(start, start + n).reshape(order[block].shape)
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
        over_rows = isinstance(array, Contract) and array.over_rows
        if over_rows or any(view.array in self._after_rows for view in array.views):
            self._after_rows.add(array)
        return array

    def phase(self, array: Array) -> tuple[bool, bool]:
        """Whether an array varies by row, and whether it depends on a sum over the rows.

        Elements of different phases are not in one array: beside a sum over the rows, no row could need them.
        """
        return array.by_row, array in self._after_rows

    def _as_used(self, kind: int) -> Array:
        """The array of a number, in the shape in which it is used."""
        return self._grids.get(kind, self.arrays[kind])

    def _reshaped(self, array: Array, shape: tuple[int, ...]) -> Array:
        """An array in another shape."""
        view = grids.view_of(array, np.arange(size(array)).reshape(shape))
        new = self._new(Spread(shape, array.by_row, view))
        if array in self._needed:
            self._needed[new] = self._needed[array]
        if array in self._partial:
            there, rest = self._partial[array]
            self._partial[new] = there.reshape(shape), rest
        return new

    def _where(self, x: Any) -> Any:
        """A number, or the kind and the position of a Value."""
        return number_of(x) if is_number(x) else (self._kind[x], self._at[x])

    def _located(self, operands: Columns) -> Part:
        """For each operand of a part's terms, its array and, by Value and term, its positions there."""
        part: Part = []
        for rows in operands:
            first = rows[0][0]
            if is_number(first):
                part.append((None, np.array([*map(floats, rows)])))
            else:
                each = {id(row): row for row in rows}  # many Values may share a vector of operands
                places = {i: list(map(self._at.__getitem__, row)) for i, row in each.items()}
                where = np.array([places[id(row)] for row in rows])
                part.append((self._as_used(self._kind[first]), where))
        return part

    def _one_located(self, operand: Any) -> tuple[Array | None, list[np.ndarray]]:
        """The array of an operand, and its positions there by Value; None and numbers, if it is numbers."""
        if is_number(operand[0][0]):
            return None, [*map(floats, operand)]
        at = [np.array([self._at[x] for x in row]) for row in operand]
        return self._as_used(self._kind[operand[0][0]]), at

    def _kinds(self, v: Value, known: dict[int, set[int]] | None = None) -> Mapping[tuple[int, ...], int]:
        """How many of v's terms have operands in the same arrays, by those arrays' numbers.

        `known` has the numbers for vectors, by their ids, while no Value moves to another array.
        """
        operands = vectors(v)
        if v.row in VECTOR_ROWS:
            known = {} if known is None else known
            for xs in operands:
                if id(xs) not in known:
                    known[id(xs)] = {*map(self._kind.__getitem__, xs)}
            found = [known[id(xs)] for xs in operands]
            if all(len(kinds) == 1 for kinds in found):
                return {tuple([kind for (kind,) in found]): len(operands[0])}
            return Counter(zip(*(map(self._kind.__getitem__, xs) for xs in operands)))
        kind = tuple([self._kind[x] for (x,) in operands])
        return {tuple(sorted(kind)) if v.row in COMMUTATIVE else kind: 1}

    def _parts(self, group: list[Value], sums: bool = False) -> list[Columns]:
        """The operands of a group's Values, which all have the same kinds: a part for each kind.

        `sums` that differ in the number of terms, of some kinds, are all taken for sums of products.
        """
        row = group[0].row
        if row not in COMMUTATIVE and not sums and len(self._kinds(group[0])) == 1:
            return [list(zip(*map(vectors, group)))]
        return [transposed(list(rows.values())) for rows in self._terms_by_kind(group, sums).values()]

    def _terms_by_kind(self, group: list[Value], sums: bool = False) -> dict[Any, dict[int, list[Any]]]:
        """For each kind of terms of a group's Values, those of each Value that has some, by its place."""
        row = group[0].row
        parts: dict[Any, tuple[Any, dict[int, list[Any]]]] = {}
        for i, v in enumerate(group):
            for term in [(v.x,), (v.y,)] if sums and v.row is ops.add else zip(*vectors(v)):
                kind = tuple([self._kind[x] for x in term])
                key = tuple(sorted(kind)) if sums or row in COMMUTATIVE else kind
                as_first, rows = parts.setdefault(key, (kind, defaultdict(list)))
                rows[i].append(term if kind == as_first else term[::-1])
        return {key: rows for key, (_, rows) in parts.items()}

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
        self._borders[key] = self._tiled(shape, tiles)
        return self._borders[key]

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

    def _between(
        self,
        array: Array,
        slots: Sequence[list[np.ndarray]],
        contents: Mapping[tuple[int, ...], Any],
        nothing: float,
    ) -> tuple[Array, Callable[[tuple[int, ...]], Any]] | None:
        """An array between borders, and what is at any point; None if the borders are no slices.

        The coordinates of each slot change: those beyond the array's ends are in its borders now. `contents`
        has a number, or the kind and position of a Value, for points there; `nothing` is at other sides.
        """
        if any(all(0 <= i < n for i, n in zip(point, array.shape)) for point in contents):
            return None
        sides: dict[tuple[int, int], Any] = {}  # by axis and coordinate
        lows: list[int] = []  # of each axis, the first coordinate
        for axis, n in enumerate(array.shape):
            later = array.shape[axis + 1 :]
            low = min(0, *(int(columns[axis].min()) for columns in slots))
            high = max(n, *(int(columns[axis].max()) + 1 for columns in slots))
            borders: list[list[Any]] = []
            for places in (range(low, 0), range(n, high)):
                borders.append([])
                for at in places:
                    points = {}
                    for point, x in contents.items():
                        if point[axis] == at and all(0 <= i < m for i, m in zip(point[axis + 1 :], later)):
                            points[_without(point, axis, lows)] = x
                    side = sides[axis, at] = self._side(array, axis, points, nothing)
                    if side is None:
                        return None
                    borders[-1].append(side)
            array = self._bordered(array, axis, *(self._as_slices(array, axis, border) for border in borders))
            lows.append(low)
            for columns in slots:
                columns[axis] = columns[axis] - low

        def content(point: tuple[int, ...]) -> Any:
            axis = max([axis for axis, at in enumerate(point) if (axis, at) in sides], default=-1)
            side = sides.get((axis, point[axis]), nothing)
            return (side[0], int(side[1][_without(point, axis, lows)])) if type(side) is tuple else side

        return array, content

    def _side(self, array: Array, axis: int, points: Mapping[tuple[int, ...], Any], nothing: float) -> Any:
        """What is at one place of a border along an axis, by what is at some points; None if irregular.

        That is a number, or the kind and the positions of another array's elements.
        """
        if not points:
            return nothing
        found = {*points.values()}
        if any(isinstance(x, float) for x in found):
            return found.pop() if len(found) == 1 else None
        kind, *more = {kind for kind, _ in found}
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

    def _as_slices(self, array: Array, axis: int, border: list[Any]) -> list[Any]:
        """A border with arrays of what it has of other arrays, in as few slices as possible."""
        found: list[Any] = []
        for kind, sides in itertools.groupby(border, lambda side: side[0] if type(side) is tuple else None):
            if kind is None:
                found += sides
                continue
            grids_of = [grid for _, grid in sides]
            whole_run = self._slice_at(array, axis, kind, grids_of)
            regular = not isinstance(whole_run.view, Gather)
            found += [whole_run] if regular else [self._slice_at(array, axis, kind, [g]) for g in grids_of]
        return found

    def _slice_at(self, array: Array, axis: int, kind: int, grids_of: list[np.ndarray]) -> Spread:
        """Elements of another array, at these positions along an axis, to lie beside `array`."""
        grid = np.stack(grids_of, axis)
        key = array, axis, kind, grid.tobytes()
        if key not in self._borders:
            self._borders[key] = self._new(
                Spread(grid.shape, array.by_row, self._viewed(self.arrays[kind], grid))
            )
        return self._borders[key]

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

    def _apart(
        self, terms: Sequence[tuple[Any, ...]], parts: Sequence[Part], shape: tuple[int, ...]
    ) -> list[tuple[Any, ...]]:
        """The terms of these parts without gathers, each of a sum's terms by itself where needed; or []."""
        found: list[tuple[Any, ...]] = []
        for term, part in zip(terms, parts):
            several = [term]
            if gathers(several):
                each = grids.by_term(part)
                several = self._terms(each, [()] * len(each), shape) if len(each) <= MOST_PIECES else []
                if not several or gathers(several):
                    return []
            found += several
        return found

    def _constant(self, grid: np.ndarray) -> Any:
        """Numbers as an operand: a float if they are all equal."""
        grid, labels = grids.varying(grid)
        if not labels:
            return float(grid)
        return Select(
            self._new(Constant(grid.shape, False, grid)), labels, (slice(None),) * grid.ndim, grid.shape
        )

    def _computed(self, row: Any, shape: tuple[int, ...], terms: list[tuple[Any, ...]]) -> Array:
        """A new array: a row of the table, sums of products, or a sum over the rows."""
        by_row = any(x.array.by_row for term in terms for x in term if isinstance(x, View))
        if row is ROW_SUM:
            return self._new(Contract(shape, False, terms, over_rows=True))
        if row in REDUCTIONS:
            row = {ops.largest: ops.maximum, ops.smallest: ops.minimum}.get(row, row)
            return self._new(Reduce(shape, by_row, row, terms[0]))
        if row in VECTOR_ROWS:
            is_number = [not any(isinstance(x, View) for x in term) for term in terms]
            products = [term for term, number in zip(terms, is_number) if not number]
            numbers = [math.prod(term) for term, number in zip(terms, is_number) if number]
            contract = self._new(Contract(shape, by_row, products))
            if not numbers:
                return contract
            return self._new(Map(shape, by_row, ops.add, (whole(contract), float(sum(numbers)))))
        return self._new(Map(shape, by_row, row, terms[0]))

    def _own_coordinates(self, group: list[Value]) -> list[np.ndarray]:
        """The coordinates of the Values whose order a group shares, if they are in one array.

        They are what it is the adjoint of, or else the operands beside which it is used. Of several, they are
        those with the coordinates that most have, own operands among them: of the sum of a cell's neighbours,
        the cell's.
        """
        beside = self._in_order([self._beside.get(v) or self._operands_beside(v) for v in group])
        if len(beside) < 2:
            return beside[0] if beside else []
        votes = Counter(map(_as_key, [*beside, *self._in_order([*map(parents, group)])]))
        return max(beside, key=lambda columns: votes[_as_key(columns)])

    def _in_order(self, several: Sequence[Iterable[Value]]) -> list[list[np.ndarray]]:
        """Of several Values each, the coordinates of those that lie in one array, all at different places."""
        found: dict[tuple[int, int], list[int]] = defaultdict(list)  # places of the first in an array, ...
        for some in several:
            times: Counter[int] = Counter()
            for z in some:
                if z in self._at:
                    kind = self._kind[z]
                    found[kind, times[kind]].append(self._at[z])
                    times[kind] += 1
        return [
            [*coordinates(np.array(places), self._as_used(kind).shape)]
            for (kind, _), places in found.items()
            if len(places) == len({*places}) == len(several)
        ]

    def _operands_beside(self, v: Value) -> Iterable[Value]:
        """The other operands of users of v, and then of their users and so on, where these are few.

        For those that are in no array yet, they are these ones' operands.
        """
        found, waiting = {v}, [v]
        for x in waiting:  # which grows
            for user in self._users.get(x, ())[:MOST_BESIDE]:
                user = user if isinstance(user, Value) else self._users[user][0]
                if len(found) > MOST_USERS or user in found:
                    continue
                found.add(user)
                waiting.append(user)
                for xs in vectors(user):
                    for y in xs if len(xs) <= MOST_BESIDE else ():
                        if isinstance(y, Value) and y is not x:
                            yield from (y,) if y in self._at else parents(y)


def _as_key(columns: Iterable[np.ndarray]) -> tuple[bytes, ...]:
    return tuple([column.tobytes() for column in columns])


def _without(point: tuple[int, ...], axis: int, lows: Sequence[int]) -> tuple[int, ...]:
    """A point but for one of its coordinates; those before count from the first, those after from 0."""
    return (*(i - low for i, low in zip(point[:axis], lows)), *point[axis + 1 :])


def vectors(v: Value) -> list[Sequence[Any]]:
    """The operands of v, each as a sequence of its elements in the terms of v."""
    x, y = v.x, v.y
    if type(x) is tuple:
        return [x] if y is None else [x, y]
    return [(x,)] if y is None else [(x,), *zip(y)] if type(y) is tuple else [(x,), (y,)]


def gathers(terms: Iterable[Sequence[Any]]) -> bool:
    return any(isinstance(x, Gather) for term in terms for x in term)


def is_number(x: Any) -> bool:
    """Whether x is one of the program's numbers, which is a Value among Values."""
    return type(x) is float or type(x) is Number


def number_of(number: Any) -> float:
    return number._data if type(number) is Number else number


def floats(numbers: Sequence[Any]) -> np.ndarray:
    return np.array([*map(number_of, numbers)])


def transposed(rows: list[list[tuple[Any, ...]]]) -> list[Any]:
    """Rows by Value, term and operand as columns by operand, Value and term."""
    return list(zip(*(zip(*row) for row in rows)))
