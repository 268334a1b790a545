"""array_api: planned arrays as Python source, for NumPy and every library with the array API standard.

An array that is used again, or that has a name of its own, has a line; others are written where they are
used. The source defines `program(xp)`, which returns the function for array module xp.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ops, special
from ..ops import CONDITIONS, TABLE, Primitive
from .arrays import (
    Array,
    Constant,
    Contract,
    Gather,
    Input,
    Leaf,
    Loop,
    Map,
    Member,
    Moving,
    Reduce,
    Rows,
    Select,
    Series,
    Spread,
    Stack,
    Stacked,
    View,
    Window,
    numbers_along,
    own_mask,
    size,
)
from .names import Names
from .plan import masking, watched
from .scalars import Scalars

# How a primitive is written, if not as xp.name(x): an operator with its precedence, or a helper.
OPERATORS = {
    ops.add: ("+", 1),
    ops.sub: ("-", 1),
    ops.mul: ("*", 3),
    ops.div: ("/", 3),
    ops.pow: ("**", 5),
    ops.remainder: ("%", 3),
    ops.floor_divide: ("//", 3),
    ops.neg: ("-", 4),
    ops.less: ("<", -3),
    ops.less_equal: ("<=", -3),
    ops.equal: ("==", -3),
    ops.logical_and: ("&", -1),
    ops.logical_or: ("|", -2),
    ops.logical_not: ("~", 4),
}
OF_ARRAYS = (ops.atan2, ops.hypot, ops.logaddexp, ops.copysign)  # not every library takes numbers there
KEPT_MEMORY = 31 << 20  # bytes: glibc heeds no array of 32 MiB or more
LISTS = 10  # empty lists on a line
ATOM, MATMUL = 6, 2  # a product of matrices stands in parentheses among other products

# Helpers never overflow, and let NaN pass, like the rows of the table.
HELPERS = {
    "sigmoid": """
def sigmoid(z):
    e = xp.exp(-xp.abs(z))
    return xp.where(z >= 0.0, 1.0, e) / (1.0 + e)
""",
    "relu": """
def relu(z):
    return xp.where(z <= 0.0, 0.0, z)
""",
    "softplus": """
def softplus(z):
    return xp.where(z < 0.0, 0.0, z) + xp.log1p(xp.exp(xp.where(z < 0.0, z, -z)))
""",
    "maximum": """
def maximum(x, y):
    return xp.where((x < y) | (y != y), y, x)
""",
    "minimum": """
def minimum(x, y):
    return xp.where((x > y) | (y != y), y, x)
""",
    "largest": """
def largest(x, axis):
    return xp.amax(x, axis) if hasattr(xp, "amax") else xp.max(x, axis=axis)
""",
    "smallest": """
def smallest(x, axis):
    return xp.amin(x, axis) if hasattr(xp, "amin") else xp.min(x, axis=axis)
""",
    "step": """
def step(x, y):
    one, nan = xp.asarray(1.0, dtype=xp.float64), xp.asarray(xp.nan, dtype=xp.float64)
    return xp.where(x > y, one, xp.where(x < y, 0.0, xp.where(x == y, 0.5, nan)))
""",
    # Libraries that follow the standard have its take; torch can only index, as NumPy can.
    "take": """
def take(x, positions):
    return xp.take(x, positions, axis=-1) if hasattr(xp, "__array_api_version__") else x[..., positions]
""",
    "tensordot": """
def tensordot(x, y, axes):
    standard = hasattr(xp, "__array_api_version__")
    return xp.tensordot(x, y, axes=axes) if standard else xp.tensordot(x, y, axes)
""",
    "flip": """
def flip(x, axis):
    return xp.flip(x, axis=axis) if hasattr(xp, "__array_api_version__") else xp.flip(x, (axis,))
""",
    "windows": """
def windows(x, axis, starts, length, step):
    taken = [slice(start, start + (length - 1) * step + 1, step) for start in starts]
    return xp.stack([x[(slice(None),) * axis + (each, ...)] for each in taken], axis=axis + 1)
""",
    # ∞ − ∞ is an invalid operation, for which NumPy raises; isfinite would take four times as long.
    "finite": """
def finite(z):
    z - z
    return z
""",
    # A comparison hides NaN, too.
    "comparable": """
def comparable(z):
    z - z
    if xp.any(z != z):
        raise FloatingPointError
    return z
""",
    # pow can hide NaN as well as infinity, so NaN is added for watched operands.
    "power": """
def power(x, y, watch_x, watch_y):
    out = x**y
    out = out + (x - x) if watch_x else out
    return out + (y - y) if watch_y else out
""",
}
# The functions of special.py, whose text a program contains if it uses them.
SPECIAL = tuple(name for name, function in vars(special).items() if inspect.isfunction(function))
# Helpers for NumPy alone, with fewer calls, and numbers that need not be converted at each. Where they
# overflow on the way, the program runs again with the helpers above.
FAST = {
    **HELPERS,
    "sigmoid": """
def sigmoid(z, one=xp.asarray(1.0)):
    e = xp.exp(-z)
    e += one
    return one / e
""",
    "relu": """
def relu(z, zero=xp.asarray(0.0)):
    return xp.maximum(z, zero)
""",
    "tensordot": "tensordot = xp.tensordot",
    "flip": """
def flip(x, axis):
    return x[(slice(None),) * axis + (slice(None, None, -1),)]
""",
    "cbrt": "cbrt = xp.cbrt",
    "maximum": "maximum = xp.maximum",
    "minimum": "minimum = xp.minimum",
    "largest": "largest = xp.maximum.reduce",
    "smallest": "smallest = xp.minimum.reduce",
    "step": """
def step(x, y):
    return xp.heaviside(x - y, 0.5)
