"""The engine: what a graph records, what backward() finds in it, and what it refuses."""

import _thread
import copy
import gc
import itertools
import math
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import gradients

import autograd
from autograd import Value, dot, matvec, maximum, minimum, total
from autograd.ops import CONDITIONS, TABLE

SCALAR = [
    row
    for row in TABLE.values()
    if row.name not in ("dot", "total", "where", "detach", "polygamma") and row not in CONDITIONS
]
POSITIVE = {"log", "log2", "log10", "sqrt", "pow", "lgamma"}
DOMAINS = {
    "tan": (0.3, 1.2),
    "asin": (0.1, 0.9),
    "acos": (0.1, 0.9),
    "atanh": (0.1, 0.9),
    "log1p": (0.1, 0.9),
    "acosh": (1.1, 3.0),
}


def numeric(f: Callable[..., Any], *data: Any) -> list[float]:
    """The same derivatives by central differences with Richardson extrapolation, from floats alone."""

    def slope(i: int, h: float) -> float:
        moved = [list(data), list(data)]
        moved[0][i] += h
        moved[1][i] -= h
        return (float(f(*moved[0])) - float(f(*moved[1]))) / (2.0 * h)

    steps = [1e-3 * max(1.0, abs(x)) for x in data]
    return [(4.0 * slope(i, h / 2.0) - slope(i, h)) / 3.0 for i, h in enumerate(steps)]


# The table


def operands(row: Any, rng: np.random.Generator) -> Any:
    """One operand or two, of either sign where the row has both, and not too near to 0."""
    signs = [1.0] if row.name in POSITIVE or row.name == "acosh" else [-1.0, 1.0]
    low, high = DOMAINS.get(row.name, (0.3, 3.0))
    return [float(rng.choice(signs) * rng.uniform(low, high)) for _ in range(2 if row.dy else 1)]


@pytest.mark.parametrize("row", SCALAR, ids=lambda row: row.name)
def test_each_primitive_computes_and_differentiates_as_floats_arrays_and_values_alike(row: Any) -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        x = operands(row, rng)
        out = row.compute(*x)
        assert row.numpy(*map(np.array, x)) == pytest.approx(out, rel=1e-14)
        data, grads = gradients(row, *x)
        partials = [d(*x, out) or 0.0 for d in (row.dx, row.dy) if d]
        assert (data, grads) == (out, partials)
        assert partials == pytest.approx(numeric(row.compute, *x), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", ["abs", "step", "maximum", "minimum", "relu", "sign"])
def test_primitives_that_compare_take_infinities_and_let_nan_through(name: str) -> None:
    row = TABLE[name]
    numbers = [-math.inf, -2.0, -1.0, -0.0, 0.0, 1.0, 2.0, math.inf, math.nan]
    points = list(itertools.product(numbers, repeat=2 if row.dy else 1))
    computed = [row.compute(*x) for x in points]
    assert [math.isnan(out) for out in computed] == [any(map(math.isnan, x)) for x in points]
    np.testing.assert_array_equal(row.numpy(*np.transpose(points)), computed)


def test_a_row_of_the_table_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TABLE["add"].dx = TABLE["add"].dx  # type: ignore[misc]


def test_operators_and_methods_are_the_table() -> None:
    spelled = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "pow": lambda x, y: x**y,
        "neg": lambda x: -x,
        "abs": abs,
        "maximum": maximum,
        "minimum": minimum,
        "floor": math.floor,
        "ceil": math.ceil,
        "remainder": lambda x, y: x % y,
        "floor_divide": lambda x, y: x // y,
    }
    functions = {"logaddexp", "copysign", "erf", "erfc", "lgamma"}  # alone: NumPy asks for no such method
    rng = np.random.default_rng(2)
    for row in SCALAR:
        if row.name in ("sign", "step"):
            continue  # of derivatives, with no method of their own
        method = row.numpy.__name__ if isinstance(row.numpy, np.ufunc) else row.name  # NumPy calls that
        f: Any = spelled.get(row.name) or (lambda *x, name=method: getattr(x[0], name)(*x[1:]))
        if row.name in functions:
            f = getattr(autograd, row.name)
        elif row.name in ("atan2", "hypot"):
            f = row.numpy
        for _ in range(20):
            x = operands(row, rng)
            assert gradients(f, *x) == gradients(row, *x)
            node = f(*map(Value, x))
            assert (node.op, node.grad, node.label) == (row.name, 0.0, "")
            if row.dy:
                (a, b), (dx, dy) = x, gradients(f, *x)[1]
                assert gradients(lambda v, f=f, b=b: f(v, b), a)[1] == [dx]
                assert gradients(lambda v, f=f, a=a: f(a, v), b)[1] == [dy]
    assert str(TABLE["relu"].compute(-0.0)) == str(Value(-0.0).relu().data) == "0.0"


