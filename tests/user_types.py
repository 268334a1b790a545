"""A program as a user types it. mypy reads it, and test_types.py runs it, so that the types are true.

`assert_type` is a check of the static type for mypy, and of the object's class when it runs.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, get_origin

import numpy as np

import autograd
import nn
from autograd import Value, maximum, minimum, where

if TYPE_CHECKING:
    from typing_extensions import assert_type  # noqa: UP035  (typing has it from Python 3.11 on)
else:

    def assert_type(x, of):
        assert of is Any or isinstance(x, get_origin(of) or of), f"{x!r} is not of type {of}"


Array = np.ndarray[Any, Any]

v, w = Value(2.0), Value(3)
array = np.ones(2)
X, Y = nn.data.xor()
Y = Y[:, 0]
model = nn.MLP(2, [3, 1], rng=np.random.default_rng(0))
sgd = nn.SGD(model.parameters(), lr=0.1)


@autograd.compile
def loss(x: Array, y: Value) -> Value:
    return nn.squared_error(model(x), y)


@autograd.compile(reduce="sum", engine="numpy")
def summed(x: Any, y: Any) -> Value:
    return nn.squared_error(model(x), y)


def product(x: float, y: float = 2.0) -> float:
    return x * x * y


class Line(nn.Module):
    def __init__(self) -> None:
        self.w = Value(1.0)

    def __call__(self, x: Array) -> Value:
        out: Value = self.w * x[0]
        return out

    @autograd.compile
    def loss(self, x: Array, y: Value) -> Value:
        return (self(x) - y) ** 2


def operators() -> None:
    for number in (2, 0.5, True, np.float64(2), np.float32(2), np.int64(2), Fraction(1, 2)):
        assert_type(v * number, Value)
        assert_type(number - v, Value)
    assert_type(-(v + w) / w ** abs(v), Value)
    assert_type(2**v + 2.0**v, Value)
    assert_type(v * array, Array)
    assert_type(array * v, Array)
    assert_type(array - v, Array)
    assert_type(v < array, Array)
    assert_type(v == array, Array)
    assert_type(v > 0.5, bool)
    assert_type(v == w, bool)
    assert_type(v != None, bool)  # noqa: E711
    assert_type((v > 0) & (w < 2), bool)
    assert_type(max(v, w).exp(), Value)
    assert_type(sorted([v, w]), list[Value])
    assert_type(sum([v, w], Value(0.0)), Value)
    assert_type(np.exp(v), Any)
    assert_type(maximum(v, 0.0) + minimum(1, v, w), Value)
    assert_type(where(v > 0, v, 0.0), Value)
    assert_type(where(v > 0, lambda: v.sqrt(), 0.0), Value)
    assert_type(v.data + v.item(), float)
    v.data, v.grad = 2, np.float64(0.0)
    if v > w:
        v.backward()


def models() -> None:
    p = model([0.0, 1.0])
    p.backward()
    assert_type(p * 2.0, Value)
    assert_type(2.0 * p, Value)
    assert_type(p.data, float)
    value: Value = p
    several: list[Value] = nn.Layer(2, 2)(array)
    assert_type(nn.Layer(2, 2)(array)[0], Value)
    assert_type(value + several[1], Value)
    assert_type(Line()(array), Value)
    nn.fit(model, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=1, engine="scalar")


def programs() -> None:
    assert_type(loss(X, Y), float)
    assert_type(loss(x=X, y=Y), float)
    assert_type(loss.backward(X.tolist(), Y), float)
    assert_type(summed(X, Y), float)
    assert_type(Line().loss(X, Y), float)
    assert_type(loss.value_and_grad(X, Y), tuple[float, list[Array]])
    autograd.compile(nn.Layer(2, 2))(X)[0]
    autograd.compile(lambda x: [x, 2.0 * x]).per_example(Y)[1]
    autograd.compile(lambda x: {"square": x**2})(Y)["square"]


def transforms() -> None:
    assert_type(autograd.value_and_grad(product)(1.0, y=3.0), tuple[Any, Any])
    autograd.grad(product)(1.0)
    autograd.hessian(product, argnums=(0, 1))(1.0, 2.0)
    autograd.grad(lambda x: (x**2).sum())(array)
    autograd.jvp(autograd.grad(lambda x: x**3), (1.0,), (1.0,))
    autograd.check_gradients(autograd.grad(lambda x: x**3), 1.0)


MISTAKES: list[Callable[[], object]] = [
    lambda: v.backwards(),  # type: ignore[attr-defined]
    lambda: (2.0 * v).backwards(),  # type: ignore[attr-defined]
    lambda: maximum(v, 0.0).backwards(),  # type: ignore[attr-defined]
    lambda: model([0.0, 1.0]).backwards(),  # type: ignore[attr-defined]
    lambda: loss.backwards(X, Y),  # type: ignore[attr-defined]
    lambda: summed.backwards(X, Y),  # type: ignore[attr-defined]
    lambda: Line().loss.backwards(X, Y),  # type: ignore[attr-defined]
    lambda: loss(X, Y).backward(),  # type: ignore[attr-defined]
    lambda: loss(X, len),  # type: ignore[call-overload]
    lambda: autograd.compile(model, engine="numba"),  # type: ignore[call-overload]
    lambda: autograd.compile(reduce="max")(model),  # type: ignore[call-overload]
    lambda: autograd.compile(3),  # type: ignore[call-overload]
    lambda: nn.fit(model, X, Y, loss=nn.hinge, optimizer=sgd, epochs=1, engine="numba"),  # type: ignore[arg-type]
    lambda: autograd.grad(product)(),  # type: ignore[call-arg]
    lambda: autograd.hessian(product)(1.0, z=1.0),  # type: ignore[call-arg]
    lambda: v * "2",  # type: ignore[call-overload]
    lambda: v * [1.0],  # type: ignore[call-overload]
    lambda: v < "2",  # type: ignore[call-overload]
    lambda: float(v),  # type: ignore[arg-type]
    lambda: math.exp(v),  # type: ignore[arg-type]
    lambda: Value("2"),  # type: ignore[arg-type]
    lambda: Value(v),  # type: ignore[arg-type]
]
