"""What a recording is compiled to: its result, its rows, or its gradient, in NumPy and in machine code."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..graph import topological_order
from ..value import Value
from .emit import Source
from .lift import Lifted
from .record import Recording, recording_here
from .simplify import simplify

try:
    from .native import Kernel, pack
except ImportError:  # there is no llvmlite
    Kernel = pack = None  # type: ignore[assignment, misc]

SMALL = 2000  # scalar operations, for which LLVM is fast enough and machine code is faster than NumPy


class Reading:
    """One thing to compute from a recording.

    `kind` is "rows", what the function gives for each row; "value", the mean or the sum of that; or
    "gradient", both that and its gradient. `leaves` are the live leaves, as arrays; `native` says
    whether it is to run as machine code.
    """

    def __init__(self, kind: str, recording: Recording, reduce: str, name: str, engine: str):
        if recording.listed and kind != "rows":
            raise TypeError("this program returns a list of outputs: it has no mean, and no gradient")
        self.kind, self._recording = kind, recording
        self._inputs = [v for leaves in recording.inputs for v in leaves.flat]
        self.gradient: dict[Value, Any] = {}
        adjoints: dict[Value, Any] = {}
        if kind == "rows":
            outputs = recording.outputs
        elif kind == "value":
            outputs = [recording.result(reduce)]
        else:
            result, self.gradient, adjoints = recording.gradient(reduce)
            outputs = [result]
        self._outputs: list[Any] = outputs
        became = simplify([*outputs, *self.gradient.values()], self._inputs, recording.rows)
        wanted = [became.get(v, v) for v in (*outputs, *self.gradient.values())]
        lifted = Lifted(
            [v for v in wanted if isinstance(v, Value)], recording.inputs, recording.leaves, recording.rows
        )
        arrays = [array for array in lifted.arrays if array.op == "leaf"]
        self.leaves: list[np.ndarray] = [array.data for array in arrays]
        shape = (len(outputs),) if recording.listed else ()
        scalars = [became.get(v, v) for v in outputs]
        first = lifted.stacked(shape, scalars, by_row=kind == "rows")
        rest = []
        for array in arrays if kind == "gradient" else ():
            grads = [self.gradient.get(v, 0.0) for v in array.data.flat]
            grads = [became.get(g, g) for g in grads]
            rest.append(lifted.stacked(array.shape, grads))
            scalars += grads
        pairs = [(became.get(v), became.get(adjoint)) for v, adjoint in adjoints.items()]
        title = {"rows": f"{name}_of_rows", "value": name, "gradient": f"{name}_gradient"}[kind]
        self._lifted = title, name, lifted, recording.names, arrays, first, rest, pairs
        self._scalars = scalars
        self._shapes = [first.shape, *(array.shape for array in rest)]
        self._functions: dict[bool, Callable[..., Any]] = {}
        self._kernel: Any = None
        self._lock = threading.Lock()
        self.native = engine == "native"
        if engine == "auto" and self.is_small():
            try:
                self.kernel()
                self.native = True
            except NotImplementedError:
                pass

    def data(self) -> list[np.ndarray]:
        """What the live leaves hold now."""
        return [np.array([v.data for v in leaves.flat]).reshape(leaves.shape) for leaves in self.leaves]

    def source(self, fast: bool = False) -> Source:
        """The program in NumPy, for every array module or, if `fast`, for NumPy alone (see Source)."""
        return Source(*self._lifted, fast=fast)

    def function(self, xp: Any, fast: bool = False) -> Callable[..., Any]:
        """The source's function for an array module."""
        source = self.source(fast)
        namespace: dict[str, Any] = {}
        exec(source.text(), namespace)
        return namespace["program"](xp, *([source.constants] if source.constants else []))

    def run_numpy(
        self, arrays: Sequence[np.ndarray], data: Sequence[np.ndarray], fast: bool
    ) -> Sequence[Any]:
        """The outputs for these rows and these data of the leaves."""
        function = self._functions.get(fast)
        if function is None:
            function = self._functions[fast] = self.function(np, fast)
        return function(*arrays, *data)

    def run_native(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs for these rows and what the leaves hold now, by machine code."""
        n = len(arrays[0])
        state = np.array([v.data for leaves in self.leaves for v in leaves.flat], dtype=float)
        out = self.kernel().evaluate(pack(arrays), n, state)
        if self.kind == "rows":
            out = out if out.ndim > 1 else np.repeat(out[:, None], n, axis=1)
            return [np.ascontiguousarray(out.T).reshape(n, *self._shapes[0])]
        outputs, start = [], 0
        for shape in self._shapes:
            outputs.append(out[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        return outputs

    def kernel(self) -> Any:
        """The machine code; NotImplementedError if there is none for a primitive."""
        with self._lock:
            if self._kernel is None:
                state = [v for leaves in self.leaves for v in leaves.flat]
                self._kernel = Kernel(self._scalars, self._inputs, state, self._recording.rows)
            return self._kernel

    def training_kernel(
        self, parameters: Sequence[Value], slots: int, update: Callable[..., Any], steps: int
    ) -> Any:
        """Machine code for whole training steps, the optimizer's update among it.

        update(data, grad, state, step) gives a parameter's next data and state, of `slots` numbers. The
        kernel's state holds the parameters' data, then the slots of each, then the steps taken so far.
        """
        taken = Value(float(steps))
        carried = [tuple(Value(0.0) for _ in range(slots)) for _ in parameters]
        step = taken + 1.0
        data, states = [], []
        with recording_here():
            for p, state in zip(parameters, carried):
                grad = self.gradient.get(p, 0.0)
                moved, new = update(p, grad if isinstance(grad, Value) else Value(grad), state, step)
                data.append(moved)
                states += new
        outputs = [self._outputs[0], *data, *states, step]
        became = simplify(outputs, self._inputs, self._recording.rows)
        leaves = [*parameters, *(v for state in carried for v in state), taken]
        return Kernel([became.get(v, v) for v in outputs], self._inputs, leaves, self._recording.rows)

    def is_small(self) -> bool:
        """Whether machine code can be had, and is worth the time that LLVM takes for it."""
        if Kernel is None:
            return False
        order = topological_order(*(v for v in self._scalars if isinstance(v, Value)))
        return sum(len(v.x) if type(v.x) is tuple else 1 for v in order) <= SMALL
