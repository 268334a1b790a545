"""ratio: exact quotients of polynomials in one unknown, with which derivations collect terms.

u = Ratio.unknown()
(1 - u * u) / (1 + u)  # 1 − u
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from .formula import Formula, Negative, Number, Power, Product, Quotient, Sum

Polynomial = tuple[Fraction, ...]  # the coefficients of 1, u, u², ..., the last of them not 0
ONE: Polynomial = (Fraction(1),)

MOST_TERMS, MOST_BITS = 24, 120  # beyond these nothing is short, and much takes long


class Ratio:
    """A quotient of polynomials without a common factor; the denominator's leading coefficient is 1.

    Raises OverflowError for a quotient of a large degree or with large numbers.
    """

    __slots__ = ("above", "below")

    def __init__(self, above: Sequence[Fraction], below: Sequence[Fraction] = ONE):
        above, below = _trimmed(above), _trimmed(below)
        if not below:
            raise ZeroDivisionError("a quotient with the denominator 0")
        bits = max(max(abs(c.numerator), c.denominator).bit_length() for c in (*above, *below))
        if len(above) + len(below) > MOST_TERMS or bits > MOST_BITS:
            raise OverflowError("this quotient of polynomials is too large")
        common = _common_divisor(above, below)
        above, below = _polynomial_quotient(above, common)[0], _polynomial_quotient(below, common)[0]
        self.above: Polynomial = tuple(c / below[-1] for c in above)
        self.below: Polynomial = tuple(c / below[-1] for c in below)

    @classmethod
    def of(cls, number: float | Fraction) -> Ratio:
        """A number; a float counts as its shortest decimal, 0.1 as 1/10."""
        return cls([number if isinstance(number, Fraction) else Fraction(repr(float(number)))])

    @classmethod
    def unknown(cls, power: int = 1) -> Ratio:
        """The unknown, or a power of it."""
        if abs(power) > MOST_TERMS:
            raise OverflowError("this power is too large")
        coefficients = [Fraction(0)] * abs(power) + [Fraction(1)]
        return cls(coefficients) if power >= 0 else cls([Fraction(1)], coefficients)

    def __add__(self, other: Ratio) -> Ratio:
        above = _polynomial_sum(
            _polynomial_product(self.above, other.below), _polynomial_product(other.above, self.below)
        )
        return Ratio(above, _polynomial_product(self.below, other.below))

    def __neg__(self) -> Ratio:
        return Ratio([-c for c in self.above], self.below)

    def __sub__(self, other: Ratio) -> Ratio:
        return self + -other

    def __mul__(self, other: Ratio) -> Ratio:
        return Ratio(
            _polynomial_product(self.above, other.above), _polynomial_product(self.below, other.below)
        )

    def __truediv__(self, other: Ratio) -> Ratio:
        return Ratio(
            _polynomial_product(self.above, other.below), _polynomial_product(self.below, other.above)
        )

    def __pow__(self, power: int) -> Ratio:
        out, base = Ratio.of(1.0), self if power >= 0 else Ratio.of(1.0) / self
        for _ in range(abs(power)):
            out = out * base
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ratio) and (self.above, self.below) == (other.above, other.below)

    def __hash__(self) -> int:
        return hash((self.above, self.below))

    @property
    def size(self) -> int:
        """How many terms the numerator has and, if this is no polynomial, the denominator."""
        return sum(map(bool, self.above)) + (sum(map(bool, self.below)) if self.below != ONE else 0)

    def at(self, u: float) -> float:
        """The value of the quotient for a value of the unknown."""
        above, below = (sum(float(c) * u**n for n, c in enumerate(p)) for p in (self.above, self.below))
        return above / below

    def formula(self, unknown: Formula) -> Formula:
        """The quotient as a formula in this unknown: u − u², (1 − u) / u."""
        if self.below == ONE:
            return polynomial_formula(self.above, unknown)
        if all(c <= 0 for c in self.above):
            return Negative((-self).formula(unknown))
        return Quotient(polynomial_formula(self.above, unknown), polynomial_formula(self.below, unknown))


def polynomial_formula(coefficients: Sequence[Fraction], unknown: Formula) -> Formula:
    """Σ c uⁿ, without terms that are 0; a positive term comes first, if there is one."""
    terms = [(c, n) for n, c in enumerate(coefficients) if c]
    terms.sort(key=lambda term: term[0] < 0)
    written: list[Formula] = []
    for c, n in terms:
        power = unknown if n == 1 else Power(unknown, Number(float(n)))
        size = abs(c)
        factor: Formula = number_formula(size) if n == 0 else power
        if n and size != 1:
            factor = Product((number_formula(size), power))
        written.append(Negative(factor) if c < 0 else factor)
    return written[0] if len(written) == 1 else Sum(tuple(written)) if written else Number(0.0)


def number_formula(c: Fraction) -> Formula:
    """A number; as a fraction, if it has more than six decimal digits."""
    if c.denominator == 1 or Fraction(f"{float(c):.6g}") == c:
        return Number(float(c))
    return Quotient(Number(float(c.numerator)), Number(float(c.denominator)))


def combination(target: Ratio, powers: Sequence[Ratio]) -> list[Fraction] | None:
    """Coefficients c with Σ c · power = target, exactly; None if there are none."""
    columns = [*powers, target]
    below: Sequence[Fraction] = ONE
    for each in columns:
        below = _polynomial_product(below, each.below)
    polynomials = [
        _polynomial_quotient(_polynomial_product(each.above, below), each.below)[0] for each in columns
    ]
    height = max(map(len, polynomials), default=0)
    rows = [[p[i] if i < len(p) else Fraction(0) for p in polynomials] for i in range(height)]
    pivots: list[int] = []
    for column in range(len(powers)):
        i = len(pivots)
        found_in = [r for r in range(i, height) if rows[r][column]]
        if not found_in:
            continue
        rows[i], rows[found_in[0]] = rows[found_in[0]], rows[i]
        rows[i] = [c / rows[i][column] for c in rows[i]]
        for r in range(height):
            if r != i and rows[r][column]:
                rows[r] = [c - rows[r][column] * d for c, d in zip(rows[r], rows[i])]
        pivots.append(column)
    if any(row[-1] for row in rows[len(pivots) :]):
        return None
    found = [Fraction(0)] * len(powers)
    for row, column in zip(rows, pivots):
        found[column] = row[-1]
    return found


def _trimmed(coefficients: Sequence[Fraction]) -> list[Fraction]:
    kept = list(coefficients)
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _polynomial_sum(x: Sequence[Fraction], y: Sequence[Fraction]) -> list[Fraction]:
    n = max(len(x), len(y))
    return [(x[i] if i < len(x) else 0) + (y[i] if i < len(y) else Fraction(0)) for i in range(n)]


def _polynomial_product(x: Sequence[Fraction], y: Sequence[Fraction]) -> list[Fraction]:
    out = [Fraction(0)] * max(0, len(x) + len(y) - 1)
    for i, c in enumerate(x):
        for j, d in enumerate(y):
            out[i + j] += c * d
    return out


def _polynomial_quotient(
    x: Sequence[Fraction], y: Sequence[Fraction]
) -> tuple[list[Fraction], list[Fraction]]:
    """Quotient and remainder."""
    rest, out = _trimmed(x), [Fraction(0)] * max(0, len(x) - len(y) + 1)
    while len(rest) >= len(y):
        c, shift = rest[-1] / y[-1], len(rest) - len(y)
        out[shift] = c
        for i, d in enumerate(y):
            rest[shift + i] -= c * d
        rest = _trimmed(rest[:-1])
    return out, rest


def _common_divisor(x: Sequence[Fraction], y: Sequence[Fraction]) -> list[Fraction]:
    """The greatest common divisor of two polynomials."""
    a, b = list(x), list(y)
    while b:
        a, b = b, _polynomial_quotient(a, b)[1]
    return a
