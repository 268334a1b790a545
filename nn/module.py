"""Module: what every network shares, found from its attributes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autograd import Value

from . import checks


class Module:
    """A network, or a part of one.

    Its parameters are the leaf Values among its attributes, in lists, tuples, dicts and arrays
    there, and in the Modules there, in the order in which the attributes were set.
    """

    def named_parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array of Values) pairs; names are dotted paths, as in PyTorch."""
        for name, attribute in vars(self).items():
            yield from _named(name, attribute)

    def parameters(self) -> list[Value]:
        """All parameters, each once."""
        return list(dict.fromkeys(p for _, array in self.named_parameters() for p in array.flat))

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def state_dict(self) -> dict[str, np.ndarray]:
        """The parameters' values as arrays, by name."""
        return {name: _numbers(array) for name, array in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the values that state_dict() of an equal module gave.

        Raises ValueError at the first name that is missing, unknown or of another shape, and
        TypeError for what is not numeric; the parameters are then as they were.
        """
        checked = checks.state(state, self.state_dict())
        for name, array in self.named_parameters():
            for p, data in zip(array.flat, checked[name].ravel().tolist()):
                p.data = data


def _numbers(array: np.ndarray) -> np.ndarray:
    return np.array([p.data for p in array.flat]).reshape(array.shape)


def _named(name: str, x: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(x, Module):
        for inner, array in x.named_parameters():
            yield f"{name}.{inner}", array
    elif isinstance(x, dict):
        for key, item in x.items():
            yield from _named(f"{name}.{key}", item)
    elif isinstance(x, Value | list | tuple | np.ndarray):
        array = np.array(x, dtype=object)
        if array.size and all(isinstance(p, Value) and p.row is None for p in array.flat):
            yield name, array
        elif not isinstance(x, Value):  # not parameters alone: perhaps some of its items are
            for i, item in enumerate(x):
                yield from _named(f"{name}.{i}", item)
