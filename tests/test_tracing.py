"""What leaves the graph: reads of Values, comparisons and choices, in eager code, transforms and compile."""

import importlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autograd
from autograd import Value, check_gradients, derive, grad, hessian, maximum, minimum, value_and_grad, where
from autograd.ops import Primitive, cos, sign
from autograd.program.variant import Kernel

ENGINES = ["numpy", pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="no llvmlite"))]


def held_to_eager(f: Any, x: Any, engine: Any, leaves: Any = ()) -> None:
    """f's value and gradient for each of the numbers x, compiled, are those that it has of Values."""
    program = autograd.compile(f, engine=engine, reduce="sum")
    eager = []
    for number in x:
        f(Value(number)).backward()
        eager.append(f(Value(number)).data)
    expected = [w.grad for w in leaves]
    for w in leaves:
        w.grad = 0.0
    assert program.per_example(np.array(x)) == pytest.approx(np.array(eager), rel=1e-14, abs=1e-15)
    program.backward(np.array(x))
    assert [w.grad for w in leaves] == pytest.approx(expected, rel=1e-13, abs=1e-15)
    for w in leaves:
        w.grad = 0.0


# Numbers


@pytest.mark.parametrize(
    "cut",
    [
        math.exp,
        float,
        int,
        complex,
        math.modf,
        np.float64,
        lambda v: np.zeros(2).__setitem__(0, v),
        lambda v: np.fromiter([v], float),
        lambda v: np.array([v]).astype(float),
        lambda v: np.asarray([v, 1.0], float),
        lambda v: np.vectorize(math.exp)(np.array([v])),
    ],
)
def test_a_value_is_no_float_anywhere(cut: Any) -> None:
    run: Callable[[], Any]
    for run in (lambda: cut(Value(1.0)), lambda: grad(lambda x: cut(x) * x)(1.0)):
        with pytest.raises(
            TypeError, match=r"a Value is no float.* at .*test_tracing\.py.*x\.data is the number"
        ):
            run()
    with pytest.raises(TypeError, match="a Value is no float"):
        autograd.compile(lambda x: x * cut(x))(np.ones(2))


@pytest.mark.parametrize("engine", ENGINES)
def test_data_that_may_change_is_detached_while_compile_records(engine: Any) -> None:
    w = Value(1.5)
    for f in (
        lambda x: x / x.data,
        lambda x: w.data * w * x + w.item() * x.data,
        lambda x: w * (x + (sign(x) - x).data),  # a straight-through sign
        lambda x: (w * x).detach() * w + np.exp((w * x).data),
    ):
        held_to_eager(lambda x, f=f: f(x) * w, (0.5, -2.0, 3.0), engine, [w])
    program = autograd.compile(lambda x: w.data * x, engine=engine)
    w.data = 4.0
    assert program.per_example(np.array([1.0, 2.0])).tolist() == [4.0, 8.0]


def test_a_detached_value_is_in_the_graph_and_lets_no_gradient_through() -> None:
    x = Value(3.0, "x")
    cut = x.detach()
    (y := cut * x + x.sqrt().detach()).backward()
    assert (cut.op, cut.parents, cut.data, x.grad) == ("detach", (x,), 3.0, 3.0)
    assert derive(y, [x, cut]) == [3.0, 3.0] and grad(lambda x: x.detach() * x)(3.0) == 3.0
    assert "dashed" in autograd.draw(y).source
    zero = Value(0.0)
    (zero.sqrt().detach() * zero).backward()  # the infinite slope is behind the cut
    assert zero.grad == 0.0


