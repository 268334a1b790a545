"""Errors for results and gradients that are not finite, and for Values that are read as numbers."""

from __future__ import annotations

import linecache
import math
import os
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import numpy as np

from .graph import operands
from .node import Node, data_of
from .ops import CONDITIONS, Primitive


def anomaly(primitive: Primitive, x: Any, y: Any = None, cause: Exception | None = None) -> ArithmeticError:
    """The error for a primitive that has no finite result at its operands."""
    finite = all(math.isfinite(data_of(v)) for v in (*_vector_of(x), *_vector_of(y)))
    error: type[ArithmeticError]
    if isinstance(cause, ArithmeticError):
        error = type(cause)
    else:
        error = OverflowError if cause is None and finite else FloatingPointError
    verb = "overflows" if error is OverflowError else "is undefined" if finite else "is not finite"
    return error(f"{_expression(primitive, x, y)} {verb}{_user_line()}")


def gradient_anomaly(v: Node, order: Sequence[Node]) -> ArithmeticError:
    """The error for an infinite or NaN gradient at v, in a backward pass from order's last node."""
    for child in order:
        for p, d in operands(child):
            grad = child._grad
            if p is v and d is not None and not math.isfinite(grad * d):
                size = f"{d}, times a gradient of {grad}" if math.isfinite(d) else "not finite"
                return derivative_anomaly(child, v, size)
    said = f"backward: the gradients that reach {_shown(v)} overflow when added"
    return OverflowError(f"{said}{_user_line()}")


def derivative_anomaly(v: Node, operand: Any, size: str = "not finite") -> ArithmeticError:
    """The error for a derivative of v by an operand that is not finite, or that makes the gradient so."""
    said = f"the derivative of {_expression(v.row, v.x, v.y)} with respect to {_shown(operand)} is {size}"
    return FloatingPointError(f"backward: {said}{_user_line()}")


class MatrixError(np.linalg.LinAlgError, ArithmeticError):
    """A matrix is singular or not positive definite: NumPy's error, for which compile can name the row."""


def matrix_anomaly(said: str) -> MatrixError:
    """The error for a matrix, with the user's line."""
    return MatrixError(f"{said}{_user_line()}")


def refusal(v: Node, use: str, compiling: bool) -> TypeError:
    """The error for reading a Value in code that is compiled or, if not `compiling`, differentiated."""
    why = (
        "compile records a function once, for all examples, and the result of this would be baked in"
        if compiling
        else "in a function that is differentiated, numbers computed from this one have no derivative"
    )
    return TypeError(f"this {use} {_shown(v)}{_user_line()}: {why}. Instead, {_ADVICE[use]}")


def no_number(v: Node) -> TypeError:
    """The error for code that needs a float and gets a Value."""
    return TypeError(
        f"a Value is no float, and this takes {_shown(v)} for one{_user_line()}: a float has no derivative."
        " Use np.sin(x) or x.sin() for math.sin(x), and dtype object for arrays of Values; x.data is the"
        " number, where no derivative is wanted"
    )


_ADVICE = {
    "branches on": "use autograd.where(x > 0, a, b), autograd.maximum or minimum, relu() or abs()",
    "takes the bool() of": "compare it, as in x != 0",
    "copies": "use the Value itself, or x.detach()",
    "reads the derivative of": "use autograd.grad or derive: their gradients are part of the graph",
    "reads the grad of": "use autograd.grad or derive: their gradients are part of the graph",
    "sets the data of": "compute a new Value",
    "computes with": "use autograd.where(condition, 1.0, 0.0): of bools, ~True is −2, and masks add as bools",
    "looks up": "use autograd.where(x == 1, a, b), or an index that is no Value",
    "runs a program over": "call the function that was compiled",
    "rounds": "round the result",
    "formats": "print the Value itself, without a format",
}


def _vector_of(operand: Any) -> tuple[Any, ...]:
    return operand if type(operand) is tuple else () if operand is None else (operand,)


def _expression(row: Primitive, x: Any, y: Any) -> str:
    return f"{row.name}({_shown(x)})" if y is None else f"{row.name}({_shown(x)}, {_shown(y)})"


def _shown(operand: Any) -> str:
    """An operand with its label, if it has one, and its value."""
    if type(operand) is tuple:
        more = ", …" if len(operand) > 4 else ""
        return f"[{', '.join(map(_shown, operand[:4]))}{more}]"
    row = getattr(operand, "row", None)
    if row in CONDITIONS:
        x, y, sign = operand.x, operand.y, row.symbol.removeprefix("x ").removesuffix(" y")
        return f"{sign} ({_shown(x)})" if y is None else f"{_shown(x)} {sign} {_shown(y)}"
    label = getattr(operand, "_label", "")
    return f"{label}={data_of(operand)!r}" if label else repr(data_of(operand))


def _user_line() -> str:
    """The line of the user's code that is running, as ", at file:line: source"; "" if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame = frame.f_back
    if frame is None:
        return ""
    file, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(file, line).strip()
    return f", at {os.path.basename(file)}:{line}" + (f": {source}" if source else "")


# Frames that may lie between the user's code and the engine: statistics.fmean, for one, adds Values.
_LIBRARIES = {"autograd", "nn", "numpy", *sys.stdlib_module_names}
