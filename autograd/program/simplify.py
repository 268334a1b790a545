"""simplify: the same results from fewer Values.

Each rule is a row of RULES. It holds exactly, or except for the rounding of a sum, product or quotient that
is computed in another order. Equal Values become one Value, and chains of additions become one sum: `total`
of single terms, `dot` of products.

Rules for 1 or −1 apply where all Values that are computed alike have that number. Beside 2 y and 3 z, 1 x
stays a product, and the sum of these is a `dot` with their numbers: lift makes arrays of Values that are
computed alike. For the same reason, x + 0 is a sum of one term, and x − 0 stays: at a wall of zeros, a cell
is then computed like those that have a neighbour there.
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from operator import is_
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents, topological_order
from ..ops import TABLE, VECTOR_ROWS, Primitive
from ..value import Constant, Value, applied

ROW_SUM = Primitive("row_sum", "Σₙ", lambda x: x, np.sum, lambda x, out: 1.0)
PRIMITIVES = {**TABLE, ROW_SUM.name: ROW_SUM}
SUMS = (ops.add, ops.sub, ops.neg, ops.total, ops.dot)
NEG, DIV = ops.neg, ops.div
LINEAR = (ops.neg, ops.mul, ops.div)  # a row_sum moves inside these
AFTERWARDS = (ops.pow, ops.detach)  # they have rules that apply only after differentiation
FEW_FORMS = 8  # of the terms of a sum
RUNNING = (ops.add, ops.sub)
SEVERAL = 4  # steps of a running total
FACTORS = (*LINEAR, ROW_SUM)  # a number that is a factor of an operand is a factor of the result


def simplify(
    outputs: Iterable[Any],
    by_row: Iterable[Value] = (),
    rows: Value | None = None,
    forward: Container[Value] | None = None,
) -> dict[Any, Any]:
    """The Values of the outputs' graph, each with its simpler form: a Value, perhaps itself, or a number.

    `by_row` has the leaves that stand for one number a row; `rows` stands for the number of rows. `forward`
    has the Values of the forward pass, if there is a backward pass.
    """
    outputs = [v for v in outputs if isinstance(v, Value)]
    rewriting = _Rewriting(by_row, rows, forward)
    first = rewriting.run(outputs, gather=False)
    wanted = [first[v] for v in outputs]
    forward = forward and {w for v, w in first.items() if v in forward and isinstance(w, Value)}
    running = [{first[v] for v in some} for some in (rewriting.totals, rewriting.on_the_way)]
    gathering = _Rewriting(by_row, rows, forward, *running)
    second = gathering.run([v for v in wanted if isinstance(v, Value)], gather=True)
    return {v: second.get(w, w) for v, w in first.items() if _number(w) or w in second}


# (the rule, the primitive that it rewrites and those of its operands, the result). In place of an operand's
# primitive, c is a number, and _ anything. The result is False where the rule does not apply. In rules, c and
# d are numbers, u is the same for all rows, and N is the number of rows. `to` makes Values: see _Rewriting.
# "Afterwards" is after differentiation, because the derivative of a power is shorter than that of a product.
# A product replaces a power if it is within four units in the last place.
# fmt: off
Rewrite = Callable[["_Rewriting", Any, Any], Any]
RULES: list[tuple[str, str, Rewrite]] = [
    ("x + 0 = Σ x",         "add _ c", lambda to, x, y: to.is_all(y, 0.0)
                                        and (x if _op(x, "add") else to("total", (x,)))),
    ("0 + x = Σ x",         "add c _", lambda to, x, y: to.is_all(x, 0.0) and to("total", (y,))),
    ("x + x = 2 x",         "add _ _", lambda to, x, y: x is y and to("mul", 2.0, x)),
    ("x + (−y) = x − y",    "add _ neg", lambda to, x, y: to("sub", x, y.x)),
    ("(−x) + y = y − x",    "add neg _", lambda to, x, y: to("sub", y, x.x)),
    ("x − (−y) = x + y",    "sub _ neg", lambda to, x, y: to("add", x, y.x)),
    ("(−x) − y = −(x + y)", "sub neg _", lambda to, x, y: to("neg", to("add", x.x, y))),
    ("(0 − x) − y = −(x + y)", "sub sub _", lambda to, x, y: _is(x.x, 0.0) and to("neg", to("add", x.y, y))),
    ("−(−x) = x",           "neg neg", lambda to, x, _: x.x),
    ("−(c x) = (−c) x",     "neg mul", lambda to, x, _: _number(x.x) and to("mul", -x.x, x.y)),
    ("−(x − y) = y − x",    "neg sub", lambda to, x, _: to.may_turn(x) and to("sub", x.y, x.x)),
    ("−((x − y) / z) = (y − x) / z", "neg div", lambda to, x, _: _op(x.x, "sub") and to.may_turn(x.x)
                                        and to("div", to("sub", x.x.y, x.x.x), x.y)),
    ("x c = c x",           "mul _ c", lambda to, x, y: to("mul", y, x)),
    ("1 x = x",             "mul c _", lambda to, x, y: to.is_all(x, 1.0) and y),
    ("−1 x = −x",           "mul c _", lambda to, x, y: to.is_all(x, -1.0) and to("neg", y)),
    ("(−x) y = −(x y)",     "mul neg _", lambda to, x, y: to("neg", to("mul", x.x, y))),
    ("x (−y) = −(x y)",     "mul _ neg", lambda to, x, y: to("neg", to("mul", x, y.x))),
    ("c (d x) = (c d) x",   "mul c mul", lambda to, x, y: _number(y.x) and _is_normal(x, y.x)
                                        and to("mul", x * y.x, y.y)),
    ("(c x) y = c (x y)",   "mul mul _", lambda to, x, y: to.is_varied(x)
                                        and to("mul", x.x, to("mul", x.y, y))),
    ("x (c y) = c (x y)",   "mul _ mul", lambda to, x, y: to.is_varied(y) and not _number(x)
                                        and to("mul", y.x, to("mul", x, y.y))),
    ("(c x) (d y) = x y, if c d = 1", "mul mul mul", lambda to, x, y: _number(x.x) and _number(y.x)
                                        and to.is_all(x.x * y.x, 1.0) and to("mul", x.y, y.y)),
    ("x (c / N) = c x / N", "mul _ div", lambda to, x, y: to.is_per_n(y)
                                        and to("div", to("mul", y.x, x), to.rows)),
    ("(c / N) x = c x / N", "mul div _", lambda to, x, y: to.is_per_n(x)
                                        and to("div", to("mul", x.x, y), to.rows)),
    ("(x / N) y = x y / N", "mul div _", lambda to, x, y: x in to.used_once and x.y is to.rows
                                        and to("div", to("mul", x.x, y), to.rows)),
    ("x / 1 = x",           "div _ c", lambda to, x, y: to.is_all(y, 1.0) and x),
    ("(−x) / y = −(x / y)", "div neg _", lambda to, x, y: to("neg", to("div", x.x, y))),
    ("u N / N = u",         "div mul _", lambda to, x, y: y is to.rows and x.y is y and x.x),
    ("(x + u N) / N = x / N + u", "div add _", lambda to, x, y: y is to.rows and _op(x.y, "mul")
                                        and x.y.y is y and to("add", to("div", x.x, y), x.y.x)),
    ("x⁰ = 1",              "pow _ c", lambda to, x, y: y == 0.0 and not x.row and 1.0),
    ("x¹ = x",              "pow _ c", lambda to, x, y: y == 1.0 and x),
    ("x² = x x",            "pow _ c", lambda to, x, y: y == 2.0 and to("mul", x, x)),
    ("x²ⁿ = xⁿ xⁿ, afterwards", "pow _ c", lambda to, x, y: to.rows is not None and y in (4.0, 6.0, 8.0)
                                        and to("pow", to("pow", x, y / 2.0), 2.0)),
    ("xⁿ = xⁿ⁻¹ x, afterwards", "pow _ c", lambda to, x, y: to.rows is not None and y in (3.0, 5.0, 7.0)
                                        and to("mul", to("pow", x, y - 1.0), x)),
    ("x⁻ⁿ = (1 / x)ⁿ, afterwards", "pow _ c", lambda to, x, y: to.rows is not None and y in (-2.0, -3.0, -4.0)
                                        and to("pow", to("div", 1.0, x), -y)),
    ("x^½ = √x",            "pow _ c", lambda to, x, y: y == 0.5 and to("sqrt", x)),
    ("x⁻½ = 1 / √x, afterwards", "pow _ c", lambda to, x, y: to.rows is not None and y == -0.5
                                        and to("div", 1.0, to("sqrt", x))),
    ("xⁿ⁺½ = xⁿ √x, afterwards", "pow _ c", lambda to, x, y: to.rows is not None and y in (1.5, 2.5, 3.5)
                                        and to("mul", to("pow", x, y - 0.5), to("sqrt", x))),
    ("x⁻ⁿ⁻½ = x⁻ⁿ x⁻½, afterwards", "pow _ c", lambda to, x, y: to.rows is not None
                                        and y in (-1.5, -2.5, -3.5)
                                        and to("mul", to("pow", x, y + 0.5), to("pow", x, -0.5))),
    ("x⁻¹ = 1 / x",         "pow _ c", lambda to, x, y: y == -1.0 and to("div", 1.0, x)),
    ("max(x, −∞) = x",      "maximum _ c", lambda to, x, y: y == -math.inf and x),
    ("max(−∞, x) = x",      "maximum c _", lambda to, x, y: x == -math.inf and y),
    ("min(x, ∞) = x",       "minimum _ c", lambda to, x, y: y == math.inf and x),
    ("min(∞, x) = x",       "minimum c _", lambda to, x, y: x == math.inf and y),
    ("1 and x = x",         "logical_and c _", lambda to, x, y: y if x else 0.0),
    ("x and 1 = x",         "logical_and _ c", lambda to, x, y: x if y else 0.0),
    ("0 or x = x",          "logical_or c _", lambda to, x, y: 1.0 if x else y),
    ("x or 0 = x",          "logical_or _ c", lambda to, x, y: 1.0 if y else x),
    ("1 ? x : y = x",       "where c _", lambda to, x, ys: ys[0 if x else 1]),
    ("detach x = x, afterwards", "detach _", lambda to, x, _: to.rows is not None and x),
    ("Σₙ u / N = u",        "row_sum div", lambda to, x, _: to.is_uniform(x) and x.y is to.rows and x.x),
    ("Σₙ u = u N",          "row_sum _", lambda to, x, _: to.is_uniform(x) and to("mul", x, to.rows)),
    ("Σₙ −x = −Σₙ x",       "row_sum neg", lambda to, x, _: x in to.used_once
                                        and to("neg", to("row_sum", x.x))),
    ("Σₙ u x = u Σₙ x",     "row_sum mul", lambda to, x, _: x in to.used_once and to.is_uniform(x.x)
                                        and to("mul", x.x, to("row_sum", x.y))),
    ("Σₙ x u = u Σₙ x",     "row_sum mul", lambda to, x, _: x in to.used_once and to.is_uniform(x.y)
                                        and to("mul", x.y, to("row_sum", x.x))),
    ("Σₙ x / u = Σₙ x / u", "row_sum div", lambda to, x, _: x in to.used_once and to.is_uniform(x.y)
                                        and to("div", to("row_sum", x.x), x.y)),
]
# fmt: on


class _Operands:
    """Operands of a dot or a total, and facts about them."""

    def __init__(self, elements: tuple[Any, ...], is_by_row: bool):
        self.elements, self.is_by_row = elements, is_by_row
        kinds = {*map(type, elements)}
        self.has_numbers, self.all_numbers = float in kinds, kinds == {float}
        self.has_zeros = self.has_numbers and all(x == 0.0 for x in elements if type(x) is float)
        self.members = {*elements}
        self.rows = {x.row for x in elements if type(x) is not float}


class _Rewriting:
    """One pass over a graph, parents first; a call with a primitive and operands gives its simpler form."""

    def __init__(
        self,
        by_row: Iterable[Value],
        rows: Value | None,
        forward: Container[Value] | None = None,
        totals: Iterable[Any] = (),
        on_the_way: Iterable[Any] = (),
    ):
        self.rows: Any = rows
        self.totals, self.on_the_way = {*totals}, {*on_the_way}  # see _running_totals
        self.forward = forward
        self.new_forward: set[Value] = set()  # the rewritten Values of `forward`
        self.by_row = set(by_row)
        self.vectors: dict[Any, _Operands] = {}  # by their elements
        self.known: dict[int, _Operands] = {}  # the same, by the identity of a tuple of elements
        self.made: dict[Any, Value] = {}
        self.mapped: dict[int, tuple[Any, ...]] = {}  # rewritten tuples of operands, by the old identity
        self.current: Value | None = None  # the Value being rewritten, which stays if nothing in it changes
        self.is_part = False  # whether that is part of a sum, and not merged with equal ones
        self.used_once: set[Value] = set()
        self.mixed: set[Value] = set()  # see _mixed
        self.inner: set[Value] = set()  # sums that are used once, by another sum
        self.summed: dict[Value, Any] = {}  # the row_sum of a Value
        self.varied: set[Value] = set()  # Values computed like others, with other numbers: see _varied
        self.of_varied: set[Value] = set()  # sums of such Values

    def run(self, outputs: list[Value], gather: bool) -> dict[Any, Any]:
        """The simpler form of each Value of the outputs' graph; with `gather`, chains of sums become one."""
        order = topological_order(*outputs)
        user = _only_users(order) | dict.fromkeys(outputs)  # the caller uses these too, so they stay
        became: dict[Any, Any] = {}
        self.varied, form_of = _varied(order, self.by_row)
        if not gather:
            self.totals, self.on_the_way = _running_totals(order, user, form_of)
        parts = set[Value]()
        mixed, plain = _mixed(order, user, self.by_row) if gather else {}, _plain_sums(order, user)
        known: dict[int, bool] = {}  # of vectors, by their ids

        def has_part(x: Any) -> bool:
            """Whether an operand, or an element of a vector, is part of a sum or a product with 0."""
            if type(x) is not tuple:
                return isinstance(x, Value) and (x in parts or _is_nothing(x))
            if id(x) not in known:
                known[id(x)] = any(map(has_part, x))
            return known[id(x)]

        for v in order:
            if v.row is None:
                became[v] = v._data if isinstance(v, Constant) else v
                continue
            self.current = v
            x, y = self._operand(v.x, became), self._operand(v.y, became)
            inner = v.row in SUMS and user[v] in SUMS and (v.row is not ops.sub or v in self.on_the_way)
            inner = inner and v not in self.totals
            of_varied = inner and not self.varied.isdisjoint(parents(v))
            self.is_part = of_varied or (inner and (v in plain or has_part(v.x) or has_part(v.y)))
            if self.is_part:
                parts.add(v)
            if of_varied:
                self.varied.add(v)
            elif v.row in (ops.add, ops.sub) and (v.x in self.varied or v.y in self.varied):
                self.of_varied.add(v)
            is_running = (inner or not gather) and (v in self.totals or v in self.on_the_way)
            if is_running and not (_number(x) or _number(y)):  # no rule may turn it: others have other signs
                w = self._made(v.row, (x, y), x, y, not self.by_row.isdisjoint((x, y)))
            elif gather and v.row in SUMS and not inner:
                w = self._sum(v.row, x, y, v in self.totals)
            else:
                w = self(v.row, x, y)
            became[v] = w
            if isinstance(w, Value):
                if v in self.varied:
                    self.varied.add(w)
                if self.forward and v in self.forward:
                    self.new_forward.add(w)
            if v in mixed and isinstance(w, Value):
                self.mixed.add(w)
            if gather and isinstance(w, Value):
                if w in self.used_once or not user[v]:
                    self.used_once.discard(w)
                    self.inner.discard(w)
                else:
                    self.used_once.add(w)
                    if inner and w.row in SUMS and (w.row is not ops.sub or v in self.on_the_way):
                        self.inner.add(w)
        return became

    def _operand(self, x: Any, became: dict[Any, Any]) -> Any:
        if type(x) is not tuple:
            return became.get(x, x)
        found = self.mapped.get(id(x))
        if found is None:
            found = self.mapped[id(x)] = self._vector(tuple(map(became.get, x, x))).elements
        return found

    def _vector(self, xs: tuple[Any, ...]) -> _Operands:
        """Operands of a dot or a total, one object for equal ones."""
        vector = self.known.get(id(xs))
        if vector is None:
            vector = _Operands(xs, not self.by_row.isdisjoint(xs))
            if not vector.has_numbers:  # 0.0 and −0.0 are equal, and not the same
                vector = self.vectors.setdefault(xs, vector)
            self.known[id(vector.elements)] = vector
        return vector

    def __call__(self, primitive: Primitive | str, x: Any, y: Any = None) -> Any:
        row = PRIMITIVES[primitive] if isinstance(primitive, str) else primitive
        if row is not ROW_SUM and _number(x) and (y is None or _number(y)):
            return row.compute(x) if y is None else row.compute(x, y)
        if row in VECTOR_ROWS:
            if row in ops.REDUCTIONS:
                return row.compute(x) if self._vector(x).all_numbers else self._of_vectors(row, x)
            return self._of_vectors(row, x, y) if self._is_plain(x, y) else self._sum(row, x, y)
        if row is ROW_SUM:
            for v in self._inside(x):
                self.summed[v] = self(row, v)
            if x in self.summed:
                return self.summed[x]
        for rewrite in _rules_for(row, _kind_of(x), _kind_of(y)):
            found = rewrite(self, x, y)
            if found is not False:
                return found
        operands = (x, *y) if type(y) is tuple else (x, y)
        is_by_row = row is not ROW_SUM and not self.by_row.isdisjoint(operands)
        # x + y and y + x stay two: on a ring of four, two cells would else share their neighbours' sum.
        return self._made(row, (frozenset((x, y)) if row is ops.mul else (x, y)), x, y, is_by_row)

    def _of_vectors(self, row: Primitive, *vectors: tuple[Any, ...] | None) -> Value:
        """The Value of a row that takes vectors, without rules."""
        found = [self._vector(xs) for xs in vectors if xs is not None]
        key = tuple([xs.elements if xs.has_numbers else id(xs.elements) for xs in found])
        is_by_row = any([xs.is_by_row for xs in found])
        return self._made(row, key, found[0].elements, found[1].elements if found[1:] else None, is_by_row)

    def _made(self, row: Primitive, operands: Any, x: Any, y: Any, is_by_row: bool) -> Value:
        """The Value of a row, one for each key of its operands."""
        key = row, operands
        out = None if self.is_part and row in SUMS else self.made.get(key)
        if out is None:
            old = self.current
            if old is not None and old.row is row and are_same(old.x, x) and are_same(old.y, y):
                out = old
                old.x, old.y = x, y  # equal tuples are one object from here on
            else:
                out = applied(row, x, y)
            self.made[key] = out
            if is_by_row:
                self.by_row.add(out)
        return out

    def _inside(self, x: Any) -> Iterable[Value]:
        """The Values that row_sum moves to, the innermost first: without that order rules would recurse."""
        found, stack = [], [x]
        while stack:
            v = stack.pop()
            divides = _op(v, "div") and v.y in self.by_row  # no row_sum moves past that
            if v in self.used_once and v.row in LINEAR and not divides:
                inside = [p for p in parents(v) if p in self.by_row and p not in self.summed]
                if v.row is not ops.mul or len(inside) == 1:
                    found += inside
                    stack += inside
        return reversed(found)

    def is_all(self, x: Any, number: float) -> bool:
        """Whether x is that number, in the Value being rewritten and in all that are computed like it."""
        if not _is(x, number) or self.current in self.varied:
            return False
        return number == 0.0 or self.current not in self.of_varied

    def is_varied(self, x: Any) -> bool:
        """Whether x is a multiple c y, and Values computed like it are other multiples."""
        return x in self.varied and _scaled(x)

    def is_uniform(self, x: Any) -> bool:
        """Whether x is the same for all rows."""
        return x not in self.by_row

    def may_turn(self, x: Any) -> bool:
        """Whether −x may replace x: not in a backward pass, where each step would negate the next."""
        return self.forward is None or x in self.new_forward or x in self.used_once

    def is_per_n(self, x: Any) -> bool:
        """Whether x is c / N: a number divided by the number of rows."""
        return _op(x, "div") and _number(x.x) and x.y is self.rows

    def _is_plain(self, xs: tuple[Any, ...], ys: tuple[Any, ...] | None) -> bool:
        """Whether a dot or a total has no term that could be written otherwise, and no term twice."""
        x = self._vector(xs)
        if ys is None:
            return not x.has_numbers and NEG not in x.rows and len(x.members) == len(xs)
        y = self._vector(ys)
        if x.has_numbers and (y.has_numbers or not x.all_numbers):
            return False
        if NEG in y.rows or NEG in x.rows or (y.has_numbers and not y.has_zeros):
            return False
        if not x.all_numbers and any(DIV in v.rows and any(map(self.is_per_n, v.elements)) for v in (x, y)):
            return False
        if not x.rows.isdisjoint(y.rows) and not x.members.isdisjoint(ys):  # perhaps: x y, and y x
            return len({*map(frozenset, zip(xs, ys))}) == len(xs)
        return len(x.members) == len(xs) or len(y.members) == len(ys) or len({*zip(xs, ys)}) == len(xs)

    def _sum(self, op: Any, x: Any, y: Any, is_signed: bool = False) -> Any:
        """A sum, with all the terms of the sums that only this one uses; if `is_signed`, a difference."""
        if op is ops.dot and x and self._is_plain(x, y):
            return self._of_vectors(op, x, y)
        plus: list[tuple[Any, ...]] = []
        minus: list[tuple[Any, ...]] = []
        sums = set[bool]()  # whether what is added, or subtracted, has a sum of one term
        stack: list[tuple[Any, Any, Any, bool]] = [(op, x, y, False)]
        while stack:
            op, x, y, negative = stack.pop()
            if op is ops.dot:
                stack += [("product", p, q, negative) for p, q in reversed(_products(x, y))]
            elif op in SUMS:
                terms = x if op is ops.total else (x,) if y is None else (x, y)
                alone = op is ops.total and len(x) == 1  # 0 + (a + b); y has what follows, (c + d)
                for i, term in reversed(list(enumerate(terms))):
                    flip = negative != (op is ops.neg or (op is ops.sub and i == 1))
                    if isinstance(term, Value) and (term in self.inner or _is_sum_of_one(term)):
                        begins = i == 0 and not self._begins(term, y)
                        if begins or (op is ops.total and not alone):
                            second = y if i == 0 and _is_sum_of_one(term) else term.y
                            stack.append((term.row, term.x, second, flip))
                            continue
                        term = self._sum(term.row, term.x, term.y)  # a sum that is added is one quantity
                    stack.append(("alone" if alone else "term", term, None, flip))
            else:
                if op == "product":
                    has_number = _number(x) or _number(y)
                    plain = has_number or not any(_op(p, "neg") or self.is_per_n(p) for p in (x, y))
                    x = (x, y) if plain else self("mul", x, y)
                if _op(x, "neg"):
                    x, negative = x.x, not negative
                if (
                    self.is_varied(x)
                    or (_op(x, "mul") and _is(x.x, 0.0))
                    or (
                        _op(x, "mul")
                        and not _number(x.x)
                        and (op == "product" or x in self.used_once or x in self.mixed)
                    )
                ):
                    x = (x.x, x.y)
                if type(x) is tuple:
                    x = self._linear(*x)
                if op == "alone":
                    sums.add(negative)
                (minus if negative else plus).append(x if type(x) is tuple else (x,))
        terms = [*plus, *minus]
        if terms and all(len(t) == 1 and _op(t[0], "div") and t[0].y is self.rows for t in terms):
            plus, minus = ([_factors(term[0].x) for term in terms] for terms in (plus, minus))
            return self("div", self._difference(plus, minus, sums), self.rows)
        if is_signed:  # others like this one add and subtract
            return self("sub", self._added(plus, True), self._added(minus, True))
        if len(minus) >= SEVERAL and [*map(len, plus)] == [1] and _is(plus[0][0], 0.0):
            plus = []  # a running total that only subtracts
        return self._difference(plus, minus, sums)

    def _begins(self, x: Any, y: Any) -> bool:
        """Whether in x + y, as in (a + b) + (c + d), x is the first of the sums that are added up."""
        is_sum = y in self.inner and y.row is ops.add
        return is_sum and x.row is ops.add and x.y not in self.inner

    def _linear(self, x: Any, y: Any) -> Any:
        """A product as a term; if it has a number, there is only one, and it comes first."""
        if _number(y):
            x, y = y, x
        while _number(x) and (_op(y, "neg") or (_scaled(y) and _is_normal(x, y.x))):
            x, y = (-x, y.x) if y.row is NEG else (x * y.x, y.y)
        return (x, y)

    def _difference(self, plus: list[tuple[Any, ...]], minus: list[tuple[Any, ...]], sums: set[bool]) -> Any:
        if not minus:
            return self._added(plus, False in sums)
        if not plus:
            return self("neg", self._added(minus, True in sums))
        return self("sub", self._added(plus, False in sums), self._added(minus, True in sums))

    def _added(self, terms: list[tuple[Any, ...]], is_sum: bool = False) -> Any:
        """The sum of terms, each a product of two or a single Value or number.

        If `is_sum`, it is a sum even of one term.
        """
        numbers, singles, linear, xs, ys = [], [], [], [], []
        # Products with 0 are like others: of weights and a state that is 0 at first.
        is_product = any(map(_is_product, terms)) or (len(terms) > 1 and all(map(_is_zero_product, terms)))
        dots = [term for term in terms if len(term) == 1 and _op(term[0], "dot")]
        if dots and not is_product and any(map(_is_zero_product, terms)):
            products = _products(dots[0][0].x, dots[0][0].y)
            terms = [each for term in terms for each in (products if term is dots[0] else [term])]
            is_product = True
        counts = Counter((len(term), frozenset(term)) for term in terms)
        for term in dict.fromkeys(terms):
            n = counts.pop((len(term), frozenset(term)), 0)
            if n == 0:  # y x, after x y
                continue
            if n == 1 and (_is_product(term) or (is_product and _is_zero_product(term))):
                x, y = term if _is_product(term) else term[::-1]
                xs.append(x)
                ys.append(y)
                continue
            if len(term) == 2 and _number(term[0]) and not _number(term[1]):
                linear.append((n * term[0], term[1]))
                continue
            x = term[0] if len(term) == 1 else self("mul", *term)
            if _number(x):
                numbers.append(n * x)
            else:
                singles.append(self("mul", float(n), x) if n > 1 else x)
        if len(singles) > 1 - is_sum and not xs and not numbers and not linear and all(map(_scaled, singles)):
            factor = singles[0].x
            if all(x.x == factor for x in singles):
                return self("mul", factor, self._added([_factors(x.y) for x in singles], is_sum))
        # 1 x + 0 y comes from a row of an identity: it is a dot, as those of more numbers are.
        few = 1 if any(map(_is_zero_product, linear)) else 2
        if len(linear) <= max(len(singles), few):
            singles += [self("mul", *term) for term in linear]
            linear = []
        number = sum(numbers, 0.0)
        if number and len(singles) > 1 and not xs and not linear:
            singles.append(number)  # a wall, perhaps
            number = 0.0
        if len(xs) == 1 and len(singles) > 1 and all(_op(x, "mul") for x in singles):
            singles.append(self("mul", xs.pop(), ys.pop()))  # like the others, which have more users
        if len(singles) > 2 or (is_sum and len(singles) == 1 and not xs and not linear):
            singles = [self._of_vectors(ops.total, tuple(singles))]
        if linear:
            singles.append(self("dot", *zip(*linear)))
        if number or (numbers and self.current in self.varied):
            singles.append(number)
        if xs:
            singles.insert(
                0,
                self("mul", xs[0], ys[0])
                if len(xs) == 1
                else self._of_vectors(ops.dot, tuple(xs), tuple(ys)),
            )
        out = singles[0] if singles else number
        for x in singles[1:]:
            out = self("add", out, x)
        return out


