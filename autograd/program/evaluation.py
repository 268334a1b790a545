"""evaluation: a variant's outputs for blocks of rows, and the error of the first row that fails."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import value
from ..graph import dependents, topological_order
from ..value import Traced, Value
from .record import example, outputs_of
from .variant import OVERFLOW, Variant, all_finite


class Block(NamedTuple):
    """Rows of a call, those from `first` on of `total`."""

    arrays: Sequence[np.ndarray]
    first: int
    total: int


class Evaluation(NamedTuple):
    """A variant that is evaluated: by machine code or by NumPy, for numbers of the leaves.

    `named` gives f as a function of rows by place, and their names. The numbers are those of `state` or, if
    that is None, the present ones. `total` is the number of rows.
    """

    variant: Variant
    named: Callable[[], tuple[Callable[..., Any], Sequence[str]]]
    native: bool
    state: np.ndarray | None
    total: int

    def of_rows(self, first: int, arrays: Sequence[np.ndarray]) -> Sequence[Any]:
        """The outputs for a block whose first row has the number `first`.

        Raises the ArithmeticError of the first row that fails, and IndexError for the first index that has no
        element.
        """
        if self.native and self.variant.has_indices(arrays):
            try:
                return self.variant.run_native(arrays, self.state)
            except FloatingPointError:
                pass
        return self.of_block(Block(arrays, first, self.total))

    def of_block(self, block: Block) -> Sequence[Any]:
        """The outputs for a block by NumPy; if `native`, machine code has failed for it."""
        variant, kind, arrays = self.variant, self.variant.kind, block.arrays
        if not variant.has_indices(arrays):
            refuse_index(variant, block)
        if self.native:
            self._explain(block, functools.partial(variant.run_native, state=self.state))
        data = variant.data(self.state)
        outputs = tried(functools.partial(variant.run_raising, data=data, fast=True), arrays)
        if outputs is None:
            with_care = functools.partial(variant.run_raising, data=data, fast=False)
            self._explain(block, with_care, nan_alone=True)
            outputs = tried(with_care, arrays)
        if outputs is None:
            self._explain(block, with_care)
            with np.errstate(all="ignore"):
                outputs = variant.run_numpy(arrays, data, fast=False)
            # If no row fails, infinities in the results come from the data.
            if not all_finite(outputs) and (kind != "rows" or any(np.isnan(x).any() for x in outputs)):
                raise OverflowError(OVERFLOW)
        if kind == "rows":
            return [_own(output, arrays) for output in outputs]
        return [np.array(output) for output in outputs] if kind == "gradient" else outputs

    def _explain(self, block: Block, run: Callable[..., Any], nan_alone: bool = False) -> None:
        """Raise for the first row that fails because of NaN in its data or, unless nan_alone, at all."""
        arrays = block.arrays
        if not arrays:
            return self._replay(block, [0])
        numbers = with_nan(arrays)
        if len(numbers):
            failing = _failing(run, [array[numbers] for array in arrays])
            self._replay(block, (int(numbers[i]) for i in failing), by_nan=True)
        if not nan_alone:
            self._replay(block, _failing(run, arrays))

    def _replay(self, block: Block, rows: Iterable[int], by_nan: bool = False) -> None:
        replay(*self.named(), self.variant.kind, self.variant.mean, block, rows, by_nan)


def replay(
    f: Callable[..., Any],
    names: Sequence[str],
    kind: str,
    mean: bool,
    block: Block,
    rows: Iterable[int],
    by_nan: bool = False,
) -> None:
    """Compute these rows of a block with Values, up to the first error, or the first of a NaN in the data."""
    arrays = block.arrays
    share = 1.0 / block.total if mean else 1.0
    for i in rows:
        try:
            inputs = [example(name, a[i], Traced) for name, a in zip(names, arrays)]
            outputs, _ = outputs_of(f, inputs)
            for x in outputs:
                x = x._data if isinstance(x, Value) else x
                if math.isnan(x) or (math.isinf(x) and kind != "rows"):
                    raise FloatingPointError(f"the result, {x}, is not finite")
            if kind == "gradient" and isinstance(outputs[0], Value):
                _differentiate(outputs[0], {v for leaves in inputs for v in leaves.flat}, share)
        except ArithmeticError as error:
            located = of_row(i, error, names, arrays, block.first)
            if not (by_nan and str(located).startswith("row ")):
                raise located from error
        except ValueError as error:  # a loss that does not take a target
            raise ValueError(f"row {i + block.first}: {error}" if arrays else str(error)) from error


def refuse_index(variant: Variant, block: Block) -> None:
    """Raise IndexError for the first index of a block that is beyond its table."""
    for (argument, index), known in variant.scalars.indices.items():
        column = block.arrays[argument][(slice(None), *index)]
        for row in np.flatnonzero(~np.isin(column, known))[:1].tolist():
            where, x = place(variant.scalars.names[argument], row + block.first, *index), column[row]
            which = f"from 0 to {known[-1]}" if known[-1] == len(known) - 1 else f"among {known}"[:80]
            raise IndexError(f"{where} is {x:g}, and an index here is a whole number {which}")


def _differentiate(output: Value, inputs: set[Value], seed: float) -> None:
    """Raise as output.backward() would, except for gradients that lead to the inputs alone."""
    order = topological_order(output)
    leaves = (v for v in order if v.row is None and v not in inputs)
    value.slopes(output, seed, list(dependents(order, leaves)))


def place(name: str, *index: Any) -> str:
    """The words for an element: its row, and its column or columns if a row has some."""
    parts = [
        f"{what} {', '.join(map(str, i))}" for what, i in (("row", index[:1]), ("column", index[1:])) if i
    ]
    return ", ".join([name, *parts])


def tried(run: Callable[..., Any], arrays: Sequence[np.ndarray]) -> Any:
    """The outputs of a run; None if one of them is not finite, or if NumPy raised on the way."""
    try:
        return run(arrays)
    except FloatingPointError:
        return None


def _failing(run: Callable[..., Any], arrays: Sequence[np.ndarray]) -> Iterator[int]:
    """The rows that fail by themselves, in order, if all together fail: by halves, in the time of one run."""
    stack = [(0, len(arrays[0]), True)]
    while stack:
        start, stop, fails = stack.pop()
        if not (fails or tried(run, [a[start:stop] for a in arrays]) is None):
            continue
        if stop - start == 1:
            yield start
            continue
        middle = (start + stop) // 2
        first = tried(run, [a[start:middle] for a in arrays]) is None
        stack.append((middle, stop, not first))
        if first:
            stack.append((start, middle, True))


def with_nan(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The rows that have NaN."""
    places = [np.flatnonzero(np.isnan(a)) // max(1, math.prod(a.shape[1:])) for a in arrays]
    return np.unique(np.concatenate(places))


def of_row(
    i: int, error: ArithmeticError, names: Sequence[str], arrays: Sequence[np.ndarray], first: int = 0
) -> ArithmeticError:
    """The error of row i, with the place of a NaN among its data if the error is of a number not finite.

    Row 0 of these arrays is row `first` of the call's.
    """
    if not arrays:
        return type(error)(str(error))
    row = i + first
    nan = first_of({name: array[i : i + 1] for name, array in zip(names, arrays)}, np.isnan, row)
    return type(error)(f"{nan if nan and 'not finite' in str(error) else f'row {row}'}: {error}")


def first_of(arrays: Mapping[str, np.ndarray], wrong: Callable[..., Any], start: int = 0) -> str:
    """The first wrong number: "x, row 1, column 0 is nan"; "" without any. Rows count from `start`."""
    for name, array in arrays.items():
        for row, *column in np.argwhere(wrong(array))[:1].tolist():
            return f"{place(name, row + start, *column)} is {array[(row, *column)]}"
    return ""


def _own(result: np.ndarray, arrays: Sequence[np.ndarray]) -> np.ndarray:
    """A result, or its copy where that shares memory with anything."""
    return result if result.flags.owndata and all(result is not a for a in arrays) else result.copy()
