"""A scalar autograd micro-engine: record a computation, differentiate it in reverse, draw it."""

from .derive import derive
from .draw import DrawingError, draw
from .program import compile
from .value import Value, dot, matvec, maximum, minimum, total

__all__ = [
    "DrawingError",
    "Value",
    "compile",
    "derive",
    "dot",
    "draw",
    "matvec",
    "maximum",
    "minimum",
    "total",
]
