"""Every primitive at its edges: the value and the derivatives that mathematics has, or an ArithmeticError.

Each engine's numbers are held to mpmath's, by formulas that are not those of the table.
"""

import functools
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")

from kernels import kernel_of  # noqa: E402
from mpmath import mp, mpf  # noqa: E402

import autograd  # noqa: E402
from autograd import Value, derive, dot, total  # noqa: E402
from autograd.graph import topological_order  # noqa: E402
from autograd.ops import CONDITIONS, TABLE, no_gradient  # noqa: E402

try:
    from autograd.program.native import Kernel, pack
    from autograd.program.operations import has_code
except ImportError:
    Kernel = None  # type: ignore[assignment, misc]
from autograd.program.simplify import simplify  # noqa: E402

COMPILED = ["numpy", pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="no llvmlite"))]
LARGEST, NORMAL, TINY, EPSILON = 1.7976931348623157e308, 2.2250738585072014e-308, 5e-324, 2.0**-52
SIZES = [0.0, TINY, NORMAL, 1e-300, 1e-8, 0.5, 1.0, 2.0, 3.0, 40.0, 1e22, 1e300, LARGEST]
BOTH = [*sorted({sign * x for x in SIZES for sign in (1.0, -1.0)}), -0.0]
# Beside those, for functions of one operand: neighbours of the branch points, and where exp ends.
NEIGHBOURS = [math.nextafter(x, x + d) for x in (NORMAL, 1.0, -1.0) for d in (-1.0, 1.0)]
ENDS = [709.78, 709.7827128933841, 710.0, 708.4, 745.13, 745.2, 36.7, 22.0, 0.625, 0.1, math.pi, 1e5]
POINTS = BOTH + NEIGHBOURS + ENDS + [-x for x in ENDS]
PAIRS = [*itertools.product(BOTH, BOTH)]
PAIRS += [
    (x, y) for x in (0.3, 1.0, 1e-300, 1e300) for y in (math.nextafter(x, 0.0), math.nextafter(x, 2 * x))
]
PAIRS += [
    (x, y) for x in (0.0, -0.0, -8.0, 1e-300, 0.9999) for y in (1 / 3, 1e-17, -1e-17, 1.5, 1e5, -1e5, 2.5)
]

ONE, TWO = (
    [
        name
        for name, row in TABLE.items()
        if bool(row.dy) == two and name not in ("dot", "total", "where") and row not in CONDITIONS
    ]
    for two in (False, True)
)


def _sigmoid(x: mpf) -> mpf:
    return 1 / (1 + mp.exp(-x))


def _pow(x: mpf, y: mpf) -> mpf | None:
    """x^y for real numbers; None where there is none."""
    if x < 0:
        return (-1) ** (int(y) % 2) * _pow(-x, y) if y == int(y) else None
    if x == 0 or y == 0:
        return None if y < 0 else mpf(y == 0)
    size = y * mp.log(x)
    return mp.exp(size) if abs(size) < 2000 else mpf(0) if size < 0 else mp.inf


def _inside(f: Callable[..., Any], low: int, high: Any) -> Callable[..., Any]:
    """f where low < x < high, and None elsewhere."""
    return lambda x: f(x) if low < x < high else None


