"""operations: the LLVM rule of each primitive, on doubles and on vectors of doubles.

A rule takes a builder and operands of one type. Results that may hide that an operand is not finite are for
applied() to watch: see masking.py.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from .. import ops
from ..ops import VECTOR_ROWS, Primitive
from .masking import masked
from .simplify import ROW_SUM
from .vector_math import DOUBLE, FUNCTIONS

INT32 = ir.IntType(32)
LARGEST_POWER = 16  # powers up to this are products: within a relative 4e-15


def shuffle(b: Any, x: Any, y: Any, lanes: Sequence[int]) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes)))


def splat(b: Any, x: Any, lanes: int) -> Any:
    zero, firsts = (ir.Constant(ir.VectorType(element, lanes), None) for element in (x.type, INT32))
    return b.shuffle_vector(b.insert_element(zero, x, INT32(0)), zero, firsts)


def constant(kind: Any, x: float) -> Any:
    return ir.Constant(kind, [x] * kind.count if isinstance(kind, ir.VectorType) else x)


def across(b: Any, vectors: list[Any]) -> Any:
    """One vector with the sum of the elements of each vector; these are no more than the lanes.

    Neighbouring elements are added first, then neighbouring sums of two, and so on.
    """
    lanes = vectors[0].type.count
    for size in [1] + [2] * (lanes.bit_length() - 2):
        even = [i + j for i in range(0, 2 * lanes, 2 * size) for j in range(size)]
        if size == 1:  # their elements alternate, which costs the processor less
            even = [k for i in range(0, lanes, 2) for k in (i, lanes + i)]
        odd = [k + size for k in even]
        pairs = zip(vectors[::2], vectors[1::2] + vectors[-1:])
        vectors = [b.fadd(shuffle(b, x, y, even), shuffle(b, x, y, odd)) for x, y in pairs]
    return vectors[0]


def fadd(b: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y, flags=CONTRACT)


def applied(b: Any, op: Primitive, operands: Sequence[Any], computed: Sequence[bool]) -> Any:
    """An operation that does not mask a computed operand which is not finite."""
    watch = [masks and watched for masks, watched in zip(masked(op), computed)]
    if op is not ops.pow:
        return OPERATIONS[op](b, *(watched(b, x) if w else x for x, w in zip(operands, watch)))
    out = OPERATIONS[op](b, *operands)  # pow may mask NaN too
    for x, w in zip(operands, watch):
        out = watched(b, x, out) if w else out
    return out


def watched(b: Any, x: Any, out: Any = None) -> Any:
    """`out`, by default x, but NaN where x is not finite: 0 x is added, in one instruction."""
    return fadd(b, b.fmul(x, constant(x.type, 0.0), flags=CONTRACT), x if out is None else out)


def _arithmetic(name: str) -> Callable[..., Any]:
    return lambda b, *operands: getattr(b, name)(*operands, flags=CONTRACT)


def intrinsic(name: str) -> Callable[..., Any]:
    def call(b: Any, *operands: Any) -> Any:
        kind, module = operands[0].type, b.module
        full = f"llvm.{name}.v{kind.count}f64" if isinstance(kind, ir.VectorType) else f"llvm.{name}.f64"
        signature = ir.FunctionType(kind, [kind] * len(operands))
        return b.call(module.globals.get(full) or ir.Function(module, signature, full), operands)

    return call


def _function(name: str) -> Callable[[Any, Any], Any]:
    def call(b: Any, x: Any) -> Any:
        if x.type == DOUBLE:
            one = splat(b, x, 1)
            return b.extract_element(call(b, one), INT32(0))
        full = f"{name}.{x.type.count}"
        function = b.module.globals.get(full)
        if function is None:
            function = ir.Function(b.module, ir.FunctionType(x.type, [x.type]), full)
            function.linkage = "internal"
            inner = ir.IRBuilder(function.append_basic_block())
            inner.ret(FUNCTIONS[name](inner, function.args[0]))
        return b.call(function, [x])

    return call


def _of_libm(name: str) -> Callable[..., Any]:
    """A function of the C library, called for one lane after the other."""

    def call(b: Any, *operands: Any) -> Any:
        kind = operands[0].type
        if isinstance(kind, ir.VectorType):
            out = ir.Constant(kind, None)
            for i in map(INT32, range(kind.count)):
                out = b.insert_element(out, call(b, *(b.extract_element(x, i) for x in operands)), i)
            return out
        signature = ir.FunctionType(DOUBLE, [DOUBLE] * len(operands))
        return b.call(b.module.globals.get(name) or ir.Function(b.module, signature, name), operands)

    return call


def _logaddexp(b: Any, x: Any, y: Any) -> Any:
    """max(x, y) + log(1 + e^−|x − y|)."""
    difference = b.fneg(intrinsic("fabs")(b, b.fsub(x, y)))
    return b.fadd(_extreme("<")(b, x, y), _function("softplus")(b, difference))


def _rest(b: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The rest of x / y with the sign of x, whether y has the other sign, and a zero."""
    rest, zero = b.frem(x, y), constant(x.type, 0.0)
    sign = intrinsic("copysign")(b, constant(x.type, 1.0), y)
    return rest, b.fcmp_ordered("<", b.fmul(rest, sign), zero), zero


