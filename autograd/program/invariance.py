"""invariance: Values that a result is written with, and does not depend on.

    m = max(a, b)
    m + log(exp(a - m) + exp(b - m))

The largest is there so that nothing overflows; by any other m the result would be the same. If m grows by
s, then a − m *shifts* by −s, exp(a − m) *scales* by exp(−s), and so does the sum; its logarithm shifts by −s,
and m + log(…) is as it was. So are the shares exp(a − m) ÷ Σ. No gradient has to flow through such an m: it
would be 0, but for rounding.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from .. import ops
from ..graph import parents
from ..value import Constant, Value

SHIFTS, SCALES = "shifts", "scales"  # by how many times s, and by exp of how many times s
Change = tuple[str, float]


def invariant(order: Sequence[Value], outputs: Collection[Any]) -> set[Value]:
    """The Values of an order, operands of exp(x − m), by which no output changes."""
    candidates = {
        v.x.y: None
        for v in order
        if v.row is ops.exp and v.x.row is ops.sub and isinstance(v.x.y, Value) and v.x.y.row
    }
    if not candidates:
        return set()
    place = {v: i for i, v in enumerate(order)}
    users: dict[Value, list[int]] = {v: [] for v in order}
    for i, v in enumerate(order):
        for p in parents(v):
            users[p].append(i)
    return {m for m in candidates if m in place and _changes_nothing(m, order, users, outputs)}


def _changes_nothing(
    m: Value, order: Sequence[Value], users: dict[Value, list[int]], outputs: Collection[Any]
) -> bool:
    changes: dict[Any, Change] = {m: (SHIFTS, 1.0)}
    waiting, done = [*users[m]], set()
    heapq.heapify(waiting)
    while waiting:
        i = heapq.heappop(waiting)
        if i in done:
            continue
        done.add(i)
        change = _change(order[i], changes)
        if change is None:
            return False
        if change[1]:
            changes[order[i]] = change
            for user in users[order[i]]:
                heapq.heappush(waiting, user)
    return changes.keys().isdisjoint(v for v in outputs if isinstance(v, Value))


def _change(v: Value, changes: dict[Any, Change]) -> Change | None:
    """How v changes as its operands do; None if that is neither a shift nor a scaling."""
    if v.row in (ops.add, ops.sub, ops.total):
        terms = v.x if type(v.x) is tuple else (v.x, v.y)
        found = [changes.get(x) for x in terms]
        if v.row is ops.sub and found[1] and found[1][0] == SHIFTS:
            found[1] = SHIFTS, -found[1][1]
        return _change_of_sum(found)
    if v.row is ops.dot:
        return _change_of_sum(_change_of_product(changes, *pair) for pair in zip(v.x, v.y))
    if v.row is ops.mul:
        return _change_of_product(changes, v.x, v.y)
    if v.row is ops.neg:
        return _change_of_product(changes, v.x, -1.0)
    x, y = changes.get(v.x), changes.get(v.y)
    if v.row is ops.div and (x or (SCALES,))[0] == (y or (SCALES,))[0] == SCALES:
        return SCALES, (x[1] if x else 0.0) - (y[1] if y else 0.0)
    if x and not y and v.row is ops.exp and x[0] == SHIFTS:
        return SCALES, x[1]
    if x and not y and v.row is ops.log and x[0] == SCALES:
        return SHIFTS, x[1]
    return None


def _change_of_sum(found: Iterable[Change | None]) -> Change | None:
    """How a sum changes: terms that shift add up, and terms that scale do it alike, or not."""
    found = list(found)
    if any(change and change[0] == SCALES for change in found):
        return found[0] if len(set(found)) == 1 else None
    return SHIFTS, sum(change[1] for change in found if change)


def _change_of_product(changes: dict[Any, Change], x: Any, y: Any) -> Change | None:
    for one, other in ((x, y), (y, x)):
        if one in changes and changes[one][0] == SHIFTS:
            number = other._data if isinstance(other, Constant) else other
            return (SHIFTS, changes[one][1] * number) if isinstance(number, float) else None
    return SCALES, sum(changes[each][1] for each in (x, y) if each in changes)
