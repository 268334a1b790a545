"""Draw three graphs, with their values and gradients: a neuron, the lab's network, an expression."""

import argparse
from pathlib import Path

import numpy as np
from program import run

import nn
from autograd import DrawingError, Value, draw
from autograd.draw import Drawing
from nn.picture import example_graph


def neuron() -> Drawing:
    """tanh(w1 x1 + w2 x2 + b)."""
    x1, x2 = Value(2.0, "x1"), Value(0.0, "x2")
    w1, w2, b = Value(-3.0, "w1"), Value(1.0, "w2"), Value(6.8813735870195432, "b")
    z = w1 * x1 + w2 * x2 + b
    z.label = "z"
    out = z.tanh()
    out.label = "o"
    out.backward()
    return draw(out)


def network() -> Drawing:
    """The loss of the lab's 2-4-4-1 network on one point of XOR."""
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
    loss, clusters = example_graph(model, [0.2, 0.8], 1.0, nn.squared_error)
    loss.backward()
    return draw(loss, clusters=clusters)


def expression() -> Drawing:
    """The expression in micrograd's README."""
    a, b = Value(-4.0, "a"), Value(2.0, "b")
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    for name, v in {"c": c, "d": d, "e": e, "f": f, "g": g}.items():
        v.label = name
    g.backward()
    return draw(g)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/graphs"), help="folder (default: %(default)s)")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    reason = None
    for picture in (neuron, network, expression):
        path = out / f"{picture.__name__}.svg"
        drawing = picture()
        try:
            drawing.save(path)
        except DrawingError as error:
            path = path.with_suffix(".dot")
            drawing.save(path)
            reason = error
        print(path)
    if reason:
        print(f"DOT text instead of pictures: {reason}")
    return 0


if __name__ == "__main__":
    run(main)
