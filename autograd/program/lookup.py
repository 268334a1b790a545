"""lookup: numbers of a row as indices, table[x], found by recording a function for each value of an index.

A recording has one element of a Python list: table[3] where x is 3. So the function is recorded for every x
from 0 on, all indices together, until the tables have no such element. Where the recordings differ, and only
by elements that follow one index, the graph gets Σₖ [x = k] table[k]. Its derivative by table[k] is summed
over the rows where x is k.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..value import Constant, Value, applied, dot

MOST_VALUES = 1000  # values of one index
MOST_TOGETHER = 100  # combinations of several indices that are tried; fewer in graphs of more nodes than
MOST_NODES = 50_000  # this in all, but some
SOME = 4

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
    for which it raises an ArithmeticError is not allowed. All indices have each value at once; then come
    combinations, those of `together` among them, which tell the indices apart. Raises TypeError where the
    graphs differ by more than elements, or if an index has no end.
    """
    recordings = _Recordings(record, inputs, outputs, places)
    values: dict[Spot, list[int]] = {place: [] for place in places}
    open_ended = list(places)
    for k in range(MOST_VALUES):
        allowed, ended = recordings.add_each(open_ended, float(k))
        for place in allowed:
            values[place].append(k)
        open_ended = [place for place in open_ended if place not in ended]
        if not open_ended:
            break
    else:
        label = recordings.leaf(open_ended[0]).label
        raise TypeError(
            f"a Value is no float, and int({label}) is for an index of a table: this has no end at {k:,}"
        )
    for place, ks in values.items():
        if recordings.leaf(place)._data not in ks:
            raise TypeError(f"int({recordings.leaf(place).label}) is for an index that starts at 0")
    if len(places) > 1:
        most = min(MOST_TOGETHER, max(SOME, MOST_NODES // len(recordings.known)))
        every: Any = itertools.product(*values.values())
        if math.prod(map(len, values.values())) > most:
            rng = np.random.default_rng(0)
            every = zip(*(rng.choice(ks, most) for ks in values.values()))
        for numbers in itertools.chain(itertools.islice(together, most), every):
            if all(k in ks for k, ks in zip(numbers, values.values())):
                recordings.add_together(dict(zip(places, map(float, numbers))))
    while True:
        merging = _Merging(recordings, values)
        try:
            return [merging.merged(nodes) for nodes in zip(*recordings.outputs)], values
        except _Ambiguous as error:
            if not any(map(recordings.add_together, error.apart)):
                raise TypeError(_OTHERWISE) from None


class _Graphs:
    """Several recordings as one graph, in which equal parts are one node; nodes are known by numbers.

    `made` has each node's row and operands: None and itself for a leaf, and `tuple` and its elements for the
    operands of a row that takes vectors. `values` has its Value, number or tuple in the first recording.
    """

    def __init__(self, inputs: list[np.ndarray]):
        self.inputs = inputs
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.made: list[tuple[Any, ...]] = []
        self.values: list[Any] = []
        self.weights: dict[int, int] = {}  # tuples of leaves that several recordings may have, by their ids

    def add(self, inputs: list[np.ndarray], outputs: list[Any]) -> list[int]:
        """The nodes of these outputs, whose Values may be Traced: they are known by their ids."""
        found = {id(v): self._leaf(w) for a, b in zip(inputs, self.inputs) for v, w in zip(a.flat, b.flat)}
        found.update(self.weights)
        stack: list[Any] = list(outputs)
        pop, push = stack.pop, stack.append
        while stack:
            v = pop()
            if v is None:  # the operands of the next item are found by now
                v = pop()
                if type(v) is tuple:
                    made = (tuple, *[found[id(x)] for x in v])
                elif v.y is None:
                    made = v.row, found[id(v.x)]
                else:
                    made = v.row, found[id(v.x)], found[id(v.y)]
                found[id(v)] = self._node(made, v)
            elif id(v) not in found:
                if type(v) is tuple:
                    push(v)
                    push(None)
                    stack += v
                elif not isinstance(v, Value):
                    found[id(v)] = self._leaf(v)
                elif v.row is None:
                    found[id(v)] = self._leaf(v._data if isinstance(v, Constant) else v)
                else:
                    push(v)
                    push(None)
                    push(v.x)
                    if v.y is not None:
                        push(v.y)
        return [found[id(v)] for v in outputs]

    def keep_weights(self) -> None:
        """Note the tuples of leaves, so that the next recordings need not go through their elements."""
        leaves = {n for n, (row, *_) in enumerate(self.made) if row is None}
        for n, (row, *of) in enumerate(self.made):
            if row is tuple and leaves.issuperset(of):
                self.weights[id(self.values[n])] = n

    def _leaf(self, x: Any) -> int:
        return self._node((None, x if isinstance(x, Value) else repr(x)), x)

    def _node(self, made: tuple[Any, ...], value: Any) -> int:
        if made not in self.numbers:
            self.numbers[made] = len(self.made)
            self.made.append(made)
            self.values.append(value)
        return self.numbers[made]


class _Recordings:
    """Recordings of one function: `numbers` has the indices of each, and `outputs` its nodes in `graph`.

    `known` are the nodes of the first recording.
    """

    def __init__(self, record: Callable[..., Any], inputs: Any, outputs: Any, places: Sequence[Spot]):
        self.record, self.inputs, self.graph = record, inputs, _Graphs(inputs)
        self.numbers: list[dict[Spot, float]] = [{place: self.leaf(place)._data for place in places}]
        self.outputs = [self.graph.add(inputs, outputs)]
        self.known = set(range(len(self.graph.made)))
        self.graph.keep_weights()

    def leaf(self, place: Spot) -> Value:
        """The index at this place."""
        return self.inputs[place[0]][place[1]]

    def add(self, numbers: dict[Spot, float]) -> None:
        """Record the function for other numbers at some places."""
        self.outputs.append(self.graph.add(*self.record(numbers)))
        self.numbers.append({**self.numbers[0], **numbers})

    def add_each(self, places: list[Spot], k: float) -> tuple[list[Spot], list[Spot]]:
        """Record k at these places, at once if possible; which take k, and where k is too large."""
        try:
            self.add(dict.fromkeys(places, k))
            return places, []
        except (LookupError, ArithmeticError):
            allowed, ended = [], []
        for place in places:
            try:
                self.add({place: k})
                allowed.append(place)
            except LookupError:
                ended.append(place)
            except ArithmeticError:
                continue
        return allowed, ended

    def add_together(self, numbers: dict[Spot, float]) -> bool:
        """Record the function for values that are allowed one by one, and say whether they are together."""
        try:
            self.add(numbers)
        except ArithmeticError:
            return False
        except LookupError:
            raise TypeError(_OTHERWISE) from None
        return True


class _Ambiguous(Exception):
    """Elements that follow more than one index, and numbers that tell two of these apart."""

    def __init__(self, apart: Iterable[dict[Spot, float]]):
        self.apart = apart


class _Merging:
    """Nodes of several recordings as one Value or tuple each."""

    def __init__(self, recordings: _Recordings, values: dict[Spot, list[int]]):
        self.recordings, self.values = recordings, values
        self.made = recordings.graph.made
        self.done: dict[Any, Any] = {}
        self.is_value: dict[Spot, list[Value]] = {}

    def merged(self, nodes: tuple[int, ...]) -> Any:
        """What stands for these nodes, one of each recording, the first one's first."""
        found, done = self.recordings.graph.values, self.done
        stack = [nodes]
        while stack:
            nodes = stack[-1]
            if nodes not in done:
                if len(set(nodes)) == 1:
                    done[nodes] = found[nodes[0]]
                elif (looked_up := self._looked_up(nodes)) is not None:
                    place, elements = looked_up
                    done[nodes] = dot(self._is(place), [found[elements[k]] for k in self.values[place]])
                else:
                    row, operands = self._parts(nodes)
                    waiting = [ids for ids in operands if ids not in done]
                    if waiting:
                        stack += waiting
                        continue
                    parts = [done[ids] for ids in operands]
                    done[nodes] = tuple(parts) if row is tuple else applied(row, *parts)
            stack.pop()
        return done[nodes]

    def _looked_up(self, nodes: tuple[int, ...]) -> tuple[Spot, dict[float, int]] | None:
        """The index that alone decides which of these nodes it is, and the node for each of its values.

        None if there is no such index, or if they are no elements.
        """
        known, made = self.recordings.known, self.made
        if not all(made[n][0] is None or (n in known and made[n][0] is not tuple) for n in nodes):
            return None
        found = [(p, e) for p in self.values if (e := self._elements(p, nodes)) is not None]
        if len(found) > 1:
            (p, of_p), (q, of_q) = found[:2]
            raise _Ambiguous({p: i, q: j} for i in of_p for j in of_q if of_p[i] != of_q[j])
        return found[0] if found else None

    def _elements(self, place: Spot, nodes: tuple[int, ...]) -> dict[float, int] | None:
        """The node for each value of an index; None if there are two."""
        elements: dict[float, int] = {}
        for numbers, node in zip(self.recordings.numbers, nodes):
            if elements.setdefault(numbers[place], node) != node:
                return None
        return elements

    def _parts(self, nodes: tuple[int, ...]) -> tuple[Any, list[tuple[int, ...]]]:
        """The row of these nodes, and for each of its operands the nodes that it has."""
        made = [self.made[node] for node in nodes]
        row, n = made[0][0], len(made[0])
        if row is None or any(other[0] is not row or len(other) != n for other in made):
            raise TypeError(_OTHERWISE)
        return row, [*zip(*(operands for _, *operands in made))]

    def _is(self, place: Spot) -> list[Value]:
        """[x = k] for each k, as Values of 1 and 0."""
        if place not in self.is_value:
            x = self.recordings.leaf(place)
            conditions = [Value._record(ops.equal, x, float(k)) for k in self.values[place]]
            self.is_value[place] = [Value._record(ops.where, c, (1.0, 0.0)) for c in conditions]
        return self.is_value[place]


_OTHERWISE = (
    "this function computes in other ways for other values of an index, or two indices together choose an"
    " element: compile takes table[i] and table[i][3] for an index i among the data, of numbers or of Values"
)
