"""Walking a graph, without recursion: a graph may be a million nodes deep.

    operands(v)            what v was computed from, with the local derivatives
    parents(v)             the Values among that
    topological_order(*vs) vs and all they were computed from, parents first

What else reads a graph takes it in that order. Where it makes many objects on the way, it has
    collector_off()        Python's garbage collector at rest
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .locks import in_forked_child

if TYPE_CHECKING:
    from .value import Value


def operands(v: Value) -> Iterator[tuple[Any, Any]]:
    """v's operands, each with ∂v/∂operand: None by a number, or by a vector of numbers, which is one."""
    for operand, partial in ((v.x, v.dx), (v.y, v.dy)):
        if type(operand) is tuple and partial is not None:
            yield from zip(operand, partial)
        elif operand is not None:
            yield operand, partial


def parents(v: Value) -> tuple[Value, ...]:
    """The Values among v's operands, in order."""
    xs = () if v.dx is None else v.x if type(v.x) is tuple else (v.x,)
    ys = () if v.dy is None else v.y if type(v.y) is tuple else (v.y,)
    return xs + ys


def topological_order(*roots: Value) -> list[Value]:
    """roots and every Value they depend on, each once, every parent before its children."""
    order: list[Value] = []
    seen: set[Value] = set()
    stack: list[Any] = list(roots)
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


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Python's garbage collector off: graphs have no cycles, and to look for some takes most of the time."""
    on = gc.isenabled()
    if on:  # else another thread that is here as well may have turned it off, and will turn it on
        _turned_off.append(None)
        gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
            del _turned_off[:1]


@in_forked_child
def _collector_on() -> None:
    if _turned_off:  # by a thread that the child does not have
        _turned_off.clear()
        gc.enable()


_turned_off: list[None] = []  # an item for each thread that did
