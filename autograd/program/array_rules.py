"""array_rules: the same outputs from fewer arrays.

    t = 1.0 * z[1:3]    t is that view of z: whatever computes with t computes with it
    c2 = c1             equal constants are one

Here are the rules that depend on a number, for all of an array at once. Before the lift, where simplify
applies them, 1 x among 2 y and 3 z stays.
"""

from __future__ import annotations

from typing import Any

from .. import ops
from .arrays import Array, Constant, Contract, Map, Spread, View, reached
from .lift import Lifted

# The first and the second operand that leaves the other as it is.
NEUTRAL = {ops.add: (0.0, 0.0), ops.sub: (None, 0.0), ops.mul: (1.0, 1.0), ops.div: (None, 1.0)}


def simplified_arrays(lifted: Lifted) -> Lifted:
    """The same results and gradient from fewer arrays."""
    became: dict[Array, Array] = {}
    constants: dict[Any, Array] = {}
    for array in reached(lifted.outputs):
        for view in array.views:
            view.array = became.get(view.array, view.array)
        if isinstance(array, Constant):
            new: Array = constants.setdefault((array.shape, array.numbers.tobytes()), array)
        else:
            new = _simplified(array)
        if new is not array:
            became[array] = new
    lifted.replace(became)
    return lifted


def _simplified(array: Array) -> Array:
    if isinstance(array, Contract):
        array.products = [term[1:] if term[0] == 1.0 else term for term in array.products]
    if not isinstance(array, Map) or len(array.operands) != 2:
        return array
    for number, view, neutral in zip(array.operands, array.operands[::-1], NEUTRAL.get(array.row, ())):
        if isinstance(view, View) and isinstance(number, float) and number == neutral:
            return view.array if view.is_whole else Spread(array.shape, array.by_row, view)
    return array
