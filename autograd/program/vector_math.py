"""Elementary functions as LLVM IR: inline, on vectors of doubles of any width.

    y = FUNCTIONS["sigmoid"](builder, x)  # x and y are llvmlite.ir values of type <W x double>

The worst errors that tens of millions of arguments over the whole range have shown, in units in the last
place: exp 1.01, log 0.85, tanh 1.22, sigmoid 1.96, softplus 1.69, expm1 2.04, log1p 1.43, sin and cos 1.51,
erf 1.71, erfc 2.88 (2.42 below 6). Infinities, NaN, signed zeros and subnormals are as in IEEE 754.
A result depends neither on the width nor on the processor.

There is no branch and no call but one: sin and cos call a function of their own where |x| > 2⁴⁰.

No fast-math flag is set, and none may be: the reductions are exact only as they are written. On a
processor without fused multiply-add, llvm.fma becomes a call: slow, but the same.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

DOUBLE, INT64, BIT = ir.DoubleType(), ir.IntType(64), ir.IntType(1)
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

TWO_OVER_PI = 0.6366197723675814
HALF_PI = (1.5707963267948966, 6.123233995736765e-17, 1.082856673921914e-32)  # the sum is π/2 to 160 bits
NEAREST = 1.5 * 2.0**52  # NEAREST + t is rounded to NEAREST + n, whose low bits are those of n
HALF_PI_BITS = 0x6487ED5110B4611A  # π/2 · 2⁶²
TWO_OVER_PI_BITS = int(  # 2/π · 2¹²²⁶
    "28be60db9391054a7f09d5f47d4d377036d8a5664f10e4107f9458eaf7aef1586dc91b8e909374b801924bba827464873f"
    "877ac72c4a69cfba208d7d4baed1213a671c09ad17df904e64758e60d4ce7d272117e2ef7e4a0ec7fe25fff7816603fbcb"
    "c462d6829b47db4d9fb3c9f2c26dd3d18fd9a797fa8b5d49eeb1faf97c5ecf41ce7de294a4ba9afed7ec47e357421580cc"
    "11bf1edaeafc3",
    16,
)
# (sin(r) − r) / r³ and (cos(r) − 1 + r²/2) / r⁴ in r² on |r| ≤ π/4 by Remez's exchange: within 2⁻⁵⁶ of
# sin(r) and 2⁻⁵⁹ of cos(r)
SIN = (
    -0.1666666666666663,
    0.00833333333332212,
    -0.00019841269829589067,
    2.7557313620533e-06,
    -2.5050747532169263e-08,
    1.5896211904732187e-10,
)
COS = (
    0.041666666666666595,
    -0.0013888888888873047,
    2.4801587288844257e-05,
    -2.7557314176799533e-07,
    2.087570046559389e-09,
    -1.1358515497690015e-11,
)
# erf(x) / x − 1 in x² on |x| ≤ 0.477 by Remez's exchange: within 2⁻⁵⁶ of erf(x) / x
ERF = (
    0.12837916709551256,
    -0.37612638903183615,
    0.1128379167093933,
    -0.02686617063802128,
    0.00522397746489917,
    -0.0008548306627727989,
    0.00012053807467440723,
    -1.4858883321188893e-05,
    1.4871436591075872e-06,
)
# exp(x²) erfc(x) (x + 9/4) in (x − 9/4) / (x + 9/4) on 0.47 ≤ x ≤ 27.3 by Remez's exchange; then, one after
# the other, a coefficient is rounded and the next ones are fitted again, by least squares: within 2⁻⁵⁶
ERFC_CENTRE = 2.25
ERFC = (
    1.0398926642867634,
    -0.7519590175904073,
    0.3715174733330323,
    -0.101210401880589,
    -0.003610910935128987,
    0.01165868280170935,
    -0.0007970915384491348,
    -0.0016356683495576778,
    8.072931762574064e-05,
    0.0002857166258883329,
    2.3630573744486537e-05,
    -5.112786139822593e-05,
    -1.6192427880014508e-05,
    6.708355442743523e-06,
    5.61407624381674e-06,
    3.071174751278841e-07,
    -1.2744348709547456e-06,
    -5.802873447430189e-07,
    1.454408118054929e-07,
    2.0893654758360314e-07,
    4.3304282957899036e-09,
    -3.6348251387513966e-08,
)


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

    def __rsub__(self, number: float) -> Any:
        return _Vector(self.builder, ir.Constant(self.value.type, number)) - self

    def __rtruediv__(self, number: float) -> Any:
        return _Vector(self.builder, ir.Constant(self.value.type, number)) / self

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


def _exp_parts(x: _Vector, zero: Any, rest: Any = None) -> tuple[_Vector, _Vector]:
    """p and s, where e^(x + rest) = 2ⁿ(1 + p) and s = 2ⁿ · 2^(zero − BIASED), which must be a normal number.

    The caller rounds ps + (s + …), once; to round 1 + p before would lose digits.
    """
    rounded = _fma(x, LOG2_E, zero)
    n = rounded - zero
    r = _fma(n, -LN2, x)  # exact
    r = _fma(n, -LN2_REST, r if rest is None else r + rest)
    p = _fma(r * r, _polynomial(r, EXP), r)
    return p, rounded.to(INT64).apply(x.builder.shl, 52).to(DOUBLE)


def _log_of_parts(k: _Vector, f: _Vector) -> _Vector:
    """log(2ᵏ(1 + f)) for √½ ≤ 1 + f < √2, from log(1 + f) = 2 artanh(s) = f − f²/2 + s(f²/2 + s²(…))."""
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    small = _fma(s, _fma(z, _polynomial(z, ARTANH), half_square), k * LN2_REST)
    return _fma(k, LN2, f - (half_square - small))


def exp(x: _Vector) -> _Vector:
    low = x < -690.0  # there s takes a larger shift, and the factor that undoes it rounds to subnormals
    p, s = _exp_parts(_clamp(x, -746.0, 710.0), _where(low, BIASED + 127.0, BIASED - 1.0))
    return _fma(p, s, s) * _where(low, 2.0**-127, 2.0)


def log(x: _Vector) -> _Vector:
    low = x < 2.0**-1022  # subnormal, or not positive: see the last line
    bits = _where(low, x * 2.0**54, x).to(INT64)
    k = bits.apply(x.builder.sub, SQRT_HALF).apply(x.builder.ashr, 52)
    f = bits.apply(x.builder.sub, k.apply(x.builder.shl, 52)).to(DOUBLE) - 1.0
    finite = _log_of_parts(k.to(DOUBLE, "sitofp") - _where(low, 54.0, 0.0), f)
    positive = _where(x < math.inf, finite, x)  # x itself if that is ∞ or NaN
    return _where(x <= 0.0, _where(x < 0.0, math.nan, -math.inf), positive)


def tanh(x: _Vector) -> _Vector:
    """|x| + |x|³(…), or 1 − 2 / (1 + e^2|x|); they share the division."""
    size, z = x.intrinsic("fabs"), x * x
    near = size < 0.625
    p, s = _exp_parts(_where(size > 22.0, 44.0, size + size), BIASED)
    above = _where(near, size * z * _polynomial(z, TANH), -2.0)
    below = _where(near, _polynomial(z, TANH_BELOW), _fma(p, s, s + 1.0))
    return (_where(near, size, 1.0) + above / below).intrinsic("copysign", x)


def sigmoid(x: _Vector) -> _Vector:
    """1 / (1 + e⁻ˣ), both sides of the fraction times 2⁻⁶⁰, so that s is normal for every x that matters."""
    p, s = _exp_parts(-_clamp(x, -746.0, 40.0), BIASED - 60.0)
    lost = s.equals(2.0**-7)  # n = 53: the sum below loses the 1, half a unit in the last place
    return _where(lost, 2.0**-60 - 2.0**-113, 2.0**-60) / _fma(p, s, s + 2.0**-60)


def softplus(x: _Vector) -> _Vector:
    """max(x, 0) + log(1 + u), u = e^−|x|; where 1 + u > √2, it is written as 2(1 + (u − 1)/2)."""
    size = x.intrinsic("fabs")
    p, s = _exp_parts(_where(size > 746.0, -746.0, -size), BIASED + 512.0)
    u = _fma(p, s, s) * 2.0**-512
    large = u > math.sqrt(2.0) - 1.0
    f = _where(large, _fma(u, 0.5, -0.5), u)
    return _where(x > 0.0, x, 0.0) + _log_of_parts(_where(large, 1.0, 0.0), f)


def expm1(x: _Vector) -> _Vector:
    """2(ps + (s − ½)), where s is half of 2ⁿ because 2¹⁰²⁴ is no double; x itself if that is tiny."""
    p, s = _exp_parts(_clamp(x, -40.0, 710.0), BIASED - 1.0)
    return _where(x.intrinsic("fabs") < 2.0**-54, x, _fma(p, s, s - 0.5) * 2.0)


def log1p(x: _Vector) -> _Vector:
    """log(u) + c / u, where 1 + x is rounded to u, and is u + c."""
    u = x + 1.0
    c = x - (u - 1.0)
    rounded = c.intrinsic("fabs") > 0.0  # not where x = −1 or x = ∞
    return (log(u) + _where(rounded, c / u, 0.0)).intrinsic("copysign", x)


def _sine(x: _Vector, quarters: int) -> _Vector:
    """sin(x + quarters · π/2), where x = nπ/2 + r; HALF_PI has too few bits if x is huge."""
    zero = NEAREST + quarters
    rounded = _fma(x, TWO_OVER_PI, zero)
    n = rounded - zero
    r = functools.reduce(lambda r, part: _fma(n, -part, r), HALF_PI, x)  # the first step is exact
    usual = _sine_of_parts(r, rounded.to(INT64))
    b, before, mask = x.builder, x.builder.block, ir.IntType(x.value.type.count)
    any_huge = b.icmp_unsigned("!=", b.bitcast(_is_huge(x).value, mask), mask(0))
    with b.if_then(any_huge, likely=False):
        mixed = b.call(_with_huge(b.module, x.value.type), [x.value, usual.value, INT64(quarters)])
        branch = b.block
    out = b.phi(mixed.type)
    out.add_incoming(usual.value, before)
    out.add_incoming(mixed, branch)
    return _Vector(b, out)


def _is_huge(x: _Vector) -> _Vector:
    return x.intrinsic("fabs") > 2.0**40


def _with_huge(module: Any, kind: Any) -> Any:
    """The module's function of x, y and q: y, but sin(x + qπ/2) for huge x."""
    name = f"with_huge.{kind.count}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(kind, [kind, kind, INT64]), name)
    function.linkage = "private"
    b = ir.IRBuilder(function.append_basic_block())
    x, y, quarters = function.args
    each = y
    for i in map(INT64, range(kind.count)):
        sine = b.call(_sine_of_huge(module), [b.extract_element(x, i), quarters])
        each = b.insert_element(each, sine, i)
    b.ret(b.select(_is_huge(_Vector(b, x)).value, each, y))
    return function


