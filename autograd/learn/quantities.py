"""quantities: names for the Values of a graph, and their local derivatives in these names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents, topological_order
from ..locks import cached_property
from ..program import Matrices
from ..program.arrays import entry_name
from ..program.simplify import simplify
from ..value import Value, applied
from .formula import Formula, Name, formula, of_row

MOST_OPERATIONS = 6  # of an expression that is written out


class Quantities:
    """The Values of a graph by name, and formulas in these names.

    A label is a name. Without a label, the Values of a layer are named after their places in the matrix
    program, z1[0]; `meetings`, and Values whose expression would be too long, are v1, v2, ... All others are
    expressions.
    """

    def __init__(
        self,
        output: Value,
        found: Matrices,
        meetings: Collection[Value] = (),
        most_operations: int = MOST_OPERATIONS,
        title: str = "",
    ):
        self.output, self.order = output, topological_order(output)
        self.names: dict[Value, str] = {}
        self.numbered: set[Value] = set()  # the Values named v1, v2, ...
        self._taken: set[str] = set()
        self._symbols: dict[Any, Any] = {}
        is_quantity = {array.name: array.quantity for array in found.arrays}
        self._name(output, title or output.label or "L")
        for v in self.order:
            if v.label and v is not output:
                self._name(v, v.label)
        for v in reversed(self.order):  # the last of a layer's sums gets the name
            place = found.place(v) if v not in self.names and v.row else None
            if place and is_quantity[place.array] and place.sign > 0.0:
                self._name(v, entry_name(place.array, place.index))
        sizes: dict[Value, int] = {}
        numbered = 0
        for v in self.order:
            inside = [o for x in (v.x, v.y) for o in (x if type(x) is tuple else (x,)) if o in sizes]
            sizes[v] = 1 + sum(map(sizes.__getitem__, inside)) if v.row else 0
            if v in self.names or v in meetings or sizes[v] > most_operations:
                if v not in self.names:
                    place = None if v.row else found.place(v)
                    numbered += place is None
                    self.numbered |= {v} if place is None else set()
                    self._name(v, entry_name(place.array, place.index) if place else f"v{numbered}")
                sizes[v] = 0

    def _name(self, v: Value, name: str) -> None:
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}#{number}"
        self._taken.add(unique)
        self.names[v] = unique

    def symbol(self, x: Any) -> Any:
        """A Value as a leaf that has its name, or as an expression in such leaves; a number as it is."""
        if not isinstance(x, Value):
            return x
        if x not in self._symbols:
            named = x in self.names or not x.row
            self._symbols[x] = Value(x._data, self.names.get(x, "")) if named else self._applied(x)
        return self._symbols[x]

    def _applied(self, v: Value) -> Value:
        return applied(v.row, *self._given(v))

    def _given(self, v: Value) -> list[Any]:
        """The symbols of the operands."""
        given = (o for o in (v.x, v.y) if o is not None)
        return [tuple(map(self.symbol, o)) if type(o) is tuple else self.symbol(o) for o in given]

    def formula(self, v: Value) -> Formula:
        """A Value's name, or its expression."""
        return formula(self.symbol(v))

    def definition(self, v: Value) -> Formula:
        """How a Value is computed, in names."""
        return of_row(v.row, self._given(v)) if v.row else self.formula(v)

    def partials(self, v: Value, wanted: Collection[Value]) -> dict[Value, tuple[float, Any]]:
        """For each wanted operand: the number ∂v/∂operand, and its rule, a Value of symbols or a number."""
        given = self._given(v) if v.row else []
        return added_up(partials_of(v, given, self.symbol(v), wanted))

    @cached_property
    def heights(self) -> dict[Value, int]:
        """How many operations lead to each Value, along the longest way."""
        found: dict[Value, int] = {}
        for v in self.order:
            found[v] = 1 + max((found[o] for o in parents(v)), default=0) if v.row else 0
        return found


def added_up(partials: Iterable[tuple[Value, float, Any]]) -> dict[Value, tuple[float, Any]]:
    """Partials by Value; if there are several for one Value, their sum."""
    found: dict[Value, tuple[float, Any]] = {}
    for v, number, rule in partials:
        before = found.get(v)
        found[v] = (before[0] + number, before[1] + rule) if before else (number, rule)
    return found


def partials_of(
    v: Value, given: list[Any], out: Value, wanted: Collection[Value]
) -> Iterator[tuple[Value, float, Any]]:
    """Each wanted operand of v, the number ∂v/∂operand, and the table's rule at the given operands."""
    for operand, recorded, rule in ((v.x, v._dx, v.row.dx), (v.y, v._dy, v.row.dy)) if v.row else ():
        vector = operand if type(operand) is tuple else (operand,)
        if recorded is None or not any(o in wanted for o in vector if isinstance(o, Value)):
            continue
        partials = rule(*given, out)
        if type(operand) is not tuple:
            partials, recorded = (partials,), (recorded,)
        for o, number, partial in zip(vector, recorded, partials):
            if isinstance(o, Value) and o in wanted:
                yield o, number, partial


def leaves_by_name(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Leaves that are data, as arrays by name; each is given as a Value or a nested list of Values.

    TypeError for anything else, and ValueError for a Value that is there twice.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"data is a dict from names to Values, not {data!r:.80}")
    seen: set[Value] = set()
    arrays = {name: np.array(values, dtype=object) for name, values in data.items()}
    for name, array in arrays.items():
        for v in array.flat:
            if not isinstance(v, Value):
                raise TypeError(f"data has Values, and not {v!r:.80}, as in {name!r}")
            if v.row:
                raise ValueError(f"data has leaves, and {v!r} in {name!r} was computed")
            if v in seen:
                raise ValueError(f"data has {v!r} twice, the second time in {name!r}")
            seen.add(v)
    return arrays


def simplified(x: Any) -> Any:
    """A Value of symbols in a shorter form; a number as it is."""
    return simplify([x]).get(x, x) if isinstance(x, Value) else x


def simplified_here(x: Any) -> Any:
    """simplified(), with 1 for |sgn y| if y is not 0 here: the table's rules have this factor for y = 0."""
    if not isinstance(x, Value):
        return x
    here: dict[Any, Any] = {}
    for v in topological_order(x):
        given = [tuple(here.get(o, o) for o in x) if type(x) is tuple else here.get(x, x) for x in (v.x, v.y)]
        if v.row is ops.abs and v.x.row is ops.sign and v._data == 1.0:
            here[v] = 1.0
        elif v.row is ops.mul and 0.0 in [x for x in given if type(x) is float]:
            here[v] = 0.0
        elif v.row and any(a is not b for a, b in zip(given, (v.x, v.y))):
            here[v] = applied(v.row, *given)
    return simplified(here.get(x, x))


def name_of(array: str, index: tuple[Any, ...]) -> Name:
    """An entry of an array as a formula."""
    return Name(entry_name(array, index))