def _only_users(order: Iterable[Value]) -> dict[Any, Any]:
    """The primitive of each operand's user, or None if there are several."""
    found: dict[Any, Any] = {}
    users: dict[int, Value] = {}  # of vectors, by their ids
    several = set[int]()  # vectors
    for v in order:
        for x in (v.x,) if v.y is v.x else (v.x, v.y):
            if type(x) is not tuple:
                found[x] = None if x in found else v.row
            elif users.setdefault(id(x), v) is v:
                found.update([(p, None if p in found else v.row) for p in {*x}])
            elif id(x) not in several:
                several.add(id(x))
                found.update(dict.fromkeys(x))
    return found


def _plain_sums(order: Iterable[Value], user: Mapping[Any, Any]) -> set[Value]:
    """Sums of no products: over the edges of a graph, they may begin alike, and stay whole.

    There are none if most go on from another whole sum, as sums up to each element do.
    """
    number_of: dict[Any, int] = {}  # the same for equal sums
    numbers: dict[tuple[int, int], int] = {}
    found, whole = set[Value](), list[Value]()
    for v in order:
        if v.row is ops.add and not any(p.row in (ops.mul, ops.dot) for p in parents(v)):
            x, y = (number_of.setdefault(p, -len(number_of)) for p in (v.x, v.y))
            number_of[v] = numbers.setdefault((x, y), len(numbers) + 1)
            found.add(v)
            if user[v] not in SUMS:
                whole.append(v)
    ends = {number_of[v] for v in whole}
    return found if 2 * sum(number_of[v.x] in ends for v in whole) < len(whole) else set()


