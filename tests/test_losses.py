"""Losses of several outputs, the functions that they are made of, activations and LayerNorm."""

import math
import pickle
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import autograd
import nn
from autograd import Value, check_gradients, derive, grad, total
from autograd.graph import topological_order
from autograd.program.variant import Kernel

ENGINES: list[Any] = ["scalar", "numpy", *(["native"] if Kernel is not None else [])]
VECTORS = [[0.3], [1.0, 2.0, 3.0], [1000.0, 1000.5, -1000.0], [-2000.0, -2001.0], [1e308, -1e308], [5.0] * 7]


@pytest.mark.parametrize("xs", VECTORS)
def test_logsumexp_and_softmax_never_overflow(xs: list[float]) -> None:
    with mpmath.workdps(40):
        shares = [mpmath.exp(mpmath.mpf(x) - max(xs)) for x in xs]
        exact = float(max(xs) + mpmath.log(sum(shares)))
        wanted = [float(share / sum(shares)) for share in shares]
    values = [Value(x) for x in xs]
    out = nn.logsumexp(values)
    out.backward()
    assert out.data == pytest.approx(exact, rel=1e-15)
    assert [v.grad for v in values] == pytest.approx(wanted, rel=1e-12, abs=1e-300)
    assert len(topological_order(out)) == len(xs) + 1  # one node
    if max(xs) - min(xs) < 1e308:  # else the difference itself overflows
        assert [p.data for p in nn.softmax(values)] == pytest.approx(wanted, rel=1e-12, abs=1e-300)
        assert autograd.compile(nn.logsumexp)(np.array([xs] * 2)) == pytest.approx(exact, rel=1e-15)


@pytest.mark.parametrize("engine", ["numpy", "auto"])
def test_a_number_of_minus_infinity_adds_nothing_to_a_logsumexp(engine: Any) -> None:
    w, X = Value(0.3), np.array([0.1, 0.2])
    with_it = autograd.compile(lambda x: nn.logsumexp([x, -math.inf, w]), engine=engine)
    without = autograd.compile(lambda x: nn.logsumexp([x, w]), engine=engine)
    assert with_it.value_and_grad(X) == without.value_and_grad(X)
    assert nn.logsumexp([-math.inf, w]).data == pytest.approx(0.3)


def test_logsumexp_is_a_primitive_to_every_reading() -> None:
    check_gradients(lambda z: nn.logsumexp(z), np.array([1.0, -2.0, 0.5]), order=2)
    z = [Value(float(i), f"z{i}") for i in range(4)]
    out = nn.logsumexp(z)
    assert derive(out, z[:1])[0].data == pytest.approx(nn.softmax(z)[0].data)
    assert pickle.loads(pickle.dumps(out)).row is out.row
    assert "log Σ eˣ" in autograd.draw(out).source
    assert autograd.explain(out, z[2]).value == pytest.approx(nn.softmax(z)[2].data)
    outside = nn.logsumexp(z)  # of leaves, before anything is compiled
    program = autograd.compile(lambda x: outside * x)
    assert program([1.0]) == pytest.approx(out.data)
    with pytest.raises(ValueError, match="at least one"):
        nn.logsumexp([])


def test_cross_entropy_of_a_class_or_of_its_one_hot_row() -> None:
    logits = np.array([1.0, -2.0, 0.5])
    for k in range(3):
        by_hand = np.log(np.exp(logits).sum()) - logits[k]
        one_hot = np.eye(3)[k]
        assert nn.cross_entropy([*map(Value, logits)], k).data == pytest.approx(by_hand, rel=1e-14)
        assert nn.cross_entropy([*map(Value, logits)], one_hot).data == pytest.approx(by_hand, rel=1e-14)
        slopes = grad(lambda z, k=k: nn.cross_entropy(z, k))(logits)
        assert slopes == pytest.approx(np.exp(logits) / np.exp(logits).sum() - one_hot, rel=1e-12)


CLASSES = np.random.default_rng(1).integers(0, 3, 40)
POINTS = np.random.default_rng(2).normal(size=(40, 2)) + 3.0 * np.eye(3)[CLASSES][:, :2]


def classifier(engine: Any, Y: np.ndarray, epochs: int = 30) -> tuple[nn.MLP, nn.History]:
    model = nn.MLP(2, [6, 3], activation="silu", rng=np.random.default_rng(0))
    adam = nn.Adam(model.parameters(), lr=0.05)
    settings = {"loss": nn.cross_entropy, "optimizer": adam, "epochs": epochs, "engine": engine}
    return model, nn.fit(model, POINTS, Y, **settings)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("Y", [CLASSES, CLASSES[:, None], np.eye(3)[CLASSES]])
def test_classes_are_learnt_alike_on_every_engine_and_counted_by_the_largest_output(
    engine: Any, Y: np.ndarray
) -> None:
    model, history = classifier(engine, Y)
    assert history.engine == engine
    assert history.loss == pytest.approx(classifier("scalar", CLASSES)[1].loss, rel=1e-9)
    right = nn.predict(model, POINTS).argmax(axis=1) == CLASSES
    assert history.accuracy == nn.accuracy(model, POINTS, Y, nn.cross_entropy) == right.mean() > 0.5


