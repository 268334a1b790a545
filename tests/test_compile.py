"""compile: programs compute what eager Values do, from the matrices that are in their graphs."""

import copy
import functools
import gc
import importlib
import itertools
import math
import os
import pickle
import re
import sys
import weakref
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from operator import mul
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value, derive, dot, draw, hessian, matvec, maximum, minimum, total, where
from autograd.node import data_of
from autograd.ops import TABLE
from autograd.program.arrays import Gather, Rows, Select
from autograd.program.variant import Kernel

ENGINES = [
    "numpy",
    pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="llvmlite is not installed")),
]
RNG = np.random.default_rng(0)


def leaves(*shape: Any) -> Any:
    array: Any = np.empty(shape, dtype=object)
    array.flat = [Value(x) for x in RNG.normal(size=array.size)]
    return array.tolist()


def eager(f: Callable[..., Any], arrays: list[np.ndarray], live: Any, reduce: str = "mean") -> Any:
    """f's value for each row, their mean or sum, and its gradient, computed with Values, row by row."""
    values = np.frompyfunc(Value, 1, 1)
    rows = [f(*(values(a)[i] if a.ndim > 1 else Value(a[i]) for a in arrays)) for i in range(len(arrays[0]))]
    result = total(rows) * (1.0 / len(rows) if reduce == "mean" else 1.0)
    result.backward()
    grads = [v.grad for v in live]
    for v in live:
        v.grad = 0.0
    return [data_of(row) for row in rows], result.data, grads


def check(f: Any, arrays: list[np.ndarray], live: Any, engine: Any = "numpy", reduce: Any = "mean") -> Any:
    """Compile f, and hold everything that it computes to eager."""
    rows, result, grads = eager(f, arrays, live, reduce)
    p = autograd.compile(f, engine=engine, reduce=reduce)
    close: dict[str, Any] = {"rel": 1e-12, "abs": 1e-13 * len(rows)}
    assert p.per_example(*arrays) == pytest.approx(np.array(rows), **close)
    assert p(*arrays) == pytest.approx(result, **close)
    assert p.backward(*arrays) == pytest.approx(result, **close)
    assert [v.grad for v in live] == pytest.approx(grads, **close)
    value, gradient = p.value_and_grad(*arrays)
    by_leaf = {v: g for vs, gs in zip(p.leaves, gradient) for v, g in zip(vs.flat, gs.flat)}
    assert value == pytest.approx(result, **close)
    assert [by_leaf.get(v, 0.0) for v in live] == pytest.approx(grads, **close)
    for v in live:
        v.grad = 0.0
    return p


def gathers(source: str) -> list[Any]:
    return re.findall("int64|reshape|concat|moveaxis", source)


# The matrices


def lab(n: int = 9) -> Any:
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
    x, y = nn.data.linear(n, np.random.default_rng(1))
    p = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine="numpy")
    p.value_and_grad(x, y)
    return model, x, y, p


def test_the_labs_network_comes_out_as_the_labs_matrix_program() -> None:
    model, x, y, p = lab()
    body = p.source.partition("_gradient(")[2]
    lines = body.splitlines()
    loss = next(i for i, line in enumerate(lines) if " = 0.5 * " in line)
    forward, backward = "\n".join(lines[:loss]), "\n".join(lines[loss + 1 :])
    assert forward.count("@") == 3 and 4 <= backward.count("@") <= 5
    assert body.count("sigmoid(") == 2 and not gathers(p.source)
    assert all(f"{name} = " in body for name in ("h1", "h2", "delta1", "delta2", "delta3", "grad_w1"))
    result, w1, w2, w3 = p.function(np)(x, y, *p.numbers)
    matrix = nn.MatrixMLP.from_state_dict(model.state_dict(), "sigmoid")
    assert result == pytest.approx(matrix.backward(x, y), rel=1e-14)
    for mine, by_hand in zip((w1, w2, w3[None]), matrix.w):
        assert mine == pytest.approx(by_hand.grad, rel=1e-12, abs=1e-16)


