"""Training as an iterable: in step with the model, open to changes, and compiled once."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import nn
from autograd import Value, where
from autograd.program.variant import Kernel
from nn import trainers

NATIVE = pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="llvmlite is not installed"))
COMPILED = ["numpy", NATIVE]
ENGINES = ["scalar", "auto", *COMPILED]
X, Y = nn.data.xor()


def numbers(model: nn.MLP) -> np.ndarray:
    return np.array([p.data for p in model.parameters()])


def training(
    engine: Any,
    epochs: int = 12,
    optimizer: Any = nn.Adam,
    lr: float = 0.05,
    loss: Callable[..., Any] = nn.squared_error,
    **settings: Any,
) -> tuple[nn.MLP, nn.Training]:
    model = nn.MLP(2, [4, 1], activation="tanh", rng=np.random.default_rng(0))
    optimizer = optimizer(model.parameters(), lr=lr)
    settings = {"loss": loss, "optimizer": optimizer, "epochs": epochs, "engine": engine, **settings}
    return model, nn.Training(model, X, Y, **settings)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What training compiles, in order."""
    made: Any = []

    def counted(name: str, function: Any) -> None:
        monkeypatch.setattr(trainers, name, lambda *args: made.append(name) or function(*args))

    counted("Compiled", trainers.Compiled)
    counted("_training_kernel", trainers._training_kernel)
    return made


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_fit_is_the_loop_run_to_its_end(engine: Any, batch_size: int | None) -> None:
    model, loop = training(engine, batch_size=batch_size, rng=np.random.default_rng(1), every=5)
    epochs = list(loop)
    same, other = training(engine)
    settings = {"batch_size": batch_size, "rng": np.random.default_rng(1), "engine": engine, "epochs": 12}
    history = nn.fit(same, X, Y, loss=nn.squared_error, optimizer=other.optimizer, **settings)
    assert [e.epoch for e in epochs] == [0, 5, 10] and len(loop) == 3
    assert [e.loss for e in epochs] == [history.loss[e.epoch] for e in epochs]
    assert 0.0 < epochs[0].seconds <= epochs[-1].seconds <= loop.history.seconds
    assert loop.history.loss == history.loss and loop.history.accuracy == history.accuracy
    assert loop.history.engine == history.engine and np.array_equal(numbers(model), numbers(same))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_is_in_step_at_each_epoch_and_after_break(engine: Any) -> None:
    whole, loop = training(engine)
    expected = [numbers(whole) for _ in loop]
    model, loop = training(engine)
    for epoch in loop:
        assert np.array_equal(numbers(model), expected[epoch.epoch])
        assert loop.optimizer.steps == epoch.epoch + 1 == len(loop.losses)
        if epoch.epoch == 4:
            break
    assert loop.history.loss == loop.losses and loop.history.accuracy == nn.accuracy(model, X, Y)
    assert [epoch.epoch for epoch in loop] == [5, 6, 7, 8, 9, 10, 11]
    assert np.array_equal(numbers(model), expected[-1])


