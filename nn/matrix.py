"""The network by hand: matrices in NumPy, with the gradients written out.

It shares no code with the autograd engine and its layers, so that each can check the other.
The formulas are those of back-propagation in column vectors: x is a column of inputs, w_l has a row
for each unit of layer l, and ⊙ multiplies entry by entry. For the lab's three layers,

    h1 = σ(w1 x)     h2 = σ(w2 h1)     p = w3 h2     L = ½ ‖p − y‖²

    δ3 = p − y                          ∂L/∂w3 = δ3 h2ᵀ
    δ2 = (w3ᵀ δ3) ⊙ σ′(h2)              ∂L/∂w2 = δ2 h1ᵀ
    δ1 = (w2ᵀ δ2) ⊙ σ′(h1)              ∂L/∂w1 = δ1 xᵀ

with σ′ in terms of h = σ(z): h ⊙ (1 − h). A layer with bias adds b_l before σ, and ∂L/∂b_l = δ_l.
A data set has a column for each example; a product with a transpose then also adds the examples up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import checks
from .notebook import model_html


def _sigmoid(z: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # e^710 is inf, and 1 / inf is 0, as it should be
        return 1.0 / (1.0 + np.exp(-z))


# activation: (σ as a function of z, σ′ as a function of h = σ(z))
SIGMAS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "sigmoid": (_sigmoid, lambda h: h * (1.0 - h)),
    "tanh": (np.tanh, lambda h: 1.0 - h * h),
    "relu": (lambda z: np.maximum(z, 0.0), lambda h: np.where(h > 0.0, 1.0, 0.0)),
}


def _mean_loss(error: np.ndarray) -> float:
    return float(0.5 * np.sum(error * error) / error.shape[1])


class Parameter:
    """An array and its gradient, under the names that an optimizer uses.

    >>> p = nn.Parameter(np.array([1.0, 2.0]))
    >>> p.grad = np.array([0.5, 0.5])
    >>> nn.SGD([p], lr=1.0).step()
    >>> p.data
    array([0.5, 1.5])
    """

    def __init__(self, data: np.ndarray):
        self.data: np.ndarray = data
        self.grad: Any = 0.0


class MatrixMLP:
    """A multilayer perceptron with a linear last layer and the loss ½ ‖p − y‖².

    `weights` are arrays of shapes (nout, nin), `biases` (optional) arrays of shape (nout,), first
    layer first; the activation is sigmoid, tanh or relu. X has shape (examples, inputs) and Y
    (examples, outputs).

    Raises ValueError for shapes that do not fit together and for an unknown activation.

    >>> model = nn.MLP(2, [3, 1], activation="tanh")
    >>> by_hand = nn.MatrixMLP.from_state_dict(model.state_dict(), "tanh")
    >>> X, Y = nn.data.xor()
    >>> abs(nn.MeanLoss(model, nn.squared_error).backward(X, Y) - by_hand.backward(X, Y)) < 1e-14
    True
    >>> first = [[w.grad for w in neuron.w] for neuron in model.layers[0].neurons]
    >>> np.allclose(first, by_hand.w[0].grad, rtol=1e-12)
    True
    """

    def __init__(self, weights: Sequence[Any], biases: Sequence[Any] | None = None, *, activation: str):
        if activation not in tuple(SIGMAS):
            raise ValueError(f"unknown activation {activation!r}; there are {', '.join(SIGMAS)}")
        self.activation = activation
        self.w = [Parameter(checks.numbers("a weight matrix", w).copy()) for w in weights]
        self.b = None
        if biases is not None:
            self.b = [Parameter(checks.numbers("a bias", b).copy()) for b in biases]
        shapes = [w.data.shape for w in self.w]
        matrices = bool(shapes) and all(len(s) == 2 for s in shapes)
        if not matrices or [s[0] for s in shapes[:-1]] != [s[1] for s in shapes[1:]]:
            raise ValueError(f"weights of shapes {shapes} do not chain: each needs (units, units before)")
        bias_shapes = [s[:1] for s in shapes] if self.b is None else [b.data.shape for b in self.b]
        if bias_shapes != [s[:1] for s in shapes]:
            raise ValueError(f"biases of shapes {bias_shapes} do not fit weights of shapes {shapes}")

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any], activation: str) -> MatrixMLP:
        """The network with this state_dict(), which does not contain the activation."""
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is a mapping of names to arrays, not {type(state).__name__}")
        layers = range(sum(name.endswith("weight") for name in state))
        try:
            weights = [state[f"layers.{k}.weight"] for k in layers]
            biases = [state[f"layers.{k}.bias"] for k in layers] if len(state) > len(weights) else None
        except KeyError as error:
            raise ValueError(f"{error.args[0]} is missing") from None
        return cls(weights, biases, activation=activation)

    def __repr__(self) -> str:
        widths = [self.w[0].data.shape[1], *(len(w.data) for w in self.w)]
        bias = "" if self.b else ", without biases"
        return f"<MatrixMLP {'-'.join(map(str, widths))}, {self.activation}{bias}>"

    def _repr_html_(self) -> str:
        return model_html(self)

    def __call__(self, X: Any) -> np.ndarray:
        """The predictions, of shape (examples, outputs)."""
        return self._forward(checks.numbers("X", X))[-1].T

    def loss(self, X: Any, Y: Any) -> float:
        """The mean loss of the examples."""
        error, _ = self._error(X, Y)
        return _mean_loss(error)

    def backward(self, X: Any, Y: Any) -> float:
        """The mean loss; adds its gradient to every parameter's grad."""
        _, sigma_prime = SIGMAS[self.activation]
        error, hs = self._error(X, Y)
        delta = error / error.shape[1]  # of the mean loss, not of one example's
        for k in reversed(range(len(self.w))):
            w = self.w[k]
            w.grad = w.grad + delta @ hs[k].T
            if self.b is not None:
                self.b[k].grad = self.b[k].grad + delta.sum(axis=1)
            if k > 0:
                delta = (w.data.T @ delta) * sigma_prime(hs[k])
        return _mean_loss(error)

    def _forward(self, X: np.ndarray) -> list[np.ndarray]:
        """x, h1, h2, …, p, each with a column for each example."""
        sigma, _ = SIGMAS[self.activation]
        nin = self.w[0].data.shape[1]
        if X.ndim != 2 or X.shape[1] != nin:
            raise ValueError(f"X has shape {X.shape}: this takes {nin} inputs a row{checks.column('X', X)}")
        hs = [X.T]
        for k, w in enumerate(self.w):
            z = w.data @ hs[k]
            if self.b is not None:
                z = z + self.b[k].data[:, None]
            hs.append(z if w is self.w[-1] else sigma(z))
        return hs

    def _error(self, X: Any, Y: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        """p − y, and the layers; ValueError for shapes that NumPy would broadcast."""
        X, Y = checks.examples(X, Y)
        hs = self._forward(X)
        if Y.shape[1] != len(hs[-1]):
            raise ValueError(f"X has shape {X.shape} and Y {Y.shape}, but there are {len(hs[-1])} outputs")
        return hs[-1] - Y.T, hs

    def parameters(self) -> list[Parameter]:
        """The arrays of each layer: its weights, then its biases."""
        return [p for _, p in self.named_parameters()]

    def named_parameters(self) -> list[tuple[str, Parameter]]:
        """The parameters with their names in PyTorch, and in nn.MLP."""
        named = []
        for k, w in enumerate(self.w):
            named.append((f"layers.{k}.weight", w))
            if self.b is not None:
                named.append((f"layers.{k}.bias", self.b[k]))
        return named

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the parameters, by name."""
        return {name: p.data.copy() for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the parameters of an equal network; errors as for nn.Module's."""
        checked = checks.state(state, self.state_dict())
        for name, p in self.named_parameters():
            p.data = checked[name]
