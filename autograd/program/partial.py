"""partial: arrays of which some elements stand for no Value, as of pairs i < j.

Those elements are numbers too, and finite: where a primitive may not be defined, its operands are replaced by
a number. What they are is known where possible: then later primitives need no mask, and a sum of zeros none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import ops
from ..ops import CONDITIONS, VECTOR_ROWS
from ..tracing import POINTS
from .arrays import Array, Map, View, whole
from .grids import Part
from .places import Places
from .simplify import ROW_SUM

# Primitives that are finite for all numbers of ordinary size.
DEFINED = (
    *(ops.add, ops.sub, ops.mul, ops.neg, ops.abs, ops.dot, ops.total, ROW_SUM, *CONDITIONS),
    *(ops.relu, ops.tanh, ops.sigmoid, ops.sin, ops.cos, ops.maximum, ops.minimum),
)
USED = "used"  # an operand that other Values have too, and is no single number
FINITE = "finite"  # one that may be 0


class Partial(Places):
    """Places, and arrays of groups of Values that fill a part of a grid."""

    def __init__(self) -> None:
        super().__init__()
        self._filled: dict[Any, Array] = {}  # arrays with numbers for some elements: see _with

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
            numbers = {*rest.ravel().tolist()}
            return float(numbers.pop()) if len(numbers) == 1 else USED if np.isin(rest, used).all() else None
        if self._is_absent(array, rest):
            return self._partial[array][1]
        return USED if np.isin(rest, used).all() else None

    def _is_absent(self, array: Array, at: np.ndarray) -> bool:
        """Whether the elements at these positions stand for no Value."""
        return array in self._partial and not self._partial[array][0].ravel()[at].any()

    def _filled_in(
        self, array: Array, where: np.ndarray, there: np.ndarray, shape: tuple[int, ...], number: float
    ) -> View:
        """An operand with a number where no Value is."""
        if self._is_absent(array, where[~there]):
            return self._viewed(self._with(array, number, self._partial[array][0]), where.reshape(shape))
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
