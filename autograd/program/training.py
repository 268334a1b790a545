"""training: the plan of a whole training step, from the plan of a loss and its gradient.

An optimizer's update is recorded once, for one parameter, and applied to arrays of parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ops, tracing
from ..graph import parents, topological_order
from ..tracing import COMPILE
from ..value import Constant as Number
from ..value import Value
from .arrays import Array, Constant, Contract, Gather, Leaf, Map, Spread, Stack, View, whole
from .lift import Lifted
from .simplify import simplify


def training_step(
    lifted: Lifted,
    parameters: Sequence[Value],
    slots: int,
    update: Callable[..., Any],
    lr: float,
    steps: int,
) -> tuple[Lifted, list[Value], np.ndarray]:
    """The loss and the next numbers of a state, as arrays; the other live leaves; and the state's order.

    update(data, grad, state, lr, step) gives a parameter's next data and state, of `slots` numbers. The state
    has the parameters' data, then their first slots, and so on, then the data of the live leaves that are no
    parameters, the learning rate and the number of steps taken. `order` has its places in the order of the
    leaves of the result.
    """
    used = {v: None for leaf in lifted.leaves for v in leaf.values.flat}
    n, place = len(parameters), {v: i for i, v in enumerate(parameters)}
    others = [v for v in used if v not in place]
    place_of_other = {v: n * (1 + slots) + i for i, v in enumerate(others)}
    recorded = _Update(update, slots, lr, steps)
    leaves: list[Leaf] = []
    state: list[Array] = []
    order: list[int] = []

    def add(leaf: Leaf, new: Array, places: Sequence[int]) -> None:
        leaves.append(leaf)
        state.append(new)
        order.extend(places)

    unused = [v for v in parameters if v not in used]
    given = list(zip(lifted.leaves, lifted.gradient))
    if unused:
        values = np.array(unused, dtype=object)
        given.append((Leaf(values.shape, False, values), Constant((), False, np.array(0.0))))
    for leaf, gradient in given:
        flat = list(leaf.values.flat)
        moved = [i for i, v in enumerate(flat) if v in place]
        places = [place[v] if v in place else place_of_other[v] for v in flat]
        if not moved:
            add(leaf, leaf, places)
            continue
        parts: list[View] = [whole(leaf), whole(gradient)]
        if len(moved) < len(flat):
            parts = [Gather(array, (0,), np.array(moved)) for array in (leaf, gradient)]
        shape = leaf.shape if len(moved) == len(flat) else (len(moved),)
        kept = [Leaf(shape, False, _unnamed(shape)) for _ in range(slots)]
        data, *rest = recorded.of_arrays(shape, [*parts, *map(whole, kept)])
        if len(moved) < len(flat):
            still = np.setdiff1d(np.arange(len(flat)), moved)
            pieces = [(whole(data), len(moved)), (Gather(leaf, (0,), still), len(still))]
            data = Stack(leaf.shape, False, pieces, np.argsort(np.concatenate([moved, still])))
        add(leaf, data, places)
        for k, (slot, new) in enumerate(zip(kept, rest), 1):
            add(slot, new, [k * n + places[i] for i in moved])
    last = n * (1 + slots) + len(others)
    for k, (leaf, new) in enumerate(recorded.settings()):
        add(leaf, new, [last + k])
    step = copy.copy(lifted)
    step.leaves, step.results, step.gradient = leaves, lifted.results[:1], state
    return step, others, np.array(order)


def _unnamed(shape: tuple[int, ...]) -> np.ndarray:
    values = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        values[index] = Value(0.0)
    return values


class _Update:
    """The graph of an update of one parameter, and the arrays that have its form."""

    def __init__(self, update: Callable[..., Any], slots: int, lr: float, steps: int):
        self.given = [Value(0.5), Value(0.5), *(Value(0.5) for _ in range(slots))]
        self.rate, self.taken = Value(lr), Value(float(steps))
        data, grad, *state = self.given
        with tracing.tracing(COMPILE):
            self.step: Any = self.taken + 1.0
            moved, kept = update(data, grad, tuple(state), self.rate, self.step)
        outputs = [moved, *kept, self.step]
        became = simplify(outputs)
        self.outputs = [became.get(v, v) for v in outputs]
        self.leaves = {v: Leaf((), False, np.array(v, dtype=object)) for v in (self.rate, self.taken)}
        self.shared: dict[Value, Array] = dict(self.leaves)  # arrays of what is the same for all parameters

    def settings(self) -> list[tuple[Leaf, Array]]:
        """The learning rate, the number of steps, and their next numbers."""
        (step,) = self._arrays((), [], self.outputs[-1:])
        return [(self.leaves[self.rate], self.leaves[self.rate]), (self.leaves[self.taken], step)]

    def of_arrays(self, shape: tuple[int, ...], given: Sequence[View]) -> list[Array]:
        """The next data and state of an array of parameters."""
        return self._arrays(shape, given, self.outputs[:-1])

    def _arrays(self, shape: tuple[int, ...], given: Sequence[View], outputs: Sequence[Any]) -> list[Array]:
        views: dict[Any, View] = {v: whole(array) for v, array in self.shared.items()}
        views.update(zip(self.given, given))
        varies = set(self.given)

        def operand(x: Any) -> Any:
            return x._data if isinstance(x, Number) else views[x] if isinstance(x, Value) else x

        for v in topological_order(*(v for v in outputs if isinstance(v, Value))):
            if v in views or not v.row:
                continue
            is_shared = varies.isdisjoint(parents(v))
            if not is_shared:
                varies.add(v)
            of = () if is_shared else shape
            if v.row is ops.dot:
                array: Array = Contract(
                    of, False, [_ordered(operand(x), operand(y)) for x, y in zip(v.x, v.y)]
                )
            elif v.row is ops.total:
                array = Contract(of, False, [(operand(x),) for x in v.x])
            else:
                ys = v.y if type(v.y) is tuple else () if v.y is None else (v.y,)
                array = Map(of, False, v.row, tuple(map(operand, (v.x, *ys))))
            views[v] = whole(array)
            if is_shared:
                self.shared[v] = array
        return [self._output(shape, operand(v)) for v in outputs]

    def _output(self, shape: tuple[int, ...], x: Any) -> Array:
        if not isinstance(x, View):
            return Constant(shape, False, np.full(shape, float(x)))
        return x.array if x.is_whole_in(shape) else Spread(shape, False, x)


def _ordered(x: Any, y: Any) -> tuple[Any, ...]:
    """A product with its number first."""
    return (y, x) if isinstance(x, View) and not isinstance(y, View) else (x, y)
