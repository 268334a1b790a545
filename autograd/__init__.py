"""A scalar autograd micro-engine: record a computation, differentiate it in reverse, draw it."""

from .ops import maximum, minimum
from .value import Value, dot, matvec, total

__all__ = ["Value", "dot", "matvec", "maximum", "minimum", "total"]
