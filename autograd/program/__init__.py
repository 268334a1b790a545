"""compile(): a function of one example, in scalars, as a program over data sets.

Passes lead from the function to its source. Each is a function of what the one before gives, and
`program.show("lift")` prints what that one gives. A call such as loss.backward(X, Y) takes them once for each
shape of a row, and runs the source; machine code is made of the scalars before `lift`.
"""

from collections.abc import Callable
from typing import Any

from .array_api import Source
from .compiled import Program, compile
from .differentiate import differentiate
from .lift import Lifted
from .names import name
from .plan import plan
from .record import record
from .scalars import simplified
from .variant import Variant, pack

PASSES: dict[str, Callable[[Any], Any]] = {
    "record": record,  # f runs on a row: a graph of scalars, of one example
    "simplify": simplified,  # the same from fewer scalars
    "differentiate": differentiate,  # the mean over the rows and its gradient: scalars of all rows
    "simplify again": simplified,
    "lift": Lifted,  # scalars that are computed alike form arrays
    "plan": plan,  # the arrays that are needed, in order
    "name": name,  # w1, h1, delta1
    "print": Source,  # Python source, for any array library
}
Program.passes = PASSES

__all__ = ["PASSES", "Program", "Variant", "compile", "pack"]
