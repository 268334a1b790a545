"""native: machine code for a plan, by LLVM, and the memory that it works on.

    kernel = Kernel(names.plan)  # of a number, and the leaves' gradient or next values
    data, losses = pack([X, Y]), np.empty(1000)
    kernel.iterate(data, len(X), batch=len(X), state=numbers, steps=1000, losses=losses)

Needs llvmlite.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import os
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numpy as np

from ..files import PrivateFolder
from ..locks import new_lock
from .blocks import start
from .machine_code import CACHE_LINE, PADDING, code_of
from .operations import LIBM, libm
from .plan import Plan

KEPT_MEMORY = 4  # for so many calls at a time
KEPT_ENGINES = 32  # that a process keeps for programs that are made again
SMALL_STACK, MAIN_STACK = 1 << 15, 1 << 20  # bytes of stack that any thread has, and that the main one has


class Kernel:
    """Machine code that computes a plan's outputs; threads may share it.

    The outputs, and the leaves' numbers in `state`, are flat, one array after the other. `by_row` says
    whether an output differs from row to row. `order` has the places of the leaves' numbers in the state of
    iterate. `cache` is a folder that keeps machine code for other processes.

    With `few`, the code is made for calls that have at most so many rows.

    Raises NotImplementedError for a primitive without machine code, or if a row's numbers depend on a sum
    over the rows.
    """

    def __init__(self, planned: Plan, order: Any = slice(None), cache: str | None = None, few: int = 0):
        code = code_of(planned, _lanes(), few)
        facts = code.varies, code.sizes, code.scratch, code.stack
        self._set(str(code.module), facts, order, cache)

    def __reduce__(self) -> Any:
        # Another process makes the same code, with vectors as long as here.
        return _unpickled, (zlib.compress(self._text.encode()), self._facts, self._order)

    def _set(self, text: str, facts: Any, order: Any, cache: str | None) -> None:
        self._text, self._facts, self._order = text, facts, order
        varies, self._sizes, scratch, stack = facts
        self.by_row = any(varies)
        self._uniform = [k for k, each in enumerate(varies) if not each]
        self._scratch = CACHE_LINE + scratch  # numbers
        self._kept: list[np.ndarray] = []
        self._stack = 2 * stack  # LLVM may compute in another order
        self._engine = _compiled(text, cache)  # it must live as long as the code
        self._evaluate = self._function("evaluate", None)
        self._evaluate_arrays = self._function("evaluate_arrays", None)
        self._iterate = self._function("iterate", ctypes.c_int64)

    def _function(self, name: str, result: Any) -> Callable[..., int]:
        """The function at its address: arguments are numbers from _integers, pointers as well."""
        function = ctypes.CFUNCTYPE(result)(self._engine.get_function_address(name))
        if self._stack <= SMALL_STACK:
            return function
        return functools.partial(_with_stack, self._stack, function)

    def evaluate(self, columns: np.ndarray, n: int, state: np.ndarray) -> np.ndarray:
        """The outputs for the first n rows of `columns`, made by pack(), and for the state's numbers.

        The shape is (outputs,), or (outputs, n) if any output differs from row to row.
        """
        run, out = self.bound(columns, n, state)
        run()
        return out

    def bound(self, columns: np.ndarray, n: int, state: np.ndarray) -> tuple[Callable[[], Any], np.ndarray]:
        """evaluate() as a function without arguments, and the array that it writes the outputs to.

        The function reads what `columns` and `state` hold when it is called. Keep all three arrays alive, as
        the function has only their addresses, and call it from one thread at a time.
        """
        self._check(columns, n, state)
        outputs = self._sizes[0]
        width = n + PADDING if self.by_row else 1
        memory = np.empty(self._scratch + outputs * width)
        out, scratch = memory[self._scratch :].reshape(outputs, width), _on_cache_line(_address(memory))
        addresses = _address(columns), columns.shape[1], n, _address(state), _address(out), width, scratch
        run = functools.partial(self._evaluate, *_integers(*addresses))
        if not self.by_row:
            return run, out[:, 0]
        if not self._uniform:
            return run, out[:, :n]

        def run_and_repeat() -> None:
            run()
            out[self._uniform] = out[self._uniform, :1]

        return run_and_repeat, out[:, :n]

    def evaluate_arrays(self, arrays: Sequence[np.ndarray], state: np.ndarray) -> np.ndarray:
        """evaluate() for arrays as they are, of equally many rows: it needs no copy of all of them."""
        arrays = [np.require(array, np.float64, ["C", "A"]) for array in arrays]
        outputs, inputs, _ = self._sizes
        n = len(arrays[0])
        if sum(array.size for array in arrays) != n * inputs or any(len(array) != n for array in arrays):
            raise ValueError(f"not {inputs} numbers a row, but arrays of {[a.shape for a in arrays]}")
        width = n + PADDING if self.by_row else 1
        out = np.empty((outputs, width))
        try:  # memory of a call before: new memory would be mapped, page by page
            memory = self._kept.pop()
        except IndexError:
            memory = np.empty(self._scratch)
        addresses = np.array([_address(array) for array in arrays])
        self._evaluate_arrays(
            *_integers(_address(addresses), n, _address(state), _address(out), width),
            *_integers(_on_cache_line(_address(memory))),
        )
        if len(self._kept) < KEPT_MEMORY:
            self._kept.append(memory)
        if not self.by_row:
            return out[:, 0]
        out[self._uniform] = out[self._uniform, :1]
        return out[:, :n]

    def iterate(
        self,
        columns: np.ndarray,
        n: int,
        batch: int,
        state: np.ndarray,
        steps: int,
        losses: np.ndarray,
        start: int = 0,
    ) -> int:
        """Take `steps` steps: the k-th writes outputs[0] to losses[k], and the other outputs to `state`.

        A step takes the next `batch` of the n rows, or those that are left; then the first rows follow
        again. The first step takes the rows that follow after `start` steps. Returns how many steps were
        taken: at a loss that is not finite they stop, with the loss written and the state that led to it.
        """
        self._check(columns, n, state)
        outputs, _, size = self._sizes
        if self.by_row or outputs != 1 + size:
            raise ValueError("iterate needs a loss, and an output for each number of the state")
        if not (losses.dtype == np.float64 and losses.ndim == 1 and losses.flags.carray):
            raise ValueError("losses is a writable array of float64")
        if not (len(losses) >= steps >= 0 and batch > 0 and start >= 0):
            raise ValueError(f"{steps} steps from {start} by {batch} rows with {len(losses)} losses")
        # Each step reads one of two states and writes the other; the loss is right before the state.
        length = CACHE_LINE + -(-size // CACHE_LINE) * CACHE_LINE
        memory, scratch = np.empty(CACHE_LINE + 2 * length), np.empty(self._scratch)
        base = -memory.ctypes.data // 8 % CACHE_LINE + CACHE_LINE
        states = [memory[i : i + size] for i in (base, base + length)]
        states[0][:] = state[self._order]
        _, stride = columns.shape
        first = start % -(-n // batch) * batch
        here, there = (memory.ctypes.data + 8 * i for i in (base, base + length))
        work = _on_cache_line(scratch.ctypes.data)
        addresses = columns.ctypes.data, stride, n, batch, first, losses.ctypes.data, here, there
        taken = self._iterate(*_integers(*addresses, steps, work))
        state[self._order] = states[taken % 2]
        return taken

    def _check(self, columns: np.ndarray, n: int, state: np.ndarray) -> None:
        """ValueError for arrays that the code, which only has addresses, would read beyond."""
        _, inputs, size = self._sizes
        for array, shape in ((columns, (inputs, *columns.shape[1:])), (state, (size,))):
            if array.dtype != np.float64 or array.shape != shape or not array.flags.c_contiguous:
                found = f"{array.dtype} {array.shape}"
                raise ValueError(f"not a contiguous array of float64 {shape}, but {found}")
        if columns.ndim != 2 or not 0 < n <= columns.shape[1] - PADDING:
            raise ValueError(f"there are no {n} rows in columns of shape {columns.shape}, padding excepted")


def _unpickled(text: bytes, facts: Any, order: Any) -> Kernel:
    kernel = object.__new__(Kernel)
    kernel._set(zlib.decompress(text).decode(), facts, order, None)
    return kernel


def _integers(*numbers: int) -> Iterator[ctypes.c_int64]:
    """Numbers as ctypes has them: a call takes these in half the time of Python's, which it converts."""
    return map(ctypes.c_int64, numbers)


