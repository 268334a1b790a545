"""Transforms of functions: what they compute, in which form, and of one another."""

import collections
import contextlib
import copy
import math
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from programs import gradients, programs

import autograd
import nn
from autograd import (
    Value,
    check_gradients,
    derive,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    maximum,
    value_and_grad,
)

W, X = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.0]]), np.array([0.3, -0.7, 1.1])


def mixed(w: Any, x: Any, scale: Any = 1.0) -> Any:
    """Of an array, a list and a number."""
    h = np.tanh(w @ np.array(x)) * scale
    return h[0] * np.exp(-h[1]) + np.sum(w**2) / (1.0 + np.exp(-x[0]))


def same(found: Any, expected: Any) -> None:
    if isinstance(expected, list | tuple):
        assert type(found) is type(expected) and len(found) == len(expected)
        for pair in zip(found, expected):
            same(*pair)
    else:
        assert np.shape(found) == np.shape(expected)
        np.testing.assert_allclose(np.asarray(found, dtype=float), expected, rtol=1e-12, atol=1e-12)


# What they compute


def test_derivatives_of_a_power_to_any_order() -> None:
    f: Callable[..., Any] = lambda x: x**6  # noqa: E731
    factor = 1.0
    for n in range(7):
        x = 1.5
        assert f(x) == pytest.approx(factor * x ** (6 - n), rel=1e-14)
        f, factor = grad(f), factor * (6 - n)
    assert f(1.5) == 0.0


@settings(deadline=None, max_examples=50)
@given(programs(max_depth=3))
def test_transforms_of_random_programs_agree_with_one_another(program: Any) -> None:
    inputs, n = list(program.inputs), len(program.inputs)
    f: Callable[..., Any] = lambda v: program(*v)  # noqa: E731
    value, gradient = gradients(program, *inputs)
    same(value_and_grad(f)(inputs), (value, gradient))
    same(
        jacobian(lambda v: np.array([f(v), v[0]]))(inputs),
        [np.array([g, float(i == 0)]) for i, g in enumerate(gradient)],
    )
    direction = [1.0 / (i + 1) for i in range(n)]
    result, slope = jvp(f, (inputs,), (direction,))
    same((result, slope), (value, float(np.dot(gradient, direction))))
    leaves = [Value(x) for x in inputs]
    try:
        second = hessian(f)(inputs)
    except ArithmeticError:  # that of √√x at 1e-190 overflows
        with pytest.raises(ArithmeticError):
            [derive(g, leaves) for g in derive(program(*leaves), leaves)]
        return
    same(second, [[h.data for h in derive(g, leaves)] for g in derive(program(*leaves), leaves)])
    same(hvp(f, (inputs,), (direction,)), (np.array(second) @ direction).tolist())


@pytest.mark.oracles
def test_forms_and_numbers_are_those_of_jax() -> None:
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def theirs(w: Any, x: Any, scale: Any = 1.0) -> Any:
        h = jnp.tanh(w @ jnp.array(x)) * scale
        return h[0] * jnp.exp(-h[1]) + jnp.sum(w**2) / (1.0 + jnp.exp(-x[0]))

    def ours_of_many(w: Any, x: Any) -> Any:
        return [np.sin(w), w[0] @ np.array(x), (x[0], np.outer(x, x))]

    def theirs_of_many(w: Any, x: Any) -> Any:
        return [jnp.sin(w), w[0] @ jnp.array(x), (x[0], jnp.outer(jnp.array(x), jnp.array(x)))]

    x = X.tolist()
    for argnums in (0, 1, (0, 1), (1,), -1):
        same(grad(mixed, argnums)(W, x, scale=2.0), jax.grad(theirs, argnums)(W, x, scale=2.0))
        same(value_and_grad(mixed, argnums)(W, x), jax.value_and_grad(theirs, argnums)(W, x))
        same(jacobian(ours_of_many, argnums)(W, x), jax.jacobian(theirs_of_many, argnums)(W, x))
        same(hessian(mixed, argnums)(W, x), jax.hessian(theirs, argnums)(W, x))
    tangents = (np.ones((2, 3)), [1.0, 2.0, 3.0])
    same(jvp(mixed, (W, x), tangents), jax.jvp(theirs, (W, x), tangents))
    same(jvp(ours_of_many, (W, x), tangents), jax.jvp(theirs_of_many, (W, x), tangents))
    same(
        hvp(mixed, (W, x), tangents[:1]),
        jax.jvp(lambda w: jax.grad(theirs)(w, x), (W,), tangents[:1])[1],
    )


