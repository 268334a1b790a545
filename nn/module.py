"""Module: what every network shares, found from its attributes."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autograd import Value


class Module:
    """A network, or a part of one.

    Its parameters are the Values among its attributes and in lists and tuples there, and those of
    the Modules there, in the order in which the attributes were set.
    """

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        """(name, Value or nested list of Values) pairs; names are dotted paths, as in PyTorch."""
        for name, attribute in vars(self).items():
            yield from _named(name, attribute)

    def parameters(self) -> list[Value]:
        """All parameters, each once."""
        found = [p for _, nested in self.named_parameters() for p in _flat(nested)]
        return list(dict.fromkeys(found))

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def state_dict(self) -> dict[str, np.ndarray]:
        """The parameters' values as arrays, by name."""
        return {
            name: np.array([p.data for p in _flat(nested)]).reshape(_shape(nested))
            for name, nested in self.named_parameters()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the values that state_dict() of an equal module gave.

        Raises ValueError at the first name that is missing, unknown or of another shape, and
        TypeError for what is not numeric; the parameters are then as they were.
        """
        checked = check_state(state, self.state_dict())
        for name, nested in self.named_parameters():
            for p, data in zip(_flat(nested), checked[name].ravel().tolist()):
                p.data = data


def whole(name: str, n: Any) -> int:
    """n, if it is a whole number above 0; ValueError if not."""
    try:
        if (n := operator.index(n)) > 0:
            return n
    except TypeError:
        pass
    raise ValueError(f"{name} is a whole number above 0, not {n!r}")


def check_state(state: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of state as floats, if it has the names and shapes of the expected one."""
    for name in [*expected, *state]:
        if name not in state:
            raise ValueError(f"{name} is missing")
        if name not in expected:
            raise ValueError(f"{name} is not a parameter here; those are {', '.join(expected) or 'none'}")
    checked = {}
    for name, array in expected.items():
        given = np.asarray(state[name])
        if given.dtype.kind not in "fiub":
            raise TypeError(f"{name} holds {given.dtype}, not real numbers")
        if given.shape != array.shape:
            raise ValueError(f"{name} has shape {given.shape}, not {array.shape}")
        checked[name] = given.astype(float)
    return checked


def _named(name: str, x: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(x, Module):
        for inner, nested in x.named_parameters():
            yield f"{name}.{inner}", nested
    elif _flat(x):
        yield name, x
    elif isinstance(x, list | tuple):
        for i, item in enumerate(x):
            yield from _named(f"{name}.{i}", item)


def _flat(x: Any) -> list[Value]:
    """The Values in x, if it is one or a nested list of nothing else."""
    if isinstance(x, Value):
        return [x]
    if isinstance(x, list | tuple):
        parts = [_flat(item) for item in x]
        if all(parts):
            return [p for part in parts for p in part]
    return []


def _shape(x: Any) -> tuple[int, ...]:
    return () if isinstance(x, Value) else (len(x), *_shape(x[0]))
