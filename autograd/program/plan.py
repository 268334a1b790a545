"""plan: the arrays that outputs need, operands first, and the facts about each that a printer needs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .. import ops
from ..locks import cached_property
from ..ops import CONDITIONS
from .arrays import (
    Array,
    Constant,
    Contract,
    Input,
    Leaf,
    Loop,
    Map,
    Reduce,
    Series,
    Spread,
    Stack,
    Stacked,
    View,
    in_order,
    listing,
    own_mask,
    reached,
    terms_through,
)
from .lift import Lifted
from .masking import masked


@dataclass
class Plan:
    """The `arrays` that the outputs of `lifted` need, operands first.

    `statements` are the same arrays, until some become Loops, with the Series that the loops need. `written`
    maps arrays to the ones that are computed in their place. `unnoticed` has the arrays that may be infinite
    without a flag of the processor.
    """

    lifted: Lifted
    arrays: list[Array]
    unnoticed: set[Array]
    statements: list[Any]
    written: Mapping[Array, Array] = field(default_factory=dict)

    @cached_property
    def uses(self) -> Counter[Array]:
        """How many views there are of each array; those in a loop count twice, as it runs more than once."""
        uses: Counter[Array] = Counter()
        stated = {statement for statement in self.statements if isinstance(statement, Array)}
        for statement in self.statements:
            if isinstance(statement, Series):
                given = statement.members[: statement.given]
                uses.update(given)
                uses.update(view.array for array in given if array not in stated for view in array.views)
            elif isinstance(statement, Loop):
                read = [view.array for array in statement.body for view in array.views]
                uses.update([*read, *(array for array in read if array not in statement.body)])
            else:
                uses.update(view.array for view in self.written.get(statement, statement).views)
        return uses

    @cached_property
    def infinite(self) -> set[Array]:
        """The arrays that may have infinities of the program's own numbers, as where(c, x, −∞) has."""
        found = set[Array]()
        for array in self.arrays:  # operands come first
            chosen = isinstance(array, Map) and array.row
            hidden = masking(array) if chosen not in (ops.where, ops.maximum, ops.minimum) else ()
            passed = [x for term in array.terms for i, x in enumerate(term) if i not in hidden]
            if isinstance(array, Reduce):  # each sum has a term, whose number is larger than a mask's −∞
                (view,) = array.views
                passed = view.array.views[1:] if own_mask(view.array) else [view]
            if (isinstance(array, Constant) and not np.isfinite(array.numbers).all()) or any(
                x.array in found if isinstance(x, View) else math.isinf(x) for x in passed
            ):
                found.add(array)
        return found

    @cached_property
    def unchecked(self) -> set[Array]:
        """The arrays in which infinity is no error: data, conditions, and those in `infinite`."""
        found = set[Array]()
        for array in self.arrays:  # operands come first
            copied, chosen = isinstance(array, Spread | Stack | Stacked), isinstance(array, Map) and array.row
            if (
                not array.terms
                or chosen in CONDITIONS
                or (copied and found.issuperset(x.array for x in array.views))
            ):
                found.add(array)
        return found | self.infinite

    @property
    def length(self) -> int:
        """How many statements there are, those in loops once."""
        return sum(len(s.body) if isinstance(s, Loop) else 1 for s in self.statements)

    def unrolled(self) -> Plan:
        """The same plan without loops."""
        return replace(self, statements=self.arrays, written={})

    def __str__(self) -> str:
        return listing(self.statements, self.lifted.outputs, written=self.written)


def plan(lifted: Lifted) -> Plan:
    """Plan the outputs; a product whose only use is a sum over the rows becomes a part of the sum."""
    arrays = reached(lifted.outputs)
    uses = Counter(itertools.chain(*arrays.values()))
    for array in arrays:
        if isinstance(array, Contract) and array.over_rows and len(array.products) == 1:
            (*number, view) = array.products[0]
            if not number and uses[view.array] == 1 and _is_inner(view.array):
                # The product of matrices then sums over the rows too.
                array.products = terms_through(view) or array.products
    of_rows: dict[Array, bool] = {}  # whether an array depends on the data
    for array in in_order(lifted.outputs):
        of_rows[array] = array.by_row or any(of_rows[view.array] for view in array.views)
    ordered = sorted(of_rows, key=of_rows.__getitem__)
    return Plan(lifted, ordered, _unnoticed(ordered), ordered)


def _is_inner(array: Array) -> bool:
    """Whether an array is a sum of products, each of which varies by row."""
    products = isinstance(array, Contract) or (isinstance(array, Map) and array.row is ops.mul)
    return products and all(any(isinstance(x, View) and x.array.by_row for x in term) for term in array.terms)


def masking(array: Array) -> dict[int, View]:
    """A Map's operands, by place, whose infinities the Map may mask."""
    if not isinstance(array, Map):
        return {}
    pairs = enumerate(zip(masked(array.row), array.operands))
    return {i: x for i, (masks, x) in pairs if masks and isinstance(x, View)}


def watched(array: Array, unnoticed: set[Array]) -> list[int]:
    """Which of a Map's operands may have infinities that the Map would mask."""
    return [i for i, x in masking(array).items() if x.array in unnoticed]


def _unnoticed(arrays: Iterable[Array]) -> set[Array]:
    """The arrays of results that may be infinite without a flag: by BLAS, or by infinities in the data."""
    found, data = set[Array](), set[Array]()
    for array in arrays:  # operands come first
        if isinstance(array, Map) and array.row in CONDITIONS:
            continue
        copied = isinstance(array, Spread | Stack | Stacked)
        if isinstance(array, Input | Leaf) or (
            copied and data.issuperset(view.array for view in array.views)
        ):
            data.add(array)
            continue
        without = watched(array, found)
        rest = [x for term in array.terms for i, x in enumerate(term) if i not in without]
        sources = {x.array for x in rest if isinstance(x, View)}
        sums = isinstance(array, Contract) and (
            array.over_rows or any(len(term) > 1 for term in array.products)
        )
        if sums or not (sources.isdisjoint(data) and sources.isdisjoint(found)):
            found.add(array)
    return found
