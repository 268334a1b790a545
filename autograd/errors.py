"""What is said of a result or a gradient that is not finite, and of a branch that cannot be recorded."""

from __future__ import annotations

import linecache
import math
import os
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

from .graph import operands

if TYPE_CHECKING:
    from .ops import Primitive
    from .value import Value


def anomaly(primitive: Primitive, x: Any, y: Any = None, cause: Exception | None = None) -> ArithmeticError:
    """The error for a primitive that has no finite result at its operands."""
    finite = all(math.isfinite(d) for d in (*_data(x), *_data(y)))
    kind: type[ArithmeticError]
    if isinstance(cause, ArithmeticError):
        kind = type(cause)
    elif cause is None and finite:
        kind = OverflowError
    else:
        kind = FloatingPointError
    verb = "overflows" if kind is OverflowError else "is undefined" if finite else "is not finite"
    return kind(f"{_call(primitive.name, x, y)} {verb}{_user_line()}")


def gradient_anomaly(v: Value, order: list[Value]) -> ArithmeticError:
    """The error for a gradient that came out infinite or NaN at v, reached from order's last node."""
    for child in order:
        for p, d in operands(child):
            if p is v and not math.isfinite(child.grad * d):
                size = f"{d}, times a gradient of {child.grad}" if math.isfinite(d) else "not finite"
                return derivative_anomaly(child, v, size)
    said = f"backward: the gradients that reach {_shown(v)} overflow when added"
    return OverflowError(f"{said}{_user_line()}")


def derivative_anomaly(v: Value, operand: Any, size: str = "not finite") -> ArithmeticError:
    """The error for a derivative of v, with respect to an operand, that is not finite or grows so."""
    said = f"the derivative of {_call(v.op, v.x, v.y)} with respect to {_shown(operand)} is {size}"
    return FloatingPointError(f"backward: {said}{_user_line()}")


def recorded_branch(v: Value, use: str) -> TypeError:
    """The error for Python code that reads a number from a Value while compile() records."""
    if use == "copies":
        instead = "the Value itself"
    elif "compares" in use:
        instead = "autograd.maximum or minimum, relu() or abs()"
    else:
        instead = "x.exp(), np.exp(x) and the like"
    return TypeError(
        f"compile records a function once, for all examples, and here it {use} {_shown(v)}{_user_line()}:"
        f" what follows from that number would be baked in, as a branch would. Instead, use {instead}"
    )


def lost_derivative(v: Value, use: str) -> TypeError:
    """The error for Python code that reads a number from a Value while a transform calls it."""
    return TypeError(
        f"a function that is differentiated {use} {_shown(v)}{_user_line()}: what follows from that number"
        " has no derivative. Use np.sin for math.sin, and dtype object for an array that Values are put into;"
        " x.data is the number where that alone is wanted"
    )


def _data(operand: Any) -> list[float]:
    vector = operand if type(operand) is tuple else () if operand is None else (operand,)
    return [_number(x) for x in vector]


def _number(x: Any) -> float:
    return x.data if hasattr(x, "grad") else float(x)


def _call(op: str, x: Any, y: Any) -> str:
    return f"{op}({_shown(x)})" if y is None else f"{op}({_shown(x)}, {_shown(y)})"


def _shown(operand: Any) -> str:
    """An operand with its label, if it has one, and its value."""
    if type(operand) is tuple:
        more = ", …" if len(operand) > 4 else ""
        return f"[{', '.join(map(_shown, operand[:4]))}{more}]"
    label = getattr(operand, "label", "")
    return f"{label}={_number(operand)!r}" if label else repr(_number(operand))


def _user_line() -> str:
    """The caller's own place, as ", at file:line: source"; "" if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_USERS:
        frame = frame.f_back
    return f", at {_place(frame)}" if frame else ""


def _place(frame: FrameType) -> str:
    file, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(file, line).strip()
    return f"{os.path.basename(file)}:{line}" + (f": {source}" if source else "")


# NumPy's wrappers stand between, as in nn.fit, and Python's own, as in statistics.fmean or a thread.
_NOT_THE_USERS = {"autograd", "nn", "numpy", *sys.stdlib_module_names}
