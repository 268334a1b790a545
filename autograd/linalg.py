"""linalg: det, inv, solve and cholesky of small matrices of Values, in scalars.

    A = np.array([[Value(4.0), Value(1.0)], [Value(2.0), Value(3.0)]])
    x = autograd.linalg.solve(A, [1.0, 2.0])  # an array of Values
    autograd.linalg.det(A)  # Value(data=10.0, grad=0.0)

Arguments are as for NumPy's functions of the same names: arrays or lists of Values and numbers, of two axes.
In functions that are compiled or differentiated, NumPy's names work too: np.linalg.solve(A, b). Elsewhere an
array of Values is a plain NumPy array, and NumPy's functions refuse its Values: use these functions.

An n × n matrix takes about n³ / 3 Values. Rows are exchanged so that each pivot is the largest of its
column. Compiled code exchanges them by `where`, because the pivot may differ between examples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import ops
from .errors import matrix_anomaly
from .node import Node
from .tracing import BY_FUNCTION, Condition, Values, modes


def det(a: Any) -> Any:
    """The determinant. Compiled code has no derivative where a pivot is 0, as in a singular matrix.

    >>> autograd.linalg.det([[Value(4.0), 1.0], [2.0, 3.0]]).data
    10.0
    """
    a = _square(a, "det")
    if a.dtype != object:
        return float(np.linalg.det(a))
    out: Any = 1.0
    for k in range(len(a)):
        out = out * _pivoted(a, k)
        pivot = a[k, k]
        if _holds(pivot == 0.0):  # so are all below: Laplace's expansion gives their derivatives
            rest = a[k:, k:]
            minors = [det(np.delete(rest, i, 0)[:, 1:]) for i in range(len(rest))]
            return out * sum((-1.0) ** i * rest[i, 0] * minor for i, minor in enumerate(minors))
        out = out * pivot
        _eliminate(a, k)
    return out


def solve(a: Any, b: Any) -> Any:
    """The x for which a x = b; b is a vector or, with a column for each x, a matrix.

    Raises MatrixError, a LinAlgError of NumPy's and an ArithmeticError, where a is singular.

    >>> [round(x.data, 12) for x in autograd.linalg.solve([[Value(4.0), 1.0], [2.0, 3.0]], [1.0, 2.0])]
    [0.1, 0.6]
    """
    a, b = _square(a, "solve"), _numbers_of(b)
    if b.ndim not in (1, 2) or len(b) != len(a):
        raise ValueError(f"solve takes b of {len(a)} rows for a of shape {a.shape}, not of shape {b.shape}")
    if a.dtype != object and b.dtype != object:
        return np.linalg.solve(a, b)
    n = len(a)
    both = np.concatenate([a, b.reshape(n, -1)], axis=1).astype(object)
    for k in range(n):
        _pivoted(both, k)
        if _holds(both[k, k] == 0.0):
            raise matrix_anomaly("the matrix is singular: it has no inverse, and no unique solution")
        _eliminate(both, k)
    x = both[:, n:]
    for k in reversed(range(n)):
        for i in range(k + 1, n):
            x[k] = x[k] - both[k, i] * x[i]
        x[k] = x[k] / both[k, k]
    return _like_values(x.reshape(b.shape))


def inv(a: Any) -> Any:
    """The inverse; errors are those of solve.

    >>> round(autograd.linalg.inv([[Value(4.0), 1.0], [2.0, 3.0]])[1, 1].data, 12)
    0.4
    """
    a = _square(a, "inv")
    return solve(a, np.eye(len(a)))


def cholesky(a: Any) -> Any:
    """The lower triangular L for which a = L Lᵀ. As in NumPy, only the lower triangle of a is read.

    Raises MatrixError where a is not positive definite.

    >>> autograd.linalg.cholesky([[Value(4.0), 2.0], [2.0, 5.0]])[1, 1].data
    2.0
    """
    a = _square(a, "cholesky")
    if a.dtype != object:
        return np.linalg.cholesky(a)
    out = np.zeros(a.shape, dtype=object)
    out[...] = 0.0
    for k in range(len(a)):
        for i in range(k, len(a)):
            rest = a[i, k] - sum(out[i, :k] * out[k, :k])
            if i > k:
                out[i, k] = rest / out[k, k]
            elif _holds(rest <= 0.0):
                raise matrix_anomaly("the matrix is not positive definite: it has no Cholesky factor")
            else:
                is_positive = rest > 0.0
                if isinstance(is_positive, Condition):  # the row of another sign is to be found
                    rest = is_positive.choose(rest, -1.0)
                out[k, k] = ops.sqrt(rest)
    return _like_values(out)


def _numbers_of(x: Any) -> np.ndarray:
    """A copy of numbers as floats or, with Values among them, as objects."""
    array = np.array(x, dtype=object)
    return array if any(isinstance(v, Node) for v in array.flat) else array.astype(float)


def _square(a: Any, name: str) -> np.ndarray:
    array = _numbers_of(a)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"{name} takes one square matrix, not an array of shape {array.shape}")
    return array


def _holds(condition: Any) -> bool:
    """Whether a comparison holds; False for one that differs between examples, where the engine raises."""
    return not isinstance(condition, Condition) and bool(condition)


def _pivoted(a: np.ndarray, k: int) -> Any:
    """Exchange rows from the k-th down so that the k-th has the pivot; return det's change of sign, ±1."""
    sign: Any = 1.0
    for i in range(k + 1, len(a)):
        larger = abs(a[i, k]) > abs(a[k, k])
        if isinstance(larger, Condition):
            a[k, k:], a[i, k:] = larger.choose(a[i, k:], a[k, k:]), larger.choose(a[k, k:], a[i, k:])
            sign = larger.choose(-sign, sign)
        elif larger:
            a[[k, i], k:] = a[[i, k], k:]
            sign = -sign
    return sign


def _eliminate(a: np.ndarray, k: int) -> None:
    """Subtract the k-th row from those below it, so that their k-th elements vanish."""
    for i in range(k + 1, len(a)):
        a[i, k + 1 :] = a[i, k + 1 :] - a[i, k] / a[k, k] * a[k, k + 1 :]


def _like_values(result: np.ndarray) -> np.ndarray:
    """The result as Values, the class of arrays in traced functions, if a thread traces."""
    return result.view(Values) if modes else result


BY_FUNCTION.update(
    {np.linalg.det: det, np.linalg.inv: inv, np.linalg.solve: solve, np.linalg.cholesky: cholesky}
)
