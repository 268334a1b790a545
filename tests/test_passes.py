"""The passes of compile: stages that can be shown, and the names of arrays."""

import contextlib
import functools
import io
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from structures import structured

import autograd
import nn
from autograd import Value, dot, total
from autograd.graph import topological_order
from autograd.ops import TABLE
from autograd.program import PASSES, Place, matrices

X, Y = np.random.default_rng(0).normal(size=(5, 2)), np.arange(5.0)


def source_of(f: Callable[..., Any], *arrays: Any) -> str:
    program = autograd.compile(f, engine="numpy")
    program.backward(*arrays)
    return program.source


def shown(program: Any, stage: str) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        program.show(stage)
    return out.getvalue().splitlines()


def mazur(w: list[Value]) -> Callable[..., Any]:
    def loss(x: Any, t: Any) -> Any:
        h = [(w[2 * k] * x[0] + w[2 * k + 1] * x[1] + w[8]).sigmoid() for k in range(2)]
        out = [(w[4 + 2 * k] * h[0] + w[5 + 2 * k] * h[1] + w[9]).sigmoid() for k in range(2)]
        return 0.5 * (t[0] - out[0]) ** 2 + 0.5 * (t[1] - out[1]) ** 2

    return loss


def test_every_stage_can_be_shown() -> None:
    model = nn.MLP(2, [4, 1], activation="tanh", bias=False)
    program = autograd.compile(lambda x, y: nn.squared_error(model(x), y))
    with pytest.raises(RuntimeError, match="recorded nothing"):
        program.show("lift")
    program.backward(X, Y)
    for p in model.parameters():
        p.data += 1.0
    stages = {stage: shown(program, stage) for stage in PASSES}
    assert "\n".join(stages["print"]).strip() == program.source.strip()
    assert "v1 = neg(y)" not in stages["simplify"] and stages["record"][-1].startswith("return v")
    assert sum("= dot(" in line for line in stages["simplify"]) == 5
    assert any(re.fullmatch(r"∂ by w1\[0,0\]: v\d+", line) for line in stages["simplify again"])
    assert "z1[i] = Σj w1[i, j] x[j]" in stages["name"] and "h1[i] = tanh(z1[i])" in stages["name"]
    assert "grad_w1[i, j] = ΣN delta1[i] x[j]" in stages["name"]
    assert stages["name"][-1] == "return result, grad_w1, grad_w2"
    assert len(stages["plan"]) == len(stages["name"]) < len(stages["lift"])
    with pytest.raises(ValueError, match="unknown pass 'draw'; there are record, simplify"):
        program.show("draw")


def recurrent(w: Any, u: Any, x: Any, state: str) -> Any:
    """Three steps of a recurrent network; one row of its weights is in other dots, too."""
    h: list[Any] = [x[0]] * len(x) if state == "data" else [0.0] * len(x)
    out: Any = w[0][0]
    for t in range(3):
        if state == "zeros beside data" or t == 1:
            z = [dot([*a, *b], [*h, *x]).tanh() for a, b in zip(w, u)]
        else:
            z = [(dot(a, h) + dot(b, x)).tanh() for a, b in zip(w, u)]
        h = [z[0] * z[1] + 0.5 * z[2] + y for y in x]
        out = out + z[2] * dot(u[1], h) * h[-1]
    return out


@pytest.mark.parametrize("state", ["data", "zeros", "zeros beside data"])
def test_the_gradient_by_weights_takes_as_many_values_for_any_width(state: str) -> None:
    """There are Products for all rows but the one of which a weight is used alone, too."""

    def differentiated(width: int) -> tuple[int, int]:
        rng = np.random.default_rng(0)
        w, u = ([[Value(x) for x in row] for row in rng.normal(size=(3, width))] for _ in range(2))
        data = rng.normal(size=(4, width))
        program = autograd.compile(lambda x: recurrent(w, u, x, state), engine="numpy")
        _, gradients = program.value_and_grad(data)
        total([recurrent(w, u, [*map(Value, row)], state) for row in data.tolist()]).backward()
        for leaf, gradient in zip(program.leaves, gradients):
            np.testing.assert_allclose(4.0 * gradient.ravel(), [v.grad for v in leaf.flat], atol=1e-12)
        lines = shown(program, "simplify again")
        return sum("= row_sum(" in line for line in lines), sum("∂ by [" in line for line in lines)

    assert differentiated(4) == differentiated(40)
    assert differentiated(4)[1] >= 6