def changed(loop: Any, model: nn.MLP, what: str) -> list[float]:
    """Run a loop that changes something as it goes; the losses and the last parameters."""
    best = numbers(model)
    for epoch in loop:
        if what == "rate":
            loop.optimizer.lr = 0.05 * 0.5 ** (epoch.epoch // 3)
        elif what == "parameters" and epoch.epoch == 6:
            for p, number in zip(model.parameters(), best):
                p.data = number
        elif what == "betas" and epoch.epoch == 5:
            loop.optimizer.betas = (0.5, 0.9)
        elif what == "model" and epoch.epoch == 5:
            for neuron in model.layers[0].neurons:
                neuron.activation = "sigmoid"
        elif what == "state" and epoch.epoch == 5:
            loop.optimizer.load_state_dict(nn.Adam(model.parameters()).state_dict())
    return [*loop.losses, *numbers(model)]


@pytest.mark.parametrize("what", ["rate", "parameters", "betas", "model", "state"])
def test_a_loop_may_change_anything_on_any_engine(what: str) -> None:
    expected = changed(*training("scalar")[::-1], what)
    assert expected != changed(*training("scalar")[::-1], "nothing")
    for engine in ("auto", "numpy", *(["native"] if Kernel is not None else [])):
        assert changed(*training(engine)[::-1], what) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_weight_of_the_loss_may_grow_from_epoch_to_epoch(engine: Any) -> None:
    weight = [0.0]

    def loss(p: Any, y: Any) -> Any:
        return (p - y) ** 2 + weight[0] * p**2

    _, loop = training(engine, loss=loss)
    for epoch in loop:
        weight[0] = 0.1 * (epoch.epoch + 1)
    weight[0] = 0.0
    _, other = training("scalar", loss=loss)
    for epoch in other:
        weight[0] = 0.1 * (epoch.epoch + 1)
    assert loop.losses == pytest.approx(other.losses, rel=1e-9)


@pytest.mark.parametrize("engine", COMPILED)
def test_what_was_compiled_is_kept_between_calls_and_rates(engine: Any, recorded: list[Any]) -> None:
    model, loop = training("scalar")
    expected = [loop.losses for _ in loop][-1]
    model, loop = training(engine)
    settings = {"loss": nn.squared_error, "optimizer": loop.optimizer, "engine": engine}
    losses = []
    for _ in range(12):
        losses += nn.fit(model, X, Y, epochs=1, **settings).loss
        loop.optimizer.lr *= 0.5
        loop.optimizer.lr *= 2.0
    assert losses == pytest.approx(expected, rel=1e-9)
    assert recorded == ["Compiled", "_training_kernel"][: 1 + (engine == "native")]


@pytest.mark.parametrize("engine", COMPILED)
def test_what_was_compiled_is_not_used_for_another_model(engine: Any, recorded: list[Any]) -> None:
    model, loop = training(engine, epochs=3)
    settings: dict[str, Any] = {"optimizer": loop.optimizer, "engine": engine, "epochs": 3}
    same, other = training("scalar", epochs=3)
    of_same: dict[str, Any] = {"optimizer": other.optimizer, "engine": "scalar", "epochs": 3}
    change: Callable[[Any], Any]
    for change in (lambda m: None, lambda m: setattr(m.layers[0].neurons[2], "activation", "relu")):
        change(model), change(same)
        for loss in (nn.squared_error, lambda p, y: abs(p - y)):
            found = nn.fit(model, X, Y, loss=loss, **settings)
            assert found.loss == pytest.approx(nn.fit(same, X, Y, loss=loss, **of_same).loss, rel=1e-9)
            assert found.engine == engine
    assert recorded.count("Compiled") == 4


def test_a_short_run_does_not_wait_for_machine_code(recorded: list[Any]) -> None:
    pytest.importorskip("llvmlite", reason="llvmlite is not installed")
    assert training("auto", epochs=1)[1].history.engine == ""
    for epochs, engine in ((1, "numpy"), (100_000, "native")):
        _, loop = training("auto", epochs=epochs)
        next(iter(loop))
        assert loop.history.engine == engine


@pytest.mark.parametrize("engine", ENGINES)
def test_a_schedule_resumes_to_the_last_bit(engine: Any, tmp_path: Path) -> None:
    def run(epochs: int, **settings: Any) -> list[float]:
        model, loop = training(engine, epochs=epochs, lr=0.1, **settings)
        for epoch in loop:
            loop.optimizer.lr = 0.1 / (1.0 + epoch.epoch)
        return [*loop.losses, *numbers(model)]

    run(7, checkpoint=tmp_path / "run.npz")
    assert run(12, resume=tmp_path / "run.npz") == run(12)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_in_an_epoch_keeps_the_last_finite_parameters(engine: Any) -> None:
    model, loop = training(engine, optimizer=nn.SGD, lr=0.1)
    with pytest.raises(ArithmeticError, match="stopped being finite in epoch"):
        for epoch in loop:
            if epoch.epoch == 3:
                before = numbers(model)
                loop.optimizer.lr = 1e200
    assert np.isfinite(numbers(model)).all() and len(loop.losses) <= 5
    assert np.array_equal(numbers(model), before)


def test_early_stopping_and_best_weights_in_a_few_lines() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] * x[:, 1] > 0) * 1.0
    model = nn.MLP(2, [8, 1], activation="tanh", rng=rng)
    adam = nn.Adam(model.parameters(), lr=0.1)
    loss = nn.binary_cross_entropy
    best, patience = math.inf, 0
    for _ in nn.Training(model, x[:40], y[:40], loss=loss, optimizer=adam, epochs=10_000):
        validation = float(
            np.mean([loss(Value(p), t).data for [p], t in zip(nn.predict(model, x[40:]), y[40:])])
        )
        if validation < best:
            best, weights, patience = validation, model.state_dict(), 0
        elif (patience := patience + 1) == 20:
            break
    assert adam.steps < 2000
    model.load_state_dict(weights)
    after = np.mean([loss(Value(p), t).data for [p], t in zip(nn.predict(model, x[40:]), y[40:])])
    assert after == best


