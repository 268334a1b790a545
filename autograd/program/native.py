"""native: machine code for a graph of scalars, by LLVM.

    kernel = Kernel([loss, *new_weights], inputs, weights, rows)  # a number and the leaves' next values
    data, losses = pack([X, Y]), np.empty(1000)
    kernel.iterate(data, len(X), batch=len(X), state=numbers, steps=1000, losses=losses)

Scalars that are the same for all rows are computed once; then come the rows, a vector of them at a time; then
the scalars that need sums over the rows. A graph is one straight piece of code: LLVM takes 35 ms for 200
operations and 0.2 s for 2,000, and more than proportionally longer for more. Needs llvmlite.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from .. import ops
from ..graph import parents
from ..locks import new_lock
from ..ops import CONDITIONS, Primitive
from ..value import Value
from .masking import masked
from .simplify import ROW_SUM
from .vector_math import DOUBLE, FUNCTIONS, INT64

INT32, POINTER = ir.IntType(32), DOUBLE.as_pointer()
CACHE_LINE = 8  # numbers
PADDING = 8  # numbers after each column, which a vector with the last row may read
LARGEST_POWER = 16  # powers up to this are products: within a relative 4e-15
INLINED = 16  # up to so many calls of exp, log, ... are inlined: a tenth faster, but LLVM takes longer
MOST_SUMS = 4096  # sums over rows: LLVM takes long for the code that uses them
SMALL_STACK, MAIN_STACK = 1 << 15, 1 << 20  # bytes of stack that any thread has, and that the main one has
ON_STACK = 40  # up to so many sums are on the stack, where a step is faster, others in the caller's memory
MOST_OPERATIONS = 100_000  # LLVM's time grows with the square of their number: minutes for these
DEEPEST = 50  # the depth of expressions that are computed for several outputs at once


class Kernel:
    """Machine code that computes `outputs`, Values or numbers; threads may share it.

    `columns` are the leaves that stand for one number a row, `rows` is the leaf that stands for the
    number of rows, and `state` has the live leaves; any other leaf is a constant, the number it holds now.
    `by_row` says whether an output differs from row to row.

    Raises NotImplementedError for a primitive without machine code, if a row's numbers depend on a sum
    over the rows, or if there are thousands of such sums or more than 100,000 operations.
    """

    def __init__(
        self, outputs: Sequence[Any], columns: Sequence[Value], state: Sequence[Value], rows: Value | None
    ):
        code = _Code(outputs, columns, state, rows)
        self.by_row = not code.by_row.isdisjoint(outputs)
        self._uniform = [k for k, v in enumerate(outputs) if v not in code.by_row]
        self._sizes = len(outputs), len(columns), len(state)
        self._scratch = CACHE_LINE + code.scratch  # numbers
        self._stack = 2 * code.stack  # LLVM may compute in another order
        self._engine = _compiled(str(code.module))  # it must live as long as the code
        self._evaluate = self._function("evaluate", None)
        self._iterate = self._function("iterate", ctypes.c_int64)

    def _function(self, name: str, result: Any) -> Callable[..., int]:
        """The function at its address: arguments are whole numbers, or pointers as whole numbers."""
        function = ctypes.CFUNCTYPE(result)(self._engine.get_function_address(name))
        function.argtypes = [ctypes.c_int64] * {"evaluate": 7, "iterate": 10}[name]
        if self._stack <= SMALL_STACK:
            return function
        return functools.partial(_with_stack, self._stack, function)

    def evaluate(self, columns: np.ndarray, n: int, state: np.ndarray) -> np.ndarray:
        """The outputs for the first n rows of `columns`, made by pack(), and for the state's numbers.

        The shape is (outputs,), or (outputs, n) if any output differs from row to row.
        """
        self._check(columns, n, state)
        outputs = self._sizes[0]
        width = n + PADDING if self.by_row else 1
        out, scratch = np.empty((outputs, width)), np.empty(self._scratch)
        _, stride = columns.shape
        self._evaluate(
            _address(columns),
            stride,
            n,
            _address(state),
            _address(out),
            width,
            _on_cache_line(_address(scratch)),
        )
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
        states[0][:] = state
        _, stride = columns.shape
        first = start % -(-n // batch) * batch
        here, there = (memory.ctypes.data + 8 * i for i in (base, base + length))
        work = _on_cache_line(scratch.ctypes.data)
        taken = self._iterate(
            columns.ctypes.data, stride, n, batch, first, losses.ctypes.data, here, there, steps, work
        )
        state[:] = states[taken % 2]
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


def _with_stack(size: int, function: Callable[..., int], *arguments: int) -> int:
    """Call a function with `size` bytes of stack: threads except the main one may have less, and crash."""
    if threading.current_thread() is threading.main_thread() and size <= MAIN_STACK:
        return function(*arguments)
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    with _stack_lock:
        before = threading.stack_size(MAIN_STACK + size // 4096 * 4096)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
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


class _Code:
    """A module with two functions, evaluate and iterate.

    A scalar is a double if it is the same for all rows, else a vector of `lanes` rows. A row_sum is a
    vector in memory that every turn of the loop adds to, because registers are few. For the same reason,
    scalars that are the same for all rows are read from memory where rows use them, which costs nothing.
    For many sums that memory is the caller's, as a thread's stack may be small: `scratch` numbers, from
    the start of a cache line.
    """

    def __init__(
        self, outputs: Sequence[Any], columns: Sequence[Value], state: Sequence[Value], rows: Value | None
    ):
        self.outputs, self.rows = outputs, rows
        self.columns = {v: k for k, v in enumerate(columns)}
        self.state = {v: k for k, v in enumerate(state)}
        self.order = _as_written([v for v in outputs if isinstance(v, Value)])
        if (size := sum(len(v.x) if type(v.x) is tuple else 1 for v in self.order)) > MOST_OPERATIONS:
            raise NotImplementedError(
                f"machine code of {size:,} operations would take LLVM too long (the limit is"
                f' {MOST_OPERATIONS:,}): engine "numpy" has no limit'
            )
        self.by_row, self.after_rows = set(columns), set[Value]()  # computed in the loop, and after it
        self.sums: dict[Value, int] = {}  # the place of each row_sum
        self._sort()
        self.module, self.lanes = ir.Module(), _lanes()
        self.vector = ir.VectorType(DOUBLE, self.lanes)
        self.scratch = 0
        self.stack = self._bytes_alive()
        self.slots: dict[Value, Any] = {}  # where scalars are in memory
        self.scalars: dict[Value, Any] = {}
        self.vectors: dict[Any, Any] = {}  # of scalars and, after the rows, of tuples of scalars
        self.methods: dict[tuple[Any, ...], Any] = {}  # how to compute a tuple of scalars: see _alike
        self.evaluate = self._function("evaluate", ir.VoidType(), "columns stride n state out width scratch")
        self._emit_evaluate(*self.evaluate.args)
        self.iterate = self._function(
            "iterate", INT64, "columns stride n batch first losses here there steps scratch"
        )
        self._emit_iterate(*self.iterate.args)
        few = sum(v.row in CALLED for v in self.by_row) <= INLINED
        for function in self.module.functions:
            if function.linkage == "internal":
                inline = few and function.args[0].type.count > 1
                function.attributes.add("alwaysinline" if inline else "noinline")

    def _sort(self) -> None:
        for v in self.order:
            if v.row and not has_code(v.row):
                raise NotImplementedError(f"there is no machine code for {v.op}")
            if self._summed(v) or not self.after_rows.isdisjoint(parents(v)):
                self.after_rows.add(v)
            if v.row is not ROW_SUM and not self.by_row.isdisjoint(parents(v)):
                self.by_row.add(v)
        if not self.after_rows.isdisjoint(self.by_row):
            raise NotImplementedError("there is no machine code for rows that depend on a sum over rows")
        # Scalars that the rows do not need come after them: computed earlier, they would take registers.
        early = {p for v in self.by_row for p in parents(v)} - self.by_row
        for v in reversed(self.order):
            if v in early:
                early.update(parents(v))
            elif v.row and v not in self.by_row:
                self.after_rows.add(v)
        # Place sums in the order of the outputs that use them, for _alike; those of outputs[0] come last.
        seen, stack = set(), [*self.outputs[:1], *reversed(self.outputs[1:])]
        while stack:
            v = stack.pop()
            if v in self.after_rows and v not in seen:
                seen.add(v)
                if self._summed(v):
                    self.sums[v] = len(self.sums)
                else:
                    stack += parents(v)[::-1]
        if len(self.sums) > MOST_SUMS:
            raise NotImplementedError(f"there is no machine code for {len(self.sums)} sums over rows")

    def _bytes_alive(self) -> int:
        """The most bytes that are needed at once: numbers that find no register are on the stack."""
        alive, size, most = set[Value](), 0, 0
        for v in reversed(self.order):
            for p in {*parents(v)} - alive:
                alive.add(p)
                size += 8 * self.lanes if p in self.by_row else 8
            most = max(most, size)
            if v in alive and v.row:
                size -= 8 * self.lanes if v in self.by_row else 8
        return most

    def _summed(self, v: Value) -> bool:
        return v.row is ROW_SUM and v.x in self.by_row

    def _function(self, name: str, result: Any, arguments: str) -> Any:
        pointers = ("columns", "state", "out", "losses", "here", "there", "scratch")
        kinds = [POINTER if argument in pointers else INT64 for argument in arguments.split()]
        function = ir.Function(self.module, ir.FunctionType(result, kinds), name)
        if name == "evaluate":
            function.attributes.add("noinline")  # so that it is compiled once
            for argument in function.args:
                if argument.type == POINTER:
                    argument.add_attribute("noalias")
        return function

    def _emit_evaluate(
        self, columns: Any, stride: Any, n: Any, state: Any, out: Any, width: Any, scratch: Any
    ) -> None:
        """out[k · width] = outputs[k], or out[k · width + i] for each row i."""
        once, rows, last = (self.evaluate.append_basic_block(name) for name in ("once", "rows", "last"))
        self.state_pointer, self.scratch_pointer = state, scratch
        self.b = b = ir.IRBuilder(once)
        self.count = b.sitofp(n, DOUBLE)
        self.reciprocal = self._in_memory(b.fdiv(DOUBLE(1.0), self.count))
        self._emit_once()
        totals = [self._in_memory(ir.Constant(self.vector, None)) for _ in self.sums]
        if self.sums or not self.by_row.isdisjoint(self.outputs):
            b.branch(rows)
            b.position_at_end(rows)
            i = b.phi(INT64)
            self._emit_rows(columns, stride, n, i, totals)
            for k, v in enumerate(self.outputs):
                if v in self.by_row:
                    self._store(self.vectors[v], out, b.add(b.mul(width, INT64(k)), i))
            following = b.add(i, INT64(self.lanes))
            i.add_incoming(INT64(0), once)
            i.add_incoming(following, rows)
            b.cbranch(b.icmp_signed("<", following, n), rows, last)
        else:
            b.branch(rows)
            ir.IRBuilder(rows).branch(last)
        b.position_at_end(last)
        self.across = self._added_across(totals)
        self._emit_last(out, width)
        b.ret_void()

    def _emit_once(self) -> None:
        """Write the scalars that are the same for all rows and depend on no sum over them."""
        early = [v for v in self.order if v.row and v not in self.by_row and v not in self.after_rows]
        for v in early:
            self.scalars[v] = self._computed(v, self._scalar)
        for v in self.order:
            if v in self.by_row:
                for p in _each_operand(v):
                    if p in self.scalars and p not in self.slots:
                        self.slots[p] = self._in_memory(self.scalars[p])

    def _emit_rows(self, columns: Any, stride: Any, n: Any, i: Any, totals: Sequence[Any]) -> None:
        """Compute a vector of rows, from row i on; lanes beyond the last row are not added to sums."""
        b = self.b
        places = ir.VectorType(INT64, self.lanes)
        left = _splat(b, b.sub(n, i), self.lanes)
        inside = b.icmp_signed("<", ir.Constant(places, list(range(self.lanes))), left)
        for v in self.order:
            if v in self.columns:
                self.vectors[v] = self._load(columns, b.add(b.mul(stride, INT64(self.columns[v])), i))
            elif v in self.by_row:
                self.vectors[v] = self._computed(v, self._vector)
            elif v in self.sums:
                total = totals[self.sums[v]]
                before = b.load(total)
                b.store(b.select(inside, _fadd(b, before, self.vectors[v.x]), before), total)

    def _added_across(self, totals: list[Any]) -> list[Any]:
        """The sums over the lanes of totals, as vectors of `lanes` sums, or the addresses of such vectors."""
        b, lanes = self.b, self.lanes
        starts = range(0, len(totals), lanes)
        if len(totals) <= ON_STACK:
            return [_across(b, [b.load(total) for total in totals[k : k + lanes]]) for k in starts]
        # A loop, as LLVM would keep all totals on the stack. The sums overwrite totals that are read already.
        self.scratch += lanes * lanes  # the last turn of the loop may read these
        before, loop, after = b.block, *(b.append_basic_block(name) for name in ("across", "sums"))
        b.branch(loop)
        b.position_at_end(loop)
        k = b.phi(INT64)
        first = b.mul(k, INT64(lanes))
        vectors = [b.load(b.gep(totals[0], [b.add(first, INT64(i))])) for i in range(lanes)]
        b.store(_across(b, vectors), b.gep(totals[0], [k]))
        following = b.add(k, INT64(1))
        k.add_incoming(INT64(0), before)
        k.add_incoming(following, loop)
        b.cbranch(b.icmp_signed("<", following, INT64(len(starts))), loop, after)
        b.position_at_end(after)
        return [b.gep(totals[0], [INT64(k)]) for k in range(len(starts))]

    def _across_group(self, group: int) -> Any:
        sums = self.across[group]
        return self.b.load(sums) if isinstance(sums.type, ir.PointerType) else sums

    def _emit_last(self, out: Any, width: Any) -> None:
        """Write the scalars that depend on sums over rows, and the outputs; several at once where alike."""
        b, groups, k = self.b, [], 1
        singles = [0][: len(self.outputs)]
        while k < len(self.outputs):
            group = tuple(self.outputs[k : k + self.lanes])
            if len(group) == self.lanes and self.by_row.isdisjoint(self.outputs) and self._alike(group):
                groups.append((k, group))
                k += self.lanes
            else:
                singles.append(k)
                k += 1
        wanted = [self.outputs[k] for k in singles]
        wanted += [v for group, method in self.methods.items() if not method for v in group]
        for v in _as_written([v for v in wanted if isinstance(v, Value) and v not in self.by_row]):
            if v in self.after_rows and v not in self.sums:
                self.scalars[v] = self._computed(v, self._scalar)
        for k in singles:
            if self.outputs[k] not in self.by_row:
                b.store(self._scalar(self.outputs[k]), b.gep(out, [b.mul(width, INT64(k))]))
        self.places = {group: (out, INT64(k)) for k, group in groups}
        for _, group in groups:
            self._together(group)

    def _alike(self, group: tuple[Any, ...], depth: int = 0) -> Any:
        """How these scalars, as many as there are lanes, can be computed as one vector; "" if not at all."""
        first = group[0]
        if group not in self.methods:
            self.methods[group] = ""
            if _adjacent(group, self.state):
                self.methods[group] = "state"
            elif _adjacent(group, self.sums) and self.sums[first] % self.lanes == 0:
                self.methods[group] = "sums"
            elif depth < DEEPEST and all(v in self.after_rows and v.row is first.row for v in group):
                together = first.row in OPERATIONS and first.row not in (ops.pow, *CONDITIONS)
                if together and any(v is not first for v in group):
                    self.methods[group] = first.row
                    for operands in _by_operand(group):
                        self._alike(operands, depth + 1)
        return self.methods[group]

    def _together(self, group: tuple[Any, ...]) -> Any:
        if group not in self.vectors:
            self.vectors[group] = self._made_together(group, self.methods[group])
            if group in self.places:  # stored at once, as registers are few
                self._store(self.vectors[group], *self.places[group])
        return self.vectors[group]

    def _made_together(self, group: tuple[Any, ...], method: Any) -> Any:
        first = group[0]
        if method == "state":
            return self._load(self.state_pointer, INT64(self.state[first]))
        if method == "sums":
            return self._across_group(self.sums[first] // self.lanes)
        if method:
            operands = _by_operand(group)
            computed = [any(_is_computed(x) for x in xs) for xs in operands]
            return _applied(self.b, method, list(map(self._together, operands)), computed)
        if all(v is first for v in group):
            return _splat(self.b, self._scalar(first), self.lanes)
        out = ir.Constant(self.vector, None)
        for i, v in enumerate(group):
            out = self.b.insert_element(out, self._scalar(v), INT32(i))
        return out

    def _computed(self, v: Value, get: Callable[[Any], Any]) -> Any:
        b, x, y = self.b, v.x, v.y
        if v.row is ROW_SUM:  # of a scalar that is the same for all rows
            return b.fmul(get(x), self.count)
        if v.row is ops.div and y is self.rows and v in self.by_row:
            return b.fmul(get(x), _splat(b, b.load(self.reciprocal), self.lanes), flags=CONTRACT)
        if v.row is ops.pow and type(y) is float and y.is_integer() and 0 < abs(y) <= LARGEST_POWER:
            base = get(x)
            return _power(b, _watched(b, base) if y < 0.0 and _is_computed(x) else base, int(y))
        if v.row is ops.dot:
            terms = [b.fmul(get(p), get(q), flags=CONTRACT) for p, q in zip(x, y)]
            return functools.reduce(functools.partial(_fadd, b), terms or [get(0.0)])
        if v.row is ops.total:
            return functools.reduce(functools.partial(_fadd, b), map(get, x or [0.0]))
        if v.row is ops.where:
            out = b.select(get(x), *map(get, y))
            for p in (*_compared(x), *y):  # `where` would hide that these are not finite
                out = _watched(b, get(p), out) if _is_computed(p) else out
            return out
        operands = (x,) if y is None else (x, y)
        if v.row in CONDITIONS:
            return OPERATIONS[v.row](b, *map(get, operands))
        return _applied(b, v.row, list(map(get, operands)), list(map(_is_computed, operands)))

    def _scalar(self, x: Any) -> Any:
        b = self.b
        if x in self.scalars:
            return self.scalars[x]
        if x in self.state:
            return b.load(b.gep(self.state_pointer, [INT64(self.state[x])]))
        if x in self.sums:
            group, lane = divmod(self.sums[x], self.lanes)
            return b.extract_element(self._across_group(group), INT32(lane))
        return self.count if x is self.rows else DOUBLE(x._data if isinstance(x, Value) else x)

    def _vector(self, x: Any) -> Any:
        if x in self.vectors:
            return self.vectors[x]
        scalar = self.b.load(self.slots[x]) if x in self.slots else self._scalar(x)
        if isinstance(scalar, ir.Constant):
            return _constant(self.vector, scalar.constant)
        return _splat(self.b, scalar, self.lanes)

    def _in_memory(self, number: Any) -> Any:
        """Where a scalar or vector is stored."""
        if len(self.sums) <= ON_STACK:
            place = self.b.alloca(number.type)
            place.align = 8 if number.type == DOUBLE else 8 * self.lanes
        else:
            size = 1 if number.type == DOUBLE else self.lanes
            start = -(-self.scratch // size) * size
            self.scratch = start + size
            where = self.b.gep(self.scratch_pointer, [INT64(start)])
            place = self.b.bitcast(where, number.type.as_pointer())
        self.b.store(number, place)
        return place

    def _load(self, pointer: Any, place: Any) -> Any:
        where = self.b.gep(pointer, [place])
        return self.b.load(self.b.bitcast(where, self.vector.as_pointer()), align=8)

    def _store(self, vector: Any, pointer: Any, place: Any) -> None:
        where = self.b.gep(pointer, [place])
        self.b.store(vector, self.b.bitcast(where, self.vector.as_pointer()), align=8)

    def _emit_iterate(
        self,
        columns: Any,
        stride: Any,
        n: Any,
        batch: Any,
        first: Any,
        losses: Any,
        here: Any,
        there: Any,
        steps: Any,
        scratch: Any,
    ) -> None:
        """The state is at `here`, at `there` after the next step, and so on; the loss is before the state."""
        start, step, taken, end = (
            self.iterate.append_basic_block(name) for name in ("start", "step", "taken", "end")
        )
        b = ir.IRBuilder(start)
        b.cbranch(b.icmp_signed("<", INT64(0), steps), step, end)
        b.position_at_end(step)
        k, row, old, new = b.phi(INT64), b.phi(INT64), b.phi(POINTER), b.phi(POINTER)
        left = b.sub(n, row)
        count = b.select(b.icmp_signed("<", left, batch), left, batch)
        out = b.gep(new, [INT64(-1)])
        b.call(self.evaluate, [b.gep(columns, [row]), stride, count, old, out, INT64(1), scratch])
        loss = b.load(out)
        b.store(loss, b.gep(losses, [k]))
        finite = b.fcmp_ordered("<", _intrinsic("fabs")(b, loss), DOUBLE(math.inf))
        b.cbranch(finite, taken, end)
        b.position_at_end(taken)
        following, after = b.add(k, INT64(1)), b.add(row, batch)
        around = b.select(b.icmp_signed("<", after, n), after, INT64(0))
        for phi, initially, then in (
            (k, INT64(0), following),
            (row, first, around),
            (old, here, new),
            (new, there, old),
        ):
            phi.add_incoming(initially, start)
            phi.add_incoming(then, taken)
        b.cbranch(b.icmp_signed("<", following, steps), step, end)
        b.position_at_end(end)
        done = b.phi(INT64)
        for count, block in ((INT64(0), start), (k, step), (following, taken)):
            done.add_incoming(count, block)
        b.ret(done)


def _as_written(roots: Iterable[Value]) -> list[Value]:
    """A topological order in which first operands come first: the lab's network runs 7 % faster in it."""
    order: list[Value] = []
    seen: set[Value] = set()
    stack: list[Any] = list(roots)
    while stack:
        v = stack.pop()
        if v is None:
            order.append(stack.pop())
        elif v not in seen:
            seen.add(v)
            stack += (v, None, *reversed(parents(v)))
    return order


