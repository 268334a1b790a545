"""Where a result first is not finite, eager and compiled code say so, and say the same."""

import functools
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value, derive, dot, maximum, minimum, total, where
from autograd.ops import TABLE
from autograd.program.variant import Kernel

inf = math.inf
NATIVE = pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="llvmlite is not installed"))
COMPILED = ["numpy", NATIVE]
CALLS = ["__call__", "per_example", "value_and_grad", "backward"]
a, b, c = Value(1.0, "a"), Value(-1.0, "b"), Value(1e-200, "c")


def product(x: Any) -> Any:
    """A product of matrices, in which NumPy raises no flag: here are two rows of it, added."""
    return autograd.matvec([[a, b], [b, a]], x)


def growing(x: Any) -> Any:
    """Products of queries and of the keys up to them, which are computed with a mask."""
    queries, keys = ([v * z for v in vs] for vs, z in zip(TOKENS, x))
    return [[q * k for k in keys[: i + 1]] for i, q in enumerate(queries)]


TOKENS = [[Value(z) for z in (1.0, 1.0, 1.0)], [Value(z) for z in (-1e-200, 1.0, -1e-200)]]
# A program, and an example for which a primitive masks what overflowed before it.
MASKED = {
    "exp": (lambda x: (a * x[0]).exp() ** -1.0, (800.0, 1.0)),
    "power": (lambda x: (a * x[0] * 1e10) ** -3.0, (1e300, 1.0)),
    "real power": (lambda x: (a * x[0] * 1e10) ** -1.5, (1e300, 1.0)),
    "exponent": (lambda x: x[1] ** (a * x[0] * -1e10), (1e300, 2.0)),
    "quotient": (lambda x: a / (x[1] * x[0]), (1e300, 1e10)),
    "sigmoid": (lambda x: total([z.sigmoid() for z in product(x)]), (1e308, -1e308)),
    "tanh": (lambda x: total([z.tanh() for z in product(x)]), (1e308, -1e308)),
    "relu": (lambda x: total([z.relu() for z in product(x)[:1]]), (-1e308, 1e308)),
    "softplus": (lambda x: total([(-z).softplus() for z in product(x)[:1]]), (1e308, -1e308)),
    "exp of a product": (lambda x: total([z.exp() for z in product(x)[:1]]), (-1e308, 1e308)),
    "quotient of products": (lambda x: total([x[0] / z for z in product(x)]), (1e308, -1e308)),
    "softmaxes": (
        lambda x: total(total([s * s for s in nn.softmax(zs)]) for zs in growing(x)),
        (1e200, -1e200),
    ),
    "logsumexps": (lambda x: total(nn.logsumexp(zs).tanh() for zs in growing(x)), (1e200, -1e200)),
    "compared": (lambda x: total(where(nn.logsumexp(z) > 1.0, x[1], a) for z in growing(x)), (1e200, -1e200)),
    "compared NaN": (lambda x: where(a * x[0] < x[1], x[1], a), (math.nan, 1.0)),
    "maximum": (lambda x: maximum(dot([a, b], x), x[0]), (-1e308, 1e308)),
    "minimum": (lambda x: minimum(x[0], dot([a, b], x)), (1e308, -1e308)),
    "sign": (lambda x: TABLE["sign"](dot([a, b], x)) * x[0], (1e308, -1e308)),
    "step": (lambda x: TABLE["step"](x[0], dot([a, b], x)) * x[0], (1e308, -1e308)),
    "infinite data": (lambda x: (a * x[0] + x[1]).sigmoid(), (inf, 1.0)),
    "infinite data, negated": (lambda x: (-product([-v for v in x])[0]).relu(), (1.0, inf)),
    "NaN to the power 0": (lambda x: (a * x[0]) ** x[1], (math.nan, 0.0)),
    "1 to the power NaN": (lambda x: x[1] ** (a * x[0]), (math.nan, 1.0)),
    "anything to the power 0": (lambda x: (a * x[0]).exp() ** 0.0, (800.0, 1.0)),
    "NaN": (lambda x: maximum(x[1], (a * x[0]).sin() - x[0]), (math.nan, 1.0)),
    "domain": (lambda x: ((a * x[0]).log() ** 2.0).sigmoid(), (-1.0, 1.0)),
    "pole": (lambda x: (-(a * x[0]).log()).sigmoid(), (0.0, 1.0)),
    "pole of a quotient": (lambda x: (a / x[0]).tanh(), (0.0, 1.0)),
}


def recorded(f: Callable[..., Any], rows: np.ndarray, gradient: bool = False) -> Any:
    """What eager code raises in the first row where it does: the row, and the error."""
    for i, row in enumerate(rows):
        try:
            out = f([Value(v, f"x[{j}]") for j, v in enumerate(row)])
            if gradient:
                (out * (1.0 / len(rows))).backward()
        except ArithmeticError as error:
            return i, error
    return None


