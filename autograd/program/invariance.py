"""invariance: Values in the formula of a result that the result does not depend on.

    m = max(a, b)
    m + log(exp(a - m) + exp(b - m))

The maximum m prevents overflow; any other m would give the same result. If m grows by s, then a − m *shifts*
by −s, exp(a − m) *scales* by exp(−s), and so does the sum; its logarithm shifts by −s, and m + log(…) is
unchanged. So is a softmax, exp(a − m) ÷ Σ. No gradient has to flow through such an m: the gradient would be
0, except for rounding.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Any

from .. import ops
from ..graph import parents
from ..value import Constant, Value

SHIFTS, SCALES = "shifts", "scales"
Change = tuple[str, Fraction]  # a shift by k s, or a scaling by exp(k s), with the exact number k
STILL: Change = (SHIFTS, Fraction())


def invariant(order: Sequence[Value], outputs: Collection[Any]) -> set[Value]:
    """The Values m of an order, in exp(x − m), whose changes change no output."""
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
    changes: dict[Any, Change] = {m: (SHIFTS, Fraction(1))}
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
    """How v changes when its operands do; None if v neither shifts nor scales."""
    if v.row in (ops.add, ops.total):
        terms = v.x if type(v.x) is tuple else (v.x, v.y)
        return _change_of_sum([changes.get(x, STILL) for x in terms])
    if v.row in ops.REDUCTIONS:
        found = {changes.get(x, STILL) for x in v.x}
        return found.pop() if len(found) == 1 and all(of == SHIFTS for of, _ in found) else None
    if v.row is ops.sub:
        return _change_of_sum([changes.get(v.x, STILL), _change_of_product(changes, v.y, -1.0)])
    if v.row is ops.dot:
        return _change_of_sum([_change_of_product(changes, *pair) for pair in zip(v.x, v.y)])
    if v.row is ops.mul:
        return _change_of_product(changes, v.x, v.y)
    if v.row is ops.neg:
        return _change_of_product(changes, v.x, -1.0)
    (of_x, x), (of_y, y) = changes.get(v.x, STILL), changes.get(v.y, STILL)
    if v.row is ops.div and not (of_x == SHIFTS and x) and not (of_y == SHIFTS and y):
        return (SCALES, x - y) if x != y else STILL
    if v.row is ops.exp and of_x == SHIFTS:
        return SCALES, x
    if v.row is ops.log and of_x == SCALES:
        return SHIFTS, x
    return None


def _change_of_sum(found: Sequence[Change | None]) -> Change | None:
    """The change of a sum: shifts add up, and terms that scale must all scale alike."""
    if None in found:
        return None
    if all(change[0] == SHIFTS for change in found if change):
        return SHIFTS, sum((change[1] for change in found if change), Fraction())
    return found[0] if len(set(found)) == 1 else None


def _change_of_product(changes: dict[Any, Change], x: Any, y: Any) -> Change | None:
    (of_x, by_x), (of_y, by_y) = changes.get(x, STILL), changes.get(y, STILL)
    for of, by, other in ((of_x, by_x, y), (of_y, by_y, x)):
        if of == SHIFTS and by:
            number = other._data if isinstance(other, Constant) else other
            known = isinstance(number, float) and math.isfinite(number)
            return (SHIFTS, by * Fraction(number)) if known else None
    return (SCALES, by_x + by_y) if by_x + by_y else STILL
