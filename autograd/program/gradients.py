"""gradients: the gradient by an array of weights as products of arrays, such as δᵀ x."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import ops
from ..value import Value
from . import grids
from .arrays import Array, View, coordinates, whole
from .places import MOST_PIECES, gathers
from .products import Product
from .uneven import Uneven

MANY = 1 << 31  # more than there are arrays


class Gradients(Uneven):
    """Places, and arrays of the gradient by weights that have Products."""

    def by_products(self, weights: np.ndarray, of: Mapping[Value, Product]) -> Array | None:
        """The gradient by an array of weights, in a few blocks whose terms lie in the same arrays.

        None if a weight has no Product, if blocks are many, or if one takes gathers or has one Product of
        several.
        """
        if not all(v in of for v in weights.flat):
            return None
        known: dict[int, np.ndarray] = {}
        terms = {
            product: self._terms_of(product, known) for product in dict.fromkeys(of[v] for v in weights.flat)
        }
        column = {v: i for product in terms for i, v in enumerate(product.weights)}
        numbers: dict[Any, int] = {}  # of the ways to compute a weight's gradient
        which = []
        for v in weights.flat:
            way = of[v].steps, terms[of[v]][0, :, column[v]].tobytes()
            which.append(numbers.setdefault(way, len(numbers)))
        tiles: list[tuple[Any, Array]] = []
        for block in grids.blocks_of(np.array(which).reshape(weights.shape), MOST_PIECES + 1):
            index: Any = (*block, ...)
            members = weights[index]
            runs = [(p, [*some]) for p, some in itertools.groupby(members.flat, of.__getitem__)]
            if len({p for p, _ in runs}) == 1 < len(terms):  # with Values, lift may find one array of several
                return None
            parts = [terms[p][:, :, [column[v] for v in some]] for p, some in runs]
            found = self._product(members.shape, np.concatenate(parts, axis=2), runs[0][0].steps)
            if found is None:
                return None
            tiles.append((block, found))
        if [found.shape for _, found in tiles] == [weights.shape]:
            return tiles[0][1]
        return self._tiled(weights.shape, tiles) if tiles else None

    def _terms_of(self, product: Product, known: dict[int, np.ndarray]) -> np.ndarray:
        """For each term and weight: the pair of the arrays that its operands are in, and their places.

        A pair is a number, −1 if an operand is in no array. `known` has vectors that were located, by their
        ids, as many Products have the same.
        """

        def located(xs: tuple[Any, ...]) -> np.ndarray:
            if id(xs) not in known:
                known[id(xs)] = np.array([[self._kind[x], self._at.get(x, 0)] for x in xs]).T
            return known[id(xs)]

        kind, place = located(product.adjoints)[:, :, None]
        kinds, places = np.stack([*map(located, product.factors)], axis=1)
        pairs = np.where((kind < 0) | (kinds < 0), -1, kind * MANY + kinds)
        return np.stack([pairs, np.broadcast_to(place, pairs.shape), places])

    def _product(
        self, shape: tuple[int, ...], terms: np.ndarray, steps: tuple[tuple[Any, ...], ...]
    ) -> Array | None:
        """The gradient by weights with these terms, of the same arrays; None if that takes gathers."""
        pairs, parts, along = terms[0, :, 0], [], []
        if (pairs < 0).any():
            return None
        for pair in grids.distinct(pairs).tolist():
            arrays = [*map(self._as_used, divmod(pair, MANY))]
            part, inner = grids.aligned([*zip(arrays, np.swapaxes(terms[1:, pairs == pair], 1, 2))])
            parts.append(part)
            along.append(inner)
        columns = [
            c for part in parts for array, at in part if array for c in coordinates(at[:, 0], array.shape)
        ]
        shape = grids.without_ones(*shape)
        for finer in (grids.lengths_of(columns), shape):  # a row's place may be that of a head, and one in it
            if finer is None or math.prod(finer) < terms.shape[2]:  # all operands are single
                continue
            found = self._terms(parts, along, finer)
            labels = {label for term in found for x in term if isinstance(x, View) for label in x.axes}
            if labels.issuperset(range(len(finer))) and not gathers(found):
                array = self._computed(ops.dot, finer, found)
                for row, *numbers in steps:
                    array = self._computed(row, finer, [(*numbers, whole(array))])
                return array if finer == shape else self._reshaped(array, shape)
        return None