def test_every_line_of_the_source_says_the_shape_that_it_has() -> None:
    _, x, y, p = lab(7)
    seen = {}
    source = re.sub(r"^( +)(\w+) = (.*?)  # (\(.*\))$", r"\1\2 = look('\2', \3, '\4')", p.source, flags=re.M)
    namespace: dict[str, Any] = {
        "look": lambda name, array, shape: seen.update({name: (array.shape, shape)}) or array
    }
    exec(source, namespace)
    namespace["program"](np)(x, y, *p.numbers)
    assert len(seen) >= 8 and all(shape == eval(text, {"N": 7}) for shape, text in seen.values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh", "softplus"])
@pytest.mark.parametrize(
    ("nouts", "bias", "loss"),
    [
        ([5, 1], True, nn.squared_error),
        ([3, 4, 2], True, nn.binary_cross_entropy),
        ([2], False, nn.squared_error),
    ],
)
def test_networks_lift_without_gathers(
    engine: Any, activation: str, nouts: list[int], bias: bool, loss: Callable[..., Any]
) -> None:
    model = nn.MLP(3, nouts, activation=activation, bias=bias, rng=np.random.default_rng(0))
    arrays = [RNG.normal(size=(6, 3)), RNG.uniform(size=(6, nouts[-1]))]
    p = check(lambda x, y: loss(model(x), y), arrays, model.parameters(), engine)
    assert not gathers(p.source)
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    assert sorted(a.size for a in p.leaves) == sorted(int(np.prod(shape)) for shape in shapes.values())


def test_a_wide_network_is_no_different() -> None:
    model = nn.MLP(2, [96, 96, 1], activation="tanh", rng=np.random.default_rng(0))
    x, y = nn.data.linear(5, np.random.default_rng(1))
    p = check(lambda x, y: nn.squared_error(model(x), y), [x, y], model.parameters())
    assert not gathers(p.source) and p.source.count("@") == 8


@pytest.mark.parametrize("engine", ENGINES)
def test_the_demo_of_micrograd_in_its_own_operators(engine: Any) -> None:
    w1, b1, w2, b2, w3 = leaves(6, 2), leaves(6), leaves(5, 6), leaves(5), leaves(5)
    parameters = [p for row in (*w1, b1, *w2, b2, w3) for p in row]

    def f(x: Any, y: Any) -> Any:
        for w, b in ((w1, b1), (w2, b2)):
            x = [sum((wi * xi for wi, xi in zip(row, x)), bi).relu() for row, bi in zip(w, b)]
        score = sum(wi * xi for wi, xi in zip(w3, x))
        return (1 + -y * score).relu() + 1e-4 * sum(p * p for p in parameters)

    p = check(f, [RNG.normal(size=(7, 2)), np.sign(RNG.normal(size=7))], parameters, engine)
    assert not gathers(p.source) and p.source.count("@") <= 12


def recurrent(
    sequence: Any,
    w: list[list[Value]] = leaves(4, 3),  # noqa: B008
    u: list[list[Value]] = leaves(4, 4),  # noqa: B008
    v: list[Value] = leaves(4),  # noqa: B008
) -> Any:
    h = [Value(0.0)] * 4
    for x in sequence:
        h = [(dot(wi, x) + dot(ui, h)).tanh() for wi, ui in zip(w, u)]
    return dot(h, v)


def pooled(points: Any, w: list[list[Value]] = leaves(4, 3), v: list[Value] = leaves(4)) -> Any:  # noqa: B008
    hs = [[z.tanh() for z in matvec(w, point)] for point in points]
    return dot([total(h) for h in zip(*hs)], v) ** 2


def residual(
    x: Any,
    w: list[list[Value]] = leaves(3, 3),  # noqa: B008
    b: list[Value] = leaves(3),  # noqa: B008
    v: list[Value] = leaves(3),  # noqa: B008
) -> Any:
    h = [a + (z + c).sigmoid() for a, z, c in zip(x, matvec(w, x), b)]
    return dot(h, v).exp()


def gram(points: Any) -> Any:
    return total([dot(p, q) ** 2 for p in points for q in points])


def cross_entropy(x: Any, w: list[list[Value]] = leaves(4, 3)) -> Any:  # noqa: B008
    z = matvec(w, x)
    return total([v.exp() for v in z]).log() - z[2]


def scaled(x: Any, v: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return dot(v, [(a - m) / s for a, m, s in zip(x, (0.1, 0.2, 0.3), (1.5, 2.0, 3.0))]) ** 2


def convolution(x: Any, k: list[Value] = leaves(2)) -> Any:  # noqa: B008
    return total([dot(k, x[i : i + 2]).tanh() for i in range(2)])


def diagonal(matrix: Any, v: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return dot(v, [(matrix[i][i] * matrix[i][0]).tanh() for i in range(3)])


def gelu(x: Any, w: list[list[Value]] = leaves(4, 3), v: list[Value] = leaves(4)) -> Any:  # noqa: B008
    return dot(v, [0.5 * z * (1.0 + (0.8 * (z + 0.045 * z**3)).tanh()) for z in matvec(w, x)])


def quadratic_form(matrix: Any, v: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return dot(v, matvec(matrix, v))


def patches(x: Any, k: list[Value] = leaves(2)) -> Any:  # noqa: B008
    return total([dot(k, x[2 * i : 2 * i + 2]).tanh() for i in range(2)])


def window(x: Any, w: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return dot(w, x[1:4]) ** 2


def every_other(x: Any, w: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return dot(w, x[1:6:2]) ** 2


def elements(m: Any) -> Any:
    return m[0][2].sin() + m[1][0].exp()


def columns(m: Any, w: list[Value] = leaves(2)) -> Any:  # noqa: B008
    return total([dot(w, row[1:3]).tanh() for row in m])


def in_pairs(x: Any, w: list[Value] = leaves(4), v: list[Value] = leaves(2)) -> Any:  # noqa: B008
    fourfold = [x[0], x[0], x[1], x[1]]
    sums = total([(a * b).tanh() for a, b in zip(w, fourfold)])
    return dot(w, fourfold).tanh() + sums + total([(v[i // 2] * x[i]).tanh() for i in range(4)])


def uneven(x: Any, w: list[Value] = leaves(3), v: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return dot(w, [x[0], x[1], x[3]]).tanh() * dot(v, [x[0], x[2], x[3]]).sin()


def circulant(x: Any, w: list[Value] = leaves(3)) -> Any:  # noqa: B008
    w = w[: len(x)]
    return total([dot(w[i:] + w[:i], x).tanh() for i in range(len(x))])


def triangular(x: Any, w: list[Value] = leaves(3)) -> Any:  # noqa: B008
    return total([dot(w[:n], x[:n]).tanh() for n in (1, 2, 3)])


def off_the_grid(m: Any, w: list[Value] = leaves(4)) -> Any:  # noqa: B008
    return total([(m[i][j] * w[k]).tanh() for k, (i, j) in enumerate([(0, 0), (1, 0), (1, 0), (1, 1)])])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "shape", "whole"),
    [
        (recurrent, (5, 3), True),
        (pooled, (5, 3), True),
        (residual, (3,), True),
        (gram, (4, 3), True),
        (quadratic_form, (3, 3), True),
        (scaled, (3,), True),
        (gelu, (3,), True),
        (diagonal, (3, 3), False),
        (cross_entropy, (3,), False),
        (convolution, (3,), False),
        (patches, (5,), False),
        (window, (5,), True),
        (every_other, (7,), True),
        (elements, (2, 3), True),
        (in_pairs, (4,), False),
        (uneven, (5,), False),
        (circulant, (2,), False),
        (circulant, (3,), False),
        (triangular, (3,), False),
        (off_the_grid, (2, 2), False),
    ],
)
def test_other_structures(f: Callable[..., Any], shape: Any, whole: bool, engine: Any) -> None:
    live = np.array([], dtype=object)
    for default in f.__defaults__ or ():
        live = np.append(live, np.array(default, dtype=object).ravel())
    one_example = lambda x: f(x)  # noqa: E731
    p = check(one_example, [RNG.normal(size=(4, *shape))], list(live), engine, reduce="sum")
    assert not (whole and gathers(p.source))


def test_slices_and_products_are_written_as_one_writes_them() -> None:
    for f, shape, text in (
        (window, (5,), "x[:, 1:4]"),
        (every_other, (7,), "x[:, 1:6:2]"),
        (columns, (3, 4), "x[:, :, 1:3]"),
        (pooled, (5, 3), "xp.tanh(x @ w1.T)"),
        (recurrent, (5, 3), "grad_w1 = tensordot(delta1, x, ((0, 1), (0, 1)))"),
    ):
        p = autograd.compile(lambda x, f=f: f(x), engine="numpy")
        p(np.ones((2, *shape)))
        assert text in p.source


def spectrum(x: Any, w: list[Value] = leaves(8)) -> Any:  # noqa: B008
    sums = []
    for k in range(5):
        for wave in (math.cos, math.sin):
            sums.append(sum(w[n] * x[n] * wave(2 * math.pi * k * n / 8) for n in range(8)))
    return total([z.tanh() for z in sums])


def waves(x: Any, w: list[Value] = leaves(1), v: list[Value] = leaves(6)) -> Any:  # noqa: B008
    return sum(v[k] * (k * w[0] * x[0]).sin() for k in range(6))


def identity(x: Any, w: list[list[Value]] = leaves(3, 3)) -> Any:  # noqa: B008
    a = [[(1.0 if i == j else 0.0) - w[i][j] for j in range(3)] for i in range(3)]
    sums: list[Any] = [sum((a[i][j] * x[j] for j in range(3)), 0.0) for i in range(3)]
    return total([z.tanh() for z in sums])


def constant_matrix(x: Any, w: list[list[Value]] = leaves(3, 3)) -> Any:  # noqa: B008
    a = [[1.0, 0.0, -1.0], [0.0, 1.0, 0.5], [2.0, 1.0, 1.0]]
    h = [z.tanh() for z in matvec(w, x)]
    sums: list[Any] = [sum(a[i][j] * h[j] for j in range(3)) for i in range(3)]
    return total([z.exp() for z in sums])


def oscillators(x: Any, w: list[Value] = leaves(1)) -> Any:  # noqa: B008
    a, z = [[0.0, 1.0, 0.0], [-1.0, 0.0, 1.0], [1.0, 0.0, -1.0]], list(x)
    for _ in range(3):
        z = [z[i] + w[0] * sum(a[i][j] * z[j] for j in range(3)) for i in range(3)]
    return total([t * t for t in z])


def centres(x: Any, v: list[Value] = leaves(6)) -> Any:  # noqa: B008
    offsets = (0.0, 1.0, -1.0, 0.0, 2.0, 0.5)
    return dot(v, [(-((a - c) ** 2)).exp() for a, c in zip(x, offsets)])


def weights(x: Any, v: list[Value] = leaves(5)) -> Any:  # noqa: B008
    return total([c * (a * b).exp() / d for a, b, c, d in zip(v, x, (0.5, 1, 1, 0, -1), (1, 2, 2, 1, 3))])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "n", "lines"),
    [
        (spectrum, 8, 7),
        (waves, 1, 8),
        (identity, 3, 7),
        (constant_matrix, 3, 8),
        (oscillators, 3, 13),
        (centres, 6, 7),
        (weights, 5, 6),
    ],
)
def test_numbers_that_do_nothing_at_some_places_leave_arrays_whole(
    f: Any, n: Any, lines: Any, engine: Any
) -> None:
    live = list(np.array(f.__defaults__[0], dtype=object).ravel())
    live += [v for default in f.__defaults__[1:] for v in default]
    p = check(lambda x: f(x), [RNG.normal(size=(4, n))], live, engine)
    body = p.source.partition("_gradient(")[2].strip().splitlines()
    assert len(body) <= lines + 2 and not re.search("int64|concat", p.source), p.source


def test_a_number_that_does_nothing_to_a_whole_array_is_not_written() -> None:
    def f(x: Any, y: Any) -> Any:
        pairs = [
            (1.0 * x, 2.0 * y),
            (x + 0.0, y + 1.0),
            (0.0 - x, 1.0 - y),
            (x - 0.0, y - 1.0),
            (x / 1.0, y / 2.0),
        ]
        return total([a.sin() * b.sin() for a, b in pairs]) + (1.0 * x.cos() + 0.5 * y.cos())

    p = check(f, [RNG.normal(size=5), RNG.normal(size=5)], [])
    assert not re.search(r"\b1\.0 \* |[-+] 0\.0|/ 1\.0", p.source), p.source
    p = autograd.compile(lambda x, y: (0.0 * x).sin() + (2.0 * y).sin(), engine="numpy")
    with pytest.raises(ArithmeticError):
        p(np.array([np.inf]), np.ones(1))


@pytest.mark.parametrize("first", [0, 1])
def test_operands_that_commute_may_be_in_any_order(first: int) -> None:
    def f(x: Any) -> Any:
        pairs = enumerate(zip(x, x[::-1]), first)
        return total([(a.sin() * b.cos() if i % 2 else b.cos() * a.sin()).tanh() for i, (a, b) in pairs])

    p = check(f, [RNG.normal(size=(2, 4))], [])
    assert p.source.count("tanh(") == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_small_powers_and_their_derivatives_are_products_and_roots(engine: Any) -> None:
    w = leaves(3)
    powers = (2, 3, 4, 5, 6, 7, 8, -1, -2, -3, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3.5)

    def f(x: Any) -> Any:
        return total([(wi * wi * xi) ** n for n in powers for wi, xi in zip(w, x)])

    p = check(f, [np.exp(0.5 * RNG.normal(size=(5, 3)))], w, engine)
    assert "**" not in p.source
    p = autograd.compile(lambda x: (w[0] + x) ** 3, engine="numpy")
    p(np.ones(2))
    assert "grad_w1 = 3.0 * xp.sum(t_2) / N" in p.source
    huge = autograd.compile(lambda x: x**-3, engine=engine)
    assert huge(np.array([1e-100, 1e103, -1e103])) == pytest.approx(1e300 / 3)


def test_long_vectors_and_long_sums() -> None:
    p = check(
        lambda x: total([(0.01 * (i + 0.5) * a).tanh() for i, a in enumerate(x)]),
        [RNG.normal(size=(2, 260))],
        [],
    )
    assert p.source.count("tanh(") == 1 and "x[" not in p.source

    def terms_of_all_kinds(x: Any) -> Any:
        chain = [x]
        for _ in range(150):
            chain.append(chain[-1].sin())
        return total(chain)

    check(terms_of_all_kinds, [RNG.normal(size=2)], [])


def test_leaves_lie_as_what_they_are_multiplied_with() -> None:
    w = leaves(2, 3)
    for f, shape in (
        (lambda m: total([(a * b).tanh() for xs, ws in zip(m, w) for a, b in zip(xs, ws)]), (2, 3)),
        (lambda m: total([(b * a).tanh() for xs, ws in zip(m, w) for a, b in zip(xs, ws)]), (2, 3)),
        (lambda m: total([(a * b.sin()).tanh() for xs, ws in zip(w, m) for a, b in zip(xs, ws)]), (2, 3)),
        (lambda x: (w[0][0] * x[0]).tanh() + total([z.tanh() for z in matvec(w, x)]), (3,)),
        (lambda x: (w[0][0] + x[0]).tanh() + total([z.tanh() for z in matvec(w, x)]), (3,)),
    ):
        p = check(f, [RNG.normal(size=(4, *shape))], [v for row in w for v in row])
        assert [array.tolist() for array in p.leaves] == [w]


def test_leaves_that_meet_no_array_lie_as_given() -> None:
    w = leaves(3)
    for f, shape in ((lambda x: dot(w, w) * x, (3,)), (lambda x: w[0] * w[0] * x, ())):
        p = check(f, [RNG.normal(size=2)], w)
        assert [array.shape for array in p.leaves] == [shape]


def test_a_view_is_whole_if_it_is_the_array_as_it_is() -> None:
    array, every = Rows((2, 2), False), slice(None)
    assert Select(array, (0, 1), (every, every), (2, 2)).is_whole
    assert not Select(array, (1, 0), (every, every), (2, 2)).is_whole
    assert not Select(array, (0, 1), (slice(0, 1), every), (2, 2)).is_whole
    assert not Gather(array, (0, 1), np.array([[1, 0], [2, 3]])).is_whole


def test_gradients_lie_as_their_leaves_do() -> None:
    p = autograd.compile(lambda x: convolution(x), engine="numpy")
    p.value_and_grad(np.ones((2, 3)))
    assert "windows(x" in p.source and "take(" not in p.source
    assert not re.search(r"= \w+  #", p.source)  # nor has any array two names


def test_equal_numbers_are_one_number() -> None:
    p = autograd.compile(lambda x: gelu(x), engine="numpy")
    p.backward(RNG.normal(size=(4, 3)))
    constant = autograd.compile(lambda x: 2.5, engine="numpy")
    constant(np.ones(2))
    assert "asarray" not in p.source and "[" not in constant.source


# Arrays that the program does not name: flat ones, heads, gates, windows


def labelled(name: str, *shape: Any) -> np.ndarray:
    array = np.array(leaves(*shape), dtype=object)
    for index, v in np.ndenumerate(array):
        v.label = f"{name}{list(index)}"
    return array


def check_structure(
    f: Callable[..., Any], shapes: Any, live: Any, lines: int, rows: int = 3, engine: Any = "numpy"
) -> Any:
    """Hold f to eager; its source has at most so many lines, and no element is picked by its position."""
    arrays = [RNG.normal(size=(rows, *shape)) for shape in shapes]
    p = check(f, arrays, [v for array in live for v in np.ravel(array)], engine)
    body = p.source.partition("_gradient(")[2]
    assert "take(" not in p.source and body.count("\n") - 3 <= lines, p.source
    return p


def flat_product(
    a: Any, b: Any, c: Any, by_column: tuple[bool, bool, bool], n: int = 4, m: int = 3, k: int = 5
) -> Any:
    """c + 0.7 a b of matrices in flat lists, in each of which columns may come before rows."""
    of_a, of_b, of_c = by_column
    for i in range(n):
        for j in range(m):
            for p in range(k):
                left, right = a[p * n + i if of_a else i * k + p], b[j * k + p if of_b else p * m + j]
                c[j * n + i if of_c else i * m + j] += 0.7 * left * right
    return c


@pytest.mark.parametrize("by_column", list(itertools.product([False, True], repeat=3)))
def test_products_of_matrices_in_flat_lists(by_column: tuple[bool, bool, bool]) -> None:
    def of_data(a: Any, b: Any, y: Any) -> Any:
        return total([(u - v) ** 2 for u, v in zip(flat_product(a, b, [0.0] * 12, by_column), y)])

    p = check_structure(of_data, [(20,), (15,), (12,)], [], 5)
    assert p.source.count("@") == 1
    for name in "w", "":
        a, b, c = (labelled(name + each if name else "", n) for each, n in (("a", 20), ("b", 15), ("c", 12)))

        def of_leaves(x: Any, y: Any, a: np.ndarray = a, b: np.ndarray = b, c: np.ndarray = c) -> Any:
            return total([(u - v) ** 2 for u, v in zip(flat_product(a, b, list(c * x), by_column), y)])

        p = check_structure(of_leaves, [(), (12,)], [a, b, c], 12)
        assert p.source.count("@") == 3
    listed = autograd.compile(lambda a, b: flat_product(a, b, [0.0] * 12, by_column), engine="numpy")
    a, b = RNG.normal(size=(2, 20)), RNG.normal(size=(2, 15))
    rows = [flat_product(x, y, [0.0] * 12, by_column) for x, y in zip(a, b)]
    assert listed.per_example(a, b) == pytest.approx(np.array(rows), rel=1e-13)
    assert "take(" not in listed.source


def test_axes_split_and_merge_as_they_are_used() -> None:
    b, c, d = labelled("b", 4, 3, 5), labelled("c", 5), labelled("d", 3)
    square: Callable[..., Any] = lambda vs: total([v * v for v in vs])  # noqa: E731
    for f, shapes, live, lines in (
        (lambda x, y: square(x[4 * i + j] * y[j] for i in range(4) for j in range(4)), [(16,), (4,)], [], 4),
        (lambda x, y: square(x[i] - y[3 * i + j] for i in range(4) for j in range(3)), [(4,), (12,)], [], 4),
        (
            lambda x, y: square(x[4 * i + j] - y[3 * j + i] for i in range(3) for j in range(4)),
            [(12,)] * 2,
            [],
            4,
        ),
        (
            lambda x: square(
                total([x[15 * i + 5 * j + k] * c[k] * d[j] for j in range(3) for k in range(5)])
                for i in range(4)
            ),
            [(60,)],
            [c, d],
            8,
        ),
        (
            lambda x: square(
                total([x * b[i, j, k] * c[k] * d[j] for j in range(3) for k in range(5)]) for i in range(4)
            ),
            [()],
            [b, c, d],
            14,
        ),
        (lambda x: square(dot(x[:4], x[i : i + 4]) for i in range(0, 12, 4)), [(12,)], [], 4),
        (lambda x: square(x[i][i] * x[3 - i][i] for i in range(4)), [(4, 4)], [], 4),
    ):
        check_structure(f, shapes, live, lines)
    spread = autograd.compile(
        lambda x: [x[i % 3] for i in range(12)] + [x[i // 4] for i in range(12)], engine="numpy"
    )
    assert (
        spread.per_example(np.array([[1.0, 2.0, 3.0]])) == [*[1, 2, 3] * 4, *[1] * 4, *[2] * 4, *[3] * 4]
    ).all()


def attention(heads: int, causal: bool = False, labels: bool = True, width: int = 8) -> Any:
    named = labelled if labels else lambda _, *shape: np.array(leaves(*shape), dtype=object)
    w = {name: named(name, width, width) for name in ("wq", "wk", "wv", "wo")}
    for v in np.ravel(list(w.values())):
        v.data /= 2.0
    size = width // heads

    def f(x: Any, y: Any) -> Any:
        q, k, v = ([matvec(w[name].tolist(), token) for token in x] for name in ("wq", "wk", "wv"))
        out = []
        for t in range(len(x)):
            mixed = []
            for h in range(0, width, size):
                seen = slice(0, t + 1 if causal else None)
                e = [(0.1 * dot(q[t][h : h + size], key[h : h + size])).exp() for key in k[seen]]
                mixed += [dot(e, [value[i] for value in v[seen]]) / total(e) for i in range(h, h + size)]
            out += [(a - b) ** 2 for a, b in zip(matvec(w["wo"].tolist(), mixed), y[t])]
        return total(out)

    return f, list(w.values())


@pytest.mark.parametrize(("heads", "causal"), [(1, False), (2, False), (4, False), (1, True), (4, True)])
def test_heads_of_attention_are_an_axis(heads: int, causal: bool) -> None:
    f, live = attention(heads, causal)
    p = check_structure(f, [(6, 8), (6, 8)], live, 60 if causal else 26)
    assert [array.shape for array in p.leaves] == [(8, 8)] * 4


def test_queries_and_keys_without_labels_meet_the_scores_in_two_directions() -> None:
    f, live = attention(1, labels=False)
    check_structure(f, [(6, 8), (6, 8)], live, 26)


def test_multiples_of_one_element_are_a_vector() -> None:
    a, w = labelled("a", 8), Value(1.3)
    p = check_structure(
        lambda x: total([v * (k * w * x).cos() for k, v in enumerate(a, 2)]), [()], [a, [w]], 16
    )
    assert p.source.count("cos(") == 1


def test_gates_are_slices_of_one_product() -> None:
    w, u, b, v = labelled("w", 16, 3), labelled("u", 16, 4), labelled("b", 16), labelled("v", 4)

    def lstm(x: Any) -> Any:
        c: list[Any]
        h, c = x[0][:1].tolist() * 4, [0.5] * 4
        for token in x:
            z = [dot(wi, token) + dot(ui, h) + bi for wi, ui, bi in zip(w.tolist(), u.tolist(), b)]
            i, o, f = ([g.sigmoid() for g in z[k : k + 4]] for k in (0, 4, 12))
            c = [fi * ci + ii * g.tanh() for fi, ci, ii, g in zip(f, c, i, z[8:12])]
            h = [oi * ci.tanh() for oi, ci in zip(o, c)]
        return dot(v.tolist(), h)

    p = check_structure(lstm, [(2, 3)], [w, u, b, v], 42)
    assert p.source.count("@ u.T") == 1


def on_a_ring(u: Any, c: Any) -> Any:
    n = len(u)
    for _ in range(6):
        u = [u[i] - c * u[i] * (u[(i + 1) % n] - u[i - 1]) for i in range(n)]
    return total([v * v for v in u])


def on_a_torus(s: Any, w: Any) -> Any:
    n, m = s.shape
    return total(
        [
            (w[i][j] * s[i][j] * (s[(i + 1) % n][j] + s[i][(j + 1) % m])).tanh()
            for i in range(n)
            for j in range(m)
        ]
    )


def between_walls(u: Any, c: Any) -> Any:
    n = len(u)
    for _ in range(3):
        u = [u[i] + c * (u[max(i - 1, 0)] - 2.0 * u[i] + u[min(i + 1, n - 1)]) for i in range(n)]
    return total([v * v for v in u])


def between_numbers(x: Any, c: Any) -> Any:
    u = [0.0, *x, Value(1.0)]
    for _ in range(8):
        u = [0.0, *(b + c * (a - 2.0 * b + d) for a, b, d in zip(u, u[1:], u[2:])), Value(1.0)]
    return total([v * v for v in u])


def between_springs(x: Any, k: Any) -> Any:
    v: Any = [0.0] * len(x)
    for _ in range(9):
        forces = [spring * (b - a) for spring, a, b in zip(k, [0.0, *x], [*x, 1.0])]
        v = [speed + 0.1 * (b - a) for speed, a, b in zip(v, forces, forces[1:])]
        x = [place + 0.1 * speed for place, speed in zip(x, v)]
    return total([v * v for v in x])


def with_inflow(x: Any, c: Any) -> Any:
    u = list(x)
    for _ in range(8):
        u = [1.5, *(b - c * b * (b - a) for a, b in itertools.pairwise(u))]
    return total([v * v for v in u])


def on_a_plate(x: Any, c: Any, walls: Any = ()) -> Any:
    """Cells between walls: numbers of their own on each side, or the outer cells of x."""
    u = [list(row) for row in x]
    if walls:
        up, down, left, right = walls
        u = [[up] * (len(u[0]) + 2), *([left, *row, right] for row in u), [down] * (len(u[0]) + 2)]
    for _ in range(4):
        new = [row[:] for row in u]
        for i, j in itertools.product(range(1, len(u) - 1), range(1, len(u[0]) - 1)):
            new[i][j] = u[i][j] + c * (u[i - 1][j] + u[i + 1][j] + u[i][j - 1] + u[i][j + 1] - 4.0 * u[i][j])
        u = new
    return total([v * v for row in u for v in row])


def among_zeros(x: Any, k: Any) -> Any:
    for _ in range(2):
        p = [[0.0] * (len(x[0]) + 2), *([0.0, *row, 0.0] for row in x), [0.0] * (len(x[0]) + 2)]
        taps = [*itertools.product(range(3), range(3))]
        places = [[(i, j) for j in range(len(x[0]))] for i in range(len(x))]
        x = [[sum(k[a][b] * p[i + a][j + b] for a, b in taps).tanh() for i, j in row] for row in places]
    return total([v for row in x for v in row])


def padded(x: Any, k: Any) -> Any:
    n = len(x)
    for far in (1, 2):
        taps = [[(k[a], i + (a - 1) * far) for a in range(3)] for i in range(n)]
        x = [total([w * x[at] for w, at in each if 0 <= at < n]).tanh() for each in taps]
    return total([v * v for v in x])


def padded_images(x: Any, k: Any) -> Any:
    channels, n, m = x.shape
    inside: Callable[..., bool] = lambda i, j: 0 <= i < n and 0 <= j < m  # noqa: E731
    near = list(itertools.product(range(channels), range(3), range(3)))
    return total(
        [
            total(
                [w[d][a][b] * x[d][i + a - 1][j + b - 1] for d, a, b in near if inside(i + a - 1, j + b - 1)]
            ).tanh()
            for w in k
            for i in range(n)
            for j in range(m)
        ]
    )


def laplace(f: Any, q: Any) -> Any:
    inner = itertools.product(range(1, len(q) - 1), range(1, len(q[0]) - 1))
    around = ((i, j, q[i - 1][j] + q[i + 1][j] + q[i][j - 1] + q[i][j + 1]) for i, j in inner)
    return total([(near - 4.0 * q[i][j] - f[i][j]) ** 2 for i, j, near in around])


def rotated(x: Any, w: Any) -> Any:
    z = [matvec(w, token) for token in x]
    angles = [[(math.cos(t / 10**p), math.sin(t / 10**p)) for p in range(2)] for t in range(len(z))]
    turned = [
        part
        for of, token in zip(angles, z)
        for (c, s), (a, b) in zip(of, zip(token[::2], token[1::2]))
        for part in (a * c - b * s, a * s + b * c)
    ]
    return total([v.tanh() for v in turned])


STENCILS: list[Callable[..., Any]] = [  # of a cell, and of those above, below, on the left and on the right
    lambda w, u, a, b, c, d: (w[0] * u + w[1] * (a + b) + w[2] * (c + d)).tanh(),
    lambda w, u, a, b, c, d: u + w[0] * (a + b + c + d - 4.0 * u) - w[1] * u**3,
    lambda w, u, a, b, c, d: u + w[0] * (a - 2.0 * u + b) + w[1] * (c - 2.0 * u + d),
    lambda w, u, a, b, c, d: u - w[0] * (b - a) - w[1] * (d - c),
    lambda w, u, a, b, c, d: u - w[0] * (u - a) - w[1] * (u - c),
    lambda w, u, a, b, c, d: dot(w, [u, a, b, c, d]).tanh(),
    lambda w, u, a, b, c, d: u + w[0] * total([(near - u) ** 2 for near in (a, b, c, d)]),
    lambda w, u, a, b, c, d: w[0] * maximum(u, maximum(maximum(a, b), maximum(c, d))),
]


@pytest.mark.parametrize(("f", "lines"), [*zip(STENCILS, (14, 20, 16, 20, 15, 24, 21, 28))])
@pytest.mark.parametrize("shape", [(5, 5), (4, 4)])
@pytest.mark.parametrize("is_flat", [False, True])
def test_stencils_on_a_torus(f: Any, lines: int, is_flat: bool, shape: tuple[int, int]) -> None:
    n, m = shape
    if f is STENCILS[-1] and n == 4:
        pytest.skip("on a ring of four, the gradient of the largest of i - 1 and i + 1 takes a gather")
    w = [Value(0.1 * (k + 1), f"w[{k}]") for k in range(5)]

    def steps(x: Any) -> Any:
        u = [[x[m * i + j] if is_flat else x[i][j] for j in range(m)] for i in range(n)]
        for _ in range(2):
            ends = [[(u[i - 1][j], u[(i + 1) % n][j]) for j in range(m)] for i in range(n)]
            sides = [[(row[j - 1], row[(j + 1) % m]) for j in range(m)] for row in u]
            u = [[f(w, u[i][j], *ends[i][j], *sides[i][j]) for j in range(m)] for i in range(n)]
        return total([v**2 for row in u for v in row])

    check_structure(steps, [(n * m,) if is_flat else shape], [w], lines)


@pytest.mark.parametrize("n", [4, 5])
def test_data_are_repeated_by_slices(n: int) -> None:
    w = [Value(0.1 * (k + 1), f"w[{k}]") for k in range(12)]

    def steps(x: Any) -> Any:
        u = [x[i % n] * w[i] for i in range(12)]
        for _ in range(3):
            u = [(w[0] * u[i] + w[1] * u[(i + 1) % 12]).tanh() for i in range(12)]
        return total(u)

    check_structure(steps, [(n,)], [w], 20)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "shape", "live", "lines"),
    [
        (on_a_ring, (9,), (), 22),
        (on_a_torus, (4, 5), (4, 5), 16),
        (between_walls, (8,), (), 28),
        (between_numbers, (8,), (), 18),
        (between_springs, (7,), (8,), 38),
        (with_inflow, (9,), (), 30),
        (on_a_plate, (5, 6), (), 36),
        (functools.partial(on_a_plate, walls=(1.0, 0.0, 0.0, 0.0)), (4, 5), (), 30),
        (functools.partial(on_a_plate, walls=(0.5, -1.0, 2.0, 0.0)), (4, 5), (), 30),
        (among_zeros, (4, 5), (3, 3), 22),
        (padded, (9,), (3,), 16),
        (padded_images, (2, 5, 4), (3, 2, 3, 3), 12),
        (laplace, (7, 6), (7, 6), 14),
        (rotated, (6, 3), (4, 3), 20),
    ],
)
def test_neighbours_beyond_an_end_are_in_an_array_between_borders(
    f: Any, shape: Any, live: Any, lines: int, engine: Any
) -> None:
    w = np.array([Value(0.3 * v) for v in RNG.normal(size=live).flat], dtype=object).reshape(live)
    held = w.tolist()
    check_structure(lambda x: f(x, held), [shape], [w], lines, engine=engine)


def far(a: Any, b: Any) -> Any:
    return total([(x - y) ** 2 for x, y in zip(a, b)]) + 0.1


def subtracted(x: Any, m: Any) -> Any:
    """The energy of bodies that attract each other, as a running total."""
    energy = 0.0
    for i, a in enumerate(x):
        energy += 0.5 * m[i] * a[0] ** 2
        for j in range(i + 1, len(x)):
            energy -= m[i] * m[j] / far(a, x[j]).sqrt()
    return energy


def forces(x: Any, m: Any) -> Any:
    """Forces by Newton's third law, against springs: what one feels, the other feels reversed."""
    n = len(x)
    felt = [[0.0] * len(x[0]) for _ in x]
    for i in range(n):
        for j in range(i + 1, n):
            apart = [b - a for a, b in zip(x[i], x[j])]
            cube = far(x[i], x[j]) ** 1.5
            for k, d in enumerate(apart):
                felt[i][k] = felt[i][k] + m[j] * d / cube
                felt[j][k] = felt[j][k] - m[i] * d / cube
    return total([(v - p) ** 2 for row, point in zip(felt, x) for v, p in zip(row, point)])


def of_each(x: Any, m: Any) -> Any:
    """Potentials: each body has those of all others."""
    return total([sum(m[j] / far(x[i], x[j]) for j in range(len(x)) if j != i) ** 2 for i in range(len(x))])


def stress(x: Any, points: Any) -> Any:
    """How far the distances of points, which are live, are from data."""
    return total([(far(points[i], points[j]).sqrt() - x[i][j]) ** 2 for i in range(len(x)) for j in range(i)])


def contests(x: Any, skill: Any) -> Any:
    """Bradley and Terry's model of who wins how often."""
    pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if i != j]
    return total([x[i][j] * (1.0 + (skill[j] - skill[i]).exp()).log() for i, j in pairs])


def ranks(x: Any, w: Any) -> Any:
    """RankNet's loss, for the order of rows of data."""
    scores = [dot(w, row) for row in x]
    pairs = [(i, j) for i in range(len(x)) for j in range(i + 1, len(x))]
    return total([(1.0 + ((scores[i] - scores[j]) * (x[j][0] - x[i][0])).exp()).log() for i, j in pairs])


def upper(x: Any, w: Any) -> Any:
    """A quadratic form, with weights on and above a diagonal."""
    s = Value(0.0)
    for i in range(len(x)):
        for j in range(i, len(x)):
            s += w[i][j] * x[i] * x[j]
    return s**2


def interactions(x: Any, w: Any) -> Any:
    """A weight for each pair i < j, in the upper half of a matrix, whose diagonal is not used."""
    pairs = itertools.combinations(range(len(x)), 2)
    return total([w[i][j] * x[i] * x[j] for i, j in pairs]) ** 2


def machine(x: Any, v: Any) -> Any:
    """A factorization machine: a weight for each pair of inputs, as the product of two vectors."""
    pairs = [(i, j) for i in range(len(x)) for j in range(i + 1, len(x))]
    return total([dot(v[i], v[j]) * x[i] * x[j] for i, j in pairs]) ** 2


def lattice(x: Any, w: Any) -> Any:
    """Neighbours on a lattice, along both axes."""
    n, m = len(x), len(x[0])
    edges = [((i, j), (i + 1, j)) for i in range(n - 1) for j in range(m)]
    edges += [((i, j), (i, j + 1)) for i in range(n) for j in range(m - 1)]
    return total([w[0] * x[i][j] * x[k][l] + (x[i][j] - x[k][l]).tanh() for (i, j), (k, l) in edges])


def others(x: Any, w: Any) -> Any:
    """The shares of all others, of which none is a row's own."""
    z = [[dot(row, each) for each in w] for row in x]
    return total([autograd.logsumexp([dot(a, b) for b in z if b is not a]) for a in z])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "shape", "live", "lines"),
    [
        (subtracted, (6, 2), (6,), 11),
        (forces, (5, 2), (5,), 19),
        (of_each, (6, 2), (6,), 7),
        (stress, (7, 7), (7, 2), 12),
        (contests, (6, 6), (6,), 9),
        (ranks, (5, 3), (3,), 16),
        (upper, (6,), (6, 6), 5),
        (interactions, (6,), (6, 6), 6),
        (machine, (6,), (6, 2), 8),
        (lattice, (4, 5), (2,), 9),
        (others, (5, 3), (2, 3), 11),
    ],
)
def test_sums_over_pairs_are_sums_over_matrices(
    f: Any, shape: Any, live: Any, lines: int, engine: Any
) -> None:
    w = np.array([Value(v) for v in RNG.uniform(0.2, 0.8, size=live).flat], dtype=object).reshape(live)
    held = w.tolist()
    check_structure(lambda x: f(x, held), [shape], [w], lines, engine=engine)


def near(nodes: int, least: int, most: int) -> list[list[int]]:
    """The neighbours of each node of a random graph."""
    rng = np.random.default_rng(0)
    return [sorted(rng.permutation(nodes)[: rng.integers(least, most + 1)].tolist()) for _ in range(nodes)]


def passed_on(x: Any, w: Any) -> Any:
    """Three layers of a network on a graph."""
    for k in range(0, 9, 3):
        sums = [sum(x[j] for j in of) for of in near(len(x), 1, 5)]
        x = [(w[k] * v + w[k + 1] * s + w[k + 2]).tanh() for v, s in zip(x, sums)]
    return total(x)


def averaged(x: Any, w: Any) -> Any:
    for _ in range(2):
        means = [total([x[j] for j in of]) / (len(of) + 1.0) for of in near(len(x), 2, 4)]
        x = [(w[0] * v + w[1] * m).tanh() for v, m in zip(x, means)]
    return total([v * v for v in x])


def diffused(x: Any, w: Any) -> Any:
    for _ in range(2):
        x = [v + w[0] * (total([x[j] for j in of]) - len(of) * v) for v, of in zip(x, near(len(x), 2, 4))]
    return total([v * v for v in x])


def coupled(x: Any, w: Any) -> Any:
    """Kuramoto's oscillators."""
    for _ in range(3):
        x = [v + w[0] + w[1] * total([(x[j] - v).sin() for j in of]) for v, of in zip(x, near(len(x), 2, 4))]
    return total([v.cos() for v in x])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "live", "lines"), [(passed_on, 9, 22), (averaged, 2, 17), (diffused, 2, 16), (coupled, 2, 28)]
)
def test_sums_over_the_edges_of_a_graph_are_arrays(f: Any, live: int, lines: int, engine: Any) -> None:
    w = leaves(live)
    p = check(lambda x: f(x, w), [RNG.normal(size=(3, 20))], w, engine)
    assert p.source.partition("_gradient(")[2].count("\n") - 3 <= lines, p.source


@pytest.mark.parametrize("engine", ENGINES)
def test_a_matrix_of_which_only_some_elements_are_there_is_one_array(engine: Any) -> None:
    places = near(40, 3, 6)
    w = [leaves(len(of)) for of in places]

    def f(x: Any) -> Any:
        for _ in range(2):
            x = [dot(row, [x[j] for j in of]).tanh() for row, of in zip(w, places)]
        return total(x)

    p = check(f, [RNG.normal(size=(3, 40))], list(itertools.chain(*w)), engine)
    assert len(p.leaves) == 1 and p.source.partition("_gradient(")[2].count("\n") - 3 <= 20, p.source


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "shape", "unused"),
    [(contests, (6,), np.eye(5)), (stress, (5, 2), np.tri(5).T), (upper, (5, 5), np.tri(5, k=-1))],
)
def test_what_no_pair_uses_may_be_infinite(f: Any, shape: Any, unused: Any, engine: Any) -> None:
    for number in (math.nan, math.inf, -math.inf):
        found = []
        for filling in (1.0, number):
            rng, live = np.random.default_rng(0), f is upper
            w = rng.uniform(0.2, 0.8, size=shape)
            x = rng.normal(size=(3, 5) if live else (3, 5, 5))
            np.copyto(w if live else x, filling, where=unused == 1.0)
            held = np.vectorize(Value, otypes=[object])(w).tolist()
            program = autograd.compile(lambda x, held=held: f(x, held), engine=engine)
            found.append(program.value_and_grad(x))
        assert found[1][0] == pytest.approx(found[0][0]) and np.allclose(found[1][1], found[0][1])


