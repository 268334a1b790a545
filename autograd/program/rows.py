"""rows: the numbers of a data set, read a few rows at a time, from memory or from elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..locks import new_lock

FLOAT = np.dtype(float)


class Rows:
    """An array outside of memory, such as a data set of HDF5, Zarr or Dask: its slices are arrays of floats.

    `source` has `shape`, `dtype` and slices; each row is given the shape `row`. Threads may share it: they
    read one after the other, as not every library lets them read at once. Raises TypeError where a slice is
    no array of numbers.
    """

    def __init__(self, source: Any, row: tuple[int, ...]):
        self.source, self.shape, self._lock = source, (source.shape[0], *row), new_lock()
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: Any) -> np.ndarray:
        """The rows of a slice without a step, or those of an array of numbers."""
        if not isinstance(at, slice):
            return np.stack([self[i : i + 1][0] for i in np.asarray(at).tolist()])
        start, stop, _ = at.indices(len(self))
        with self._lock:
            part = np.asarray(self.source[start:stop])
        shape = (max(stop - start, 0), *self.shape[1:])
        if part.dtype.kind not in "fiub" or part.size != math.prod(shape):
            found = f"{type(self.source).__name__}[{start}:{stop}]"
            raise TypeError(f"{found} gives {part.dtype} of shape {part.shape}, and not rows of numbers")
        return part.reshape(shape).astype(FLOAT, copy=False)


def readable(given: Any) -> np.ndarray | Rows | None:
    """The given object as an array, or as Rows, without a copy; None where all of it has to be converted."""
    if isinstance(given, np.ndarray):
        return None if given.dtype.kind not in "fiub" or np.ma.isMaskedArray(given) else np.asarray(given)
    if isinstance(given, Rows):
        return given
    shape, dtype = getattr(given, "shape", ()), getattr(given, "dtype", None)
    is_numeric = isinstance(dtype, np.dtype) and dtype.kind in "fiub"
    is_shaped = bool(shape) and all(isinstance(n, int) for n in shape)
    in_memory = any(hasattr(given, name) for name in ("__array_interface__", "__dlpack__", "iloc"))
    if is_numeric and is_shaped and not in_memory and hasattr(given, "__getitem__"):
        return Rows(given, tuple(shape[1:]))
    return None


def read(array: np.ndarray | Rows, start: int, stop: int) -> np.ndarray:
    """Some rows, as floats: a view where they are in memory as such."""
    part = array[start:stop]
    return part if part.dtype == FLOAT else part.astype(FLOAT)


def is_in_memory(array: Any) -> bool:
    """Whether rows can be read in any order at no cost: not so from a file, mapped into memory or not."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return False
        array = array.base
    return not isinstance(array, Rows)
