"""Random programs: copies and pickles of their graphs, and compiled programs with structure."""

import copy
import functools
import pickle
from typing import Any

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

import hypothesis
from hypothesis import given, settings
from programs import programs
from structures import difference

from autograd import Value
from autograd.program.variant import Kernel


def gradient(leaves: list[Value], out: Value) -> list[float]:
    out.backward()
    return [leaf.grad for leaf in leaves]


@settings(max_examples=50, deadline=None)
@given(programs())
def test_copies_and_pickles_of_random_programs_differentiate_alike(program: Any) -> None:
    hypothesis.assume(
        "cube(" not in program.source
    )  # of which the functions are lambdas, that cannot be pickled
    leaves = [Value(x, label=name) for name, x in zip(program.names, program.inputs)]
    out = program(*leaves)
    twins = [
        copy.deepcopy((leaves, out)),
        pickle.loads(pickle.dumps((leaves, out))),
        # The pickler in Python draws items in batches.
        pickle.loads(pickle._dumps((leaves, out))),  # type: ignore[attr-defined]
    ]
    expected = gradient(leaves, out)
    for twin_leaves, twin in twins:
        assert not any(leaf.grad for leaf in twin_leaves)
        assert twin.data == out.data
        assert [v.label for v in twin_leaves] == program.names
        assert gradient(twin_leaves, twin) == expected


@pytest.mark.parametrize("engine", ["numpy", "native"])
def test_programs_with_structure_compile_to_what_the_values_do(engine: Any) -> None:
    if engine == "native" and Kernel is None:
        pytest.skip("llvmlite is not installed")
    for seed in range(40) if engine == "numpy" else range(100, 108):
        assert difference(seed, engine) < 1e-11, f"seed {seed} of tests/structures.py"


def test_cells_between_walls_compile_to_what_the_values_do() -> None:
    for seed in (30_116, *range(6)):  # in the first, an array of cells moves while another is formed
        assert difference(seed, names=["walls"]) < 1e-11, f"seed {seed} of walls in tests/structures.py"


def test_programs_that_run_row_by_row_compute_what_the_values_do(monkeypatch: pytest.MonkeyPatch) -> None:
    machine_code = pytest.importorskip("autograd.program.machine_code")
    native = pytest.importorskip("autograd.program.native")
    # Vectors of two elements, as the axes of these programs are short.
    row_by_row = functools.partial(machine_code.Code, lanes=2, way="row by row")
    monkeypatch.setattr(native, "code_of", lambda planned, *_: row_by_row(machine_code.Nests(planned)))
    for seed in range(10):
        assert difference(seed, "native") < 1e-11, f"seed {seed} of tests/structures.py"
