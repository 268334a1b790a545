"""explain: the chain of partial derivatives of one number, in symbols, rules and numbers.

    e = explain(loss, w)
    print(e)  # a row for each quantity from the loss back to w; then the matrix entry with this derivative
    e.value, e.rows, e.entry
    program.explain(w, X, Y)  # over the rows of a data set

A row is one step of back-propagation: ∂L/∂h = Σ ∂L/∂z · ∂z/∂h over the quantities z that use h, where ∂L/∂z
has a row above. So a graph with 2²⁰ paths has about 20 rows. The local derivatives are those of the table,
applied to Values that stand for the quantities' names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import operands, topological_order
from ..program import Program, matrices
from ..value import Value, slopes
from .entry import Entries
from .explanation import Explanation, Row, Way
from .formula import Formula, Name, Number, Partial, Quotient, added, formula, names_in
from .quantities import Quantities, added_up, leaves_by_name, simplified_here

MOST_ROWS = 200  # no one reads more
MOST_DEFINITIONS = 40


def explain(
    output: Value, leaf: Value, *, data: Mapping[str, Any] | None = None, digits: int = 4
) -> Explanation:
    """∂output/∂leaf, as the chain of partial derivatives that leads to it.

    >>> w, x = Value(-3.0, "w"), Value(2.0, "x")
    >>> h = (w * x).sigmoid()
    >>> L = 0.5 * (h - 1.0) ** 2
    >>> h.label, L.label = "h", "L"
    >>> print(str(explain(L, w)).split("\\n\\n")[3])  # the block of w; then comes the matrix program
    ∂L/∂w = ∂L/∂h · ∂h/∂w
          = ∂L/∂h · h(1 − h) · x
          = (−0.9975) · 0.002473 · (1 − 0.002473) · 2
          = (−0.9975) · 0.004933
          = −0.00492082 = grad_w

    `leaf` is any Value that output was computed from. `data` has leaves that are no parameters, by the name
    of their array in the matrix program: {"x": [x1, x2], "y": y}. Factors are shown with `digits` digits,
    1 to 17, and results with two more; all are computed in full precision.

    Raises TypeError if output or leaf is no Value, and ValueError if output does not depend on the leaf, if
    data have changed since output was recorded, or if the chain has too many rows to read.
    """
    for v in (output, leaf):
        if not isinstance(v, Value):
            raise TypeError(f"explain takes Values, not {type(v).__name__} {v!r:.80}")
    return _explained(output, leaf, leaves_by_name({} if data is None else data), _checked_digits(digits))


def _explained(
    output: Value, leaf: Value, data: Mapping[str, np.ndarray], digits: int, title: str = ""
) -> Explanation:
    """The explanation; `title` is the output's name, by default its label."""
    check_unchanged(topological_order(output))
    paths = _Paths(output, leaf)
    found = matrices(output, {name: array for name, array in data.items() if leaf not in {*array.flat}})
    quantities = Quantities(output, found, {leaf, *paths.meetings}, title=title)
    names, entries, gradient = quantities.names, Entries(found, quantities), slopes(output)
    ways = paths.ways(quantities)
    distance = {output: 0}
    for v, through in ways.items():
        distance[v] = 1 + max(distance[stop] for stop in through)

    def turn(v: Value) -> Any:
        return distance[v], natural(names[v])

    rows = []
    for v in sorted(ways, key=turn):
        on = [
            Way(names[stop], gradient[stop], formula(simplified_here(rule)), number)
            for stop, (number, rule) in sorted(ways[v].items(), key=lambda way: turn(way[0]))
        ]
        place = entries.written(found.adjoint_place(v))
        rows.append(Row(names[output], names[v], tuple(on), gradient[v], place))
    known: dict[Formula, Formula] = {Name(name): Number(v._data) for v, name in names.items()}
    known |= {Partial(names[output], name): Number(gradient[v]) for v, name in names.items()}
    return Explanation(
        output=names[output],
        quantity=names[leaf],
        value=gradient[leaf],
        rows=tuple(rows),
        entry=entries.entry(found.adjoint_place(leaf), found.run()),
        definitions=tuple(_definitions(quantities, list(distance), rows)),
        known=known,
        digits=digits,
    )


