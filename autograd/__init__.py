"""A scalar autograd micro-engine: record a computation, differentiate it in reverse, draw it."""

from . import linalg  # noqa: I001 (the functions of ops, not one a line)
from .check import check_gradients
from .derive import derive
from .draw import DrawingError, draw
from .functions import clip, deg2rad, exp2, rad2deg, sinc
from .learn import derivation, explain, lesson
from .ops import (
    acos, acosh, asin, asinh, atan, atan2, atanh, cbrt, ceil, copysign, cos, cosh, erf, erfc, exp, expm1,
    floor, floor_divide, hypot, lgamma, log, log10, log1p, log2, logaddexp, relu, remainder, sigmoid, sign,
    sin, sinh, softplus, sqrt, tan, tanh,
)  # fmt: skip
from .program import compile, set_threads
from .tracing import where
from .transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad
from .value import Value, dot, logsumexp, matvec, maximum, minimum, total

__version__ = "0.1.0"  # setup.cfg reads this line, so that a plain checkout knows its version too

__all__ = [
    "DrawingError", "Value", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil",
    "check_gradients", "clip", "compile", "copysign", "cos", "cosh", "deg2rad", "derivation", "derive",
    "dot", "draw", "erf", "erfc", "exp", "exp2", "explain", "expm1", "floor", "floor_divide", "grad",
    "hessian", "hvp", "hypot", "jacobian", "jvp", "lesson", "lgamma", "linalg", "log", "log10", "log1p",
    "log2", "logaddexp", "logsumexp", "matvec", "maximum", "minimum", "rad2deg", "relu", "remainder",
    "set_threads", "sigmoid", "sign", "sin", "sinc", "sinh", "softplus", "sqrt", "tan", "tanh", "total",
    "value_and_grad", "where",
]  # fmt: skip
