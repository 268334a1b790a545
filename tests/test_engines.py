"""fit's engines: they train alike, end alike, and fall back where they must."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import nn
from autograd import Value, dot
from autograd.program.reading import Kernel

NATIVE = pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="llvmlite is not installed"))
COMPILED = ["numpy", NATIVE]
X, Y = nn.data.xor()


def network(activation="sigmoid", nouts=(4, 4, 1), seed=0):
    return nn.MLP(2, list(nouts), activation=activation, rng=np.random.default_rng(seed))


def numbers(model):
    return np.array([p.data for p in model.parameters()])


def trained(
    engine, epochs=50, optimizer=nn.SGD, lr=0.5, loss=nn.squared_error, y=Y, nouts=(4, 4, 1), **settings
):
    model = network(nouts=nouts)
    optimizer = optimizer(model.parameters(), lr=lr, **settings.pop("extra", {}))
    settings = {"rng": np.random.default_rng(3), **settings}
    history = nn.fit(model, X, y, loss=loss, optimizer=optimizer, epochs=epochs, engine=engine, **settings)
    return model, optimizer, history


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("name", ["xor", "linear"])
def test_a_thousand_epochs_go_the_way_of_the_scalar_engine(engine, name):
    x, y = (X, Y) if name == "xor" else nn.data.linear(30, np.random.default_rng(1))
    ways = []
    for one in ("scalar", engine):
        model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
        sgd = nn.SGD(model.parameters(), lr=1.0)
        ways.append(
            (nn.fit(model, x, y, loss=nn.squared_error, optimizer=sgd, epochs=1000, engine=one), model)
        )
    (scalar, scalar_model), (history, model) = ways
    assert history.loss == pytest.approx(scalar.loss, rel=1e-9)
    assert numbers(model) == pytest.approx(numbers(scalar_model), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize(
    ("optimizer", "extra"), [(nn.SGD, {"momentum": 0.9}), (nn.Adam, {"betas": (0.8, 0.9)})]
)
def test_every_optimizer_and_batch_size_trains_as_the_scalar_engine_does(
    engine, batch_size, optimizer, extra
):
    settings = {"optimizer": optimizer, "lr": 0.02, "batch_size": batch_size, "extra": extra}
    model, opt, history = trained(engine, **settings)
    scalar_model, scalar_opt, scalar_history = trained("scalar", **settings)
    assert history.loss == pytest.approx(scalar_history.loss, rel=1e-9)
    assert history.accuracy == scalar_history.accuracy
    assert numbers(model) == pytest.approx(numbers(scalar_model), rel=1e-9)
    assert opt.steps == scalar_opt.steps
    assert np.array(opt.state) == pytest.approx(np.array(scalar_opt.state), rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("engine", COMPILED)
@pytest.mark.parametrize("batch_size", [None, 8])
def test_resumed_training_is_bit_for_bit_the_uninterrupted_one(tmp_path, engine, batch_size):
    settings = {"optimizer": nn.Adam, "lr": 0.01, "batch_size": batch_size}
    whole, _, history = trained(engine, 40, **settings)
    trained(engine, 23, checkpoint=tmp_path / "run.npz", **settings)
    resumed, _, again = trained(engine, 40, resume=tmp_path / "run.npz", **settings)
    assert again.loss == history.loss and np.array_equal(numbers(resumed), numbers(whole))


@pytest.mark.parametrize("engine", COMPILED)
def test_what_a_checkpoint_holds_at_a_log_point_is_what_training_had_reached_there(
    tmp_path, engine, monkeypatch
):
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
def test_ctrl_c_between_epochs_leaves_parameters_and_history_in_step(engine, batch_size, monkeypatch):
    log_points = itertools.count()

    def interrupted(*_):
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
def test_a_loss_that_is_not_finite_leaves_the_parameters_that_had_the_last_finite_one(engine, batch_size):
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
def test_the_error_names_primitive_row_and_line(engine):
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
def test_parameters_beside_the_optimizers_stay_and_those_beside_the_loss_are_updated(engine):
    def train(engine):
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
def test_several_outputs(engine, loss):
    y = np.hstack([Y, 1 - Y])
    settings = {"loss": loss, "y": y, "nouts": (3, 2)}
    assert trained(engine, **settings)[2].loss == pytest.approx(
        trained("scalar", **settings)[2].loss, rel=1e-9
    )


@pytest.mark.parametrize("engine", COMPILED)
def test_a_penalty_on_all_parameters(engine):
    def losses(engine):
        model = network("relu", (8, 8, 1))
        ps = model.parameters()
        loss = lambda p, y: nn.hinge(p, 2.0 * y - 1.0) + 1e-2 * dot(ps, ps)  # noqa: E731
        return nn.fit(model, X, Y, loss=loss, optimizer=nn.SGD(ps, lr=0.1), epochs=50, engine=engine).loss

    assert losses(engine) == pytest.approx(losses("scalar"), rel=1e-9)


class Bold(nn.SGD):
    """Its update takes a branch: it can neither be recorded nor be applied to arrays."""

    def step(self):
        self.steps += 1
        for p in self.parameters:
            p.data -= self.lr * (1.0 if p.grad > 0 else -1.0)


def test_what_cannot_be_recorded_is_trained_by_values():
    model = network()
    branching = lambda x: model(x) if x[0] > 0.5 else -model(x)  # noqa: E731
    sgd = nn.SGD(model.parameters(), lr=0.1)
    settings = {"loss": nn.squared_error, "optimizer": sgd, "epochs": 2}
    assert len(nn.fit(branching, X, Y, **settings).loss) == 2
    with pytest.raises(TypeError, match="branch"):
        nn.fit(branching, X, Y, **settings, engine="numpy")
    assert len(nn.fit(model, X, Y, **{**settings, "optimizer": Bold(model.parameters(), lr=0.1)}).loss) == 2
    with pytest.raises(TypeError, match="engine scalar alone"):
        nn.fit(model, X, Y, **{**settings, "optimizer": Bold(model.parameters(), lr=0.1)}, engine="numpy")


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="auto, scalar, numpy, native"):
        trained("cuda")


def test_a_missing_llvmlite_is_said(monkeypatch):
    monkeypatch.setattr("autograd.program.compiled.Kernel", None)
    with pytest.raises(ImportError, match="extra `native`"):
        trained("native")


def noisy(rng):
    model = network()
    return model, lambda x: model(x) * (1.0 if rng.random() < 0.5 else 0.0)


class Normed(nn.SGD):
    """Its update of a parameter depends on the others, if there are others in its arguments."""

    def update(self, data, grad, state):
        return data - self.lr * grad / np.sqrt(np.sum(grad * grad)), state


class Signed(nn.SGD):
    """Its update branches."""

    def update(self, data, grad, state):
        return data - self.lr * (1.0 if grad > 0 else -1.0), (state[0],)


class Counting(nn.SGD):
    """Its update looks at the step."""

    def update(self, data, grad, state):
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
def test_a_loss_that_is_not_in_its_graph_is_trained_by_values(loss):
    assert trained("auto", 5, loss=loss)[2].loss == trained("scalar", 5, loss=loss)[2].loss
    with pytest.raises((TypeError, KeyError)):
        trained("numpy", 5, loss=loss)


def test_a_model_that_draws_is_trained_by_values():
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
def test_updates_that_are_no_plain_arithmetic_are_left_to_the_engine_that_runs_them(optimizer):
    auto, scalar = (trained(engine, 20, optimizer=optimizer, lr=0.01) for engine in ("auto", "scalar"))
    assert auto[2].loss == pytest.approx(scalar[2].loss, rel=1e-9)
    refusing = {Normed: ["numpy"], Signed: ["numpy", *(["native"] if Kernel else [])], Counting: []}
    for engine in refusing[optimizer]:
        with pytest.raises((TypeError, ValueError)):
            trained(engine, 5, optimizer=optimizer)


@pytest.mark.parametrize("engine", ["scalar", *COMPILED])
@pytest.mark.parametrize("batch_size", [None, 1])
def test_a_gradient_that_is_not_finite_though_the_loss_is_ends_training(engine, batch_size):
    w, s = Value(1.0), Value(0.25)  # s is 0 after the first step
    settings = {"loss": lambda p, y: (p - y) ** 2 + s.sqrt(), "optimizer": nn.SGD([w, s], lr=0.25)}
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
def test_a_parameter_that_overflows_though_the_loss_does_not_ends_training(engine):
    w = Value(0.0)
    settings = {"loss": lambda p, y: 0.6 * p + y, "optimizer": nn.SGD([w], lr=1e308), "engine": engine}
    with pytest.raises(ArithmeticError, match=r"in epoch [23]: "):
        nn.fit(lambda x: w * x[0], np.ones((1, 1)), np.zeros(1), epochs=9, **settings)
    assert w.data in (-0.6e308, -1.2e308)


def test_on_a_slow_machine_native_training_is_the_same(monkeypatch):
    pytest.importorskip("llvmlite", reason="llvmlite is not installed")
    expected = trained("native", 40)[2].loss
    monkeypatch.setattr("nn.trainers.time", SimpleNamespace(perf_counter=itertools.count().__next__))
    assert trained("native", 40)[2].loss == expected
