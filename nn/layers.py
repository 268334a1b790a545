"""Neuron, Layer and MLP.

    model = MLP(2, [4, 4, 1], activation="sigmoid", bias=False)      # the lab's network
    p = model([0.0, 1.0])                                            # a Value

Each layer is a matrix–vector product of Values, and an activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random import Generator

from autograd import Value, dot, matvec, total

from .checks import generator, numbers, positive, whole
from .functions import elu, gelu, leaky_relu, silu
from .init import INITIALISERS, xavier_uniform
from .module import Module

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "elu": elu,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "linear": lambda z: z,
    "relu": Value.relu,
    "sigmoid": Value.sigmoid,
    "silu": silu,
    "softplus": Value.softplus,
    "tanh": Value.tanh,
}

Init = Callable[[int, int, Generator], Any]

if TYPE_CHECKING:

    class Output(Value, list[Value]):  # type: ignore[misc]
        """The outputs of a layer: a Value if its width is 1, else a list of Values.

        A type checker does not know the width, so both uses are allowed.
        """

else:
    Output = Value | list


class Neuron(Module):
    """activation(w · x + b), over nin inputs.

    `w` is a tuple of nin Values and `b` a Value, or None without bias. `init` draws the weights
    (see nn.init); the bias starts at 0. `nonlin=False` makes the neuron linear.

    Raises ValueError for a width below 1, an unknown activation, or another number of inputs.

    >>> neuron = nn.Neuron(2, activation="relu", init=lambda nin, nout, rng: [[3.0, -1.0]])
    >>> neuron([1.0, 2.0]).data
    1.0
    """

    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        *,
        activation: str = "relu",
        bias: bool = True,
        init: Init = xavier_uniform,
        rng: Generator | None = None,
    ):
        if activation not in tuple(ACTIVATIONS):
            raise ValueError(f"unknown activation {activation!r}; there are {', '.join(ACTIVATIONS)}")
        [weights] = _initial(init, nin, 1, rng)
        self.w = tuple(Value(w, f"w[{j}]") for j, w in enumerate(weights))
        self.b = Value(0.0, "b") if bias else None
        self.activation = activation if nonlin else "linear"

    def __call__(self, x: Iterable[Any]) -> Value:
        return _layer_outputs([self], x)[0]

    def __repr__(self) -> str:
        name = "ReLU" if self.activation == "relu" else self.activation.capitalize()
        return f"{name}Neuron({len(self.w)})"


class Layer(Module):
    """nout neurons over the same nin inputs; the keywords are those of Neuron.

    Called with nin Values or numbers, it returns a list of nout Values, or one Value if nout is 1.

    >>> len(nn.Layer(2, 3)([1.0, 2.0]))
    3
    """

    def __init__(
        self,
        nin: int,
        nout: int,
        *,
        init: Init = xavier_uniform,
        rng: Generator | None = None,
        **kwargs: Any,
    ):
        weights = _initial(init, nin, nout, rng)
        # init needs the layer's width, so it draws the whole matrix, and each neuron gets a row.
        self.neurons = [Neuron(nin, init=lambda *_, row=row: [row], **kwargs) for row in weights]
        self.label_parameters("")

    def label_parameters(self, k: Any) -> None:
        """Label the parameters as the lab does: w1[2,0] is from input 0 to neuron 2 of layer 1."""
        for i, neuron in enumerate(self.neurons):
            for j, w in enumerate(neuron.w):
                w.label = f"w{k}[{i},{j}]"
            if neuron.b is not None:
                neuron.b.label = f"b{k}[{i}]"

    def named_attributes(self) -> list[tuple[str, Any]]:
        """PyTorch's names: `weight` of shape (nout, nin) and, with biases, `bias` of shape (nout,)."""
        whole = [
            ("weight", np.array([neuron.w for neuron in self.neurons], dtype=object)),
            ("bias", np.array([neuron.b for neuron in self.neurons], dtype=object)),
            ("activation", self.neurons[0].activation),
        ]
        return whole + [(name, x) for name, x in super().named_attributes() if name != "neurons"]

    def __call__(self, x: Iterable[Any]) -> Output:
        return _bare(self.outputs(x))

    def outputs(self, x: Iterable[Any]) -> list[Value]:
        """The outputs of a call, always as a list: autograd.compile(layer) gives a column for each output."""
        return _layer_outputs(self.neurons, x)

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(repr, self.neurons))}]"


