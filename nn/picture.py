"""The graph of a network's loss, with names and frames for a drawing."""

from __future__ import annotations

from typing import Any

import numpy as np

from autograd import Value
from autograd.graph import topological_order

from .layers import MLP
from .losses import Loss, sequence


class Clusters(dict[str, list[Value]]):
    """Values by title, which draw() frames; `data` has the leaves that are no parameters, by name.

    >>> x, w = Value(2.0, "x"), Value(3.0, "w")
    >>> clusters = nn.picture.Clusters(x=x)
    >>> clusters["data"], clusters["model"] = [x], [w]
    >>> draw(w * x, clusters=clusters)
    <Drawing of 3 nodes>
    """

    def __init__(self, **data: Any):
        super().__init__()
        self.data = data


def example_graph(model: MLP, x: Any, y: Any, loss: Loss) -> tuple[Value, Clusters]:
    """The loss of one example, its Values named as in the lab, and Clusters for draw() and lesson().

    >>> model = nn.MLP(2, [2, 1], activation="sigmoid", bias=False)
    >>> L, clusters = nn.picture.example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
    >>> list(clusters)
    ['inputs', 'hidden layer 1', 'output layer', 'loss']
    >>> L.backward()
    >>> draw(L, clusters=clusters).save("network.svg")

    The names are x1, x2 (inputs), h1[0] (hidden layer 1), p and y (prediction and target; p[0] and
    y[0] if there are several) and L. Parameters keep the model's labels, and backward() adds to their
    gradients as always. Raises the errors of the model and the loss for x and y.
    """
    inputs = [Value(number, f"x{i}") for i, number in enumerate(np.ravel(x), 1)]
    targets = [Value(number) for number in np.ravel(y)]
    _label_all(targets, "y" if len(targets) == 1 else "y[{}]")

    clusters = Clusters(x=inputs, y=targets[0] if len(targets) == 1 else targets)
    clusters["inputs"] = inputs
    outputs = inputs
    for k, layer in enumerate(model.layers, 1):
        outputs = sequence(layer(outputs))
        last = k == len(model.layers)
        _label_all(outputs, f"h{k}[{{}}]" if not last else "p" if len(outputs) == 1 else "p[{}]")
        clusters["output layer" if last else f"hidden layer {k}"] = _unframed(outputs, clusters)
    one = len(outputs) == len(targets) == 1
    out = loss(outputs[0], targets[0]) if one else loss(outputs, targets)
    _label_all([out], "L")
    clusters["loss"] = _unframed([out], clusters)
    return out, clusters


def _label_all(values: list[Value], name: str) -> None:
    for i, v in enumerate(values):
        v.label = name.format(i)


def _unframed(outputs: list[Value], clusters: dict[str, list[Value]]) -> list[Value]:
    """The outputs and all that they were computed from, except the Values that are in a cluster."""
    old = {v for values in clusters.values() for v in values}
    found = dict.fromkeys(v for output in outputs for v in topological_order(output))
    return [v for v in found if v not in old]
