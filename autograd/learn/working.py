"""working: the steps from a function's graph to its derivative in a short form."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .. import ops
from ..graph import dependents, parents, topological_order
from ..ops import Primitive
from ..value import Value
from .formula import (
    SIGNS,
    Call,
    Formula,
    Name,
    Negative,
    Number,
    Partial,
    Power,
    Product,
    added,
    formula,
    multiplied,
    names_in,
    of_row,
    substituted,
)
from .quantities import partials_of, simplified
from .ratio import ONE, Ratio, combination, polynomial_formula

POINTS = 1000
SHORT, LONG = 3, 300  # terms, characters
Numbers = Mapping[str, float]  # of x and the pieces


@dataclass(frozen=True)
class Step:
    """A step of a derivation: the rule that it uses, and equations, each as its parts."""

    rule: str
    equations: tuple[tuple[Formula, ...], ...]


class Working:
    """A function's graph with a name for each piece, and the steps to its derivative."""

    def __init__(self, f: Callable[[Any], Any], name: str):
        self.f, self.name = f, "y" if name in ("e", "u", "x") else name
        self.x, self.y = _graph_of(f)
        self.same: dict[Value, Value] = {}  # for each piece, the first that is equal to it
        first: dict[Any, Value] = {}
        for v in self._all():
            key = (v.row, self._firsts(v.x), self._firsts(v.y)) if v.row else v
            self.same[v] = first.setdefault(key, v)
        self.y = self.same[self.y]
        depending = dependents(topological_order(self.y), [self.x])
        self.pieces = [v for v in depending if v is not self.x and self.same[v] is v]
        names = self._names()
        symbols = {v: Value(v._data, names.get(v, "")) for v in self._all()}
        self.symbols = {v: symbols[self.same.get(v, v)] for v in symbols}
        self.rules = {v: self._rules(v) for v in self.pieces}
        self.steps: list[Step] = []
        self.in_pieces: Formula | None = None  # in the derivatives of pieces, if there are many paths

    def _names(self) -> dict[Value, str]:
        """Different names for x, the pieces, and the Values from elsewhere that have a label."""
        names = {self.x: "x"} | ({self.y: self.name} if self.y in {*self.pieces} else {})
        taken = {"e", "u", "x", self.name}
        for v in self._all():
            if v.label and v not in names and v not in {*self.pieces}:
                numbered = (f"{v.label}#{n}" if n > 1 else v.label for n in itertools.count(1))
                names[v] = next(name for name in numbered if name not in taken)
                taken.add(names[v])
        letters = (c for c in _letters() if c not in taken)
        return names | {v: next(letters) for v in self.pieces if v is not self.y}

    def _firsts(self, x: Any) -> Any:
        return tuple(map(self._firsts, x)) if type(x) is tuple else self.same.get(x, x)

    def _all(self) -> list[Value]:
        return topological_order(self.y, self.x)

    def _symbol(self, x: Any) -> Any:
        if type(x) is tuple:
            return tuple(map(self._symbol, x))
        return self.symbols[x] if isinstance(x, Value) else x

    def _given(self, v: Value) -> list[Any]:
        return [self._symbol(o) for o in (v.x, v.y) if o is not None]

    def _rules(self, v: Value) -> dict[Value, Any]:
        """The derivatives of a piece by x and by other pieces, as Values of symbols, or numbers."""
        found: dict[Value, Any] = {}
        for operand, _, rule in partials_of(v, self._given(v), self.symbols[v], {self.x, *self.same}):
            operand = self.same[operand]
            if operand is not self.x and operand not in {*self.pieces}:
                continue
            found[operand] = found[operand] + rule if operand in found else rule
        return {operand: simplified(rule) for operand, rule in found.items()}

    def _say(self, rule: str, *equations: tuple[Formula, ...]) -> None:
        lines = {str(parts): parts for parts in map(_without_repeats, equations)}
        self.steps.append(Step(rule, tuple(lines.values())))

    def _name(self, v: Value) -> Name:
        return Name(self.name if v is self.y else self.symbols[v].label)

    def _itself(self, numbers: Numbers) -> float:
        return numbers[self.name]

    @property
    def _derivative(self) -> Name:
        return self._prime(self.y)

    def _prime(self, v: Value) -> Name:
        return Name(f"{self._name(v).text}′")

    def result(self) -> Result:
        """The derivative; `steps` then has the steps to it."""
        if not self.pieces:
            number = 1.0 if self.y is self.x else 0.0
            self._say("x itself has the derivative 1." if number else "This does not depend on x.",
                      (self._derivative, Number(number)))  # fmt: skip
            return Result(Number(number), lambda _: number)
        chain = self._chain()
        if len(self.pieces) == 1:
            return Result(formula(chain), _of_graph(chain))
        return self._undone(chain) or self._put_in(chain) or self._as_it_is(chain)

    def _chain(self) -> Any:
        """The derivative in the names of the pieces, a Value or a number; adds three steps."""
        if len(self.pieces) == 1:
            (rule,) = self.rules[self.y].values()
            definition = (self._name(self.y), self._definition(self.y))
            self._say("A rule of the table of primitives:", definition, (self._derivative, formula(rule)))
            return rule
        self._say("Name the pieces:", *((self._name(v), self._definition(v)) for v in self.pieces))
        self._say(
            "Differentiate each piece, by the table, whose rules may use the piece itself:",
            *((self._partial(v, o), formula(rule)) for v in self.pieces for o, rule in self.rules[v].items()),
        )
        ways = list(itertools.islice(self._ways(self.y), 5))
        if len(ways) < 5:
            each = "each way from x, and add the ways" if len(ways) > 1 else "the way from x"
            symbols = added([multiplied(self._partial(v, o) for v, o in way) for way in ways])
            rules = added([multiplied(formula(self.rules[v][o]) for v, o in way) for way in ways])
            chain = sum(math.prod(self.rules[v][o] for v, o in way) for way in ways)
            equation = (self._derivative, symbols, rules, formula(simplified(chain)))
            self._say(f"The chain rule: multiply along {each}:", equation)
            return simplified(chain)
        found: dict[Value, Any] = {self.x: 1.0}
        lines = []
        for v in self.pieces:
            products, terms = [], []
            for o, rule in self.rules[v].items():
                prime = None if o is self.x else self._prime(o)
                products.append(multiplied([self._partial(v, o), prime]))
                terms.append(multiplied([formula(rule), prime]))
            found[v] = sum(rule * found[o] for o, rule in self.rules[v].items())
            self.in_pieces = added(terms)
            lines.append((self._prime(v), added(products), self.in_pieces))
        self._say("The chain rule, piece by piece:", *lines)
        return simplified(found[self.y])

    def _definition(self, v: Value) -> Formula:
        return of_row(v.row, self._given(v))

    def _partial(self, v: Value, by: Value) -> Partial:
        return Partial(self._name(v).text, self._name(by).text)

    def _ways(self, v: Value) -> Iterator[list[tuple[Value, Value]]]:
        """The ways from x to a piece, the last step first."""
        for operand in self.rules[v]:
            if operand is self.x:
                yield [(v, operand)]
            else:
                for way in self._ways(operand):
                    yield [(v, operand), *way]

    def _undone(self, chain: Any) -> Result | None:
        """The derivative in terms of the function itself, if the definitions can be solved for the pieces."""
        known, lines = {self.name: Ratio.unknown()}, {}
        for v in reversed(self.pieces):
            inverse = _inverse(v, self._symbol, known)
            if inverse:
                operand, how, ratio = inverse
                name = self._name(operand).text
                if name not in known:
                    known[name] = ratio
                    lines[name] = (Name(name), how, ratio.formula(Name(self.name)))
        found = _in_ratios(chain, known)
        if found is None or found.size > SHORT:
            return None
        needed = {v.label for v in _leaves_of(chain)} & lines.keys()
        while True:  # add the lines that these lines need
            more = {n for name in needed for n in names_in(lines[name][1]) if n in lines} - needed
            if not more:
                break
            needed |= more
        if needed:
            self._say(f"Solve the definitions for the pieces, the last one first, in terms of {self.name}:",
                      *(line for name, line in lines.items() if name in needed))  # fmt: skip
        own = Name(self.name)
        ratios: dict[Formula, Formula] = {Name(name): line[2] for name, line in lines.items()}
        put_in = [] if self.in_pieces else [substituted(formula(chain), ratios)]
        equation = (self._derivative, *put_in, found.formula(own), _factored(found, own))
        self._say("Put these in, and collect:", equation)
        return Result(_factored(found, own), _at(found, self._itself))

    def _put_in(self, chain: Any) -> Result | None:
        """The derivative as a quotient of polynomials in x, √x or an exponential, or in σ or tanh."""
        for unknown, ratios, power in self._fields():
            found = _in_ratios(chain, ratios)
            if found is None:
                times = self._times_itself(chain, ratios)
                if times:
                    own = multiplied([*_factors_of(times.formula(unknown)), Name(self.name)])
                    self._say("Put the definitions in, and collect:", (self._derivative, own))
                    return Result(own, _multiple(_at(times, _of_power(power)), self._itself))
                continue
            if not isinstance(unknown, Call) or unknown.function != "exp":
                if found.size > 2 * SHORT:
                    return None
                self._say("Put the definitions in, and collect:", (self._derivative, found.formula(unknown)))
                return Result(found.formula(unknown), _at(found, _of_power(power)))
            u = Name("u")
            self._say(f"Put the definitions in, with u = {unknown}, and collect:",
                      (self._derivative, found.formula(u)))  # fmt: skip
            made = []
            for base, ratio, value_of in self._bases(ratios, power):
                with contextlib.suppress(OverflowError):
                    c = next(
                        c
                        for degree in (1, 2, 3)
                        if (c := combination(found, [ratio**k for k in range(degree + 1)])) or degree == 3
                    )
                    if c is not None:
                        made.append((Ratio(c), base, ratio, value_of))
            made.sort(key=lambda each: each[0].size)
            if made and made[0][0].size < SHORT:
                whole, base, ratio, value_of = made[0]
                result = _factored(whole, base)
                equations = (base, ratio.formula(u)), (result, found.formula(u)), (self._derivative, result)
                self._say(f"That is made of {base}:", *equations)
                return Result(result, _at(whole, value_of))
            if found.size <= SHORT:
                return Result(found.formula(unknown), _at(found, _of_function(ops.exp, power)))
            self.steps.pop()
        return None

    def _times_itself(self, chain: Any, ratios: Mapping[str, Ratio]) -> Ratio | None:
        """The derivative divided by the function, if a quotient of polynomials: −2 x for exp(−x²)."""
        one, two, three = (_in_ratios(chain, {**ratios, self.name: Ratio.of(n)}) for n in (1.0, 2.0, 3.0))
        if one is None or two != one * Ratio.of(2.0) or three != one * Ratio.of(3.0) or one.size > SHORT:
            return None
        return one

    def _bases(self, ratios: Mapping[str, Ratio], unit: Fraction) -> Iterator[tuple[Formula, Ratio, Any]]:
        """Parts that a derivative may have: the function itself, σ and tanh of multiples of x."""
        if self.name in ratios:
            yield Name(self.name), ratios[self.name], self._itself
        one = Ratio.of(1.0)
        for row in (ops.sigmoid, ops.tanh):
            for m in (Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), Fraction(1, 2)):
                n = m / unit * (2 if row is ops.tanh else 1)
                if n.denominator == 1:
                    try:
                        power = Ratio.unknown(int(n))
                        ratio = power / (one + power) if row is ops.sigmoid else (power - one) / (power + one)
                    except OverflowError:  # of a high power of the unknown, which makes nothing short
                        continue
                    x = multiplied([Number(float(m)), Name("x")]) if m != -1 else Negative(Name("x"))
                    yield Call(SIGNS.get(row, row.name), (x,)), ratio, _of_function(row, m)

    def _fields(self) -> Iterator[tuple[Formula, dict[str, Ratio], Any]]:
        """The unknowns to try, each with the pieces in it, and its power of x or the factor in its exp."""
        x = Name("x")
        yield x, self._ratios({self.x: Ratio.unknown()}, None, False), 1
        yield Call("√", (x,)), self._ratios({self.x: Ratio.unknown(2)}, None, True), 0.5
        linear = self._linear()
        exponents = [linear.get(v.x) for v in self.pieces if v.row in (ops.exp, ops.sigmoid, ops.tanh)]
        if exponents and None not in exponents:
            whole = math.lcm(*(a.denominator for a in exponents if a))
            unit = Fraction(math.gcd(*(int(a * whole) for a in exponents if a)), whole)
            exponent = x if unit == 1 else multiplied([Number(float(unit)), x])
            yield (
                Call("exp", (exponent,)),
                self._ratios({}, {v: a / unit for v, a in linear.items()}, False),
                unit,
            )

    def _linear(self) -> dict[Value, Fraction]:
        """The pieces that are multiples of x, with their factors."""
        found = {self.x: Fraction(1)}
        for v in self.pieces:
            a, b = found.get(v.x), found.get(v.y)
            if v.row is ops.neg and a:
                found[v] = -a
            elif v.row in (ops.mul, ops.div) and a and type(v.y) is float:
                c = Fraction(repr(v.y))
                found[v] = a * c if v.row is ops.mul else a / c
            elif v.row is ops.mul and b and type(v.x) is float:
                found[v] = b * Fraction(repr(v.x))
            elif v.row in (ops.add, ops.sub) and a and b:
                found[v] = a + b if v.row is ops.add else a - b
        return {v: a for v, a in found.items() if a}

    def _ratios(
        self, given: dict[Value, Ratio], exponents: Mapping[Value, Fraction] | None, roots: bool
    ) -> dict[str, Ratio]:
        """The pieces that are quotients of polynomials in the unknown, by name."""
        found = {self.symbols[v]: ratio for v, ratio in given.items()}
        found |= {x: Ratio.of(x._data) for x in self.symbols.values() if not x.label}
        for v in self.pieces:
            with contextlib.suppress(ZeroDivisionError, OverflowError):
                root = v.row is ops.sqrt or (v.row is ops.pow and type(v.y) is float and v.y == 0.5)
                ratio = _exponential(v, exponents) if exponents is not None else None
                if roots and root and found.get(self._symbol(v.x)) == Ratio.unknown(2):
                    ratio = Ratio.unknown()
                ratio = ratio or _applied_to_ratios(v.row, self._given(v), found)
                if ratio is not None:
                    found[self.symbols[v]] = ratio
        return {x.label: ratio for x, ratio in found.items() if x.label}

    def _as_it_is(self, chain: Any) -> Result:
        """The derivative with the definitions put in where they are not long, if no short form was found."""
        inlined: dict[Formula, Formula] = {}
        for v in self.pieces:
            definition = substituted(self._definition(v), inlined)
            if len(str(definition)) < LONG:
                inlined[self._name(v)] = definition
        size: dict[Value, int] = {}  # the size of each Value's expression
        for v in topological_order(chain) if isinstance(chain, Value) else ():
            size[v] = 1 + sum(size[o] for o in parents(v))
        if self.in_pieces and max(size.values(), default=0) > LONG:
            whole = self.in_pieces
        else:
            whole = substituted(formula(chain), inlined)
        self._say("No shorter form was found:", (self._derivative, whole))
        return Result(whole, _of_graph(chain), is_short=False)

    def check(self, result: Result) -> tuple[float, int]:
        """The largest error against differences of f, and the number of points; ValueError if it is large."""
        slopes = list(_slopes_of(self.f))
        if not slopes:
            raise ValueError("this cannot be checked: differences say nothing sure about its slope anywhere")
        worst, least = 0.0, 1e-3 * max(abs(slope) for _, slope, _ in slopes)
        for x, slope, rounding in slopes:
            data: dict[Value, float] = {self.x: x}
            for v in self.pieces:
                data[v] = v.row.compute(*(_data(self._firsts(o), data) for o in (v.x, v.y) if o is not None))
            found = result.value({self.symbols[v].label: number for v, number in data.items()})
            off = abs(found - slope)
            if not off <= 1e-4 * max(abs(slope), least) + rounding:
                raise ValueError(
                    f"at x = {x:g} the derivative of this graph is {found:g}, and differences of the function"
                    f" say {slope:g}: there is a branch, a detach() or a wrong rule in it"
                )
            worst = max(worst, off / max(abs(slope), least) if off else 0.0)
        return worst, len(slopes)


