"""check_gradients: compares derivatives with differences, to within the error of the differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from . import ops
from .graph import dependents, operands, topological_order
from .node import Node, data_of
from .program.compiled import argument_names
from .transforms import ArgNums, P, TracedCall, formed, jacobian, numbers_in, paths, places_of, table_of
from .value import Value

FEWEST_STEPS, MOST_STEPS, RATIO = 10, 26, 4.0  # a ladder's fewest and most steps, and their ratio
SAFETY = 32.0  # errors of 10,000 derivatives of random programs were up to 13 times their estimate
EPSILON, TINY = 2.0**-52, 2.0**-1022
UNITS = 64.0  # rounding errors that the difference of two programs may have
SHOWN = 20  # rows of the table in the message


def check_gradients(f: Callable[P, Any], *args: Any, order: int = 1, argnums: ArgNums | None = None) -> None:
    """Compare the derivatives of f at args with central differences; AssertionError if one is wrong.

    f, args and argnums are as for jacobian; argnums are by default all args. Derivatives up to `order` are
    compared, each with differences of the derivatives one order lower.

    Each element x is moved by two ladders of steps, one from 1/16 down and one from about |x| / 16; a step is
    a quarter of the one before. A ladder ends after ten steps or more, when rounding hides all else.
    Richardson's extrapolation estimates the limit for step 0; the estimate with the smallest error counts,
    unless finer steps contradict it. The error is the change by the last extrapolation (Ridders, Advances in
    Engineering Software 4, 1982), plus the rounding errors of f and of the derivative. The bound is 32 times
    the error. As a rule, the check finds a derivative that is off by a relative 1e-9, and sees features of f
    that are 1e-5 wide.

    The message is a table of the derivatives that are off by more than their bound, and of the places without
    a derivative: kinks, where the slopes on both sides differ by more than their bounds; jumps, where the
    differences do not settle, as their bound exceeds f's rounding and its usual slope; ends of f's domain.
    Raises ArithmeticError where f or a derivative is not finite at args, ValueError where an argument is not.

    >>> check_gradients(lambda x, y: x * y**2, 3.0, 2.0, order=2)  # silent, because the derivatives are right
    >>> try:
    ...     check_gradients(lambda x: x * x.data, 3.0)  # .data is a number: its derivative is lost
    ... except AssertionError as error:
    ...     print(str(error).splitlines()[0])
    the graph and differences disagree on 1 of 1 derivatives:
    """
    places = places_of(f, range(len(args)) if argnums is None else argnums)
    with TracedCall(f, places, args, {}) as call:
        given = [v._data for v in call.variables]
    names = argument_names(f, len(args))
    elements = [path for i in places for path in paths(names[i], args[i])]
    for element, x in zip(elements, given):
        if not math.isfinite(x):
            raise ValueError(f"{element} is {x}: differences are taken at finite numbers")

    def moved(numbers: list[float]) -> list[Any]:
        """args, with these numbers in the arguments that f is differentiated by."""
        new = list(args)
        for i, argument in zip(places, formed(table_of([numbers]), 0.0, call.arguments)):
            new[i] = argument
        return new

    def at(function: Callable[..., Any], numbers: list[float]) -> np.ndarray:
        """The function's outputs, and bounds of their rounding errors: shape (2, outputs)."""
        with TracedCall(function, places, moved(numbers), {}) as call:
            outputs = call.outputs
            graph = topological_order(*(x for x in outputs if isinstance(x, Value)))
            error = rounding_errors(dependents(graph, call.variables))
            roundings = [error.get(x, EPSILON * abs(data_of(x))) for x in outputs]
            return np.array([list(map(data_of, outputs)), roundings])

    def along(function: Callable[..., Any], i: int) -> Callable[[float], np.ndarray]:
        """`at` as a function of the i-th number."""
        return lambda x: at(function, [*given[:i], x, *given[i + 1 :]])

    name = getattr(f, "__name__", "f")
    derived: list[tuple[str, ...]] = [(path,) for path in paths(name.replace("<lambda>", "f"), call.result)]
    function = _flat(f)
    rows, count = [], 0
    for _ in range(order):
        derivative = _flat(jacobian(function, places))
        by_graph = np.array([data_of(y) for y in derivative(*moved(given))]).reshape(len(derived), len(given))
        try:
            rounding = at(derivative, given)[1].reshape(by_graph.shape)
        except (TypeError, ValueError):  # derive refuses local derivatives that are not the table's
            rounding = 0.0 * by_graph
        count += by_graph.size
        for i, x in enumerate(given):
            by_differences, bends, bounds, settled = _differences(along(function, i), x, rounding[:, i])
            for k, of in enumerate(derived):
                slope, bend, bound = by_differences[k], bends[k], bounds[k]
                if math.isnan(slope):
                    note = _gap(along(function, i), x)
                elif bend:
                    note = f"a kink: slope {slope - bend:.4g} on its left, {slope + bend:.4g} on its right"
                else:
                    note = "" if settled[k] else "they do not settle"
                if note or abs(by_graph[k, i] - slope) > bound:
                    rows.append((_title(*of, elements[i]), by_graph[k, i], slope, bound, note))
        derived = [(*of, by) for of in derived for by in elements]
        function = derivative
    if not count:
        raise ValueError("there is no derivative to check: order is above 0, and f has arguments and results")
    if rows:
        message = f"the graph and differences disagree on {len(rows)} of {count} derivatives:"
        raise AssertionError("\n".join([message, *_table(rows)]))


def _flat(f: Callable[..., Any]) -> Callable[..., list[Any]]:
    """f with all its outputs in one list."""
    return lambda *args: list(numbers_in(f(*args)))


