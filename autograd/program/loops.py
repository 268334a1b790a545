"""loops: runs of statements that are alike, each computed from the one before, become a loop.

    t = tanh(z[:, 0])
    t_2 = tanh(z[:, 1] + t @ w)           t = [tanh(z[:, 0])]
    t_3 = tanh(z[:, 2] + t_2 @ w)         for i in range(4):
    t_4 = tanh(z[:, 3] + t_3 @ w)             t.append(tanh(z[:, i + 1] + t[i] @ w))
    t_5 = tanh(z[:, 4] + t_4 @ w)

In a plan, operands come first, so that the steps of a loop follow each other. Statements are alike if they
differ only in numbers, in the arrays that they read, and in indices; arrays and indices have to move by the
same amount from each step to the next. A sum of terms that are alike becomes one sum over stacked arrays.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .arrays import (
    Array,
    Constant,
    Contract,
    Loop,
    Map,
    Member,
    Moving,
    Select,
    Series,
    Spread,
    Stacked,
    View,
    Window,
    whole,
)
from .plan import Plan
from .steps import Forms, Growth, Steps, likeness, movable, slides, slots, state_of

FEWEST_STEPS = 4  # of a loop; also the fewest terms of a sum
FEWEST_SAVED = 12  # statements that a loop has to save
LONGEST = 256  # statements of a step


def rolled(planned: Plan) -> Plan:
    """The same plan, with loops among its statements."""
    statements = [array for array in planned.arrays if array.terms]
    if len(statements) <= FEWEST_SAVED:
        return planned
    alike = _Alike(statements)
    if not (loops := _loops(alike)):
        return planned
    parts, known = _with_loops(alike, loops), {*planned.arrays}
    read = itertools.chain.from_iterable(array.views for array in statements)
    # Arrays that stand for numbers, or for parts of data and leaves.
    states = dict.fromkeys(view.array for view in read if view.array not in known)
    numbers = [view.array for state in states for view in state.views if view.array not in known]
    given = [array for array in planned.arrays if not array.terms]
    arrays = [*numbers, *given, *states, *statements]  # operands come first
    return _Roll(replace(planned, arrays=arrays), alike).plan([*states, *parts])


def _with_loops(alike: _Alike, loops: Iterable[tuple[int, int, int]]) -> list[Array | Steps]:
    """The statements, operands first, with these loops among them, each with all its steps."""
    place: dict[Array, Any] = {}
    found: list[Steps] = []
    order: list[Array | Steps] = [*alike.statements]
    for begin, period, length in loops:
        steps = [alike.statements[i : i + period] for i in range(begin, begin + period * length, period)]
        if not place.keys().isdisjoint(itertools.chain(*steps)):
            continue
        for step in steps:
            for array, like in zip(step, steps[-1]):
                alike.forms.arrange(array, like)
        growth = Growth(steps, place, alike.users)
        for choice in itertools.chain(growth.grow(), [Steps(steps)]):
            if len(choice.complete) >= FEWEST_STEPS and choice.carried:
                if with_it := _in_order(alike.statements, [*found, choice]):
                    order = with_it
                    found.append(choice)
                    break
        else:
            choice = Steps([])
        growth.settle(choice)
    return order


def _in_order(statements: Sequence[Array], loops: Iterable[Steps]) -> list[Array | Steps] | None:
    """The statements, operands first, with these loops among them; None if a loop needs what needs it."""
    own, loop_of = {*statements}, {array: loop for loop in loops for array in loop.arrays}
    begun, done = set[Any](), dict[Any, None]()
    stack: list[Any] = [loop_of.get(array, array) for array in reversed(statements)]
    while stack:
        part = stack.pop()
        if part in done:
            continue
        if part in begun:  # all that it needs is done
            done[part] = None
            continue
        begun.add(part)
        arrays = [part] if isinstance(part, Array) else part.arrays
        read = [view.array for array in arrays for view in array.views if view.array in own]
        needed = dict.fromkeys(p for p in (loop_of.get(array, array) for array in read) if p is not part)
        if any(p in begun and p not in done for p in needed):
            return None
        stack += [part, *reversed(needed)]
    return [*done]


class _Alike:
    """Which statements are alike, and by how much their operands move from one to another."""

    def __init__(self, statements: Sequence[Array]):
        self.statements = statements
        self.place = {array: i for i, array in enumerate(statements)}
        self.forms = Forms(statements)
        self.form, self.reads = np.array(self.forms.of), self.forms.reads
        self._indices = [[movable(x) for x in reads] for reads in self.reads]
        self.users: dict[Array, list[Array]] = defaultdict(list)
        for array, reads in zip(statements, self.reads):
            for operand in dict.fromkeys(x.array for x in reads if isinstance(x, View)):
                self.users[operand].append(array)

    def moves(self, p: int, period: int) -> tuple[Any, ...]:
        """By how much each operand of statement p moves to that of the statement a period later."""
        q, moves = p + period, list[Any]()
        for x, y, i, j in zip(self.reads[p], self.reads[q], self._indices[p], self._indices[q]):
            if not isinstance(x, View):
                moves.append(0 if repr(x) == repr(y) else "number")
            elif x.array is y.array:
                moves.append((0, *(b - a for a, b in zip(i, j))))
            elif x.array in self.place and y.array in self.place:
                moves.append((self.place[y.array] - self.place[x.array], *(b - a for a, b in zip(i, j))))
            elif x.array in self.place or y.array in self.place:
                moves.append(("none", p))
            else:
                moves.append(("leaf", *(b - a for a, b in zip(i, j))))
        return tuple(moves)


def _alike(members: Sequence[Array]) -> list[Array]:
    """The members of a list: if some have rows, those that are the same for all rows get rows, too."""
    with_rows = any(x.by_row for x in members)
    return [Spread(x.shape, True, whole(x)) if with_rows and not x.by_row else x for x in members]


def _loops(alike: _Alike) -> list[tuple[int, int, int]]:
    """The start, period and length of every loop in the statements, in order."""
    found, ranges = [], [(0, len(alike.form))]
    while ranges:
        start, stop = ranges.pop()
        best = max(_candidates(alike, start, stop), default=None, key=lambda each: each[0])
        if best:
            _, first, period, length = best
            found.append((first, period, length))
            ranges += [(start, first), (first + period * length, stop)]
    return sorted(found)


def _candidates(alike: _Alike, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Loops in a range of the statements: how many each saves, then its start, period and length."""
    form, most = alike.form[start:stop], FEWEST_SAVED - 1
    runs = []
    for period in range(1, min(LONGEST, len(form) // FEWEST_STEPS) + 1):
        fewest = max((FEWEST_STEPS - 1) * period, FEWEST_SAVED)
        found = _stretches(form[period:] == form[:-period], fewest)
        runs += [(n, period, start + first) for first, n in found]
    for n, period, first in sorted(runs, key=lambda run: (-run[0], run[1])):
        if n <= most:
            return  # a loop saves at most n
        numbers: dict[Any, int] = {}
        moves = [alike.moves(p, period) for p in range(first, first + n)]
        number = np.array([numbers.setdefault(move, len(numbers)) for move in moves])
        for at, m in _stretches(number[period:] == number[:-period]):
            steps = m // period + 2
            if (steps - 1) * period > most and steps >= FEWEST_STEPS - 1:
                most = (steps - 1) * period
                yield most, first + at, period, steps


def _stretches(true: np.ndarray, fewest: int = 1) -> list[tuple[int, int]]:
    """The start and length of each run of at least so many True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true, [False]]).astype(np.int8)))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    long = lengths >= fewest
    return [*zip(starts[long].tolist(), lengths[long].tolist())]


class _Roll:
    """A plan's statements as they become loops."""

    def __init__(self, planned: Plan, alike: _Alike):
        self._planned, self._users, self._outputs = planned, alike.users, {*planned.lifted.outputs}
        self._unnoticed = set(planned.unnoticed)
        self._series: dict[Array, list[tuple[Series, int]]] = defaultdict(list)  # an array's places in lists
        self._states: dict[Series, list[Array]] = {}  # arrays that stand for numbers, and begin a list
        self._lists: dict[tuple[Array, ...], Series] = {}
        self._stacks: dict[tuple[Array, ...], Stacked] = {}
        self._new: list[Any] = [array for array in planned.arrays if not array.terms]
        self._written: dict[Array, Array] = {}

    def plan(self, parts: Iterable[Array | Steps]) -> Plan:
        """The plan of these statements and loops."""
        for part in parts:
            if isinstance(part, Array):
                self._new.append(part)
            else:
                self._loop(part)
        after: list[Any] = []
        for statement in self._new:
            if isinstance(statement, Contract):
                self._sum(statement, after)
            after.append(statement)
        return replace(self._planned, statements=after, written=self._written, unnoticed=self._unnoticed)

    def _loop(self, steps: Steps) -> None:
        """Add these steps as a loop."""
        on = steps.carried
        assert on, "these steps are no loop"
        own = {*steps.arrays}
        lists = {lag.of for lag in on.lags.values() if lag.steps}
        lists |= {
            j for j, like in enumerate(steps.alike) if any(self._is_used_elsewhere(a, own) for a in like)
        }
        series = {}
        for j in sorted(lists):
            given = [on.before[j][lag] for lag in sorted(on.before[j], reverse=True)]
            series[j] = Series(_alike([*given, *steps.alike[j]]), len(given))
            self._begin(series[j])
        body: list[Array] = []
        for j, like in enumerate(steps.alike):
            operands = []
            for slot, views in enumerate(slots(like)):
                lag = on.lags.get((j, slot))
                if lag and lag.steps:
                    array: Any = self._member(series[lag.of], series[lag.of].given - lag.steps, 1)
                else:
                    array = body[lag.of] if lag else self._operand(views)
                operands.append(_at_step(views, array))
            new = _computed(like[0], operands)
            if not self._unnoticed.isdisjoint(like):
                self._unnoticed.add(new)
            body.append(new)
        listed = {body[j]: each for j, each in series.items()}
        self._new.append(Loop(steps.complete, steps.last, body, listed))

    def _is_used_elsewhere(self, array: Array, own: set[Array]) -> bool:
        """Whether an output or a statement that is none of these needs an array."""
        return array in self._outputs or not own.issuperset(self._users[array])

    def _begin(self, series: Series) -> None:
        """Add a list where the last of its given arrays is computed, or last if any is in another list."""
        given = [] if any(map(self._series.get, series.members)) else series.members[: series.given]
        places = [i for i, statement in enumerate(self._new) if any(statement is array for array in given)]
        if places and self._new[places[-1]].terms:
            self._new[places[-1]] = series
        else:
            self._new.append(series)
        for i, member in enumerate(series.members):
            self._series[member].append((series, i))
        if states := [array for array in series.members[: series.given] if state_of(array) is not None]:
            self._states[series] = states

    def _operand(self, views: Sequence[Any]) -> Any:
        """One array or number for those that the steps read."""
        first = views[0]
        if not isinstance(first, View):
            if all(repr(x) == repr(first) for x in views):
                return first
            arrays: list[Array] = [Constant((), False, np.array(x)) for x in views]
        else:
            arrays = [view.array for view in views]
            if all(array is arrays[0] for array in arrays):
                return arrays[0]
        for series, start in self._series[arrays[0]]:
            places = [i for array in arrays for s, i in self._series[array] if s is series]
            stride = places[1] - start if len(places) == len(arrays) else 0
            if stride and places == [start + stride * k for k in range(len(arrays))]:
                return self._member(series, start, stride)
        key = tuple(arrays)
        if key not in self._lists:
            self._lists[key] = Series(_alike(arrays), len(arrays))
            self._new.append(self._lists[key])
            for i, array in enumerate(arrays if len({*arrays}) == len(arrays) else ()):
                self._series[array].append((self._lists[key], i))
        return self._member(self._lists[key], 0, 1)

    def _member(self, series: Series, start: int, stride: int) -> Member:
        array = series.members[0]
        member = Member(array.shape, array.by_row, series, start, stride)
        if not self._unnoticed.isdisjoint(series.members):
            self._unnoticed.add(member)
        return member

    def _sum(self, array: Contract, before: list[Any]) -> None:
        """Write terms that are alike as one term over stacked arrays, which are added to `before`."""
        groups: dict[Any, list[tuple[Any, ...]]] = defaultdict(list)
        for term in self._with_states(array.products):
            groups[tuple(self._group(x) for x in term)].append(term)
        products: list[tuple[Any, ...]] = []
        for terms in groups.values():
            for run in self._runs_of_terms(terms):
                products += [self._stacked_term(array, run, before)] if len(run) >= FEWEST_STEPS else run
        if len(products) < len(array.products):
            self._written[array] = replace(array, products=products)

    def _with_states(self, products: Sequence[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        """Products in which a number is a list's first array, if that has this number: 0 x, beside h[i] x."""
        numbers = {term[0] for term in products if len(term) == 2 and not isinstance(term[0], View)}
        if not numbers:
            return products
        like: dict[Any, tuple[bool, View]] = {}  # a state, by its number and what it multiplies
        for term in products:
            if len(term) == 2 and all(isinstance(x, View) for x in term):
                for x, other in zip(term, term[::-1]):
                    for series, _ in self._series[x.array]:
                        for state in self._states.get(series, ()):
                            found = x is term[0], replace(x, array=state)
                            like.setdefault((state_of(state), self._group(other)), found)

        def with_state(number: Any, x: Any = None) -> tuple[Any, ...]:
            comes_first, state = like.get((number, self._group(x)), (True, number))
            return (state, x) if comes_first else (x, state)

        return [with_state(*term) if len(term) == 2 and term[0] in numbers else term for term in products]

    def _group(self, x: Any) -> Any:
        """The part of a factor that stays from term to term: all but the place in a list, or an index."""
        if isinstance(x, Select) and self._series[x.array]:
            return self._series[x.array][0][0], likeness(x), tuple(movable(x))
        if isinstance(x, Select):
            return x.array, likeness(x), tuple(i.start for i in x.index if isinstance(i, slice))
        return (x.array, id(x)) if isinstance(x, View) else x

    def _place(self, x: Any) -> tuple[int, ...]:
        """The part of a factor that may move."""
        if not isinstance(x, Select):
            return ()
        if self._series[x.array]:
            return (self._series[x.array][0][1],)
        return tuple(i for i in x.index if isinstance(i, int))

    def _runs_of_terms(self, terms: list[tuple[Any, ...]]) -> list[list[tuple[Any, ...]]]:
        """Terms in runs, through which each factor moves evenly or not at all."""
        if len(terms) < FEWEST_STEPS:
            return [terms]
        in_series = [isinstance(x, View) and bool(self._series[x.array]) for x in terms[0]]
        # Indices first: slices with a positive step are simpler.
        order = sorted(range(len(terms[0])), key=lambda i: in_series[i])
        places = {term: [self._place(term[i]) for i in order] for term in terms}
        runs: list[list[tuple[Any, ...]]] = []
        step: Any = None
        for term in sorted(terms, key=places.__getitem__):
            if runs:
                before, now = places[runs[-1][-1]], places[term]
                move = [tuple(b - a for a, b in zip(x, y)) for x, y in zip(before, now)]
                even = sum(map(any, move)) and all(sum(map(bool, each)) < 2 for each in move)
                if even and (len(runs[-1]) == 1 or move == step):
                    runs[-1].append(term)
                    step = move
                    continue
            runs.append([term])
        return runs

    def _stacked_term(
        self, array: Array, terms: Sequence[tuple[Any, ...]], before: list[Any]
    ) -> tuple[Any, ...]:
        """One term that sums these terms along a new axis."""
        axes = [axis for x in terms[0] if isinstance(x, View) for axis in x.axes]
        axis, factors = max([len(array.shape) - 1, *axes]) + 1, []
        for factor in zip(*terms):
            first, members = factor[0], tuple(x.array for x in factor if isinstance(x, View))
            if not members:
                factors.append(first)
            elif all(member is first.array for member in members):
                factors.append(_along(first, factor[1], len(terms), axis))
            else:
                if members not in self._stacks:
                    stacked = len(members), *first.array.shape
                    self._stacks[members] = Stacked(stacked, first.array.by_row, members)
                    before.append(self._stacks[members])
                index, shape = (slice(None), *first.index), (len(members), *first.shape)
                factors.append(Select(self._stacks[members], (axis, *first.axes), index, shape))
        return tuple(factors)


def _along(first: Any, second: Any, n: int, axis: int) -> Any:
    """n views of one array, of which the first two are given, as one view with a new axis."""
    if not isinstance(first, Select):
        return first
    index, along, axes = list[Any](), list[int](), iter(first.axes)
    for i, j in zip(first.index, second.index):
        if isinstance(i, int) and i != j:
            stop = i + (j - i) * n
            index.append(slice(i, stop if stop >= 0 else None, j - i if j - i != 1 else None))
            along.append(axis)
        else:
            index.append(i)
            along += itertools.islice(axes, 0 if isinstance(i, int) else 2 if isinstance(i, Window) else 1)
    whole_axis = [slice(None) if i == slice(0, n, None) else i for i, n in zip(index, first.shape)]
    return replace(first, axes=tuple(along), index=tuple(whole_axis))


def _at_step(views: Sequence[Any], array: Any) -> Any:
    """The view of `array` at any step, with moving indices; `views` has the view of each step."""
    first, second = views[:2]
    if not isinstance(array, Array):
        return array
    if not isinstance(first, View):
        return whole(array)
    if not isinstance(first, Select):
        return replace(first, array=array)
    index: list[Any] = []
    pairs: Iterable[Any] = zip(first.index, second.index)
    for i, j in pairs:
        if isinstance(i, int):
            index.append(Moving(i, j - i) if i != j else i)
        elif slides(i):
            move = j.start - i.start
            index.append(slice(Moving(i.start, move), Moving(i.stop, move), i.step) if move else i)
        else:
            index.append(i)
    return replace(first, array=array, index=tuple(index))


def _computed(array: Any, operands: Sequence[Any]) -> Any:
    """A copy of an array, computed from these operands."""
    if isinstance(array, Map):
        return replace(array, operands=tuple(operands))
    if isinstance(array, Contract):
        rest = iter(operands)
        return replace(array, products=[tuple(itertools.islice(rest, len(t))) for t in array.products])
    if isinstance(array, Spread):
        return replace(array, view=operands[0])
    if isinstance(array, Stacked):
        return replace(array, members=[view.array for view in operands])
    return replace(array, pieces=[(view, n) for view, (_, n) in zip(operands, array.pieces)])
