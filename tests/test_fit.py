"""Training: its history, its output, its end by Ctrl-C or by a bad loss, and how it resumes."""

import functools
import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from soak_training import tried

import nn
from autograd import Value, compile

X, Y = nn.data.xor()


def training(
    seed: int = 0,
    optimizer: Any = nn.SGD,
    lr: float = 0.5,
    batch_size: int | None = None,
    matrix: bool = False,
    nouts: Any = (4, 1),
) -> Any:
    """A model, and a function that trains it up to some number of epochs."""
    rng = np.random.default_rng(seed)
    model: Any = nn.MLP(2, list(nouts), activation="sigmoid", rng=rng)
    if matrix:
        model = nn.MatrixMLP.from_state_dict(model.state_dict(), "sigmoid")
    opt = optimizer(model.parameters(), lr=lr)

    def train(epochs: Any, x: Any = X, y: Any = Y, loss: Any = nn.squared_error, **kwargs: Any) -> nn.History:
        options = {"batch_size": batch_size, "rng": rng, "engine": "scalar", **kwargs}
        return nn.fit(model, x, y, loss=loss, optimizer=opt, epochs=epochs, **options)

    model.optimizer = opt
    return model, train


def failing(error: Any, call: int) -> Callable[..., Any]:
    """A squared error that raises the error instead at one of its calls."""
    calls = itertools.count(1)

    @functools.wraps(nn.squared_error)  # as which it is known to a checkpoint
    def loss(p: Value, y: Any) -> Value:
        if next(calls) == call:
            raise error
        return nn.squared_error(p, y)

    return loss


def same(a: Any, b: Any) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_full_batch_epoch_is_one_step_along_the_mean_gradient() -> None:
    model, train = training()
    twin, _ = training()
    history = train(1)
    total: Any = sum(nn.squared_error(twin(x), y) for x, y in zip(X, Y)) / len(X)
    total.backward()
    assert history.loss == [pytest.approx(total.data, rel=1e-14)]
    for p, q in zip(model.parameters(), twin.parameters()):
        assert p.data == pytest.approx(q.data - 0.5 * q.grad, rel=1e-12)
    assert history.accuracy == nn.accuracy(model, X, Y) and history.seconds > 0


def test_batches_hold_every_example_once_in_an_order_of_the_generator() -> None:
    seen = []

    def loss(p: Value, y: float) -> Value:
        seen.append(p.data)
        return nn.squared_error(p, y)

    model, train = training(batch_size=8, lr=1e-12)
    train(2, loss=loss)
    all_of_them = sorted(p for [p] in nn.predict(model, X))
    first, second = seen[:21], seen[21:]
    assert sorted(first) == pytest.approx(all_of_them) and sorted(second) == pytest.approx(all_of_them)
    assert first != pytest.approx(second)
    full, batched = (training(batch_size=size, lr=1e-12)[1](1).loss for size in (None, 8))
    assert batched == pytest.approx(full, rel=1e-9)  # though the last batch has 5 examples


def test_it_prints_in_the_labs_form_and_draws_no_bar_where_no_terminal_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, train = training()
    history = train(21, log_every=10)
    out, err = capsys.readouterr()
    assert out == "".join(f"epoch {e} loss: {history.loss[e]}\n" for e in (0, 10, 20)) and err == ""
    train(22, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_bar_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")
    _, train = training()
    train(5, progress=True)
    assert "5/5" in capsys.readouterr().err


def test_asking_for_a_bar_without_tqdm_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    _, train = training()
    train(5, progress=True)
    assert "extra `progress`" in capsys.readouterr().err


def test_a_bar_that_nobody_asked_for_is_left_out_without_a_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    _, train = training()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(5)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("matrix", [False, True])
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("optimizer", [nn.SGD, nn.Adam])
def test_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    tmp_path: Path, optimizer: Any, batch_size: int | None, matrix: bool
) -> None:
    settings = {"optimizer": optimizer, "batch_size": batch_size, "matrix": matrix}
    whole, train = training(**settings)
    expected = train(20).loss
    _, train = training(**settings)
    train(13, checkpoint=tmp_path / "run.npz")
    resumed, train = training(**settings)
    with np.load(tmp_path / "run.npz") as archive:
        seconds = archive["seconds"]
    history = train(20, resume=tmp_path / "run.npz", rng=np.random.default_rng(99))
    assert history.loss == expected and same(resumed, whole) and history.seconds > seconds
    again = train(20, resume=tmp_path / "run.npz", rng=np.random.default_rng(99))
    assert again.loss == expected and same(resumed, whole)