def _mixed(order: Iterable[Value], user: Mapping[Any, Any], by_row: Iterable[Value]) -> set[Value]:
    """Products that are used several times, while others that are computed alike are used once.

    All of them are terms of the sums that they are in: of a node with one neighbour and of one with several.
    """
    form_of = forms(order, by_row)
    products = [v for v in order if v.row is ops.mul]
    once = {form_of[v] for v in products if user[v]}
    return {v for v in products if not user[v] and form_of[v] in once}


def _running_totals(
    order: list[Value], user: dict[Any, Any], form_of: dict[Any, Any]
) -> tuple[set[Value], set[Value]]:
    """Running totals from 0 on, as of `s -= x` in a loop, and the Values on the way to them.

    The totals are those of which some add, and some subtract, what is computed alike. Only those that begin
    with 0 count: x - y + z is exact where x and y are nearly equal, and x + z - y is not.
    """
    steps: dict[Any, int] = {}  # on the way to a Value
    added: dict[Any, set[Any]] = {}  # by all steps: how that is computed
    subtracted: dict[Any, set[Any]] = {}
    for v in order:
        if v.row in RUNNING:
            begins = is_zero(v.x) or (is_zero(v.y) and v.row is ops.add)
            goes_on = not begins and v.x in steps and user[v.x] in RUNNING
            if begins or goes_on:
                steps[v] = steps[v.x] + 1 if goes_on else 1
                added[v], subtracted[v] = (of[v.x] if goes_on else set() for of in (added, subtracted))
                x = v.x if is_zero(v.y) else v.y
                (added if v.row is ops.add else subtracted)[v].add(form_of.get(x))  # None for a leaf
    long = [v for v, n in steps.items() if n >= SEVERAL]
    forms_of = [set().union(*map(of.__getitem__, long)) for of in (added, subtracted)]
    both = forms_of[0] & forms_of[1] - {None}
    totals = {v for v in long if not both.isdisjoint(added[v] | subtracted[v])}
    on_the_way = set[Value]()
    for v in reversed(steps):
        is_one = v in totals or v in on_the_way or (steps[v] >= SEVERAL and subtracted[v])
        if is_one and v.x in steps and user[v.x] in RUNNING:
            on_the_way.add(v.x)
    return totals - on_the_way, on_the_way


