"""Walking a graph, without recursion: a graph may be a million nodes deep.

parents(v)            the Values that v was computed from
topological_order(v)  v and all it was computed from, parents first
leaves(v)             the ones of these that were given, not computed
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .value import Value


def parents(v: Value) -> tuple[Value, ...]:
    """The Values among v's operands, in order: a number has no local derivative."""
    found: tuple[Value, ...] = ()
    for operand, partial in ((v.x, v.dx), (v.y, v.dy)):
        if partial is not None:
            found += operand if type(operand) is tuple else (operand,)
    return found


def topological_order(root: Value) -> list[Value]:
    """root and every Value it depends on, each once, every parent before its children."""
    order: list[Value] = []
    seen: set[Value] = set()
    stack: list[Any] = [root]
    pop, push = stack.pop, stack.append
    while stack:
        v = pop()
        if v is None:  # everything below the next one is in the order by now
            order.append(pop())
        elif v not in seen:
            seen.add(v)
            push(v)
            push(None)
            # parents(v), in place: this loop is a quarter of a training step
            if v.dx is not None:
                x = v.x
                if type(x) is not tuple:
                    push(x)
                elif not seen.issuperset(x):
                    stack += x
            if v.dy is not None:
                y = v.y
                if type(y) is not tuple:
                    push(y)
                elif not seen.issuperset(y):
                    stack += y
    return order


def leaves(root: Value) -> list[Value]:
    """The Values that root depends on and that no primitive computed."""
    return [v for v in topological_order(root) if not v.op]


class Nodes:
    """A graph for pickle, which by itself would recurse from each node into its parents.

    It is pickled as a list in topological order, so that pickle meets every node after the node's
    parents. While that list is being written, `in_order` tells a node that its parents are there.
    """

    def __init__(self, root: Value):
        self.order = topological_order(root)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (), None, _Writing(self.order)

    @staticmethod
    def in_order(v: Value) -> bool:
        writing = _current.writing() if hasattr(_current, "writing") else None
        return writing is not None and v in writing.nodes


class _Writing(Iterator["Value"]):
    """The iterator that pickle draws nodes from, and holds until the last one is written."""

    def __init__(self, order: list[Value]):
        self.nodes = set(order)
        self.order = iter(order)
        _current.writing = weakref.ref(self)

    def __next__(self) -> Value:
        return next(self.order)


_current = threading.local()
