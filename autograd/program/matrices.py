"""matrices: which entry of which array a scalar is, and how each entry is computed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..locks import cached_property
from ..ops import Primitive
from ..value import Value, number, slopes
from .array_api import Source
from .arrays import Array, Constant, Contract, Map, Reduce, Rows, Stack, Stacked, View, coordinates, whole
from .names import Names


class NamedArray(NamedTuple):
    """An array of a program, one for each row of the data if `by_row`; `line` is its source line, or "".

    A `quantity` is an array that a layer consists of: affine in parameters, or its activation. An array
    that `has_role` is named after its role, and not just t.
    """

    name: str
    shape: tuple[int, ...]
    by_row: bool
    line: str
    quantity: bool
    has_role: bool


@dataclass(frozen=True)
class Place:
    """An entry of an array, by the array's name; `sign` is -1.0 if the entry is the Value's negative.

    >>> w = [Value(1.0, "w[0]"), Value(2.0, "w[1]")]
    >>> m = autograd.program.matrices((w[0] * 0.5 - w[1]) ** 2)
    >>> m.place(w[1]), m.adjoint_place(w[1]).array
    (Place(array='w', index=(1,), sign=1.0), 'grad_w')
    """

    array: str
    index: tuple[int, ...]
    sign: float = 1.0


@dataclass
class Element:
    """How an entry is computed: by a row of the table from one term, or, without a row, as a sum of products.

    The factors of a term are numbers and Places; `over_rows` says that the sum is over the rows too. `row` is
    the name of the `primitive`.
    """

    row: str
    terms: list[tuple[Any, ...]]
    over_rows: bool = False
    primitive: Primitive | None = None


class Matrices:
    """The arrays of one program, by name, and where Values are in them; a loop's steps have arrays each.

    `source` is the program, and `arrays` describes its arrays, in order.

    >>> model = nn.MLP(2, [2, 1], activation="sigmoid", bias=False)
    >>> loss = autograd.compile(lambda x, y: nn.squared_error(model(x), y))
    >>> X, Y = np.ones((5, 2)), np.zeros(5)
    >>> _ = loss.backward(X, Y)
    >>> m, w = loss.matrices, model.layers[0].neurons[1].w[0]
    >>> m.place(w), m.adjoint_place(w).array
    (Place(array='w1', index=(1, 0), sign=1.0), 'grad_w1')
    >>> m.element("grad_w1", (1, 0)).terms
    [(Place(array='delta1', index=(1,), sign=1.0), Place(array='x', index=(0,), sign=1.0))]
    >>> m.run(X, Y)["delta1"].shape
    (5, 2)
    """

    def __init__(self, names: Names):
        names = names.copy()
        names.plan = self._plan = names.plan.unrolled()
        self._names = names
        printed = Source(names)
        self.source = str(printed)
        self._name: dict[Array, str] = {**names.of}
        self._name |= {array: name for array, (name, _) in printed.lines.items()}
        self.arrays: list[NamedArray] = []
        free = printed.names
        for array in self._plan.arrays:
            if not isinstance(array, Rows | Constant):
                name = self._name.get(array) or free.unique(names.proposed.get(array, "t"))
                self._name[array] = name
                line = printed.lines.get(array, ("", ""))[1]
                is_quantity, has_role = (
                    array in names.quantities,
                    array in names.of or array in names.proposed,
                )
                self.arrays.append(NamedArray(name, array.shape, array.by_row, line, is_quantity, has_role))
        self._array = {name: array for array, name in self._name.items()}
        self._listed = {array.name for array in self.arrays}

    def place(self, v: Value) -> Place | None:
        """Where a Value of the recording is; None if it became a number, or a part of another formula."""
        scalars = self._plan.lifted.scalars
        return self._place(scalars.latest(v))

    def adjoint_place(self, v: Value) -> Place | None:
        """Where the derivative by a Value of the recording is; None if it is not computed by itself."""
        if len(self._plan.lifted.scalars.recorded) != 1:
            return None  # outputs have no gradient
        scalars, lifted = self._plan.lifted.scalars, self._plan.lifted
        by_leaf: dict[Any, Array] = dict(zip(lifted.leaves, lifted.gradient))
        place = None if v.row else lifted.place(v)  # the sum of one leaf is where the leaf is
        gradient = by_leaf.get(place[0]) if place else None
        if gradient is not None and place and self._is_listed(gradient):
            return Place(self._name[gradient], coordinates(place[1], gradient.shape))
        g = scalars.adjoint(v)
        # If the Value was simplified away or merged with others, g may be a part of its derivative, or more.
        right = self._slopes.get(v, 0.0)
        if not isinstance(g, Value) or abs(g._data - right) > 1e-9 * abs(right):
            return None
        return self._place(g)

    @cached_property
    def _slopes(self) -> dict[Value, float]:
        """The derivatives by the Values of the recording, in the recorded row."""
        (output,) = self._plan.lifted.scalars.recorded
        return slopes(output) if isinstance(output, Value) else {}

    def _place(self, v: Any) -> Place | None:
        lifted, sign = self._plan.lifted, 1.0
        if isinstance(v, Value) and self._in_program(v) is None and v.op == "neg":
            v, sign = v.x, -1.0  # signs are moved to the end: the program may have the negative alone
        array, place = self._in_program(v), lifted.place(v)
        if array is None or place is None:
            return None
        return Place(self._name[array], coordinates(place[1], array.shape), sign)

    def _in_program(self, v: Any) -> Array | None:
        array = self._plan.lifted.array_of(v)
        return array if array is not None and self._is_listed(array) else None

    def _is_listed(self, array: Array) -> bool:
        """Whether an array is in `arrays`; arrays that are not needed have a name too."""
        return self._name.get(array, "") in self._listed

    def element(self, name: str, index: Sequence[int] = ()) -> Element:
        """How an entry of an array is computed; data and leaves have no terms."""
        if name not in self._array:
            raise KeyError(f"no array is called {name!r}; there are {', '.join(self._array)}")
        array = self._array[name]
        if len(index) != len(array.shape) or not all(0 <= i < n for i, n in zip(index, array.shape)):
            raise IndexError(f"{name} has the shape {array.shape}, and no entry {tuple(index)}")
        if isinstance(array, Stack):
            position = int(array.order.reshape(array.shape)[tuple(index)])
            for view, n in array.pieces:
                if position < n:
                    return Element("", [(self._factor(view, {0: position}),)])
                position -= n
        if isinstance(array, Stacked):
            first, *rest = index
            return Element("", [(self._factor(whole(array.members[first]), dict(enumerate(rest))),)])
        terms = []
        for term in array.terms:
            lengths = {a: n for x in term if isinstance(x, View) for a, n in zip(x.axes, x.lengths)}
            summed = sorted(axis for axis in lengths if axis >= len(array.shape))
            for along in itertools.product(*(range(lengths[axis]) for axis in summed)):
                at = {**dict(enumerate(index)), **dict(zip(summed, along))}
                terms.append(tuple(self._factor(x, at) for x in term))
        row = array.row if isinstance(array, Map) else None
        if isinstance(array, Reduce):
            terms = [tuple(itertools.chain(*terms))]
        over_rows = isinstance(array, Contract) and array.over_rows
        return Element(row.name if row else "", terms, over_rows, row)

    def _factor(self, x: Any, at: Mapping[int, int]) -> Any:
        if not isinstance(x, View):
            return x
        entry = x.entry(at)
        if isinstance(x.array, Constant):
            return float(x.array.numbers[entry])
        return Place("N" if isinstance(x.array, Rows) else self._name[x.array], entry)

    def run(self, *data: Any) -> dict[str, np.ndarray]:
        """Every array by name, for these data: an array for each argument, with rows where there are rows.

        Without arguments, a program of one example takes the numbers that it was recorded with.
        """
        scalars, arrays = self._plan.lifted.scalars, [self._array[array.name] for array in self.arrays]
        if not data and not scalars.by_row:
            data = tuple(scalars.inputs)
        if len(data) != len(scalars.names):
            raise TypeError(f"this program takes data for {', '.join(scalars.names)}, not {len(data)} arrays")
        function = Source(self._names, returned=arrays).function(np)
        leaves = [leaf.values for leaf in self._plan.lifted.leaves]
        results = function(*map(_numbers, data), *map(_numbers, leaves))
        return {array.name: np.asarray(x) for array, x in zip(self.arrays, results)}


def _numbers(array: Any) -> np.ndarray:
    """An array of Values and numbers as an array of floats."""
    array = np.asarray(array)
    numbers = [x._data if isinstance(x, Value) else number(x) for x in array.ravel().tolist()]
    return np.array(numbers).reshape(array.shape)
