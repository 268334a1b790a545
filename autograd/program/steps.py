"""steps: all statements that are steps of a loop, in whatever order they come.

A loop is found where statements follow each other and are alike (see loops). More of its steps may be
elsewhere: the first and the last ones come in another order, and lack some statements. A statement belongs to
a step if it reads what its likes lead to expect: the same arrays, those of the step before, or the next
elements. Sums and products may have their operands in any order. Before the first step, a number may stand
for an array, as a state is 0 at first, and so may a part of the data or of leaves.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ..locks import cached_property
from .arrays import Array, Constant, Contract, Input, Leaf, Map, Select, Spread, Stack, Stacked, View, whole
from .simplify import COMMUTATIVE

MOST_TERMS = 16  # of a sum whose terms may come in any order
INLINE = 0.3  # of a line: what a statement takes that is used once
EARLY_END = 3  # lines


@dataclass(eq=False)
class Steps:
    """A loop's steps, and the first statements of one more that ends early."""

    complete: Sequence[Sequence[Array]]
    last: Sequence[Array] = ()

    @cached_property
    def alike(self) -> list[list[Array]]:
        """For each statement of a step, the arrays that it computes."""
        return [[*like, *self.last[j : j + 1]] for j, like in enumerate(zip(*self.complete))]

    @cached_property
    def arrays(self) -> list[Array]:
        """The arrays of all steps."""
        return [*itertools.chain(*self.complete), *self.last]

    @cached_property
    def carried(self) -> Carried | None:
        """What the loop carries on from step to step, or None if these steps are no loop."""
        return _carried(self.alike)


class Lag(NamedTuple):
    """How many steps before an operand was computed, and by which statement of a step."""

    steps: int
    of: int


@dataclass
class Carried:
    """The lags of operands that steps compute, by statement and operand; what stands for them at first."""

    lags: dict[tuple[int, int], Lag]
    before: dict[int, dict[int, Array]]


def slots(alike: Sequence[Array]) -> list[tuple[Any, ...]]:
    """For each operand of alike statements, the views or numbers of all of them."""
    return list(zip(*(itertools.chain(*array.terms) for array in alike)))


def _carried(alike: Sequence[Sequence[Array]]) -> Carried | None:
    found = Carried({}, defaultdict(dict))
    at = {array: (k, j) for j, like in enumerate(alike) for k, array in enumerate(like)}
    for j, like in enumerate(alike):
        for slot, views in enumerate(slots(like)):
            places = [at.get(x.array) if isinstance(x, View) else None for x in views]
            if not any(places):
                continue
            if places[-1] is None:
                return None
            lag, of = len(places) - 1 - places[-1][0], places[-1][1]
            if lag < 0 or (lag == 0 and of >= j):
                return None
            if any(places[:lag]) or places[lag:] != [(k, of) for k in range(len(places) - lag)]:
                return None
            for k, x in enumerate(views[:lag]):
                state = found.before[of].setdefault(lag - k, x.array)
                if state is not x.array or state.by_row != alike[of][0].by_row:
                    return None
            found.lags[j, slot] = Lag(lag, of)
    return found


@dataclass
class _Rule:
    """What an operand is at each step, from its views in two steps, of which `view` is in step `at`.

    Its array is that of statement `of` in the step `lag` steps before; or the same `array` in all steps; or
    one that another loop computes, `other`, and `stride` steps of that loop further with each step; or any.
    """

    view: Any
    at: int
    varies: bool  # whether a number differs from step to step
    moves: Sequence[int]
    of: int = -1
    lag: int = 0
    array: Array | None = None
    other: tuple[Growth, int, int] | None = None
    stride: int = 0

    def index(self, step: int) -> list[int]:
        return [i + move * (step - self.at) for i, move in zip(movable(self.view), self.moves)]

    @property
    def tells(self) -> bool:
        """Whether the operand may tell one step from another."""
        return isinstance(self.view, View) and (self.array is None or any(self.moves))


