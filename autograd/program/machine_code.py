"""machine_code: the nests of a plan as LLVM IR.

Rows are computed in one of three ways:

* a vector holds one number of each of some rows, and loops go over the elements of arrays, which are in
  memory. Several sums of products are computed at once, so that factors which they share are read once; and
  two vectors at once, where there are as many rows;
* such vectors, element after element, without loops, where a program is small and would spend its time on
  memory;
* row by row, where rows are few, or too large for the cache: a vector holds elements of an array.

What is the same for all rows is computed before and after, in loops and in vectors of elements.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from .. import ops
from ..ops import CONDITIONS
from .arrays import Array, Contract, Map, Reduce, Rows, Select, Spread, Stack, Stacked, View, own_mask, size
from .nests import Affine, Nest, Nests, Repeat, Statement, Storage, nests_of, operations, pieces, summed
from .operations import (
    CALLED,
    CONTRACT,
    INT32,
    LARGEST_POWER,
    OPERATIONS,
    across,
    applied,
    constant,
    fadd,
    has_code,
    intrinsic,
    power,
    shuffle,
    splat,
    watched,
)
from .plan import Plan
from .vector_math import DOUBLE, INT64

BOOL, POINTER = ir.IntType(1), DOUBLE.as_pointer()
CACHE_LINE = 8  # numbers
LARGE_PRODUCT = 256  # elements of a sum over rows of outer products, from which it has code of its own
PADDING = 8  # numbers after each column, which a vector with the last row may read
BLOCK = 4096  # numbers of data that are copied at once, to stay in the cache
REGISTERS = 16  # vectors of sums that are computed at once
WRITTEN_OUT = 64  # up to so many operations are written out instead of a loop
LONGEST = 200  # statements of a function, as LLVM takes longer for larger ones
INLINED = 32  # up to so many calls of exp, log, ... are inlined: a tenth faster, but LLVM takes longer
FEW_OPERATIONS = 300  # of a row, up to which no loops are faster
MOST_OPERATIONS = 8000  # and beyond which no loops take too long to compile
MOST_OF_ALL = 250  # numbers for all rows, the same: LLVM's time grows with the square of what a block reads
MOST_MEMORY = 0.24  # numbers in memory for each operation, more of which are slower than no loops
CALL = 10  # operations that a call of exp, log, ... takes
FEW_LANES = 4  # for few rows, unless these are computed row by row
LARGE_ROW = 1 << 15  # numbers in memory for a row, more of which are not in the cache for a vector of rows

Coordinate = tuple[int, Any]  # a number, and a variable to add or None


def code_of(planned: Plan, lanes: int, few: int = 0) -> Code:
    """The code of a plan, for vectors of so many numbers; NotImplementedError where there is none.

    With `few`, it is made for calls that have at most so many rows.
    """
    try:
        nests = Nests(planned)
    except NotImplementedError:  # conditions that move with the steps of a loop
        planned = planned.unrolled()
        nests = Nests(planned)
    total = in_vectors = 0  # operations
    for item in nests.rows:
        times = item.steps if isinstance(item, Repeat) else 1
        for nest in nests_of([item]):
            vectors = _has_vectors(nests, nest, lanes)
            for statement in nest.statements:
                calls = getattr(statement.definition, "row", None) in CALLED
                n = times * operations(statement.definition) * (CALL if calls else 1)
                total += n
                in_vectors += n if vectors else 0
    row, of_all = nests.sizes["rows"], nests.sizes["leaf"] + nests.sizes["uniform"]
    compiles_soon = total <= MOST_OPERATIONS and of_all <= MOST_OF_ALL
    if compiles_soon and (total <= FEW_OPERATIONS or row > MOST_MEMORY * total):
        return Code(Nests(planned.unrolled()), min(lanes, FEW_LANES) if few else lanes, "unrolled")
    of_row = total - in_vectors + in_vectors / lanes  # operations on vectors or single numbers
    # A vector of rows takes as long as one row of numbers; beyond the cache, a quarter more.
    if few * of_row < total if few else row > LARGE_ROW and of_row < 1.25 * total / lanes:
        return Code(nests, lanes, "row by row")
    if few:
        return Code(nests, min(lanes, FEW_LANES), "loops")
    return Code(nests, min(lanes, FEW_LANES) if few else lanes, "loops")


class Code:
    """A module with the functions evaluate and iterate, as Kernel takes it.

    `varies` says for each output whether it varies by row, and `sizes` how many numbers the outputs, a row of
    the data and the leaves have. The functions need `scratch` numbers of memory, and `stack` bytes.

    The `way` to compute rows: "loops" or "unrolled", with a vector of rows at once; or "row by row".
    """

    def __init__(self, nests: Nests, lanes: int, way: str):
        self.nests, self.lanes = nests, lanes
        self.with_loops, self.row_by_row = way != "unrolled", way == "row by row"
        for nest in nests_of([*nests.once, *nests.rows, *nests.after]):
            for statement in nest.statements:
                row = getattr(statement.definition, "row", None)
                if row and not has_code(row):
                    raise NotImplementedError(f"there is no machine code for {row.name}")
        self.varies = [array.by_row for array in nests.outputs for _ in range(size(array))]
        self.sizes = len(self.varies), nests.sizes["input"], nests.sizes["leaf"]
        self.has_rows = bool(nests.rows) or any(self.varies)
        self.module = ir.Module()
        self.constants = [self._global(numbers, DOUBLE) for numbers in nests.constants]
        self.tables: dict[bytes, Any] = {}
        self.direct = self._direct()
        # Without loops, the rows' parts of sums are vectors in memory.
        needed = [] if self.with_loops else nests.needed_sums()
        first = {array: i for i, array in enumerate(dict.fromkeys(array for array, _ in needed))}
        self.needed = needed
        self.parts = {e: i for i, e in enumerate(sorted(needed, key=lambda e: (first[e[0]], e[1])))}
        self.parts_start = -(-nests.sizes["uniform"] // CACHE_LINE) * CACHE_LINE
        self.rows_start = self.parts_start + len(self.parts) * lanes
        self.at_once = 1 if self.row_by_row else lanes  # rows
        in_memory = self.at_once if self.with_loops else 0  # rows, too
        self.block_start = self.rows_start + nests.sizes["rows"] * in_memory
        numbers = nests.sizes["input"]
        self.block = min(1024, max(64, BLOCK // max(1, numbers) // 64 * 64))  # rows
        large = max(
            (nest.shape[1] + lanes for nest in nests_of(nests.rows) if outer_product(nest)), default=0
        )
        self.rows_of_products = self.block_start + numbers * (self.block + PADDING)
        self.row_start = self.rows_of_products + in_memory * large
        self.scratch = self.row_start + (numbers if self.row_by_row else 0)
        self.stack = self.calls = 0
        evaluate = self._emit_evaluate()
        _emit_iterate(self.module, evaluate)
        for function in self.module.functions:
            if function.linkage == "internal" and "noinline" not in function.attributes:
                function.attributes.add("alwaysinline" if self.calls <= INLINED else "noinline")

    def _direct(self) -> dict[Array, int]:
        """Outputs that are computed where the caller reads them, and their places there."""
        found: dict[Array, int] = {}
        start = 0
        for array in self.nests.outputs if not any(self.varies) else ():
            if array in self.nests.own:
                found.setdefault(array, start)
            start += size(array)
        return found

    def _global(self, numbers: np.ndarray, element: Any) -> Any:
        kind = ir.ArrayType(element, len(numbers))
        found = ir.GlobalVariable(self.module, kind, f"c{len(self.module.global_values)}")
        found.linkage, found.global_constant = "internal", True
        found.initializer = ir.Constant(kind, numbers.tolist())
        return found

    def table(self, positions: np.ndarray) -> Any:
        """A table of whole numbers, made once."""
        numbers = positions.astype(np.int32)
        key = numbers.tobytes()
        if key not in self.tables:
            self.tables[key] = self._global(numbers, INT32)
        return self.tables[key]

    def storage(self, array: Array) -> Storage:
        """Where an array is in memory."""
        if array in self.direct:
            return Storage("out", self.direct[array])
        return self.nests.storage_of(array)

    def _emit_evaluate(self) -> Any:
        """evaluate: out[k · width] = outputs[k], or out[k · width + i] for each row i.

        evaluate_arrays does the same for arrays whose rows follow each other, and takes these in blocks.
        """
        names = ("once", "after", "rows") if self.has_rows else ("once", "after")
        self.functions = {name: self._functions(name) for name in names}
        evaluate = _procedure(self.module, "evaluate", "columns stride n state out width scratch")
        evaluate.attributes.add("noinline")  # so that it is compiled once
        columns, stride, n, state, out, width, scratch = evaluate.args
        b, memory = ir.IRBuilder(evaluate.append_basic_block()), (state, out, width, scratch)
        self._call(b, "once", columns, stride, INT64(0), n, n, *memory)
        self._call_rows(b, columns, stride, n, n, *memory)
        self._call(b, "after", columns, stride, INT64(0), n, n, *memory)
        b.ret_void()
        self._emit_evaluate_arrays()
        return evaluate

    def _emit_evaluate_arrays(self) -> None:
        function = _procedure(self.module, "evaluate_arrays", "columns n state out width scratch")
        arrays, n, state, out, width, scratch = function.args
        b = ir.IRBuilder(function.append_basic_block())
        block = b.gep(scratch, [INT64(self.block_start)])
        stride = INT64(self.block + PADDING)
        self._call(b, "once", block, stride, INT64(0), n, n, state, out, width, scratch)

        def rows(start: Any) -> None:
            left = b.sub(n, start)
            count = b.select(b.icmp_signed("<", left, INT64(self.block)), left, INT64(self.block))
            place = 0
            for argument, array in enumerate(self.nests.plan.lifted.scalars.inputs):
                address = b.load(b.bitcast(b.gep(arrays, [INT64(argument)]), INT64.as_pointer()))
                first = b.gep(b.inttoptr(address, POINTER), [b.mul(start, INT64(array.size))])

                self._copy_rows(b, first, array.size, block, stride, place, count)
                place += array.size
            here = b.gep(out, [start]) if any(self.varies) else out  # sums stay where they are
            self._call_rows(b, block, stride, count, n, state, here, width, scratch)

        _loop(b, n, self.block, rows)
        self._call(b, "after", block, stride, INT64(0), n, n, state, out, width, scratch)
        b.ret_void()

    def _copy_rows(self, b: Any, first: Any, size: int, block: Any, stride: Any, place: int, n: Any) -> None:
        """Copy n rows of `size` numbers to columns; what a vector may read after them repeats the last."""
        lanes, rest = self.lanes, size % self.lanes
        kind = ir.VectorType(DOUBLE, lanes).as_pointer()

        def vector(k: Any) -> Any:
            return b.load(b.bitcast(b.gep(first, [k]), kind), align=8)

        def column(k: Any, row: Any) -> Any:
            return b.gep(block, [b.add(b.mul(b.add(k, INT64(place)), stride), row)])

        def together(row: Any) -> None:
            """As many rows as lanes."""

            def some(k: Any, width: int = lanes) -> None:
                places = [b.add(b.mul(b.add(row, INT64(i)), INT64(size)), k) for i in range(lanes)]
                columns = _columns_of(b, list(map(vector, places))) if size > 1 else [vector(row)]
                for i, x in enumerate(columns[:width]):
                    b.store(x, b.bitcast(column(b.add(k, INT64(i)), row), kind), align=8)

            _loop(b, INT64(size - rest), lanes, some)
            if rest:
                some(INT64(size - rest), rest)

        def one_by_one(k: Any) -> None:
            def one(row: Any) -> None:
                last = b.sub(n, INT64(1))
                at = b.mul(b.select(b.icmp_signed("<", row, last), row, last), INT64(size))
                b.store(b.load(b.gep(first, [b.add(at, k)])), column(k, row))

            _loop(b, b.add(n, INT64(lanes - 1)), 1, one, done)

        after = -((rest - lanes) // size) if rest and size > 1 else 0  # rows that the last vector reads
        done = _loop(b, b.sub(n, INT64(lanes - 1 + after)), lanes, together)
        _loop(b, INT64(size), 1, one_by_one)

    def _call(self, b: Any, name: str, *arguments: Any) -> None:
        for function in self.functions[name]:
            b.call(function, arguments)

    def _call_rows(self, b: Any, columns: Any, stride: Any, n: Any, count: Any, *memory: Any) -> None:
        """Compute n rows, of `count` in all."""
        if self.has_rows:
            _loop(b, n, self.at_once, lambda i: self._call(b, "rows", columns, stride, i, n, count, *memory))

    def _functions(self, name: str) -> list[Any]:
        """Functions that compute all nests of one kind."""
        is_rows = name == "rows"
        if is_rows and not self.with_loops:
            return [_Unrolled(self).function]
        lanes = self.lanes if is_rows and not self.row_by_row else None
        functions, piece, count = list[Any](), None, 0
        items = {"once": self.nests.once, "after": self.nests.after}.get(name, self.nests.rows)
        jobs: list[Any] = [*items, None]
        if name == "once":
            jobs = [None, *items]
        for job in jobs:
            statements = sum(len(nest.statements) for nest in nests_of([job])) if job else 1
            if piece is None or count + statements > LONGEST:
                piece, count = _Loops(self, f"{name}{len(functions)}", lanes, is_rows), 0
                functions.append(piece.function)
                if is_rows and self.row_by_row and len(functions) == 1:
                    piece.copy_row()
                if name == "after" and len(functions) == 1:
                    piece.add_parts()
            count += statements
            if job is None:
                piece.zero_sums() if name == "once" else piece.write_outputs()
            elif isinstance(job, Repeat):
                piece.repeat(job)
            else:
                piece.nest(job)
        for function in functions:
            ir.IRBuilder(function.blocks[-1]).ret_void()
        return functions


def _loop(b: Any, n: Any, step: int, body: Callable[[Any], None], start: Any = None) -> Any:
    """body(i) for i = start (0), start + step, ... below n; returns the first i that is not below."""
    before, head, inside, after = b.block, *(b.append_basic_block() for _ in range(3))
    b.branch(head)
    b.position_at_end(head)
    i = b.phi(INT64)
    i.add_incoming(start or INT64(0), before)
    b.cbranch(b.icmp_signed("<", i, n), inside, after)
    b.position_at_end(inside)
    body(i)
    i.add_incoming(b.add(i, INT64(step)), b.block)
    b.branch(head)
    b.position_at_end(after)
    return i


def _procedure(module: Any, name: str, arguments: str) -> Any:
    """A function without a result."""
    pointers = ("columns", "state", "out", "scratch")
    kinds = [POINTER if argument in pointers else INT64 for argument in arguments.split()]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    for argument in function.args:
        if argument.type == POINTER:
            argument.add_attribute("noalias")
    return function


class _Computing:
    """A function of nests, for `lanes` rows or for numbers that are the same for all rows."""

    def __init__(self, code: Code, name: str, lanes: int | None):
        self.code, self.nests, self.lanes = code, code.nests, lanes
        self.aligned = 8 * (lanes or 1)  # bytes, to which vectors of rows are
        self.function = _procedure(code.module, name, "columns stride i n count state out width scratch")
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.columns, self.stride, self.i, self.n, count, *memory = self.function.args
        self.state, self.out, self.width, self.scratch = memory
        self.b = b = ir.IRBuilder(self.function.append_basic_block())
        self.count = b.sitofp(count, DOUBLE)
        self.reciprocal = b.fdiv(DOUBLE(1.0), self.count)
        self.inside: Any = None  # which lanes have rows, where some may have none
        if lanes:
            places = ir.Constant(ir.VectorType(INT64, lanes), list(range(lanes)))
            self.inside = b.icmp_signed("<", places, splat(b, b.sub(self.n, self.i), lanes))

    def kind(self, element: Any = DOUBLE) -> Any:
        """The type of numbers here: one, or a vector."""
        return element if self.lanes is None else ir.VectorType(element, self.lanes)

    def number(self, x: Any) -> Any:
        """A number of the program."""
        return constant(self.kind(BOOL), x) if isinstance(x, bool) else constant(self.kind(), float(x))

    def as_condition(self, number: Any) -> Any:
        """A truth value, which memory has as a number."""
        is_one = getattr(number.type, "element", number.type) == BOOL
        return number if is_one else self.b.fcmp_unordered("!=", number, constant(number.type, 0.0))

    def spread(self, number: Any) -> Any:
        """A number that is the same for all rows, as numbers are here."""
        return number if self.lanes is None else splat(self.b, number, self.lanes)

    def load_vector(self, pointer: Any, align: int = 8) -> Any:
        """A vector from memory."""
        return self.b.load(self.b.bitcast(pointer, self.kind().as_pointer()), align=align)

    def store(self, number: Any, pointer: Any, align: int = 8) -> None:
        """Put a number, a truth value or a vector of these into memory."""
        element = getattr(number.type, "element", number.type)
        if element == BOOL:
            kind = number.type
            double = ir.VectorType(DOUBLE, kind.count) if kind != BOOL else DOUBLE
            number = self.b.uitofp(number, double)
        self.b.store(number, self.b.bitcast(pointer, number.type.as_pointer()), align=align)

    def mapped(self, statement: Statement, operands: Sequence[Any], others: Sequence[Any]) -> Any:
        """A primitive of these operands; `others` are the numbers of statement.beside."""
        b, definition = self.b, statement.definition
        assert isinstance(definition, Map)
        row, second = definition.row, definition.operands[-1]
        self.code.calls += row in CALLED
        watch = [any(x is each for each in statement.watched) for x in definition.operands]
        if (
            row is ops.div
            and definition.by_row
            and isinstance(second, View)
            and isinstance(second.array, Rows)
        ):
            return b.fmul(operands[0], self.spread(self.reciprocal), flags=CONTRACT)
        if (
            row is ops.pow
            and type(second) is float
            and second.is_integer()
            and 0 < abs(second) <= LARGEST_POWER
        ):
            return power(
                b, watched(b, operands[0]) if second < 0.0 and watch[0] else operands[0], int(second)
            )
        if row is ops.where:
            if self.nests.is_condition(statement.array):  # a branch may be the number 1 or 0
                operands = [operands[0], *map(self.as_condition, operands[1:])]
            if own_mask(definition):
                # Elements that no sum has may be anything; and −∞ in their place would hide another −∞.
                if statement.array in self.nests.plan.infinite:
                    operands = [watched(b, x) if w else x for x, w in zip(operands, watch)]
                if isinstance(condition := operands[0], ir.Constant):
                    one = condition.constant[0] if self.lanes else condition
                    return operands[1 if one.constant else 2]
                return b.select(*operands)
            out = b.select(*operands)
            for x in (*(x for x, w in zip(operands, watch) if w), *others):
                out = watched(b, x, out)
            return out
        if row in CONDITIONS:
            return OPERATIONS[row](b, *operands)
        return applied(b, row, operands, watch)

    def add(self, total: Any, factors: Sequence[Any]) -> Any:
        """A sum, of None or a number, and a product."""
        product = factors[0]
        for factor in factors[1:]:
            product = self.b.fmul(product, factor, flags=CONTRACT)
        return product if total is None else fadd(self.b, total, product)

    def part(self, element: tuple[Array, int]) -> Any:
        """Where the rows' part of an element of a sum over rows is."""
        place = self.code.parts_start + self.code.parts[element] * self.code.lanes
        return self.b.gep(self.scratch, [INT64(place)])


