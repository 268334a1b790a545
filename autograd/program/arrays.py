"""arrays: the program of arrays that lift finds in a graph of scalars, and that printers write down.

    z[i] = Σⱼ w[i,j] x[j]        Contract((2,), True, [(w[:, :] along (0, 1), x[:] along (1,))])
    h[i] = tanh(z[i] + b[i])     two Maps, of the rows `add` and `tanh`

Axes are numbers: those of an array's shape count from 0, and those that are summed over go on from there.
A view lays elements of an array along such axes: x[1:] along (1,) is x[1 + j]; if x has 6 elements, x as
(2, 3), x[:, 1] along (0,) is x[3 i + 1]. An array that varies by row has its shape for each row of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ops import CONDITIONS, Primitive, where


@dataclass(eq=False, repr=False, slots=True)
class Array:
    """An array of a program, with this shape for every row of the data if `by_row`."""

    shape: tuple[int, ...]
    by_row: bool

    @property
    def terms(self) -> Sequence[tuple[Any, ...]]:
        """Tuples of the views and numbers that the array is computed from."""
        return ()

    @property
    def views(self) -> list[View]:
        """The views that the array is computed from."""
        return [x for term in self.terms for x in term if isinstance(x, View)]


@dataclass(eq=False, repr=False, slots=True)
class Input(Array):
    """An argument, by its place."""

    argument: int


@dataclass(eq=False, repr=False, slots=True)
class Leaf(Array):
    """Live leaves: an array of Values, of that shape."""

    values: np.ndarray


@dataclass(eq=False, repr=False, slots=True)
class Rows(Array):
    """The number of rows."""


@dataclass(eq=False, repr=False, slots=True)
class Constant(Array):
    """Numbers of the program, of that shape."""

    numbers: np.ndarray


@dataclass(eq=False, repr=False, slots=True)
class Map(Array):
    """A row of the table, element by element: of views or numbers along the axes of the result."""

    row: Primitive
    operands: tuple[Any, ...]

    @property
    def terms(self) -> Sequence[tuple[Any, ...]]:
        return (self.operands,)


@dataclass(eq=False, repr=False, slots=True)
class Reduce(Map):
    """A row of the table, from each element of one view to the next, along all axes beyond the result's."""


@dataclass(eq=False, repr=False, slots=True)
class Contract(Array):
    """A sum of products, summed over all axes beyond the result's and, if `over_rows`, over the rows.

    A product has one view or two; a number may come before them.
    """

    products: Sequence[tuple[Any, ...]]
    over_rows: bool = False

    @property
    def terms(self) -> Sequence[tuple[Any, ...]]:
        return self.products


@dataclass(eq=False, repr=False, slots=True)
class Spread(Array):
    """A view, repeated along the axes of the result that the view lacks."""

    view: View

    @property
    def terms(self) -> Sequence[tuple[Any, ...]]:
        return ((self.view,),)


@dataclass(eq=False, repr=False, slots=True)
class Stack(Array):
    """Views of several arrays end to end, with their sizes; `order` has each result's place among these."""

    pieces: Sequence[tuple[View, int]]
    order: np.ndarray

    @property
    def terms(self) -> Sequence[tuple[Any, ...]]:
        return [(view,) for view, _ in self.pieces]


# Loops


@dataclass(eq=False, repr=False, slots=True)
class Stacked(Array):
    """Arrays of one shape, one after the other along a new first axis."""

    members: Sequence[Array]

    @property
    def terms(self) -> Sequence[tuple[Any, ...]]:
        return [(whole(member),) for member in self.members]


@dataclass(eq=False, repr=False, slots=True)
class Series:
    """A list of arrays of one shape: the first `given` are there before a loop appends the others."""

    members: Sequence[Array]
    given: int


@dataclass(eq=False, repr=False, slots=True)
class Member(Array):
    """At step i of a loop, the array of a series at start + stride i."""

    series: Series
    start: int
    stride: int


