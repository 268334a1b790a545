"""Networks, losses, optimizers and data."""

import math
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
from autograd import Value, compile

ACTIVATIONS = ["linear", "relu", "sigmoid", "softplus", "tanh"]


def test_an_mlp_is_its_formula() -> None:
    model = nn.MLP(3, [4, 2], activation="tanh", rng=np.random.default_rng(0))
    state = model.state_dict()
    for layer in model.layers:
        for i, neuron in enumerate(layer.neurons):
            assert neuron.b is not None
            neuron.b.data = 0.1 * i
    x = np.array([0.5, -1.0, 2.0])
    h = np.tanh(state["layers.0.weight"] @ x + 0.1 * np.arange(4))
    p = state["layers.1.weight"] @ h + 0.1 * np.arange(2)
    assert [v.data for v in model(x)] == pytest.approx(p, rel=1e-14)
    assert [v.data for v in model([Value(v) for v in x])] == pytest.approx(p, rel=1e-14)


def test_as_in_micrograd_one_output_is_bare() -> None:
    from nn import MLP, Layer, Neuron

    n = Neuron(2, nonlin=False)
    assert isinstance(n([1.0, -2]), Value) and len(n.parameters()) == 3
    assert isinstance(Layer(2, 1)([1.0, 2.0]), Value) and len(Layer(2, 3)([1.0, 2.0])) == 3
    model = MLP(2, [16, 16, 1])
    assert len(model.parameters()) == 337
    loss = (1 + -1 * model([0.5, 1.0])).relu() + 1e-4 * sum(p * p for p in model.parameters())
    model.zero_grad()
    loss.backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert not any(p.grad for p in model.parameters())
    assert repr(MLP(2, [1, 1])) == "MLP of [Layer of [ReLUNeuron(2)], Layer of [LinearNeuron(1)]]"
    assert MLP(2, [1, 2])([1.0, 1.0])[1].parents


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation_is_the_one_of_its_name(activation: str) -> None:
    neuron = nn.Neuron(1, activation=activation, init=nn.init.he_normal, rng=np.random.default_rng(3))
    z = neuron.w[0] * 0.7
    expected = z if activation == "linear" else getattr(z, activation)()
    assert neuron([0.7]).data == expected.data