def _each_operand(v: Value) -> Iterator[Any]:
    for x in (v.x, v.y):
        if type(x) is tuple:
            yield from x
        else:
            yield x


def _adjacent(group: Sequence[Any], places: dict[Value, int]) -> bool:
    first = places.get(group[0], -1)
    return first >= 0 and all(places.get(v) == first + i for i, v in enumerate(group))


def _by_operand(group: Sequence[Value]) -> list[tuple[Any, ...]]:
    """The first operands of a group and, if there are any, the second."""
    ys = tuple(v.y for v in group)
    return [tuple(v.x for v in group), *([] if ys[0] is None else [ys])]


def _shuffle(b: Any, x: Any, y: Any, lanes: Sequence[int]) -> Any:
    return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes)))


def _splat(b: Any, x: Any, lanes: int) -> Any:
    zero, firsts = (ir.Constant(ir.VectorType(element, lanes), None) for element in (x.type, INT32))
    return b.shuffle_vector(b.insert_element(zero, x, INT32(0)), zero, firsts)


def _constant(kind: Any, x: float) -> Any:
    return ir.Constant(kind, [x] * kind.count if isinstance(kind, ir.VectorType) else x)


def _across(b: Any, vectors: list[Any]) -> Any:
    """One vector with the sum of the elements of each vector; these are no more than the lanes.

    Neighbouring elements are added first, then neighbouring sums of two, and so on.
    """
    lanes = vectors[0].type.count
    for size in [1] + [2] * (lanes.bit_length() - 2):
        even = [i + j for i in range(0, 2 * lanes, 2 * size) for j in range(size)]
        if size == 1:  # their elements alternate, which costs the processor less
            even = [k for i in range(0, lanes, 2) for k in (i, lanes + i)]
        odd = [k + size for k in even]
        pairs = zip(vectors[::2], vectors[1::2] + vectors[-1:])
        vectors = [b.fadd(_shuffle(b, x, y, even), _shuffle(b, x, y, odd)) for x, y in pairs]
    return vectors[0]