def _with_stack(size: int, function: Callable[..., int], *arguments: ctypes.c_int64) -> int:
    """Call a function with `size` bytes of stack: threads except the main one may have less, and crash."""
    thread = threading.current_thread()
    known = MAIN_STACK if thread is threading.main_thread() else getattr(thread, "stack", 0) - MAIN_STACK
    if size <= known:
        return function(*arguments)
    results: list[int] = []
    start(lambda: results.append(function(*arguments)), MAIN_STACK + size).join()
    return results[0]


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]  # half the time of array.ctypes.data


def _on_cache_line(address: int) -> int:
    """The first address from there on at which a cache line begins."""
    return -(-address // (8 * CACHE_LINE)) * (8 * CACHE_LINE)


def pack(arrays: Iterable[Any]) -> np.ndarray:
    """The arrays' rows, flattened and side by side, as one column of memory for each number of a row.

    Each array has the same number of rows N > 0. The result is of shape (numbers, N + padding).
    """
    parts = [np.asarray(array, dtype=float) for array in arrays]
    n = len(parts[0]) if parts else 1
    sizes = [math.prod(part.shape[1:]) for part in parts]
    columns = np.empty((sum(sizes), -(-n // CACHE_LINE) * CACHE_LINE + PADDING))
    start = 0
    for part, size in zip(parts, sizes):
        columns[start : start + size, :n] = part.reshape(n, size).T
        start += size
    columns[:, n:] = columns[:, :1]  # padding: computed with, and not counted
    return columns


@functools.cache
def _lanes() -> int:
    """Doubles in a vector register of this computer."""
    features = llvm.get_host_cpu_features()
    return 8 if features.get("avx512f") else 4 if features.get("avx2") else 2


def _compiled(text: str, cache: str | None) -> Any:
    """LLVM's engine that holds the code, made anew if neither this process nor the folder `cache` has it."""
    host = [text, llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    versions = [llvmlite.__version__, str(llvm.llvm_version_info), sys.platform]
    digest = hashlib.sha256("\n".join([*host, *versions]).encode()).hexdigest()
    with _engines_lock:
        engine = _engines.pop(digest, None)
        if engine is not None:
            _engines[digest] = engine  # the latest is the last
            return engine
    engine = _engine(text, digest, PrivateFolder(cache) if cache else None)
    with _engines_lock:
        _engines[digest] = engine
        while len(_engines) > KEPT_ENGINES:
            _engines.pop(next(iter(_engines)))
    return engine


def _engine(text: str, digest: str, folder: PrivateFolder | None) -> Any:
    """LLVM's engine for this code, which a folder may have by its digest.

    LLVM's other optimisations would take as long again and make the code slower: the graph is simplified
    already, and numbers that are moved out of the loop find no registers.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in LIBM:
        llvm.add_symbol(name, ctypes.cast(getattr(libm, name), ctypes.c_void_p).value)
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    engine = llvm.create_mcjit_compiler(module, machine)
    if folder:
        engine.set_object_cache(lambda _, code: folder.write(digest, code), lambda _: folder.read(digest))
    engine.finalize_object()
    return engine


_engines: dict[str, Any] = {}  # the latest, by a digest of all that they depend on
_engines_lock = new_lock()
# A fork waits for llvmlite's lock, until no thread is in LLVM: LLVM's own locks cannot be renewed.
_llvm_lock = getattr(llvm.ffi.lib, "_lock", None)
if _llvm_lock and hasattr(os, "register_at_fork"):
    _leave = functools.partial(_llvm_lock.__exit__, None, None, None)
    os.register_at_fork(before=_llvm_lock.__enter__, after_in_parent=_leave, after_in_child=_leave)
