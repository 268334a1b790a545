"""What is said when a result or a gradient stops being finite."""

from __future__ import annotations

import linecache
import math
import os
import sys
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ops import Primitive
    from .value import Value


def anomaly(primitive: Primitive, x: Any, y: Any = None, cause: Exception | None = None) -> ArithmeticError:
    """The error for a primitive that has no finite result at its operands."""
    operands = [x] if y is None else [x, y]
    finite = all(math.isfinite(d) for operand in operands for d in _data(operand))
    kind: type[ArithmeticError]
    if isinstance(cause, ArithmeticError):
        kind = type(cause)
    elif cause is None and finite:
        kind = OverflowError
    else:
        kind = FloatingPointError
    verb = "overflows" if kind is OverflowError else "is undefined" if finite else "is not finite"
    shown = ", ".join(map(_shown, operands))
    return kind(f"{primitive.name}({shown}) {verb}{_user_line()}")


def gradient_anomaly(v: Value, order: list[Value]) -> ArithmeticError:
    """The error for a gradient that came out infinite or NaN at v, reached from order's last node."""
    for child in order:
        for operand, partial in ((child.x, child.dx), (child.y, child.dy)):
            vector = type(operand) is tuple
            pairs = zip(operand, partial) if vector and partial else [(operand, partial)]
            for p, d in pairs:
                if p is v and d is not None and not math.isfinite(child.grad * d):
                    operands = [child.x] if child.y is None else [child.x, child.y]
                    shown = ", ".join(map(_shown, operands))
                    return FloatingPointError(
                        f"backward: the derivative of {child.op}({shown}) with respect to {_shown(v)}"
                        f" is {d}, times a gradient of {child.grad}"
                    )
    return OverflowError(f"backward: the gradients that reach {_shown(v)} overflow when added")


def _data(operand: Any) -> list[float]:
    vector = operand if type(operand) is tuple else (operand,)
    return [float(x) for x in vector]


def _shown(operand: Any) -> str:
    """An operand with its label, if it has one, and its value."""
    if type(operand) is tuple:
        more = ", …" if len(operand) > 4 else ""
        return f"[{', '.join(map(_shown, operand[:4]))}{more}]"
    label = getattr(operand, "label", "")
    return f"{label}={float(operand)!r}" if label else repr(float(operand))


def _user_line() -> str:
    """Where the program that uses these packages was: " at file:line: source"."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("autograd", "nn"):
        frame = frame.f_back
    if frame is None:
        return ""
    file, line = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(file, line).strip()
    return f", at {os.path.basename(file)}:{line}" + (f": {source}" if source else "")
