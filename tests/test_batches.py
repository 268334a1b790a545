"""Batches and executors: the numbers of the whole data set, wherever they are computed."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value
from autograd.program.variant import Kernel

ENGINES: list[Any] = ["numpy"] if Kernel is None else ["numpy", "native"]
COUNT = 5


class Load:
    """A function that loads a batch, and counts its calls in this process."""

    calls = 0

    def __init__(self, i: int, fails_at: int | None = None):
        self.i, self.fails_at = i, fails_at

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        Load.calls += 1
        rng = np.random.default_rng(self.i)
        X = rng.normal(size=(30_000 + self.i, 2))
        Y = np.where(X[:, :1] > X[:, 1:], 1.0, 0.0)
        if self.fails_at is not None:
            X[self.fails_at, 1] = np.nan
        return X, Y


class Dying(Load):
    """A function whose worker dies."""

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        if threading.current_thread().name == "MainThread" and os.environ.get("HERE") == str(os.getpid()):
            return super().__call__()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        yield executor


@pytest.fixture(scope="module", params=["threads", "processes", "loky"])
def executor(request: Any, processes: Executor) -> Iterator[Executor]:
    if request.param == "processes":
        yield processes
    elif request.param == "threads":
        with ThreadPoolExecutor(3) as pool:
            yield pool
    else:
        loky = pytest.importorskip("loky")
        pool = loky.get_reusable_executor(max_workers=2)
        yield pool
        pool.shutdown(wait=True)


def network(engine: Any) -> autograd.program.Program[..., Any]:
    model = nn.MLP(2, [4, 1], activation="tanh", rng=np.random.default_rng(0))
    return autograd.compile(lambda x, y: nn.binary_cross_entropy(model(x), y[0]), engine=engine)


def batches(count: int = COUNT) -> list[Any]:
    return [Load(i) for i in range(count)]


def whole(given: list[Any]) -> tuple[Any, ...]:
    return tuple(np.concatenate(arrays) for arrays in zip(*(batch() for batch in given)))


def same(a: Any, b: Any) -> bool:
    return bool(a[0] == b[0] and all((x == y).all() for x, y in zip(a[1], b[1])))


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_have_the_results_of_their_rows_together(engine: Any) -> None:
    p = network(engine)
    given = batches()
    loss, gradient = p.value_and_grad(given)
    expected, found = p.value_and_grad(*whole(given))
    assert abs(loss - expected) < 1e-15
    for ours, other in zip(gradient, found):
        np.testing.assert_allclose(ours, other, rtol=0.0, atol=1e-14)
    assert p(given) == loss == p.backward([batch() for batch in given])
    assert same((loss, gradient), p.value_and_grad(batch() for batch in given))
    np.testing.assert_allclose(p.per_example(given), p.per_example(*whole(given)), rtol=1e-13)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_executor_changes_no_bit(engine: Any, executor: Executor) -> None:
    p, given = network(engine), batches()
    here = p.value_and_grad(given)
    assert same(here, p.value_and_grad(given, executor=executor))
    assert same(here, p.value_and_grad((batch() for batch in given), executor=executor))
    arrays = whole(batches(11))
    assert same(p.value_and_grad(*arrays), p.value_and_grad(*arrays, executor=executor))
    np.testing.assert_array_equal(p.per_example(given), p.per_example(given, executor=executor))


@pytest.mark.parametrize("engine", ENGINES)
def test_an_error_names_the_batch_and_the_row(engine: Any, processes: Executor) -> None:
    p = network(engine)
    given = [Load(0), Load(1), Load(2, fails_at=20_000), Load(3, fails_at=5)]
    for named in ({}, {"executor": processes}):
        with pytest.raises(FloatingPointError, match=r"^batch 2: x, row 20000, column 1 is nan: "):
            p.backward(given, **named)
        with pytest.raises(ValueError, match=r"^batch 1: it(s rows| has arrays)"):
            p.backward([Load(0)(), (np.ones((3, 3)), np.ones((3, 1)))], **named)
        with pytest.raises(ValueError, match=r"^batch 1: it(s rows| has arrays)"):
            p.backward([Load(0)(), (np.ones((3, 2)),)], **named)
        with pytest.raises(TypeError, match=r"^batch 1: a batch is a tuple of arrays"):
            p.backward(iter([Load(0)(), 3]), **named)
    X, Y = whole(batches(11))
    X[300_000, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"^x, row 300000, column 0 is nan: "):
        p.backward(X, Y, executor=processes)
    table = [Value(1.0), Value(2.0)]
    looked = autograd.compile(lambda i: table[int(i)], engine=engine)
    for named in ({}, {"executor": processes}):
        with pytest.raises(IndexError, match=r"^batch 1: i, row 2 is 2, and an index"):
            looked([(np.array([0.0, 1.0]),), (np.array([0.0, 1.0, 2.0]),)], **named)
    with pytest.raises(ValueError, match="there is no batch"):
        p(iter(()))


def test_a_load_function_that_fails_is_not_the_end_of_the_batches(processes: Executor) -> None:
    def stops() -> Any:
        raise StopIteration

    p = network("numpy")
    for named in ({}, {"executor": ThreadPoolExecutor(1)}):
        with pytest.raises(RuntimeError, match="StopIteration"):
            p([Load(0), stops, Load(1)], **named)
    for wrong in ((), 3, lambda: 3, lambda: ()):
        with pytest.raises(TypeError, match="batch 1: a batch is a tuple of arrays"):
            p(iter([Load(0), wrong]))


def test_batches_of_any_type_travel(processes: Executor) -> None:
    X, Y = whole(batches(12))
    given = [(X.astype(np.float32), Y.astype(bool)), [X[:9], Y[:9]]]  # lists, as a DataLoader has them
    here, there = fitted(given)[0], fitted(given, executor=processes)[0]
    assert here.accuracy == there.accuracy
    np.testing.assert_allclose(here.loss, there.loss, rtol=1e-14)
    assert network("numpy")([[X[:5], Y[:5]], [X[5:9], Y[5:9]]]) > 0.0
    with pytest.raises(ValueError, match=r"a batch has rows of shapes \(3,\) and \(\), not \(2,\) and \(\)"):
        fitted([(X[:9], Y[:9]), (np.ones((9, 3)), Y[:9])], batch_size=5)


def test_an_infinity_that_no_row_minds_passes_through_a_worker(processes: Executor) -> None:
    w = Value(2.0)
    p = autograd.compile(lambda x: [x, w * 0.5], engine="numpy")
    x = np.array([1.0, np.inf])
    found = p.per_example([(x,), (x,)], executor=processes)
    assert found.tolist() == [[1.0, 1.0], [np.inf, 1.0]] * 2


def test_a_generator_is_read_few_batches_ahead() -> None:
    p, made, ahead = network("numpy"), [0], list[int]()
    done = [0]

    def generated() -> Iterator[Any]:
        for i in range(40):
            made[0] += 1
            ahead.append(made[0] - done[0])
            yield Load(i % 3)()

    class Counting(ThreadPoolExecutor):
        def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Any:
            future = super().submit(work, *args, **named)
            future.add_done_callback(lambda _: done.__setitem__(0, done[0] + 1))
            return future

    with Counting(2) as executor:
        p(generated(), executor=executor)
    assert max(ahead) <= 6


def test_little_travels() -> None:
    """The source is as long as the network, and not as the data."""
    p = network("auto")
    variant = p.variant("gradient", *Load(0)())
    assert len(pickle.dumps(variant.portable(native=False))) < 3_000
    if Kernel is not None:
        assert len(pickle.dumps(variant.portable(native=True))) < 40_000


def test_arrays_are_no_batches() -> None:
    one = autograd.compile(lambda x: x[0] + x[1])
    assert one([(1.0, 2.0), (3.0, 4.0)]) == 5.0
    assert one([(np.array([1.0, 3.0, 5.0, 7.0]).reshape(2, 2),), ([[1.0, 1.0]],)]) == 6.0
    with_executor = autograd.compile(lambda x, executor: x * executor)
    assert with_executor([1.0, 2.0], executor=[3.0, 4.0]) == 5.5


def fitted(*given: Any, epochs: int = 3, **settings: Any) -> Any:
    model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
    adam = nn.Adam(model.parameters(), lr=0.1)
    loss = nn.binary_cross_entropy
    return nn.fit(model, *given, loss=loss, optimizer=adam, epochs=epochs, **settings), model


@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_training_takes_batches(engine: Any, processes: Executor) -> None:
    given = batches()
    history, model = fitted(given, engine=engine)
    X, Y = whole(given)
    expected, _ = fitted(X, Y, engine=engine)
    np.testing.assert_allclose(history.loss, expected.loss, rtol=1e-13)
    assert history.accuracy == nn.accuracy(model, X, Y, nn.binary_cross_entropy)
    for data in (given, [batch() for batch in given]):
        by_executor, other = fitted(data, engine=engine, executor=processes)
        assert by_executor.accuracy == history.accuracy
        if engine != "auto":
            assert by_executor.loss == history.loss
            assert [p.data for p in model.parameters()] == [p.data for p in other.parameters()]
    other, _ = fitted(dict(enumerate(batch() for batch in given)).values(), engine=engine)
    assert other.loss == history.loss or engine == "auto"
    once, _ = fitted(iter(given), epochs=1, engine=engine)
    assert once.loss == history.loss[:1] and once.accuracy is None
    with pytest.raises(ValueError, match="an iterator gives its batches once"):
        fitted(iter(given), engine=engine)


@pytest.mark.parametrize("engine", ["scalar", *ENGINES])
def test_training_takes_small_steps_on_batches(engine: Any) -> None:
    X, Y = whole(batches(1))
    given = [(X[i : i + 90], Y[i : i + 90]) for i in range(0, 900, 90)]
    history, model = fitted(given, engine=engine, batch_size=100, rng=np.random.default_rng(0))
    again, _ = fitted(given, engine=engine, batch_size=100, rng=np.random.default_rng(0))
    assert history.loss == again.loss and history.loss[-1] < 0.5
    assert history.accuracy == nn.accuracy(model, X[:900], Y[:900], nn.binary_cross_entropy)


def test_a_checkpoint_of_batches_resumes_to_the_same_bits(tmp_path: Any, processes: Executor) -> None:
    given, path = batches(), tmp_path / "run.npz"
    whole_run, model = fitted(given, epochs=4, executor=processes, engine="numpy")
    fitted(given, epochs=2, executor=processes, engine="numpy", checkpoint=path)
    resumed, other = fitted(given, epochs=4, executor=processes, engine="numpy", resume=path)
    assert resumed.loss == whole_run.loss
    assert [p.data for p in model.parameters()] == [p.data for p in other.parameters()]
    with pytest.raises(ValueError, match=r"data \(SHA-256\) was"):
        fitted(given[:-1], epochs=4, resume=path)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_a_worker_that_dies_is_said_and_the_last_step_stays(monkeypatch: Any) -> None:
    monkeypatch.setenv("HERE", str(os.getpid()))
    model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
    adam = nn.Adam(model.parameters(), lr=0.1)
    given = batches()
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        training = nn.Training(
            model, given, loss=nn.binary_cross_entropy, optimizer=adam, epochs=5, executor=executor
        )
        with pytest.raises(RuntimeError, match="a worker of the executor has died"):
            for epoch in training:
                before = [p.data for p in model.parameters()]
                if epoch.epoch == 1:
                    given[3] = Dying(3)
    assert [p.data for p in model.parameters()] == before and len(training.losses) == 2


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"executor": 3}, "executor is one of concurrent.futures"),
        ({"executor": ThreadPoolExecutor(1), "batch_size": 3}, "an executor cannot share them"),
        ({"executor": ThreadPoolExecutor(1), "engine": "scalar"}, "workers need a compiled model"),
        ({"engine": "scalar"}, "a step on all batches needs a compiled model"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(settings: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        fitted(batches(), **settings)
    with pytest.raises(TypeError, match="training takes X and Y, or batches"):
        fitted(np.ones((3, 2)))


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker_gives_the_same_bits() -> None:
    distributed = pytest.importorskip("distributed")
    given = batches(8)
    expected, model = fitted(given, epochs=4, engine="numpy")
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "protocol": "tcp://"}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        other = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
        adam = nn.Adam(other.parameters(), lr=0.1)
        training = nn.Training(
            other, given, loss=nn.binary_cross_entropy, optimizer=adam, epochs=4, engine="numpy",
            executor=client.get_executor(),
        )  # fmt: skip
        for epoch in training:
            if epoch.epoch == 1:
                pid = next(iter(client.run(os.getpid).values()))
                threading.Timer(0.02, os.kill, (pid, signal.SIGKILL)).start()
        assert training.losses == expected.loss
        assert [p.data for p in model.parameters()] == [p.data for p in other.parameters()]
        scattered = client.scatter([batch() for batch in given[:2]])
        with pytest.raises(TypeError, match="whose data are lost with the worker that has them"):
            network("numpy").backward(scattered, executor=client.get_executor())