def test_reads_that_compile_would_freeze_are_refused_in_threads_that_f_starts_too() -> None:
    def in_a_thread(read: Callable[..., Any]) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(read).result()

    for f, said in (
        (lambda x: x if in_a_thread(lambda: x > 0.0 or False) else -x, "branches on"),
        (lambda x: x * in_a_thread(lambda: (x * x).grad), "reads the grad"),
        (lambda x: x * in_a_thread(lambda: {1.0: 2.0}.get(x, 3.0)), "looks up"),
    ):
        with pytest.raises(TypeError, match=said):
            autograd.compile(f)(np.ones(2))
    program = autograd.compile(lambda x: x / in_a_thread(lambda: x.data))
    assert program.per_example(np.array([1.0, 2.0])).tolist() == [1.0, 1.0]


def test_other_threads_read_what_they_like() -> None:
    inside, done = threading.Event(), threading.Event()
    w = Value(2.0)

    def f(x: Any) -> Any:
        inside.set()
        assert done.wait(10.0)
        return w * x

    def elsewhere() -> None:
        assert inside.wait(10.0)
        w.grad = 1.0
        found.append((type(w.data), w > 1.0, w.grad, {w: 1}[w], f"{w:.1f}"))
        done.set()

    found: list[Any] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    autograd.compile(f)(np.ones(2))
    thread.join()
    assert found == [(float, True, 1.0, 1, "2.0")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: setattr(w, "data", w - 0.1), "not a Value: use that itself, or its data"),
        (lambda w: setattr(w, "data", "1"), "one real number"),
        (lambda w: setattr(w, "grad", None), "one real number, not NoneType"),
        (lambda w: setattr(w, "label", 3), "a label is a string"),
    ],
)
def test_setters_take_numbers_alone(change: Callable[..., Any], said: str) -> None:
    w = Value(1.0, "w")
    with pytest.raises(TypeError, match=said):
        change(w)
    assert (w.data, w.grad, w.label) == (1.0, 0.0, "w")
    w.data, w.grad = np.float32(0.5), 3
    assert (type(w.data), type(w.grad)) == (float, float)


# What differs from one recording to the next


def test_what_no_graph_has_is_noticed() -> None:
    rng = np.random.default_rng(0)
    calls: list[Any] = []

    class Model:
        def __init__(self) -> None:
            self.rng = np.random.default_rng(1)

        def __call__(self, x: Any) -> Any:
            return x * self.rng.normal()

    def dropped(x: Any) -> Any:
        return x * 2.0 if rng.random() < 0.999 else x * 0.0

    def counted(x: Any) -> Any:
        calls.append(x)
        return x * float(len(calls))

    for f in (dropped, Model(), lambda x: x * np.random.normal(), lambda x: [rng.permutation(2), x][1]):
        with pytest.raises(TypeError, match="draws random numbers"):
            autograd.compile(f)(np.ones(3))
    with pytest.raises(TypeError, match=r"two programs, with 1\.0 in one and 2\.0 in the other"):
        autograd.compile(counted)(np.ones(3))
    with pytest.raises(TypeError, match="two programs"):
        autograd.compile(lambda x: x * (1.0 if "=1.0" in repr(x) else 2.0))(np.array([1.0, 2.0]))
    assert rng.random() == np.random.default_rng(0).random()  # they are where they were


def test_of_what_is_installed_only_the_functions_own_package_is_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "noise.py").write_text(
        "import numpy as np\nrng = np.random.default_rng(0)\ndef noisy(x):\n    return x * rng.normal()\n"
    )
    monkeypatch.syspath_prepend(folder)
    noisy = importlib.import_module("noise").noisy
    with pytest.raises(TypeError, match="draws random numbers"):
        autograd.compile(noisy)(np.ones(3))
    with pytest.raises(TypeError, match="two programs"):  # by the recordings alone
        autograd.compile(lambda x: noisy(x))(np.ones(3))


# Comparisons


