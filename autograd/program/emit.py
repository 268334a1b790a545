"""emit: lifted arrays as Python source, for NumPy and every library with the array API standard.

A line for each array that is used again, or that has a name of its own; what is used once stands
where it is used. The source defines `program(xp)`, which returns the function for array module xp.
"""

from __future__ import annotations

import keyword
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .lift import Array, Lifted, Operand, is_whole
from .masking import MASKING

# How a primitive is written, if not as xp.name(x): an operator with its precedence, or a helper.
OPERATORS = {
    "add": ("+", 1),
    "sub": ("-", 1),
    "mul": ("*", 3),
    "div": ("/", 3),
    "pow": ("**", 5),
    "neg": ("-", 4),
}
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
    return xp.where(z <= 0.0, 0.0, z) + xp.log1p(xp.exp(-xp.abs(z)))
""",
    "maximum": """
def maximum(x, y):
    return xp.where((x < y) | (y != y), y, x)
""",
    "minimum": """
def minimum(x, y):
    return xp.where((x > y) | (y != y), y, x)
""",
    "step": """
def step(x, y):
    half, nan = xp.asarray(0.5, dtype=xp.float64), xp.asarray(xp.nan, dtype=xp.float64)
    return xp.where(x > y, 1.0, xp.where(x < y, 0.0, xp.where(x == y, half, nan)))
""",
    # Of the libraries, those that follow the standard have its take; torch indexes as NumPy does.
    "take": """
def take(x, positions):
    return xp.take(x, positions, axis=-1) if hasattr(xp, "__array_api_version__") else x[..., positions]
""",
    # Where NumPy raises what is invalid, ∞ − ∞ raises; isfinite would take four times as long.
    "finite": """
def finite(z):
    z - z
    return z
""",
    # Of which one operand or both are watched: it masks NaN too.
    "power": """
def power(x, y, watch_x, watch_y):
    out = x**y
    out = out + (x - x) if watch_x else out
    return out + (y - y) if watch_y else out
""",
}
# For NumPy, fewer calls, and numbers that need not be converted at each; where something overflows on the
# way, the program runs again with those above.
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
    "take": """
def take(x, positions):
    return x[..., positions]
""",
    "maximum": "maximum = xp.maximum",
    "minimum": "minimum = xp.minimum",
    "step": """
def step(x, y):
    return xp.heaviside(x - y, 0.5)