def filtered(ys: Any, F: Any) -> Any:
    """The likelihood of observations, by Kalman's filter: a covariance with noise on its diagonal."""
    n = range(len(F))
    state: list[Any] = [0.0 for _ in n]
    P: Any = [[float(i == j) for j in n] for i in n]
    error: Any = 0.0
    for y in ys:
        state, FP = (
            [dot(row, state) for row in F],
            [[sum(a * b for a, b in zip(row, p)) for p in P] for row in F],
        )
        P = [[sum(FP[i][k] * F[j][k] for k in n) + (0.3 if i == j else 0.0) for j in n] for i in n]
        spread, surprise = P[0][0] + 1.0, y - state[0]
        gain = [P[i][0] / spread for i in n]
        error += autograd.log(spread) + surprise**2 / spread
        state = [state[i] + gain[i] * surprise for i in n]
        P = [[P[i][j] - gain[i] * P[0][j] for j in n] for i in n]
    return error


def ridge(x: Any, w: Any) -> Any:
    """A Gram matrix with a parameter on its diagonal, between two vectors."""
    K = [[autograd.exp(-((a - b) ** 2)) for b in x] for a in x]
    for i, v in enumerate(w):
        K[i][i] -= v
    return sum(w[i] * autograd.tanh(K[i][j]) * w[j] for i in range(len(w)) for j in range(len(w)))


