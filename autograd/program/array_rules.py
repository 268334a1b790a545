"""array_rules: the same outputs from fewer arrays.

    t = 1.0 * z[1:3]    t becomes that view of z, also where t is used
    0 − 2 z             −2 z, and 0 − z becomes −z
    c2 = c1             equal constants become one
    Σ z[i] (2.0 * y[i])  2.0 Σ z[i] y[i]: the number moves to the front of the product
    max(max(z[0], z[1]), z[2])  the largest along an axis of z
    log Σ exp z         log Σ exp(z − m) + m, with m the largest, so that nothing overflows
    exp(z − log Σ exp z)  exp(z − m) / Σ exp(z − m)
    Σᵢⱼ (w[i,j] x[i]) y[j]  Σⱼ (Σᵢ w[i,j] x[i]) y[j]: the inner sum is a product of matrices
    (x.T @ y).T         y.T @ x, if nothing else needs x.T @ y
    x and y end to end  x and y along a new first axis, if each has one of its places
    copies of x > y     numbers 1 and 0 are copied: machine code has NaN among these if x or y is NaN

The rules that depend on a number apply here to a whole array. Before the lift, simplify applies them to
scalars, and keeps 1 x beside 2 y and 3 z.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from .. import ops
from ..ops import Primitive
from .arrays import (
    Array,
    Constant,
    Contract,
    Map,
    Reduce,
    Select,
    Spread,
    Stack,
    Stacked,
    View,
    has_truth_values,
    numbers_along,
    own_mask,
    reached,
    terms_through,
    whole,
)
from .lift import Lifted

MODERATE = 1e-3, 1e3  # numbers between these may move out of a factor: without 1e-200 it might overflow
# The first and the second operand that leaves the other as it is.
NEUTRAL = {ops.add: (0.0, 0.0), ops.sub: (None, 0.0), ops.mul: (1.0, 1.0), ops.div: (None, 1.0)}


def simplified_arrays(lifted: Lifted) -> Lifted:
    """The same results and gradient from fewer arrays."""
    arrays = reached(lifted.outputs)
    uses = Counter(itertools.chain(*arrays.values()))
    uses.update(lifted.outputs)
    became: dict[Array, Array] = {}
    numbers: dict[Array, Array] = {}  # conditions as the numbers 1 and 0
    shares: dict[Array, Shares] = {}
    constants: dict[Any, Array] = {}
    for array in arrays:
        for view in array.views:
            view.array = became.get(view.array, view.array)
        if isinstance(array, Constant):
            new: Array = constants.setdefault((array.shape, array.numbers.tobytes()), array)
        else:
            new = _moved_conditions(_simplified(array, uses, shares), numbers)
            uses[new] = uses[array]
            if isinstance(new, Map) and has_truth_values(new, numbers.__contains__):
                numbers[new] = Map(new.shape, new.by_row, ops.where, (whole(new), 1.0, 0.0))
        if new is not array:
            became[array] = new
    lifted.replace(became)
    return lifted


def _as_member(view: View, n: int, shape: tuple[int, ...]) -> Array | None:
    """The array that a view takes all of, or its one element as an array; None if it is neither."""
    if view.takes_all_in_order:
        return view.array
    return Spread((), view.array.by_row, view) if n == 1 == len(shape) and not view.axes else None


def _moved_conditions(array: Array, numbers: Mapping[Array, Array]) -> Array:
    """Copies of conditions as numbers that are compared with 1; any other array stays."""
    if not isinstance(array, Spread | Stack | Stacked) or all(v.array not in numbers for v in array.views):
        return array
    if isinstance(array, Stacked):
        array.members = [numbers.get(member, member) for member in array.members]
    for view in array.views:
        view.array = numbers.get(view.array, view.array)
    return Map(array.shape, array.by_row, ops.equal, (whole(array), 1.0))


class Shares(NamedTuple):
    """exp(z − m) and its sum, for a log Σ exp z: the view z, and the two arrays."""

    view: View
    exps: Array
    sums: Array


def _simplified(array: Array, uses: Mapping[Array, int], shares: dict[Array, Shares]) -> Array:
    if isinstance(array, Contract):
        n = len(array.shape)
        array.products = [_summed_first(_numbers_first(term, uses), n, uses) for term in array.products]
    if isinstance(array, Spread):
        return _transposed_sum(array, uses)
    if isinstance(array, Stack):
        members = [member for view, n in array.pieces if (member := _as_member(view, n, array.shape))]
        each = {(member.shape, member.by_row) for member in members}
        regular = len(members) == len(array.pieces) == array.shape[0] and each == {
            (array.shape[1:], array.by_row)
        }
        in_order = np.array_equal(array.order, np.arange(len(array.order)))
        return Stacked(array.shape, array.by_row, members) if regular and in_order else array
    if isinstance(array, Reduce):
        return _expanded(array, shares) if array.row is ops.logsumexp else array
    if isinstance(array, Map) and array.row is ops.exp:
        return _normalized(array, shares)
    if not isinstance(array, Map) or len(array.operands) != 2:
        return array
    for number, view, neutral in zip(array.operands, array.operands[::-1], NEUTRAL.get(array.row, ())):
        if isinstance(view, View) and isinstance(number, float) and number == neutral:
            return view.array if view.is_whole else Spread(array.shape, array.by_row, view)
    if array.row is ops.sub and array.operands[0] == 0.0:
        return _negated(array, uses)
    return _chain_reduced(array, uses) if array.row in (ops.maximum, ops.minimum) else array


def _negated(array: Map, uses: Mapping[Array, int]) -> Map:
    """0 − x as −x, and 0 − c x as (−c) x."""
    view = array.operands[1]
    of = view.array
    if type(of) is Map and of.row is ops.mul and uses[of] == 1 and isinstance(of.operands[0], float):
        if view.is_whole:
            return replace(of, operands=(-of.operands[0], *of.operands[1:]))
    return Map(array.shape, array.by_row, ops.neg, (view,))


def _expanded(array: Reduce, shares: dict[Array, Shares]) -> Array:
    """log Σ exp(z) as log Σ exp(z − m) + m."""
    (view,) = array.operands
    n = len(array.shape)
    lengths = dict(zip(view.axes, view.lengths))
    summed = sorted(axis for axis in lengths if axis >= n)
    if not summed:  # a sum of one exp
        return Spread(array.shape, array.by_row, view)
    at = {axis: n + i for i, axis in enumerate(summed)}
    view = replace(view, axes=tuple(at.get(axis, axis) for axis in view.axes))
    shape = (*array.shape, *(lengths[axis] for axis in summed))

    def computed(row: Primitive, *operands: Any, shape: tuple[int, ...] = array.shape) -> Map:
        return Map(shape, array.by_row, row, operands)

    largest = Reduce(array.shape, array.by_row, ops.maximum, (view,))
    exps = computed(ops.exp, whole(computed(ops.sub, view, whole(largest), shape=shape)), shape=shape)
    sums = Contract(array.shape, array.by_row, [(whole(exps),)])
    result = computed(ops.add, whole(computed(ops.log, whole(sums))), whole(largest))
    shares[result] = Shares(view, exps, sums)
    return result


def _normalized(array: Map, shares: Mapping[Array, Shares]) -> Array:
    """exp(z − log Σ exp z) as exp(z − m) / Σ exp(z − m), if each z is one of those in its sum."""
    inner, used = _unmasked(array.operands[0])
    difference = inner.array
    if not isinstance(difference, Map) or difference.row is not ops.sub or not inner.is_whole:
        return array
    z, log = difference.operands
    if not isinstance(log, View) or log.array not in shares or not log.takes_all:
        return array
    of = shares[log.array]
    summed, there = _unmasked(of.view)
    if not (isinstance(z, Select) and isinstance(summed, Select)):
        return array
    if (z.array, z.index, z.shape) != (summed.array, summed.index, summed.shape):
        return array
    axes = {**dict(enumerate(log.axes)), **{a: b for a, b in zip(summed.axes, z.axes) if a >= len(log.axes)}}
    n = len(array.shape)
    if tuple(axes[a] for a in summed.axes) != z.axes or sorted(axes.values()) != [*range(n)]:
        return array
    there = there and replace(there, axes=tuple(axes[a] for a in there.axes))
    if (_present(used, n) & ~_present(there, n)).any():
        return array
    exps = replace(whole(of.exps), axes=tuple(axes[a] for a in range(n)))
    return Map(array.shape, array.by_row, ops.div, (exps, replace(whole(of.sums), axes=log.axes)))


def _present(mask: View | None, n: int) -> np.ndarray:
    """Where a mask is True along n axes, some of length 1; everywhere if there is none."""
    return numbers_along(mask, n).astype(bool) if mask else np.ones([1] * n, dtype=bool)


def _unmasked(view: View) -> tuple[View, View | None]:
    """The view in where(mask, view, number), along the same axes, and the mask as a view; else no mask."""
    mask = own_mask(view.array) if view.takes_all else None
    if not mask or not mask.takes_all:
        return view, None
    inner, mask = (replace(x, axes=tuple(view.axes[a] for a in x.axes)) for x in (view.array.views[1], mask))
    return inner, mask


def _transposed_sum(array: Spread, uses: Mapping[Array, int]) -> Array:
    """A transposed sum of products as the sum of the transposed products."""
    view, inner = array.view, array.view.array
    if not isinstance(inner, Contract) or uses[inner] > 1 or array.by_row != inner.by_row:
        return array
    products = terms_through(view) if len(view.axes) == len(array.shape) else None
    return replace(inner, shape=array.shape, products=products) if products else array


def _numbers_first(term: tuple[Any, ...], uses: Mapping[Array, int]) -> tuple[Any, ...]:
    """One product of a sum, with the numbers of its factors moved to the front."""
    number, factors = 1.0, []
    for x in term:
        of = x.array if isinstance(x, View) else None
        if isinstance(of, Map) and of.row is ops.mul and uses[of] == 1 and len(term) > 1:
            first, second = of.operands
            moderate = isinstance(first, float) and MODERATE[0] <= abs(first) <= MODERATE[1]
            if moderate and isinstance(second, View) and second.is_whole:
                number, x = number * first, replace(x, array=second.array)
        if isinstance(x, View):
            factors.append(x)
        else:
            number *= x
    return (number, *factors) if number != 1.0 else tuple(factors)


def _summed_first(term: tuple[Any, ...], n: int, uses: Mapping[Array, int]) -> tuple[Any, ...]:
    """Σᵢⱼ (w[i,j] x[i]) y[j] as Σⱼ (Σᵢ w[i,j] x[i]) y[j]: first the sum over an axis that y lacks."""
    for k, view in enumerate(term if len(term) == 2 else ()):
        other, of = term[1 - k], getattr(view, "array", None)
        if not isinstance(other, View) or type(of) is not Map or of.row is not ops.mul or uses[of] > 1:
            continue
        alone = sorted({axis for axis in view.axes if axis >= n} - {*other.axes})
        if not alone or not view.takes_all or not all(isinstance(x, View) for x in of.operands):
            continue
        rest = sorted({*view.axes} - {*alone})
        became = {axis: i for i, axis in enumerate([*rest, *alone])}
        factors = [replace(x, axes=tuple(became[view.axes[a]] for a in x.axes)) for x in of.operands]
        lengths = dict(zip(view.axes, view.lengths))
        sums = Contract(tuple(lengths[axis] for axis in rest), of.by_row, [tuple(factors)])
        summed = replace(whole(sums), axes=tuple(rest))
        return (summed, other) if k == 0 else (other, summed)
    return term


def _chain_reduced(array: Map, uses: Mapping[Array, int]) -> Array:
    """max(max(z[0], z[1]), z[2]) as the largest along an axis of z, if the chain has the whole axis."""
    before, last = array.operands
    views = [last]
    while _goes_on(before, array.row, uses):
        views.append(before.array.operands[1])
        before = before.array.operands[0]
    views = [before, *views[::-1]]
    first = views[0]
    if len(views) < 3 or not all(isinstance(x, Select) and x.array is first.array for x in views):
        return array
    moving = [k for k, each in enumerate(zip(*(x.index for x in views))) if any(i != each[0] for i in each)]
    at = moving[0] if len(moving) == 1 else -1
    alike = all((x.axes, x.shape) == (first.axes, first.shape) for x in views)
    if (
        at < 0
        or not alike
        or [x.index[at] for x in views] != [*range(len(views))]
        or len(views) < first.shape[at]
    ):
        return array
    axes = list(first.axes)
    axes.insert(sum(not isinstance(i, int) for i in first.index[:at]), len(array.shape))
    index = (*first.index[:at], slice(None), *first.index[at + 1 :])
    return Reduce(array.shape, array.by_row, array.row, (replace(first, axes=tuple(axes), index=index),))


def _goes_on(view: Any, row: Primitive, uses: Mapping[Array, int]) -> bool:
    """Whether a view is of a whole array of the same primitive that is used only there."""
    known = isinstance(view, View) and view.is_whole
    return known and type(view.array) is Map and view.array.row is row and uses[view.array] == 1
