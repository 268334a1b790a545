"""record: a function of one example as a graph of scalars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import ops
from ..tracing import COMPILE, Values, tracing
from ..value import Constant, Traced, Value, number, settle
from .lookup import MOST_TOGETHER, Spot, with_lookups
from .reachable import declared, random_generators, restore, states
from .scalars import Nest, Scalars

MOST_ROWS = 8  # that are tried where a function is not defined for an index and the first row


@dataclass
class Call:
    """A function of one example, and arrays for its arguments, with the examples along the first axis."""

    f: Callable[..., Any]
    names: Sequence[str]
    arrays: Sequence[np.ndarray]
    title: str
    reduce: str

    def __str__(self) -> str:
        rows = [f"{name} {array.shape[1:]}" for name, array in zip(self.names, self.arrays)]
        return f"{self.title} of one row: {', '.join(rows) or 'without data'}"


def record(call: Call) -> Scalars:
    """f's graph for one example, the first row.

    f runs twice, for the first row and for the last, to notice if it depends on things that are in no graph.
    Raises TypeError if the two graphs differ, where f branches on Values, reads their grads or draws random
    numbers, and where it returns anything but Values and numbers, or lists, dicts or arrays of them.
    """
    generators = random_generators(call.f)
    before = states(generators)
    recorded, errors, indices = [], [], dict[Spot, float]()
    for row in (0, -1):
        try:
            recording = _recorded(call, row, indices)
            settle([*recording[1], *(v for array in recording[0] for v in array.flat)])
            recorded.append(recording)
        except ArithmeticError as error:  # in this row: the other one may do
            errors.append(error)
            continue
        inputs: Any = recorded[0][0]
        places = [(a, i) for a, array in enumerate(inputs) for i, v in np.ndenumerate(array) if is_index(v)]
        indices = {(a, i): inputs[a][i]._data for a, i in places}  # the other row has the same indices
    if not recorded:
        raise errors[0]
    inputs, outputs, form = recorded[0]
    if states(generators) != before:
        restore(generators, before)
        raise TypeError(_DRAWS)
    other_inputs, other_outputs, other_form = recorded[-1]
    if form != other_form:
        raise TypeError(f"this function returns shape {form} for one example, and {other_form} for another")
    makes = _compare(inputs, outputs, other_inputs, other_outputs)
    values: dict[Spot, list[int]] = {}
    if indices:
        columns = np.array([call.arrays[a][(slice(None), *i)] for a, i in indices])  # type: ignore[arg-type]

        def rows_for(numbers: Mapping[Spot, float]) -> Iterator[int]:
            """The row to record, and rows with these numbers, where the function may be defined instead."""
            yield -1 if errors else 0
            alike = [column == numbers[place] for place, column in zip(indices, columns) if place in numbers]
            yield from np.flatnonzero(np.all(alike, axis=0))[:MOST_ROWS].tolist()

        def again(numbers: Mapping[Spot, float]) -> tuple[list[np.ndarray], list[Any]]:
            for row in rows_for(numbers):
                try:
                    inputs, outputs, other = _recorded(call, row, {**indices, **numbers})
                    if makes:  # that tells the leaves that f makes from those of tables
                        _compare(inputs, outputs, *_recorded(call, row, {**indices, **numbers})[:2])
                    break
                except ArithmeticError as error:
                    undefined = error
            else:
                raise undefined
            if other != form:
                raise TypeError(f"this function returns shape {form} for one index, and {other} for another")
            return inputs, outputs

        together = np.unique(columns, axis=1).T[:MOST_TOGETHER].tolist()
        outputs, values = with_lookups(again, inputs, outputs, list(indices), together)
        if states(generators) != before:
            restore(generators, before)
            raise TypeError(_DRAWS)
    scalars = Scalars(call.title, call.names, inputs, outputs, form, call.reduce, by_row=bool(inputs))
    scalars.indices = values
    arrays = declared(call.f)
    scalars.labels = _labels(scalars.live_leaves(), arrays)
    scalars.declared = [array for _, array in arrays]
    return scalars


def example(name: str, row: Any, kind: type[Value] = Value) -> np.ndarray:
    """A leaf for each number of an example, labelled after its argument: x[0], x[1], ..."""
    array = np.empty(np.shape(row), dtype=object)
    for index, x in np.ndenumerate(row):
        array[index] = v = kind(x, label=name + (f"[{','.join(map(str, index))}]" if index else ""))
        if isinstance(v, Traced):
            v.is_index = 0  # it may be used as an index, and has not been
    return array


def outputs_of(f: Callable[..., Any], inputs: Sequence[np.ndarray]) -> tuple[list[Any], Any]:
    """The outputs of f for one example, Values and numbers, and their form (see Scalars)."""
    # Copies, as f may write into a row.
    result = f(*(array.copy().view(Values) if array.ndim else array.item() for array in inputs))
    outputs: list[Any] = []
    try:
        form = _form(result, outputs)
    except TypeError:
        outputs = []
    if not outputs:
        raise TypeError(
            f"a compiled function returns a Value, or lists, tuples or arrays of Values, not {result!r:.80}"
        )
    return outputs, form


def _form(result: Any, outputs: list[Any]) -> Any:
    """The form of a result, whose Values and numbers are added to `outputs`."""
    if isinstance(result, np.ndarray):
        outputs += [x if isinstance(x, Value) else number(x) for x in result.ravel().tolist()]
        return result.shape
    if isinstance(result, dict):
        return Nest(dict, [_form(part, outputs) for part in result.values()], list(result))
    if not isinstance(result, list | tuple):
        outputs.append(result if isinstance(result, Value) else number(result))
        return ()
    forms = [_form(part, outputs) for part in result]
    if all(type(form) is tuple and form == forms[0] for form in forms):
        return (len(forms), *(forms[0] if forms else ()))
    return Nest(list if isinstance(result, list) else getattr(result, "_make", tuple), forms)


def _recorded(call: Call, row: int, numbers: Mapping[Spot, float]) -> tuple[list[np.ndarray], list[Any], Any]:
    """The leaves for a row, with other numbers at some places; f's Values and numbers; and their form."""
    inputs = [example(name, array[row], Traced) for name, array in zip(call.names, call.arrays)]
    for (argument, index), x in numbers.items():
        inputs[argument][index]._data = x
    try:
        with tracing(COMPILE):
            outputs, form = outputs_of(call.f, inputs)
    except IndexError as error:
        latest = max((v for array in inputs for v in array.flat), key=is_index)
        if not is_index(latest):
            raise
        where = "the last row" if row else "row 0"
        raise IndexError(
            f"{where}: {latest.label} is {latest._data:g}, and there is no such element"
        ) from error
    return inputs, outputs, form