@dataclass
class Result:
    """A derivative: its formula, and its number as a function of those of x and the pieces."""

    formula: Formula
    value: Callable[[Numbers], float]
    is_short: bool = True


def _at(ratio: Ratio, unknown: Callable[[Numbers], float]) -> Callable[[Numbers], float]:
    return lambda numbers: ratio.at(unknown(numbers))


def _of_power(power: float) -> Callable[[Numbers], float]:
    return lambda numbers: numbers["x"] ** power


def _of_function(row: Primitive, factor: Fraction) -> Callable[[Numbers], float]:
    return lambda numbers: row.compute(float(factor) * numbers["x"])


def _multiple(x: Callable[[Numbers], float], y: Callable[[Numbers], float]) -> Callable[[Numbers], float]:
    return lambda numbers: x(numbers) * y(numbers)


def _factors_of(f: Formula) -> tuple[Formula, ...]:
    return f.factors if isinstance(f, Product) else (f,)


def _letters() -> Iterator[str]:
    for number in itertools.count():
        for letter in "abcdghkmpqrsvwz":
            yield f"{letter}{number}" if number else letter


def _without_repeats(parts: tuple[Formula, ...]) -> tuple[Formula, ...]:
    return tuple({str(part): part for part in parts}.values())


def _graph_of(f: Callable[[Any], Any]) -> tuple[Value, Value]:
    """x, and the Value that f returns for x."""
    problem: Exception | None = None
    for start in (0.7, 1.3, -0.7, 0.1, 3.0, -3.0):
        x = Value(start)
        try:
            y = f(x)
        except ArithmeticError as error:
            problem = error
            continue
        if not isinstance(y, Value):
            raise TypeError(f"derivation takes a function that gives a Value for a Value, not {y!r:.80}")
        return x, y
    raise ValueError(f"this function has no value where it was tried: {problem}") from problem


