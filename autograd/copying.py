"""Copies and pickles of graphs: without recursion, and with shared operands still shared."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

from .graph import topological_order
from .node import Node, V, grad_of


def copy(v: V) -> V:
    """copy.copy: another Value of the same operands."""
    cls = type(v)
    twin = cls.__new__(cls)
    twin._data, twin._grad, twin.row = v._data, grad_of(v), v.row
    if hasattr(v, "_label"):
        twin._label = v._label
    twin.x, twin.y, twin._dx, twin._dy = v.x, v.y, v._dx, v._dy
    if v.__dict__ or len(cls.__mro__) > 3:  # attributes beside Value's slots
        reduced: Any = object.__reduce_ex__(v, 2)
        for part in filter(None, reduced[2]):  # its dict, if it has one, and its slots
            for name, field in part.items():
                setattr(twin, name, field)
    return twin


def deepcopy(v: Node, memo: dict[int, Any]) -> Any:
    """copy.deepcopy: a copy of the graph, parents first, so that a copy finds its operands' copies."""
    for node in topological_order(v):
        if hasattr(node._dx, "function"):
            name = node.row.name
            raise TypeError(f"{name!r} was made by hand: its _backward knows the original operands alone")
        if id(node) not in memo:
            memo[id(node)] = twin = copy(node)
            twin.x = _copied(node.x, memo)
            twin.y = _copied(node.y, memo)
    return memo[id(v)]


def reduce(v: Node, protocol: Any) -> Any:
    """pickle: a leaf like any object; a computed Value as the last item of its graph, parents first."""
    if v.row and not _being_pickled(v):
        return _last, (Graph(v),)
    return object.__reduce_ex__(v, 2)  # protocol 2 is the first that pickles slots


class Graph:
    """A graph as pickle sees it: a list of its Values, parents first.

    Pickle would recurse from each Value into its parents. In this list it meets the parents first, and
    then writes references to them.
    """

    def __init__(self, root: Node):
        self.order = topological_order(root)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (), None, _Items(self.order)


class _Items(Iterator[Node]):
    """The list's iterator, which pickle holds while it writes the items."""

    def __init__(self, order: list[Node]):
        self.order = iter(order)
        self.drawn: set[Node] = set()  # given to pickle, and not yet written
        _pickling.items = weakref.ref(self)

    def __next__(self) -> Node:
        v = next(self.order)
        self.drawn.add(v)
        return v


def _being_pickled(v: Node) -> bool:
    """Whether v is the item that this thread's pickle is writing: its parents are written already."""
    items = _pickling.items() if hasattr(_pickling, "items") else None
    if items is None or v not in items.drawn:
        return False
    items.drawn.remove(v)
    return True


def _last(values: list[Node]) -> Node:
    return values[-1]


def _copied(operand: Any, memo: dict[int, Any]) -> Any:
    """The copy of an operand; a tuple of operands, which nodes may share, is copied once."""
    if type(operand) is tuple and id(operand) not in memo:
        memo[id(operand)] = tuple(_copied(x, memo) for x in operand)
    return memo.get(id(operand), operand)


_pickling = threading.local()
