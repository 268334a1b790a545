"""Module: a network's parameters and state, found from its attributes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autograd import Value

from . import checks
from .notebook import model_html


class Module:
    """A network, or a part of one.

    Its parameters are the leaf Values among its attributes, in lists, tuples, deques, dicts and arrays of
    objects there, and in the Modules there, in the order in which attributes were set. Each Module and
    container is searched once, so that a Module may hold its parent; it then has the parent's parameters,
    too. Arrays of numbers are not searched: large data can be kept there. A set has no order to name
    parameters by: TypeError for parameters that are only in sets.

    >>> class Line(nn.Module):
    ...     def __init__(self):
    ...         self.slope, self.shift = Value(2.0, "slope"), Value(1.0, "shift")
    ...
    ...     def __call__(self, x):
    ...         return self.slope * x[0] + self.shift
    >>> line = Line()
    >>> line([3.0]).data, [p.label for p in line.parameters()]
    (7.0, ['slope', 'shift'])
    >>> line.load_state_dict({"slope": 5.0, "shift": 0.0})
    >>> line.slope.data
    5.0
    """

    def named_attributes(self) -> list[tuple[str, Any]]:
        """(name, attribute) pairs: the attributes to search for parameters."""
        return list(vars(self).items())

    def named_parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array of Values) pairs; names are dotted paths, as in PyTorch."""
        found = list(_walk(self))
        arrays = [(name, x) for name, x in found if isinstance(x, np.ndarray)]
        sets = [(name, x) for name, x in found if isinstance(x, set | frozenset)]
        known = {id(p) for _, array in arrays for p in array.flat} if sets else set()
        for name, x in sets:
            for _, held in _walk(list(x)):
                if isinstance(held, np.ndarray) and not known.issuperset(map(id, held.flat)):
                    raise TypeError(f"parameters are in the set {name} alone, without an order: use a list")
        return iter(arrays)

    def parameters(self) -> list[Value]:
        """All parameters, each once."""
        return list({id(p): p for _, array in self.named_parameters() for p in array.flat}.values())

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        for p in self.parameters():
            p.grad = 0.0

    def state_dict(self) -> dict[str, np.ndarray]:
        """The parameters' values as arrays, by name; ValueError if two have one name."""
        state: dict[str, np.ndarray] = {}
        for name, array in self.named_parameters():
            if name in state:
                raise ValueError(f"two parameters have the name {name}")
            state[name] = np.array([p.data for p in array.flat]).reshape(array.shape)
        return state

    def _repr_html_(self) -> str:
        return model_html(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the parameters to the values that state_dict() of an equal module gave.

        Raises ValueError at the first name that is missing, unknown or of another shape, and
        TypeError for arrays that are not numeric; the parameters are then unchanged.
        """
        checked = checks.state(state, self.state_dict())
        for name, array in self.named_parameters():
            for p, data in zip(array.flat, checked[name].ravel().tolist()):
                p.data = data


def settings(x: Any) -> dict[str, Any]:
    """The settings of a model or an optimizer by name, as JSON can hold them.

    Settings are attributes that are numbers, texts, functions (by their names) or tuples of those, of x and
    of the Modules in x. An attribute whose name begins with an underscore may be a cache, and is left out.
    """
    if isinstance(x, Module):
        parts = [(name, part.named_attributes()) for name, part in _walk(x) if isinstance(part, Module)]
    else:
        parts = [("", list(getattr(x, "__dict__", {}).items()))]
    return {
        _dotted(name, key): plain
        for name, attributes in parts
        for key, attribute in attributes
        if not key.startswith("_") and (plain := _plain(attribute)) is not None
    }


def _plain(x: Any) -> Any:
    """x as JSON can hold it, or None."""
    if isinstance(x, tuple):
        items = [_plain(item) for item in x]
        return None if None in items else items
    if callable(x) and not isinstance(x, Module):
        return getattr(x, "__name__", type(x).__name__)
    x = x.item() if isinstance(x, np.generic) else x
    return x if isinstance(x, str | int | float) else None


def _walk(root: Any) -> Iterator[tuple[str, Any]]:
    """(name, x) for each Module, set and array of parameters in root, root included, but not inside sets."""
    entered: dict[int, Any] = {}  # by id; kept alive here, so that no other object gets the same id
    stack = [("", root)]
    while stack:
        name, x = stack.pop()
        array = _parameter_array(x)
        if array is not None:
            yield name, array
        elif isinstance(x, HOLDERS) and id(x) not in entered:
            entered[id(x)] = x
            if isinstance(x, Module | set | frozenset):
                yield name, x
            if isinstance(x, Module) and x is not root and _names_its_own(x):
                yield from [(_dotted(name, inner), array) for inner, array in x.named_parameters()]
            else:
                stack += [(_dotted(name, key), item) for key, item in reversed(_items(x))]


def _parameter_array(x: Any) -> np.ndarray | None:
    """x as an array, if it is an array of parameters or a nest of sequences that can be one; else None."""
    if isinstance(x, Value):
        return np.array(x, dtype=object) if _is_parameter(x) else None
    if isinstance(x, np.ndarray):
        return x if x.dtype == object and x.size and all(map(_is_parameter, x.flat)) else None
    if not isinstance(x, SEQUENCES) or not x:
        return None
    if isinstance(x[0], Value):
        return np.array(list(x), dtype=object) if all(map(_is_parameter, x)) else None
    rows: list[np.ndarray] = []
    for item in x:
        row = _parameter_array(item)
        if row is None or row.shape != (rows or [row])[0].shape:
            return None
        rows.append(row)
    return np.array(rows)


def _is_parameter(x: Any) -> bool:
    return isinstance(x, Value) and x.row is None


def _names_its_own(x: Module) -> bool:
    return type(x).named_parameters is not Module.named_parameters


def _items(x: Any) -> list[tuple[Any, Any]]:
    """(key, item) pairs of x; none if x holds only data."""
    if isinstance(x, Module):
        return x.named_attributes()
    if isinstance(x, set | frozenset):
        return []
    if isinstance(x, np.ndarray):
        x = np.atleast_1d(x) if x.dtype == object else ()
    items = x.values() if isinstance(x, dict) else getattr(x, "flat", x)
    # A look at the set of types takes a tenth of the time of a look at each item.
    if not any(issubclass(t, (Value, *HOLDERS)) for t in set(map(type, items))):
        return []
    return list(x.items() if isinstance(x, dict) else enumerate(x))


def _dotted(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


SEQUENCES = (list, tuple, deque)
HOLDERS = (Module, dict, set, frozenset, np.ndarray, *SEQUENCES)
