"""compile(): a function of one example, in scalars, as a program over data sets.

Passes lead from the function to its source. Each pass takes the result of the one before, and
`program.show("lift")` prints the result of `lift`. A call such as loss.backward(X, Y) runs the passes once
for each shape of a row, and then the source; machine code is made from the plan (see machine_code).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..value import Value
from .array_api import Source
from .array_rules import simplified_arrays
from .blocks import set_threads as set_threads
from .compiled import Program, compile
from .differentiate import differentiate
from .lift import lift
from .loops import rolled
from .matrices import Matrices, Place
from .names import name
from .plan import plan
from .record import record
from .scalars import Scalars, simplified
from .variant import Variant as Variant  # for nn
from .variant import pack as pack
from .variant import through

PASSES: dict[str, Callable[[Any], Any]] = {
    "record": record,  # f runs on a row: a graph of scalars, of one example
    "simplify": simplified,  # the same outputs from fewer scalars
    "differentiate": differentiate,  # the mean over the rows and its gradient: scalars of all rows
    "simplify again": simplified,
    "lift": lift,  # scalars that are computed alike form arrays
    "simplify arrays": simplified_arrays,  # the same outputs from fewer arrays
    "plan": plan,  # the arrays that are needed, in order
    "roll": rolled,  # runs of alike statements become loops
    "name": name,  # w1, h1, delta1
    "print": Source,  # Python source, for any array library
}
Program.passes = PASSES


def matrices(output: Value, data: Mapping[str, Any] = {}) -> Matrices:
    """The matrix program of one example: of a Value's graph as it is, and of its gradient.

    `data` maps names of arrays to leaves of the graph that are data, and no parameters.

    >>> w = [Value(1.0, "w[0]"), Value(2.0, "w[1]")]
    >>> x = [Value(0.5), Value(-1.0)]
    >>> m = autograd.program.matrices((w[0] * x[0] + w[1] * x[1]) ** 2, {"x": x})
    >>> for array in m.arrays:
    ...     if array.line:
    ...         print(array.line)
    z1 = x @ w
    loss = z1 * z1
    delta1 = 2.0 * z1
    grad_w = delta1 * x  # (2,)

    Raises TypeError if `output` is no Value.
    """
    if not isinstance(output, Value):
        raise TypeError(f"matrices takes a Value, not {output!r:.80}")
    arrays = [np.array(leaves, dtype=object) for leaves in data.values()]
    scalars = Scalars("loss", list(data), arrays, [output], (), kind="gradient", by_row=False)
    return Matrices(through(PASSES, scalars, *list(PASSES)[1:-1]))


__all__ = ["PASSES", "Matrices", "Place", "Program", "compile", "matrices"]
