"""Losses of one example: functions of its prediction and its target.

Each is a Value, or a sequence of as many; the losses of several outputs are added. A loss also
knows its `decision`: a prediction above it counts as class 1; and its `targets`, if just some will
do, which fit() holds a data set to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from autograd import Value, total
from autograd.ops import relu, softplus

Loss = Callable[[Any, Any], Value]


def _loss(decision: float, targets: Sequence[float] = ()) -> Callable[[Callable[[Any, Any], Any]], Loss]:
    """A loss of any number of outputs from that of one output."""

    def decorate(of_one: Callable[[Any, Any], Any]) -> Loss:
        @wraps(of_one)
        def loss(prediction: Any, target: Any) -> Any:
            ps, ys = sequence(prediction), sequence(target)
            if len(ps) != len(ys):
                raise ValueError(f"the prediction has {len(ps)} outputs and the target {len(ys)}")
            if len(ps) == 1:
                return of_one(ps[0], ys[0])
            return total([of_one(p, y) for p, y in zip(ps, ys)])

        loss.decision = decision  # type: ignore[attr-defined]
        loss.targets = targets  # type: ignore[attr-defined]
        return loss

    return decorate


@_loss(decision=0.5)
def squared_error(p: Any, y: Any) -> Any:
    """½ (p − y)²; for classes, y is 0 or 1."""
    return 0.5 * (p - y) ** 2.0


@_loss(decision=0.0)
def binary_cross_entropy(p: Any, y: Any) -> Any:
    """−y log σ(p) − (1 − y) log(1 − σ(p)) of a logit p (a linear output) and y in 0 … 1.

    As y softplus(−p) + (1 − y) softplus(p): it never overflows, and keeps its digits near 0.
    """
    return y * softplus(-p) + (1.0 - y) * softplus(p)


@_loss(decision=0.0, targets=(-1.0, 1.0))
def hinge(p: Any, y: Any) -> Any:
    """max(0, 1 − y p), for a target y of −1 or 1."""
    return relu(1.0 - y * p)


def sequence(x: Any) -> Any:
    """x itself if it has elements, else a tuple of it: one output may be bare."""
    bare = isinstance(x, Value) or not hasattr(x, "__len__") or getattr(x, "ndim", 1) == 0
    return (x,) if bare else x
