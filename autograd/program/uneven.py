"""uneven: groups of scalars that are computed alike, but for those at the ends of an array.

A cell at a wall has a number for a neighbour, an element of another array, or none; a query has the keys up
to it. Operands beyond the ends of their array are put into its borders, and what is missing is 0 or masked.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import ops
from ..ops import CONDITIONS, REDUCTIONS, VECTOR_ROWS
from ..tracing import POINTS
from ..value import Value
from . import grids
from .arrays import Array, Constant, Map, Select, View, coordinates, whole
from .grids import Columns, Part
from .places import MOST_PIECES, NUMBER, Places, floats, gathers, is_number, number_of, transposed, vectors
from .simplify import COMMUTATIVE, ROW_SUM

# Primitives that are finite for all numbers of ordinary size.
DEFINED = (
    *(ops.add, ops.sub, ops.mul, ops.neg, ops.abs, ops.dot, ops.total, ROW_SUM, *CONDITIONS),
    *(ops.relu, ops.tanh, ops.sigmoid, ops.sin, ops.cos, ops.maximum, ops.minimum),
)
MOST_DIRECTIONS = 4  # in which terms of one kind run
USED = "used"  # an operand that other Values have too, and is no single number
FINITE = "finite"  # one that may be 0


@dataclass
class _Slot:
    """One operand of each Value of a group: whether it is in the array of that kind, and where."""

    kind: int
    operands: Sequence[Any]
    inside: np.ndarray
    columns: list[np.ndarray] = field(default_factory=list)


class Uneven(Places):
    """Places, and arrays of groups of Values that have some operands at the borders of arrays, or none."""

    def __init__(self) -> None:
        super().__init__()
        self._filled: dict[Any, Array] = {}  # arrays with numbers for some elements: see _with

    def bordered(self, group: list[Value], kinds: tuple[int, ...]) -> tuple[Array, np.ndarray] | None:
        """An array of Values whose operands are in arrays of these kinds, or at their borders, and its order.

        Returns None if the Values have no axes, or what is at a border is neither a number nor a slice.
        """
        operands = []
        for v in group:
            xs = [x for (x,) in vectors(v)]
            turn = v.row in COMMUTATIVE and not any(self._kind[x] == kind for x, kind in zip(xs, kinds))
            operands.append(xs[::-1] if turn else xs)
        slots = [
            _Slot(kind, xs, np.array([self._kind[x] == kind for x in xs]))
            for kind, xs in zip(kinds, zip(*operands))
        ]
        if any(slot.kind == NUMBER and not slot.inside.all() for slot in slots):
            return None
        in_arrays = [slot for slot in slots if slot.kind != NUMBER]
        for slot in in_arrays:
            at = np.array([self._at[x] if there else 0 for x, there in zip(slot.operands, slot.inside)])
            slot.columns = [*coordinates(at, self.arrays[slot.kind].shape)]
        if not grids.go_on([(slot.columns, slot.inside) for slot in in_arrays]):
            return None
        arrays = {}
        for kind in {slot.kind for slot in in_arrays}:
            of = [slot for slot in in_arrays if slot.kind == kind]
            contents: dict[tuple[int, ...], Any] = {}
            for slot in of:
                for i in np.flatnonzero(~slot.inside).tolist():
                    point = tuple([int(column[i]) for column in slot.columns])
                    x = self._where(slot.operands[i])
                    if contents.setdefault(point, x) != x:
                        return None
            found = self._between(self.arrays[kind], [slot.columns for slot in of], contents, 0.0)
            if found is None:
                return None
            arrays[kind] = found[0]
        part: Part = []
        for slot in slots:
            if slot.kind == NUMBER:
                part.append((None, floats(slot.operands)[:, None]))
            else:
                array = arrays[slot.kind]
                part.append((array, grids.positions(slot.columns, array.shape, (len(group),))[:, None]))
        own = functools.partial(self._own_coordinates, group)
        shape, order, regular = grids.node_axes([part], len(group), False, own)
        terms = self._terms([[(array, where[order]) for array, where in part]], [()], shape)
        if not regular or gathers(terms):
            return None
        return self._computed(group[0].row, shape, terms), order

    def partial(
        self,
        row: Any,
        shape: tuple[int, ...],
        at: np.ndarray,
        parts: Sequence[Part],
        along: Sequence[tuple[int, ...]],
    ) -> Array:
        """An array of Values that are at some points of a grid, `at`; the parts have operands everywhere.

        Where a primitive may not be defined, its operands are replaced at the points without a Value.
        """
        there = np.zeros(math.prod(shape), dtype=bool)
        there[at] = True
        finite = [[(self._finite(array, where, there), where) for array, where in part] for part in parts]
        zeros = [[(self._zeroed(array), where) for array, where in part] for part in finite]
        for way in (zeros, finite):  # with zeros, if they are known and the primitive is defined for 0
            others = [[self._elsewhere(array, where, there) for array, where in part] for part in way]
            rest = _result_of(row, others)
            if is_defined := rest is not None or _is_defined(row, others[0]):
                break
        terms = self._terms(way, along, shape)
        if not is_defined:
            fill = _harmless(row) if len(parts[0]) == 1 else 1.0
            for i, (array, where) in enumerate(parts[0]):
                if array and (i == 1 or row is not ops.div):
                    others[0][i] = fill
                    view = self._filled_in(array, where, there, shape, fill)
                    terms = [(*terms[0][:i], view, *terms[0][i + 1 :])]
            rest = _result_of(row, others)
        array = self._computed(row, shape, terms)
        # Where array_rules normalizes exp(z − log Σ exp z), there is another number.
        self._partial[array] = there.reshape(shape), FINITE if row is ops.exp else rest
        return array

    def _zeroed(self, array: Array | None) -> Array | None:
        """An array in `_partial` with zeros where no Value is, if there is one already; or else itself."""
        key = array, 0.0, self._partial[array][0].tobytes() if array in self._partial else b""
        return self._filled.get(key, array)

    def _elsewhere(self, array: Array | None, where: np.ndarray, there: np.ndarray) -> Any:
        """What an operand is where no Value is: a number, USED, or None if that is not known."""
        rest, used = where[~there], where[there]
        if array is None:
            numbers = np.unique(rest)
            return float(numbers[0]) if len(numbers) == 1 else USED if np.isin(rest, used).all() else None
        if array in self._partial:
            present, number = self._partial[array]
            if not present.ravel()[rest].any():
                return number
        return USED if np.isin(rest, used).all() else None

    def _filled_in(
        self, array: Array, where: np.ndarray, there: np.ndarray, shape: tuple[int, ...], number: float
    ) -> View:
        """An operand with a number where no Value is."""
        present = self._partial[array][0] if array in self._partial else None
        if present is not None and not present.ravel()[where[~there]].any():
            return self._viewed(self._with(array, number, present), where.reshape(shape))
        view = self._viewed(array, where.reshape(shape))
        return whole(self._chosen(shape, there.reshape(shape), view, number))

    def _finite(self, array: Array | None, where: np.ndarray, there: np.ndarray) -> Array | None:
        """An operand's array, with zeros for those of its elements that may be infinite or NaN."""
        if array is None or array in self._partial:
            return array
        present = self._present(array, where[there])
        return array if present.ravel()[where].all() else self._with(array, 0.0, present)

    def _present(self, array: Array, used: np.ndarray) -> np.ndarray:
        """Which elements of an array are numbers that are finite if those at the positions `used` are.

        What a function does not use of its data or leaves may be infinite or NaN.
        """
        if array in self._partial:
            return self._partial[array][0]
        present = np.ones(array.shape, dtype=bool)
        if array in self._needed:
            present.ravel()[:] = self._needed[array]
        present.ravel()[used] = True
        return present

    def _with(self, array: Array, number: float, present: np.ndarray) -> Array:
        """An array with a number for the elements that are not present."""
        if self._partial.get(array, (present, None))[1] == number:
            return array
        key = array, number, present.tobytes()
        if key not in self._filled:
            operands = self._with_zeros(array, present) if number == 0.0 else ()
            if operands:
                filled = self._new(Map(array.shape, array.by_row, ops.mul, operands))
            else:
                filled = self._chosen(array.shape, present, whole(array), number)
            self._filled[key] = filled
            self._partial[filled] = present, number
        return self._filled[key]

    def _with_zeros(self, array: Array, present: np.ndarray) -> tuple[Any, ...]:
        """The operands of a product that varies by row, one being 0 where no Value is; () if none can be."""
        if not isinstance(array, Map) or array.row is not ops.mul or not array.by_row:
            return ()
        for i, view in enumerate(array.operands):
            other = array.operands[1 - i]
            if not isinstance(view, View) or not isinstance(other, View) or other.array in self._partial:
                continue
            lacking = tuple({*range(len(array.shape))} - {*other.axes})
            is_used = present.any(axis=lacking).all()  # each element of the other, for some Value
            if is_used and not view.array.by_row and view.is_whole_in(array.shape):
                known = self._partial.get(view.array)
                if known is None or np.array_equal(known[0], present):
                    view = whole(self._with(view.array, 0.0, present))
                    return (view, other) if i == 0 else (other, view)
        return ()

    def padded(self, group: list[Value]) -> tuple[Array, np.ndarray] | None:
        """An array of sums of several lengths, and its order; None if they do not line up.

        A product is a sum of one.
        """
        row = group[0].row if group[0].row in REDUCTIONS else ops.dot
        nothing = REDUCTIONS.get(row, 0.0)
        parts = self._padded_parts(group, nothing)
        return self._added(row, group, parts) or self._added(row, group, self._by_direction(group, nothing))

    def _added(self, row: Any, group: list[Value], parts: list[Part]) -> tuple[Array, np.ndarray] | None:
        """An array of sums of these parts, and its order; None if they do not line up."""
        nothing = REDUCTIONS.get(row, 0.0)
        found = [*map(grids.aligned, parts)]
        if not found or (row in REDUCTIONS and len(found) > 1):
            return None
        shape, order, regular = grids.node_axes([part for part, _ in found], len(group), products=True)
        if not regular:
            return None
        terms: list[tuple[Any, ...]] = []
        missing = {*range(len(shape))}
        for part, along in found:
            part = [(array, positions[order]) for array, positions in part]
            several = [self._factors(part, shape + along)]
            if gathers(several[0]):
                if row in REDUCTIONS or part[0][1].shape[1] > MOST_PIECES:
                    return None
                several, along = [self._factors(each, shape) for each in grids.by_term(part)], ()
            for factors, masks in several:
                labels = {label for x in (*factors, *masks) if isinstance(x, View) for label in x.axes}
                missing -= labels
                if not labels.issuperset(range(len(shape), len(shape + along))) or gathers([factors]):
                    return None
                for mask in masks:
                    factors = self._masked(factors, mask, nothing)
                terms.append(tuple(factors))
        if missing:
            return None
        return self._computed(row, shape, terms), order

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
        """A part for each kind of terms of sums that may lack some; [] if these do not line up."""
        n, of_kind = len(group), []
        for rows in self._terms_by_kind(group, sums=True).values():
            if nothing == 0.0:
                kept = {i: [term for term in terms if not _adds_nothing(term)] for i, terms in rows.items()}
                rows = {i: terms for i, terms in kept.items() if terms}
            of_kind.append(rows)
        of_kind.sort(key=len)
        full = [transposed(list(rows.values())) for rows in of_kind if len(rows) == n]
        is_ragged = [len({*map(len, operands[0])}) > 1 for operands in full]
        ragged = [operands for operands, uneven in zip(full, is_ragged) if uneven]
        parts = [self._located(operands) for operands, uneven in zip(full, is_ragged) if not uneven]
        partial = [rows for rows in of_kind if 0 < len(rows) < n]
        # What only some sums have lies beside the elements of one array, or else each kind is in its own.
        beside = len(partial) + len(ragged) - 1 if len(ragged) < 2 else 0
        for k in dict.fromkeys([max(beside, 0), 0]):
            others: list[list[Any]] = [[] for _ in group]
            for i, terms in itertools.chain(*(rows.items() for rows in partial[:k])):
                others[i] += terms
            if any(len(term) > 1 for terms in others for term in terms):
                continue
            others = [[self._where(x) for (x,) in terms] for terms in others]
            found = [self._padded(operands, nothing, others) for operands in ragged]
            lacking = self._lacking(partial[k:], parts, nothing, others)
            if all(found) and len(lacking) == len(partial[k:]):
                return [*parts, *found, *lacking]
        return []

    def _by_direction(self, group: list[Value], nothing: float) -> list[Part]:
        """A part for each direction in which terms of one kind run; [] if they run in many.

        Of pairs i < j, the terms of the sum for k are those with i = k, and those with j = k.
        """
        parts: list[Part] = []
        several = len(group) > 1
        own = self._own_coordinates(group) if several else [np.zeros(1, dtype=int)]
        for rows in self._terms_by_kind(group, sums=True).values():
            which = np.array([i for i, terms in rows.items() for _ in terms])
            operands = zip(*itertools.chain(*rows.values()))
            located = [self._one_located([operand]) for operand in operands]
            arrays = [array for array, _ in located]
            columns = [[*coordinates(at, array.shape)] if array else [] for array, (at,) in located]
            own = own or grids.one_each(which, [*itertools.chain(*columns)], len(group))
            if not own:
                return []
            numbers = np.array([at for array, at in located if array is None]).reshape(-1, len(which))
            distinct, kinds = np.unique(numbers, axis=1, return_inverse=True)
            if distinct.shape[1] > MOST_DIRECTIONS:
                return []
            waiting, found = [np.flatnonzero(kinds == i) for i in range(distinct.shape[1])], list[Part]()
            while waiting:
                points = waiting.pop()
                every = [[column[points] for column in of] for of in columns]
                if box := grids.in_box(which[points], [*itertools.chain(*every)], own):
                    places, each = iter(box[0]), iter(numbers[:, points[0]])
                    of = [
                        [*itertools.islice(places, len(some))]
                        if array
                        else [np.full(box[1].shape, next(each))]
                        for array, some in zip(arrays, columns)
                    ]
                    if part := self._within(arrays, of, box[1], nothing, [[] for _ in group]):
                        found.append(part)
                        continue
                nodes = [[column[which[points]] for column in own]] if several else []
                along = grids.in_one_direction([*nodes, *every])
                if along is None or len(found) + len(waiting) + 2 > MOST_DIRECTIONS:
                    return []
                waiting += [points[~along], points[along]]
            parts += found
        return parts

    def in_directions(self, group: list[Value]) -> list[list[Value]]:
        """Sums in groups by the direction in which their terms run; [] if all have one direction.

        A sum of one term is in a direction in which none has its place: of pairs i < j, Σⱼ runs from each i
        on, and Σᵢ up to each j.
        """
        kinds = [*self._terms_by_kind(group, sums=True).values()]
        if len(kinds) != 1 or any(is_number(x) for x in kinds[0][0][0]):
            return []
        points = []
        for i in range(len(group)):
            located = [self._one_located([operand]) for operand in zip(*kinds[0][i])]
            columns = [c for array, (at,) in located if array for c in coordinates(at, array.shape)]
            if not columns:
                return []
            points.append(np.array(columns))
        # By which coordinates stay, and by these.
        found: dict[tuple[int, ...], dict[tuple[int, ...], Value]] = {}
        for several in (True, False):
            for i, (v, of) in enumerate(zip(group, points)):
                if (len(kinds[0][i]) > 1) == several:
                    stays = tuple(np.flatnonzero((of == of[:, :1]).all(axis=1)).tolist())
                    ways = {stays: found.setdefault(stays, {})} if several else found
                    places = ((members, tuple(of[[*way], 0].tolist())) for way, members in ways.items())
                    free = next(((members, place) for members, place in places if place not in members), None)
                    if free is None:
                        return []
                    free[0][free[1]] = v
        return [[*members.values()] for members in found.values()] if len(found) > 1 else []

    def _lacking(
        self,
        of_kinds: Sequence[Mapping[int, list[Any]]],
        parts: Sequence[Part],
        nothing: float,
        others: list[list[Any]],
    ) -> list[Part]:
        """Terms that only some sums have as parts of all; [] if their places do not follow from others."""
        n = len(others)
        slots: list[tuple[list[np.ndarray], np.ndarray]] = []
        arrays = []
        for rows in of_kinds:
            first, *more = rows.values()
            operands = [*zip(*(rows.get(i, first)[0] for i in range(n)))]
            if any(len(terms) > 1 for terms in (first, *more)) or any(is_number(x[0]) for x in operands):
                return []
            located = [self._one_located([operand]) for operand in operands]
            arrays.append([array for array, _ in located])
            known = np.isin(np.arange(n), [*rows])
            slots += [([*coordinates(at, array.shape)], known) for array, (at,) in located if array]
        every = np.ones(n, dtype=bool)
        for array, where in itertools.chain(*parts):
            if array:
                slots.append(([c[:, 0] for c in coordinates(where, array.shape)], every))
        if not grids.go_on(slots):
            return []
        found, left = [], iter(slots)
        for some in arrays:
            its = [next(left) for _ in some]
            columns = [[column[:, None] for column in of] for of, _ in its]
            found.append(self._within(some, columns, its[0][1][:, None], nothing, others))
        return found if all(found) else []

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
        absent = np.zeros_like(there)  # where an operand is `nothing`
        part: Part = []
        if len(arrays) > 1 and any(others):
            return []
        for array, of in zip(arrays, columns):
            if array is None:
                part.append((None, of[0]))
                continue
            inside = np.ones_like(there)
            for n, where in zip(array.shape, of):
                inside &= (where >= 0) & (where < n)
            absent |= ~inside
            at = grids.positions(
                [np.clip(c, 0, n - 1) for n, c in zip(array.shape, of)], array.shape, there.shape
            )
            present = self._present(array, at[there])
            if (hidden := inside & ~present.ravel()[at]).any():
                array = self._with(array, nothing, present)
                absent |= hidden
            between = self._with_others(array, of, there, nothing, others if len(arrays) == 1 else [])
            if between is None:
                return []
            part.append((between, grids.positions(of, between.shape, there.shape)))
        if (absent | there).all():
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

    def _masked(self, factors: list[Any], mask: Select, nothing: float) -> list[Any]:
        """Factors with `nothing` where no term is, in one of them."""
        views = [(i, x) for i, x in enumerate(factors) if isinstance(x, View)]
        if not views and isinstance(mask.array, Constant):
            numbers = np.where(mask.array.numbers, math.prod(factors), nothing)
            return [replace(mask, array=self._new(Constant(mask.array.shape, False, numbers)))]
        i, view = min(views, key=lambda each: not {*mask.axes} <= {*each[1].axes})
        labels = sorted({*mask.axes, *view.axes})
        lengths = {label: n for x in (mask, view) for label, n in zip(x.axes, x.lengths)}
        shape = tuple(lengths[label] for label in labels)
        used, x = (replace(x, axes=tuple(map(labels.index, x.axes))) for x in (mask, view))
        there = self._new(Map(shape, view.array.by_row, ops.where, (used, x, nothing)))
        return [*factors[:i], replace(whole(there), axes=tuple(labels)), *factors[i + 1 :]]