def test_parameters_are_labelled_as_in_the_lab_and_computing_labels_nothing() -> None:
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid")
    assert [p.label for p in model.parameters()][6:14] == [
        "w1[3,0]",
        "w1[3,1]",
        *(f"b1[{i}]" for i in range(4)),
        "w2[0,0]",
        "w2[0,1]",
    ]
    assert model([0.0, 1.0]).label == ""


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: nn.MLP(2, []), "at least one layer"),
        (lambda: nn.MLP(2, [4, 0]), "above 0, not 0"),
        (lambda: nn.MLP(-1, [4]), "above 0, not -1"),
        (lambda: nn.Layer(2, 1.5), "above 0, not 1.5"),  # type: ignore[arg-type]
        (lambda: nn.Neuron("2"), "above 0, not '2'"),  # type: ignore[arg-type]
        (lambda: nn.MLP(2, [1], activation="swish"), "there are elu, .*relu, sigmoid, silu, softplus, tanh"),
        (
            lambda: nn.MLP(2, [1], init="he"),  # type: ignore[arg-type]
            "init is a function, such as xavier_uniform or .*he_normal of nn",
        ),
        (lambda: nn.MLP(2, [3], init=lambda i, o, rng: np.zeros((i, o))), r"\(2, 3\), not \(3, 2\)"),
        (lambda: nn.Neuron(2, init=lambda i, o, rng: np.zeros((i, o))), r"\(2, 1\), not \(1, 2\)"),
        (lambda: nn.MLP(2, [3, 1])([1.0, 2.0, 3.0]), "takes 2 inputs, not 3"),
        (lambda: nn.MLP(2, [3, 1])(np.ones((5, 2))), r"one example.* nn.predict\(model, X\)"),
        (lambda: nn.MLP(2, [3, 1])(np.ones((2, 2))), r"nn.predict\(model, X\)"),
        (lambda: nn.Neuron(2)([[1.0, 2.0], [3.0, 4.0]]), r"nn.predict\(model, X\)"),
        (lambda: nn.Layer(2, 3)([np.ones(2)] * 5), r"nn.predict\(model, X\)"),
        (lambda: nn.Adam([Value(1.0)], betas=(0.9,)), "betas are two numbers"),  # type: ignore[arg-type]
        (lambda: nn.MLP(2, [1], activation=["relu"]), "unknown activation"),  # type: ignore[arg-type]
        (lambda: nn.MLP(2, 3), "a sequence of widths, not 3"),  # type: ignore[arg-type]
        (lambda: nn.SGD([], lr=1.0), "at least one parameter"),
        (lambda: nn.SGD([Value(1.0)] * 2, lr=1.0), "there twice"),
        (lambda: nn.SGD([Value(1.0)], lr=0.0), "lr is a finite number above 0"),
        (lambda: nn.SGD([Value(1.0)], lr=math.nan), "lr is a finite number above 0"),
        (lambda: nn.SGD([Value(1.0)], lr=1.0, momentum=1.0), "momentum"),
        (lambda: nn.Adam([Value(1.0)], betas=(0.9, -0.1)), "beta"),
        (lambda: nn.squared_error([1.0, 2.0], [1.0]), "2 outputs and the target 1"),
        (lambda: nn.squared_error(np.ones((4, 1)), np.ones((4, 1))), r"one example .* shape \(4, 1\)"),
        (lambda: nn.data.linear(0), "above 0, not 0"),
        (lambda: nn.data.xor(1), "at least 2"),
        (lambda: nn.MatrixMLP([np.zeros((4, 2)), np.zeros((1, 3))], activation="tanh"), "do not chain"),
        (lambda: nn.MatrixMLP([], activation="tanh"), "do not chain"),
        (lambda: nn.MatrixMLP([np.zeros((4, 2))], [np.zeros(3)], activation="relu"), "do not fit"),
        (lambda: nn.MatrixMLP([np.zeros((4, 2))], activation="softplus"), "there are sigmoid, tanh, relu"),
        (lambda: nn.predict(nn.MLP(2, [1]), [[1.0, 2.0], [3.0]]), "X is not an array: its rows differ"),
        (
            lambda: nn.predict(nn.MLP(2, [1]), [1.0, 2.0]),
            r"shape \(2,\): it needs a row for each.* X\[:, None\]",
        ),
        (lambda: nn.accuracy(nn.MLP(1, [2]), [[1.0]], [1.0]), r"shape \(1, 2\) and Y \(1, 1\)"),
    ],
)
def test_bad_settings_are_refused_with_what_would_be_right(make: Callable[..., Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: nn.MLP(2, [1], rng=0), r"rng is a generator, such as numpy.random.default_rng\(0\), not 0"),  # type: ignore[arg-type]
        (lambda: nn.data.linear(5, np.random), "rng is a generator"),  # type: ignore[arg-type]
        (lambda: nn.MLP(2, [1])(3.0), "a sequence of 2 inputs, not float"),  # type: ignore[arg-type]
        (lambda: nn.SGD(nn.MLP(2, [1]), lr=0.1), r"give it model.parameters\(\)"),  # type: ignore[arg-type]
        (lambda: nn.SGD([1.0], lr=0.1), "has data and grad.* float has not"),
        (lambda: nn.SGD(Value(1.0), lr=0.1), r"takes a list, as model.parameters\(\) gives"),  # type: ignore[arg-type]
        (lambda: nn.MatrixMLP.from_state_dict(nn.MLP(2, [1]), "relu"), "a mapping of names to arrays"),  # type: ignore[arg-type]
        (lambda: nn.MatrixMLP([[[1j]]], activation="relu"), "a weight matrix holds complex128"),
        (lambda: nn.MLP(2, [1]).load_state_dict(None), "a mapping of names to arrays"),  # type: ignore[arg-type]
    ],
)
def test_things_of_the_wrong_kind_are_type_errors(make: Callable[..., Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        make()


# State


def test_a_state_dict_has_pytorchs_names_and_shapes_and_goes_back() -> None:
    model, twin = (nn.MLP(2, [4, 1], rng=np.random.default_rng(seed)) for seed in (0, 1))
    state = model.state_dict()
    shapes = {name: array.shape for name, array in state.items()}
    assert shapes == {
        "layers.0.weight": (4, 2),
        "layers.0.bias": (4,),
        "layers.1.weight": (1, 4),
        "layers.1.bias": (1,),
    }
    twin.load_state_dict(state)
    assert twin([0.3, 0.4]).data == model([0.3, 0.4]).data


def test_modules_of_ones_own_find_their_parameters_once() -> None:
    class Mine(nn.Module):
        def __init__(self) -> None:
            self.scale = Value(2.0)
            self.grid = [[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]]
            self.parts = [nn.Neuron(1), nn.Neuron(1)]
            self.again = self.scale
            self.name, self.sizes, self.empty = "mine", [1, 2], list[Any]()

    mine: Any = Mine()
    assert len(mine.parameters()) == 1 + 4 + 4
    assert list(mine.state_dict()) == [
        "scale",
        "grid",
        "parts.0.w",
        "parts.0.b",
        "parts.1.w",
        "parts.1.b",
        "again",
    ]
    assert mine.state_dict()["grid"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    mine.parts = [[nn.Neuron(1)], None, {"a": Value(5.0)}, np.array([Value(6.0)]), [[Value(7.0)], []]]
    mine.cache = mine.scale * 2.0  # computed, so no parameter
    mine.queue = deque([Value(8.0), Value(9.0)])
    names = ["parts.0.0.w", "parts.0.0.b", "parts.2.a", "parts.3", "parts.4.0", "again", "queue"]
    assert [name for name, _ in mine.named_parameters()][2:] == names


def test_modules_may_hold_each_other_and_what_a_layer_has_been_given() -> None:
    model: Any = nn.MLP(1, [2, 1])
    expected = model.parameters()
    for layer in model.layers:
        layer.parent, layer.peers = model, model.layers
    model.root = {"self": [model]}
    assert [*map(id, model.parameters())] == [*map(id, expected)]
    model.layers[0].gain = Value(2.0)
    model.tied = nn.Neuron(1)
    model.tied.w = (model.layers[0].neurons[0].w[0],)  # of two Modules
    assert list(model.state_dict())[2:] == [
        "layers.0.gain",
        "layers.1.weight",
        "layers.1.bias",
        "tied.w",
        "tied.b",
    ]
    chain = nn.Module()
    end: Any = chain
    for _ in range(3000):
        end.next = end = nn.Module()
    end.w = Value(1.0)
    assert chain.parameters() == [end.w]


def test_parameters_without_a_name_of_their_own_or_an_order_are_refused() -> None:
    model: Any = nn.Layer(1, 2)
    model.frozen = {model.neurons[0].b, "text", (1, 2)}  # which is found elsewhere
    assert len(model.parameters()) == 4
    model.gains = {Value(1.0)}
    with pytest.raises(TypeError, match="in the set gains alone"):
        model.parameters()
    model.gains = {1: Value(1.0), "1": Value(2.0)}
    with pytest.raises(ValueError, match=r"two parameters have the name gains\.1"):
        model.state_dict()
    del model.gains
    model.weight = Value(1.0)
    with pytest.raises(ValueError, match="two parameters have the name weight"):
        model.load_state_dict({})


def test_finding_parameters_takes_no_longer_for_the_data_that_a_module_holds() -> None:
    model: Any = nn.Neuron(1)
    model.data = [{"X": np.zeros((2000, 784))}]
    start = time.perf_counter()
    for _ in range(100):
        assert len(model.parameters()) == 2
    assert time.perf_counter() - start < 1.0  # to look at each number would take 100


@pytest.mark.parametrize(
    "change, kind, said",
    [
        ({"layers.0.weight": None}, ValueError, "layers.0.weight is missing"),
        ({"layers.9.weight": np.zeros(1)}, ValueError, "layers.9.weight is unknown"),
        ({"layers.0.bias": np.zeros(5)}, ValueError, r"layers.0.bias has shape \(5,\), not \(4,\)"),
        ({"layers.0.bias": np.array(["a"] * 4)}, TypeError, "not real numbers"),
    ],
)
@pytest.mark.parametrize("kind_of_model", ["scalar", "matrix"])
def test_a_state_that_does_not_fit_changes_nothing(
    change: Any, kind: Any, said: str, kind_of_model: str
) -> None:
    model: nn.MLP | nn.MatrixMLP = nn.MLP(2, [4, 1])
    if kind_of_model == "matrix":
        model = nn.MatrixMLP.from_state_dict(model.state_dict(), "relu")
    before = model.state_dict()
    wrong = {**{name: array + 1.0 for name, array in before.items()}, **change}
    with pytest.raises(kind, match=said):
        model.load_state_dict({name: array for name, array in wrong.items() if array is not None})
    after = model.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_weights_go_to_torch_and_back() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    model = nn.MLP(2, [4, 1], activation="sigmoid", rng=np.random.default_rng(0))
    peer = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Sigmoid(), torch.nn.Linear(4, 1)).double()
    names = peer.state_dict().keys()  # "0.weight", ...: the same order and the same shapes
    peer.load_state_dict({n: torch.from_numpy(a) for n, a in zip(names, model.state_dict().values())})
    x = [0.3, -0.8]
    assert peer(torch.tensor(x, dtype=torch.float64)).item() == pytest.approx(model(x).data, rel=1e-14)
    twin = nn.MLP(2, [4, 1], activation="sigmoid")
    twin.load_state_dict(dict(zip(twin.state_dict(), peer.state_dict().values())))
    assert twin(x).data == model(x).data


# Initial weights


@pytest.mark.parametrize(
    "init, variance",
    [
        (nn.init.xavier_uniform, 2 / 400),
        (nn.init.xavier_normal, 2 / 400),
        (nn.init.he_uniform, 2 / 300),
        (nn.init.he_normal, 2 / 300),
    ],
)
def test_initial_weights_have_the_variance_of_their_formula(
    init: Callable[..., Any], variance: float
) -> None:
    weights = init(300, 100, np.random.default_rng(0))
    assert weights.shape == (100, 300)
    assert weights.mean() == pytest.approx(0.0, abs=0.02 * variance**0.5)
    assert weights.var() == pytest.approx(variance, rel=0.03)
    if init.__name__.endswith("uniform"):
        assert np.abs(weights).max() <= (3 * variance) ** 0.5


def test_random_numbers_come_from_the_callers_generator_alone() -> None:
    states = [nn.MLP(2, [3, 1], rng=np.random.default_rng(7)).state_dict() for _ in range(2)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])
    np.random.seed(0)
    before = np.random.get_state(legacy=False)["state"]["key"].tolist()
    nn.data.linear(5)
    nn.MLP(2, [1])
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before


# Losses


def test_losses_are_their_formulas_bare_or_in_sequences() -> None:
    p, y = Value(0.3), 1.0
    s = 1 / (1 + math.exp(-0.3))
    for loss, expected, slope in (
        (nn.squared_error, 0.5 * 0.7**2, -0.7),
        (nn.binary_cross_entropy, -math.log(s), s - 1),
        (nn.hinge, 0.7, -1.0),
    ):
        for prediction, target in ((p, y), ([p], [y]), (p, [y]), ([p], y), (p, np.array([y]))):
            p.grad = 0.0
            out = loss(prediction, target)
            out.backward()
            assert out.data == pytest.approx(expected) and p.grad == pytest.approx(slope)
        assert loss([p, p], [y, y]).data == pytest.approx(2 * expected)
        assert loss(0.3, 1.0) == pytest.approx(expected)
    assert nn.hinge(Value(-2.0), -1.0).data == 0.0
    with pytest.raises(OverflowError, match=r"at test_nn.py:\d+: nn.squared_error"):  # not a line of nn's
        nn.squared_error(Value(1e200), 0.0)
    for x, y in ((40.0, 1.0), (-40.0, 0.0)):
        assert nn.binary_cross_entropy(Value(x), y).data == pytest.approx(math.exp(-40.0), rel=1e-15)
    for extreme in (-1e300, 1e300):
        assert nn.binary_cross_entropy(Value(extreme), float(extreme > 0)).data == 0.0
        assert nn.binary_cross_entropy(Value(extreme), float(extreme < 0)).data == 1e300


@pytest.mark.parametrize(
    "loss, right, wrong, said",
    [
        (nn.binary_cross_entropy, (0.0, 1.0, 0.25, 5e-324), (-1.0, -1e-140, 1.0 + 2**-52, 2), "from 0 to 1"),
        (nn.hinge, (-1, 1.0), (0.0, 1 - 2**-53, 2.0), "of -1 or 1"),
    ],
)
def test_losses_that_need_a_kind_of_target_say_so_however_they_are_called(
    loss: Callable[..., Any], right: Any, wrong: Any, said: str
) -> None:
    said = f"{loss.__name__} takes targets {said} alone, not "
    model = nn.MLP(1, [2, 1], rng=np.random.default_rng(0))
    X, Y = np.linspace(-1.0, 1.0, 4), np.resize(right, 4).astype(float)
    example: Callable[..., Any] = lambda x, y: loss(model([x]), y)  # noqa: E731
    mean = sum(example(x, y) for x, y in zip(X, Y)).data / 4
    for engine in ("numpy", "native") if find_spec("llvmlite") else ("numpy",):
        assert compile(example, engine=engine)(X, Y) == pytest.approx(mean)
        for y in wrong:
            program, other = compile(example, engine=engine), np.array([*Y[:3], y])
            for data in (other, other[::-1], np.array([y])):
                for run in (program, program.backward):
                    with pytest.raises(ValueError, match=re.escape(f"{said}{float(y)}")):
                        run(X[: len(data)], data)
    for y in (*wrong, math.nan):
        for calls in (
            lambda y=y: loss(Value(0.3), y),
            lambda y=y: loss([Value(0.3)] * 2, np.array([right[0], y])),
            lambda y=y: loss(Value(0.3), Value(y)) if y == y else loss(0.3, y),
            lambda y=y: nn.MeanLoss(model, loss).backward(X[:, None], [*Y[:3], y]),
        ):
            with pytest.raises(ValueError, match=re.escape(said)):
                calls()
        for engine in ("auto", "scalar", "numpy"):
            for of_fit in (loss, lambda p, y: loss(p, y)):
                optimizer = nn.SGD(model.parameters(), lr=0.1)
                settings: dict[str, Any] = {"optimizer": optimizer, "epochs": 1, "engine": engine}
                with pytest.raises((ValueError, ArithmeticError), match=said if y == y else "nan"):
                    nn.fit(model, X[:, None], [*Y[:3], y], loss=of_fit, **settings)


@pytest.mark.parametrize("engine", ["numpy", "native"] if find_spec("llvmlite") else ["numpy"])
def test_a_compiled_loss_learns_by_targets_that_are_values(engine: Any) -> None:
    p, q = Value(0.3), Value(0.2)

    def loss(x: Any) -> Value:
        return nn.binary_cross_entropy(p * x, (q * x).sigmoid()) + nn.hinge(p, (q - q) * x + 1.0)

    compile(loss, engine=engine).backward(np.array([2.0]))
    compiled, p.grad, q.grad = (p.grad, q.grad), 0.0, 0.0
    loss(2.0).backward()
    assert compiled == pytest.approx((p.grad, q.grad)) and all(compiled)


def test_wrong_targets_do_not_make_up_for_each_other() -> None:
    program = compile(lambda p, y: nn.hinge(p, y), engine="numpy")
    with pytest.raises(ValueError, match=r"of -1 or 1 alone, not 0\.0"):
        program(np.ones(4), np.array([0.0, 0.0, 0.0, 2.0]))  # y² - 1 adds up to 0


# Optimizers, by hand


def test_sgd_by_hand() -> None:
    p = Value(1.0)
    sgd = nn.SGD([p], lr=0.1, momentum=0.5)
    for grad, expected in ((2.0, 0.8), (2.0, 0.5), (-4.0, 0.75)):  # v = 2, 3, -2.5
        p.grad = grad
        sgd.step()
        assert p.data == pytest.approx(expected, rel=1e-15)
    sgd.zero_grad()
    assert p.grad == 0.0
    plain = Value(1.0)
    plain.grad = 2.0
    nn.SGD([plain], lr=0.1).step()
    assert plain.data == 1.0 - 0.1 * 2.0


def test_adam_by_hand() -> None:
    p = Value(1.0)
    adam = nn.Adam([p], lr=0.1, betas=(0.9, 0.99), eps=1e-8)
    p.grad = 2.0
    adam.step()  # m / 0.1 = 2 and v / 0.01 = 4
    assert p.data == pytest.approx(1.0 - 0.1 * 2.0 / (2.0 + 1e-8), rel=1e-14)
    first = p.data
    p.grad = -1.0
    adam.step()  # m = 0.9 · 0.2 − 0.1 = 0.08; v = 0.99 · 0.04 + 0.01 = 0.0496
    m, v = 0.08 / (1 - 0.81), 0.0496 / (1 - 0.9801)
    assert p.data == pytest.approx(first - 0.1 * m / (math.sqrt(v) + 1e-8), rel=1e-14)


@pytest.mark.parametrize("name, ours", [("SGD", nn.SGD), ("Adam", nn.Adam)])
def test_optimizers_step_as_torchs_do(name: str, ours: Any) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    options = {"lr": 0.05, **({"momentum": 0.8} if name == "SGD" else {})}
    p = Value(0.7)
    q = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    mine, theirs = ours([p], **options), getattr(torch.optim, name)([q], **options)
    for t in range(20):
        p.grad = math.sin(t) + 0.3
        q.grad = torch.tensor(p.grad, dtype=torch.float64)
        mine.step()
        theirs.step()
        assert p.data == pytest.approx(q.item(), rel=1e-13)


def test_an_optimizer_of_ones_own_says_how_it_updates() -> None:
    class Steps(nn.Optimizer):
        def update(self, data: float, grad: float, state: Any) -> Any:
            return data - self.lr, state

    p = Value(3.0)
    Steps([p], lr=0.5).step()
    assert p.data == 2.5
    with pytest.raises(NotImplementedError):
        nn.Optimizer([p], lr=0.5).step()
    assert p.data == 2.5


# Data


def test_the_labs_data() -> None:
    X, Y = nn.data.xor()
    assert (X.shape, Y.shape, Y.sum()) == ((21, 2), (21, 1), 10)
    expected = {(round(t / 10, 1), round(t / 10, 1), 0) for t in range(11)}
    expected |= {(round(t / 10, 1), round(1 - t / 10, 1), 1) for t in range(11) if t != 5}
    assert {(round(a, 9), round(b, 9), int(y)) for (a, b), [y] in zip(X, Y)} == expected
    assert nn.data.xor(4)[0].shape == (8, 2)
    X, Y = nn.data.linear(50, np.random.default_rng(0))
    assert (X.shape, Y.shape) == ((50, 2), (50, 1)) and 0 <= X.min() and X.max() <= 1
    assert all((y == 0) == (a > b) for (a, b), [y] in zip(X, Y))
    assert nn.data.linear()[0].shape == (100, 2)


# Other packages


def test_another_autograd_than_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_text("def grad(f): ...\n")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(nn.__file__).parents[1])!r}]; import nn"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    said = ran.stderr.splitlines()[-1]
    assert said.startswith("ImportError: nn needs the autograd that comes with it")
    assert str(tmp_path) in said and "fresh virtual environment" in said
