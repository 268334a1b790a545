"""grids: where the operands of Values lie in their arrays, as grids.

An operand's elements have an array of positions, by Value and term. The Values, and the terms of each, are
the points of a grid: its axes are found so that positions are affine in them. For example, of
C[i*n + j] = Σₚ A[i*k + p] B[p*n + j], A's positions are k i by Value plus p by term, B's are j plus n p.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .arrays import Array, Gather, Select, View, Window, coordinates, size

MOST_WAYS = 8  # in which the operands of a group's Values are apart
MOST_TERMS = 32  # of a window whose place, or order along a ring, is looked for

Runs = list[tuple[Any, list[int]]]  # arrays, each with evenly spaced positions
Columns = list[Any]  # operands, by Value and term
# For each operand: its array, or None for numbers; its positions there, or the numbers, by Value and term.
Part = list[tuple[Any, np.ndarray]]


def runs_of(places: Iterable[tuple[Array, int]]) -> Runs:
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


def blocks_of(kinds: np.ndarray, most: int, at: tuple[slice, ...] = ()) -> list[tuple[slice, ...]]:
    """The places of blocks of one kind each that an array consists of; [] if there are more than `most`."""
    found = [(at or tuple(slice(0, n) for n in kinds.shape))]
    inside = kinds[found[0]]
    for axis in range(kinds.ndim):
        layers = np.moveaxis(inside, axis, 0).reshape(inside.shape[axis], -1)
        cuts = np.flatnonzero((layers[1:] != layers[:-1]).any(axis=1)) + 1
        if len(cuts):
            if len(cuts) >= most:
                return []
            whole, found = found[0], []
            start = whole[axis].start
            for first, last in itertools.pairwise([0, *cuts.tolist(), len(layers)]):
                some = slice(start + first, start + last)
                inner = blocks_of(kinds, most, (*whole[:axis], some, *whole[axis + 1 :]))
                found += inner
                if not inner or len(found) > most:
                    return []
            return found
    return found


def in_bounds(present: np.ndarray) -> np.ndarray:
    """Whether each point is in the smallest box that has all points which are present."""
    inside = np.ones_like(present)
    for axis in range(present.ndim):
        others = tuple(i for i in range(present.ndim) if i != axis)
        there = np.flatnonzero(present.any(axis=others))
        within = np.zeros(present.shape[axis], dtype=bool)
        within[there[0] : there[-1] + 1] = True
        inside &= within.reshape(-1, *(1,) * (present.ndim - axis - 1))
    return inside


def by_term(part: Part) -> list[Part]:
    """A part with several terms as a part for each."""
    return [[(array, where[:, i : i + 1]) for array, where in part] for i in range(part[0][1].shape[1])]


def without_ones(*lengths: int) -> tuple[int, ...]:
    return tuple(n for n in lengths if n != 1)


def _columns(array: Any, where: np.ndarray) -> list[np.ndarray]:
    """The coordinates, or else the positions, that are the sum of a column by Value and one by term."""
    columns = [c for c in coordinates(where, array.shape) if _is_sum(c)]
    return columns if len(columns) == len(array.shape) or not _is_sum(where) else [where]


def _lies_in_order(array: Array, where: np.ndarray) -> bool:
    """Whether all coordinates, or the positions, are the sum of a column by Value and one by term."""
    return _is_sum(where) or all(map(_is_sum, coordinates(where, array.shape)))


def _is_sum(column: np.ndarray) -> bool:
    """Whether a column by Value and term is the sum of one by Value and one by term."""
    return column.shape[1] == 1 or bool((column - column[:, :1] == column[0] - column[0, 0]).all())


def lengths_of(columns: Sequence[np.ndarray] | np.ndarray) -> tuple[int, ...] | None:
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


def distinct(numbers: np.ndarray) -> np.ndarray:
    """The different numbers, in order. (np.unique imports np.ma, in the time that small programs take.)"""
    return np.array(sorted({*numbers.tolist()}))


def _ranks(columns: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Columns with ranks 0, 1, ... for their values, which need not be equally spaced."""
    return [np.unique(column, return_inverse=True)[1].ravel() for column in columns]


