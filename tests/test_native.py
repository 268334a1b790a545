"""Machine code against the eager engine, row by row, and against the table of primitives."""

import functools
import itertools
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="llvmlite is not installed")

from kernels import kernel_of, step_of
from structures import states_with_numbers

import autograd
import nn
from autograd import Value, dot, total, where
from autograd.files import PrivateFolder
from autograd.ops import CONDITIONS, TABLE
from autograd.program import PASSES, machine_code, native
from autograd.program.machine_code import PADDING
from autograd.program.native import Kernel, pack
from autograd.program.operations import OPERATIONS, has_code
from autograd.program.record import Call
from autograd.program.simplify import ROW_SUM
from autograd.program.variant import through

inf, nan = math.inf, math.nan


def recorded(f: Callable[..., Any], *arrays: Any) -> Any:
    """The mean of f over the rows, its gradient, and f itself; and all of the first as scalars."""
    call = Call(f, [f"x{i}" for i in range(len(arrays))], arrays, "f", "mean")
    scalars = through(PASSES, call, "record", "simplify")
    of_all = through(PASSES, replace(scalars, kind="gradient"), "differentiate", "simplify again")
    of_all = of_all.without(of_all.products)
    loss, *gradient = of_all.wanted()
    return loss, gradient, scalars.outputs[0], of_all


def inputs(r: Any) -> Any:
    return r.input_leaves


def lab(n: int) -> tuple[Callable[..., Any], np.ndarray, np.ndarray]:
    """The lab's network and loss on n random points."""
    rng = np.random.default_rng(n)
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=rng)
    return lambda x, y: nn.squared_error(model(x), y), rng.normal(size=(n, 2)), rng.integers(2, size=n)


@functools.cache
def lab_code() -> tuple[Kernel, Kernel, int]:
    """Kernels of the loss and its gradient, and of a step with momentum; and the number of weights."""
    f, X, Y = lab(21)
    loss, gradient, _, r = recorded(f, X, Y)
    velocities = [Value(0.0) for _ in r.leaves]
    moved = [0.9 * v + g for v, g in zip(velocities, gradient)]
    weights = [w - 0.5 * v for w, v in zip(r.leaves, moved)]
    step = step_of(loss, [*weights, *moved], inputs(r), [*r.leaves, *velocities], r.rows)
    return kernel_of([loss, *gradient], inputs(r), r.leaves, r.rows), step, len(r.leaves)


def data_of(leaves: list[Value]) -> np.ndarray:
    return np.array([v.data for v in leaves])


def eager(f: Callable[..., Any], leaves: list[Value], *arrays: Any) -> Any:
    """The mean of f over the rows and its gradient, by Values and backward()."""
    for v in leaves:
        v.grad = 0.0
    outs = [f(*(a.tolist() for a in row)) for row in zip(*arrays)]
    mean = total(outs) / len(outs)
    mean.backward()
    return [mean.data, *(v.grad for v in leaves)], [out.data for out in outs]


