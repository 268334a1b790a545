"""variant: a recording's results for rows, their mean, or mean and gradient, in NumPy and machine code."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..graph import collector_off
from ..locks import computed_once, new_lock
from ..value import Value, latest_write
from .array_api import Source, SourceFunction
from .arrays import Contract
from .blocks import TreeSum, alone, run_blocks
from .lift import Lifted
from .names import Names
from .nests import operations
from .rows import FLOAT, Readable, read
from .scalars import Scalars
from .training import training_step

try:
    from .native import Kernel as Kernel
    from .native import pack as pack
    from .operations import has_code
except ImportError:  # there is no llvmlite
    Kernel = has_code = pack = None  # type: ignore[assignment, misc]

# Seconds that NumPy takes for an array of a program and for one element, and machine code to make, in all and
# for each statement. Rough values are enough to tell when machine code pays.
ARRAY, ELEMENT, KERNEL, STATEMENT = 3e-6, 5e-10, 0.05, 0.006
NATIVE, THREAD = 8.0, 5e-4  # how many times as fast machine code is; seconds for which a thread pays
# NumPy's estimated time, divided by that of making machine code, at which making begins, and at which machine
# code takes over. A run that ends in between loses at most a tenth of its time.
BEGIN, TAKE_OVER = 10.0, 12.0
PAYS = 1.5  # the same quotient for a run of known length
LARGE = 1 << 13  # numbers of data, beyond which machine code reads arrays where they are
KEPT = 1 << 18  # numbers: up to these, a kernel's memory is kept for the next call
FEW = 64  # numbers: up to these, Python adds them sooner than NumPy
FEW_ROWS = 4  # up to which a call has machine code of its own
MANY_ROWS = 32  # from which NumPy takes less time if the rows are the last axis of its arrays
# The rows of a block are a power of two, so many that NumPy's arrays take about BLOCK bytes, and stay in the
# processor's cache; at least LEAST_ROWS, unless all arrays then take more than MOST_MEMORY bytes. Machine
# code keeps few numbers in memory, and takes NATIVE_BLOCKS times as many rows.
BLOCK, LEAST_ROWS, MOST_ROWS, SMALLEST_BLOCK = 1 << 22, 1 << 10, 1 << 15, 1 << 4
MOST_MEMORY, NATIVE_BLOCKS = 1 << 26, 4
BLAS_THREADS = 1 << 17  # multiplications: up to these, no BLAS uses several threads for a product
# The attributes that a portable variant has.
PORTABLE = (
    "_block", "_has_wide_products", "_index_ends", "_leaf_places", "_output_shapes", "_seconds", "by_row",
    "kind", "mean",
)  # fmt: skip
OVERFLOW = "the result of each row is finite, but they overflow when added"

# The outputs for a block, by its first row and its arrays.
Run = Callable[[int, Sequence[np.ndarray]], Sequence[Any]]
Passes = dict[str, Callable[[Any], Any]]  # see the package


class Variant:
    """One program: f for each row ("rows"), its mean or sum ("value"), or the mean and its "gradient".

    If `whole`, the variant with the gradient, is given, this one is a part of it. Raises ArithmeticError if
    the gradient is not finite in the row that was recorded.
    """

    _data: tuple[Any, list[np.ndarray]] = None, []  # the latest numbers of live leaves, and these by array

    def __init__(
        self,
        kind: str,
        recorded: Scalars,
        engine: str,
        passes: Passes,
        whole: Variant | None = None,
        cache: str | None = None,
    ):
        self.kind, self.listed, self._passes, self._cache = kind, recorded.listed, passes, cache
        # Do all arithmetic with Values now, while they have the data of the recording: it may change later.
        self.scalars: Scalars = (
            whole.scalars.without_gradient(kind)
            if whole
            else through(passes, replace(recorded, kind=kind), "differentiate", "simplify again")
        )
        self.mean, self.by_row = self.scalars.reduce == "mean", self.scalars.by_row
        self._functions: dict[Any, Callable[..., Any]] = {}  # by the options of their sources
        self._few = 0
        self._begin(engine)

    def _begin(self, engine: str) -> None:
        """Be a variant that has not run: see is_native."""
        self._engine, self._lock = engine, new_lock()
        self.native = None if engine == "auto" and self.has_code() else engine == "native" and self.has_code()
        self._spent = 0.0
        self._state = -1, np.empty(0)  # at which writing of data the leaves were read, and their numbers
        self._maker: threading.Thread | None = None
        self._idle: dict[int, _Workspace] = {}  # the latest that no call uses, by its number of rows

    def for_rows(self, rows: int) -> Variant:
        """This variant or, for a call with few rows, a twin whose machine code is for these."""
        if rows > FEW_ROWS:
            return self
        return self._for_one if rows == 1 else self._for_few

    @computed_once
    def _for_one(self) -> Variant:
        return self._twin(1)

    @computed_once
    def _for_few(self) -> Variant:
        return self._twin(FEW_ROWS)

    def _twin(self, few: int) -> Variant:
        _ = self.names  # both have them
        twin = copy.copy(self)
        vars(twin).pop("kernel", None)
        twin._few = few
        twin._begin(self._engine)
        return twin

    @computed_once
    @collector_off()
    def names(self) -> Names:
        """The arrays, planned and named."""
        return through(self._passes, self.scalars, "lift", "simplify arrays", "plan", "roll", "name")

    @property
    def lifted(self) -> Lifted:
        """The arrays of the scalars."""
        return self.names.plan.lifted

    @property
    def leaves(self) -> list[np.ndarray]:
        """The live leaves, as arrays of Values."""
        return [array.values for array in self.lifted.leaves]

    @computed_once
    def live(self) -> list[Value]:
        """The live leaves, one after the other."""
        return [v for leaves in self.leaves for v in leaves.flat]

    @computed_once
    def _leaf_places(self) -> list[tuple[slice, tuple[int, ...]]]:
        """The place of each array of leaves among all live leaves, and its shape."""
        return _places([leaves.shape for leaves in self.leaves])

    @property
    def leaf_count(self) -> int:
        """How many live leaves there are."""
        return self._leaf_places[-1][0].stop if self._leaf_places else 0

    @computed_once
    def _output_shapes(self) -> list[tuple[int, ...]]:
        """The shape of each output, for a row if it varies by row."""
        return [array.shape for array in self.lifted.outputs]

    def portable(self, native: bool) -> Variant:
        """A copy that pickle takes, for evaluate() alone: it has code for NumPy or for this processor."""
        facts = {name: getattr(self, name) for name in (*PORTABLE, *(["kernel"] if native else []))}
        functions = {}
        for last in () if native else (False, True):
            source = Source(self.names, fast=True, watch=True, rows_last=last)
            functions[True, last] = SourceFunction(str(source), source.constants)
        made = object.__new__(Variant)
        vars(made).update(facts, _functions=functions, _idle={})
        return made

    @computed_once
    def _write(self) -> Callable[..., None]:
        """Writes as many numbers as there are live leaves to an array: twice as fast as NumPy does."""
        return struct.Struct(f"{len(self.live)}d").pack_into

    def is_native(self, rows: int) -> bool:
        """Whether a call with so many rows runs as machine code, which a user's own primitives do not have.

        "auto" begins with NumPy. The sizes of earlier calls, not their times, decide when machine code is
        made in the background, and when it takes over, so that a run repeats to the last bit.
        """
        if self.native is None:
            self._spent += self.numpy_seconds(rows) / self.kernel_seconds
            if self._spent >= BEGIN and self._maker is None:
                self._maker = threading.Thread(target=self._make_kernel)
                self._maker.start()
            if self._maker and self._spent >= TAKE_OVER:
                self._maker.join()
                self.native = "kernel" in vars(self)
        return bool(self.native)

    def expect(self, rows: int) -> None:
        """Let "auto" choose now, for so many rows: machine code if NumPy takes longer than making it."""
        if self.native is None and self.numpy_seconds(rows) >= PAYS * self.kernel_seconds:
            self.has_kernel()

    def has_kernel(self) -> bool:
        """Whether the engine has machine code for this program, which is made now."""
        if self.native is None:
            self._make_kernel()
            self.native = "kernel" in vars(self)
        return bool(self.native)

    def _make_kernel(self) -> None:
        with contextlib.suppress(Exception):  # NumPy goes on: there may be no code, or too little memory
            made = Kernel(self.names.plan, cache=self._cache, few=self._few)
            vars(self)["kernel"] = made  # without the lock, which calls need

    def numpy_seconds(self, rows: int) -> float:
        """About how long NumPy takes for so many rows."""
        of_call, of_row = self._seconds
        return of_call + of_row * rows

    @computed_once
    def _seconds(self) -> tuple[float, float]:
        """About how long NumPy takes for a call, and for a row."""
        return ARRAY * len(self.names.plan.arrays), ELEMENT * self.operations

    @computed_once
    def kernel_seconds(self) -> float:
        """About how long it takes to make machine code."""
        return KERNEL + STATEMENT * self.names.plan.length

    @computed_once
    def _block(self) -> int:
        """How many rows of a large data set NumPy takes at a time."""
        size = FLOAT.itemsize * sum(math.prod(a.shape) for a in self.names.plan.arrays if a.by_row)
        rows = max(min(BLOCK // max(1, size), MOST_ROWS), LEAST_ROWS)
        rows = max(min(rows, MOST_MEMORY // max(1, size)), SMALLEST_BLOCK)
        return 1 << rows.bit_length() >> 1

    @computed_once
    def _has_wide_products(self) -> bool:
        """Whether a block has a product of matrices for which BLAS may use several threads."""
        products = [array for array in self.names.plan.arrays if isinstance(array, Contract)]
        widest = max(map(operations, products), default=0)
        return widest * self._block > BLAS_THREADS

    def block(self, native: bool) -> int:
        """How many rows a block has."""
        return self._block * (NATIVE_BLOCKS if native else 1)

    def in_blocks(
        self,
        run: Run,
        arrays: Sequence[Readable],
        native: bool,
    ) -> Sequence[Any]:
        """The outputs for all rows, by blocks: run(first, rows) gives those of the block that begins there.

        Raises the error of the first block that has one, and OverflowError if the sum of all is not finite.
        """
        n = len(arrays[0]) if arrays else 1
        if n <= (size := self.block(native)):
            return run(0, [read(array, 0, n) for array in arrays])
        if self.kind != "rows":
            return self.reduced(self.sums(run, arrays, native), n)
        whole = [np.empty((n, *shape)) for shape in self._output_shapes]

        def task(i: int) -> None:
            rows = slice(i * size, min(n, (i + 1) * size))
            found = run(rows.start, [read(array, rows.start, rows.stop) for array in arrays])
            for output, part in zip(whole, found):
                output[rows] = part

        self._run_blocks(task, n, native)
        return whole

    def sums(
        self,
        run: Run,
        arrays: Sequence[Readable],
        native: bool,
    ) -> TreeSum:
        """The sums over all rows of the outputs, by blocks as for in_blocks."""
        n, size, sums = len(arrays[0]), self.block(native), TreeSum()

        @np.errstate(over="ignore", invalid="ignore")
        def task(i: int) -> None:
            start, stop = i * size, min(n, (i + 1) * size)
            found = run(start, [read(array, start, stop) for array in arrays])
            sums.add(i, [x * (stop - start) for x in found] if self.mean else found)

        self._run_blocks(task, n, native)
        return sums

    def _run_blocks(self, task: Callable[[int], Any], n: int, native: bool) -> None:
        """Run task(0), task(1), ... for the blocks of n rows: on one thread, if that takes no longer."""
        seconds = self.numpy_seconds(n) / (NATIVE if native else 1.0)
        with alone() if seconds < THREAD else contextlib.nullcontext():
            run_blocks(task, -(-n // self.block(native)), blas=not native and self._has_wide_products)

    def reduced(self, sums: TreeSum, n: int) -> Sequence[Any]:
        """The outputs for n rows, from their sums; OverflowError if one is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = [x / n for x in sums.total()] if self.mean else sums.total()
        if not all_finite(outputs):
            raise OverflowError(OVERFLOW)
        return outputs

    def evaluate(self, arrays: Sequence[Readable], state: np.ndarray, native: bool) -> Sequence[Any]:
        """The outputs for all rows and these numbers of the live leaves, by NumPy or by machine code.

        Raises ArithmeticError, which names no row, if a number is not finite, or an index beyond its table.
        """
        data = self.data(state)

        return self.in_blocks(lambda _, rows: self.run(rows, state, data, native), arrays, native)

    def run(
        self, rows: Sequence[np.ndarray], state: np.ndarray, data: Sequence[np.ndarray], native: bool
    ) -> Sequence[Any]:
        """The outputs for a block, as evaluate() has them; `data` are the state's numbers by array."""
        if not self.has_indices(rows):
            raise FloatingPointError
        return self.run_native(rows, state) if native else self.run_raising(rows, data, fast=True)

    def state(self) -> np.ndarray:
        """The numbers of the live leaves, as they are now, one after the other; nothing may write to them."""
        now = latest_write[0]
        at, state = self._state
        if at != now:
            state = self._read(np.empty(len(self.live)))
            state.setflags(write=False)
            self._state = now, state
        return state

    def _read(self, state: np.ndarray) -> np.ndarray:
        """Write the numbers of the live leaves, as they are now, to this array."""
        self._write(state, 0, *[v._data for v in self.live])
        return state

    @computed_once
    def _index_ends(self) -> dict[int, tuple[list[int], list[int]]]:
        """For each argument, which numbers of a row are indices, and where each ends (0: with gaps)."""
        found: dict[int, tuple[list[int], list[int]]] = {}
        for (argument, index), known in self.scalars.indices.items():
            places, ends = found.setdefault(argument, ([], []))
            places.append(
                int(np.ravel_multi_index(index, self.scalars.inputs[argument].shape)) if index else 0
            )
            ends.append(len(known) if known[-1] == len(known) - 1 else 0)
        return found

    def has_indices(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether all numbers that are indices are whole numbers in the range of theirs; if in doubt, no."""
        for argument, (places, ends) in self._index_ends.items():
            numbers = arrays[argument].reshape(len(arrays[argument]), -1)[:, places]
            if not ((numbers >= 0.0) & (numbers < ends) & (numbers == np.floor(numbers))).all():
                return False
        return True

    def data(self, state: np.ndarray | None = None) -> list[np.ndarray]:
        """The numbers of `leaves`, those of this state or as they are now."""
        numbers = self.state() if state is None else state
        of, data = self._data
        if of is not numbers:
            data = [numbers[place].reshape(shape) for place, shape in self._leaf_places]
            self._data = numbers, data
        return data

    @collector_off()
    def function(self, xp: Any, **options: Any) -> Callable[..., Any]:
        """The source's function for an array module; see Source for the options."""
        return Source(self.names, **options).function(xp)

    def run_numpy(
        self, arrays: Sequence[np.ndarray], data: Sequence[np.ndarray], fast: bool
    ) -> Sequence[Any]:
        """The outputs for these rows and these data of the leaves; call it where NumPy raises for invalid."""
        last = fast and bool(arrays) and len(arrays[0]) >= MANY_ROWS
        function = self._functions.get((fast, last))
        if function is None:
            function = self._functions[fast, last] = self.function(np, fast=fast, watch=True, rows_last=last)
        return function(*arrays, *data)

    @np.errstate(over="raise", divide="raise", invalid="raise")  # a with statement takes three times as long
    def run_raising(
        self, arrays: Sequence[np.ndarray], data: Sequence[np.ndarray], fast: bool
    ) -> Sequence[Any]:
        """run_numpy(); FloatingPointError if an output is not finite, or if NumPy raises on the way."""
        outputs = self.run_numpy(arrays, data, fast)
        if not all_finite(outputs):
            raise FloatingPointError
        return outputs

    def run_native(self, arrays: Sequence[np.ndarray], state: np.ndarray | None = None) -> list[np.ndarray]:
        """The outputs for these rows by machine code, for this state or the leaves' present data.

        Raises FloatingPointError if one of them is not finite.
        """
        n = len(arrays[0]) if arrays else 1
        if sum([array.size for array in arrays]) > LARGE:
            found = self.kernel.evaluate_arrays(arrays, self.state() if state is None else state)
            outputs = [np.require(x, requirements=["C", "W"]) for x in self.shaped(found, n)]
            if not all_finite([found] if found.ndim == 1 else outputs):
                raise FloatingPointError
            return outputs
        work = self._idle.pop(n, None)  # so that no other thread has it
        if work is None:
            work = _Workspace(self, arrays, n)
        else:
            for place, array in zip(work.inputs, arrays):
                place[...] = array
        if state is not None:
            work.state[:], work.read_at = state, -1
        elif work.read_at != (now := latest_write[0]):
            self._read(work.state)
            work.read_at = now
        work.run()
        kept = work.size <= KEPT
        outputs = [x.copy() if kept else np.require(x, requirements=["C", "W"]) for x in work.outputs]
        # One array is checked sooner than several, unless its rows are apart.
        finite = all_finite([work.found] if work.found.ndim == 1 else outputs)
        if kept:
            self._idle = {n: work}
        if not finite:
            raise FloatingPointError
        return outputs

    def shaped(self, found: np.ndarray, n: int) -> list[np.ndarray]:
        """Views of a kernel's outputs for n rows, in their shapes."""
        if self.kind == "rows" and self.by_row and found.ndim == 1:
            found = np.broadcast_to(found[:, None], (len(found), n))
        return _shaped(found, self._output_shapes)

    @computed_once
    def kernel(self) -> Any:
        """The machine code; NotImplementedError if there is none (see native.Kernel)."""
        return Kernel(self.names.plan, cache=self._cache, few=self._few)

    def training_kernel(
        self, parameters: Sequence[Value], slots: int, update: Callable[..., Any], lr: float, steps: int
    ) -> tuple[Any, list[Value]]:
        """Machine code for whole training steps, with the optimizer's update; and the other live leaves.

        For the arguments and the kernel's state, see training_step.
        """
        step, others, order = training_step(self.lifted, parameters, slots, update, lr, steps)
        return Kernel(through(self._passes, step, "plan", "roll"), order, self._cache), others

    @computed_once
    def operations(self) -> int:
        """How many scalar operations this variant has."""
        return sum(len(v.x) if type(v.x) is tuple else 1 for v in self.scalars.order)

    def has_code(self) -> bool:
        """Whether there is machine code for each primitive here."""
        return Kernel is not None and all(has_code(v.row) for v in self.scalars.order if v.row)


class _Workspace:
    """The memory of one call at a time, of a variant's kernel for n rows.

    A call writes its data to `inputs` and `state`. run() computes `found`, and `outputs` are views of that.
    `read_at` is the latest writing of data when `state` got the leaves' numbers, or −1.
    """

    read_at = -1

    def __init__(self, variant: Variant, arrays: Sequence[np.ndarray], n: int):
        self.columns, self.state = pack(arrays), np.empty(variant.leaf_count)
        self.run, self.found = variant.kernel.bound(self.columns, n, self.state)
        self.inputs = _shaped(self.columns[:, :n], [array.shape[1:] for array in arrays])
        self.size = self.columns.size + self.found.size
        self.outputs = variant.shaped(self.found, n)


def _places(shapes: Sequence[tuple[int, ...]]) -> list[tuple[slice, tuple[int, ...]]]:
    """Where arrays of these shapes are in one array of all their numbers; and their shapes."""
    ends = list(itertools.accumulate(map(math.prod, shapes), initial=0))
    return list(zip(map(slice, ends, ends[1:]), shapes))


def _shaped(numbers: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Views of the numbers as arrays of these shapes; for a row of each number, of shapes (N, ...)."""
    rows = numbers.shape[1:]
    return [numbers[place].T.reshape((*rows, *shape)) for place, shape in _places(shapes)]


def all_finite(arrays: Sequence[Any]) -> bool:
    """Whether all numbers of these arrays are finite."""
    if sum([x.size for x in arrays]) <= FEW:
        sums = [sum(x.ravel().tolist()) if x.ndim else float(x) for x in arrays]
        if math.isfinite(sum(sums)):
            return True  # a sum is finite only if its terms are
    return _many_finite([x.ravel() for x in arrays])


@np.errstate(all="ignore")
def _many_finite(arrays: Sequence[np.ndarray]) -> bool:
    flat = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    # A sum is finite only if its terms are, and takes less time; a product would wait for threads of BLAS.
    return math.isfinite(flat.sum()) or bool(np.isfinite(flat).all())


def through(passes: Passes, stage: Any, *names: str) -> Any:
    """The result of these passes, one after the other, applied to a stage."""
    for name in names:
        stage = passes[name](stage)
    return stage
