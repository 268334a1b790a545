"""functions: compositions of the table's primitives.

    autograd.clip(Value(2.5), 0.0, 1.0)  # the minimum of a maximum
    np.degrees(Value(3.14))  # NumPy's name for rad2deg

Each takes numbers, Values and arrays of them, as the rows of the table do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .node import Node
from .tracing import BY_FUNCTION, where
from .tracing import BY_UFUNC as BY_UFUNC  # value.py makes methods of its entries


def _of_values(function: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function of scalars take arrays too; arrays of numbers go to NumPy's function."""

    def decorate(f: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(f)
        def of_any(*operands: Any) -> Any:
            arrays = [x for x in operands if isinstance(x, np.ndarray)]
            if not arrays:
                return f(*operands)
            if any(x.dtype == object for x in arrays) or any(isinstance(x, Node) for x in operands):
                return np.frompyfunc(f, len(operands), 1)(*operands)
            return function(*operands)

        (BY_UFUNC if isinstance(function, np.ufunc) else BY_FUNCTION)[function] = of_any
        return of_any

    return decorate


@_of_values(np.deg2rad)
def deg2rad(x: Any) -> Any:
    """Degrees as radians.

    >>> deg2rad(180.0)
    3.141592653589793
    """
    return x * (math.pi / 180.0)


@_of_values(np.rad2deg)
def rad2deg(x: Any) -> Any:
    """Radians as degrees.

    >>> round(rad2deg(Value(3.141592653589793)).data, 9)
    180.0
    """
    return x * (180.0 / math.pi)


@_of_values(np.exp2)
def exp2(x: Any) -> Any:
    """2^x.

    >>> exp2(Value(3.0)).data
    8.0
    """
    return 2.0**x


@_of_values(np.sinc)
def sinc(x: Any) -> Any:
    """sin(πx) / (πx), and 1 at 0; for |x| ≤ 1/2 by a power series, whose derivatives lose no digits.

    >>> sinc(Value(0.0)).data, round(grad(sinc)(1.0), 6)
    (1.0, -1.0)
    """
    z = math.pi * x

    def series() -> Any:
        square, out = z * z, _SINC[0]
        for coefficient in _SINC[1:]:
            out = out * square + coefficient
        return out

    return where(abs(x) <= 0.5, series, lambda: ops.sin(z) / z)


_SINC = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(12, -1, -1)]


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """x, or min where x is below min, or max where x is above max; None is no limit.

    Takes numbers, Values or arrays of them. At a limit, x gets half of the gradient, as in maximum.

    >>> clip(Value(2.5), 0.0, 1.0).data
    1.0
    """
    if min is not None:
        x = ops.maximum(x, min)
    return x if max is None else ops.minimum(x, max)


def _numpy_clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    return clip(a, a_min if min is None else min, a_max if max is None else max)


BY_FUNCTION[np.clip] = _numpy_clip
BY_UFUNC.update({np.degrees: rad2deg, np.radians: deg2rad, np.fabs: ops.abs})