@pytest.mark.parametrize("memory", [0.0, 9.0])  # without loops, and in loops
@pytest.mark.parametrize("lanes", [8, 4, 2])
@pytest.mark.parametrize("n", [1, 8, 21])
def test_the_lab_network(n: int, lanes: int, memory: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_lanes", lambda: lanes)
    monkeypatch.setattr(machine_code, "MOST_MEMORY", memory)
    monkeypatch.setattr(machine_code, "FEW_OPERATIONS", 0)
    monkeypatch.setattr(machine_code, "INLINED", lanes)  # or not: there are several calls of exp
    f, X, Y = lab(n)
    loss, gradient, _, r = recorded(f, X, Y)
    expected, _ = eager(f, r.leaves, X, Y)
    data, state = pack([X, Y]), data_of(r.leaves)
    found = kernel_of([loss, *gradient], inputs(r), r.leaves, r.rows).evaluate(data, n, state)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_outputs_in_another_order() -> None:
    f, X, Y = lab(9)
    loss, gradient, _, r = recorded(f, X, Y)
    (mean, *g), _ = eager(f, r.leaves, X, Y)
    outputs = [loss, gradient[0] - gradient[1], *gradient[2:], *r.leaves[3:20], *gradient[:2]]
    found = kernel_of(outputs, inputs(r), r.leaves, r.rows).evaluate(pack([X, Y]), 9, data_of(r.leaves))
    expected = [mean, g[0] - g[1], *g[2:], *data_of(r.leaves)[3:20], *g[:2]]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_the_outputs_of_each_row() -> None:
    f, X, Y = lab(21)
    loss, _, each, r = recorded(f, X, Y)
    kernel = kernel_of([loss, each, 3.0, inputs(r)[1], r.leaves[2]], inputs(r), r.leaves, r.rows)
    means, errors, threes, second, weight = kernel.evaluate(pack([X, Y]), 21, data_of(r.leaves))
    expected, each = eager(f, r.leaves, X, Y)
    assert kernel.by_row
    np.testing.assert_allclose(means, [expected[0]] * 21, rtol=1e-12)
    np.testing.assert_allclose(errors, each, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(second, X[:, 1])
    assert set(threes) == {3.0} and set(weight) == {r.leaves[2].data}


def test_rows_beyond_the_last_do_not_count() -> None:
    _, X, Y = lab(21)
    kernel, _, weights = lab_code()
    state = np.linspace(-1.0, 1.0, weights)
    data = pack([X, Y])
    data[:, 10:] = nan
    np.testing.assert_array_equal(
        kernel.evaluate(data, 10, state), kernel.evaluate(pack([X[:10], Y[:10]]), 10, state)
    )


@pytest.mark.parametrize("memory", [0.0, 9.0])  # without loops, and in loops
@pytest.mark.parametrize("n", [1, 63, 64, 65, 1024, 3000])
def test_arrays_are_taken_in_blocks(n: int, memory: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "MOST_MEMORY", memory)
    monkeypatch.setattr(machine_code, "FEW_OPERATIONS", 0)
    model = nn.MLP(5, [3, 1], rng=np.random.default_rng(0))
    rng = np.random.default_rng(n)
    X, Y = rng.normal(size=(n, 5)), rng.normal(size=n)
    p = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine="native")
    for kind in ("gradient", "rows"):
        variant = p.variant(kind, X, Y)
        kernel, state = variant.kernel, data_of(variant.live)
        found = kernel.evaluate_arrays([X, np.repeat(Y, 2)[::2]], state)  # not contiguous
        np.testing.assert_allclose(found, kernel.evaluate(pack([X, Y]), n, state), rtol=1e-12, atol=1e-15)
    with pytest.raises(ValueError, match="6 numbers a row"):
        kernel.evaluate_arrays([X], state)


@pytest.mark.parametrize(("n", "lanes"), [(1, 8), (7, 4), (16, 2), (43, 8), (43, 2)])
def test_sums_over_rows_of_outer_products(n: int, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_lanes", lambda: lanes)
    monkeypatch.setattr(machine_code, "LARGE_PRODUCT", 1)
    monkeypatch.setattr(machine_code, "MOST_MEMORY", 9.0)
    model = nn.MLP(3, [13, 24, 5, 1], activation="tanh", rng=np.random.default_rng(0))
    rng = np.random.default_rng(n)
    X, Y = rng.normal(size=(n, 3)), rng.normal(size=n)
    results = []
    for engine in ("numpy", "native"):
        p: Any = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine=engine)
        results.append(np.concatenate([grad.ravel() for grad in p.value_and_grad(X, Y)[1]]))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-12, atol=1e-15)


EDGES = [0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 3.0, 20.0, -40.0, 1e-310, -1e300, 710.0, inf, -inf, nan]
NAMES = [
    name
    for name, row in TABLE.items()
    if has_code(row) and name not in ("dot", "total", "where") and row not in CONDITIONS
]
POWERS = [1.0, 2.0, 3.0, -1.0, -3.0, 0.5, 16.0, -16.0, 17.0, 0.0]


