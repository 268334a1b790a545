"""The functions of functions.py, special.py and linalg.py, of floats, arrays, Values and programs alike."""

import importlib.util
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import autograd
from autograd import Value, check_gradients, clip, compile, grad, jacobian, linalg
from autograd.ops import TABLE, polygamma

ENGINES: list[Any] = ["numpy"] + ["native"] * bool(importlib.util.find_spec("llvmlite"))
NUMBERS = np.array([-2.3, -0.7, -0.2, 0.0, 0.25, 0.5, 1.0, 3.4])


@pytest.mark.parametrize(
    ("f", "of_numpy"),
    [
        (autograd.deg2rad, np.deg2rad),
        (autograd.rad2deg, np.degrees),
        (autograd.exp2, np.exp2),
        (autograd.sinc, np.sinc),
        (lambda x: clip(x, -0.5, 0.8), lambda x: np.clip(x, -0.5, 0.8)),
        (lambda x: clip(x, max=0.8), lambda x: np.clip(x, a_min=None, a_max=0.8)),
        (lambda x: x % 0.7 + 5.0 % (x + 4.0), lambda x: np.mod(x, 0.7) + np.remainder(5.0, x + 4.0)),
        (lambda x: x // 0.7 * x - 5.0 // (x + 4.0), lambda x: np.floor_divide(x, 0.7) * x - 5.0 // (x + 4.0)),
        (lambda x: autograd.copysign(2.0, x + 0.1) * x, lambda x: np.copysign(2.0, x + 0.1) * x),
        (lambda x: autograd.logaddexp(x, 0.3), lambda x: np.logaddexp(x, 0.3)),
        (lambda x: autograd.floor(x) + autograd.ceil(x) * x, lambda x: np.floor(x) + np.ceil(x) * x),
    ],
)
def test_compositions_and_steps(f: Callable[..., Any], of_numpy: Callable[..., Any]) -> None:
    expected = of_numpy(NUMBERS)
    assert f(NUMBERS) == pytest.approx(expected, rel=1e-15)
    values = np.array([Value(x) for x in NUMBERS])
    for found in (f(values), [of_numpy(v) for v in values]):
        assert [v.data for v in found] == pytest.approx(expected.tolist(), rel=1e-15)
    assert [f(x) for x in NUMBERS.tolist()] == pytest.approx(expected.tolist(), rel=1e-15)
    slopes = [grad(f)(x) for x in NUMBERS]
    for engine in ENGINES:
        both = compile(lambda x: [f(x), grad(of_numpy)(x)], engine=engine).per_example(NUMBERS)
        np.testing.assert_allclose(both, np.transpose([expected, slopes]), rtol=1e-14, atol=1e-15)
    for x in (-2.31, -0.71, 0.26, 3.41):
        check_gradients(f, x, order=2)


def test_derivatives_of_sinc_lose_no_digits() -> None:
    mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")
    slopes = [autograd.sinc]
    for _ in range(4):
        slopes.append(grad(slopes[-1]))
    for x in (0.0, 1e-9, -1e-3, 0.5, 0.50001, 2.0):
        for order, slope in enumerate(slopes):
            with mpmath.workdps(60):
                exact = mpmath.diff(mpmath.sincpi, mpmath.mpf(x), order) if x else sinc_at_0(order)
            assert slope(x) == pytest.approx(float(exact), rel=1e-12, abs=1e-13)


def sinc_at_0(order: int) -> float:
    return (-1) ** (order // 2) * math.pi**order / (order + 1) if order % 2 == 0 else 0.0


def test_numpys_names_on_values_and_on_arrays_of_any_make() -> None:
    names = (
        "tan arcsin arccos arctan sinh cosh arcsinh arctanh log1p expm1 log2 log10 exp2 cbrt deg2rad radians"
        " rad2deg degrees fabs floor ceil square reciprocal sinc"
    )
    x: Any = Value(0.3)
    for name in names.split():
        f = getattr(np, name)
        for found in (f(x), f(np.array([x]))[0], grad(lambda a, f=f: f(a)[0])(np.array([0.3])) * 0.0 + f(x)):
            found = found if isinstance(found, Value) else found[0]
            assert found.data == pytest.approx(f(0.3), rel=1e-14)
    for f in (np.arctan2, np.hypot, np.remainder, np.floor_divide):
        assert f(np.array([x]), 0.4)[0].data == f(x, 0.4).data == pytest.approx(f(0.3, 0.4))
    assert np.copysign(x, -1.0).data == -0.3 and math.floor(x).data == 0.0 and x.shape == ()
    with pytest.raises(TypeError, match=r"rint does not take Values: there are .*arctan2"):
        np.rint(x)


def test_remainders_have_pythons_signs() -> None:
    numbers = [5.5, -5.5, 0.0, -0.0, 1e-300, 3.0, -0.1, 1e17, 6.0]
    pairs = np.array([(x, y) for x in numbers for y in (3.0, -3.0, 0.1, -0.1, 1e300)])
    expected = [[x % y, x // y] for x, y in pairs.tolist()]
    assert [[(Value(x) % y).data, (x // Value(y)).data] for x, y in pairs.tolist()] == expected
    for engine in ENGINES:
        found = compile(lambda x, y: [x % y, x // y], engine=engine).per_example(*pairs.T)
        assert found.tolist() == expected


def test_special_functions_run_on_any_array_library() -> None:
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    x = np.array([-2.3, -0.4, 0.1, 0.9, 1.0, 2.0, 2.5, 30.0])
    rows = [
        TABLE[name] for name in ("erf", "erfc", "lgamma", "cbrt", "atan2", "hypot", "logaddexp", "copysign")
    ]
    f: Callable[..., Any]
    for f in [
        *(lambda x, row=row: row(x, 0.7) if row.dy else row(x) for row in rows),
        lambda x: polygamma(2.0, x),
    ]:
        program = compile(lambda x, f=f: f(x) * x, engine="numpy", reduce="sum")
        expected = sum(f(v) * v for v in x.tolist())
        assert program(x) == pytest.approx(expected, rel=1e-14)
        assert float(program.function(strict)(strict.asarray(x))[0]) == pytest.approx(expected, rel=1e-14)


def test_derivatives_of_lgamma_end_with_the_order_that_is_known() -> None:
    slope: Callable[..., Any] = autograd.lgamma
    for _ in range(3):
        slope = grad(slope)
    assert slope(2.5) == pytest.approx(polygamma.compute(2.0, 2.5))
    with pytest.raises(ArithmeticError, match=r"polygamma\(13.0, 2.5\) is undefined"):
        polygamma(13.0, Value(2.5))


# Matrices


def matrices(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    a = np.random.default_rng(n).normal(size=(n, n))
    return a, a @ a.T + np.eye(n), np.arange(1.0, n + 1.0), np.arange(2.0 * n).reshape(n, 2)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_matrices_as_numpy_has_them_with_derivatives(n: int) -> None:
    a, positive, b, columns = matrices(n)
    for name, given in {"det": (a,), "inv": (a,), "solve": (a, b), "cholesky": (positive,)}.items():
        ours, numpys = getattr(linalg, name), getattr(np.linalg, name)
        expected = numpys(*given)
        values = [np.vectorize(Value, otypes=[object])(x) for x in given]
        found = ours(*(v.tolist() for v in values))
        np.testing.assert_allclose(np.vectorize(lambda v: getattr(v, "data", v))(found), expected, rtol=1e-10)
        np.testing.assert_allclose(ours(*given), expected)
        if n < 4:
            check_gradients(numpys, *given)
        data = [np.stack([x, 2.0 * x]) for x in given]
        for engine in ENGINES if n < 4 else ENGINES[:1]:
            rows = compile(lambda *x, f=numpys: f(*x), engine=engine).per_example(*data)
            np.testing.assert_allclose(rows[0], expected, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(rows[1], numpys(*(x[1] for x in data)), rtol=1e-10, atol=1e-12)
    slopes = jacobian(np.linalg.solve)(a, columns)
    right = -np.einsum("ij,kl->iljk", np.linalg.inv(a), np.linalg.solve(a, columns))
    np.testing.assert_allclose(slopes, right, rtol=1e-9, atol=1e-11)


def test_pivots_are_the_largest_in_every_row() -> None:
    a = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1e-20, 1.0], [1.0, 1.0]], [[2.0, 0.0], [1.0, 3.0]]])
    expected = np.linalg.inv(a)
    np.testing.assert_allclose([jacobian(np.linalg.inv)(x).shape for x in a], [(2, 2, 2, 2)] * 3)
    for engine in ENGINES:
        np.testing.assert_allclose(compile(np.linalg.inv, engine=engine).per_example(a[::-1]), expected[::-1])
        assert compile(np.linalg.det, engine=engine).per_example(a).tolist() == [-1.0, -1.0, 6.0]


def test_the_derivative_of_a_determinant_is_the_cofactors_even_of_a_singular_matrix() -> None:
    for a in (
        np.zeros((2, 2)),
        np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]]),
        np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 4.0], [0.0, 5.0, 7.0]]),
        np.zeros((3, 3)),
    ):
        n = range(len(a))
        minors = [[np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in n] for i in n]
        signs = [[(-1.0) ** (i + j) for j in n] for i in n]
        np.testing.assert_allclose(grad(np.linalg.det)(a), np.multiply(signs, minors), atol=1e-15)


def test_matrices_without_a_result_say_so() -> None:
    singular = np.array([[1.0, 2.0], [2.0, 4.0]])
    for error in (np.linalg.LinAlgError, ArithmeticError):
        with pytest.raises(error, match=r"matrix is singular.*, at test_functions.py"):
            grad(lambda a: np.linalg.inv(a).sum())(singular)
        with pytest.raises(error, match="not positive definite"):
            grad(lambda a: np.linalg.cholesky(a).sum())(-np.eye(2))
    rows = np.array([np.eye(2), singular])
    with pytest.raises(ArithmeticError, match="row 1: the matrix is singular"):
        compile(lambda a: np.linalg.inv(a)).per_example(rows)
    with pytest.raises(ValueError, match=r"one square matrix, not an array of shape \(2, 3\)"):
        linalg.det(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"b of 2 rows for a of shape \(2, 2\), not of shape \(3,\)"):
        linalg.solve(singular, [Value(1.0)] * 3)


@pytest.mark.oracles
def test_gradients_of_matrices_are_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    a, positive, b, _ = matrices(4)
    for name, given in {"det": (a,), "inv": (a,), "solve": (a, b), "cholesky": (positive,)}.items():
        f, g = (getattr(module.linalg, name) for module in (np, torch))
        theirs = torch.autograd.functional.jacobian(g, tuple(map(torch.tensor, given)))
        ours = jacobian(f, tuple(range(len(given))))(*given)
        if name == "cholesky":  # which is of the symmetric part there
            ours = [np.tril(x) + np.triu(x.swapaxes(-1, -2), 1) for x in ours]
            theirs = [np.tril(x + np.triu(x, 1).swapaxes(-1, -2)) for x in map(np.asarray, theirs)]
            ours = [np.tril(x) for x in ours]
        for x, y in zip(ours, theirs):
            np.testing.assert_allclose(x, np.asarray(y), rtol=1e-8, atol=1e-9)
