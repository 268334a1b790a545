"""Random programs with structure, as people write them: matrices, windows, heads and time, in plain loops.

    python tests/structures.py --minutes 5  # compile against Values, until a difference

A program is drawn by a seed: `structured(seed)` gives a function of one example, leaves, and its data. Each
step makes a tensor of Values of another, of at most three axes and a few elements along each, in loops over
elements: graphs have the regularity that lift looks for, and its many exceptions.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import autograd
from autograd import Value, dot, logsumexp, maximum, total, where
from autograd.program.variant import MANY_ROWS

STEPS: dict[str, Callable[..., np.ndarray]] = {}


def step(f: Callable[..., Any]) -> Callable[..., Any]:
    STEPS[f.__name__] = f
    return f


def added(rng: np.random.Generator, terms: Any) -> Any:
    """The sum of terms, in one of the ways to write it."""
    way = rng.integers(4)
    if way == 0:
        return sum(terms)
    if way == 1:
        return total(terms)
    out = terms[0] if way == 2 else 0.0
    for term in terms[1 if way == 2 else 0 :]:
        out = out + term
    return out


def tensor(shape: Any, element: Callable[..., Any]) -> np.ndarray:
    out = np.empty(shape, dtype=object)
    for index in np.ndindex(*out.shape):
        out[index] = element(*index)
    return out


# A step takes a generator, a tensor a, and `pick(shape)`, which gives a tensor of leaves; None is any length.


@step
def product(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Σₖ a[i,k] b[k,j], with either or both transposed, also in the result."""
    a = a.reshape(a.shape[0], -1) if a.ndim > 1 else a.reshape(1, -1)
    a = a.T if rng.random() < 0.5 else a
    flip, swap, by_dot = rng.random(3) < 0.5
    b = pick((None, a.shape[1])) if flip else pick((a.shape[1], None)).T
    rows, columns = len(a), len(b)

    def element(i: int, j: int) -> Any:
        pairs = list(zip(a[i], b[j]))
        return dot(*zip(*pairs)) if by_dot else added(rng_of(seed), [x * y for x, y in pairs])

    seed = rng.integers(2**32)
    out = tensor((rows, columns), element)
    return tensor((columns, rows), lambda i, j: out[j, i]) if swap else out


def rng_of(seed: Any) -> np.random.Generator:
    return np.random.default_rng(seed)


FUNCTIONS: list[Callable[..., Any]] = [
    np.tanh,
    np.sin,
    abs,
    lambda x: x.sigmoid(),
    lambda x: (0.3 * x).exp(),
    lambda x: x * x,
    lambda x: x**3,
    lambda x: x.relu(),
    lambda x: 1.0 / (1.0 + x * x),
    lambda x: where(x > 0.2, x, 0.1 * x),
]


