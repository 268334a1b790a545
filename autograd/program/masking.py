"""masking: which primitives may give a finite result at an operand that is not finite.

1 ÷ ∞, σ(−∞) and max(x, −∞) are finite. Eager code has raised where the infinity came about; a program that
only looks at its results would not see the infinity. So programs watch these operands, except for data: an
infinity among data is no error as long as the results computed from it are finite.
"""

from __future__ import annotations

import functools
import math

from ..ops import CONDITIONS, Primitive, dot, logical_and, total, where


@functools.cache
def masked(row: Primitive) -> tuple[bool, ...]:
    """For each operand, whether a primitive may give a finite result although the operand is not finite."""
    if row in (dot, total, *CONDITIONS[CONDITIONS.index(logical_and) :]):
        return ()
    if row is where:
        return False, True, True
    return tuple(_hides(row, place) for place in range(2 if row.dy else 1))


def _hides(row: Primitive, place: int) -> bool:
    for infinity in (math.inf, -math.inf):
        for other in (-2.0, 0.0, 0.5, 2.0):
            operands = (infinity, other)[: 2 if row.dy else 1]
            try:
                if math.isfinite(row.compute(*operands[:: -1 if place else 1])):
                    return True
            except Exception:  # a user's primitive may raise anything
                pass
    return False
