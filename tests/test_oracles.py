"""Random programs by every engine and every oracle: values, gradients and second derivatives.

    pip install -e ".[test,oracles]" && pytest -m oracles

holds them to PyTorch and JAX. `python tests/soak.py --minutes 30` runs on where this ends.
"""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
mpmath = pytest.importorskip("mpmath", reason="mpmath is not installed")

import hypothesis  # noqa: E402
from counterexample import script  # noqa: E402
from exact import FUNCTIONS, Bounded, Dual, Undecided  # noqa: E402
from oracles import ENGINES, ORACLES, compared, excess  # noqa: E402
from programs import NUMBERS, STEPS, VALUES, Program, Step, programs  # noqa: E402

from autograd import Value  # noqa: E402
from autograd.graph import topological_order  # noqa: E402
from autograd.ops import CONDITIONS, TABLE  # noqa: E402


def filled(step: str) -> str:
    """The step for operands x and y, its numbers written out."""
    text = step.replace("{x}", "x").replace("{y}", "y")
    for letter, (number, *_) in {**NUMBERS, "c": (0.75,), "k": (1.5,)}.items():
        text = text.replace(f"{{{letter}}}", repr(number))
    return text


def written(*steps: Any, x: float = 0.3, y: float = 0.7) -> Program:
    """A Program with an output for each of these steps of the row x and the leaf y."""
    texts = [re.sub(r"\bx\b", "x0", re.sub(r"\by\b", "w0", filled(step))) for step in steps]
    made = tuple(Step((f"v{i}",), text.replace("{", "{{"), ()) for i, text in enumerate(texts))
    return Program(((x,),), (y,), made, tuple(f"v{i}" for i in range(len(made))))


@pytest.mark.parametrize(
    ("names", "count"),
    [
        (("eager", "derive", "arrays", "numpy"), 20),
        (tuple(ENGINES), 4),
        pytest.param(("eager", "torch"), 100, marks=pytest.mark.oracles),
        pytest.param(("eager", "jax"), 30, marks=pytest.mark.oracles),
    ],
)
def test_all_agree_on_random_programs(names: Any, count: int) -> None:
    for name in ORACLES.keys() & set(names):
        pytest.importorskip(name, reason=f"{name} is not installed")

    @hypothesis.settings(max_examples=count, deadline=None)
    @hypothesis.given(programs(wide=True))
    @hypothesis.example(written("maximum(1.0 + 1e-18 * y * y, y) + 0.0 * x"))
    @hypothesis.example(written("maximum(y / -1e6, y) + 0.0 * x", y=1.0))
    @hypothesis.example(written("tanh(x) * tanh(y)", y=1.2e-38))
    @hypothesis.example(written("softplus(y) + softplus(1e3 * x) + softplus(-1e3 * x)", y=33.1))
    def agree(program: Program) -> None:
        hypothesis.note(script(program))
        try:
            pairs = compared(program, names)
        except Undecided:
            hypothesis.reject()
        worst, pair = excess(pairs)
        assert worst <= 1.0, pair

    agree()


def test_three_that_are_equal_share_an_extremum() -> None:
    program = written("minimum(tanh(y), 0.0, tanh(x)) + maximum(y, x, 0.0)", x=0.0, y=0.0)
    worst, pair = excess(compared(program, ("eager", "derive", "arrays", "numpy")))
    assert worst <= 1.0, pair


def test_the_steps_have_every_primitive() -> None:
    seen = set()
    for step in STEPS:
        out = eval(filled(step), {**VALUES, "x": Value(0.3), "y": Value(0.7)})
        seen |= {v.op for v in topological_order(out) if v.op}
    recorded = {row.name for row in TABLE.values() if row not in CONDITIONS} - {
        "where"
    }  # of Values, choices are made
    assert seen == recorded | {"cbrt", "largest", "smallest"}


@pytest.mark.parametrize("step", STEPS)
def test_the_oracle_has_the_derivatives_that_differences_have(step: str) -> None:
    detached: Any = []

    def f(x: Dual, y: Dual) -> Any:
        return eval(filled(step), {**FUNCTIONS, "x": x, "y": y})

    def frozen(x: Any, y: Any) -> Any:
        """f, with what was detached at the point, which comes first."""
        detach = lambda x: detached[0] if detached else detached.append(x) or x  # noqa: E731
        out = eval(filled(step), {**FUNCTIONS, "detach": detach, "x": Bounded(x), "y": Bounded(y)})
        return (out + 0.0).value

    point = mpmath.mpf("0.3"), mpmath.mpf("0.7")
    x, y = (
        Dual(Dual(Bounded(value), {name: Bounded(1.0)}), {name: Dual(Bounded(1.0))})
        for name, value in zip("xy", point)
    )
    slopes = f(x, y).slopes
    frozen(*point)
    for names, orders in {"x": (1, 0), "y": (0, 1), "xx": (2, 0), "xy": (1, 1), "yy": (0, 2)}.items():
        found = slopes.get(names[0], Dual(Bounded(0.0)))
        for name in names[1:]:
            found = found.slopes.get(name, Bounded(0.0))
        number = found.value if isinstance(found, Bounded) else found.value.value
        expected = mpmath.diff(frozen, point, orders)
        assert abs(number - expected) < mpmath.mpf(10) ** -35, names


def test_a_counterexample_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = written(*STEPS)
    path = tmp_path / "counterexample.py"
    path.write_text(script(program))
    runpy.run_path(str(path))
    found = {
        name: list(map(float, numbers))
        for name, *numbers in map(str.split, capsys.readouterr().out.splitlines())
    }
    assert {"eager", "numpy", "mpmath"} <= set(found)
    for numbers in found.values():
        assert numbers == pytest.approx(found["mpmath"], rel=1e-12)
