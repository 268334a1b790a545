"""The vector functions against mpmath, in units in the last place."""

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ir = pytest.importorskip("llvmlite.ir", reason="llvmlite is not installed")
llvm = pytest.importorskip("llvmlite.binding")
mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")

from autograd.program.vector_math import FUNCTIONS  # noqa: E402

EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    **{name: getattr(mpmath, name) for name in ("expm1", "log1p", "sin", "cos", "erf", "erfc")},
}
UNITS = {"exp": 1.1, "log": 0.9, "tanh": 1.3, "sigmoid": 2.0, "softplus": 1.8}  # what is reached, rounded up
UNITS |= {"expm1": 2.1, "log1p": 1.5, "sin": 1.6, "cos": 1.6, "erf": 1.8, "erfc": 2.9}
# Doubles within 2e-18 of a multiple of π/2; 2^e · 2/π as a continued fraction gives them.
NEAR_TURNS = [
    "0x1.6c6cbc45dc8dep+5",
    "0x1.b951f1572eba5p+23",
    "0x1.504cac51f1eafp+131",
    "0x1.6ac5b262ca1ffp+849",
]
LN2, TINY, LARGEST = math.log(2.0), 5e-324, 1.7976931348623157e308
inf, nan = math.inf, math.nan


@functools.cache
def compiled(name: str, width: int) -> Callable[..., Any]:
    """The function, of arrays, by vectors of that width."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module, vector = ir.Module(), ir.VectorType(ir.DoubleType(), width)
    signature = ir.FunctionType(ir.VoidType(), [vector.as_pointer()] * 2)
    function = ir.Function(module, signature, "f")
    builder = ir.IRBuilder(function.append_basic_block())
    x = builder.load(function.args[0], align=8)
    builder.store(FUNCTIONS[name](builder, x), function.args[1], align=8)
    builder.ret_void()
    host = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(*host)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(engine.get_function_address("f"))

    def apply(xs: Any, engine: Any = engine) -> np.ndarray:  # which lives as long as its code is wanted
        x = np.resize(xs, -(-len(xs) // width) * width).astype(float)
        y = np.empty_like(x)
        for i in range(0, x.nbytes, 8 * width):
            run(x.ctypes.data + i, y.ctypes.data + i)
        return y[: len(xs)]

    return apply


def arguments(name: str) -> Any:
    rng = np.random.default_rng(0)
    sign = rng.choice([-1.0, 1.0], 500)
    near = 1.0 + np.concatenate([rng.normal(size=400) * 1e-3, sign * 10 ** rng.uniform(-16, -1, 500)])
    if name == "log":
        positive = rng.integers(1, 0x7FF << 52, 1000).view(float)  # log-uniform
        subnormal = rng.integers(1, 1 << 52, 200).view(float)
        around = np.ldexp(near, rng.integers(-1074, 1023, near.size))
        edges = [TINY, 2.0**-1022, np.nextafter(2.0**-1022, 0.0), LARGEST]
        reduced = rng.uniform(0.7, 1.42, 800)
        return np.concatenate([positive, subnormal, near, near * math.sqrt(0.5), around, reduced, edges])
    tiny = sign * 10 ** rng.uniform(-320, 0, 500)
    if name in ("sin", "cos"):
        turns = np.pi / 2 * np.concatenate([rng.integers(-(2**k), 2**k, 200) for k in (3, 20, 39, 60)])
        huge = sign * 10 ** rng.uniform(9, 308, 500)  # 2⁴⁰ is about 10¹²
        near_turns = [*map(float.fromhex, NEAR_TURNS), LARGEST]
        return np.concatenate(
            [tiny, turns, huge, near_turns, *(rng.uniform(-w, w, 800) for w in (1.0, 8.0, 1e6))]
        )
    if name in ("erf", "erfc"):
        spans = [(-1.0, 1.0), (0.4, 0.6), (0.5, 3.0), (-6.0, 6.0), (6.0, 26.5), (26.5, 27.226)]
        return np.concatenate([tiny, *(rng.uniform(*span, 500) for span in spans)])
    if name == "log1p":
        spans = [(-0.5, 1.0), (-1.0, 3.0), (0.0, 1e3)]
        others = [np.maximum(tiny, -0.9), 10 ** rng.uniform(0, 308, 500), [np.nextafter(-1.0, 0.0), LARGEST]]
        return np.concatenate([*others, *(rng.uniform(*span, 500) for span in spans)])
    low, high = {"tanh": (-23.0, 23.0)}.get(name, (-745.13, 709.78 if "exp" in name else 800.0))
    # Where the reduction turns
    halves = (rng.integers(int(low / LN2), int(high / LN2), near.size) + 0.5) * LN2
    points: list[Any] = [
        tiny,
        sign * 10 ** rng.uniform(-320, 2.84, 500),
        *(rng.uniform(max(low, -width), min(high, width), 800) for width in (1.0, 4.0, 40.0, 800.0)),
        halves * near,
        near * (-53 * LN2 if name == "sigmoid" else 0.625),  # a sum that loses its 1; tanh's other formula
        rng.uniform(-745.13, -690.0, 400),  # subnormal results
        [TINY, -TINY, low, high],
    ]
    return np.clip(np.concatenate(points), None, high)


def ulps(y: float, exact: Any) -> float:
    return float(abs(mpmath.mpf(y) - exact) / math.ulp(float(exact)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name: str) -> None:
    x = arguments(name)
    y = compiled(name, 8)(x)
    for width in (1, 3):
        np.testing.assert_array_equal(compiled(name, width)(x), y)
    with mpmath.workprec(160):
        errors = [ulps(b, EXACT[name](mpmath.mpf(a))) for a, b in zip(x.tolist(), y.tolist())]
    worst = int(np.argmax(errors))
    assert errors[worst] <= UNITS[name], f"{name}({x[worst]!r}) is {errors[worst]} units off"


SPECIAL = [0.0, -0.0, TINY, -TINY, LARGEST, -LARGEST, inf, -inf, nan]


@pytest.mark.parametrize("width", [8, 3, 1])
@pytest.mark.parametrize(
    "name, expected",
    [
        ("exp", [1.0, 1.0, 1.0, 1.0, inf, 0.0, inf, 0.0, nan]),
        ("log", [-inf, -inf, math.log(TINY), nan, math.log(LARGEST), nan, inf, nan, nan]),
        ("tanh", [0.0, -0.0, TINY, -TINY, 1.0, -1.0, 1.0, -1.0, nan]),
        ("sigmoid", [0.5, 0.5, 0.5, 0.5, 1.0, 0.0, 1.0, 0.0, nan]),
        ("expm1", [0.0, -0.0, TINY, -TINY, inf, -1.0, inf, -1.0, nan]),
        ("log1p", [0.0, -0.0, TINY, -TINY, math.log(LARGEST), nan, inf, nan, nan]),
        ("sin", [0.0, -0.0, TINY, -TINY, None, None, nan, nan, nan]),
        ("cos", [1.0, 1.0, 1.0, 1.0, None, None, nan, nan, nan]),
        ("erf", [0.0, -0.0, TINY, -TINY, 1.0, -1.0, 1.0, -1.0, nan]),
        ("erfc", [1.0, 1.0, 1.0, 1.0, 0.0, 2.0, 0.0, 2.0, nan]),
        ("softplus", [LN2, LN2, LN2, LN2, LARGEST, 0.0, inf, 0.0, nan]),
    ],
)
def test_special_values(name: str, expected: list[float | None], width: int) -> None:
    x, exact = zip(*((x, y) for x, y in zip(SPECIAL, expected) if y is not None))
    y = compiled(name, width)(x)
    assert [*map(str, y.tolist())] == [*map(str, exact)]  # as text, 0.0 is not -0.0, and nan is nan


def test_the_ends_of_exp() -> None:
    assert compiled("exp", 3)([709.79, -745.13, -745.14]).tolist() == [inf, TINY, 0.0]