class _Unrolled(_Computing):
    """A function of the rows, without loops: what varies by row is in registers.

    Elements are computed as they are needed, first operands first: the lab's network runs 7 % faster in that
    order.
    """

    def __init__(self, code: Code):
        super().__init__(code, "rows", code.lanes)
        self.statements = {s.array: s for nest in self.nests.rows for s in nest.statements}
        self.known: dict[tuple[Array, int], Any] = {}
        for array, position in code.needed:
            self._compute((array, position))
            pointer = self.part((array, position))
            before = self.load_vector(pointer, self.aligned)
            after = fadd(self.b, before, self.known[array, position])
            after = self.b.select(self.inside, after, before)  # free: the multiply-add has a mask
            self.store(after, pointer, self.aligned)
        start = 0
        for array in self.nests.outputs:
            for position in range(size(array)) if array.by_row else ():
                self._compute((array, position))
                place = self.b.add(self.b.mul(self.width, INT64(start + position)), self.i)
                self.store(self._operand((array, position)), self.b.gep(self.out, [place]))
            start += size(array)
        code.stack = 8 * code.lanes * len(self.known)
        self.b.ret_void()

    def _compute(self, element: tuple[Array, int]) -> None:
        stack, reads = [element], dict[Any, Any]()
        while stack:
            top = stack[-1]
            array, position = top
            if top in self.known or array not in self.statements:
                stack.pop()
                continue
            if top not in reads:
                reads[top] = self.nests.terms_at(self.statements[array], position)
                stack += [x for term in reversed(reads[top]) for x in reversed(term) if isinstance(x, tuple)]
                continue
            self.known[top] = self._computed(self.statements[array], reads.pop(top))
            stack.pop()

    def _computed(self, statement: Statement, terms: Sequence[Sequence[Any]]) -> Any:
        definition = statement.definition
        if isinstance(definition, Reduce):
            watch = [bool(statement.watched)] * 2
            total: Any = None
            for (x,) in terms:
                x = self._operand(x)
                total = x if total is None else applied(self.b, definition.row, [total, x], watch)
            return total
        if isinstance(definition, Map):
            n = len(definition.operands)
            values = list(map(self._operand, terms[0]))
            return self.mapped(statement, values[:n], values[n:])
        total = None
        for term in terms:
            total = self.add(total, list(map(self._operand, term)))
        return total

    def _operand(self, x: Any) -> Any:
        if not isinstance(x, tuple):
            return self.number(x)
        if x in self.known:
            return self.known[x]
        array, position = x
        storage = self.code.storage(array)
        if storage.space == "count":
            return self.spread(self.count)
        if storage.space == "constant":
            number = float(self.nests.constants[storage.table][storage.start + position])
            return self.number(bool(number) if self.nests.is_condition(array) else number)
        place = INT64(storage.start + position)
        if storage.space == "input":
            pointer = self.b.gep(self.columns, [self.b.add(self.b.mul(place, self.stride), self.i)])
            self.known[x] = self.load_vector(pointer)
            return self.known[x]
        memory = {"leaf": self.state, "out": self.out, "uniform": self.scratch}[storage.space]
        number = self.spread(self.b.load(self.b.gep(memory, [place])))
        self.known[x] = self.as_condition(number) if self.nests.is_condition(array) else number
        return self.known[x]


