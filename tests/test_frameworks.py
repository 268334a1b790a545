"""A program's function on other array libraries, its numbers, and what it knows before there are data."""

import functools
import itertools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value, dot, maximum, where
from autograd.ops import CONDITIONS, TABLE
from benchmarks.gallery import GALLERY, Problem

ROOT = Path(__file__).resolve().parent.parent
INF = math.inf
NAN = float("nan")
# Enough kinds for every rule of the printer: heads, masks, windows, loops, choices, reductions, gathers.
KINDS = ["lstm", "convolution", "causal_attention_2_heads", "hidden_markov", "gaussian_process", "bodies"]
KINDS += ["rnn", "relatives_of_relu", "mixture_density"]


def small(name: str) -> Problem:
    sizes: dict[str, Any] = {"lstm": {"width": 3}, "hidden_markov": {"states": 3}}
    return GALLERY[name](**sizes.get(name, {}))


def module(name: str) -> Any:
    """An array module, in float64."""
    library = pytest.importorskip(name, reason=f"{name} is not installed")
    if name == "jax.numpy":
        sys.modules["jax"].config.update("jax_enable_x64", True)
    return library


def called(program: Any, xp: Any, *rows: Any, run: Callable[..., Any] = lambda f: f) -> list[np.ndarray]:
    """The results of a program's function for an array module, as NumPy's arrays."""
    results = run(program.function(xp))(*map(xp.asarray, (*rows, *program.numbers)))
    return [np.asarray(x) for x in results]


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * (1.0 + np.max(np.abs(b))))


# Before data


def test_a_program_is_there_before_its_data() -> None:
    model = nn.MLP(2, [3, 1], activation="sigmoid", rng=np.random.default_rng(0))

    def loss(x: Any, y: Any) -> Any:
        return nn.squared_error(model(x), y)

    recorded = autograd.compile(loss)
    recorded(np.ones((1, 2)), np.ones(1))
    for program in (
        autograd.compile(loss).for_rows_of((2,), ()),
        autograd.compile(loss).for_rows_of(y=(), x=2),
    ):
        assert program.source == recorded.source
        assert program.shapes == [leaf.shape for leaf in program.leaves] == [(3, 2), (3,), (3,), ()]
        assert_same(program.numbers, recorded.numbers)


def test_the_rows_of_examples_suit_functions_that_are_not_defined_everywhere() -> None:
    w = Value(1.0, "w")
    for f in (
        lambda x: w * x[0].log() / (x[1] - x[0]).sqrt(),  # the first row alone
        lambda x: w * np.arccosh(x[0]) / (x[0] - x[1]).log1p(),  # the last row alone
        lambda x: w * (1.0 - x[0]).log() + np.arcsin(x[1]),
    ):
        assert autograd.compile(f).for_rows_of(2).shapes == [()]


def test_an_index_among_the_rows_of_examples_is_found_with_its_table() -> None:
    table = [Value(float(i), f"t[{i}]") for i in range(5)]

    def f(x: Any) -> Any:
        return table[int(x[0])] * x[1].log() / (x[1] - x[2]) + table[int(x[3])] ** 2

    program = autograd.compile(f, engine="numpy").for_rows_of(4)
    assert program.shapes == [(5,)]
    assert program(np.array([[4.0, 2.0, 3.0, 1.0], [0.0, 2.0, 1.0, 3.0]])) == pytest.approx(
        (1.0 - 4.0 * math.log(2.0) + 9.0) / 2.0
    )
    with pytest.raises(IndexError, match="row 0, column 3 is 5"):
        program(np.array([[0.0, 2.0, 1.0, 5.0]]))


def test_the_shapes_that_were_given_last_are_the_latest() -> None:
    w = Value(2.0, "w")
    program = autograd.compile(lambda x: w * x.sum())
    program.for_rows_of(2)
    two = program.source
    assert program.for_rows_of((3, 2)).source != two
    assert program.for_rows_of(2).source == two