def _definitions(
    quantities: Quantities, shown: list[Value], rows: list[Row]
) -> Iterator[tuple[str, Formula]]:
    """The definitions of the quantities with a row, and of v1, v2, ... if they appear in the text."""
    few = len(shown) <= MOST_DEFINITIONS
    wanted = {v for v in shown if v.row and (few or v in quantities.numbered)}
    found = {v: quantities.definition(v) for v in wanted}
    numbered = {quantities.names[v]: v for v in quantities.numbered}
    used = [name for row in rows for way in row.ways for name in names_in(way.rule)]
    used += [name for definition in found.values() for name in names_in(definition)]
    for name in used:  # the list grows
        v = numbered.get(name)
        if v is not None and v.row and v not in found:
            found[v] = quantities.definition(v)
            used += names_in(found[v])
    for v in sorted(found, key=lambda v: (quantities.heights[v], natural(quantities.names[v]))):
        yield quantities.names[v], found[v]


def _checked_digits(digits: Any) -> int:
    if type(digits) is not int or not 1 <= digits <= 17:
        raise ValueError(f"digits is a whole number from 1 to 17, not {digits!r:.80}")
    return digits


class _Paths:
    """The Values through which a gradient comes from the output to the leaf.

    `between` has these Values, operands first; `users` has the Values that use each; `meetings` has those
    with more than one user.
    """

    def __init__(self, output: Value, leaf: Value):
        self.output, self.leaf = output, leaf
        self.between = _between(output, leaf)
        self.users: dict[Value, list[Value]] = {v: [] for v in self.between}
        for v in self.between:
            for operand, partial in operands(v):
                if partial is not None and isinstance(operand, Value) and operand in self.users:
                    self.users[operand].append(v)
        self.meetings = {v for v in self.between if len(self.users[v]) > 1}
        self._check_readable({leaf, *self.meetings, *(v for v in self.between if v.label)})

    def ways(self, quantities: Quantities) -> dict[Value, dict[Value, tuple[float, Any]]]:
        """For each quantity, from the output back: the next quantities on its paths, with the partials."""
        stops = [v for v in reversed(self.between) if v in quantities.names]
        self._check_readable(stops)
        partials = {v: quantities.partials(v, self.users) for v in self.between}
        return {v: self._next(v, partials, {*stops}) for v in stops if v is not self.output}

    def _next(self, v: Value, partials: Any, stops: set[Value]) -> dict[Value, tuple[float, Any]]:
        """The next quantities: the partial by v is a product along the expressions between."""
        found = []
        for user in dict.fromkeys(self.users[v]):
            number, rule = partials[user][v]
            while user not in stops:
                (after,) = self.users[user]
                number, rule = partials[after][user][0] * number, partials[after][user][1] * rule
                user = after
            found.append((user, number, rule))
        return added_up(found)

    def _check_readable(self, rows: Collection[Value]) -> None:
        if len(rows) <= MOST_ROWS:
            return
        name, of = self.leaf.label or "leaf", self.output.label or "output"
        near = [v for v in self.between[: MOST_ROWS // 2] if v.label and v is not self.leaf]
        part = near[-1].label if near else "part"
        where = "" if near else f", where part is a Value between {name} and {of}"
        raise ValueError(
            f"a chain of {len(rows):,} quantities is too long to read (the limit is {MOST_ROWS}): explain a"
            f" part of it, such as explain({part}, {name}){where}"
        )


def natural(name: str) -> list[Any]:
    """A key that puts h[2] before h[10]."""
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in re.split(r"(\d+)", name)]


def _between(output: Value, leaf: Value) -> list[Value]:
    found: dict[Value, None] = {}
    for v in topological_order(output, gradient_only=True):
        through = [o for o, partial in operands(v) if partial is not None and isinstance(o, Value)]
        if v is leaf or not found.keys().isdisjoint(through):
            found[v] = None
    if output in found:
        return list(found)
    name, of = leaf.label or "it", output.label or "the output"
    if leaf not in {*topological_order(output)}:
        raise ValueError(f"the derivative is 0: {of} was not computed from {leaf.label or repr(leaf)}")
    raise ValueError(
        f"the derivative is 0: {of} depends on {name} only through comparisons, steps or detach(), and no"
        " gradient flows back through these"
    )


def check_unchanged(order: Iterable[Value]) -> None:
    """ValueError if a Value's number is not the one that its operands give now."""
    for v in order:
        if v.row:
            given = [_data_of(o) for o in (v.x, v.y) if o is not None]
            try:
                now = v.row.compute(*given)
            except ArithmeticError:
                now = None
            if now != v._data:
                raise ValueError(f"a leaf's data were changed after {v!r} was recorded: record it again")


def _data_of(x: Any) -> Any:
    if type(x) is tuple:
        return tuple(map(_data_of, x))
    return x._data if isinstance(x, Value) else x


def explain_over_rows(
    program: Program[..., Any], leaf: Value, *arrays: Any, digits: int = 4, **named: Any
) -> Explanation:
    """The gradient of a program's result by a leaf, over the rows of these arrays.

    `rows` explain the row of the data that adds most; the last of them adds the rows of the data.
    Raises the errors of explain(), and those of the program for these arrays.
    """
    if not isinstance(leaf, Value):
        raise TypeError(f"explain takes a Value, not {type(leaf).__name__} {leaf!r:.80}")
    _, gradient = program.value_and_grad(*arrays, **named)
    recorded = program.recorded(*arrays, **named)
    at = {v: (i, index) for i, leaves in enumerate(recorded.leaves) for index, v in np.ndenumerate(leaves)}
    title = _free_title(program, recorded.graph)
    if leaf not in at:
        raise ValueError(f"the derivative is 0: {title} was not computed from {leaf.label or repr(leaf)}")
    i, index = at[leaf]
    given = [np.asarray(array) for array in (*arrays, *named.values())]
    n = len(given[0]) if given else 0

    def part(rows: slice) -> float:
        """The derivative of some rows alone."""
        some = [array[rows] for array in given]
        grads = program.value_and_grad(*some[: len(arrays)], **dict(zip(named, some[len(arrays) :])))[1]
        return float(grads[i][index])

    shares = [part(slice(row, row + 1)) for row in range(n)]
    largest, one = 0, None
    for largest in np.argsort(-np.abs(shares), kind="stable").tolist() or [0]:
        output, leaves = program.example(largest, *arrays, **named)
        try:
            name = f"{title}[{largest}]" if n > 1 else title
            one = _explained(output, leaf, leaves, _checked_digits(digits), name)
            break
        except ValueError as error:  # this row alone may not depend on the leaf
            if largest == n - 1 or shares[largest] or "the derivative is 0" not in str(error):
                raise
    assert one
    graph, found = recorded.graph, recorded.matrices
    depends = leaf in {*topological_order(graph, gradient_only=True)}  # in the row that was recorded
    meetings = {leaf, *(_Paths(graph, leaf).meetings if depends else ())}
    quantities = Quantities(graph, found, meetings, title=f"{title}[n]")
    share = f" / {n}" if program.reduce == "mean" and n > 1 else ""
    entries = Entries(found, quantities, title, share)
    entry = entries.entry(found.adjoint_place(leaf), found.run(*recorded.data.values()))
    value = float(gradient[i][index])
    if n < 2:
        return replace(one, entry=entry, value=value)
    weight = 1.0 / n if program.reduce == "mean" else 1.0
    name = one.quantity
    ways = [
        Way(f"{title}[{row}]", weight, Partial(f"{title}[{row}]", name), share)
        for row, share in enumerate(shares)
    ]
    total = added([Name(way.through) for way in ways])
    definitions = ((title, total if weight == 1.0 else Quotient(total, Number(float(n)))), *one.definitions)
    known = dict(one.known)
    for way in ways:
        known |= {way.rule: Number(way.partial), Partial(title, way.through): Number(weight)}
    rows = [replace(row, place="") for row in one.rows]  # an entry may have the mean's share of the number
    rows.append(Row(title, name, tuple(ways), value, entry.name if entry else ""))
    return replace(
        one, output=title, value=value, rows=tuple(rows), entry=entry, known=known, example=largest,
        definitions=definitions,
    )  # fmt: skip


def _free_title(program: Program[..., Any], graph: Value) -> str:
    """The name of the program's result, which no label of its graph has."""
    name = getattr(program, "__name__", "loss")
    name = name if name.isidentifier() else "f"
    stems = {v.label.partition("[")[0] for v in topological_order(graph)}
    titles = (name, f"{program.reduce}_{name}", f"{program.reduce}_of_{name}")
    return next(title for title in titles if title not in stems)


Program.explain = explain_over_rows