def _exponential(v: Value, exponents: Mapping[Value, Fraction]) -> Ratio | None:
    """exp, σ or tanh of a multiple of x, in an unknown of which these `exponents` give the powers."""
    exponent = exponents.get(v.x)
    if exponent is None or exponent.denominator != 1:
        return None
    power, one = Ratio.unknown(int(exponent)), Ratio.of(1.0)
    if v.row is ops.exp:
        return power
    if v.row is ops.sigmoid:
        return power / (one + power)
    return (power * power - one) / (power * power + one) if v.row is ops.tanh else None


def _slopes_of(f: Callable[[Any], Any]) -> Iterator[tuple[float, float, float]]:
    """x, the slope there by differences of four points, and how far rounding may put it off.

    Only an x where two widths agree is taken: then no kink is near.
    """
    found = 0
    for start, stop in ((-4.0, 4.0), (4.0, 12.0), (-12.0, -4.0)):
        for i in range(POINTS):
            x, slopes, size = start + (i + 0.5) * (stop - start) / POINTS, [], 0.0
            for h in (1e-3, 5e-4):
                with contextlib.suppress(ArithmeticError):
                    values = [f(Value(x + k * h))._data for k in (-2, -1, 1, 2)]
                    slopes.append((8.0 * (values[2] - values[1]) - (values[3] - values[0])) / (12.0 * h))
                    size = max(size, *map(abs, values))
            rounding = 2e-12 * size
            if len(slopes) == 2 and abs(slopes[0] - slopes[1]) <= 1e-7 * max(map(abs, slopes)) + rounding:
                yield x, slopes[0], rounding
                found += 1
            if found == POINTS:
                return