@functools.cache
def primitives(by_row: bool) -> np.ndarray:
    """Every primitive's result, and the powers of x, for every pair of EDGES: a column for each pair."""
    x, y = Value(0.5), Value(0.5)
    outputs = []
    for name in NAMES:
        x.data = 1.5 if name == "acosh" else 0.5  # where it is defined
        outputs.append(Value._record(TABLE[name], *((x, y) if TABLE[name].dy else (x,))))
    outputs += [x**k for k in POWERS]
    pairs = np.array(list(itertools.product(EDGES, EDGES)))
    if by_row:
        return kernel_of(outputs, [x, y], [], None).evaluate(pack([pairs]), len(pairs), np.empty(0))
    kernel = kernel_of(outputs, [], [x, y], None)
    return np.transpose([kernel.evaluate(pack([np.empty((1, 0))]), 1, pair) for pair in pairs])


@pytest.mark.parametrize("by_row", [True, False])
@pytest.mark.parametrize("k", range(len(NAMES + POWERS)), ids=[*NAMES, *(f"x**{k}" for k in POWERS)])
def test_primitives(k: int, by_row: bool) -> None:
    for pair, found in zip(itertools.product(EDGES, EDGES), primitives(by_row)[k]):
        if k < len(NAMES):
            row = TABLE[NAMES[k]]
            operands = pair if row.dy else pair[:1]
        else:
            row, operands = TABLE["pow"], (pair[0], POWERS[k - len(NAMES)])
        try:
            expected = row.compute(*operands)
        except (ArithmeticError, ValueError):
            assert not math.isfinite(found), operands
        else:
            least = 1e-15 if row is TABLE["lgamma"] else 5e-324  # Python's own is as accurate near a zero
            assert found == pytest.approx(expected, rel=4e-15, abs=least, nan_ok=True), operands


def test_vectors_of_operands() -> None:
    xs, ws = [Value(float(i)) for i in range(3)], [Value(2.0 + i) for i in range(3)]
    rows = Value(1.0)
    both = [dot(xs, ws), dot(ws, [1.0, 2.0, 3.0]), total(xs), total(ws), dot([], []), total([])]
    outputs = [*both, Value._record(ROW_SUM, ws[0]), rows, 7.0]
    kernel = kernel_of([*outputs, xs[0]], xs, ws, rows)
    X, w = np.arange(6.0).reshape(2, 3), np.array([2.0, 3.0, 5.0])
    found = kernel.evaluate(pack([X]), 2, w)
    sums = [X @ w, [23.0, 23.0], X.sum(1), [10.0, 10.0], [0.0] * 2, [0.0] * 2]
    np.testing.assert_array_equal(found, [*sums, [4.0] * 2, [2.0] * 2, [7.0] * 2, X[:, 0]])
    found = kernel_of(outputs[3:], xs, ws, rows).evaluate(pack([X]), 2, w)
    np.testing.assert_array_equal(found, [10.0, 0.0, 0.0, 4.0, 2.0, 7.0])


def test_steps_are_repeated_evaluations() -> None:
    _, X, Y = lab(21)
    kernel, step, weights = lab_code()
    state = np.linspace(-1.0, 1.0, 2 * weights)
    w, v = state[:weights].copy(), state[weights:].copy()
    losses, expected = np.full(12, -1.0), []
    assert step.iterate(pack([X, Y]), 21, 8, state, 11, losses, start=2) == 11
    for k in range(2, 13):
        rows = slice(k % 3 * 8, k % 3 * 8 + 8)  # 8, 8 or 5
        loss, *gradient = kernel.evaluate(pack([X[rows], Y[rows]]), len(X[rows]), w)
        expected.append(loss)
        v = 0.9 * v + gradient
        w -= 0.5 * v
    np.testing.assert_allclose(losses, [*expected, -1.0], rtol=1e-13)
    np.testing.assert_allclose(state, [*w, *v], rtol=1e-11, atol=1e-14)
    before = state.copy()
    assert step.iterate(pack([X, Y]), 21, 21, state, 0, losses) == 0
    np.testing.assert_array_equal(state, before)