def turned(x: Any, w: Any) -> Any:
    """A point turned in the plane by angles, each with a matrix that is multiplied by those before."""
    R = [[1.0, 0.0], [0.0, 1.0]]
    for angle in w:
        c, s = autograd.cos(angle), autograd.sin(angle)
        R = [[sum(a * b for a, b in zip(row, column)) for column in ([c, s], [-s, c])] for row in R]
    return total([(dot(row, x) - 0.5) ** 2 for row in R])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("f", "shape", "live", "lines"),
    [(filtered, (8,), (3, 3), 102), (ridge, (5,), (5,), 8), (turned, (2,), (12,), 38)],
)
def test_matrices_stay_whole(f: Any, shape: Any, live: Any, lines: int, engine: Any) -> None:
    """Though only some elements have a summand, or others are 0 and 1 at first."""
    w = np.array([Value(v) for v in RNG.uniform(0.2, 0.8, size=live).flat], dtype=object).reshape(live)
    held = w.tolist()
    check_structure(lambda x: f(x, held), [shape], [w], lines, engine=engine)


def test_gradients_may_repeat_elements_of_several_arrays() -> None:
    w, (p, q) = leaves(2, 2), leaves(2, 2)

    def f(x: Any) -> Any:
        t, s = [v.tanh() for v in p], [v.sin() for v in q]
        return x * (t[0] * (w[0][0] + w[0][1]) + s[1] * (w[1][0] + w[1][1]) + t[1] * s[0])

    check(f, [RNG.normal(size=3)], [*np.ravel(w), *p, *q])


def test_two_calls_of_a_function_are_one_array() -> None:
    w = leaves(2)

    def share(x: Any) -> Any:
        """Less than x of a normal distribution, by Abramowitz and Stegun 7.1.25."""
        t = 1.0 / (1.0 + 0.47047 * abs(x))
        p = ((0.7478556 * t - 0.0958798) * t + 0.3480242) * t
        return 0.5 * (1.0 + np.sign(x) * (1.0 - p * (-(x * x)).exp()))

    def f(x: Any, y: Any) -> Any:
        return (x * share(w[0] * x + y) - y * share(w[1] * y - x)) ** 2

    check_structure(f, [(), ()], [w], 20)


def test_a_value_that_f_makes_goes_with_a_table() -> None:
    table = leaves(3)
    program = autograd.compile(lambda x, i: table[int(i)] * x + Value(0.5))
    x, i = np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 1.0])
    expected = [table[int(k)].data * v + 0.5 for k, v in zip(i, x)]
    assert program.per_example(x, i) == pytest.approx(expected)


def test_a_value_that_f_makes_is_a_number_and_one_that_it_keeps_is_a_leaf() -> None:
    kept: list[Value] = []

    def f(x: Any) -> Any:
        if not kept:
            kept.append(Value(0.5, "kept"))
        start = Value(3.0, "start")
        return (start - kept[0] * x) ** 2

    program = autograd.compile(f)
    x = np.array([1.0, 2.0, 4.0])
    _, gradient = program.value_and_grad(x)
    assert [leaf.item() for leaf in program.leaves] == kept
    assert gradient == [pytest.approx(np.mean(-2.0 * x * (3.0 - 0.5 * x)))]
    kept[0].data = 1.0
    assert program(x) == pytest.approx(np.mean((3.0 - x) ** 2))


def test_a_number_0_that_is_added_or_subtracted_is_not_in_the_source() -> None:
    w = leaves(4)

    def f(x: Any) -> Any:
        return total([(0.0 - (0.0 + 2.0 * v) + 0.0 - 0.0).tanh() for v in map(mul, w, x)])

    program = check(f, [RNG.normal(size=(3, 4))], w)
    assert "tanh(-2.0 * (w1 * x))" in program.source, program.source


@pytest.mark.parametrize("engine", ENGINES)
def test_cells_that_are_the_same_for_all_rows_have_no_array_with_those_that_vary(engine: Any) -> None:
    e = leaves(6)
    f: Any = lambda x: total([(a + 0.2 * b).tanh() ** 2 for a, b in zip(e, [*e[1:], x])])  # noqa: E731
    check(f, [RNG.normal(size=3)], e, engine)
    check(lambda x: f(x) + total([v.tanh() + 0.0 * x for v in e]), [RNG.normal(size=3)], e, engine)


def test_an_array_of_which_parts_are_unused_keeps_its_shape() -> None:
    q = leaves(4, 5)
    program = autograd.compile(lambda x: total([q[i][j] * x for i in range(1, 4) for j in range(5)]))
    _, (gradient,) = program.value_and_grad(np.ones(3))
    assert gradient.shape == (4, 5) and (gradient[0] == 0.0).all() and (gradient[1:] == 1.0).all()


def test_windows_of_convolutions() -> None:
    f1, v1 = labelled("f", 4, 5), labelled("v", 4, 6)
    f2, v2 = labelled("f", 3, 3, 3), labelled("v", 3, 3, 3)

    def one(x: Any) -> Any:
        z = [[dot(f, x[i : i + 5]).relu() for i in range(12)] for f in f1.tolist()]
        return total([v * autograd.maximum(*z[c][2 * p : 2 * p + 2]) for (c, p), v in np.ndenumerate(v1)])

    def two(at: Callable[..., Any]) -> Callable[..., Any]:
        def f(x: Any) -> Any:
            out = []
            for c in range(3):
                z = [
                    [
                        total([k * at(x, i + a, j + b) for (a, b), k in np.ndenumerate(f2[c])]).tanh()
                        for j in range(6)
                    ]
                    for i in range(6)
                ]
                for (p, q), v in np.ndenumerate(v2[c]):
                    above, below = (autograd.maximum(*row[2 * q : 2 * q + 2]) for row in z[2 * p : 2 * p + 2])
                    out.append(v * autograd.maximum(above, below))
            return total(out)

        return f

    check_structure(one, [(16,)], [f1, v1], 16)
    check_structure(two(lambda x, i, j: x[i][j]), [(8, 8)], [f2, v2], 20)
    check_structure(two(lambda x, i, j: x[8 * i + j]), [(64,)], [f2, v2], 20)


