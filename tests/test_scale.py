"""Graphs a million deep, and thousands of steps without the garbage collector."""

import copy
import gc
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value, derive, draw
from autograd.draw import DrawingError
from autograd.program import pack

needs_llvm = pytest.mark.skipif(pack is None, reason="llvmlite is not installed")


@pytest.fixture(autouse=True)
def collector_off() -> Iterator[None]:
    """Without the collector: nothing here needs it, and it takes most of a million nodes' time."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chain(x: Any, a: Value, b: Value, nodes: int) -> Any:
    """x a + b, of that again, and so on."""
    for _ in range(nodes // 2):
        x = x * a + b
    return x


def test_a_chain_a_million_deep() -> None:
    x, a = Value(1.0, label="x"), Value(0.5)
    out = chain(x, a, x, 1_000_000)
    assert out.data == 2.0
    out.backward()
    assert (x.grad, a.grad) == (2.0, 4.0)  # of x / (1 − a)
    with pytest.raises(DrawingError, match="1,000,002 nodes is too large"):
        draw(out)
    del out


def test_derivatives_and_copies_of_a_chain_a_hundred_thousand_deep() -> None:
    x, a = Value(1.0, label="x"), Value(0.5)
    out = chain(x, a, x, 100_000)
    (slope,) = derive(out, [a])
    assert slope.data == 4.0
    out.backward()
    for twin in (copy.deepcopy(out), pickle.loads(pickle.dumps(out))):
        leaf = twin.parents[1]
        assert (leaf.label, leaf.grad) == ("x", 2.0) and leaf is not x


def test_a_pickling_leaves_nothing_behind_for_the_next() -> None:
    x = Value(1.0)
    out = chain(x, x, x, 100)
    assert len(pickle.dumps(out)) == len(pickle.dumps(out))


@pytest.mark.parametrize("engine", ["numpy", pytest.param("native", marks=needs_llvm)])
def test_compiled_chains_are_as_deep_as_one_likes(engine: Any) -> None:
    a, b = Value(0.5, "a"), Value(1.0, "b")
    p = autograd.compile(lambda x: chain(x, a, b, 3_000), engine=engine)
    X = np.array([1.0, 2.0, 3.0])
    assert p(X) == p.backward(X) == 2.0
    assert (a.grad, b.grad) == pytest.approx((4.0, 2.0), rel=1e-12)


def resident() -> int:
    """Bytes of memory that this process has in use."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell a process its memory")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def steps_of(way: Any) -> Callable[..., Any]:
    """A function that takes so many steps of training a small network, by Values or compiled."""
    X, Y = np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[1.0], [0.0]])
    model = nn.MLP(2, [2, 1], activation="sigmoid", rng=np.random.default_rng(0))
    optimizer = nn.Adam(model.parameters(), lr=1e-3)
    if way in ("numpy", "native"):

        def trained(steps: int) -> None:
            nn.fit(model, X, Y, loss=nn.squared_error, optimizer=optimizer, epochs=steps, engine=way)

        return trained
    loss: Any = nn.MeanLoss(model, nn.squared_error)
    if way == "program":
        loss = autograd.compile(lambda x, y: nn.squared_error(model(x), y[0]), engine="numpy")

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss.backward(X, Y)
            optimizer.step()

    return train


@pytest.mark.parametrize("way", ["scalar", "program", "numpy", pytest.param("native", marks=needs_llvm)])
def test_memory_is_flat_over_ten_thousand_steps(way: str) -> None:
    train = steps_of(way)
    train(1_000)
    before = resident()
    train(9_000)
    assert resident() - before < 3_000_000  # a third of what a leak of 1,000 bytes a step would be
