"""c_source: the nests of a plan as a C99 file that needs the C library's mathematics alone.

    for (size_t i = 0; i < 4; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < 2; j++) {
            sum += w1[2 * i + j] * x[2 * row + j];
        }
        h1[i] = sigmoid(sum);
    }

Arrays are flat, with the last axis innermost. The rows of the data are computed one after the other.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..ops import Primitive
from .arrays import Array, Contract, Input, Leaf, Map, Reduce, Spread, Stack, Stacked, View, size
from .names import Names
from .nests import Nest, Nests, Repeat, Statement, Storage, pieces, summed

WRITTEN_OUT = 4  # up to so many copies are written out instead of a loop
ON_STACK = 1 << 13  # more numbers than this are in memory that the caller gives
WIDTH = 100  # of lines of numbers
SHORT = 40  # longer expressions are a line of their own
POWERS = {"2.0": 2, "3.0": 3, "4.0": 4}  # that are products

_LIBM = (
    "exp log sqrt sin cos tanh tan asin acos atan sinh cosh asinh acosh atanh log1p expm1 log2 log10 cbrt"
    " atan2 hypot erf erfc lgamma floor ceil copysign pow"
)
# The rule of each primitive: an expression of its operands, or a function of <math.h> or of HELPERS.
RULES: dict[Primitive, str] = {
    **{ops.TABLE[name]: name for name in _LIBM.split()},
    **{ops.TABLE[name]: name for name in "sigmoid relu softplus sign step maximum minimum logaddexp".split()},
    ops.abs: "fabs",
    ops.remainder: "floor_remainder",
    ops.floor_divide: "floor_divide",
    ops.add: "{} + {}",
    ops.sub: "{} - {}",
    ops.mul: "{} * {}",
    ops.div: "{} / {}",
    ops.neg: "-{}",
    ops.detach: "{}",
    ops.less: "{} < {}",
    ops.less_equal: "{} <= {}",
    ops.equal: "{} == {}",
    ops.logical_and: "{} && {}",
    ops.logical_or: "{} || {}",
    ops.logical_not: "!{}",
    ops.where: "{} ? {} : {}",
}
# Comparisons are written so that NaN passes through.
HELPERS = {
    "sigmoid": """
static inline double sigmoid(double x)
{
    const double e = exp(-fabs(x)); /* at most 1: it does not overflow */
    return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}
""",
    "relu": """
static inline double relu(double x)
{
    return x <= 0.0 ? 0.0 : x;
}
""",
    "softplus": """
static inline double softplus(double x)
{
    return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x)));
}
""",
    "sign": """
static inline double sign(double x)
{
    return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x;
}
""",
    "step": """
/* 1 for x > y, 0 for x < y, and a half for x = y */
static inline double step(double x, double y)
{
    return x > y ? 1.0 : x < y ? 0.0 : x == y ? 0.5 : x + y;
}
""",
    "maximum": """
static inline double maximum(double x, double y)
{
    return x < y || y != y ? y : x;
}
""",
    "minimum": """
static inline double minimum(double x, double y)
{
    return x > y || y != y ? y : x;
}
""",
    "logaddexp": """
static inline double logaddexp(double x, double y)
{
    return (x < y ? y : x) + log1p(exp(-fabs(x - y)));
}
""",
    "floor_remainder": """
/* the rest of a division that is rounded down: its sign is that of y */
static inline double floor_remainder(double x, double y)
{
    const double rest = fmod(x, y);
    if (rest == 0.0) {
        return copysign(0.0, y);
    }
    return (rest < 0.0) != (y < 0.0) ? rest + y : rest;
}
""",
    "floor_divide": """
