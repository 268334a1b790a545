"""array_rules: the same outputs from fewer arrays.

    t = 1.0 * z[1:3]    t becomes that view of z, also where t is used
    c2 = c1             equal constants become one
    Σ z[i] (2.0 * y[i])  2.0 Σ z[i] y[i]: the number moves to the front of the product
    max(max(z[0], z[1]), z[2])  the largest along an axis of z
    (x.T @ y).T         y.T @ x, if nothing else needs x.T @ y
    x and y end to end  x and y along a new first axis, if each has one of its places

The rules that depend on a number apply here to a whole array. Before the lift, simplify applies them to
scalars, and keeps 1 x beside 2 y and 3 z.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
    reached,
    terms_through,
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
    constants: dict[Any, Array] = {}
    for array in arrays:
        for view in array.views:
            view.array = became.get(view.array, view.array)
        if isinstance(array, Constant):
            new: Array = constants.setdefault((array.shape, array.numbers.tobytes()), array)
        else:
            new = _simplified(array, uses)
            uses[new] = uses[array]
        if new is not array:
            became[array] = new
    lifted.replace(became)
    return lifted


def _simplified(array: Array, uses: Mapping[Array, int]) -> Array:
    if isinstance(array, Contract):
        array.products = [_numbers_first(term, uses) for term in array.products]
    if isinstance(array, Spread):
        return _transposed_sum(array, uses)
    if isinstance(array, Stack):
        members = [view.array for view, _ in array.pieces if view.takes_all_in_order]
        each = {(member.shape, member.by_row) for member in members}
        regular = len(members) == array.shape[0] and each == {(array.shape[1:], array.by_row)}
        in_order = np.array_equal(array.order, np.arange(len(array.order)))
        return Stacked(array.shape, array.by_row, members) if regular and in_order else array
    if not isinstance(array, Map) or len(array.operands) != 2:
        return array
    for number, view, neutral in zip(array.operands, array.operands[::-1], NEUTRAL.get(array.row, ())):
        if isinstance(view, View) and isinstance(number, float) and number == neutral:
            return view.array if view.is_whole else Spread(array.shape, array.by_row, view)
    return _chain_reduced(array, uses) if array.row in (ops.maximum, ops.minimum) else array


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