""",
}
# Primitives whose helpers an array module's own functions of the same names replace, if it has them: they
# take less time, and PyTorch's derivative of its sigmoid is right at 0.
OWN = ("sigmoid", "relu", "maximum", "minimum", "cbrt", "erf", "erfc", "lgamma")
# Primitives that give finite results of some NaN.
MASKING_NAN = (ops.where, ops.pow, ops.copysign, ops.less, ops.less_equal, ops.equal)
# Names that functions of the standard had in NumPy before, and have in libraries such as Dask.
OLDER = {
    **{name: name.replace("a", "arc", 1) for name in "acos acosh asin asinh atan atanh atan2".split()},
    "concat": "concatenate",
}
_XP = re.compile(r"\bxp\.(\w+)")
Text = tuple[str, int]  # an expression and its precedence
Operand = tuple[str, int, list[Any]]  # and the labels of its axes
EINSUM = 512  # products for a row, up to which einsum takes less time than products of matrices


class Source:
    """A Python function of planned arrays, as text: one rule for each kind of array.

    The function takes the arguments and then the arrays of the leaves, and returns a tuple of the outputs, or
    of the arrays `returned`. `constants` has arrays too large to be written out, and functions of users' own
    primitives. `watch` turns infinities that would be masked into invalid operations, for which NumPy can
    raise. `nan`, for other libraries, makes results NaN instead: those of a row in which such an infinity or
    an index beyond its table is, and means, sums and gradients of all rows.

    `fast` is for NumPy alone. With `rows_last` too, rows are the last axis of all arrays on the way: NumPy's
    inner loops then run along the rows, which are many, and not along a few elements.
    """

    def __init__(
        self,
        names: Names,
        fast: bool = False,
        watch: bool = False,
        nan: bool = False,
        returned: Sequence[Array] | None = None,
        rows_last: bool = False,
    ):
        planned, self.names, self._fast, self._last = names.plan, names.copy(), fast, rows_last
        self._leaves = planned.lifted.leaves
        self.constants: list[Any] = []
        self.lines: dict[Array, tuple[str, str]] = {}  # names and lines of the arrays that have one
        self._own: dict[Primitive, str] = {}
        self._numbers: dict[str, str] = {}
        self._factors: dict[Any, Text] = {}  # masks as numbers
        self._setup: list[str] = []
        self._lines: list[str] = []
        self._helpers: dict[str, None] = {}
        self._uses = planned.uses
        self._only_multiplied = _only_multiplied(planned.arrays) if rows_last else set[Array]()
        self._unnoticed = planned.unnoticed if watch else set()
        self._texts: dict[Array, Text] = {}
        self._empty: list[str] = []  # names of lists that begin before the next line
        self._plain: set[Array] = set()  # arrays whose texts are Python's numbers
        self._indent, self._counter = "", ""
        self._lists: dict[Series, str] = {}
        self._in_list: dict[Array, tuple[Series, int]] = {}  # its list, and the place there
        self._written = planned.written
        self._by_row = any(array.by_row for array in planned.lifted.outputs)
        self._nan = self.names.unique("nan") if nan else ""  # the name of a sum of numbers that are 0 or NaN
        self._nan_by_row: bool | None = None  # whether it has a number for each row; None if it has no terms
        self._checked: set[Array] = set(planned.unchecked) if nan else set()  # arrays without infinities
        self._summed: set[str] = set()  # texts that are in the sum
        if nan:
            self._check_indices(planned.lifted.scalars)
        for statement in planned.statements:
            self._state(statement)
        outputs = planned.lifted.outputs if returned is None else returned
        self._returned = [
            self._with_nan(array, self._rows_first(array, self._as_array(array, self._texts[array])))[0]
            for array in outputs
        ]

    def __str__(self) -> str:
        """The source: a function program(xp) that returns the function."""
        return self._program(FAST if self._fast else HELPERS)

    def _program(self, helpers: Mapping[str, str]) -> str:
        parameters = ", ".join([*self.names.arguments, *(self.names.of[leaf] for leaf in self._leaves)])
        body = [
            *self._lines,
            f"return {', '.join(self._returned)}" + ("," if len(self._returned) == 1 else ""),
        ]
        if self._nan_by_row is not None:
            body.insert(0, f"{self._nan} = 0.0")
        if any(re.search(r"\bN\b", line.partition("  #")[0]) for line in body):
            body.insert(0, f"N = {self.names.arguments[0]}.shape[0]")
        inner = [text.strip() for text in _with_needs(self._helpers, helpers).values()]
        if self._setup:
            inner.insert(0, "\n".join(self._setup))
        inner.append("\n    ".join([f"def {self.names.title}({parameters}):", *body]))
        inner.append(f"return {self.names.title}")
        blocks = "\n\n".join(inner).replace("\n", "\n    ").replace("    \n", "\n")
        return f"def program(xp{', constants' if self.constants else ''}):\n    {blocks}\n"

    def function(self, xp: Any) -> Callable[..., tuple[Any, ...]]:
        """The function, for an array module."""
        text = self._program_for(xp) if self._nan else str(self)
        made = functools.partial(_compiled_text(text), xp, *([self.constants] if self.constants else []))
        of_jax = self._nan and getattr(xp, "__name__", "") == "jax.numpy"
        return self._on_any_axes(made) if of_jax else made()

    def _program_for(self, xp: Any) -> str:
        """The source with the functions that this array module has, by the names that it has for them."""
        own = {name: f"{name} = xp.{name}" for name in OWN if hasattr(xp, name)}
        text = self._program({**HELPERS, **own})
        here = {name: name if hasattr(xp, name) else OLDER.get(name, name) for name in _XP.findall(text)}
        return _XP.sub(lambda found: f"xp.{here[found[1]]}", text)

    def _on_any_axes(self, made: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        """The function for JAX, whose arrays may be sharded along the explicit axes of a mesh.

        There JAX asks for the sharding of a sum over the rows. Results by row are sharded as the first
        argument's rows are, gradients as their leaves are, and means are whole on each device.
        """
        import jax

        function, lifted = made(), self.names.plan.lifted
        whole, first = jax.sharding.PartitionSpec(), len(self.names.arguments)

        if not hasattr(jax, "typeof"):  # older than explicit axes
            return function

        @functools.wraps(function)
        def on_any_axes(*arrays: Any) -> Any:
            shardings = [jax.typeof(array).sharding for array in arrays]
            meshes = [s.mesh for s in shardings if jax.sharding.AxisType.Explicit in s.mesh.axis_types]
            if not meshes:
                return function(*arrays)
            rows = jax.sharding.PartitionSpec(*shardings[0].spec[:1])
            results = [rows if array.by_row else whole for array in lifted.outputs]
            if lifted.scalars.kind == "gradient":
                results[1:] = [s.spec for s in shardings[first:]]
            with jax.sharding.use_abstract_mesh(meshes[0]):
                # Made anew, as arrays of constants have the mesh under which they are made.
                return jax.sharding.auto_axes(lambda *a: made()(*a), out_sharding=tuple(results))(*arrays)

        return on_any_axes

    def _is_plain(self, array: Array) -> bool:
        if isinstance(array, Member):
            return not self._plain.isdisjoint(array.series.members)
        known = not isinstance(array, Input | Leaf) and not array.shape and not array.by_row
        return known and all(self._is_plain_operand(view.array) for view in array.views)

    def _is_plain_operand(self, array: Array) -> bool:
        return self._is_plain(array) if isinstance(array, Member) else array in self._plain

    def _as_array(self, array: Array, text: Text) -> Text:
        return (f"xp.asarray({text[0]}, dtype=xp.float64)", ATOM) if array in self._plain else text

    # Results that are not finite

    def _check_indices(self, scalars: Scalars) -> None:
        """Add NaN for numbers that are no index of their table."""
        places: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for (argument, index), known in scalars.indices.items():
            order = np.arange(scalars.inputs[argument].size).reshape(scalars.inputs[argument].shape)
            places.setdefault((argument, tuple(known)), []).append(int(order[index]))
        for (argument, indices), positions in places.items():
            text, numbers = f"xp.reshape({self.names.arguments[argument]}, (N, -1))", self.names.unique("t")
            if len(positions) < scalars.inputs[argument].size:
                text = self._take(text, np.array(positions))
            self._line(f"{numbers} = {text}")
            table, _ = self._constant(np.array(indices, dtype=float))
            found = f"xp.any({numbers}[..., None] == {table}, axis=-1)"
            self._add_nan(f"xp.where({found}, {numbers} - {numbers}, xp.nan)", True, 1)

    def _check(self, array: Map) -> None:
        """Make NaN of infinities that an array would mask; add NaN where the array would mask that too."""
        condition = array.operands[0]
        if array.row is ops.where and isinstance(condition, View) and isinstance(condition.array, Constant):
            return  # the numbers that are not chosen are in no graph of a row
        for view in masking(array).values():
            x = view.array
            if not self._checked.isdisjoint(x.series.members if isinstance(x, Member) else [x]):
                continue
            if not re.fullmatch(r"\w+(\[[\w +*-]+\])?", text := self._text(x)[0]):
                self._assign(x, "t", text)
                text = self._text(x)[0]
            if array.row not in MASKING_NAN:
                self._checked.add(x)
                self._line(f"{text} = {text} + ({text} - {text})")
                continue
            text, _, labels = self._viewed(view)
            if text not in self._summed:
                self._summed.add(text)
                self._add_nan(f"{text} - {text}", x.by_row, len(labels) - x.by_row)

    def _add_nan(self, text: str, by_row: bool, axes: int) -> None:
        """Add an array of zeros and NaN, summed for each row if results have rows."""
        by_row = by_row and self._by_row
        self._nan_by_row = by_row or bool(self._nan_by_row)
        if axes or not by_row:
            axis = f", axis={_tuple(range(1, axes + 1))}" if by_row else ""
            text = f"xp.sum({text}{axis})"
        self._line(f"{self._nan} = {self._nan} + {text}")

    def _with_nan(self, array: Array, text: Text) -> Text:
        """A result, or NaN where something on the way to it is not finite."""
        if self._nan_by_row is None:
            return text
        nan = self._nan
        if self._nan_by_row:
            nan = f"{nan}[:{', None' * len(array.shape)}]" if array.by_row else f"xp.sum({nan})"
        return _operation(ops.add, text, (nan, ATOM))

    # Axes: the rows come first, or last

    def _with_rows(self, array: Array, own: Iterable[Any]) -> list[Any]:
        """What belongs to an array's own axes, and "N" for the rows if there are any."""
        rows = ["N"] if array.by_row else []
        return [*own, *rows] if self._last else [*rows, *own]

    def _axes(self, array: Array) -> list[Any]:
        return self._with_rows(array, range(len(array.shape)))

    def _shape(self, array: Array) -> list[Any]:
        return self._with_rows(array, array.shape)

    def _first(self, array: Array) -> int:
        """The place of an array's first own axis."""
        return int(array.by_row and not self._last)

    def _rows_first(self, array: Array, text: Text) -> Text:
        """A result, whose rows always come first."""
        if not (self._last and array.by_row and array.shape):
            return text
        text = self._transposed((*text, self._axes(array)), ["N", *range(len(array.shape))])
        return f"xp.ascontiguousarray({text[0]})", ATOM

    # Statements

    @functools.singledispatchmethod
    def _state(self, array: Array) -> None:
        """Write an array's line, or keep its expression for the one place where it is used."""
        text, name = self._computed(array), self.names.of.get(array, "")
        if not array.terms or (not name and self._uses[array] == 1 and len(text[0]) <= 60):
            self._texts[array] = text
            return
        self._assign(array, name or self.names.proposed.get(array, "t"), text[0], bool(name))

    @_state.register
    def _(self, series: Series) -> None:
        given, made = series.members[: series.given], series.members[series.given :]
        named = [self.names.of[array] for array in series.members if array in self.names.of]
        # An array without a line of its own leaves its name to the list.
        free = [self.names.of.get(array) for array in series.members if array not in self._texts]
        proposed = self.names.proposed.get(series.members[-1], "t" if series.members[-1].terms else "c")
        alike = itertools.takewhile(lambda letters: len({*letters}) == 1, zip(*named))
        role = "".join(letters[0] for letters in alike).rstrip("_") or proposed
        name = self._lists[series] = role if role in free else self.names.unique(role)
        for array in given:
            if array not in self._texts:
                self._texts[array] = self._computed(array)
        if given:
            self._line(f"{name} = [{', '.join(self._texts[array][0] for array in given)}]", series.members[0])
        else:
            self._empty.append(name)
        if not self._plain.isdisjoint(series.members):
            self._plain.update(series.members)
        for i, array in enumerate(given if made else ()):
            self._put(series, array, i)

    @_state.register
    def _(self, loop: Loop) -> None:
        self._counter = self._counter or self.names.unique("i")
        self._line(f"for {self._counter} in range({len(loop.steps) + bool(loop.last)}):")
        self._indent, summed = "    ", set(self._summed)
        for i, (array, step, *others) in enumerate(zip(loop.body, *loop.steps)):
            if loop.last and i == len(loop.last):
                self._line(f"if {self._counter} == {len(loop.steps)}:")
                self._line("    break")
            if not self._checked.isdisjoint([step, *others, *loop.last[i : i + 1]]):
                self._checked.add(array)
            text, series = self._computed(array), loop.series.get(array)
            if series:
                self._line(f"{self._lists[series]}.append({text[0]})", array)
                self._texts[array] = self._of_list(series, Moving(series.given, 1))
            elif self._uses[array] == 1 and len(text[0]) <= 60:
                self._texts[array] = text
            else:
                self._assign(array, self.names.of.get(step) or self.names.proposed.get(step, "t"), text[0])
        self._indent, self._summed = "", summed
        for series in loop.series.values():
            for i, array in enumerate(series.members[series.given :], series.given):
                self._put(series, array, i)

    def _put(self, series: Series, array: Array, i: int) -> None:
        """Read an array from a list from now on."""
        self._in_list[array] = series, i
        self._texts[array] = self._of_list(series, i)

    def _computed(self, array: Array) -> Text:
        if self._is_plain(array):
            self._plain.add(array)
        return self._expression(self._written.get(array, array))

    def _assign(self, array: Array, name: str, text: str, is_taken: bool = False) -> None:
        name = name if is_taken else self.names.unique(name)
        self._line(f"{name} = {text}", array)
        self.lines[array] = name, self._lines[-1]
        self._texts[array] = (name, ATOM)

    def _line(self, text: str, array: Array | None = None) -> None:
        while self._empty:
            names, self._empty = self._empty[:LISTS], self._empty[LISTS:]
            self._lines.append(f"{', '.join(names)} = {', '.join(['[]'] * len(names))}")
        shape = self._shape(array) if array else []
        self._lines.append(f"{self._indent}{text}" + (f"  # {_tuple(shape)}" if shape else ""))

    def _constant(self, numbers: np.ndarray, kind: str = "float64") -> Text:
        if numbers.ndim == 0:
            return _literal(float(numbers))
        name = self.names.unique("c")
        if 0 < numbers.size <= 16:
            given = re.sub(r"\bnan\b", "xp.nan", re.sub(r"\binf\b", "xp.inf", str(numbers.tolist())))
        else:
            given = f"constants[{len(self.constants)}]"
            self.constants.append(numbers)
        self._setup.append(f"{name} = xp.asarray({given}, dtype=xp.{kind})")
        return name, ATOM

    def _number(self, literal: str) -> str:
        """A number as an array, made once."""
        if literal not in self._numbers:
            self._numbers[literal] = self.names.unique("c")
            self._setup.append(f"{self._numbers[literal]} = xp.asarray({literal}, dtype=xp.float64)")
        return self._numbers[literal]

    # Expressions, by type of array. Labels are the axes of a text: "N" for the rows, then numbers.

    @functools.singledispatchmethod
    def _expression(self, array: Array) -> Text:
        """An array's expression; for an input or a leaf, its name."""
        name = self.names.of[array]
        if self._last and array.by_row and array.shape:
            text, _ = self._transposed((name, ATOM, ["N", *range(len(array.shape))]), self._axes(array))
            self._line(
                f"{name} = {text if array in self._only_multiplied else f'xp.ascontiguousarray({text})'}"
            )
        return name, ATOM

    @_expression.register
    def _(self, array: Rows) -> Text:
        return "N", ATOM

    @_expression.register
    def _(self, array: Constant) -> Text:
        return self._constant(array.numbers, "bool" if array.numbers.dtype == bool else "float64")

    @_expression.register
    def _(self, array: Stacked) -> Text:
        texts, plain = [], all(map(self._is_plain_operand, array.members))
        for series, run in itertools.groupby(array.members, lambda a: self._in_list.get(a, (None,))[0]):
            members = list(run)
            places = [self._in_list[member][1] for member in members] if series else []
            steps = {b - a for a, b in itertools.pairwise(places)}
            if series and len(steps) == 1:
                (step,), last = steps, places[-1]
                stop = last + step if 0 <= last + step < len(series.members) else None
                taken = _slice(slice(places[0], stop, step if step != 1 else None))
                texts.append(f"*{self._lists[series]}" + (f"[{taken}]" if taken != ":" else ""))
            else:
                texts += [
                    self._text(member)[0] if plain else self._as_array(member, self._text(member))[0]
                    for member in members
                ]
        text = texts[0][1:] if len(texts) == 1 and texts[0][0] == "*" else f"[{', '.join(texts)}]"
        if plain:
            return f"xp.asarray({text}, dtype=xp.float64)", ATOM
        if self._fast and not self._first(array):  # as np.stack does, in a third of the time
            return f"xp.array({text})", ATOM
        return f"xp.stack({text}, axis={self._first(array)})", ATOM

    @_expression.register
    def _(self, array: Map) -> Text:
        row, axes = array.row, self._axes(array)
        if self._nan:
            self._check(array)
        texts = [
            self._spread(*self._viewed(x), axes) if isinstance(x, View) else _literal(x)
            for x in array.operands
        ]
        watch = watched(array, self._unnoticed)
        if watch and row is ops.pow:
            self._helpers["power"] = None
            return f"power({texts[0][0]}, {texts[1][0]}, {0 in watch}, {1 in watch})", ATOM
        if self._fast and row is ops.where and (by_product := self._filled(array, texts)):
            return by_product
        for i in watch:
            helper = "comparable" if row in CONDITIONS else "finite"
            self._helpers[helper] = None
            texts[i] = f"{helper}({texts[i][0]})", ATOM
        if row is ops.detach:
            return texts[0]
        if row is ops.where:
            x, y = (isinstance(x, View) and x.array for x in array.operands[1:])
            if all(not x or self._is_plain_operand(x) for x in (x, y)):  # a branch has to be an array
                texts[1] = self._as_array(x, texts[1]) if x else (self._number(texts[1][0]), ATOM)
            return f"xp.where({', '.join(text for text, _ in texts)})", ATOM
        if row in OPERATORS:
            return _operation(row, *texts)
        if row in OF_ARRAYS or (self._nan and row in (ops.maximum, ops.minimum)):
            texts = [
                text if isinstance(x, View) else (self._number(text[0]), ATOM)
                for x, text in zip(array.operands, texts)
            ]
        return f"{self._function(row)}({', '.join(text for text, _ in texts)})", ATOM

    def _filled(self, array: Map, texts: Sequence[Text]) -> Text | None:
        """x c + k (1 − c) for where(c, x, k) with numbers c and k, as np.where takes several times as long.

        An infinity where c is 0 becomes NaN, an invalid operation, for which NumPy raises.
        """
        mask, (_, x, number) = own_mask(array), array.operands
        if not mask or not mask.takes_all or not isinstance(x, View) or isinstance(number, View):
            return None
        # Factors have the array's whole shape, as NumPy's inner loops are short otherwise.
        used = np.broadcast_to(numbers_along(mask, len(array.shape)), array.shape)
        if self._last and array.by_row:
            used = used[..., None]
        text = _operation(ops.mul, texts[1], self._factor(used * 1.0))
        if number:
            text = _operation(ops.add, text, self._factor(np.where(used, 0.0, number)))
        return text

    def _factor(self, numbers: np.ndarray) -> Text:
        key = numbers.shape, numbers.tobytes()
        if key not in self._factors:
            self._factors[key] = self._constant(numbers)
        return self._factors[key]

    @_expression.register
    def _(self, array: Reduce) -> Text:
        (view,), axes = array.operands, self._axes(array)
        if self._nan:
            self._check(array)
        text, _, labels = self._viewed(view)
        if watched(array, self._unnoticed):
            self._helpers["finite"] = None
            text = f"finite({text})"
        name = {ops.maximum: "largest", ops.minimum: "smallest"}[array.row]
        self._helpers[name] = None
        places = [i for i, label in enumerate(labels) if label != "N" and label >= len(array.shape)]
        where = str(places[0]) if len(places) == 1 else _tuple(places)
        rest = [label for i, label in enumerate(labels) if i not in places]
        return self._spread(f"{name}({text}, {where})", ATOM, rest, axes)

    @_expression.register
    def _(self, array: Spread) -> Text:
        text, shape = self._spread(*self._viewed(array.view), self._axes(array)), _tuple(self._shape(array))
        if isinstance(array.view.array, Constant) and not array.view.array.shape and self._shape(array):
            number = text[0]
            return (
                f"xp.zeros({shape}, dtype=xp.float64)"
                if number == "0.0"
                else f"xp.full({shape}, {number}, dtype=xp.float64)"
            ), ATOM
        long = {axis for axis, n in enumerate(array.shape) if n > 1}
        if long <= set(array.view.axes) and array.view.array.by_row == array.by_row:
            if (array.by_row and not self._last) or not array.shape or 0 in array.view.axes:
                return text
            return self._reshaped(self._as_array(array.view.array, text), self._shape(array))
        text = self._as_array(array.view.array, text)
        return f"xp.broadcast_to({text[0]}, {shape})", ATOM

    @_expression.register
    def _(self, array: Contract) -> Text:
        axes, out = self._axes(array), ("", ATOM)
        for term in array.products:
            number = next((x for x in term if not isinstance(x, View)), 1.0)
            views = [x for x in term if isinstance(x, View)]
            lengths: dict[Any, Any] = {"N": "N"}
            lengths.update((label, n) for view in views for label, n in zip(view.axes, view.lengths))
            text = self._contraction(list(map(self._viewed, views)), axes, lengths)
            row = ops.sub if out[0] and number < 0.0 else ops.add
            if (factor := -number if row is ops.sub else number) != 1.0:
                text = _operation(ops.mul, _literal(factor), text)
            if len(out[0]) > 1000:  # longer expressions may be too deep for Python's parser
                self._line(f"{(name := self.names.unique('t'))} = {out[0]}")
                out = name, ATOM
            out = _operation(row, out, text) if out[0] else text
        return out

    @_expression.register
    def _(self, array: Stack) -> Text:
        order = array.order.reshape(array.shape or (1,))
        blocks = self._blocks(array, order, np.cumsum([0, *(n for _, n in array.pieces)]))
        if blocks:
            return blocks, ATOM
        pieces = [self._piece(array, i, (n,)) for i, (_, n) in enumerate(array.pieces)]
        axis = 0 if self._last else -1
        text = self._take(f"xp.concat([{', '.join(pieces)}], axis={axis})", array.order)
        if len(array.shape) > 1:
            return self._reshaped((text, ATOM), self._shape(array))
        return text, ATOM

    def _piece(self, array: Stack, i: int, shape: tuple[int, ...]) -> str:
        """A piece of a Stack, in this shape."""
        (view, n), whole = array.pieces[i], self._with_rows(array, shape)
        if view.takes_all_in_order and view.array.by_row == array.by_row and size(view.array) == n:
            of_array = self._as_array(view.array, self._text(view.array))
            return of_array[0] if view.array.shape == shape else self._reshaped(of_array, whole)[0]
        text, precedence, labels = self._viewed(view)
        if 0 not in labels:
            at = "None" if self._last and "N" in labels else "..., None"
            text, precedence = f"{_in(self._as_array(view.array, (text, precedence)), ATOM)}[{at}]", ATOM
        if (array.by_row and "N" not in labels) or (0 not in labels and n > 1):
            if self._last and array.by_row and "N" not in labels:
                text = f"{_in((text, precedence), ATOM)}[..., None]"
            text, precedence = f"xp.broadcast_to({text}, {_tuple(self._with_rows(array, [n]))})", ATOM
        return self._reshaped((text, precedence), whole)[0] if len(shape) > 1 else text

    def _blocks(self, array: Stack, order: np.ndarray, starts: np.ndarray) -> str:
        """Pieces as blocks side by side, for the elements in `order`; "" if they are no blocks."""
        of = np.searchsorted(starts, order, side="right") - 1  # the piece of each element
        first = int(of.flat[0])
        if (of == first).all():
            every = np.array_equal(order.ravel(), np.arange(starts[first], starts[first + 1]))
            return self._piece(array, first, order.shape) if every else ""
        for axis in range(order.ndim):
            layers = [{*each.ravel().tolist()} for each in np.moveaxis(of, axis, 0)]
            ends = {piece: i for i, layer in enumerate(layers) for piece in layer}
            reach = np.maximum.accumulate([max(map(ends.__getitem__, layer)) for layer in layers])
            cuts = np.flatnonzero(reach[:-1] == np.arange(len(layers) - 1)) + 1  # no piece is on both sides
            if len(cuts):
                parts = [self._blocks(array, part, starts) for part in np.split(order, cuts, axis=axis)]
                axis -= 0 if self._last else order.ndim
                return f"xp.concat([{', '.join(parts)}], axis={axis})" if all(parts) else ""
        return ""

    def _function(self, row: Primitive) -> str:
        """The name of a primitive's function: one of xp's, a helper, or a user's own."""
        if TABLE.get(row.name) is not row:
            if row not in self._own:
                self._own[row] = self.names.unique(row.name)
                self._setup.append(f"{self._own[row]} = constants[{len(self.constants)}]")
                self.constants.append(row.numpy)
            return self._own[row]
        if row.name in HELPERS or row.name in SPECIAL:
            self._helpers[row.name] = None
            return row.name
        return f"xp.{row.name}"

    def _contraction(self, operands: list[Operand], axes: list[Any], lengths: Mapping[Any, Any]) -> Text:
        """The product of one or two operands, summed over the labels that are not among `axes`."""
        if len(operands) == 1:
            labels = operands[0][2]
            return self._spread(*self._summed_over(operands[0], [l for l in labels if l not in axes]), axes)
        a, b = (
            self._summed_over(this, [l for l in this[2] if l not in axes and l not in other[2]])
            for this, other in (operands, operands[::-1])
        )
        both = [l for l in a[2] if l in b[2]]
        summed = [l for l in both if l not in axes]
        if not summed:
            return _operation(ops.mul, self._spread(*a, axes), self._spread(*b, axes))
        if self._last and (found := self._product_with_rows_last(a, b, summed, lengths)):
            return self._spread(*found, axes)
        first = [l for l in axes if l in a[2] or l in b[2]][:1]
        if first and first[0] not in a[2]:
            a, b = b, a
        rest_a, rest_b = ([l for l in this[2] if l not in both] for this in (a, b))
        if not rest_b and a[2] == both + rest_a:
            # A vector and a matrix: from this side it needs no transpose.
            a, b, rest_a, rest_b = b, a, rest_b, rest_a
        shared = [l for l in both if l in axes]
        if len(summed) == 1 and len(rest_b) <= 1 and not shared:
            left, right = self._transposed(a, rest_a + summed), self._transposed(b, summed + rest_b)
            labels = rest_a + rest_b
        elif len(summed) == 1 and len(rest_a) == len(rest_b) == 1:
            left = self._transposed(a, shared + rest_a + summed)
            right = self._transposed(b, shared + summed + rest_b)
            labels = shared + rest_a + rest_b
        elif not shared and (rest_a or rest_b):
            where = ", ".join(str(tuple(this[2].index(l) for l in summed)) for this in (a, b))
            self._helpers["tensordot"] = None
            return self._spread(f"tensordot({a[0]}, {b[0]}, ({where}))", ATOM, rest_a + rest_b, axes)
        else:
            order = a[2] + [l for l in b[2] if l not in a[2]]
            product = _operation(ops.mul, self._spread(*a, order), self._spread(*b, order))
            return self._spread(*self._summed_over((*product, order), summed), axes)
        product = _multiplied(left, right, by_dot=self._fast and not shared and len(rest_a) < 2)
        return self._spread(*product, labels, axes)

    def _product_with_rows_last(
        self, a: Operand, b: Operand, summed: list[Any], lengths: Mapping[Any, Any]
    ) -> Operand | None:
        """A product, summed over labels that both have, if the rows are the last axis of an operand.

        Returns None where it is written as those with the rows first are.
        """
        rest_a, rest_b = ([l for l in x[2] if l not in y[2]] for x, y in ((a, b), (b, a)))
        shared = [l for l in a[2] if l in b[2] and l not in summed]
        if "N" in shared:  # a product for each row
            of_matrices = len(summed) == len(rest_a) == len(rest_b) == 1
            if of_matrices and math.prod(n for l, n in lengths.items() if l != "N") > EINSUM:
                return None
            order = [*shared[:-1], *rest_a, *rest_b, "N"]
            letters = {label: chr(ord("a") + i) for i, label in enumerate([*order, *summed])}
            of_a, of_b, of_out = ("".join(map(letters.__getitem__, x)) for x in (a[2], b[2], order))
            return f'xp.einsum("{of_a},{of_b}->{of_out}", {a[0]}, {b[0]})', ATOM, order
        if "N" in summed:  # the gradient by weights: where it has several steps, their products are added
            steps = [[l for l in summed if l != "N"]] if len(summed) > 1 else []
            if shared or not rest_a or not rest_b:
                return None
            left = self._merged(a, [*steps, rest_a, ["N"]], lengths)
            right = self._merged(b, [*steps, ["N"], rest_b], lengths)
            product = _multiplied(left, right, by_dot=not steps)
            if steps:
                product = f"xp.add.reduce({product[0]}, 0)", ATOM
            return *self._split(product, [rest_a, rest_b], lengths), [*rest_a, *rest_b]
        if "N" in rest_a:  # from here on the second operand has the rows, and the first may be weights
            a, b, rest_a, rest_b = b, a, rest_b, rest_a
        if "N" not in rest_b or (shared and not rest_a):
            return None
        batch = [[l] for l in (*(l for l in rest_b if l != "N"), *shared)]
        left = self._merged(a, [*([l] for l in shared), *([rest_a] if rest_a else []), summed], lengths)
        right = self._merged(b, [*batch, summed, ["N"]], lengths)
        groups = [*batch, rest_a, ["N"]]
        product = _multiplied(left, right, by_dot=not batch)
        return *self._split(product, groups, lengths), list(itertools.chain(*groups))

    def _merged(self, operand: Operand, groups: list[list[Any]], lengths: Mapping[Any, Any]) -> Text:
        """An operand with one axis for each group of labels."""
        text = self._transposed(operand, list(itertools.chain(*groups)))
        if all(len(group) == 1 for group in groups):
            return text
        return self._reshaped(
            text, ["N" if group == ["N"] else math.prod(map(lengths.__getitem__, group)) for group in groups]
        )

    def _split(self, text: Text, groups: list[list[Any]], lengths: Mapping[Any, Any]) -> Text:
        """A text with an axis for each group of labels, as one with an axis for each label."""
        if all(len(group) < 2 for group in groups):
            return text
        return self._reshaped(text, [lengths[label] for label in itertools.chain(*groups)])

    def _summed_over(self, operand: Operand, summed: list[Any]) -> Operand:
        text, _, labels = operand
        if not summed:
            return operand
        where = [labels.index(l) for l in summed]
        rest = [l for l in labels if l not in summed]
        axis = where[0] if len(where) == 1 else tuple(where)
        if self._fast:  # as np.sum does, in half of the time
            return f"xp.add.reduce({text}, {axis if rest else None})", ATOM, rest
        return f"xp.sum({text}{f', axis={axis}' if rest else ''})", ATOM, rest

    def _text(self, array: Array) -> Text:
        if not isinstance(array, Member):
            return self._texts[array]
        return self._of_list(array.series, Moving(array.start, array.stride))

    def _of_list(self, series: Series, i: int) -> Text:
        return f"{self._lists[series]}[{_index_text(i, self._counter)}]", ATOM

    def _viewed(self, view: View) -> Operand:
        """The elements that a view takes of its array, with the labels of their axes."""
        array = view.array
        text, precedence = self._text(array)
        labels = self._with_rows(array, view.axes)
        if isinstance(view, Select):
            return *self._selected(view), labels
        assert isinstance(view, Gather)
        positions = view.positions
        if len(array.shape) != 1:
            text, precedence = self._reshaped((text, precedence), self._with_rows(array, [size(array)]))
        start, length = int(positions.flat[0]), positions.size
        if (positions.ravel() != np.arange(start, start + length)).any():
            taken = self._take(_in((text, precedence), ATOM), positions)
        elif length < size(array):
            taken = f"{_in((text, precedence), ATOM)}[{':, ' * self._first(array)}{start}:{start + length}]"
        else:
            taken = _in((text, precedence), ATOM)
        if positions.ndim > 1:
            taken, _ = self._reshaped((taken, ATOM), self._with_rows(array, positions.shape))
        return taken, ATOM, labels

    def _selected(self, view: Select) -> Text:
        """A view's elements: the array reshaped, a slice or a number along each axis, then the windows."""
        text, precedence = self._text(view.array)
        first = self._first(view.array)
        if view.shape != view.array.shape:
            shape = self._with_rows(view.array, view.shape)
            text, precedence = self._reshaped((text, precedence), shape)
        taken = [
            slice(None) if isinstance(i, Window) else _ascending(n, i) for n, i in zip(view.shape, view.index)
        ]
        if any(i != slice(None) for i in taken):
            parts = [":"] * first + [_slice(i, self._counter) for i in taken]
            while self._fast and parts[-1] == ":":
                parts.pop()
            text, precedence = f"{_in((text, precedence), ATOM)}[{', '.join(parts)}]", ATOM
        kept = [i for i in view.index if not isinstance(i, int)]
        for axis, i in reversed(list(enumerate(kept, first))):
            if isinstance(i, Window):
                self._helpers["windows"] = None
                starts = _range(i.start, i.stride, i.width)
                text, precedence = f"windows({text}, {axis}, {starts}, {i.length}, {i.step})", ATOM
            elif i.step and i.step < 0:
                self._helpers["flip"] = None
                text, precedence = f"flip({text}, {axis})", ATOM
        return text, precedence

    def _take(self, text: str, positions: np.ndarray) -> str:
        """The elements at positions along the one axis that a text has beside the rows."""
        where, _ = self._constant(positions.ravel(), "int64")
        if self._fast:
            return f"{text}[{'' if self._last else '..., '}{where}]"
        self._helpers["take"] = None
        return f"take({text}, {where})"

    def _reshaped(self, text: Text, shape: Sequence[Any]) -> Text:
        if self._fast:
            return f"{_in(text, ATOM)}.reshape({_tuple(shape)})", ATOM
        return f"xp.reshape({text[0]}, {_tuple(shape)})", ATOM

    def _spread(self, text: str, precedence: int, labels: list[Any], axes: list[Any]) -> Text:
        """A text with the axes `labels`, some of `axes`, in a form that is broadcast along all `axes`."""
        if labels == axes:
            return text, precedence
        text, precedence = self._transposed((text, precedence, labels), [l for l in axes if l in labels])
        first = min((axes.index(l) for l in labels), default=len(axes))
        index = [":" if l in labels else "None" for l in axes[first:]]
        if "None" in index:
            return f"{_in((text, precedence), ATOM)}[{', '.join(index)}]", ATOM
        return text, precedence

    def _transposed(self, operand: Operand, order: list[Any]) -> Text:
        text, precedence, labels = operand
        if order == labels:
            return text, precedence
        atom = _in((text, precedence), ATOM)
        if len(labels) == 2:
            return f"{atom}.T", ATOM
        if order[:-2] == labels[:-2] and not self._nan:  # not every library has it
            return f"{atom}.mT", ATOM
        where = [labels.index(l) for l in order]
        if self._fast:
            return f"{atom}.transpose({', '.join(map(str, where))})", ATOM
        for start, stop in itertools.product(range(len(where)), repeat=2):
            moved = [i for i in range(len(where)) if i != start]
            moved.insert(stop, start)
            if moved == where:
                return f"xp.moveaxis({text}, {start}, {stop})", ATOM
        return f"xp.moveaxis({text}, {tuple(where)}, {tuple(range(len(where)))})", ATOM