def _whole(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of x / y; None where y is 0."""
    return lambda x, y: f(x, y) if y else None


def _bell(x: mpf) -> mpf:
    return 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)


def _moderate(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, and infinity where it is too large for mpmath."""
    return lambda x: f(x) if abs(x) < 1e4 else mp.inf


def _asinh(x: mpf) -> mpf:
    return mp.asinh(x) if abs(x) < 1e20 else mp.sign(x) * mp.log(2 * abs(x))


def _lgamma(x: mpf) -> mpf | None:
    return None if x <= 0 and x == mp.floor(x) else mp.re(mp.loggamma(x))


def _polygamma(n: Any, x: mpf) -> mpf | None:
    known = n in range(13) and not (x <= 0 and x == mp.floor(x))
    if not known:
        return None
    if x > 1e15:  # where mpmath takes long
        return mp.log(x) if n == 0 else (-1) ** (int(n) + 1) * mp.factorial(n - 1) / x**n
    return mp.psi(int(n), x)


def _angle(x: float, y: float) -> mpf | None:
    return mpf(x) / (mpf(x) ** 2 + mpf(y) ** 2) if x or y else None


def _side(x: mpf, y: mpf) -> mpf:
    """Which share of a maximum's derivative is x's: ties share it, as in PyTorch."""
    return mpf(x > y) + mpf(x == y) / 2


# The value and the derivatives; None where there is none. The derivative of x^0 is 0 at x = 0, too, and so is
# that of 0^y, as in PyTorch.
# fmt: off
EXACT = {
    "add": (lambda x, y: x + y, lambda x, y: mpf(1), lambda x, y: mpf(1)),
    "sub": (lambda x, y: x - y, lambda x, y: mpf(1), lambda x, y: mpf(-1)),
    "mul": (lambda x, y: x * y, lambda x, y: y, lambda x, y: x),
    "div": (lambda x, y: x / y if y else None, lambda x, y: 1 / y, lambda x, y: -x / y**2),
    "pow": (_pow,
            lambda x, y: mpf(0) if y == 0 else None if _pow(x, y - 1) is None else y * _pow(x, y - 1),
            lambda x, y: None if x < 0 else mpf(0) if x == 0 else _pow(x, y) * mp.log(x)),
    "step": (_side, lambda x, y: mpf(0), lambda x, y: mpf(0)),
    "maximum": (max, _side, lambda x, y: _side(y, x)),
    "minimum": (min, lambda x, y: _side(y, x), _side),
    "neg": (lambda x: -x, lambda x: mpf(-1)),
    "exp": (mp.exp, mp.exp),
    "log": (lambda x: mp.log(x) if x > 0 else None, lambda x: 1 / x),
    "sqrt": (lambda x: mp.sqrt(x) if x >= 0 else None, lambda x: 1 / (2 * mp.sqrt(x)) if x else None),
    "sin": (mp.sin, mp.cos),
    "cos": (mp.cos, lambda x: -mp.sin(x)),
    "tanh": (mp.tanh, lambda x: 4 / (mp.exp(x) + mp.exp(-x)) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "relu": (lambda x: max(x, mpf(0)), lambda x: mpf(x > 0)),
    "softplus": (lambda x: max(x, mpf(0)) + mp.log1p(mp.exp(-abs(x))), _sigmoid),
    "abs": (abs, mp.sign),
    "sign": (mp.sign, lambda x: mpf(0)),
    "detach": (lambda x: x, lambda x: mpf(0)),
    "tan": (mp.tan, lambda x: 1 / mp.cos(x) ** 2),
    "asin": (lambda x: mp.asin(x) if abs(x) <= 1 else None,
             _inside(lambda x: 1 / mp.sqrt(1 - x * x), -1, 1)),
    "acos": (lambda x: mp.acos(x) if abs(x) <= 1 else None,
             _inside(lambda x: -1 / mp.sqrt(1 - x * x), -1, 1)),
    "atan": (mp.atan, lambda x: 1 / (1 + x * x)),
    "atan2": (lambda x, y: mp.atan2(x, y) if x else mp.pi * math.copysign(math.copysign(1.0, y) < 0.0, x),
              lambda x, y: _angle(y, x), lambda x, y: _angle(-x, y)),
    "sinh": (_moderate(mp.sinh), mp.cosh),
    "cosh": (_moderate(mp.cosh), mp.sinh),
    "asinh": (_asinh, lambda x: 1 / mp.sqrt(1 + x * x)),
    "acosh": (lambda x: mp.acosh(x) if x >= 1 else None,
              _inside(lambda x: 1 / mp.sqrt(x * x - 1), 1, mp.inf)),
    "atanh": (_inside(mp.atanh, -1, 1), lambda x: 1 / (1 - x * x)),
    "log1p": (_inside(mp.log1p, -1, mp.inf), lambda x: 1 / (1 + x)),
    "expm1": (lambda x: mp.expm1(x) if abs(x) < 1e4 else mp.inf if x > 0 else mpf(-1), mp.exp),
    "log2": (_inside(lambda x: mp.log(x) / mp.log(2), 0, mp.inf), lambda x: 1 / (x * mp.log(2))),
    "log10": (_inside(mp.log10, 0, mp.inf), lambda x: 1 / (x * mp.log(10))),
    "cbrt": (lambda x: mp.sign(x) * mp.cbrt(abs(x)), lambda x: 1 / (3 * mp.cbrt(abs(x)) ** 2) if x else None),
    "hypot": (mp.hypot, lambda x, y: x / mp.hypot(x, y) if x or y else None,
              lambda x, y: y / mp.hypot(x, y) if x or y else None),
    "logaddexp": (lambda x, y: max(x, y) + mp.log1p(mp.exp(-abs(x - y))),
                  lambda x, y: _sigmoid(x - y), lambda x, y: _sigmoid(y - x)),
    "erf": (lambda x: mp.erf(x) if abs(x) < 100 else mp.sign(x), _bell),
    "erfc": (lambda x: mp.erfc(x) if abs(x) < 100 else 1 - mp.sign(x), lambda x: -_bell(x)),
    "lgamma": (_lgamma, lambda x: _polygamma(0, x)),
    "polygamma": (_polygamma, lambda n, x: mpf(0), lambda n, x: _polygamma(n + 1, x)),
    "floor": (mp.floor, lambda x: mpf(0)),
    "ceil": (mp.ceil, lambda x: mpf(0)),
    "remainder": (_whole(lambda x, y: mpf(float(x) % float(y))), lambda x, y: mpf(1),
                  lambda x, y: -mpf(float(x) // float(y)) if math.isfinite(float(x) // float(y)) else None),
    "floor_divide": (_whole(lambda x, y: mpf(float(x) // float(y))),
                     lambda x, y: mpf(0), lambda x, y: mpf(0)),
    "copysign": (lambda x, y: mpf(math.copysign(x, y)),
                 lambda x, y: mp.sign(x) * mpf(math.copysign(1.0, y)), lambda x, y: mpf(0)),
}
# fmt: on


SIGNS_COUNT = ("atan2", "copysign")  # of zeros, which mpf does not have


def exactly(name: str, operands: Any) -> Any:
    """The value and the derivatives as mpmath has them, None where none is a float."""
    found: list[Any] = []
    with mp.workdps(50):
        for f in EXACT[name]:
            numbers = operands if name in SIGNS_COUNT else map(mpf, operands)
            x = f(*numbers) if not found or found[0] is not None else None
            found.append(x if x is not None and math.isfinite(float(x)) else None)
    return found


@functools.cache
def cases(name: str) -> list[Any]:
    """[(operands, exactly what there is to find)]"""
    return [
        (operands, exactly(name, operands)) for operands in (PAIRS if name in TWO else [(x,) for x in POINTS])
    ]


def _lost(exact: float, x: float, y: float) -> float:
    """Units that a quotient by hypot(x, y) may lose where that overflows or is subnormal."""
    size = math.hypot(x, y)
    lost = abs(exact) if math.isinf(size) else (1.0 + abs(exact)) * TINY / size
    return lost / math.ulp(exact)


# What is looser than a float's best, and why. The units are those of the last place of the exact result.
# fmt: off
UNITS = 2.7
# By (primitive, 0 for its value, 1 and 2 for its derivatives): (why, units allowed in a case)
LOOSER: dict[tuple[str, int], tuple[str, Callable[..., float]]] = {
    ("tanh", 1): ("1 − out² cancels near 1, as PyTorch's does: absolute accuracy",
                  lambda exact, x: EPSILON / math.ulp(exact)),
    ("sigmoid", 1): ("out (1 − out) cancels near 1, as PyTorch's does: absolute accuracy",
                     lambda exact, x: EPSILON / math.ulp(exact) if x > 0 else 0.0),
    ("pow", 1): ("y − 1 is rounded, which counts log x times; and x^(y−1) may be subnormal",
                 lambda exact, x, y: abs(math.log(abs(x) or 1.0)) + abs(y) * TINY / math.ulp(exact)),
}
LOOSER |= {("atan2", i): ("hypot may overflow, and it and x / hypot may be subnormal", _lost) for i in (1, 2)}
LOOSER |= {
    ("hypot", i): ("of subnormal results", lambda exact, x, y: abs(exact) * _lost(1.0, x, y)) for i in (1, 2)
}
LOOSER |= {
    ("logaddexp", i): ("x − y is rounded, which counts |x − y| times", lambda exact, x, y: abs(x - y))
    for i in (1, 2)
}
LOOSER |= {
    (name, 1): ("x² is rounded, which counts x² times", lambda exact, x: x * x) for name in ("erf", "erfc")
}
LOOSER |= {
    ("lgamma", 0): ("Python's is accurate to 1e-15 near 1 and 2",
                    lambda exact, x: 4 * EPSILON / math.ulp(exact)),
    ("lgamma", 1): ("as polygamma", lambda exact, x: 10.0 + 16.0 * EPSILON / math.ulp(exact)),
    ("polygamma", 0): ("a sum of 20 terms, that cancel near its zeros",
                       lambda exact, n, x: 10.0 + 16.0 * EPSILON / math.ulp(exact)),
    ("polygamma", 2): ("the same", lambda exact, n, x: 10.0 + 16.0 * EPSILON / math.ulp(exact)),
}
ODD: tuple[str, int, str, Callable[..., bool]] = (
    "pow", 1, "(−1)^(y−1) has the other sign where y − 1 is y: from 2⁵³ on, as PyTorch's has",
    lambda x, y: x == -1.0 and abs(y) > 2.0**53,
)
# Where an ArithmeticError is raised though the result is a float
OVERFLOWS: dict[tuple[str, int], tuple[str, Callable[..., bool]]] = {
    ("pow", 1): ("x^(y−1) overflows before it is multiplied by y",
                 lambda x, y: abs(x) == TINY and abs(y) < 1e-299),
    **{(name, 1): ("x² overflows", lambda x: abs(x) > 1e154) for name in ("atan", "erf", "erfc")},
    **{("atan2", i): ("hypot overflows", lambda x, y: math.isinf(math.hypot(x, y))) for i in (1, 2)},
    **{("logaddexp", i): ("x − y overflows", lambda x, y: math.isinf(x - y)) for i in (1, 2)},
}
# fmt: on


# The engines: what each finds in a case, in the order of EXACT; NaN where it raises.


def found_by(compute: Callable[..., Any]) -> Any:
    """A number, or NaN where there is an ArithmeticError."""
    try:
        return compute()
    except ArithmeticError:
        return math.nan


def by_eager(name: str) -> list[list[float]]:
    return [list(_eager(TABLE[name], operands)) for operands, _ in cases(name)]


def _eager(row: Any, operands: Any) -> Iterator[Any]:
    yield found_by(lambda: row(*map(Value, operands)).data)
    for i, x in enumerate(operands):  # the other operand is a number, or the same with a derivative too
        leaf = Value(x)
        yield found_by(
            lambda i=i, leaf=leaf: (
                row(*(leaf if i == j else x for j, x in enumerate(operands))).backward() or leaf.grad
            )
        )


def by_derive(name: str) -> list[list[float]]:
    return [list(_derive(TABLE[name], operands)) for operands, _ in cases(name)]


def _derive(row: Any, operands: Any) -> Iterator[Any]:
    leaves = [Value(x) for x in operands]
    out = found_by(lambda: row(*leaves))
    yield out.data if isinstance(out, Value) else math.nan
    for leaf in leaves:
        yield found_by(lambda leaf=leaf: derive(out, [leaf])[0].data) if isinstance(out, Value) else math.nan


def by_arrays(name: str) -> Any:
    """Of the table's functions of arrays."""
    row, columns = TABLE[name], list(np.transpose([operands for operands, _ in cases(name)]))
    with np.errstate(all="ignore"):
        value = row.numpy(*columns)
        partials = [
            d(*columns, value) if d is not no_gradient else 0.0 * value for d in (row.dx, row.dy) if d
        ]
    return _finite(value, partials)


def _finite(value: np.ndarray, partials: Any) -> Any:
    """[[value, *partials] of a case]: where a value is not finite, derivatives are of no interest."""
    return np.transpose([value, *(np.where(np.isfinite(value), d, math.nan) for d in partials)]).tolist()


def by_numpy(name: str) -> list[list[float]]:
    """A program for each operand: that is a leaf, and the other, if there is one, is data."""
    row, leaf = TABLE[name], Value(0.5)
    fs = [lambda x, y: row(leaf, y), lambda x, y: row(x, leaf)] if name in TWO else [lambda x: row(leaf)]
    programs = [autograd.compile(f, engine="numpy") for f in fs]
    return [list(_program(programs, leaf, operands)) for operands, _ in cases(name)]


def _program(programs: list[Any], leaf: Value, operands: Any) -> list[float]:
    data, gradient = [np.array([x]) for x in operands], []
    for program, leaf.data in zip(programs, operands):
        value = found_by(lambda program=program: program.per_example(*data).item())
        leaf.grad = 0.0
        gradient.append(found_by(lambda program=program: (program.backward(*data), leaf.grad)[1]))
    return [value, *gradient]


def by_native(name: str, by_row: bool) -> list[list[float]]:
    """Of machine code for all primitives and their derivatives, with operands by row or as leaves."""
    if Kernel is None:
        pytest.skip("llvmlite is not installed")
    if name not in _kernel(by_row):
        pytest.skip("there is no machine code for it or for its derivative")
    return _kernel(by_row)[name]


@functools.cache
def _kernel(by_row: bool) -> dict[str, list[Any]]:
    leaves = [Value(0.5), Value(0.75)]
    outputs, coded = [], []
    for name in EXACT:
        operands = leaves if name in TWO else leaves[:1]
        leaves[0].data = {"acosh": 1.5, "polygamma": 1.0}.get(name, 0.5)  # where it is defined
        out = TABLE[name](*operands)
        found = [out, *derive(out, operands)]
        if all(v.row is None or has_code(v.row) for v in topological_order(*found)):
            outputs += found
            coded.append(name)
    became = simplify(outputs, leaves if by_row else [])
    kernel = kernel_of([became.get(v, v) for v in outputs], *((leaves, []) if by_row else ([], leaves)))
    pairs = np.array([*PAIRS, *((x, 0.75) for x in POINTS)])
    if by_row:
        numbers = kernel.evaluate(pack([pairs]), len(pairs), np.empty(0))
    else:
        numbers = np.transpose([kernel.evaluate(pack([np.empty((1, 0))]), 1, pair) for pair in pairs])
    columns, results = iter(numbers), {}
    for name in coded:
        some = slice(None, len(PAIRS)) if name in TWO else slice(len(PAIRS), None)
        value, *partials = [next(columns)[some] for _ in EXACT[name]]
        results[name] = _finite(value, partials)
    return results


ENGINES: dict[str, Callable[[str], Any]] = {
    "eager": by_eager,
    "derive": by_derive,
    "arrays": by_arrays,
    "numpy": by_numpy,
    "native, by row": functools.partial(by_native, by_row=True),
    "native, of leaves": functools.partial(by_native, by_row=False),
}


def fault(
    name: str, result: int, operands: Any, exact: mpf | None, found: float, units: float = UNITS
) -> str:
    """What is wrong with a number found for a result; "" if nothing is."""
    if exact is None:
        return "is no float, and no error" if math.isfinite(found) else ""
    if not math.isfinite(found):
        _, excused = OVERFLOWS.get((name, result), ("", lambda *_: False))
        return "" if excused(*operands) else "an error"
    nearest = float(exact)
    if found == nearest:
        return ""
    off = float(abs(mpf(found) - exact) / mpf(math.ulp(nearest)))
    _, looser = LOOSER.get((name, result), ("", lambda *_: 0.0))
    if off <= units + looser(nearest, *operands) or (ODD[:2] == (name, result) and ODD[3](*operands)):
        return ""
    return f"{off:.1f} units off"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "polygamma")) for name in EXACT]
)
def test_values_and_derivatives_are_those_of_mathematics_or_errors(name: str, engine: Any) -> None:
    faults = []
    for (operands, exact), found in zip(cases(name), ENGINES[engine](name), strict=True):
        for result, (expected, number) in enumerate(zip(exact, found, strict=True)):
            if said := fault(name, result, operands, expected, number):
                faults.append(
                    (operands, ("value", "by x", "by y")[result], number, expected and float(expected), said)
                )
    assert not faults


def test_every_primitive_and_no_exception_too_many_is_here() -> None:
    assert set(EXACT) | {"dot", "total", "where"} | {row.name for row in CONDITIONS} == set(TABLE)
    excused = {(name, result): 0 for name, result in [*LOOSER, *OVERFLOWS]}
    for name, result in excused:
        for (_, exact), found in zip(cases(name) * 2, by_eager(name) + by_derive(name)):
            if exact[result] is not None and found[result] != float(exact[result]):
                off = abs(found[result] - float(exact[result])) / math.ulp(float(exact[result]))
                excused[name, result] += not off <= UNITS
    assert all(excused.values()), excused


EXPONENTS = [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, -0.5, 1.5, 16.0, -16.0, 17.0, 1 / 3, 1e-8, 40.0]


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("y", [0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, -0.5, 1.5, 16.0, -16.0, 17.0, 1e-8])
def test_numbers_as_exponents(y: float, engine: Any) -> None:
    """Programs write x² as x x and x^½ as √x; machine code multiplies others out, within 18 units."""
    leaf, faults = Value(0.5), []
    program = autograd.compile(lambda x: leaf**y, engine=engine)
    for x in BOTH + NEIGHBOURS:
        found = _program([program], leaf, [x])
        for result, (expected, number) in enumerate(zip(exactly("pow", (x, y)), found)):
            if said := fault("pow", result, (x, y), expected, number, 18.0 if engine == "native" else UNITS):
                faults.append((x, result, number, expected and float(expected), said))
    assert not faults


SIGNED = {  # the sign of a zero is that of IEEE 754
    **{name: getattr(operator, name) for name in ("add", "sub", "mul", "neg")},
    **{name: getattr(math, name) for name in ("pow", "exp", "sqrt", "sin", "tanh")},
    **{name: getattr(math, name) for name in "tan asin atan atan2 sinh asinh atanh log1p expm1 erf".split()},
    "div": operator.truediv,
    "remainder": operator.mod,
    "floor_divide": operator.floordiv,
    "copysign": math.copysign,
    "abs": math.fabs,
    "sign": lambda x: x,
    "relu": lambda x: 0.0,
}


NUMPYS = [("sign", -0.0), ("pow", -0.0, 0.5)]  # which have NumPy's signs, though equal numbers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", SIGNED)
def test_signs_of_zeros(name: str, engine: Any) -> None:
    for (operands, _), (value, *_) in zip(cases(name), ENGINES[engine](name)):
        if value == 0.0 and not (engine in ("arrays", "numpy") and (name, *operands) in NUMPYS):
            assert math.copysign(1.0, value) == math.copysign(1.0, SIGNED[name](*operands)), operands


UNLIMITED = {  # what has finite results of operands that are not: NaN where it has none
    "div": lambda x, y: 0.0 if math.isfinite(x) and math.isinf(y) else math.nan,
    "pow": lambda x, y: float(np.float_power(x, y)),  # C's, and so IEEE 754's; 3.10's math.pow(0, −∞) raises
    "maximum": lambda x, y: max(x, y) if x == x and y == y else math.nan,
    "minimum": lambda x, y: min(x, y) if x == x and y == y else math.nan,
    "step": lambda x, y: (x > y) + (x == y) / 2 if x == x and y == y else math.nan,
    **{name: getattr(math, name) for name in ("atan", "atan2", "erf", "erfc", "copysign")},
    "expm1": lambda x: -1.0 if x < 0 else math.nan,
    "logaddexp": lambda x, y: max(x, y) if min(x, y) == -math.inf else math.nan,
    "polygamma": lambda x, y: 0.0 if x in (1.0, 2.0) and y == math.inf else math.nan,
    "remainder": lambda x, y: x % y if y else math.nan,
    "floor_divide": lambda x, y: x // y if y else math.nan,
    "exp": lambda x: 0.0 if x < 0 else math.nan,
    "tanh": lambda x: math.copysign(1.0, x) if x == x else math.nan,
    "sigmoid": lambda x: float(x > 0) if x == x else math.nan,
    "relu": lambda x: 0.0 if x < 0 else math.nan,
    "softplus": lambda x: 0.0 if x < 0 else math.nan,
    "sign": lambda x: math.copysign(1.0, x) if x == x else math.nan,
}


def leaf_program(name: str, engine: Any) -> Any:
    """A leaf, and a program of as many operands as the primitive has, for the first of which it stands."""
    row, leaf = TABLE[name], Value(0.5, "w")
    f = (lambda x, y: row(leaf, y)) if name in TWO else (lambda x: row(leaf))
    return leaf, f if engine == "eager" else autograd.compile(f, engine=engine)


@pytest.mark.parametrize("engine", ["eager", *COMPILED])
@pytest.mark.parametrize("name", EXACT)
def test_leaves_that_are_not_finite_are_reported_where_they_make_a_result_so(name: str, engine: Any) -> None:
    leaf, program = leaf_program(name, engine)
    some = [math.inf, -math.inf, math.nan, 0.0, 1.0, -1.0, 0.5, 2.0]
    for operands in itertools.product(some, repeat=2 if name in TWO else 1):
        if all(map(math.isfinite, operands)):
            continue
        leaf.data = operands[0]
        expected = UNLIMITED.get(name, lambda *_: math.nan)(*operands)
        try:
            found = program(*operands).data if engine == "eager" else program(*([x] for x in operands))
        except ArithmeticError as error:
            assert re.search(rf"{name}\(.*\) (is undefined|is not finite|overflows)", str(error))
            assert not math.isfinite(expected), operands
        else:
            assert found == expected, operands


@pytest.mark.parametrize("engine", ["eager", *COMPILED])
@pytest.mark.parametrize("name", EXACT)
def test_errors_name_the_primitive_and_its_operands(name: str, engine: Any) -> None:
    """Once for each way in which it can fail: no value, too large, no derivative."""
    seen = set()
    leaf, program = leaf_program(name, engine)
    for operands, (value, slope, *_) in cases(name):
        if value is None or slope is None:
            leaf.data, leaf.grad = operands[0], 7.0
            with pytest.raises(ArithmeticError) as raised:
                if engine == "eager":
                    program(*operands).backward()
                else:
                    program.backward(*([x] for x in operands))
            said = str(raised.value)
            assert engine == "eager" or said.startswith("row 0: ")
            kind = re.findall("is undefined|overflows|derivative|is not finite", said)[0]
            assert f"{name}(w={operands[0]!r}" in said and leaf.grad == 7.0
            assert (value is None) == (kind in ("is undefined", "overflows"))
            seen.add(kind)
            if len(seen) == 3:
                break


def test_sums_that_overflow_on_the_way_raise() -> None:
    """Though the whole would be a float: they are computed in the order of their terms."""
    terms = [1e308, 1e308, -1e308]
    f: Callable[[list[Value]], Value]
    for f in (lambda v: total(v), lambda v: dot(v, [1.0] * 3)):
        with pytest.raises(OverflowError, match=r"(total|dot)\(\[1e\+308"):
            f([Value(x) for x in terms])
        assert f(list(map(Value, sorted(terms)[1::-1] + terms[:1]))).data == 1e308