def forms(order: Iterable[Value], by_row: Iterable[Value]) -> dict[Value, int]:
    """A number for each Value that is computed or data, the same for sums of more or fewer terms."""
    numbers: dict[Any, int] = {}
    form_of: dict[Any, int] = dict.fromkeys(by_row, -1)
    terms_of: dict[Any, frozenset[Any]] = {}  # of sums, a product being a sum of one
    vectors: dict[int, Any] = {}  # the forms of a vector's elements, by its id, and these without repeats
    get = form_of.get
    for v in order:
        x, y = v.x, v.y
        if v.row is None:
            continue
        if v.row is ops.dot:
            for xs in (x, y):
                if id(xs) not in vectors:
                    vectors[id(xs)] = (found := tuple(map(get, xs))), {*found}
            (xs, of_x), (ys, of_y) = vectors[id(x)], vectors[id(y)]
            one = len(of_x) == 1 or len(of_y) == 1
            key: Any = frozenset(itertools.product(of_x, of_y) if one else zip(xs, ys))
        elif v.row in (ops.add, ops.total) or (v.row is ops.sub and not (_number(x) or _number(y))):
            parts = [p for p in (x if v.row is ops.total else (x, y)) if not _number(p)]
            terms = [terms_of.get(p, ()) for p in parts]
            # A state that grows step by step would have the forms of all steps.
            few: list[Iterable[Any]] = [
                t if 0 < len(t) <= FEW_FORMS else (get(p),) for p, t in zip(parts, terms)
            ]
            if v.row is ops.sub:
                few = [*few[:-1], (("−", get(y)),)]
            key = frozenset(itertools.chain(*few))
        elif v.row is ops.mul:
            key = frozenset([(get(x), get(y))])
        else:
            key = (v.row, *(frozenset(map(get, p)) if type(p) is tuple else get(p) for p in (x, y)))
        if type(key) is frozenset:
            terms_of[v] = key
        form_of[v] = numbers.setdefault(key, len(numbers))
    return form_of


