"""check_gradients: derivatives against differences, to within the error of the differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .derive import adjoints
from .program.compiled import argument_names
from .transforms import ArgNums, Call, data_of, formed, jacobian, numbers_in, places_of, table_of
from .value import Value

STEPS, RATIO = 10, 4.0  # in a ladder of steps, and of each to the next
SAFETY = 32.0  # over 10,000 derivatives of random programs, an error was up to 13 times its estimate
EPSILON, TINY = 2.0**-52, 2.0**-1022
SHOWN = 20  # rows of the table


def check_gradients(
    f: Callable[..., Any], *args: Any, order: int = 1, argnums: ArgNums | None = None
) -> None:
    """Compare the derivatives of f at args with central differences; AssertionError if one is wrong.

    f, args and argnums are as for jacobian; without argnums, all args are differentiated by. Derivatives are
    compared up to `order`, each with differences of those one order lower.

    An element x is moved by two ladders of ten steps, each a quarter of the one before: from 1/16 and from
    |x| / 16 down. Richardson's extrapolation leads to the limit of no step; of all the estimates on the way,
    that of the smallest error is taken, if finer steps bear it out. The error is what the last extrapolation
    changed (Ridders, Advances in Engineering Software 4, 1982) and the rounding of f, Σ |∂f/∂v · v| ε over
    the Values v of its graph. The bound is 32 times that, and the derivative's own rounding. As a rule,
    a derivative that is a relative 1e-9 off is found, and features of f are seen that are 1e-5 wide.

    The message is a table of the derivatives that are off by more than their bound, or of which the
    differences do not settle, as at a jump. At a kink there is no derivative, and it says so. Raises
    ArithmeticError where f or a derivative is not finite at args, and ValueError where args are not.
    """
    places = places_of(f, range(len(args)) if argnums is None else argnums)
    with Call(f, places, args, {}) as call:
        given = [float(x) for x in call.given]
    names = argument_names(f, len(args))
    elements = [path for i in places for path in _paths(names[i], args[i])]
    for element, x in zip(elements, given):
        if not math.isfinite(x):
            raise ValueError(f"{element} is {x}: differences are taken at finite numbers")

    def at(function: Callable[..., Any], numbers: list[float]) -> np.ndarray:
        """The function's outputs, with these numbers for those of the arguments."""
        new = list(args)
        for i, argument in zip(places, formed(table_of([numbers]), 0.0, call.arguments)):
            new[i] = argument
        return np.array([data_of(y) for y in function(*new)])

    def along(function: Callable[..., Any], i: int) -> Callable[[float], np.ndarray]:
        """The function's outputs by the i-th number alone."""
        return lambda x: at(function, [*given[:i], x, *given[i + 1 :]])

    def evaluated(*args: Any) -> list[Any]:
        """f as it is differentiated: on Values; all outputs in one list."""
        with Call(f, places, args, {}) as call:
            return call.table([call.outputs])[0].tolist()

    def roundings(function: Callable[..., Any]) -> np.ndarray:
        with Call(function, places, args, {}) as call:
            return np.array([_rounding(output, call.variables) for output in call.outputs])

    name = getattr(f, "__name__", "f")
    derived: list[tuple[str, ...]] = [(path,) for path in _paths(name.replace("<lambda>", "f"), call.result)]
    function: Callable[..., list[Any]] = evaluated
    rounding = roundings(evaluated)
    rows, count = [], 0
    for _ in range(order):
        derivative = _flat(jacobian(function, places))
        by_graph = at(derivative, given).reshape(len(derived), len(given))
        next_rounding = roundings(derivative)
        count += by_graph.size
        for i, x in enumerate(given):
            by_differences, bound, usual = _difference(along(function, i), x, rounding)
            bound = bound + next_rounding[i :: len(given)]
            for k, of in enumerate(derived):
                numbers = by_graph[k, i], by_differences[k], bound[k]
                settled = bound[k] <= max(abs(numbers[0]), abs(numbers[1]), usual[k])
                if not settled or abs(numbers[0] - numbers[1]) > bound[k]:
                    note = _kink(along(function, i), x, k) or ("" if settled else "they do not settle")
                    rows.append((_title(*of, elements[i]), *numbers, note))
        derived = [(*of, by) for of in derived for by in elements]
        function, rounding = derivative, next_rounding
    if not count:
        raise ValueError("there is no derivative to check: order is above 0, and f has arguments and results")
    if rows:
        message = f"the graph and differences disagree on {len(rows)} of {count} derivatives:"
        raise AssertionError("\n".join([message, *_table(rows)]))