def test_comparisons_in_transforms_are_those_of_floats() -> None:
    f = lambda x, y: x * y if x == y else x + y  # noqa: E731
    assert value_and_grad(f, (0, 1))(3.0, 3.0) == (9.0, (3.0, 3.0))
    assert value_and_grad(f, (0, 1))(3.0, 2.0) == (5.0, (1.0, 1.0))
    sinc = lambda x: 1.0 if x == 0 else np.sin(x) / x  # noqa: E731
    assert grad(sinc)(0.5) == pytest.approx((0.5 * math.cos(0.5) - math.sin(0.5)) / 0.25, rel=1e-15)
    assert grad(lambda x: x * 2.0 if x != 1.0 and 0.5 <= x < 2.0 else x)(1.5) == 2.0


def huber(x: Any) -> Any:
    return where(abs(x) <= 1.0, lambda: 0.5 * x * x, lambda: abs(x) - 0.5)


def clamp(x: Any) -> Any:
    return where(x < -1.0, -1.0, where(x > 1.0, 1.0, x))


def spline(x: Any) -> Any:
    pieces = [(-1.0, -x), (0.0, x * x), (1.0, x**3 - x), (2.0, x.sin())]
    out = x.cos()
    for knot, piece in reversed(pieces):
        out = where(x < knot, piece, out)
    return out


def between(x: Any) -> Any:
    inside = (x > -1.0) & ~(x == 0.5) & (x <= 2.0) | (x >= 2.5)
    return where(inside, x * x, -x) + 0.5 * (x != 0.5)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "choice",
    [
        huber,
        clamp,
        spline,
        between,
        lambda x: where(x > 0.0, x, 0.01 * x),
        lambda x: where(x > 0.0, x, lambda: x.exp() - 1.0),
        lambda x: where(x == 0.0, 1.0, lambda: x.sin() / x),
        lambda x: where(x > 0.0, lambda: x.sqrt(), 0.0),
        lambda x: where(x > 0.0, lambda: where(x.log() > -1.0, lambda: (x.log() + 1.0).sqrt(), x), x * x),
        lambda x: where(x > 0.0, lambda: x**-1.5 + x.log() / x, lambda: (-x + 0.5) ** 0.5),
        lambda x: where(x > 0.5, lambda: derive(x.log() * x, [x])[0], x),
        lambda x: where(where(x > 0.0, x < 1.0, x < -2.0), x, x * x),
        lambda x: where(where(x > 0.0, x < 1.0, True), x, x * x),
        lambda x: np.where(x > 0.0, x, x * x),
        lambda x: np.where(x.data > 0.0, x, 3.0),
        lambda x: where(x * 0.0 == 0.0, x, lambda: x / 0.0),
        lambda x: np.sum(where(x * np.array([1.0, -1.0, 2.0]) > 0.5, np.array([x, x, x * 2.0]), 0.25)),
    ],
)
def test_choices_are_those_of_eager_code_in_value_and_gradient(
    choice: Callable[..., Any], engine: Any
) -> None:
    w = Value(1.3)
    x = (-2.5, -1.0, -1e-9, 0.0, 1e-9, 0.3, 0.5, 1.0 / 1.3, 1.5, 2.2, 700.0)
    held_to_eager(lambda x: choice(w * x) * w, x, engine, [w])
    held_to_eager(lambda x: choice(w * 1.0) * x, x, engine, [w])  # one condition for all rows


@pytest.mark.parametrize("engine", ENGINES)
def test_a_branch_not_taken_raises_nothing_and_spoils_no_gradient(engine: Any) -> None:
    w = Value(1.0)
    program = autograd.compile(lambda x: where(w * x > 0, lambda: (w * x).sqrt(), 0.0), engine=engine)
    assert program.backward(np.array([-1.0])) == w.grad == 0.0
    clipped = autograd.compile(lambda x: where(abs(x) < 2.0, lambda: x * x * x, 8.0), engine=engine)
    assert clipped.per_example(np.array([1e200, 0.5])).tolist() == [8.0, 0.125]
    with pytest.raises(FloatingPointError, match=r"row 1: sqrt\(-2\.0\)"):  # which a taken one does
        autograd.compile(lambda x: where(x > 0, 0.0, lambda: (2.0 * x).sqrt()), engine=engine)(
            np.array([1.0, -1.0])
        )
    with pytest.raises(OverflowError, match="row 1"):  # and a condition that overflows
        autograd.compile(lambda x: where(x * 1e300 > 1.0, x, 0.0), engine=engine)(np.array([1.0, 1e10]))


