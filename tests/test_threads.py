"""Eight threads at once over shared Values: nothing lost, every number exact, and no deadlock."""

import copy
import gc
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value, derive, dot, draw, total
from autograd.draw import _one_at_a_time as draw_lock
from autograd.program import PASSES, pack
from autograd.program.lift import Lifted
from autograd.value import backward_lock

needs_llvm = pytest.mark.skipif(pack is None, reason="llvmlite is not installed")


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Threads that take turns a thousand times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(*jobs: Any, seconds: float = 60.0) -> None:
    """Call each job in a thread of its own, all starting together; AssertionError if they do not end."""
    start, errors = threading.Barrier(len(jobs)), []

    def run(job: Callable[..., Any]) -> None:
        start.wait()
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), f"not done after {seconds:g} s"


# The numbers are small multiples of powers of two: every sum is exact, in whatever order it is added.


def shared_leaves() -> list[Value]:
    return [Value(i / 4.0 - 1.0, f"w[{i}]") for i in range(8)]


def test_graphs_over_shared_leaves() -> None:
    w = shared_leaves()
    data = [v.data for v in w]
    long = total(w)
    for _ in range(500):
        long = 0.5 * long + w[7]
    size = len(pickle.dumps(long))

    def work() -> None:
        for _ in range(10):
            assert len(pickle.dumps(long)) == size
            total([v * v for v in w]).backward()
            out = dot(w, w) * 0.5
            assert [slope.data for slope in derive(out, w)] == data
            derive(derive(out * out, w)[1], w)[2].backward()
            for twin in (copy.deepcopy(out), pickle.loads(pickle.dumps(out))):
                leaves = twin.parents[0].parents
                for v in leaves:
                    v.grad = 0.0  # it is what it was in the middle of some pass
                twin.backward()
                assert [v.grad for v in leaves[:8]] == data
            assert draw(out).source.count("w[") >= 8
            assert w[0] < w[1] and w[4].data == 0.0
            with pytest.raises(FloatingPointError, match=r"log\(w\[0\]=-1.0\)"):
                w[0].log()

    at_once(*[work] * 8)
    # Of (½ w·w)², the second derivative by w1 and w2 is 2 w1 w2.
    expected = [80 * 2.0 * x for x in data]
    expected[1] += 80 * 2.0 * data[2]
    expected[2] += 80 * 2.0 * data[1]
    assert [v.grad for v in w] == expected


@pytest.mark.parametrize("engine", ["numpy", pytest.param("native", marks=needs_llvm)])
def test_a_program_is_recorded_once_and_loses_no_gradient(engine: Any) -> None:
    X = np.arange(32.0).reshape(4, 8) / 8.0
    for _ in range(3 if engine == "native" else 8):
        w, recorded = shared_leaves(), list[Any]()

        @autograd.compile(engine=engine)
        def square(x: Any, w: list[Value] = w, recorded: Any = recorded) -> Any:
            recorded.append(threading.get_ident())
            return dot(w, x) ** 2

        z = X @ [v.data for v in w]
        slopes = (2.0 * z @ X / 4.0).tolist()
        eager = total([dot(w, x) ** 2 for x in 256 * X.tolist()]) / 1024.0

        def differentiate(square: Any = square, z: np.ndarray = z, eager: Value = eager) -> None:
            for _ in range(20):
                assert square.backward(X) == np.mean(z * z)
                eager.backward()

        def evaluate(
            square: Any = square, w: list[Value] = w, z: np.ndarray = z, slopes: list[float] = slopes
        ) -> None:
            assert square(X) == np.mean(z * z)
            assert square.source.startswith("def program(xp)") and list(square.leaves[0]) == w
            assert (square.per_example(X) == z * z).all()
            assert square.value_and_grad(X)[1][0].tolist() == slopes

        at_once(*[differentiate, evaluate] * 4)
        assert len(recorded) == 2  # of two rows, once
        assert [v.grad for v in w] == [4 * 20 * 2 * slope for slope in slopes]
    assert gc.isenabled()


@pytest.mark.parametrize("engine", ["numpy", pytest.param("native", marks=needs_llvm)])
def test_threads_that_call_one_program_get_the_results_of_their_own_data(engine: Any) -> None:
    w = shared_leaves()
    square = autograd.compile(lambda x: dot(w, x) ** 2, engine=engine)

    def job(k: int) -> Callable[..., Any]:
        X = np.arange(k, k + 32.0).reshape(4, 8)[: 1 + k % 2] / 8.0
        z = X @ [v.data for v in w]

        def call() -> None:
            for _ in range(200):
                assert square(X) == np.mean(z * z)
                assert (square.per_example(X) == z * z).all()
                assert square.value_and_grad(X)[1][0].tolist() == (2.0 * z @ X / len(X)).tolist()

        return call

    at_once(*map(job, range(8)))


