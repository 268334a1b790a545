"""check_gradients: it passes what is right, and finds what is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from programs import programs

import nn
from autograd import Value, check_gradients, dot, total
from autograd.ops import CONDITIONS, TABLE


def wrong(partial):
    """A local derivative that is a little off, even where the right one is 0."""
    return lambda *operands: partial(*operands) * (1.0 + 1e-6) + 2e-6


def wrong_vector(partial):
    return lambda *operands: [p * (1.0 + 1e-6) for p in partial(*operands)]


def broken(row, side, monkeypatch):
    partial = getattr(row, side)
    bad = wrong_vector if row in (TABLE["dot"], TABLE["total"]) else wrong
    monkeypatch.setitem(row.__dict__, side, bad(partial))


DIFFERENTIABLE = [
    row for row in TABLE.values() if row not in CONDITIONS and row.name not in ("detach", "where")
]


@pytest.mark.parametrize(
    ("row", "side"),
    [(row, side) for row in DIFFERENTIABLE for side in ("dx", "dy") if getattr(row, side)],
    ids=lambda x: getattr(x, "name", x),
)
def test_it_finds_a_wrong_derivative_in_any_row_of_the_table(row, side, monkeypatch):
    f, at = row, (0.7, 1.3)[: 2 if row.dy else 1]
    if row.name in ("dot", "total"):
        f, at = {"dot": dot, "total": total}[row.name], ([0.7, 0.2], [1.3, -0.4])[: len(at)]
    check_gradients(f, *at, order=2)
    broken(row, side, monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        check_gradients(f, *at, order=2)


@settings(deadline=None, max_examples=15)
@given(programs(max_depth=2, max_width=3, smooth=True))
def test_it_passes_random_programs_to_second_order(program):
    check_gradients(program, *program.inputs, order=2)


def test_it_passes_arrays_networks_and_functions_near_the_edge_of_their_domain():
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
def test_it_finds_small_errors_narrow_features_and_jumps(f, x):
    with pytest.raises(AssertionError):
        check_gradients(f, x)


def test_the_message_says_which_by_how_much_and_of_how_many():
    def f(w, x):
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


def test_the_message_names_second_derivatives_and_is_not_endless(monkeypatch):
    broken(TABLE["tanh"], "dx", monkeypatch)
    with pytest.raises(AssertionError, match=r"\n∂f/∂v\[0\] (.|\n)*and 10 more$") as caught:
        check_gradients(lambda v: np.sum(np.tanh(v)) ** 2, np.ones(30) / 9)
    assert len(str(caught.value).splitlines()) == 23
    with pytest.raises(AssertionError, match=r"\n∂²f/∂x∂x "):
        check_gradients(lambda x: x.tanh(), 0.5, order=2)


def test_at_a_kink_and_where_there_are_no_neighbours_it_says_so():
    with pytest.raises(AssertionError, match="a kink: slope 0 on its left, 1 on its right"):
        check_gradients(lambda x: x.relu(), 0.0)
    with pytest.raises(AssertionError, match="not defined around here"):
        check_gradients(lambda x: x**1.5, 0.0)
    with pytest.raises(ArithmeticError, match="log"):
        check_gradients(np.log, -1.0)


@pytest.mark.parametrize(("arguments", "order"), [((), 1), (([],), 1), ((1.0,), 0)])
def test_nothing_to_check_is_no_success(arguments, order):
    with pytest.raises(ValueError, match="no derivative to check"):
        check_gradients(lambda *x: Value(1.0), *arguments, order=order)


def test_arguments_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match=r"v\[1\] is nan"):
        check_gradients(lambda v: v[0], [1.0, math.nan])
