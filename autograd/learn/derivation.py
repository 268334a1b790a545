"""derivation: where the derivative of a function of one number comes from, step by step.

    print(derivation("sigmoid"))  # ... = σ − σ² = σ(1 − σ)
    print(derivation(lambda x: (1.0 + x.exp()).log()))  # ... = σ(x)

The function is recorded, each of its operations is a piece with a name, and the chain rule multiplies the
derivatives that the table has for the pieces. Then the definitions of the pieces are solved or substituted,
as quotients of polynomials in one unknown, and equal terms collected: exactly, in rational numbers.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import ops
from ..ops import TABLE, Primitive
from .formula import SIGNS, Formula, LaTeX, MathML, Text, number_text, tex_text
from .working import Step, Working

DEFINITIONS: dict[Primitive, Callable[[Any], Any]] = {  # primitives as functions of simpler ones
    ops.sigmoid: lambda x: 1.0 / (1.0 + (-x).exp()),
    ops.tanh: lambda x: 2.0 / (1.0 + (-2.0 * x).exp()) - 1.0,
    ops.softplus: lambda x: (1.0 + x.exp()).log(),
}


@dataclass(frozen=True)
class Derivation:
    """A derivative step by step: str() as text, latex(), and in a notebook with MathML.

    `result` is the derivative, in a short form if one was found (`is_short`). At `points` points it differs
    from differences of the function by at most `largest_difference`, relative to the derivative or, where it
    is smaller, to a thousandth of the largest derivative.

    >>> d = derivation("sigmoid")
    >>> for step in d.steps:
    ...     print(step.rule)
    Name the pieces:
    Differentiate each piece, by the table, whose rules may use the piece itself:
    The chain rule: multiply along the way from x:
    Solve the definitions for the pieces, the last one first, in terms of σ:
    Put these in, and collect:
    >>> d.is_short, d.largest_difference < 1e-9
    (True, True)
    """

    function: str
    steps: tuple[Step, ...]
    result: Formula
    is_short: bool
    largest_difference: float
    points: int

    def __str__(self) -> str:
        writer, out = Text(6), []
        for i, step in enumerate([*self.steps, Step(self._checked, ())], 1):
            out.append(f"{i}. {step.rule}")
            for parts in step.equations:
                left, *rest = map(writer.write, parts)
                long = len(left) + sum(map(len, rest)) > 90
                between = f"\n       {' ' * len(left)} = " if long else " = "
                out.append(f"       {between.join([f'{left} = {rest[0]}', *rest[1:]])}")
        return "\n".join(out)

    __repr__ = __str__

    @property
    def _checked(self) -> str:
        return (
            f"Check: at {self.points:,} points this and differences of the function agree to"
            f" {number_text(self.largest_difference, 1)}."
        )

    def latex(self) -> str:
        """The equations as LaTeX: an `aligned` environment."""
        writer, lines = LaTeX(6), []
        for step in self.steps:
            lines.append(rf"&\text{{{tex_text(step.rule)}}}")
            for parts in step.equations:
                left, *rest = map(writer.write, parts)
                lines.append(rf"&\qquad {' = '.join([left, *rest])}")
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"

    def _repr_html_(self) -> str:
        writer, items = MathML(6), []
        for step in [*self.steps, Step(self._checked, ())]:
            lines = [
                f'<div style="margin:.5em"><math displaystyle="true">{"<mo>=</mo>".join(parts)}</math></div>'
                for parts in (map(writer.write, each) for each in step.equations)
            ]
            items.append(f"<li>{html.escape(step.rule)}{''.join(lines)}</li>")
        return f"<ol>{''.join(items)}</ol>"


def derivation(f: str | Callable[[Any], Any], name: str = "") -> Derivation:
    """The derivative of a primitive of the table, by its name, or of a function of one Value.

    >>> print(derivation("tanh").result)
    1 − tanh²
    >>> print(derivation(lambda x: (1.0 + x.exp()).log()).result)
    σ(x)

    `name` is the name of f(x), by default that of f. f may use numbers, operators and primitives. Raises
    KeyError for an unknown name, TypeError if f does not return a Value for a Value, and ValueError if the
    graph depends on x, as in code with branches, or if f has no derivative where it was tried.
    """
    if isinstance(f, str):
        if f not in TABLE:
            unary = ", ".join(name for name, row in TABLE.items() if _takes_one(row))
            raise KeyError(f"no primitive of one number is called {f!r}; there are {unary}")
        f = TABLE[f]
    if not callable(f):
        raise TypeError(f"derivation takes the name of a primitive or a function of one Value, not {f!r:.80}")
    if isinstance(f, Primitive) and not _takes_one(f):
        raise TypeError(f"derivation takes a function of one Value, and {f.name} takes more")
    if isinstance(f, Primitive):
        name = name or SIGNS.get(f, f.name)
        f = DEFINITIONS.get(f, f)
    own = getattr(f, "__name__", "")
    working = Working(f, name or (own if own.isidentifier() else "y"))
    result = working.result()
    worst, points = working.check(result)
    return Derivation(working.name, tuple(working.steps), result.formula, result.is_short, worst, points)


def _takes_one(row: Primitive) -> bool:
    """Whether a primitive takes one number."""
    return row.dy is None and row is not ops.total
