"""fit's engines: they train alike, end alike, and fall back where they must."""

import itertools
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nn
from autograd import Value, dot
from autograd.program.variant import Kernel

NATIVE = pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="llvmlite is not installed"))
COMPILED = ["numpy", NATIVE]
X, Y = nn.data.xor()


def network(activation: str = "sigmoid", nouts: Any = (4, 4, 1), seed: int = 0) -> nn.MLP:
    return nn.MLP(2, list(nouts), activation=activation, rng=np.random.default_rng(seed))


def numbers(model: nn.MLP) -> np.ndarray:
    return np.array([p.data for p in model.parameters()])


def trained(
    engine: Any,
    epochs: int = 50,
    optimizer: Any = nn.SGD,
    lr: float = 0.5,
    loss: Callable[..., Any] = nn.squared_error,
    y: np.ndarray = Y,
    nouts: Any = (4, 4, 1),
    **settings: Any,
) -> Any:
    model = network(nouts=nouts)
    optimizer = optimizer(model.parameters(), lr=lr, **settings.pop("extra", {}))
    settings = {"rng": np.random.default_rng(3), **settings}
    history = nn.fit(model, X, y, loss=loss, optimizer=optimizer, epochs=epochs, engine=engine, **settings)
    return model, optimizer, history


@pytest.mark.parametrize("name", ["xor", "linear"])
def test_a_thousand_epochs_go_the_way_of_the_scalar_engine(name: str) -> None:
    x, y = (X, Y) if name == "xor" else nn.data.linear(30, np.random.default_rng(1))
    ways = []
    for engine in ("scalar", "numpy", *(["native"] if Kernel is not None else [])):
        model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
        sgd = nn.SGD(model.parameters(), lr=1.0)
        way: Any = {"optimizer": sgd, "epochs": 1000, "engine": engine}
        ways.append((nn.fit(model, x, y, loss=nn.squared_error, **way).loss, numbers(model)))
    (loss, weights), *others = ways
    for other_loss, other_weights in others:
        assert other_loss == pytest.approx(loss, rel=1e-9)
        assert other_weights == pytest.approx(weights, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize(
    ("optimizer", "extra"), [(nn.SGD, {"momentum": 0.9}), (nn.Adam, {"betas": (0.8, 0.9)})]
)
def test_every_optimizer_and_batch_size_trains_as_the_scalar_engine_does(
    engine: Any, batch_size: int | None, optimizer: Any, extra: Any
) -> None:
    settings: dict[str, Any] = {"optimizer": optimizer, "lr": 0.02, "batch_size": batch_size, "extra": extra}
    model, opt, history = trained(engine, **settings)
    scalar_model, scalar_opt, scalar_history = trained("scalar", **settings)
    assert history.loss == pytest.approx(scalar_history.loss, rel=1e-9)
    assert history.accuracy == scalar_history.accuracy
    assert numbers(model) == pytest.approx(numbers(scalar_model), rel=1e-9)
    assert opt.steps == scalar_opt.steps
    assert np.array(opt.state) == pytest.approx(np.array(scalar_opt.state), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    tmp_path: Path, engine: Any, batch_size: int | None
) -> None:
    settings: dict[str, Any] = {"optimizer": nn.Adam, "lr": 0.01, "batch_size": batch_size}
    whole, _, history = trained(engine, 40, **settings)
    trained(engine, 23, checkpoint=tmp_path / "run.npz", **settings)
    resumed, _, again = trained(engine, 40, resume=tmp_path / "run.npz", **settings)
    assert again.loss == history.loss and np.array_equal(numbers(resumed), numbers(whole))


@pytest.mark.parametrize("engine", COMPILED)
def test_what_a_checkpoint_holds_at_a_log_point_is_what_training_had_reached_there(
    tmp_path: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    monkeypatch.setattr(
        sys.modules["nn.fit"], "save_checkpoint", lambda path, model, *_: saved.append(numbers(model))
    )
    _, _, history = trained(engine, 21, log_every=10, checkpoint=tmp_path / "run.npz")
    reached = [numbers(trained(engine, n)[0]) for n in (1, 11, 21)]
    assert len(history.loss) == 21 and len(saved) == 5
    assert all(np.array_equal(a, b) for a, b in zip(saved[1:], [*reached, reached[-1]]))


@pytest.mark.parametrize("engine", ["scalar", *COMPILED])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_ctrl_c_between_epochs_leaves_parameters_and_history_in_step(
    engine: Any, batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_points = itertools.count()

    def interrupted(*_: Any) -> None:
        if next(log_points) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupted)
    model, _, history = trained(engine, 100, log_every=10, batch_size=batch_size)
    monkeypatch.undo()
    epochs = len(history.loss)
    same, _, other = trained(engine, epochs, batch_size=batch_size)
    assert 20 <= epochs <= 31 and history.loss == other.loss
    assert np.array_equal(numbers(model), numbers(same)) and history.accuracy == other.accuracy


@pytest.mark.parametrize("engine", ["scalar", *COMPILED])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_a_loss_that_is_not_finite_leaves_the_parameters_that_had_the_last_finite_one(
    engine: Any, batch_size: int | None
) -> None:
    model, before = network("relu"), network("relu")
    settings = {"loss": nn.squared_error, "epochs": 1000, "engine": engine, "batch_size": batch_size}
    with pytest.raises(ArithmeticError, match=r"the loss stopped being finite in epoch (\d+)"):
        nn.fit(
            model,
            X,
            Y,
            optimizer=nn.SGD(model.parameters(), lr=1e9),
            rng=np.random.default_rng(0),
            **settings,
        )
    assert np.isfinite(numbers(model)).all()
    loss = nn.MeanLoss(model, nn.squared_error).backward(X, Y)
    assert np.isfinite(loss) and (loss > 1e6 or np.array_equal(numbers(model), numbers(before)))


@pytest.mark.parametrize("engine", COMPILED)
def test_the_error_names_primitive_row_and_line(engine: Any) -> None:
    a = Value(1.0, "a")
    x, y = np.array([[1.0], [2.0], [-3.0]]), np.zeros(3)
    sgd = nn.SGD([a], lr=0.1)
    settings = {"loss": nn.squared_error, "optimizer": sgd, "epochs": 5, "engine": engine}
    for rows, bad in ((x, 2), (x[::-1], 0)):  # the first row is recorded
        with pytest.raises(
            ArithmeticError, match=rf"epoch 0: row {bad}: log\(.*=-3.0\) is undefined, at test_engines"
        ):
            nn.fit(lambda x: np.log(x[0]) * a, rows, y, **settings)
    assert a.data == 1.0


@pytest.mark.parametrize("engine", COMPILED)
def test_parameters_beside_the_optimizers_stay_and_those_beside_the_loss_are_updated(engine: Any) -> None:
    def train(engine: Any) -> list[float]:
        model = network()
        frozen, moved = model.layers[0].parameters(), model.parameters()[12:]
        alone = Value(3.0)
        adam = nn.SGD([*moved[::-1], alone, *frozen[:1]], lr=0.5, momentum=0.5)
        adam.state[len(moved)] = (1.0,)  # it has momentum, though no gradient
        nn.fit(model, X, Y, loss=nn.squared_error, optimizer=adam, epochs=5, engine=engine)
        return [*numbers(model), alone.data]

    assert train(engine) == pytest.approx(train("scalar"), rel=1e-12)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("loss", [nn.squared_error, nn.binary_cross_entropy])
def test_several_outputs(engine: Any, loss: Callable[..., Any]) -> None:
    y = np.hstack([Y, 1 - Y])
    settings: dict[str, Any] = {"loss": loss, "y": y, "nouts": (3, 2)}
    assert trained(engine, **settings)[2].loss == pytest.approx(
        trained("scalar", **settings)[2].loss, rel=1e-9
    )


@pytest.mark.parametrize("engine", COMPILED)
def test_a_penalty_on_all_parameters(engine: Any) -> None:
    def losses(engine: Any) -> list[float]:
        model = network("relu", (8, 8, 1))
        ps = model.parameters()
        loss = lambda p, y: nn.hinge(p, 2.0 * y - 1.0) + 1e-2 * dot(ps, ps)  # noqa: E731
        return nn.fit(model, X, Y, loss=loss, optimizer=nn.SGD(ps, lr=0.1), epochs=50, engine=engine).loss

    assert losses(engine) == pytest.approx(losses("scalar"), rel=1e-9)


class Bold(nn.SGD):
    """Its update takes a branch: it can neither be recorded nor be applied to arrays."""

    def step(self) -> None:
        self.steps += 1
        for p in self.parameters:
            p.data -= self.lr * (1.0 if p.grad > 0 else -1.0)


def test_what_cannot_be_recorded_is_trained_by_values() -> None:
    model = network()
    branching = lambda x: model(x) if x[0] > 0.5 else -model(x)  # noqa: E731
    sgd = nn.SGD(model.parameters(), lr=0.1)
    settings: dict[str, Any] = {"loss": nn.squared_error, "optimizer": sgd, "epochs": 2}
    assert len(nn.fit(branching, X, Y, **settings).loss) == 2
    with pytest.raises(TypeError, match="branch"):
        nn.fit(branching, X, Y, **settings, engine="numpy")
    assert len(nn.fit(model, X, Y, **{**settings, "optimizer": Bold(model.parameters(), lr=0.1)}).loss) == 2
    with pytest.raises(TypeError, match="engine scalar alone"):
        nn.fit(model, X, Y, **{**settings, "optimizer": Bold(model.parameters(), lr=0.1)}, engine="numpy")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="auto, scalar, numpy, native"):
        trained("cuda")


def test_a_missing_llvmlite_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autograd.program.compiled.Kernel", None)
    with pytest.raises(ImportError, match="extra `native`"):
        trained("native")


def noisy(rng: np.random.Generator) -> tuple[nn.MLP, Callable[..., Any]]:
    model = network()
    return model, lambda x: model(x) * (1.0 if rng.random() < 0.5 else 0.0)


class Normed(nn.SGD):
    """Its update of a parameter depends on the others, if there are others in its arguments."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * grad / np.sqrt(np.sum(grad * grad)), state


class Signed(nn.SGD):
    """Its update branches."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * (1.0 if grad > 0 else -1.0), (state[0],)


class Counting(nn.SGD):
    """Its update looks at the step."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - (self.lr if self.steps == 1 else 0.1) * grad, (state[0],)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, y: (1.0 - p) ** 2 if y == 1 else 5.0 * p**2,
        lambda p, y: {0.0: 5.0, 1.0: 1.0}.get(y, 3.0) * (p - y) ** 2,
        lambda p, y: {0.0: 5.0, 1.0: 1.0}[y] * (p - y) ** 2,
        lambda p, y: (p - y) ** 2 if isinstance(y, float) else p,
        lambda p, y: (p - int(y)) ** 2,
    ],
)
def test_a_loss_that_is_not_in_its_graph_is_trained_by_values(loss: Callable[..., Any]) -> None:
    assert trained("auto", 5, loss=loss)[2].loss == trained("scalar", 5, loss=loss)[2].loss
    with pytest.raises((TypeError, KeyError)):
        trained("numpy", 5, loss=loss)


def test_a_model_that_draws_is_trained_by_values() -> None:
    losses = []
    for engine in ("auto", "scalar"):
        rng = np.random.default_rng(1)
        model, draw = noisy(rng)
        sgd = nn.SGD(model.parameters(), lr=0.1)
        losses.append(
            nn.fit(draw, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=3, engine=engine, rng=rng).loss
        )
    assert losses[0] == losses[1]


@pytest.mark.parametrize("optimizer", [Normed, Signed, Counting])
def test_updates_that_are_no_plain_arithmetic_are_left_to_the_engine_that_runs_them(optimizer: Any) -> None:
    auto, scalar = (trained(engine, 20, optimizer=optimizer, lr=0.01) for engine in ("auto", "scalar"))
    assert auto[2].loss == pytest.approx(scalar[2].loss, rel=1e-9)
    refusing: dict[Any, list[Any]] = {
        Normed: ["numpy"],
        Signed: ["numpy", *(["native"] if Kernel is not None else [])],
        Counting: [],
    }
    for engine in refusing[optimizer]:
        with pytest.raises((TypeError, ValueError)):
            trained(engine, 5, optimizer=optimizer)


@pytest.mark.parametrize("engine", ["scalar", *COMPILED])
@pytest.mark.parametrize("batch_size", [None, 1])
def test_a_gradient_that_is_not_finite_though_the_loss_is_ends_training(
    engine: Any, batch_size: int | None
) -> None:
    w, s = Value(1.0), Value(0.25)  # s is 0 after the first step
    settings: dict[str, Any] = {
        "loss": lambda p, y: (p - y) ** 2 + s.sqrt(),
        "optimizer": nn.SGD([w, s], lr=0.25),
    }
    x, y = np.array([[1.0]]), np.array([0.5])
    with pytest.raises(ArithmeticError, match=r"in epoch 1: .*the derivative of sqrt\(0.0\)"):
        nn.fit(
            lambda x: w * x[0],
            x,
            y,
            epochs=50,
            engine=engine,
            batch_size=batch_size,
            rng=np.random.default_rng(0),
            **settings,
        )
    assert np.isfinite([w.data, s.data]).all()


@pytest.mark.parametrize("engine", ["scalar", *COMPILED])
def test_a_parameter_that_overflows_though_the_loss_does_not_ends_training(engine: Any) -> None:
    w = Value(0.0)
    settings = {"loss": lambda p, y: 0.6 * p + y, "optimizer": nn.SGD([w], lr=1e308), "engine": engine}
    with pytest.raises(ArithmeticError, match=r"in epoch [23]: "):
        nn.fit(lambda x: w * x[0], np.ones((1, 1)), np.zeros(1), epochs=9, **settings)
    assert w.data in (-0.6e308, -1.2e308)


def test_on_a_slow_machine_native_training_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite", reason="llvmlite is not installed")
    expected = trained("native", 40)[2].loss
    monkeypatch.setattr("nn.trainers.time", SimpleNamespace(perf_counter=itertools.count().__next__))
    assert trained("native", 40)[2].loss == expected


# A compiled engine is held to the Values. What is right is computed here by hand, or by the scalar engine.

POINTS = np.arange(12.0)[:, None]


def line(
    engine: Any,
    y: np.ndarray,
    loss: Callable[..., Any],
    lr: float = 1e-4,
    epochs: int = 3,
    optimizer: Any = nn.SGD,
    **settings: Any,
) -> tuple[Value, nn.History]:
    """A line through 0 of slope 1 at first; its parameter, and the history of its training."""
    w = Value(1.0, "w")
    sgd = optimizer([w], lr=lr)
    settings = {"loss": loss, "optimizer": sgd, "epochs": epochs, "engine": engine, **settings}
    return w, nn.fit(lambda x: w * x[0], POINTS[: len(y)], y, **settings)


def huber(p: Any, y: Any) -> Any:
    e = p - y
    return 0.5 * e**2 if abs(e.data) <= 1.0 else abs(e) - 0.5


def weighted(p: Any, y: Any) -> Any:
    return {9.0: 100.0, 3e-4: 7.0, 9e8: 3.0}.get(y, 1.0) * (p - y) ** 2


OUTLIER = np.where(np.arange(12) == 5, 100.0, np.arange(12))
RARE = np.where(np.arange(12) == 7, 9.0, np.arange(12) % 3)
TINY = np.where(np.arange(12) == 7, 3e-4, 1e-4)


@pytest.mark.parametrize("engine", ["auto", "scalar", "numpy"])
def test_a_loss_that_reads_data_is_detached_there(engine: Any) -> None:
    w, history = line(engine, OUTLIER, lambda p, y: (p - y) ** 2 * abs((p - y).data), lr=1e-9, epochs=1)
    assert history.loss[0] == pytest.approx(95.0**3 / 12, rel=1e-12) and not history.reason
    assert w.data == pytest.approx(1.0 + 1e-9 * 2 * 95.0**2 * 5 / 12, rel=1e-15)


@pytest.mark.parametrize(
    "y, loss, right",
    [
        (OUTLIER, huber, 94.5 / 12),
        (RARE, weighted, np.mean(np.where(RARE == 9, 100.0, 1.0) * (POINTS[:, 0] - RARE) ** 2)),
        (1e8 * RARE, weighted, np.mean(np.where(RARE == 9, 3.0, 1.0) * (POINTS[:, 0] - 1e8 * RARE) ** 2)),
    ],
)
def test_a_loss_that_no_graph_has_is_what_the_values_do_and_it_is_said_why(
    y: np.ndarray, loss: Callable[..., Any], right: float, capsys: pytest.CaptureFixture[str]
) -> None:
    w, history = line("auto", y, loss, lr=1e-12)
    same, scalar = line("scalar", y, loss, lr=1e-12)
    assert history.loss[0] == pytest.approx(right, rel=1e-12)
    assert (history.loss, w.data, history.engine) == (scalar.loss, same.data, "scalar")
    assert capsys.readouterr().err == f"engine scalar trains, as no other can: {history.reason}\n"
    for engine in ("numpy", *(["native"] if Kernel is not None else [])):
        with pytest.raises(TypeError):
            line(engine, y, loss)


@pytest.mark.parametrize("scale", [1e-4, 1e-100, 1e60])
def test_no_size_of_the_data_hides_a_weight(scale: float) -> None:
    y = scale * np.arange(1.0, 7.0)
    loss = lambda p, t: {y[4]: 3.0}.get(t, 1.0) * (p * scale - t) ** 2  # noqa: E731
    auto, scalar = (line(engine, y, loss, lr=1e-4 / scale**2)[1] for engine in ("auto", "scalar"))
    assert auto.loss == scalar.loss and auto.reason


def test_of_many_rows_every_target_that_is_repeated_is_looked_at() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3000, 2)), rng.integers(0, 500, 3000).astype(float)
    y[1234] = 123.5
    for engine, said in (("auto", True), ("scalar", False)):
        model = network(nouts=(1,))
        loss = lambda p, t: {123.5: 5.0}.get(t, 1.0) * (p - t) ** 2  # noqa: E731
        settings: Any = {
            "loss": loss,
            "optimizer": nn.SGD(model.parameters(), lr=1e-9),
            "epochs": 1,
            "engine": engine,
        }
        history = nn.fit(model, x, y, **settings)
        assert bool(history.reason) == said and history.engine == "scalar"


@pytest.mark.parametrize("kind", ["captured", "numpy", "python"])
def test_a_dropout_that_is_rare_is_never_left_out(kind: str) -> None:
    def train(engine: Any, seed: int) -> nn.History:
        np.random.seed(seed)
        random.seed(seed)
        rng = np.random.default_rng(seed)
        draw: Any = {"captured": rng.random, "numpy": np.random.randn, "python": random.random}[kind]
        model = network("tanh", seed=seed)
        first, second, last = model.layers
        dropped = lambda x: last(second([h * (0.0 if abs(draw()) < 1e-3 else 1.0) for h in first(x)]))  # noqa: E731
        settings: Any = {
            "loss": nn.squared_error,
            "optimizer": nn.SGD(model.parameters(), lr=0.1),
            "epochs": 2,
        }
        return nn.fit(dropped, X, Y, engine=engine, **settings)

    for seed in range(5):
        auto, scalar = train("auto", seed), train("scalar", seed)
        assert auto.loss == scalar.loss and "random" in auto.reason


class Scheduled(nn.SGD):
    """Its update looks the step up, which recording cannot see."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * SCHEDULE.get(self.steps, 1.0) * grad, (state[0],)


SCHEDULE = dict.fromkeys(range(40, 10**4), 3.0)


class Decaying(nn.SGD):
    """Its rate is another at each step, which only the optimizer itself keeps."""

    seen = 0

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        if self.seen != self.steps:
            self.seen, self.lr = self.steps, 0.99 * self.lr
        return data - self.lr * grad, (state[0],)


class OverAll(nn.SGD):
    """Its update looks at all parameters, of which those before are updated already."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        size = sum(p.data**2 + p.grad**2 for p in self.parameters)
        return data - self.lr * grad / size, (state[0],)


class InPlace(nn.SGD):
    """Its update changes its arguments, where they can be changed."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        data -= self.lr * grad
        return data, state


@pytest.mark.parametrize("optimizer", [Scheduled, Decaying, OverAll, InPlace])
@pytest.mark.parametrize("engine", ["auto", *COMPILED])
def test_an_update_is_what_floats_do_or_it_is_said_why_not(engine: Any, optimizer: Any) -> None:
    _, expected, scalar = trained("scalar", 40, optimizer=optimizer, lr=0.01)
    try:
        _, found, history = trained(engine, 40, optimizer=optimizer, lr=0.01)
    except TypeError as error:
        assert engine != "auto", error
    else:
        assert history.loss == pytest.approx(scalar.loss, rel=1e-12) and found.lr == expected.lr
        assert (engine, optimizer) != ("numpy", InPlace)  # which would spoil what is kept to go back to


def test_an_update_that_looks_at_values_is_left_to_values() -> None:
    auto, scalar = (
        line(e, OUTLIER, nn.squared_error, lr=1.0, optimizer=OverAll)[1] for e in ("auto", "scalar")
    )
    assert auto.loss == scalar.loss and "OverAll.update" in auto.reason
    with pytest.raises(TypeError, match=r"OverAll.update takes parameter 0 .* to nan"):
        line("numpy", OUTLIER, nn.squared_error, lr=1.0, optimizer=OverAll)


def scheduled_loss(optimizer: nn.Adam, at: int) -> Callable[..., Any]:
    """A loss that is another from some step on, as the optimizer counts them."""
    return lambda p, y: (p - y) ** 2 * (1.0 if optimizer.steps < at else 2.0)


def trained_by_schedule(
    engine: Any, epochs: int = 60, at: int = 40, lr: float = 0.1, **settings: Any
) -> tuple[nn.MLP, Callable[..., Any], dict[str, Any]]:
    model = network()
    adam = nn.Adam(model.parameters(), lr=lr)
    settings = {
        "optimizer": adam,
        "loss": scheduled_loss(adam, at),
        "rng": np.random.default_rng(3),
        **settings,
    }
    return model, nn.fit, {"model": model, "X": X, "Y": Y, "epochs": epochs, "engine": engine, **settings}


@pytest.mark.parametrize("batch_size", [None, 8])
def test_values_go_on_from_where_they_were_last_the_same(
    batch_size: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    at = 40 if batch_size is None else 120
    model, fit, settings = trained_by_schedule("auto", at=at, batch_size=batch_size)
    history = fit(**settings)
    same, fit, settings = trained_by_schedule("scalar", at=at, batch_size=batch_size)
    scalar = fit(**settings)
    assert history.loss == pytest.approx(scalar.loss, rel=1e-9) and len(history.loss) == 60
    assert numbers(model) == pytest.approx(numbers(same), rel=1e-9)
    assert history.engine == "scalar" and history.reason.startswith("after 60 epochs the loss of row 0 is")
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("engine", COMPILED)
def test_an_engine_that_was_asked_for_stops_where_it_was_last_right(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nn.trainers.Trainer.SHARE", 1e9)  # it looks after 1, 2, ..., 32 and 60 epochs
    model, fit, settings = trained_by_schedule(engine)
    with pytest.raises(TypeError, match=r"after 60 epochs the loss of row 0 is .* before epoch 32"):
        fit(**settings)
    assert settings["optimizer"].steps == 32
    same, fit, settings = trained_by_schedule(engine, epochs=32)
    fit(**settings)
    assert np.array_equal(numbers(model), numbers(same))


def test_what_is_saved_has_been_verified(tmp_path: Path) -> None:
    _, fit, settings = trained_by_schedule("numpy", log_every=5, checkpoint=tmp_path / "run.npz")
    with pytest.raises(TypeError, match="after 41 epochs"):
        fit(**settings)
    resumed, fit, settings = trained_by_schedule("scalar", resume=tmp_path / "run.npz")
    assert len(fit(**settings).loss) == 60
    same, fit, settings = trained_by_schedule("scalar")
    fit(**settings)
    assert numbers(resumed) == pytest.approx(numbers(same), rel=1e-9)


def test_ctrl_c_leaves_what_has_been_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    log_points = itertools.count()

    def interrupted(line: str, file: Any = sys.stdout) -> None:
        if next(log_points) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupted)
    monkeypatch.setattr("nn.trainers.Trainer.SHARE", 1e9)
    model, fit, settings = trained_by_schedule("auto", log_every=10)
    history = fit(**settings)
    monkeypatch.undo()
    same, fit, settings = trained_by_schedule("auto", epochs=32)
    assert history.loss == fit(**settings).loss and np.array_equal(numbers(model), numbers(same))


def test_a_loss_that_is_not_finite_without_the_values_is_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nn.trainers.Trainer.SHARE", -1.0)  # it looks after 256 epochs and after 1024

    def train(engine: Any) -> nn.History:
        w = Value(1.0, "w")
        sgd = nn.SGD([w], lr=2.0)  # its steps triple w, which overflows after 323, or take four tenths of it
        settings = {"optimizer": sgd, "epochs": 400, "engine": engine}
        loss = lambda p, y: p * p if sgd.steps < 300 else 0.1 * p * p  # noqa: E731
        return nn.fit(lambda x: w * x[0], np.ones((1, 1)), [0.0], loss=loss, **settings)

    auto = train("auto")
    assert auto.loss == pytest.approx(train("scalar").loss, rel=1e-9) and auto.reason


@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam])
@pytest.mark.parametrize("offset", [0.0, 1e7])
@pytest.mark.parametrize("engine", COMPILED)
def test_rounding_is_no_difference(engine: Any, offset: float, optimizer: Any) -> None:
    """Trained until the residuals and the gradient are rounding alone, and cancel."""
    x = offset + np.arange(8.0)
    a, b = Value(0.9, "a"), Value(offset, "b")
    model = lambda x: a * (x[0] - offset) + (b - offset)  # noqa: E731
    settings = {"loss": nn.squared_error, "optimizer": optimizer([a, b], lr=0.05), "epochs": 3000}
    assert nn.fit(model, x[:, None], 3.0 * (x - offset) + 1.0, engine=engine, **settings).loss[-1] < 1e-4