@pytest.mark.parametrize("steps", [100, 200])
def test_steps_stop_where_the_loss_is_not_finite(steps: int) -> None:
    w = Value(1.0)
    X = np.arange(3.0)
    loss, (slope,), _, r = recorded(lambda x: (w * x) ** 4.0, X)
    kernel = step_of(loss, [w - 0.1 * slope], inputs(r), [w], r.rows)
    state, losses = np.array([2.0]), np.full(steps, -1.0)
    taken = kernel.iterate(pack([X]), 3, 3, state, steps, losses)
    assert 3 < taken < 20
    assert np.isfinite(losses[:taken]).all() and (losses[taken + 1 :] == -1.0).all()
    assert losses[taken] == inf == kernel.evaluate(pack([X]), 3, state)[0]
    x = 2.0
    for _ in range(taken):
        x -= 0.1 * 4.0 * x**3 * 17.0 / 3.0
    assert state[0] == pytest.approx(x, rel=1e-9)
    state[0] = nan
    assert kernel.iterate(pack([X]), 3, 3, state, steps, losses) == 0 and np.isnan(losses[0])


def test_a_loop_that_begins_with_a_sum_over_the_rows() -> None:
    w, X = Value(0.3, "w"), np.array([0.5, -1.0, 2.0])

    def f(x: Any) -> Any:
        h: Any = w
        for _ in range(12):
            h = (1.5 * h).tanh()
        return (h - x) ** 2

    (_, slope), _ = eager(f, [w], X)
    program = autograd.compile(f, engine="native")
    program.backward(X)
    assert "for i in range(" in program.source
    assert w.grad - slope == pytest.approx(slope, rel=1e-12)


def test_a_loop_may_take_constants_from_a_later_one_on(monkeypatch: pytest.MonkeyPatch) -> None:
    f, _, (X,) = states_with_numbers()
    monkeypatch.setattr(machine_code, "MOST_OPERATIONS", 0)
    (_, expected), (_, found) = (
        autograd.compile(f, engine=engine).value_and_grad(X) for engine in ("numpy", "native")
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)