def _fadd(b: Any, x: Any, y: Any) -> Any:
    return b.fadd(x, y, flags=CONTRACT)


def _is_computed(x: Any) -> bool:
    """Whether x is computed, and no data: an infinity in x is then an error."""
    return isinstance(x, Value) and x.row is not None


def _compared(condition: Any) -> list[Any]:
    """The operands that a condition compares."""
    found: list[Any] = []
    stack = [condition]
    while stack:
        v = stack.pop()
        operands = (v.x,) if v.y is None else (v.x, v.y)
        if v.row in LOGICAL:
            stack += [p for p in operands if isinstance(p, Value)]
        else:
            found += operands
    return found


def _applied(b: Any, op: Primitive, operands: Sequence[Any], computed: Sequence[bool]) -> Any:
    """An operation that does not mask a computed operand which is not finite."""
    watch = [masks and watched for masks, watched in zip(masked(op), computed)]
    if op is not ops.pow:
        return OPERATIONS[op](b, *(_watched(b, x) if w else x for x, w in zip(operands, watch)))
    out = OPERATIONS[op](b, *operands)  # pow may mask NaN too
    for x, w in zip(operands, watch):
        out = _watched(b, x, out) if w else out
    return out


def _watched(b: Any, x: Any, out: Any = None) -> Any:
    """`out`, by default x, but NaN where x is not finite: 0 x is added, in one instruction."""
    return _fadd(b, b.fmul(x, _constant(x.type, 0.0), flags=CONTRACT), x if out is None else out)


