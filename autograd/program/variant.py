"""variant: a recording's results for rows, their mean, or mean and gradient, in NumPy and machine code."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import collector_off
from ..locks import computed_once, new_lock
from ..value import Value
from .array_api import Source
from .lift import Lifted
from .names import Names
from .scalars import Scalars
from .training import training_step

try:
    from .native import Kernel as Kernel
    from .native import pack as pack
    from .operations import has_code
except ImportError:  # there is no llvmlite
    Kernel = has_code = pack = None  # type: ignore[assignment, misc]

SMALL = 2000  # scalar operations: up to these LLVM is quick, and machine code faster than NumPy


Passes = dict[str, Callable[[Any], Any]]  # see the package


class Variant:
    """One program: f for each row ("rows"), its mean or sum ("value"), or the mean and its "gradient".

    If `whole`, the variant with the gradient, is given, this one is a part of it. Raises ArithmeticError if
    the gradient is not finite in the row that was recorded.
    """

    def __init__(
        self, kind: str, recorded: Scalars, engine: str, passes: Passes, whole: Variant | None = None
    ):
        self.kind, self.listed, self._engine, self._passes = kind, recorded.listed, engine, passes
        # Do all arithmetic with Values now, while they have the data of the recording: it may change later.
        self.scalars: Scalars = (
            whole.scalars.without_gradient(kind)
            if whole
            else through(passes, replace(recorded, kind=kind), "differentiate", "simplify again")
        )
        self._functions: dict[bool, Callable[..., Any]] = {}
        self._lock = new_lock()

    @computed_once
    @collector_off()
    def names(self) -> Names:
        """The arrays, planned and named."""
        return through(self._passes, self.scalars, "lift", "simplify arrays", "plan", "roll", "name")

    @property
    def lifted(self) -> Lifted:
        """The arrays of the scalars."""
        return self.names.plan.lifted

    @property
    def leaves(self) -> list[np.ndarray]:
        """The live leaves, as arrays of Values."""
        return [array.values for array in self.lifted.leaves]

    @computed_once
    def native(self) -> bool:
        """Whether this variant runs as machine code, which a user's own primitives do not have."""
        if self._engine == "numpy" or not self.has_code():
            return False
        if self._engine == "auto" and self.is_small():
            with contextlib.suppress(NotImplementedError):
                return bool(self.kernel)
        return self._engine == "native"

    def data(self) -> list[np.ndarray]:
        """The numbers of the live leaves, as they are now."""
        return [np.array([v._data for v in leaves.flat]).reshape(leaves.shape) for leaves in self.leaves]

    @collector_off()
    def function(self, xp: Any, **options: Any) -> Callable[..., Any]:
        """The source's function for an array module; see Source for the options."""
        return Source(self.names, **options).function(xp)

    def run_numpy(
        self, arrays: Sequence[np.ndarray], data: Sequence[np.ndarray], fast: bool
    ) -> Sequence[Any]:
        """The outputs for these rows and these data of the leaves; call it where NumPy raises for invalid."""
        function = self._functions.get(fast)
        if function is None:
            function = self._functions[fast] = self.function(np, fast=fast, watch=True)
        return function(*arrays, *data)

    def run_native(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The outputs for these rows and the leaves' present data, by machine code."""
        n = len(arrays[0]) if arrays else 1
        state = np.array([v._data for leaves in self.leaves for v in leaves.flat], dtype=float)
        out = self.kernel.evaluate(pack(arrays), n, state)
        rows: tuple[int, ...] = ()
        if self.kind == "rows" and self.scalars.by_row:
            out, rows = out if out.ndim > 1 else np.repeat(out[:, None], n, axis=1), (n,)
        outputs, start = [], 0
        for shape in [array.shape for array in self.lifted.outputs]:
            part = out[start : (start := start + math.prod(shape))]
            outputs.append(np.ascontiguousarray(part.T).reshape((*rows, *shape)))
        return outputs

    @computed_once
    def kernel(self) -> Any:
        """The machine code; NotImplementedError if there is none (see native.Kernel)."""
        return Kernel(self.names.plan)

    def training_kernel(
        self, parameters: Sequence[Value], slots: int, update: Callable[..., Any], lr: float, steps: int
    ) -> tuple[Any, list[Value]]:
        """Machine code for whole training steps, with the optimizer's update; and the other live leaves.

        For the arguments and the kernel's state, see training_step.
        """
        step, others, order = training_step(self.lifted, parameters, slots, update, lr, steps)
        return Kernel(through(self._passes, step, "plan", "roll"), order), others

    def is_small(self) -> bool:
        """Whether machine code is worth the time that LLVM takes for it."""
        return self.operations() <= SMALL

    def operations(self) -> int:
        """How many scalar operations this variant has."""
        return sum(len(v.x) if type(v.x) is tuple else 1 for v in self.scalars.order)

    def has_code(self) -> bool:
        """Whether there is machine code for each primitive here."""
        return Kernel is not None and all(has_code(v.row) for v in self.scalars.order if v.row)


def through(passes: Passes, stage: Any, *names: str) -> Any:
    """The result of these passes, one after the other, applied to a stage."""
    for name in names:
        stage = passes[name](stage)
    return stage