def test_shapes_without_a_result_are_errors_and_change_nothing() -> None:
    w = Value(2.0, "w")
    program = autograd.compile(lambda x: (w * -x).log()).for_rows_of
    with pytest.raises(ArithmeticError, match=r"^row 0: log.* call the program with your data"):
        program(())
    plain = autograd.compile(lambda x: w * x)
    for wrong, error in (("a", TypeError), ((2.0,), TypeError), ((-1,), ValueError)):
        with pytest.raises(error, match="the shape of a row"):
            plain.for_rows_of(wrong)
    with pytest.raises(RuntimeError, match=r"has recorded nothing yet.*for_rows_of"):
        _ = plain.numbers
    assert autograd.compile(lambda x: [w * x, 1.0]).for_rows_of(()).shapes == [()]


# Numbers


def test_numbers_are_set_all_or_none() -> None:
    a, b = [Value(1.0, "a[0]"), Value(2.0, "a[1]")], Value(3.0, "b")
    program = autograd.compile(lambda x: dot(a, x) + b).for_rows_of(2)
    program.numbers = [np.array([4, 5]), 6.0]
    assert [v.data for v in (*a, b)] == [4.0, 5.0, 6.0]
    for wrong, error, said in (
        ([np.zeros(2)], ValueError, r"1 arrays for 2 arrays of leaves: a \(2,\), b \(\)"),
        ([np.zeros(2), np.zeros(1)], ValueError, r"b has the shape \(\), not \(1,\)"),
        ([np.zeros(2), "x"], TypeError, "b is 'x', and no real number"),
        ([np.zeros(2) + 1j, 0.0], TypeError, "a, row 0 is .*, and no real number"),
        ([[0.0, [1.0]], 0.0], ValueError, "the rows of a differ"),
    ):
        with pytest.raises(error, match=said):
            program.numbers = wrong  # type: ignore[assignment]
        assert [v.data for v in (*a, b)] == [4.0, 5.0, 6.0]


# NumPy


@pytest.mark.parametrize("name", KINDS)
def test_numpys_function_is_that_of_the_calls(name: str) -> None:
    problem = small(name)
    rows, program = problem.rows(5), problem.program("numpy")
    value, gradient = program.value_and_grad(*rows)
    result, *found = program.function(np)(*rows, *program.numbers)
    assert result == value and all(map(np.array_equal, found, gradient))


def test_numpys_function_raises_as_a_call_does() -> None:
    w = Value(1.0, "w")
    program = autograd.compile(lambda x: 1.0 / (1.0 + (w * x).exp())).for_rows_of(())
    run = program.function(np)
    assert np.isfinite(run(np.array([700.0]), 1.0)[0])
    with pytest.raises(FloatingPointError, match="value_and_grad"):
        run(np.array([0.0, 800.0]), 1.0)  # 1 ÷ ∞ is 0
    table = [Value(1.0, "t[0]"), Value(2.0, "t[1]")]
    by_index = autograd.compile(lambda i: table[int(i)]).for_rows_of(())
    with pytest.raises(IndexError, match="row 1 is 2"):
        by_index.function(np)(np.array([1.0, 2.0]), *by_index.numbers)


def test_slices_stop_within_their_axis() -> None:
    xp = module("array_api_strict")
    program = autograd.compile(lambda x, y: dot(x[2::-2], y))
    rows = np.arange(6.0).reshape(2, 3), np.ones((2, 2))
    expected = program(*rows)
    np.testing.assert_array_equal(called(program, xp, *rows)[0], expected)


# NaN on other libraries: array_api_strict stands for all in the tests that need no other library


def of_strict(f: Callable[..., Any], *rows: Any) -> list[np.ndarray]:
    """The results of f's program, recorded with the first row alone."""
    xp = module("array_api_strict")
    arrays = [np.asarray(x, dtype=float) for x in rows]
    program = autograd.compile(f, engine="numpy")
    program.variant("rows", *(array[:1] for array in arrays))
    with np.errstate(all="ignore"):
        return called(program, xp, *arrays)


ELEMENTWISE = [
    row
    for row in TABLE.values()
    if row not in CONDITIONS and row.name not in ("where", "dot", "total", "polygamma")
]


