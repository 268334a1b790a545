"""Checks of arguments: each returns its argument, converted, or raises an error that says what is right."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.random import Generator

from autograd.program.evaluation import first_of
from autograd.program.rows import FLOAT, Readable, RowReader, has_masked, in_parts, readable

SMALL = 1 << 20  # numbers, up to which all of a data set is read at once


def whole(name: str, n: Any) -> int:
    """A whole number above 0; ValueError if not."""
    try:
        if (n := operator.index(n)) > 0:
            return n
    except TypeError:
        pass
    raise ValueError(f"{name} is a whole number above 0, not {n!r}")


def positive(name: str, x: Any) -> float:
    """A finite number above 0; ValueError if not."""
    return _real(name, x, lambda x: 0.0 < x < math.inf, "a finite number above 0")


def at_least_0(name: str, x: Any) -> float:
    """A finite number of at least 0; ValueError if not."""
    return _real(name, x, lambda x: 0.0 <= x < math.inf, "a finite number of at least 0")


def fraction(name: str, x: Any) -> float:
    """A number from 0 to below 1; ValueError if not."""
    return _real(name, x, lambda x: 0.0 <= x < 1.0, "a number from 0 to below 1")


def _real(name: str, x: Any, fits: Callable[[float], bool], said: str) -> float:
    if isinstance(x, Real) and fits(float(x)):
        return float(x)
    raise ValueError(f"{name} is {said}, not {x!r}")


def generator(rng: Any) -> Generator:
    """The given generator or, for None, one of fresh entropy; TypeError for anything else."""
    if rng is None:
        return np.random.default_rng()
    if isinstance(rng, Generator):
        return rng
    raise TypeError(f"rng is a generator, such as numpy.random.default_rng(0), not {rng!r}")


def numbers(name: str, x: Any) -> np.ndarray:
    """An array of real numbers, as floats; TypeError or ValueError if not.

    An array of objects is allowed if all are real numbers: a data frame of several types gives such an array.
    """
    if isinstance(x, np.ndarray) and has_masked(x):
        (at, *_) = np.argwhere(np.ma.getmaskarray(x)).tolist()
        raise ValueError(f"{name}{at} is masked: leave out what is unknown, or fill it in")
    if hasattr(x, "detach") and hasattr(x, "cpu"):  # a tensor, perhaps with a gradient or of half precision
        x = x.detach().cpu().double().numpy()
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} is not an array: its rows differ in length") from None
    if array.dtype.name == "bfloat16":  # a type of JAX's
        array = array.astype(float)
    if array.dtype == object:
        for place, item in np.ndenumerate(array):
            if not isinstance(item, Real | np.bool_):
                column = f" (column {x.columns[place[1]]})" if hasattr(x, "columns") else ""
                raise TypeError(f"{name}{[*place]}{column} is {item!r:.40}, not a real number")
    elif array.dtype.kind not in "fiub":
        raise TypeError(f"{name} holds {array.dtype}, not real numbers")
    return array.astype(float, copy=False)


def rows(name: str, x: Any) -> Readable:
    """An array of real numbers as numbers() gives it; if it is large, without a copy."""
    found = readable(x)
    if found is None or found.ndim == 0:
        return numbers(name, x)
    if found.size <= SMALL:
        return numbers(name, found[:])
    return found if found.dtype == FLOAT else RowReader(found, found.shape[1:])


def unknown(**arrays: Readable) -> str:
    """The first number of the arrays that is not finite, as the start of a message; "" if all are finite."""
    for name, array in arrays.items():
        for start, (part,) in in_parts(array):
            if found := first_of({name: part}, lambda part: ~np.isfinite(part), start):
                return f"{found}: "
    return ""


def column(name: str, x: Readable) -> str:
    """Advice for an array that has a number where a row is needed."""
    said = f"; {name}[:, None] makes each number an example, and {name}[None] makes them all one"
    return said if x.ndim == 1 else ""


def examples(X: Any, Y: Any, read: Callable[[str, Any], Any] = numbers) -> tuple[Any, Any]:
    """X of shape (examples, inputs) and Y of shape (examples, outputs), from (examples,) for one output.

    `read` is numbers or, so that large arrays need not be in memory, rows. Raises ValueError with both shapes
    for other shapes, and TypeError for arrays that are not numeric.
    """
    X, Y = read("X", X), read("Y", Y)
    shapes = f"X has shape {X.shape} and Y {Y.shape}"
    if X.ndim != 2 or Y.ndim not in (1, 2) or len(X) != len(Y):
        raise ValueError(f"{shapes}: they need a row for each example, and equally many rows{column('X', X)}")
    if len(X) == 0:
        raise ValueError(f"{shapes}: there is no example")
    return X, with_row(Y, (math.prod(Y.shape[1:]),))


def targets(Y: Readable) -> Readable:
    """Y of shape (examples, outputs) or, for one output, (examples,), as a prediction is then a scalar."""
    return with_row(Y, ()) if Y.shape[1] == 1 else Y


def with_row(array: Readable, row: tuple[int, ...]) -> Readable:
    """The same numbers, with rows of another shape."""
    return RowReader(array.source, row) if isinstance(array, RowReader) else array.reshape(len(array), *row)


def state(given: Any, expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name, with the names and shapes of the expected ones.

    Raises ValueError at the first name that is missing, unknown or of another shape, and TypeError
    for arrays that are not numeric.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"a state is a mapping of names to arrays, not {type(given).__name__}")
    for name in [*expected, *given]:
        if name not in given:
            raise ValueError(f"{name} is missing; given are {', '.join(map(str, given)) or 'none'}")
        if name not in expected:
            raise ValueError(f"{name} is unknown here; known are {', '.join(expected) or 'none'}")
    arrays = {name: numbers(name, given[name]) for name in expected}
    for name, array in arrays.items():
        if array.shape != expected[name].shape:
            raise ValueError(f"{name} has shape {array.shape}, not {expected[name].shape}")
    return arrays