def test_weights_whose_adjoints_are_numbers_or_differ_by_a_sign() -> None:
    w, data = (
        [[Value(0.1 * i + j) for j in range(3)] for i in range(4)],
        np.random.default_rng(0).normal(size=(5, 3)),
    )
    sums = autograd.compile(lambda x: 2.0 * dot(w[0], x) + 3.0 * dot(w[0], x[::-1]))
    _, (gradient,) = sums.value_and_grad(data)
    np.testing.assert_allclose(gradient, (2.0 * data + 3.0 * data[:, ::-1]).mean(axis=0))
    signs = np.array([1.0, 1.0, -1.0, -1.0])
    waves = autograd.compile(
        lambda x: total([-dot(a, x).sin() if s < 0.0 else dot(a, x).sin() for a, s in zip(w, signs)])
    )
    _, (gradient,) = waves.value_and_grad(data)
    z = data @ np.array([[v.data for v in row] for row in w]).T
    np.testing.assert_allclose(gradient, (signs * np.cos(z)).T @ data / 5.0)
    halves = autograd.compile(lambda x: total([(0.5 * dot(a, x)).sin() for a in w]))
    _, (gradient,) = halves.value_and_grad(data)
    np.testing.assert_allclose(gradient, 0.5 * np.cos(0.5 * z).T @ data / 5.0)
    for program, products in ((sums, 0), (waves, 4), (halves, 4)):  # numbers take Values
        assert sum("∂ by [" in line for line in shown(program, "simplify again")) == products


@pytest.mark.parametrize("data", [np.arange(1.0, 4.0), np.ones((3, 2)) * [1.0, 2.0]])
def test_weights_of_one_number_have_one_gradient(data: np.ndarray) -> None:
    w = [Value(x) for x in (0.5, -1.0, 2.0)]
    program = autograd.compile(lambda x: dot(w, [x[0] if data.ndim > 1 else x] * 3) ** 2, reduce="sum")
    _, gradients = program.value_and_grad(data)
    first = data.reshape(3, -1)[:, 0]
    np.testing.assert_allclose(np.concatenate([*map(np.ravel, gradients)]), [2.0 * 1.5 * first @ first] * 3)


def test_every_stage_of_any_program_can_be_shown() -> None:
    for seed in range(5):
        f, _, arrays = structured(seed)
        program = autograd.compile(f, engine="numpy")
        program.value_and_grad(*arrays)
        for stage in PASSES:
            assert shown(program, stage)