def _as_seen(numbers: np.ndarray) -> np.ndarray:
    """For each row of numbers, which distinct row it is; these are counted in order of appearance."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in numbers])


def same_operands(parts: Sequence[Part]) -> np.ndarray:
    """For each Value, a number that Values with the same operands share; these are counted from 0 on."""
    operands = [where + 0.0 for part in parts for _, where in part]  # −0.0 is 0.0, too
    return _as_seen(np.concatenate(operands, axis=1))


def node_axes(
    parts: Sequence[Part],
    n: int,
    products: bool = False,
    own: Callable[[], Sequence[np.ndarray]] = tuple,
) -> tuple[tuple[int, ...], np.ndarray, bool]:
    """The shape of an array of n Values, their order there, and whether they are evenly spaced.

    In sums of `products`, axes that all operands have come first: they count the products of matrices. Values
    that are not evenly spaced have the order of their `own` coordinates, if they have any.
    """
    kept = []
    for part in parts:
        for array, where in part:
            columns = [c[:, 0] for c in _columns(array, where) if (c[:, 0] != c[0, 0]).any()] if array else []
            # An operand with an element for each Value comes first: the Values have its axes and order.
            one_each = bool(array) and len(distinct(where[:, 0])) == n
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
    irregular = itertools.chain(_of_own(parts, n, own), [every, *found], _of_one_term(parts, n))
    for regular, choices in (True, rotated), (True, [every + numbers]), (False, map(_ranks, irregular)):
        for choice in filter(None, choices):
            order = np.lexsort(choice[::-1])
            points = np.array(choice)[:, order]
            lengths = lengths_of(points)
            if lengths is not None and (points[:, 1:] != points[:, :-1]).any(axis=0).all():
                return lengths, order, regular
    return without_ones(n), np.arange(n), n == 1


def covers(where: np.ndarray, array: Array) -> bool:
    """Whether Values have one element of an array each, and together all of them."""
    return where.shape == (size(array), 1) and len(distinct(where[:, 0])) == size(array)


def axes_of(columns: Sequence[np.ndarray]) -> tuple[tuple[int, ...], np.ndarray] | None:
    """The shape of an array of Values that have these coordinates, and their order; None if it has gaps."""
    ranks = _ranks([column for column in columns if (column != column[0]).any()])
    shape = tuple(int(rank.max()) + 1 for rank in ranks)
    return (shape, np.lexsort(ranks[::-1])) if ranks and math.prod(shape) == len(ranks[0]) else None


def _of_own(
    parts: Sequence[Part], n: int, own: Callable[[], Sequence[np.ndarray]]
) -> Iterator[list[np.ndarray]]:
    """The own coordinates of n Values, if no two of these have the same operands."""
    columns = [column for column in own() if (column != column[0]).any()]
    operands = [where for part in parts for _, where in part]
    if columns and len({*map(tuple, np.concatenate(operands, axis=1).tolist())}) == n:
        yield columns


def _of_one_term(parts: Sequence[Part], n: int) -> Iterator[list[np.ndarray]]:
    """The coordinates of a term that is another for each of n Values, of operands without regular columns."""
    for part in parts:
        for array, where in part:
            if array and not _columns(array, where):
                for term in where.T:
                    if len(distinct(term)) == n > 1:
                        yield [c for c in coordinates(term, array.shape) if (c != c[0]).any()]


def divided(parts: Iterable[Part], n: int) -> list[np.ndarray]:
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
                values = distinct(column[:, 0])
                steps = values[1:] - values[:-1]
                starts = np.flatnonzero(steps != np.min(steps, initial=n)) + 1
                if 1 <= len(starts) <= len(values) // 3 - 1:
                    which = np.searchsorted(values[starts], column[:, 0], side="right")
                    return [np.flatnonzero(which == i) for i in range(len(starts) + 1)]
    return []


def has_no_step(parts: Iterable[Part]) -> bool:
    """Whether the operands of Values in order move on by many different steps: along the edges of a graph."""
    columns = [where[:, 0] for part in parts for array, where in part if array]
    points = np.array(columns)[:, np.lexsort(columns[::-1])]
    steps = {*map(tuple, (points[:, 1:] - points[:, :-1]).T.tolist())}
    return 4 * len(steps) > points.shape[1]


def by_element(parts: Sequence[Part], n: int) -> list[np.ndarray]:
    """The Values of a group by the element of an operand that several share; [] if they have one or many."""
    for part in parts:
        for array, where in part:
            if array and where.shape[1] == 1 and 1 < len(elements := distinct(where[:, 0])) <= n // 2:
                return [np.flatnonzero(where[:, 0] == element) for element in elements]
    return []


def by_distance(parts: Sequence[Part], n: int) -> list[np.ndarray]:
    """The Values of a group by how far coordinates of two operands are apart; [] if no way is frequent."""
    operands = [coordinates(where[:, 0], array.shape) for part in parts for array, where in part if array]
    along = in_one_direction(operands)
    if along is None or not n <= 4 * np.count_nonzero(along) <= 3 * n:
        return []
    return [np.flatnonzero(along), np.flatnonzero(~along)]


def in_ways(parts: Sequence[Part], n: int) -> list[np.ndarray]:
    """The Values of a group by how far two operands are apart, perhaps around a ring or a torus.

    [] unless the ways are few, with as many Values each. Where operands that may be swapped are apart by half
    of a ring, half of the Values are there.
    """
    (part, *more) = parts
    if more or len(part) != 2 or [where.shape[1] for array, where in part if array] != [1, 1]:
        return []
    (x, where), (y, other) = part
    if x.shape != y.shape:
        return []
    columns = (coordinates(of[:, 0], x.shape) for of in (where, other))
    apart = np.stack([(b - a) % length for a, b, length in zip(*columns, x.shape)], axis=1)
    which = _as_seen(apart)
    ways = [np.flatnonzero(which == i) for i in range(which.max() + 1)]
    halves = [2 if not (2 * apart[way[0]] % x.shape).any() else 1 for way in ways]
    most = max(map(len, ways))
    alike = all(
        len(distinct(where[way, 0])) == len(way) in (most, most // half) for way, half in zip(ways, halves)
    )
    return ways if alike and 1 < len(ways) <= min(MOST_WAYS, n // 3) else []


def by_numbers(parts: Sequence[Part], n: int) -> list[np.ndarray]:
    """The Values of a group in parts; [] if they are one, or many. In each, all operands meet all numbers.

    A matrix may be multiplied by each column of another one, and its first row by zeros, too.
    """
    numbers = [where for part in parts for array, where in part if array is None]
    others = [where for part in parts for array, where in part if array]
    if not numbers or not others:
        return []
    which, of = (
        np.unique(np.concatenate(each, axis=1), axis=0, return_inverse=True)[1].ravel()
        for each in (numbers, others)
    )
    found: dict[Any, list[np.ndarray]] = defaultdict(list)
    for i in range(which.max() + 1):
        points = np.flatnonzero(which == i)
        found[tuple(distinct(of[points]).tolist())].append(points)
    if not n // 2 >= len(found) > 1:
        return []
    return [np.sort(np.concatenate(points)) for points in found.values()]


def filled(parts: list[Part], n: int) -> tuple[tuple[int, ...], np.ndarray, list[Part]] | None:
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
    at = positions([*axes.values()], lengths, (n,))
    points_of_grid = math.prod(lengths)
    if not n < points_of_grid <= 2 * n or len(distinct(at)) < n:
        return None
    points = dict(zip(axes, coordinates(np.arange(points_of_grid), lengths)))
    filled: list[Part] = []
    for part in parts:
        filled.append([])
        for array, where in part:
            starts = []
            for column in coordinates(where[:, 0], array.shape) if array else ():
                used, rank = np.unique(column, return_inverse=True)
                starts.append(used[points.get(rank.ravel().tobytes(), 0)])
            start = positions(starts, array.shape if array else (), (points_of_grid,))
            everywhere = start[:, None] + where[0] - (where[0, 0] if array else 0)
            if array and not 0 <= np.min(everywhere) <= np.max(everywhere) < size(array):
                return None
            filled[-1].append((array, everywhere))
    return lengths, at, filled


def aligned(part: Part, around: bool = False) -> tuple[Part, tuple[int, ...]]:
    """A part with the terms of each Value in the order of a grid, and the lengths of the grid.

    If some operands are in no order along the grid, all may be so `around` a ring or torus.
    """
    (_, where), *_ = part
    n = where.shape[1]
    keys = [where for _, where in part if where.dtype != bool]
    partly: tuple[Part, tuple[int, ...]] | None = None  # some coordinates are not in order
    for first in keys[::-1] if n > 1 else ():
        order = np.lexsort((*keys, first), axis=1)
        ordered = [(array, np.take_along_axis(where, order, axis=1)) for array, where in part]
        located = [(array, where) for array, where in ordered if array]
        columns = [c[0] for array, where in located for c in _columns(array, where) if _is_sum(c)]
        if not columns:
            continue
        lengths = lengths_of(columns)
        if lengths and any(len(affine_of(c.reshape(lengths))[1]) > 1 for c in columns):  # type: ignore[index]
            # An axis of one operand is several of another: perhaps they are one there too, reshaped.
            lengths = lengths_of([where[0] for _, where in located if _is_sum(where)]) or lengths
        lengths = lengths or lengths_of(_ranks(columns))
        if lengths and all(_lies_in_order(array, where) for array, where in located):
            return ordered, lengths
        partly = partly or (lengths and (ordered, lengths)) or None
        if partly and not around:
            break
    # Perhaps one operand is in order, and the others go on beyond the ends of their arrays.
    for first in keys if n > 1 and len(keys) > 1 else ():
        order = np.lexsort((*keys, first), axis=1)
        ordered = [(array, np.take_along_axis(where, order, axis=1)) for array, where in part]
        for array, where in ordered:
            lengths = lengths_of([c[0] for c in _columns(array, where)]) if array else None
            if lengths and all(_continues(array, where, lengths) for array, where in ordered if array):
                return ordered, lengths
    if partly and not around:
        return partly
    return _in_step(part) or partly or (part, without_ones(n))


def _continues(array: Array, where: np.ndarray, along: tuple[int, ...]) -> bool:
    """Whether positions by Value and term are affine along a grid of terms, but for the ends of the array."""
    columns = coordinates(where.reshape(-1, *along), array.shape)
    return all(affine_of(c) or continued(c, n) for c, n in zip(columns, array.shape))


def _in_step(part: Part) -> tuple[Part, tuple[int, ...]] | None:
    """A part with each Value's terms in the order in which they follow each other on a ring or a torus.

    The neighbours i - 1 and i + 1 of the first of ten are 9 and 1. Returns None if there is no such order.
    """
    several, n = part[0][1].shape
    if several == 1 or not 1 < n <= MOST_TERMS:
        return None
    columns: list[tuple[np.ndarray, int]] = []  # coordinates, and the length of their axis
    for array, where in part:
        if array is None:
            numbers, ranks = np.unique(where, return_inverse=True)
            columns.append((ranks.reshape(where.shape), len(numbers)))
        else:
            columns += zip(coordinates(where, array.shape), array.shape)
    steps = [(c[:, None, :] - c[:, :, None]) % length for c, length in columns]  # by Value, term, other term
    apart = positions(steps, [length for _, length in columns], (several, n, n))
    order = np.argsort(apart, axis=2, kind="stable")
    patterns = np.take_along_axis(apart, order, axis=2)
    for pattern in patterns[0][np.argsort(patterns[0].max(axis=1), kind="stable")]:
        first = (patterns == pattern).all(axis=2)
        if first.any(axis=1).all():
            chosen = order[np.arange(several), first.argmax(axis=1)]
            return [(array, np.take_along_axis(where, chosen, axis=1)) for array, where in part], (n,)
    return None


def in_turn(part: Part) -> Part:
    """A part of two operands that may be swapped, in step around a ring or a torus if they lie around it."""
    if len(part) == 2 and part[0][0] is part[1][0] and part[0][1].shape[1] == 1:
        array, where = part[0][0], np.concatenate([where for _, where in part], axis=1)
        if array and (found := _in_step([(array, where)])):
            ((_, ordered),), _ = found
            return [(array, ordered[:, :1]), (array, ordered[:, 1:])]
    return part


def labels_of(array: Array, columns: list[tuple[np.ndarray, ...]]) -> Iterator[list[np.ndarray]]:
    """Numbers by Value and term that may tell which terms of several Values belong together.

    They are the coordinates along one axis, or along all axes along which the terms of a Value lie; or else
    the places in a window of which only a part may be inside the array.
    """
    yield from map(list, zip(*columns))
    varying = [i for i in range(len(array.shape)) if any((of[i] != of[i][0]).any() for of in columns)]
    if len(varying) > 1:
        shape = [array.shape[i] for i in varying]
        yield [positions_of([of[i] for i in varying], shape) for of in columns]
    if array.shape:
        points = [np.stack(of, axis=1) for of in columns]
        window = max(points, key=len)
        if len(window) <= MOST_TERMS:
            places = [_in_window(some, window - window[0], array.shape) for some in points]
            if all(place is not None for place in places):
                yield places  # type: ignore[misc]


def _in_window(points: np.ndarray, window: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """The places of points in a window, if they are all of its points that are inside an array."""
    for start in points[0] - window:
        moved = start + window
        inside = np.flatnonzero(((0 <= moved) & (moved < shape)).all(axis=1))
        at = {tuple(moved[i].tolist()): i for i in inside}
        if len(at) == len(points) and all(tuple(point) in at for point in points.tolist()):
            return np.array([at[tuple(point)] for point in points.tolist()])
    return None


def positions_of(columns: Iterable[Any], shape: Sequence[int]) -> Any:
    """The positions in a flattened array that have these coordinates."""
    where: Any = 0
    for length, column in zip(shape, columns):
        where = where * length + column
    return where


def positions(columns: Sequence[Any], shape: Sequence[int], grid: tuple[int, ...]) -> np.ndarray:
    """The positions in a flattened array that have these coordinates, as an array of the shape of a grid."""
    return np.zeros(grid, dtype=int) + positions_of(columns, shape)


def extended(columns: Sequence[Any], places: list[np.ndarray]) -> list[np.ndarray] | None:
    """Coordinates by Value and place, of terms that have these coordinates, and for places without a term.

    None if a coordinate is no sum of a column by Value and one by place. Places without a term may lie
    outside the array.
    """
    longest = max(range(len(places)), key=lambda i: len(places[i]))
    found = []
    for column in zip(*columns):
        by_place = np.empty(len(places[longest]), dtype=column[longest].dtype)
        by_place[places[longest]] = column[longest]
        starts = np.array([some[0] - by_place[at[0]] for some, at in zip(column, places)])
        everywhere = starts[:, None] + by_place
        if not all((row[at] == some).all() for row, some, at in zip(everywhere, column, places)):
            return None
        found.append(everywhere)
    return found


def in_box(
    which: np.ndarray, columns: Sequence[np.ndarray], own: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray] | None:
    """Coordinates by Value and place in a box, and where terms are; None if these fill less than half of it.

    There is a point for each term: `which` has its Value, and `columns` its coordinates. Those that are no
    `own` coordinates of the Values, but for a constant, are the axes of the box.
    """
    bases: list[np.ndarray] = []  # of the box
    found: list[tuple[Any, int, int]] = []  # for each column: what it goes on as, which of these, and how far
    for column in columns:
        for kind, bases_of in (("own", [each[which] for each in own]), ("axis", bases)):
            apart = [column - base for base in bases_of]
            i = next((i for i, each in enumerate(apart) if (each == each[0]).all()), None)
            if i is not None:
                found.append((kind, i, apart[i][0]))
                break
        else:
            if (column != column[0]).any():
                found.append(("axis", len(bases), column.min()))
                bases.append(column - column.min())
            else:
                found.append(("", 0, column[0]))
    n = len(own[0])
    lengths = tuple(int(base.max()) + 1 for base in bases)
    size_of_box = math.prod(lengths)
    if n * size_of_box > 2 * len(which):
        return None
    there = np.zeros((n, size_of_box), dtype=bool)
    there[which, positions(bases, lengths, which.shape)] = True
    if np.count_nonzero(there) < len(which):
        return None
    axes = coordinates(np.arange(size_of_box), lengths)
    starts = {"own": [each[:, None] for each in own], "axis": axes, "": [0]}
    return [np.zeros_like(there, dtype=int) + starts[kind][i] + start for kind, i, start in found], there


def one_each(which: np.ndarray, columns: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
    """The columns that are the same for all terms of a Value, by Value; `which` has each term's Value."""
    found = []
    for column in columns:
        low, high = (np.full(n, start) for start in (np.iinfo(int).max, -1))
        np.minimum.at(low, which, column)
        np.maximum.at(high, which, column)
        if (low == high).all():
            found.append(low)
    return found