def _result_of(row: Any, others: Sequence[Sequence[Any]]) -> float | None:
    """The number that a primitive gives for these operands, of each part; None if it is not known."""
    if row in VECTOR_ROWS or row is ROW_SUM or row is ops.mul:
        return 0.0 if all(0.0 in part and None not in part for part in others) else None
    if not all(isinstance(x, float) for x in others[0]):
        return 0.0 if row is ops.div and others[0][0] == 0.0 and _is_defined(row, others[0]) else None
    try:
        result = float(row.compute(*others[0]))
    except Exception:  # a user's primitive may raise anything
        return None
    return result if math.isfinite(result) else None


def _is_defined(row: Any, operands: Sequence[Any]) -> bool:
    """Whether a primitive is defined for operands of which this is known (see Uneven._elsewhere)."""
    if row is ops.div:
        return operands[1] is USED or (isinstance(operands[1], float) and operands[1] != 0.0)
    return row in DEFINED or (len(operands) == 1 and operands[0] is USED)


def _harmless(row: Any) -> float:
    """A number for which a primitive of one operand is defined, and no 0, so that others can divide by it.

    That is 0 if possible, as numbers become 0 by a product, faster than by `where`.
    """
    results = {x: _result_of(row, [[x]]) for x in (0.0, *POINTS)}
    defined = [x for x, result in results.items() if result is not None]
    return next((x for x in defined if results[x]), defined[0] if defined else 1.0)


def _adds_nothing(term: Sequence[Any]) -> bool:
    """Whether a term of a sum is 0 or a product with 0."""
    return any(is_number(x) and number_of(x) == 0.0 for x in term)


def _are_equal(some: Sequence[Any], others: Sequence[Any], nothing: float) -> bool:
    """Whether numbers and places of Values are the same; as terms of a sum, numbers may be added up."""
    places = [Counter(x for x in each if not isinstance(x, float)) for each in (some, others)]
    numbers = [sorted(x for x in each if isinstance(x, float) and x != nothing) for each in (some, others)]
    if nothing == 0.0 and numbers[0] != numbers[1]:
        return places[0] == places[1] and math.isclose(*map(sum, numbers), rel_tol=1e-15)
    return places[0] == places[1] and numbers[0] == numbers[1]