def test_no_pass_compares_values_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other Values may have the same number in the recorded row."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("two Values were compared")

    def guarded(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def guarded_run(stage: Any) -> Any:
            with monkeypatch.context() as during:
                during.setattr(Value, "__eq__", refuse)
                return run(stage)

        return guarded_run

    for name in [*PASSES][1:]:
        monkeypatch.setitem(PASSES, name, guarded(PASSES[name]))
    for seed in range(30):
        f, _, arrays = structured(seed)
        autograd.compile(f, engine="numpy").value_and_grad(*arrays)
    w = [Value(1.0), Value(2.0)]
    autograd.compile(lambda x: [total([0.0 * x[1].sin(), x[0].tanh(), p := dot(w, x)]), p * p])(
        np.ones((2, 2))
    )


def test_names_of_the_textbooks_network() -> None:
    w = [Value(0.1 * k, f"w{k + 1}") for k in range(8)] + [Value(0.3, "b1"), Value(0.6, "b2")]
    source = source_of(mazur(w), X, X)
    for line in (
        "h1 = sigmoid(x @ w1_w4.T + b1)",
        "h2 = sigmoid(h1 @ w5_w8.T + b2)",
        "grad_w5_w8 = delta2.T @ h1",
        "delta1 = (delta2 @ w5_w8) * (h1 * (1.0 - h1))",
    ):
        assert line in source
    assert not re.search(r"\b(w[1-8]|t_2 @ w1)\b *=", source)


@pytest.mark.parametrize("error", [lambda p, y: 0.5 * (p - y) ** 2, lambda p, y: 0.5 * (y - p) ** 2])
def test_deltas_are_found_with_either_sign_and_biases(error: Callable[..., Any]) -> None:
    model = nn.MLP(2, [3, 3, 1], activation="sigmoid")
    source = source_of(lambda x, y: error(model(x), y), X, Y)
    for line in ("grad_w3 = delta3 @ h2", "grad_b2 = xp.sum(delta2, axis=0)", "grad_w1 = delta1.T @ x"):
        assert line in source


def test_unlabelled_leaves_are_named_after_the_module_that_holds_them() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            self.bias = [Value(0.1), Value(0.2)]
            self.norm: Any = None

    class Model(nn.Module):
        def __init__(self) -> None:
            self.layers = [Norm(), Norm()]
            self.layers[1].norm = Norm()

        def __call__(self, x: Any) -> Any:
            return sum(b * x[i] for i, b in enumerate(self.layers[1].norm.bias))

    model = Model()
    assert "norm_bias" in source_of(lambda x, y: nn.squared_error(model(x), y), X, Y)
    nearest = model.layers[1].norm.bias  # a list that f reaches sooner than the Module
    assert "norm_bias" in source_of(lambda x, y: model(x) * nearest[0] - y, X, Y)
    assert not model.layers[1].norm.bias[0].label


def matrix(n: int, m: int, label: str = "") -> list[list[Value]]:
    return [[Value(0.1 * i - 0.2 * j, label and f"{label}[{i},{j}]") for j in range(m)] for i in range(n)]


def test_leaves_have_the_shapes_that_were_declared() -> None:
    layers = [nn.Layer(4, 3, nonlin=False), nn.Layer(4, 3, nonlin=False)]  # with the same labels w, b
    nest, array, kernels = matrix(3, 4), np.array(matrix(3, 4)), [matrix(2, 2), matrix(2, 2)]

    def f(x: Any) -> Any:
        rows = [dot(row, x) for row in nest] + [dot(row, x) for row in array]
        outs = rows + layers[0](x) + layers[1](x)
        windows = (dot(ws, x[i : i + 2]) for kernel in kernels for i, ws in enumerate(kernel))
        return sum(z * z for z in outs) + sum(z.tanh() for z in windows)

    program = autograd.compile(f, engine="numpy")
    program.backward(np.random.default_rng(0).normal(size=(5, 4)))
    assert sorted(program.shapes) == [(2, 2, 2), (3,), (3,), (3, 4), (3, 4), (3, 4), (3, 4)]
    assert any((leaf == array).all() for leaf in program.leaves if leaf.shape == array.shape)
    assert any((leaf == nest).all() for leaf in program.leaves if leaf.shape == array.shape)


def test_what_is_no_array_of_leaves_declares_none() -> None:
    v, w = Value(0.2), Value(0.3)
    itself: list[Any] = [v]
    itself.append(itself)
    row = [v] * 300
    nests = [itself, [[row] * 300] * 300, [[v, w], [v]], np.array([[1], {}], dtype=object)]

    class Other:
        def named_parameters(self) -> Any:
            return [("nests", nests[-1])]

    other = Other()
    program = autograd.compile(lambda x: v * x + w * len(nests) + 0.0 * len(vars(other)), engine="numpy")
    assert program.backward(np.ones(3)) == pytest.approx(1.4) and program.shapes == [(), ()]


def test_labels_that_several_arrays_have_give_way_to_the_modules_names() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            self.key, self.query = nn.Layer(2, 3), nn.Layer(2, 3)

        def __call__(self, x: Any) -> Any:
            return dot(self.key(x), self.query(x))

    model = Model()
    assert "grad_query_weight" in source_of(lambda x, y: model(x) - y, X, Y)
    layers = [nn.Layer(2, 3), nn.Layer(2, 3)]  # both are called "weight": they keep their labels
    source = source_of(lambda x, y: dot(layers[0](x), layers[1](x)) - y, X, Y)
    assert "grad_w = " in source and "grad_w_2 = " in source


def test_sums_and_softmaxes_that_grow_with_the_position_are_matrices() -> None:
    def f(q: Any, k: Any) -> Any:
        out: Any = 0.0
        for i in range(6):
            shares = nn.softmax([dot(q[i], k[j]) * w for j in range(i + 1)])
            out += total(dot(shares, [k[j][c] for j in range(i + 1)]) ** 2 for c in range(3))
        return out

    w = Value(0.7, "w")
    q, k = np.random.default_rng(0).normal(size=(2, 4, 6, 3))
    program = autograd.compile(f, engine="numpy")
    loss = program.backward(q, k)
    assert loss == pytest.approx(np.mean([f(*rows).data for rows in zip(q, k)]), rel=1e-14)
    grad, w.grad = w.grad, 0.0
    for rows in zip(q, k):
        f(*rows).backward()
    assert grad == pytest.approx(w.grad / len(q), rel=1e-13)
    lines = program.source.partition("N = ")[2].count(" = ")
    assert "largest" in program.source and lines <= 14, program.source


def test_no_array_has_the_label_of_a_leaf() -> None:
    h1, t, delta1 = Value(0.5, "h1"), Value(0.4, "t"), Value(0.3, "delta1")
    w = [[Value(0.1), Value(0.2)], [Value(0.3), Value(0.4)]]
    f = lambda x: t * sum((r[0] * x[0] + r[1] * x[1] + h1).tanh() for r in w) ** 2 + delta1  # noqa: E731
    source = source_of(f, X)
    assert not re.search(r"^ *(h1|t|delta1) =", source, re.MULTILINE)
    assert {"h1", "t", "delta1"} <= set(re.findall(r"_gradient\((.*)\)", source)[0].split(", "))


def elements_agree(m: Any, numbers: Any) -> int:
    """Each entry of each array, computed from the entries that it is said to be computed from."""
    rows = max((len(numbers[a.name]) for a in m.arrays if a.by_row), default=1)

    def number(x: Any, i: Any) -> Any:
        if not isinstance(x, Place):
            return x
        if x.array == "N":
            return float(rows)
        array = by_name[x.array]
        return x.sign * numbers[x.array][(i, *x.index) if array.by_row else x.index]

    by_name = {a.name: a for a in m.arrays}
    computed = 0
    for a in m.arrays:
        for index in np.ndindex(a.shape):
            e = m.element(a.name, index)
            for i in range(rows) if a.by_row else [0]:
                if e.row:
                    operands = [number(x, i) for x in e.terms[0]]
                    operands[1:] = [tuple(operands[1:])] if e.row == "where" else operands[1:]
                    compute = TABLE[e.row].compute
                    reduces = len(operands) > 2 and e.row in ("maximum", "minimum")
                    found = functools.reduce(compute, operands) if reduces else compute(*operands)
                elif e.terms:
                    over = range(rows) if e.over_rows else [i]
                    found = sum(math.prod(number(x, k) for x in term) for term in e.terms for k in over)
                else:
                    continue
                computed += 1
                entry = float(numbers[a.name][(i, *index) if a.by_row else index])
                assert found == pytest.approx(entry, rel=1e-9, abs=1e-12), (a.name, index)
    return computed


def test_matrices_of_one_example_are_the_textbooks() -> None:
    names = "w1 w2 w3 w4 w5 w6 w7 w8 b1 b2".split()
    w = [Value(x, name) for x, name in zip((0.15, 0.2, 0.25, 0.3, 0.4, 0.45, 0.5, 0.55, 0.35, 0.6), names)]
    x, t = [Value(0.05, "i1"), Value(0.1, "i2")], [Value(0.01), Value(0.99)]
    loss = mazur(w)(x, t)
    m = matrices(loss, {"x": x, "t": t})
    numbers = m.run()
    assert numbers["h1"] == pytest.approx([0.593269992, 0.596884378], abs=1e-9)
    assert numbers["h2"] == pytest.approx([0.75136507, 0.772928465], abs=1e-9)
    assert numbers["loss"] == pytest.approx(0.298371109, abs=1e-9)
    assert numbers["delta2"][0] == pytest.approx(0.138498562, abs=1e-9)
    assert numbers["grad_w5_w8"][0, 0] == pytest.approx(0.082167041, abs=1e-9)
    assert numbers["grad_w1_w4"][0, 0] == pytest.approx(0.000438568, abs=1e-9)
    assert elements_agree(m, numbers) > 40
    loss.backward()
    found = {"place": 0, "adjoint": 0}
    for v in topological_order(loss):
        for what, place, right in (("place", m.place(v), v.data), ("adjoint", m.adjoint_place(v), v.grad)):
            if place:
                found[what] += 1
                assert place.sign * numbers[place.array][place.index] == pytest.approx(right, rel=1e-12)
    assert found["place"] >= 25 and found["adjoint"] >= 20
    assert m.adjoint_place(w[4]) == Place("grad_w5_w8", (0, 0)) and m.place(w[4]) == Place("w5_w8", (0, 0))
    a = Value(2.0)
    u = 2.0 * a
    assert matrices((3.0 * u).exp() + u.sin()).adjoint_place(u) is None  # 3 (2 a) became 6 a
    with pytest.raises(KeyError, match="no array is called 'w9'; there are"):
        m.element("w9")
    with pytest.raises(TypeError, match="takes data for x, t, not 1 arrays"):
        m.run(x)
    with pytest.raises(TypeError, match=r"takes a Value, not 3\.0"):
        matrices(3.0)  # type: ignore[arg-type]
    with pytest.raises(IndexError, match="shape"):
        m.element("h1", (2,))


def test_matrices_of_a_program_have_its_numbers() -> None:
    model = nn.MLP(2, [3, 1], activation="tanh")
    w = [[Value(0.1 * i - 0.2 * j) for j in range(3)] for i in range(2)]

    def attention(x: Any) -> Any:  # with a softmax over three positions
        q = [sum(w[0][j] * x[i, j] for j in range(3)) for i in range(3)]
        e = [[(q[i] * x[j, 0]).exp() for j in range(3)] for i in range(3)]
        return sum(e[i][j] / sum(e[i]) * w[1][j] * x[j, 1] for i in range(3) for j in range(3))

    images = np.random.default_rng(1).normal(size=(4, 3, 3))
    for f, arrays in ((lambda x, y: nn.squared_error(model(x), y), (X, Y)), (attention, (images,))):
        program = autograd.compile(f, engine="numpy")
        loss, gradient = program.value_and_grad(*arrays)
        m = program.matrices
        numbers = m.run(*arrays)
        assert m.source == program.source and elements_agree(m, numbers) > 20
        output = m.place(program.graph)
        assert output is None or np.mean(numbers[output.array]) == pytest.approx(loss)
        for leaves, grads in zip(program.leaves, gradient):
            for index, v in np.ndenumerate(leaves):
                place = m.adjoint_place(v)
                assert place
                assert numbers[place.array][place.index] == pytest.approx(grads[index], rel=1e-12)
        lines = [a.line for a in m.arrays if a.line]
        assert lines and all(line in m.source for line in lines)


def test_the_sum_of_one_leaf_has_an_adjoint_of_its_own() -> None:
    w = [Value(x, f"w[{i}]") for i, x in enumerate((0.5, 0.2, 0.3))]
    sums = [total(w[: i + 1]) for i in range(3)]
    output = total([s.tanh() for s in sums])
    output.backward()
    m = matrices(output)
    numbers = m.run()
    for v in (*w, *sums):
        place = m.adjoint_place(v)
        assert place is None or numbers[place.array][place.index] == pytest.approx(v.grad, rel=1e-14)


def test_elements_and_places_of_programs_with_structure() -> None:
    computed = placed = 0
    for seed in range(20):
        f, _, arrays = structured(seed)
        program = autograd.compile(f, engine="numpy")
        with np.errstate(all="ignore"):
            _, gradient = program.value_and_grad(*arrays)
        m = program.matrices
        numbers = m.run(*arrays)
        computed += elements_agree(m, numbers)
        for leaves, grads in zip(program.leaves, gradient):
            for index, v in np.ndenumerate(leaves):
                place = m.adjoint_place(v)
                if place:
                    placed += 1
                    found = place.sign * numbers[place.array][place.index]
                    assert found == pytest.approx(grads[index], rel=1e-9, abs=1e-12)
    assert computed > 3000 and placed > 100
