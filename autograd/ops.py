"""The primitives: one row each, and the only place where a derivative is written.

    square = Primitive("square", "x²", lambda x: x * x, np.square, lambda x, out: 2.0 * x)
    square(Value(3.0))  # a Value that backward, derive, draw and compile know

`compute` works on floats, `numpy` on arrays. `dx` and `dy` are the local derivatives with respect
to the first and second operand, given the operands and the result; they use operators and
primitives only, so that one line serves floats, Values and arrays. Code that reads a graph reads the
row that each node keeps, and not the row's name: two rows may have the same name.
"""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from operator import add as plus
from operator import mul as times
from typing import Any

import numpy as np

from . import special
from .node import Node


@dataclass(frozen=True, eq=False)
class Primitive:
    """A function of one or two operands, with its local derivatives.

    An operand is a scalar; the operands of `dot` and `total`, and the second of `where`, are vectors
    (sequences of scalars). The derivative of a step is `no_gradient`.

    >>> square = Primitive("square", "x²", lambda x: x * x, np.square, lambda x, out: 2.0 * x)
    >>> square(3.0), square(Value(3.0)).data
    (9.0, 9.0)
    >>> grad(square)(3.0)
    6.0
    """

    name: str
    symbol: str  # in drawings; x and y are the operands, where their order matters
    compute: Callable[..., float]
    numpy: Callable[..., Any]
    dx: Callable[..., Any]
    dy: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        if "TABLE" in globals() and not isinstance(self.compute, functools.partial):  # a user's
            object.__setattr__(self, "compute", functools.partial(_as_float, self.name, self.compute))

    def __call__(self, *operands: Any) -> Any:
        """Compute on numbers, apply to arrays, record on Values and arrays of Values.

        (The rows dot and total record no vectors of Values; the functions of value.py do.)
        """
        if type(operands[0]) is not float or type(operands[-1]) is not float:
            values = [operand for operand in operands if isinstance(operand, Node)]
            arrays = [operand for operand in operands if isinstance(operand, np.ndarray)]
            if arrays and (values or any(array.dtype == object for array in arrays)):
                return np.frompyfunc(self, len(operands), 1)(*operands)
            if values:
                return values[0]._record(self, *operands)
            if arrays:
                return self.numpy(*operands)
        return self.compute(*operands)

    def __reduce__(self) -> Any:
        if globals().get(self.name) is self:
            return self.name  # pickled as the global of this module
        return Primitive, (self.name, self.symbol, self.compute, self.numpy, self.dx, self.dy)


def _as_float(name: str, compute: Callable[..., Any], *numbers: float) -> float:
    """A user's compute with its result as a float: a float32 would make the whole graph single precision."""
    out = compute(*numbers)
    if not isinstance(out, Real):
        raise TypeError(f"compute of the primitive {name!r} gives a number for numbers, not {out!r:.80}")
    return float(out)


def no_gradient(*_: Any) -> None:
    """The derivative by an operand that no gradient flows back to: None, which counts as 0."""


def by_hand(name: str) -> Primitive:
    """The row of a Value made by hand: a name, with functions that raise TypeError."""

    def unknown(*_: Any) -> Any:
        raise TypeError(
            f"only backward() knows the derivative of {name!r}, a Value made by hand: to derive or compile"
            " it, make it a Primitive, as the top of autograd/ops.py shows"
        )

    return Primitive(name, name or "?", unknown, unknown, unknown)


def _sigmoid_float(x: float) -> float:
    try:
        return 1.0 / (1.0 + math.exp(-x))
    except OverflowError:  # x < -709: the 1 vanishes in the rounding of exp(-x)
        return math.exp(x)


def _sigmoid_array(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _softplus_float(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-math.fabs(x)))


def _sign_float(x: float) -> float:
    return x if x == 0.0 or x != x else math.copysign(1.0, x)


def _step_float(x: float, y: float) -> float:
    return 1.0 if x > y else 0.0 if x < y else 0.5 if x == y else math.nan