def test_recording_is_of_its_own_thread() -> None:
    a, b = Value(1.0), Value(2.0)
    inside, done = threading.Event(), threading.Event()

    @autograd.compile
    def slow(x: Any) -> Any:
        inside.set()
        assert done.wait(10.0)
        with pytest.raises(TypeError, match="records a function once"):
            bool(a < b)
        return a * x

    def compare() -> None:
        assert inside.wait(10.0)
        assert a < b and b.data == 2.0 and bool(a) and a != 2.0
        done.set()

    at_once(lambda: slow(np.ones(2)), *[compare] * 7)


def test_training_of_a_model_in_each_thread() -> None:
    X, Y = nn.data.xor()
    found = {}

    def train(seed: int, engine: Any) -> Any:
        model = nn.MLP(2, [4, 1], activation="sigmoid", rng=np.random.default_rng(seed))
        sgd = nn.SGD(model.parameters(), lr=0.5, momentum=0.5)
        history = nn.fit(model, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=5, engine=engine)
        return history.loss, [p.data for p in model.parameters()]

    def job(seed: int, engine: Any) -> None:
        found[seed] = train(seed, engine)

    engines = ["scalar", "numpy", "auto", "auto"] * 2
    at_once(*[lambda seed=seed, engine=engine: job(seed, engine) for seed, engine in enumerate(engines)])
    assert found == {seed: train(seed, engine) for seed, engine in enumerate(engines)}


# A fork while another thread is at work


FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")


def in_a_child(job: Callable[..., Any], seconds: float = 30.0) -> None:
    """Do a job in a forked child; AssertionError if that fails, or does not end."""
    pid = os.fork()
    if not pid:
        try:
            job()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    end = time.monotonic() + seconds
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.01)
    if not done[0]:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert done == (pid, 0), "the child hangs, or failed"


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork in a process with threads
def test_a_child_that_is_forked_while_another_thread_compiles_does_all_that_its_parent_can() -> None:
    inside, done = threading.Event(), threading.Event()
    w = Value(2.0)

    @autograd.compile
    def slow(x: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert done.wait(60.0)
        return w * x

    def child() -> None:
        assert gc.isenabled()
        assert slow(np.ones(2)) == 2.0 == slow.backward(np.ones(2))
        (w * 3.0).backward()
        assert w.grad == 4.0
        with draw_lock:
            assert draw(w * 3.0).nodes == 2

    def compiling() -> None:
        with backward_lock, draw_lock:
            slow(np.ones(2))

    thread = threading.Thread(target=compiling, daemon=True)
    thread.start()
    assert inside.wait(60.0) and not gc.isenabled()
    try:
        in_a_child(child)
    finally:
        done.set()
        thread.join(60.0)
    assert gc.isenabled() and slow(np.ones(2)) == 2.0


@FORK
@needs_llvm
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_children_that_are_forked_while_llvm_is_at_work_compile_too() -> None:
    end = threading.Event()

    def child() -> None:
        assert autograd.compile(lambda x: x * 2.0, engine="native")(np.ones(2)) == 2.0

    def compiling() -> None:
        while not end.is_set():
            child()

    thread = threading.Thread(target=compiling, daemon=True)
    thread.start()
    try:
        for _ in range(5):
            in_a_child(child)
            time.sleep(0.02)
    finally:
        end.set()
        thread.join(60.0)


@FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_within_a_function_that_is_compiled_leaves_the_collector_on() -> None:
    def f(x: Any) -> Any:
        in_a_child(lambda: None)
        return x * 2.0

    assert autograd.compile(f)(np.ones(2)) == 2.0 and gc.isenabled()


def test_one_program_is_compiled_while_another_is() -> None:
    inside, done = threading.Event(), threading.Event()

    def slow(scalars: Any) -> Lifted:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert done.wait(60.0)
        return Lifted(scalars)

    first, second = (autograd.compile(lambda x: x * 2.0, engine="numpy") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PASSES, "lift", slow)
        thread = threading.Thread(target=lambda: first(np.ones(2)), daemon=True)
        thread.start()
        assert inside.wait(60.0)
        try:
            assert second(np.ones(2)) == 2.0
        finally:
            done.set()
            thread.join(60.0)
    assert gc.isenabled()
