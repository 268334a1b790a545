"""Losses of one example: functions of its prediction and its target.

Prediction and target are Values, or sequences of equal length; the losses of several outputs are added. Only
cross_entropy is one loss of all outputs together, and also takes the number of a class as a target.
A loss that decides between classes has a `decision`: a prediction above it counts as class 1. A loss that
takes only some targets has `takes`, a condition on a target. Other targets raise ValueError: for them a
compiled loss is infinite, and the program then runs the row again with Values, which raises.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from autograd import Value, dot, logsumexp, minimum, total, where
from autograd.ops import relu, softplus
from autograd.tracing import Condition, modes

Loss = Callable[[Any, Any], Value]


def _loss(
    decision: float | None, targets: str = "", takes: Callable[[Any], Any] | None = None, advice: str = ""
) -> Callable[[Callable[[Any, Any], Any]], Loss]:
    """A loss of any number of outputs from the loss of one; `targets` describes the targets it takes."""

    def decorate(of_one: Callable[[Any, Any], Any]) -> Loss:
        @wraps(of_one)
        def loss(prediction: Any, target: Any) -> Any:
            ps, ys = sequence(prediction), sequence(target)
            if len(ps) != len(ys):
                raise ValueError(_unequal(ps, ys))
            checks = [check for y in ys if (check := checked(y)) is not None] if takes else []
            if len(ps) == 1 and not checks:
                return of_one(ps[0], ys[0])
            return total([*map(of_one, ps, ys), *checks])

        def checked(y: Any) -> Any:
            return _refused(loss.__name__, targets, takes(y), y, advice)  # type: ignore[misc]

        loss.decision = decision  # type: ignore[attr-defined]
        loss.takes = takes  # type: ignore[attr-defined]
        return loss

    return decorate


def _refused(loss: str, targets: str, fine: Any, y: Any, advice: str = "") -> Any:
    """None for an allowed target, else ValueError; while compile records, a Value that is 0 or infinite."""
    if isinstance(fine, Condition):
        with contextlib.suppress(ArithmeticError):  # the recorded row has a wrong target
            return where(fine, 0.0, math.inf)
    elif fine:
        return None
    given = [getattr(x, "_data", x) for x in y] if isinstance(y, list) else getattr(y, "_data", y)
    raise ValueError(f"{loss} takes targets {targets} alone, not {given}{advice}")


@_loss(decision=0.5)
def squared_error(p: Any, y: Any) -> Any:
    """½ (p − y)²; for classes, y is 0 or 1.

    >>> nn.squared_error(Value(3.0), 1.0).data
    2.0
    """
    return 0.5 * (p - y) ** 2.0


@_loss(
    decision=0.0,
    targets="from 0 to 1",
    takes=lambda y: (y >= 0.0) & (y <= 1.0),
    advice=": (Y + 1) / 2 makes them of -1 and 1, and several classes need cross_entropy",
)
def binary_cross_entropy(p: Any, y: Any) -> Any:
    """−y log σ(p) − (1 − y) log(1 − σ(p)) of a logit p (a linear output) and y in 0 … 1.

    Computed as y softplus(−p) + (1 − y) softplus(p), which never overflows, and keeps its digits near 0.

    >>> round(nn.binary_cross_entropy(Value(0.0), 1.0).data, 4)
    0.6931
    """
    return y * softplus(-p) + (1.0 - y) * softplus(p)


@_loss(
    decision=0.0,
    targets="of -1 or 1",
    takes=lambda y: (y == -1.0) | (y == 1.0),
    advice=": 2 * Y - 1 makes them of 0 and 1",
)
def hinge(p: Any, y: Any) -> Any:
    """max(0, 1 − y p), for a target y of −1 or 1.

    >>> nn.hinge(Value(0.25), -1.0).data
    1.25
    """
    return relu(1.0 - y * p)


@_loss(decision=None)
def huber(p: Any, y: Any) -> Any:
    """½ (p − y)² where |p − y| ≤ 1, else |p − y| − ½: an outlier pulls no harder than a distance of 1.

    >>> nn.huber(Value(10.0), 0.0).data, nn.huber(Value(0.5), 0.0).data
    (9.5, 0.125)
    """
    e = abs(p - y)
    return where(e <= 1.0, lambda: 0.5 * e * e, e - 0.5)


def cross_entropy(logits: Any, target: Any) -> Any:
    """−Σ yᵢ log softmax(logits)ᵢ: log Σ exp(logitsⱼ) minus the target's logit. Never overflows.

    logits: a Value for each class, two or more. target: the number of the class, from 0, or a vector of
    probabilities with the sum 1, such as a one-hot row. Raises ValueError for any other target.

    >>> logits = [Value(2.0), Value(0.0)]
    >>> nn.cross_entropy(logits, 0).data == nn.cross_entropy(logits, [1.0, 0.0]).data
    True
    """
    logits, ys = sequence(logits), sequence(target)
    if len(logits) < 2:
        raise ValueError(
            "cross_entropy takes a logit for each class, and there is one: let the model have an output for"
            " each, or take binary_cross_entropy for two classes"
        )
    if len(ys) == 1:
        return logsumexp(logits) - _logit(logits, ys[0])
    if len(ys) != len(logits):
        raise ValueError(_unequal(logits, ys))
    sum_of_ys = sum(ys[1:], ys[0])
    fine = (minimum(*ys) >= 0.0) & (abs(sum_of_ys - 1.0) <= 1e-6)
    wrong = _refused("cross_entropy", "of at least 0 with the sum 1", fine, list(ys))
    loss = logsumexp(logits) - dot(ys, logits)
    return loss if wrong is None else loss + wrong


def _takes_rows(Y: np.ndarray, outputs: int) -> np.ndarray:
    """Which rows of Y, of shape (examples, 1) or (examples, outputs), are targets for so many logits."""
    if outputs < 2:
        return np.zeros(len(Y), dtype=bool)
    if Y.shape[1] == 1:
        return np.isin(Y[:, 0], range(outputs))
    return (Y.min(axis=1) >= 0.0) & (abs(Y.sum(axis=1) - 1.0) <= 1e-6)


cross_entropy.decision = 0.5  # type: ignore[attr-defined]  # between the 0 and 1 of one-hot targets
cross_entropy.takes_rows = _takes_rows  # type: ignore[attr-defined]


def _logit(logits: Any, y: Any) -> Any:
    """The logit of class y; ValueError unless y is one of the classes' numbers."""
    if isinstance(y, Value) and modes:  # compile records all classes, once
        chosen = [where(y == float(k), 1.0, 0.0) for k in range(len(logits))]
        with contextlib.suppress(ArithmeticError):  # the recorded row has a wrong target
            return dot(chosen, logits) + where(total(chosen) == 1.0, 0.0, -math.inf)
    number = getattr(y, "_data", y)
    if number not in range(len(logits)):
        last = len(logits) - 1
        counted = ": count the classes from 0, with Y - 1" if number == last + 1 else ""
        raise ValueError(
            f"the target of {last + 1} logits is a whole number from 0 to {last}, not {number}{counted}"
        )
    return logits[int(number)]


def _unequal(ps: Any, ys: Any) -> str:
    return f"the prediction has {len(ps)} outputs and the target {len(ys)}"


def sequence(x: Any) -> Any:
    """The elements of x, or (x,) if x is one output by itself."""
    if isinstance(x, Value) or type(x) is float:
        return (x,)
    if isinstance(x, np.ndarray | np.generic):
        if x.ndim > 1:
            raise ValueError(f"the outputs of one example are a vector, not an array of shape {x.shape}")
        x = x.tolist()  # Values compute with Python's floats faster than with NumPy's
    return x if hasattr(x, "__len__") else (x,)