def test_pairs_are_half_of_a_grid_and_the_other_half_is_never_at_fault() -> None:
    w = labelled("w", 6)

    def near(x: Any) -> Any:  # for i = j, these would be 1 / 0 and log 0
        pairs = [(x[i] - x[j], w[i] * w[j]) for i in range(6) for j in range(i + 1, 6)]
        return total([m / (d * d) + (d * d).log() for d, m in pairs])

    p = check(near, [RNG.permuted(np.tile(np.arange(6.0), (4, 1)), axis=1)], list(w))
    assert "xp.where(" in p.source and p.source.count("/ ") < 20


def test_comparisons_of_pairs_stay_conditions() -> None:
    def f(x: Any) -> Any:
        pairs = [(i, j) for i in range(5) for j in range(i, 5)]
        return total([where(~(x[i] >= x[j]), x[i] * x[j], 0.5) for i, j in pairs])

    rows = RNG.normal(size=(4, 5))
    found = autograd.compile(f, engine="numpy").per_example(rows)
    assert found == pytest.approx([f([Value(v) for v in row]).data for row in rows], rel=1e-12)


def test_ends_of_a_rod_join_its_inner_cells() -> None:
    k = labelled("k", 15)

    def heat(u: Any) -> Any:
        for _ in range(3):
            flow = [0.0, *(a * (right - left) for a, left, right in zip(k, u, u[1:])), 0.0]
            u = [cell + 0.1 * (b - a) for cell, a, b in zip(u, flow, flow[1:])]
        return total([cell * cell for cell in u])

    check_structure(heat, [(16,)], [k], 40)


# Everything else


def test_the_derivative_by_an_exponent_of_a_tiny_base() -> None:
    w = Value(2.0)
    (slope,) = autograd.compile(lambda x: x**w).value_and_grad(np.array([1e-20]))[1]
    assert slope == pytest.approx(1e-40 * math.log(1e-20), rel=1e-14, abs=0.0)


def test_values_that_are_equal_but_for_the_sign_of_a_zero_are_one_element() -> None:
    """Every other row has −0.0 δ, and else the same gradient by its second weight."""
    w = np.array([[Value(0.1 * i + j) for j in range(3)] for i in range(4)])

    def f(x: Any) -> Any:
        first = [dot(row, [x[0], 0.0, x[2]]) for row in w]
        second = [dot(row, x[1:4]) for row in w]
        return total([z * x[0] for z in (first[0], -first[1], first[2], -first[3], *second)])

    data = np.random.default_rng(0).normal(size=(3, 4))
    program = autograd.compile(f)
    _, (gradient,) = program.value_and_grad(data)
    np.testing.assert_allclose(gradient[:, 1], [np.mean(data[:, 0] * data[:, 2])] * 4, rtol=1e-12)


def test_equal_sums_and_products_of_leaves_and_data() -> None:
    a, b, c, d = live = leaves(4)
    x = [RNG.normal(size=4) for _ in range(3)]
    check(lambda x, y, z: (x + y + z).tanh() + (z + y + x).tanh() + a, x, [a])
    check(lambda x, y, z: dot([x, y], [y, a]).tanh() + dot([a, y], [y, x]).tanh() * b, x, [a, b])
    check(lambda x: x * a + a * b + c * d, x[:1], live)
    check(lambda x: dot([x, a, 1.0], [a, b, c]) + total([x, 2.0, d]), x[:1], live)
    check(lambda x: x * total([(-0.0) ** (x * x), a]), x[:1], [a])
    check(lambda x: x * a + total([]) + dot([], []), x[:1], [a])
    check(lambda x: x * total([(n * v).tanh() for n, v in zip((0.5, 2.0, 3.0, 4.0), live)]), x[:1], live)
    largest = lambda x: autograd.maximum(autograd.maximum(-np.inf, x * a), b)  # noqa: E731
    check(largest, x[:1], [a, b])
    check(lambda x: x * a + a / np.inf + TABLE["step"](x, -np.inf) * b, x[:1], [a, b])


def test_a_logistic_regression_comes_out_as_one_writes_it() -> None:
    *w, b = live = leaves(4)
    x, y = RNG.normal(size=(6, 3)), RNG.integers(0, 2, 6).astype(float)
    p = check(lambda x, y: (dot(w, x) + b).softplus() - y * (dot(w, x) + b), [x, y], live)
    body = p.source.partition("_gradient(")[2]
    assert body.count("@") == 2 and body.count("sigmoid(") == body.count("softplus(") == 1
    assert not gathers(p.source) and " - y) / N" in body


@pytest.mark.parametrize("extreme", [maximum, minimum, lambda *xs: autograd.logsumexp(xs)])
def test_terms_that_come_out_as_one_element(extreme: Any) -> None:
    w = Value(0.3)

    def f(x: Any) -> Any:
        ring = [x[0], x[1], w]
        return extreme(*(total([*ring[i:], *ring[:i]]) for i in range(3))) * w

    check(f, [RNG.normal(size=(4, 2))], [w])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("extreme", [maximum, minimum])
def test_the_largest_of_many_are_one_node_and_share_the_gradient(engine: Any, extreme: Any) -> None:
    tied = [Value(2.0) for _ in range(3)]
    out = extreme(*tied, 2.0)
    out.backward()
    assert out.parents[:3] == tuple(tied) and [v.grad for v in tied] == [0.25] * 3
    assert out == extreme(*(v.data for v in tied)) == 2.0
    w, x = leaves(6), RNG.normal(size=(5, 6))
    x[0], x[1] = 0.0, 1.0  # ties
    p = check(lambda x: extreme(*map(mul, w, x)), [x], w, engine)
    assert p.source.count("N, 6") == 2 and ":, 0" not in p.source  # the products, and the shares

    def so_far(x: Any) -> Any:
        z = list(map(mul, w, x))
        return sum((extreme(*z[: i + 1]) * (i + 1.0)).exp() for i in range(2, 6))

    p = check(so_far, [x], w, engine)
    assert re.search(r"est\(xp.where\(c, .*?, -?xp.inf\), 2\)", p.source)  # all at once


@pytest.mark.parametrize("engine", ENGINES)
def test_sums_of_loops_are_sums_of_arrays(engine: Any) -> None:
    w = [leaves(4) for _ in range(6)]
    data = [RNG.normal(size=(3, 4)), RNG.uniform(size=(3, 6))]

    def terms(x: Any, y: Any) -> Any:
        for wi, t in zip(w, y):
            p = dot(wi, x).sigmoid()
            yield t * p.log(), (1.0 - t) * (1.0 - p).log()

    def subtracted(x: Any, y: Any) -> Any:
        loss = 0.0
        for a, b in terms(x, y):
            loss = loss - a - b
        return loss

    def of_negatives(x: Any, y: Any) -> Any:
        loss: Any = 0.0
        for a, b in terms(x, y):
            loss += -(a + b)
        return loss

    def of_sums(x: Any, y: Any) -> Any:
        return -sum(a + b for a, b in terms(x, y))

    for f in (subtracted, of_negatives, of_sums):
        source = check(f, data, list(itertools.chain(*w)), engine).source
        assert not re.search(r"\[:, \d", source), source


@pytest.mark.parametrize("engine", ENGINES)
def test_a_difference_is_not_torn_into_sums_that_cancel(engine: Any) -> None:
    w = Value(0.3)
    y = 1.7e9 + RNG.uniform(0.0, 1e6, 1000)
    x = y + RNG.normal(0.0, 1e-3, 1000)
    program = autograd.compile(lambda x, y: w * (x - y), engine=engine)
    program.backward(x, y)
    assert w.grad == pytest.approx(math.fsum(x - y) / 1000.0, rel=1e-9)
    assert autograd.compile(lambda x, y: (x - y) + 1e-18 * w, engine=engine)(x[:1], x[:1]) == 3e-19
    small = autograd.compile(
        lambda a, x, y: (x + y) + (a - 1.0 * a), engine=engine
    )  # (a sum that is added, too)
    assert small(np.array([1.7e9]), np.array([1e-8]), np.array([2e-8])) == pytest.approx(3e-8, rel=1e-15)
    tiny = autograd.compile(lambda x, y: x - y - w - 0.5 * w - 0.25 * w - 0.125 * w, engine=engine)
    assert tiny(x[:1], y[:1]) == pytest.approx(x[0] - y[0] - 1.875 * 0.3, rel=1e-14)
    logits = np.array([40.0, 35.0])  # softplus(z) − z is small for each, and their sums are large
    loss = autograd.compile(lambda z: z.softplus() - z + 0.0 * w, engine=engine)(logits)
    assert loss == np.mean(np.logaddexp(logits, 0.0) - logits)


def test_second_derivatives_are_compiled_like_all_else() -> None:
    w = leaves(4)

    def f(x: Any) -> Any:
        (slope,) = derive(dot(w, [x, x.sin(), x.tanh(), x * x]), [x])
        return slope**2

    check(f, [RNG.normal(size=5)], w)


def test_lists_of_outputs_and_models() -> None:
    for nouts in ([4, 3], [4, 1]):
        model = nn.MLP(2, nouts, rng=np.random.default_rng(0))
        x = RNG.normal(size=(5, 2))
        predictions = autograd.compile(model)(x)
        assert predictions.shape == (5, nouts[-1])
        assert predictions == pytest.approx(nn.predict(model, x), rel=1e-13)
    w = Value(3.0)
    for engine in ("auto", "numpy"):
        mixed = autograd.compile(lambda x: np.array([x[1], 2.0, w, x[0] * w, 4.0, w * w]), engine=engine)
        assert mixed(x).tolist() == [[b, 2.0, 3.0, 3.0 * a, 4.0, 9.0] for a, b in x.tolist()]
        assert autograd.compile(lambda x: [w, 2.0], engine=engine)(x).tolist() == [[3.0, 2.0]] * 5
        assert autograd.compile(lambda x: [1.0, 2.0], engine=engine)(x).tolist() == [[1.0, 2.0]] * 5
        assert autograd.compile(lambda x: x[::-1], engine=engine)(x).tolist() == x[:, ::-1].tolist()
    with pytest.raises(TypeError, match="list of outputs"):
        mixed.backward(x)


class Classifier(nn.MLP):
    """A probability from a network's output."""

    def __call__(self, x: Any) -> Any:
        return super().__call__(x).sigmoid()


class Deeper(Classifier):
    pass


class Around:
    """A wrapper that has all that its model has."""

    def __init__(self, model: nn.MLP) -> None:
        self.model = model

    def __call__(self, x: Any) -> Any:
        return self.model(x).tanh()

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["model"], name)


def test_of_a_model_its_call_is_compiled() -> None:
    x = RNG.normal(size=(5, 2))
    doubled: Any = nn.MLP(2, [1])
    doubled.outputs = lambda x: [2.0 * doubled.layers[0](x)]
    for model in (Classifier(2, [3, 1]), Deeper(2, [3, 1]), Around(nn.MLP(2, [1])), doubled):
        expected = [[model(row).data] for row in x]
        assert autograd.compile(model)(x) == pytest.approx(np.array(expected), rel=1e-13)


def test_results_that_depend_on_no_input_or_no_leaf() -> None:
    w = Value(3.0)
    x = np.zeros(4)
    assert check(lambda x: w * w, [x], [w], reduce="sum").per_example(x).tolist() == [9.0] * 4
    constant = autograd.compile(lambda x: 2.5)
    assert constant(x) == constant.backward(x) == 2.5 and constant.value_and_grad(x) == (2.5, [])
    assert autograd.compile(lambda x: x, reduce="sum").backward(np.arange(4.0)) == 6.0


def test_rows_are_arrays_as_in_eager_code() -> None:
    x, w = np.array([[1.0, 2.0], [3.0, 4.0]]), leaves(2)
    assert autograd.compile(lambda x: np.mean(x * 2)).per_example(x).tolist() == [3.0, 7.0]
    sources = []
    for f in (
        lambda x: dot(w, x),
        lambda x: dot(w, tuple(x)),
        lambda x: x @ w,
        lambda x: sum(w[i] * x[i] for i in range(len(x))),
        lambda x: (lambda a, b: w[0] * a + w[1] * b)(*x),
        lambda x: (x * w).sum(),
        lambda x: np.dot(x, w),
    ):
        p = check(f, [x], w)
        sources.append(p.source)
    assert all("@" in source and not gathers(source) for source in sources)
    for f in (
        lambda x: np.exp(x).sum() * w[0],
        lambda x: total(x[1:]) - x[:1].mean() * w[1],
        lambda x: x.dot(x) * w[0],
        lambda x: np.prod(x) * w[0] + np.outer(x, w)[0, 1],
        lambda x: x.reshape(2, 1)[1, 0] * w[0],
    ):
        rows = [f(row) for row in np.frompyfunc(Value, 1, 1)(x)]
        assert autograd.compile(f).per_example(x) == pytest.approx([row.data for row in rows], rel=1e-14)