def test_ctrl_c_keeps_whole_epochs_and_resumes(tmp_path: Path) -> None:
    whole, train = training(batch_size=8, optimizer=nn.Adam)
    expected = train(10).loss
    loss = failing(KeyboardInterrupt, 4 * 21 + 11)
    model, train = training(batch_size=8, optimizer=nn.Adam)
    history = train(10, loss=loss, checkpoint=tmp_path / "run.npz")
    assert history.loss == expected[:4] and history.accuracy == nn.accuracy(model, X, Y)
    model, train = training(batch_size=8, optimizer=nn.Adam)
    assert train(10, resume=tmp_path / "run.npz").loss == expected and same(model, whole)


def test_ctrl_c_before_the_first_epoch_changes_nothing() -> None:
    model, train = training()
    history = train(10, loss=failing(KeyboardInterrupt, 1), engine="auto")
    assert (history.loss, history.engine) == ([], "") and same(model, training()[0])


class Interrupting(list[Any]):
    """Parameters that raise KeyboardInterrupt when they are gone through for the n-th time."""

    uses_left = math.inf

    def __iter__(self) -> Any:
        self.uses_left -= 1
        if self.uses_left == 0:
            raise KeyboardInterrupt
        return super().__iter__()


def test_ctrl_c_at_any_moment_leaves_parameters_and_history_in_step() -> None:
    expected = training()[1](9).loss
    for uses in range(3, 15):
        model, train = training()
        model.optimizer.parameters = Interrupting(model.optimizer.parameters)
        model.optimizer.parameters.uses_left = uses
        history = train(8)
        done = len(history.loss)
        assert done < 8 and history.loss == expected[:done]
        assert train(1).loss == [expected[done]]


def test_a_loss_and_a_model_of_ones_own() -> None:
    """Any function of one example does; a single output and its target arrive bare."""
    w = [Value(0.1), Value(0.2)]
    for output in (lambda p: p, lambda p: [p], lambda p: (p,), lambda p: np.array([p])):
        history = nn.fit(
            lambda x, output=output: output(w[0] * x[0] + w[1] * x[1]),
            X,
            Y.ravel(),
            loss=lambda p, y: (p - y) ** 2 if isinstance(p, Value) else (p[0] - y) ** 2,
            optimizer=nn.SGD(w, lr=0.1),
            epochs=3,
        )
        assert history.loss[2] < history.loss[0]


def test_rows_are_arrays_that_a_model_may_write_into() -> None:
    w = [Value(0.5), Value(-0.3)]

    def model(x: np.ndarray) -> Any:
        assert type(x) is np.ndarray and x.dtype == float
        x *= 2.0
        return np.array([w[0] * np.mean(x), w[1] * x[0]])

    def loss(p: np.ndarray, y: np.ndarray) -> Value:
        assert type(y) is np.ndarray and type(y[0]) is np.float64
        y += 1.0
        return nn.squared_error(p, y)

    x, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    predictions = np.stack([0.5 * 2.0 * x.mean(axis=1), -0.3 * 2.0 * x[:, 0]], axis=1)
    assert nn.predict(model, x) == pytest.approx(predictions)
    mean = 0.5 * np.sum((predictions - (y + 1.0)) ** 2) / 2
    assert nn.MeanLoss(model, loss).backward(x, y) == pytest.approx(mean)
    assert x.tolist() == [[1.0, 2.0], [3.0, 4.0]] and y.tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("matrix", [False, True])
@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_names_the_epoch_and_keeps_the_last_finite_parameters(matrix: bool) -> None:
    model, train = training(lr=1e200, matrix=matrix)
    with pytest.raises(ArithmeticError, match="in epoch 1: "):
        train(5)
    assert same(model, training(matrix=matrix)[0])
    assert all(np.isfinite(a).all() for a in model.state_dict().values())


def test_it_names_the_line_of_the_program_that_trains() -> None:
    _, train = training()
    with pytest.raises(ArithmeticError, match=r"nan.* is not finite, at test_fit.py:\d+: return nn.fit"):
        train(1, x=np.where(X > 0.95, np.nan, X))


def test_parameters_that_overflow_in_the_last_epoch_are_noticed() -> None:
    model, train = training(lr=1e308)
    with pytest.raises(ArithmeticError, match="in epoch 1: "):
        train(1, y=1e3 * Y)
    assert same(model, training()[0])


