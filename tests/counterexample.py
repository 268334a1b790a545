"""A random program as a script that stands alone: it needs autograd, NumPy and mpmath."""

from programs import CUBE, FUNCTIONS, Program

import autograd


def script(program: Program, title: str = "A random program.") -> str:
    """A script that computes the program by every engine, and by mpmath's own differences."""
    used = {name for name in FUNCTIONS if f"{name}(" in program.source and name != "abs"}
    ours = {"Value", "derive", "dot", "total"} | {name for name in used if hasattr(autograd, name)}
    table = ", ".join(sorted(used - ours - {"array", "cube"}))
    user = f"cube = {CUBE}\n" if "cube" in used else ""
    return TEMPLATE.format(
        title=title,
        ours=", ".join(sorted(ours)),
        table=f"from autograd.ops import {table}\n" if table else "",
        source=user + program.source,
        rows=[list(row) for row in program.rows],
        leaves=list(program.leaves),
        direction=program.direction,
    )


TEMPLATE = '''"""{title}

Prints the mean of the sum of the program's outputs over the rows, its gradient by w0, w1, ..., its slope
in a direction, and the slope's gradient.
"""

import itertools
import types

import autograd
from autograd import ops
from autograd import {ours}
{table}from mpmath import mp, mpf
from numpy import array


{source}

ROWS = {rows}
LEAVES = {leaves}
DIRECTION = {direction}


def shown(name, loss, gradient, slope, second):
    print(f"{{name:7}}", *(f"{{float(x)!r:>23}}" for x in (loss, *gradient, slope, *second)))


leaves = [Value(w, f"w{{i}}") for i, w in enumerate(LEAVES)]
loss = total([total(program(*map(Value, row), *leaves)) for row in ROWS]) / len(ROWS)
loss.backward()
eager = [w.grad for w in leaves]
gradient = derive(loss, leaves)
slope = dot(DIRECTION, gradient)
shown("eager", loss.data, eager, slope.data, [g.data for g in derive(slope, leaves)])

for engine in ("numpy", "native"):

    def by_row(x):
        return total(program(*x, *leaves))

    def slope_by_row(x):
        return dot(DIRECTION, derive(by_row(x), leaves))

    found = []
    try:
        for f in (by_row, slope_by_row):
            for w in leaves:
                w.grad = 0.0
            found += [autograd.compile(f, engine=engine).backward(ROWS), [w.grad for w in leaves]]
        shown(engine, *found)
    except ImportError as error:
        print(engine, error)


def extreme(choose):
    def chosen(*xs):
        return list(map(chosen, *xs)) if isinstance(xs[0], list) else choose(xs)

    return chosen


def where(condition, *branches):
    branch = branches[0 if condition & 1 else 1]
    return branch() if callable(branch) else branch


def detach(x):  # the same at every point as at the first
    return detached.setdefault(next(calls), x)


mp.dps, detached = 50, {{}}
on_mpmath = dict(
    **{{name: getattr(mp, name) for name in "exp log sqrt sin cos tanh sign tan asin acos atan".split()}},
    **{{name: getattr(mp, name) for name in "sinh cosh asinh acosh atanh log1p expm1 log10 cbrt".split()}},
    **{{name: getattr(mp, name) for name in "atan2 hypot erf erfc floor ceil".split()}},
    log2=lambda x: mp.log(x, 2),
    logaddexp=lambda x, y: y + mp.log1p(mp.exp(x - y)),
    lgamma=mp.loggamma,
    polygamma=lambda n, x: mp.psi(int(n), x),
    remainder=lambda x, y: x - y * mp.floor(x / y),
    floor_divide=lambda x, y: mp.floor(x / y),
    copysign=lambda x, y: abs(x) * mp.sign(y),
    abs=abs,
    array=array,
    cube=lambda x: x**3,
    detach=detach,
    maximum=extreme(max),
    minimum=extreme(min),
    where=where,
    relu=lambda x: max(x, 0),
    step=lambda x, y: (1 + mp.sign(x - y)) / 2,
    sigmoid=lambda x: 1 / (1 + mp.exp(-x)),
    softplus=lambda x: mp.log1p(mp.exp(x)),
    total=sum,
    dot=lambda ws, xs: sum(w * x for w, x in zip(ws, xs)),
    matvec=lambda rows, xs: [sum(w * x for w, x in zip(row, xs)) for row in rows],
)
exactly = types.FunctionType(program.__code__, on_mpmath)


n = range(len(LEAVES))


def mean(*leaves):
    global calls
    calls = itertools.count()
    return sum(sum(exactly(*map(mpf, row), *leaves)) for row in ROWS) / len(ROWS)


def difference(*orders):  # where a kink is hit, that of neither side
    count = [orders.count(i) for i in n]
    return mp.diff(mean, tuple(map(mpf, LEAVES)), tuple(count))


loss = mean(*map(mpf, LEAVES))
gradient = [difference(i) for i in n]
slope = sum(d * g for d, g in zip(DIRECTION, gradient))
second = [sum(DIRECTION[j] * difference(i, j) for j in n) for i in n]
shown("mpmath", loss, gradient, slope, second)
'''
