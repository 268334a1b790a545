"""explanation: a derivative with its chain, as text, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .entry import Entry
from .formula import (
    Formula,
    LaTeX,
    MathML,
    Number,
    Partial,
    Text,
    added,
    multiplied,
    number_text,
    substituted,
)


@dataclass(frozen=True)
class Way:
    """A term of a Row: the next quantity, the derivative by that, the rule of the step, its number."""

    through: str
    arriving: float
    rule: Formula
    partial: float

    @property
    def value(self) -> float:
        """The product: the part of the derivative that comes back through the next quantity."""
        return self.arriving * self.partial


@dataclass(frozen=True)
class Row:
    """The derivative of the output by one quantity: a sum of `ways`, one for each next quantity.

    `place` is the entry of the matrix program that has this number, such as "delta2[2]"; "" if there is none.
    """

    output: str
    quantity: str
    ways: tuple[Way, ...]
    value: float
    place: str = ""

    def lines(self, known: Mapping[Formula, Formula]) -> list[Formula]:
        """The row in symbols, with rules, with numbers, and with the products of the numbers; none twice."""
        own, symbols, rules, factors = Partial(self.output, self.quantity), [], [], []
        for way in self.ways:
            before = None if way.through == self.output else Partial(self.output, way.through)
            step: Formula = Partial(way.through, self.quantity)
            if step == own and len(self.ways) > 1:  # one of several terms is no ∂L/∂x
                step = way.rule
            symbols.append(multiplied([before, step]))
            rules.append(multiplied([before, way.rule]))
            factors.append(multiplied([before and Number(way.arriving), Number(way.partial)]))
        lines = [added(symbols), added(rules), substituted(added(rules), known), added(factors)]
        if len(self.ways) > 1:
            lines.append(added([Number(way.value) for way in self.ways]))
        said = (str(own), str(Number(self.value)))
        return [line for text, line in {str(line): line for line in lines}.items() if text not in said]


@dataclass(frozen=True)
class Explanation:
    """∂output/∂quantity, explained: str() as text, latex(), and in a notebook with MathML.

    `value` is the derivative, `rows` lead from the output back to it, and `entry` is the entry of the matrix
    program with this derivative (None if no line computes it). `definitions` say how the quantities are
    computed. `example` is the row of the data set that `rows` explain: the one that adds most to the value.

    >>> w, x = Value(-3.0, "w"), Value(2.0, "x")
    >>> e = explain((w * x - 1.0) ** 2, w)
    >>> e.value, e.rows[0].quantity
    (-28.0, 'w')
    >>> print(e.latex().splitlines()[0])
    \\begin{aligned}
    """

    output: str
    quantity: str
    value: float
    rows: tuple[Row, ...]
    entry: Entry | None
    definitions: tuple[tuple[str, Formula], ...]
    known: Mapping[Formula, Formula]
    digits: int = 4
    example: int | None = None

    @property
    def derivative(self) -> Partial:
        """∂output/∂quantity."""
        return Partial(self.output, self.quantity)

    def __str__(self) -> str:
        return _in_text(self)

    __repr__ = __str__

    def latex(self) -> str:
        """The rows as LaTeX: an `aligned` environment."""
        return _in_latex(self)

    def _repr_latex_(self) -> str:
        return f"$$\n{self.latex()}\n$$"

    def _repr_html_(self) -> str:
        return _in_html(self)


def _heading(e: Explanation) -> str:
    return f"{e.derivative} = {number_text(e.value, e.digits + 2)}"


def _of_which_row(e: Explanation) -> str:
    if e.example is None:
        return ""
    return f"Row {e.example} of the data adds most. Its derivatives, and then the sum over the rows:"


def _several(e: Explanation, row: Row) -> str:
    """The sentence before a row with several terms."""
    n = len(row.ways)
    if e.example is not None and row.output == e.output:
        return "Each row of the data adds its part."
    return (
        f"{row.quantity} is used in {n} places: the derivatives that come back through each are added."
        if n > 1
        else ""
    )


def _block(left: str, lines: Iterable[Formula | str], writer: Text, indent: str = "") -> list[str]:
    """left = line = line = ..., one below the other; a long line breaks between its terms."""
    out = []
    for i, line in enumerate(lines):
        text, pad = "", " " * len(left)
        for term in [line] if isinstance(line, str) else writer.terms(line):
            if text and len(text) + len(term) > 90:
                out.append(text)
                text = f"{indent}{pad}  {term}"
            else:
                text += term if text else f"{indent}{pad if i else left} = {term}"
        out.append(text)
    return out


def _in_text(e: Explanation) -> str:
    writer, result = Text(e.digits), Text(e.digits + 2)
    out = [_heading(e), *[""] * bool(e.definitions)]
    width = max((len(name) for name, _ in e.definitions), default=0)
    for name, definition in e.definitions:
        out += _block(f"{name:<{width}}", [definition], writer)
    out += ["", _of_which_row(e)] if e.example is not None else []
    for row in e.rows:
        out += ["", *filter(None, [_several(e, row)])]
        last = result.write(Number(row.value)) + (f" = {row.place}" if row.place else "")
        out += _block(str(Partial(row.output, row.quantity)), [*row.lines(e.known), last], writer)
    if e.entry:
        given = [] if str(e.entry.formula) == e.entry.name else [e.entry.formula]
        lines: list[Formula | str] = [*given, *([] if e.entry.rows else [e.entry.numbers])]
        lines.append(result.write(Number(e.entry.value)))
        out += ["", "In the matrix program:", "", *([f"    {e.entry.line}", ""] if e.entry.line else [])]
        out += _block(e.entry.name, lines, writer, "    ")
        if e.entry.rows:
            out += ["", *([f"    {_PART}"] if _is_part(e) else []), *(f"    {line}" for line in _as_table(e))]
        meanings = [f"    {name} is {meaning}" for name, meaning in e.entry.meanings]
        out += ["", *meanings] if meanings else []
    return "\n".join(out)


_PART = "The sum over the rows in this entry, row by row:"


def _is_part(e: Explanation) -> bool:
    """Whether the sum over the rows is only a part of the entry."""
    assert e.entry and e.entry.rows
    total = float(e.entry.rows.products.sum())
    return abs(total - e.entry.value) > 1e-9 * abs(e.entry.rows.products).sum()


def _cells(e: Explanation) -> list[list[str]]:
    """The sum over the rows as a table: its head, the first and the last rows, and the sum."""
    assert e.entry and e.entry.rows
    sums = e.entry.rows
    n = len(sums.products)
    shown = [*range(n)] if n <= 8 else [*range(4), None, *range(n - 3, n)]
    cells = [["n", *sums.columns, "product"]]
    for i in shown:
        if i is None:
            cells.append(["…"] * len(cells[0]))
        else:
            numbers = [*sums.factors[i], sums.products[i]]
            cells.append([str(i), *(number_text(float(x), e.digits) for x in numbers)])
    cells.append(["sum", *[""] * len(sums.columns), number_text(float(sums.products.sum()), e.digits + 2)])
    return cells


def _as_table(e: Explanation) -> list[str]:
    cells = _cells(e)
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths)) for line in cells]


def _in_latex(e: Explanation) -> str:
    writer, result = LaTeX(e.digits), LaTeX(e.digits + 2)
    out = []
    for row in e.rows:
        lines = [*map(writer.write, row.lines(e.known)), result.write(Number(row.value))]
        left = writer.write(Partial(row.output, row.quantity))
        out.append(" \\\\\n".join(f"{left if not i else ''} &= {line}" for i, line in enumerate(lines)))
    return "\\begin{aligned}\n" + " \\\\[1ex]\n".join(out) + "\n\\end{aligned}"


def _in_html(e: Explanation) -> str:
    writer, result = MathML(e.digits), MathML(e.digits + 2)

    def aligned(left: str, lines: list[str]) -> str:
        rows = "".join(
            f'<mtr><mtd style="text-align:right">{left if not i else ""}</mtd>'
            f'<mtd style="text-align:left"><mo>=</mo>{line}</mtd></mtr>'
            for i, line in enumerate(dict.fromkeys(lines))
        )
        math = f'<math><mtable displaystyle="true">{rows}</mtable></math>'
        return f'<div style="margin:.8em 0;overflow-x:auto">{math}</div>'

    def number(x: float) -> str:
        return f'<mrow style="font-weight:bold">{result.write(Number(x))}</mrow>'

    parts = [f"<p><b>{html.escape(_heading(e))}</b></p>"]
    parts += [aligned(writer.name(name), [writer.write(f)]) for name, f in e.definitions]
    parts += [f"<p>{_of_which_row(e)}</p>"] if e.example is not None else []
    for row in e.rows:
        left = writer.write(Partial(row.output, row.quantity))
        parts += [f"<p>{html.escape(_several(e, row))}</p>"] if _several(e, row) else []
        place = f"<mo>=</mo><mtext>{html.escape(row.place)}</mtext>" if row.place else ""
        parts.append(aligned(left, [*map(writer.write, row.lines(e.known)), number(row.value) + place]))
    if e.entry:
        parts += ["<p>In the matrix program:</p>", f"<pre>{html.escape(e.entry.line)}</pre>"]
        sums = [] if e.entry.rows else [writer.write(e.entry.numbers)]
        left = f"<mtext>{html.escape(e.entry.name)}</mtext>"
        parts.append(aligned(left, [writer.write(e.entry.formula), *sums, number(e.entry.value)]))
        if e.entry.rows:
            head, *body = [[html.escape(cell) for cell in line] for line in _cells(e)]
            lines = [f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
            right = '<td style="text-align:right">'
            lines += [f"<tr>{''.join(f'{right}{cell}</td>' for cell in line)}</tr>" for line in body]
            parts.append(f"{f'<p>{_PART}</p>' if _is_part(e) else ''}<table>{''.join(lines)}</table>")
        meanings = [f"<code>{html.escape(name)}</code> is {html.escape(m)}" for name, m in e.entry.meanings]
        parts += [f"<p>{'<br>'.join(meanings)}</p>"] if meanings else []
    return f"<div>{''.join(parts)}</div>"
