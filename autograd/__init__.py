"""A scalar autograd micro-engine: record a computation, differentiate it in reverse, draw it."""

from .check import check_gradients
from .derive import derive
from .draw import DrawingError, draw
from .learn import derivation, explain, lesson
from .program import compile
from .tracing import where
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad
from .value import Value, dot, logsumexp, matvec, maximum, minimum, total

__version__ = "0.1.0"  # setup.cfg reads this line, so that a plain checkout knows its version too

__all__ = [
    "DrawingError",
    "Value",
    "check_gradients",
    "compile",
    "derivation",
    "derive",
    "dot",
    "draw",
    "explain",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "lesson",
    "logsumexp",
    "matvec",
    "maximum",
    "minimum",
    "total",
    "value_and_grad",
    "where",
]
