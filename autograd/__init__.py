"""A scalar autograd micro-engine: record a computation, differentiate it in reverse, draw it."""

from .draw import DrawingError, draw
from .ops import maximum, minimum
from .value import Value, dot, matvec, total

__all__ = ["DrawingError", "Value", "dot", "draw", "matvec", "maximum", "minimum", "total"]
