"""entry: the formula of one entry of an array of a matrix program.

entries = Entries(program.matrices, quantities)
str(entries.formula("grad_w2", (2, 1)))  # delta2[2] · h1[1], or Σₙ delta2[n,2] · h1[n,1] over rows
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..locks import cached_property
from ..ops import Primitive, where
from ..program import Matrices, Place
from ..program.arrays import entry_name
from ..program.matrices import Element
from .formula import Formula, Negative, Number, Over, added, applied, multiplied, names_in, substituted
from .quantities import Quantities, name_of

LONG = 80  # characters of a formula that stands for a name


@dataclass(frozen=True)
class RowSum:
    """A sum over the rows of the data: a column for each factor, and each row's product."""

    columns: tuple[str, ...]
    factors: np.ndarray
    products: np.ndarray


@dataclass(frozen=True)
class Entry:
    """An entry of a matrix program's array: its line, its formula, and its value.

    `numbers` is the formula with numbers in place of names, and `meanings` say which scalars the names are;
    `rows` has the terms, if the entry is a sum over the rows.
    """

    array: str
    index: tuple[int, ...]
    line: str
    formula: Formula
    numbers: Formula
    value: float
    rows: RowSum | None = None
    meanings: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """grad_w2[2,1]"""
        return entry_name(self.array, self.index)


class Entries:
    """The entries of a program's arrays as formulas in data, parameters, and arrays that have a line."""

    def __init__(self, found: Matrices, quantities: Quantities, title: str = "", share: str = ""):
        self.found, self._quantities, self._title, self._share = found, quantities, title, share
        self._arrays = {array.name: array for array in found.arrays}
        self._formulas: dict[tuple[str, tuple[int, ...]], Formula] = {}

    def is_written(self, array: str) -> bool:
        """Whether an array has a line of its own, or is data or a parameter."""
        return bool(self._arrays[array].line) or not self.found.element(array, self._first(array)).terms

    def _is_named(self, array: str) -> bool:
        """Whether an array is written, and not just called t."""
        return self.is_written(array) and self._arrays[array].has_role

    def _first(self, array: str) -> tuple[int, ...]:
        return (0,) * len(self._arrays[array].shape)

    def formula(self, array: str, index: tuple[int, ...]) -> Formula:
        """The formula that an entry is computed by."""
        element = self.found.element(array, index)
        terms = [[self._factor(x) for x in term] for term in element.terms]
        if not terms:  # data or a parameter
            return name_of(array, index)
        if element.primitive:
            return _of_table_row(element.primitive, terms[0])
        total = added([multiplied(term) for term in terms])
        return Over("n", total) if element.over_rows else total

    def _factor(self, x: Any) -> Formula:
        if not isinstance(x, Place):
            return Number(x)
        if x.array == "N":
            return name_of("N", ())
        found = self._short(x.array, x.index)
        return Negative(found) if x.sign < 0.0 else found

    def _short(self, array: str, index: tuple[int, ...]) -> Formula:
        """An entry's name; its formula if the array has no line, or if the array is just called t."""
        a = self._arrays[array]
        name = name_of(array, (*(("n",) if a.by_row else ()), *index))
        if self._is_named(array):
            return name
        if (array, index) not in self._formulas:
            found = self.formula(array, index)
            is_short = not self.is_written(array) or len(str(found)) <= LONG
            self._formulas[array, index] = found if is_short else name
        return self._formulas[array, index]

    def entry(self, place: Place | None, numbers: Mapping[str, np.ndarray]) -> Entry | None:
        """The entry at a place in an array that does not vary by row; None if the place has the negative."""
        if place is None or place.sign < 0.0:
            return None
        array, formula = self._arrays[place.array], self.formula(place.array, place.index)
        known: dict[Formula, Formula] = {
            name_of(a.name, index): Number(float(numbers[a.name][index]))
            for a in self.found.arrays
            if not a.by_row
            for index in np.ndindex(a.shape)
        }
        value, rows = float(numbers[place.array][place.index]), self._row_sum(place, numbers)
        return Entry(
            place.array, place.index, array.line.strip(), formula, substituted(formula, known), value, rows,
            tuple(self._meanings(formula)),
        )  # fmt: skip

    def written(self, place: Place | None) -> str:
        """An entry's name, if its array has a line: delta2[2], or delta2[n,2] with a row for each example."""
        if place is None or place.sign < 0.0 or not self._is_named(place.array):
            return ""
        rows = ("n",) if self._arrays[place.array].by_row else ()
        return entry_name(place.array, (*rows, *place.index))

    @cached_property
    def _scalars(self) -> dict[str, dict[str, None]]:
        """For each entry, its meanings: a quantity, a derivative, or both."""
        found: dict[str, dict[str, None]] = {}
        output = self._title or self._quantities.names[self._quantities.output]
        for v in reversed(self._quantities.order):
            name, place = self._quantities.names.get(v), self.found.place(v)
            if name or v.row:
                quantity = name or str(self._quantities.formula(v))
                found.setdefault(self.written(place), {})[quantity + self._of_row(place, " of row n")] = None
            if name:
                place = self.found.adjoint_place(v)
                derivative = (
                    f"∂{output}{self._of_row(place, '[n]')}/∂{name}{self._of_row(place, self._share)}"
                )
                found.setdefault(self.written(place), {})[derivative] = None
        return found

    def _of_row(self, place: Place | None, words: str) -> str:
        return words if place and self._arrays[place.array].by_row else ""

    def _meanings(self, formula: Formula) -> Iterator[tuple[str, str]]:
        for name in names_in(formula):
            meanings = [meaning for meaning in self._scalars.get(name, ()) if meaning != name]
            if meanings:
                yield name, " and ".join(meanings)

    def _row_sum(self, place: Place, numbers: Mapping[str, np.ndarray]) -> RowSum | None:
        """The sum over the rows in this entry's formula, or the first in arrays without a name there."""
        seen, pending = {place}, [place]
        for each in pending:  # the list grows
            element = self.found.element(each.array, each.index)
            if element.over_rows:
                return self._added_rows(element, numbers)
            for x in (x for term in element.terms for x in term if isinstance(x, Place) and x.array != "N"):
                if x not in seen and not self._is_named(x.array) and not self._arrays[x.array].by_row:
                    seen.add(x)
                    pending.append(x)
        return None

    def _added_rows(self, element: Element, numbers: Mapping[str, np.ndarray]) -> RowSum:
        columns: dict[str, np.ndarray] = {}
        products = np.zeros(())
        for term in element.terms:
            product = np.ones(())
            for x in term:
                numbers_of_x = self._column(x, numbers)
                if np.ndim(numbers_of_x):
                    columns[str(self._factor(x))] = numbers_of_x
                product = product * numbers_of_x
            products = products + product
        return RowSum(tuple(columns), np.stack(list(columns.values()), axis=-1), products)

    def _column(self, x: Any, numbers: Mapping[str, np.ndarray]) -> Any:
        if not isinstance(x, Place):
            return x
        if x.array == "N":
            return float(next(len(numbers[a.name]) for a in self.found.arrays if a.by_row))
        index: tuple[Any, ...] = (slice(None), *x.index) if self._arrays[x.array].by_row else x.index
        return x.sign * numbers[x.array][index]


def _of_table_row(row: Primitive, operands: list[Formula]) -> Formula:
    return applied(row, [operands[0], tuple(operands[1:])] if row is where else operands)
