"""lookup: numbers of a row as indices, table[x], found by recording a function for each value of an index.

A recording has one element of a Python list: table[3] where x is 3. So the function is recorded for every x
from 0 on, until the table has no such element. Where two recordings differ, and only by elements, the graph
gets Σₖ [x = k] table[k]. Its derivative by table[k] is summed over the rows where x is k.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..graph import topological_order
from ..value import Constant, Value, applied, dot

MOST_VALUES = 1000  # values of one index
MOST_TOGETHER = 100  # combinations of several indices that are tried

Spot = tuple[int, tuple[int, ...]]  # the place of an index in the inputs: an argument, and where in its row


def with_lookups(
    record: Callable[[dict[Spot, float]], tuple[list[np.ndarray], list[Any]]],
    inputs: list[np.ndarray],
    outputs: list[Any],
    places: Sequence[Spot],
    together: Iterable[Sequence[float]],
) -> tuple[list[Any], dict[Spot, list[int]]]:
    """The outputs with table[x] for any x at these places, and the values that each place may have.

    record(numbers) gives the inputs and outputs of the same row with other numbers at some places; a value
    for which it raises an ArithmeticError is not allowed. Each index is varied alone; then the result is
    compared with recordings for several at once, those of `together` among them. Raises TypeError where the
    graphs differ by more than elements, or if an index has no end.
    """
    graph = _Graphs(inputs)
    base = graph.add(inputs, outputs)
    known = set(range(len(graph.made)))
    recordings, origin = [base], []
    for place in places:
        for k in range(MOST_VALUES):
            try:
                recordings.append(graph.add(*record({place: float(k)})))
            except LookupError:
                break
            except ArithmeticError:
                continue
            origin.append((place, k))
        else:
            label = inputs[place[0]][place[1]].label
            raise TypeError(
                f"a Value is no float, and int({label}) is for an index of a table: this has no end at {k:,}"
            )
    values = {place: [k for other, k in origin if other == place] for place in places}
    for place, ks in values.items():
        if inputs[place[0]][place[1]]._data not in ks:
            raise TypeError(f"int({inputs[place[0]][place[1]].label}) is for an index that starts at 0")
    merging = _Merging(graph, known, origin, inputs)
    merged = [merging.merged(ids) for ids in zip(*recordings)]
    every: Any = itertools.product(*values.values())
    if math.prod(map(len, values.values())) > MOST_TOGETHER:
        rng = np.random.default_rng(0)
        every = zip(*(rng.choice(ks, MOST_TOGETHER) for ks in values.values()))
    for numbers in itertools.chain(together, every) if len(places) > 1 else ():
        chosen = dict(zip(places, map(float, numbers)))
        if all(k in values[place] for place, k in chosen.items()):
            found = graph.add(*record(chosen))
            if found != [merging.predicted(ids, chosen) for ids in zip(*recordings)]:
                raise TypeError(_OTHERWISE)
    return merged, values


class _Graphs:
    """Several recordings as one graph, in which equal parts are one node; nodes are known by numbers.

    `made` has each node's row and operands; `values` has its Value or number in the first recording.
    """

    def __init__(self, inputs: list[np.ndarray]):
        self.inputs = inputs
        self.numbers: dict[Any, int] = {}
        self.made: list[tuple[Any, Any, Any]] = []
        self.values: list[Any] = []

    def add(self, inputs: list[np.ndarray], outputs: list[Any]) -> list[int]:
        """The nodes of these outputs."""
        own = {v: w for a, b in zip(inputs, self.inputs) for v, w in zip(a.flat, b.flat)}
        found: dict[Value, int] = {}
        for v in topological_order(*(v for v in outputs if isinstance(v, Value))):
            if v.row is None:
                leaf = own.get(v, v)
                found[v] = self._leaf(leaf._data if isinstance(leaf, Constant) else leaf)
            else:
                x, y = (self._operand(operand, found) for operand in (v.x, v.y))
                found[v] = self._node((v.row, x, y), v)
        return [found[v] if isinstance(v, Value) else self._leaf(v) for v in outputs]

    def _operand(self, x: Any, found: dict[Value, int]) -> Any:
        if type(x) is tuple:
            return tuple(self._operand(p, found) for p in x)
        return None if x is None else found[x] if isinstance(x, Value) else self._leaf(x)

    def _leaf(self, x: Any) -> int:
        return self._node((None, x if isinstance(x, Value) else repr(x), None), x)

    def _node(self, key: Any, value: Any) -> int:
        if key not in self.numbers:
            self.numbers[key] = len(self.made)
            self.made.append(key)
            self.values.append(value)
        return self.numbers[key]


class _Merging:
    """Nodes of several recordings as one Value each."""

    def __init__(self, graph: _Graphs, known: set[int], origin: list[tuple[Spot, int]], inputs: Any):
        self.graph, self.known, self.origin, self.inputs = graph, known, origin, inputs
        self.done: dict[Any, Any] = {}
        self.is_value: dict[Spot, list[Value]] = {}

    def merged(self, nodes: tuple[int, ...]) -> Any:
        """The Value or number that stands for these nodes, one of each recording, the first one's first."""
        values = self.graph.values

        def looked_up(place: Spot, nodes: tuple[int, ...]) -> Value:
            elements = [values[node] for (p, _), node in zip(self.origin, nodes[1:]) if p == place]
            return dot(self._is(place), elements)

        return self._folded(nodes, self.done, values.__getitem__, looked_up, applied)

    def predicted(self, nodes: tuple[int, ...], chosen: dict[Spot, float]) -> int:
        """The node that merged() stands for if the indices have the chosen values; -1 if there is none."""

        def looked_up(place: Spot, nodes: tuple[int, ...]) -> int:
            return nodes[1 + self.origin.index((place, int(chosen[place])))]

        def made_of(*key: Any) -> int:
            return self.graph.numbers.get(key, -1)

        return self._folded(nodes, {}, int, looked_up, made_of)

    def _folded(
        self,
        nodes: tuple[int, ...],
        done: dict[Any, Any],
        same: Callable[[int], Any],
        looked_up: Callable[[Spot, tuple[int, ...]], Any],
        made_of: Callable[..., Any],
    ) -> Any:
        """The merged form of nodes, operands first: of equal ones, of elements, of one row of the table."""
        stack = [nodes]
        while stack:
            nodes = stack[-1]
            if nodes not in done:
                if len(set(nodes)) == 1:
                    done[nodes] = same(nodes[0])
                elif (place := self._looked_up(nodes)) is not None:
                    done[nodes] = looked_up(place, nodes)
                else:
                    operands = self._parts(nodes)
                    waiting = [ids for ids in _each(operands) if ids not in done]
                    if waiting:
                        stack += waiting
                        continue
                    row = self.graph.made[nodes[0]][0]
                    done[nodes] = made_of(row, *(_replaced(ids, done) for ids in operands))
            stack.pop()
        return done[nodes]

    def _looked_up(self, nodes: tuple[int, ...]) -> Spot | None:
        """The place of the only index by which these nodes differ, if they are elements; else None."""
        made = self.graph.made
        if not all(node in self.known or made[node][0] is None for node in nodes):
            return None
        places = {place for (place, _), node in zip(self.origin, nodes[1:]) if node != nodes[0]}
        return places.pop() if len(places) == 1 else None

    def _parts(self, nodes: tuple[int, ...]) -> tuple[Any, Any]:
        made = [self.graph.made[node] for node in nodes]
        row = made[0][0]
        if row is None or any(other[0] is not row for other in made):
            raise TypeError(_OTHERWISE)
        return _together([x for _, x, _ in made]), _together([y for _, _, y in made])

    def _is(self, place: Spot) -> list[Value]:
        """[x = k] for each k, as Values of 1 and 0."""
        if place not in self.is_value:
            argument, index = place
            x, ks = self.inputs[argument][index], [k for p, k in self.origin if p == place]
            conditions = [Value._record(ops.equal, x, float(k)) for k in ks]
            self.is_value[place] = [Value._record(ops.where, c, (1.0, 0.0)) for c in conditions]
        return self.is_value[place]


def _together(operands: list[Any]) -> Any:
    """Operands of the same node in several recordings: for each operand, a tuple of its forms there."""
    if type(operands[0]) is tuple:
        if len({len(x) if type(x) is tuple else -1 for x in operands}) > 1:
            raise TypeError(_OTHERWISE)
        return [*zip(*operands)]
    return None if operands[0] is None else tuple(operands)


def _replaced(ids: Any, done: dict[Any, Any]) -> Any:
    if isinstance(ids, list):
        return tuple(done[each] for each in ids)
    return None if ids is None else done[ids]


def _each(operands: Sequence[Any]) -> list[tuple[int, ...]]:
    return [ids for x in operands if x is not None for ids in (x if isinstance(x, list) else [x])]


_OTHERWISE = (
    "this function computes in other ways for other values of an index, or two indices together choose an"
    " element: compile takes table[i] and table[i][3] for an index i among the data, of numbers or of Values"
)