def _remainder(b: Any, x: Any, y: Any) -> Any:
    """The rest with the sign of y, as Python has it."""
    rest, turned, zero = _rest(b, x, y)
    rest = b.select(turned, b.fadd(rest, y), rest)
    return b.select(b.fcmp_ordered("==", rest, zero), intrinsic("copysign")(b, zero, y), rest)


def _floor_divide(b: Any, x: Any, y: Any) -> Any:
    """The whole number next to (x − rest) / y, less 1 where the rest changes its sign, as Python has it."""
    rest, turned, zero = _rest(b, x, y)
    one = constant(x.type, 1.0)
    quotient = b.fdiv(b.fsub(x, rest), y)
    quotient = b.select(turned, b.fsub(quotient, one), quotient)
    whole = intrinsic("floor")(b, quotient)
    above = b.fcmp_ordered(">", b.fsub(quotient, whole), constant(x.type, 0.5))
    whole = b.select(above, b.fadd(whole, one), whole)
    signed = intrinsic("copysign")(b, zero, b.fdiv(x, y))
    return b.select(b.fcmp_ordered("==", whole, zero), signed, whole)


def power(b: Any, x: Any, k: int) -> Any:
    square, out = x if k > 0 else b.fdiv(constant(x.type, 1.0), x), None
    k = abs(k)
    while k:
        if k % 2:
            out = square if out is None else b.fmul(out, square)
        k //= 2
        square = b.fmul(square, square)
    return out


def _relu(b: Any, x: Any) -> Any:
    zero = constant(x.type, 0.0)
    return b.select(b.fcmp_ordered("<=", x, zero), zero, x)


def _sign(b: Any, x: Any) -> Any:
    one = intrinsic("copysign")(b, constant(x.type, 1.0), x)
    return b.select(b.fcmp_unordered("==", x, constant(x.type, 0.0)), x, one)  # unordered: or NaN


def _step(b: Any, x: Any, y: Any) -> Any:
    out = constant(x.type, math.nan)
    for comparison, number in (("<", 0.0), ("==", 0.5), (">", 1.0)):
        out = b.select(b.fcmp_ordered(comparison, x, y), constant(x.type, number), out)
    return out


def _extreme(comparison: str) -> Callable[[Any, Any, Any], Any]:
    def choose(b: Any, x: Any, y: Any) -> Any:
        return b.select(b.or_(b.fcmp_ordered(comparison, x, y), b.fcmp_unordered("uno", y, y)), y, x)

    return choose


# A product may be added before it is rounded. LLVM's other fast-math flags are not set: they give up NaN and
# infinities, by which errors are noticed, or gain nothing here.
CONTRACT = ("contract",)
libm = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
_FUNCTIONS = "tan asin acos atan atan2 sinh cosh asinh acosh atanh log2 log10 cbrt hypot"
LIBM = [name for name in [*_FUNCTIONS.split(), "lgamma"] if hasattr(libm, name)]
OPERATIONS: dict[Primitive, Callable[..., Any]] = {
    ops.add: _arithmetic("fadd"),
    ops.sub: _arithmetic("fsub"),
    ops.mul: _arithmetic("fmul"),
    ops.div: _arithmetic("fdiv"),
    ops.neg: _arithmetic("fneg"),
    ops.pow: intrinsic("pow"),
    ops.sqrt: intrinsic("sqrt"),
    ops.abs: intrinsic("fabs"),
    ops.relu: _relu,
    ops.sign: _sign,
    ops.step: _step,
    ops.maximum: _extreme("<"),
    ops.minimum: _extreme(">"),
    ops.floor: intrinsic("floor"),
    ops.ceil: intrinsic("ceil"),
    ops.copysign: intrinsic("copysign"),
    ops.remainder: _remainder,
    ops.floor_divide: _floor_divide,
    ops.logaddexp: _logaddexp,
    **{ops.TABLE[name]: _of_libm(name) for name in LIBM},
    ops.detach: lambda b, x: x,
    ops.less: lambda b, x, y: b.fcmp_ordered("<", x, y),
    ops.less_equal: lambda b, x, y: b.fcmp_ordered("<=", x, y),
    ops.equal: lambda b, x, y: b.fcmp_ordered("==", x, y),
    ops.logical_and: lambda b, x, y: b.and_(x, y),
    ops.logical_or: lambda b, x, y: b.or_(x, y),
    ops.logical_not: lambda b, x: b.not_(x),
    **{ops.TABLE[name]: _function(name) for name in FUNCTIONS},
}
CALLED = [ops.TABLE[name] for name in FUNCTIONS]


def has_code(row: Primitive) -> bool:
    """Whether there is machine code for a primitive."""
    return row in OPERATIONS or row in (*VECTOR_ROWS, ops.where, ROW_SUM)
