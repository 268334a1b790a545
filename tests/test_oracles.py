"""Random programs by every engine and every oracle: values, gradients and second derivatives.

    pip install -e ".[test,oracles]" && pytest -m oracles

holds them to PyTorch and JAX. `python tests/soak.py --minutes 30` runs on where this ends.
"""

import runpy

import numpy as np
import pytest

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis is not installed")
mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")

from counterexample import script  # noqa: E402
from exact import FUNCTIONS, Bounded, Dual, Undecided  # noqa: E402
from oracles import ENGINES, ORACLES, compared, excess  # noqa: E402
from programs import NUMBERS, STEPS, VALUES, programs, random_program  # noqa: E402

from autograd import Value  # noqa: E402
from autograd.graph import topological_order  # noqa: E402
from autograd.ops import TABLE  # noqa: E402


def filled(step):
    text = step.replace("{x}", "x").replace("{y}", "y")
    for letter, (number, *_) in {**NUMBERS, "c": (0.75,), "k": (1.5,)}.items():
        text = text.replace(f"{{{letter}}}", repr(number))
    return text


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("eager", "derive", "arrays", "numpy"), 60),
        (tuple(ENGINES), 10),
        pytest.param(("eager", "torch"), 100, marks=pytest.mark.oracles),
        pytest.param(("eager", "jax"), 30, marks=pytest.mark.oracles),
    ],
)
def test_all_agree_on_random_programs(names, count):
    for name in ORACLES.keys() & set(names):
        pytest.importorskip(name, reason=f"{name} is not installed")

    @hypothesis.settings(max_examples=count, deadline=None)
    @hypothesis.given(programs())
    def agree(program):
        hypothesis.note(script(program))
        try:
            pairs = compared(program, names)
        except Undecided:
            hypothesis.reject()
        worst, pair = excess(pairs)
        assert worst <= 1.0, pair

    agree()


def test_the_steps_have_every_primitive():
    seen = set()
    for step in STEPS:
        out = eval(filled(step), dict(VALUES), {"x": Value(0.3), "y": Value(0.7)})
        seen |= {v.op for v in topological_order(out) if v.op}
    assert seen == set(TABLE)


@pytest.mark.parametrize("step", STEPS)
def test_the_oracle_has_the_derivatives_that_differences_have(step):
    def f(x, y):
        return eval(filled(step), dict(FUNCTIONS), {"x": x, "y": y})

    point = mpmath.mpf("0.3"), mpmath.mpf("0.7")
    x, y = (
        Dual(Dual(Bounded(value), {name: Bounded(1.0)}), {name: Dual(Bounded(1.0))})
        for name, value in zip("xy", point)
    )
    slopes = f(x, y).slopes
    for names, orders in {"x": (1, 0), "y": (0, 1), "xx": (2, 0), "xy": (1, 1), "yy": (0, 2)}.items():
        found = slopes.get(names[0], Dual(Bounded(0.0)))
        for name in names[1:]:
            found = found.slopes.get(name, Bounded(0.0))
        number = found.value if isinstance(found, Bounded) else found.value.value
        expected = mpmath.diff(lambda x, y: (f(Bounded(x), Bounded(y)) + 0.0).value, point, orders)
        assert abs(number - expected) < mpmath.mpf(10) ** -35, names


def test_a_counterexample_stands_alone(tmp_path, capsys):
    program = random_program(np.random.default_rng(3))
    path = tmp_path / "counterexample.py"
    path.write_text(script(program))
    runpy.run_path(path)
    found = {
        name: list(map(float, numbers))
        for name, *numbers in map(str.split, capsys.readouterr().out.splitlines())
    }
    assert {"eager", "numpy", "mpmath"} <= set(found)
    for numbers in found.values():
        assert numbers == pytest.approx(found["mpmath"], rel=1e-12)
