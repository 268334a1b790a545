"""Loops: alike statements as one; and what results do not depend on, though they are written with it."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from structures import difference, structured

import autograd
from autograd import Value, dot, maximum, total
from autograd.program import loops

RNG = np.random.default_rng(5)
X = RNG.normal(size=(4, 12))


def compared(f: Callable[..., Any], leaves: list[Value], *arrays: Any) -> str:
    """The NumPy source of f, whose values and gradient are those of Values."""
    outs = [f(*row) for row in zip(*arrays)]
    (total(outs) / len(outs)).backward()
    expected = [v.grad for v in leaves]
    for v in leaves:
        v.grad = 0.0
    program = autograd.compile(f, engine="numpy")
    np.testing.assert_allclose(program.per_example(*arrays), [out.data for out in outs], rtol=1e-12)
    program.backward(*arrays)
    found = [v.grad for v in leaves]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13 * np.max(np.abs(expected)))
    return program.source.split("_gradient(")[1]


def test_a_state_that_is_carried_on_is_a_loop_each_way() -> None:
    w, b = [[Value(0.1 * (i - j), f"w[{i},{j}]") for j in range(3)] for i in range(3)], Value(0.2, "b")

    def f(x: Any) -> Any:
        h = x[:3]
        for t in range(12):
            h = [(sum(w[i][j] * h[j] for j in range(3)) + b * x[t]).tanh() for i in range(3)]
        return total(h)

    source = compared(f, [v for row in w for v in row] + [b], X)
    assert source.count("for i in range(") == 2
    assert "[:, i]" in source and " - i]" in source  # data of a step; on the way back, its state
    assert len(source.splitlines()) < 25


@pytest.mark.parametrize("begins", ["0", "leaf"])
def test_a_state_may_begin_as_numbers_or_leaves_in_a_product_of_its_own(begins: str) -> None:
    w, u = ([[Value(0.1 * (i - j + k)) for j in range(3)] for i in range(3)] for k in (0, 1))
    first = [Value(0.3 * i) for i in range(3)]

    def f(x: Any) -> Any:
        h: list[Any] = first if begins == "leaf" else [0.0] * 3
        losses = []
        for t in range(0, 30, 3):
            h = [(dot(w[i], x[t : t + 3]) + dot(u[i], h)).tanh() for i in range(3)]
            losses.append((dot(first, h) - x[t]) ** 2)
        return total(losses)

    source = compared(f, [*itertools.chain(*w, *u), *first], RNG.normal(size=(4, 30)))
    assert source.count("for i in range(10)") == 1 and len(source.splitlines()) < 32


@pytest.mark.parametrize("begins", ["data", "leaf"])
def test_a_loop_begins_with_a_state_that_is_part_of_an_array(begins: str) -> None:
    c, roots = Value(0.3, "c"), [Value(0.8, "w[0]"), Value(1.7, "w[1]")]

    def f(x: Any) -> Any:
        root = x[1] if begins == "data" else roots[0]
        for _ in range(10):
            root = root - (root * root - c) / (2.0 * root * root + 1.0)
        return root * roots[1] * x[0]

    source = compared(f, [c, *roots], X)
    assert f" = [{'x[:, 1]' if begins == 'data' else 'w[0]'}]" in source and "for i in range(10)" in source


def test_a_loop_begins_where_nothing_that_it_needs_needs_it() -> None:
    w = [Value(0.4, "w[0]"), Value(0.1, "w[1]")]

    def f(x: Any) -> Any:
        now = before = x[
            1:3
        ]  # 0.3 before is a factor of the first step and, as it comes to be, of the second
        place, places = x[0], []
        for _ in range(8):
            now, before = [0.5 * a - 0.3 * b + c for a, b, c in zip(now, before, w)], now
            place = place + 0.1 * (w[0] * now[1].sin())
            places.append(place)
        return total([*places, *now])

    assert compared(f, w, X).count("for i in range(") == 2


def test_steps_have_numbers_of_their_own_and_read_the_one_before_the_last() -> None:
    g, k = Value(0.3, "g"), Value(0.4, "k")

    def wave(x: Any) -> Any:
        now, before = x[0] * g, x[1] * k
        for t in range(15):
            now, before = 2.0 * now - before - k * now.sin() * math.exp(-0.1 * t), now
        return now

    source = compared(wave, [g, k], X)
    assert source.count("for i in range(") == 2 and "[i + 1]" in source


def test_a_state_that_is_0_at_first_is_an_array_so_that_all_steps_are_alike() -> None:
    w = [
        [Value(x, f"w[{i},{j}]") for j, x in enumerate(row)] for i, row in enumerate(RNG.normal(size=(9, 5)))
    ]

    def f(x: Any) -> Any:
        h: Any = [0.0] * 3
        c: Any = h
        for t in range(6):
            z = [sum(a * b for a, b in zip(row, [*x[2 * t : 2 * t + 2], *h])) for row in w]
            c = [z[i].sigmoid() * c[i] + z[i + 3].tanh() for i in range(3)]
            h = [z[i + 6].sigmoid() * c[i].tanh() for i in range(3)]
        return total(h)

    source = compared(f, [v for row in w for v in row], X)
    forward = source.split("f = ")[0]  # up to the loss
    assert forward.count("xp.zeros((N, 3)") == 2 and "for i in range(6):" in forward
    assert "0.0 *" not in source


@pytest.mark.parametrize("turn", [1, -1])
def test_steps_are_found_in_any_order(turn: int) -> None:
    """The statements of each other step come in another order: that of the operands."""
    a, b = Value(0.4, "a"), Value(0.3, "b")

    def f(x: Any) -> Any:
        p, q = x[0] * a, x[1] * b
        for t in range(12):
            first, second = ((p * q * a).tanh(), (p - q).sin() * b)[:: turn if t % 2 else 1]
            p, q = (first + second, second * p) if turn == 1 or t % 2 == 0 else (second + first, first * p)
        return p + q

    source = compared(f, [a, b], X)
    assert source.count("for i in range(") == 2 and len(source.splitlines()) < 45


def test_layers_alike_are_a_loop_over_their_parameters() -> None:
    w = [[[Value(x) for x in row] for row in layer] for layer in RNG.normal(size=(9, 3, 3)).tolist()]

    def f(x: Any) -> Any:
        h = x[:3]
        for layer in w:
            h = [(sum(a * y for a, y in zip(row, h))).tanh() for row in layer]
        return total(h)

    compared(f, [v for layer in w for row in layer for v in row], X)


def test_loops_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    w = Value(0.5, "w")

    def f(x: Any) -> Any:
        h = x[0]
        for t in range(12):
            h = (h * w).tanh() + 0.1 * t
        return h

    program = autograd.compile(f, engine="numpy")
    program.backward(X)
    program.show("roll")
    forward, back = re.findall(r"in (\d+) steps\n((?:    .*\n)+)", capsys.readouterr().out)
    assert forward[0] == "11" and re.search(
        r"(t\d+)\[step \+ 1\] = add\(t\d+\[step\], t\d+\[step\]\)", forward[1]
    )
    assert re.search(r"\[\d+ - step\]", back[1])


def test_sums_up_to_each_element_go_on_from_one_another() -> None:
    w = [Value(0.1 * i, f"w[{i}]") for i in range(40)]
    rows = RNG.normal(size=(3, 40))
    source = compared(lambda x: total([(sum(x[: i + 1]) * v).tanh() for i, v in enumerate(w)]), w, rows)
    assert "for i in range(" in source


@pytest.mark.parametrize("of_several", [maximum, autograd.minimum, lambda *xs: autograd.logsumexp(xs)])
def test_a_loop_that_takes_one_of_several_begins_with_a_part_of_the_data(of_several: Any) -> None:
    w = Value(0.6, "w")

    def f(x: Any) -> Any:
        y, z = x[2], w * x[1]
        for _ in range(6):
            y, z = of_several(y, -0.25, z).sin(), z.tanh()
        return y * z

    assert "for i in range(" in compared(f, [w], X)


def test_a_loops_first_state_may_be_the_same_for_all_rows() -> None:
    """It is sin(w² + 0.1). From 32 rows on, rows are the last axis."""
    w = Value(0.6, "w")

    def f(x: Any) -> Any:
        y, z = x[0], w
        for _ in range(8):
            y, z = (z * z + 0.1).sin(), (z - autograd.logsumexp([z, y, y])).sigmoid()
        return y + z

    assert "for i in range(" in compared(f, [w], np.tile(X, (10, 1)))


def test_a_list_of_a_parameter_and_of_states_has_rows() -> None:
    w = Value(0.6, "w")

    def f(x: Any) -> Any:
        y, z = w, x[0]
        for _ in range(7):
            y, z = autograd.logsumexp([y, 0.5, w * x[1]]).sin(), 0.7 * maximum(y, -0.25, z)
        return y + z

    assert "for i in range(" in compared(f, [w], np.tile(X, (10, 1)))


def test_two_first_states_are_not_one() -> None:
    """The smaller of x and 0.3 comes before the smaller of y and y."""
    w = Value(0.9, "w")

    def f(x: Any) -> Any:
        y: Any = x[0]
        z: Any = 0.3
        for _ in range(12):
            y, z = np.sin(autograd.minimum(z, y)), np.sin(autograd.minimum(y, z))
        return y * w + z

    data = np.linspace(-0.5, 1.0, 7).reshape(7, 1)
    compared(f, [w], data)


def test_short_runs_stay_as_they_are() -> None:
    w = Value(0.5, "w")
    assert "for i" not in compared(lambda x: (((w * x[0]).tanh() * w).tanh() * w).tanh(), [w], X)


def test_a_loops_infinities_are_found() -> None:
    w = Value(1.0, "w")

    def f(x: Any) -> Any:
        h = x
        for _ in range(12):
            h = h * h * w
        return 1.0 / (1.0 + h.exp()) + h / (1.0 + h)

    p = autograd.compile(f, engine="numpy")
    p(np.array([0.5, 0.7]))
    for call in (p, p.backward):
        with pytest.raises(ArithmeticError, match="row 1"):
            call(np.array([0.5, 2.0]))


@pytest.mark.parametrize("seed", range(30))
def test_any_alike_statements_may_be_a_loop(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(loops, "FEWEST_SAVED", 2)
    monkeypatch.setattr(loops, "FEWEST_STEPS", 3)
    assert difference(seed) < 1e-11


def test_loops_run_with_any_array_library() -> None:
    xp = pytest.importorskip("array_api_strict")
    seeds = [*itertools.islice((s for s in range(400) if "for i in" in source_of(s)), 3)]
    assert len(seeds) == 3
    for seed in seeds:
        f, _, arrays = structured(seed)
        program = autograd.compile(f, engine="numpy")
        value, gradient = program.value_and_grad(*arrays)
        data = [[v.data for v in leaves.flat] for leaves in program.leaves]
        leaves = [xp.asarray(np.reshape(d, v.shape)) for d, v in zip(data, program.leaves)]
        found = program.function(xp)(*(xp.asarray(a.astype(float)) for a in arrays), *leaves)
        for x, y in zip(found, [np.array(value), *gradient]):
            np.testing.assert_allclose(np.asarray(x), y, rtol=1e-10, atol=1e-12)


def source_of(seed: int) -> str:
    f, _, arrays = structured(seed)
    program = autograd.compile(f, engine="numpy")
    program.value_and_grad(*arrays)
    return program.source


def log_sum_exp(xs: Any, m: Any) -> Any:
    return m + total([(x - m).exp() for x in xs]).log()


def shares(xs: Any, m: Any) -> Any:
    exps = [(x - m).exp() for x in xs]
    return [e / total(exps) for e in exps]


@pytest.mark.parametrize("largest", [lambda xs: maximum(*xs), lambda xs: total(xs) / len(xs)])
def test_no_gradient_flows_through_what_nothing_depends_on(largest: Callable[..., Any]) -> None:
    w = [Value(x, f"w[{i}]") for i, x in enumerate([0.3, 2.0, -1.0, 0.7])]

    def f(x: Any) -> Any:
        z = [v * x for v in w]
        return log_sum_exp(z, largest(z)) + shares(z, largest(z))[1] ** 2

    x = np.array([0.0, 1.0, -2.0])  # all are equal at 0
    source = compared(f, w, x)
    assert "step(" not in source and source.count("largest(") < 2


@pytest.mark.parametrize(
    "f",
    [
        lambda z, m: log_sum_exp(z, m) + 0.1 * m,
        lambda z, m: log_sum_exp(z, m) - m,
        lambda z, m: m * log_sum_exp(z, m),
        lambda z, m: dot([z[0], z[1]], [m, m + 1.0]) + log_sum_exp(z, m),
        lambda z, m: dot([z[0], z[1]], [m, 1.0 / (z[0] - m).exp()]),
        lambda z, m: dot([2.0, -2.0], [m, m + z[1]]) + log_sum_exp(z, m),
        lambda z, m: 2.0 * m + total([(x - m).exp() for x in z]).log(),
        lambda z, m: (z[0] - m).exp() / (1.0 + (z[1] - m).exp()),
        lambda z, m: (z[0] - m).exp() * (z[1] - m).exp(),
        lambda z, m: ((z[0] - m).exp() * (m - z[1]).exp()).tanh() + (z[2] - m).exp(),
        lambda z, m: (z[0] - m).exp() + (z[1] - 2.0 * m).exp() * (2.0 * m).exp(),
    ],
)
def test_a_gradient_flows_where_something_does(f: Callable[..., Any]) -> None:
    w = [Value(x, f"w[{i}]") for i, x in enumerate([0.3, 2.0, -1.0])]
    g = lambda x: f([v * x for v in w], maximum(*(v * x for v in w)))  # noqa: E731
    compared(g, w, np.array([1.0, -0.5, 0.7]))


@pytest.mark.parametrize("turn", [1, -1])
def test_elements_that_no_sum_has_may_overflow(turn: int) -> None:
    w = [[Value(1.0, f"w[{i},{j}]") for j in range(5)] for i in range(2)]

    def f(x: Any, y: Any, z: Any) -> Any:
        a = [[w[0][i] * x[i] * y[j] for j in range(i + 1)] for i in range(5)]
        b = [[(w[1][i] - z[j]).tanh() for j in range(i + 1)] for i in range(5)]
        first, second = (a, b)[::turn]
        sums = [dot(first[i], second[i]) if i else first[i][0] * second[i][0] for i in range(5)]
        return total([(1e-210 * s).tanh() for s in sums])

    x, y = np.ones((2, 5)), np.ones((2, 5))
    x[1, 0], y[1, 4] = 1e200, 1e150  # x[0] y[4] overflows, and is not there
    leaves = [v for row in w for v in row]
    source = compared(f, leaves, x, y, RNG.normal(size=(2, 5)))
    assert "take(" not in source and "xp.where(" in source


@pytest.mark.parametrize(("number", "shift"), [(1e200, -440.0), (1e-200, 440.0), (0.5, 0.0)])
def test_numbers_stay_where_a_product_would_leave_the_range_without_them(number: float, shift: float) -> None:
    w = [Value(1.0 + 0.1 * i, f"w[{i}]") for i in range(6)]

    def f(x: Any) -> Any:
        a = [number * (shift + x[i] * w[i]).exp() for i in range(6)]
        b = [number * np.exp(shift - x[i]) for i in range(6)]
        return [total([a[i + j] * b[i] for i in range(3)]) for j in range(3)]

    rows = np.abs(X[:, :6])
    found = autograd.compile(f, engine="numpy").per_example(rows)
    np.testing.assert_allclose(found, [[v.data for v in f(row)] for row in rows], rtol=1e-12)


def test_a_loop_may_be_over_what_is_called_range() -> None:
    start, w = Value(0.3, "range"), Value(0.5, "w")

    def f(x: Any) -> Any:
        h = start
        for t in range(12):
            h = (h * w + x[t]).tanh()
        return h

    f.__name__ = "range"
    assert "for i in range(" in compared(f, [start, w], X)