def test_dot_and_total_are_single_nodes() -> None:
    w, x = [Value(2.0), Value(3.0)], [Value(5.0), Value(-7.0)]
    out = dot(w, x)
    assert (out.data, out.grad, out.op, out.parents) == (-11.0, 0.0, "dot", (*w, *x))
    out.backward()
    assert [v.grad for v in (*w, *x)] == [5.0, -7.0, 2.0, 3.0]
    s = total([*w, *x])
    assert (s.data, s.op, len(s.parents)) == (3.0, "total", 4)
    assert gradients(lambda *v: sum(v), 1.0, 2.0, 3.0) == (6.0, [1.0, 1.0, 1.0])
    assert gradients(lambda a: dot([a, 2.0, a], [3, a, a]), 5.0) == (50.0, [15.0])
    assert [v.data for v in matvec([w, [1, 2]], x)] == [-11.0, -9.0]
    assert total([]).data == dot([], []).data == 0.0
    total([1, 2]).backward()  # there is nothing to tell
    assert gradients(lambda a: dot([2.0, 3.0], [a * a, a]), 5.0) == (65.0, [23.0])


def test_vector_rows_of_the_table_are_dot_and_total() -> None:
    ws, xs = [2.0, -3.0, 0.5], [5.0, 7.0, -1.0]
    for row, function, operands in ((TABLE["dot"], dot, (ws, xs)), (TABLE["total"], total, (xs,))):
        vectors = [list(map(Value, operand)) for operand in operands]
        out = function(*vectors)
        out.backward()
        assert out.data == row.compute(*operands) == row.numpy(*map(np.array, operands))
        for vector, derivative in zip(vectors, (row.dx, row.dy)):
            assert derivative
            assert [v.grad for v in vector] == list(derivative(*operands, out.data))


# Against PyTorch's choices; torch itself is asked where it is installed


EDGES = [
    ("relu at 0", lambda x: x.relu(), [0.0], [0.0]),
    ("abs at 0", abs, [0.0], [0.0]),
    ("maximum of equals", maximum, [2.0, 2.0], [0.5, 0.5]),
    ("minimum of equals", minimum, [2.0, 2.0], [0.5, 0.5]),
    ("x ** 0", lambda x: x**0, [3.0], [0.0]),
    ("0 ** 0", lambda x: x**0, [0.0], [0.0]),
    ("0 ** 0, both Values", lambda x, y: x**y, [0.0, 0.0], [0.0, 0.0]),
    ("0 ** 2", lambda x: x**2, [0.0], [0.0]),
    ("0 ** 2, both Values", lambda x, y: x**y, [0.0, 2.0], [0.0, 0.0]),
    ("(-2) ** 3", lambda x: x**3, [-2.0], [12.0]),
    ("2 ** x", lambda x: 2**x, [3.0], [8.0 * math.log(2.0)]),
]


@pytest.mark.parametrize("f, x, expected", [e[1:] for e in EDGES], ids=[e[0] for e in EDGES])
def test_edges_differentiate_as_in_pytorch(
    f: Callable[..., Any], x: list[float], expected: list[float]
) -> None:
    assert gradients(f, *x)[1] == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("f, x", [e[1:3] for e in EDGES], ids=[e[0] for e in EDGES])
def test_edges_differentiate_as_torch_does_here(f: Callable[..., Any], x: list[float]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in x]
    named = {maximum: torch.maximum, minimum: torch.minimum}
    named.get(f, f)(*leaves).backward()
    assert gradients(f, *x)[1] == pytest.approx([leaf.grad.item() for leaf in leaves], rel=1e-15)


