"""formula: mathematics as a small tree, to be written as text, MathML or LaTeX.

    product = Product((Partial("L", "p"), Name("w3[0,2]")))
    str(product)  # ∂L/∂p · w3[0,2]
    LaTeX().write(product)  # \\frac{\\partial L}{\\partial p} \\, w^{(3)}_{0,2}

A graph of Values is such a tree too: `formula(v)` reads the graph down to the Values that have a label.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import ops
from ..draw import NOT_XML
from ..ops import ROWS, TABLE
from ..value import Value


class Formula:
    """A Name, Number, Partial, Sum, Product, ...; str() writes it as text."""

    def __str__(self) -> str:
        return Text().write(self)


@dataclass(frozen=True)
class Name(Formula):
    """A quantity: h1, w2[2,1]."""

    text: str


@dataclass(frozen=True)
class Number(Formula):
    """A number, written with the writer's number of digits."""

    value: float


@dataclass(frozen=True)
class Partial(Formula):
    """∂upper/∂lower, of two names."""

    upper: str
    lower: str


@dataclass(frozen=True)
class Sum(Formula):
    """The terms added; a term that is Negative is subtracted."""

    terms: tuple[Formula, ...]


@dataclass(frozen=True)
class Product(Formula):
    """The factors multiplied."""

    factors: tuple[Formula, ...]


@dataclass(frozen=True)
class Negative(Formula):
    """−operand."""

    operand: Formula


@dataclass(frozen=True)
class Quotient(Formula):
    """above / below."""

    above: Formula
    below: Formula


@dataclass(frozen=True)
class Power(Formula):
    """base to the power of exponent."""

    base: Formula
    exponent: Formula


@dataclass(frozen=True)
class Call(Formula):
    """A function of its operands, named by its sign: σ, tanh, max."""

    function: str
    operands: tuple[Formula, ...]


@dataclass(frozen=True)
class Over(Formula):
    """Σ body over an index."""

    index: str
    body: Formula


SIGNS = {
    **{ops.sigmoid: "σ", ops.sign: "sgn"},
    **{ops.maximum: "max", ops.largest: "max", ops.minimum: "min", ops.smallest: "min"},
}


def formula(v: Any) -> Formula:
    """A Value, down to the Values that have a label, as a formula; a number is a Number."""
    if not isinstance(v, Value):
        return Number(v)
    if v.label or not v.row:
        return Name(v.label) if v.label else Number(v._data)
    return of_row(v.row, [o for o in (v.x, v.y) if o is not None])


def of_row(row: ops.Primitive, operands: list[Any]) -> Formula:
    """A row of the table, applied to Values and numbers, or to tuples of them."""
    return applied(row, [tuple(map(formula, o)) if type(o) is tuple else formula(o) for o in operands])


def applied(row: ops.Primitive, operands: list[Any]) -> Formula:
    """A row of the table, applied to formulas or, where the row takes vectors, to tuples of formulas."""
    rule = _APPLIED.get(row)
    if rule:
        return rule(*operands)
    flat = [each for o in operands for each in (o if type(o) is tuple else (o,))]
    own = row not in ROWS and any(row.name == each.name for each in ROWS)  # a user's row with a name of ours
    return Call(SIGNS.get(row, f"own_{row.name}" if own else row.name), tuple(flat))


def _times(x: Formula, y: Formula) -> Formula:
    if x == y:
        return Power(x, Number(2.0))
    factors = [each for f in (x, y) for each in (f.factors if isinstance(f, Product) else (f,))]
    return Product(tuple(sorted(factors, key=lambda f: not isinstance(f, Number))))


def _sum(*terms: Formula) -> Formula:
    flat = [each for f in terms for each in (f.terms if isinstance(f, Sum) else (f,))]
    return Sum(tuple(flat)) if len(flat) > 1 else flat[0]


def _difference(x: Formula, y: Formula) -> Formula:
    return Sum((*(x.terms if isinstance(x, Sum) else (x,)), Negative(y)))


_APPLIED: dict[ops.Primitive, Callable[..., Formula]] = {
    ops.add: _sum,
    ops.sub: _difference,
    ops.mul: _times,
    ops.div: Quotient,
    ops.neg: Negative,
    ops.pow: Power,
    ops.sqrt: lambda x: Call("√", (x,)),
    ops.abs: lambda x: Call("|", (x,)),
    ops.total: lambda xs: _sum(*xs),
    ops.dot: lambda xs, ys: _sum(*map(_times, xs, ys)),
    ops.less: lambda x, y: Call("<", (x, y)),
    ops.less_equal: lambda x, y: Call("≤", (x, y)),
    ops.equal: lambda x, y: Call("=", (x, y)),
}