@pytest.mark.parametrize("engine", ENGINES)
def test_data_of_a_branch_not_taken_may_be_anything(engine: Any) -> None:
    w = Value(0.7)
    for f, x, right in (
        (lambda x: where(x == x, lambda: w * x, 0.0), [1.0, math.nan, 3.0], 4.0),
        (lambda x: where(abs(x) < 1e100, lambda: w * (x * x), 0.0), [1e200, 2.0], 4.0),
        (lambda x: where(x == x, lambda: autograd.dot([w, w], [x, 2.0 * x]), w), [math.nan, 2.0], 7.0),
    ):
        w.grad = 0.0
        autograd.compile(f, engine=engine, reduce="sum").backward(np.array(x))
        assert w.grad == right
    twice = autograd.compile(lambda x: where(x > 0.0, lambda: grad(grad(lambda t: t.sqrt()))(x), 0.0))
    assert twice.per_example(np.array([-2.0, 4.0])).tolist() == [0.0, -1.0 / 32.0]
    inner = autograd.compile(lambda x: [x.sqrt(), x])
    outer = autograd.compile(lambda x: where(x > 0.0, lambda: x * inner(np.array([4.0, 9.0]))[0, 0], 0.0))
    assert outer.per_example(np.array([-2.0, 1.0])).tolist() == [0.0, 2.0]
    assert inner.per_example(np.array([4.0, 9.0])).tolist() == [[2.0, 4.0], [3.0, 9.0]]


def test_conditions_are_compared_and_counted_as_bools_are() -> None:
    x, y = np.array([1.0, -1.0, 1.0]), np.array([1.0, -1.0, -1.0])
    f: Callable[..., Any]
    for f, right in (
        (lambda x, y: where((x > 0) == (y > 0), 1.0, 2.0), [1.0, 1.0, 2.0]),
        (lambda x, y: where((x > 0) != (y > 0), 1.0, 2.0), [2.0, 2.0, 1.0]),
        (lambda x, y: (x > 0) + (y > 0) + 0.0 * x, [2.0, 0.0, 1.0]),
        (lambda x, y: where((x > 0) == 1, 1.0, 2.0), [1.0, 2.0, 1.0]),
        (lambda x, y: (x > 0) / 2 - abs(-(y > 0)) ** 2 + (x != y), [-0.5, 0.0, 1.5]),
        (lambda x, y: x * (~(x > 0) & (y < 0) | (x > 0) & ~(y > 0)), [0.0, -1.0, 1.0]),
    ):
        assert autograd.compile(f).per_example(x, y).tolist() == right
    for f in (lambda x: ~(x > 0) * x, lambda x: (~(x > 0) | (x > 2)) + x, lambda x: (~(x > 0) == 1) * x):
        with pytest.raises(TypeError, match="~True is −2"):  # as 3 * ~True is −6
            autograd.compile(f)(x)
    with pytest.raises(TypeError, match="unhashable"):
        autograd.compile(lambda x: {True: 3.0}.get(x > 0, 1.0) * x)(x)
    rows, w = np.array([[1.0, 2.0], [0.5, -1.0]]), Value(2.0)
    for f, right in (
        (lambda x: np.sum(x > 0) * w, [4.0, 2.0]),
        (lambda x: np.sum(~(x > 0.7) * x), [0.0, -0.5]),
    ):
        assert autograd.compile(f).per_example(rows).tolist() == right
    for f in (lambda x: np.sum(((x > 0.0) + (x > 1.0)) * w), lambda x: ((x > 0.0) @ (x > 0.0)) * w):
        with pytest.raises(TypeError, match="masks add as bools"):
            autograd.compile(f)(rows)
    a = np.array([3.0, -4.0, 0.5])
    assert grad(lambda a: np.sum(~(a > 0) * a))(a).tolist() == [0.0, 1.0, 0.0]  # masks are masks
    assert grad(lambda a: np.sum(a[a > 0]))(a).tolist() == [1.0, 0.0, 1.0]