def test_a_missing_derivative_is_an_error_only_if_asked_for() -> None:
    base = Value(-2.0)
    (base ** Value(2.0).data).backward()
    assert base.grad == -4.0
    out = Value(-2.0, label="base") ** Value(2.0, label="exponent")
    assert out.data == 4.0
    with pytest.raises(ArithmeticError, match=r"pow\(base=-2.0, exponent=2.0\).*exponent"):
        out.backward()
    for root, name in ((Value(0.0).sqrt(), "sqrt"), (Value(0.0) ** 0.5, "pow")):
        assert root.data == 0.0
        with pytest.raises(ArithmeticError, match=name):
            root.backward()


# What backward() does to grads


def test_a_second_backward_exactly_doubles_the_leaves_and_only_them() -> None:
    x, y = Value(0.1), Value(0.7)
    out: Any = sum([x * y * 0.3, x / y, (x - y).tanh(), x * 1e-9, y.exp() * x])
    middle = out.parents[0]
    out.backward()
    once = [v.grad for v in (x, y, middle, out)]
    out.backward()
    assert [v.grad for v in (x, y, middle, out)] == [2 * once[0], 2 * once[1], once[2], once[3]]


def test_shared_subgraphs_and_repeated_operands() -> None:
    assert gradients(lambda x: x * x, 3.0) == (9.0, [6.0])
    assert gradients(lambda x: x + x, 3.0) == (6.0, [2.0])
    assert gradients(lambda x: x / x, 3.0)[1] == pytest.approx([0.0])
    assert gradients(lambda x: dot([x] * 500, [x] * 500), 2.0) == (2000.0, [2000.0])

    def diamonds(x: Value) -> Value:
        for _ in range(60):  # 2 ** 60 paths
            x = x + x
        return x

    assert gradients(diamonds, 1.0) == (2.0**60, [2.0**60])


def test_backward_on_a_leaf_and_at_the_recorded_values() -> None:
    x = Value(3.0)
    x.backward()
    assert x.grad == 1.0
    y = x * x + x.sin()
    x.data = 100.0
    x.grad = 0.0
    y.backward()
    assert x.grad == 6.0 + math.cos(3.0)


def test_a_grad_that_cannot_be_added_to_leaves_all_leaves_as_they_were() -> None:
    x, y = Value(1.0), Value(2.0)
    x.grad, y._grad = 10.0, None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        (x * y).backward()
    assert x.grad == 10.0 and y.grad is None


def test_a_failed_backward_leaves_the_leaves_as_they_were() -> None:
    x, z = Value(2.0), Value(0.0)
    (x * x).backward()
    with pytest.raises(ArithmeticError):
        (x * 3.0 + z.sqrt()).backward()
    small = x * 1e-300
    with pytest.raises(ArithmeticError, match="mul"):
        ((small * 1e200) * 1e200 + small).backward()
    assert (x.grad, z.grad, small.grad) == (4.0, 0.0, 0.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_child_does_not_wait_for_a_thread_that_it_has_not() -> None:
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with sys.modules["autograd.value"].backward_lock:
            holds.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    child = os.fork()
    if not child:
        signal.alarm(2)  # which kills it
        Value(1.0).backward()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0


# Depth and memory


def test_graphs_hold_no_reference_cycles() -> None:
    gc.collect()
    gc.disable()
    try:
        x = Value(0.5)
        for _ in range(20):
            (dot([x, 2.0], [x, x]).tanh() + x).backward()
        copy.deepcopy(x * x)
        assert gc.collect() == 0
    finally:
        gc.enable()


class Weight(Value):
    def __init__(self, data: float, unit: str) -> None:
        super().__init__(data, label="w")
        self.unit = unit


def test_copies_keep_the_class_and_its_attributes() -> None:
    w = Weight(2.0, "kg")
    (w * w).backward()
    for twin in (copy.copy(w), copy.deepcopy(w), *(pickle.loads(pickle.dumps(w, p)) for p in range(6))):
        assert (type(twin), twin.unit, twin.data, twin.grad, twin.label) == (Weight, "kg", 2.0, 4.0, "w")


def test_a_pickling_that_failed_leaves_the_next_one_whole() -> None:
    x = Value(1.0)
    for _ in range(5000):
        x = x + 1.0
    with pytest.raises(TypeError) as failed:  # holds on to the frames of the failure
        pickle._dumps([x, threading.Lock()])  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(x)).data == 5001.0 and failed