def _step_array(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(x > y, 1.0, np.where(x < y, 0.0, np.where(x == y, 0.5, math.nan)))


def _nonzero(x: Any) -> Any:
    """x, or 1 where x is 0."""
    return x + relu(1.0 - abs(sign(x)))  # relu keeps 1 − |sign x| together: (x + 1) − … would lose a tiny x


def _pow_dx(x: Any, y: Any, out: Any) -> Any:
    """y x^(y − 1); for y = 0, y x⁰ / x, which is 0 for tiny x too, and whose derivative by y is 1 / x."""
    one = abs(sign(y))
    slope = y * x ** (y - one)
    if type(y) is float:  # a constant y needs no derivative by y, so the graph can be short
        return slope
    return slope / (one + (1.0 - one) * _nonzero(x))


def _logsumexp_float(xs: Iterable[float]) -> float:
    largest = max(xs := list(xs))
    return largest + math.log(sum([math.exp(x - largest) for x in xs]))


def _logaddexp_float(x: float, y: float) -> float:
    low, high = (x, y) if x < y else (y, x)
    return high + math.log1p(math.exp(low - high))


def _dot_float(xs: Iterable[float], ys: Iterable[float]) -> float:
    return sum(map(times, xs, ys), 0.0)


def _of_many(name: str, row: Primitive) -> Primitive:
    """The maximum or minimum of any number of operands; those that are equal to it share the gradient."""

    def shares(xs: Iterable[Any], out: Any) -> list[Any]:
        chosen = [row.dx(x, out, out) for x in xs]  # ½ or 0
        whole = functools.reduce(plus, chosen)
        return [each / whole for each in chosen]

    compute, numpy = (functools.partial(functools.reduce, f) for f in (row.compute, row.numpy))
    return Primitive(name, row.symbol, compute, numpy, shares)


log: Primitive  # rows use these primitives before they are defined
cos: Primitive
cosh: Primitive
hypot: Primitive
floor_divide: Primitive
relu: Primitive
sign: Primitive
step: Primitive
polygamma: Primitive
where: Primitive

LOG2_E, LOG10_E = 1.4426950408889634, 0.4342944819032518
ERF_SLOPE = 2.0 / math.sqrt(math.pi)

# Comparisons below are written so that NaN passes through, as in IEEE 754's maximum.
# fmt: off
add  = Primitive("add",  "+",  lambda x, y: x + y, np.add,      lambda x, y, out: 1.0, lambda x, y, out: 1.0)
sub  = Primitive("sub",  "x − y", lambda x, y: x - y, np.subtract,
                 lambda x, y, out: 1.0, lambda x, y, out: -1.0)
mul  = Primitive("mul",  "×",  lambda x, y: x * y, np.multiply, lambda x, y, out: y,   lambda x, y, out: x)
div  = Primitive("div",  "x ÷ y", lambda x, y: x / y, np.divide,
                 lambda x, y, out: 1.0 / y, lambda x, y, out: -out / y)
pow  = Primitive("pow",  "x^y", math.pow, np.power,  # x ** y would leave the real line for (-8) ** (1/3)
                 _pow_dx, lambda x, y, out: out * log(_nonzero(x)))
neg  = Primitive("neg",  "−x",   lambda x: -x, np.negative, lambda x, out: -1.0)
exp  = Primitive("exp",  "exp",  math.exp,  np.exp,  lambda x, out: out)
log  = Primitive("log",  "log",  math.log,  np.log,  lambda x, out: 1.0 / x)
sqrt = Primitive("sqrt", "√",    math.sqrt, np.sqrt, lambda x, out: 0.5 / out)
sin  = Primitive("sin",  "sin",  math.sin,  np.sin,  lambda x, out: cos(x))
cos  = Primitive("cos",  "cos",  math.cos,  np.cos,  lambda x, out: -sin(x))
tanh = Primitive("tanh", "tanh", math.tanh, np.tanh, lambda x, out: 1.0 - out * out)
sigmoid  = Primitive("sigmoid",  "σ",    _sigmoid_float, _sigmoid_array, lambda x, out: out * (1.0 - out))
relu     = Primitive("relu",     "relu", lambda x: 0.0 if x <= 0.0 else x, lambda x: np.maximum(x, 0.0),
                     lambda x, out: sign(out))
softplus = Primitive("softplus", "log(1+eˣ)", _softplus_float, lambda x: np.logaddexp(x, 0.0),
                     lambda x, out: sigmoid(x))
abs      = Primitive("abs",      "|x|",  math.fabs, np.abs,  lambda x, out: sign(x))
sign     = Primitive("sign",     "sgn",  _sign_float, np.sign, no_gradient)
# step compares x and y, because x − y may overflow.
step     = Primitive("step",     "x ⊳ y", _step_float, _step_array, no_gradient, no_gradient)
maximum  = Primitive("maximum",  "max",  lambda x, y: y if x < y or y != y else x, np.maximum,
                     lambda x, y, out: step(x, y), lambda x, y, out: step(y, x))
minimum  = Primitive("minimum",  "min",  lambda x, y: y if x > y or y != y else x, np.minimum,
                     lambda x, y, out: step(y, x), lambda x, y, out: step(x, y))
tan   = Primitive("tan",   "tan",   math.tan,   np.tan,     lambda x, out: 1.0 + out * out)
asin  = Primitive("asin",  "asin",  math.asin,  np.arcsin,  lambda x, out: 1.0 / sqrt((1.0 - x) * (1.0 + x)))
acos  = Primitive("acos",  "acos",  math.acos,  np.arccos,  lambda x, out: -1.0 / sqrt((1.0 - x) * (1.0 + x)))
atan  = Primitive("atan",  "atan",  math.atan,  np.arctan,  lambda x, out: 1.0 / (1.0 + x * x))
sinh  = Primitive("sinh",  "sinh",  math.sinh,  np.sinh,    lambda x, out: cosh(x))
cosh  = Primitive("cosh",  "cosh",  math.cosh,  np.cosh,    lambda x, out: sinh(x))
asinh = Primitive("asinh", "asinh", math.asinh, np.arcsinh, lambda x, out: 1.0 / hypot(1.0, x))
acosh = Primitive("acosh", "acosh", math.acosh, np.arccosh,
                  lambda x, out: 1.0 / (sqrt(x - 1.0) * sqrt(x + 1.0)))
atanh = Primitive("atanh", "atanh", math.atanh, np.arctanh, lambda x, out: 1.0 / ((1.0 - x) * (1.0 + x)))
log1p = Primitive("log1p", "log(1+x)", math.log1p, np.log1p, lambda x, out: 1.0 / (1.0 + x))
expm1 = Primitive("expm1", "eˣ−1",  math.expm1, np.expm1,   lambda x, out: exp(x))
log2  = Primitive("log2",  "log₂",  math.log2,  np.log2,    lambda x, out: LOG2_E / x)
log10 = Primitive("log10", "log₁₀", math.log10, np.log10,   lambda x, out: LOG10_E / x)
cbrt  = Primitive("cbrt",  "∛", special.cbrt_float, np.cbrt, lambda x, out: 1.0 / (3.0 * out * out))
# atan2(x, y) is the angle of the point (y, x): here x and y are the first and the second operand.
atan2 = Primitive("atan2", "atan2(x, y)", math.atan2, np.arctan2,
                  lambda x, y, out: y / hypot(x, y) / hypot(x, y),
                  lambda x, y, out: -x / hypot(x, y) / hypot(x, y))
hypot = Primitive("hypot", "hypot(x, y)", math.hypot, np.hypot,
                  lambda x, y, out: x / out, lambda x, y, out: y / out)
logaddexp = Primitive("logaddexp", "log(eˣ+eʸ)", _logaddexp_float, np.logaddexp,
                      lambda x, y, out: sigmoid(x - y), lambda x, y, out: sigmoid(y - x))
erf    = Primitive("erf",  "erf",  math.erf,  special.erf,  lambda x, out: ERF_SLOPE * exp(-(x * x)))
erfc   = Primitive("erfc", "erfc", math.erfc, special.erfc, lambda x, out: -ERF_SLOPE * exp(-(x * x)))
lgamma = Primitive("lgamma", "log|Γ(x)|", math.lgamma, special.lgamma, lambda x, out: polygamma(0.0, x))
# The x-th derivative at y of lgamma's derivative, for x = 0, 1, ... 12.
polygamma = Primitive("polygamma", "polygamma(x, y)", special.polygamma_float, special.polygamma,
                      no_gradient, lambda x, y, out: polygamma(x + 1.0, y))
floor  = Primitive("floor", "⌊x⌋", lambda x: math.copysign(math.floor(x), x), np.floor, no_gradient)
ceil   = Primitive("ceil",  "⌈x⌉", lambda x: math.copysign(math.ceil(x), x),  np.ceil,  no_gradient)
remainder    = Primitive("remainder", "x mod y", lambda x, y: x % y, np.remainder,
                         lambda x, y, out: 1.0, lambda x, y, out: -floor_divide(x, y))
floor_divide = Primitive("floor_divide", "⌊x ÷ y⌋", lambda x, y: x // y, np.floor_divide,
                         no_gradient, no_gradient)
copysign = Primitive("copysign", "copysign(x, y)", math.copysign, np.copysign,
                     lambda x, y, out: sign(x) * sign(out), no_gradient)
detach   = Primitive("detach",   "detach", lambda x: x, lambda x: +x, no_gradient)
less       = Primitive("less",       "x < y", lambda x, y: float(x < y),  np.less, no_gradient, no_gradient)
less_equal = Primitive("less_equal", "x ≤ y", lambda x, y: float(x <= y), np.less_equal,
                       no_gradient, no_gradient)
equal      = Primitive("equal",      "x = y", lambda x, y: float(x == y), np.equal, no_gradient, no_gradient)
logical_and = Primitive("logical_and", "and", min, np.logical_and, no_gradient, no_gradient)
logical_or  = Primitive("logical_or",  "or",  max, np.logical_or, no_gradient, no_gradient)
logical_not = Primitive("logical_not", "not", lambda x: 1.0 - x, np.logical_not, no_gradient)
where    = Primitive("where", "where", lambda x, ys: ys[0] if x else ys[1], lambda x, ys: np.where(x, *ys),
                     no_gradient, lambda x, ys, out: (where(x, (1.0, 0.0)), where(x, (0.0, 1.0))))
dot      = Primitive("dot",      "•",    _dot_float, np.dot, lambda xs, ys, out: ys, lambda xs, ys, out: xs)
total    = Primitive("total",    "Σ",    lambda xs: sum(xs, 0.0), np.sum, lambda xs, out: [1.0] * len(xs))
# fmt: on

TABLE: dict[str, Primitive] = {
    row.name: row for row in list(globals().values()) if isinstance(row, Primitive)
}
# Rows outside the table, which compile takes as reductions along an axis of an array:
logsumexp = Primitive(
    "logsumexp",
    "log Σ eˣ",
    _logsumexp_float,
    np.logaddexp.reduce,
    lambda xs, out: [exp(x - out) for x in xs],
)
largest, smallest = _of_many("largest", maximum), _of_many("smallest", minimum)
REDUCTIONS = {logsumexp: -math.inf, largest: -math.inf, smallest: math.inf}  # and what changes none of them
ROWS = {*TABLE.values(), *REDUCTIONS}  # all others are users' own
VECTOR_ROWS = (dot, total, *REDUCTIONS)  # all of their operands are vectors
CONDITIONS = (less, less_equal, equal, logical_and, logical_or, logical_not)  # 1 or 0; bools for arrays
