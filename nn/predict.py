"""predict and accuracy: a model's outputs for a data set, and how many of them decide right."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from autograd import Value, compile
from autograd.program import Program
from autograd.program.reachable import fingerprint, random_generators, restore, states
from autograd.program.rows import Rows, in_parts

from . import checks
from .losses import Loss, sequence, squared_error
from .matrix import MatrixMLP

MANY = 256  # rows, for which recording and compiling a model takes about as long as Values do


def predict(model: Any, X: Any) -> np.ndarray:
    """The model's predictions for the rows of X, of shape (examples, outputs).

    Many rows go through the compiled model, after some of them have given the same outputs as with Values.

    >>> model = nn.MLP(2, [3])
    >>> nn.predict(model, [[0.0, 1.0], [1.0, 1.0]]).shape
    (2, 3)
    """
    check_model(model)
    X = checks.rows("X", X)
    if X.ndim != 2:
        advice = checks.column("X", X)
        raise ValueError(f"X has shape {X.shape}: it needs a row for each example{advice}")
    if len(X) >= MANY and (program := program_of(model, X)):
        with contextlib.suppress(ArithmeticError):  # the Values below raise an error that names the row
            return program.per_example(X)
    with _naming(X):
        parts = [_outputs(model, part) for _, (part,) in in_parts(X)]
    return np.concatenate(parts) if parts else np.array(parts)


@contextlib.contextmanager
def _naming(X: np.ndarray | Rows) -> Iterator[None]:
    """Let errors name a number of X that is not finite, if there is one."""
    try:
        yield
    except ArithmeticError as error:
        raise type(error)(f"{checks.unknown(X=X)}{error}") from error


def _outputs(model: Any, X: np.ndarray) -> np.ndarray:
    """The model's outputs for rows in memory, without a program."""
    if isinstance(model, MatrixMLP):
        predictions = model(X)
        if not np.isfinite(predictions).all():
            raise FloatingPointError("a prediction is not finite")
        return predictions
    rows = [_outputs_of_row(model, x) for x in X.copy()]  # a model may write into its row
    if len(widths := set(map(len, rows))) > 1:
        raise ValueError(
            f"the model gives {' or '.join(map(str, sorted(widths)))} outputs, depending on the row"
        )
    return np.array(rows)


def program_of(model: Any, X: np.ndarray | Rows) -> Program[..., Any] | None:
    """The compiled model, or None if some rows of X show that it differs from the model with Values."""
    if isinstance(model, MatrixMLP):
        return None
    generators = random_generators(model)
    before = states(generators)
    try:
        program = compile(lambda x: list(sequence(model(x))))
        sample = X[np.unique(np.linspace(0, len(X) - 1, 16).astype(int))]
        seen = fingerprint(model)[0]
        rows = np.array([_outputs_of_row(model, x) for x in sample.copy()])
        is_pure = fingerprint(model)[0] == seen  # else the model counts or collects, and needs every row
        close = np.allclose(program.per_example(sample), rows, rtol=1e-9, atol=0.0)
        if is_pure and close and states(generators) == before:
            return program
    except Exception:  # of any class: Values then predict, or raise an error that says what is wrong
        pass
    restore(generators, before)
    return None


def _outputs_of_row(model: Any, x: np.ndarray) -> list[float]:
    """The model's outputs for a row, as numbers."""
    output = model(x)
    outputs = sequence(output)
    if not all(isinstance(p, Value | Real) for p in outputs):
        raise TypeError(f"a model returns a Value or a vector of them, not {output!r:.80}")
    return [p.data if isinstance(p, Value) else float(p) for p in outputs]


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
    model: Any, X: np.ndarray | Rows, Y: np.ndarray | Rows, loss: Loss, program: Program[..., Any] | None
) -> float | None:
    """The accuracy for X and Y, of shape (examples, ...), by a program of the model or without."""
    decision = getattr(loss, "decision", None)
    chooses = hasattr(loss, "takes_rows")  # one class of several
    is_one_hot, is_binary = Y.shape[1] > 1, True
    of_classes = of_outputs = 0
    try:
        with _naming(X):
            for _, (x, y) in in_parts(X, Y):
                p = program.per_example(x) if program else _outputs(model, x)
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
    except ArithmeticError:
        if program is None:
            raise
        return share_of(model, X, Y, loss, None)
    if decision is None or (loss is squared_error and not is_binary):  # numbers to predict, and no classes
        return None
    return of_classes / len(X) if chooses or is_one_hot else of_outputs / math.prod(Y.shape)


def check_model(model: Any) -> None:
    """Raise TypeError if the model cannot be called with a row."""
    if not callable(model) or isinstance(model, type | Program):
        said = "a model is a function of one example's inputs, as a Module with __call__ is"
        raise TypeError(f"{said}, not {model!r:.80}")