@pytest.mark.parametrize("square", [lambda e: e**2.0, lambda e: e * e, lambda e: dot([e], [e])])
@pytest.mark.parametrize("engine", COMPILED)
def test_the_square_of_rounding_is_no_difference(engine: Any, square: Callable[..., Any]) -> None:
    for seed in range(10):  # of which a few end a unit beside 0, on one engine of two
        model = network(nouts=(2, 1), seed=seed)
        settings = {"optimizer": nn.SGD(model.parameters(), lr=1.0), "epochs": 1500, "engine": engine}
        nn.fit(model, X[:2], Y[:2], loss=lambda p, y: square(p - y), **settings)


def test_no_line_is_printed_where_nothing_fell_back(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in ("scalar", "numpy", "auto"):
        assert trained(engine, 3)[2].reason == ""
    matrix = nn.MatrixMLP.from_state_dict(network().state_dict(), "sigmoid")
    sgd = nn.SGD(matrix.parameters(), lr=0.1)
    assert nn.fit(matrix, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=2).reason == ""
    assert capsys.readouterr() == ("", "")


def test_gradients_and_parameters_are_as_if_nothing_had_been_looked_at() -> None:
    model = network()
    parameters = model.parameters()
    for p in parameters:
        p.grad = 5.0
    sgd = nn.SGD(parameters, lr=0.1)
    nn.fit(model, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=3, engine="numpy")
    assert {p.grad for p in parameters} == {5.0} and np.isfinite(numbers(model)).all()