@pytest.mark.parametrize(
    ("nouts", "Y", "loss", "said"),
    [
        ([3], CLASSES + 1, nn.cross_entropy, "a whole number from 0 to 2, not 3"),
        ([3], CLASSES + 0.5, nn.cross_entropy, "a whole number from 0 to 2, not"),
        ([3], 2.0 * np.eye(3)[CLASSES], nn.cross_entropy, r"with the sum 1 alone, not \[.*2.0"),
        ([1], CLASSES, nn.cross_entropy, "a logit for each class, and there is one"),
        ([3], CLASSES, nn.squared_error, r"np.eye\(3\)\[classes\] has, or nn.cross_entropy"),
        ([1], CLASSES, nn.binary_cross_entropy, "from 0 to 1 alone, not 2"),
        ([2], np.eye(3)[CLASSES], nn.cross_entropy, r"Y \(40, 3\), but the model's outputs are 2"),
    ],
)
def test_targets_that_a_loss_cannot_take(
    nouts: list[int], Y: np.ndarray, loss: Callable[..., Any], said: str
) -> None:
    model = nn.MLP(2, nouts)
    sgd = nn.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=said):
        nn.fit(model, POINTS, Y, loss=loss, optimizer=sgd, epochs=1)


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_a_compiled_cross_entropy_is_recorded_once_for_all_classes(engine: Any) -> None:
    model, runs = nn.MLP(2, [3]), []

    def loss(x: Any, y: Any) -> Any:
        runs.append(1)
        return nn.cross_entropy(model(x), y)

    p = autograd.compile(loss, engine=engine)
    expected = total([nn.cross_entropy(model(x), k) for x, k in zip(POINTS, CLASSES)]) / len(CLASSES)
    expected.backward()
    value, gradient = p.value_and_grad(POINTS, CLASSES)
    assert value == pytest.approx(expected.data) and len(runs) == 2  # the first row and the last
    grads = [v.grad for array in p.leaves for v in array.flat]
    assert np.concatenate([g.ravel() for g in gradient]) == pytest.approx(grads)
    for wrong in (3.0, -1.0, 0.5):
        for place in (0, 7):
            targets = CLASSES.astype(float)
            targets[place] = wrong
            with pytest.raises(ValueError, match=f"a whole number from 0 to 2, not {wrong}"):
                autograd.compile(loss, engine=engine)(POINTS, targets)


def test_accuracy_is_absent_for_a_loss_that_decides_nothing_and_by_outputs_for_several_labels() -> None:
    model = nn.MLP(2, [2])
    many = np.array([[1.0, 1.0], [0.0, 1.0]] * 20)
    by_output = (nn.predict(model, POINTS) > 0.5) == (many > 0.5)
    assert nn.accuracy(model, POINTS, many) == by_output.mean()
    assert nn.accuracy(model, POINTS, many, nn.huber) is None
    sgd = nn.SGD(model.parameters(), lr=0.01)
    history = nn.fit(model, POINTS, many, loss=nn.huber, optimizer=sgd, epochs=1)
    assert history.accuracy is None


@pytest.mark.parametrize("name", sorted(nn.layers.ACTIVATIONS))
def test_activations_are_differentiable_to_second_order_and_compile(name: str) -> None:
    activation = nn.layers.ACTIVATIONS[name]
    z = np.array([-30.0, -1.5, -0.2, 0.3, 2.0, 40.0])
    for x in z:
        check_gradients(lambda v: activation(v) * 1.0, x, order=2)
    program = autograd.compile(lambda v: activation(v) * 1.0)
    assert program.per_example(z) == pytest.approx([activation(Value(x)).data for x in z], rel=1e-14)


def test_layer_norm_is_the_formula_and_its_parameters_have_pytorchs_names() -> None:
    norm = nn.LayerNorm(5)
    assert [(name, a.shape) for name, a in norm.state_dict().items()] == [("weight", (5,)), ("bias", (5,))]
    x = np.array([1.0, -2.0, 0.5, 3.0, 10.0])
    for p, number in zip(norm.parameters(), np.linspace(0.5, 2.0, 10)):
        p.data = number
    weight, bias = norm.state_dict().values()
    by_hand = weight * (x - x.mean()) / np.sqrt(x.var() + 1e-5) + bias
    assert [y.data for y in norm(x)] == pytest.approx(by_hand, rel=1e-14)
    assert autograd.compile(norm)(np.array([x]))[0] == pytest.approx(by_hand, rel=1e-14)
    check_gradients(lambda v: norm(v), x)
    with pytest.raises(ValueError, match="5 inputs, not 3"):
        norm([1.0, 2.0, 3.0])


def test_weight_decay_shrinks_the_parameters_beside_the_gradient() -> None:
    for optimizer in (nn.SGD, nn.Adam):
        p, q = Value(2.0), Value(2.0)
        p.grad = q.grad = 0.7
        optimizer([p], lr=0.1, weight_decay=0.5).step()
        optimizer([q], lr=0.1).step()
        assert p.data == pytest.approx(q.data - 0.1 * 0.5 * 2.0, rel=1e-15)
        with pytest.raises(ValueError, match="weight_decay is a finite number of at least 0"):
            optimizer([p], lr=0.1, weight_decay=-1.0)