def test_pickle_keeps_what_is_shared() -> None:
    x = Value(2.0)
    h = x * x
    x2, out2, h2 = pickle.loads(pickle.dumps((x, h.exp() + h, h)))
    assert out2.parents[1] is h2 and h2.parents == (x2, x2)
    y = copy.copy(x)
    y.data = 7.0
    assert x.data == 2.0


# Python and NumPy


def test_numbers_and_numpy_scalars_on_either_side() -> None:
    for two in (2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.array(2.0), True + 1):
        x = Value(3.0)
        results = [x + two, two + x, x - two, two - x, x * two, two * x, x / two, two / x, x**two, two**x]
        assert all(type(r) is Value and type(r.data) is float for r in results)
        assert [r.data for r in results] == [5, 5, 1, -1, 6, 6, 1.5, 2 / 3, 9, 8]
        total(results).backward()
        slope = 1 + 1 + 1 - 1 + 2 + 2 + 0.5 - 2 / 9 + 6 + 8 * math.log(2)
        assert x.grad == pytest.approx(slope, rel=1e-15)


def test_numpy_functions_and_arrays_of_values() -> None:
    x: Any = Value(0.5)  # NumPy's types of functions of two operands know arrays and numbers alone
    y = Value(2.0)
    for row in SCALAR:
        if isinstance(row.numpy, np.ufunc):
            operands = [x, y] if row.dy else [y if row.name == "acosh" else x]
            assert row.numpy(*operands).op == row.name
    m = np.array([[x, y], [y, 1.0 * x]])
    v = m @ np.array([1.0, 2.0]) + np.array([x, 1.0])
    v.sum().backward()
    assert ([e.data for e in v], x.grad, y.grad) == ([5.0, 4.0], 4.0, 3.0)
    assert [e.data for e in np.exp(m)[0]] == [math.exp(0.5), math.exp(2.0)]
    for larger in (np.maximum(x, np.array([0.5, 1.0])), maximum(np.array([0.5, 1.0]), np.array([x, x]))):
        assert [e.op for e in larger] == ["maximum", "maximum"]
    assert TABLE["relu"](np.array([x, -y]))[1].op == "relu"
    larger = maximum(np.array([1.0, 5.0]), 2.0)
    assert larger.tolist() == [2.0, 5.0] and larger.dtype == float and maximum(1, 2) == 2
    for two in (np.array([2.0, 2.0]), np.array([2.0]), np.array([[2.0]])):  # shapes are kept
        for product in (x * two, two * x, np.multiply(x, two)):
            assert product.shape == two.shape and product.flat[0].data == 1.0
    sums = np.array([0.0, 1.0], dtype=object)
    np.add.at(sums, [0, 0], x)
    assert (sums[0].data, sums[0].op, sums[1]) == (1.0, "add", 1.0)
    with pytest.raises(TypeError, match="cannot write into a Value"):
        np.add(1.0, 2.0, out=x)


def test_comparison_sorting_and_identity() -> None:
    a, b = Value(1.0), Value(2.0)
    assert a < b and a <= 1 and 3 > b and b >= np.float64(2) and a <= b and b >= a
    assert not (a > b or a < 1 or a > 1.0 or b <= a or a >= b)
    assert max(a, b) is b and sorted([b, a])[0] is a
    assert a == Value(1.0) == 1 and a != b and not a != 1.0 and a != "1" and a in [0.0, 1.0]  # by data
    assert len({a, Value(1.0), a}) == 2  # and keys by identity
    assert (np.array([a, b]) == [1.0, 1.0]).tolist() == [True, False]
    assert b.item() == 2.0 and f"{b:.2f}, {b}" == f"2.00, {b!r}" and round(b / 3.0, 2) == 0.67
    assert abs(-b).data == 2.0 and (+a) is a
    assert repr(b) == "Value(data=2.0, grad=0.0)"


def test_programs_written_for_micrograd() -> None:
    from autograd import Value

    a = Value(-4.0)
    b = Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert f"{g.data:.4f} {a.grad:.4f} {b.grad:.4f}" == "24.7041 138.8338 645.5773"  # micrograd's README
    assert (a * b)._prev == {a, b} and (a * b)._op == "mul" and a._op == ""


# What is refused


@pytest.mark.parametrize(
    "bad", ["3", b"3", None, 1 + 2j, np.complex128(1), [1.0], np.array([1, 2]), np.array([]), {}, Value(1.0)]
)
def test_a_value_is_one_real_number(bad: Any) -> None:
    with pytest.raises(TypeError, match="one real number"):
        Value(bad)