def stale(what: str, engine: Any) -> list[float]:
    """The losses of two calls and a loop, between which something changes that no row need show at once."""
    weight, frozen, scale = [1.0, 1.0], [False], np.ones(2)
    model = nn.MLP(2, [4, 1], activation="tanh", rng=np.random.default_rng(0))
    first, last = model.layers

    class Dozing(nn.SGD):
        settings: ClassVar[dict[str, float]] = {"factor": 1.0}

        def update(self, data: Any, grad: Any, state: Any) -> Any:
            return data - self.lr * self.settings["factor"] * grad, (state[0],)

    sgd = (Dozing if what == "setting" else nn.SGD)(
        model.parameters()[: 12 if what == "other" else 17], lr=0.3
    )

    def run(x: Any) -> Any:
        h = first([a * s for a, s in zip(x, scale)])
        return last([z.detach() for z in h] if frozen[0] else h)

    def loss(p: Any, y: Any) -> Any:
        return where(y > 0.5, weight[1], weight[0]) * (p - y) ** 2

    def change(k: int) -> None:
        if what == "weight":
            weight[1] = 1.0 + k
        elif what == "frozen":
            frozen[0] = not frozen[0]
        elif what == "scale":
            scale[1] = 1.0 + 0.5 * k
        elif what == "setting":
            Dozing.settings["factor"] = 1.0 / (1.0 + k)
        else:
            last.neurons[0].w[0].data += 0.1

    settings: dict[str, Any] = {"loss": loss, "optimizer": sgd, "engine": engine}
    losses = []
    for k in range(2):
        losses += nn.fit(run, X, Y, epochs=3, **settings).loss
        change(k)
    for epoch in nn.Training(run, X, Y, epochs=4, **settings):
        losses.append(epoch.loss)
        change(epoch.epoch % 4)
    return [*losses, *numbers(model)]


@pytest.mark.parametrize("what", ["weight", "frozen", "scale", "setting", "other"])
def test_a_program_is_recorded_again_after_any_change_that_its_function_can_reach(what: str) -> None:
    expected = stale(what, "scalar")
    for engine in ("auto", "numpy", *(["native"] if Kernel is not None else [])):
        assert stale(what, engine) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_loop_that_breaks_after_changes_resumes_to_the_last_bit(engine: Any, tmp_path: Path) -> None:
    def run(stop: int, **settings: Any) -> list[float]:
        model, loop = training(engine, epochs=12, lr=0.1, every=3, **settings)
        for epoch in loop:
            loop.optimizer.lr = 0.1 / (1.0 + epoch.epoch)
            if epoch.epoch == stop:
                break
        return [*loop.losses, *numbers(model)]

    run(6, checkpoint=tmp_path / "run.npz")
    assert run(99, resume=tmp_path / "run.npz") == run(99)


def test_a_rate_that_is_no_number_is_named() -> None:
    _, loop = training("numpy")
    wrong: Any = "fast"
    with pytest.raises(ValueError, match="lr is a finite number of at least 0, not 'fast'"):
        for _ in loop:
            loop.optimizer.lr = wrong


def test_a_model_that_counts_or_collects_is_called_for_each_row() -> None:
    model, kept = nn.MLP(2, [3, 1]), []

    rng, other = np.random.default_rng(1), np.random.default_rng(1)

    def collecting(x: Any) -> Any:
        kept.append((x[0], rng.random()))
        return model(x)

    x = np.random.default_rng(0).normal(size=(300, 2))
    assert nn.predict(collecting, x) == pytest.approx(nn.predict(model, x), rel=1e-9)
    assert [*zip(x[:, 0], (other.random() for _ in x))] == kept[-300:]


def test_a_loss_that_reads_the_optimizer_is_recorded_again_as_its_steps_go_on() -> None:
    def train(engine: Any) -> list[float]:
        model, loop = training(engine, epochs=10)
        sgd = loop.optimizer
        loop = nn.Training(
            model, X, Y, loss=lambda p, y: (p - y) ** 2 * (1.0 + 0.1 * sgd.steps), optimizer=sgd, epochs=10,
            engine=engine,
        )  # fmt: skip
        return [epoch.loss for epoch in loop]

    assert train("auto") == pytest.approx(train("scalar"), rel=1e-9)
