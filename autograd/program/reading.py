"""What a recording is compiled to: its result, its rows, or its gradient, in NumPy and in machine code."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..graph import collector_off, topological_order
from ..locks import computed_once, new_lock
from ..tracing import COMPILE, tracing
from ..value import Value
from .array_api import RESERVED, Source
from .array_rules import simplified
from .arrays import Array, Leaf
from .lift import Lifted
from .names import Names, name
from .plan import plan
from .record import Recording
from .simplify import simplify

try:
    from .native import Kernel, has_code, pack
except ImportError:  # there is no llvmlite
    Kernel = has_code = pack = None  # type: ignore[assignment, misc]

SMALL = 2000  # scalar operations, for which LLVM is fast enough and machine code is faster than NumPy


class Reading:
    """One thing to compute from a recording.

    `kind` is "rows", what the function gives for each row; "value", the mean or the sum of that; or
    "gradient", both that and its gradient. Raises ArithmeticError where that is not finite in the row
    that was recorded.
    """

    def __init__(self, kind: str, recording: Recording, reduce: str, name: str, engine: str):
        self.kind, self.recording, self._name, self._engine = kind, recording, name, engine
        self._inputs = [v for leaves in recording.inputs for v in leaves.flat]
        self.gradient: dict[Value, Any] = {}
        self._adjoints: dict[Value, Any] = {}
        if kind == "rows":
            self._outputs: list[Any] = recording.outputs
        elif kind == "value":
            self._outputs = [recording.result(reduce)]
        else:
            with tracing(COMPILE):  # so that a user's own derivative may choose, and may not branch
                result, self.gradient, self._adjoints = recording.gradient(reduce)
            self._outputs = [result]
        # All that computes with the Values is done here, while they have the data of the recording.
        wanted = (*self._outputs, *self.gradient.values())
        became = simplify(wanted, self._inputs, recording.rows)
        self._became = {v: became.get(v, v) for v in (*wanted, *became)}
        self._functions: dict[bool, Callable[..., Any]] = {}
        self._lock = new_lock()

    @computed_once
    @collector_off()
    def _lifted(self) -> tuple[Lifted, list[Leaf], list[Array]]:
        """The arrays, those among them of live leaves, and the outputs."""
        recording, scalars = self.recording, self._scalars(self.recording.leaves)
        values = [v for v in scalars if isinstance(v, Value)]
        lifted = Lifted(values, recording.inputs, recording.leaves, recording.rows)
        leaves = [array for array in lifted.arrays if isinstance(array, Leaf)]
        shape = (len(self._outputs),) if recording.listed else ()
        n = len(self._outputs)
        outputs = [lifted.stacked(shape, scalars[:n], by_row=self.kind == "rows")]
        for array in leaves if self.kind == "gradient" else ():
            outputs.append(lifted.stacked(array.shape, self._scalars(array.values.flat)[n:]))
        return lifted, leaves, simplified(outputs)

    def _scalars(self, leaves: Iterable[Value]) -> list[Any]:
        """The outputs, and the gradient by these leaves, as simplified Values and numbers."""
        gradient = [self.gradient.get(v, 0.0) for v in leaves] if self.kind == "gradient" else []
        return [self._became.get(v, v) for v in (*self._outputs, *gradient)]

    @property
    def leaves(self) -> list[np.ndarray]:
        """The live leaves, as arrays of Values."""
        return [array.values for array in self._lifted[1]]

    @computed_once
    def native(self) -> bool:
        """Whether it is to run as machine code: not with primitives of a user's own, which have none."""
        if self._engine == "numpy" or not self.has_code():
            return False
        if self._engine == "auto" and self.is_small():
            with contextlib.suppress(NotImplementedError):
                return bool(self.kernel)
        return self._engine == "native"

    def data(self) -> list[np.ndarray]:
        """What the live leaves hold now."""
        return [np.array([v._data for v in leaves.flat]).reshape(leaves.shape) for leaves in self.leaves]

    def source(self, fast: bool = False, watched: bool = False) -> Source:
        """The program for every array module or, if `fast` or `watched`, for NumPy alone (see Source)."""
        lifted, leaves, outputs = self._lifted
        places, became = lifted.places, self._became
        scalars = [(became.get(v), became.get(adjoint)) for v, adjoint in self._adjoints.items()]
        pairs = [(places[v][0], places[g][0]) for v, g in scalars if v in places and g in places]
        titles = {"rows": f"{self._name}_of_rows", "value": self._name, "gradient": f"{self._name}_gradient"}
        names = Names(RESERVED)
        title = names.unique(titles[self.kind])
        arguments = [names.unique(argument) for argument in self.recording.names]
        planned = plan(outputs)
        name(planned, names, arguments, leaves, self._name, pairs)
        return Source(title, planned, names, arguments, leaves, fast, watched)

    @collector_off()
    def function(self, xp: Any, fast: bool = False, watched: bool = False) -> Callable[..., Any]:
        """The source's function for an array module."""
        source = self.source(fast, watched)
        text, constants = source.text(), source.constants
        del source  # which takes more memory than either
        namespace: dict[str, Any] = {}
        exec(text, namespace)
        return namespace["program"](xp, *([constants] if constants else []))

    def run_numpy(
        self, arrays: Sequence[np.ndarray], data: Sequence[np.ndarray], fast: bool
    ) -> Sequence[Any]:
        """The outputs for these rows and these data of the leaves; NumPy is to raise what is invalid."""
        function = self._functions.get(fast)
        if function is None:
            function = self._functions[fast] = self.function(np, fast, watched=True)
        return function(*arrays, *data)

    def run_native(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs for these rows and what the leaves hold now, by machine code."""
        n = len(arrays[0])
        state = np.array([v._data for leaves in self.leaves for v in leaves.flat], dtype=float)
        out = self.kernel.evaluate(pack(arrays), n, state)
        shapes = [array.shape for array in self._lifted[2]]
        if self.kind == "rows":
            out = out if out.ndim > 1 else np.repeat(out[:, None], n, axis=1)
            return [np.ascontiguousarray(out.T).reshape(n, *shapes[0])]
        outputs, start = [], 0
        for shape in shapes:
            outputs.append(out[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        return outputs

    @computed_once
    def kernel(self) -> Any:
        """The machine code; NotImplementedError if there is none for a primitive."""
        state = [v for leaves in self.leaves for v in leaves.flat]
        return Kernel(self._scalars(state), self._inputs, state, self.recording.rows)

    def training_kernel(
        self, parameters: Sequence[Value], slots: int, update: Callable[..., Any], steps: int
    ) -> Any:
        """Machine code for whole training steps, the optimizer's update among it.

        update(data, grad, state, step) gives a parameter's next data and state, of `slots` numbers. The
        kernel's state holds the parameters' data, then their first slots, and so on, then the steps taken.
        """
        taken = Value(float(steps))
        carried = [tuple(Value(0.0) for _ in range(slots)) for _ in parameters]
        step = taken + 1.0
        data, kept = [], []
        with tracing(COMPILE):
            for p, state in zip(parameters, carried):
                grad = self.gradient.get(p, 0.0)
                moved, new = update(p, grad if isinstance(grad, Value) else Value(grad), state, step)
                data.append(moved)
                kept.append(new)
        outputs = [self._outputs[0], *data, *_by_slot(kept), step]
        became = simplify(outputs, self._inputs, self.recording.rows)
        leaves = [*parameters, *_by_slot(carried), taken]
        return Kernel([became.get(v, v) for v in outputs], self._inputs, leaves, self.recording.rows)

    def is_small(self) -> bool:
        """Whether machine code is worth the time that LLVM takes for it."""
        return sum(len(v.x) if type(v.x) is tuple else 1 for v in self._order()) <= SMALL

    def has_code(self) -> bool:
        """Whether there is machine code for each primitive here."""
        return Kernel is not None and all(has_code(v.row) for v in self._order() if v.row)

    def _order(self) -> list[Value]:
        scalars = self._scalars(self.recording.leaves)
        return topological_order(*(v for v in scalars if isinstance(v, Value)))


def _by_slot(states: Iterable[Sequence[Any]]) -> list[Any]:
    """The first slot of each parameter, then the second: machine code reads neighbours as one vector."""
    return [number for slot in zip(*states) for number in slot]