def test_threads_share_a_kernel() -> None:
    _, X, Y = lab(21)
    _, step, weights = lab_code()
    data = pack([X, Y])

    def train(seed: int) -> np.ndarray:
        state, losses = np.random.default_rng(seed).normal(size=2 * weights), np.empty(2000)
        assert step.iterate(data, 21, 10, state, 2000, losses) == 2000
        return state

    alone = [train(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        np.testing.assert_array_equal(list(pool.map(train, range(4))), alone)


@pytest.mark.slow
def test_threads_with_little_stack() -> None:
    rng, results = np.random.default_rng(0), {}
    X, Y = rng.normal(size=(20, 10)), rng.normal(size=20)

    def train(engine: Any) -> None:
        model = nn.MLP(10, [72, 1], activation="tanh", rng=np.random.default_rng(0))
        adam = nn.Adam(model.parameters(), lr=0.01)
        settings = {"loss": nn.squared_error, "optimizer": adam, "epochs": 3, "engine": engine}
        results[train, engine] = nn.fit(model, X, Y, **settings).loss

    def wide(x: Any) -> Any:  # needs more than 2,000 vectors at once
        xs = [x[i % 10] * float(i) + x[(i * 7 + 1) % 10] for i in range(2000)]
        return total(xs[i * 977 % 2000] * xs[(i * 31 + 5) % 2000] for i in range(2000))

    def evaluate(engine: Any) -> None:
        results[evaluate, engine] = autograd.compile(wide, engine=engine).per_example(X)

    before = threading.stack_size(128 * 1024)
    try:
        for job in (train, evaluate):
            for engine in ("numpy", "native"):
                thread = threading.Thread(target=job, args=(engine,))
                thread.start()
                thread.join()
            native, numpy = results[job, "native"], results[job, "numpy"]
            assert native == pytest.approx(numpy, rel=1e-10)
        assert threading.stack_size(128 * 1024) == 128 * 1024  # as it was
    finally:
        threading.stack_size(before)


def test_pack() -> None:
    columns = pack([[1, 2, 3], np.arange(12.0).reshape(3, 2, 2), np.empty((3, 0))])
    assert columns.shape[0] == 5 and columns.shape[1] >= 3 + PADDING and columns.flags.c_contiguous
    np.testing.assert_array_equal(columns[:, :3].T, [[1, 0, 1, 2, 3], [2, 4, 5, 6, 7], [3, 8, 9, 10, 11]])
    np.testing.assert_array_equal(columns[:, 3:].T, [[1, 0, 1, 2, 3]] * (columns.shape[1] - 3))


def test_what_has_no_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = Value(1.0), Value(1.0)
    mean = Value._record(ROW_SUM, x)
    with pytest.raises(NotImplementedError, match="sum over rows"):
        kernel_of([x - mean], [x], [w], None)
    monkeypatch.delitem(OPERATIONS, TABLE["tanh"])
    with pytest.raises(NotImplementedError, match="tanh"):
        kernel_of([w.tanh()], [x], [w], None)


def test_a_condition_may_move_with_the_steps_of_a_loop() -> None:
    ws = [Value(0.1 * i - 0.2, f"w[{i}]") for i in range(5)]

    def f(x: Any) -> Any:  # what a state is compared with decides the next step
        h, is_high, out = x, x > 0.1, 0.0
        for i in range(10):
            h = where(is_high, lambda h=h, i=i: 1.0 / (h + ws[i % 5]), h + ws[i % 5])
            is_high, out = h > 0.1 * ws[(i + 1) % 5], out + h
        return out

    X = np.array([0.3, -2.0, 0.05])
    (_, by_numpy), (_, found) = (
        autograd.compile(f, engine=engine).value_and_grad(X) for engine in ("numpy", "native")
    )
    np.testing.assert_allclose(found[0], by_numpy[0], rtol=1e-13)
    with pytest.raises(ZeroDivisionError, match="row 1"):
        autograd.compile(f, engine="native")(np.array([0.3, 0.2, 0.05]))


def test_arrays_are_checked() -> None:
    x, w = Value(1.0), Value(1.0)
    kernel = kernel_of([w * 1.0, w], [x], [w], None)
    data, state, losses = pack([np.ones(5)]), np.ones(1), np.ones(3)
    for columns, n, numbers in [
        (data[:, : 4 + PADDING], 5, state),
        (data, 0, state),
        (data, 50, state),
        (np.vstack([data, data]), 5, state),
        (np.hstack([data, data])[:, ::2], 5, state),
        (data.astype(np.float32), 5, state),
        (data[0], 5, state),
        (data, 5, np.ones(2)),
        (data, 5, np.ones(1, dtype=int)),
    ]:
        with pytest.raises(ValueError):
            kernel.evaluate(columns, n, numbers)
        with pytest.raises(ValueError):
            kernel.iterate(columns, n, 5, numbers, 1, losses)
    for batch, steps, written, start in [
        (0, 1, losses, 0),
        (5, 4, losses, 0),
        (5, -1, losses, 0),
        (5, 1, losses, -1),
        (5, 2, losses[::2], 0),
        (5, 1, losses.astype(int), 0),
    ]:
        with pytest.raises(ValueError):
            kernel.iterate(data, 5, batch, state, steps, written, start)
    with pytest.raises(ValueError, match="output"):
        kernel_of([w], [x], [w], None).iterate(data, 5, 5, state, 1, losses)


@pytest.mark.parametrize("n", [1, 2, 10])
def test_a_call_reads_the_leaves_whatever_wrote_them(n: int) -> None:
    model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
    X, Y = np.random.default_rng(1).normal(size=(n, 2)), np.linspace(-1.0, 1.0, n)

    def f(x: Any, y: Any) -> Any:
        return nn.squared_error(model(x), y)

    loss = autograd.compile(f, engine="native")
    adam, other = nn.Adam(model.parameters(), lr=0.1), nn.MLP(2, [3, 1], activation="tanh")
    p = model.parameters()[0]

    def step() -> None:
        adam.zero_grad()
        loss.backward(X, Y)
        adam.step()

    def fitted(engine: Any) -> None:
        nn.fit(model, X, Y, loss=nn.squared_error, optimizer=adam, epochs=3, engine=engine)

    writes: list[Callable[[], Any]] = [
        lambda: None,
        lambda: setattr(p, "data", 0.3),
        step,
        lambda: model.load_state_dict(other.state_dict()),
        lambda: setattr(loss, "numbers", [2.0 * x for x in loss.numbers]),
        lambda: fitted("native"),
        lambda: fitted("numpy"),
    ]
    seen = []
    for write in writes:
        write()
        seen.append(loss(X, Y))
        assert seen[-1] == pytest.approx(np.mean([f(x, y).data for x, y in zip(X, Y)]), rel=1e-13)
    assert len({*seen}) == len(writes)


def test_auto_begins_with_numpy_and_machine_code_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    f, X, Y = lab(21)
    numpy, native, *auto = (autograd.compile(f, engine=e) for e in ("numpy", "native", "auto", "auto"))
    variant = numpy.variant("value", X, Y)
    of_a_call = variant.numpy_seconds(21) / variant.kernel_seconds
    monkeypatch.setattr("autograd.program.variant.BEGIN", 3.5 * of_a_call)
    monkeypatch.setattr("autograd.program.variant.TAKE_OVER", 5.5 * of_a_call)
    for program in auto:
        found = [program(X, Y) for _ in range(8)]
        assert found == [numpy(X, Y)] * 5 + [native(X, Y)] * 3
        assert program.variant("value", X, Y).native


def test_auto_stays_with_numpy_where_there_is_no_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autograd.program.variant.BEGIN", 0.0)
    monkeypatch.setattr("autograd.program.variant.TAKE_OVER", 0.0)
    monkeypatch.delitem(OPERATIONS, TABLE["tanh"])
    p = autograd.compile(lambda x: x.tanh())
    assert p(np.zeros(3)) == 0.0 and p.variant("value", np.zeros(3)).native is False


def test_machine_code_is_kept_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    write = PrivateFolder.write

    def noted(self: PrivateFolder, name: str, code: bytes) -> None:
        made.append(os.path.join(self.path, name))
        write(self, name, code)

    def result() -> float:
        """The program's result, as a new process has it."""
        native._engines.clear()
        program = autograd.compile(lambda x: x.exp() * 0.25, engine="native", cache=tmp_path / "code")
        return float(program(np.ones(9)))

    monkeypatch.setattr(PrivateFolder, "write", noted)
    expected = result()
    assert len(made) == 1 and expected == pytest.approx(math.e / 4.0, rel=1e-14)
    assert result() == expected and len(made) == 1  # from the file
    Path(made[0]).write_bytes(Path(made[0]).read_bytes()[:-1])
    assert result() == expected and len(made) == 2  # a damaged file counts as none
    if os.name == "posix":
        (tmp_path / "code").chmod(0o777)
        with pytest.raises(PermissionError, match="others can write"):
            result()


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sqrt", "sin", "sigmoid", "erf", "abs", "relu"])
def test_a_number_for_all_rows_may_be_a_result_and_an_operand_of_rows(name: str) -> None:
    """∂/∂b of f(a) b + c x is f(a), which the rows read too; and exp(a) is its own derivative."""
    a, b, c = Value(0.7, "a"), Value(-1.3, "b"), Value(0.4, "c")
    function: Any = getattr(autograd, name, abs)
    x = np.arange(1.0, 20.0) / 20.0
    functions: list[Any] = [lambda x: function(a) * b + c * x, lambda x: function(a) + c * x]
    for f in functions:
        by_numpy = autograd.compile(f, engine="numpy").value_and_grad(x)
        found = autograd.compile(f, engine="native").value_and_grad(x)
        np.testing.assert_allclose(found[0], np.mean([f(x).data for x in x.tolist()]), rtol=1e-12)
        for ours, other in zip(found[1], by_numpy[1]):
            np.testing.assert_allclose(ours, other, rtol=1e-12)


def test_training_keeps_machine_code_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def losses() -> list[float]:
        """Of a new process."""
        native._engines.clear()
        model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
        X, Y = nn.data.xor()
        settings: Any = {"loss": nn.squared_error, "engine": "native", "cache": tmp_path / "code"}
        return nn.fit(model, X, Y, optimizer=nn.SGD(model.parameters(), lr=0.1), epochs=3, **settings).loss

    expected = losses()
    files = list((tmp_path / "code").iterdir())
    assert files
    monkeypatch.setattr(PrivateFolder, "write", None)  # nothing is made again
    assert losses() == expected


def test_a_process_makes_machine_code_once(monkeypatch: pytest.MonkeyPatch) -> None:
    autograd.compile(lambda x: x.exp() * 0.125, engine="native")(np.ones(9))
    monkeypatch.setattr(native, "_engine", None)
    assert autograd.compile(lambda x: x.exp() * 0.125, engine="native")(np.ones(9)) > 0.0
