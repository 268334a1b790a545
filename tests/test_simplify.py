"""simplify: fewer Values, of the same data."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import programs

from autograd import Value, compile, derive, dot, total
from autograd.graph import topological_order
from autograd.node import data_of
from autograd.program.simplify import PRIMITIVES, RULES, _kind_of, _Rewriting, _rules_for, simplify


def operands(a: float, b: float, c: float) -> Any:
    """Operands of many forms: numbers, what is the same for all rows, and what is one number a row."""
    rows = Value(1.0, "N")  # for one row, the sum over the rows is what is in that row
    x, y, u = Value(a, "x"), Value(b, "y"), Value(c, "u")
    scaled = [PRIMITIVES["mul"](number, v) for number in (2.5, 0.4) for v in (x, x + y, u * y)]
    sums = [x + y, x - u, 0.0 - x, x + u * rows, -x, -(x * y), -(u / rows), (x - u) / y]
    products = [u * x, x * u, x * y, u * rows, x / u, (x * y) / u, u / rows, c / rows, 1.0 / rows]
    return (
        rows,
        {x, y},
        [x, y, u, rows, *scaled, *sums, *products],
        [0.0, 1.0, -1.0, -4.0, 2.0, 8.0, 7.0, 0.5, -0.5, 1.5, -2.5, c, math.inf, -math.inf],
    )


@pytest.mark.parametrize(("name", "form", "rewrite"), RULES, ids=[f"{of}: {name}" for name, of, _ in RULES])
def test_every_rule_applies_and_keeps_the_value(name: str, form: str, rewrite: Callable[..., Any]) -> None:
    op, applied = form.split()[0], 0
    for a, b, c in ((1.7, 0.6, 2.3), (0.9, 3.1, 0.4)):
        rows, by_row, values, numbers = operands(a, b, c)
        to = _Rewriting(by_row, rows)
        for v in topological_order(*values):
            to.used_once.add(v)
            if not to.by_row.isdisjoint(v.parents):
                to.by_row.add(v)
        to.varied.update(v for v in values if v.op == "mul")
        both = [*values, *numbers]
        if op in ("logical_and", "logical_or", "where"):
            both = [Value(1.0), Value(0.0), 1.0, 0.0]
        if PRIMITIVES[op].dy is None:
            pairs: Any = [(x, None) for x in values]
        else:
            pairs = itertools.product(both, [(values[0], 2.0)] if op == "where" else both)
        for x, y in pairs:
            try:
                expected = PRIMITIVES[op](x) if y is None else PRIMITIVES[op](x, y)
            except (ArithmeticError, ValueError):
                continue
            if not isinstance(expected, Value) or rewrite not in _rules_for(
                PRIMITIVES[op], _kind_of(x), _kind_of(y)
            ):
                continue
            if (found := rewrite(to, x, y)) is not False:
                applied += 1
                assert data_of(found) == pytest.approx(expected.data, rel=1e-15, abs=1e-15)
    assert applied, f"nothing here is of the form of {name}"


@settings(deadline=None)
@given(programs(), st.integers(0, 3))
def test_any_graph_keeps_its_values(program: Any, columns: int) -> None:
    leaves = [Value(x, f"x{i}") for i, x in enumerate(program.inputs)]
    output = program(*leaves)
    outputs = [output, *derive(output, leaves)]
    became = simplify(outputs, leaves[:columns])
    kept = [became[v] for v in outputs]
    assert [data_of(v) for v in kept] == pytest.approx([v.data for v in outputs], rel=1e-13, abs=1e-14)


def test_constants_are_not_multiplied_where_that_would_underflow() -> None:
    x = Value(1e300)
    out = 1e-200 * (1e-200 * x)
    assert simplify([out])[out].data == out.data != 0.0


def test_equal_values_become_one() -> None:
    x, y = Value(2.0), Value(3.0)
    out = (x * y).exp() + (y * x).exp() * (x + 0.0) ** 1
    became = simplify([out])[out]
    assert [v.op for v in topological_order(became)].count("exp") == 1


def test_a_rule_for_one_number_applies_if_all_that_is_computed_alike_has_it() -> None:
    xs = [Value(float(i), f"x{i}") for i in range(1, 4)]
    for numbers, products in (((1.0, 2.0, 3.0), 3), ((1.0, 1.0, 1.0), 0), ((0.0, 0.0, 0.0), 3)):
        outputs = [(c * x).sin() for c, x in zip(numbers, xs)]
        kept = [simplify(outputs)[v] for v in outputs]
        assert [v.op for v in topological_order(*kept)].count("mul") == products
    alone = 1.0 * xs[0]
    assert simplify([alone])[alone] is xs[0]
    sums = [sum(c * x for c, x in zip(row, xs)) for row in ((1.0, 0.0, -1.0), (0.0, 1.0, 2.0))]
    became = simplify(sums)
    assert [became[v].x for v in sums] == [(1.0, 0.0, -1.0), (0.0, 1.0, 2.0)]
    assert [became[v].data for v in sums] == [-2.0, 8.0]


def test_chains_of_additions_become_sums_and_dots() -> None:
    xs, ws = ([Value(float(i + k)) for i in range(5)] for k in (1, 3))
    chain = sum((w * x for w, x in zip(ws, xs)), Value(7.0)) - xs[0].sin()
    became = simplify([chain])[chain]
    ops = [v.op for v in topological_order(became) if v.op]
    assert sorted(ops) == ["add", "dot", "sin", "sub"] and became.data == pytest.approx(chain.data)
    plain = xs[0].sin() + xs[1].sin() + xs[2].sin() + xs[3].sin()
    assert simplify([plain])[plain].op == "total"


def test_what_others_use_stays_and_repeated_terms_are_counted() -> None:
    x, y = Value(2.0), Value(3.0)
    shared = x + y
    out = (shared + x).exp() * shared
    assert [v.op for v in topological_order(simplify([out])[out])].count("add") == 2
    for v in (total([x, y, x]), dot([x, y, x], [y, x, y]), x + x + y):
        assert simplify([v])[v].data == v.data


def test_numbers_may_be_anywhere_in_a_dot() -> None:
    rng = np.random.default_rng(4)
    w, x = [Value(v, f"w[{i}]") for i, v in enumerate(rng.normal(size=4))], rng.normal(size=(3, 4))
    places = rng.integers(7, size=(60, 2, 3))  # of a leaf, and of data, or of a number

    def dots(x: Any) -> list[Any]:
        return [
            dot([[*w, 0.0, 1.0, 2.5][i] for i in first], [[*x, 0.0, 0.0, 0.5][i] for i in second])
            for first, second in places
        ]

    expected = [[float(v) if isinstance(v, float) else v.item() for v in dots(row)] for row in x]
    np.testing.assert_allclose(compile(dots, engine="numpy").per_example(x), expected, rtol=1e-13)
    loss = compile(lambda x: total(dots(x)).sin(), engine="auto")
    total([total(dots(row)).sin() for row in x]).backward()
    gradient = [v.grad / len(x) for v in w]
    for v in w:
        v.grad = 0.0
    loss.backward(x)
    np.testing.assert_allclose([v.grad for v in w], gradient, rtol=1e-12)


def test_a_term_that_equals_a_dot_in_the_recorded_row_is_another_term() -> None:
    w = [Value(1.0), Value(2.0)]

    def f(x: Any) -> Any:
        product = dot(w, x)
        return [total([0.0 * x[1].sin(), x[0].tanh(), product]), product * product]

    rows = np.array([[0.0, 0.0], [0.5, -1.0]])
    expected = np.array([[0.0, 0.0], [math.tanh(0.5) - 1.5, 2.25]])
    assert compile(f, engine="numpy").per_example(rows) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(
    "step",
    [
        lambda a, w: sum([a, w]),
        lambda a, w: sum([a, w * w + w]),
        lambda a, w: 0.0 + (a + w * w),
        lambda a, w: 0.0 - (w - a) + 0.0,
    ],
)
def test_sums_of_sums_take_no_recursion(step: Callable[..., Any]) -> None:
    w = Value(0.5)
    out = Value(1.0)
    for _ in range(1500):
        out = step(out, w)
    assert simplify([out])[out].data == pytest.approx(out.data, rel=1e-12)