def _with_needs(names: Iterable[str], helpers: Mapping[str, str]) -> dict[str, str]:
    """The texts of helpers, each after the functions of special.py that it calls."""
    texts: dict[str, str] = {}
    for name in names:
        if name in helpers:
            texts[name] = helpers[name]
        else:
            called = getattr(special, name).__code__.co_names
            needed = [other for other in called if other in SPECIAL and other != name]
            texts |= {**_with_needs(needed, helpers), name: _special(name)}
    return texts


@functools.cache
def _special(name: str) -> str:
    """The text of a function of special.py, without types."""
    text = inspect.getsource(getattr(special, name))
    return re.sub(r"(: Any| -> Any)\b|\n *# fmt: \w+", "", text)


def _only_multiplied(arrays: Iterable[Array]) -> set[Array]:
    """The arrays that only products of matrices read: in memory, their rows may come first."""
    of_products, others = set[Array](), set[Array]()
    for array in arrays:
        for term in array.terms:
            views = [x for x in term if isinstance(x, View)]
            is_product = False
            if isinstance(array, Contract) and len(views) == 2:
                both = {*views[0].axes} & {*views[1].axes}
                is_product = array.over_rows or max(both, default=-1) >= len(array.shape)
            (of_products if is_product else others).update(view.array for view in views)
    return of_products - others


