"""run: the data of a training run, its settings, and the order of its batches."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator

from autograd.program.rows import Readable, at, is_in_memory

from .batches import Batches

WINDOW, CHUNKS = 1 << 21, 64  # about how many numbers a window has, and of how many runs of rows it consists


@dataclass
class Run:
    """The data of a training run, and its settings.

    X and Y are the examples, or those of the first of `batches`. `losses` has the mean loss of each epoch so
    far, as it was before that epoch's updates. An epoch is one step on all examples or, with batch_size, a
    step for so many at a time, in an order that rng draws. `draws` says whether rng is part of the state, and
    `epochs` is how many epochs the run has. An `executor` computes the batches, or pieces of X and Y.
    """

    X: Readable
    Y: Readable
    losses: list[float]
    batch_size: int | None
    rng: Generator
    draws: bool
    epochs: int
    batches: Batches | None = None
    executor: Any = None
    cache: str | os.PathLike[str] | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def rows(self) -> int:
        """The most rows that a step takes, about as many for batches."""
        n = len(self.X) * (len(self.batches) if self.batches else 1)
        return min(n, self.batch_size or n)

    @property
    def steps(self) -> int:
        """The steps of all epochs, about as many for batches."""
        return self.epochs * -(-len(self.X) * (len(self.batches) if self.batches else 1) // self.rows)

    @property
    def whole(self) -> tuple[Any, Any, int]:
        """X, Y, and how many there are, for a stepper that takes a step on all of the data."""
        return (self.batches, None, len(self.batches)) if self.batches else (self.X, self.Y, len(self.X))

    @property
    def is_shared(self) -> bool:
        """Whether the program itself takes batches, or pieces of the data for an executor."""
        return self.executor is not None or (self.batches is not None and self.batch_size is None)

    @property
    def reads_in_order(self) -> bool:
        """Whether the data are not in memory, so that shuffling moves chunks of rows."""
        return not (is_in_memory(self.X) and is_in_memory(self.Y))

    def shuffled(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All examples in an order that rng draws: windows of many batches, one after the other.

        A window has rows from anywhere or, if the data are not in memory, CHUNKS runs of successive rows.
        """
        if self.batches:
            yield from self._shuffled_batches(self.batches)
            return
        n, size = len(self.X), self.rows
        numbers = math.prod(self.X.shape[1:]) + math.prod(self.Y.shape[1:])
        window = size * max(1, WINDOW // numbers // size)
        if not self.reads_in_order:
            order = np.arange(n, dtype=np.uint32 if n < 1 << 32 else np.uint64)
            self.rng.shuffle(order)
            for start in range(0, n, window):
                rows = order[start : start + window]
                yield at(self.X, rows), at(self.Y, rows)
            return
        length = -(-window // CHUNKS)
        starts = self.rng.permutation(-(-n // length)) * length
        rest = self.X[:0], self.Y[:0]  # rows that fill no batch go to the next window
        for k in range(0, len(starts), CHUNKS):
            chunks = [slice(start, start + length) for start in starts[k : k + CHUNKS].tolist()]
            x, y = (np.concatenate([r, *(a[c] for c in chunks)]) for r, a in zip(rest, (self.X, self.Y)))
            order = self.rng.permutation(len(x))
            end = len(x) // size * size if k + CHUNKS < len(starts) else len(x)
            yield at(x, order[:end]), at(y, order[:end])
            rest = at(x, order[end:]), at(y, order[end:])

    def _shuffled_batches(self, batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Windows of the rows of one batch each, and of those that were left by the batch before."""
        rest: tuple[np.ndarray, np.ndarray] | None = None
        size = self.batch_size or 1
        for X, Y in batches.shuffled(self.rng):
            x, y = X[:], Y[:]
            if (x.shape[1:], y.shape[1:]) != (self.X.shape[1:], self.Y.shape[1:]):
                shapes = f"{x.shape[1:]} and {y.shape[1:]}, not {self.X.shape[1:]} and {self.Y.shape[1:]}"
                raise ValueError(f"a batch has rows of shapes {shapes}")
            if rest is not None:
                x, y = np.concatenate([rest[0], x]), np.concatenate([rest[1], y])
            order = self.rng.permutation(len(x))
            end = len(x) // size * size
            if end:
                yield at(x, order[:end]), at(y, order[:end])
            rest = at(x, order[end:]), at(y, order[end:])
        if rest is not None and len(rest[0]):
            yield rest