def is_index(v: Value) -> int:
    """0 for a leaf that was not used as an index, else a number that is larger for a later use."""
    return getattr(v, "is_index", 0)


def _labels(leaves: Sequence[Value], arrays: Sequence[tuple[str, np.ndarray]]) -> dict[Value, str]:
    """Labels by Modules: "norm_bias[2]", for leaves that have none or share theirs with another array's.

    Where two arrays that the leaves are in would have the same name, leaves keep their labels.
    """
    home: dict[Value, tuple[int, tuple[int, ...]]] = {}  # a leaf's nearest array of a Module, and its place
    for i, (name, array) in enumerate(arrays):
        for index, v in np.ndenumerate(array) if name else ():
            home.setdefault(v, (i, index))
    stems: dict[str, set[int]] = {}
    for v in leaves:
        stems.setdefault(v.label.partition("[")[0], set()).add(home.get(v, (-1, ()))[0])
    names = Counter(arrays[i][0] for i in {home[v][0] for v in leaves if v in home})
    labels: dict[Value, str] = {}
    for v in leaves:
        i, index = home.get(v, (-1, ()))
        name = arrays[i][0] if i >= 0 else ""
        if name and (not v.label or (len(stems[v.label.partition("[")[0]]) > 1 and names[name] == 1)):
            labels[v] = name + (f"[{','.join(map(str, index))}]" if index else "")
    return labels


def is_alike(recorded: Scalars, call: Call) -> bool:
    """Whether f, recorded again for rows of the same shapes, gives the graph that it gave before."""
    try:
        again = record(call)
        _compare(recorded.inputs, recorded.outputs, again.inputs, again.outputs)
    except Exception:  # of any class, as f is the user's
        return False
    return True


def _check_own(v: Value) -> None:
    """Raise ValueError if a user's primitive gives one result for floats and another for arrays."""
    operands = [x._data if isinstance(x, Value) else x for x in (v.x, v.y) if x is not None]
    of_arrays = v.row.numpy(*(np.array([x]) for x in operands))
    if not np.allclose(of_arrays, v._data, rtol=1e-9, atol=1e-300, equal_nan=True):
        raise ValueError(
            f"the primitive {v.op} gives {v._data} of floats and of arrays {of_arrays}, at {operands}"
        )


def _compare(inputs: Any, outputs: list[Any], other_inputs: Any, other_outputs: list[Any]) -> bool:
    """Raise TypeError if two recordings of a function, of two rows, are not the same graph.

    A single recording is compared with itself, which checks its primitives. Leaves of `outputs` that f makes
    become Constants; returns whether there are any.
    """
    makes = False
    leaves = {v: w for a, b in zip(inputs, other_inputs) for v, w in zip(a.flat, b.flat)}
    stack: list[tuple[Any, Any]] = [(outputs, other_outputs)]
    found: dict[Value, Value] = {}
    vectors = set[tuple[int, int]]()  # pairs of operands of many nodes, by their ids
    while stack:
        v, w = stack.pop()
        if type(v) is list or type(v) is tuple:
            if (id(v), id(w)) in vectors:
                continue
            if len(v) == len(w):
                vectors.add((id(v), id(w)))
                stack += zip(v, w)
                continue
        elif not isinstance(v, Value) or not isinstance(w, Value):
            if v is w or (type(v) is type(w) is float and (v == w or (v != v and w != w))):
                continue
        elif v in found:
            if found[v] is w:
                continue
        else:
            if v.row and v.row not in ops.ROWS:
                _check_own(v)
            found[v] = w
            if v.row is w.row is not None:
                stack += ((v.x, w.x), (v.y, w.y))
                continue
            if v.row is w.row and leaves.get(v, v) is w:
                continue
            if v.row is w.row is None and v not in leaves and v._data == w._data:
                v.__class__ = Constant  # a number of the program, which f makes a Value with each call
                makes = True
                continue
        raise TypeError(
            "compile records a function for all examples, and for two of them this one gave two programs,"
            f" with {_described(v)} in one and {_described(w)} in the other: it depends on something in no"
            " graph, such as a look-up by number or a count of its calls"
        )
    return makes


def _described(x: Any) -> str:
    if isinstance(x, Value):
        return x.op or repr(x._data)
    return f"{len(x)} operands" if isinstance(x, list | tuple) else repr(x)


_DRAWS = (
    "compile records a function once, for all examples, and this one draws random numbers: they would be the"
    " same for all. Draw them outside, and pass them as an argument"
)