""",
}
ACTIVATIONS = ("sigmoid", "tanh", "relu", "softplus")

Text = tuple[str, int]  # an expression and its precedence


class Source:
    """A Python function of lifted arrays, as text.

    It takes the `arguments` and then the arrays of `leaves`, and returns a tuple of the `result`, called
    `name`, and its `gradient` by leaf array. `adjoints` has Values and their adjoints: arrays are named
    by them. Numbers too many to be written out are in `constants`. `fast` is for NumPy alone; `watched`,
    for NumPy where it raises what is invalid, stops at infinities that would be masked.
    """

    def __init__(
        self,
        title: str,
        name: str,
        lifted: Lifted,
        arguments: Sequence[str],
        leaves: Sequence[Array],
        result: Array,
        gradient: Sequence[Array] = (),
        adjoints: Iterable[tuple[Any, Any]] = (),
        fast: bool = False,
        watched: bool = False,
    ):
        outputs = [result, *gradient]
        self._fast = fast
        self.constants: list[np.ndarray] = []
        self._setup: list[str] = []
        self._lines: list[str] = []
        self._helpers: dict[str, None] = {}
        self._repeats: Counter[str] = Counter()
        self._taken = {"xp", "N", "program", "constants", "__debug__", *HELPERS}
        self._arrays = _reached(outputs)
        self._unnoticed = _unnoticed(self._arrays) if watched else set()
        self._uses = Counter(operand.array for array in self._arrays for operand in _operands(array))
        self._summed = {  # sums that are summed over the rows at once: matrix products
            array.terms[0][0].array
            for array in self._arrays
            if array.op == "row_sum"
            and is_whole(array.terms[0][0])
            and self._is_inner(array.terms[0][0].array)
        }
        self._name = self._unique(title)
        self._arguments = [self._unique(argument) for argument in arguments]
        self._leaves = leaves
        self._names = self._named(lifted, name, outputs, adjoints)
        self._texts: dict[Array, Text] = {}
        self._plain: set[Array] = set()  # those whose texts are Python's numbers
        for array in self._arrays:
            if array not in self._summed:
                self._write(array)
        self._returned = [self._as_array(array, self._texts[array])[0] for array in outputs]

    def text(self) -> str:
        """The source: a function program(xp) that returns the function."""
        helpers = FAST if self._fast else HELPERS
        parameters = ", ".join([*self._arguments, *(self._names[leaf] for leaf in self._leaves)])
        body = [
            *self._lines,
            f"return {', '.join(self._returned)}" + ("," if len(self._returned) == 1 else ""),
        ]
        if any(re.search(r"\bN\b", line.partition("  #")[0]) for line in body):
            body.insert(0, f"N = {self._arguments[0]}.shape[0]")
        inner = [helpers[name].strip() for name in self._helpers]
        if self._setup:
            inner.insert(0, "\n".join(self._setup))
        inner.append("\n    ".join([f"def {self._name}({parameters}):", *body]))
        inner.append(f"return {self._name}")
        blocks = "\n\n".join(inner).replace("\n", "\n    ").replace("    \n", "\n")
        return f"def program(xp{', constants' if self.constants else ''}):\n    {blocks}\n"

    def _is_inner(self, array: Array) -> bool:
        by_row = all(any(isinstance(x, Operand) and x.array.by_row for x in term) for term in array.terms)
        return array.op in ("mul", "dot", "total") and by_row and self._uses[array] == 1

    def _is_plain(self, array: Array) -> bool:
        known = array.op not in ("input", "leaf") and not array.shape
        return known and all(operand.array in self._plain for operand in _operands(array))

    def _as_array(self, array: Array, text: Text) -> Text:
        return (f"xp.asarray({text[0]}, dtype=xp.float64)", ATOM) if array in self._plain else text

    # Names

    def _named(self, lifted: Lifted, name: str, outputs: list[Array], adjoints: Any) -> dict[Array, str]:
        """Names for the arrays that have a role: w1 and b1 by their labels, h1 after them, delta1, ..."""
        names: dict[Array, str] = {}
        errors: list[Array] = []  # of predictions
        layers: dict[Array, str] = {}  # what is affine in a leaf array w1, and what follows: its "1"
        for i, leaf in enumerate(self._leaves, 1):
            names[leaf] = self._unique(_label(leaf) or f"w{i}")
        for array in self._arrays:
            operands = _operands(array)
            of = [names[o.array] for o in operands if o.array.op == "leaf"]
            before = [layers[o.array] for o in operands if o.array in layers]
            if array.op == "dot" and array.by_row and of:
                digits = re.search(r"\d+$", of[0])
                layers[array] = digits[0] if digits else str(len(set(layers.values())) + 1)
            elif array.op == "add" and of and before:
                layers[array] = before[0]
            elif array.op == "sub" and before and any(o.array.op == "input" for o in operands):
                errors.append(array)
            elif array.op in ACTIVATIONS and before:
                h = f"h{before[0]}"
                names[array] = self._unique(f"{array.op}{before[0]}" if h in self._taken else h)
        deltas: dict[Array, str] = {}
        for v, adjoint in adjoints:
            if v in lifted.places and adjoint in lifted.places:  # neither is a number, or simplified away
                array = lifted.places[v][0]
                if array in layers:
                    deltas.setdefault(lifted.places[adjoint][0], f"delta{layers[array]}")
        roles = [(outputs[0], name), *zip(outputs[1:], (f"grad_{names[leaf]}" for leaf in self._leaves))]
        for array, role in [*roles, *deltas.items()]:
            if array.terms and array not in names:
                names[array] = self._unique(role)
        self._affine = {array: f"z{digit}" for array, digit in layers.items()}
        self._affine.update(dict.fromkeys(errors, "error"))
        return names

    def _unique(self, name: str) -> str:
        name = unicodedata.normalize("NFKC", name)  # as Python reads it
        name = "".join(c if f"_{c}".isidentifier() else "_" for c in name)
        name = f"_{name}" if not name.isidentifier() or keyword.iskeyword(name) else name
        unique = name
        while unique in self._taken:
            self._repeats[name] += 1
            unique = f"{name}_{self._repeats[name] + 1}"
        self._taken.add(unique)
        return unique

    # Statements

    def _write(self, array: Array) -> None:
        """Write an array's line, or keep its expression for the one place where it is used."""
        if self._is_plain(array):
            self._plain.add(array)
        if array.op in ("input", "leaf", "rows"):
            name = "N" if array.op == "rows" else self._names.get(array) or self._arguments[array.data]
            self._texts[array] = (name, ATOM)
            return
        if array.op == "constant":
            self._texts[array] = self._constant(array.data)
            return
        text, precedence = self._expression(array)
        name = self._names.get(array, "")
        if not name and self._uses[array] == 1 and len(text) <= 60:
            self._texts[array] = (text, precedence)
            return
        name = name or self._unique(self._affine.get(array, "t"))
        shape = _shape(array)
        note = f"  # {_tuple(shape)}" if shape else ""
        self._lines.append(f"{name} = {text}{note}")
        self._texts[array] = (name, ATOM)

    def _constant(self, numbers: np.ndarray, kind: str = "float64") -> Text:
        if numbers.ndim == 0:
            return _literal(float(numbers))
        name = self._unique("c")
        if numbers.size <= 16:
            given = re.sub(r"\bnan\b", "xp.nan", re.sub(r"\binf\b", "xp.inf", str(numbers.tolist())))
        else:
            given = f"constants[{len(self.constants)}]"
            self.constants.append(numbers)
        self._setup.append(f"{name} = xp.asarray({given}, dtype=xp.{kind})")
        return name, ATOM

    # Expressions. Labels are the axes of a text's array, in order: "N" for the rows, and an operand's.

    def _expression(self, array: Array) -> Text:
        axes = (["N"] if array.by_row else []) + list(range(len(array.shape)))
        if array.op == "row_sum":
            (operand,) = array.terms[0]
            if operand.array in self._summed:
                return self._sum_of_terms(operand.array, axes)
            text, precedence, labels = self._operand(operand)
            return self._spread(*self._summed_over((text, precedence, labels), ["N"]), axes)
        if array.op in ("dot", "total"):
            return self._sum_of_terms(array, axes)
        if array.op == "stack":
            return self._stack(array)
        texts = [
            _literal(x) if isinstance(x, float) else self._spread(*self._operand(x), axes)
            for x in array.terms[0]
        ]
        watched = _watched(array, self._unnoticed)
        if watched and array.op == "pow":
            self._helpers["power"] = None
            return f"power({texts[0][0]}, {texts[1][0]}, {0 in watched}, {1 in watched})", ATOM
        for i in watched:
            self._helpers["finite"] = None
            texts[i] = f"finite({texts[i][0]})", ATOM
        if array.op == "copy":
            (operand,) = array.terms[0]
            long = {axis for axis, n in enumerate(array.shape) if n > 1}
            if long <= set(operand.labels) and operand.array.by_row == array.by_row:
                return texts[0]
            text, _ = self._as_array(operand.array, texts[0])
            return f"xp.broadcast_to({text}, {_tuple(_shape(array))})", ATOM
        if array.op in OPERATORS:
            return _operation(array.op, *texts)
        if array.op in HELPERS:
            self._helpers[array.op] = None
        name = array.op if array.op in HELPERS else f"xp.{array.op}"
        return f"{name}({', '.join(text for text, _ in texts)})", ATOM

    def _sum_of_terms(self, array: Array, axes: list[Any]) -> Text:
        """The sum of an array's terms, contracted over all labels but `axes`."""
        texts = []
        for term in array.terms:
            numbers = [_literal(x) for x in term if isinstance(x, float)]
            operands = [self._operand(x) for x in term if not isinstance(x, float)]
            text = self._contraction(operands, axes)
            texts.append(_operation("mul", numbers[0], text) if numbers else text)
        out = texts[0]
        for text in texts[1:]:
            if len(out[0]) > 1000:  # Python's parser has its limits
                self._lines.append(f"{(name := self._unique('t'))} = {out[0]}")
                out = name, ATOM
            out = _operation("add", out, text)
        return out

    def _contraction(self, operands: list[tuple[str, int, list[Any]]], axes: list[Any]) -> Text:
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
            return _operation("mul", self._spread(*a, axes), self._spread(*b, axes))
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
        elif not shared and rest_a and rest_b:
            where = ", ".join(str(tuple(this[2].index(l) for l in summed)) for this in (a, b))
            return self._spread(f"xp.tensordot({a[0]}, {b[0]}, ({where}))", ATOM, rest_a + rest_b, axes)
        else:
            kept = [l for l in axes if l in a[2] or l in b[2]]
            product = _operation("mul", self._spread(*a, kept + summed), self._spread(*b, kept + summed))
            return self._spread(*self._summed_over((*product, kept + summed), summed), axes)
        if self._fast and not shared and len(rest_a) < 2:
            return self._spread(f"{_in(left, ATOM)}.dot({right[0]})", ATOM, labels, axes)
        return self._spread(f"{_in(left, ATOM)} @ {_in(right, ATOM)}", MATMUL, labels, axes)

    def _summed_over(
        self, operand: tuple[str, int, list[Any]], summed: list[Any]
    ) -> tuple[str, int, list[Any]]:
        text, _, labels = operand
        if not summed:
            return operand
        where = [labels.index(l) for l in summed]
        axis = "" if len(where) == len(labels) else f", axis={where[0] if len(where) == 1 else tuple(where)}"
        return f"xp.sum({text}{axis})", ATOM, [l for l in labels if l not in summed]

    def _operand(self, operand: Operand) -> tuple[str, int, list[Any]]:
        """The elements that an operand takes of its array, with the labels of their axes."""
        array, index = operand.array, operand.index
        text, precedence = self._texts[array]
        rows = ["N"] if array.by_row else []
        labels = [*rows, *operand.labels]
        if isinstance(index, tuple):
            if all(i == slice(None) for i in index):
                return text, precedence, labels
            parts = [":"] * len(rows) + [_slice(i) for i in index]
            return f"{_in((text, precedence), ATOM)}[{', '.join(parts)}]", ATOM, labels
        if len(array.shape) != 1:
            text, precedence = f"xp.reshape({text}, {_tuple([*rows, math.prod(array.shape)])})", ATOM
        start, size = int(index.flat[0]), index.size
        if (index.ravel() != np.arange(start, start + size)).any():
            taken = self._take(text, index)
        elif size < math.prod(array.shape):
            taken = f"{_in((text, precedence), ATOM)}[{':, ' if rows else ''}{start}:{start + size}]"
        else:
            taken = text
        if index.ndim > 1:
            taken = f"xp.reshape({taken}, {_tuple([*rows, *index.shape])})"
        return taken, ATOM, labels

    def _take(self, text: str, positions: np.ndarray) -> str:
        self._helpers["take"] = None
        return f"take({text}, {self._constant(positions.ravel(), 'int64')[0]})"

    def _spread(self, text: str, precedence: int, labels: list[Any], axes: list[Any]) -> Text:
        """A text whose axes are `labels`, to be broadcast along `axes`, of which they are some."""
        if labels == axes:
            return text, precedence
        text, precedence = self._transposed((text, precedence, labels), [l for l in axes if l in labels])
        first = min((axes.index(l) for l in labels), default=len(axes))
        index = [":" if l in labels else "None" for l in axes[first:]]
        if "None" in index:
            return f"{_in((text, precedence), ATOM)}[{', '.join(index)}]", ATOM
        return text, precedence

    def _transposed(self, operand: tuple[str, int, list[Any]], order: list[Any]) -> Text:
        text, precedence, labels = operand
        if order == labels:
            return text, precedence
        text = _in((text, precedence), ATOM)
        if len(labels) == 2:
            return f"{text}.T", ATOM
        if order[:-2] == labels[:-2]:
            return f"{text}.mT", ATOM
        where = tuple(labels.index(l) for l in order)
        return f"xp.moveaxis({text}, {where}, {tuple(range(len(where)))})", ATOM

    def _stack(self, array: Array) -> Text:
        """Arrays end to end, their elements in the order of array.data, as an array of its shape."""
        rows = ["N"] if array.by_row else []
        pieces = []
        for operand, n in array.terms:
            text, precedence, labels = self._operand(operand)
            if 0 not in labels:
                text = f"{_in(self._as_array(operand.array, (text, precedence)), ATOM)}[..., None]"
            if (array.by_row and "N" not in labels) or (0 not in labels and n > 1):
                text = f"xp.broadcast_to({text}, {_tuple([*rows, n])})"
            pieces.append(text)
        text = f"xp.concat([{', '.join(pieces)}], axis=-1)"
        if (array.data != np.arange(len(array.data))).any():
            text = self._take(text, array.data)
        if len(array.shape) > 1:
            text = f"xp.reshape({text}, {_tuple(_shape(array))})"
        return text, ATOM