@pytest.mark.parametrize(
    "x, y, kind, said",
    [
        (X, Y[:5], ValueError, r"\(21, 2\) and Y \(5, 1\)"),
        (X[:0], Y[:0], ValueError, r"\(0, 2\) and Y \(0, 1\): there is no example"),
        (X[:, :1], Y, ValueError, r"\(21, 1\) and Y \(21, 1\).* takes 2 inputs, not 1"),
        (X, np.hstack([Y, Y]), ValueError, r"\(21, 2\) and Y \(21, 2\), but the model's outputs are 1"),
        (X[0], Y[0], ValueError, r"\(2,\) and Y \(1,\)"),
        (X[:, 0], Y, ValueError, r"\(21,\) and Y \(21, 1\).* X\[:, None\]"),
        (X.astype(str), Y, TypeError, "X holds <U"),
        (X, np.where(Y > 0, np.array(None), Y), TypeError, r"Y\[1, 0\] is None, not a real number"),
        (np.ma.masked_greater(X, 0.9), Y, ValueError, r"X\[1, 1\] is masked"),
        (X * 1j, Y, TypeError, "X holds complex"),
    ],
)
def test_data_that_does_not_fit_is_refused(x: Any, y: np.ndarray, kind: Any, said: str) -> None:
    for matrix in (False, True):
        model, train = training(matrix=matrix)
        if matrix and "takes 2 inputs" in said:
            said = "which the model does not take"
        with pytest.raises(kind, match=said):
            train(1, x, y)
        assert same(model, training(matrix=matrix)[0])


class Frame:
    """The looks of a data frame with a column of numbers and one of truth values."""

    columns, ndim = ("size", "big"), 2

    def __init__(self, rows: list[list[Any]]) -> None:
        self.rows = rows

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self.rows, dtype=object)

    def __iter__(self) -> Any:
        return iter(self.columns)


def test_columns_of_several_types_are_numbers_or_named() -> None:
    model, train = training()
    rows: list[list[Any]] = [[0.5, True], [np.float32(2.0), np.False_]] * 2
    expected = training()[1](3, np.array(rows, dtype=float), [0, 1, 0, 1]).loss
    assert train(3, Frame(rows), [0, 1, 0, 1]).loss == expected
    with pytest.raises(TypeError, match=r"X\[1, 1\] \(column big\) is 'no', not a real number"):
        nn.predict(model, Frame([[0.5, True], [0.5, "no"]]))
    with pytest.raises(ValueError, match=r"nn.predict\(model, X\)"):
        model(Frame(rows))


def test_a_number_that_is_unknown_is_named_before_what_comes_of_it() -> None:
    x, y = np.where(X > 0.95, np.nan, X), np.where(Y > 0.5, np.inf, Y)
    for engine in ("auto", "scalar"):
        for data, said in (
            ((x, Y), "X, row 1, column 1 is nan"),
            ((X, y), "Y, row 1, column 0 is inf"),
        ):
            with pytest.raises(ArithmeticError, match=f"^{said}: the loss") as error:
                training()[1](1, *data, engine=engine)
            assert "learning rate" not in str(error.value)
    with pytest.raises(ArithmeticError, match=r"^X, row 1, column 1 is nan: dot"):
        nn.predict(training()[0], x)


def test_a_model_or_a_loss_that_returns_something_else_is_told_so() -> None:
    model, train = training()
    wrong: Any
    for wrong in (nn.MLP, nn.Module(), compile(model)):
        with pytest.raises(TypeError, match="a model is a function of one example's inputs"):
            nn.predict(wrong, X)
    with pytest.raises(TypeError, match="returns a Value or a vector of them, not None"):
        nn.predict(lambda x: None, X)
    with pytest.raises(ValueError, match="gives 1 or 2 outputs"):
        nn.predict(lambda x: [0.0] * (1 if x[0] < 0.5 else 2), X)
    for wrong in (lambda p, y: [p - y], lambda p, y: None, lambda p, y: np.array([p - y])):
        with pytest.raises(TypeError, match="the loss of one example is one Value, not"):
            train(1, loss=wrong)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    model, _ = training()
    other = nn.SGD(training()[0].parameters(), lr=1.0)
    for wrong, kind, said in (
        ({"loss": "mse"}, TypeError, "loss is a function"),
        ({"loss": lambda p, y: 3.0}, TypeError, "depends on no parameter"),
        ({"loss": nn.hinge}, ValueError, "targets of -1 or 1 alone, not 0"),
        ({"rng": 3}, TypeError, "default_rng"),
        ({"optimizer": "sgd"}, TypeError, "optimizer is one such as nn.SGD"),
        ({"optimizer": other}, ValueError, "other parameters than the model"),
        ({"checkpoint": tmp_path}, OSError, str(tmp_path)),
        ({"checkpoint": 5}, TypeError, "PathLike"),
    ):
        settings = {"loss": nn.squared_error, "optimizer": model.optimizer, "epochs": 1, **wrong}
        with pytest.raises(kind, match=said):
            nn.fit(model, X, Y, **settings)
        assert same(model, training()[0]) and model.optimizer.steps == 0
    with pytest.raises(TypeError, match="needs a model with a state_dict"):
        nn.fit(lambda x: model(x), X, 2 * Y - 1, loss=nn.hinge, optimizer=other, epochs=1, checkpoint="x")