@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_no_primitive_hides_an_infinity(row: Any) -> None:
    """Of ±∞ that was computed, as either operand, the result is NaN or infinite; other rows are finite."""
    large, other, defined = Value(1e300, "w"), Value(0.75, "v"), 0
    for sign, place, size in itertools.product((1.0, -1.0), range(2 if row.dy else 1), (0.75, 1.5)):

        def f(x: Any, sign: float = sign, place: int = place) -> Any:
            z = large * x * sign
            return [Value._record(row, *((z, other)[:: -1 if place else 1] if row.dy else (z,)))]

        try:
            (found,) = of_strict(f, [size * 1e-300, 1e300])
        except ArithmeticError:  # the first row has no result
            continue
        assert np.isfinite(found[0]).all() and not np.isfinite(found[1]).any(), (sign, place)
        defined += 1
    assert defined


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: where(w * x > 1.0, 2.0, x),  # a comparison
        lambda x, w: where((w * x > 1.0) | (x > 0.0), 2.0, x),
        lambda x, w: where(x > 0.0, x, w * x),  # what is not chosen
        lambda x, w: 1.0 / autograd.total([w * x * i for i in range(1, 9)]),  # a sum
        lambda x, w: 1.0 / (x * w * np.array([1.0, 2.0])).sum() + x,
        lambda x, w: repeated(lambda z: (z * w * x).tanh() + x, 12, x),  # a loop
        lambda x, w: repeated(lambda z: where(z * w * x > 1.0, 0.5, z), 12, x),
        lambda x, w: two_loops(
            x, [(w * 1e-300) * x * (1e10 if i == 12 else 0.1 * (i + 1)) for i in range(16)]
        ),
    ],
)
def test_no_result_hides_an_infinity(f: Any) -> None:
    xp, w = module("array_api_strict"), Value(1e300, "w")
    rows = np.array([1e-301, 1e300])
    program = autograd.compile(lambda x: f(x, w))
    program.variant("gradient", rows[:1])
    assert all(np.isfinite(x).all() for x in called(program, xp, rows[:1]))
    with np.errstate(all="ignore"):
        assert all(np.isnan(x).all() for x in called(program, xp, rows))


def two_loops(x: Any, h: Any) -> Any:
    """The second reads numbers of h beyond those that the first reads."""
    z = x
    for i in range(8):
        z = where(x < z, h[i], z).sin() + z
    for i in range(1, 16):
        z = where(x < z, h[i], z * 0.5).cos() - z
    return z


def repeated(step: Callable[[Any], Any], n: int, z: Any) -> Any:
    for _ in range(n):
        z = step(z)
    return z


def test_an_infinity_that_is_no_error_stays_what_it_is() -> None:
    w = Value(1.0, "w")

    def padded(x: Any, given: Any) -> Any:
        scores = [where(g > 0.0, w * a, -INF) for a, g in zip(x, given)]
        largest = functools.reduce(maximum, scores, -INF)
        return [[(s - largest).exp() for s in scores]]

    x, given = np.array([[0.1, 0.2, 0.3], [1.0, -1.0, 0.5]]), np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    (found,) = of_strict(padded, x, given)
    expected = given * np.exp(x - np.max(x, axis=1, keepdims=True))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)
    steps = autograd.compile(
        lambda x: repeated(lambda z: (maximum(where(x > z, z * w, -INF), -2.0) + x).tanh(), 12, x.tanh())
    )
    each, xp = np.array([0.5, -1.0]), module("array_api_strict")
    assert "for i in range" in steps.for_rows_of(()).source
    assert_same(called(steps, xp, each)[:1], [steps(each)])
    # An infinity of the data is no error where it leads to none; NaN that is not chosen does not matter.
    np.testing.assert_array_equal(of_strict(lambda x: [x.tanh() * w], [1.0, INF])[0][1], [1.0])
    np.testing.assert_array_equal(of_strict(lambda x: [where(x == x, x, 2.0) * w], [1.0, NAN])[0][1], [2.0])