/* the quotient rounded down, exact where x / y would be rounded up to a whole number */
static inline double floor_divide(double x, double y)
{
    const double rest = fmod(x, y);
    double quotient = (x - rest) / y, whole;
    if (rest != 0.0 && (rest < 0.0) != (y < 0.0)) {
        quotient -= 1.0;
    }
    whole = floor(quotient);
    if (quotient - whole > 0.5) {
        whole += 1.0;
    }
    return whole == 0.0 ? copysign(0.0, x / y) : whole;
}
""",
}
# Names that C has, up to C23, or that <math.h> has, and names that the file uses itself.
_KEYWORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long"
    " register restrict return short signed sizeof static struct switch typedef union unsigned void volatile"
    " while bool true false alignas alignof constexpr nullptr static_assert thread_local typeof typeof_unqual"
    " asm main size_t ptrdiff_t wchar_t max_align_t offsetof NULL float_t double_t signgam"
    " NAN INFINITY HUGE_VAL HUGE_VALF HUGE_VALL"
)
_MATH = (
    f"{_LIBM} fabs fmod exp2 ilogb logb modf scalbn scalbln frexp ldexp tgamma gamma nearbyint rint lrint"
    " llrint round lround llround trunc remainder remquo nan nextafter nexttoward fdim fmax fmin fma j0"
    " j1 jn y0 y1 yn drem significand exp10 pow10 scalb finite isinf isnan isfinite isnormal signbit"
    " fpclassify isgreater isgreaterequal isless islessequal islessgreater isunordered"
)
_MATH_NAMES = "|".join([*_LIBM.split(), "fabs", "fmod"])  # that HELPERS call
RESERVED = {*_KEYWORDS.split(), *HELPERS, "n", "row", "work"}
RESERVED |= {name + suffix for name in _MATH.split() for suffix in ("", "f", "l")}

Place = tuple[int, Mapping[str, int]]  # number + Σ variable · factor


class CSource:
    """A variant's function as C: str() gives the file.

    `weights` has numbers for the leaves, which are no arguments then. Raises NotImplementedError for a
    primitive that <math.h> has no function for.
    """

    def __init__(self, names: Names, real: str = "double", weights: Sequence[np.ndarray] | None = None):
        self.nests = nests = Nests(names.plan, watch=False)
        self.lifted, self.scalars = names.plan.lifted, names.plan.lifted.scalars
        self.real, self.suffix = real, "f" if real == "float" else ""
        self._per_row = self.scalars.kind == "rows" and self.scalars.by_row  # whether outputs are
        self._taken, self._repeats, self._numbered = set(RESERVED), Counter[str](), 0
        self._used: set[str] = set()  # of the names
        self._lines: list[str] = []  # of the function
        self._depth = 1
        self._definitions: list[str] = []  # of constants
        self._constants: dict[Any, str] = {}  # their names
        self._variables: list[str] = []  # of loops, by axis
        self._counter = self._steps = ""  # of the steps of a loop, in one, and its name
        self._local: dict[Array, str] = {}  # scalars of the present nest
        self._uses = Counter[Array]()  # of these
        self._known = {**names.proposed, **names.of}
        value = self.scalars.kind == "value"  # f's own name may be one of the C library's
        self.title = self._unique(f"{names.title}_value" if value else names.title)
        self._inputs = [self._unique(argument) for argument in names.arguments]
        self._leaves = {leaf: self._unique(names.of[leaf]) for leaf in self.lifted.leaves}
        self._outputs = self._named_outputs(names)
        self._direct: dict[Array, str] = {}  # outputs that are computed where the caller reads them
        for name, array in zip(self._outputs, self.written):
            if array in nests.own and array.by_row == self._per_row:
                self._direct.setdefault(array, name)
        self._regions = self._named_regions()
        numbers = sum(n for _, n in self._regions.values() if n > 1)
        self._work = numbers if numbers > ON_STACK else 0
        self._stack = 0 if self._work else numbers
        self._body()
        if weights is not None:
            self._definitions = [*self._defined_weights(weights), *self._definitions]
        self._arguments = self._described_arguments(weights is None)

    @property
    def written(self) -> list[Array]:
        """The outputs that are arguments: all but a mean, which is the function's result."""
        return self.nests.outputs if self.scalars.kind == "rows" else self.nests.outputs[1:]

    def __str__(self) -> str:
        parameters = [declaration for declaration, _, _ in self._arguments]
        head = f"{'void' if self.scalars.kind == 'rows' else self.real} {self.title}("
        signature = f"{head}{', '.join(parameters) or 'void'})"
        if len(signature) > WIDTH:
            signature = head + ",".join(f"\n    {parameter}" for parameter in parameters) + ")"
        unused = [f"    (void){name};" for _, name, _ in self._arguments if name not in self._used]
        helpers = [self._typed(HELPERS[name]).strip() for name in HELPERS if name in self._used]
        function = "\n".join([signature, "{", *unused, *self._lines, "}"])
        includes = "#include <math.h>\n#include <stdbool.h>\n#include <stddef.h>"
        return "\n\n".join([self._comment(), includes, *self._definitions, *helpers, function]) + "\n"

    def _comment(self) -> str:
        kind = self.scalars.kind
        result = f"the {self.scalars.reduce} over the rows" if self.scalars.by_row else "the result"
        if kind == "rows":
            result = f"the results{' of each row' if self.scalars.by_row else ''}"
        lines = [f"{self.title}: {result}{', and its gradient' if kind == 'gradient' else ''}.", ""]
        width = max([len(name) for _, name, _ in self._arguments], default=0)
        lines += [f"  {name:{width}}  {text}" for _, name, text in self._arguments]
        lines += ["", "Arrays are flat, with the last axis innermost. Those written overlap no others."]
        if self._stack:
            lines.append(f"Work arrays take {self._stack} {self.real}s of the stack.")
        return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */"])

    def _described_arguments(self, with_leaves: bool) -> list[tuple[str, str, str]]:
        """The declaration of each argument, its name, and its description."""
        found, n = [], "n" if self.scalars.by_row else ""
        if n:
            found.append(("size_t n", "n", "the number of rows"))
        for name, values in zip(self._inputs, self.scalars.inputs):
            found.append((f"const {self.real} *{name}", name, f"{_dimensions(values.shape, n)}, data"))
        for leaf, name in self._leaves.items() if with_leaves else ():
            if leaf.shape:
                found.append((f"const {self.real} *{name}", name, f"{_dimensions(leaf.shape)}, weights"))
            else:
                found.append((f"{self.real} {name}", name, "a number, weight"))
        for name, array in zip(self._outputs, self.written):
            shape = _dimensions(array.shape, n if self._per_row else "")
            found.append((f"{self.real} *restrict {name}", name, f"{shape}, written"))
        if self._work:
            found.append((f"{self.real} *restrict work", "work", f"({self._work},), memory to work on"))
        return found

    # Names

    def _unique(self, name: str) -> str:
        """The name, or one that begins with it: ASCII that C has no use for, and taken from now on."""
        name = "".join(c if c.isascii() else _in_ascii(c) for c in name)
        if not name[:1].isalpha() or name.startswith(("M_", "FP_")):  # names of C's own
            name = f"v{name}"
        unique = name
        while unique in self._taken:
            self._repeats[name] += 1
            unique = f"{name}_{self._repeats[name] + 1}"
        self._taken.add(unique)
        return unique

    def _name_of(self, array: Array) -> str:
        """The name to give to an array; others are numbered."""
        if array in self._known:
            return self._known[array]
        self._numbered += 1
        return f"t{self._numbered}"

    def _named_outputs(self, names: Names) -> list[str]:
        roles = [self.scalars.title] * len(self.lifted.results)
        roles += [f"grad_{names.of[leaf]}" for leaf in self.lifted.leaves]
        outputs = zip(self.written, roles[len(self.nests.outputs) - len(self.written) :])
        return [self._unique(names.of.get(array, role) if array.terms else role) for array, role in outputs]

    def _named_regions(self) -> dict[Storage, tuple[str, int]]:
        """A name, and how many numbers there are, for each place in memory, direct outputs excepted."""
        arrays: dict[Storage, list[Array]] = {place: [] for place, _ in self.nests.reserved}
        self._starts: dict[str, list[Storage]] = {"rows": [], "uniform": []}
        for place, n in self.nests.reserved:
            if n:
                self._starts[place.space].append(place)
        for array, storage in self.nests.storage.items():
            if storage.space in self._starts and size(array):
                arrays[self._region(storage)].append(array)
        found: dict[Storage, tuple[str, int]] = {}
        for place, n in self.nests.reserved:
            if n and not any(array in self._direct for array in arrays[place]):
                first = next((array for array in arrays[place] if array in self._known), arrays[place][0])
                found[place] = self._unique(self._name_of(first)), n
        return found

    def _region(self, storage: Storage) -> Storage:
        starts = self._starts[storage.space]
        return starts[bisect.bisect(starts, storage.start, key=lambda place: place.start) - 1]

    def _use(self, name: str) -> str:
        self._used.add(name)
        return name

    # Text

    def _typed(self, text: str) -> str:
        """C for doubles as C for the type of numbers here."""
        if not self.suffix:
            return text
        text = re.sub(rf"\b({_MATH_NAMES})\(", r"\1f(", text)
        return re.sub(r"\b\d+\.\d+\b", r"\g<0>f", text).replace("double", "float")

    def _literal(self, x: float) -> str:
        if isinstance(x, bool | np.bool_):
            return str(bool(x)).lower()
        with np.errstate(over="ignore"):
            rounded = np.float32(x) if self.suffix else np.float64(x)
        if np.isnan(rounded):
            return "NAN"
        if np.isinf(rounded):
            return f"{'-' if x < 0.0 else ''}HUGE_VAL{self.suffix.upper()}"
        return f"{rounded.astype(str)}{self.suffix}"

    def _line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    @contextlib.contextmanager
    def _for(self, variable: str, n: Any) -> Iterator[None]:
        self._line(f"for (size_t {variable} = 0; {variable} < {n}; {variable}++) {{")
        self._depth += 1
        yield
        self._depth -= 1
        self._line("}")

    @contextlib.contextmanager
    def _along(self, lengths: Mapping[int, int]) -> Iterator[dict[int, Place]]:
        """Loops along axes of these lengths; gives the coordinates."""
        at: dict[int, Place] = {}
        with contextlib.ExitStack() as loops:
            for axis, n in lengths.items():
                at[axis] = 0, {self._variable(axis): 1} if n > 1 else {}
                if n > 1:
                    loops.enter_context(self._for(self._variable(axis), n))
            yield at

    def _variable(self, axis: int) -> str:
        while axis >= len(self._variables):
            k = len(self._variables)
            self._variables.append(self._unique("ijklmpq"[k] if k < 7 else f"i{k}"))
        return self._variables[axis]

    # Memory

    def _array(self, name: str, texts: Iterable[str], kind: str) -> str:
        """The definition of an array of numbers."""
        texts = list(texts)
        lines = textwrap.fill(", ".join(texts), WIDTH, initial_indent="    ", subsequent_indent="    ")
        return f"static const {kind} {name}[{len(texts)}] = {{\n{lines}\n}};"

    def _defined_weights(self, weights: Sequence[np.ndarray]) -> Iterator[str]:
        for (leaf, name), numbers in zip(self._leaves.items(), weights):
            texts = [self._literal(x) for x in numbers.ravel().tolist()]
            if name not in self._used:
                continue
            if leaf.shape:
                yield f"/* {_dimensions(leaf.shape)} */\n{self._array(name, texts, self.real)}"
            else:
                yield f"static const {self.real} {name} = {texts[0]};"

    def _constant(self, numbers: Sequence[float], kind: str = "") -> str:
        """The name of an array of numbers, made once."""
        key = kind, np.array(numbers).tobytes()
        if key not in self._constants:
            self._constants[key] = name = self._unique("positions" if kind else "c")
            texts = map(str if kind else self._literal, numbers)
            self._definitions.append(self._array(name, texts, kind or self.real))
        return self._constants[key]

    def _table(self, positions: np.ndarray) -> str:
        """The name of a table of whole numbers."""
        bits = int(positions.max()).bit_length()
        kind = "unsigned char" if bits <= 8 else "unsigned short" if bits <= 16 else "unsigned long"
        return self._constant(positions.tolist(), kind)

    def _element(self, array: Array, place: Place) -> str:
        """An element of an array that is in memory."""
        number, moving = place
        if isinstance(array, Input):
            first = {"row": size(array)} if array.by_row else {}
            return _indexed(self._use(self._inputs[array.argument]), number, {**first, **moving})
        if isinstance(array, Leaf):
            name = self._use(self._leaves[array])
            return _indexed(name, number, moving) if array.shape else name
        if name := self._direct.get(array, ""):
            first = {"row": size(array)} if self._per_row else {}
            return _indexed(self._use(name), number, {**first, **moving})
        storage = self.nests.storage_of(array)
        if storage.space == "count":
            return f"({self.real}){self._use('n')}" if self.scalars.by_row else self._literal(1.0)
        if storage.step and self._counter:
            moving = _added(moving, {self._counter: storage.step})
        if storage.space == "constant":
            numbers, number = self.nests.constants[storage.table], number + storage.start
            if not moving:
                x = numbers[number]
                return self._literal(bool(x) if self.nests.is_condition(array) else float(x))
            return _indexed(self._constant(numbers.tolist()), number, moving)
        region = self._region(storage)
        name, n = self._regions[region]
        self._use(name)
        return _indexed(name, number + storage.start - region.start, moving) if n > 1 else name

    def _read(self, array: Array, place: Place) -> str:
        """An element of an array that is in memory, to compute with."""
        text = self._element(array, place)
        stored = self.nests.is_condition(array) and text not in ("true", "false")
        return f"({text} != {self._literal(0.0)})" if stored else text

    def _load(self, view: View, at: Mapping[int, Place]) -> str:
        """An element of a view."""
        if view.array in self._local:
            return self._local[view.array]
        found = self.nests.affine(view)
        number, moving = _combined(
            found.start, [(at[axis], factor) for axis, factor in found.strides.items()]
        )
        if found.table is not None:
            return self._read(view.array, self._looked_up(found.table, (number, moving)))
        if found.step and self._counter:
            moving = _added(moving, {self._counter: found.step})
        return self._read(view.array, (number, moving))

    def _looked_up(self, table: np.ndarray, place: Place) -> Place:
        """The number at a place of a table of positions."""
        number, moving = place
        if not moving:
            return int(table[number]), {}
        return 0, {_indexed(self._table(table), number, moving): 1}

    # Statements

    def _body(self) -> None:
        nests = self.nests
        start = len(self._lines)
        self._items(nests.once)
        for array, n in nests.sums.items():
            with self._along({0: n}) as at:
                self._line(f"{self._element(array, at[0])} = {self._literal(0.0)};")
        if nests.rows or self._per_row:
            self._use("n")
            with self._for("row", "n"):
                inner = len(self._lines)
                self._items(nests.rows)
                if self._per_row:
                    self._write_outputs()
                self._lines[inner:inner] = self._declared("rows")
        self._items(nests.after)
        if not self._per_row:
            self._write_outputs()
        if self.scalars.kind != "rows":
            self._line(f"return {self._element(nests.outputs[0], (0, {}))};")
        self._lines[start:start] = self._declared("uniform")

    def _declared(self, space: str) -> list[str]:
        """The declarations of the arrays in a space of memory."""
        names, indent, start = list[str](), "    " * self._depth, 0
        found: list[str] = []
        for place, (name, n) in self._regions.items():
            if place.space != space or name not in self._used:
                pass
            elif self._work and n > 1:
                found.append(f"{indent}{self.real} *const {self._use(name)} = {self._use('work')} + {start};")
            else:
                names.append(f"{name}[{n}]" if n > 1 else name)
            start += n if n > 1 else 0
        if names:
            text = f"{self.real} {', '.join(names)};"
            found += textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "    ")
        return found

    def _write_outputs(self) -> None:
        """Copy outputs that are elsewhere to where the caller reads them."""
        for name, array in zip(self._outputs, self.written):
            if self._direct.get(array) != name and size(array):
                with self._along({0: size(array)}) as at:
                    number, moving = at[0]
                    first = {"row": size(array)} if self._per_row else {}
                    target = _indexed(self._use(name), number, {**first, **moving})
                    self._line(f"{target} = {self._element(array, at[0])};")

    def _items(self, items: Iterable[Nest | Repeat]) -> None:
        for item in items:
            if isinstance(item, Nest):
                self._nest(item)
                continue
            self._counter = self._steps = self._steps or self._unique("s")
            with self._for(self._counter, item.steps):
                self._items(item.nests)
            self._counter = ""

    def _nest(self, nest: Nest) -> None:
        self._local = {}
        first = nest.statements[0].definition
        if not math.prod(nest.shape):
            return
        if isinstance(first, Stack | Stacked):
            self._copies(nest.statements[0].array, first)
            return
        # Numbers that one statement needs, for one element, are written where they are needed.
        self._uses = Counter(
            view.array for s in nest.statements for view in s.views for _ in range(1 + s.has_sums)
        )
        with self._along(dict(enumerate(nest.shape))) as at:
            for statement in nest.statements:
                self._statement(statement, at)

    def _statement(self, statement: Statement, at: Mapping[int, Place]) -> None:
        array, definition = statement.array, statement.definition
        target, over_rows = self._own(array, at), statement.is_sum_over_rows
        if isinstance(definition, Spread):
            value = self._load(definition.view, at)
        elif isinstance(definition, Reduce | Contract) and statement.has_sums:
            # Numbers are added up in a variable: compilers keep those in registers.
            variable = target if target.isidentifier() and not over_rows else ""
            begin = variable or f"{self.real} {self._unique('sum' if target else self._name_of(array))}"
            value = variable or begin.split()[-1]
            if isinstance(definition, Reduce):
                self._reduced(definition, at, begin, value)
            else:
                self._contracted(definition, at, begin, value)
            if variable:
                return
        elif isinstance(definition, Contract):
            value = self._sum(definition.products, at)
        else:
            assert isinstance(definition, Map)
            value = self._applied(definition.row, [self._operand(x, at) for x in definition.operands])
        if target:
            self._line(f"{target} {'+=' if over_rows else '='} {_unwrapped(value)};")
        elif statement.has_sums:
            self._local[array] = value
        elif self._uses[array] == 1 and len(value) < SHORT and array not in self._known:
            self._local[array] = value if _is_atom(value) else f"({value})"
        else:
            self._local[array] = name = self._unique(self._name_of(array))
            kind = "bool" if self.nests.is_condition(array) else self.real
            self._line(f"const {kind} {name} = {_unwrapped(value)};")

    def _own(self, array: Array, at: Mapping[int, Place]) -> str:
        """An array's element at these coordinates, if the array is in memory."""
        if array not in self.nests.storage:
            return ""
        strides = [math.prod(array.shape[axis + 1 :]) for axis in range(len(array.shape))]
        factors = [(at[axis], stride) for axis, stride in enumerate(strides)]
        return self._element(array, _combined(0, factors))

    def _operand(self, x: Any, at: Mapping[int, Place]) -> str:
        return self._load(x, at) if isinstance(x, View) else self._literal(x)

    def _applied(self, row: Primitive, operands: Sequence[str]) -> str:
        """The expression of a primitive."""
        power = POWERS.get(operands[-1].removesuffix("f"), 0) if row is ops.pow else 0
        if power and re.fullmatch(r"\w+(\[.*\])?", operands[0]):
            return " * ".join([operands[0]] * power)
        if row not in RULES:
            raise NotImplementedError(f"<math.h> has no function for the primitive {row.name!r}")
        if "{" in (rule := RULES[row]):
            return rule.format(*(f"({x})" if x.startswith("-") else x for x in operands))
        suffix = "" if rule in HELPERS else self.suffix
        return f"{self._use(rule)}{suffix}({', '.join(map(_unwrapped, operands))})"

    def _contracted(self, definition: Contract, at: Mapping[int, Place], begin: str, total: str) -> None:
        """Add up a sum of products in the variable `total`, which begins as `begin`."""
        axes = [summed(term, len(definition.shape)) for term in definition.products]
        plain = [term for term, lengths in zip(definition.products, axes) if not lengths]
        self._line(f"{begin} = {self._sum(plain, at)};")
        for term, lengths in zip(definition.products, axes):
            if lengths:
                with self._along(lengths) as more:
                    product = self._product(term, {**at, **more})
                    sign = "-=" if product.startswith("-") else "+="
                    self._line(f"{total} {sign} {product.removeprefix('-')};")

    def _sum(self, products: Iterable[Sequence[Any]], at: Mapping[int, Place]) -> str:
        first, *rest = [self._product(term, at) for term in products] or [self._literal(0.0)]
        return first + "".join(f" - {x[1:]}" if x.startswith("-") else f" + {x}" for x in rest)

    def _product(self, term: Sequence[Any], at: Mapping[int, Place]) -> str:
        return " * ".join(self._operand(x, at) for x in term)

    def _reduced(self, definition: Reduce, at: Mapping[int, Place], begin: str, found: str) -> None:
        """Choose one of a view's elements in the variable `found`, which begins as `begin`."""
        (view,) = definition.operands
        lengths = summed((view,), len(definition.shape))
        self._line(f"{begin} = {self._load(view, {**at, **{axis: (0, {}) for axis in lengths}})};")
        with self._along(lengths) as more:
            self._line(
                f"{found} = {self._applied(definition.row, [found, self._load(view, {**at, **more})])};"
            )

    def _copies(self, array: Array, definition: Stack | Stacked) -> None:
        """Copy the pieces of a Stack, or the members of a Stacked, to their places."""

        def copy(view: View, source: Place, place: Place) -> None:
            if isinstance(definition, Stacked):
                text = self._read(view.array, source)
            else:
                text = self._load(view, {axis: source for axis in view.axes})
            self._line(f"{self._element(array, place)} = {_unwrapped(text)};")

        for view, sources, places in pieces(definition):
            if len(places) > WRITTEN_OUT:
                with self._along({0: len(places)}) as at:
                    copy(view, self._progression(sources, at[0]), self._progression(places, at[0]))
            else:
                for source, place in zip(sources.tolist(), places.tolist()):
                    copy(view, (source, {}), (place, {}))

    def _progression(self, numbers: np.ndarray, at: Place) -> Place:
        """One of these numbers: by arithmetic if they are evenly spaced, else from a table."""
        step = int(numbers[1] - numbers[0])
        if (np.diff(numbers) == step).all():
            return _combined(int(numbers[0]), [(at, step)])
        return self._looked_up(numbers, at)