def test_results_have_the_form_of_the_argument() -> None:
    number = grad(lambda x: x * x)(np.float64(3.0))
    assert (number, type(number), type(grad(lambda x: x * x)(3))) == (6.0, float, float)
    assert grad(lambda x: np.sum(x * x))(np.array([1, 2])).tolist() == [2.0, 4.0]
    assert grad(lambda x: x * x)(np.array(3.0)).shape == ()
    assert grad(lambda v: v[0][0] * v[1])([(2.0,), 5.0]) == [(5.0,), 2.0]
    assert grad(lambda v: 0.0)([]) == [] and jacobian(lambda v: v)(np.zeros((0, 2))).shape == (0, 2, 0, 2)
    nested = jacobian(lambda v: [v * 2.0, (v[0], 1.0)])(np.array([1.0, 2.0]))
    same(nested, [np.eye(2) * 2.0, (np.array([1.0, 0.0]), np.zeros(2))])


def test_arguments_that_are_ignored_and_results_that_are_numbers() -> None:
    assert grad(lambda x, y: y * y)(2.0, 3.0) == 0.0
    assert grad(lambda x: 7)(2.0) == 0.0
    assert value_and_grad(lambda x: math.pi)([1.0, 2.0]) == (math.pi, [0.0, 0.0])
    assert jvp(lambda x: [x, 7.0], (2.0,), (3.0,)) == ([2.0, 7.0], [3.0, 0.0])
    assert hessian(lambda x: 3.0 * x)(2.0) == 0.0


def test_other_arguments_are_passed_on_as_they_are() -> None:
    seen = []

    def f(x: Any, table: dict[str, float], *, name: str) -> Any:
        seen.append((type(table), name))
        return x * table["a"]

    assert grad(f)(2.0, {"a": 3.0}, name="n") == 3.0
    assert seen == [(dict, "n")]
    given = np.array([1.0, 2.0])

    def writes(x: Any) -> Any:
        x[0] = x[1] * x[1]
        return x[0]

    assert grad(writes)(given).tolist() == [0.0, 4.0] and given.tolist() == [1.0, 2.0]


# Of one another, and of Values from elsewhere


def test_a_derivative_within_a_function_is_by_its_own_argument_alone() -> None:
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(2.0) == 1.0  # Siskind and Pearlmutter's example
    assert grad(lambda x: x * grad(lambda y: x * y)(x))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * y * y)(2.0))(3.0) == 4.0
    assert grad(lambda x: jvp(lambda y: y * y, (3.0,), (x,))[1])(2.0) == 6.0
    assert grad(lambda x: jvp(lambda y: y * y * x, (x,), (1.0,))[1])(3.0) == 12.0
    assert jvp(grad(lambda x: x**3), (2.0,), (1.0,)) == (12.0, 12.0)
    assert grad(grad(lambda x: jacobian(lambda y: [y * x, y**2 * x])(x)[1]))(5.0) == 4.0


def test_training_can_be_differentiated() -> None:
    def trained(rate: Any) -> Any:
        w = 1.0
        for _ in range(3):
            w = w - rate * grad(lambda w: (w - 3.0) ** 2)(w)
        return w

    # w − 3 shrinks by 1 − 2 rate a step
    assert trained(0.25) == 3.0 - 2.0 * 0.5**3
    assert grad(trained)(0.25) == 2.0 * 3 * 0.5**2 * 2


def test_what_depends_on_parameters_is_values_and_trains() -> None:
    model = nn.MLP(1, [3, 1], activation="tanh", rng=np.random.default_rng(0))
    slope = grad(model)([0.5])[0]
    assert isinstance(slope, Value)
    loss = (slope - 2.0) ** 2
    loss.backward()
    p, h = model.parameters()[1], 1e-5
    moved = []
    for step in (h, -h):
        p.data += step
        moved.append((grad(model)([0.5])[0].data - 2.0) ** 2)
        p.data -= step
    assert p.grad == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=1e-6)
    assert model.parameters()[0].grad != 0.0
    program = autograd.compile(lambda x: (grad(model)([x])[0] - 2.0) ** 2)
    assert program(np.array([0.5])) == pytest.approx(loss.data, rel=1e-12)