def _arithmetic(name: str) -> Callable[..., Any]:
    return lambda b, *operands: getattr(b, name)(*operands, flags=CONTRACT)


def _intrinsic(name: str) -> Callable[..., Any]:
    def call(b: Any, *operands: Any) -> Any:
        kind, module = operands[0].type, b.module
        full = f"llvm.{name}.v{kind.count}f64" if isinstance(kind, ir.VectorType) else f"llvm.{name}.f64"
        signature = ir.FunctionType(kind, [kind] * len(operands))
        return b.call(module.globals.get(full) or ir.Function(module, signature, full), operands)

    return call


def _function(name: str) -> Callable[[Any, Any], Any]:
    def call(b: Any, x: Any) -> Any:
        if x.type == DOUBLE:
            one = _splat(b, x, 1)
            return b.extract_element(call(b, one), INT32(0))
        full = f"{name}.{x.type.count}"
        function = b.module.globals.get(full)
        if function is None:
            function = ir.Function(b.module, ir.FunctionType(x.type, [x.type]), full)
            function.linkage = "internal"
            inner = ir.IRBuilder(function.append_basic_block())
            inner.ret(FUNCTIONS[name](inner, function.args[0]))
        return b.call(function, [x])

    return call


def _of_libm(name: str) -> Callable[..., Any]:
    """A function of the C library, called for one lane after the other."""

    def call(b: Any, *operands: Any) -> Any:
        kind = operands[0].type
        if isinstance(kind, ir.VectorType):
            out = ir.Constant(kind, None)
            for i in map(INT32, range(kind.count)):
                out = b.insert_element(out, call(b, *(b.extract_element(x, i) for x in operands)), i)
            return out
        signature = ir.FunctionType(DOUBLE, [DOUBLE] * len(operands))
        return b.call(b.module.globals.get(name) or ir.Function(b.module, signature, name), operands)

    return call


