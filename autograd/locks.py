"""Locks for threads. A forked child has no other threads, and so finds the locks free."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_locks: weakref.WeakSet[Any] = weakref.WeakSet()


def new_lock() -> Any:
    """A reentrant lock, free in a forked child whatever thread of the parent held it."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def in_forked_child(job: Callable[[], None]) -> Callable[[], None]:
    """A decorator: each forked child does this job first. Systems without fork need no job."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=job)
    return job


class cached_property(Generic[T]):
    """functools.cached_property as it is from Python 3.12 on: without a lock.

    Before, one lock is for all objects of a class, and a child may be forked while another thread has it.
    """

    def __init__(self, compute: Callable[[Any], T]):
        self.compute, self.name = compute, compute.__name__

    def __get__(self, of: Any, _: Any = None) -> T:
        vars(of)[self.name] = found = self.compute(of)
        return found


class computed_once:
    """An attribute, computed once, under the object's `_lock`."""

    def __init__(self, compute: Callable[[Any], Any]):
        self.compute, self.name = compute, compute.__name__

    def __get__(self, of: Any, _: Any = None) -> Any:
        with of._lock:
            if self.name not in vars(of):
                vars(of)[self.name] = self.compute(of)
        return vars(of)[self.name]


@in_forked_child
def _renew() -> None:
    for lock in _locks:
        lock._at_fork_reinit()
