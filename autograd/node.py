"""Node: the slots of a Value, as the modules below value.py know them.

Value adds the operators and backward(). The modules that it is built from (ops, graph, errors, copying,
tracing) take Nodes, so that none of them imports Value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar


class Node:
    """A number, the row of the table that computed it, its operands, and the derivatives by them."""

    __slots__ = ("_data", "_grad", "_label", "row", "x", "y", "_dx", "_dy", "__dict__")

    _data: float
    _grad: float  # not set on a fresh node, as a store would take time
    _label: str  # set only if there is a label
    row: Any
    x: Any
    y: Any
    _dx: Any
    _dy: Any

    traced: ClassVar[bool] = False
    _record: ClassVar[Callable[..., Any]]  # (primitive, *operands) → the Value of the result
    _choice: ClassVar[Callable[..., Any]]  # (condition, a, b) → the Value of `where`


V = TypeVar("V", bound=Node)


def data_of(x: Any) -> Any:
    """The number of a Value; anything else as it is."""
    return x._data if isinstance(x, Node) else x


def grad_of(v: Node) -> float:
    """The grad of v: 0 if it was never set."""
    return getattr(v, "_grad", 0.0)