def test_what_a_function_writes_into_a_row_is_its_own() -> None:
    def f(x: Any) -> Any:
        x *= 3.0
        x[0] = x[0] * w
        return x[0] + x[1]

    w, x = Value(2.0), np.array([[1.0, 2.0], [3.0, 4.0]])
    p = autograd.compile(f)
    assert p.per_example(x).tolist() == [12.0, 30.0] and x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(FloatingPointError, match=r"^x, row 1, column 1 is nan: "):
        p(np.array([[1.0, 2.0], [3.0, np.nan]]))


@pytest.mark.parametrize("engine", ENGINES)
def test_results_are_the_callers_own(engine: Any) -> None:
    a, b = Value(2.0), Value(3.0)
    for f in (
        lambda x: x[:1],
        lambda x: x,
        lambda x: x[::-1],
        lambda x: [1.0, a],
        lambda x: x[1],
        lambda x: a,
    ):
        p, x = autograd.compile(f, engine=engine), np.array([[1.0, 2.0], [3.0, 4.0]])
        result = p.per_example(x)
        expected = result.tolist()
        result += 10.0
        assert p.per_example(x).tolist() == expected and x.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    p, x = autograd.compile(lambda x: x, engine=engine), np.array([1.0, 2.0])
    p.per_example(x)[:] = 0.0
    assert x.tolist() == [1.0, 2.0]
    for f in (lambda x: a * x + b * x.sin() + b * x, lambda x: a * x + b * x, lambda x: a + b):
        p = autograd.compile(f, engine=engine)
        expected = [grad.tolist() for grad in p.value_and_grad(x)[1]]
        for grad in (gradient := p.value_and_grad(x)[1]):
            grad += 10.0
        for grad, before in zip(gradient, expected):
            assert grad == pytest.approx(np.array(before) + 10.0)
        assert [grad.tolist() for grad in p.value_and_grad(x)[1]] == expected
    p.leaves[0][...] = None
    assert p(x) == p.value_and_grad(x)[0] == 5.0


@pytest.mark.parametrize(
    "within", [lambda f: autograd.grad(f)(3.0), lambda f: autograd.compile(f)(np.ones(2))]
)
def test_within_a_transform_or_a_recording_a_cold_program_is_as_a_warm_one(
    within: Callable[..., Any],
) -> None:
    x, w = np.array([[1.0, 2.0], [3.0, 4.0]]), Value(2.0, "w")
    for f in (
        lambda x: x[0] * x[1] + x[0] ** 2 + 0.0 * x[1],
        lambda x: (x[0] - 2.0).log(),
        lambda x: derive(x[0] * x[1].sin(), [x[0]])[0],
        lambda x: x[0] * w,
        lambda x: x[0] if x[0] > 0.0 else -x[0],
    ):
        found = []
        for warm in (False, True):
            p = autograd.compile(f)
            if warm:
                try:
                    p(x)
                except (TypeError, ArithmeticError):
                    pass
            try:
                found.append(within(lambda z, p=p: z * p(x)))
            except (TypeError, ArithmeticError) as error:
                found.append(str(error))
        assert found[0] == found[1]
    assert "w=2.0" in _said(within, lambda z: z * autograd.compile(lambda x: x[0] * w)(x))


def _said(within: Callable[..., Any], f: Callable[..., Any]) -> str:
    with pytest.raises(TypeError) as found:
        within(f)
    return str(found.value)


class Line:
    """A model with a loss and a prediction that are compiled."""

    def __init__(self, slope: float) -> None:
        self.slope = Value(slope)
        self.recorded = 0

    @autograd.compile
    def loss(self, x: Any, y: Any) -> Any:
        """½ (slope · x − y)²."""
        self.recorded += 1
        return 0.5 * (self.slope * x - y) ** 2

    @autograd.compile
    @staticmethod
    def double(x: Any) -> Any:
        return 2.0 * x

    network = autograd.compile(nn.MLP(1, [1]))


def test_methods_are_compiled_for_each_instance() -> None:
    x, y = np.array([1.0, 2.0]), np.zeros(2)
    one, two = Line(1.0), Line(2.0)
    assert (one.loss(x, y), two.loss(x, y)) == (1.25, 5.0)
    two.slope.data = 1.0
    assert two.loss.backward(x, y=y) == 1.25 and two.slope.grad == 2.5
    assert one.recorded == two.recorded == 2 and one.slope.grad == 0.0
    assert one.loss.__doc__ == "½ (slope · x − y)²." and one.double(x) == Line.double(x) == 3.0
    assert one.network(x[:, None]).shape == (2, 1)
    for twin in (pickle.loads(pickle.dumps(one)).loss, pickle.loads(pickle.dumps(one.loss))):
        assert twin(x, y) == 1.25
    assert copy.deepcopy(one.loss)(x, y) == 1.25 and pickle.loads(pickle.dumps(Line.loss)) is Line.loss
    with pytest.raises(TypeError, match="add '__weakref__'"):
        type("Tight", (), {"__slots__": (), "double": autograd.compile(lambda self, x: 2.0 * x)})().double(x)
    loss, gone = one.loss, weakref.ref(one)
    del one
    assert loss(x, y) == 1.25  # it is alive as long as what is bound to it
    del loss, twin
    gc.collect()
    assert gone() is None and len(Line.loss._of_instances) == 1


def test_arrays_may_be_given_by_name() -> None:
    x, y = np.array([1.0, 2.0]), np.array([10.0, 20.0])
    p: Any = autograd.compile(lambda x, y: y - 2.0 * x)
    assert p(x, y) == p(x, y=y) == p(y=y, x=x) == 12.0
    assert p.per_example(y=y, x=x).tolist() == [8.0, 16.0] and p.value_and_grad(y=y, x=x) == (12.0, [])
    p = autograd.compile(lambda x, scale=1.0, *, shift=0.5, last: scale * x + shift - last)
    assert p.per_example(x, last=y).tolist() == [-8.5, -17.5]
    assert (
        p.per_example(x, last=y, shift=y).tolist() == p.per_example(x, shift=y, last=y).tolist() == [1.0, 2.0]
    )
    assert (
        p.per_example(x, x, last=y).tolist() == p.per_example(scale=x, x=x, last=y).tolist() == [-8.5, -15.5]
    )
    call: Callable[[], Any]
    for call, said in (
        (lambda: p(x), "last"),
        (lambda: p(x, last=y, other=y), "other"),
        (lambda: p(x, x=y, last=y), "multiple values for argument 'x'"),
        (lambda: p(x, last=["a", "b"]), "^last, row 0 is 'a', and no real number"),
    ):
        with pytest.raises(TypeError, match=said):
            call()


# Data