@pytest.mark.parametrize(
    "f, kind, said",
    [
        (lambda x: x.log(), FloatingPointError, r"log\(x=-1.0\) is undefined"),
        (lambda x: x.sqrt(), FloatingPointError, r"sqrt\(x=-1.0\)"),
        (lambda x: 1 / (x + 1), ZeroDivisionError, r"div\(1.0, 0.0\)"),
        (lambda x: (x + 1) ** -1, FloatingPointError, r"pow\(0.0, -1.0\)"),
        (lambda x: (x - 7) ** (1 / 3), FloatingPointError, r"pow\(-8.0"),
        (lambda x: (x * -1000).exp(), OverflowError, r"exp\(1000.0\) overflows"),
        (lambda x: x * 1e308 * 10, OverflowError, r"mul\(-1e\+308, 10.0\)"),
        (lambda x: x - 1e308 - 1e308, OverflowError, "sub"),
        (lambda x: dot([x, 1.0], [1e308, -1e308]), OverflowError, "dot"),
        (lambda x: total([x, Value(math.inf)]), FloatingPointError, "total"),
        (lambda x: x + Value(math.nan, label="n"), FloatingPointError, r"add\(x=-1.0, n=nan\) is not finite"),
        (lambda x: Value(math.nan).relu(), FloatingPointError, r"relu\(nan\)"),
        (lambda x: Value(math.nan).sigmoid(), FloatingPointError, r"sigmoid\(nan\)"),
        (lambda x: maximum(x, math.nan), FloatingPointError, "maximum"),
        (lambda x: minimum(math.nan, x), FloatingPointError, "minimum"),
    ],
)
def test_results_that_are_not_finite_name_primitive_operands_and_line(
    f: Callable[..., Any], kind: Any, said: str
) -> None:
    with pytest.raises(kind, match=said + r".*at test_value.py:\d+: \(lambda x"):
        f(Value(-1.0, label="x"))


def test_gradients_that_overflow_when_added_are_said() -> None:
    x = Value(1e-300, label="x")
    with pytest.raises(OverflowError, match="gradients that reach x=1e-300 overflow when added"):
        (x * 1e308 + x * 1e308).backward()
    assert x.grad == 0.0


def test_an_error_that_no_python_code_asked_for_names_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: errors.put(str(what.exc_value)))
    _thread.start_new_thread(Value(-1.0).log, ())
    assert errors.get(timeout=10) == "log(-1.0) is undefined"


def test_a_label_is_a_string() -> None:
    with pytest.raises(TypeError, match="a label is a string, not 3"):
        Value(1.0, label=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a label is a string, not 3"):
        Value(1.0).label = 3  # type: ignore[assignment]


def test_what_is_no_scalar_is_a_type_error() -> None:
    x = Value(1.0)
    for f in (
        lambda: x + "1",  # type: ignore[call-overload]
        lambda: None * x,  # type: ignore[call-overload]
        lambda: x < "1",  # type: ignore[call-overload]
        lambda: maximum(x, "1"),
        lambda: x @ x,  # type: ignore[operator]
        lambda: dot([x], ["1"]),
        lambda: total([x, None]),
    ):
        with pytest.raises(TypeError):
            f()
    for n, m in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match=f"not {n} and {m}"):
            dot([x] * n, [x] * m)


def test_sigmoid_and_softplus_never_overflow() -> None:
    for x in (-1e308, -750.0, -40.0, 0.0, 40.0, 750.0, 1e308):
        v = Value(x)
        (v.sigmoid() + v.softplus()).backward()
        assert math.isfinite(v.grad)
        assert v.softplus().data == pytest.approx(max(x, 0.0), abs=0.7)
    for x in (-40.0, -720.0):
        assert Value(x).sigmoid().data == pytest.approx(math.exp(x), rel=1e-15)
        assert Value(x).softplus().data == pytest.approx(math.exp(x), rel=1e-15)
    with np.errstate(all="raise", under="ignore"):
        for row in (TABLE["sigmoid"], TABLE["softplus"]):
            xs = np.array([-1e308, -720.0, 0.0, 720.0, 1e308])
            assert row.numpy(xs) == pytest.approx([row.compute(v) for v in xs.tolist()], rel=1e-15)
