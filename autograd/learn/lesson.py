"""lesson: both passes over a graph as one page, element by element or matrix by matrix.

    L, clusters = example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
    lesson(L, clusters=clusters).save("lesson.html")

The page is one file and needs no network. Python writes the drawing, the graph, the formulas and the matrix
program into it as data; page/page.js computes with them, because the learner may change any number.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ..draw import DrawingError, checked_clusters, classed_drawing
from ..files import whole_file
from ..graph import topological_order
from ..locks import cached_property
from ..ops import ROWS
from ..program import Place, matrices
from ..value import Value
from .entry import Entries
from .explain import check_unchanged, natural
from .formula import (
    Call,
    Formula,
    Name,
    Negative,
    Number,
    Power,
    Product,
    Quotient,
    Sum,
    formula,
)
from .quantities import Quantities, leaves_by_name, simplified_here

MOST_NODES = 250
LANGUAGES = ("en", "zh")


class Lesson:
    """A page on one graph: html(), save(), and in a notebook a frame that shows it.

    >>> w, x = Value(-3.0, "w"), Value(2.0, "x")
    >>> page = lesson((w * x - 1.0) ** 2)
    >>> page
    <Lesson of 5 nodes>
    >>> "<svg" in page.html()
    True
    """

    def __init__(self, title: str, svg: str, data: Mapping[str, Any]):
        self._title, self._svg, self._data = title, svg, data

    def __repr__(self) -> str:
        return f"<Lesson of {len(self._data['nodes'])} nodes>"

    def html(self) -> str:
        """The page. It allows itself no network, and no script or style but its own."""
        files = resources.files(__package__) / "page"
        page, style, script = (
            (files / f"page.{end}").read_text(encoding="utf-8") for end in ("html", "css", "js")
        )
        data = json.dumps(self._data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        parts = {
            "LANGUAGE": self._data["language"],
            "TITLE": html.escape(self._title),
            "POLICY": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'",
            "STYLE": style,
            "SCRIPT": script,
            "SVG": self._svg,
            "DATA": data.replace("<", "\\u003c"),
        }
        return re.sub(r"@@(\w+)@@", lambda part: parts[part[1]], page)

    def save(self, path: str | Path) -> None:
        """Write the page as .html; it opens by a double click. ValueError for another suffix."""
        if Path(path).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"a lesson is a page, and saved as .html, not as {str(path)!r}")
        page = self.html().encode()
        with whole_file(path) as file:
            file.write(page)

    def _repr_html_(self) -> str:
        page = html.escape(self.html())
        return (
            f'<iframe sandbox="allow-scripts" srcdoc="{page}" title="{html.escape(self._title)}"'
            ' style="width:100%;height:760px;border:1px solid #999"></iframe>'
            "<p>If no page shows above, run this cell: only trusted notebooks show stored pages.</p>"
        )


def lesson(
    output: Value,
    *,
    clusters: Mapping[str, Iterable[Value]] | None = None,
    data: Mapping[str, Any] | None = None,
    title: str = "",
    language: str = "en",
) -> Lesson:
    """A page that steps through both passes over the graph of `output`, and recomputes changed numbers.

    `clusters` frame Values, as in draw(). `data` has the leaves that are no parameters, by the name of their
    array, {"x": [x1, x2], "y": y}; by default those in `clusters.data`, as from example_graph. Descent
    moves all other leaves. `language` is "en" or "zh" (Traditional Chinese); the page can switch.

    Raises TypeError if output is no Value, ValueError if data have changed since output was recorded, and
    DrawingError for a graph of more than 250 nodes, or if nothing here renders pictures.

    >>> model = nn.MLP(2, [2, 1], activation="sigmoid", rng=np.random.default_rng(0))
    >>> L, clusters = nn.picture.example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
    >>> lesson(L, clusters=clusters, title="Two neurons").save("lesson.html")
    """
    if not isinstance(output, Value):
        shown = ": call it, as in lesson(model(x))" if callable(output) else f" {output!r:.80}"
        raise TypeError(f"lesson takes a Value, not {type(output).__name__}{shown}")
    if language not in LANGUAGES:
        raise ValueError(f"language is {' or '.join(map(repr, LANGUAGES))}, not {language!r}")
    clusters = checked_clusters(clusters)
    data = getattr(clusters, "data", {}) if data is None else data
    order = topological_order(output)
    if len(order) > MOST_NODES:
        raise DrawingError(
            f"a graph of {len(order):,} nodes is too large for a lesson (the limit is {MOST_NODES}): take a"
            " smaller one, such as one example's loss, a narrower network, or one neuron"
        )
    for v in order:
        if v.row and v.row not in ROWS:
            raise TypeError(
                f"a lesson computes in the page, which knows the table's primitives; {v.op!r} is your own"
            )
        if not math.isfinite(v._data):
            raise ValueError(f"a lesson shows finite numbers, and {v!r} is not")
    check_unchanged(order)
    svg = classed_drawing(order, clusters).svg()
    page = _Page(output, order, leaves_by_name(data))
    title = title or "Back-propagation, step by step"
    return Lesson(title, _cleaned(svg), {"title": title, "language": language, **page.data()})


def _hash(text: str) -> str:
    """The name that a content-security policy has for a script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _cleaned(svg: str) -> str:
    """The drawing without a file's head, and without fonts and titles, which the page sets itself."""
    svg = re.sub(r"<!--.*?-->\s*|<title>.*?</title>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' (font-family|text-anchor|font-size)="[^"]*"', "", svg)
    return re.sub(r"<svg .*?(?=viewBox)", "<svg ", svg, count=1, flags=re.DOTALL)


class _Page:
    """The data of a page: nodes are given by their places in `order`."""

    def __init__(self, output: Value, order: list[Value], given: Mapping[str, np.ndarray]):
        self.output, self.order = output, order
        self.found = matrices(output, given)
        leaves = [v for v in order if not v.row]
        self.quantities = Quantities(output, self.found, leaves, most_operations=3)
        self.entries = Entries(self.found, self.quantities)
        self.number = {v: i for i, v in enumerate(order)}
        self.given = {v for array in given.values() for v in array.flat}
        self.names = {v: self._name(v) for v in order}
        self.by_name = {name: i for name, i in zip(self.names.values(), self.number.values())}
        self.reached = set(topological_order(output, gradient_only=True))
        self.arrays = self.found.arrays
        self.array = {a.name: i for i, a in enumerate(self.arrays)}
        self.written = {a.name for a in self.arrays if self.entries.is_written(a.name)}

    def _name(self, v: Value) -> str:
        """A quantity's name, or its expression, in brackets if that is longer than a call."""
        name = self.quantities.names.get(v)
        if name:
            return name
        text = str(self.quantities.formula(v))
        return text if re.fullmatch(r"[\w√]+\([^()]*\)|−?[\d.]+(e−?\d+)?", text) else f"({text})"

    def data(self) -> dict[str, Any]:
        """All data of the page, as JSON can hold them."""
        lines = [i for i, a in enumerate(self.arrays) if a.line]
        line = {array: n for n, array in enumerate(lines)}
        owner = self._owners()
        places = {v: self.found.place(v) for v in self.order}
        adjoints = {v: self.found.adjoint_place(v) for v in self.order}

        def home(place: Place | None) -> list[Any] | None:
            """The line (None if the array is given), the array and the entry of a place, and its sign."""
            if place is None or (place.array not in owner and place.array not in self.written):
                return None
            line_of = line[self.array[owner[place.array]]] if place.array in owner else None
            i = self.array[place.array]
            shown = place.array in self.written or self.arrays[i].quantity
            flat = int(np.ravel_multi_index(place.index, self.arrays[i].shape)) if place.index else 0
            return [line_of, i if shown else None, flat, place.sign]

        return {
            "root": self.number[self.output],
            "nodes": [
                {
                    "n": self.names[v],
                    "named": v in self.quantities.names,
                    "op": v.op,
                    "x": self._reference(v.x),
                    "y": self._reference(v.y),
                    "d": v._data,
                    "f": self._tree(self.quantities.definition(v)) if v.row else None,
                    "p": [
                        [self.number[o], self._tree(formula(simplified_here(rule)))]
                        for o, (_, rule) in self.quantities.partials(v, self.number).items()
                    ],
                    "reached": v in self.reached,
                    "data": v in self.given,
                    "v": home(places[v]),
                    "g": home(adjoints[v]) if v in self.reached else None,
                }
                for v in self.order
            ],
            "forward": self._forward(),
            "backward": self._backward(),
            "lines": [[self.arrays[i].line.strip(), i] for i in lines],
            "arrays": [
                {
                    "n": a.name,
                    "shape": a.shape,
                    "reads": self._reads(a.name),
                    "e": [self._element(a.name, index) for index in np.ndindex(a.shape)],
                    "u": [self._uses(a.name, index) for index in np.ndindex(a.shape)],
                    "f": [str(self.entries.formula(a.name, index)) for index in np.ndindex(a.shape)]
                    if a.line or a.quantity
                    else [],
                }
                for a in self.arrays
            ],
        }

    def _reference(self, x: Any) -> Any:
        """An operand: a node's place, {"c": number}, a list of those, or None."""
        if type(x) is tuple:
            return [self._reference(each) for each in x]
        return self.number[x] if isinstance(x, Value) else None if x is None else {"c": x}

    def _tree(self, f: Formula) -> Any:
        """A formula as lists with their type at the head, as ["sum", ...]; a Name is a node's place."""
        if isinstance(f, Number):
            return {"c": f.value}
        if isinstance(f, Name):
            return self.by_name[f.text]
        if isinstance(f, Call):
            return ["call", f.function, *map(self._tree, f.operands)]
        heads = {Sum: "sum", Product: "product", Negative: "negative", Quotient: "quotient", Power: "power"}
        parts = [each for part in vars(f).values() for each in (part if isinstance(part, tuple) else (part,))]
        return [heads[type(f)], *map(self._tree, parts)]

    def _forward(self) -> list[int]:
        """The operations, each layer after the one before."""
        height = self.quantities.heights
        operations = [v for v in self.order if v.row]
        return [self.number[v] for v in sorted(operations, key=lambda v: (height[v], natural(self.names[v])))]

    def _backward(self) -> list[int]:
        """The Values that the gradient reaches, each after those that its gradient comes from."""
        distance = {self.output: 0}
        for v in reversed(self.order):
            if v in distance:
                for operand in self.quantities.partials(v, self.number):
                    distance[operand] = max(distance.get(operand, 0), distance[v] + 1)
        found = sorted(distance, key=lambda v: (distance[v], natural(self.names[v])))
        return [self.number[v] for v in found]

    # The matrix program

    def _owners(self) -> dict[str, str]:
        """The array in whose line an array is written: the array itself, or the first that reads it."""
        owner = {a.name: a.name for a in self.arrays if a.line}
        for a in reversed(self.arrays):
            for name in self._direct(a.name):
                if name not in self.written and a.name in owner:
                    owner[name] = owner[a.name]
        return owner

    def _direct(self, name: str) -> list[str]:
        """The arrays that an array is computed from."""
        shape = self.arrays[self.array[name]].shape
        found: dict[str, None] = {}
        for index in np.ndindex(shape):
            for term in self.found.element(name, index).terms:
                found |= {x.array: None for x in term if isinstance(x, Place)}
        return list(found)

    def _reads(self, name: str) -> list[int]:
        """The arrays with a name of their own that an array is computed from, through others."""
        found: dict[int, None] = {}
        for below in self._direct(name):
            i = self.array[below]
            shown = below in self.written or (
                self.arrays[i].quantity and not self.arrays[self.array[name]].line
            )
            found |= {i: None} if shown else dict.fromkeys(self._reads(below))
        return list(found)

    def _element(self, name: str, index: tuple[int, ...]) -> Any:
        """How the page computes an entry: a node's place, or a row of the table and terms of entries."""
        element = self.found.element(name, index)
        if not element.terms:
            return self.number[self._leaves[name, index]]
        terms = [[self._entry(x) for x in term] for term in element.terms]
        return [element.row, terms]

    def _entry(self, x: Any) -> Any:
        """[array, entry, sign], or a number."""
        if not isinstance(x, Place):
            return {"c": x}
        i = self.array[x.array]
        return [i, int(np.ravel_multi_index(x.index, self.arrays[i].shape)) if x.index else 0, x.sign]

    @cached_property
    def _leaves(self) -> dict[tuple[str, tuple[int, ...]], Value]:
        """The leaves by their places."""
        placed = {v: self.found.place(v) for v in self.order if not v.row}
        return {(p.array, p.index): v for v, p in placed.items() if p}

    def _uses(self, name: str, index: tuple[int, ...]) -> list[tuple[int, int]]:
        """The entries with a name of their own that an entry is computed from, through others."""
        line = self.arrays[self.array[name]].line
        found: dict[tuple[int, int], None] = {}
        for term in self.found.element(name, index).terms:
            for x in term:
                if isinstance(x, Place):
                    shown = x.array in self.written or (
                        not line and self.arrays[self.array[x.array]].quantity
                    )
                    found |= dict.fromkeys(
                        [tuple(self._entry(x)[:2])] if shown else self._uses(x.array, x.index)
                    )
        return list(found)