def _tuple(items: Sequence[Any]) -> str:
    return f"({', '.join(map(str, items))}{',' * (len(items) == 1)})"


def _slice(i: Any, counter: str = "i") -> str:
    if isinstance(i, int):
        return _index_text(i, counter)
    start, stop = ("" if x is None else _index_text(x, counter) for x in (i.start, i.stop))
    return f"{start if start != '0' else ''}:{stop}" + (f":{i.step}" if i.step else "")


def _index_text(i: int, counter: str) -> str:
    """An index as text; it may move with the steps of a loop."""
    return i.at(counter) if isinstance(i, Moving) else str(i)


def _ascending(n: int, i: Any) -> Any:
    """A slice of n with a positive step, as not every library has negative ones; flip() then reverses it."""
    if isinstance(i, int) or not i.step or i.step > 0:
        return i
    taken = range(n)[i][::-1]
    whole = len(taken) == n
    return slice(None) if whole else slice(taken[0], taken[-1] + 1, taken.step if taken.step > 1 else None)


def _range(start: int, stride: int, n: int) -> str:
    if stride == 1:
        return f"range({start}, {start + n})" if start else f"range({n})"
    return f"range({start}, {start + stride * n}, {stride})"


def _literal(x: float) -> Text:
    if math.isfinite(x):
        return repr(x), OPERATORS[ops.neg][1] if repr(x).startswith("-") else ATOM
    return (
        ("xp.nan", ATOM)
        if math.isnan(x)
        else ("xp.inf", ATOM)
        if x > 0
        else ("-xp.inf", OPERATORS[ops.neg][1])
    )


