"""Walking a graph, without recursion: a graph may be a million nodes deep.

operands(v)            the operands of v, with the local derivatives
parents(v)             the Values among the operands
topological_order(*vs) vs and all that they were computed from, parents first
dependents(order, vs)  the part of an order that depends on vs
collector_off()        turns Python's garbage collector off, for code that makes many objects
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

from .locks import in_forked_child
from .node import Node, V

NUMBERS = {float, tuple, type(None)}  # the types of operands that are no Values


def operands(v: Node) -> Iterator[tuple[Any, Any]]:
    """v's operands, each with ∂v/∂operand, or with None for a number and where no gradient flows back.

    A vector of numbers is one operand.
    """
    for operand, partials in ((v.x, v._dx), (v.y, v._dy)):
        if type(operand) is tuple and partials is not None:
            known = type(partials) in (list, tuple)  # a `_backward` written by hand has no numbers
            yield from zip(operand, partials if known else itertools.repeat(math.nan))
        elif operand is not None:
            yield operand, partials


def parents(v: V) -> tuple[V, ...]:
    """The Values among v's operands, in order."""
    x, y = v.x, v.y
    if type(x) is tuple:
        xs = x if v._dx is not None else ()
    else:
        xs = (x,) if v._dx is not None or type(x) not in NUMBERS else ()
    if y is None:
        return xs
    if type(y) is tuple:
        return xs + y if v._dy is not None else xs
    return (*xs, y) if v._dy is not None or type(y) not in NUMBERS else xs


def topological_order(*roots: V, gradient_only: bool = False) -> list[V]:
    """roots and every Value they depend on, each once, every parent before its children.

    With `gradient_only`, only the Values that a gradient reaches: none behind a comparison or a detach().
    """
    order: list[V] = []
    seen: set[V] = set()
    stack: list[Any] = list(roots)
    pop, push = stack.pop, stack.append
    while stack:
        v = pop()
        if v is None:  # all that the next item depends on is in the order by now
            order.append(pop())
        elif v not in seen:
            seen.add(v)
            push(v)
            push(None)
            # parents(v), written out: this loop takes a quarter of a training step
            if v._dx is not None:
                x = v.x
                if type(x) is not tuple:
                    push(x)
                elif not seen.issuperset(x):
                    stack += x
            elif not gradient_only and type(v.x) not in NUMBERS:
                push(v.x)
            if v._dy is not None:
                y = v.y
                if type(y) is not tuple:
                    push(y)
                elif not seen.issuperset(y):
                    stack += y
            elif not gradient_only and type(v.y) not in NUMBERS:
                push(v.y)
    return order


def dependents(order: Iterable[V], sources: Iterable[V]) -> dict[V, None]:
    """The sources, and the Values that depend on one, in the given topological order."""
    wanted = set(sources)
    found: dict[V, None] = {}
    for v in order:
        if v in wanted or not wanted.isdisjoint(parents(v)):
            wanted.add(v)
            found[v] = None
    return found


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Turn Python's garbage collector off: graphs have no cycles, and its search takes most of the time."""
    on = gc.isenabled()
    if on:  # if off, another thread in this block may have done that, and will turn it on
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
    if _turned_off:  # by a thread of the parent, which the child does not have
        _turned_off.clear()
        gc.enable()


_turned_off: list[None] = []  # an item for each thread that turned the collector off
