"""Elementary functions as LLVM IR: inline, without branches or calls, on vectors of doubles of any width.

    y = FUNCTIONS["sigmoid"](builder, x)  # x and y are llvmlite.ir values of type <W x double>

The worst errors that tens of millions of arguments over the whole range have shown, in units in the last
place: exp 1.01, log 0.85, tanh 1.22, sigmoid 1.96, softplus 1.69. Infinities, NaN, signed zeros and
subnormals are as in IEEE 754. A result depends neither on the width nor on the processor.

No fast-math flag is set, and none may be: the reductions are exact only as they are written. On a
processor without fused multiply-add, llvm.fma becomes a call: slow, but the same.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

DOUBLE, INT64 = ir.DoubleType(), ir.IntType(64)
LOG2_E = 1.4426950408889634
LN2, LN2_REST = 0.6931471805599453, 2.3190468138462996e-17  # their sum is ln 2 to 107 bits
BIASED = 1.5 * 2.0**52 + 1023.0  # BIASED + t is rounded to BIASED + n; shifted, its low bits make 2ⁿ
SQRT_HALF = 0x3FE6A09E667F3BCD  # the bits of √½

# (eʳ − 1 − r) / r² on |r| ≤ ln(2)/2 by Remez's exchange, its 1/2 held: within 2⁻⁶⁰ of eʳ
EXP = (
    0.5,
    0.16666666666666688,
    0.041666666666666845,
    0.008333333333312902,
    0.0013888888888756669,
    0.00019841269906385641,
    2.4801587630706534e-05,
    2.7557225120068102e-06,
    2.7556978271693464e-07,
    2.511534222139751e-08,
    2.101438736186176e-09,
)
# (2 artanh(s) − 2s) / s³ in s² on s ≤ 3 − 2√2 by Remez's exchange: within 2⁻⁵⁹ of 2 artanh(s)
ARTANH = (
    0.6666666666666735,
    0.39999999999412905,
    0.28571428742822313,
    0.22222198524780024,
    0.1818356702668869,
    0.15313976981448252,
    0.14796728543448903,
)
# (tanh(x) − x) / x³ in x² on |x| ≤ 5/8, a quotient, interpolated at Chebyshev's nodes: within 2⁻⁵⁷ of tanh(x)
TANH = (-0.3333333333333333, -0.020498799708498872, -0.0001991780435861287)
TANH_BELOW = (1.0, 0.4614963991254931, 0.02329133187629886, 0.0002065337374875025)


def _operator(instruction: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    return lambda self, *other: self.apply(instruction(self.builder), *other)


class _Vector:
    """A vector of doubles (or integers, or truth values); a number as operand counts for every element."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def apply(self, instruction: Callable[..., Any], *others: Any) -> "_Vector":
        kind = self.value.type
        values = [x.value if isinstance(x, _Vector) else ir.Constant(kind, x) for x in others]
        return _Vector(self.builder, instruction(self.value, *values))

    def intrinsic(self, name: str, *others: Any) -> "_Vector":
        kind, module = self.value.type, self.builder.module
        name, signature = f"llvm.{name}.v{kind.count}f64", ir.FunctionType(kind, [kind] * (1 + len(others)))
        function = module.globals.get(name) or ir.Function(module, signature, name)
        return self.apply(lambda *values: self.builder.call(function, values), *others)

    def to(self, element: Any, cast: str = "bitcast") -> "_Vector":
        kind = ir.VectorType(element, self.value.type.count)
        return _Vector(self.builder, getattr(self.builder, cast)(self.value, kind))

    __add__ = _operator(lambda builder: builder.fadd)
    __sub__ = _operator(lambda builder: builder.fsub)
    __mul__ = _operator(lambda builder: builder.fmul)
    __truediv__ = _operator(lambda builder: builder.fdiv)
    __neg__ = _operator(lambda builder: builder.fneg)
    __lt__ = _operator(lambda builder: functools.partial(builder.fcmp_ordered, "<"))  # false beside NaN
    __le__ = _operator(lambda builder: functools.partial(builder.fcmp_ordered, "<="))
    __gt__ = _operator(lambda builder: functools.partial(builder.fcmp_ordered, ">"))
    equals = _operator(lambda builder: functools.partial(builder.fcmp_ordered, "=="))


def _fma(x: _Vector, y: Any, z: Any) -> _Vector:
    """xy + z, rounded once."""
    return x.intrinsic("fma", y, z)


def _where(mask: _Vector, x: Any, y: Any) -> _Vector:
    kind = ir.VectorType(DOUBLE, mask.value.type.count)
    values = [z.value if isinstance(z, _Vector) else ir.Constant(kind, z) for z in (x, y)]
    return mask.apply(lambda condition: mask.builder.select(condition, *values))


def _clamp(x: _Vector, low: float, high: float) -> _Vector:
    x = _where(x < low, low, x)  # NaN stays
    return _where(x > high, high, x)


