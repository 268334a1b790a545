"""The passes of compile: stages that can be shown, and the names of arrays."""

import contextlib
import io
import re

import numpy as np
import pytest

import autograd
import nn
from autograd import Value
from autograd.program import PASSES

X, Y = np.random.default_rng(0).normal(size=(5, 2)), np.arange(5.0)


def source_of(f, *arrays):
    program = autograd.compile(f, engine="numpy")
    program.backward(*arrays)
    return program.source


def shown(program, stage):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        program.show(stage)
    return out.getvalue().splitlines()


def mazur(w):
    def loss(x, t):
        out = [(w[4 * k] * x[0] + w[4 * k + 1] * x[1] + 0.1).sigmoid() for k in range(1)]
        h = [(w[2 * k] * x[0] + w[2 * k + 1] * x[1] + w[8]).sigmoid() for k in range(2)]
        out = [(w[4 + 2 * k] * h[0] + w[5 + 2 * k] * h[1] + w[9]).sigmoid() for k in range(2)]
        return 0.5 * (t[0] - out[0]) ** 2 + 0.5 * (t[1] - out[1]) ** 2

    return loss


def test_every_stage_can_be_shown():
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


def test_names_of_the_textbooks_network():
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
def test_deltas_are_found_with_either_sign_and_biases(error):
    model = nn.MLP(2, [3, 3, 1], activation="sigmoid")
    source = source_of(lambda x, y: error(model(x), y), X, Y)
    for line in ("grad_w3 = delta3 @ h2", "grad_b2 = xp.sum(delta2, axis=0)", "grad_w1 = delta1.T @ x"):
        assert line in source


def test_unlabelled_leaves_are_named_after_the_module_that_holds_them():
    class Norm(nn.Module):
        def __init__(self):
            self.bias = [Value(0.1), Value(0.2)]

    class Model(nn.Module):
        def __init__(self):
            self.layers = [Norm(), Norm()]
            self.layers[1].norm = Norm()

        def __call__(self, x):
            return sum(b * x[i] for i, b in enumerate(self.layers[1].norm.bias))

    model = Model()
    assert "norm_bias" in source_of(lambda x, y: nn.squared_error(model(x), y), X, Y)
    assert not model.layers[1].norm.bias[0].label


def test_no_array_has_the_label_of_a_leaf():
    h1, t, delta1 = Value(0.5, "h1"), Value(0.4, "t"), Value(0.3, "delta1")
    w = [[Value(0.1), Value(0.2)], [Value(0.3), Value(0.4)]]
    f = lambda x: t * sum((r[0] * x[0] + r[1] * x[1] + h1).tanh() for r in w) ** 2 + delta1  # noqa: E731
    source = source_of(f, X)
    assert not re.search(r"^ *(h1|t|delta1) =", source, re.MULTILINE)
    assert {"h1", "t", "delta1"} <= set(re.search(r"_gradient\((.*)\)", source)[1].split(", "))
