"""Random scalar programs, as a Hypothesis strategy: `programs()` draws a Program. Also an oracle.

A Program runs on anything that has the operators and the primitives: Values, floats, arrays.
"""

import math
from dataclasses import dataclass

from autograd import Value, dot, total
from autograd.ops import TABLE

# Each keeps its primitive inside its domain, and a program's numbers small.
UNARY = {
    "neg": lambda x: -x,
    "sin": TABLE["sin"],
    "cos": TABLE["cos"],
    "tanh": TABLE["tanh"],
    "sigmoid": TABLE["sigmoid"],
    "softplus": TABLE["softplus"],
    "exp": lambda x: TABLE["exp"](TABLE["tanh"](x)),
    "log": lambda x: TABLE["log"](x * x + 0.5),
    "sqrt": lambda x: TABLE["sqrt"](x * x + 0.25),
    "abs": lambda x: abs(x + 0.1),
    "relu": TABLE["relu"],
    "square": lambda x: (x * 0.25) ** 2,
}
BINARY = {
    "add": lambda x, y: 0.5 * x + y,
    "sub": lambda x, y: 0.5 * x - y,
    "mul": lambda x, y: 0.5 * x * TABLE["tanh"](y),
    "div": lambda x, y: x / (abs(y) + 1.5),
    "pow": lambda x, y: (x * x + 0.5) ** TABLE["sin"](y),
    "maximum": TABLE["maximum"],
    "minimum": TABLE["minimum"],
    "number": lambda x, y: 0.7 * x - 3 / (1.5 + y * y),
}


def _dot(ws, xs):
    return dot(ws, xs) if isinstance(ws[0], Value) else sum(w * x for w, x in zip(ws, xs))


def _total(xs):
    return total(xs) if isinstance(xs[0], Value) else sum(xs)


NARY = {
    "dot": lambda *v: TABLE["tanh"](_dot(v, v[::-1])),
    "total": lambda *v: 0.25 * _total(v),
}


def gradients(f, *data):
    """f's value and its derivatives at data, by backward()."""
    leaves = [Value(x) for x in data]
    out = f(*leaves)
    out.backward()
    return out.data, [leaf.grad for leaf in leaves]


@dataclass(frozen=True)
class Program:
    """Steps (name, indices): each applies an operation to inputs or to what earlier steps gave."""

    inputs: tuple[float, ...]
    steps: tuple[tuple[str, tuple[int, ...]], ...]

    def __call__(self, *inputs):
        values = list(inputs)
        for name, indices in self.steps:
            operation = UNARY.get(name) or BINARY.get(name) or NARY[name]
            values.append(operation(*(values[i % len(values)] for i in indices)))
        return values[-1]


def programs(max_steps: int = 12):
    """Programs of 1 to 4 inputs; operands are drawn from all that went before, so graphs share."""
    from hypothesis import strategies as st  # here: this module is imported where there is none, too

    index = st.integers(0, 30)
    step = st.one_of(
        st.tuples(st.sampled_from(sorted(UNARY)), st.tuples(index)),
        st.tuples(st.sampled_from(sorted(BINARY)), st.tuples(index, index)),
        st.tuples(st.sampled_from(sorted(NARY)), st.lists(index, min_size=1, max_size=4).map(tuple)),
    )
    return st.builds(
        Program,
        st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=4).map(tuple),
        st.lists(step, min_size=1, max_size=max_steps).map(tuple),
    )


class Dual:
    """value + slope ε with ε² = 0: forward differentiation, by rules of its own, as an oracle."""

    def __init__(self, value, slope=0.0):
        self.value, self.slope = value, slope

    def _record(self, primitive, *operands):
        x, *y = (v if isinstance(v, Dual) else Dual(float(v)) for v in operands)
        value, *partials = RULES[primitive.name](x.value, *(v.value for v in y))
        return Dual(value, sum(p * v.slope for p, v in zip(partials, [x, *y])))

    def __add__(self, other):
        return self._record(TABLE["add"], self, other)

    def __sub__(self, other):
        return self._record(TABLE["sub"], self, other)

    def __rsub__(self, other):
        return self._record(TABLE["sub"], other, self)

    def __mul__(self, other):
        return self._record(TABLE["mul"], self, other)

    def __truediv__(self, other):
        return self._record(TABLE["div"], self, other)

    def __rtruediv__(self, other):
        return self._record(TABLE["div"], other, self)

    def __pow__(self, other):
        return self._record(TABLE["pow"], self, other)

    def __lt__(self, other):
        return self.value < other

    def __neg__(self):
        return 0.0 - self

    def __abs__(self):
        return self._record(TABLE["abs"], self)

    __radd__, __rmul__ = __add__, __mul__


def _logistic(x):
    return 0.5 + 0.5 * math.tanh(0.5 * x)


RULES = {
    "add": lambda x, y: (x + y, 1, 1),
    "sub": lambda x, y: (x - y, 1, -1),
    "mul": lambda x, y: (x * y, y, x),
    "div": lambda x, y: (x / y, 1 / y, -x / y**2),
    "pow": lambda x, y: (x**y, y * x**y / x if x else 0, math.log(x) * x**y if x > 0 else 0),
    "sin": lambda x: (math.sin(x), math.cos(x)),
    "cos": lambda x: (math.cos(x), -math.sin(x)),
    "tanh": lambda x: (math.tanh(x), 1 - math.tanh(x) ** 2),
    "exp": lambda x: (math.exp(x), math.exp(x)),
    "log": lambda x: (math.log(x), 1 / x),
    "sqrt": lambda x: (x**0.5, 0.5 * x**-0.5),
    "abs": lambda x: (abs(x), (x > 0) - (x < 0)),
    "relu": lambda x: (max(x, 0), x > 0),
    "sigmoid": lambda x: (_logistic(x), _logistic(x) * _logistic(-x)),
    "softplus": lambda x: (max(x, 0) + math.log1p(math.exp(-abs(x))), _logistic(x)),
    "maximum": lambda x, y: (max(x, y), 1 if x > y else 0.5 * (x == y), 1 if y > x else 0.5 * (x == y)),
    "minimum": lambda x, y: (min(x, y), 1 if x < y else 0.5 * (x == y), 1 if y < x else 0.5 * (x == y)),
}