def _flat(f: Callable[..., Any]) -> Callable[..., list[Any]]:
    """f with all its outputs in one list."""
    return lambda *args: list(numbers_in(f(*args)))


def _rounding(output: Any, variables: list[Value]) -> float:
    """What rounding may do to an output: Σ |∂output/∂v · v| ε, over all that was computed on its way."""
    try:
        adjoint = adjoints({output: 1.0}, variables) if isinstance(output, Value) else {}
    except ArithmeticError:  # a derivative may have none of its own
        adjoint = {}
    return TINY + sum(EPSILON * abs(data_of(slope) * v._data) for v, slope in adjoint.items())


@np.errstate(all="ignore")
def _difference(
    f: Callable[[float], np.ndarray], x: float, rounding: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The slopes of f's outputs at x, their error bounds, and bounds that are nothing unusual for them.

    The bounds are infinite where f has no values around x.
    """
    best, errors, noises = (np.full(rounding.shape, start) for start in (np.nan, np.inf, 0.0))
    slopes = [np.zeros(rounding.shape)]
    for largest in sorted({1.0 / 16.0, abs(x) / 16.0}, reverse=True):
        before: list[Any] = []
        for gap, slope, size in _ladder(f, x, largest):
            noise = 2.0 * (rounding + EPSILON * size) / gap
            if before:  # what seemed settled may have been too coarse to see how f moves
                room = abs(slope - before[0]) + SAFETY * (errors + noise)
                errors = np.where(abs(best - slope) > room, np.inf, errors)
            slopes.append(abs(slope))
            estimates = [slope]
            for order, coarse in enumerate(before, 1):
                fine = estimates[-1]
                estimates.append(fine + (fine - coarse) / (RATIO ** (2 * order) - 1.0))
                changed = np.maximum(abs(estimates[-1] - fine), abs(estimates[-1] - coarse))
                error = changed + noise + EPSILON * abs(estimates[-1])
                better = error < errors
                best, errors = np.where(better, estimates[-1], best), np.where(better, error, errors)
                noises = np.where(better, noise, noises)
            before = estimates
    return best, SAFETY * errors, np.maximum(2.0 * SAFETY * noises, np.median(slopes, axis=0))


def _ladder(f: Callable[[float], np.ndarray], x: float, step: float) -> list[tuple[Any, ...]]:
    """From this step down: how far apart x ± step are, f's slopes between them, and its size there."""
    found: list[tuple[Any, ...]] = []
    for _ in range(STEPS):
        low, high = x - step, x + step
        step /= RATIO
        if low == high:
            break
        try:
            below, above = f(low), f(high)
        except (ArithmeticError, ValueError):  # outside f's domain: only what is nearer to x counts
            found = []
            continue
        found.append((high - low, (above - below) / (high - low), np.maximum(abs(below), abs(above))))
    return found


def _kink(f: Callable[[float], np.ndarray], x: float, k: int) -> str:
    """What there is to say of f's k-th output if it has two slopes at x."""
    step = max(1.0, abs(x)) * 2.0**-20
    try:
        before, here, after = (f(moved)[k] for moved in (x - step, x, x + step))
    except (ArithmeticError, ValueError):
        return "not defined around here"
    left, right = (here - before) / step, (after - here) / step
    bends = abs(right - left) > 1e-3 * max(abs(left), abs(right))
    return f"a kink: slope {left:.4g} on its left, {right:.4g} on its right" if bends else ""


def _paths(name: str, form: Any) -> Iterator[str]:
    """How the numbers in a form are written: x, x[0][1], x[0,1]."""
    if isinstance(form, list | tuple):
        for i, part in enumerate(form):
            yield from _paths(f"{name}[{i}]", part)
    elif isinstance(form, np.ndarray) and form.ndim:
        for index in np.ndindex(form.shape):
            yield f"{name}[{','.join(map(str, index))}]"
    else:
        yield name


def _title(output: str, *elements: str) -> str:
    """A derivative as it is written: ∂²f[0]/∂x∂y."""
    power = "" if len(elements) == 1 else "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(len(elements)))
    return f"∂{power}{output}/" + "".join(f"∂{element}" for element in elements)


def _table(rows: list[Any]) -> Iterator[str]:
    lines = [("derivative", "by the graph", "by differences", "± at most", "off by")]
    for title, by_graph, by_differences, bound, note in rows[:SHOWN]:
        off = f"{abs(by_graph - by_differences) / bound:.2g} bounds  {note}" if bound < np.inf else note
        lines.append((title, f"{by_graph:.12g}", f"{by_differences:.12g}", f"{bound:.1e}", off))
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
    if len(rows) > SHOWN:
        yield f"and {len(rows) - SHOWN} more"
