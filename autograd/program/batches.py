"""batches: data that come in batches, computed here one after the other, or by an executor's workers.

A batch is a tuple of arrays, or a function without arguments that returns one and that the worker calls. A
worker gets the code without the graph, the numbers of the leaves, and the batch.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from .blocks import TreeSum, alone
from .evaluation import Block, Evaluation
from .rows import Readable, few, read, readable
from .variant import Variant

AHEAD, FAR_AHEAD = 2, 256  # most pending tasks: per worker if batches are arrays, in all if functions
WORKERS = 4  # of an executor that does not say how many it has
SAMPLE = 1 << 13  # rows of a batch that is loaded elsewhere, for recording
PIECE = 1 << 20  # numbers of a task where an executor gets arrays
# Only these errors are raised again with the batch's number: others may take more than a message.
NAMED = {FloatingPointError, OverflowError, ZeroDivisionError, IndexError, TypeError, ValueError}
Batch = Sequence[Any] | Callable[[], Sequence[Any]]


class Sliced(Protocol):
    """An array that may be outside of memory."""

    @property
    def shape(self) -> Any: ...

    def __getitem__(self, at: slice, /) -> Any: ...


Data = ArrayLike | Sliced | Iterable[Any]  # what a call takes: an array, or batches


def are_batches(given: Any, arguments: Callable[[int], bool]) -> bool:
    """Whether an object is batches, and no array: `arguments(n)` says whether a tuple of n arrays is a batch.

    Batches are what has an iterator and no elements by number, or a list or tuple of functions or of tuples
    of arrays.
    """
    if isinstance(given, Iterable) and not hasattr(given, "__getitem__"):
        return True
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        return False
    first = given[0]
    least = 1 if isinstance(first, tuple) else 2  # a list of one array is a row
    are_arrays = isinstance(first, tuple | list) and len(first) >= least and all(map(np.ndim, first))
    return callable(first) or _is_scattered(first) or (are_arrays and arguments(len(first)))


def loaded(batch: Any) -> tuple[Any, ...]:
    """The arrays of a batch; TypeError unless it has or gives a tuple or list of them."""
    arrays = batch() if callable(batch) else batch
    if _is_scattered(arrays) or (isinstance(arrays, tuple | list) and any(map(_is_scattered, arrays))):
        said = f"a batch is {arrays!r:.60}, whose data are lost with the worker that has them"
        raise TypeError(f"{said}: give a function that loads the batch")
    if not isinstance(arrays, tuple | list) or not len(arrays):
        what = "a function gives" if callable(batch) else "a batch is"
        raise TypeError(f"a batch is a tuple of arrays, or a function that gives one; {what} {arrays!r:.60}")
    return tuple(arrays)


def _is_scattered(given: Any) -> bool:
    """Whether data are on the workers of a cluster: a future of Dask, and not its arrays."""
    return hasattr(given, "key") and hasattr(given, "result")


class Task(NamedTuple):
    """The outputs of a variant for a batch, or the sums of its blocks: what travels to a worker."""

    code: bytes  # of a pickled Variant
    native: bool
    state: Any
    shapes: Sequence[tuple[int, ...]]  # of rows
    batch: Batch
    name: str = ""  # different for each task, for executors that compute equal tasks once


class Done(NamedTuple):
    """What was found for so many rows: their outputs or, for other kinds than "rows", the sum of those."""

    rows: int
    outputs: Sequence[Any]


class Failed(NamedTuple):
    """The first block of rows that is not finite in a task of so many rows, from row `first` on."""

    rows: int
    first: int
    arrays: Sequence[np.ndarray]


def over_batches(
    evaluation: Evaluation,
    checked: Callable[[Any], Sequence[Readable]],
    batches: Iterable[Any],
    executor: Any,
    step: int,
) -> Sequence[Any]:
    """The outputs for all rows of batches, by an executor or, without one, here.

    `checked` gives a batch's arrays. A batch begins `step` rows after the one before or, if that is 0, has
    rows of its own, and errors name the batch.
    """
    variant = evaluation.variant
    rows, parts, sums = list[int](), list[Any](), TreeSum()

    def here(batch: Any) -> Done:
        arrays = checked(batch)
        n = len(arrays[0])
        native = variant.is_native(n)
        return done(variant, evaluation._replace(native=native, total=n).of_rows, arrays, native)

    def there() -> Iterator[Done]:
        native = variant.has_kernel()
        code = pickle.dumps(variant.portable(native))
        shapes = [array.shape for array in variant.scalars.inputs]
        tasks = (Task(code, native, evaluation.state, shapes, batch) for batch in batches)
        for i, (task, found) in enumerate(results(executor, run_task, tasks)):
            if isinstance(found, Failed):  # workers do not have f: find the row here
                block = Block(found.arrays, i * step + found.first, found.rows)
                evaluation._replace(native=native).of_block(block)
                found = here(task.batch)
            yield found

    try:
        for n, outputs in (here(batch) for batch in batches) if executor is None else there():
            if variant.kind == "rows":
                parts.append(outputs)
            else:
                sums.add(len(rows), outputs)
            rows.append(n)
    except Exception as error:
        if step or type(error) not in NAMED:
            raise
        raise type(error)(f"batch {len(rows)}: {error}") from error
    if variant.kind != "rows":
        return variant.reduced(sums, sum(rows))
    return [np.concatenate(outputs) for outputs in zip(*parts)]


class _BlockError(Exception):
    pass


def run_task(task: Task) -> Done | Failed:
    """Compute a task, on a worker."""
    variant = variant_of(task.code)
    arrays = arrays_of(task.batch, task.shapes)
    data = variant.data(task.state)

    def run(first: int, rows: Sequence[np.ndarray]) -> Sequence[Any]:
        try:
            return variant.run(rows, task.state, data, task.native)
        except ArithmeticError:
            raise _BlockError(first, rows) from None

    try:
        with alone():
            return done(variant, run, arrays, task.native)
    except _BlockError as error:
        return Failed(len(arrays[0]), *error.args)


def done(variant: Variant, run: Callable[..., Any], arrays: Sequence[Readable], native: bool) -> Done:
    """The outputs for the rows of arrays, by blocks (see Variant.in_blocks), or their sums."""
    if variant.kind == "rows":
        return Done(len(arrays[0]), variant.in_blocks(run, arrays, native))
    return Done(len(arrays[0]), variant.sums(run, arrays, native).total())


def arrays_of(batch: Batch, shapes: Sequence[tuple[int, ...]]) -> list[Readable]:
    """The arrays of a batch; ValueError if their rows do not have these shapes, or are not equally many."""
    arrays = _readables(batch)
    rows = {array.shape[:1] for array in arrays}
    if [array.shape[1:] for array in arrays] != list(shapes) or len(rows) > 1 or rows == {(0,)}:
        found = ", ".join(str(array.shape) for array in arrays)
        raise ValueError(f"it has arrays of shapes {found}, and rows of shapes {list(shapes)} are needed")
    return arrays


def _readables(batch: Batch) -> list[Readable]:
    return [np.asarray(a, dtype=float) if (r := readable(a)) is None else r for a in loaded(batch)]


def first_of_batches(given: Iterable[Any], executor: Any) -> tuple[tuple[Any, ...], Iterator[Any]]:
    """Arrays of the first batch, and all batches; a worker loads the first where the others are loaded."""
    batches = iter(given)
    try:
        first = next(batches)
    except StopIteration:
        raise ValueError("there is no batch") from None
    is_remote = executor is not None and callable(first)
    arrays = executor.submit(sample_of, first).result() if is_remote else loaded(first)
    return arrays, itertools.chain([first if callable(first) else arrays], batches)


def sample_of(batch: Batch) -> tuple[np.ndarray, ...]:
    """The first rows of a batch, as a worker sends them."""
    arrays = _readables(batch)
    end = min(few(array, SAMPLE) for array in arrays)
    return tuple(read(array, 0, end) for array in arrays)


@functools.lru_cache(maxsize=16)
def variant_of(code: bytes) -> Variant:
    """The portable variant that was pickled."""
    return pickle.loads(code)


def results(executor: Any, work: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Each task, and work(task) by an executor, in order; few tasks wait at a time if they have arrays.

    Raises the error of the first task that has one, and RuntimeError if the executor has lost a worker.
    """
    waiting: deque[tuple[Any, Any]] = deque()
    run, ahead = str(uuid.uuid4()), AHEAD * getattr(executor, "_max_workers", WORKERS)
    try:
        for i, task in enumerate(tasks):
            task = task._replace(name=f"{run} {i}")
            waiting.append((task, executor.submit(work, task)))
            if len(waiting) >= (FAR_AHEAD if callable(task.batch) else ahead):
                yield waiting[0][0], waiting[0][1].result()
                waiting.popleft()
        while waiting:
            yield waiting[0][0], waiting[0][1].result()
            waiting.popleft()
    except BrokenExecutor as error:
        raise RuntimeError(f"a worker of the executor has died, and nothing was changed: {error}") from error
    finally:
        for _, future in waiting:
            future.cancel()