def _sine_of_parts(r: _Vector, n: _Vector) -> _Vector:
    """sin(nπ/2 + r) for |r| ≤ π/4: ±sin(r) or, if n is odd, ±cos(r)."""
    z = r * r
    sine = _fma(r, _fma(z, _polynomial(z, SIN), 0.0), r)  # −0 where r is, because of this 0
    cosine = _fma(z, _fma(z, _polynomial(z, COS), -0.5), 1.0)
    sign = n.apply(r.builder.shl, 62).apply(r.builder.and_, -(2**63))
    return _where(n.to(BIT, "trunc"), cosine, sine).to(INT64).apply(r.builder.xor, sign).to(DOUBLE)


def _sine_of_huge(module: Any) -> Any:
    """The module's function of x and q: sin(x + qπ/2) for 2⁴⁰ < |x| ≤ ∞, by Payne and Hanek's reduction.

    x is a whole number times a power of 2, which times the first bits of 2/π makes whole turns; of the bits
    that follow, four words are enough for every double.
    """
    name, wide, piece = "sine_of_huge", ir.IntType(256), ir.IntType(48)
    if name in module.globals:
        return module.globals[name]
    words = [TWO_OVER_PI_BITS >> 64 * k & 2**64 - 1 for k in range(36)]
    table = ir.GlobalVariable(module, ir.ArrayType(INT64, len(words)), f"{name}.words")
    table.initializer, table.linkage, table.global_constant = table.value_type(words), "private", True
    function = ir.Function(module, ir.FunctionType(DOUBLE, [DOUBLE, INT64]), name)
    function.linkage = "private"

    b = ir.IRBuilder(function.append_basic_block())
    x, q = (_Vector(b, b.bitcast(value, ir.VectorType(value.type, 1))) for value in function.args)
    bits = x.to(INT64)
    sign, place = bits.apply(b.ashr, 63), bits.apply(b.lshr, 52).apply(b.and_, 0x7FF).apply(b.xor, 0x7FF)
    whole = bits.apply(b.and_, 2**52 - 1).apply(b.or_, 2**52).apply(b.xor, sign).apply(b.sub, sign)
    # TWO_OVER_PI_BITS / 2^place is the words from the k-th on, times 2^(64k − place)
    k = place.apply(b.add, 63).apply(b.lshr, 6)
    whole = whole.to(wide, "sext").apply(b.shl, k.apply(b.shl, 6).apply(b.sub, place).to(wide, "zext"))
    chunk = []
    for i in range(4):
        address = b.gep(table, [INT64(0), b.add(b.bitcast(k.value, INT64), INT64(i))])
        word = _Vector(b, b.load(b.bitcast(address, bits.value.type.as_pointer()), align=8))
        chunk.append(word.to(wide, "zext").apply(b.shl, 64 * i))
    factor = functools.reduce(lambda total, word: total.apply(b.or_, word), chunk)
    turns = whole.apply(b.mul, factor)  # 2²⁵⁶ is a turn
    n = turns.apply(b.add, 2**253).apply(b.lshr, 254).to(INT64, "trunc").apply(b.add, q)
    rest = turns.apply(b.shl, 2).apply(b.ashr, 64).apply(b.mul, HALF_PI_BITS)  # r · 2²⁵⁴
    r = rest.apply(b.ashr, 208).to(piece, "trunc").to(DOUBLE, "sitofp")
    for i in (160, 112):  # rounded once: if r is small, the first sum is exact
        r = _fma(r, 2.0**48, rest.apply(b.lshr, i).to(piece, "trunc").to(DOUBLE, "uitofp"))
    r = r * 2.0**-142 + (x - x)  # NaN if x is infinite
    b.ret(b.bitcast(_sine_of_parts(r, n).value, DOUBLE))
    return function