class MLP(Module):
    """A multilayer perceptron: nin inputs, then a layer for each width in nouts, the last linear.

    MLP(2, [4, 4, 1], activation="sigmoid", bias=False) is the lab's network. Called with nin Values
    or numbers, it returns a list of nouts[-1] Values, or one Value if nouts[-1] is 1. The weights are
    drawn by init(fan_in, fan_out, rng), by default from fresh entropy; the biases start at 0.

    Raises ValueError for no layer, a width below 1, an unknown activation, or another number of inputs.

    >>> model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False)
    >>> len(model.parameters())
    28
    >>> model([0.0, 1.0]).backward()
    """

    def __init__(
        self,
        nin: int,
        nouts: Sequence[int],
        activation: str = "relu",
        bias: bool = True,
        init: Init = xavier_uniform,
        rng: Generator | None = None,
    ):
        widths = [nin, *nouts] if isinstance(nouts, Iterable) else [nin]
        if len(widths) < 2:
            raise ValueError(f"an MLP needs at least one layer: nouts is a sequence of widths, not {nouts!r}")
        rng = generator(rng)
        self.layers = [
            Layer(
                widths[k],
                widths[k + 1],
                nonlin=k + 2 < len(widths),
                activation=activation,
                bias=bias,
                init=init,
                rng=rng,
            )
            for k in range(len(widths) - 1)
        ]
        for k, layer in enumerate(self.layers, 1):
            layer.label_parameters(k)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As for a Module; takes a torch.nn.Sequential's state too, named 0.weight, 2.weight, ..."""
        super().load_state_dict(_with_our_names(state))

    def __call__(self, x: Iterable[Any]) -> Output:
        return _bare(self.outputs(x))

    def outputs(self, x: Iterable[Any]) -> list[Value]:
        """The outputs of a call, always as a list: autograd.compile(model) gives a column for each output."""
        for layer in self.layers:
            x = layer.outputs(x)
        return list(x)

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(repr, self.layers))}]"


class LayerNorm(Module):
    """weight · (x − mean) / √(variance + eps) + bias, over the n numbers of x (Ba, Kiros and Hinton, 2016).

    The variance is the mean of the squared distances. `weight` is a tuple of n Values, 1 at first; `bias` is
    a tuple of n Values, 0 at first. Called with n Values or numbers, it returns a list of n Values.

    >>> [round(y.data, 3) for y in nn.LayerNorm(2)([1.0, 3.0])]
    [-1.0, 1.0]

    Raises ValueError for a width below 1, an eps that is not above 0, or another number of inputs.
    """

    def __init__(self, n: int, eps: float = 1e-5):
        self.eps = positive("eps", eps)
        self.weight = tuple(Value(1.0, f"weight[{i}]") for i in range(whole("n", n)))
        self.bias = tuple(Value(0.0, f"bias[{i}]") for i in range(n))

    def __call__(self, x: Iterable[Any]) -> list[Value]:
        xs, n = list(x), len(self.weight)
        if len(xs) != n:
            raise ValueError(f"this takes {n} inputs, not {len(xs)}")
        mean = total(xs) / n
        distances = [x - mean for x in xs]
        deviation = (dot(distances, distances) / n + self.eps).sqrt()
        return [w * (d / deviation) + b for w, d, b in zip(self.weight, distances, self.bias)]

    def __repr__(self) -> str:
        return f"LayerNorm({len(self.weight)})"


def _with_our_names(state: Any) -> Any:
    """A state with names such as 2.weight, with layers.0, layers.1, ... for the numbers, in their order."""
    names = [str(name).partition(".") for name in (state if isinstance(state, Mapping) else ())]
    if not names or not all(number.isdecimal() for number, _, _ in names):
        return state
    numbers = sorted({int(number) for number, _, _ in names})
    ours = [f"layers.{numbers.index(int(number))}.{part}" for number, _, part in names]
    return dict(zip(ours, state.values()))


def _initial(init: Init, nin: int, nout: int, rng: Generator | None) -> np.ndarray:
    """Weights of shape (nout, nin), as init draws them."""
    if not callable(init):
        raise ValueError(f"init is a function, such as {' or '.join(INITIALISERS)} of nn.init, not {init!r}")
    weights = numbers("init", init(whole("nin", nin), whole("nout", nout), generator(rng)))
    if weights.shape != (nout, nin):
        raise ValueError(f"init gave weights of shape {weights.shape}, not {(nout, nin)}")
    return weights


def _layer_outputs(neurons: list[Any], x: Any) -> list[Value]:
    first = neurons[0]
    nin = len(first.w)
    try:
        # Values compute with Python's floats faster than with NumPy's.
        inputs = tuple(x.tolist() if isinstance(x, np.ndarray) else x)
        given = len(inputs)
    except TypeError:
        given_as = "one Value: X[None] makes one example of it" if isinstance(x, Value) else type(x).__name__
        raise TypeError(f"this takes a sequence of {nin} inputs, not {given_as}") from None
    try:
        if given != nin:
            raise ValueError(f"this takes {nin} inputs, not {given}")
        outs = matvec([neuron.w for neuron in neurons], inputs)
    except (TypeError, ValueError):
        if getattr(x, "ndim", 1) > 1 or any(isinstance(v, list | tuple | np.ndarray) for v in inputs):
            raise ValueError(
                f"this takes the {nin} inputs of one example, and a matrix is many:"
                " nn.predict(model, X) gives the outputs of each row"
            ) from None
        raise
    if first.b is not None:
        outs = [z + neuron.b for z, neuron in zip(outs, neurons)]
    activate = ACTIVATIONS[first.activation]
    return [activate(z) for z in outs]


def _bare(outs: Any) -> Any:
    return outs[0] if len(outs) == 1 else outs
