"""derive: the gradient as a graph of Values, which can be drawn, differentiated again and compiled.

    x = Value(3.0)
    (slope,) = derive(x**3, [x])  # 3 x²
    (curvature,) = derive(slope, [x])  # 6 x

derive walks the graph as backward() does, and applies the rows of the table to Values instead of floats.
pushforward walks it from the leaves to the outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator
from operator import mul as times
from typing import Any

from . import ops
from .errors import derivative_anomaly
from .graph import dependents, topological_order
from .tracing import COMPILE, branches, mode_of
from .value import Constant, Value, dot, total


def derive(output: Value, wrt: Iterable[Value]) -> list[Value]:
    """∂output/∂v for each v of wrt, leaf or not, as Values computed from the Values of output's graph.

    The derivative is Value(0.0) where output does not depend on v. Raises TypeError for an argument that is
    no Value, ArithmeticError where a derivative is not finite, and ValueError if a leaf's data, on which
    a derivative depends, were changed after the graph was recorded.

    >>> x = Value(3.0)
    >>> (slope,) = derive(x**3, [x])  # 3 x²
    >>> (curvature,) = derive(slope, [x])  # 6 x
    >>> slope.data, curvature.data
    (27.0, 18.0)
    """
    wrt = list(wrt)
    for v in (output, *wrt):
        if not isinstance(v, Value):
            raise TypeError(f"derive takes Values, not {type(v).__name__} {v!r:.80}")
    found = adjoints({output: 1.0}, wrt)
    gradient = [found.get(v, 0.0) for v in wrt]
    return [g if isinstance(g, Value) else Value(g) for g in gradient]


def adjoints(
    seeds: dict[Value, Any],
    wrt: Iterable[Value],
    order: Iterable[Value] | None = None,
    invariant: Collection[Value] = (),
    sums: Container[Value] = (),
) -> dict[Value, Any]:
    """∂(Σ seed · output)/∂v, Values or numbers, for each v of wrt and for the Values between.

    `seeds` has a seed for each output. A v that no output depends on is left out. `order` has the Values
    to differentiate, parents first; by default, all that the outputs were computed from. The derivative by
    an `invariant` Value is known to be 0; that by a Value of `sums` is a sum if it has one term, too.
    """
    order = list(topological_order(*seeds) if order is None else order)
    inside = set(order)
    # Insertion order is forward; the loop below runs it in reverse, from the outputs to wrt.
    arriving: dict[Value, list[tuple[Any, Any]]] = {v: [] for v in wrt if v not in inside}
    arriving |= {v: [] for v in dependents(order, wrt) if v not in invariant}
    for v, seed in seeds.items():
        if v in arriving:
            arriving[v].append((seed, 1.0))
    found = {}
    vectors: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for v, pairs in reversed(arriving.items()):
        if pairs:
            adjoint = sum_of_products(pairs, vectors)  # lift takes a product for a sum of one
            if len(pairs) == 1 and v in sums and isinstance(adjoint, Value) and not _has_no_number(adjoint):
                adjoint = total([adjoint])
            found[v] = adjoint
            if v in inside:
                for operand, partial in _partials(v, arriving):
                    arriving[operand].append((adjoint, partial))
    return found


def pushforward(tangents: Iterable[tuple[Value, Any]], outputs: Iterable[Any]) -> list[Any]:
    """Σ tangent · ∂output/∂v over pairs (v, tangent), for each output: Values or numbers.

    The chain rule in the order of the computation, from operands to results.
    """
    found = dict(tangents)
    outputs = list(outputs)
    for v in topological_order(*(x for x in outputs if isinstance(x, Value))):
        if v not in found:
            pairs = [(found[p], partial) for p, partial in _partials(v, found)]
            if pairs:
                found[v] = sum_of_products(pairs, {})
    return [found.get(x, 0.0) for x in outputs]


def _partials(v: Value, wanted: Any) -> Iterator[tuple[Value, Any]]:
    """v's wanted operands, each with ∂v/∂operand as a Value or a number."""
    given = (v.x,) if v.y is None else (v.x, v.y)
    for operand, recorded, row in ((v.x, v._dx, v.row.dx), (v.y, v._dy, v.row.dy)) if v.row else ():
        if recorded is None:
            continue
        vector = operand if type(operand) is tuple else (operand,)
        if wanted.keys().isdisjoint(vector):
            continue
        try:
            partials = row(*given, v)
        except ArithmeticError:
            raise derivative_anomaly(v, operand) from None
        if type(operand) is not tuple:
            partials, recorded = (partials,), (recorded,)
        for p, partial, at_recording in zip(vector, partials, recorded):
            if p in wanted:
                # (In a branch of `where`, the recorded operands may differ: harmless() replaces them.)
                number = partial._data if isinstance(partial, Value) else partial
                if number != at_recording and not branches:
                    raise ValueError(f"a leaf's data were changed after {v!r} was recorded: record it again")
                if type(partial) is float and v.row in (ops.mul, ops.div, ops.dot) and mode_of(v) == COMPILE:
                    partial = Constant(partial)  # so that the derivatives of 1 x, 2 y, 3 z form a vector
                yield p, partial


def sum_of_products(pairs: list[tuple[Any, Any]], vectors: dict[tuple[Any, ...], tuple[Any, ...]]) -> Any:
    """Σ adjoint · partial: the chain rule. `vectors` has one tuple of operands for all that are equal."""
    terms, adjoints, partials = [], [], []
    for adjoint, partial in pairs:
        if isinstance(adjoint, Value) and isinstance(partial, Value):
            adjoints.append(adjoint)
            partials.append(partial)
        else:
            terms.append(
                _product(adjoint, partial) if isinstance(adjoint, Value) else _product(partial, adjoint)
            )
    if len(adjoints) < 2:
        terms += map(times, adjoints, partials)
    else:
        terms.append(dot(*(vectors.setdefault(x, x) for x in (tuple(adjoints), tuple(partials)))))
    return sum(terms[1:], terms[0]) if len(terms) < 3 else total(terms)


def _has_no_number(v: Value) -> bool:
    """Whether v is a product of Values, and none of them is a number of the program."""
    return v.row is ops.mul and not any(type(x) is float or type(x) is Constant for x in (v.x, v.y))


def _product(x: Any, number: float) -> Any:
    return x if number == 1.0 else -x if number == -1.0 else x * number
