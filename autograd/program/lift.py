"""lift: the arrays in a graph of scalars.

Scalars of one primitive whose operands lie in the same arrays form an array. Its axes are found by
comparing coordinates: a coordinate of the operands' elements is a column of numbers, one for each scalar,
and equal columns are one axis. Columns that agree make an element-wise operation; columns that run through
a grid make an outer product; an axis along which the terms of a sum run is contracted, as in a matrix
product. The examples are one more axis, of everything that depends on an input. Operands that do not line
up are gathered element by element.

An operand lies along the axes if its positions are affine in them, with integer strides: an axis of its
array is then a slice, or splits into several, x[4 i + j], or is a window along two, x[i + k].
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import ops
from ..graph import parents, topological_order
from ..ops import REDUCTIONS, VECTOR_ROWS
from ..value import Constant as Number
from ..value import Value, applied
from . import grids
from .arrays import (
    Array,
    Input,
    Leaf,
    Rows,
    Select,
    Stack,
    View,
    coordinates,
    listing,
    reached,
    size,
)
from .gradients import Gradients
from .grids import Runs
from .places import LEAF, MOST_PIECES, NUMBER, gathers, is_number, number_of, vectors
from .products import Product
from .scalars import Scalars, shapes_of
from .simplify import COMMUTATIVE
from .uneven import FEWEST, lie_anywhere

MOST_COMPARED = 64  # groups of one row
MOST_TRIED = 3  # groups that others may be like
MANY_STEPS = 10  # which pay for an array of the operands of few Values
SMALLEST = 5  # groups of fewer Values are not worth an array of their operands
INDICES = re.compile(r" *[0-9]+ *(, *[0-9]+ *)*\]")  # of a label such as w[0, 1], after the bracket
STRICT = (ops.add, ops.sub, ops.mul, ops.neg, ops.dot, ops.total)  # finite only if their operands are
ADDED = (ops.dot, ops.add, ops.total)  # their adjoints are factors in the gradient by weights


class _Group:
    """Values of one signature that may be formed, and what they have in common with others."""

    def __init__(self, key: Any, phase: tuple[bool, ...]):
        self.key, self.phase = key, phase
        self.members: list[Value] = []
        self.height = -1  # of the Value that is farthest from the outputs
        self.is_map = _is_map(key)
        self.terms = _terms_of(key)
        self.operands = {x for kind, _ in key[1:] for x in kind if x >= 0}
        self.form, self.family = ("form", _form_of(key)), ("family", _family(key))
        self.rows = [("row", row, phase) for row in _rows_of(key)]


class _Groups:
    """Groups by signature."""

    def __init__(self, phase_of: Callable[[Any], tuple[bool, ...]]) -> None:
        self.by_key: dict[Any, _Group] = {}
        self.tried: dict[Any, set[Any]] = defaultdict(set)  # attempts to form groups together
        self._phase_of = phase_of
        self._farthest: list[tuple[int, int, _Group]] = []  # a heap by height, the oldest first
        self._count = itertools.count()
        self._alike: dict[Any, dict[_Group, None]] = defaultdict(dict)  # by what they have in common
        self._known = set[Any]()  # the keys of all groups that were ever here
        self._new = set[Any]()  # forms of some that were not here before

    def add(self, key: Any, v: Value, height: int) -> None:
        """Add a Value, of that height, to the group of a key."""
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = _Group(key, self._phase_of(key))
            for common in (group.form, group.family, *group.rows):
                self._alike[common][group] = None
            if key not in self._known:
                self._known.add(key)
                self._new.add(group.form)
        group.members.append(v)
        if height > group.height:
            self._alike[group.form, group.height].pop(group, None)
            self._alike[group.form, height][group] = None
            group.height = height
            heapq.heappush(self._farthest, (-height, next(self._count), group))

    def remove(self, group: _Group) -> list[Value]:
        """The members of a group, which is no longer here."""
        for common in (group.form, group.family, *group.rows, (group.form, group.height)):
            del self._alike[common][group]
        return self.by_key.pop(group.key).members

    def farthest(self) -> _Group:
        """A group that is farthest from the outputs."""
        while self.by_key.get((group := heapq.heappop(self._farthest)[2]).key) is not group:
            pass
        return group

    def like(self, common: Any) -> Collection[_Group]:
        """The groups that have this form, family or row in common, or a form and a height."""
        return self._alike[common]

    def with_new(self, form: Any) -> Collection[_Group]:
        """The groups of a form, if there are several, some of which are new since the last call."""
        found = self._alike[form] if form in self._new else ()
        self._new.discard(form)
        return found if len(found) > 1 else ()


def lift(scalars: Scalars) -> Lifted:
    """The arrays of a graph; where Products are irregular, Values take their place."""
    while (lifted := Lifted(scalars)).irregular:
        scalars = scalars.without(lifted.irregular)
    return lifted


class Lifted(Gradients):
    """The arrays of a graph of scalars, operands first.

    `leaves` has the arrays of live leaves; `results` those of f's outputs, or of the mean; and `gradient`, if
    it is wanted, an array of the same shape for each of `leaves`.
    """

    def __init__(self, scalars: Scalars):
        super().__init__()
        self.scalars = scalars
        self._find(scalars)
        outputs, by_row = iter(scalars.outputs), scalars.kind == "rows" and scalars.by_row
        self.results = [
            self.stacked(shape, list(itertools.islice(outputs, math.prod(shape))), by_row)
            for shape in shapes_of(scalars.form)
        ]
        self.irregular: list[Product] = []
        self.gradient = [*map(self._gradient, self.leaves)] if scalars.kind == "gradient" else []

    @property
    def outputs(self) -> list[Array]:
        """The results, and then the gradient by leaf array."""
        return [*self.results, *self.gradient]

    def __str__(self) -> str:
        return listing(reached(self.outputs) if self._became else self.arrays, self.outputs)

    def _find(self, scalars: Scalars) -> None:
        """Put every scalar into an array."""
        values = [v for v in scalars.wanted() if isinstance(v, Value)]
        inputs, leaves, rows = scalars.inputs, scalars.leaves, scalars.rows
        order = topological_order(*values)[::-1]  # first operands come before second ones
        known = {rows, *scalars.input_leaves}
        self._rank = {v: i for i, v in enumerate(leaves)}
        # Users wait for their operands, but for live leaves.
        self._users = {v: [] for v in [*known, *order]}
        self._missing: dict[Any, int] = {}  # how many of a user's operands are in no array
        self._ready: list[Value] = []
        self._heights: dict[Any, int] = {}  # how many steps lead from each to an output
        # The Values that a Value is the adjoint of; and the adjoints of sums that are in arrays, by the array
        # of the sums and the place in it.
        self._primals: dict[Value, list[Value]] = defaultdict(list)
        self._adjoints: dict[int, dict[int, Value]] = defaultdict(dict)
        for v, adjoint in scalars.adjoints.items():
            if isinstance(a := scalars.latest(adjoint), Value):
                self._primals[a].append(scalars.latest(v))
        for leaf, gradient in scalars.gradient.items():
            if isinstance(gradient, Value):
                self._primals[gradient].append(leaf)
        self._beside |= self._primals
        self._products = {v: product for product in scalars.products for v in product.weights}
        self._members: dict[int, list[Value]] = defaultdict(list)  # of each array, by its number
        self._stacked_once: set[Value] = set()  # Values that were operands when they were stacked
        self._moved: set[int] = set()  # the numbers of arrays whose elements are in another one now

        def awaited(operands: Iterable[Any]) -> set[Any]:
            return {p for p in operands if isinstance(p, Value) and (p.row or p in known)}

        for v in order:  # here users come before operands
            users = self._users[v]
            height = self._heights[v] = 1 + max([self._heights[user] for user in users], default=-1)
            if v not in self._beside and len(users) == 1 and isinstance(users[0], Value):
                if users[0] in self._beside and users[0].row in STRICT:
                    self._beside[v] = self._beside[users[0]]
            if v.row in VECTOR_ROWS:
                for x in (v.x,) if v.y is None else (v.x, v.y):
                    if id(x) not in self._users:
                        self._users[id(x)] = []
                        self._wait(id(x), awaited(x))
                    self._heights[id(x)] = max(height, self._heights.get(id(x), 0))
                self._wait(v, {id(x) for x in (v.x, v.y) if self._missing.get(id(x))})
            elif v.row:
                self._wait(v, awaited(parents(v)))
            if v.row and not self._missing[v]:
                self._ready.append(v)
        for i, array in enumerate(inputs):
            self._place(self._new(Input(array.shape, scalars.by_row, i)), array.ravel())
        self._place(self._new(Rows((), False)), [rows])
        self._place_declared()
        self._form_all()
        for v in order:
            if v not in self._at and not isinstance(v, Number):  # a leaf that is an output, and no operand
                self._place_leaf_array((), [v])
        self.leaves = [array for array in self.arrays if isinstance(array, Leaf)]
        first = {array: i for i, array in enumerate(_in_use(self.arrays, len(self.leaves)))}
        self.leaves.sort(key=lambda leaf: first.get(leaf, len(first)))

    def _gradient(self, leaf: Leaf) -> Array:
        """The gradient by an array of leaves."""
        products = [*dict.fromkeys(self._products[v] for v in leaf.values.flat if v in self._products)]
        if products and (found := self.by_products(leaf.values, self._products)):
            return found
        self.irregular += products
        return self.stacked(leaf.shape, [self.scalars.gradient.get(v, 0.0) for v in leaf.values.flat])

    def _wait(self, user: Any, operands: set[Any]) -> None:
        self._missing[user] = len(operands)
        for p in operands:
            self._users[p].append(user)

    def replace(self, became: Mapping[Array, Array]) -> None:
        """Let other arrays of the same shapes and elements stand for these."""
        self._became = became
        self.results = [became.get(array, array) for array in self.results]
        self.gradient = [became.get(array, array) for array in self.gradient]

    def _place(self, array: Array, members: Iterable[Value], at: Iterable[int] | None = None) -> None:
        members = [*members]
        if isinstance(array, Input | Leaf) and array not in self._needed:
            self._needed[array] = [*map(self._is_needed, members)]
        self._put(array, members, at if at is not None else itertools.count())
        for v in members:
            for z in self._primals.get(v, ()):
                if z in self._at and z.row in ADDED:
                    of = self._adjoints[self._kind[z]]
                    of[self._at[z]] = v
                    if len(of) == size(self.arrays[self._kind[z]]):
                        self._stack_adjoints(self.arrays[self._kind[z]], [of[k] for k in range(len(of))])
            for user in self._users.get(v, ()):
                self._missing[user] -= 1
                if self._missing[user]:
                    continue
                if isinstance(user, Value):
                    self._ready.append(user)
                    continue
                for w in self._users[user]:
                    self._missing[w] -= 1
                    if not self._missing[w]:
                        self._ready.append(w)

    def _put(self, array: Array, values: Iterable[Value], at: Iterable[int]) -> None:
        """Say where Values are."""
        number = self._numbers[array]
        for v, i in zip(values, at):
            self._kind[v], self._at[v] = number, i
            self._members[number].append(v)

    def _is_needed(self, v: Value) -> bool:
        """Whether v is an operand of a Value that is finite only if v is."""
        users = self._users.get(v, ())
        rows = (user.row if isinstance(user, Value) else self._users[user][0].row for user in users)
        return any(row in STRICT for row in rows)

    def _stack_adjoints(self, sums: Array, adjoints: list[Value]) -> None:
        """Stack the adjoints of an array of sums, if they lie in a few slices: of gates, of several losses.

        The gradient by weights then is one product, as the sums are.
        """
        runs = grids.runs_of([(self.arrays[self._kind[v]], self._at[v]) for v in adjoints])
        arrays = {array for array, _ in runs}
        if (
            not 1 < len(arrays) <= len(runs) <= MOST_PIECES
            or len({*adjoints}) < max(SMALLEST, len(adjoints))
            or len({*map(self.phase, arrays)}) > 1
        ):
            return
        self._moved.update(map(self._numbers.__getitem__, arrays))
        self._stack(adjoints, runs, sums.shape)

    def _stack(self, values: Sequence[Value], runs: Runs, shape: tuple[int, ...]) -> None:
        """Let Values that lie in these runs be the elements of a new array."""
        first = runs[0][0]
        if len(shape) == 1 and all(
            a.shape == first.shape and where == [*range(size(a))] for a, where in runs
        ):
            shape = (len(runs), *first.shape)
        pieces = [(grids.view_of(array, np.array(where)), len(where)) for array, where in runs]
        stack = self._new(Stack(shape, first.by_row, pieces, np.arange(len(values))))
        self._put(stack, values, itertools.count())

    # Which scalars form an array

    def _form_all(self) -> None:
        """Form arrays until every Value is in one.

        The group that is farthest from the outputs comes first: others may grow while they wait. Values with
        a live leaf that is in no array yet wait until nothing else is left.
        """
        groups = _Groups(self._phase_of)
        waiting: list[Value] = []
        while self._ready or groups.by_key or waiting:
            for group in list(groups.by_key.values()) if self._moved else ():
                if any(not self._moved.isdisjoint(kind) for kind, _ in group.key[1:]):
                    self._ready += groups.remove(group)
            self._moved.clear()
            ready, self._ready = self._ready, []
            vector_kinds: dict[int, set[int]] = {}
            for v in ready:
                kinds = self._kinds(v, vector_kinds)
                if any(LEAF in kind for kind in kinds):
                    waiting.append(v)
                else:
                    groups.add((v.row, *sorted(kinds.items())), v, self._heights[v])
            if not groups.by_key:
                self._place_leaves(waiting)
                self._ready, waiting = waiting, []
                continue
            group = groups.farthest()
            if self._form_with_kin(group, groups):
                continue
            if self._stack_operands(groups.like((group.form, group.height))):
                continue
            if mates := groups.with_new(group.form):
                if self._stack_operands(mates, only_apart=True):
                    continue
                if self._stack_operands(self._twins(group, mates), twins=True):
                    continue
            self._form_each(self._by_number(groups.remove(group)))

    def _form_with_kin(self, group: _Group, groups: _Groups) -> bool:
        """Make one array of a group and of groups that are like it; return if there is one."""
        for way, kin in self._kin(group, groups):
            before = [groups.tried[way, each.key, len(each.members)] for each in kin]
            if not set.intersection(*before):
                if self._form_together(kin):
                    for each in kin:
                        groups.remove(each)
                    return True
                attempt = object()
                for attempts in before:
                    attempts.add(attempt)
        return False

    def _kin(self, group: _Group, groups: _Groups) -> Iterator[tuple[str, tuple[_Group, ...]]]:
        """Some groups, `group` among them, that may be one, and how they are alike.

        First come those that differ by numbers or a lack of terms, then those with other arrays, and then
        sums over the same arrays. All vary by row or none does: sums over the rows are of what varies.
        """
        for row in group.rows:
            alike = groups.like(row)
            if not 1 < len(alike) <= MOST_COMPARED:
                continue
            near = [other for other in alike if not other.operands.isdisjoint(group.operands)]
            for is_alike in (_differ_by_numbers, _share_operands) if len(near) > 1 else ():
                large = [other for other in near if other is group or is_alike(group, other)]
                if len(large) < 2:
                    continue
                for base in heapq.nlargest(MOST_TRIED, large, key=lambda each: len(each.members)):
                    kin = tuple(other for other in alike if other is base or is_alike(other, base))
                    if len(kin) > 1 and group in kin and sum(len(k.members) for k in kin) >= SMALLEST:
                        yield is_alike.__name__, kin
        family = groups.like(group.family)
        if len(family) > 1:
            yield "family", tuple(family)

    def _phase_of(self, key: Any) -> tuple[bool, ...]:
        """The phase of the Values of a signature."""
        phases = [self.phase(self.arrays[x]) for kind, _ in key[1:] for x in kind if x >= 0]
        return tuple(map(any, zip(*phases, (False, False))))

    def _form_together(self, kin: Sequence[_Group]) -> bool:
        """Make one array of groups whose operands are in other arrays, or numbers; return if it is one."""
        members = [v for group in kin for v in group.members]
        if all(group.is_map for group in kin):
            _, (kinds, _) = max(kin, key=lambda group: len(group.members)).key
            several = [(members, self.bordered(members, kinds))]
        elif found := self.padded(members):
            several = [(members, found)]
        else:
            several = [(some, self.padded(some)) for some in self.in_directions(members)]
            long = [v for group in kin if sum(n for _, n in group.key[1:]) > 2 for v in group.members]
            alike = len({group.family for group in kin}) == 1 or 2 * len(long) > len(members)
            if not several and alike and self._are_irregular([group.members for group in kin]):
                several = [(members, self.scattered(members))]
        if not several or not all(found and found[0].by_row == kin[0].phase[0] for _, found in several):
            return False  # 0 x is in no array
        for some, found in several:
            if found:
                self._place(found[0], [some[i] for i in found[1]])
        return True

    def _are_irregular(self, groups: Collection[list[Value]]) -> bool:
        """Whether most Values of these groups have operands that are not evenly spaced."""
        irregular = sum(len(group) for group in groups if gathers(self._laid_out(group)[-1]))
        return 2 * irregular > sum(map(len, groups))

    def _twins(self, group: _Group, others: Iterable[_Group]) -> list[_Group]:
        """A group of one Value, and others from which many alike steps lead on; [] if there are none.

        So do two calls of a function of one number; the steps of both then are steps of one array.
        """
        (v, *rest) = group.members
        if rest:
            return []
        single = (other for other in others if len(other.members) == 1 and other is not group)
        tried = itertools.islice(single, MOST_TRIED)
        alike = [other for other in tried if self._steps_alike(v, other.members[0]) >= MANY_STEPS]
        return [group, *alike] if alike else []

    def _steps_alike(self, v: Value, w: Value) -> int:
        """How many Values are computed in the same way from v and from w, up to MANY_STEPS."""
        twin: dict[Value, Value] = {v: w}

        def users(x: Value) -> Iterator[Value]:
            for user in self._users[x]:
                yield from (user,) if isinstance(user, Value) else self._users[user]

        def are_alike(x: Any, y: Any) -> bool:
            return twin.get(x) is y or self._kind[x] == self._kind[y] != LEAF

        waiting = [v]
        while waiting and len(twin) < MANY_STEPS:
            x = waiting.pop()
            for user, other in itertools.product(users(x), users(twin[x])):
                if user not in twin and user.row is other.row and user is not other:
                    operands, others = (itertools.chain(*vectors(z)) for z in (user, other))
                    if all(map(are_alike, operands, others)):
                        twin[user] = other
                        waiting.append(user)
        return len(twin)

    def _stack_operands(
        self, mates: Collection[_Group], only_apart: bool = False, twins: bool = False
    ) -> bool:
        """Stack operands of groups that differ only in their operands' arrays, if the result is regular.

        One operand of all groups has to be in one array, at different places for each group. Four groups or
        more may share places; with `only_apart`, only if they are sums of products. Both do not matter for
        `twins`. Returns whether operands are stacked.
        """
        if len(mates) < 2 or not (twins or _have_an_array_in_common(mates)):
            return False
        groups = [mate.members for mate in mates]
        if sum(map(len, groups)) < SMALLEST and not twins:
            return False
        slots = list(zip(*(zip(*map(vectors, group)) for group in groups)))
        arrays = [{self._kind[x] for rows in slot for row in rows for x in row} for slot in slots]
        anchors = [slot for slot, found in zip(slots, arrays) if len(found) == 1 and NUMBER not in found]
        if twins:
            places = [[i] for i in range(len(groups))]
        elif anchors:
            places = [[self._at[row[0]] for row in rows] for rows in anchors[0]]
        else:
            return False
        apart = len({*itertools.chain(*places)}) == sum(len({*of_group}) for of_group in places)
        if not apart and ((only_apart and groups[0][0].row not in VECTOR_ROWS) or len(groups) < 4):
            return False
        members = [(p, i, j) for i, of_group in enumerate(places) for j, p in enumerate(of_group)]
        if apart:
            members.sort(key=lambda member: member[0])
        before: dict[Value, tuple[int, int]] = {}
        moved: set[int] = set()
        for i, found in enumerate(arrays):
            given = any(isinstance(self.arrays[kind], Input | Leaf | Rows) for kind in found)
            if len(found) == 1 or given or NUMBER in found:
                continue
            values = list(dict.fromkeys(x for _, g, j in members for x in slots[i][g][j]))
            if not self._stacked_once.isdisjoint(values):  # two groups could stack them in turn, without end
                continue
            runs = grids.runs_of([(self.arrays[self._kind[v]], self._at[v]) for v in values])
            if len({self.phase(array) for array, _ in runs}) > 1 or len(runs) > len(found) + 1:
                continue
            moved |= found
            before.update((v, (self._kind[v], self._at[v])) for v in values)
            self._stack(values, runs, (len(values),))
            self._stacked_once.update(values)
        if moved:
            group = [groups[g][j] for _, g, j in members]
            parts = [grids.aligned(self._located(part))[0] for part in self._parts(group)]
            if len(parts) > 1 or not grids.node_axes(parts, len(group))[2]:
                for v, (kind, at) in before.items():
                    self._kind[v], self._at[v] = kind, at
                return False
        self._moved |= moved
        return bool(moved)

    def _form_each(self, groups: Iterable[list[Value]]) -> None:
        """Make an array of each group; if that moves operands, the others are ready for other groups."""
        for group in groups:
            if self._moved:
                self._ready += group
            else:
                self._form(group)

    def _form(self, group: list[Value]) -> None:
        """Make an array of the Values of one signature."""
        v, *others = group
        if not others and v.row not in VECTOR_ROWS:
            return self._form_one(v)
        if v.row is ops.total and len(v.x) == 1:  # these are no other numbers than their terms
            first = v.x[0]
            return self._place(self.arrays[self._kind[first]], group, [self._at[w.x[0]] for w in group])
        if v.row in (ops.add, ops.sub) and self._form_with_rest(group):
            return None
        where, along, shape, order, regular, terms = self._laid_out(group)
        if not regular and others:
            same = grids.same_operands(where).tolist()
            if max(same) + 1 < len(group):
                return self._form_equal(group, same)
        if gathers(terms) and (v.row in VECTOR_ROWS or v.row in COMMUTATIVE):
            if v.row in VECTOR_ROWS and (found := self.padded(group)):
                return self._place(found[0], [group[i] for i in found[1]])
            where, along, shape, order, regular, terms = self._laid_out(group, around=True)
        ways = grids.in_ways(where, len(group)) if gathers(terms) else []
        if gathers(terms) and not ways and self._are_around(group):
            return self._form(group)
        if not regular and (gathers(terms) or any(map(_is_flat, itertools.chain(*terms)))):
            directions = self.in_directions(group) if v.row in VECTOR_ROWS else []
            if directions:
                return self._form_each(directions)
            if v.row in (ops.dot, ops.total, ops.add) and (found := self.scattered(group)):
                return self._place(found[0], [group[i] for i in found[1]])
            n, few = len(group), len(group) < SMALLEST  # few are not worth a grid that they fill by half
            places = grids.divided(where, n) or (grids.by_element(where, n) if few else [])
            if not places and v.row not in REDUCTIONS and (filled := grids.filled(where, n)):
                array = self.partial(v.row, *filled, along)
                return self._place(array, group, filled[1].tolist())
            if not places and not ways:
                places = grids.by_distance(where, n) or grids.by_numbers(where, n)
            if places and not (n >= FEWEST and grids.has_no_step(where)):
                return self._form_each([[group[i] for i in some] for some in places])
        if ways:
            return self._form_each([[group[i] for i in some] for some in ways])
        if gathers(terms) and v.row in VECTOR_ROWS and 1 < len(group) <= MOST_PIECES:
            alone = [[v] for v in group]
            if not any(gathers(self._laid_out(each)[-1]) for each in alone):
                return self._form_each(alone)
        self._place(self._computed(v.row, shape, terms), [group[i] for i in order])

    def _are_around(self, group: list[Value]) -> bool:
        """Let arrays have a shape in which a group's operands lie around a ring or torus; return if so."""
        near = itertools.chain(*map(vectors, group), [self._operands_beside(group[0])])
        found = {kind for kind in {self._kind[x] for xs in near for x in xs} if kind not in self._grids}
        lengths = {kind: size(self.arrays[kind]) for kind in found if kind >= 0}
        for n in sorted({*lengths.values()}):
            kinds = [kind for kind in lengths if lengths[kind] == n]
            for shape in self._shapes(kinds, n) if 3 <= n <= 2 * len(group) else ():
                if len(shape) == 1 and len(group) != n:
                    continue
                self._grids |= {kind: self._reshaped(self.arrays[kind], shape) for kind in kinds}
                where, *_, terms = self._laid_out(group, around=True)
                if not gathers(terms) or grids.in_ways(where, len(group)):
                    return True
                for kind in kinds:
                    del self._grids[kind]
        return False

    def _shapes(self, kinds: Iterable[int], n: int) -> Iterable[tuple[int, ...]]:
        """The shapes that arrays of n elements may have: those of the others, those of grids, and a ring."""
        given = dict.fromkeys(self.arrays[kind].shape for kind in kinds)
        split = [(n // m, m) for m in range(2, n // 2 + 1) if n % m == 0] if (n,) in given else []
        return dict.fromkeys([*(given if len(given) > 1 else ()), *split, (n,)])

    def _form_equal(self, group: list[Value], same: list[int]) -> None:
        """Make an array of Values of which some have the same operands: a sum of one is no other number."""
        first: dict[int, Value] = {}
        for v, number in zip(group, same):
            first.setdefault(number, v)
        self._form([*first.values()])
        for v, w in zip(group, map(first.__getitem__, same)):
            if w not in self._at:
                self._ready.append(v)
            elif v is not w:
                self._place(self.arrays[self._kind[w]], [v], [self._at[w]])

    def _laid_out(self, group: list[Value], around: bool = False) -> Any:
        """How a group's Values lie along axes, and their operands along these, or `around` rings.

        That is the parts of their terms, the axes along each, the shape of an array of the Values, their
        order, whether they are evenly spaced, and the terms.
        """
        row, located = group[0].row, [*map(self._located, self._parts(group))]
        if around and row in COMMUTATIVE:
            located = [*map(grids.in_turn, located)]
        parts = [grids.aligned(part, around) for part in located]
        if row in REDUCTIONS and (len(parts) > 1 or any(map(self._has_twice, group))):
            parts = [grids.aligned([self._side_by_side(group)])]
        where, along = [part for part, _ in parts], [along for _, along in parts]
        own = functools.partial(self._own_coordinates, group)
        shape, order, regular = grids.node_axes(where, len(group), row is ops.dot, own)
        covered = [array for part in where for array, at in part if array and grids.covers(at, array)]
        choices = [(shape, order)]
        if regular and len(covered) > 1 and len(shape) > max(len(array.shape) for array in covered):
            if beside := grids.axes_of(own()):
                choices.insert(0, beside)  # operands may go on around a ring
        for shape, order in choices:
            in_order = [[(array, positions[order]) for array, positions in part] for part in where]
            terms = self._terms(in_order, along, shape)
            if not gathers(terms):
                break
        if gathers(terms) and row in VECTOR_ROWS and row not in REDUCTIONS:
            terms = self._apart(terms, in_order, shape) or terms
        return where, along, shape, order, regular, terms

    def _form_with_rest(self, group: list[Value]) -> bool:
        """Make one array of sums x + y, and of other x that are used like these; return if there is one.

        So is a matrix to whose diagonal something is added: the sums are at least as many as its rows, and
        at most half of the elements.
        """
        row, operands = group[0].row, [(v.x, v.y) for v in group]
        for kind in {self._kind[x] for x in operands[0][: 1 if row is ops.sub else 2]} - {NUMBER}:
            pairs = [(x, y) if self._kind[x] == kind else (y, x) for x, y in operands]
            at, other, array = {self._at[x] for x, _ in pairs}, self._kind[pairs[0][1]], self.arrays[kind]
            n = sum(not (is_number(y) and number_of(y) == 0.0) for _, y in pairs)
            if other == kind or len(at) < len(group) or not len(at) < size(array) <= n * n:
                continue
            of_sums = set[Any]().union(*map(self._next_rows, group))
            rest = [x for x in self._members[kind] if self._kind[x] == kind and self._at[x] not in at]
            rest = [x for x in rest if not of_sums.isdisjoint(self._next_rows(x))]
            before, after = self.phase(array), self._phase_of((row, ((kind, other), 1)))
            if len(rest) + len(group) < 2 * n or before != after:
                continue
            if other == NUMBER:
                sums = [applied(row, *pair) for pair in (*pairs, *((x, 0.0) for x in rest))]
                found = self.bordered(sums, (kind, other))
            else:
                signs = 1.0, -1.0 if row is ops.sub else 1.0
                sums = [applied(ops.dot, signs[: len(xs)], xs) for xs in (*pairs, *((x,) for x in rest))]
                found = self.padded(sums)
            if found:
                place = np.argsort(found[1]).tolist()
                self._put(found[0], rest, place[len(group) :])
                self._place(found[0], group, place)
                self._moved.add(kind)
                return True
        return False

    def _next_rows(self, v: Value) -> set[Any]:
        """The primitives of what is computed from v and is in no array yet."""
        users = [[user] if isinstance(user, Value) else self._users[user] for user in self._users.get(v, ())]
        return {user.row for user in itertools.chain(*users) if user not in self._at}

    def _has_twice(self, v: Value) -> bool:
        """Whether two terms of a reduction are one element of an array."""
        return len({(self._kind[x], self._at.get(x, x)) for x in v.x}) < len(v.x)

    def _side_by_side(self, group: list[Value]) -> tuple[Array, np.ndarray]:
        """An array of the operands of all terms of a group, and their positions there."""
        terms = [x for v in group for x in vectors(v)[0]]
        stacked = self._stacked((len(terms),), terms)
        return stacked, np.arange(len(terms)).reshape(len(group), -1)

    def _by_number(self, group: list[Value]) -> list[list[Value]]:
        """The group itself or, if operands occur with several numbers, several groups.

        There is a group for each number or, if those are many, for what computes with the products: for the
        cosines and sines of a rotation, one for each coordinate of the result.
        """
        numbers: dict[Any, list[Value]] = {}
        by_user: dict[Any, list[Value]] = defaultdict(list)
        times: Counter[Any] = Counter()  # of an operand, for users of these kinds
        others = set()
        for v in group:
            term = [x for (x,) in vectors(v)] if v.row not in VECTOR_ROWS else []
            fixed = tuple([number_of(x) for x in term if is_number(x)])
            if not fixed:
                return [group]
            numbers.setdefault(fixed, []).append(v)
            other = tuple([x for x in term if not is_number(x)])
            users = tuple([user.op if isinstance(user, Value) else "" for user in self._users[v]])
            others.add(other)
            times[other, users] += 1
            by_user[users, times[other, users]].append(v)
        outer = len(numbers) > 3 and len(others) * len(numbers) == len(group)
        if outer or len(others) == len(group):
            return [group]
        many = len(numbers) > 3 and len(group) < SMALLEST * len(numbers)
        return list(by_user.values() if many else numbers.values())

    def _form_one(self, v: Value) -> None:
        """Make an array of one Value, as _form would, without the time that NumPy takes."""
        term: list[Any] = []
        for (x,) in vectors(v):
            if is_number(x):
                term.append(number_of(x))
            else:
                array, position = self.arrays[self._kind[x]], self._at[x]
                term.append(Select(array, (), coordinates(position, array.shape), array.shape))
        self._place(self._computed(v.row, (), [tuple(term)]), [v])

    # Which live leaves form an array

    def _place_declared(self) -> None:
        """Put leaves into the arrays that the user declared.

        Labels name[0,0], name[0,1], ... through a whole grid declare an array; so do arrays and nested lists
        if half of them is used: a stencil leaves the corners out. One of several lists of the same length
        that dots take may be a row of a matrix, which use will tell.
        """
        declared: dict[tuple[str, int], dict[tuple[int, ...], Value]] = {}
        names: Counter[str] = Counter()
        for v in self._rank:
            name, _, rest = self.scalars.label(v).partition("[")
            names[name] += 1
            if INDICES.fullmatch(rest) and v in self._users:
                index = tuple(map(int, rest[:-1].split(",")))
                declared.setdefault((name, len(index)), {})[index] = v
        for (name, _), grid in declared.items():
            shape = tuple(max(index) + 1 for index in zip(*grid))
            if math.prod(shape) == len(grid) == names[name]:
                self._place_leaf_array(
                    grids.without_ones(*shape), [grid[index] for index in np.ndindex(*shape)]
                )
        lists = Counter(len(array) for array in self.scalars.declared if array.ndim == 1)
        homes = Counter(itertools.chain.from_iterable(array.flat for array in self.scalars.declared))
        dots = {id(x): x for v in self.scalars.order if v.row is ops.dot for x in (v.x, v.y)}
        in_dots = set(itertools.chain.from_iterable(dots.values() if lists else ()))
        for array in self.scalars.declared:
            if array.ndim == 1 and (
                (lists[len(array)] > 1 and len(in_dots.intersection(array)) > 1)
                or any(homes[v] > 1 or self.scalars.label(v) for v in array)
            ):
                continue
            members = list(dict.fromkeys(array.flat))
            used = [v for v in members if v in self._rank and v in self._users]
            diagonal = len(array) if array.ndim > 1 else 0  # pairs i < j leave that out
            free = not any(v in self._at or (v in self._users and v not in self._rank) for v in members)
            if free and len(members) == array.size > 1 and 2 * len(used) >= array.size - diagonal:
                self._place_leaf_array(grids.without_ones(*array.shape), members)

    def _place_leaves(self, waiting: list[Value]) -> None:
        """Put the leaves that some of the waiting Values use into arrays, as those Values use them.

        Values that multiply leaves with an array come first, and a dot before others: rows of a matrix.
        """
        groups: dict[Any, list[Value]] = {}
        for v in waiting:
            groups.setdefault((v.row, *sorted(self._kinds(v).items())), []).append(v)

        def rank(signature: Any) -> tuple[bool, bool]:
            op, *kinds = signature
            anchored = any(LEAF in kind and max(kind) >= 0 for kind, _ in kinds)
            return anchored, op is ops.dot

        first = max(groups, key=rank)
        if leaves := self._scattered_leaves(groups, first):
            return self._place_leaf_array((len(leaves),), leaves)
        for terms in self._parts(groups[first]):
            for leaves, others in zip(terms, terms[::-1]):  # the same two, if there is one operand
                if LEAF in (self._kind[x] for row in leaves for x in row):
                    self._place_leaves_of(leaves, others)

    def _scattered_leaves(self, groups: Mapping[Any, list[Value]], signature: Any) -> list[Value]:
        """The leaves that multiply elements from anywhere in an array, as weights of edges do; or []."""
        (_, *kinds), family = signature, _family(signature)
        if len(kinds) > 1 or family[0] is not ops.dot or not min(kinds[0][0]) == LEAF < 0 <= max(kinds[0][0]):
            return []
        sums = [v for key, group in groups.items() if _family(key) == family for v in group]
        pairs = [[(x, y) if x in self._at else (y, x) for x, y in zip(*vectors(v))] for v in sums]
        leaves = [leaf for of in pairs for _, leaf in of]
        places = [[sorted(self._at[x] for x, _ in of)] for of in pairs]
        if len(sums) < FEWEST or len({*leaves}) < len(leaves) or not lie_anywhere(places):
            return []
        return sorted(leaves, key=self._rank.__getitem__)

    def _place_leaves_of(self, leaves: list[list[Value]], others: list[list[Any]]) -> None:
        """Put leaves, a row for each Value and a column for each term, into an array.

        If the others, their partners in products or sums, are in arrays, the leaves lie as these do, and
        otherwise as given.
        """
        first = [min(self._rank[leaf] for leaf in row) for row in leaves]
        rows: list[Any] = list(dict.fromkeys(tuple(leaves[i]) for i in np.argsort(first, kind="stable")))
        shape = grids.without_ones(len(rows), len(rows[0]))
        if all(self._kind[x] >= 0 for row in others for x in row):
            located = self._located([others])
            ((_, where),) = located
            terms = np.argsort(where, axis=1, kind="stable")
            nodes = np.lexsort((first, np.min(where, axis=1)))
            rows = list(dict.fromkeys(tuple(leaves[i][t] for t in terms[i]) for i in nodes))
            aligned, along = grids.aligned(located)
            if len(rows) == len(leaves) and not along:
                shape, *_ = grids.node_axes([aligned], len(leaves))
            else:
                shape = (*grids.without_ones(len(rows)), *along)
        members = [leaf for row in rows for leaf in row]
        distinct = [leaf for leaf in dict.fromkeys(members) if leaf not in self._at]
        if len(distinct) < len(members):
            shape = grids.without_ones(len(distinct))
        self._place_leaf_array(shape, distinct)

    def _place_leaf_array(self, shape: Sequence[int], leaves: list[Value]) -> None:
        data = np.empty(len(leaves), dtype=object)
        data[:] = leaves
        self._place(self._new(Leaf(tuple(shape), False, data.reshape(tuple(shape)))), leaves)


def _is_flat(x: Any) -> bool:
    """Whether an operand is a view of an array as if it had one axis, where it has several."""
    return isinstance(x, Select) and len(x.shape) == 1 < len(x.array.shape)


def _is_map(key: Any) -> bool:
    """Whether the operands of a signature's row have places of their own, unlike the terms of a sum."""
    return key[0] not in VECTOR_ROWS and key[0] is not ops.add


def _have_an_array_in_common(groups: Iterable[_Group]) -> bool:
    """Whether the Values of all groups have operands in one array."""
    common: set[int] | None = None
    for group in groups:
        kinds = {x for kind, _ in group.key[1:] for x in kind if x != NUMBER}
        common = kinds if common is None else common & kinds
        if not common:
            return False
    return True


def _rows_of(key: Any) -> list[Any]:
    """What keys share whose groups may be one, if operands are in other arrays or numbers, or are missing."""
    row, *kinds = key
    rows: list[Any] = [(row, len(kinds[0][0]))] if kinds and _is_map(key) else []
    if row in REDUCTIONS:
        rows.append(row)
    elif not rows or row is ops.mul:  # a product is a sum of one
        rows.append(ops.dot)
    return rows


def _differ_by_numbers(group: _Group, other: _Group) -> bool:
    """Whether groups of one row have the same operands, but for numbers; or if sums lack terms."""
    if not (group.is_map and other.is_map):
        terms, others = group.terms, other.terms
        return not terms.isdisjoint(others) and (terms <= others or others <= terms)
    of_other = other.key[1][0]
    return any(
        any(x == y >= 0 for x, y in zip(way, of_other))
        and all(x == y or NUMBER in (x, y) for x, y in zip(way, of_other))
        for way in _ways(group)
    )


def _share_operands(group: _Group, other: _Group) -> bool:
    """Whether groups of one row share an operand in one array or, as sums, terms of one kind."""
    if not (group.is_map and other.is_map):
        return not group.terms.isdisjoint(other.terms)
    of_other = other.key[1][0]
    return any(x == y >= 0 for way in _ways(group) for x, y in zip(way, of_other))


def _ways(group: _Group) -> tuple[tuple[int, ...], ...]:
    """The kinds of the operands of a Map, in the orders in which they may stand."""
    kind = group.key[1][0]
    return (kind, kind[::-1]) if group.key[0] in COMMUTATIVE else (kind,)


def _terms_of(key: Any) -> set[Any]:
    """The kinds of terms, in a sum's signature, that are in arrays."""
    if key[0] is ops.add:
        return {(x,) for kind, _ in key[1:] for x in kind if x >= 0}
    return {tuple(sorted(kind)) for kind, _ in key[1:] if NUMBER not in kind}


def _family(key: Any) -> Any:
    """The key of all sums over the same arrays, of any number of terms; a product is a sum of one."""
    row, *counts = key
    kinds = {tuple(sorted(kind)) for kind, _ in counts}
    if any(NUMBER in kind for kind in kinds):
        return key
    if row in (ops.dot, ops.mul):
        return ops.dot, *sorted(kinds)
    if row in REDUCTIONS and len(kinds) == 1:
        return row, *kinds
    if row in (ops.total, ops.add):
        return ops.total, *sorted({(x,) for kind in kinds for x in kind})
    return key


def _in_use(arrays: Iterable[Array], n: int) -> dict[Array, None]:
    """The arrays of leaves in the order of their first use, but for products with 0, until there are n."""
    found: dict[Array, None] = {}
    for array in arrays:
        views = [x for term in array.terms if 0.0 not in term for x in term if isinstance(x, View)]
        found.update((view.array, None) for view in views if isinstance(view.array, Leaf))
        if len(found) == n:
            break
    return found


def _form_of(key: Any) -> Any:
    """The common part of signatures that differ only in the arrays of their operands."""
    row, *kinds = key
    if len(kinds) > 1:
        return key
    return row, *sorted((tuple([x == NUMBER for x in kind]), n) for kind, n in kinds)
