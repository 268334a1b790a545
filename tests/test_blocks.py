"""RowReader in blocks: the same numbers for any number of threads, in flat memory, from data of any kind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value
from autograd.program import blocks
from autograd.program.blocks import TreeSum, run_blocks
from autograd.program.rows import RowReader
from autograd.program.variant import Kernel
from nn.run import Run

ENGINES = ["numpy", pytest.param("native", marks=pytest.mark.skipif(Kernel is None, reason="no llvmlite"))]
N = 150_001  # several blocks for each engine, and a last one of few rows


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    autograd.set_threads(2)
    yield
    autograd.set_threads()


def network(engine: Any, reduce: Any = "mean") -> autograd.program.Program[..., Any]:
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))

    def loss(x: Any, y: Any) -> Any:
        return nn.squared_error(model(x), y)

    return autograd.compile(loss, engine=engine, reduce=reduce)


def data(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 2)), rng.normal(size=n)


def results(p: autograd.program.Program[..., Any], *arrays: Any) -> list[np.ndarray]:
    value, gradient = p.value_and_grad(*arrays)
    return [np.array(p(*arrays)), p.per_example(*arrays), np.array(value), *gradient]


class Counted:
    """An array that is not in memory: it has slices, and counts the rows of the longest."""

    def __init__(self, array: np.ndarray):
        self.array, self.shape, self.dtype, self.most, self.read = array, array.shape, array.dtype, 0, 0

    def __getitem__(self, at: slice) -> np.ndarray:
        part = self.array[at]
        self.most, self.read = max(self.most, len(part)), self.read + len(part)
        return part


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_the_number_of_threads_changes_no_bit(engine: Any, reduce: Any) -> None:
    p, arrays = network(engine, reduce), data()
    found = []
    for n in (1, 2, 5):
        autograd.set_threads(n)
        found.append(results(p, *arrays))
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)


def test_blas_has_one_thread_while_blocks_have_several(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("threadpoolctl")
    model = nn.MLP(32, [128, 128, 1], activation="tanh", rng=np.random.default_rng(0))
    p = autograd.compile(lambda x: model(x) ** 2, engine="numpy")
    X = np.random.default_rng(1).normal(size=(3_000, 32))
    run, seen, found = p.variant("gradient", X).run_numpy, set[int](), []

    def noted(*arguments: Any, **named: Any) -> Any:
        seen.update(library["num_threads"] for library in blocks._blas().info())
        return run(*arguments, **named)

    before = blocks._blas().info()
    monkeypatch.setattr(p.variant("gradient", X), "run_numpy", noted)
    for n in (1, 2, 3):
        autograd.set_threads(n)
        found.append(p.value_and_grad(X))
    assert seen <= {1} and blocks._blas().info() == before
    monkeypatch.setattr(blocks, "_blas", lambda: None)  # without threadpoolctl, there are no threads of ours
    monkeypatch.setattr(p.variant("gradient", X), "run_numpy", run)
    monkeypatch.setattr(blocks, "start", None)
    value, gradient = p.value_and_grad(X)
    for other, gradients in found:
        assert other == found[0][0] == pytest.approx(value, rel=1e-13)
        for a, b, c in zip(found[0][1], gradients, gradient):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, c, rtol=0.0, atol=1e-12 * np.abs(c).max())


def test_no_thread_starts_for_blocks_that_take_less_time(monkeypatch: pytest.MonkeyPatch) -> None:
    w = Value(2.0)
    p, x = autograd.compile(lambda x: w * x, engine="numpy"), np.ones(40_000)
    assert len(x) > p.variant("value", x).block(native=False)
    monkeypatch.setattr(blocks, "start", None)
    assert p(x) == 2.0
    with pytest.raises(TypeError):
        p(np.ones(4_000_000))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_blocks_agree_with_the_whole(engine: Any, reduce: Any) -> None:
    p, arrays = network(engine, reduce), data()
    value, *gradient = (np.asarray(x) for x in results(p, *arrays)[2:])
    found = p.variant("gradient", *arrays).function(np)(*arrays, *p.numbers)  # without blocks
    for ours, whole in zip([value, *gradient], found):
        np.testing.assert_allclose(ours, whole, rtol=0.0, atol=1e-12 * np.abs(whole).max())
    last = p.per_example(*(a[-3:] for a in arrays))  # by other code, if those are all rows
    np.testing.assert_allclose(p.per_example(*arrays)[-3:], last, rtol=1e-13)


def test_the_function_for_numpy_has_the_bits_of_a_call_and_its_threads() -> None:
    p, arrays = network("numpy"), data()
    run = p.for_rows_of((2,), ()).function(np)
    value, gradient = p.value_and_grad(*arrays)
    for ours, found in zip([value, *gradient], run(*arrays, *p.numbers)):
        np.testing.assert_array_equal(ours, found)
    with pytest.raises(ValueError, match="this function is for rows of shapes"):
        run(np.ones((3, 3)), np.ones(3), *p.numbers)


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_that_are_not_in_memory_are_read_by_blocks(engine: Any) -> None:
    p, (X, Y) = network(engine), data()
    expected = results(p, X, Y)
    x, y = Counted(X), Counted(Y)
    for ours, other in zip(expected, results(p, x, y)):
        np.testing.assert_array_equal(ours, other)
    assert max(x.most, y.most) <= 1 << 16
    assert x.read < 4 * N + 40_000  # once for each call, and a part to record


def test_data_of_other_types_are_converted_by_blocks() -> None:
    p, (X, Y) = network("numpy"), data()
    for kind in (np.float32, np.int64, bool, ">f8"):
        x = (3.0 * X).astype(kind)
        for ours, other in zip(results(p, x.astype(float), Y), results(p, x, Y)):
            np.testing.assert_array_equal(ours, other)


def in_hdf5(folder: Any, array: np.ndarray) -> Any:
    file = pytest.importorskip("h5py").File(folder / "data.h5", "a")
    return file.create_dataset(f"x{len(file)}", data=array)


def in_zarr(folder: Any, array: np.ndarray) -> Any:
    zarr = pytest.importorskip("zarr")
    return zarr.create_array(str(folder / f"x{array.ndim}.zarr"), data=array, chunks=(5000, *array.shape[1:]))


def in_dask(folder: Any, array: np.ndarray) -> Any:
    return pytest.importorskip("dask.array").from_array(array, chunks=(7000, *array.shape[1:]))


def in_a_mapped_file(folder: Any, array: np.ndarray) -> Any:
    np.save(folder / f"x{array.ndim}.npy", array)
    return np.load(folder / f"x{array.ndim}.npy", mmap_mode="r")


@pytest.mark.parametrize("kept", [in_hdf5, in_zarr, in_dask, in_a_mapped_file])
def test_data_kept_elsewhere_give_and_train_the_same(kept: Callable[..., Any], tmp_path: Any) -> None:
    p, (X, Y) = network("numpy"), data()
    Y = np.where(Y > 0.0, 1.0, 0.0)
    x, y = kept(tmp_path, X), kept(tmp_path, Y)
    for ours, other in zip(results(p, X, Y), results(p, x, y)):
        np.testing.assert_array_equal(ours, other)

    def fitted(X: Any, Y: Any) -> Any:
        model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
        adam = nn.Adam(model.parameters(), lr=0.1)
        history = nn.fit(model, X, Y, loss=nn.binary_cross_entropy, optimizer=adam, epochs=3, engine="numpy")
        return history.loss, history.accuracy, nn.accuracy(model, X, Y, nn.binary_cross_entropy)

    assert fitted(X, Y) == fitted(x, y)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_row_that_fails_is_named_within_all_rows(engine: Any) -> None:
    p, (X, Y) = network(engine), data()
    X[[N - 1, 140_000], 1] = np.nan
    for call in (p, p.per_example, p.backward):
        with pytest.raises(FloatingPointError, match=r"^x, row 140000, column 1 is nan"):
            call(X, Y)
    Y[:], Y[N - 3] = 1.0, 0.3
    hinge = autograd.compile(lambda x, y: nn.hinge(x[0], y), engine=engine)
    X[:] = 1.0
    with pytest.raises(ValueError, match=f"^row {N - 3}: hinge takes targets of -1 or 1 alone, not 0.3"):
        hinge(X, Y)
    table = [Value(1.0), Value(2.0)]
    looked = autograd.compile(lambda i: table[int(i)] ** 2, engine=engine)
    i = np.zeros(N)
    assert looked(i) == 1.0
    i[-2] = 2.0
    with pytest.raises(IndexError, match=f"^i, row {N - 2} is 2, and an index here"):
        looked(i)


def test_a_sum_that_overflows_is_said() -> None:
    p = autograd.compile(lambda x: x * 1e304)
    with pytest.raises(OverflowError, match="the result of each row is finite"):
        p(np.ones(N))


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_does_not_grow_with_the_rows(engine: Any) -> None:
    p = network(engine)
    X, Y = data(400_000)
    model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
    adam, peaks = nn.Adam(model.parameters()), []
    for n in (200_000, 200_000, 400_000):  # the first time, programs are made
        tracemalloc.start()
        p.value_and_grad(X[:n], Y[:n])
        p(X[:n], Y[:n])
        nn.fit(model, X[:n], Y[:n], loss=nn.squared_error, optimizer=adam, epochs=1, engine=engine)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] - peaks[1] < 2e6  # the data take 4.8 MB more


@pytest.mark.parametrize("kept", [np.asarray, Counted])
@pytest.mark.parametrize("batch_size", [1000, 300_001])
def test_an_epoch_of_batches_has_every_row_once_in_another_order(kept: Any, batch_size: int) -> None:
    n = 2_300_001  # more than one window
    X = np.arange(n, dtype=float)
    x = RowReader(kept(X), (1,)) if kept is Counted else X[:, None]
    run = Run(x, RowReader(kept(-X), ()), [], batch_size, np.random.default_rng(0), True, 1)
    windows = list(run.shuffled())
    rows = np.concatenate([x[:, 0] for x, _ in windows])
    np.testing.assert_array_equal(np.sort(rows), X)
    np.testing.assert_array_equal(np.concatenate([y for _, y in windows]), -rows)
    assert [len(x) % batch_size for x, _ in windows][:-1] == [0] * (len(windows) - 1) and len(windows) > 1
    for i in range(0, n, n // 7):  # each batch has rows from many places
        batch = rows[i : i + 1000]
        assert batch.std() > 0.2 * n and (np.diff(batch) == 1.0).mean() < 0.1


@pytest.mark.parametrize("engine", ENGINES)
def test_shuffling_by_runs_of_rows_is_said_and_repeats(engine: Any, capsys: Any) -> None:
    X, Y = data(600_000)
    losses = []
    for _ in range(2):
        model = nn.MLP(2, [3, 1], activation="tanh", rng=np.random.default_rng(0))
        losses += nn.fit(
            model, Counted(X), Counted(Y), loss=nn.squared_error,
            optimizer=nn.SGD(model.parameters(), lr=0.1), epochs=2,
            batch_size=50_000, rng=np.random.default_rng(0), engine=engine,
        ).loss  # fmt: skip
    assert losses[:2] == losses[2:]
    assert "batches are drawn from 64 runs of rows at a time" in capsys.readouterr().err


def test_a_tree_sum_has_one_order() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 8, 13):
        blocks = rng.normal(size=(count, 3)) * 10.0 ** rng.integers(-8, 8, size=(count, 3))
        totals = []
        for _ in range(5):
            tree = TreeSum()
            for i in rng.permutation(count).tolist():
                tree.add(i, [blocks[i]])
            totals.append(tree.total()[0].tolist())
        assert all(total == totals[0] for total in totals)
        np.testing.assert_allclose(totals[0], blocks.sum(axis=0), rtol=1e-9)


def test_the_error_of_the_first_task_is_raised_and_no_thread_stays() -> None:
    before = threading.active_count()
    done: list[int] = []

    def task(i: int) -> None:
        if i >= 40:
            raise ValueError(f"task {i}")
        done.append(i)

    for n in (1, 3):
        autograd.set_threads(n)
        done.clear()
        with pytest.raises(ValueError, match=r"^task 40$"):
            run_blocks(task, 1000)
        assert sorted(done) == list(range(40))
    assert threading.active_count() == before


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, "2"])
def test_a_wrong_number_of_threads_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="threads is a whole number above 0"):
        autograd.set_threads(wrong)


def test_the_environment_has_the_number_of_threads() -> None:
    code = "import autograd.program.blocks as b; print(b._threads)"
    for text, said in (("3", "3"), ("0", "AUTOGRAD_THREADS is '0', and not a whole number above 0")):
        env = {**os.environ, "AUTOGRAD_THREADS": text}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert said in run.stdout + run.stderr


def test_a_chunk_is_read_once() -> None:
    p, (X, Y) = network("numpy"), data()
    x = Counted(X)
    x.chunks = (40_000, 2)  # type: ignore[attr-defined]
    assert p(x, Y) == p(X, Y) and x.read < N + 50_000  # and a part to record


def test_wide_rows_are_read_few_at_a_time() -> None:
    n, width = 3_000, 2_000
    x, y, w = Counted(np.ones((n, width))), np.ones(n), [Value(0.001 * i) for i in range(2)]
    p = autograd.compile(lambda x, y: (w[0] * x[0] + w[1] * x[1] - y) ** 2, engine="numpy")
    p.backward(x, y)
    assert x.most <= 1024
    model = nn.MLP(width, [1], rng=np.random.default_rng(0))
    sgd = nn.SGD(model.parameters(), lr=1e-4)
    nn.fit(model, x, y, loss=nn.squared_error, optimizer=sgd, epochs=1, engine="numpy")
    assert x.most <= 1024


def test_slices_that_are_no_numbers_are_refused() -> None:
    x = Counted(np.ones((N, 2)))
    rows = RowReader(x, (2,))
    assert rows[3:5].shape == (2, 2) and rows[[7, 5]].shape == (2, 2) and rows[4].shape == (2,)
    x.array = np.full((N, 2), "a", dtype=object)
    with pytest.raises(TypeError, match=r"^slices of Counted give object"):
        rows[:5]
    x.array = np.ma.masked_array(np.ones((N, 2)), np.arange(2 * N).reshape(N, 2) == 7)
    assert rows[:3].sum() == 6.0 and rows[[]].shape == (0, 2)
    with pytest.raises(TypeError, match=r"^slices of Counted have masked elements"):
        rows[:5]