def without_line(error: Any) -> str:
    """The message, which ends with a line of this file, without that line."""
    match = re.fullmatch(r"(.*), at (\w+\.py):\d+: (.*)", str(error))
    assert match
    said, file, line = match.groups()
    assert file == "test_anomalies.py" and line
    return said


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", MASKED)
def test_compiled_code_stops_where_eager_code_does(name: str, engine: Any) -> None:
    f, bad = MASKED[name]
    rows = np.array([[1.5, 2.0], [2.5, 1.0], bad, bad])
    with np.errstate(all="ignore"):
        i, error = recorded(f, rows)
    assert i == 2
    for call in CALLS:
        with pytest.raises(type(error)) as found:
            getattr(autograd.compile(f, engine=engine), call)(rows)
        place = "x, row 2, column 0 is nan" if math.isnan(bad[0]) else "row 2"
        assert str(found.value) == f"{place}: {error}"


# A program whose results are finite though data are not, and such data.
DATA: dict[str, tuple[Callable[..., Any], float]] = {
    "maximum": (lambda x: maximum(a * x[1], x[0]), -inf),
    "minimum": (lambda x: minimum(x[0], a * x[1]), inf),
    "exp": (lambda x: a * x[1] + x[0].exp(), -inf),
    "quotient": (lambda x: a / x[0] + x[1], inf),
    "power": (lambda x: a + x[0] ** -2.0, -inf),
    "activations": (lambda x: a * total([x[0].sigmoid(), x[0].tanh(), x[0].relu(), x[0].softplus()]), -inf),
}


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", DATA)
def test_infinities_are_data(name: str, engine: Any) -> None:
    f, infinity = DATA[name]
    rows = np.array([[1.5, 2.0], [infinity, 2.0], [0.5, 3.0]])
    expected = [f(row).data for row in rows.tolist() for row in [[Value(v) for v in row]]]
    program = autograd.compile(f, engine=engine)
    assert program.per_example(rows) == pytest.approx(expected, rel=1e-14)
    loss, grads = program.value_and_grad(rows)
    a.grad = 0.0
    for row in rows.tolist():
        (f([Value(v) for v in row]) * (1.0 / 3.0)).backward()
    assert (loss, float(grads[0])) == pytest.approx((np.mean(expected), a.grad), rel=1e-14)


# A program whose result is finite, and an example where a derivative is not.
STEEP = {
    "infinite": (lambda x: (a * x[0]).sqrt(), (0.0, 1.0)),
    "zero times infinite": (lambda x: (a * x[0]).sqrt() * x[1].exp(), (0.0, -inf)),
    "overflows": (lambda x: x[1] * (c * x[0]), (1e200, 1e200)),
    "overflows when added": (lambda x: total([c * x[0], c * x[1]] * 3), (1e308, 1e308)),
}


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", STEEP)
def test_a_derivative_that_is_not_finite_is_named_as_by_backward(name: str, engine: Any) -> None:
    f, bad = STEEP[name]
    rows = np.array([[1.5, 2.0], [2.5, 1.0], bad])
    i, error = recorded(f, rows, gradient=True)
    for call in ("value_and_grad", "backward"):
        a.grad = c.grad = 5.0
        with pytest.raises(type(error)) as found:
            getattr(autograd.compile(f, engine=engine), call)(rows)
        assert without_line(found.value) == f"row {i}: {without_line(error)}"
        assert "getattr" in str(found.value)  # the line that asked for the gradient
        with pytest.raises(type(error)) as found:  # in the row that is recorded
            getattr(autograd.compile(f, engine=engine), call)(np.repeat(rows[2:], 3, axis=0))
        assert without_line(found.value) == f"row 0: {without_line(error)}"
        assert a.grad == c.grad == 5.0


def test_derive_names_the_line_that_calls_it() -> None:
    with pytest.raises(FloatingPointError) as found:
        derive((a - 1.0).sqrt(), [a])
    assert "sqrt(0.0)" in without_line(found.value)


def test_an_infinite_derivative_by_data_is_no_anomaly() -> None:
    rows = np.array([[4.0, -1.0], [0.0, -1.0], [1.0, 1.0]])
    program = autograd.compile(lambda x: a * x[0].sqrt() + (b * x[1]).log())
    with pytest.raises(FloatingPointError, match=r"row 2: log\(-1.0\)"):
        program.backward(rows)


def trained(
    engine: Any,
    model: Callable[..., Any],
    rows: np.ndarray,
    lr: Any = 1.0,
    start: float = 1.0,
    **settings: Any,
) -> Any:
    """The error that ends a training, and the parameters then."""
    leaves = [Value(1.0, "a"), Value(start, "b")]
    settings.update(engine=engine, optimizer=nn.SGD(leaves, lr=lr), loss=lambda p, y: p + y)
    with pytest.raises(ArithmeticError) as found:
        nn.fit(lambda x: model(x, *leaves), rows, np.zeros(len(rows)), epochs=100, **settings)
    said = re.sub(r"(in a batch of shuffled rows, )?row \d+: |x\[\d\]=", "", str(found.value))  # compiled
    return said, [v.data for v in leaves]