def test_values_as_arguments_give_values_and_their_grads_are_left_alone() -> None:
    x = Value(2.0)
    x.grad = 5.0
    slope = grad(lambda x: x**3)(x)
    assert (slope.data, x.grad) == (12.0, 5.0)
    assert derive(slope, [x])[0].data == 12.0
    value, slopes = value_and_grad(lambda v: v[0] * v[1])([x, 4.0])
    assert [value.data, *(s if isinstance(s, float) else s.data for s in slopes)] == [8.0, 4.0, 2.0]
    assert grad(lambda v: np.sum(v * v))(np.array([x, 1.0]))[0].data == 4.0


def test_a_compiled_gradient() -> None:
    f = autograd.compile(grad(lambda x, w: np.sin(x * w)))
    assert f.per_example(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == pytest.approx(
        [3.0 * math.cos(3.0), 4.0 * math.cos(8.0)], rel=1e-14
    )


def test_dicts_of_arguments_and_results() -> None:
    given = {"w": np.array([1.0, 2.0]), "more": [3.0, ({"k": 4.0},)]}

    def f(p: dict[str, Any]) -> Any:
        return {"a": p["w"] * p["more"][0], "b": p["more"][1][0]["k"] * p["w"][0] ** 2}

    def loss(p: dict[str, Any]) -> Any:
        return f(p)["a"].sum() * f(p)["b"]

    value, slopes = value_and_grad(loss)(given)
    assert value == 36.0 and list(slopes) == ["w", "more"] and slopes["w"].tolist() == [84.0, 12.0]
    assert slopes["more"] == [12.0, ({"k": 9.0},)]
    by = jacobian(f)(given)
    assert by["a"]["w"].tolist() == [[3.0, 0.0], [0.0, 3.0]] and by["b"]["more"] == [0.0, ({"k": 1.0},)]
    assert hessian(loss)(given)["more"][1][0]["k"]["w"].tolist() == [21.0, 3.0]
    tangent = {"more": [0.0, ({"k": 1.0},)], "w": np.array([1.0, 0.0])}  # in another order
    assert jvp(f, (given,), (tangent,))[1]["b"] == 9.0
    assert hvp(loss, (given,), (tangent,))["w"].tolist() == [141.0, 27.0]
    check_gradients(loss, given, order=2)
    with pytest.raises(AssertionError, match=r"∂f/∂p\['w'\]\[1\]"):
        check_gradients(lambda p: p["w"][0] * p["w"][1].data, given)
    with pytest.raises(ValueError, match=r"tangents have shapes.*'more'"):
        jvp(f, (given,), ({"w": np.ones(2)},))
    found = autograd.compile(lambda w: jacobian(f)({**given, "w": w})).per_example(np.array([[1.0, 2.0]]))
    assert found["b"]["w"].tolist() == [[8.0, 0.0]] and found["b"]["more"][1][0]["k"].tolist() == [1.0]


# What they refuse


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grad(lambda x: [x, x])(1.0), "one output.*jacobian"),
        (lambda: grad(lambda x: x)(np.ones(2)), "one output.*jacobian"),
        (lambda: grad(lambda x: None)(1.0), "returned None"),
        (lambda: jacobian(lambda x: [x, "a"])(1.0), "returned .*'a'"),
        (lambda: grad(3.0), "only a function.*3.0"),  # type: ignore[arg-type]
        (lambda: jvp("f", (1.0,), (1.0,)), "only a function"),  # type: ignore[arg-type]
        (lambda: jvp(np.sin, 1.0, 1.0), "tuples"),  # type: ignore[arg-type]
        (lambda: jvp(np.sin, (1.0,), 1.0), "tuples"),  # type: ignore[arg-type]
        (lambda: jvp(np.sin, (1.0,), ("a",)), "str 'a'"),
        (lambda: grad(abs, argnums="0"), "argnums"),  # type: ignore[arg-type]
        (lambda: hessian(abs, argnums=(0, 1.0)), "argnums"),  # type: ignore[arg-type]
        (lambda: grad(lambda x: x)("2"), "differentiated by.*str"),
        (lambda: grad(lambda x: x)({"a": 1.0}), "one output.*jacobian"),
        (lambda: grad(lambda x: x["a"])({"a": 1.0, "b": [2.0, "c"]}), r"argument 0\['b'\]\[1\]: .*str 'c'"),
        (lambda: jacobian(lambda x: {"y": x, "z": "q"})(1.0), r"returned .*see result\['z'\]"),
        (lambda: grad(lambda x: x)(2j), "differentiated by.*complex"),
    ],
)
def test_what_cannot_be_differentiated_is_said(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call()


def writes_to_floats(x: Any) -> Any:
    out = np.zeros(2)
    out[0] = x[0] * 2.0
    return out.sum()


@pytest.mark.parametrize(
    ("f", "use"),
    [
        (lambda x: math.sin(x[0]), "a Value is no float"),
        (lambda x: float(x[1]), "a Value is no float"),
        (
            lambda x: ThreadPoolExecutor().submit(lambda: math.exp(x[1])).result() * x[1],
            "a Value is no float",
        ),
        (writes_to_floats, "a Value is no float"),
        (lambda x: autograd.compile(lambda a: a * x[0])(np.array([1.0, 2.0])), "runs a program over"),
        (lambda x: x[0] if x[1] else x[2], "takes the bool() of"),
        (lambda x: x[0] * {2.0: 5.0}.get(x[1], 1.0), "looks up"),
        (lambda x: (x[0] * x[1]).grad * x[0], "reads the grad of"),
        (lambda x: ThreadPoolExecutor().submit(lambda: x[0].grad).result() * x[0], "reads the grad of"),
        (lambda x: copy.deepcopy(list(x))[0] * 2.0, "copies"),
        (lambda x: copy.copy(x[0]) * 2.0, "copies"),
        (lambda x: pickle.loads(pickle.dumps(x[0] * 2.0)), "copies"),
    ],
)
def test_a_derivative_that_would_be_lost_is_an_error(f: Callable[..., Any], use: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        grad(f)(X)
    error = caught.value.__cause__ or caught.value
    assert use in str(error) and "at test_transforms.py" in str(error)
    bool(Value(1.0)), copy.copy(Value(1.0))  # elsewhere they are fine


def test_what_is_kept_from_a_call_that_failed_has_its_derivative() -> None:
    kept = []

    def inner(y: Any) -> None:
        kept.append(y**3)
        raise ValueError

    def outer(x: Any) -> Any:
        with contextlib.suppress(ValueError):
            grad(inner)(x)
        return kept[0]

    assert grad(outer)(2.0) == 12.0


def test_a_result_is_never_the_parameter_itself() -> None:
    w = Value(3.0, "w")
    slope = grad(lambda x: w * x)(2.0)
    slope.label, slope.data = "slope", 0.0
    assert (w.label, w.data) == ("w", 3.0)
    assert derive(grad(lambda x: w * x)(2.0), [w])[0].data == 1.0


def test_named_tuples_stay_what_they_are() -> None:
    Point = collections.namedtuple("Point", "a b")
    assert grad(lambda p: p.a * p.b)(Point(2.0, 3.0)) == Point(3.0, 2.0)
    assert jacobian(lambda x: Point(x, x * x))(2.0) == Point(1.0, 4.0)


def test_functions_may_branch_and_use_numpy() -> None:
    assert grad(lambda x: x * x if x > 1.0 else -x)(2.0) == 4.0
    for f in (
        np.var,
        np.prod,
        np.max,
        np.linalg.norm,
        lambda x: np.vdot(x, x),
        lambda x: np.clip(x, 0, 1) @ x,
    ):
        check_gradients(f, X)
    assert grad(lambda x: x.data * x)(3.0) == 3.0


def test_arguments_that_are_not_there() -> None:
    with pytest.raises(ValueError, match=r"called with 1 arguments, and argnums is \(0, 2\)"):
        grad(lambda x: x, argnums=(0, 2))(1.0)
    with pytest.raises(ValueError, match=r"argnums is \(0, -2\)"):
        jacobian(lambda x, y: x, argnums=(0, -2))(1.0, 2.0)
    with pytest.raises(ValueError, match=r"tangents have shapes \[\(3,\)\], and the arguments \[\(2,\)\]"):
        jvp(lambda x: x, (np.ones(2),), (np.ones(3),))
    with pytest.raises(ArithmeticError, match="sqrt"):
        grad(np.sqrt)(0.0)
    assert grad(lambda x, y: maximum(x, y), argnums=-1)(1.0, 2.0) == 1.0