class Moving(int):
    """An index that moves by `stride` with each step of a loop."""

    stride: int

    def __new__(cls, start: int, stride: int) -> Moving:
        index = super().__new__(cls, start)
        index.stride = stride
        return index

    def at(self, counter: str) -> str:
        """The index as text, where `counter` counts the steps."""
        count = counter if abs(self.stride) == 1 else f"{abs(self.stride)} * {counter}"
        if self.stride < 0:
            return f"{int(self)} - {count}"
        return f"{count} + {int(self)}" if self else count

    def __str__(self) -> str:
        return self.at("step")


@dataclass(eq=False, repr=False, slots=True)
class Loop:
    """Steps that are computed alike: `body` is any of them; `series` has the lists of arrays to keep.

    `last` has the first statements of one more step, which ends early.
    """

    steps: Sequence[Sequence[Array]]
    last: Sequence[Array]
    body: Sequence[Array]
    series: Mapping[Array, Series]


@dataclass(eq=False, repr=False, slots=True)
class View:
    """Elements of an array, laid along axes of a result, or along axes that are summed over."""

    array: Array
    axes: tuple[int, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """The length of the view along each of its axes."""
        raise NotImplementedError

    def entry(self, at: Mapping[int, int]) -> tuple[int, ...]:
        """The index, into the array, of the view's element at these coordinates by axis."""
        raise NotImplementedError

    def shown(self, name: str, letters: Sequence[str]) -> str:
        """The view's element as text, with letters for the axes."""
        raise NotImplementedError

    @property
    def takes_all(self) -> bool:
        """Whether the view has every element of the array, in the array's shape."""
        return False

    @property
    def is_whole(self) -> bool:
        """Whether the view is the unchanged array, each axis along the same axis of the result."""
        return False

    def is_all_of(self, shape: tuple[int, ...]) -> bool:
        """Whether the view has every element of an array of that shape, in order along axes of its own."""
        inner = len(self.axes) == len(shape) and [*self.axes] == sorted({*self.axes})
        return self.array.shape == shape and inner and self.takes_all

    def is_whole_in(self, shape: tuple[int, ...]) -> bool:
        """Whether the view is an unchanged array of that shape."""
        return self.array.shape == shape and self.is_whole

    @property
    def takes_all_in_order(self) -> bool:
        """Whether the view is the unchanged array, or the flattened array."""
        return self.is_whole


@dataclass(frozen=True, slots=True)
class Window:
    """Two axes of a view along one of an array: x[start + step i + stride k], i < length, k < width."""

    start: int
    step: int
    length: int
    stride: int
    width: int


@dataclass(eq=False, repr=False, slots=True)
class Select(View):
    """A number, a slice or a window for each axis of the array as reshaped to `shape`."""

    index: tuple[int | slice | Window, ...]
    shape: tuple[int, ...]

    def _along(self) -> list[tuple[int, list[tuple[int, int]]]]:
        """For each axis of `shape`, where it starts, and a stride and a length for each axis of the view."""
        found: list[tuple[int, list[tuple[int, int]]]] = []
        for n, i in zip(self.shape, self.index):
            if isinstance(i, Window):
                found.append((i.start, [(i.step, i.length), (i.stride, i.width)]))
            elif isinstance(i, slice):
                taken = range(n)[i]
                found.append((taken.start, [(taken.step, len(taken))]))
            else:
                found.append((i, []))
        return found

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(n for _, pairs in self._along() for _, n in pairs)

    def entry(self, at: Mapping[int, int]) -> tuple[int, ...]:
        axes, position = iter(self.axes), 0
        for n, (start, pairs) in zip(self.shape, self._along()):
            position = position * n + start + sum(stride * at[next(axes)] for stride, _ in pairs)
        return coordinates(position, self.array.shape)

    def shown(self, name: str, letters: Sequence[str]) -> str:
        axes, parts = iter(self.axes), []
        for start, pairs in self._along():
            steps = [f"{stride if stride != 1 else ''}{letters[next(axes)]}" for stride, _ in pairs]
            parts.append(" + ".join([*([str(start)] if start or not steps else []), *steps]))
        name = name if self.shape == self.array.shape else f"{name} as {self.shape}"
        return f"{name}[{', '.join(parts)}]" if parts else name

    @property
    def is_whole(self) -> bool:
        return self.takes_all and self.axes == tuple(range(len(self.array.shape)))

    @property
    def takes_all_in_order(self) -> bool:
        return self.is_whole or (self.shape == (size(self.array),) and self.index == (slice(None),))

    @property
    def takes_all(self) -> bool:
        """Whether the view has every element of the array, in the array's shape."""
        return self.shape == self.array.shape and all(i == slice(None) for i in self.index)


@dataclass(eq=False, repr=False, slots=True)
class Gather(View):
    """An array of positions in the flattened array, with an axis for each of the view's."""

    positions: np.ndarray

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.positions.shape

    def entry(self, at: Mapping[int, int]) -> tuple[int, ...]:
        position = int(self.positions[tuple(at[axis] for axis in self.axes)])
        return coordinates(position, self.array.shape)

    def shown(self, name: str, letters: Sequence[str]) -> str:
        return f"{name}[positions[{', '.join(letters[axis] for axis in self.axes)}]]"


def entry_name(array: str, index: Sequence[Any]) -> str:
    """An entry as text: w2[2,1], or h of an array without axes."""
    return f"{array}[{','.join(map(str, index))}]" if index else array


# Not by np.unravel_index: some versions of NumPy give wrong coordinates for arrays of several axes and
# more than 8192 numbers.


def coordinates(position: Any, shape: Sequence[int]) -> tuple[Any, ...]:
    """The coordinates of a position, or of an array of positions, for each axis of an array of that shape."""
    found = []
    for length in reversed(shape):
        position, coordinate = divmod(position, length)
        found.append(coordinate)
    return tuple(found[::-1])


def whole(array: Array) -> Select:
    """The view of all of an array, along its own axes."""
    n = len(array.shape)
    return Select(array, tuple(range(n)), (slice(None),) * n, array.shape)


def reached(outputs: Iterable[Array]) -> dict[Array, list[Array]]:
    """The arrays that outputs are computed from, operands first, and for each its operands."""
    found: dict[Array, list[Array]] = {}
    _visit(outputs, lambda array: [view.array for view in array.views], found)
    return found


def in_order(outputs: Sequence[Array]) -> list[Array]:
    """The same arrays: all that the first output needs, then all else that the last needs, and so on.

    The operand that needs most comes first, counted as if it shared nothing: in a chain, the other operands
    of a step are then next to that step.
    """
    arrays = reached(outputs)
    take: dict[Array, float] = {}  # logarithms, as they double with each step of many chains
    for array, operands in arrays.items():
        each = [take[operand] for operand in operands]
        most = max(each, default=0.0)
        take[array] = most + math.log(math.exp(-most) + sum([math.exp(x - most) for x in each]))
        if len(each) > 1:
            operands.sort(key=take.__getitem__, reverse=True)
    found: dict[Array, list[Array]] = {}
    _visit([*outputs[1:], outputs[0]][::-1], arrays.__getitem__, found)
    return list(found)


def _visit(
    outputs: Iterable[Array],
    operands: Callable[[Array], list[Array]],
    found: dict[Array, list[Array]],
) -> None:
    """Add the arrays that outputs are computed from to those that are found, after their operands."""
    stack: list[Any] = [*outputs][::-1]
    while stack:
        array = stack.pop()
        if array is None:  # all operands of the next one are found
            array, of = stack.pop()
            found[array] = of
        elif array not in found:
            of = operands(array)
            stack += [(array, of), None, *reversed(of)]


def shown(array: Array, name_of: Callable[[Array], str]) -> str:
    """The array's definition, element by element: "z[i] = Σj w[i, j] x[j]"; letters stand for axes."""
    axes = [axis for view in array.views for axis in view.axes]
    letters = [*"ijklmnopqrstuvw", *(f"i{axis}" for axis in range(max([len(array.shape), *axes])))]

    def text(x: Any) -> str:
        return x.shown(name_of(x.array), letters) if isinstance(x, View) else f"{x:g}"

    left = name_of(array) + (f"[{', '.join(letters[: len(array.shape)])}]" if array.shape else "")
    if isinstance(array, Map):
        return f"{left} = {array.row.name}({', '.join(map(text, array.operands))})"
    parts = []
    for term in array.terms:
        summed = {axis for x in term if isinstance(x, View) for axis in x.axes if axis >= len(array.shape)}
        over = ["N"] if isinstance(array, Contract) and array.over_rows else []
        over += [letters[axis] for axis in sorted(summed)]
        parts.append(" ".join([*([f"Σ{','.join(over)}"] if over else []), *map(text, term)]))
    if isinstance(array, Stacked):
        parts = [f"[{', '.join(parts if len(parts) < 5 else [*parts[:2], '...', parts[-1]])}]"]
    joined = (", " if isinstance(array, Stack) else " + ").join(parts)
    return f"{left} = {joined or type(array).__name__.lower()}"


def listing(
    statements: Iterable[Array | Series | Loop],
    outputs: Iterable[Array],
    names: Mapping[Array, str] = {},
    written: Mapping[Array, Array] = {},
) -> str:
    """A line for each statement, element by element; arrays without a name are t0, t1, ..."""
    called: dict[Any, str] = {}
    lines: list[str] = []

    def name(array: Array) -> str:
        if isinstance(array, Member):
            return f"{called[array.series]}[{Moving(array.start, array.stride)}]"
        return called[array]

    for statement in statements:
        if isinstance(statement, Loop):
            lines.append(f"in {len(statement.steps) + bool(statement.last)} steps")
            for i, (array, first) in enumerate(zip(statement.body, statement.steps[0])):
                if statement.last and i == len(statement.last):
                    lines.append("    in the last step, end here")
                series = statement.series.get(array)
                own = names.get(first, f"t{len(lines)}")
                called[array] = f"{called[series]}[{Moving(series.given, 1)}]" if series else own
                lines.append(f"    {shown(array, name)}")
            for series in statement.series.values():
                called.update((array, f"{called[series]}[{i}]") for i, array in enumerate(series.members))
        elif isinstance(statement, Series):
            called[statement] = f"t{len(lines)}"
            given = statement.members[: statement.given]
            texts = []
            for i, array in enumerate(given):  # some are numbers, and some have no line of their own
                if array in called:
                    texts.append(called[array])
                else:
                    called[array] = f"{called[statement]}[{i}]"
                    definition = shown(array, name).partition(" = ")[2]
                    texts.append(f"{array.numbers:g}" if isinstance(array, Constant) else definition)
            lines.append(f"{called[statement]} = [{', '.join(texts)}]")
        else:
            called[statement] = names.get(statement, f"t{len(lines)}")
            array = written.get(statement, statement)
            called[array] = called[statement]
            lines.append(shown(array, name))
    return "\n".join([*lines, f"return {', '.join(map(name, outputs))}"])


def terms_through(view: View) -> list[tuple[Any, ...]]:
    """The terms of a view's array along the view's axes; none if the view does not take all of it."""
    if not isinstance(view, Select) or not view.takes_all or sorted(view.axes) != [*range(len(view.axes))]:
        return []
    became = dict(enumerate(view.axes))

    def factor(x: Any) -> Any:
        return replace(x, axes=tuple(became.get(a, a) for a in x.axes)) if isinstance(x, View) else x

    return [tuple(map(factor, term)) for term in view.array.terms]


def own_mask(array: Array) -> View | None:
    """The mask of where(mask, x, y) if it is among the program's numbers, the same for all data."""
    mask = array.operands[0] if isinstance(array, Map) and array.row is where else None
    return mask if isinstance(mask, View) and isinstance(mask.array, Constant) else None


def numbers_along(view: View, n: int) -> np.ndarray:
    """The numbers of a whole Constant along n axes, with the length 1 along those that the view lacks."""
    assert isinstance(view.array, Constant)
    lengths = dict(zip(view.axes, view.lengths))
    ordered = view.array.numbers.transpose(np.argsort(view.axes))
    return ordered.reshape([lengths.get(axis, 1) for axis in range(n)])


def has_truth_values(array: Map, is_condition: Callable[[Array], bool]) -> bool:
    """Whether an array has truth values, by itself or by the branches that it chooses from."""
    branches = array.operands[1:] if array.row is where else ()
    chosen = any(isinstance(x, View) and is_condition(x.array) for x in branches)
    return chosen or array.row in CONDITIONS


def size(array: Array) -> int:
    """How many numbers an array has, for each row if it varies by row."""
    return math.prod(array.shape)