def _reached(outputs: Sequence[Array]) -> list[Array]:
    """The arrays that outputs are computed from, operands first: all for the first, then for the last, ..."""
    reached: dict[Array, None] = {}
    stack = [(array, False) for array in [*outputs[1:], outputs[0]]]
    while stack:
        array, done = stack.pop()
        if done:
            reached[array] = None
        elif array not in reached:
            stack.append((array, True))
            stack += [(operand.array, False) for operand in reversed(_operands(array))]
    return list(reached)


def _operands(array: Array) -> list[Operand]:
    return [x for term in array.terms for x in term if isinstance(x, Operand)]


def _watched(array: Array, unnoticed: set[Array]) -> list[int]:
    """Which of an array's operands may have infinities that it would mask."""
    pairs = zip(MASKING.get(array.op, ()), array.terms[0] if array.terms else ())
    return [i for i, (masks, x) in enumerate(pairs) if masks and getattr(x, "array", None) in unnoticed]


def _unnoticed(arrays: Iterable[Array]) -> set[Array]:
    """The arrays of results that may be infinite without a flag: in BLAS, or by what the data were."""
    found, data = set[Array](), set[Array]()
    for array in arrays:  # operands come first
        copied = array.op in ("copy", "stack")
        if array.op in ("input", "leaf") or (copied and data.issuperset(x.array for x in _operands(array))):
            data.add(array)
            continue
        watched = _watched(array, found)
        rest = [x for term in array.terms for i, x in enumerate(term) if i not in watched]
        sources = {x.array for x in rest if isinstance(x, Operand)}
        if array.op in ("dot", "row_sum") or not (sources.isdisjoint(data) and sources.isdisjoint(found)):
            found.add(array)
    return found