ELLIPSIS = Name("…")


def added(terms: Sequence[Formula], most: int = 6) -> Formula:
    """The sum of the terms; if there are more than `most`, of the first and the last, with … between."""
    terms = [*terms[: most // 2], ELLIPSIS, *terms[-(most // 2) :]] if len(terms) > most else terms
    return terms[0] if len(terms) == 1 else Sum(tuple(terms))


def multiplied(factors: Iterable[Formula | None]) -> Formula:
    """The product of the factors that are not None or 1."""
    kept = [f for f in factors if f not in (None, Number(1.0))]
    flat = [each for f in kept for each in (f.factors if isinstance(f, Product) else (f,))]
    return Number(1.0) if not flat else flat[0] if len(flat) == 1 else Product(tuple(flat))


def substituted(f: Any, known: Mapping[Formula, Formula]) -> Any:
    """f with each known formula replaced, such as names by numbers."""
    if f in known:
        return known[f]
    if isinstance(f, Name | Number | Partial):
        return f
    parts = {
        name: tuple(substituted(each, known) for each in part)
        if isinstance(part, tuple)
        else substituted(part, known)
        if isinstance(part, Formula)
        else part
        for name, part in vars(f).items()
    }
    return type(f)(**parts)


def names_in(f: Formula) -> list[str]:
    """The names in a formula, each once."""
    if isinstance(f, Name):
        return [f.text]
    parts = [each for part in vars(f).values() for each in (part if isinstance(part, tuple) else (part,))]
    return list(dict.fromkeys(name for part in parts if isinstance(part, Formula) for name in names_in(part)))


def number_text(x: float, digits: int = 4) -> str:
    """x with this number of digits: 0.25, −6.61e−4, 2e20."""
    text = f"{x + 0.0:.{digits}g}"
    if 0.0 < abs(x) < 1e-3:
        text = f"{x:.{digits - 1}e}"
    mantissa, e, exponent = text.partition("e")
    if e:
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


SUM, TERM, FACTOR, POWER, ATOM = 10, 20, 30, 40, 50
_INFIX = {"<", "≤", "="}


class Text:
    """A writer of formulas as text; writers of other notations override the methods that differ."""

    times, plus, minus = " · ", " + ", " − "
    has_fractions = False  # a bar that needs no parentheses

    def __init__(self, digits: int = 4):
        self.digits = digits

    def write(self, f: Formula, least: int = 0) -> str:
        """f, in parentheses if it binds less than `least`."""
        text, binds = self._of(f)
        return self.parenthesised(text) if binds < least else text

    def _of(self, f: Formula) -> tuple[str, int]:
        """f and how strongly it binds."""
        if isinstance(f, Number):
            text = number_text(f.value, self.digits)
            return self.number(text), SUM if text.startswith("−") else FACTOR if "e" in text else ATOM
        if isinstance(f, Name):
            return self.name(f.text), ATOM if re.fullmatch(r"[\w.,#′…\[\]]+", f.text) else SUM - 5
        if isinstance(f, Partial):
            return self.partial(self.name(f.upper), self.name(f.lower)), ATOM
        if isinstance(f, Sum):
            return "".join(self.terms(f)), SUM
        if isinstance(f, Negative):
            return self.sign("−") + self.write(f.operand, FACTOR - 5), TERM
        if isinstance(f, Product):
            return self.product(f), FACTOR
        if isinstance(f, Quotient):
            if self.has_fractions:
                return self.fraction(self.write(f.above), self.write(f.below)), ATOM
            return f"{self.write(f.above, FACTOR)} / {self.write(f.below, POWER)}", FACTOR - 3
        if isinstance(f, Power):
            return self.power(f), POWER
        if isinstance(f, Over):
            return self.over(f.index, self.write(f.body, FACTOR - 5)), TERM
        assert isinstance(f, Call)
        if f.function in _INFIX:
            x, y = (self.write(each, TERM) for each in f.operands)
            return f"{x}{self.sign(f' {f.function} ')}{y}", SUM - 5
        if f.function == "exp":
            return self.exponential(f.operands[0])
        return self.call(f.function, [self.write(each) for each in f.operands]), ATOM

    def terms(self, f: Formula) -> list[str]:
        """The terms of a sum, each after the first with its sign; anything else is one term."""
        if not isinstance(f, Sum):
            return [self.write(f)]
        texts = [self.write(f.terms[0], SUM)]
        for term in f.terms[1:]:
            if isinstance(term, Negative):
                texts.append(self.minus + self.write(term.operand, TERM + 1))
            else:
                texts.append(self.plus + self.write(term, SUM + 5))
        return texts

    def product(self, f: Product) -> str:
        """The factors, with a sign between them, except for a name before a sum that has it: h(1 − h)."""
        text = self.write(f.factors[0], FACTOR)
        for before, factor in zip(f.factors, f.factors[1:]):
            name = before.text if isinstance(before, Name) and before.text not in TABLE else ""
            beside = isinstance(factor, Sum) and name in names_in(factor)
            text += ("" if beside else self.times) + self.write(factor, FACTOR)
        return text

    # The parts that notations write differently

    def name(self, name: str) -> str:
        return name

    def number(self, text: str) -> str:
        return text

    def sign(self, sign: str) -> str:
        return sign

    def partial(self, upper: str, lower: str) -> str:
        return f"∂{upper}/∂{lower}"

    def fraction(self, above: str, below: str) -> str:
        raise NotImplementedError

    def parenthesised(self, text: str) -> str:
        return f"({text})"

    def power(self, f: Power) -> str:
        base, exponent = self.write(f.base, ATOM), self.write(f.exponent)
        if isinstance(f.exponent, Number):
            exponent = number_text(f.exponent.value, 12)
        if re.fullmatch(r"−?\d+", exponent):
            return base + exponent.translate(str.maketrans("0123456789−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
        written = f"({exponent})" if exponent.startswith("−") else exponent
        return f"{base}^{written if isinstance(f.exponent, Number) else self.write(f.exponent, ATOM)}"

    def exponential(self, exponent: Formula) -> tuple[str, int]:
        return f"exp({self.write(exponent)})", ATOM

    def call(self, function: str, operands: list[str]) -> str:
        return f"{'abs' if function == '|' else function}({', '.join(operands)})"

    def over(self, index: str, body: str) -> str:
        return f"Σ{index.translate(str.maketrans('n', 'ₙ'))} {body}"


_GREEK = {
    letter: chr(code)
    for code, letter in enumerate(
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho final_sigma"
        " sigma tau upsilon phi chi psi omega".split(),
        0x3B1,
    )
    if letter not in ("omicron", "final_sigma")
}
_LETTERS = {letter: name for name, letter in _GREEK.items()}


def as_xml(text: str) -> str:
    """The text without characters that XML cannot hold."""
    return NOT_XML.sub("\ufffd", text)


def _parts(name: str) -> tuple[str, str, str]:
    """A name's letters, the digits or letters behind them, and its index: ("w", "2", "2,1") for w2[2,1]."""
    match = re.fullmatch(r"([^\W\d_]+?)_?(\d*|(?<=_)\w{1,3})(?:\[([^\[\]]*)\])?", name)
    if match:
        letters, behind, index = match.groups()
        return _GREEK.get(letters, letters), behind, index or ""
    whole = re.fullmatch(r"(\w+)\[([^\[\]]*)\]", name)
    return (whole[1], "", whole[2]) if whole else (name, "", "")


class MathML(Text):
    """A writer of formulas as MathML, which browsers draw by themselves."""

    times, plus, minus = "<mo>·</mo>", "<mo>+</mo>", "<mo>−</mo>"
    has_fractions = True

    def name(self, name: str) -> str:
        letters, behind, index = _parts(as_xml(name))
        base = f"<mi>{html.escape(letters)}</mi>"
        if behind and index:
            above = f"<mrow><mo>(</mo><mn>{behind}</mn><mo>)</mo></mrow>"
            return f"<msubsup>{base}<mn>{html.escape(index)}</mn>{above}</msubsup>"
        below = behind or index
        return f"<msub>{base}<mn>{html.escape(below)}</mn></msub>" if below else base

    def number(self, text: str) -> str:
        mantissa, e, exponent = text.partition("e")
        number = f"<mn>{mantissa}</mn>"  # with its sign, which is no operator here
        return f"<mrow>{number}<mo>·</mo><msup><mn>10</mn><mn>{exponent}</mn></msup></mrow>" if e else number

    def sign(self, sign: str) -> str:
        return f"<mo>{html.escape(sign.strip())}</mo>"

    def partial(self, upper: str, lower: str) -> str:
        return self.fraction(f"<mo>∂</mo>{upper}", f"<mo>∂</mo>{lower}")

    def fraction(self, above: str, below: str) -> str:
        return f"<mfrac><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"

    def parenthesised(self, text: str) -> str:
        return f"<mrow><mo>(</mo>{text}<mo>)</mo></mrow>"

    def power(self, f: Power) -> str:
        return f"<msup><mrow>{self.write(f.base, ATOM)}</mrow><mrow>{self.write(f.exponent)}</mrow></msup>"

    def exponential(self, exponent: Formula) -> tuple[str, int]:
        return f'<msup><mi mathvariant="normal">e</mi><mrow>{self.write(exponent)}</mrow></msup>', POWER

    def call(self, function: str, operands: list[str]) -> str:
        if function == "√":
            return f"<msqrt>{operands[0]}</msqrt>"
        if function == "|":
            return f"<mrow><mo>|</mo>{operands[0]}<mo>|</mo></mrow>"
        between = "<mo>,</mo>".join(operands)
        return f"<mrow><mi>{html.escape(function)}</mi><mo>(</mo>{between}<mo>)</mo></mrow>"

    def over(self, index: str, body: str) -> str:
        return f"<munder><mo>∑</mo><mi>{index}</mi></munder>{body}"


_TEX = {c: rf"\{c}" for c in "#$%&_{}"} | {"−": "-", "′": "'"}
_TEX_IN_FORMULAS = _TEX | {"\\": r"\backslash ", "^": r"\hat{}", "~": r"\sim "}
_TEX_IN_FORMULAS |= {letter: f"\\{name} " for letter, name in _LETTERS.items()}
_TEX_IN_TEXT = _TEX | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
_TEX_IN_TEXT |= {letter: f"$\\{name}$" for letter, name in _LETTERS.items()}


def tex_text(words: str) -> str:
    """Words for LaTeX's text mode."""
    return "".join(_TEX_IN_TEXT.get(c, c) for c in words)


class LaTeX(Text):
    """A writer of formulas as LaTeX."""

    times, plus, minus = r" \cdot ", " + ", " - "
    has_fractions = True

    def name(self, name: str) -> str:
        letters, behind, index = (self._escaped(part) for part in _parts(name))
        single = len(letters) == 1 or letters.startswith("\\")
        base = letters if single else rf"\mathrm{{{letters}}}"
        if behind and index:
            return f"{base}^{{({behind})}}_{{{index}}}"
        below = behind or index
        return f"{base}_{{{below}}}" if below else base

    @staticmethod
    def _escaped(text: str) -> str:
        if text in _LETTERS:
            return f"\\{_LETTERS[text]}"
        return "".join(_TEX_IN_FORMULAS.get(c, c) for c in text)

    def number(self, text: str) -> str:
        mantissa, e, exponent = text.replace("−", "-").partition("e")
        return rf"{mantissa} \cdot 10^{{{exponent}}}" if e else mantissa

    def sign(self, sign: str) -> str:
        return {"−": "-", "≤": r"\le "}.get(sign.strip(), sign)

    def partial(self, upper: str, lower: str) -> str:
        return self.fraction(rf"\partial {upper}", rf"\partial {lower}")

    def fraction(self, above: str, below: str) -> str:
        return rf"\frac{{{above}}}{{{below}}}"

    def parenthesised(self, text: str) -> str:
        return rf"\left({text}\right)"

    def power(self, f: Power) -> str:
        base = self.write(f.base, ATOM)
        return f"{{{base}}}^{{{self.write(f.exponent)}}}"

    def exponential(self, exponent: Formula) -> tuple[str, int]:
        return rf"\mathrm{{e}}^{{{self.write(exponent)}}}", POWER

    def call(self, function: str, operands: list[str]) -> str:
        if function == "√":
            return rf"\sqrt{{{operands[0]}}}"
        if function == "|":
            return rf"\left|{operands[0]}\right|"
        name = r"\sigma" if function == "σ" else rf"\operatorname{{{self._escaped(function)}}}"
        return rf"{name}\left({', '.join(operands)}\right)"

    def over(self, index: str, body: str) -> str:
        return rf"\sum_{{{index}}} {body}"