def test_conditions_and_branches_that_cannot_be_are_refused() -> None:
    x = Value(1.0)
    with pytest.raises(TypeError, match="where takes a condition, such as x > 0, not Value"):
        where(x, 1.0, 2.0)
    with pytest.raises(TypeError, match="one condition"):
        where(np.array([x]) > 0.0, lambda: x, x)
    with pytest.raises(TypeError, match=r"branches on 0.0 < x=1.0.*autograd.where"):
        autograd.compile(lambda x: x if x > 0.0 else -x)(np.ones(1))


def test_where_and_maximum_of_arrays_and_lists() -> None:
    x = Value(3.0)
    assert where(x > 0, 1.0, [2.0, x]).tolist() == [1.0, 1.0]  # as compiled code has it
    assert where(x > 0, 1.0, 2.0) == 1.0 and where(False, lambda: 1 / 0, x) is x
    assert where(np.array([True, False]), [1.0, 2.0], x).tolist() == [1.0, x]
    assert where([x > 0, x < 0], np.array([x, x]), 0.5).tolist() == [3.0, 0.5]
    assert maximum([1.0, 5.0], [2.0, 3.0]).tolist() == [2.0, 5.0]
    assert [v.data for v in minimum([x, 1.0 * x], [4.0, 2.0])] == [3.0, 2.0]
    assert maximum(1.0, x, 4.0, 2.0).data == 4.0 and minimum(3, 1, 2) == 1
    with pytest.raises(TypeError, match="two or more"):
        maximum([1.0, 2.0])


# A derivative that is a choice is no sum that cancels


@pytest.mark.parametrize("engine", ENGINES)
def test_a_small_derivative_survives_a_maximum(engine: Any) -> None:
    w = Value(0.3)
    autograd.compile(lambda x: maximum(1.0 + 1e-18 * w * w, w) + 0.0 * x, engine=engine).backward(np.ones(1))
    assert w.grad == pytest.approx(6e-19, rel=1e-15)


# Primitives of one's own, and operations made by hand


sinc = Primitive(
    "sinc", "sinc", lambda x: math.sin(x) / x, lambda x: np.sin(x) / x, lambda x, out: (cos(x) - out) / x
)
hypot = Primitive(
    "hypot", "hypot", math.hypot, np.hypot, lambda x, y, out: x / out, lambda x, y, out: y / out
)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_primitive_of_ones_own_is_known_to_every_reading(engine: Any) -> None:
    w = Value(2.0, "w")
    held_to_eager(lambda x: sinc(w * x) + hypot(w, x) * x.sin(), (1.0, 2.0, -0.5), engine, [w])
    assert autograd.compile(sinc, engine=engine).per_example(np.array([1.0, 2.0])) == pytest.approx(
        [math.sin(1.0), math.sin(2.0) / 2.0], rel=1e-15
    )
    check_gradients(lambda x: sinc(x) * hypot(x, 2.0), 0.7, order=2)
    assert derive(sinc(w), [w])[0].data == pytest.approx((math.cos(2.0) - math.sin(2.0) / 2.0) / 2.0)
    assert hessian(lambda x: hypot(x, 4.0))(3.0) == pytest.approx(16.0 / 125.0)
    assert "sinc" in autograd.draw(sinc(w)).source
    for computes, said in (
        (np.float32, ""),
        (lambda x: "text", "'own' gives a number for numbers, not 'text'"),
    ):
        own = Primitive("own", "o", computes, np.abs, lambda x, out: 1.0)  # type: ignore[arg-type]
        if said:
            with pytest.raises(TypeError, match=said):
                own(w)
        else:
            assert type((own(w) * w).data) is float  # and not single precision