def grown(x: Any, a: Value, b: Value) -> Any:
    """A finite loss by which b grows by a half a step, until the product with 1e170 is infinite."""
    return dot([a, b], x).sigmoid() - 0.25 * b * b


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("batch_size", [None, 2])
def test_training_ends_in_the_epoch_where_that_of_values_does(engine: Any, batch_size: int | None) -> None:
    rows = np.array([[1.0, 1e170], [1.0, 1e170]])
    said, parameters = trained("scalar", grown, rows, start=1e130, batch_size=batch_size)
    assert re.search(r"in epoch 47: dot\(\[a=1.0, b=1.8\d+e\+138\], \[.*1e\+170\]\) overflows, at", said)
    again, compiled = trained(engine, grown, rows, start=1e130, batch_size=batch_size)
    assert re.sub(r"(\d\.\d{9})\d+", r"\1", again) == re.sub(r"(\d\.\d{9})\d+", r"\1", said)
    assert compiled == pytest.approx(parameters, rel=1e-9)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("batch_size", [None, 1])
def test_an_update_that_overflows_is_noticed_where_its_parameter_is_used(
    engine: Any, batch_size: Any
) -> None:
    rows, model = np.array([[1.0, 1.0]]), lambda x, a, b: dot([a], x[:1]).sigmoid() + b
    settings = {"lr": 1e307, "batch_size": batch_size}
    said, parameters = trained("scalar", model, rows, **settings)
    assert re.search(r"in epoch 18: add\(.*, b=-inf\) is not finite, at .* those before epoch 17, ", said)
    assert trained(engine, model, rows, **settings) == (said, parameters)


def test_training_goes_on_where_infinities_are_data() -> None:
    losses = []
    engines: list[Any] = ["scalar", "numpy", *(["native"] if Kernel is not None else [])]
    for engine in engines:
        w = Value(1.0)
        model = lambda x, w=w: maximum(np.multiply(w, x[1]), x[0])  # noqa: E731
        rows, sgd = np.array([[-inf, 2.0], [1.0, 3.0]]), nn.SGD([w], lr=0.01)
        history = nn.fit(
            model, rows, np.ones(2), loss=nn.squared_error, optimizer=sgd, epochs=20, engine=engine
        )
        assert history.engine == engine
        losses.append(history.loss)
    assert all(loss == pytest.approx(losses[0], rel=1e-12) for loss in losses)


# The user's line


def test_lines_of_python_and_numpy_are_not_the_users() -> None:
    values: list[Any] = [Value(1e308), Value(1e308)]
    for add in (sum, np.sum, lambda vs: np.array(vs) @ np.ones(2), lambda vs: functools.reduce(np.add, vs)):
        with pytest.raises(OverflowError) as found:
            add(values)
        assert "overflows" in without_line(found.value)
    with ThreadPoolExecutor() as pool:
        assert str(pool.submit(Value(-1.0).log).exception()) == "log(-1.0) is undefined"


def test_lines_of_the_user_wherever_they_are(tmp_path: Path) -> None:
    """A module whose name begins as one of ours does, a program on the command line, one with no source."""
    (tmp_path / "nnets.py").write_text("def model(x):\n    return x.log()\n")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{Path(autograd.__file__).parent.parent}{os.pathsep}{tmp_path}",
    }

    def said(code: str) -> Any:
        program = [sys.executable, "-c", f"import nnets; from autograd import Value; {code}"]
        run = subprocess.run(program, env=environment, capture_output=True, text=True)
        return run.stderr.splitlines()[-1]

    assert said("nnets.model(Value(-1.0))").endswith("is undefined, at nnets.py:2: return x.log()")
    assert re.search(r"is undefined, at <string>:1(: .*)?$", said("Value(-1.0).log()"))


def test_random_programs() -> None:
    pytest.importorskip("hypothesis", reason="hypothesis is not installed")
    import hypothesis
    from hypothesis import strategies as st
    from programs import programs

    scales = st.lists(st.sampled_from([1.0, -1e20, 1e80, -1e160, 1e250]), min_size=4, max_size=4)

    @hypothesis.settings(max_examples=10, deadline=None)
    @hypothesis.given(programs(), st.lists(scales, min_size=1, max_size=3))
    def check(program: Any, scales: list[list[float]]) -> None:
        inputs, w, whole = np.array(program.inputs), Value(1.0, "w"), program.whole()
        rows = np.array([inputs, *(inputs * np.resize(scale, len(inputs)) for scale in scales)])

        def f(x: Any) -> Any:
            return whole(*(w * v for v in x))

        found = recorded(f, rows)
        engines: list[Any] = ["numpy", "native"] if Kernel is not None else ["numpy"]
        for engine in engines:
            compiled = autograd.compile(f, engine=engine)
            for call in (compiled, compiled.per_example):
                if not found:
                    call(rows)
                    continue
                i, error = found
                with pytest.raises(type(error)) as raised:
                    call(rows)
                assert str(raised.value) == f"row {i}: {error}"

    check()
