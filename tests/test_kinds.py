"""The losses of benchmarks/gallery.py: every engine gives what Values do, and JAX too, also by hand."""

from typing import Any

import numpy as np
import pytest

from autograd.program.variant import Kernel
from benchmarks.gallery import GALLERY, Problem, flat, in_scalars, of_source

NATIVE = pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="llvmlite is not installed"))
# Sizes that are enough for what is particular to a loss.
SIZES = {
    "rnn": {"width": 3, "steps": 4},
    "lstm": {"width": 3, "steps": 5},
    "convolution": {"length": 10, "channels": 2, "taps": 3},
    "causal_attention": {"tokens": 4},
    "attention_2_heads": {"tokens": 3, "width": 4},
    "causal_attention_2_heads": {"tokens": 3, "width": 4},
    "attention_4_heads": {"tokens": 2},
    "causal_attention_4_heads": {"tokens": 2},
    "residual": {"layers": 2, "width": 4},
    "relatives_of_relu": {"width": 4},
    "hidden_markov": {"states": 3, "steps": 4},
    "kalman_filter": {"steps": 3},
    "gaussian_process": {"points": 4},
    "runge_kutta": {"steps": 5},
    "pendulum": {"steps": 10},
    "robot_arm": {"joints": 3},
    "heat": {"cells": 6, "steps": 6},
    "reaction_diffusion": {"rows": 3, "columns": 4, "steps": 2},
    "pinn_heat": {"width": 4},
    "dft": {"length": 8},
    "newton": {"steps": 4},
}


def small(name: str) -> Problem:
    return GALLERY[name](**SIZES.get(name, {}))


def eager(problem: Problem, rows: list[np.ndarray]) -> Any:
    """The losses of the rows, and the gradient of their mean by each parameter in turn."""
    leaves = problem.leaves()
    losses = [problem.loss(np, *leaves, *row) for row in zip(*rows)]
    (sum(losses) / len(losses)).backward()
    return [loss.data for loss in losses], [leaf.grad for leaf in flat(leaves)]


def assert_close(found: Any, expected: Any) -> None:
    """Within rounding of the largest, that a few cancelled terms come to."""
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=1e-11 * (1.0 + np.max(np.abs(expected))))


# Losses of which an exception is left in the scalars, or that a matrix program has no shorter form for.
LONG = {
    "kalman_filter": "of five steps of scalars, the first and the last are others",
    "gaussian_process": "Cholesky's factors, five by five, are scalars",
    "runge_kutta": "a step and its way back are 49 statements of scalars",
    "robot_arm": "products of matrices with zeros in several places",
    "pairs": "pairs are gathered, also by hand",
    "graph_network": "neighbours are gathered",
}


@pytest.mark.parametrize("name", sorted(GALLERY.keys() - LONG.keys()))
def test_what_has_structure_is_few_lines_without_gathers(name: str) -> None:
    problem = GALLERY[name]()
    rows = problem.rows(2)
    program = problem.program("numpy", problem.leaves())
    program.backward(*rows)
    found = of_source(program, rows)
    assert (found["gathers"], found["lines"] <= 40) == (0, True)


def test_sizes_are_of_losses_that_are_there() -> None:
    assert set(SIZES) < set(GALLERY)


@pytest.mark.parametrize("engine", ["numpy", NATIVE])
@pytest.mark.parametrize("name", GALLERY)
def test_every_engine_gives_what_the_values_do(name: str, engine: Any) -> None:
    problem = small(name)
    rows, leaves = problem.rows(3), problem.leaves()
    losses, gradient = eager(problem, rows)
    program = problem.program(engine, leaves)
    assert_close(program.per_example(*rows), losses)
    assert_close(program.backward(*rows), np.mean(losses))
    assert_close([leaf.grad for leaf in flat(leaves)], gradient)


@pytest.mark.oracles
@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("name", GALLERY)
def test_jax_gives_what_the_values_do(name: Any, by_hand: Any) -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    problem = small(name)
    rows, parameters = problem.rows(3), list(map(jax.numpy.asarray, problem.parameters.values()))
    columns = list(map(jax.numpy.asarray, rows))

    def mean(*parameters: Any) -> Any:
        losses = problem.by_hand if by_hand else in_scalars(problem)
        found = losses(*parameters, *columns)
        return found.mean(), found

    places = tuple(range(len(parameters)))
    (_, found), by_parameter = jax.value_and_grad(mean, places, has_aux=True)(*parameters)
    losses, gradient = eager(problem, rows)
    assert_close(found, losses)
    assert_close(np.concatenate(list(map(np.ravel, by_parameter))), gradient)