def _varied(order: Iterable[Value], by_row: Iterable[Value]) -> tuple[set[Value], dict[Any, Any]]:
    """Values that are computed alike but for leaves and numbers, if their numbers differ; and all forms."""
    forms: dict[Any, int] = {}  # a number for each way to compute
    choices: dict[Any, int] = {}  # a number for each choice of numbers
    form_of: dict[Any, Any] = dict.fromkeys(by_row, "by row")
    choice_of: dict[Value, Any] = {}
    alike: dict[int, tuple[list[Value], set[int]]] = {}
    get = form_of.get
    vectors: dict[int, Any] = {}  # the form of a tuple's elements, by the identity of the tuple
    for v in order:
        row, chosen = v.row, list[Any]()
        if row is None:
            if type(v) is Constant:
                form_of[v], choice_of[v] = float, v._data
            continue
        form: Any = [row]
        for x in (v.x, v.y):
            if type(x) is float:
                form.append(float)
                chosen.append(x)
            elif type(x) is tuple:
                if id(x) not in vectors:
                    vectors[id(x)] = forms.setdefault(tuple(map(get, x)), len(forms))
                form.append(vectors[id(x)])
            elif x is not None:
                form.append(get(x))
                if x in choice_of and (row in FACTORS or type(x) is Constant):
                    chosen.append(choice_of[x])
        key = frozenset(form) if row in COMMUTATIVE else tuple(form)
        form_of[v] = form = forms.setdefault(key, len(forms))
        if chosen:
            choice_of[v] = choice = choices.setdefault(tuple([(type(c), c) for c in chosen]), len(choices))
            members, found = alike.setdefault(form, ([], set()))
            members.append(v)
            found.add(choice)
    return {v for members, found in alike.values() if len(found) > 1 for v in members}, form_of


