"""Explanations: their numbers are backward()'s, their rules are true, and published examples come out."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from programs import VALUES, programs

import autograd
import nn
from autograd import Value, dot, explain, maximum, ops, total, where
from autograd.learn.formula import Name, Number, Text, substituted
from autograd.program import matrices
from nn.picture import example_graph

RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
FUNCTIONS = {row.name: row for row in ops.TABLE.values()} | {
    "max": max, "min": min, "abs": abs, "sigma": ops.sigmoid, "exp": math.exp, "sgn": ops.sign,
    "log": math.log, "sqrt": math.sqrt, "where": lambda c, x, y: x if c else y, "own_cbrt": VALUES["cube"],
}  # fmt: skip


def evaluated(formula: Any) -> float:
    """A formula of numbers, read as Python from its text."""
    text = Text(17).write(formula)
    text = re.sub(r"([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", lambda power: f"**({power[1].translate(RAISED)})", text)
    for sign, python in {
        "·": "*",
        "−": "-",
        "^": "**",
        "√": "sqrt",
        "σ": "sigma",
        "≤": "<=",
        " = ": " == ",
    }.items():
        text = text.replace(sign, python)
    return float(eval(text, dict(FUNCTIONS)))


def agrees(e: Any, output: Value, leaf: Value) -> None:
    """Each row's numbers multiply and add to its result, which is backward()'s, and so do its rules."""
    for v in e_graph(output):
        v.grad = 0.0
    output.backward()
    assert e.value == leaf.grad
    values = {e.output: 1.0}
    for row in e.rows:
        assert sum(way.value for way in row.ways) == pytest.approx(row.value, rel=1e-9, abs=1e-12)
        for way in row.ways:
            assert way.arriving == values[way.through]
            rule = evaluated(substituted(way.rule, e.known))
            if "step(" not in str(way.rule):  # which rounding may take to the other side
                assert rule == pytest.approx(way.partial, rel=1e-9, abs=1e-12)
        values[row.quantity] = row.value
    assert not e.rows or e.rows[-1].value == e.value
    if e.entry:
        assert e.entry.value == pytest.approx(e.value, rel=1e-9, abs=1e-12)


def e_graph(output: Value) -> Any:
    return autograd.graph.topological_order(output)


def labelled(v: Value, name: str) -> Value:
    v.label = name
    return v


def mazur() -> dict[str, Value]:
    """The well-known example with two inputs, two hidden units and two outputs, named as its text has it."""
    numbers = dict(w1=0.15, w2=0.2, w3=0.25, w4=0.3, w5=0.4, w6=0.45, w7=0.5, w8=0.55, b1=0.35, b2=0.6)
    v = {name: Value(x, name) for name, x in dict(numbers, i1=0.05, i2=0.1, t1=0.01, t2=0.99).items()}

    def unit(net: str, out: str, a: str, x: str, b: str, y: str, bias: str) -> None:
        v[net] = labelled(v[a] * v[x] + v[b] * v[y] + v[bias], net)
        v[out] = labelled(v[net].sigmoid(), out)

    unit("net_h1", "out_h1", "w1", "i1", "w2", "i2", "b1")
    unit("net_h2", "out_h2", "w3", "i1", "w4", "i2", "b1")
    unit("net_o1", "out_o1", "w5", "out_h1", "w6", "out_h2", "b2")
    unit("net_o2", "out_o2", "w7", "out_h1", "w8", "out_h2", "b2")
    for i in "12":
        v[f"E_o{i}"] = labelled(0.5 * (v[f"t{i}"] - v[f"out_o{i}"]) ** 2, f"E_o{i}")
    v["E"] = labelled(v["E_o1"] + v["E_o2"], "E")
    return v


def test_the_well_known_example_comes_out_to_its_printed_digits() -> None:
    v = mazur()
    data = {"i": [v["i1"], v["i2"]], "t": [v["t1"], v["t2"]]}
    w5, w1 = (explain(v["E"], v[name], data=data) for name in ("w5", "w1"))
    at = {row.quantity: row for e in (w5, w1) for row in e.rows}
    printed = dict(out_o1=0.74136507, net_o1=0.138498562, out_h1=0.036350306, w5=0.082167041, w1=0.000438568)
    assert {name: round(at[name].value, 9) for name in printed} == printed
    [through] = at["net_o1"].ways
    assert round(through.partial, 9) == 0.186815602 and str(through.rule) == "out_o1(1 − out_o1)"
    [through] = at["out_o1"].ways
    assert str(through.rule) == "out_o1 − t1"
    first, second = at["out_h1"].ways
    assert round(first.value, 9) == 0.055399425 and round(second.value, 9) == -0.019049118
    assert round(at["net_h1"].ways[0].partial, 9) == 0.241300709
    assert round(at["w5"].ways[0].partial, 9) == 0.593269992
    assert w5.entry and w5.entry.line == "grad_w5_w8 = delta2[:, None] * h1  # (2, 2)"
    assert f"{w5.entry.name} = {w5.entry.formula}" == "grad_w5_w8[0,0] = delta2[0] · h1[0]"
    assert w5.entry.meanings == (("delta2[0]", "∂E/∂net_o1"), ("h1[0]", "out_h1"))


def test_published_gates_and_neurons_come_out() -> None:
    def gradients(output: Value, *leaves: Any) -> list[float]:
        return [round(explain(output, leaf).value, 4) for leaf in leaves]

    x, y, z = Value(-2.0, "x"), Value(5.0, "y"), Value(-4.0, "z")
    q = labelled(x + y, "q")
    assert q.data == 3.0 and gradients(q * z, x, y, z, q) == [-4, -4, 3, -4]
    x, y, z, w = Value(3.0, "x"), Value(-4.0, "y"), Value(2.0, "z"), Value(-1.0, "w")
    f = 2.0 * (x * y + maximum(z, w))
    assert f.data == -20.0 and gradients(f, x, y, z, w) == [-8, 6, 2, 0]
    w0, w1, w2, x0, x1 = map(Value, (2.0, -3.0, -3.0, -1.0, -2.0))
    steps = [w0 * x0, w1 * x1, w0 * x0 + w1 * x1]
    dot = steps[2] + w2
    minus, e = -dot, (-dot).exp()
    assert [v.data for v in (*steps, dot, minus)] == [-2, 6, 4, 1, -1]
    assert [round(x, 2) for x in (e.data, (e + 1.0).data, (1.0 / (e + 1.0)).data)] == [0.37, 1.37, 0.73]
    below = e + 1.0
    out = 1.0 / below
    e = below.parents[0]
    back = [explain(out, v).value for v in (below, e, e.parents[0], e.parents[0].parents[0])]
    assert [round(g, 2) for g in back] == [-0.53, -0.53, -0.20, 0.20]  # through −x, of which 1.00 is below
    graph = 1.0 / (1.0 + (-(w0 * x0 + w1 * x1 + w2)).exp())
    found = [round(explain(graph, v).value, 2) for v in (x0, x1, w0, w1, w2)]
    assert found == [0.39, -0.59, -0.2, -0.39, 0.2]
    a, b = Value(2.0, "a"), Value(1.0, "b")
    c, d = labelled(a + b, "c"), labelled(b + 1.0, "d")
    assert [(c * d).data, c.data, d.data] == [6, 3, 2] and gradients(c * d, a, b) == [2, 5]
    a, b, c, f = Value(2.0, "a"), Value(-3.0, "b"), Value(10.0, "c"), Value(-2.0, "f")
    e = labelled(a * b, "e")
    d = labelled(e + c, "d")
    assert (d * f).data == -8 and gradients(d * f, a, b, c, f, d, e) == [6, -4, -2, 4, -2, -2]
    x1, x2, w1, w2 = Value(2.0, "x1"), Value(0.0, "x2"), Value(-3.0, "w1"), Value(1.0, "w2")
    o = (x1 * w1 + x2 * w2 + 6.8813735870195432).tanh()
    assert round(o.data, 4) == 0.7071 and gradients(o, x1, w1, x2, w2) == [-1.5, 1.0, 0.5, 0.0]
    a, b = Value(-4.0, "a"), Value(2.0, "b")
    c, d = a + b, a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    f = (c - d) ** 2
    g = f / 2.0 + 10.0 / f
    assert round(g.data, 4) == 24.7041 and gradients(g, a, b) == [138.8338, 645.5773]


def lab(point: tuple[float, float] = (0.2, 0.7), target: float = 1.0, **options: Any) -> Any:
    settings: dict[str, Any] = dict(activation="sigmoid", bias=False, rng=np.random.default_rng(0)) | options
    model = nn.MLP(2, [4, 4, 1], **settings)
    L, clusters = example_graph(model, point, target, nn.squared_error)
    return model, L, clusters


def test_all_weights_of_the_lab_are_entries_of_its_matrix_formulas() -> None:
    model, L, clusters = lab()
    for w in model.parameters():
        e = explain(L, w, data=clusters.data)
        agrees(e, L, w)
        assert e.entry and e.entry.array == f"grad_{w.label[:2]}"
    w = model.layers[1].neurons[2].w[1]
    e = explain(L, w, data=clusters.data)
    assert [row.quantity for row in e.rows] == ["p", "h2[2]", "z2[2]", "w2[2,1]"]
    assert [row.place for row in e.rows] == ["error", "", "delta2[2]", "grad_w2[2,1]"]
    lines = str(e).splitlines()
    assert "∂L/∂z2[2] = ∂L/∂h2[2] · ∂h2[2]/∂z2[2]" in lines
    assert "          = ∂L/∂h2[2] · h2[2](1 − h2[2])" in lines
    assert "    grad_w2[2,1] = delta2[2] · h1[1]" in lines
    program = matrices(L, clusters.data)
    assert [a.line for a in program.arrays if a.name == "h2"] == ["h2 = sigmoid(w2 @ h1)  # (4,)"]


def test_a_data_set_is_added_row_by_row() -> None:
    model = lab()[0]

    @autograd.compile
    def loss(x: Any, y: Any) -> Any:
        return nn.squared_error(model(x), y)

    X, Y = nn.data.xor()
    model.zero_grad()
    loss.backward(X, Y[:, 0])
    for w in model.parameters():
        e = loss.explain(w, X, Y[:, 0])
        assert e.value == w.grad == e.rows[-1].value
        assert e.entry.rows.products.sum() == pytest.approx(w.grad, rel=1e-12)
        assert sum(way.value for way in e.rows[-1].ways) == pytest.approx(w.grad, rel=1e-12)
        parts = [way.value for way in e.rows[-1].ways]
        assert parts == pytest.approx(e.entry.rows.products, rel=1e-9, abs=1e-15)
        assert e.example == np.argmax(np.abs(parts))
        assert e.rows[-2].value == pytest.approx(e.rows[-1].ways[e.example].partial, rel=1e-12)
    e = loss.explain(model.layers[1].neurons[2].w[1], X, Y[:, 0])
    assert str(e.entry.formula) == "Σₙ delta2[n,2] · h1[n,1]" and e.entry.rows.columns == (
        "delta2[n,2]",
        "h1[n,1]",
    )
    with pytest.raises(ValueError, match="the derivative is 0: loss was not computed from u"):
        loss.explain(Value(1.0, "u"), X, Y[:, 0])


@settings(max_examples=15, deadline=None)
@given(programs())
def test_explanations_of_random_graphs_agree_with_backward(program: Any) -> None:
    leaves = [Value(x, f"x{i}") for i, x in enumerate(program.inputs)]
    output = program(*leaves)
    if not isinstance(output, Value):
        return
    for leaf in leaves:
        try:
            e = explain(output, leaf)
        except ValueError as error:
            assert "the derivative is 0" in str(error) or "too long to read" in str(error)
            continue
        agrees(e, output, leaf)
        assert str(e) and e.latex() and e._repr_html_()


def recurrent() -> tuple[Value, Value]:
    w, u = Value(0.5, "w"), Value(-0.3, "u")
    h = Value(0.1, "h")
    for x in (0.2, -0.4, 0.9):
        h = (w * h + u * x).tanh()
    return h, w


def softmax() -> tuple[Value, Value]:
    z = [Value(x, f"z[{i}]") for i, x in enumerate((0.3, -1.2, 0.7))]
    e = [x.exp() for x in z]
    return -(e[1] / sum(e)).log(), z[0]


def choice() -> Any:
    x, a = Value(1.1, "x"), Value(0.3, "a")
    return where(x > 0, x * a, a.exp()) + maximum(x, a) + abs(a) + a.sqrt() + a**3 + 2.0**a, a


def begun_with_leaves() -> tuple[Value, Value]:
    a, b = w, _ = Value(0.3, "w"), Value(0.2, "x")
    for _ in range(5):
        a, b = total(maximum([a, b], [b, 0.0])).tanh(), (b + b).tanh()
    return a + b, w


@pytest.mark.parametrize("graph", [recurrent, softmax, choice, begun_with_leaves])
def test_graphs_of_other_kinds(graph: Callable[..., Any]) -> None:
    output, leaf = graph()
    agrees(explain(output, leaf), output, leaf)


def test_a_primitive_of_ones_own_explains_itself() -> None:
    sinc = ops.Primitive(
        "sinc",
        "sinc",
        lambda x: math.sin(x) / x,
        lambda x: np.sin(x) / x,
        lambda x, out: (ops.cos(x) - out) / x,
    )
    x = Value(1.0, "x")
    y = sinc(x)
    e = explain(y, x)
    assert str(e.rows[0].ways[0].rule) == "(cos(x) − L) / x" and e.value == autograd.grad(sinc)(1.0)


def test_as_many_rows_as_quantities_and_not_as_paths() -> None:
    x = y = Value(1.1, "x")
    for _ in range(20):
        y = y + y
    e = explain(y, x)
    assert e.value == 2.0**20 and len(e.rows) == 20
    model = nn.MLP(2, [64, 64, 1], rng=np.random.default_rng(0))
    L, clusters = example_graph(model, [0.5, -0.5], 1.0, nn.squared_error)
    w = model.layers[0].neurons[3].w[1]
    e = explain(L, w, data=clusters.data)
    agrees(e, L, w)
    assert len(e.rows) < 140 and max(map(len, str(e).splitlines())) < 160


def test_programs_of_other_kinds() -> None:
    b = Value(0.4, "b")

    @autograd.compile
    def loss(x: Any, y: Any) -> Any:
        return (b * x - y) ** 2 + 0.1 * b * b

    e = loss.explain(b, y=[1.0, 2.0, 3.0], x=[0.1, 0.5, -0.3])  # by name, in another order
    assert e.value == pytest.approx(e.entry.value) and "x[n]" in str(e.entry.formula)
    assert "The sum over the rows in this" in str(e)
    tables = [Value(x, f"t[{i}]") for i, x in enumerate((0.1, 0.2, 2.0))]
    look_up = autograd.compile(lambda i, y: (tables[int(i)] - y) ** 2)
    e = look_up.explain(tables[2], [0, 1, 2], [0.3, 0.5, 2.0])  # only the last row depends on it, by 0
    assert e.value == 0.0 and e.example == 2 and e.output == "f"
    b.label = "loss[0]"  # as the rows of the result are called
    e = loss.explain(b, [0.1, 0.2], [1.0, 2.0])
    assert (e.output, e.quantity) == ("mean_loss", "loss[0]")
    x = np.random.default_rng(0).normal(size=(3, 2, 2))
    w = [[Value(0.1 * (i + 2 * j + 1), f"w1[{i},{j}]") for j in range(2)] for i in range(2)]

    def grid(x: Any) -> Any:
        terms = [(i, j) for i in range(2) for j in range(2)]
        return sum((0.3 * dot(w[j], x[i])).tanh() * (1.0 + 0.1 * (2 * i + j)) for i, j in terms)

    program = autograd.compile(grid)
    e = program.explain(w[0][0], x)
    assert e.value == program.value_and_grad(x)[1][0].flat[0] == pytest.approx(e.entry.value)


def test_rows_of_another_shape_have_a_program_of_their_own() -> None:
    w = Value(0.3, "w")
    program = autograd.compile(lambda x, y: sum((w * x[0] - t) ** 2 for t in np.atleast_1d(y)))
    x, y = np.array([[0.5], [1.0]]), np.array([[1.0], [2.0]])
    for _ in range(2):
        for target in (y[:, 0], y):
            e = program.explain(w, x, target)
            assert e.value == e.entry.value == program.value_and_grad(x, target)[1][0]


def test_partial_derivatives_along_one_way_have_no_name_of_the_whole() -> None:
    x = Value(0.5, "x")
    h = labelled(x.tanh(), "h")
    assert "∂L/∂x = h + ∂L/∂h · ∂h/∂x" in str(explain(h * x, x))
    u, v = Value(1.5, "u"), Value(0.3, "v")
    q = ((((v + 1.0).sin() + v).cos() * 2.0 + v).sin() + 1.0).cos()
    assert {name for name, _ in explain(u * u * q, u).definitions} == {"L", "v1"}  # v1 is used in L's
    z = labelled(x * u, "z")
    assert explain(x.sin() - z * u.sin(), z).entry is None  # the program has its negative
    assert str(explain(u ** Value(2.0, "k"), u).rows[0].ways[0].rule) == "k · u^(k − 1)"


def test_arrays_have_the_learners_names() -> None:
    w = [[Value(0.1 * (i + j + 1), f"w[{i},{j}]") for j in range(2)] for i in range(2)]
    x = [Value(0.5, "x[0]"), Value(-0.2, "x[1]")]
    for names, array in ((("a[0]", "a[1]"), "a"), (("h1[1]", "h1[0]"), "h1_2")):
        h = [labelled(dot(row, x).tanh(), name) for row, name in zip(w, names)]
        program = matrices((h[0] - 2.0 * h[1]) ** 2, {"x": x})
        place = program.place(h[0])
        assert place and place.array == array


def test_what_cannot_be_explained_says_why() -> None:
    a, b = Value(2.0, "a"), Value(3.0, "b")
    for data, error, said in (
        ([a], TypeError, "data is a dict from names to Values"),
        ({"q": [a, a]}, ValueError, "twice, the second time in 'q'"),
    ):
        with pytest.raises(error, match=said):
            explain(a * b, b, data=data)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="digits is a whole number from 1 to 17, not -1"):
        explain(a * b, b, digits=-1)
    with pytest.raises(TypeError, match=r"explain takes Values, not float 3\.0"):
        explain(3.0, a)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the derivative is 0: y was not computed from b"):
        explain(labelled(a * 2.0, "y"), b)
    with pytest.raises(
        ValueError, match=r"the derivative is 0: y depends on b only through comparisons, steps or"
    ):
        explain(labelled(a * b.detach() + where(b > a, 1.0, a), "y"), b)
    y = a * b
    a.data = 5.0
    with pytest.raises(ValueError, match=r"data were changed after .* was recorded: record it again"):
        explain(y, b)
    y = a
    for i in range(500):
        y = labelled((y * b).tanh() if i % 2 else y + a, f"y{i}")
    with pytest.raises(
        ValueError, match=r"50\d quantities is too long to read \(the limit is 200\): explain a part"
    ):
        explain(y, a)
    assert explain(y, y).rows == ()


def test_labels_are_data() -> None:
    hostile = '</script><img src=x onerror="alert(1)">'
    x, y = Value(1.5, hostile), Value(2.0, "a_b{c}$%")
    e = explain(labelled(x * y, "L"), x)
    assert "<img" not in e._repr_html_() and "&lt;img" in e._repr_html_()
    assert r"\$" in e.latex() and r"\%" in e.latex()
    same = labelled(x * 2.0, "L")
    assert explain(labelled(same + x, "L"), x).rows[0].quantity != "L"


def test_formulas_are_written_as_they_are_read() -> None:
    w, h, o, t = (Value(0.3, name) for name in ("w2[2,1]", "h1[0]", "o", "t"))
    from autograd.learn.formula import LaTeX, MathML, formula

    for v, text, latex in [
        (h * (1.0 - h), "h1[0](1 − h1[0])", r"h^{(1)}_{0}\left(1 - h^{(1)}_{0}\right)"),
        (w / h * o, "(w2[2,1] / h1[0]) · o", r"\frac{w^{(2)}_{2,1}}{h^{(1)}_{0}} \cdot o"),
        (o - (t - w), "o − (t − w2[2,1])", r"o - \left(t - w^{(2)}_{2,1}\right)"),
        (-2.0 * o**2, "(−2) · o²", r"\left(-2\right) \cdot {o}^{2}"),
        ((-o).exp(), "exp(−o)", r"\mathrm{e}^{-o}"),
    ]:
        assert str(formula(v)) == text and LaTeX().write(formula(v)) == latex
    assert MathML().write(Name("delta2[n,2]")) == (
        "<msubsup><mi>δ</mi><mn>n,2</mn><mrow><mo>(</mo><mn>2</mn><mo>)</mo></mrow></msubsup>"
    )
    assert [str(Number(x)) for x in (-6.614e-4, 12345678.0, 0.25, 3.0)] == [
        "−6.614e−4",
        "1.235e7",
        "0.25",
        "3",
    ]
