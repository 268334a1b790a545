"""Losses of one example: functions of its prediction and its target.

Prediction and target are Values, or sequences of equal length; the losses of several outputs are added.
A loss has a `decision`: a prediction above it counts as class 1. A loss that takes only some targets has
`takes`, a condition on a target. Any other target is a ValueError: a compiled loss is infinite for it, and
the program then runs the row again with Values, which raises.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from autograd import Value, total, where
from autograd.ops import relu, softplus
from autograd.tracing import Condition

Loss = Callable[[Any, Any], Value]


def _loss(
    decision: float, targets: str = "", takes: Callable[[Any], Any] | None = None
) -> Callable[[Callable[[Any, Any], Any]], Loss]:
    """A loss of any number of outputs from the loss of one; `targets` describes those that it takes."""

    def decorate(of_one: Callable[[Any, Any], Any]) -> Loss:
        @wraps(of_one)
        def loss(prediction: Any, target: Any) -> Any:
            ps, ys = sequence(prediction), sequence(target)
            if len(ps) != len(ys):
                raise ValueError(f"the prediction has {len(ps)} outputs and the target {len(ys)}")
            checks = [check for y in ys if (check := checked(y)) is not None] if takes else []
            if len(ps) == 1 and not checks:
                return of_one(ps[0], ys[0])
            return total([*map(of_one, ps, ys), *checks])

        def checked(y: Any) -> Any:
            """Raise ValueError for a wrong target; while compile records, give an infinite Value."""
            fine = takes(y)  # type: ignore[misc]
            if isinstance(fine, Condition):
                with contextlib.suppress(ArithmeticError):  # the recorded row has a wrong target
                    return where(fine, 0.0, math.inf)
            elif fine:
                return None
            raise ValueError(f"{loss.__name__} takes targets {targets} alone, not {getattr(y, '_data', y)}")

        loss.decision = decision  # type: ignore[attr-defined]
        loss.takes = takes  # type: ignore[attr-defined]
        return loss

    return decorate


@_loss(decision=0.5)
def squared_error(p: Any, y: Any) -> Any:
    """½ (p − y)²; for classes, y is 0 or 1."""
    return 0.5 * (p - y) ** 2.0


@_loss(decision=0.0, targets="from 0 to 1", takes=lambda y: (y >= 0.0) & (y <= 1.0))
def binary_cross_entropy(p: Any, y: Any) -> Any:
    """−y log σ(p) − (1 − y) log(1 − σ(p)) of a logit p (a linear output) and y in 0 … 1.

    As y softplus(−p) + (1 − y) softplus(p): it never overflows, and keeps its digits near 0.
    """
    return y * softplus(-p) + (1.0 - y) * softplus(p)


@_loss(decision=0.0, targets="of -1 or 1", takes=lambda y: (y == -1.0) | (y == 1.0))
def hinge(p: Any, y: Any) -> Any:
    """max(0, 1 − y p), for a target y of −1 or 1."""
    return relu(1.0 - y * p)


def sequence(x: Any) -> Any:
    """The elements of x, or (x,) if x is one output by itself."""
    if isinstance(x, Value) or type(x) is float:
        return (x,)
    if isinstance(x, np.ndarray | np.generic):
        if x.ndim > 1:
            raise ValueError(f"the outputs of one example are a vector, not an array of shape {x.shape}")
        x = x.tolist()  # Values compute with Python's floats faster than with NumPy's
    return x if hasattr(x, "__len__") else (x,)
