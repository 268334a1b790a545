"""products: the gradient by weights without a Value for each.

A matrix of weights is used in z = w x. The gradient by w[i,j] is δ[i] x[j], summed over the uses of w and
the rows: as many Values as there are weights, which lift would put together again as δᵀ x. Instead, a row of
w has one Product, and Values for its first and last element: the first tells what passes make of all, and
with the last, adjoints have several users.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .. import ops
from ..derive import sum_of_products
from ..graph import parents
from ..value import Value, applied
from .simplify import ROW_SUM, are_same, is_zero

FEWEST = 3  # weights: two have Values


@dataclass(eq=False)
class Product:
    """The gradient by a vector of weights: a sum over the dots that it is used in.

    A term is the adjoint of a dot times its other operands, the `factors`, of which each weight has one.
    `steps` lead from the sum to the gradient: each is a primitive, perhaps with a number.
    """

    weights: tuple[Value, ...]
    adjoints: tuple[Any, ...]
    factors: tuple[tuple[Any, ...], ...]
    steps: tuple[tuple[Any, ...], ...]

    def simpler(self, became: Mapping[Any, Any], gradient: Mapping[Value, Any]) -> Product | None:
        """The Product of simpler Values, if the gradient by the first weight is such a sum; else None."""
        vectors = {id(xs): tuple([became.get(x, x) for x in xs]) for xs in self.factors}
        factors = tuple([vectors[id(xs)] for xs in self.factors])
        found = _as_sum(gradient[self.weights[0]], [xs[0] for xs in factors])
        return found and Product(self.weights, found[0], factors, found[1])

    def values(self) -> dict[Value, Any]:
        """The gradient by each of the weights, as Values."""
        found, vectors = {}, dict[tuple[Any, ...], tuple[Any, ...]]()
        for w, *factors in zip(self.weights, *self.factors):
            found[w] = sum_of_products([*zip(self.adjoints, factors)], vectors)
            for row, *numbers in self.steps:
                operands = [*numbers, found[w]]
                found[w] = applied(row, *operands)
        return found


def _as_sum(g: Any, factors: list[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """What these factors are multiplied with in a sum of products, and the steps from it to g; else None."""
    steps: list[tuple[Any, ...]] = []
    while isinstance(g, Value):
        pairs = [*zip(g.x, g.y)] if g.row is ops.dot else [(g.x, g.y)] if g.row is ops.mul else []
        sides = [*zip(*[pair for pair in pairs if not any(map(is_zero, pair))])]
        for others, some in (sides, sides[::-1]) if sides else ():
            if are_same(some, tuple(factors)) and float not in map(type, others):
                return others, tuple(steps[::-1])
        if g.row in (ops.neg, ROW_SUM):
            steps.append((g.row,))
            g = g.x
        elif g.row is ops.mul and type(g.x) is float:
            steps.append((g.row, g.x))
            g = g.y
        else:
            return None
    return None


def weights_in(
    order: Iterable[Value], leaves: Iterable[Value], varying: Iterable[Value], elsewhere: Iterable[Any]
) -> list[tuple[tuple[Value, ...], list[tuple[Value, tuple[Any, ...]]]]]:
    """Vectors of leaves that are used in the same dots, and these dots with the other operands of the leaves.

    Dots are in the order given. Operands are `varying`, or 0 as in a first state, which is left out. Leaves
    that are `elsewhere`, or used in other ways, are in no vector.
    """
    leaves, varying, elsewhere = {*leaves}, {*varying}, {*elsewhere}
    dots: dict[tuple[Value, ...], list[tuple[int, Value, tuple[Any, ...]]]] = defaultdict(list)

    @functools.cache
    def are_leaves(xs: tuple[Any, ...]) -> bool:
        return leaves.issuperset(xs)

    @functools.cache
    def zeros(xs: tuple[Any, ...]) -> list[bool]:
        """Which operands are 0; [] if others do not vary."""
        are_zero = [*map(is_zero, xs)]
        return are_zero if all(zero or x in varying for x, zero in zip(xs, are_zero)) else []

    @functools.cache
    def some_of(xs: tuple[Any, ...], places: tuple[int, ...]) -> tuple[Any, ...]:
        return tuple([xs[i] for i in places])  # one object for all that share it

    for number, v in enumerate(order):
        for x, y in ((v.x, v.y), (v.y, v.x)) if v.row is ops.dot else ():
            if are_leaves(x) and zeros(y):
                dots[x].append((number, v, y))
                break
        else:
            elsewhere.update(parents(v))
    homes: dict[Value, list[Any]] = defaultdict(list)  # a leaf's vectors, and where it is multiplied by 0
    places: dict[Value, list[int]] = defaultdict(list)  # its place in each
    for xs, uses in dots.items():
        for i, (x, *missing) in enumerate(zip(xs, *(zeros(ys) for *_, ys in uses))):
            homes[x].append((xs, tuple(missing)))
            places[x].append(i)
    alike: dict[Any, list[Value]] = defaultdict(list)
    for x, of in homes.items():
        if x not in elsewhere:
            alike[tuple([(id(xs), missing) for xs, missing in of])].append(x)
    found = []
    for weights in alike.values():
        terms = []
        for (vector, missing), *at in zip(homes[weights[0]], *map(places.__getitem__, weights)):
            given = [use for use, zero in zip(dots[vector], missing) if not zero]
            terms += [(number, v, some_of(ys, tuple(at))) for number, v, ys in given]
        if terms and len(weights) >= FEWEST:
            terms.sort(key=lambda term: term[0])
            found.append((tuple(weights), [(v, ys) for _, v, ys in terms]))
    return found
