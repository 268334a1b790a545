"""The eager engine against micrograd: time and memory, side by side in one run.

Each time is the best of several repeats, and a repeat is many steps on end, with Python's garbage
collector on: what it costs to clear an engine's cycles is part of that engine's time.
"""

import argparse
import gc
import math
import random
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import nn
from autograd import Value, dot, total

try:
    from micrograd.engine import Value as MicroValue
    from micrograd.nn import MLP as MicroMLP
except ImportError:
    MicroValue = None


def best(f, seconds=0.5, repeats=7):
    """The best of several means over `seconds` of calls, in seconds."""
    gc.collect()  # or the heap that an earlier measurement left decides how often this one collects
    start = time.perf_counter()
    f()
    calls = max(1, int(seconds / (time.perf_counter() - start)))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            f()
        times.append((time.perf_counter() - start) / calls)
    return min(times)


def row(name, ours, theirs, goal):
    """Print a line of the table; theirs is None where micrograd is not installed."""
    ratio = f"{theirs / ours:8.1f}×   (goal: at least {goal}×)" if theirs else "micrograd is not installed"
    theirs = f"{1e6 * theirs:14,.1f}" if theirs else f"{'–':>14}"
    print(f"{name:52}{1e6 * ours:12,.1f}{theirs}{ratio:>33}")


# (a) one training step of the lab's network on XOR


def lab_step():
    """With nn's layers."""
    X, Y = nn.data.xor()
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
    loss = nn.MeanLoss(model, nn.squared_error)
    optimizer = nn.SGD(model.parameters(), lr=2.0)

    def step():
        optimizer.zero_grad()
        loss.backward(X, Y)
        optimizer.step()

    return step


def micro_exp(x):
    """micrograd has no e^x: this is one in its own manner."""
    out = MicroValue(math.exp(x.data), (x,), "exp")

    def _backward():
        x.grad += out.data * out.grad

    out._backward = _backward
    return out


def micro_sigmoid(x):
    """σ as one node, again in its manner: fewer nodes than its own operators would make."""
    s = 1.0 / (1.0 + math.exp(-x.data))
    out = MicroValue(s, (x,), "σ")

    def _backward():
        x.grad += s * (1.0 - s) * out.grad

    out._backward = _backward
    return out


def micro_lab_step(sigmoid):
    """The same step in micrograd's operators."""
    X, Y = (array.tolist() for array in nn.data.xor())
    start = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
    layers = [[[MicroValue(w.data) for w in n.w] for n in layer.neurons] for layer in start.layers]
    parameters = [w for layer in layers for neuron in layer for w in neuron]

    def model(x):
        for layer in layers:
            z = [sum(w * x for w, x in zip(neuron, x)) for neuron in layer]
            x = z if layer is layers[-1] else [sigmoid(v) for v in z]
        return x[0]

    def step():
        loss = sum(0.5 * (model(x) - y) ** 2 for x, [y] in zip(X, Y)) * (1.0 / len(X))
        for p in parameters:
            p.grad = 0
        loss.backward()
        for p in parameters:
            p.data -= 2.0 * p.grad

    return step


# (b) one step of micrograd's demo


def moons(n=100):
    """Two interleaved half circles with noise, labels −1 and 1."""
    rng = np.random.default_rng(1)
    angle = rng.uniform(0.0, math.pi, n)
    upper = np.arange(n) % 2 == 0
    x = np.where(upper, np.cos(angle), 1.0 - np.cos(angle)) + rng.normal(0.0, 0.1, n)
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) + rng.normal(0.0, 0.1, n)
    return np.stack([x, y], axis=1).tolist(), np.where(upper, -1.0, 1.0).tolist()