def _label(leaf: Array) -> str:
    """The name that the labels of an array of leaves share: "w1" of "w1[0,0]", "w1[0,1]", ..."""
    names = {v.label.partition("[")[0] for v in leaf.data.flat}
    return names.pop() if len(names) == 1 else ""


def _shape(array: Array) -> list[Any]:
    return [*(["N"] if array.by_row else []), *array.shape]


def _tuple(items: Sequence[Any]) -> str:
    return f"({', '.join(map(str, items))}{',' * (len(items) == 1)})"


def _slice(i: Any) -> str:
    if isinstance(i, int):
        return str(i)
    return f"{i.start or ''}:{'' if i.stop is None else i.stop}" + (f":{i.step}" if i.step else "")


def _literal(x: float) -> Text:
    if math.isfinite(x):
        return repr(x), OPERATORS["neg"][1] if repr(x).startswith("-") else ATOM
    return (
        ("xp.nan", ATOM) if math.isnan(x) else ("xp.inf", ATOM) if x > 0 else ("-xp.inf", OPERATORS["neg"][1])
    )


def _operation(op: str, *texts: Text) -> Text:
    """An operator between texts, in the order of evaluation that the graph has."""
    symbol, precedence = OPERATORS[op]
    if len(texts) == 1:
        return f"-{_in(texts[0], precedence)}", precedence
    left, right = texts
    if op == "pow":
        return f"{_in(left, ATOM)} ** {_in(right, ATOM)}", precedence
    return f"{_in(left, precedence)} {symbol} {_in(right, precedence + 1)}", precedence


def _in(text: Text, precedence: int) -> str:
    """A text as it stands where nothing that binds less may."""
    return text[0] if text[1] >= precedence else f"({text[0]})"