def _polynomial(x: _Vector, coefficients: Sequence[Any]) -> _Vector:
    """By Estrin's scheme, whose chain of dependent steps is short, and Horner's for the last three terms."""
    terms = list(coefficients)
    while len(terms) > 3:
        pairs = [_fma(x, high, low) for low, high in zip(terms[::2], terms[1::2])]
        terms, x = pairs + terms[2 * len(pairs) :], x * x
    return functools.reduce(lambda total, term: _fma(x, total, term), reversed(terms))


def _exp_parts(x: _Vector, zero: Any) -> tuple[_Vector, _Vector]:
    """p and s, where eˣ = 2ⁿ(1 + p) and s = 2ⁿ · 2^(zero − BIASED), which must be a normal number.

    The caller rounds ps + (s + …), once; to round 1 + p before would lose digits.
    """
    rounded = _fma(x, LOG2_E, zero)
    n = rounded - zero
    r = _fma(n, -LN2_REST, _fma(n, -LN2, x))  # the inner fma is exact
    p = _fma(r * r, _polynomial(r, EXP), r)
    return p, rounded.to(INT64).apply(x.builder.shl, 52).to(DOUBLE)


def _log_of_parts(k: _Vector, f: _Vector) -> _Vector:
    """log(2ᵏ(1 + f)) for √½ ≤ 1 + f < √2, from log(1 + f) = 2 artanh(s) = f − f²/2 + s(f²/2 + s²(…))."""
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    small = _fma(s, _fma(z, _polynomial(z, ARTANH), half_square), k * LN2_REST)
    return _fma(k, LN2, f - (half_square - small))


def _inline(function: Callable[[_Vector], _Vector]) -> Callable[[Any, Any], Any]:
    """The function for llvmlite's own values: (builder, x) → y."""
    return functools.wraps(function)(lambda builder, x: function(_Vector(builder, x)).value)


@_inline
def exp(x: _Vector) -> _Vector:
    low = x < -690.0  # there s takes a larger shift, and the factor that undoes it rounds to subnormals
    p, s = _exp_parts(_clamp(x, -746.0, 710.0), _where(low, BIASED + 127.0, BIASED - 1.0))
    return _fma(p, s, s) * _where(low, 2.0**-127, 2.0)


@_inline
def log(x: _Vector) -> _Vector:
    low = x < 2.0**-1022  # subnormal, or not positive: see the last line
    bits = _where(low, x * 2.0**54, x).to(INT64)
    k = bits.apply(x.builder.sub, SQRT_HALF).apply(x.builder.ashr, 52)
    f = bits.apply(x.builder.sub, k.apply(x.builder.shl, 52)).to(DOUBLE) - 1.0
    finite = _log_of_parts(k.to(DOUBLE, "sitofp") - _where(low, 54.0, 0.0), f)
    positive = _where(x < math.inf, finite, x)  # x itself if that is ∞ or NaN
    return _where(x <= 0.0, _where(x < 0.0, math.nan, -math.inf), positive)


@_inline
def tanh(x: _Vector) -> _Vector:
    """|x| + |x|³(…), or 1 − 2 / (1 + e^2|x|); they share the division."""
    size, z = x.intrinsic("fabs"), x * x
    near = size < 0.625
    p, s = _exp_parts(_where(size > 22.0, 44.0, size + size), BIASED)
    above = _where(near, size * z * _polynomial(z, TANH), -2.0)
    below = _where(near, _polynomial(z, TANH_BELOW), _fma(p, s, s + 1.0))
    return (_where(near, size, 1.0) + above / below).intrinsic("copysign", x)


@_inline
def sigmoid(x: _Vector) -> _Vector:
    """1 / (1 + e⁻ˣ), both sides of the fraction times 2⁻⁶⁰, so that s is normal for every x that matters."""
    p, s = _exp_parts(-_clamp(x, -746.0, 40.0), BIASED - 60.0)
    lost = s.equals(2.0**-7)  # n = 53: the sum below loses the 1, half a unit in the last place
    return _where(lost, 2.0**-60 - 2.0**-113, 2.0**-60) / _fma(p, s, s + 2.0**-60)


@_inline
def softplus(x: _Vector) -> _Vector:
    """max(x, 0) + log(1 + u), u = e^−|x|; where 1 + u > √2, it is written as 2(1 + (u − 1)/2)."""
    size = x.intrinsic("fabs")
    p, s = _exp_parts(_where(size > 746.0, -746.0, -size), BIASED + 512.0)
    u = _fma(p, s, s) * 2.0**-512
    large = u > math.sqrt(2.0) - 1.0
    f = _where(large, _fma(u, 0.5, -0.5), u)
    return _where(x > 0.0, x, 0.0) + _log_of_parts(_where(large, 1.0, 0.0), f)


FUNCTIONS = {"exp": exp, "log": log, "tanh": tanh, "sigmoid": sigmoid, "softplus": softplus}
