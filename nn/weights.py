"""Weights to and from elsewhere: a torch.nn.Sequential, and .safetensors files."""

from __future__ import annotations

from typing import Any

import numpy as np

from autograd.files import whole_file

from .layers import MLP

TORCH_ACTIVATIONS = {
    "elu": "ELU",
    "gelu": "GELU",
    "leaky_relu": "LeakyReLU",
    "relu": "ReLU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "softplus": "Softplus",
    "tanh": "Tanh",
}


def to_torch(model: MLP) -> Any:
    """A torch.nn.Sequential of float64 with the layers, the activations and the weights of an MLP.

    The other way is model.load_state_dict(sequential.state_dict()). Raises ImportError without PyTorch.

    >>> nn.to_torch(nn.MLP(2, [4, 1]))  # doctest: +SKIP
    Sequential(
      (0): Linear(in_features=2, out_features=4, bias=True)
      (1): ReLU()
      (2): Linear(in_features=4, out_features=1, bias=True)
    )
    """
    if not isinstance(model, MLP):
        raise TypeError(f"to_torch takes an MLP, not {model!r:.80}")
    try:
        import torch
    except ImportError:
        raise ImportError("to_torch needs PyTorch: pip install torch") from None
    modules: list[Any] = []
    for layer in model.layers:
        neuron = layer.neurons[0]
        modules.append(torch.nn.Linear(len(neuron.w), len(layer.neurons), bias=neuron.b is not None))
        if neuron.activation != "linear":
            modules.append(getattr(torch.nn, TORCH_ACTIVATIONS[neuron.activation])())
    sequential = torch.nn.Sequential(*modules).double()
    arrays = map(torch.tensor, model.state_dict().values())
    sequential.load_state_dict(dict(zip(sequential.state_dict(), arrays)))
    return sequential


def save_safetensors(path: Any, model: Any) -> None:
    """Write a model's state_dict as a .safetensors file (the extra `safetensors`).

    Raises OSError if the file cannot be written; an old file is then unchanged.

    >>> nn.save_safetensors("lab.safetensors", nn.MLP(2, [4, 1]))  # doctest: +SKIP
    """
    content = _library().numpy.save(model.state_dict())
    with whole_file(path) as file:
        file.write(content)


def load_safetensors(path: Any, model: Any) -> None:
    """Load a .safetensors file into a model, by model.load_state_dict: numbers of any precision.

    Raises ValueError for a damaged file, and for names or shapes that are not the model's.

    >>> nn.load_safetensors("lab.safetensors", nn.MLP(2, [4, 1]))  # doctest: +SKIP
    """
    library = _library()
    with open(path, "rb") as file:
        content = file.read()
    try:
        parts = library.deserialize(content)
    except Exception as error:
        raise ValueError(f"{path} is no whole .safetensors file: {error}") from None
    arrays = {name: _array_of(part["dtype"], part["data"], name) for name, part in parts}
    shapes = {name: part["shape"] for name, part in parts}
    model.load_state_dict({name: array.reshape(shapes[name]) for name, array in arrays.items()})


def _array_of(dtype: str, data: Any, name: str) -> np.ndarray:
    """The numbers of a part of a file as a flat array; bfloat16 is the upper half of float32."""
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    if dtype not in kinds:
        raise ValueError(f"{name} holds {dtype}: weights are F64, F32, F16 or BF16")
    return np.frombuffer(data, kinds[dtype])


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("this needs the extra `safetensors`: pip install safetensors") from None
    return safetensors