def test_only_the_row_of_an_infinity_is_nan() -> None:
    w = Value(1.0, "w")
    first, second = of_strict(
        lambda x: ([where(w * x * 1e300 > 1.0, x, 2.0), [x, -x]], w * 2.0)[0], [1.0, 1e300, 3.0]
    )
    np.testing.assert_array_equal(first, [1.0, NAN, 3.0])
    np.testing.assert_array_equal(second, [[1.0, -1.0], [NAN, NAN], [3.0, -3.0]])


def test_an_index_beyond_its_table_gives_nan() -> None:
    xp, table = module("array_api_strict"), [Value(1.0, "t[0]"), Value(2.0, "t[1]"), Value(3.0, "t[2]")]
    for f, good, bad in (
        (lambda i: table[int(i)], 2.0, [3.0, -1.0, 0.5, NAN]),
        (lambda i: table[int(i)] / (i - 1.0) ** 2, 2.0, [1.0, 3.0]),  # and not table[1]
    ):
        program = autograd.compile(f)
        program.variant("gradient", np.array([0.0, good]))
        assert called(program, xp, np.array([0.0, good]))[0] == 2.0
        for index in bad:
            with np.errstate(all="ignore"):
                results = called(program, xp, np.array([0.0, index]))
            assert all(np.isnan(x).all() for x in results)
    (found,) = of_strict(lambda x: [table[int(x[1])] * x[0], x[0]], [[2.0, 1.0], [2.0, 3.0], [2.0, 0.0]])
    np.testing.assert_array_equal(found, [[4.0, 2.0], [NAN, NAN], [2.0, 2.0]])


@pytest.mark.parametrize("name", KINDS)
def test_a_program_runs_on_dask(name: str) -> None:
    da = module("dask.array")
    problem = small(name)
    rows, program = problem.rows(6), problem.program("numpy")
    value, gradient = program.value_and_grad(*rows)
    chunks = [da.from_array(x, chunks=(3, *x.shape[1:])) for x in rows]
    results = program.function(da)(*chunks, *map(da.asarray, program.numbers))
    assert all(isinstance(x, da.Array) for x in results)
    assert_same(map(np.asarray, results), [value, *gradient])


# JAX and PyTorch


@pytest.mark.oracles
@pytest.mark.parametrize("name", KINDS)
def test_jax_transforms_a_program(name: str) -> None:
    jnp = module("jax.numpy")
    jax: Any = sys.modules["jax"]
    problem = small(name)
    rows, program = problem.rows(4), problem.program("numpy")
    value, gradient = program.value_and_grad(*rows)
    assert_same(called(program, jnp, *rows, run=jax.jit), [value, *gradient])
    function, numbers = program.function(jnp), program.numbers
    twice = jax.vmap(function, in_axes=(*[0] * len(rows), *[None] * len(numbers)))
    assert_same([x[1] for x in twice(*(np.stack([x, x]) for x in rows), *numbers)], [value, *gradient])
    found, by_jax = jax.value_and_grad(lambda numbers: function(*rows, *numbers)[0])(numbers)
    assert_same([found, *by_jax], [value, *gradient])


@pytest.mark.oracles
@pytest.mark.parametrize("name", KINDS)
def test_torch_compiles_and_differentiates_a_program(name: str) -> None:
    torch: Any = module("torch")
    problem = small(name)
    rows, program = problem.rows(4), problem.program("numpy")
    value, gradient = program.value_and_grad(*rows)

    def compiled(f: Any) -> Any:  # the back end needs a C++ compiler, and Dynamo is where programs might fail
        return torch.compile(f, fullgraph=True, backend="aot_eager")

    assert_same(called(program, torch, *rows, run=compiled), [value, *gradient])
    numbers = [torch.tensor(x, requires_grad=True) for x in program.numbers]
    result, *_ = program.function(torch)(*map(torch.tensor, rows), *numbers)
    result.backward()
    assert_same([x.grad.numpy() for x in numbers], gradient)