@pytest.mark.parametrize("engine", ENGINES)
def test_the_derivative_of_a_primitive_may_choose_and_may_not_branch(engine: Any) -> None:
    def leaky(slope: Callable[..., Any]) -> Primitive:
        return Primitive("leaky", "l", lambda x: max(x, 0.1 * x), lambda x: np.maximum(x, 0.1 * x), slope)

    chooses = leaky(lambda x, out: where(x > 0.0, 1.0, 0.1))
    w = Value(0.7)
    held_to_eager(lambda x: chooses(w * x), (1.0, -2.0, -3.0), engine, [w])
    branches = leaky(lambda x, out: 1.0 if x > 0.0 else 0.1)
    with pytest.raises(TypeError, match="this branches on"):
        autograd.compile(lambda x: branches(w * x), engine=engine).backward(np.array([1.0, -2.0]))


def test_one_named_like_another_is_not_taken_for_it() -> None:
    sin = Primitive("sin", "sin", lambda x: 2.0 * x, lambda x: 2.0 * x, lambda x, out: 2.0)
    program = autograd.compile(lambda x: sin(x) + x.sin())
    assert program.per_example(np.array([1.0])) == pytest.approx(2.0 + math.sin(1.0))
    wrong = Primitive("odd", "odd", lambda x: 2.0 * x, lambda x: 3.0 * x, lambda x, out: 2.0)
    with pytest.raises(ValueError, match=r"odd gives 2.0 of floats and of arrays .3.., at"):
        autograd.compile(lambda x: wrong(x))(np.ones(1))


def micrograd_tanh(x: Value) -> Value:
    t = math.tanh(x.data)
    out = Value(t, (x,), "tanh")

    def _backward() -> None:
        x.grad += (1 - t**2) * out.grad

    out._backward = _backward
    return out


def test_an_operation_is_added_as_micrograds_lecture_does() -> None:
    w, x = Value(0.5, label="w"), Value(-1.5)
    y = micrograd_tanh(w * x) * w
    y.backward()
    t = math.tanh(-0.75)
    assert (w.grad, x.grad) == pytest.approx((t - 0.75 * (1 - t * t), 0.25 * (1 - t * t)), rel=1e-15)
    assert "tanh" in autograd.draw(y).source and (y.parents[0]._op, y._prev) == ("tanh", {y.parents[0], w})
    with pytest.raises(TypeError, match=r"only backward\(\) knows the derivative of 'tanh'"):
        derive(y, [w])
    with pytest.raises(TypeError, match="has no _backward"):
        Value(1.0, (x,), "f").backward()
    with pytest.raises(TypeError, match="_backward is for a Value made by hand"):
        x._backward = print
    with pytest.raises(TypeError, match="'copy', a Value made by hand"):
        autograd.compile(lambda x: Value(0.0, (x,), "copy"))(np.ones(1))


def test_values_take_attributes_and_subclasses_stay_what_they_are() -> None:
    class Named(Value):
        def cube(self) -> Value:
            return self * self * self

    x: Any = Named(2.0)
    v: Any = Value(3.0)
    v.m = 0.5  # as an optimizer keeps its state
    results = [
        x * v,
        x + 1,
        1 - x,
        x / v,
        v / x,
        -x,
        x**2,
        x.exp(),
        x.relu(),
        abs(x),
        np.sin(x),
        2.0 * x,
        v + x,
    ]
    assert {type(out) for out in [*results, maximum(v, x), autograd.total([x, v])]} == {Named}
    assert (x + v).cube().cube().data == 5.0**9 and v.m == 0.5 and type(v * v) is Value
    (x * v + x).backward()
    assert (x.grad, v.grad) == (4.0, 2.0)