def _data(x: Any, data: Mapping[Value, float]) -> Any:
    if type(x) is tuple:
        return tuple(_data(each, data) for each in x)
    return data.get(x, x._data) if isinstance(x, Value) else x


def _of_graph(x: Any) -> Callable[[Numbers], float]:
    """A Value of symbols, as a function of the symbols' numbers."""
    order = topological_order(x) if isinstance(x, Value) else []

    def number(numbers: Numbers) -> float:
        data: dict[Value, float] = {}
        for v in order:
            given = (_data(o, data) for o in (v.x, v.y) if o is not None)
            data[v] = v.row.compute(*given) if v.row else numbers.get(v.label, v._data)
        return _data(x, data)

    return number


def _leaves_of(x: Any) -> list[Value]:
    return [v for v in topological_order(x) if not v.row] if isinstance(x, Value) else []


def _in_ratios(x: Any, known: Mapping[str, Ratio]) -> Ratio | None:
    """A Value of symbols as a quotient of polynomials; None if it is none, or a large one."""
    if not isinstance(x, Value):
        return Ratio.of(x)
    found: dict[Value, Ratio | None] = {}
    try:
        for v in topological_order(x):
            if v.row:
                found[v] = _applied_to_ratios(v.row, [o for o in (v.x, v.y) if o is not None], found)
            else:
                found[v] = known.get(v.label) if v.label else Ratio.of(v._data)
    except (ZeroDivisionError, OverflowError):
        return None
    return found[x]


