"""Kernels of scalars: the passes from lift on, for outputs that are written down by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd import Value
from autograd.program import PASSES
from autograd.program.native import Kernel
from autograd.program.scalars import Nest, Scalars
from autograd.program.variant import through


def kernel_of(
    outputs: Sequence[Any], columns: Sequence[Value], leaves: Sequence[Value], rows: Value | None = None
) -> Kernel:
    """A kernel of these outputs, whose state has the numbers of these leaves."""
    form, known = Nest(list, [()] * len(outputs)), {*columns, *leaves, rows}
    numbers = [v.data if isinstance(v, Value) and not v.op and v not in known else v for v in outputs]
    return _kernel(numbers, form, columns, leaves, rows)


def step_of(
    loss: Value, state: Sequence[Any], columns: Sequence[Value], leaves: Sequence[Value], rows: Value
) -> Kernel:
    """A kernel of a loss and the leaves' next numbers."""
    return _kernel([loss], (), columns, leaves, rows, kind="gradient", gradient=dict(zip(leaves, state)))


def _kernel(
    outputs: Sequence[Any],
    form: Any,
    columns: Sequence[Value],
    leaves: Sequence[Value],
    rows: Value | None,
    **options: Any,
) -> Kernel:
    inputs = [np.array(columns, dtype=object)] if columns else []
    options = {"kind": "value", "rows": rows or Value(1.0), "leaves": list(leaves), **options}
    scalars = Scalars("f", ["x"], inputs, list(outputs), form, **options)
    planned = through(PASSES, scalars, "lift", "simplify arrays", "plan", "roll")
    places = {v: i for i, v in enumerate(leaves)}
    order = [places[v] for leaf in planned.lifted.leaves for v in leaf.values.flat]
    return _Ordered(planned, np.array(order, dtype=int))


class _Ordered(Kernel):
    """evaluate, too, takes a state in the order of iterate's."""

    def evaluate(self, columns: np.ndarray, n: int, state: np.ndarray) -> np.ndarray:
        return super().evaluate(columns, n, state[self._order] if len(state) == len(self._order) else state)
