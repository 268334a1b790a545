"""Programs in C, as the C compiler takes them, against the programs and the table of primitives."""

import ctypes
import functools
import itertools
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import VALUES, random_program
from structures import states_with_numbers, structured
from test_kinds import small

import autograd
from autograd import Value, where
from autograd.ops import CONDITIONS, TABLE, Primitive
from autograd.program import c_source
from benchmarks.gallery import GALLERY

CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler")
inf, nan = math.inf, math.nan
FLAGS = "-std=c99 -O1 -Wall -Wextra -Wpedantic -Wconversion -Werror -shared -fPIC".split()
TYPES = {"float64": (ctypes.c_double, np.float64), "float32": (ctypes.c_float, np.float32)}


def built(sources: Mapping[Any, str], under: Path) -> dict[Any, Callable[..., list[np.ndarray]]]:
    """The functions of these files, compiled at once."""
    folder = Path(tempfile.mkdtemp(dir=under))  # a library is loaded from one path once
    for k, source in enumerate(sources.values()):
        title = re.findall(r"\w+", source)[0]
        (folder / f"f{k}.c").write_text(re.sub(rf"\b{title}\(", f"f{k}(", source), "ascii")
    library = folder / "library.so"
    files = [folder / f"f{k}.c" for k in range(len(sources))]
    done = subprocess.run([str(CC), *FLAGS, "-o", library, *files, "-lm"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[:3000]
    loaded = ctypes.CDLL(str(library))
    return {
        key: functools.partial(called, source, getattr(loaded, f"f{k}"))
        for k, (key, source) in enumerate(sources.items())
    }


def called(source: str, function: Any, given: Sequence[Any], n: int = 1) -> list[np.ndarray]:
    """A function's results for these arrays, in the order of the arguments: a comment has their shapes."""
    number, dtype = TYPES["float32" if "float " in source else "float64"]
    arrays, written, arguments, kept = iter(given), list[np.ndarray](), list[Any](), list[np.ndarray]()
    for name, shape, role in re.findall(r"^ \*   (\w+) +(?:\((.*)\))?(.*)$", source, re.MULTILINE):
        if name == "n":
            arguments.append(ctypes.c_size_t(n))
            continue
        lengths = tuple(n if length == "n" else int(length) for length in re.findall(r"\w+", shape))
        is_given = role.endswith(("data", "weights", "weight"))
        array = np.array(next(arrays), dtype, order="C") if is_given else np.full(lengths, nan, dtype)
        by_value = role == "a number, weight"
        arguments.append(number(float(array)) if by_value else ctypes.c_void_p(array.ctypes.data))
        assert array.shape == lengths, name
        kept.append(array)
        written += [array] if role.endswith("written") else []
    assert not list(arrays)
    is_void = re.search(r"^void ", source, re.MULTILINE)
    function.restype = None if is_void else number
    result = function(*arguments)
    return written if is_void else [np.array(result), *written]


def expected_of(program: Any, kind: str, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The program's own results."""
    if kind == "gradient":
        value, gradient = program.value_and_grad(*arrays)
        return [np.array(value), *gradient]
    found = program.per_example(*arrays) if kind == "rows" else program(*arrays)
    return parts(found)


def parts(found: Any) -> list[np.ndarray]:
    """The arrays in a result."""
    if isinstance(found, dict):
        return parts(list(found.values()))
    if isinstance(found, list | tuple):
        return [x for part in found for x in parts(part)]
    return [np.array(found)]


def check(
    programs: Mapping[Any, Any],
    folder: Path,
    dtype: Any = "float64",
    rtol: float = 1e-13,
    kinds: Sequence[str] = ("rows", "value", "gradient"),
) -> int:
    """Compare the C of every kind with the programs, each called with its arrays; how many were compared."""
    sources, expected, given = {}, {}, {}
    for name, (program, arrays) in programs.items():
        program.per_example(*arrays)
        listed = program.variant("rows", *arrays).listed
        for kind in ("rows",) if listed else kinds:
            try:
                source = program.c_source(kind, dtype)
            except NotImplementedError as error:
                assert "polygamma" in str(error) or "cbrt" in str(error)
                continue
            expected[name, kind] = expected_of(program, kind, arrays)
            sources[name, kind] = source
            leaves = [
                np.array([v.data for v in array.flat]).reshape(array.shape)
                for array in program.variant(kind, *arrays).leaves
            ]
            given[name, kind] = [*arrays, *leaves], len(arrays[0]) if arrays else 1
    for key, function in built(sources, folder).items():
        found = function(*given[key])
        assert len(found) == len(expected[key]), key
        size = max([1.0, *(np.max(np.abs(x), initial=0.0) for x in expected[key])])
        for x, y in zip(found, expected[key]):
            np.testing.assert_allclose(x, y, rtol=0.0, atol=rtol * size, err_msg=f"{key}\n{sources[key]}")
    return len(sources)


@needs_cc
@pytest.mark.parametrize(
    "dtype, rtol, kinds, every",
    [("float64", 1e-13, ["rows", "gradient"], 1), ("float32", 1e-5, ["gradient"], 4)],
)
def test_the_gallery(tmp_path: Path, dtype: Any, rtol: float, kinds: Any, every: int) -> None:
    problems = {name: small(name) for name in [*GALLERY][::every]}
    programs = {name: (problem.program("numpy"), problem.rows(3)) for name, problem in problems.items()}
    assert check(programs, tmp_path, dtype, rtol, kinds) == len(kinds) * len(problems)


@needs_cc
def test_programs_with_structure(tmp_path: Path) -> None:
    programs: dict[Any, Any] = {}
    for seed in range(10):
        f, _, arrays = structured(seed)
        programs[seed] = autograd.compile(f, engine="numpy"), arrays
    f, _, arrays = states_with_numbers()
    check({**programs, "numbers": (autograd.compile(f, engine="numpy"), arrays)}, tmp_path, "float64", 1e-12)


@needs_cc
def test_random_programs(tmp_path: Path) -> None:
    rng, programs = np.random.default_rng(0), {}
    for k in range(10):
        program = random_program(rng)
        leaves = [Value(x, label=f"w{i}") for i, x in enumerate(program.leaves)]
        outputs = functools.partial(lambda f, ws, *xs: f(*xs, *ws), program.function(VALUES), leaves)
        columns = [np.array(column) for column in zip(*program.rows)]
        programs[k, "list"] = autograd.compile(outputs, engine="numpy"), columns
        summed = functools.partial(lambda f, *xs: autograd.total(f(*xs)), outputs)
        programs[k, "sum"] = autograd.compile(summed, engine="numpy"), columns
    check(programs, tmp_path, "float64", 1e-12)


EDGES = [0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 3.0, 20.0, -40.0, 1e-310, -1e300, 710.0, inf, -inf, nan]
LOGICAL: dict[str, Callable[..., Any]] = {
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "equal": lambda x, y: x == y,
    "and": lambda x, y: (x < y) & (y <= 1.0),
    "or": lambda x, y: (x < y) | (x == y),
    "not": lambda x, y: ~(x <= y),
}
POWERS = [2.0, 3.0, 4.0, -1.0, -2.0, 17.0]
ROWS = [
    row
    for row in TABLE.values()
    if row.name not in ("dot", "total", "where", "polygamma") and row not in CONDITIONS
]


@needs_cc
@pytest.mark.parametrize("dtype, rtol, least", [("float64", 4e-15, 5e-324), ("float32", 1e-5, 1e-37)])
def test_every_primitive(tmp_path: Path, dtype: Any, rtol: float, least: float) -> None:
    def outputs(x: Any, y: Any, above_1: Any) -> list[Any]:
        found = [row(above_1 if row.name == "acosh" else x, *([y] if row.dy else [])) for row in ROWS]
        return [*found, *(x**k for k in POWERS), *(where(f(x, y), 1.0, 0.0) for f in LOGICAL.values())]

    program = autograd.compile(outputs)
    program.per_example(np.array([0.5]), np.array([0.25]), np.array([1.5]))
    edges = [x for x in EDGES if dtype == "float64" or (not 100.0 < abs(x) < inf and abs(x) != 1e-310)]
    near_whole = -0.7205084300666422, 0.023673799335066328  # the quotient less its rest
    listed = [*itertools.product(edges, edges), near_whole]
    pairs = np.array(listed, TYPES[dtype][1]).astype(float)
    source = program.c_source("rows", dtype)
    (found,) = built({0: source}, tmp_path)[0]([*pairs.T, pairs[:, 0]], len(pairs))
    names = [*(row.name for row in ROWS), *(f"x**{k}" for k in POWERS), *LOGICAL]
    compute: Any
    for (x, y), results in zip(pairs.tolist(), found.tolist()):
        computed = [functools.partial(row.compute, *((x, y) if row.dy else (x,))) for row in ROWS]
        computed += [functools.partial(math.pow, x, k) for k in POWERS]
        computed += [functools.partial(f, np.float64(x), np.float64(y)) for f in LOGICAL.values()]
        for name, compute, result in zip(names, computed, results):
            try:
                expected = float(compute())
            except (ArithmeticError, ValueError):
                assert not math.isfinite(result), (name, x, y)
            else:
                error = 1e-15 if name == "lgamma" else least  # as accurate as Python's own near a zero
                assert result == pytest.approx(expected, rel=rtol, abs=error, nan_ok=True), (name, x, y)
                if expected == 0.0 and name in TABLE:
                    assert math.copysign(1.0, result) == math.copysign(1.0, expected), (name, x, y)


@needs_cc
def test_forms_of_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data, no parameters, unused ones, outputs that are leaves; dicts; steps; memory that is given."""
    w, b = [Value(0.5 * i, f"w[{i}]") for i in range(3)], Value(-0.25, "b")
    many = [Value(0.001 * i, f"v[{i}]") for i in range(5)]
    x, X = np.array([0.5, -1.0]), np.arange(6.0).reshape(2, 3)

    def wide(x: Any) -> Any:
        table = [[(u * x + v).tanh() for u in many] for v in many]
        return autograd.total(table[i][j] * table[j][i] for i in range(5) for j in range(5))

    def steps(x: Any) -> Any:
        state, before = x[0], b
        for t in range(12):
            state, before = (w[1] * state + x[11 - t] * before).tanh(), state
        return state

    functions: dict[str, tuple[Any, list[np.ndarray]]] = {
        "no data": (lambda: autograd.dot(w, w) + b, []),
        "no data, a list": (lambda: [w[0] * b, b, 3.0], []),
        "unused": (lambda x, y: b * y, [x, x]),
        "no parameters": (lambda x: x.sin(), [x]),
        "a number": (lambda x: 2.0, [x]),
        "as they are": (lambda x, y: [x[1], w[2], b, 2.0, x[1], b * 2.0, y], [X, x]),
        "parts": (lambda x: {"a": w[1] * x[0], "b": [x * b, where(x[0] < w[1], w[0], b)], "c": []}, [X]),
        "nothing": (lambda x, y: [x * 2.0, y * b], [np.empty((2, 0)), x]),
        "steps": (steps, [np.linspace(-1.0, 1.0, 24).reshape(2, 12)]),
        "wide": (wide, [x]),
    }
    programs = {key: (autograd.compile(f, engine="numpy"), arrays) for key, (f, arrays) in functions.items()}
    check(programs, tmp_path)
    monkeypatch.setattr(c_source, "ON_STACK", 20)
    check({"wide": programs["wide"]}, tmp_path)
    assert "double *restrict work)" in programs["wide"][0].c_source()


@needs_cc
def test_names_are_free_in_c(tmp_path: Path) -> None:
    """Users' names may be C's, the library's or the file's, or of no ASCII."""
    labels = ["double", "exp", "y1", "sigmoid", "row", "t1", "θ", "é", "中", "sum"]
    leaves = [Value(0.1 * i - 0.3, f"{label}[{k}]") for i, label in enumerate(labels) for k in range(2)]

    def log(n: Any, i: Any, int: Any, k_2: Any, size_t: Any, _h: Any) -> Any:
        first, second = leaves[::2], leaves[1::2]
        for v in first + second:
            n = n + (v * i).sigmoid() * v.exp() - size_t / (int + 2.0)
        return n * k_2 * _h

    columns = [np.array([0.25 * k, 0.5, 0.1]) for k in range(6)]
    check({"log": (autograd.compile(log, engine="numpy"), columns)}, tmp_path)


@needs_cc
def test_weights_are_constants_with_the_same_bits(tmp_path: Path) -> None:
    numbers = [0.1, 1.0 / 3.0, -1e-310, 5e-324, 1e300, -0.0, inf, -inf, nan, 1e16, 123456789.123, 2.0**-40]
    w, b = [Value(0.5, f"w[{i}]") for i in range(len(numbers))], Value(0.5, "b")
    program = autograd.compile(lambda x: [*w, b])
    program.per_example(np.array([1.0]))
    for v, number in zip([*w, b], [*numbers, math.pi]):
        v.data = number
    sources = {dtype: program.c_source(dtype=dtype, weights=True) for dtype in ("float64", "float32")}
    for dtype, function in built(sources, tmp_path).items():
        (found,) = function([[1.0]])
        with np.errstate(over="ignore"):
            expected = np.array([[*numbers, math.pi]], TYPES[dtype][1])
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


def test_errors_say_what_to_write() -> None:
    w = Value(0.5, "w")
    program = autograd.compile(lambda x: w * x)
    with pytest.raises(RuntimeError, match="call it with data first"):
        program.c_source()
    program(np.array([1.0]))
    with pytest.raises(ValueError, match="unknown kind 'mean'; there are rows, value, gradient"):
        program.c_source("mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dtype is 'float64' or 'float32', not 'float16'"):
        program.c_source(dtype="float16")  # type: ignore[arg-type]
    listed = autograd.compile(lambda x: [w * x])
    listed(np.array([1.0]))
    with pytest.raises(TypeError, match="no mean, and no gradient"):
        listed.c_source("gradient")
    own: Any = Primitive("cube", "x³", lambda x: x**3, lambda x: x**3, lambda x, out: 3.0 * x * x)
    for f, name in ((lambda x: autograd.lgamma(x * w), "polygamma"), (lambda x: own(w * x), "cube")):
        program = autograd.compile(f, engine="numpy")
        program.backward(np.array([1.5]))
        with pytest.raises(NotImplementedError, match=f"<math.h> has no function for the primitive '{name}'"):
            program.c_source("gradient")