def _factors(x: Any) -> tuple[Any, ...]:
    """x as a term of a sum: a product as its two factors, anything else alone."""
    return (x.x, x.y) if _op(x, "mul") and not _number(x.x) else (x,)


def _products(xs: tuple[Any, ...], ys: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The terms of a dot; a number among its Values is a Value there."""
    return [tuple([x._data if type(x) is Constant else x for x in pair]) for pair in zip(xs, ys)]


def _is_product(term: tuple[Any, ...]) -> bool:
    """Whether a term of a sum is a product of two Values."""
    return len(term) == 2 and not _number(term[0]) and not _number(term[1])


def _is_zero_product(term: tuple[Any, ...]) -> bool:
    """Whether a term of a sum is the product of 0 and a Value."""
    return len(term) == 2 and _is(term[0], 0.0) and not _number(term[1])


def is_zero(x: Any) -> bool:
    return _is(x._data if type(x) is Constant else x, 0.0)


def are_same(x: Any, y: Any) -> bool:
    """Whether two operands are the same: Values by identity, numbers by value."""
    if type(x) is tuple and type(y) is tuple:
        return len(x) == len(y) and (all(map(is_, x, y)) or all(map(are_same, x, y)))
    return x is y or (_number(x) and _number(y) and x == y)


def _number(x: Any) -> bool:
    return type(x) is float


def _is(x: Any, *numbers: float) -> bool:
    return type(x) is float and x in numbers


def _op(x: Any, op: str) -> bool:
    return isinstance(x, Value) and x.row is PRIMITIVES[op]


def _kind_of(x: Any) -> Any:
    """A Value's primitive, None for a leaf; and the type of anything else."""
    return x.row if isinstance(x, Value) else type(x)


@functools.cache
def _rules_for(*kinds: Any) -> list[Rewrite]:
    """The rules for a primitive and operands of these kinds."""
    return [rule for of, rule in _OF_KINDS if all(x in (kind, Any) for kind, x in zip(kinds, of))]


def _scaled(x: Any) -> bool:
    return _op(x, "mul") and _number(x.x)


def _is_sum_of_one(x: Value) -> bool:
    return x.row is ops.total and len(x.x) == 1


def _is_nothing(x: Value) -> bool:
    """Whether x is a product with 0, in place of which others have products of Values."""
    return x.row is ops.mul and (_is(x.x, 0.0) or _is(x.y, 0.0))


def _is_normal(c: float, d: float) -> bool:
    """Whether c d is neither subnormal nor infinite, and so keeps all its digits."""
    return sys.float_info.min <= abs(c * d) < math.inf or (c * d == 0.0 and 0.0 in (c, d))


COMMUTATIVE = (ops.add, ops.mul, ops.maximum, ops.minimum, ops.equal, ops.logical_and, ops.logical_or)
_KINDS = {"c": float, "_": Any, **PRIMITIVES}
_OF_KINDS = [([_KINDS[x] for x in form.split()], rule) for _, form, rule in RULES]