def test_any_error_in_an_epoch_leaves_the_parameters_as_before_it() -> None:
    _, train = training(batch_size=8)
    expected = train(3).loss
    loss = failing(LookupError, 2 * 21 + 11)
    model, train = training(batch_size=8)
    with pytest.raises(LookupError):
        train(9, loss=loss)
    assert model.optimizer.steps == 6 and train(1).loss == [expected[2]]


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"epochs": 2.5}, {"batch_size": 0}, {"log_every": -1}, {"log_every": 0}]
)
def test_bad_numbers_are_refused(wrong: Any) -> None:
    _, train = training()
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is a whole number above 0"):
        train(**{"epochs": 1, **wrong})


def test_targets_may_be_flat_and_signed() -> None:
    model, train = training(lr=0.1)
    history = train(30, y=2 * Y.ravel() - 1, loss=nn.hinge)
    right = (nn.predict(model, X) > 0) == (Y > 0)
    assert history.accuracy == right.mean()


def test_accuracy_is_by_the_decision_of_the_loss() -> None:
    def model(x: np.ndarray) -> Any:
        return 0.0 + x[0]

    scores, labels = [[-0.1], [0.1], [0.45], [0.55]], [0, 1, 1, 1]
    assert nn.accuracy(model, scores, labels) == 0.5
    for loss in (nn.binary_cross_entropy, nn.hinge):
        assert nn.accuracy(model, scores, np.reshape(labels, (4, 1)), loss) == 1.0


def test_a_matrix_network_is_trained_by_its_own_loss() -> None:
    model, train = training(matrix=True)
    with pytest.raises(ValueError, match="squared_error and no other"):
        train(1, loss=nn.hinge)
    model.backward(X, Y)
    assert any(np.any(p.grad) for p in model.parameters())
    model.zero_grad()
    assert not any(np.any(p.grad) for p in model.parameters())


def test_a_prediction_that_is_not_finite_is_an_error() -> None:
    network = nn.MatrixMLP([np.array([[1e308]]), np.array([[10.0]])], activation="relu")
    with np.errstate(over="ignore"), pytest.raises(FloatingPointError, match="prediction is not finite"):
        nn.predict(network, [[1.0]])


@pytest.mark.parametrize("engine", ["scalar", "auto", "numpy"])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_data_that_are_not_finite_are_named_and_no_learning_rate_is_blamed(
    engine: Any, batch_size: int | None
) -> None:
    for bad, place in ((math.nan, (7, 1)), (math.inf, (0, 0))):
        x, y = nn.data.xor()
        x[place] = bad
        model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
        sgd = nn.SGD(model.parameters(), lr=0.1)
        settings: dict[str, Any] = {
            "loss": nn.squared_error,
            "optimizer": sgd,
            "epochs": 3,
            "batch_size": batch_size,
        }
        before = [p.data for p in model.parameters()]
        with pytest.raises(ArithmeticError) as found:
            nn.fit(model, x, y, engine=engine, rng=np.random.default_rng(0), **settings)
        assert str(found.value).startswith(f"X, row {place[0]}, column {place[1]} is {bad}: the loss stopped")
        assert "learning rate" not in str(found.value) and [p.data for p in model.parameters()] == before


def test_a_rate_that_falls_with_each_parameter_is_noticed_beside_kinks() -> None:
    outcome, wrong = tried(7000004, "auto without native")
    assert (outcome, wrong) == ("fell back", "")
