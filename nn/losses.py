"""Losses of one example: functions of its prediction and its target.

Each is a Value, or a sequence of as many; the losses of several outputs are added. A loss also
knows its `decision`: a prediction above it counts as class 1; and, if just some targets will do,
`outside`: a function of a target that is 0 for those alone. Others are a ValueError: at once where the
target is a number, and from a compiled loss because its result overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from autograd import Value, total
from autograd.ops import relu, softplus

Loss = Callable[[Any, Any], Value]


def _loss(
    decision: float, targets: str = "", outside: Callable[[Any], Any] | None = None
) -> Callable[[Callable[[Any, Any], Any]], Loss]:
    """A loss of any number of outputs from that of one output; `targets` is in words what it takes."""

    def decorate(of_one: Callable[[Any, Any], Any]) -> Loss:
        @wraps(of_one)
        def loss(prediction: Any, target: Any) -> Any:
            ps, ys = sequence(prediction), sequence(target)
            if len(ps) != len(ys):
                raise ValueError(f"the prediction has {len(ps)} outputs and the target {len(ys)}")
            guards = [guard for y in ys if (guard := check(y)) is not None] if outside else []
            if len(ps) == 1 and not guards:
                return of_one(ps[0], ys[0])
            return total([*map(of_one, ps, ys), *guards])

        def check(y: Any) -> Any:
            """ValueError for a wrong target; of one that compile records, a term that overflows for it."""
            try:
                scaled = 1e300 * outside(y)  # type: ignore[misc]
                guard = scaled * scaled  # with a slope of 0 at 0
            except ArithmeticError:  # among Values
                guard = math.inf
            try:
                if guard <= 0.0:
                    return None
            except TypeError:  # while compile records, nothing can be compared
                return guard
            number = y.data if isinstance(y, Value) else y
            raise ValueError(f"{loss.__name__} takes targets {targets} alone, not {number}")

        loss.decision = decision  # type: ignore[attr-defined]
        loss.outside = outside  # type: ignore[attr-defined]
        return loss

    return decorate


@_loss(decision=0.5)
def squared_error(p: Any, y: Any) -> Any:
    """½ (p − y)²; for classes, y is 0 or 1."""
    return 0.5 * (p - y) ** 2.0


@_loss(decision=0.0, targets="from 0 to 1", outside=lambda y: relu(y * (y - 1.0)))
def binary_cross_entropy(p: Any, y: Any) -> Any:
    """−y log σ(p) − (1 − y) log(1 − σ(p)) of a logit p (a linear output) and y in 0 … 1.

    As y softplus(−p) + (1 − y) softplus(p): it never overflows, and keeps its digits near 0.
    """
    return y * softplus(-p) + (1.0 - y) * softplus(p)


@_loss(decision=0.0, targets="of -1 or 1", outside=lambda y: y * y - 1.0)
def hinge(p: Any, y: Any) -> Any:
    """max(0, 1 − y p), for a target y of −1 or 1."""
    return relu(1.0 - y * p)


def sequence(x: Any) -> Any:
    """The elements of x if it has some, else a tuple of it: one output may be bare."""
    if isinstance(x, Value) or type(x) is float:
        return (x,)
    if isinstance(x, np.ndarray | np.generic):
        if x.ndim > 1:
            raise ValueError(f"the outputs of one example are a vector, not an array of shape {x.shape}")
        x = x.tolist()  # of floats: Values compute with those faster than with NumPy's
    return x if hasattr(x, "__len__") else (x,)
