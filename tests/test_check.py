"""check_gradients: it passes what is right, and finds what is wrong."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from programs import programs

import nn
from autograd import Value, check_gradients, dot, maximum, minimum, total
from autograd.check import rounding_errors
from autograd.graph import topological_order
from autograd.ops import TABLE, no_gradient


def wrong(partial: Callable[..., Any]) -> Callable[..., Any]:
    """A local derivative that is a little off, even where the right one is 0."""
    return lambda *operands: partial(*operands) * (1.0 + 1e-6) + 2e-6


def wrong_vector(partial: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands: [p * (1.0 + 1e-6) for p in partial(*operands)]


def broken(row: Any, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = getattr(row, side)
    bad = wrong_vector if row in (TABLE["dot"], TABLE["total"]) else wrong
    monkeypatch.setitem(row.__dict__, side, bad(partial))


SIDES = [(row, side) for row in TABLE.values() for side in ("dx", "dy")]


@pytest.mark.parametrize(
    ("row", "side"),
    [
        (row, side)
        for row, side in SIDES
        if getattr(row, side) not in (None, no_gradient) and row.name != "where"
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_it_finds_a_wrong_derivative_in_any_row_of_the_table(
    row: Any, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    f: Any
    at: tuple[Any, ...]
    f, at = row, (0.7, 1.3)[: 2 if row.dy else 1]
    if row.name in ("acosh", "polygamma"):  # which are defined elsewhere
        f, at = (lambda x: row(1.0, x) if row.dy else row(x)), (1.3,)
    if row.name in ("dot", "total"):
        f, at = {"dot": dot, "total": total}[row.name], ([0.7, 0.2], [1.3, -0.4])[: len(at)]
    check_gradients(f, *at, order=2)
    broken(row, side, monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        check_gradients(f, *at, order=2)


@settings(deadline=None, max_examples=8)
@given(programs(max_depth=2, max_width=3, smooth=True))
def test_it_passes_random_programs_to_second_order(program: Any) -> None:
    check_gradients(program, *program.inputs, order=2)


def test_it_passes_arrays_networks_and_functions_near_the_edge_of_their_domain() -> None:
    rng = np.random.default_rng(0)
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", rng=rng)
    check_gradients(model, [0.3, -0.2], order=2)
    check_gradients(
        lambda w, x: [np.tanh(w @ x), (w[0, 0], 3.0)], rng.normal(size=(2, 3)), rng.normal(size=3)
    )
    for x in (1e-300, 1e-9, 1.0, 1e300):
        check_gradients(np.log, x)
    check_gradients(lambda x: [np.sin(2**k * np.pi * x) + 5.0 for k in range(10)], 0.3)
    check_gradients(lambda x: np.exp(-((x / 1e-3) ** 2)), 1e-3)
    check_gradients(lambda x: [np.sin(x), x * 1e299], 1e9)
    check_gradients(lambda x: [np.cos(x), x**4, 3.0 + 0.0 * x], 0.0, order=3)
    check_gradients(lambda x: x * 1e-200, 1e-100)
    check_gradients(lambda s, x: x**3, "not a number", 2.0, argnums=1)


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda x: np.sin(x) + 1e-9 * math.sin(x.data), 0.7),
        (lambda x: math.sin(128.0 * math.pi * x.data) + 0.0 * x, 0.3),  # coarse steps see none of it
        (lambda x: math.exp(-((x.data / 1e-3) ** 2)) + 0.0 * x, 1e-3),
        (lambda x: 1.0 * x if x < 1.0 else 5.0 + 2.0 * x.data, 1.0),
        (lambda x: np.sign(x) + x, 0.0),
        (lambda x: x * math.sqrt(1.0 + 1e-4 - x.data), 1.0),
    ],
)
def test_it_finds_small_errors_narrow_features_and_jumps(f: Callable[..., Any], x: float) -> None:
    with pytest.raises(AssertionError):
        check_gradients(f, x)


def least_squares(v: list[Any]) -> Any:
    return np.sum((np.array([[2.0, 1.0], [1.0, -3.0], [0.5, 4.0]]) @ v - np.array([4.0, -5.0, 8.5])) ** 2)


def horner(x: Any) -> Any:
    y = 0.0 * x
    for k in (3e-4, -20.0, 5e3, 1e-6, 7.0, -2.0, 1e2):
        y = y * x + k
    return y


def iterated(n: int, r: float) -> Callable[..., Any]:
    def f(x: Any) -> Any:
        for _ in range(n):
            x = r * x * (1.0 - x)
        return x

    return f


def with_residual_at_rounding(x: Any) -> Any:
    return 0.5 * (np.tanh(0.3 * x) * 1.7 - math.tanh(0.3 * 0.8) * 1.7) ** 2


# Minima, saddles, scales from 1e-12 to 1e12, ends of domains, poles and ties that are further than 1e-6.
RIGHT: list[Any] = [
    (lambda x: (x - 0.3) ** 2, 0.3),
    (lambda x: (x - 0.3) ** 2, 0.3 + 1e-9),
    (lambda x: 1e12 * (x - 0.3) ** 2 + 1e12, 0.3),
    (lambda x: 1e-12 * (x - 0.3) ** 2, 0.3),
    (lambda x: (x - 1.7e8) ** 2, 1.7e8),
    (lambda x: ((x + 1e8) - 1e8 - 0.3) ** 2, 0.3),
    (lambda x: [(x - 0.3) ** 3, (x - 0.3) ** 4, (x - 0.3) ** 9], 0.3),
    (lambda x: (x - 1.0) ** 50, 0.3),
    (lambda x: x**20, 1e5),
    (lambda x: np.exp(x - 0.3) + np.exp(0.3 - x), 0.3),
    (lambda x: np.sqrt(1.0 + (x - 0.3) ** 2) - 1.0, 0.3),
    (lambda x, y: (x - 0.3) ** 2 - (y - 0.7) ** 2 + (x - 0.3) * (y - 0.7), 0.3, 0.7),
    (lambda x, y: (1.0 - x) ** 2 + 100.0 * (y - x * x) ** 2, 1, 1),
    (least_squares, [1.0, 2.0]),
    (with_residual_at_rounding, 0.8),
    (nn.squared_error, 1.0, 1.0),
    (lambda p: nn.binary_cross_entropy(p, 1.0), 40.0),
    (lambda p: nn.binary_cross_entropy(p, 0.0), 700.0),
    (lambda p: -np.log(1.0 - p), 1.0 - 2e-6),
    (lambda p: np.log(p / (1.0 - p)), 3e-6),
    (lambda p: -np.sum(p * np.log(p)), [1e-5, 0.3, 0.7 - 1e-5]),
    (lambda z: np.log(np.sum(np.exp(z))), [600.0, -600.0, 599.0]),
    (lambda v: np.sqrt(np.sum((v - np.sum(v) / 3.0) ** 2)), np.array([1e5, 1e5 + 1.0, 1e5 - 0.5])),
    (lambda v, w: (v @ w) / np.sqrt((v @ v) * (w @ w)), np.array([1.0, 2.0]), np.array([2.0, 4.0])),
    (np.log, 1e-150),
    (np.sqrt, 1e-150),
    (lambda x: np.log(x - 0.3), 0.3 + 2e-6),
    (lambda x: np.sqrt(1.0 - x * x), 1.0 - 2e-6),
    (lambda x: x**1.5, 2e-6),
    (lambda x: 1.0 / (x - 0.3), 0.3 + 2e-6),
    (lambda x: 1.0 / (x - 0.3) ** 2, 0.3 - 2e-6),
    (lambda x: np.sin(x) / np.cos(x), math.pi / 2 - 2e-6),
    (lambda x: (1.0 - np.cos(x)) / (x * x), 1e-4),
    (lambda x, y: x**y, 1e-5, -4.5),
    (lambda x: maximum(x * x, 0.3 * x), 0.3 + 2e-6),
    (lambda x: abs(np.sin(x)), -2e-6),
    (lambda x: x.relu() * minimum(x, 5.0), 5.0 - 2e-6),
    (lambda x: [np.tanh(x), x.sigmoid(), x.softplus()], 400.0),
    (lambda x: [np.tanh(x), x.sigmoid(), x.softplus()], -30.0),
    (lambda x: np.exp(-1.0 / (x * x)), 0.03),
    (lambda x: [0.0 * x + 3.0, 3.0, x - x, x], -1e-9),
    (lambda x: [np.sin(x), np.cos(x), x * x, x**3, np.exp(x), 1e-9 * x], 0),
    (lambda x: [np.sin(x), x * x, np.tanh(x) * 1e9, x**3], 1e-20),
    (lambda x: [np.sin(x), x * x, 1.0 / x, np.log(x)], 1.23e8),
    (lambda x, y: [1e-12 * x * y, 1e12 * np.sin(x), np.exp(y) * 1e8, x], 0.7, -1e-7),
    (lambda x: [1e12 + np.sin(x), total([1e16, x, -1e16])], 0.7),
    (lambda x: np.sin(1e6 * x), 0.7),
    (lambda x: np.sin(1.0 / x), 0.01),
    (lambda x: x * np.sin(40.0 * x) + np.cos(300.0 * x), 0.7),
    (lambda x: np.exp(-(((x - 0.3) / 1e-5) ** 2)), 0.3),
    (lambda x: np.exp(np.exp(x)), 5.0),
    (horner, -1.3),
    (iterated(10, 3.7), 0.4),
    (iterated(12, 3.4667009536083255), 0.14507094311161392),
    (iterated(13, 3.6431880707422737), 0.4352537853424491),
    (iterated(13, 3.7717689440121336), 0.7269080885220609),
]


@pytest.mark.parametrize(("f", "args"), [(f, args) for f, *args in RIGHT])
def test_right_derivatives_pass_at_minima_at_awkward_scales_and_near_edges(
    f: Callable[..., Any], args: Any
) -> None:
    check_gradients(f, *args, order=2)


def test_rounding_within_a_primitive_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE["cos"].__dict__, "compute", lambda x: (math.cos(x) + 100.0) - 100.0)
    for x in np.linspace(-3.0, 3.0, 20):
        check_gradients(lambda x: x.cos(), x)


@pytest.mark.parametrize(("f", "x"), [(f, args[0]) for f, *args in RIGHT if np.shape(args) == (1,)])
def test_an_error_above_the_stated_bound_is_found(f: Callable[..., Any], x: float) -> None:
    # adds a linear part that the graph does not see, to one output of several
    def lost(size: float) -> Callable[..., Any]:
        def g(x: Any) -> list[Any]:
            *others, y = np.atleast_1d(f(x))
            return [*others, y + size * (x.data - at)]

        return g

    at, size, message = float(x), 1e-12, ""
    while not message:
        try:
            check_gradients(lost(size), x)
            size *= 1e3
        except AssertionError as error:
            message = str(error)
    bound = float(message.splitlines()[2].split()[3])
    with pytest.raises(AssertionError, match="disagree on 1 of"):
        check_gradients(lost(2.0 * bound), x)


@pytest.mark.parametrize("error", [1.0, 1e-3, 1e-6, 1e-9])
def test_small_errors_are_found_at_all_scales_and_places(
    error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [
        (lambda x: np.sin(x) + error * math.sin(x.data), 0.7),
        (lambda x: np.sin(x) + error * math.sin(x.data), 1.23e8),
        (lambda x: 1e-12 * (np.exp(x) + error * math.exp(x.data)), 0.7),
        (lambda x: 1e12 * (np.exp(x) + error * math.exp(x.data)), 0.7),
        (lambda x: (x - 0.3) ** 2 + error * x.data, 0.3),
        (lambda x: [1e9 * x, x * x, x + error * 1e-3 * x.data], 1e-9),
        (lambda v: sum(v[1:], v[0]) + error * v[4].data, np.arange(6)),
        (lambda x: x if x.data != 0.3 else (1.0 + error) * x - error * 0.3, 0.3),
    ]
    for f, x in wrong:
        with pytest.raises(AssertionError, match="disagree on 1 of"):
            check_gradients(f, x)
    right = TABLE["cos"].dx
    monkeypatch.setitem(TABLE["cos"].__dict__, "dx", lambda x, out: right(x, out) * (1.0 + error))
    with pytest.raises(AssertionError, match=r"disagree on 1 of 2 derivatives(.|\n)*∂²f/∂x∂x"):
        check_gradients(lambda x: x.sin(), 0.7, order=2)


def test_a_local_derivative_that_was_set_by_hand_is_checked() -> None:
    def f(x: Any) -> Any:
        y = x.sin()
        y._dx *= 1.0 + 1e-9
        return y

    with pytest.raises(AssertionError, match=r"bounds$"):
        check_gradients(f, 0.7)


def test_the_message_says_which_by_how_much_and_of_how_many() -> None:
    def f(w: Any, x: dict[str, float]) -> Any:
        return [w[0] * x["a"] + math.sin(w[1].data), w[1] ** 2]  # a number, of which there is no derivative

    with pytest.raises(AssertionError) as caught:
        check_gradients(f, np.array([2.0, 0.5]), {"a": 3.0}, argnums=0)
    first, header, row = str(caught.value).splitlines()
    assert first == "the graph and differences disagree on 1 of 4 derivatives:"
    assert header.split("  ")[0] == "derivative"
    name, by_graph, by_differences, bound, off = row.split()[:5]
    assert (name, float(by_graph)) == ("∂f[0]/∂w[1]", 0.0)
    assert float(by_differences) == pytest.approx(math.cos(0.5), rel=1e-11)
    assert float(off) == pytest.approx(math.cos(0.5) / float(bound), rel=0.1) and row.endswith("bounds")


def test_the_message_names_second_derivatives_and_is_not_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(TABLE["tanh"], "dx", monkeypatch)
    with pytest.raises(AssertionError, match=r"\n∂f/∂v\[0\] (.|\n)*and 10 more$") as caught:
        check_gradients(lambda v: np.sum(np.tanh(v)) ** 2, np.ones(30) / 9)
    assert len(str(caught.value).splitlines()) == 23
    with pytest.raises(AssertionError, match=r"\n∂²f/∂x∂x "):
        check_gradients(lambda x: x.tanh(), 0.5, order=2)


@pytest.mark.parametrize(
    ("f", "x", "message"),
    [
        (lambda x: x.relu(), 0.0, "a kink: slope 0 on its left, 1 on its right"),
        (lambda x: abs(x - 0.3) + x * x, 0.3, r"a kink: slope -0\.4 on its left, 1\.6 on its right"),
        (lambda x: maximum(x, 2.0 * x - 1.0), 1.0, "a kink: slope 1 on its left, 2 on its right"),
        (lambda x: x * math.floor(x.data), 3.0, "they do not settle"),
        (lambda x: x + 1e-12 * np.sign(x - 1.0), 1.0, "they do not settle"),
        (lambda x: x if x.data != 0.3 else x + 1.0, 0.3, "they do not settle"),
        (lambda x: x**1.5, 0.0, "not defined around here: on its left$"),
        (lambda x: (1.0 - x) ** 1.5, 1.0, "not defined around here: on its right$"),
        (lambda x: x**1.5 + (-x) ** 1.5, 0.0, "not defined around here: on its left and on its right$"),
    ],
)
def test_without_a_derivative_or_neighbours_it_says_so(f: Callable[..., Any], x: float, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_gradients(f, x)


def test_where_f_is_not_defined_it_is_f_that_says_so() -> None:
    with pytest.raises(ArithmeticError, match="log"):
        check_gradients(np.log, -1.0)


@pytest.mark.parametrize(("arguments", "order"), [((), 1), (([],), 1), ((1.0,), 0)])
def test_nothing_to_check_is_no_success(arguments: Any, order: int) -> None:
    with pytest.raises(ValueError, match="no derivative to check"):
        check_gradients(lambda *x: Value(1.0), *arguments, order=order)


def test_arguments_that_are_not_finite_are_named() -> None:
    with pytest.raises(ValueError, match=r"v\[1\] is nan"):
        check_gradients(lambda v: v[0], [1.0, math.nan])


def test_rounding_may_choose_the_side_of_a_relu() -> None:
    x, y = Value(0.1), Value(0.2)
    near, far = 0.3 - x - y, 0.2 - x - y
    for rearranged in (False, True):
        error = rounding_errors(topological_order(near.relu(), far.relu()), rearranged)
        by_value = {v.x: e for v, e in error.items() if v.op == "relu"}
        assert near.data < 0.0 and by_value[far] < 1e-300
        assert by_value[near] == error[near] if rearranged else by_value[near] < 1e-300


def test_rounding_of_a_rearranged_sum_is_that_of_its_terms() -> None:
    x, y = Value(1e8), Value(-1e8)
    v = x + y
    assert rounding_errors([x, y, v])[v] < 1e-300 and rounding_errors([x, y, v], rearranged=True)[v] > 1e-8