@pytest.mark.oracles
@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
def test_traced_functions_hide_no_infinity_and_no_wrong_index(name: str) -> None:
    xp = module(name)
    run = xp.compile if name == "torch" else sys.modules["jax"].jit
    w, table = Value(1.0, "w"), [Value(1.0, "t[0]"), Value(2.0, "t[1]")]
    for f, good, bad in (
        (lambda x: 1.0 / (1.0 + (w * x).exp()), 700.0, 800.0),
        (lambda x: (w * x * 1e300).sigmoid(), 1.0, -1e300),
        (lambda x: maximum(-(w * x).exp(), 0.0 * w), 1.0, 800.0),
        (lambda x: where((w * x).exp() > 1.0, w, x), 1.0, 800.0),
        (lambda x: table[int(x)], 1.0, 2.0),
    ):
        program = autograd.compile(f).for_rows_of(())
        assert all(np.isfinite(x).all() for x in called(program, xp, np.array([good]), run=run))
        found = called(program, xp, np.array([good, bad]), run=run)
        assert all(np.isnan(x).all() for x in found)


@pytest.mark.oracles
@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
def test_other_libraries_differentiate_the_source_rightly_at_zero(name: str) -> None:
    xp = module(name)
    w = Value(0.0, "w")
    program = autograd.compile(lambda x: (w * x).sigmoid() + (w * x).softplus()).for_rows_of(())
    function = program.function(xp)

    def loss(w: Any) -> Any:
        return function(xp.asarray(np.array([1.0])), w)[0]

    grad = xp.func.grad if name == "torch" else sys.modules["jax"].grad
    assert float(grad(loss)(xp.asarray(np.array(0.0)))) == 0.75


# Recipes of docs/pytorch.md


def recipe(word: str) -> str:
    """The block of code in docs/pytorch.md that has this word."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/pytorch.md").read_text("utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if word in block)
    return str(found)


def running(path: Path, code: str, **environment: str) -> Any:
    """A process that runs this code."""
    path.write_text(code)
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen([sys.executable, path], env=variables, stdout=subprocess.PIPE, text=True)


@pytest.mark.oracles
def test_the_recipe_for_devices_runs_on_eight(tmp_path: Path) -> None:
    module("jax.numpy")
    flags = "--xla_force_host_platform_device_count=8"
    code = recipe("make_mesh") + SHARDED
    process = running(tmp_path / "recipe.py", code, XLA_FLAGS=flags, JAX_PLATFORMS="cpu")
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and out.splitlines() == ["8 devices: True", "as in NumPy"]


SHARDED = """
import sys

import numpy as np
from jax.sharding import AxisType, Mesh

from benchmarks.gallery import GALLERY

for name in ("lstm", "causal_attention_2_heads", "gaussian_process", "bodies", "mixture_density"):
    problem = GALLERY[name]()
    rows, program = problem.rows(16), problem.program("numpy")
    value, gradient = program.value_and_grad(*rows)
    explicit = jax.make_mesh((8,), ("rows",), axis_types=(AxisType.Explicit,))
    for mesh in (Mesh(np.array(jax.devices()), ("rows",)), explicit):
        by_rows, whole = NamedSharding(mesh, PartitionSpec("rows")), NamedSharding(mesh, PartitionSpec())
        arrays = [*jax.device_put(rows, by_rows), *jax.device_put(program.numbers, whole)]
        with jax.set_mesh(mesh):
            found = jax.block_until_ready(jax.jit(program.function(jax.numpy))(*arrays))
        for a, b in zip(found, [value, *gradient]):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * (1.0 + np.max(np.abs(b))))
print("as in NumPy")
"""


@pytest.mark.oracles
def test_the_recipe_for_processes_trains_as_one(tmp_path: Path) -> None:
    module("torch")
    code, found = recipe("all_reduce"), {}
    for world in (1, 2):
        port = str(free_port())
        places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
        processes = [running(tmp_path / f"{i}.py", code, **places, RANK=str(i)) for i in range(world)]
        found[world] = [float(process.communicate(timeout=300)[0]) for process in processes]
        assert not any(process.returncode for process in processes)
    assert found[2][0] == found[2][1] == pytest.approx(found[1][0], rel=1e-9)
    assert found[1][0] < 0.2


def free_port() -> int:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