def in_one_direction(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray | None:
    """Most of the points for which two coordinates, of different operands, differ by a constant.

    None if there are none, or only all of them.
    """
    found, most = None, 1
    for some, others in itertools.combinations(columns, 2):
        for a, b in itertools.product(some, others):
            values, counts = np.unique(a - b, return_counts=True)
            if most < (n := int(counts.max())) < len(a):
                found, most = (a - b) == values[counts.argmax()], n
    return found


def go_on(slots: Sequence[tuple[list[np.ndarray], np.ndarray]]) -> bool:
    """Whether the coordinates of operands, of which some are known, go on for the others, which are set.

    A coordinate goes on as another one that is known there does, or else stays.
    """
    every = [(column, known) for columns, known in slots for column in columns]
    for columns, known in slots:
        for i, column in enumerate(columns):
            if known.all():
                continue
            for other, there in every:
                both = known & there
                if both.any() and there[~known].all():
                    apart = column[both] - other[both]
                    if (apart == apart[0]).all():
                        columns[i] = np.where(known, column, other + apart[0])
                        break
            else:
                if (column[known] != column[known][0]).any():
                    return False
                columns[i] = np.where(known, column, column[known][0])
    return True


def affine_through(
    points: Mapping[tuple[int, ...], int], lengths: Sequence[int], strides: Sequence[int]
) -> np.ndarray | None:
    """A grid of positions that has these at some points, and is affine in its axes; None if there is none.

    Where the points do not tell by how much an axis moves the position, it is by its stride.
    """
    at = np.array([*points.values()])
    where = np.array([*points], dtype=int).reshape(len(at), len(lengths))
    rest = at - where @ np.array(strides, dtype=int)
    found = np.linalg.lstsq(where - where.mean(axis=0), rest - rest.mean(), rcond=None)[0]
    steps = np.array(strides, dtype=int) + np.rint(found).astype(int)
    start = at[0] - where[0] @ steps
    if (start + where @ steps != at).any():
        return None
    every = coordinates(np.arange(math.prod(lengths)).reshape(tuple(lengths)), lengths)
    return start + sum((step * column for step, column in zip(steps, every)), np.zeros(lengths, dtype=int))


def strides_of(shape: Sequence[int]) -> list[int]:
    """By how much each coordinate moves the position in a flattened array."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def view_of(array: Array, grid: np.ndarray) -> View:
    """The elements of an array that lie at the positions in a grid, along its axes."""
    for shape in (array.shape, (size(array),)):
        found: list[tuple[int, Any, tuple[int, ...]]] = []  # the length, index and labels of each axis
        for length, column in zip(shape, coordinates(grid, shape)):
            affine = affine_of(column)
            pieces = affine and _split(length, *affine)
            if not pieces:
                break
            found += pieces
        else:
            labels = tuple(label for *_, labels in found for label in labels)
            if len(set(labels)) == len(labels):
                return Select(array, labels, tuple(i for _, i, _ in found), tuple(n for n, *_ in found))
    positions, labels = varying(grid)
    return Gather(array, labels, positions)


Strides = list[tuple[int, int, int, bool]]  # the stride, length and label of each, and if it is reversed


def affine_of(column: np.ndarray) -> tuple[int, Strides] | None:
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


def continued(column: np.ndarray, n: int) -> tuple[np.ndarray, list[int], list[int]] | None:
    """A column over a grid as an affine one that goes on before 0 and after n - 1, and what it has there."""
    line = column - 0
    for label in range(column.ndim):
        steps = np.diff(column, axis=label).ravel()
        stride = _most_frequent(steps) if len(steps) else 0
        line = line - stride * np.arange(column.shape[label]).reshape(-1, *(1,) * (column.ndim - label - 1))
    start = _most_frequent(line.ravel())
    affine = column - line + start
    inside = (0 <= affine) & (affine < n)
    is_repeated = (affine % n == column).all()
    if not is_repeated and (
        2 * np.count_nonzero(inside) < inside.size or (affine[inside] != column[inside]).any()
    ):
        return None
    low, high = int(affine.min()), int(affine.max())
    at = dict(zip(affine.ravel().tolist(), column.ravel().tolist()))
    if any(at[i] != x for i, x in zip(affine[~inside].tolist(), column[~inside].tolist())):
        return None
    before, after = range(min(low, 0), 0), range(n, max(high, n - 1) + 1)
    if any(i not in at for i in (*before, *after)):
        return None
    return affine - min(low, 0), [at[i] for i in before], [at[i] for i in after]


def _most_frequent(numbers: np.ndarray) -> int:
    """The number that occurs most often, the nearest to 0 of several."""
    found, counts = np.unique(numbers, return_counts=True)
    return int(min(found[counts == counts.max()], key=abs))


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
        if backward:
            return [(length, slice_of(start + stride * (n - 1), -stride, n), (label,))]
        return [(length, slice(None) if n == length else slice_of(start, stride, n), (label,))]
    if len(along) == 2:
        (stride, n, label, backward), across = sorted(along, key=lambda each: (not each[3], each[1]))
        if not across[3]:
            first = start + stride * (n - 1) if backward else start
            window = Window(first, *across[:2], -stride if backward else stride, n)
            return [(length, window, (across[2], label))]
    return None


def slice_of(first: int, step: int, n: int) -> slice:
    """The slice of n indices, of which each is a step after the one before; the step may be negative."""
    stop = first + step * (n - 1) + (1 if step > 0 else -1)
    return slice(first, stop if stop >= 0 else None, step if step != 1 else None)


def varying(grid: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A grid without the axes along which nothing varies, and the labels of the other axes."""
    labels = []
    for axis in range(grid.ndim):
        first = np.take(grid, [0], axis=axis)
        if (grid == first).all():
            grid = first
        else:
            labels.append(axis)
    return grid.reshape([grid.shape[axis] for axis in labels]), tuple(labels)
