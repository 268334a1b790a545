"""accuracy: how many of a model's outputs decide right."""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from autograd.program import Program
from autograd.program.batches import Task, loaded, results, variant_of
from autograd.program.blocks import alone
from autograd.program.rows import Readable, in_parts

from . import checks
from .batches import Batches
from .losses import Loss, squared_error
from .predict import MANY, check_model, naming, outputs_of, program_of


def accuracy(model: Any, X: Any, Y: Any, loss: Loss = squared_error) -> float | None:
    """The share of the rows of X for which the model decides as Y does; None where nothing is decided.

    A loss without a `decision`, such as huber, decides nothing, and squared_error decides only between the
    targets 0 and 1. A model of one output decides for 1 if the output is above the loss's decision, else for
    0. A model of several outputs decides for the class of the largest if the loss is cross_entropy or Y is
    one-hot; for any other Y, each output decides by itself.

    >>> nn.accuracy(lambda x: x[0] + 0.0, [[0.2], [0.9], [0.6]], [0, 1, 0])
    0.6666666666666666
    """
    check_model(model)
    X, Y = checks.examples(X, Y, checks.rows)
    return share_of(model, X, Y, loss, program_of(model, X) if len(X) >= MANY else None)


def share_of(
    model: Any, X: Readable, Y: Readable, loss: Loss, program: Program[..., Any] | None
) -> float | None:
    """The accuracy for X and Y, of shape (examples, ...), by a program of the model or without."""
    try:
        with naming(X):
            return _share([_counts(_outputs(model, program), (X, Y), *_decides(loss))], loss)
    except ArithmeticError:
        if program is None:
            raise
        return share_of(model, X, Y, loss, None)


def share_of_batches(
    model: Any, batches: Batches, loss: Loss, program: Program[..., Any] | None
) -> float | None:
    """The accuracy for batches, by their executor if there is one; None if they can be read only once."""
    if not batches.is_repeatable or _decides(loss)[0] is None:
        return None
    if batches.executor is None or program is None:
        outputs = _outputs(model, program)
        return _share([_counts(outputs, loaded(batch), *_decides(loss)) for batch in batches], loss)
    variant = program.variant("rows", batches.sample[0])
    code, state = pickle.dumps(variant.portable(native=False)), variant.state()
    tasks = (Task(code, False, state, [a.shape[1:] for a in batches.sample], batch) for batch in batches)
    count = functools.partial(_count, *_decides(loss))
    return _share([found for _, found in results(batches.executor, count, tasks)], loss)


class _Counts(NamedTuple):
    """How many of so many rows and outputs are right, as one class of several or each output by itself."""

    rows: int
    outputs: int
    of_classes: int
    of_outputs: int
    is_one_hot: bool
    is_binary: bool


def _count(decision: float | None, chooses: bool, task: Task) -> _Counts:
    """How much a program of the model has right in a task's batch, on a worker."""
    variant = variant_of(task.code)

    def outputs(x: np.ndarray) -> np.ndarray:
        return variant.evaluate([x], task.state, task.native)[0]

    with alone():
        return _counts(outputs, loaded(task.batch), decision, chooses)


def _outputs(model: Any, program: Program[..., Any] | None) -> Callable[[np.ndarray], np.ndarray]:
    return functools.partial(outputs_of, model) if program is None else program.per_example


def _decides(loss: Loss) -> tuple[float | None, bool]:
    """Above which output a loss decides for class 1, and whether it chooses one class of several."""
    return getattr(loss, "decision", None), hasattr(loss, "takes_rows")


def _counts(
    outputs: Callable[[np.ndarray], np.ndarray], batch: Any, decision: float | None, chooses: bool
) -> _Counts:
    X, Y = batch
    Y = checks.with_row(Y, (math.prod(Y.shape[1:]),))
    is_one_hot, is_binary = Y.shape[1] > 1, True
    of_classes = of_outputs = 0
    for _, (x, y) in in_parts(X, Y):
        p = outputs(x)
        if p.shape != y.shape and not (chooses and y.shape[1] == 1 < p.shape[1]):
            raise ValueError(f"the predictions have shape {(len(X), *p.shape[1:])} and Y {Y.shape}")
        if decision is not None:
            is_binary = is_binary and bool(np.isin(y, (0.0, 1.0)).all())
            is_one_hot = is_one_hot and bool(((y > decision).sum(axis=1) == 1).all())
            if chooses or is_one_hot:
                classes = y.argmax(axis=1) if p.shape == y.shape else y[:, 0]
                of_classes += int((p.argmax(axis=1) == classes).sum())
            if not chooses:
                of_outputs += int(((p > decision) == (y > 0.5)).sum())
    return _Counts(len(X), math.prod(Y.shape), of_classes, of_outputs, is_one_hot, is_binary)


def _share(found: Sequence[_Counts], loss: Loss) -> float | None:
    """The share that is right in all of these together."""
    decision, chooses = _decides(loss)
    if decision is None or (loss is squared_error and not all(counts.is_binary for counts in found)):
        return None  # numbers to predict, and no classes
    if chooses or all(counts.is_one_hot for counts in found):
        return sum(counts.of_classes for counts in found) / sum(counts.rows for counts in found)
    return sum(counts.of_outputs for counts in found) / sum(counts.outputs for counts in found)
