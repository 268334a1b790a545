"""The engine on random programs: its gradients, and its copies and pickles."""

import copy
import pickle

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import given, settings
from programs import Dual, gradients, programs

from autograd import Value


@settings(max_examples=300, deadline=None)
@given(programs())
def test_gradients_of_random_programs_are_those_of_forward_differentiation(program):
    value, grads = gradients(program, *program.inputs)
    for i, grad in enumerate(grads):
        duals = [Dual(x, float(i == j)) for j, x in enumerate(program.inputs)]
        dual = program(*duals)
        assert value == pytest.approx(dual.value, rel=1e-11, abs=1e-11)
        assert grad == pytest.approx(dual.slope, rel=1e-10, abs=1e-10)


@settings(max_examples=100, deadline=None)
@given(programs())
def test_copies_and_pickles_of_random_programs_differentiate_alike(program):
    leaves = [Value(x, label=f"x{i}") for i, x in enumerate(program.inputs)]
    out = program(*leaves)
    for twin_leaves, twin in (
        copy.deepcopy((leaves, out)),
        pickle.loads(pickle.dumps((leaves, out))),
        pickle.loads(pickle._dumps((leaves, out))),  # the pickler in Python draws items in batches
    ):
        twin.backward()
        assert twin.data == out.data
        assert not any(leaf.grad for leaf in leaves)
        assert [v.label for v in twin_leaves] == [v.label for v in leaves]
        found = [v.grad for v in twin_leaves]
        assert found == gradients(program, *program.inputs)[1]
