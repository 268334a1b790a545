"""masking: which primitives may give a finite result at an operand that is not finite.

1 ÷ ∞, σ(−∞) and max(x, −∞) are numbers. Eager code stops before them, where the infinity came about; a
program that looks at its results alone would not see it. So programs keep watch on these operands, unless
they are data: an infinity among data is no error as long as what is computed from it is finite.
"""

from __future__ import annotations

import math

from ..ops import TABLE, Primitive


def _hides(row: Primitive, place: int) -> bool:
    """Whether a result is finite though that operand is not."""
    for infinity in (math.inf, -math.inf):
        for other in (-2.0, 0.0, 0.5, 2.0):
            operands = (infinity, other)[: 2 if row.dy else 1]
            try:
                if math.isfinite(row.compute(*operands[:: -1 if place else 1])):
                    return True
            except (ArithmeticError, ValueError):
                pass
    return False


# By primitive, whether it does so for its first and for its second operand.
MASKING = {
    name: tuple(_hides(row, place) for place in range(2 if row.dy else 1))
    for name, row in TABLE.items()
    if name not in ("dot", "total")
}