class _Division(NamedTuple):
    """Where a loop begins: the step before its first, of which the `moved` statements are in the loop.

    Each step consists of the moved ones of one step and of the others of the next. `early` has the places of
    statements for a last step, which may end early.
    """

    first: int
    moved: set[int]
    early: frozenset[tuple[int, int]]


class Growth:
    """A loop whose first and last steps are looked for.

    `place` has the loop, the step and the place in the step of all arrays that are in loops; `users` has the
    statements that read an array.
    """

    def __init__(
        self,
        steps: Sequence[Sequence[Array]],
        place: dict[Array, tuple[Growth, int, int]],
        users: Mapping[Array, Sequence[Array]],
    ):
        self._place, self._users, self._period = place, users, len(steps[0])
        self._first, self._end = 0, len(steps)
        self._arrays: dict[tuple[int, int], Array] = {}  # by step and place
        self._given: dict[tuple[int, int], Array] = {}  # the same, of arrays that are there before the steps
        self._terms: dict[Array, Any] = {}  # of statements, as they were before they were found
        for k, step in enumerate(steps):
            self._add(k, dict(enumerate(step)))
        # In the middle: the first and the last steps may read what is not in a loop.
        at = min(max(len(steps) // 2, 2), len(steps) - 1)
        self._rules = [
            [[self._rule(*pair, at) for pair in zip(*terms)] for terms in zip(x.terms, y.terms)]
            for x, y in zip(steps[at - 1], steps[at])
        ]
        self._readers: list[list[tuple[int, int, int, int]]] = [[] for _ in steps[0]]
        for j, rules in enumerate(self._rules):
            for t, s, rule in ((t, s, rule) for t, term in enumerate(rules) for s, rule in enumerate(term)):
                if rule.of >= 0:
                    self._readers[rule.of].append((j, t, s, rule.lag))
        while self._end > at + 1 and self._reads_else(self._end - 1):
            self._end -= 1
            self._remove(self._end)
        while self._first < at - 1 and self._reads_else(self._first):
            self._remove(self._first)
            self._first += 1

    def _add(self, step: int, arrays: Mapping[int, Array]) -> None:
        for j, array in arrays.items():
            self._arrays[step, j] = array
            self._place[array] = self, step, j

    def _remove(self, step: int) -> None:
        for j in range(self._period):
            del self._place[self._arrays.pop((step, j))]

    def _reads_else(self, step: int) -> bool:
        """Whether a step reads other arrays than those that another loop computes for it."""
        return any(
            rule.other and x.array is not self._expected(rule, step, {})
            for j, rules in enumerate(self._rules)
            for x, rule in zip(itertools.chain(*self._arrays[step, j].terms), itertools.chain(*rules))
        )

    def _rule(self, x: Any, y: Any, at: int) -> _Rule:
        if not isinstance(y, View):
            return _Rule(y, at, x != y, ())
        rule = _Rule(y, at, False, [b - a for a, b in zip(movable(x), movable(y))])
        here, there = (self._place.get(view.array, (None, 0, 0)) for view in (y, x))
        if here[0] is self:
            rule.lag, rule.of = at - here[1], here[2]
        elif x.array is y.array:
            rule.array = y.array
        elif here[0] and here[0] is there[0] and here[2] == there[2]:
            rule.other, rule.stride = here, here[1] - there[1]
        return rule

    def grow(self) -> Iterator[Steps]:
        """The steps with all statements that are more of them, begun where that makes the source short.

        Others follow that begin at another step: a statement that the first steps need may need them.
        """
        found = self._first
        while len(after := self._step(self._end)) == self._period:
            self._add(self._end, after)
            self._end += 1
        while len(before := self._step(self._first - 1, after)) == self._period:
            self._first -= 1
            self._add(self._first, before)
        self._add(self._end, after)
        self._add(self._first - 1, before)
        outer = self._read_elsewhere()
        divisions, tried = self._divisions(before, after, range(self._first + 1, found + 1)), set[int]()
        for division in sorted(divisions, key=lambda each: self._lines(each, outer)):
            if division.first not in tried and (steps := self._divided(division)).carried:
                tried.add(division.first)
                yield steps

    def settle(self, steps: Steps) -> None:
        """Be a loop of these steps: as they have grown, or as they were found."""
        own = {*steps.arrays}
        for of, arrays in steps.carried.before.items() if steps.carried else ():
            _, k, j = self._place[steps.complete[0][of]]
            self._given.update({(k - lag, j): array for lag, array in arrays.items()})
        for place, array in [*self._arrays.items()]:
            if array not in own:
                del self._arrays[place], self._place[array]
                if array in self._terms:
                    terms, array.by_row = self._terms[array]
                    _arrange(array, terms)
        for k, step in enumerate(steps.complete):
            self._add(k, {j: array for j, array in enumerate(step) if array not in self._place})

    def _divisions(
        self, before: Mapping[int, Array], after: Mapping[int, Array], later: Iterable[int]
    ) -> Iterator[_Division]:
        """The ways to divide the statements into steps, each begun with some of the step before.

        Those that begin with a `later` step have all of it.
        """
        moved = set(before)
        while needed := {
            j for j in moved if any(not lag and k not in moved for k, _, _, lag in self._readers[j])
        }:
            moved -= needed
        cuts = [moved, *({*range(j, self._period)} for j in range(self._period, 0, -1))]
        every = {*range(self._period)}
        ways = [(self._first - 1, {*before}, cuts), (self._first, every, cuts)]
        for first, there, cuts in [*ways, *((first, every, [every]) for first in later)]:
            for cut in cuts:
                if cut <= there and (cut or first < self._first):
                    yield _Division(first, cut, frozenset())
                    yield _Division(
                        first,
                        cut,
                        frozenset(
                            [
                                *((self._end - 1, j) for j in cut),
                                *((self._end, j) for j in after if j not in cut),
                            ]
                        ),
                    )

    def _divided(self, division: _Division) -> Steps:
        first, moved, early = division
        ends = {j for _, j in early}
        order = sorted(range(self._period), key=lambda j: (j not in moved, j not in ends))
        steps = [[self._arrays[k + (j not in moved), j] for j in order] for k in range(first, self._end - 1)]
        last = [self._arrays[self._end - (j in moved), j] for j in order[: len(early)]]
        return Steps([*steps, last]) if len(last) == self._period else Steps(steps, last)

    def _read_elsewhere(self) -> set[int]:
        """The statements of a step that are read by others than steps."""
        return {
            j
            for (_, j), array in self._arrays.items()
            if any(
                user not in self._place or self._place[user][0] is not self
                for user in self._users.get(array, ())
            )
        }

    def _lines(self, division: _Division, outer: Container[int]) -> float:
        """About how many lines the lists of a loop take, its early end, and statements that are not in it."""
        first, moved, early = division

        def is_inside(k: int, j: int) -> bool:
            return (k, j) in early or first + (j not in moved) <= k < self._end - (j in moved)

        ends = range(self._first - 1, first + 2), range(self._end - 1, self._end + 1)
        outside = [
            (k, j)
            for k in itertools.chain(*ends)
            for j in range(self._period)
            if (k, j) in self._arrays and not is_inside(k, j)
        ]
        lists = {
            j
            for j, readers in enumerate(self._readers)
            if j in outer or any(lag + (j not in moved) > (k not in moved) for k, _, _, lag in readers)
        }
        for place in outside:
            for view in self._arrays[place].views:
                loop, k, j = self._place.get(view.array, (None, 0, 0))
                if loop is self and is_inside(k, j):
                    lists.add(j)
        lines = [INLINE if len(self._users.get(self._arrays[place], ())) == 1 else 1.0 for place in outside]
        return len(lists) + EARLY_END * (0 < len(early) < self._period) + sum(lines)

    def _step(self, step: int, others: Mapping[int, Array] = {}) -> dict[int, Array]:
        """The statements of a step before the first or after the last, by place, as far as there are any.

        `others` has statements that are in another step.
        """
        found: dict[int, Array] = {}
        before = -1
        while before < len(found):  # what is found leads to its operands and to its users
            before = len(found)
            for j in [j for j in range(self._period) if j not in found]:
                right = {}
                for array in self._candidates(j, step, found):
                    if (
                        array not in self._place
                        and array not in others.values()
                        and array not in found.values()
                    ):
                        if (terms := self._arranged(array, j, step, found)) is not None:
                            right[array] = terms
                if len(right) == 1:
                    ((array, terms),) = right.items()
                    self._terms[array] = array.terms, array.by_row
                    _arrange(array, self._with_states(terms, j, step, found))
                    array.by_row = self._arrays[self._end - 1, j].by_row
                    found[j] = array
        return found

    def _candidates(self, j: int, step: int, found: Mapping[int, Array]) -> Iterable[Array]:
        """Statements that may be this one of a step."""
        given = set[Array]()
        for k, t, s, lag in self._readers[j]:
            reader = self._arrays.get((step + lag, k)) if lag else found.get(k)
            if reader is not None:
                x = reader.terms[t][s]
                if not isinstance(x, View):
                    return ()
                given.add(x.array)
        if given:  # no statement, where it is a number
            return given if len(given) == 1 and (step, j) not in self._given else ()
        known = [self._expected(x, step, found) for term in self._rules[j] for x in term if x.tells]
        read = [self._users[array] for array in known if array is not None and array in self._users]
        return min(read, key=len, default=[])

    def _expected(self, rule: _Rule, step: int, found: Mapping[int, Array]) -> Array | None:
        """The array that an operand has at a step, or None where that is not known."""
        if rule.of >= 0:
            at = step - rule.lag, rule.of
            array = self._arrays.get(at) if rule.lag else found.get(rule.of)
            return array or self._given.get(at)
        if rule.other:
            loop, k, j = rule.other
            at = k + rule.stride * (step - rule.at), j
            return loop._arrays.get(at) or loop._given.get(at)
        return rule.array

    def _arranged(self, array: Array, j: int, step: int, found: Mapping[int, Array]) -> Any:
        """The terms of an array in the order of its likes, or None if it is no statement of that step."""
        rules = self._rules[j]
        like = self._arrays[self._end - 1, j]
        # A product with a state that is 0 has rows only if the other factor has.
        first = step < self._first and like.by_row and all(user.by_row for user in self._users.get(array, ()))
        if _kind(array) != _kind(like) and not (first and _kind(array, by_row=True) == _kind(like)):
            return None
        if step >= self._end and any(
            rule.of >= 0 and not rule.lag and rule.of not in found for term in rules for rule in term
        ):
            return None

        def fits(x: Any, rule: _Rule) -> bool:
            if not isinstance(rule.view, View):
                return not isinstance(x, View) and (rule.varies or x == rule.view)
            expected = self._expected(rule, step, found)
            unknown = expected is None and rule.of >= 0 and step < self._first
            if not isinstance(x, View):  # a number for an array of the step before the first
                return not any(rule.moves) and (unknown or (expected is not None and state_of(expected) == x))
            if _is_state(x, rule):
                return unknown or (isinstance(expected, Spread) and _is_same_part(expected.view, x))
            by_row = rule.view.array.by_row
            if likeness(x, by_row) != likeness(rule.view) or movable(x) != rule.index(step):
                return False
            if by_row and not x.array.by_row:  # the same for all rows, before the first step or in it
                given = expected.view.array if isinstance(expected, Spread) else None
                return given is x.array or (unknown and (not rule.lag or isinstance(x.array, Leaf)))
            return x.array is expected or (expected is None and not rule.other)

        def assigned(terms: list[Any], rules: Sequence[Sequence[_Rule]]) -> list[Any] | None:
            if not rules:
                return []
            for i, term in enumerate(terms if is_sum else terms[:1]):
                orders: Iterator[Any] = itertools.permutations(term) if commutes else iter([term])
                for order in orders if len(term) == len(rules[0]) else ():
                    if all(map(fits, order, rules[0])):
                        rest = assigned(terms[:i] + terms[i + 1 :], rules[1:])
                        if rest is not None:
                            return [tuple(order), *rest]
            return None

        is_sum = isinstance(array, Contract) and len(rules) <= MOST_TERMS
        commutes = is_sum or (isinstance(array, Map) and array.row in COMMUTATIVE)
        terms = assigned(list(array.terms), rules)
        return terms if terms is not None and self._has_one_state(terms, j, step, found) else None

    def _has_one_state(self, terms: Sequence[Any], j: int, step: int, found: Mapping[int, Array]) -> bool:
        """Whether operands in the place of one array, before the first step, are one: not x and 0.3."""
        states: dict[tuple[int, int], Any] = {}
        for term, rules in zip(terms, self._rules[j]):
            for x, rule in zip(term, rules):
                if rule.of >= 0 and self._expected(rule, step, found) is None:
                    other = states.setdefault((step - rule.lag, rule.of), x)
                    if not (isinstance(x, View) and isinstance(other, View)):
                        same = x == other  # numbers
                    else:
                        same = _is_same_part(x, other) if _is_state(x, rule) else x.array is other.array
                    if not same:
                        return False
        return True

    def _with_states(
        self, terms: Sequence[Any], j: int, step: int, others: Mapping[int, Array]
    ) -> list[tuple[Any, ...]]:
        """Terms with an array in the place of each number that stands for one."""
        found = []
        for term, rules in zip(terms, self._rules[j]):
            factors = []
            for x, rule in zip(term, rules):
                of: Any = rule.view.array if isinstance(rule.view, View) else None
                given: View | None = None
                if isinstance(x, View) and _is_state(x, rule):
                    given = replace(x, axes=tuple(range(len(of.shape))))
                elif isinstance(x, View) and isinstance(x.array, Leaf) and rule.of >= 0 and of.by_row:
                    given = whole(x.array)
                elif of and not isinstance(x, View):
                    given = whole(Constant((), False, np.array(x)))
                if given:
                    state = self._expected(rule, step, others)
                    if state is None:
                        state = self._given[step - rule.lag, rule.of] = Spread(of.shape, of.by_row, given)
                    x = replace(rule.view, array=state)
                factors.append(x)
            found.append(tuple(factors))
        return found


def _is_state(x: View, rule: _Rule) -> bool:
    """Whether a part of the data or of leaves is in the place of an array that steps compute."""
    of = rule.view.array
    return (
        rule.of >= 0
        and isinstance(x, Select)
        and isinstance(x.array, Input | Leaf)
        and not x.takes_all
        and rule.view.takes_all
        and (x.axes, x.lengths) == (rule.view.axes, rule.view.lengths)
        and (of.by_row or not x.array.by_row)
    )


def _is_same_part(x: View, y: View) -> bool:
    """Whether two views have the same elements of an array, along whatever axes."""
    parts = [(view.array, view.shape, view.index) for view in (x, y) if isinstance(view, Select)]
    return len(parts) == 2 and parts[0] == parts[1]


def state_of(array: Array) -> float | None:
    """The number that all elements of an array are, if a loop begins with it."""
    inner = array.view.array if isinstance(array, Spread) else None
    return float(inner.numbers) if isinstance(inner, Constant) and not inner.shape else None


def _arrange(array: Array, terms: Sequence[Any]) -> None:
    """Let an array have these operands: those that it had in another order, or states in their place."""
    if isinstance(array, Contract):
        array.products = terms
    elif isinstance(array, Map):
        (array.operands,) = terms
    elif isinstance(array, Stack):
        array.pieces = [(view, n) for (view,), (_, n) in zip(terms, array.pieces)]
    elif isinstance(array, Stacked):
        array.members = [view.array for (view,) in terms]
    elif isinstance(array, Spread):
        ((array.view,),) = terms


def _kind(array: Array, by_row: bool | None = None) -> Any:
    """What alike statements share, apart from their operands."""
    own: Any = None
    if isinstance(array, Map):
        own = array.row
    elif isinstance(array, Contract):
        own = array.over_rows
    elif isinstance(array, Stack):
        own = tuple(n for _, n in array.pieces), array.order.tobytes()
    return type(array), array.shape, by_row or array.by_row, own, tuple(map(len, array.terms))


class Forms:
    """The forms of statements, and an order of the operands of sums and products that alike ones share.

    Operands are in the order of how they are computed, one step back.
    """

    def __init__(self, statements: Sequence[Array]):
        self._numbers: dict[Any, int] = {}
        self._computed: dict[Array, int] = {}
        self._orders: dict[Array, list[tuple[int, Sequence[int]]]] = {}
        self.reads: list[list[Any]] = []  # the operands of each statement, in that order
        self.of: list[int] = []  # a number for the form of each
        kinds = [self._number(_kind(array)) for array in statements]
        likes = [[self._like(x) for term in array.terms for x in term] for array in statements]
        for array, kind, like in zip(statements, kinds, likes):
            self._computed[array] = self._number((kind, *sorted(like)))
        for array, kind, like in zip(statements, kinds, likes):
            self._orders[array] = order = self._order(array)
            starts = [*itertools.accumulate(map(len, array.terms), initial=0)]
            flat = [starts[t] + s for t, at in order for s in at]
            operands = [x for term in array.terms for x in term]
            self.reads.append([operands[i] for i in flat])
            form: list[Any] = [like[i] for i in flat]
            if isinstance(array, Map):  # its numbers may vary
                form = [n if isinstance(x, View) else None for n, x in zip(form, self.reads[-1])]
            self.of.append(self._number((kind, *form)))

    def _number(self, form: Any) -> int:
        return self._numbers.setdefault(form, len(self._numbers))

    def _like(self, x: Any) -> tuple[int, float]:
        """What sorts an operand by its likeness: numbers come first."""
        return (1, self._number(likeness(x))) if isinstance(x, View) else (0, x)

    def _rank(self, x: Any) -> tuple[int, float]:
        if not isinstance(x, View):
            return 0, x
        return 1, self._number((self._computed.get(x.array), self._like(x)))

    def _order(self, array: Array) -> list[tuple[int, Sequence[int]]]:
        """The places of terms, and of their factors or operands, in the order that alike statements share."""
        terms = array.terms
        is_sum = isinstance(array, Contract)
        if not is_sum and not (isinstance(array, Map) and array.row in COMMUTATIVE):
            return [(t, range(len(term))) for t, term in enumerate(terms)]
        order = []
        for t, term in enumerate(terms):
            ranks = [*map(self._rank, term)]
            places = sorted(range(len(term)), key=ranks.__getitem__)
            order.append(([ranks[s] for s in places], t, places))
        return [(t, places) for _, t, places in sorted(order)]

    def arrange(self, array: Array, like: Array) -> None:
        """Let an array have its operands in the order of another that is alike."""
        if self._orders[array] != self._orders[like]:
            terms: list[list[Any]] = [[None] * len(term) for term in like.terms]
            for (of, own), (t, places) in zip(self._orders[array], self._orders[like]):
                for i, s in zip(own, places):
                    terms[t][s] = array.terms[of][i]
            _arrange(array, [*map(tuple, terms)])
            self._orders[array] = self._orders[like]


def likeness(x: Any, by_row: bool = False) -> Any:
    """The part of a factor or operand that does not move: all but its array and some indices.

    `by_row`: as if the array varied by row.
    """
    if not isinstance(x, View):
        return x
    kind = x.array.shape, by_row or x.array.by_row, x.axes
    if isinstance(x, Select):
        return *kind, x.shape, *map(_fixed, x.index)
    return *kind, x.positions.tobytes()  # type: ignore[attr-defined]


def _fixed(index: Any) -> Any:
    """The part of an index that does not move."""
    if isinstance(index, int):
        return "index"
    if slides(index):
        return "slice", index.stop - index.start, index.step
    return repr(index)


def slides(index: Any) -> bool:
    """Whether an index is a slice whose limits may move."""
    limits = isinstance(index, slice) and index.start is not None and index.stop is not None
    return limits and (index.step is None or index.step > 0)


def movable(x: Any) -> list[int]:
    """The numbers in a view's index that may move."""
    if not isinstance(x, Select):
        return []
    return [i if isinstance(i, int) else i.start for i in x.index if isinstance(i, int) or slides(i)]
