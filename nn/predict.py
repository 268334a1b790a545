"""predict: a model's outputs for a data set, by a program or row by row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np

from autograd import Value, compile
from autograd.program import Program
from autograd.program.reachable import fingerprint, random_generators, restore, states
from autograd.program.rows import Readable, in_parts

from . import checks
from .losses import sequence
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
    with naming(X):
        parts = [outputs_of(model, part) for _, (part,) in in_parts(X)]
    return np.concatenate(parts) if parts else np.array(parts)


@contextlib.contextmanager
def naming(X: Readable) -> Iterator[None]:
    """Let errors name a number of X that is not finite, if there is one."""
    try:
        yield
    except ArithmeticError as error:
        raise type(error)(f"{checks.unknown(X=X)}{error}") from error


def outputs_of(model: Any, X: np.ndarray) -> np.ndarray:
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


def program_of(model: Any, X: Readable) -> Program[..., Any] | None:
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
            program.variant("rows", sample).expect(len(X))
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


def check_model(model: Any) -> None:
    """Raise TypeError if the model cannot be called with a row."""
    if not callable(model) or isinstance(model, type | Program):
        said = "a model is a function of one example's inputs, as a Module with __call__ is"
        raise TypeError(f"{said}, not {model!r:.80}")
