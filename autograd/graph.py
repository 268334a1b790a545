"""Walking a graph, without recursion: a graph may be a million nodes deep.

    parents(v)            the Values that v was computed from
    topological_order(v)  v and all it was computed from, parents first

What else reads a graph takes it in that order.
"""

from __future__ import annotations

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
