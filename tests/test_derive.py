"""derive: gradients as graphs."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from programs import gradients

from autograd import Value, derive, draw


def test_each_derivative_of_a_polynomial_is_a_graph_again() -> None:
    x = Value(3.0, "x")
    found = [x**4]
    for _ in range(5):
        found += derive(found[-1], [x])
    assert [v.data for v in found] == [81.0, 108.0, 108.0, 72.0, 24.0, 0.0]
    assert "x" in draw(found[2]).source


def test_interior_values_and_values_it_does_not_depend_on() -> None:
    x, other = Value(2.0), Value(5.0)
    square = x * x
    assert [g.data for g in derive(square.exp(), [square, x, other])] == [math.exp(4), 4 * math.exp(4), 0.0]
    assert [g.data for g in derive(x, [x])] == [1.0]


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.0, 1.0), (0.0, 2.0), (2.0, 0.0)])
def test_powers_at_zero_have_the_derivatives_that_backward_gives(x: float, y: float) -> None:
    leaves = [Value(x), Value(y)]
    derived = [g.data for g in derive(leaves[0] ** leaves[1], leaves)]
    assert derived == gradients(lambda x, y: x**y, x, y)[1]


def test_second_derivatives_of_a_power_whose_exponent_is_zero() -> None:
    x, y = Value(0.5), Value(0.0)
    by_x, by_y = derive(x**y, [x, y])
    second = [g.data for first in (by_x, by_y) for g in derive(first, [x, y])]
    assert second == pytest.approx([0.0, 2.0, 2.0, math.log(0.5) ** 2], rel=1e-15)


def test_a_derivative_that_is_not_finite_is_named() -> None:
    x = Value(0.0, "x")
    with pytest.raises(FloatingPointError, match=r"sqrt\(x=0.0\) with respect to x=0.0 is not finite"):
        derive(x.sqrt(), [x])


@pytest.mark.parametrize("data", [1.0, 3.0])
def test_data_changed_since_the_recording_are_noticed(data: float) -> None:
    x = Value(2.0)
    out = x * x
    x.data = data
    with pytest.raises(ValueError, match="record it again"):
        derive(out, [x])


@pytest.mark.parametrize(
    ("f", "op"),
    [
        (lambda a, x: a + x, "exp"),  # factors of 1 are left out
        (lambda a, x: a - x, "neg"),
        (lambda a, x: a - x * 3.0, "mul"),
        (lambda a, x: a - x * -3.0, "mul"),
        (lambda a, x: a * x, "mul"),
        (lambda a, x: a * x + x.sin(), "dot"),
        (lambda a, x: a * x + x * x, "dot"),
        (lambda a, x: x * 2.0 + x * 3.0, "add"),
        (lambda a, x: x * 2.0 + x * 3.0 + a * x, "total"),
        (lambda a, x: x * 2.0 + x * 3.0 + x * 4.0 + a * x, "total"),
    ],
)
def test_a_sum_over_the_paths_is_as_few_nodes_as_can_be(f: Callable[..., Any], op: str) -> None:
    a, x = Value(0.5), Value(0.25)
    [slope] = derive(f(a, x).exp(), [x])
    assert slope.op == op and slope.data == pytest.approx(gradients(lambda x: f(a, x).exp(), 0.25)[1][0])


@pytest.mark.parametrize("arguments", [(3.0, []), (Value(1.0), [2.0])])
def test_what_is_no_value_is_refused(arguments: Any) -> None:
    with pytest.raises(TypeError, match="derive takes Values"):
        derive(*arguments)