def _operation(op: Any, *texts: Text) -> Text:
    """An operator between texts, in the order of evaluation that the graph has."""
    symbol, precedence = OPERATORS[op]
    if len(texts) == 1:
        return f"{symbol}{_in(texts[0], precedence)}", precedence
    left, right = texts
    if op is ops.pow:
        return f"{_in(left, ATOM)} ** {_in(right, ATOM)}", precedence
    return f"{_in(left, precedence)} {symbol} {_in(right, precedence + 1)}", precedence


def _multiplied(left: Text, right: Text, by_dot: bool) -> Text:
    """A product of matrices; dot takes NumPy less time, and is right for two axes at most."""
    if by_dot:
        return f"{_in(left, ATOM)}.dot({right[0]})", ATOM
    return f"{_in(left, ATOM)} @ {_in(right, ATOM)}", MATMUL


def _in(text: Text, precedence: int) -> str:
    """The text, parenthesised if its precedence is too low."""
    return text[0] if text[1] >= precedence else f"({text[0]})"


@functools.lru_cache(maxsize=64)
def _compiled_text(text: str) -> Callable[..., Any]:
    """The function `program` of a source."""
    _keep_freed_memory()
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    return namespace["program"]


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep memory that arrays have left for the next ones.

    glibc gives free memory back to the system after each call, which takes more time than the arithmetic.
    Freeing one large array, here of untouched memory, lets it keep up to twice that much from then on.
    """
    np.empty(KEPT_MEMORY, dtype=np.int8)


class SourceFunction:
    """A source's function for NumPy, which pickle takes as its text."""

    def __init__(self, text: str, constants: list[Any]):
        self.text, self.constants = text, constants
        self._function = _compiled_text(text)(np, *([constants] if constants else []))

    def __call__(self, *arrays: np.ndarray) -> Sequence[Any]:
        return self._function(*arrays)

    def __reduce__(self) -> Any:
        return SourceFunction, (self.text, self.constants)
