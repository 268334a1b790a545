"""differentiate: the mean or the sum over the rows, and its gradient, as scalars for all rows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from .. import ops
from ..derive import adjoints
from ..graph import dependents, parents, topological_order
from ..tracing import COMPILE, tracing
from ..value import Value
from .invariance import invariant
from .products import Product, weights_in
from .scalars import Scalars
from .simplify import ROW_SUM, forms


def differentiate(scalars: Scalars) -> Scalars:
    """The scalars to compute for scalars.kind: a Value that does not depend on the data is one for all rows.

    The backward pass goes row by row down to the Values that are the same for all rows, sums their adjoints
    over the rows, and goes on with these sums to the leaves: of the weights of a Product, to the first and
    the last.
    """
    if scalars.kind == "rows":
        return scalars
    (output, *_), rows = scalars.outputs, scalars.rows
    mean = scalars.reduce == "mean"
    total = row_sum(output, rows) if scalars.by_row else output
    result = total / rows if scalars.by_row and mean else total
    if scalars.kind == "value" or not isinstance(output, Value):
        return replace(scalars, outputs=[result])
    order = topological_order(output)
    fixed = invariant(order, [output])
    sums = _used_once(order, scalars.input_leaves)
    by_row = dependents(order, scalars.input_leaves) if scalars.by_row else {}
    varying = {*by_row, *scalars.input_leaves} if scalars.by_row else {*order}.difference(scalars.leaves)
    weights = weights_in(reversed(order), scalars.leaves, varying, scalars.outputs)
    inner = {v for xs, _ in weights for v in xs[1:-1]}
    leaves = [v for v in scalars.leaves if v not in inner]
    with tracing(COMPILE):  # so that a user's own derivative may choose, and may not branch
        if output not in by_row:
            seed = 1.0 if mean or not scalars.by_row else rows
            gradient = found = adjoints({output: seed}, leaves, None, fixed, sums)
        else:
            share = output / rows if mean else output
            result = row_sum(share, rows)
            inside = [*(v for v in order if v in by_row or _has_zeros(v)), *([share] if mean else [])]
            known = {*inside, rows, *inner}
            ends = dict.fromkeys(p for v in inside for p in parents(v) if p not in known)
            found = adjoints({share: 1.0}, ends, inside, fixed, sums)
            gradient = adjoints(
                {v: row_sum(found[v], rows) for v in ends if v in found}, leaves, None, fixed, sums
            )
    products = []
    for xs, uses in weights:
        if terms := [(found[v], factors) for v, factors in uses if v in found]:
            of_dots, factors = zip(*terms)
            products.append(Product(xs, of_dots, factors, ((ROW_SUM,),) if scalars.by_row else ()))
    return replace(
        scalars, outputs=[result], gradient=gradient, adjoints={**gradient, **found}, products=products
    )


def _has_zeros(v: Value) -> bool:
    """Whether v is a dot with a state that is 0 at first; it counts as varying by row, as later states do."""
    return v.row is ops.dot and all(type(x) is float and x == 0.0 for x in v.y)


def _used_once(order: Sequence[Value], data: Iterable[Value]) -> set[Value]:
    """Values that are used once, while others that are computed alike have more users.

    The adjoints of those are sums. Of queries and the keys before them, the first query has one key.
    """
    users = Counter(itertools.chain.from_iterable(map(parents, order)))
    alike: dict[int, list[Value]] = {}
    for v, form in forms(order, data).items():
        alike.setdefault(form, []).append(v)
    several = [members for members in alike.values() if max(map(users.__getitem__, members)) > 1]
    return {v for members in several for v in members if users[v] == 1}


def row_sum(x: Any, rows: Value) -> Any:
    """The sum of x over the rows."""
    return Value._record(ROW_SUM, x) if isinstance(x, Value) else x * rows