def _applied_to_ratios(
    row: Primitive, operands: list[Any], found: Mapping[Value, Ratio | None]
) -> Ratio | None:
    """A row of the table applied to quotients of polynomials; None if the result is no such quotient."""

    def ratio(x: Any) -> Ratio | None:
        return found.get(x) if isinstance(x, Value) else Ratio.of(x)

    if row is ops.pow and type(operands[1]) is float and operands[1].is_integer() and abs(operands[1]) < 20:
        base = ratio(operands[0])
        return None if base is None else base ** int(operands[1])
    rule = _OF_RATIOS.get(row)
    if rule is None:
        return None
    ratios = [[ratio(x) for x in (o if type(o) is tuple else (o,))] for o in operands]
    return None if any(each is None for part in ratios for each in part) else rule(*ratios)


_OF_RATIOS: dict[Primitive, Callable[..., Ratio]] = {
    ops.add: lambda x, y: x[0] + y[0],
    ops.sub: lambda x, y: x[0] - y[0],
    ops.mul: lambda x, y: x[0] * y[0],
    ops.div: lambda x, y: x[0] / y[0],
    ops.neg: lambda x: -x[0],
    ops.total: lambda xs: sum(xs[1:], xs[0]),
    ops.dot: lambda xs, ys: sum((x * y for x, y in zip(xs[1:], ys[1:])), xs[0] * ys[0]),
}