def _logaddexp(b: Any, x: Any, y: Any) -> Any:
    """max(x, y) + log(1 + e^−|x − y|)."""
    difference = b.fneg(_intrinsic("fabs")(b, b.fsub(x, y)))
    return b.fadd(_extreme("<")(b, x, y), _function("softplus")(b, difference))


def _rest(b: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    """The rest of x / y with the sign of x, whether y has the other sign, and a zero."""
    rest, zero = b.frem(x, y), _constant(x.type, 0.0)
    sign = _intrinsic("copysign")(b, _constant(x.type, 1.0), y)
    return rest, b.fcmp_ordered("<", b.fmul(rest, sign), zero), zero


def _remainder(b: Any, x: Any, y: Any) -> Any:
    """The rest with the sign of y, as Python has it."""
    rest, turned, zero = _rest(b, x, y)
    rest = b.select(turned, b.fadd(rest, y), rest)
    return b.select(b.fcmp_ordered("==", rest, zero), _intrinsic("copysign")(b, zero, y), rest)


def _floor_divide(b: Any, x: Any, y: Any) -> Any:
    """The whole number next to (x − rest) / y, less 1 where the rest changes its sign, as Python has it."""
    rest, turned, zero = _rest(b, x, y)
    one = _constant(x.type, 1.0)
    quotient = b.fdiv(b.fsub(x, rest), y)
    quotient = b.select(turned, b.fsub(quotient, one), quotient)
    whole = _intrinsic("floor")(b, quotient)
    above = b.fcmp_ordered(">", b.fsub(quotient, whole), _constant(x.type, 0.5))
    whole = b.select(above, b.fadd(whole, one), whole)
    signed = _intrinsic("copysign")(b, zero, b.fdiv(x, y))
    return b.select(b.fcmp_ordered("==", whole, zero), signed, whole)


def _power(b: Any, x: Any, k: int) -> Any:
    square, out = x if k > 0 else b.fdiv(_constant(x.type, 1.0), x), None
    k = abs(k)
    while k:
        if k % 2:
            out = square if out is None else b.fmul(out, square)
        k //= 2
        square = b.fmul(square, square)
    return out


def _relu(b: Any, x: Any) -> Any:
    zero = _constant(x.type, 0.0)
    return b.select(b.fcmp_ordered("<=", x, zero), zero, x)


def _sign(b: Any, x: Any) -> Any:
    one = _intrinsic("copysign")(b, _constant(x.type, 1.0), x)
    return b.select(b.fcmp_unordered("==", x, _constant(x.type, 0.0)), x, one)  # unordered: or NaN


def _step(b: Any, x: Any, y: Any) -> Any:
    out = _constant(x.type, math.nan)
    for comparison, number in (("<", 0.0), ("==", 0.5), (">", 1.0)):
        out = b.select(b.fcmp_ordered(comparison, x, y), _constant(x.type, number), out)
    return out


def _extreme(comparison: str) -> Callable[[Any, Any, Any], Any]:
    def choose(b: Any, x: Any, y: Any) -> Any:
        return b.select(b.or_(b.fcmp_ordered(comparison, x, y), b.fcmp_unordered("uno", y, y)), y, x)

    return choose


# A product may be added before it is rounded. LLVM's other fast-math flags are not set: they give up NaN and
# infinities, by which errors are noticed, or gain nothing here.
CONTRACT = ("contract",)
_libm = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
_FUNCTIONS = "tan asin acos atan atan2 sinh cosh asinh acosh atanh log2 log10 cbrt hypot"
LIBM = [name for name in [*_FUNCTIONS.split(), "lgamma"] if hasattr(_libm, name)]
OPERATIONS: dict[Primitive, Callable[..., Any]] = {
    ops.add: _arithmetic("fadd"),
    ops.sub: _arithmetic("fsub"),
    ops.mul: _arithmetic("fmul"),
    ops.div: _arithmetic("fdiv"),
    ops.neg: _arithmetic("fneg"),
    ops.pow: _intrinsic("pow"),
    ops.sqrt: _intrinsic("sqrt"),
    ops.abs: _intrinsic("fabs"),
    ops.relu: _relu,
    ops.sign: _sign,
    ops.step: _step,
    ops.maximum: _extreme("<"),
    ops.minimum: _extreme(">"),
    ops.floor: _intrinsic("floor"),
    ops.ceil: _intrinsic("ceil"),
    ops.copysign: _intrinsic("copysign"),
    ops.remainder: _remainder,
    ops.floor_divide: _floor_divide,
    ops.logaddexp: _logaddexp,
    **{ops.TABLE[name]: _of_libm(name) for name in LIBM},
    ops.detach: lambda b, x: x,
    ops.less: lambda b, x, y: b.fcmp_ordered("<", x, y),
    ops.less_equal: lambda b, x, y: b.fcmp_ordered("<=", x, y),
    ops.equal: lambda b, x, y: b.fcmp_ordered("==", x, y),
    ops.logical_and: lambda b, x, y: b.and_(x, y),
    ops.logical_or: lambda b, x, y: b.or_(x, y),
    ops.logical_not: lambda b, x: b.not_(x),
    **{ops.TABLE[name]: _function(name) for name in FUNCTIONS},
}
CALLED = [ops.TABLE[name] for name in FUNCTIONS]
LOGICAL = (ops.logical_and, ops.logical_or, ops.logical_not)


def has_code(row: Primitive) -> bool:
    """Whether there is machine code for a primitive."""
    return row in OPERATIONS or row in (ops.dot, ops.total, ops.where, ROW_SUM)


@functools.cache
def _lanes() -> int:
    """Doubles in a vector register of this computer."""
    features = llvm.get_host_cpu_features()
    return 8 if features.get("avx512f") else 4 if features.get("avx2") else 2


def _compiled(text: str) -> Any:
    """LLVM's engine that holds the code.

    LLVM's other optimisations would take as long again and make the code slower: the graph is simplified
    already, and numbers that are moved out of the loop find no registers.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in LIBM:
        llvm.add_symbol(name, ctypes.cast(getattr(_libm, name), ctypes.c_void_p).value)
    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.run(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


_stack_lock = new_lock()
# A fork waits for llvmlite's lock, until no thread is in LLVM: LLVM's own locks cannot be renewed.
_llvm_lock = getattr(llvm.ffi.lib, "_lock", None)
if _llvm_lock and hasattr(os, "register_at_fork"):
    _leave = functools.partial(_llvm_lock.__exit__, None, None, None)
    os.register_at_fork(before=_llvm_lock.__enter__, after_in_parent=_leave, after_in_child=_leave)
