"""blocks: rows in blocks of fixed size, on several threads, and their sums in a fixed order.

The size of a block depends on the program alone, and the order of additions on the number of blocks. So
neither the number of threads nor their speed changes a bit of a result.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..locks import new_lock

STACK = 1 << 21  # bytes that each thread has: machine code may need more than threads have on every system
THREADS = "AUTOGRAD_THREADS"


def set_threads(n: int | None = None) -> None:
    """Let compiled programs use n threads; by default, as many as there are cores for this process.

    The environment variable AUTOGRAD_THREADS sets the number when autograd is imported. Results are the
    same to the last bit for any number. Raises ValueError unless n is a whole number above 0.

    >>> autograd.set_threads(1)
    >>> autograd.set_threads()
    """
    global _threads
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ValueError(f"the number of threads is a whole number above 0, not {n!r}")
    _threads = n or _cores()


def run_blocks(task: Callable[[int], Any], count: int, blas: bool = False) -> None:
    """Run task(0), task(1), ..., task(count - 1), on several threads.

    blas: whether the tasks use BLAS's own threads. BLAS is then limited to one thread or, without
    threadpoolctl, the tasks run on one. Raises the error of the first task that fails;
    later ones may then not have run.
    """
    helpers = 0 if getattr(_here, "alone", False) else min(_threads, count) - 1
    if not blas:
        _run(task, count, helpers)
    elif (controller := _blas()) is None:
        _run(task, count, 0)
    else:
        with _one_thread(controller):
            _run(task, count, helpers)


def _run(task: Callable[[int], Any], count: int, helpers: int) -> None:
    if helpers <= 0:
        for i in range(count):
            task(i)
        return
    lock, numbers, errors = threading.Lock(), iter(range(count)), dict[int, BaseException]()

    def work() -> None:
        while not errors:
            with lock:
                i = next(numbers, count)
            if i == count:
                return
            try:
                task(i)
            except BaseException as error:
                errors[i] = error

    started: list[Thread] = []
    try:
        for _ in range(helpers):
            started.append(start(work, STACK))
        work()
        for thread in started:
            thread.join()
    except BaseException as error:  # Ctrl-C, between two tasks
        errors[-1] = error
        for thread in started:
            thread.join()
    if errors:  # tasks begin in order, so that all before the first that failed have ended
        raise errors[min(errors)]


@functools.cache
def _blas() -> Any:
    """What sets the threads of BLAS; None without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController().select(user_api="blas")


@contextlib.contextmanager
def _one_thread(controller: Any) -> Iterator[None]:
    """Let BLAS have one thread, until the last of the calls that want that ends."""
    global _limited, _limit
    with _lock:
        _limited += 1
        if _limited == 1:
            _limit = controller.limit(limits=1)
    try:
        yield
    finally:
        with _lock:
            _limited -= 1
            if not _limited:
                _limit.restore_original_limits()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let this thread run blocks by itself: an executor gives each of its tasks a core."""
    before, _here.alone = getattr(_here, "alone", False), True
    try:
        yield
    finally:
        _here.alone = before


class Thread(threading.Thread):
    """A thread that has at least `stack` bytes of stack."""

    stack = 0


def start(work: Callable[[], Any], stack: int) -> Thread:
    """A thread that does this work, with so many bytes of stack."""
    thread = Thread(target=work)
    thread.stack = stack
    with _stack_lock:
        before = threading.stack_size(stack // 4096 * 4096)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    return thread


class TreeSum:
    """The sum of lists of arrays, one list for each block, in the order of a binary tree.

    Blocks come in any order: (0 + 1) + (2 + 3) is computed as soon as its parts are there. The sums that wait
    for others are all that is kept.
    """

    def __init__(self) -> None:
        self.waiting: dict[tuple[int, int], Sequence[Any]] = {}  # by level, and by place in that level
        self._lock = threading.Lock()

    def add(self, i: int, arrays: Sequence[Any], level: int = 0) -> None:
        """Add the arrays of block i or, at a level, the i-th sum of 2**level blocks."""
        while True:
            with self._lock:
                other = self.waiting.pop((level, i ^ 1), None)
                if other is None:
                    self.waiting[level, i] = arrays
                    return
            first, second = (other, arrays) if i & 1 else (arrays, other)
            arrays, i, level = [a + b for a, b in zip(first, second)], i >> 1, level + 1

    def total(self) -> Sequence[Any]:
        """The sum of all blocks."""
        total, *earlier = (arrays for _, arrays in sorted(self.waiting.items()))
        for arrays in earlier:  # a higher level has earlier blocks
            total = [a + b for a, b in zip(arrays, total)]
        return total


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _at_start() -> int:
    """The number of threads that the environment asks for, or that of the cores."""
    asked = os.environ.get(THREADS, "")
    if asked and not (asked.isdecimal() and int(asked)):
        raise ValueError(f"{THREADS} is {asked!r}, and not a whole number above 0")
    return int(asked or _cores())


_stack_lock = new_lock()  # the size of stacks belongs to all threads that start
_lock, _limited = new_lock(), 0
_limit: Any = None
_threads, _here = _at_start(), threading.local()