def test_data_of_any_real_type() -> None:
    p = autograd.compile(lambda x: x[0] + 2.0 * x[1])
    for kind in (bool, np.uint8, int, np.float16, np.longdouble, object):
        assert p.per_example(np.array([[1, 0], [0, 1]], dtype=kind)).tolist() == [1.0, 2.0]
    assert p.per_example([[True, 0.5], [Decimal("1.5"), Fraction(1, 2)]]).tolist() == [2.0, 2.5]
    assert p.per_example(np.ma.array([[1, 0], [0, 1]])).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.ma.array([[1.0, 2.0]], mask=[[False, True]]), "masked"),
        ([np.ma.array([1.0, 2.0], mask=[True, False])], "masked"),
        ([[1.0, None]], "^x, row 0, column 1 is None, and no real number"),
        ([[1.0, 2.0], ["3", 4.0]], "^x, row 1, column 0 is '3'"),
        ([[1.0, 2.0j]], r"^x, row 0, column 0 is 1.0, and|^x, row 0, column 1 is 2j"),
        ([[1.0, 10**400]], "^x, row 0, column 1 is 1000"),
        (np.array([["2020-01-01", "2020"]], dtype="M8[ns]"), "^x, row 0, column 0 is '2020-01-01"),
        (np.array([[1, 2]], dtype="m8[ns]"), "^x, row 0, column 0 is '1 nano"),
        ([[Value(1.0), 2.0]], "^x, row 0, column 0 is Value"),
    ],
)
def test_what_is_no_real_number_is_named(data: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        autograd.compile(lambda x: x[0] + x[1])(data)


class Frame:
    """As much of a data frame as compile looks at; of pandas, see the next test."""

    def __init__(self, **columns: Any) -> None:
        self.data, self.columns, self.dtypes = columns, list(columns), None

    def __getitem__(self, label: str) -> Any:
        return self.data[label]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(list(zip(*self.data.values())), dtype=dtype)


def test_data_frames() -> None:
    p = autograd.compile(lambda x: x[0] + 2.0 * x[1])
    objects = np.array([True, False], dtype=object)
    assert p.per_example(Frame(a=objects, b=[0.5, 1])).tolist() == [2.0, 2.0]
    for column in (["Paris", "Rome"], [1.0, 2.0j], [1.0, None], np.array(["2020", "2021"], dtype="M8[ns]")):
        with pytest.raises(TypeError, match=r"^x, column city, row \d is .*, and no real number"):
            p(Frame(a=[1.0, 2.0], city=column))


def test_data_frames_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    p = autograd.compile(lambda x: x[0] + 2.0 * x[1])
    whole, real = (pd.array([1, 0], dtype=kind) for kind in ("Int64", "Float64"))
    for columns in ({"a": [True, False], "b": real}, {"a": whole, "b": [1, 0]}, {"a": real, "b": whole}):
        assert p.per_example(pd.DataFrame(columns)).tolist() == [3.0, 0.0]
    assert autograd.compile(lambda x: x * 2.0).per_example(pd.Series(whole)).tolist() == [2.0, 0.0]
    missing = [pd.array([1, None], dtype=kind) for kind in ("Int64", "Float64", "boolean")]
    for column in (["x", "y"], pd.to_datetime(["2020", "2021"]), pd.to_timedelta([1, 2]), *missing):
        with pytest.raises(TypeError, match=r"^x, column city, row \d is .*, and no real number"):
            p(pd.DataFrame({"a": [True, 2.0], "city": column}))


# Live leaves, shapes, and what is not recorded twice


def test_it_records_once_for_a_shape_of_rows_and_reads_the_leaves_at_every_call() -> None:
    recorded = []
    w = [Value(2.0), Value(3.0)]

    def f(x: Any) -> Any:
        recorded.append(len(x))
        return dot(w, x) if len(x) == 2 else total(x)

    p = autograd.compile(f)
    assert p(np.ones((4, 2))) == 5.0
    w[0].data = 10.0
    assert p(np.ones((3, 2))) == p.backward(np.ones((1, 2))) == 13.0
    assert p.per_example([[1, 0], [0, 1]]).tolist() == [10.0, 3.0]
    assert recorded == [2, 2]  # for two rows
    assert p(np.ones((4, 3))) == 3.0 and p(np.ones((4, 2))) == 13.0
    assert recorded == [2, 2, 3, 3]


def test_an_optimizer_and_a_loaded_state_are_seen() -> None:
    model, x, y, p = lab()
    sgd = nn.SGD(model.parameters(), lr=1.0)
    twin = copy.deepcopy(model)
    mean_loss = nn.MeanLoss(twin, nn.squared_error)
    twin_sgd = nn.SGD(twin.parameters(), lr=1.0)
    for _ in range(20):
        sgd.zero_grad()
        twin_sgd.zero_grad()
        assert p.backward(x, y) == pytest.approx(mean_loss.backward(x, y), rel=1e-12)
        sgd.step()
        twin_sgd.step()
    model.load_state_dict({name: 0 * array for name, array in model.state_dict().items()})
    assert p(x, y) == pytest.approx(0.5 * np.mean(y**2))


def test_data_may_change_before_the_gradient_is_first_asked_for() -> None:
    w = Value(1.0)
    p = autograd.compile(lambda x: (w * x).sqrt() * w)
    assert p(np.array([0.0, 4.0])) == 1.0
    w.data = 4.0
    p.backward(np.array([1.0, 4.0]))
    assert w.grad == pytest.approx(np.mean([3.0, 6.0]))


def test_backward_adds_to_the_grads_and_value_and_grad_writes_nothing() -> None:
    model, x, y, p = lab()
    p.value_and_grad(x, y)
    assert all(v.grad == 0.0 for v in model.parameters())
    p.backward(x, y)
    once = [v.grad for v in model.parameters()]
    p.backward(x, y)
    assert [v.grad for v in model.parameters()] == [2 * grad for grad in once]


@pytest.mark.parametrize("engine", ENGINES)
def test_later_calls_leave_the_results_of_earlier_ones_alone(engine: Any) -> None:
    w, b = Value(2.0), Value(-1.0)
    p = autograd.compile(
        lambda x, y: [w * x[0] + y, w, b, [x[1], b]], engine=engine
    )  # some, the same for all
    constant = autograd.compile(lambda x, y: [w, b], engine=engine)
    loss = autograd.compile(lambda x, y: (w * x[0] + x[1] * b - y) ** 2, engine=engine)
    found, expected = list[Any](), list[Any]()
    for n, w.data in zip([1, 1, 2, 2, 1, 20_000, 20_000], itertools.count(2.0)):
        x, y = RNG.normal(size=(n, 2)), RNG.normal(size=n)
        same, error = np.ones(n), w.data * x[:, 0] - x[:, 1] - y
        expected.append([w.data * x[:, 0] + y, w.data * same, -same, np.stack([x[:, 1], -same], axis=1)])
        expected[-1] += [w.data * same, -same]
        expected[-1] += [[2.0 * np.mean(error * z)] for z in x.T]
        given = [(x, y), (np.asfortranarray(x), np.repeat(y, 3)[::3])][n % 2]
        found.append([*p.per_example(*given), *constant.per_example(*given).T])
        found[-1] += [np.atleast_1d(g) for g in loss.value_and_grad(*given)[1]]
        x[:], y[:] = math.nan, math.nan
        with pytest.raises(FloatingPointError, match="row 0"):
            loss(x, y)
    for some, right in zip(found, expected):
        for array, numbers in zip(some, right):
            np.testing.assert_allclose(array, numbers, rtol=1e-12, atol=1e-12)
            assert array.flags.writeable


# Errors


@pytest.mark.parametrize(
    ("f", "use"),
    [
        (lambda x: x if x > 0 else -x, "branches on 0.0 < x=1.5"),
        (lambda x: max(x, 0.0) * 2, "branches"),
        (lambda x: max(v.data for v in [x, -x]) * x, "branches"),
        (lambda x: x * 2 if x else x, r"takes the bool\(\) of x"),
        (lambda x: x * 2 if x == 1.5 else x, "branches"),
        (lambda x: x * 2 if x in (1.5, 2.5) else x, "branches"),
        (lambda x: x * 2 if x in {1.5, 2.5} else x, "looks up"),
        (lambda x: x * {1.5: 2.0}.get(x + 0.0, 1.0), "looks up"),
        (lambda x: x * round(x, 1), "rounds"),
        (lambda x: x * float(f"{x:.1f}"), "formats"),
        (lambda x: (x * x).grad * x, "reads the grad of"),
        (lambda x: [autograd.compile(lambda v: v)([1.0]), x if x > 0 else -x][1], "branches"),
        (lambda x: x if ThreadPoolExecutor().submit(lambda: x > 0 or x).result() else -x, "branches"),
    ],
)
def test_a_branch_is_refused_with_its_line_and_an_alternative(f: Callable[..., Any], use: str) -> None:
    with pytest.raises(TypeError, match=rf"this {use}.*, at test_compile\.py:\d+.*Instead, ") as error:
        autograd.compile(f)(np.array([1.5]))
    assert "baked in" in str(error.value)
    assert round(Value(1.5)) == 2 and Value(1.0) < 2 and Value(0.0)  # it is over with the recording


def test_a_function_that_does_not_name_its_arguments_has_them_numbered() -> None:
    with pytest.raises(TypeError, match=r"branches on .*x0\[1\]=2\.0"):
        autograd.compile(max)(np.array([[1.0, 2.0]]))  # type: ignore[misc]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_a_row_without_a_finite_result_is_named_as_by_eager(engine: Any, reduce: Any) -> None:
    w = Value(2.0, "w")

    def f(x: Any, y: Any) -> Any:
        return (w * x[1]).log() * y

    x = np.array([[0.0, 1.0], [0.0, 3.0], [0.0, -1.0], [0.0, -2.0]])
    p = autograd.compile(f, engine=engine, reduce=reduce)
    p.backward(x[:2], np.ones(2))
    before = w.grad
    for call in (p, p.backward, p.per_example, p.value_and_grad):
        with pytest.raises(
            FloatingPointError, match=r"row 2: log\(-2.0\) is undefined, at test_compile.py:\d+: r"
        ):
            call(x, np.ones(4))
    with pytest.raises(FloatingPointError, match=r"^y, row 0 is nan: mul\(.*y=nan\) is not finite"):
        p(x[:1], np.array([np.nan]))
    with pytest.raises(FloatingPointError, match=r"row 0: log"):
        autograd.compile(f, engine=engine)(x[2:], np.ones(2))
    assert w.grad == before


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_is_an_error_where_a_result_depends_on_it_and_an_infinity_is_none(engine: Any) -> None:
    data = np.array([[1.0, 2.0], [np.nan, 3.0], [np.inf, 4.0]])
    p = autograd.compile(lambda x: [x[0], x[1] * 2.0], engine=engine)
    with pytest.raises(
        FloatingPointError, match=r"^x, row 1, column 0 is nan: the result, nan, is not finite$"
    ):
        p(data)
    assert p(data[::2]).tolist() == [[1.0, 4.0], [np.inf, 8.0]]
    unused = autograd.compile(lambda x: x[1].log(), engine=engine)
    assert unused(data) == pytest.approx(np.log(data[:, 1]).mean(), rel=1e-14)
    with pytest.raises(FloatingPointError, match=r"^row 0: log\(x\[1\]=-2.0\) is undefined"):
        unused(data * [1.0, -1.0])
    first = autograd.compile(lambda x: x[0], engine=engine)
    assert first.per_example(data[::2]).tolist() == [1.0, np.inf]
    with pytest.raises(FloatingPointError, match=r"^row 1: the result, inf, is not finite"):
        first(data[::2])
    matrices = autograd.compile(lambda x, y: x[0, 1] * y, engine=engine)
    with pytest.raises(FloatingPointError, match=r"^x, row 1, column 0, 1 is nan: "):
        matrices(np.array([[[1.0, 2.0]], [[3.0, np.nan]]]), np.ones(2))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_row_that_fails_among_many_is_found_without_computing_all_with_values(engine: Any) -> None:
    w, x, calls = Value(1.0), np.ones((100_000, 2)), list[Any]()

    def f(x: Any) -> Any:
        calls.append(None)
        return (w * x[0]).log() * x[1]

    for call in ("__call__", "per_example", "backward"):
        p = getattr(autograd.compile(f, engine=engine), call)
        p(x)
        calls.clear()
        for row, bad, said in (
            (-1, (np.nan, 1.0), "x, row 99999, column 0 is nan"),
            (-2, (-1.0, 1.0), "row 99998"),
        ):
            wrong = x.copy()
            wrong[row] = bad
            with pytest.raises(FloatingPointError, match=f"^{said}: "):
                p(wrong)
        wrong[-2], wrong[99_000] = (1.0, np.nan), (0.0, 1.0)  # NaN comes first, in a block of rows
        with pytest.raises(FloatingPointError, match=r"^x, row 99998, column 1 is nan: "):
            p(wrong)
        assert len(calls) == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gradient_that_is_not_finite_is_named_and_nothing_is_written(engine: Any) -> None:
    w = Value(1.0, "w")
    p = autograd.compile(lambda x: (w * x).sqrt(), engine=engine)
    assert p(np.array([1.0, 0.0])) == 0.5
    with pytest.raises(FloatingPointError, match=r"row 1: backward: the derivative of sqrt\(0.0\)"):
        p.backward(np.array([1.0, 0.0]))
    assert w.grad == 0.0


def test_what_overflows_only_in_the_sum_is_said() -> None:
    large = np.array([1e308, 1e308])
    assert autograd.compile(lambda x: x, engine="numpy").per_example(large).tolist() == large.tolist()
    with pytest.raises(OverflowError, match="when added"):
        autograd.compile(lambda x: x, reduce="sum", engine="numpy")(np.array([1e308, 1e308]))


def test_what_overflows_on_the_way_in_the_arrays_alone_is_no_error() -> None:
    x = np.zeros((1, 16))
    x[0, [0, 1, 8]] = 1e308, -1e308, 1e308  # NumPy adds the first to the ninth
    assert autograd.compile(lambda x: total(x).tanh(), engine="numpy")(x) == 1.0


def test_saturated_activations_are_no_error() -> None:
    w = Value(1.0)
    x = np.array([-1000.0, -720.0, 0.0, 720.0, 1000.0])
    for f in (lambda x: (w * x).sigmoid(), lambda x: (w * x).softplus(), lambda x: (w * x).tanh()):
        check(f, [x], [w])
    assert autograd.compile(lambda x: (w * x).sigmoid().log())(x[1:2]) == pytest.approx(-720.0, rel=1e-14)


@pytest.mark.parametrize(
    ("arrays", "error", "said"),
    [
        ((np.ones((3, 2)), np.ones(4)), ValueError, r"\(3, 2\), \(4,\)"),
        ((np.ones((3, 4)), np.ones(3)), ValueError, r"\(3, 4\), \(3,\): this takes 2 inputs"),
        ((np.ones((0, 2)), np.ones(0)), ValueError, r"\(0, 2\), \(0,\)"),
        ((np.ones((3, 2)), ["a", "b", "c"]), TypeError, "^y, row 0 is .a., and no real number"),
        (([[1, 2], [3]], np.ones(2)), ValueError, "differ in length"),
        ((1.0, 2.0), ValueError, "a row for each example"),
        ((), ValueError, "no arrays"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_all_shapes(arrays: Any, error: Any, said: str) -> None:
    model = nn.MLP(2, [1])
    with pytest.raises(error, match=said):
        autograd.compile(lambda x, y: nn.squared_error(model(x), y))(*arrays)


@pytest.mark.parametrize("engine", ENGINES)
def test_functions_without_data_and_data_of_many_axes(engine: Any) -> None:
    w = leaves(2)
    p: Any = autograd.compile(lambda: (w[0] * w[1]).exp() + w[0] ** 2, engine=engine)
    x, y = (v.data for v in w)
    value, slopes = math.exp(x * y) + x * x, [y * math.exp(x * y) + 2.0 * x, x * math.exp(x * y)]
    assert p() == p.per_example() == pytest.approx(value)
    found, gradient = p.value_and_grad()
    assert found == pytest.approx(value) and [*p.leaves[0]] == w and gradient[0] == pytest.approx(slopes)
    assert p.backward() == pytest.approx(value) and [v.grad for v in w] == pytest.approx(slopes)
    assert "N" not in p.source and autograd.compile(lambda: 3.0, reduce="sum")() == 3.0
    with pytest.raises(FloatingPointError, match=r"^log\(0.0\) is undefined, at test_compile"):
        autograd.compile(lambda: (w[0] - w[0]).log(), engine=engine)()
    images = RNG.normal(size=(4, 2, 3, 2, 2))
    p = autograd.compile(lambda a: np.sum(a * a) * w[0], engine=engine)
    assert p.per_example(images) == pytest.approx(np.sum(images**2, axis=(1, 2, 3, 4)) * x)
    assert p.value_and_grad(images)[1][0] == pytest.approx([np.sum(images**2) / 4, 0.0])


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_of_any_form(engine: Any) -> None:
    w, data = leaves(2), RNG.normal(size=(3, 2))
    of_rows = [[Value(a), Value(b)] for a, b in data]
    f: Callable[..., Any] = lambda x: hessian(lambda z: (z[0] * z[1] * w[0]).sin())(x)  # noqa: E731
    found = autograd.compile(f, engine=engine).per_example(data)
    assert found.shape == (3, 2, 2)
    for x, matrix in zip(data, found):
        np.testing.assert_allclose(matrix, [[v.data for v in row] for row in f(x)], rtol=1e-12)
    f = lambda x: (x[0] * w[0], [x[0] * w[1], [x[1], 2.0]], np.array([[x[0]], [w[0]]]))  # noqa: E731
    loss, (products, pairs), column = autograd.compile(f, engine=engine)(data)
    assert products.shape == loss.shape == (3,) and pairs.shape == (3, 2) and column.shape == (3, 2, 1)
    for i, row in enumerate(of_rows):
        a, (b, c), d = f(row)
        assert (loss[i], products[i], *pairs[i]) == pytest.approx((a.data, b.data, c[0].data, 2.0))
        assert column[i, :, 0] == pytest.approx([row[0].data, w[0].data]) and d.shape == (2, 1)
    Pair = namedtuple("Pair", "loss parts")
    pair = autograd.compile(lambda x: Pair(x[0], [x, [], np.zeros((0, 2))]), engine=engine)(data)
    assert type(pair) is Pair and [a.shape for a in pair.parts] == [(3, 2), (3, 0), (3, 0, 2)]
    cube = RNG.normal(size=(3, 2, 1, 3))
    assert (autograd.compile(lambda x: x, engine=engine)(cube) == cube).all()
    with pytest.raises(TypeError, match=r"returns shape \(2,\) for one example, and \(3,\) for another"):
        lengths = iter((2, 3))
        autograd.compile(lambda x: [x] * next(lengths))(np.ones(2))


@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_of_a_row_as_indices(engine: Any) -> None:
    E = [[Value(RNG.normal(), f"E[{i},{j}]") for j in range(3)] for i in range(5)]
    W = [[Value(RNG.normal(), f"W[{i},{j}]") for j in range(3)] for i in range(4)]
    shift = [0.0, -0.5, 0.0, 2.0]

    def f(symbols: Any, x: Any, target: Any) -> Any:  # tables of leaves, of numbers and of results
        e = [a + x * b for a, b in zip(E[int(symbols[0])], E[int(symbols[1])])]
        exps = [sum(w * a for w, a in zip(row, e)).exp() for row in W]
        return (exps[int(target)] / sum(exps)).log() + shift[int(target)] * E[0][0]

    symbols, x, target = RNG.integers(5, size=(7, 2)), RNG.normal(size=7), RNG.integers(4, size=7)
    p: Any = autograd.compile(f, engine=engine)
    expected = total([f(*row) for row in zip(symbols, x, target)]) / 7.0
    expected.backward()
    value, gradient = p.value_and_grad(symbols, x, target)
    assert value == pytest.approx(expected.data, rel=1e-12) and len(gradient) == len(p.leaves)
    for array, grads in zip(p.leaves, gradient):
        assert grads.ravel() == pytest.approx([v.grad for v in array.flat], rel=1e-9, abs=1e-12)
    for wrong, said in ((5, "row 2, column 1 is 5, .* from 0 to 4"), (-1, "is -1"), (0.5, "is 0.5")):
        bad = symbols.astype(float)
        bad[2, 1] = wrong
        with pytest.raises(IndexError, match=said):
            p(bad, x, target)
    with pytest.raises(IndexError, match="row 0: target is 9, and there is no such element"):
        autograd.compile(f)(symbols, x, np.full(7, 9))
    p = autograd.compile(lambda x: x.log() + {0: W[0][0], 2: W[1][0], 1: W[2][0]}[int(x)], engine=engine)
    assert p.per_example([2, 1]) == pytest.approx([math.log(2.0) + W[1][0].data, W[2][0].data])
    with pytest.raises(IndexError, match=r"x, row 1 is 0, and an index here is .* among \[1, 2\]"):
        p([1, 0])  # log(0) has no graph
    p = autograd.compile(lambda i: 1.0 / W[int(i)][0], engine=engine)
    assert p.per_example([1, 2])[1] == pytest.approx(1.0 / W[2][0].data)
    W[3][0].data = 0.0
    with pytest.raises(ArithmeticError, match=r"row 1: div\(1.0, W\[3,0\]=0.0\) is undefined"):
        p([0, 3])


def test_an_element_may_be_undefined_beside_other_numbers_than_those_of_its_rows() -> None:
    table = [Value(x, f"table[{i}]") for i, x in enumerate([0.0, 1.0, 3.0, 5.0])]
    x, i = np.array([2.0, 6.0, 4.0, 0.5]), np.array([1, 3, 2, 0])
    program = autograd.compile(lambda x, i: (x - table[i]).log(), engine="numpy")
    expected = np.log(x - np.array([0.0, 1.0, 3.0, 5.0])[i])
    np.testing.assert_allclose(program.per_example(x, i), expected, rtol=1e-14)
    program.backward(x, i)
    np.testing.assert_allclose([v.grad for v in table], [-0.5, -0.25, -0.25, -0.25], rtol=1e-14)
    with pytest.raises(ArithmeticError, match="row 2: log"):
        program.per_example(x, i[::-1])


def test_many_indices_are_recorded_together_and_told_apart() -> None:
    table, shares, runs = leaves(30), leaves(20), []

    def mixed(symbols: Any) -> Any:
        runs.append(1)
        return total(share * table[int(symbol)] for share, symbol in zip(shares, symbols))

    symbols = RNG.integers(30, size=(5, 20))
    found = autograd.compile(mixed).per_example(symbols)
    assert len(runs) < 300  # not 30 for each of the 20 indices
    assert found == pytest.approx([mixed(row).data for row in symbols], rel=1e-12)
    rare = [table[0]] * 599 + [table[1]]  # few combinations tell i from j
    p = autograd.compile(lambda i, j: (rare[int(i)] - rare[int(j)] * table[2]) * shares[int(j) // 300])
    a, b, c, *_ = (v.data for v in table)
    assert p.per_example([0], [0]) == pytest.approx((a - a * c) * shares[0].data)
    s, t = (v.data for v in shares[:2])
    expected = [(a - a * c) * s, (b - a * c) * s, (a - b * c) * t, (b - b * c) * t, (b - a * c) * t]
    assert p.per_example([0, 599, 0, 599, 599], [0, 0, 599, 599, 300]) == pytest.approx(expected)


def test_indices_that_decide_more_than_an_element_are_refused() -> None:
    w = leaves(3)
    for f, said in (
        (
            lambda i: sum(w[: int(i)], 0.0),
            r"a Value is no float, and int\(i\) is for an index of a table: this has no end",
        ),
        (lambda i: w[int(i)] if int(i) < 2 else w[int(i)] * 2.0, "other ways"),
        (lambda i: [w, w, w[::-1]][int(i)][int(i)], ""),
        (lambda i: w[int(i * 2.0)], "a Value is no float"),
    ):
        if not said:  # an element all the same
            assert autograd.compile(f).per_example(np.arange(3.0))[2] == w[0].data
            continue
        with pytest.raises(TypeError, match=said):
            autograd.compile(f)(np.array([0.0, 1.0, 2.0]))
    product = [0.0, 1.0, 2.0]
    g: Callable[..., Any]
    for g in (
        lambda i, j: [[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]][int(i)][int(j)] * w[0],
        lambda i, j: product[int(i)] * product[int(j)] * w[0],  # in the first row, 0 by each alone
        lambda i, j: w[int(i)] + w[int(j)] + w[int(i) * int(j)],
    ):
        with pytest.raises(TypeError, match="two indices together"):
            autograd.compile(g)(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    with pytest.raises(TypeError, match="a Value is no float"):  # the transform's own argument
        autograd.compile(lambda x: autograd.grad(lambda z: z * product[int(z)])(x))(np.array([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"shape \(1,\) for one index, and \(2,\) for another"):
        autograd.compile(lambda i: [w[:1], w[:2]][int(i)])(np.array([0.0, 1.0]))
    with pytest.raises(TypeError, match="draws random numbers"):
        rng = np.random.default_rng(0)
        autograd.compile(lambda i: w[int(i)] * (rng.random() if int(i) == 2 else 1.0))(np.array([0.0]))
    with pytest.raises(TypeError, match="two indices together"):
        autograd.compile(lambda i, j: [w, w[::-1], w][int(i)][int(j)])(np.arange(2.0), np.arange(2.0))
    with pytest.raises(TypeError, match=r"a whole number, and i is 0\.5"):
        autograd.compile(lambda i: w[i])(np.array([0.5]))
    with pytest.raises(TypeError, match="a Value is no float"):
        autograd.grad(lambda x: w[int(x)] * x)(1.0)


def test_wrong_arguments_are_refused() -> None:
    for call, said in (
        (lambda: autograd.compile(3), "takes a function"),  # type: ignore[call-overload]
        (lambda: autograd.compile(abs, reduce="max"), "mean"),  # type: ignore[call-overload]
        (lambda: autograd.compile(abs, engine="gpu"), "auto, numpy, native"),  # type: ignore[call-overload]
        (lambda: autograd.compile(abs).source, "call it with data first"),
        (lambda: autograd.compile(lambda x: {0: "x"})(np.ones(2)), r"not {0: 'x'"),  # type: ignore[misc]
        (lambda: autograd.compile(lambda x, y: x)(), "no arrays"),
        (lambda: autograd.compile(lambda x: (x, [x, x])).value_and_grad(np.ones(2)), "list of outputs"),
        (lambda: autograd.compile(lambda x: [])(np.ones(2)), r"not \[\]"),
    ):
        with pytest.raises((TypeError, ValueError, RuntimeError), match=said):
            call()


def test_without_llvmlite_programs_run_in_numpy_and_without_fork_there_is_nothing_to_renew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "autograd"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    fresh = importlib.import_module("autograd")
    assert fresh.compile(lambda x: x * x)(np.array([1.0, 3.0])) == 5.0
    with pytest.raises(ImportError, match="extra `native`"):
        fresh.compile(lambda x: x * x, engine="native")


# Threads, pickles, pictures, other libraries


@autograd.compile(reduce="sum")
def square(x: Any) -> Any:
    """The square."""
    return x * x


def test_programs_survive_pickle_where_their_functions_do() -> None:
    assert square.__doc__ == "The square." and square(np.array([1.0, 2.0])) == 5.0
    assert pickle.loads(pickle.dumps(square)) is square and copy.deepcopy(square) is square
    model = nn.MLP(2, [3, 2])
    program = autograd.compile(model)
    x = RNG.normal(size=(4, 2))
    expected = program(x)
    again = pickle.loads(pickle.dumps(program))
    assert np.array_equal(again(x), expected) and again is not program


def test_the_graph_can_be_drawn() -> None:
    _, _, _, p = lab()
    assert "x[0]" in draw(p.graph).source and repr(p).startswith(
        "<Program of lab.<locals>.<lambda>: x (N, 2), "
    )


def test_names_that_the_source_needs_are_left_to_it() -> None:
    w = Value(2.0, "sigmoid")

    def f(xp: Any, N: Any, lambda_: Any, c: Any, t: Any) -> Any:
        return (w * xp[0]).sigmoid() * N + total([lambda_, c, t]) * dot(xp, [1.0, 2.0])

    check(f, [RNG.normal(size=(3, 2)), *RNG.normal(size=(4, 3))], [w])


@pytest.mark.parametrize("label", ["ℕ", "w²", "σ", "__debug__", "a-b", "7", "def", "𝐱𝐩", "", "ſ", "xp"])
def test_any_label_will_do(label: str) -> None:
    w = Value(10.0, label)
    assert autograd.compile(lambda x, s: x * w * s, engine="numpy")(np.ones(3), np.ones(3)) == 10.0


def every_primitive(x: Any, w: list[Value]) -> Any:
    a, b = dot(w, x), x[0] + 2.5
    parts = [
        a.sigmoid(),
        a.relu(),
        a.softplus(),
        a.tanh(),
        a.sin(),
        a.cos(),
        b.log(),
        b.sqrt(),
        (-a * a).exp(),
        abs(a),
    ]
    c = 0.9 * a.tanh()
    f: Callable[..., Any]
    for f in (autograd.tan, autograd.asin, autograd.acos, autograd.atanh, autograd.log1p, autograd.expm1):
        parts.append(f(c))
    for f in (autograd.atan, autograd.asinh, autograd.sinh, autograd.cosh, autograd.erf, autograd.erfc):
        parts.append(f(a))
    for f in (autograd.log2, autograd.log10, autograd.cbrt, autograd.lgamma, autograd.sinc):
        parts.append(f(b))
    for f in (autograd.atan2, autograd.hypot, autograd.logaddexp, autograd.copysign):
        parts += [f(a, 0.3), f(0.3, b), f(b, a)]
    parts += [
        autograd.acosh(b + 1.0),
        autograd.floor(a) * b,
        autograd.ceil(a) * b,
        a % 0.7,
        a // 0.7 * b,
        0.7 % b,
    ]
    parts += [autograd.maximum(a, 0.1), autograd.minimum(a, b), a / b, b**a, b**1.5, total(x), w[2] * w[1]]
    return total(parts) + dot([x[2], x[0], w[1]], [x[1], x[1], x[1]]) * 0.3


@pytest.mark.parametrize(
    "name",
    ["array_api_strict", *(pytest.param(name, marks=pytest.mark.oracles) for name in ("torch", "jax"))],
)
def test_the_source_runs_on_other_libraries(name: str) -> None:
    library = pytest.importorskip(name)
    if name == "jax":
        library.config.update("jax_enable_x64", True)
    xp = library.numpy if name == "jax" else library
    w = leaves(3)
    x = RNG.uniform(-2, 2, size=(6, 3))
    attend, _ = attention(2, causal=True)
    for f, data in (
        (lambda x: every_primitive(x, w), x),
        (lambda x: recurrent([x, x]), x),
        (lambda x: cross_entropy(x), x),
        (lambda x: convolution(x), x),
        (lambda m: gram(m), RNG.normal(size=(4, 3, 3))),
        (lambda x: pooled([x, x[::-1]]), x),
        (lambda x: [x[1], 2.0, w[0], x[0] * w[0]], x),
        (lambda x: attend(x, x), RNG.normal(size=(2, 6, 8))),
        (
            lambda x: total([(x[i] * x[7 - i] - dot(w, x[i : i + 3])).tanh() for i in range(6)]),
            RNG.normal(size=(2, 8)),
        ),
    ):
        p = autograd.compile(f, engine="numpy")
        p(data)
        mine, theirs = (
            p.function(module)(convert(data), *map(convert, p.numbers))
            for module, convert in ((np, np.asarray), (xp, xp.asarray))
        )
        for a, b in zip(mine, theirs):
            assert np.asarray(b) == pytest.approx(np.asarray(a), rel=1e-10, abs=1e-12)


def test_a_sum_that_overflows_in_the_order_of_the_program_alone_is_an_error_too() -> None:
    a, large = Value(1e308, "a"), np.array([1e308])
    assert autograd.compile(lambda x: (a - x) + a)(large) == 1e308  # a difference stays one
    program: Any = autograd.compile(lambda x: total([a, -x, a]))  # which is 2 a − x
    with pytest.raises(OverflowError, match=r"^row 0: mul\(2.0, a=1e\+308\) overflows"):
        program(large)
    a.data = 1e-300
    program = autograd.compile(lambda x, y, z: total([x * a, -y * a, z * a]))  # its slope is x + z − y
    assert program(large, large, large) == pytest.approx(1e8)
    with pytest.raises(OverflowError, match=r"^row 0: "):
        program.backward(large, large, large)


def test_a_copy_of_what_is_recorded_is_refused() -> None:
    with pytest.raises(TypeError, match=r"copies x=1.0.*Instead, use the Value itself"):
        autograd.compile(lambda x: copy.deepcopy(x) * 2.0)(np.ones(1))