def sin(x: _Vector) -> _Vector:
    return _sine(x, 0)


def cos(x: _Vector) -> _Vector:
    return _sine(x, 1)


def _erf_parts(x: _Vector) -> tuple[_Vector, _Vector, _Vector]:
    """Whether |erf(x)| < 1/2; q, where erf(x) = x + qx there; and erfc(|x|), to be used elsewhere."""
    size = x.intrinsic("fabs")
    size = _where(size > 28.0, 28.0, size)
    z, above = size * size, size + ERFC_CENTRE
    u = 1.0 / above
    lost = _fma(u, above - ERFC_CENTRE - size, _fma(-u, above, 1.0))  # u(1 + lost) is 1 / (|x| + 9/4)
    p, s = _exp_parts(-z, BIASED + 512.0, lost - _fma(size, size, -z))  # so e^lost is in p
    t = (size - ERFC_CENTRE) * u
    t = _fma(t, lost, t)
    slope = _fma(t, _fma(t, _polynomial(t, ERFC[3:]), ERFC[2]), ERFC[1])
    g = _fma(t, slope, ERFC[0])
    rest = _fma(t, slope, ERFC[0] - g)  # what rounding took from g
    far = _fma(u, g, u * _fma(p, g, rest))
    return size < 0.476936, _polynomial(z, ERF), far * s * 2.0**-512


def erf(x: _Vector) -> _Vector:
    near, q, far = _erf_parts(x)
    size = x.intrinsic("fabs")
    return _where(near, _fma(size, q, size), 1.0 - far).intrinsic("copysign", x)


def erfc(x: _Vector) -> _Vector:
    near, q, far = _erf_parts(x)
    return _where(near, _fma(-x, q, 1.0 - x), _where(x < 0.0, 2.0 - far, far))


def _inline(function: Callable[[_Vector], _Vector]) -> Callable[[Any, Any], Any]:
    """The function for llvmlite's own values: (builder, x) → y."""
    return lambda builder, x: function(_Vector(builder, x)).value


FUNCTIONS = {
    function.__name__: _inline(function)
    for function in (exp, log, tanh, sigmoid, softplus, expm1, log1p, sin, cos, erf, erfc)
}