def _combined(number: int, parts: Iterable[tuple[Place, int]]) -> Place:
    """number + Σ place · factor."""
    moving: Mapping[str, int] = {}
    for (start, terms), factor in parts:
        number += start * factor
        moving = _added(moving, {variable: n * factor for variable, n in terms.items()})
    return number, moving


def _added(x: Mapping[str, int], y: Mapping[str, int]) -> dict[str, int]:
    found = {**x, **{variable: x.get(variable, 0) + factor for variable, factor in y.items()}}
    return {variable: factor for variable, factor in found.items() if factor}


def _indexed(name: str, number: int, moving: Mapping[str, int]) -> str:
    """An element of an array: c[2 * i + j + 1]."""

    def product(variable: str, factor: int) -> str:
        return variable if factor == 1 else f"{factor} * {variable}"

    parts = [product(variable, factor) for variable, factor in moving.items() if factor > 0]
    parts += [str(number)] if number or not parts else []
    less = [f" - {product(variable, -factor)}" for variable, factor in moving.items() if factor < 0]
    return f"{name}[{' + '.join(parts)}{''.join(less)}]"


def _is_atom(text: str) -> bool:
    """Whether an expression needs no parentheses: a number, an element or a call."""
    return bool(re.fullmatch(r"\w[\w.]*(\[[^]]*\])?|\w+\([^()]*\)", text))


def _unwrapped(text: str) -> str:
    """An expression without the parentheses around it."""
    return text[1:-1] if text[0] == "(" and text[-1] == ")" and _closes_last(text) else text


def _closes_last(text: str) -> bool:
    """Whether the parenthesis that a text begins with ends it."""
    depths = itertools.accumulate((c == "(") - (c == ")") for c in text)
    return 0 not in list(depths)[:-1]


def _dimensions(shape: Sequence[int], n: str = "") -> str:
    """A shape in words, for arrays that have one element for each of n rows, too."""
    lengths = [n] * bool(n) + [str(length) for length in shape]
    return f"({', '.join(lengths)}{',' * (len(lengths) == 1)})" if lengths else "a number"


def _in_ascii(c: str) -> str:
    """A letter in ASCII: theta, e for é."""
    name = unicodedata.name(c, "").partition(" LETTER ")[2].partition(" WITH ")[0].lower()
    return re.sub(r"\W", "_", name) or "_"
