"""record: a function of one example as a graph of Values, and what compile() computes from that graph.

A Value that depends on an input stands for one number a row of the data; any other is the same for
all rows. `row_sum` leads from the former to the latter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..derive import adjoints
from ..errors import recorded_branch
from ..graph import parents, topological_order
from ..value import UNSEEN, Constant, Value, number, refusing
from .simplify import ROW_SUM, simplify


class Recording:
    """f's graph for one example: the first row of `arrays`, whose leading axis is the examples.

    `inputs` has an array of leaves for each argument, `returned` is what f returned, and whether it
    was a list is `listed`; `outputs` is the same simplified. `leaves` are the other leaves: those are
    live. `rows` stands for the number of examples, and `by_row` holds the Values that depend on an input.

    Raises TypeError where f compares Values or asks for their float() or bool(), or returns something
    else than a Value or a list of Values (numbers will do).
    """

    def __init__(self, f: Callable[..., Any], names: Sequence[str], arrays: Sequence[np.ndarray]):
        self.names = names
        self.inputs = [example(name, array[0]) for name, array in zip(names, arrays)]
        with recording_here():
            self.returned, self.listed = outputs_of(f, self.inputs)
        became = simplify(self.returned)  # before it is differentiated: equal Values are one from here on
        self.outputs = [became.get(v, v) for v in self.returned]
        self.rows = Value(1.0, "N")
        self.order = topological_order(*(v for v in self.outputs if isinstance(v, Value)))
        self.by_row = {v for array in self.inputs for v in array.flat}
        # From the end, they come in the order in which f uses them.
        leaves = [v for v in reversed(self.order) if not v.op and not isinstance(v, Constant)]
        self.leaves = [v for v in leaves if v not in self.by_row]
        for v in self.order:
            if not self.by_row.isdisjoint(parents(v)):
                self.by_row.add(v)

    def gradient(self, reduce: str) -> tuple[Any, dict[Value, Any], dict[Value, Any]]:
        """The result, its gradient by leaf, and its adjoints by Value: Values or numbers.

        Differentiated row by row down to what is the same for all rows, there summed over the rows,
        and so down to the leaves.
        """
        output = self.outputs[0]
        if not isinstance(output, Value):
            return self.result(reduce), {}, {}
        if output not in self.by_row:
            gradient = adjoints({output: 1.0 if reduce == "mean" else self.rows}, self.leaves)
            return self.result(reduce), gradient, gradient
        share = output / self.rows if reduce == "mean" else output
        order = [v for v in self.order if v in self.by_row]
        if share is not output:
            order.append(share)
        inside = {*order, self.rows}
        ends = dict.fromkeys(p for v in order for p in parents(v) if p not in inside)
        found = adjoints({share: 1.0}, ends, order)
        gradient = adjoints({v: self.row_sum(found[v]) for v in ends if v in found}, self.leaves)
        return self.row_sum(share), gradient, {**gradient, **found}

    def result(self, reduce: str) -> Any:
        """The mean or the sum of the output over the rows."""
        total = self.row_sum(self.outputs[0])
        return total / self.rows if reduce == "mean" else total

    def row_sum(self, x: Any) -> Value:
        """The sum of x over the rows."""
        return Value._record(ROW_SUM, x) if isinstance(x, Value) else x * self.rows


def recording_here() -> contextlib.AbstractContextManager[None]:
    """Where this thread's Values may not be compared, copied, or read as numbers."""
    return refusing(recorded_branch, "compares", *UNSEEN)


def example(name: str, row: Any) -> np.ndarray:
    """A leaf for each number of an example, labelled after the argument that it is of."""
    array = np.empty(np.shape(row), dtype=object)
    for index, x in np.ndenumerate(row):
        array[index] = Value(x, name + (f"[{','.join(map(str, index))}]" if index else ""))
    return array


def outputs_of(f: Callable[..., Any], inputs: Sequence[np.ndarray]) -> tuple[list[Any], bool]:
    """What f gives for one example, Values and numbers, and whether it gives a list."""
    result = f(*(array.copy() if array.ndim else array.item() for array in inputs))  # f may write into a row
    if isinstance(result, np.ndarray):
        result = result.tolist()
    listed = isinstance(result, list | tuple)
    try:
        outputs = [x if isinstance(x, Value) else number(x) for x in (result if listed else [result])]
    except TypeError:
        outputs = []
    if not outputs:
        raise TypeError(f"a compiled function returns a Value or a list of Values, not {result!r:.80}")
    return outputs, listed