@step
def unary(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    f = FUNCTIONS[rng.integers(len(FUNCTIONS))]
    return tensor(a.shape, lambda *i: f(a[i]))


@step
def along(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """An operation with a vector along one axis, or with a tensor of the same shape."""
    ways: list[Callable[..., Any]] = [
        lambda x, y: x + y,
        lambda x, y: x * y,
        lambda x, y: x - y,
        maximum,
        lambda x, y: y - x * 0.5,
    ]
    f = ways[rng.integers(len(ways))]
    axis = rng.integers(a.ndim)
    if rng.random() < 0.3:
        b = pick(a.shape)
        return tensor(a.shape, lambda *i: f(a[i], b[i]))
    b = pick((a.shape[axis],))
    return tensor(a.shape, lambda *i: f(a[i], b[i[axis]]))


@step
def window(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """A convolution along the last axis, with a stride, perhaps of several filters."""
    n = a.shape[-1]
    if n < 2:
        return a
    k = int(rng.integers(2, min(n, 3) + 1))
    stride, filters = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    w, seed = pick((filters, k)), rng.integers(2**32)
    long = (n - k) // stride + 1

    def element(c: int, *i: Any) -> Any:
        *rest, t = i
        return added(rng_of(seed), [w[c, j] * a[(*rest, t * stride + j)] for j in range(k)])

    if a.ndim > 2:
        return tensor((*a.shape[:-1], long), lambda *i: element(0, *i))
    return tensor((filters, *a.shape[:-1], long), element)


@step
def heads(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Attention within parts of the last axis, perhaps causal."""
    if a.ndim != 2 or a.shape[1] % 2:
        return a
    t, d = a.shape
    causal, seed = rng.random() < 0.5, rng.integers(2**32)
    out = np.empty((t, d), dtype=object)
    for h in range(2):
        part = slice(h * d // 2, (h + 1) * d // 2)
        for i in range(t):
            seen = range(i + 1) if causal else range(t)
            scores = [added(rng_of(seed), [x * y for x, y in zip(a[i, part], a[s, part])]) for s in seen]
            exps = [(0.2 * x).exp() for x in scores]
            for c in range(d // 2):
                out[i, h * d // 2 + c] = sum(e * a[s, h * d // 2 + c] for s, e in zip(seen, exps)) / sum(exps)
    return out


@step
def recurrence(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """h ← tanh(W x + U h + b) along the first axis; perhaps all h, or the last."""
    if a.ndim != 2:
        return a
    n = int(rng.integers(1, 4))
    w, u, b, every = pick((n, a.shape[1])), pick((n, n)), pick((n,)), rng.random() < 0.5
    h, hs = ([0.0] * n, b.tolist(), [0.5] * n)[rng.integers(3)], []
    for x in np.concatenate([a] * int(rng.integers(1, 3))):
        h = [np.tanh(dot(w[i], x) + sum(u[i][j] * h[j] for j in range(n)) + b[i]) for i in range(n)]
        hs.append(h)
    return np.array(hs if every else h, dtype=object)


ONE_STEP = [
    lambda w, c, x, u, v, before: np.tanh(w[0] * u + w[1] * v + w[2] * x),
    lambda w, c, x, u, v, before: u + 0.1 * (w[0] * np.sin(v)),
    lambda w, c, x, u, v, before: 0.5 * u - 0.3 * before + w[1],
    lambda w, c, x, u, v, before: c * np.tanh(u) + w[0] * x,
    lambda w, c, x, u, v, before: u - (u * u - 1.0 - abs(w[2])) / (1.0 + u * u + v * v),
    lambda w, c, x, u, v, before: v * 0.9 + x,
]


@step
def scan(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """A state that alike steps carry on, with data and numbers of their own; perhaps the sum of all."""
    a = a.ravel()
    k, steps = int(rng.integers(1, 4)), int(rng.integers(3, 9))
    w, c = pick((k, 3)), rng.normal(size=steps)
    state = before = [a[j % len(a)] for j in range(k)]
    ways, reverse, states = rng.integers(len(ONE_STEP), size=k), rng.random() < 0.5, []
    for t in range(steps):
        x, after = a[(steps - 1 - t if reverse else t) % len(a)], list[Any]()
        for j in range(k):
            u, v = state[j], (state + after)[-1 - j]
            after.append(ONE_STEP[ways[j]](w[j], c[t], x, u, v, before[j]))
        state, before = after, state
        states.append(after)
    way = rng.integers(3)
    return np.array([states, state, [sum(each) for each in zip(*states)]][way], dtype=object)


@step
def shifted(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    """Differences of neighbours along the last axis, or sums up to each."""
    n = a.shape[-1]
    if rng.random() < 0.5 and n > 1:
        return tensor((*a.shape[:-1], n - 1), lambda *i: a[(*i[:-1], i[-1] + 1)] - a[i])
    out = a.copy()
    for i in range(1, n):
        out[..., i] = out[..., i - 1] + out[..., i]
    return out


@step
def neighbours(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Sums over neighbours along both last axes, on a ring, at a wall, or with nothing beyond the ends."""
    way, weighted, steps = rng.integers(4), rng.random() < 0.5, int(rng.integers(1, 5))
    far = [tuple(x) for x in rng.integers(-2, 3, size=(int(rng.integers(2, 5)), min(a.ndim, 2)))]
    w, seed = pick((len(far),)), rng.integers(2**32)

    def at(i: int, n: int) -> int:
        return (i % n, min(max(i, 0), n - 1), i, abs(i) % n)[way]

    for _ in range(steps if a.size < 13 else 1):

        def element(*i: int, a: np.ndarray = a) -> Any:
            places = [[at(x + d, n) for x, d, n in zip(i[-len(by) :], by, a.shape[-len(by) :])] for by in far]
            there = [0 <= min(p) and all(x < n for x, n in zip(p, a.shape[-len(p) :])) for p in places]
            found = [a[(*i[: -len(p)], *p)] if is_there else None for p, is_there in zip(places, there)]
            terms = [v * x if weighted else x for v, x in zip(w, found) if x is not None]
            return a[i] + 0.1 * added(rng_of(seed), terms) if terms else a[i]

        a = tensor(a.shape, element)
    return a


WALLS: list[Callable[..., Any]] = [
    lambda w, u, a, b: u + w * (a - 2.0 * u + b),
    lambda w, u, a, b: u - w * (u - a),
    lambda w, u, a, b: 0.5 * (a + b) + w,
    lambda w, u, a, b: u - 0.1 * u * (b - a) / 2.0,
    lambda w, u, a, b: w * (b - u) - 0.3 * (u - a),
    lambda w, u, a, b: np.tanh(w * u + 0.2 * (a - b) ** 2),
    lambda w, u, a, b: maximum(u, a) - 0.5 * b,
    lambda w, u, a, b: (w * a + u) / (2.0 + b * b),
]


@step
def walls(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Steps of cells between walls along one axis or two: of numbers, leaves or the first cells of all."""
    if a.size < 7:
        a = np.concatenate([a, *[a * 0.5] * int(rng.integers(3))], axis=int(rng.integers(a.ndim)))
    axes = [i for i in range(a.ndim) if a.shape[i] > 1][-int(rng.integers(1, 3)) :]
    steps = int(rng.integers(1, 5 if a.size < 13 else 2))
    f, w = WALLS[rng.integers(len(WALLS))], pick(a.shape if rng.random() < 0.3 else (1,))
    sides = []
    for axis in axes:
        face = tuple(np.delete(a.shape, axis))
        some = [np.zeros(face), np.ones(face), pick(face), np.take(a, [0], axis), rng.normal(size=face)]
        sides.append([np.reshape(some[k], face) for k in rng.integers(5, size=2)])
    if rng.random() < 0.2:
        a = pick(a.shape)  # the same for all rows, but for what comes from the walls
    for _ in range(steps):
        new = np.empty_like(a)
        for i in np.ndindex(*a.shape):
            new[i] = a[i]
            for axis, walls in zip(axes, sides):
                near = []
                for wall, j in zip(walls, (i[axis] - 1, i[axis] + 1)):
                    rest = (*i[:axis], *i[axis + 1 :])
                    inside = 0 <= j < a.shape[axis]
                    x = a[(*i[:axis], j, *i[axis + 1 :])] if inside else wall[rest]
                    near.append(x if isinstance(x, Value) else float(x))
                new[i] = f(w[i] if w.shape == a.shape else w.ravel()[0], new[i], *near)
        a = new
    return a


STENCILS: list[Callable[..., Any]] = [
    lambda w, u, a, b, c, d: (w * u + 0.3 * (a + b) - 0.2 * (c + d)).tanh(),
    lambda w, u, a, b, c, d: u + 0.1 * (a + b + c + d - 4.0 * u) - w * u * u,
    lambda w, u, a, b, c, d: u + w * (a - 2.0 * u + b) + 0.1 * (c - 2.0 * u + d),
    lambda w, u, a, b, c, d: u - w * (b - a) - 0.2 * (d - c),
    lambda w, u, a, b, c, d: u + 0.1 * w * ((a - u) ** 2 + (b - u) ** 2 + (c - u) ** 2 + (d - u) ** 2),
    lambda w, u, a, b, c, d: maximum(u, maximum(a, c)) - w * maximum(b, d),
]


@step
def around(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Steps of cells of a torus in a flat list, whose cells are the elements over and over."""
    n, m = rng.integers(2, 6, size=2).tolist()
    f, w = STENCILS[rng.integers(len(STENCILS))], 0.3 * pick((1,))[0]
    u = [np.tanh(a.flat[k % a.size]) for k in range(n * m)]  # small, as some stencils grow
    by_weight = pick((n * m,)) if rng.random() < 0.5 else None
    u = u if by_weight is None else [x * v for x, v in zip(u, by_weight)]
    for _ in range(int(rng.integers(1, 4))):
        far = [(k - m, k + m, k - k % m + (k - 1) % m, k - k % m + (k + 1) % m) for k in range(n * m)]
        u = [f(w, x, *(u[k % (n * m)] for k in near)) for x, near in zip(u, far)]
    return tensor((n, m), lambda i, j: u[m * i + j])


@step
def rotated(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    """Pairs along the last axis, rotated by angles of their own, of which the first is 0."""
    if a.shape[-1] % 2:
        return a
    out, rate = a.copy(), rng.random()
    for *i, j in np.ndindex(*a.shape[:-1], a.shape[-1] // 2):
        c, s = (f(rate * (sum(i) + j)) for f in (np.cos, np.sin))
        x, y = a[(*i, 2 * j)], a[(*i, 2 * j + 1)]
        out[(*i, 2 * j)], out[(*i, 2 * j + 1)] = x * c - y * s, x * s + y * c
    return out


@step
def pairs(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Products of pairs i < j, weighted by a packed vector."""
    a = a.ravel()[:5]
    n = len(a)
    if n < 2:
        return a
    w = pick((n * (n - 1) // 2,))
    products = [a[i] * a[j] for i in range(n) for j in range(i + 1, n)]
    return np.array([x * y for x, y in zip(w, products)], dtype=object)


@step
def triangle(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Sums over j up to i, or from i on."""
    a = a.ravel()[:5]
    w, up, seed = pick((len(a), len(a))), rng.random() < 0.5, rng.integers(2**32)
    ranges = [range(i + 1) if up else range(i, len(a)) for i in range(len(a))]
    return np.array(
        [added(rng_of(seed), [w[i, j] * a[j] for j in ranges[i]]) for i in range(len(a))], dtype=object
    )


@step
def energies(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """What pairs have together, added for all pairs, and perhaps for each one that takes part."""
    points = a.reshape(-1, a.shape[-1])[:6, :3] if a.ndim > 1 else a.reshape(-1, 1)[:7]
    n, way, kind = len(points), rng.integers(4), rng.integers(6)
    m, c = pick((n,)), float(rng.uniform(0.1, 1.0))
    width = int(rng.integers(1, n + 1))

    def joined(i: int, j: int) -> Any:
        return [i < j, i <= j, 0 < j - i <= 2, j - i == width or (j - i == 1 and j % width)][way]

    def together(i: int, j: int) -> Any:
        far = sum((x - y) ** 2 for x, y in zip(points[i], points[j])) + c
        if kind == 5:
            return m[i] * sum(x * y for x, y in zip(points[i], points[j])) * m[j]
        return [m[i] * m[j] / far**0.5, (-far).exp(), far.log() * m[j], m[i] / far, far.tanh()][kind]

    pairs = {(i, j): together(i, j) for i in range(n) for j in range(i, n) if joined(i, j)}
    energy, of_each = m[0], [0.5 * x for x in m]
    for (i, j), x in pairs.items():
        energy = energy - x
        if rng.random() < (0.0 if width % 2 else 0.1):
            energy = energy + m[j]
        of_each[i] = of_each[i] + x * m[j]
        if i != j:
            of_each[j] = of_each[j] + x * m[i]
    return np.array([energy] if width % 3 else [energy, *of_each], dtype=object)


@step
def matrices(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Steps of a small matrix: times one with zeros and ones, and more, or less, on some of its elements."""
    n, (way, what, update) = int(rng.integers(2, 4)), rng.integers(5, size=3)
    given = pick((n, n)) if rng.random() < 0.3 else np.resize(a.ravel(), (n, n))
    m = given if rng.random() < 0.5 else np.eye(n).astype(object)
    b, w, signs = pick((n, n)).copy(), pick((n,)), rng.choice([-1.0, 1.0], size=(n, n))
    for i in np.ndindex(n, n):
        b[i] = [b[i], b[i], -b[i], 0.0, 1.0][rng.integers(5)]
    there = [np.eye(n), np.arange(n) < 1, np.arange(n)[:, None] < 1, np.tri(n), rng.random((n, n)) < 0.4][way]
    there = np.broadcast_to(there, (n, n)).astype(bool)
    signs = signs if rng.random() < 0.2 else np.full((n, n), signs[0, 0])
    for _ in range(int(rng.integers(1, 4))):
        m = tensor((n, n), lambda i, j, m=m: sum(m[i, k] * b[k, j] for k in range(n)))
        by = w[1] * w[0], 0.25, a.flat[0]

        def element(i: int, j: int, m: np.ndarray = m, by: Any = by) -> Any:
            more = [*by, w[i], w[j] * m[0, i]][what]
            return m[i, j] + (more if signs[i, j] > 0.0 else -more) if there[i, j] else m[i, j]

        m = tensor((n, n), element)
        if update > 2:
            scale = 2.0 + m[0, 0] * m[0, 0]
            gain = [m[i, 0] / scale for i in range(n)]
            m = tensor((n, n), lambda i, j, m=m, gain=gain: m[i, j] - gain[i] * m[0, j])
    return tensor((n, n), lambda i, j: m[i, j] + 0.0 * w[0])


@step
def softmax(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    axis = int(rng.integers(a.ndim))
    e = tensor(a.shape, lambda *i: (0.5 * a[i]).exp())
    sums = e.sum(axis=axis, keepdims=True)
    return tensor(a.shape, lambda *i: e[i] / sums[tuple(0 if k == axis else j for k, j in enumerate(i))])


@step
def shares(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """exp(z − log Σ exp z), where the sum has all z, those up to or from an index on, or some others."""
    a = a.reshape(-1, a.shape[-1])[:4, :5]
    n, way, of_all = a.shape[1], rng.integers(5), rng.random() < 0.3
    out = np.empty((len(a), n), dtype=object)
    for j in range(n):
        some = [range(n), range(j + 1), range(j, n), [j, 0, j], range(max(0, j - 1), min(n, j + 2))][way]
        for i, z in enumerate(a):
            constants = [0.5] if way == 4 and j % 2 else []
            log = logsumexp([*(z[k] for k in some), *constants])
            out[i, j] = added(
                rng, [0.5 * (z[k] - log).exp() * a[i - 1, k] for k in (range(n) if of_all else some)]
            )
    return out


@step
def normal(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    """Less its mean along the last axis, and divided by its deviation."""
    n = a.shape[-1]
    mean = a.sum(axis=-1, keepdims=True) / n
    less = a - mean
    variance = (less * less).sum(axis=-1, keepdims=True) / n
    return tensor(a.shape, lambda *i: less[i] / (variance[(*i[:-1], 0)] + 0.1) ** 0.5)


@step
def moved(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    """The same elements elsewhere: transposed, reversed, flat, every second, repeated, or in any order."""
    way = rng.integers(6)
    if way == 0:
        return a.T
    if way == 1:
        return a[..., ::-1]
    if way == 2:
        return a.ravel()
    if way == 3:
        return a[..., ::2]
    if way == 4:
        return np.stack([a.ravel()[:6], a.ravel()[:6]])
    return a.ravel()[rng.permutation(a.size)]


@step
def edges(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Sums over a graph's edges: of neighbours, with weights or numbers perhaps, or of differences."""
    x, n, way = a.ravel(), int(rng.integers(6, 12)), rng.integers(4)
    near = [rng.permutation(len(x))[: rng.integers(1, 5)].tolist() for _ in range(n)]
    every = iter(pick((sum(map(len, near)),)) if way == 1 else rng.normal(size=100).tolist())
    terms = [[(next(every), x[j], x[i % len(x)]) for j in of] for i, of in enumerate(near)]
    if way < 2:
        return tensor((n,), lambda i: dot([w for w, *_ in terms[i]], [y for _, y, _ in terms[i]]))
    if way == 2:
        return tensor((n,), lambda i: added(rng, [(y - own).sin() for _, y, own in terms[i]]))
    return tensor((n,), lambda i: 0.5 * terms[i][0][2] + 0.3 * added(rng, [y for _, y, _ in terms[i]]))


@step
def uses(rng: np.random.Generator, a: np.ndarray, pick: Callable[..., Any]) -> np.ndarray:
    """Dots of the rows of a matrix with several vectors; a few elements are others, or 0, and a few signs."""
    n, width = int(rng.integers(1, 5)), int(rng.integers(3, 6))
    w, x, out = pick((n, width)), np.resize(a.ravel(), width), list[Value]()
    for _ in range(int(rng.integers(1, 4))):
        x = np.roll(x, rng.integers(width))
        others = [x, -x, 2.0 * x, np.zeros(width), np.roll(x, 1)]
        ways = rng.choice(5, width, p=[0.8, 0.05, 0.05, 0.05, 0.05])
        ys = [others[way][j] for j, way in enumerate(ways)]
        signs = rng.choice([1.0, -1.0], n) if rng.random() < 0.3 else np.ones(n)
        out += [z if sign > 0.0 else -z for z, sign in zip((dot(row, ys) for row in w), signs)]
        x = np.resize(np.array([0.5 * z.tanh() for z in out[-n:]]), width) if rng.random() < 0.5 else x
    return np.array(out, dtype=object)


@step
def numbers(rng: np.random.Generator, a: np.ndarray, _: Callable[..., Any]) -> np.ndarray:
    """With numbers that differ along an axis, 0 and 1 among them, as in a Fourier transform."""
    c = np.round(rng.normal(size=a.shape[-1]), 1)
    c[rng.integers(len(c))] = rng.integers(2)
    if rng.random() < 0.5:
        return tensor(a.shape, lambda *i: c[i[-1]] * a[i])
    m = int(rng.integers(1, 4))
    f = np.cos(np.outer(np.arange(m), np.arange(a.shape[-1])))
    return tensor(
        (*a.shape[:-1], m), lambda *i: sum(f[i[-1], j] * a[(*i[:-1], j)] for j in range(a.shape[-1]))
    )


def structured(
    seed: int, names: Sequence[str] = (*STEPS,)
) -> tuple[Callable[..., Any], list[Value], list[np.ndarray]]:
    """A function of one example, its leaves, and arrays of data for it, of which the last are indices.

    Its steps are some of these names.
    """
    rng = np.random.default_rng(seed)
    leaves, arrays = (
        list[Value](),
        [rng.normal(size=(3, *rng.integers(1, 5, size=rng.integers(1, 3)))), rng.integers(3, size=(3, 2))],
    )
    lengths, flat = rng.integers(1, 5, size=100), rng.random() < 0.3
    plan = [
        (names[int(rng.integers(len(names)))], int(rng.integers(2**32))) for _ in range(rng.integers(1, 6))
    ]
    made: list[np.ndarray] = []
    labelled, indexed = rng.random() < 0.5, rng.random() < 0.3
    adds = int(rng.integers(6)) % 4  # 0 half of the time

    def f(x: Any, symbols: Any) -> Any:
        used = iter(range(100))

        def pick(shape: Any) -> np.ndarray:
            k = next(used)
            if k == len(made):  # at the first call alone
                shape = tuple(int(lengths[k]) if n is None else int(n) for n in shape)
                name = f"p{k}"
                data = np.random.default_rng([seed % 2**32, k]).normal(size=shape)
                w = tensor(
                    shape, lambda *i: Value(data[i], f"{name}[{','.join(map(str, i))}]" if labelled else "")
                )
                made.append(w)
                leaves.extend(w.ravel())
            return made[k]

        a = np.asarray(x, dtype=object)
        if indexed:
            table = pick((3, a.size)).tolist()
            row = table[int(symbols[0])]
            a = np.array([x * w for x, w in zip(a.ravel(), row)], dtype=object).reshape(a.shape)
        for name, own in plan:
            if a.ndim > 3 or a.size > 40:
                a = a.ravel()[:12]
            a = STEPS[name](np.random.default_rng(own), a.ravel().reshape(a.shape) if flat else a, pick)
        loss = sum(np.tanh(0.3 * v) * (1.0 + 0.1 * k) for k, v in enumerate(a.ravel().tolist()))
        if adds:  # what is the same for all rows, and an entry of the gradient
            (w,), (v,) = pick((1,)), pick((1,))
            loss = loss + (np.exp(w), np.exp(w) * v, np.tanh(w) * v)[adds - 1]
        return loss + 0.0 if isinstance(loss, Value) else loss

    return f, leaves, arrays


def states_with_numbers() -> tuple[Callable[..., Any], list[Value], list[np.ndarray]]:
    """As structured(): states, each times a number of its own, and a loop takes those from the third on."""
    w = [Value(1.1, "w[0]"), Value(-0.7, "w[1]")]

    def f(x: Any) -> Any:
        states, out = [0.9 * x[0] + 1.0, 0.8 * x[1] + 1.2], []
        for _ in range(14):
            squares = [v * v for v in states]
            below = [squares[0] + squares[1] + 1.0, 2.0 * squares[1] + 1.0]
            states = [v - (s - 1.0 - abs(a)) / b for v, s, a, b in zip(states, squares, w, below)]
            out += states
        return sum((1.0 + 0.1 * k) * (0.3 * v).tanh() for k, v in enumerate(out))

    return f, w, [np.random.default_rng(0).normal(size=(3, 2))]


def difference(seed: int, engine: Any = "numpy", names: Sequence[str] = (*STEPS,)) -> float:
    """How far the compiled mean and gradient are from those of Values, relative to the largest of them.

    With NumPy, also those for many rows, for which it has code of its own.
    """
    f, leaves, (x, symbols) = structured(seed, names)
    try:
        outs = [
            f(np.array([Value(v) for v in a.ravel()], dtype=object).reshape(a.shape), s)
            for a, s in zip(x, symbols)
        ]
        mean = total(outs) / 3.0
        mean.backward()
    except ArithmeticError:
        return 0.0
    gradient = {v: v.grad for v in leaves}
    program = autograd.compile(f, engine=engine)
    size = max([abs(mean.data), *map(abs, gradient.values()), 1.0])
    errors = []
    for times in (1, 1 + MANY_ROWS // 3) if engine == "numpy" else (1,):
        value, grads = program.value_and_grad(np.repeat(x, times, axis=0), np.repeat(symbols, times, axis=0))
        found = {v: g for vs, gs in zip(program.leaves, grads) for v, g in zip(vs.flat, gs.ravel().tolist())}
        errors += [abs(value - mean.data), *(abs(found.get(v, 0.0) - g) for v, g in gradient.items())]
    return float(max(errors) / size)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None, help="of the first program (default: random)")
    arguments = parser.parse_args()
    seed = first = secrets.randbits(60) if arguments.seed is None else arguments.seed
    end, worst = time.monotonic() + 60 * arguments.minutes, 0.0
    while time.monotonic() < end:
        for engine in ("numpy", "native") if seed % 4 == 0 else ("numpy",):
            try:
                error = difference(seed, engine)
            except Exception as found:
                print(f"seed {seed}, {engine}: {type(found).__name__}: {found}")
                return 1
            worst = max(worst, error)
            if error > 1e-9:
                print(f"seed {seed}, {engine}: compiled code is {error:.2g} of the largest gradient off")
                return 1
        seed += 1
    print(f"{seed - first} programs, at most {worst:.2g} of the largest gradient off")
    return 0


if __name__ == "__main__":
    sys.exit(main())
