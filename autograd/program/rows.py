"""rows: the numbers of a data set, read a few rows at a time, from memory or from elsewhere."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..locks import new_lock

FLOAT = np.dtype(float)
PART = 1 << 19  # numbers that in_parts reads at once
MASKED = "a program takes whole rows, so leave such rows out or fill them"


class RowReader:
    """Rows that are outside of memory, or of another type; slices are arrays of floats. `row`: a row's shape.

    `source` is an array of another type, or anything with `shape`, `dtype` and slices, such as a data set of
    HDF5, Zarr or Dask. Threads may share it: they read one after the other, as not every library lets them
    read at once. For slices shorter than a chunk of the source, whole chunks are read, and the last two
    kept. Raises TypeError where a slice of the source is no array of numbers.
    """

    dtype = None  # as the source's is not that of the slices

    def __init__(self, source: Any, row: tuple[int, ...]):
        self.source, self.shape, self._lock = source, (source.shape[0], *row), new_lock()
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self._chunk = _chunk(source)
        self._read: dict[int, np.ndarray] = {}  # the latest chunks, by number

    def __reduce__(self) -> Any:
        return RowReader, (self.source, self.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> np.ndarray:
        """The rows of a slice without a step, or of an array of numbers; or one row."""
        if isinstance(at, slice):
            start, stop, _ = at.indices(len(self))
            if isinstance(self.source, np.ndarray):
                return self._as_floats(self.source[start:stop], max(stop - start, 0))
            with self._lock:
                return self._as_floats(self._sliced(start, stop), max(stop - start, 0))
        if not np.ndim(at):
            return self[at : at + 1][0]
        if isinstance(self.source, np.ndarray):
            return self._as_floats(self.source.take(at, axis=0), len(at))
        return np.concatenate([self[0:0], *(self[i : i + 1] for i in np.asarray(at).tolist())])

    def _sliced(self, start: int, stop: int) -> Any:
        """A slice of the source, by chunks if it is a part of one or two."""
        size = self._chunk
        if not size or stop - start > size or stop <= start:
            return self.source[start:stop]
        parts = []
        for k in range(start // size, (stop - 1) // size + 1):
            if k not in self._read:
                self._read = dict(list(self._read.items())[-1:])
                self._read[k] = self.source[k * size : (k + 1) * size]
            parts.append(self._read[k][max(start - k * size, 0) : stop - k * size])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _as_floats(self, part: Any, rows: int) -> np.ndarray:
        shape = (rows, *self.shape[1:])
        if has_masked(part):
            raise TypeError(f"slices of {type(self.source).__name__} have masked elements: {MASKED}")
        part = np.asarray(part)
        if part.dtype.kind not in "fiub" or part.size != math.prod(shape):
            found = f"slices of {type(self.source).__name__} give {part.dtype} of shape {part.shape}"
            raise TypeError(f"{found}, and not rows of numbers")
        return part.reshape(shape).astype(FLOAT, copy=False)


def has_masked(x: Any) -> bool:
    """What np.ma.is_masked says of x. (To name np.ma imports it, which takes 12 ms.)"""
    return bool(np.any(getattr(x, "_mask", False)))


def _chunk(source: Any) -> int:
    """How many rows a chunk of the source has, the largest if they differ; 0 for a source without chunks."""
    chunks = getattr(source, "chunks", None)
    if not isinstance(chunks, tuple) or not chunks:
        return 0
    rows = max(chunks[0], default=0) if isinstance(chunks[0], tuple) else chunks[0]
    return rows if isinstance(rows, int) else 0


Readable = np.ndarray | RowReader


def readable(given: Any) -> Readable | None:
    """The given object as an array or a reader of numbers, without a copy; None if that is not possible."""
    if isinstance(given, np.ndarray):
        return None if given.dtype.kind not in "fiub" or hasattr(given, "mask") else np.asarray(given)
    if isinstance(given, RowReader):
        return given
    shape, dtype = getattr(given, "shape", ()), getattr(given, "dtype", None)
    is_numeric = isinstance(dtype, np.dtype) and dtype.kind in "fiub"
    is_shaped = bool(shape) and all(isinstance(n, int) for n in shape)
    in_memory = any(hasattr(given, name) for name in ("__array_interface__", "__dlpack__", "iloc"))
    if is_numeric and is_shaped and not in_memory and hasattr(given, "__getitem__"):
        return RowReader(given, tuple(shape[1:]))
    return None


def read(array: Readable, start: int, stop: int) -> np.ndarray:
    """Some rows, as floats: a view where they are in memory as such."""
    if array.dtype is FLOAT and stop - start == len(array):
        return array
    part = array[start:stop]
    return part if part.dtype == FLOAT else part.astype(FLOAT)


def at(array: Readable, numbers: np.ndarray) -> np.ndarray:
    """The rows of these numbers: `take` has them in a fifth of the time that an index takes."""
    return array.take(numbers, axis=0) if isinstance(array, np.ndarray) else array[numbers]


def few(array: Readable, most: int, numbers: int = 1 << 20) -> int:
    """How many rows of an array to read at once: at most so many, of at most so many numbers, or one."""
    return min(len(array), most, max(1, numbers // max(1, math.prod(array.shape[1:]))))


def in_parts(*arrays: Readable) -> Iterator[tuple[int, list[np.ndarray]]]:
    """The rows of arrays of equally many rows, a part after the other: its first row, and its arrays."""
    n = len(arrays[0])
    step = max(1, PART // max(1, sum(math.prod(array.shape[1:]) for array in arrays)))
    for start in range(0, n, step):
        yield start, [read(array, start, min(n, start + step)) for array in arrays]


def is_in_memory(array: Any) -> bool:
    """Whether rows can be read in any order at no cost: not so from a file, mapped into memory or not."""
    if isinstance(array, RowReader):
        return isinstance(array.source, np.ndarray) and is_in_memory(array.source)
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return False
        array = array.base
    return not isinstance(array, mmap.mmap)
