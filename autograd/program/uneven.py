"""uneven: groups of scalars that are computed alike, but for those at the ends of an array.

A cell at a wall has a number for a neighbour, an element of another array, or none; a query has the keys up
to it. Operands beyond the ends of their array are put into its borders, and what is missing is 0 or masked.
Terms that run in several directions, as those of pairs i < j do, are a sum for each direction.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import ops
from ..ops import REDUCTIONS
from ..value import Value
from . import grids
from .arrays import Array, Constant, Map, Select, View, coordinates, size, whole
from .grids import Columns, Part
from .partial import Partial
from .places import MOST_PIECES, NUMBER, floats, gathers, is_number, number_of, transposed, vectors
from .simplify import COMMUTATIVE

MOST_DIRECTIONS = 4  # in which terms of one kind run
FEWEST = 8  # sums whose terms may lie anywhere
MOST_EMPTY = 4  # places for each term of a kind, in sums that are all as long as the longest


@dataclass
class _Slot:
    """One operand of each Value of a group: whether it is in the array of that kind, and where."""

    kind: int
    operands: Sequence[Any]
    inside: np.ndarray
    columns: list[np.ndarray] = field(default_factory=list)


class Uneven(Partial):
    """Places, and arrays of groups of Values that have some operands at the borders of arrays, or none."""

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

    def padded(self, group: list[Value]) -> tuple[Array, np.ndarray] | None:
        """An array of sums of several lengths, and its order; None if they do not line up.

        A product is a sum of one.
        """
        row = group[0].row if group[0].row in REDUCTIONS else ops.dot
        nothing = REDUCTIONS.get(row, 0.0)
        parts = self._padded_parts(group, nothing)
        return self._added(row, group, parts) or self._added(row, group, self._by_direction(group, nothing))

    def scattered(self, group: list[Value]) -> tuple[Array, np.ndarray] | None:
        """An array of sums whose terms lie anywhere in arrays, and its order: those over edges of a graph.

        All have as many terms of a kind as the longest has; what is missing is 0. Returns None for few sums,
        for those of more than three kinds of terms, or of which most would be missing, and for others.
        """
        n, kinds = len(group), [*self._terms_by_kind(group, sums=True).values()]
        if n < FEWEST or len(kinds) > 3 or group[0].row in REDUCTIONS:
            return None
        columns = [{i: list(zip(*terms)) for i, terms in rows.items()} for rows in kinds]
        places = [[self._positions(xs) for of in columns for xs in of.get(i, ())] for i in range(n)]
        if not lie_anywhere([[*filter(None, of)] for of in places]):
            return None
        parts = [self._as_long(rows, n) for rows in kinds]
        if not all(parts):
            return None
        shape, order, _ = grids.node_axes(parts, n, False, functools.partial(self._own_coordinates, group))
        in_order = [[(array, where[order]) for array, where in part] for part in parts]
        along = [grids.without_ones(part[0][1].shape[1]) for part in parts]
        terms = self._terms(in_order, along, shape)
        labels = {label for term in terms for x in term if isinstance(x, View) for label in x.axes}
        if not labels.issuperset(range(len(shape))):  # these sums are equal
            return None
        return self._computed(ops.dot, shape, terms), order

    def _positions(self, xs: Iterable[Any]) -> list[int]:
        """Where operands are in their array; [] for numbers."""
        return [self._at[x] for x in xs if not is_number(x)]

    def _as_long(self, rows: Mapping[int, list[Any]], n: int) -> Part:
        """A part with as many terms for each of n sums as the longest has, by adding zeros; or []."""
        count, longest = sum(map(len, rows.values())), max(map(len, rows.values()))
        if n * longest > MOST_EMPTY * count:
            return []
        there = np.zeros((n, longest), dtype=bool)
        for i, terms in rows.items():
            there[i, : len(terms)] = True
        part: Part = []
        is_zero = there.all()  # one factor of each term that is missing
        for operand in zip(*itertools.chain(*(rows[i] for i in sorted(rows)))):
            array, (at,) = self._one_located([operand])
            where = np.zeros(there.shape, dtype=int if array else float)
            where[there] = at
            varies = (at != at[0]).any()
            if array and not there.all():
                where[~there] = size(array) if varies else at[0]
                if varies:
                    array = self._bordered(array, 0, [], [0.0])
                elif array.by_row:  # and may be infinite where nothing is to be added
                    return []
            is_zero |= array is None or varies
            part.append((array, where))
        return part if is_zero else []

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
        of_kinds = []
        for rows in self._terms_by_kind(group, sums=True).values():
            which = np.array([i for i, terms in rows.items() for _ in terms])
            operands = zip(*itertools.chain(*rows.values()))
            located = [self._one_located([operand]) for operand in operands]
            columns = [[*coordinates(at, array.shape)] if array else [] for array, (at,) in located]
            of_kinds.append((which, located, columns))
            own = own or grids.one_each(which, [*itertools.chain(*columns)], len(group))
        for which, located, columns in of_kinds if own else ():
            arrays = [array for array, _ in located]
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
        kinds = []
        for rows in of_kinds:
            first, *more = rows.values()
            if any(len(terms) > 1 for terms in (first, *more)):
                return []
            known = np.isin(np.arange(n), [*rows])
            located = [self._one_located([x]) for x in zip(*(rows.get(i, first)[0] for i in range(n)))]
            if any(array is None and (at != at[0]).any() for array, (at,) in located):
                return []
            kinds.append((located, known))
            slots += [([*coordinates(at, array.shape)], known) for array, (at,) in located if array]
        every = np.ones(n, dtype=bool)
        for array, where in itertools.chain(*parts):
            if array:
                slots.append(([c[:, 0] for c in coordinates(where, array.shape)], every))
        if not grids.go_on(slots):
            return []
        found, left = [], iter(slots)
        for located, known in kinds:
            columns = [next(left)[0] if array else numbers for array, numbers in located]
            of = [[column[:, None] for column in some] for some in columns]
            found.append(self._within([array for array, _ in located], of, known[:, None], nothing, others))
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
            every = grids.distinct(labels[longest])
            if len(every) < len(rows[longest]) or 2 * sum(map(len, rows)) < len(rows) * len(every):
                continue
            if not all(
                len(grids.distinct(some)) == len(some) and np.isin(some, every).all() for some in labels
            ):
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


def lie_anywhere(sums: Sequence[list[list[int]]]) -> bool:
    """Whether most sums have terms that are not evenly spaced, and lie as those of no other sum do.

    Each sum has the positions of its terms, in a list for each operand.
    """
    long = [of for of in sums if max(map(len, of), default=0) > 2]
    uneven = [of for of in long if any(len({b - a for a, b in itertools.pairwise(at)}) > 1 for at in of)]
    patterns = {tuple([place - of[0][0] for at in of for place in at]) for of in sums}
    return 2 * len(uneven) >= len(long) and 2 * len(patterns) >= len(sums)


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