def _inverse(v: Value, symbol: Callable[[Any], Any], known: Mapping[str, Ratio]) -> Any:
    """The operand of a known piece, its formula, and its Ratio in the function: c = 1 / s, from s = 1 / c."""
    if v.row not in (ops.add, ops.sub, ops.mul, ops.div, ops.neg, ops.sqrt):
        return None
    inside = [o for o in (v.x, v.y) if isinstance(o, Value)]
    out = symbol(v)
    if len(inside) != 1 or out.label not in known:
        return None
    number = v.y if inside[0] is v.x else v.x
    if number == 0.0 and v.row in (ops.mul, ops.div):
        return None
    how = {
        ops.add: lambda: out - number,
        ops.sub: lambda: out + number if inside[0] is v.x else number - out,
        ops.mul: lambda: out / number,
        ops.div: lambda: out * number if inside[0] is v.x else number / out,
        ops.neg: lambda: -out,
        ops.sqrt: lambda: out * out,
    }[v.row]()
    ratio = _in_ratios(how, known)
    return (inside[0], formula(how), ratio) if ratio is not None else None


def _factored(ratio: Ratio, unknown: Formula) -> Formula:
    """s(1 − s) for s − s²: a power of the unknown is taken out, if more than one term has it."""
    lowest = next((n for n, c in enumerate(ratio.above) if c), 0)
    if ratio.below != ONE or not lowest or sum(map(bool, ratio.above)) < 2:
        return ratio.formula(unknown)
    power = unknown if lowest == 1 else Power(unknown, Number(float(lowest)))
    return Product((power, polynomial_formula(ratio.above[lowest:], unknown)))