def rounding_errors(order: Iterable[Node], rearranged: bool = False) -> dict[Any, float]:
    """Bounds of the rounding errors of Values, parents first: a running error analysis (Wilkinson's).

    An operation adds one rounding unit of its result, `dot` and `total` one of each term. With `rearranged`,
    the bounds hold for sums in any order, too, and for either side of a relu.
    """
    error: dict[Any, float] = {}
    for v in order:
        pairs = [
            (p, abs(d)) for p, d in operands(v) if d is not None and isinstance(p, Node) and math.isfinite(d)
        ]
        new = sum(d * error.get(p, 0.0) for p, d in pairs)
        if v.row in (ops.mul, ops.dot):  # where one factor is 0, the derivatives miss the product of errors
            factors = zip(*(x if type(x) is tuple else (x,) for x in (v.x, v.y)))
            new += sum(error.get(x, 0.0) * error.get(y, 0.0) for x, y in factors)
        elif v.row is ops.pow and v._dy is None and v.y > 1.0:  # at 0, the derivative is 0
            new = max(new, error.get(v.x, 0.0) ** v.y)
        elif rearranged and v.row is ops.relu and abs(v.x._data) < UNITS * error[v.x]:
            new = error[v.x]  # rounding may choose the side
        is_copy = v.row is ops.mul and type(v.y) is float and v.y == 1.0  # TracedCall writes these
        if v.row is not None and not is_copy:
            is_sum = type(v.x) is tuple or (rearranged and v.row in (ops.add, ops.sub))
            size = sum(abs(p._data) * d for p, d in pairs) if is_sum else abs(v._data)
            new += EPSILON * size + TINY
        error[v] = new
    return error


@np.errstate(all="ignore")
def _differences(f: Callable[[float], np.ndarray], x: float, rounding: np.ndarray) -> tuple[np.ndarray, ...]:
    """The slopes of f's outputs at x, half of each kink, error bounds, and which slopes settled.

    `rounding` bounds the rounding errors of the graph's derivatives. A slope is NaN where f is not defined
    around x.
    """
    here, rounding_here = f(x)
    best, errors, noises = (np.full((2, len(here)), start) for start in (np.nan, np.inf, 0.0))
    moves = [0.0 * here]
    for largest in sorted({2.0**-4, 2.0 ** ((math.frexp(x)[1] + 1) // 6 * 6 - 4)}, reverse=True):
        before: list[np.ndarray] = []
        for k in range(MOST_STEPS):
            step = abs(x) + largest / RATIO**k - abs(x)  # x ± step are exact
            if not step:
                break
            try:
                (below, low), (above, high) = f(x - step), f(x + step)
            except (ArithmeticError, ValueError):  # outside f's domain: only steps nearer to x count
                before = []
                continue
            # The mean of both sides' slopes is a series in even powers of step, half their difference in odd.
            estimate = np.array([above - below, (above - here) - (here - below)]) / (2.0 * step)
            noise = np.array([low + high, low + high + 2.0 * rounding_here]) / (2.0 * step)
            moves.append(abs(estimate).sum(axis=0))
            if before:  # coarse steps that agreed may have missed how f moves
                room = abs(estimate - before[0]) + SAFETY * (errors + noise)
                errors = np.where(abs(best - estimate) > room, np.inf, errors)
            estimates = [estimate]
            for order, coarse in enumerate(before, 1):
                fine, powers = estimates[-1], RATIO ** np.array([[2 * order], [2 * order - 1]])
                estimates.append(fine + (fine - coarse) / (powers - 1.0))
                changed = np.maximum(abs(estimates[-1] - fine), abs(estimates[-1] - coarse))
                error = changed + noise
                better = (error < errors) & (order > 1)  # the first two may agree by chance
                best, errors = np.where(better, estimates[-1], best), np.where(better, error, errors)
                noises = np.where(better, noise, noises)
            before = estimates
            if k >= FEWEST_STEPS and (errors <= RATIO * noise).all():  # finer steps add noise
                break
    (slopes, bends), bounds = best, SAFETY * (errors + rounding)
    settled = (errors <= SAFETY * (noises + rounding)) | (bounds <= np.median(moves, axis=0))
    return slopes, np.where(abs(bends) > RATIO * bounds[1], bends, 0.0), bounds[0], settled.all(axis=0)


def _gap(f: Callable[[float], np.ndarray], x: float) -> str:
    """The sides of x where f is not defined, in words."""
    step, sides = max(1.0, abs(x)) * 2.0**-20, []
    for side, moved in (("left", x - step), ("right", x + step)):
        try:
            f(moved)
        except (ArithmeticError, ValueError):
            sides.append(f"on its {side}")
    return ": ".join(["not defined around here", " and ".join(sides)]) if sides else "not finite around here"


def _title(output: str, *elements: str) -> str:
    """The name of a derivative: ∂²f[0]/∂x∂y."""
    power = "" if len(elements) == 1 else "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(len(elements)))
    return f"∂{power}{output}/" + "".join(f"∂{element}" for element in elements)


def _table(rows: list[Any]) -> Iterator[str]:
    lines = [("derivative", "by the graph", "by differences", "± at most", "off by")]
    for title, by_graph, by_differences, bound, note in rows[:SHOWN]:
        by = abs(by_graph - by_differences) / max(bound, TINY)
        off = f"{by:.2g} bounds  {note}" if by > 1.0 else note
        lines.append((title, f"{by_graph:.12g}", f"{by_differences:.12g}", f"{bound:.1e}", off))
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
    if len(rows) > SHOWN:
        yield f"and {len(rows) - SHOWN} more"
