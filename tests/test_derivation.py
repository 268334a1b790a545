"""Derivations: the short forms of textbooks come out, and what is shown is the derivative."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_explain import evaluated

from autograd import Value, derivation, grad, maximum, ops
from autograd.learn.derivation import DEFINITIONS
from autograd.learn.formula import Name, Number, names_in, substituted


@pytest.mark.parametrize(
    "f, result",
    [
        ("sigmoid", "σ(1 − σ)"),
        ("tanh", "1 − tanh²"),
        ("softplus", "σ(x)"),
        ("exp", "exp"),
        ("log", "1 / x"),
        ("sqrt", "0.5 / sqrt"),
        ("sin", "cos(x)"),
        (lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()), "1 − y²"),
        (lambda x: x.tanh(), "1 − y²"),
        (lambda x: 0.5 * (1.0 + (x / 2.0).tanh()), "y(1 − y)"),
        (lambda x: 2.0 * (2.0 * x).sigmoid() - 1.0, "1 − y²"),
        (lambda x: ((x.exp() + (-x).exp()) / 2.0).log(), "tanh(x)"),
        (lambda x: -(1.0 + (-x).exp()).log(), "σ(−x)"),
        (lambda x: x**3 - 2.0 * x + 1.0, "3 · x² − 2"),
        (lambda x: (-x * x).exp(), "(−2 · x) · y"),
        (lambda x: x.sqrt() * x, "1.5 · √(x)"),
        (lambda x: x - x, "0"),
        (lambda x: x, "1"),
    ],
)
def test_short_forms(f: Any, result: str) -> None:
    d = derivation(f)
    assert str(d.result) == result and d.is_short and d.largest_difference < 1e-6


@pytest.mark.parametrize(
    "f", [lambda x: x * x.sigmoid(), lambda x: x * x.softplus().tanh(), lambda x: 3.0 * maximum(x, 1.0)]
)
def test_what_has_no_short_form_is_shown_as_it_is(f: Callable[..., Any]) -> None:
    d = derivation(f)
    assert not d.is_short and "No shorter form was found" in str(d)
    for x in (-1.5, 0.3, 2.5):
        assert evaluated(substituted(d.result, {Name("x"): Number(x)})) == pytest.approx(
            grad(f)(x), rel=1e-12
        )


def test_each_step_of_sigmoid_is_said() -> None:
    d = derivation("sigmoid")
    assert [step.rule.split()[0] for step in d.steps] == ["Name", "Differentiate", "The", "Solve", "Put"]
    text = str(d)
    for line in (
        "σ = 1 / c",
        "∂σ/∂c = −σ / c",
        "σ′ = ∂σ/∂c · ∂c/∂b · ∂b/∂a · ∂a/∂x = (−σ / c) · b · (−1)",
        "b = c − 1 = (1 − σ) / σ",
        "= σ − σ² = σ(1 − σ)",
        "Check: at 1,000 points",
    ):
        assert line in text
    assert r"\sigma" in d.latex() or "σ" in d.latex()
    assert "<math" in d._repr_html_()


@pytest.mark.parametrize("row", DEFINITIONS, ids=lambda row: row.name)
def test_definitions_are_the_rows_of_the_table(row: Any) -> None:
    for x in np.linspace(-5.0, 5.0, 11):
        f = DEFINITIONS[row]
        assert f(Value(x)).data == pytest.approx(row.compute(float(x)), rel=1e-12)
        assert grad(f)(x) == pytest.approx(grad(row)(x), rel=1e-12)


# {x} is what stands there before; the results stay of moderate size
TEXT = """
{x} + 1.5|2.0 - {x}|0.5 * {x}|-{x}|{x} / 4.0|1.0 / (1.0 + {x} * {x})|({x}).sigmoid()|({x}).tanh()
({x}).softplus()|(-({x}) * ({x})).exp()|(1.0 + (-({x})).tanh().exp())|({x}).sin()|({x}) * x
({x}) + x.exp() / 50.0|({x}) ** 2 / 9.0
"""
STEPS = TEXT.strip().replace("\n", "|").split("|")


@settings(max_examples=20, deadline=None)
@example(["0.5 * {x}", "({x}).sigmoid()", "1.0 / (1.0 + {x} * {x})"])
@example(["0.5 * {x}", "{x} / 4.0", "({x}).sigmoid()", "1.0 / (1.0 + {x} * {x})"])
@example(["0.5 * {x}", "{x} / 4.0", "({x}) ** 2 / 9.0", "({x}) ** 2 / 9.0", "(-({x}) * ({x})).exp()"])
@given(st.lists(st.sampled_from(STEPS), min_size=1, max_size=5))
def test_results_of_random_functions_are_their_derivatives(steps: list[str]) -> None:
    text = "x"
    for step in steps:
        text = step.format(x=f"({text})")
    f = eval(f"lambda x: {text}")
    if max(abs(f(Value(x)).data) for x in (-4.0, 0.0, 4.0)) > 1e3:
        return
    d = derivation(f)
    if not {*names_in(d.result)} <= {"x", d.function}:
        assert not d.is_short  # it would be too long, and is in the pieces
        return
    for x in (-2.3, 0.4, 1.9):
        numbers: dict[Any, Any] = {Name("x"): Number(x), Name(d.function): Number(f(Value(x)).data)}
        found = evaluated(substituted(d.result, numbers))
        assert found == pytest.approx(grad(f)(x), rel=1e-9, abs=1e-12), text


def test_names_do_not_meet() -> None:
    a, w1, w2 = Value(3.0, "a"), Value(2.0, "w"), Value(5.0, "w")
    assert str(derivation(lambda x: a * x + 1.0).result) == "a"
    assert str(derivation(lambda x: (w1 * x).sin() + w2).result) == "cos(w#2 · x) · w#2"
    assert derivation(lambda x: (1.0 + x.exp()) ** 2, "u").function == "y"
    assert derivation(lambda x: x.sin() * (w1 * 2.0) * Value(5.0)).largest_difference < 1e-6


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x * (1.0 / 3.0)).tanh() + x.tanh(),
        lambda x: (0.001 * x).exp() + x.tanh(),
        lambda x: functools.reduce(lambda y, _: 0.5 * y * (1.0 - y), range(10), x),
        lambda x: functools.reduce(lambda y, _: y * y.sin(), range(20), x),
        lambda x: functools.reduce(lambda y, _: y * (1.0 / 3.0) * x, range(25), x),
        lambda x: 1e-200 * (1e-200 * x * x) + x,
        lambda x: 2.0 ** (x / 1.4) * x,
    ],
)
def test_what_has_no_short_form_ends_soon(f: Callable[..., Any]) -> None:
    d = derivation(f)
    assert d.largest_difference < 1e-5 and len(str(d)) < 20_000


def test_what_cannot_be_derived_says_why() -> None:
    with pytest.raises(ValueError, match="differences say nothing sure"):
        derivation(lambda x: (1000.0 * x).sin())
    with pytest.raises(ValueError, match=r"a detach\(\)"):
        derivation(lambda x: x * x.detach())
    with pytest.raises(KeyError, match="no primitive of one number is called 'relu6'; there are neg, exp"):
        derivation("relu6")
    with pytest.raises(TypeError, match="mul takes more"):
        derivation("mul")
    with pytest.raises(TypeError, match=r"not 3$"):
        derivation(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"gives a Value for a Value, not 3\.0"):
        derivation(lambda x: 3.0)
    with pytest.raises(
        ValueError, match=r"at x = .* the derivative of this graph is 2, and differences .* say 1"
    ):
        derivation(lambda x: x if x < 0.0 else 2.0 * x)
    with pytest.raises(ValueError, match="no value where it was tried: log"):
        derivation(lambda x: (-1.0 - x * x).log())
    wrong = ops.Primitive("square", "x²", lambda x: x * x, np.square, lambda x, out: 3.0 * x)
    with pytest.raises(ValueError, match="the derivative of this graph is"):
        derivation(wrong)