def demo_step():
    """MLP(2, [16, 16, 1]), relu, hinge loss, and 1e-4 times the sum of squares."""
    X, Y = moons()
    model = nn.MLP(2, [16, 16, 1], rng=np.random.default_rng(0))
    parameters = model.parameters()

    def step():
        loss = total([nn.hinge(model(x), y) for x, y in zip(X, Y)]) * (1.0 / len(X))
        loss = loss + 1e-4 * dot(parameters, parameters)
        model.zero_grad()
        loss.backward()
        for p in parameters:
            p.data -= 0.1 * p.grad

    return step


def micro_demo_step():
    """As in micrograd's notebook."""
    X, Y = moons()
    random.seed(1)
    model = MicroMLP(2, [16, 16, 1])

    def step():
        scores = [model([MicroValue(v) for v in x]) for x in X]
        losses = [(1 + -y * score).relu() for y, score in zip(Y, scores)]
        loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.1 * p.grad

    return step


# (c) raw operators


def raw(kind):
    """A graph of 1,000 operators, + − × ÷ ** and relu, forward and backward."""

    def step():
        a, b = kind(-4.0), kind(2.0)
        d = a
        for _ in range(100):
            c = a * 0.9 + b
            d = d * 0.5 - c
            e = (c - d).relu() * a
            a = e / (d**2 + 3.0)
        d.backward()

    return step


# (d) and (e): chains


def chain(n):
    """A chain of n binary nodes."""
    x, y = Value(1.0), Value(0.999)
    out = x
    for _ in range(n // 2):
        out = out * y
        out = out + x
    return out


def bytes_a_node(n=100_000):
    """What a chain of n nodes holds, before and after backward()."""
    tracemalloc.start()
    out = chain(n)
    forward = tracemalloc.get_traced_memory()[0] / n
    out.backward()
    both = tracemalloc.get_traced_memory()[0] / n
    tracemalloc.stop()
    return forward, both


def nanoseconds_a_node(n, repeats=7):
    """Best forward and best backward time a node over chains of n."""
    forward, backward = [], []
    for _ in range(max(repeats, 200_000 // n)):
        start = time.perf_counter()
        out = chain(n)
        middle = time.perf_counter()
        out.backward()
        backward.append(time.perf_counter() - middle)
        forward.append(middle - start)
        del out
    return 1e9 * min(forward) / n, 1e9 * min(backward) / n


def main():
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    micro = MicroValue is not None
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}; best of 7 repeats")
    print(f"{'microseconds a step':52}{'ours':>12}{'micrograd':>14}{'ratio':>33}")
    lab = best(lab_step())
    composed = best(micro_lab_step(lambda x: 1 / (1 + micro_exp(-x)))) if micro else None
    single = best(micro_lab_step(micro_sigmoid)) if micro else None
    row("(a) lab's network, XOR, σ(z) = 1 / (1 + exp(−z))", lab, composed, 20)
    row("    the same, with a one-node σ made for micrograd", lab, single, 20)
    row("(b) micrograd's demo, 100 points", best(demo_step()), best(micro_demo_step()) if micro else None, 50)
    row("(c) raw operators, 1,000 of them", best(raw(Value)), best(raw(MicroValue)) if micro else None, 8)
    forward, both = bytes_a_node()
    print(f"\n(d) bytes a binary node: {forward:.0f}, {both:.0f} after backward (goal: at most 230)")
    for collector in ("off, as timeit has it", "on"):
        print(f"\n(e) nanoseconds a node, garbage collector {collector}")
        print(f"{'nodes':>12}{'forward':>10}{'backward':>10}")
        if collector != "on":
            gc.disable()
        times = []
        for n in (10**3, 10**4, 10**5, 10**6):
            times.append(nanoseconds_a_node(n))
            print(f"{n:12,}{times[-1][0]:10.0f}{times[-1][1]:10.0f}")
        gc.enable()
        spread = [max(t) / min(t) for t in zip(*times)]
        print(f"{'max / min':>12}{spread[0]:9.2f}×{spread[1]:9.2f}×   (goal: at most 1.5×)")


if __name__ == "__main__":
    main()
