"""Batches: a training set that comes in batches, whose gradients an executor may compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from numpy.random import Generator

from autograd.program.batches import are_batches, first_of_batches, loaded

from . import checks


class Batches:
    """The batches of a training set, as `autograd.compile` takes them, with X and Y in each.

    `sample` has examples of the first batch. A list is read in every epoch, and an iterator in one alone.
    """

    def __init__(self, given: Any, executor: Any):
        self.executor, self.is_repeatable = executor, not isinstance(given, Iterator)
        first, batches = first_of_batches(given, executor)
        self._given: Any = given if self.is_repeatable else batches
        self.sample = _examples(first)

    def __len__(self) -> int:
        """How many batches there are; 1 if that is not known."""
        return len(self._given) if hasattr(self._given, "__len__") else 1

    def __iter__(self) -> Iterator[Any]:
        """All batches, with the targets in the shape that losses take."""
        if self._given is None:
            raise ValueError("an iterator gives its batches once: for more epochs, give a list of batches")
        given = self._given
        if not self.is_repeatable:
            self._given = None
        return (_ready(batch) for batch in given)

    def shuffled(self, rng: Generator) -> Iterator[tuple[Any, ...]]:
        """The arrays of all batches, in an order that rng draws if they are a list."""
        if not isinstance(self._given, Sequence):
            return (loaded(batch) for batch in self)
        return (loaded(_ready(self._given[i])) for i in rng.permutation(len(self._given)).tolist())


def are_examples(given: Any) -> bool:
    """Whether an object is batches of X and Y."""
    return are_batches(given, lambda n: n == 2)


def _ready(batch: Any) -> Any:
    return Loading(batch) if callable(batch) else _examples(loaded(batch))


class Loading:
    """A function that loads a batch, with the targets in the shape that losses take."""

    def __init__(self, load: Callable[[], Any]):
        self.load = load

    def __call__(self) -> tuple[Any, ...]:
        return _examples(loaded(self.load))


def _examples(arrays: Sequence[Any]) -> tuple[Any, ...]:
    if len(arrays) != 2:
        raise ValueError(f"a batch has X and Y, and not {len(arrays)} arrays")
    X, Y = checks.examples(arrays[0], arrays[1], checks.rows)
    return X, checks.targets(Y)
