"""Training in a loop against one call of fit, an optimizer's step against its arithmetic, and predictions.

    python benchmarks/training.py

Times are the best of several; ratios are from one run.
"""

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import autograd
import nn

EPOCHS = 200


def best(function, times=5):
    """The seconds of the fastest call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def loops(rows):
    """200 epochs of a 3-16-16-2 network: in one call, in a loop, and in 200 calls."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 2))

    def settings(epochs, engine):
        model = nn.MLP(3, [16, 16, 2], activation="tanh", rng=np.random.default_rng(0))
        optimizer = nn.Adam(model.parameters(), lr=0.01)
        options = {"loss": nn.squared_error, "optimizer": optimizer, "epochs": epochs, "engine": engine}
        return (model, X, Y), options

    def in_a_loop(engine):
        data, options = settings(EPOCHS, engine)
        for _ in nn.Training(*data, **options):
            pass

    def in_one_call(engine):
        data, options = settings(EPOCHS, engine)
        nn.fit(*data, **options, progress=False)

    def in_many_calls(engine):
        data, options = settings(1, engine)
        for _ in range(EPOCHS):
            nn.fit(*data, **options, progress=False)

    for engine in ("auto", "numpy", "native"):
        try:
            whole = best(partial(in_one_call, engine))
        except ImportError as error:
            print(f"{engine}: {error}")
            continue
        loop, calls = best(partial(in_a_loop, engine)), best(partial(in_many_calls, engine))
        print(
            f"{rows:5} rows, {engine:6}: fit of {EPOCHS} epochs {whole:.3f} s; Training {loop / whole:.2f} ×;"
            f" {EPOCHS} calls of fit {calls / whole:.2f} ×"
        )


def steps():
    """An Adam step after a compiled backward, against its arithmetic on arrays."""
    rng = np.random.default_rng(0)
    model = nn.MLP(60, [60, 6], activation="tanh", rng=rng)
    X, Y = rng.normal(size=(32, 60)), rng.normal(size=(32, 6))
    adam = nn.Adam(model.parameters(), lr=0.01)
    loss = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine="numpy")
    loss.backward(X, Y)
    n = len(adam.parameters)
    twin = nn.Adam([autograd.Value(1.0)], lr=0.01)
    twin.steps = 3
    data, grad, state = rng.normal(size=n), rng.normal(size=n), (np.zeros(n), np.ones(n))
    arithmetic = best(lambda: twin.update(data, grad, state), 300)
    step = best(adam.step, 100)
    print(f"Adam, {n} parameters: arithmetic {arithmetic * 1e6:.0f} µs, step {step / arithmetic:.1f} ×")


def predictions():
    """A million rows through the lab's network."""
    X = np.random.default_rng(0).random((10**6, 2))
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False)
    matrix = nn.MatrixMLP.from_state_dict(model.state_dict(), "sigmoid")
    by_hand, ours = best(lambda: matrix(X)), best(lambda: nn.predict(model, X))
    counted = best(lambda: nn.accuracy(model, X, X[:, 0] > 0.5))
    print(f"10⁶ rows: predict {ours:.2f} s, accuracy {counted:.2f} s, NumPy by hand {by_hand:.2f} s")


if __name__ == "__main__":
    for rows in (100, 1000):
        loops(rows)
    steps()
    predictions()