class _Loops(_Computing):
    """A function of nests, in loops.

    A vector has numbers of several rows. Where rows are computed one by one, it has elements that follow each
    other in memory, along the last axis of a nest or along an axis that is summed over.
    """

    def __init__(self, code: Code, name: str, lanes: int | None, of_rows: bool):
        super().__init__(code, name, lanes)
        self.of_rows, self.row_lanes = of_rows, lanes
        self.level: dict[Any, tuple[int, Any]] = {}  # a variable's depth, and the block that begins with it
        self.sums: dict[Any, Any] = {}  # of variables
        self.loaded: dict[Any, Any] = {}  # in the present block
        self.values: dict[tuple[Array, int], Any] = {}  # of a nest's arrays, for each element at hand
        self.counter: Any = None  # of the steps of a loop
        self.flat = False  # see _flat
        self.axis: Any = None  # along which the elements of a vector lie; None for vectors of rows

    # Loops

    def loop(
        self, n: Any, step: int, body: Callable[..., Iterable[Any] | None], carried: Sequence[Any] = ()
    ) -> list[Any]:
        """body(variable, *carried) for 0, step, ... below n > 0; its results are carried to the next turn."""
        b = self.b
        before, head = b.block, b.append_basic_block()
        b.branch(head)
        b.position_at_end(head)
        variable = b.phi(INT64)
        phis = [b.phi(x.type) for x in carried]
        self.level[variable] = len(self.level), head
        self.loaded = {}
        results = list(body(variable, *phis) or ())
        following = b.add(variable, INT64(step))
        for phi, initially, then in zip([variable, *phis], [INT64(0), *carried], [following, *results]):
            phi.add_incoming(initially, before)
            phi.add_incoming(then, b.block)
        after = b.append_basic_block()
        end = INT64(n) if isinstance(n, int) else n
        b.cbranch(b.icmp_signed("<", following, end), head, after)
        b.position_at_end(after)
        self.loaded = {}
        del self.level[variable]
        return results

    def _each(self, n: int, body: Callable[[Coordinate], None]) -> None:
        """body for the numbers below n, in a loop unless they are few."""
        if n > 4:
            self.loop(n, 1, lambda k: body((0, k)))
        else:
            for k in range(n):
                body((k, None))

    def _linear(self, number: int, terms: Iterable[tuple[Any, int]]) -> Any:
        """number + Σ variable · factor, computed in the outermost loop where its variables are known."""
        gathered: dict[Any, int] = {}
        for variable, factor in terms:
            gathered[variable] = gathered.get(variable, 0) + factor
        inmost = len(self.level), None
        ordered = sorted(gathered.items(), key=lambda term: self.level.get(term[0], inmost)[0])
        total: Any = None
        for end, (variable, factor) in enumerate(ordered, 1):
            key, block = tuple(ordered[:end]), self.level.get(variable, inmost)[1]
            if key not in self.sums or block is None:
                is_here = block is None or block is self.b.block
                with contextlib.nullcontext() if is_here else self.b.goto_block(block):
                    product = variable if factor == 1 else self.b.mul(variable, INT64(factor))
                    self.sums[key] = product if total is None else self.b.add(total, product)
            total = self.sums[key]
        if total is None:
            return INT64(number)
        return self.b.add(total, INT64(number)) if number else total

    # Memory

    def _pointer(self, storage: Storage, place: int, terms: Sequence[tuple[Any, int]] = ()) -> Any:
        """The address of the number at place + Σ variable · factor."""
        b = self.b
        if self.counter is not None and storage.step:
            terms = [*terms, (self.counter, storage.step)]
        place += storage.start
        if storage.space == "constant":
            return b.gep(self.code.constants[storage.table], [INT64(0), self._linear(place, terms)])
        if storage.space == "input" and self.row_lanes is None:
            return b.gep(self.scratch, [self._linear(self.code.row_start + place, terms)])
        if storage.space == "input":
            return b.gep(self.columns, [b.add(b.mul(self._linear(place, terms), self.stride), self.i)])
        if storage.space == "rows":
            lanes = self.row_lanes or 1
            scaled = [(variable, factor * lanes) for variable, factor in terms]
            return b.gep(self.scratch, [self._linear(self.code.rows_start + place * lanes, scaled)])
        base = {"leaf": self.state, "uniform": self.scratch, "out": self.out}[storage.space]
        return b.gep(base, [self._linear(place, terms)])

    def load(self, view: View, at: Mapping[Any, Coordinate]) -> Any:
        """An element of a view."""
        array = view.array
        storage = self.code.storage(array)
        if self.flat:
            place, variable = at["flat"] if size(array) > 1 else (0, None)
            terms, stride = [(variable, 1)] if variable is not None else [], int(size(array) > 1)
        else:
            stride = _stride(self.nests, view, self.axis)
            if stride not in (0, 1):
                return self._collected(view, at)
            place, terms = self._place(self.nests.affine(view), at)
        is_vector = stride == 1 and self.axis is not None
        key = storage, place, self.lanes, is_vector, *terms
        if key not in self.loaded:
            self.loaded[key] = self._loaded(array, storage, place, terms, is_vector)
        return self.loaded[key]

    def _collected(self, view: View, at: Mapping[Any, Coordinate]) -> Any:
        """A vector of elements that do not follow each other."""
        lanes, axis, (number, variable) = self.lanes, self.axis, at[self.axis]
        with self._in_vectors(None, None):
            found = [self.load(view, {**at, axis: (number + k, variable)}) for k in range(lanes or 0)]
        out = ir.Constant(self.kind(found[0].type), ir.Undefined)
        for k, x in enumerate(found):
            out = self.b.insert_element(out, x, INT32(k))
        return out

    @contextlib.contextmanager
    def _in_vectors(self, lanes: int | None, axis: Any) -> Iterator[None]:
        """With vectors of so many elements along an axis; with None, numbers one by one."""
        before = self.lanes, self.axis
        self.lanes, self.axis = lanes, axis
        yield
        self.lanes, self.axis = before

    def _loaded(
        self,
        array: Array,
        storage: Storage,
        place: int,
        terms: Sequence[tuple[Any, int]],
        is_vector: bool = False,
    ) -> Any:
        if storage.space == "count":
            return self.spread(self.count)
        if storage.space == "constant" and not (terms or storage.step or is_vector):
            number = float(self.nests.constants[storage.table][storage.start + place])
            return self.number(bool(number) if self.nests.is_condition(array) else number)
        pointer = self._pointer(storage, place, terms)
        if is_vector or (self.row_lanes and storage.space in ("input", "rows")):
            number = self.load_vector(pointer, self.aligned if storage.space == "rows" else 8)
        else:
            number = self.spread(self.b.load(pointer))
        return self.as_condition(number) if self.nests.is_condition(array) else number

    def _place(self, found: Affine, at: Mapping[Any, Coordinate]) -> tuple[int, list[tuple[Any, int]]]:
        place, terms = found.start, []
        for axis, stride in found.strides.items():
            number, variable = at[axis]
            place += stride * number
            if variable is not None:
                terms.append((variable, stride))
        if found.table is not None:
            if not terms:
                return int(found.table[place]), []
            pointer = self.b.gep(self.code.table(found.table), [INT64(0), self._linear(place, terms)])
            return 0, [(self.b.sext(self.b.load(pointer), INT64), 1)]
        if self.counter is not None and found.step:
            terms.append((self.counter, found.step))
        return place, terms

    def _keep(self, number: Any, storage: Storage, place: int, terms: Sequence[tuple[Any, int]]) -> None:
        self.store(
            number, self._pointer(storage, place, terms), self.aligned if storage.space == "rows" else 8
        )
        self.loaded = {key: x for key, x in self.loaded.items() if key[0].space != storage.space}

    def copy_row(self) -> None:
        """Copy the row's data to where they follow each other."""

        def copy(at: Coordinate) -> None:
            place, terms = _as_terms(at)
            column = self.b.mul(self._linear(place, terms), self.stride)
            number = self.b.load(self.b.gep(self.columns, [self.b.add(column, self.i)]))
            self.store(number, self._pointer(Storage("input", 0), place, terms))

        self._each(self.code.sizes[1], copy)

    def zero_sums(self) -> None:
        """Let sums over rows begin at 0."""
        if self.code.parts:
            zeros, start = ir.Constant(ir.VectorType(DOUBLE, self.code.lanes), None), self.code.parts_start
            n = len(self.code.parts) * self.code.lanes

            def zero(k: Any) -> None:
                self.store(
                    zeros,
                    self.b.gep(self.scratch, [self.b.add(k, INT64(start))]),
                    8 * self.code.lanes,
                )

            self.loop(n, self.code.lanes, zero)
        for array, n in self.nests.sums.items() if self.code.with_loops else ():
            storage = self.code.storage(array)

            def zero_one(at: Coordinate, storage: Storage = storage) -> None:
                self.b.store(DOUBLE(0.0), self._pointer(storage, *_as_terms(at)))

            self._each(n, zero_one)

    def add_parts(self) -> None:
        """Add the lanes of the rows' parts of sums."""
        lanes = self.code.lanes
        elements = list(self.code.parts)
        for start in range(0, len(elements), lanes):
            group = elements[start : start + lanes]
            vector = ir.VectorType(DOUBLE, lanes).as_pointer()
            parts = [self.b.bitcast(self.part(element), vector) for element in group]
            added = across(self.b, [self.b.load(part, align=min(64, 8 * lanes)) for part in parts])
            self._add_group(added, [(self.code.storage(a), k, ()) for a, k in group], begin=True)

    def _add_group(self, added: Any, places: Sequence[Any], begin: bool = False) -> None:
        """Add the elements of a vector to numbers in memory, or put them there."""
        storage, first, terms = places[0]
        if len(places) == self.code.lanes and all(
            p == (storage, first + k, terms) for k, p in enumerate(places)
        ):
            pointer = self.b.bitcast(self._pointer(*places[0]), added.type.as_pointer())
            added = added if begin else self.b.fadd(self.b.load(pointer, align=8), added)
            self.b.store(added, pointer, align=8)
            return
        for k, place in enumerate(places):
            pointer, one = self._pointer(*place), self.b.extract_element(added, INT32(k))
            self.b.store(one if begin else self.b.fadd(self.b.load(pointer), one), pointer)

    def write_outputs(self) -> None:
        """Copy outputs that are elsewhere to where the caller reads them."""
        start = 0
        for array in self.nests.outputs:
            n, first = size(array), start
            start += n
            is_there = self.code.direct.get(array) == first  # one array may be several outputs
            if array.by_row != self.of_rows or is_there:
                continue

            def copy(at: Coordinate, array: Array = array, first: int = first) -> None:
                place, terms = _as_terms(at)
                number = self._loaded(array, self.code.storage(array), place, terms)
                out = self.b.mul(self._linear(first + place, terms), self.width)
                self.store(number, self.b.gep(self.out, [self.b.add(out, self.i)]))

            self._each(n, copy)

    # Nests

    def repeat(self, repeat: Repeat) -> None:
        """Compute nests several times."""

        def body(counter: Any) -> None:
            self.counter = counter
            for nest in repeat.nests:
                self.nest(nest)
            self.counter = None

        self.loop(repeat.steps, 1, body)

    def nest(self, nest: Nest) -> None:
        """Compute a nest's statements for each element."""
        self.values = {}
        first = nest.statements[0]
        if isinstance(first.definition, Stack | Stacked):
            self._copies(first)
        elif self._is_flat(nest):
            self._flat(nest)
        elif self.lanes and outer_product(nest):
            self._outer(nest)
        elif not self.row_lanes and _has_vectors(self.nests, nest, self.code.lanes):
            with self._in_vectors(self.code.lanes, len(nest.shape) - 1):
                self._along(nest, self._tile(nest), 0, [{}])
        else:
            self._along(nest, self._tile(nest), 0, [{}])

    def _along(self, nest: Nest, tile: Sequence[int], axis: int, chosen: list[dict[int, Coordinate]]) -> None:
        """Loops along an axis and those after it, which compute as many elements at once as `tile` says."""
        if axis == len(nest.shape):
            self._elements(nest, chosen)
            return
        unit = self._unit(axis)
        n, step = nest.shape[axis], tile[axis] * unit
        done, full = n // step * step if step < n else 0, n // unit * unit

        def body(variable: Any) -> None:
            some = [{**at, axis: (k, variable)} for at in chosen for k in range(0, step, unit)]
            self._along(nest, tile, axis + 1, some)

        if done:
            self.loop(done, step, body)
        if done < full:
            rest = [{**at, axis: (k, None)} for at in chosen for k in range(done, full, unit)]
            self._along(nest, tile, axis + 1, rest)
        if full < n:
            with self._in_vectors(None, None):
                rest = [{**at, axis: (k, None)} for at in chosen for k in range(full, n)]
                self._along(nest, tile, axis + 1, rest)

    def _unit(self, axis: int) -> int:
        """How many elements along an axis a vector has."""
        return self.lanes if self.lanes and axis == self.axis else 1

    def _is_flat(self, nest: Nest) -> bool:
        """Whether each element reads the elements at its own place alone, and single numbers."""
        if math.prod(nest.shape) < self.code.lanes * (2 if self.lanes else 1):
            return False
        for statement in nest.statements:
            if statement.has_sums or statement.is_sum_over_rows:
                return False
            if not all(view.is_whole_in(nest.shape) or size(view.array) == 1 for view in statement.views):
                return False
        return True

    def _flat(self, nest: Nest) -> None:
        """One loop for a nest; several elements at once, if they are the same for all rows."""
        n, self.flat = math.prod(nest.shape), True
        step = 1 if self.lanes else self.code.lanes
        with self._in_vectors(self.lanes or step, None if self.lanes else "flat"):
            self.loop(n // step * step, step, lambda k: self._elements(nest, [{"flat": (0, k)}]))
        for k in range(n // step * step, n):
            self.values = {}
            self._elements(nest, [{"flat": (k, None)}])
        self.flat = False

    def _tile(self, nest: Nest) -> list[int]:
        """How many elements along each axis are computed at once."""
        sums = [s for s in nest.statements if s.has_sums or s.is_sum_over_rows]
        if not sums:
            calls = sum(getattr(s.definition, "row", None) in CALLED for s in nest.statements)
            few = math.prod(nest.shape) * (len(nest.statements) + CALL * calls) <= WRITTEN_OUT
            return list(nest.shape) if few else [1] * len(nest.shape)
        axes, over_rows = range(len(nest.shape)), sums[0].is_sum_over_rows
        views = [view for s in sums for view in s.definition.views]
        shares = {a: sum(a not in view.axes for view in views) for a in axes if nest.shape[a] > 1}
        best = sorted((a for a in shares if shares[a]), key=lambda a: (-shares[a], -a))
        terms = max(len(s.definition.terms) for s in sums)  # each has code of its own
        most = max(2, REGISTERS // terms)
        along_sums = [self._along_sum(term, nest) for s in sums for term in s.definition.terms]
        if self.axis is not None and any(axis is not None for axis in along_sums):
            # A vector of sums takes as many registers as it has lanes.
            best, at_once = [a for a in best if a != self.axis], [REGISTERS // self.code.lanes]
        elif over_rows and self.row_lanes:
            # Sums over the lanes are made for as many elements as there are lanes.
            last = [a for a in axes[-1:] if nest.shape[a] > 1]
            best = [*last, *(a for a in best if a not in last)]
            at_once = [self.code.lanes, max(1, most // self.code.lanes)]
        else:
            second = min(4, most // 4) if len(best) > 1 else 1
            at_once = [most // max(1, second), second]
        tile = [1] * len(nest.shape)
        for axis, count in zip(best, at_once):
            tile[axis] = _divisor(nest.shape[axis] // self._unit(axis), max(1, count))
        return tile

    def _along_sum(self, term: Sequence[Any], nest: Nest) -> int | None:
        """The axis along which a sum is computed in vectors, because its elements cannot be, or None."""
        axis = None if self.row_lanes else _axis_of_vectors(self.nests, term, nest, self.code.lanes)
        return axis if axis is not None and axis >= len(nest.shape) else None

    def _elements(self, nest: Nest, elements: list[dict[Any, Coordinate]]) -> None:
        """Compute the statements for some elements."""
        self.code.stack = max(self.code.stack, 8 * (self.lanes or 1) * len(nest.statements) * len(elements))
        parts: list[tuple[Any, Any]] = []
        for statement in nest.statements:
            array = statement.array
            if isinstance(statement.definition, Contract):
                results = self._contracted(statement, nest, elements)
            elif isinstance(statement.definition, Reduce):
                results = self._reduced(statement, nest, elements)
            else:
                results = [self._mapped(statement, nest, e, at) for e, at in enumerate(elements)]
            for e, (x, at) in enumerate(zip(results, elements)):
                if statement.is_sum_over_rows and not self.row_lanes:
                    place = self.code.storage(array), *self._own(nest, at)
                    self._keep(fadd(self.b, self._loaded(array, *place, self.axis is not None), x), *place)
                elif statement.is_sum_over_rows:
                    x = self.b.select(self.inside, x, constant(self.kind(), 0.0))
                    parts.append((x, (self.code.storage(array), *self._own(nest, at))))
                else:
                    self.values[array, e] = x
                    if array in self.nests.storage:
                        self._keep(x, self.code.storage(array), *self._own(nest, at))
        for start in range(0, len(parts), self.code.lanes):
            group = parts[start : start + self.code.lanes]
            added = across(self.b, [x for x, _ in group])
            self._add_group(added, [place for _, place in group])

    def _own(self, nest: Nest, at: Mapping[Any, Coordinate]) -> tuple[int, Sequence[tuple[Any, int]]]:
        """The place of an element in an array of the nest's shape."""
        if self.flat:
            return _as_terms(at["flat"])
        place, terms, factor = 0, [], 1
        for axis in reversed(range(len(nest.shape))):
            number, variable = at[axis]
            place += factor * number
            if variable is not None:
                terms.append((variable, factor))
            factor *= nest.shape[axis]
        return place, terms

    def _operand(self, x: Any, nest: Nest, e: int, at: Mapping[Any, Coordinate]) -> Any:
        if not isinstance(x, View):
            return self.number(x)
        if (x.array, e) in self.values and x.is_whole_in(nest.shape):
            return self.values[x.array, e]
        return self.load(x, at)

    def _mapped(self, statement: Statement, nest: Nest, e: int, at: Mapping[Any, Coordinate]) -> Any:
        operands = statement.definition.terms[0]
        values, rest = ([self._operand(x, nest, e, at) for x in xs] for xs in (operands, statement.beside))
        return values[0] if isinstance(statement.definition, Spread) else self.mapped(statement, values, rest)

    def _contracted(self, statement: Statement, nest: Nest, elements: list[Any]) -> list[Any]:
        """Sums of products, for several elements."""
        totals: list[Any] = [None] * len(elements)
        for term in statement.definition.terms:
            if self._is_sum_of_all(term, nest):
                totals = [self._sum_of_all(term, totals[0])]
                continue

            def add(at: Mapping[int, Coordinate], totals: Sequence[Any], term: Any = term) -> list[Any]:
                found = []
                for e, (element, total) in enumerate(zip(elements, totals)):
                    factors = [self._operand(x, nest, e, {**element, **at}) for x in term]
                    found.append(self.add(total, factors))
                return found

            ranges, axis = _ranges(term, nest), self._along_sum(term, nest)
            if axis is not None:
                n = len(ranges[axis])
                full = n // self.code.lanes * self.code.lanes
                vectors = {**ranges, axis: range(0, full, self.code.lanes)}
                totals = self._summed_along(axis, vectors, term, elements, totals)
                if full == n:
                    continue
                ranges[axis] = range(full, n)
            totals = self._summed(ranges, add, totals, len(term))
        return [self.number(0.0) if total is None else total for total in totals]

    def _summed_along(
        self,
        axis: int,
        ranges: Mapping[int, range],
        term: Sequence[Any],
        elements: Sequence[dict[int, Coordinate]],
        totals: Sequence[Any],
    ) -> list[Any]:
        """Add the sums of a term's products to totals, by vectors along an axis that is summed over."""
        lanes, each = self.code.lanes, elements
        if self.axis is not None:  # elements are vectors, too
            moved = [(at, k, *at[self.axis]) for at in elements for k in range(lanes)]
            each = [{**at, self.axis: (n + k, variable)} for at, k, n, variable in moved]

        def add(at: Mapping[int, Coordinate], sums: Sequence[Any]) -> list[Any]:
            places = [{**own, **at} for own in each]
            factors = [
                [self.load(x, p) if isinstance(x, View) else self.number(x) for x in term] for p in places
            ]
            return list(map(self.add, sums, factors))

        with self._in_vectors(lanes, axis):
            sums = self._summed(ranges, add, [None] * len(each), len(term))
        found = [across(self.b, sums[i : i + lanes]) for i in range(0, len(sums), lanes)]
        if self.axis is None:
            places = [divmod(e, lanes) for e in range(len(elements))]
            found = [self.b.extract_element(found[i], INT32(k)) for i, k in places]
        return [x if total is None else fadd(self.b, total, x) for total, x in zip(totals, found)]

    def _is_sum_of_all(self, term: Sequence[Any], nest: Nest) -> bool:
        """Whether a term is the sum of an array, or of a product of arrays, that is the same for all rows."""
        views = [x for x in term if isinstance(x, View)]
        first = views[0]
        alike = all(x.is_all_of(first.array.shape) and x.axes == first.axes for x in views)
        return self.lanes is None and nest.shape == () and alike and size(first.array) >= 2 * self.code.lanes

    def _sum_of_all(self, term: Sequence[Any], total: Any) -> Any:
        """The sum over an array, as many elements at once as there are lanes."""
        lanes, n = self.code.lanes, size(next(x.array for x in term if isinstance(x, View)))

        def plus(total: Any, at: Coordinate) -> Any:
            factors = [self.load(x, {"flat": at}) if isinstance(x, View) else self.number(x) for x in term]
            return self.add(total, factors)

        self.flat = True
        with self._in_vectors(lanes, "flat"):
            begun = [constant(self.kind(), 0.0)]
            (added,) = self.loop(n // lanes * lanes, lanes, lambda k, total: [plus(total, (0, k))], begun)
        one = self.b.extract_element(across(self.b, [added]), INT32(0))
        total = one if total is None else fadd(self.b, total, one)
        for k in range(n // lanes * lanes, n):
            total = plus(total, (k, None))
        self.flat = False
        return total

    def _reduced(self, statement: Statement, nest: Nest, elements: list[Any]) -> list[Any]:
        definition, watch = statement.definition, [bool(statement.watched)] * 2
        assert isinstance(definition, Reduce)
        (view,) = definition.operands
        ranges = _ranges((view,), nest)
        first = {axis: (0, None) for axis in ranges}

        def choose(at: Mapping[int, Coordinate], chosen: Sequence[Any]) -> list[Any]:
            xs = [self._operand(view, nest, e, {**element, **at}) for e, element in enumerate(elements)]
            return [applied(self.b, definition.row, pair, watch) for pair in zip(chosen, xs)]

        begun = [self._operand(view, nest, e, {**element, **first}) for e, element in enumerate(elements)]
        return self._summed(ranges, choose, begun, 1)

    def _summed(self, ranges: Mapping[int, range], add: Any, totals: Sequence[Any], cost: int) -> list[Any]:
        """add() for the coordinates in these ranges, by axis that is summed over."""
        if math.prod(map(len, ranges.values())) * cost * len(totals) <= WRITTEN_OUT:
            for numbers in itertools.product(*ranges.values()):
                totals = add({axis: (k, None) for axis, k in zip(ranges, numbers)}, totals)
            return list(totals)
        totals = [self.number(0.0) if total is None else total for total in totals]

        def along(axes: Sequence[int], at: dict[int, Coordinate], totals: Sequence[Any]) -> list[Any]:
            if not axes:
                return add(at, totals)
            axis, *rest = axes
            start, stop, step = ranges[axis].start, ranges[axis].stop, ranges[axis].step
            if len(ranges[axis]) == 1:
                return along(rest, {**at, axis: (start, None)}, totals)
            return self.loop(
                stop - start, step, lambda k, *each: along(rest, {**at, axis: (start, k)}, each), totals
            )

        return along(list(ranges), {}, totals)

    # Sums over rows of outer products

    def _outer(self, nest: Nest) -> None:
        """Add Σ δ[i] x[j] over the rows at hand: row by row, for many j at once.

        The sums over the lanes that other sums need would take most of the time here.
        """
        outer = outer_product(nest)
        assert outer
        (first, second), (rows, columns), lanes = outer, nest.shape, self.code.lanes
        vectors = -(-columns // lanes)
        length = vectors * lanes
        self._transpose(second, columns, length)
        left = self.b.sub(self.n, self.i)
        valid = self.b.select(self.b.icmp_signed("<", left, INT64(lanes)), left, INT64(lanes))
        kind = ir.VectorType(DOUBLE, lanes)
        target = self.code.storage(nest.statements[0].array)

        def tile(at: Sequence[Coordinate], over: Sequence[Coordinate]) -> None:
            factors = [self._first_of(first, {0: i}) for i in at]

            def row(r: Any, *totals: Any) -> list[Any]:
                places = [
                    self._linear(self.code.rows_of_products + k, [*t, (r, length)])
                    for k, t in map(_as_terms, over)
                ]
                pointers = [self.b.bitcast(self.b.gep(self.scratch, [x]), kind.as_pointer()) for x in places]
                xs = [self.b.load(pointer, align=8 * lanes) for pointer in pointers]
                deltas = [splat(self.b, self.b.load(self.b.gep(x, [r])), lanes) for x in factors]
                products = [self.b.fmul(d, x, flags=CONTRACT) for d in deltas for x in xs]
                return [fadd(self.b, total, product) for total, product in zip(totals, products)]

            zero = ir.Constant(kind, None)
            totals = iter(self.loop(valid, 1, row, [zero] * (len(at) * len(over))))
            for i, j in itertools.product(at, over):
                (a, s), (c, t) = _as_terms(i), _as_terms(j)
                place, terms = a * columns + c, [*((v, f * columns) for v, f in s), *t]
                left = min(lanes, columns - c) if not t else lanes
                self._add_group(next(totals), [(target, place + k, terms) for k in range(left)])

        def along(n: int, step: int, unit: int, body: Callable[[list[Coordinate]], None]) -> None:
            done = n // step * step
            if done and unit > 1 and columns % unit and done == n:
                done -= step  # the last vector is not full: it has no variable
            if done:
                self.loop(done * unit, step * unit, lambda k: body([(m * unit, k) for m in range(step)]))
            if done < n:
                body([(m * unit, None) for m in range(done, n)])

        along(rows, 4, 1, lambda at: along(vectors, 4, lanes, lambda over: tile(at, over)))

    def _first_of(self, view: View, at: Mapping[Any, Coordinate]) -> Any:
        """Where the first row's number of an element is."""
        return self._pointer(self.code.storage(view.array), *self._place(self.nests.affine(view), at))

    def _transpose(self, view: View, n: int, length: int) -> None:
        """Copy the elements of a view so that those of each row follow each other."""
        lanes = self.code.lanes

        def some(at: list[Coordinate]) -> None:
            found = [self.load(view, {1: j}) for j in at]
            found += [constant(self.kind(), 0.0)] * (lanes - len(at))
            for row, vector in enumerate(_columns_of(self.b, found)):
                k, terms = _as_terms(at[0])
                place = self._linear(self.code.rows_of_products + k + row * length, terms)
                self.store(vector, self.b.gep(self.scratch, [place]), 8 * lanes)

        done = n // lanes * lanes
        if done:
            self.loop(done, lanes, lambda j: some([(k, j) for k in range(lanes)]))
        if done < n:
            some([(k, None) for k in range(done, n)])

    # Copies

    def _copies(self, statement: Statement) -> None:
        """Copy the pieces of a Stack, or the members of a Stacked, to their places."""
        storage, definition = self.code.storage(statement.array), statement.definition
        assert isinstance(definition, Stack | Stacked)
        for view, sources, places in pieces(definition):

            def copy(at: Coordinate, view: View = view, sources: Any = sources, places: Any = places) -> None:
                source, place = self._progression(sources, at), self._progression(places, at)
                if isinstance(definition, Stacked):
                    x = self._loaded(view.array, self.code.storage(view.array), *_as_terms(source))
                else:
                    x = self.load(view, {axis: source for axis in view.axes})
                self._keep(x, storage, *_as_terms(place))

            self._each(len(places), copy)

    def _progression(self, numbers: np.ndarray, at: Coordinate) -> Coordinate:
        """One of these numbers: by arithmetic if they are evenly spaced, else from a table."""
        k, variable = at
        if variable is None:
            return int(numbers[k]), None
        step = int(numbers[1] - numbers[0])
        if (np.diff(numbers) == step).all():
            return int(numbers[0]), variable if step == 1 else self.b.mul(variable, INT64(step))
        pointer = self.b.gep(self.code.table(numbers), [INT64(0), variable])
        return 0, self.b.sext(self.b.load(pointer), INT64)


def outer_product(nest: Nest) -> tuple[View, View] | None:
    """The factors of a large sum over rows of products δ[i] x[j], if a nest is that."""
    (statement, *others), size = nest.statements, math.prod(nest.shape)
    if others or not statement.is_sum_over_rows or len(nest.shape) != 2 or size < LARGE_PRODUCT:
        return None
    term, *more = statement.definition.terms
    if more or len(term) != 2 or not all(isinstance(x, Select) and x.array.by_row for x in term):
        return None
    first, second = sorted(term, key=lambda x: x.axes)
    return (first, second) if (first.axes, second.axes) == ((0,), (1,)) else None


def _has_vectors(nests: Nests, nest: Nest, lanes: int) -> bool:
    """Whether a nest's elements along its last axis are computed in vectors."""
    terms = [
        term for statement in nest.statements if statement.has_sums for term in statement.definition.terms
    ]
    is_long = nest.shape[-1:] >= (lanes,)
    return is_long and all(_axis_of_vectors(nests, term, nest, lanes) is not None for term in terms)


def _axis_of_vectors(nests: Nests, term: Sequence[Any], nest: Nest, lanes: int) -> int | None:
    """The axis of a nest or of a sum along which a term's elements follow each other in memory, or None."""
    views, n = [x for x in term if isinstance(x, View)], len(nest.shape)
    for axis, length in (*list(enumerate(nest.shape))[-1:], *reversed(summed(term, n).items())):
        if length >= lanes and all(_stride(nests, view, axis) in (0, 1) for view in views):
            return axis
    return None


def _stride(nests: Nests, view: View, axis: Any) -> int:
    """How far apart in memory a view's elements along an axis are; −1 if that varies."""
    found = nests.affine(view)
    stride = found.strides.get(axis, 0)
    return -1 if stride and found.table is not None else stride


def _ranges(term: Sequence[Any], nest: Nest) -> dict[int, range]:
    """The coordinates along each axis that a term is summed over."""
    return {axis: range(length) for axis, length in summed(term, len(nest.shape)).items()}


def _columns_of(b: Any, vectors: list[Any]) -> list[Any]:
    """As many vectors as each has lanes, rows for columns."""
    n, step = len(vectors), 1
    while step < n:
        for i in (i for i in range(n) if not i & step):
            x, y = vectors[i], vectors[i + step]
            low = [k if not k & step else n + k - step for k in range(n)]
            high = [k + step if not k & step else n + k for k in range(n)]
            vectors[i], vectors[i + step] = (shuffle(b, x, y, lanes) for lanes in (low, high))
        step *= 2
    return vectors


def _as_terms(at: Coordinate) -> tuple[int, list[tuple[Any, int]]]:
    number, variable = at
    return number, [(variable, 1)] if variable is not None else []


def _divisor(n: int, most: int) -> int:
    """How many of n elements to compute at once: a divisor of n, if one is near the most."""
    if n <= most:
        return n
    return next((f for f in range(most, most // 2, -1) if n % f == 0), most)


def _emit_iterate(module: Any, evaluate: Any) -> None:
    """Write the function iterate, which calls evaluate for each step.

    The state is at `here`, at `there` after the next step, and so on; the loss is before the state.
    """
    pointers = (POINTER, INT64, INT64, INT64, INT64, POINTER, POINTER, POINTER, INT64, POINTER)
    iterate = ir.Function(module, ir.FunctionType(INT64, pointers), "iterate")
    columns, stride, n, batch, first, losses, here, there, steps, scratch = iterate.args
    start, step, taken, end = (iterate.append_basic_block(name) for name in ("start", "step", "taken", "end"))
    b = ir.IRBuilder(start)
    b.cbranch(b.icmp_signed("<", INT64(0), steps), step, end)
    b.position_at_end(step)
    k, row, old, new = b.phi(INT64), b.phi(INT64), b.phi(POINTER), b.phi(POINTER)
    left = b.sub(n, row)
    count = b.select(b.icmp_signed("<", left, batch), left, batch)
    out = b.gep(new, [INT64(-1)])
    b.call(evaluate, [b.gep(columns, [row]), stride, count, old, out, INT64(1), scratch])
    loss = b.load(out)
    b.store(loss, b.gep(losses, [k]))
    finite = b.fcmp_ordered("<", intrinsic("fabs")(b, loss), DOUBLE(math.inf))
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
