"""Losses of many kinds in scalars, as compile takes them, and the same by hand in arrays of JAX.

    problem = GALLERY["rnn"](steps=3)  # the sizes have defaults
    loss = problem.program()  # compiled, over new leaves, which are labelled
    loss.backward(*problem.rows(100))

A loss is plain Python on one example: loops, lists, slices and functions. It takes `xp`, a module that has
exp, tanh and so on (NumPy for Values and floats), then the parameters, then a row of the data.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import autograd
from autograd import Value
from autograd.program.compiled import Engine, Program

try:
    import jax
    from jax import numpy as jnp
except ImportError:  # then only the versions by hand cannot run
    jax = jnp = None

GALLERY: dict[str, Callable[..., "Problem"]] = {}
Column = Callable[[np.random.Generator, int], np.ndarray]


class Problem:
    """loss(xp, *parameters, *row), with parameters and data for it.

    by_hand(*parameters, *columns) gives the losses of all rows in JAX's arrays; None stands for the loss
    itself, on a whole column at once. Each of `columns` draws one from (rng, n). A parameter is given by
    its value, or by a shape to be drawn.
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        by_hand: Callable[..., Any] | None,
        *columns: Column,
        **parameters: Any,
    ):
        rng = np.random.default_rng(0)
        self.loss, self.columns = loss, columns
        self.by_hand = by_hand or functools.partial(loss, jnp)
        self.parameters = {
            name: 0.5 * rng.normal(size=given) if isinstance(given, tuple) else np.array(given)
            for name, given in parameters.items()
        }

    def leaves(self) -> list[Any]:
        """The parameters as Values, in nested lists."""
        return [leaves(array, name) for name, array in self.parameters.items()]

    def rows(self, n: int) -> list[np.ndarray]:
        """Arrays of data, an example along the first axis."""
        rng = np.random.default_rng(7)
        return [column(rng, n) for column in self.columns]

    def program(self, engine: Engine = "auto", leaves: list[Any] | None = None) -> Program[..., Value]:
        """The loss, compiled over these leaves, or new ones."""
        loss: Any = functools.partial(self.loss, np, *(leaves or self.leaves()))
        loss.__name__ = "loss"  # the source's functions are called by it
        return autograd.compile(loss, engine=engine)


def leaves(array: np.ndarray, name: str) -> Any:
    """An array's numbers as Values in nested lists, labelled by their places."""
    if array.ndim == 0:
        return Value(float(array), label=name)
    inner = name[:-1] + "," if name.endswith("]") else name + "["
    return [leaves(part, f"{inner}{i}]") for i, part in enumerate(array)]


def of_source(program: Program[..., Value], rows: list[np.ndarray]) -> dict[str, int]:
    """Scalar operations of a compiled loss and its gradient; lines and gathers of its NumPy function."""
    order = program.variant("gradient", *rows).scalars.order
    operations = sum(len(v.x) if type(v.x) is tuple else 1 for v in order if v.op)
    function = program.source.split("loss_gradient(")[1]
    lines = [line for line in function.splitlines()[1:] if line.strip()]  # of which one returns the function
    return {"operations": operations, "lines": len(lines) - 1, "gathers": function.count("take(")}


def flat(nested: Any) -> list[Any]:
    """The items of nested lists."""
    return [v for part in nested for v in flat(part)] if isinstance(nested, list) else [nested]


def listed(array: Any) -> Any:
    """An array of any library as nested lists of its scalars."""
    return [listed(part) for part in array] if array.ndim else array


def in_scalars(problem: Problem) -> Callable[..., Any]:
    """The losses of all rows in JAX as by_hand gives them, but in scalars."""
    n = len(problem.parameters)

    def losses(*operands: Any) -> Any:
        return jax.vmap(lambda *row: problem.loss(jnp, *map(listed, (*operands[:n], *row))))(*operands[n:])

    return losses


def entry(kind: Callable[..., Problem]) -> Callable[..., Problem]:
    """Add to the gallery a function of sizes that gives a Problem."""
    GALLERY[kind.__name__] = kind
    return kind


def normal(*shape: int) -> Column:
    """A column of normally distributed numbers."""
    return lambda rng, n: rng.normal(size=(n, *shape))


def uniform(low: float, high: float, *shape: int) -> Column:
    """A column of evenly distributed numbers."""
    return lambda rng, n: rng.uniform(low, high, size=(n, *shape))


def signs(rng: np.random.Generator, n: int) -> np.ndarray:
    """A column of −1 and 1."""
    return rng.choice([-1.0, 1.0], size=n)


# Linear algebra in scalars, as far as the losses below need it, and loops in arrays.


def inner(ws, xs):
    """Σ w x, as far as the shorter reaches."""
    return sum(w * x for w, x in zip(ws, xs))


def times(matrix, xs):
    """A matrix times a vector."""
    return [inner(row, xs) for row in matrix]


def product(A, B):
    """A matrix times a matrix."""
    return [times(transposed(B), row) for row in A]


def transposed(A):
    """The transpose, of lists."""
    return [list(column) for column in zip(*A)]


def squares(xs, ys):
    """The sum of squared differences."""
    return sum((x - y) ** 2 for x, y in zip(xs, ys))


def softmax(xp, zs):
    """Shares of eᶻ."""
    powers = [xp.exp(z) for z in zs]
    whole = sum(powers)
    return [power / whole for power in powers]


def logsumexp(xp, zs):
    """log Σ eᶻ, without overflow."""
    largest = functools.reduce(xp.maximum, zs)
    return largest + xp.log(sum(xp.exp(z - largest) for z in zs))


def cholesky(xp, K):
    """The lower triangle L of K = L Lᵀ, row by row."""
    L = []
    for i, row in enumerate(K):
        L.append([])
        for j in range(i + 1):
            rest = row[j] - inner(L[i], L[j])  # over k < j: row i has no more yet
            L[i].append(xp.sqrt(rest) if i == j else rest / L[j][j])
    return L


def derivative(xp, f, argnum=0):
    """The function ∂f by one argument."""
    return (autograd.grad if xp is np else jax.grad)(f, argnum)


def repeated(step, n, *state):
    """A step that takes and gives a state of arrays, over and over, as a loop of XLA."""
    return jax.lax.scan(lambda state, _: (step(*state), None), state, length=n)[0]


# Networks


@entry
def logistic_regression(inputs=10):
    """The logistic loss of a linear score."""

    def loss(xp, w, b, x, y):
        return xp.log(1.0 + xp.exp(-y * (inner(w, x) + b)))

    def by_hand(w, b, x, y):
        return jnp.log(1.0 + jnp.exp(-y * (x @ w + b)))

    return Problem(loss, by_hand, normal(inputs), signs, w=(inputs,), b=0.1)


@entry
def rnn(inputs=3, width=8, steps=12):
    """Two layers of tanh units, of which the second reads the first at each step."""

    def loss(xp, wx1, wh1, b1, wx2, wh2, b2, out, x, y):
        def cell(wx, wh, b, x, h):
            return [xp.tanh(inner(wx[i], x) + inner(wh[i], h) + b[i]) for i in range(width)]

        h1 = h2 = [0.0] * width
        for t in range(steps):
            h1 = cell(wx1, wh1, b1, x[t], h1)
            h2 = cell(wx2, wh2, b2, h1, h2)
        return (inner(out, h2) - y) ** 2

    def by_hand(wx1, wh1, b1, wx2, wh2, b2, out, x, y):
        h1 = h2 = jnp.zeros((len(x), width))
        for t in range(steps):
            h1 = jnp.tanh(x[:, t] @ wx1.T + h1 @ wh1.T + b1)
            h2 = jnp.tanh(h1 @ wx2.T + h2 @ wh2.T + b2)
        return (h2 @ out - y) ** 2

    first = {"wx1": (width, inputs), "wh1": (width, width), "b1": (width,)}
    second = {"wx2": (width, width), "wh2": (width, width), "b2": (width,), "out": (width,)}
    return Problem(loss, by_hand, normal(steps, inputs), normal(), **first, **second)


@entry
def lstm(inputs=3, width=8, steps=8):
    """One layer, its four gates from one product."""

    def loss(xp, w, b, out, x, y):
        def sigmoid(z):
            return 1.0 / (1.0 + xp.exp(-z))

        h = cell = [0.0] * width
        for t in range(steps):
            z = [s + bias for s, bias in zip(times(w, [*x[t], *h]), b)]
            add, keep, new, show = (z[k * width : (k + 1) * width] for k in range(4))
            cell = [sigmoid(keep[i]) * cell[i] + sigmoid(add[i]) * xp.tanh(new[i]) for i in range(width)]
            h = [sigmoid(show[i]) * xp.tanh(cell[i]) for i in range(width)]
        return (inner(out, h) - y) ** 2

    def by_hand(w, b, out, x, y):
        h = cell = jnp.zeros((len(x), width))
        for t in range(steps):
            z = jnp.concatenate([x[:, t], h], axis=1) @ w.T + b
            add, keep, new, show = jnp.split(z, 4, axis=1)
            cell = jax.nn.sigmoid(keep) * cell + jax.nn.sigmoid(add) * jnp.tanh(new)
            h = jax.nn.sigmoid(show) * jnp.tanh(cell)
        return (h @ out - y) ** 2

    shapes = {"w": (4 * width, inputs + width), "b": (4 * width,), "out": (width,)}
    return Problem(loss, by_hand, normal(steps, inputs), normal(), **shapes)


@entry
def convolution(length=32, channels=4, taps=5):
    """A 1-D convolution, relu, and the larger of each two neighbours."""
    places = length - taps + 1
    pools = places // 2

    def loss(xp, f, b, w, x, y):
        out = 0.0
        for c in range(channels):
            z = []
            for i in range(places):
                s = b[c]
                for k in range(taps):
                    s += f[c][k] * x[i + k]
                z.append(xp.maximum(s, 0.0))
            for p in range(pools):
                out += w[c][p] * xp.maximum(z[2 * p], z[2 * p + 1])
        return (out - y) ** 2

    def by_hand(f, b, w, x, y):
        z = b[:, None] + sum(x[:, None, k : k + places] * f[:, k, None] for k in range(taps))
        z = jnp.maximum(z, 0.0)[:, :, : 2 * pools]
        z = jnp.maximum(z[:, :, ::2], z[:, :, 1::2])
        return (jnp.einsum("ncp,cp->n", z, w) - y) ** 2

    shapes = {"f": (channels, taps), "b": (channels,), "w": (channels, pools)}
    return Problem(loss, by_hand, normal(length), normal(), **shapes)


@entry
def causal_attention(tokens=8, inputs=6, width=4):
    """One head, in which a token sees those before it; a number is read out at each."""
    scale = 1.0 / math.sqrt(width)

    def loss(xp, wq, wk, wv, out, x, y):
        q, k, v = ([times(w, x[t]) for t in range(tokens)] for w in (wq, wk, wv))
        error = 0.0
        for t in range(tokens):
            shares = softmax(xp, [inner(q[t], k[s]) * scale for s in range(t + 1)])
            mixed = [sum(shares[s] * v[s][a] for s in range(t + 1)) for a in range(width)]
            error += (inner(out, mixed) - y[t]) ** 2
        return error

    def by_hand(wq, wk, wv, out, x, y):
        q, k, v = x @ wq.T, x @ wk.T, x @ wv.T
        z = q @ k.transpose(0, 2, 1) * scale
        z = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), z, -jnp.inf)
        return jnp.sum((jax.nn.softmax(z) @ v @ out - y) ** 2, axis=1)

    shapes = dict.fromkeys(("wq", "wk", "wv"), (width, inputs))
    return Problem(loss, by_hand, normal(tokens, inputs), normal(tokens), **shapes, out=(width,))


def attention(heads, causal, tokens=6, width=8):
    """Heads that each attend by a slice of every token."""
    size = width // heads
    scale = 1.0 / math.sqrt(size)

    def loss(xp, wq, wk, wv, wo, x, y):
        q, k, v = ([times(w, token) for token in x] for w in (wq, wk, wv))
        error = 0.0
        for t in range(tokens):
            seen, mixed = range(t + 1 if causal else tokens), []
            for h in range(heads):
                part = slice(h * size, (h + 1) * size)
                shares = softmax(xp, [inner(q[t][part], k[s][part]) * scale for s in seen])
                mixed += [sum(shares[s] * v[s][a] for s in seen) for a in range(part.start, part.stop)]
            error += squares(times(wo, mixed), y[t])
        return error

    def by_hand(wq, wk, wv, wo, x, y):
        q, k, v = ((x @ w.T).reshape(-1, tokens, heads, size) for w in (wq, wk, wv))
        z = jnp.einsum("nthd,nshd->nhts", q, k) * scale
        if causal:
            z = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), z, -jnp.inf)
        mixed = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(z), v).reshape(x.shape)
        return jnp.sum((mixed @ wo.T - y) ** 2, axis=(1, 2))

    shapes = dict.fromkeys(("wq", "wk", "wv", "wo"), (width, width))
    return Problem(loss, by_hand, normal(tokens, width), normal(tokens, width), **shapes)


GALLERY |= {
    f"{'causal_' * causal}attention_{heads}_heads": functools.partial(attention, heads, causal)
    for heads in (2, 4)
    for causal in (False, True)
}


@entry
def residual(layers=3, inputs=6, width=8):
    """Layers of tanh units that add to what they read."""

    def loss(xp, w1, b, w2, out, x, y):
        for l in range(layers):
            a = [xp.tanh(z + bias) for z, bias in zip(times(w1[l], x), b[l])]
            x = [old + new for old, new in zip(x, times(w2[l], a))]
        return (inner(out, x) - y) ** 2

    def by_hand(w1, b, w2, out, x, y):
        for l in range(layers):
            x = x + jnp.tanh(x @ w1[l].T + b[l]) @ w2[l].T
        return (x @ out - y) ** 2

    shapes = {"w1": (layers, width, inputs), "b": (layers, width), "w2": (layers, inputs, width)}
    return Problem(loss, by_hand, normal(inputs), normal(), **shapes, out=(inputs,))


@entry
def relatives_of_relu(inputs=6, width=8):
    """A layer each of leaky relu, ELU and GELU."""
    root = math.sqrt(2.0 / math.pi)

    def loss(xp, w1, w2, w3, out, x, y):
        h = [xp.maximum(z, 0.01 * z) for z in times(w1, x)]
        h = [xp.maximum(z, 0.0) + xp.minimum(xp.exp(z) - 1.0, 0.0) for z in times(w2, h)]
        h = [0.5 * z * (1.0 + xp.tanh(root * (z + 0.044715 * z**3))) for z in times(w3, h)]
        return (inner(out, h) - y) ** 2

    def by_hand(w1, w2, w3, out, x, y):
        z = x @ w1.T
        z = jnp.maximum(z, 0.01 * z) @ w2.T
        z = (jnp.maximum(z, 0.0) + jnp.minimum(jnp.exp(z) - 1.0, 0.0)) @ w3.T
        h = 0.5 * z * (1.0 + jnp.tanh(root * (z + 0.044715 * z**3)))
        return (h @ out - y) ** 2

    shapes = {"w1": (width, inputs), "w2": (width, width), "w3": (width, width), "out": (width,)}
    return Problem(loss, by_hand, normal(inputs), normal(), **shapes)


# Probabilities


@entry
def mixture_density(parts=3, width=8):
    """The likelihood of y under normal distributions that a layer gives for x."""
    constant = 0.5 * math.log(2.0 * math.pi)

    def loss(xp, w, b, wa, wm, ws, x, y):
        h = [xp.tanh(w[i] * x + b[i]) for i in range(width)]
        share, mean, log_sigma = times(wa, h), times(wm, h), times(ws, h)
        whole = logsumexp(xp, share)
        likelihoods = [
            a - whole - s - 0.5 * ((y - m) / xp.exp(s)) ** 2 - constant
            for a, m, s in zip(share, mean, log_sigma)
        ]
        return -logsumexp(xp, likelihoods)

    def by_hand(w, b, wa, wm, ws, x, y):
        h = jnp.tanh(x[:, None] * w + b)
        a, m, s = h @ wa.T, h @ wm.T, h @ ws.T
        likelihoods = jax.nn.log_softmax(a) - s - 0.5 * ((y[:, None] - m) / jnp.exp(s)) ** 2 - constant
        return -jax.nn.logsumexp(likelihoods, axis=1)

    shapes = {"w": (width,), "b": (width,)} | dict.fromkeys(("wa", "wm", "ws"), (parts, width))
    return Problem(loss, by_hand, normal(), normal(), **shapes)


@entry
def hidden_markov(states=4, steps=10):
    """The likelihood of a sequence of numbers, by the forward recursion in logarithms."""

    def loss(xp, start, move, mean, ys):
        def seen(y):
            return [-0.5 * (y - m) ** 2 for m in mean]

        rows = [logsumexp(xp, row) for row in move]
        alpha = [s + e for s, e in zip(start, seen(ys[0]))]
        for t in range(1, steps):
            alpha = [
                logsumexp(xp, [alpha[i] + move[i][j] - rows[i] for i in range(states)]) + e
                for j, e in enumerate(seen(ys[t]))
            ]
        return logsumexp(xp, start) - logsumexp(xp, alpha)

    def by_hand(start, move, mean, ys):
        move, seen = jax.nn.log_softmax(move), -0.5 * (ys[:, :, None] - mean) ** 2
        alpha = start + seen[:, 0]
        for t in range(1, steps):
            alpha = jax.nn.logsumexp(alpha[:, :, None] + move, axis=1) + seen[:, t]
        return jax.nn.logsumexp(start) - jax.nn.logsumexp(alpha, axis=1)

    shapes = {"start": (states,), "move": (states, states), "mean": (states,)}
    return Problem(loss, by_hand, normal(steps), **shapes)


@entry
def kalman_filter(steps=5):
    """The likelihood of observations of a state of two numbers, whose covariance is P."""

    def loss(xp, F, log_q, log_r, ys):
        q, r = xp.exp(log_q), xp.exp(log_r)
        state, P, error = [0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]], 0.0
        for t in range(steps):
            state, P = times(F, state), product(product(F, P), transposed(F))
            P = [[P[i][j] + (q if i == j else 0.0) for j in range(2)] for i in range(2)]
            spread, surprise = P[0][0] + r, ys[t] - state[0]
            gain = [P[i][0] / spread for i in range(2)]
            error += 0.5 * (xp.log(spread) + surprise**2 / spread)
            state = [state[i] + gain[i] * surprise for i in range(2)]
            P = [[P[i][j] - gain[i] * P[0][j] for j in range(2)] for i in range(2)]
        return error

    def by_hand(F, log_q, log_r, ys):
        q, r = jnp.exp(log_q) * jnp.eye(2), jnp.exp(log_r)
        state, P, error = jnp.zeros((len(ys), 2)), jnp.eye(2), 0.0
        for t in range(steps):
            state, P = state @ F.T, F @ P @ F.T + q
            spread, surprise = P[0, 0] + r, ys[:, t] - state[:, 0]
            gain = P[:, 0] / spread
            error += 0.5 * (jnp.log(spread) + surprise**2 / spread)
            state = state + surprise[:, None] * gain
            P = P - gain[:, None] * P[0]
        return error

    F = [[0.9, 0.2], [-0.1, 0.8]]
    return Problem(loss, by_hand, normal(steps), F=F, log_q=-1.0, log_r=-0.5)


@entry
def gaussian_process(points=5):
    """The likelihood of y at points x, by a Cholesky factor; each row is a data set."""

    def loss(xp, log_length, log_size, log_noise, x, y):
        size, noise = xp.exp(2.0 * log_size), xp.exp(2.0 * log_noise)
        narrow = -0.5 * xp.exp(-2.0 * log_length)
        K = [[size * xp.exp(narrow * (a - b) ** 2) for b in x] for a in x]
        for i in range(points):
            K[i][i] += noise
        L, w = cholesky(xp, K), []
        for i in range(points):  # L w = y
            w.append((y[i] - inner(L[i], w)) / L[i][i])
        return 0.5 * inner(w, w) + sum(xp.log(L[i][i]) for i in range(points))

    def by_hand(log_length, log_size, log_noise, x, y):
        d = x[:, :, None] - x[:, None, :]
        K = jnp.exp(2.0 * log_size) * jnp.exp(-0.5 * jnp.exp(-2.0 * log_length) * d**2)
        L = jnp.linalg.cholesky(K + jnp.exp(2.0 * log_noise) * jnp.eye(points))
        w = jax.scipy.linalg.solve_triangular(L, y[:, :, None], lower=True)[:, :, 0]
        logs = jnp.log(jnp.diagonal(L, axis1=1, axis2=2))
        return 0.5 * jnp.sum(w**2, axis=1) + jnp.sum(logs, axis=1)

    return Problem(
        loss, by_hand, normal(points), normal(points), log_length=-0.2, log_size=0.1, log_noise=-1.0
    )


@entry
def black_scholes():
    """The price of an option, the normal distribution by Abramowitz and Stegun 7.1.26."""
    coefficients = 1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592

    def loss(xp, rate, sigma, price, strike, years, paid):
        def below(x):
            z = abs(x) / math.sqrt(2.0)
            t, p = 1.0 / (1.0 + 0.3275911 * z), 0.0
            for c in coefficients:
                p = (p + c) * t
            return 0.5 * (1.0 + xp.sign(x) * (1.0 - p * xp.exp(-z * z)))

        spread = sigma * xp.sqrt(years)
        d = (xp.log(price / strike) + (rate + sigma**2 / 2.0) * years) / spread
        value = price * below(d) - strike * xp.exp(-rate * years) * below(d - spread)
        return (value - paid) ** 2

    around = uniform(80.0, 120.0)
    return Problem(loss, None, around, around, uniform(0.1, 2.0), uniform(5.0, 15.0), rate=0.03, sigma=0.25)


# Physics


@entry
def runge_kutta(steps=50, dt=0.05):
    """Predator and prey by the classical method of order 4."""

    def slopes(a, b, c, d, x, y):
        return a * x - b * x * y, c * x * y - d * y

    def loss(xp, rates, begin, end):
        x, y = begin
        for _ in range(steps):
            x1, y1 = slopes(*rates, x, y)
            x2, y2 = slopes(*rates, x + dt / 2 * x1, y + dt / 2 * y1)
            x3, y3 = slopes(*rates, x + dt / 2 * x2, y + dt / 2 * y2)
            x4, y4 = slopes(*rates, x + dt * x3, y + dt * y3)
            x += dt / 6 * (x1 + 2 * x2 + 2 * x3 + x4)
            y += dt / 6 * (y1 + 2 * y2 + 2 * y3 + y4)
        return squares((x, y), end)

    def by_hand(rates, begin, end):
        def slope(z):
            return jnp.stack(slopes(*rates, *z))

        def step(z):
            k1 = slope(z)
            k2 = slope(z + dt / 2 * k1)
            k3 = slope(z + dt / 2 * k2)
            k4 = slope(z + dt * k3)
            return (z + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4),)

        (z,) = repeated(step, steps, begin.T)
        return jnp.sum((z - end.T) ** 2, axis=0)

    populations = uniform(0.5, 1.5, 2)
    return Problem(loss, by_hand, populations, populations, rates=[1.1, 0.4, 0.3, 0.9])


@entry
def bodies(n=5):
    """The energy of bodies that attract each other."""

    def loss(xp, m, q, v):
        energy = 0.0
        for i in range(n):
            energy += 0.5 * m[i] * sum(v[i][k] ** 2 for k in range(3))
            for j in range(i + 1, n):
                energy -= m[i] * m[j] / xp.sqrt(squares(q[i], q[j]) + 0.01)
        return energy

    def by_hand(m, q, v):
        i, j = np.triu_indices(n, 1)
        distance = jnp.sqrt(jnp.sum((q[:, i] - q[:, j]) ** 2, axis=2) + 0.01)
        return 0.5 * jnp.sum(v**2, axis=2) @ m - jnp.sum(m[i] * m[j] / distance, axis=1)

    return Problem(loss, by_hand, normal(n, 3), normal(n, 3), m=0.5 + 0.2 * np.arange(n))


@entry
def pendulum(steps=100, dt=0.02):
    """A damped pendulum's angle, by Euler's method."""

    def loss(xp, g, c, angle, target):
        speed = 0.0
        for _ in range(steps):
            speed -= dt * (g * xp.sin(angle) + c * speed)
            angle += dt * speed
        return (angle - target) ** 2

    def by_hand(g, c, angle, target):
        def step(angle, speed):
            speed = speed - dt * (g * jnp.sin(angle) + c * speed)
            return angle + dt * speed, speed

        return (repeated(step, steps, angle, jnp.zeros_like(angle))[0] - target) ** 2

    angles = uniform(-1.0, 1.0)
    return Problem(loss, by_hand, angles, angles, g=9.8, c=0.1)


@entry
def planar_arm(joints=6):
    """Squared distance of a planar arm's hand from a target."""

    def loss(xp, lengths, q, target):
        angle = x = y = 0.0
        for i in range(joints):
            angle += q[i]
            x += lengths[i] * xp.cos(angle)
            y += lengths[i] * xp.sin(angle)
        return squares((x, y), target)

    def by_hand(lengths, q, target):
        angles = jnp.cumsum(q, axis=1)
        hand = jnp.stack([jnp.cos(angles) @ lengths, jnp.sin(angles) @ lengths], axis=1)
        return jnp.sum((hand - target) ** 2, axis=1)

    return Problem(loss, by_hand, normal(joints), normal(2), lengths=0.3 + 0.1 * np.arange(joints))


@entry
def robot_arm(joints=6):
    """The same in space, by Denavit and Hartenberg's products of 4 × 4 matrices."""

    def matrix(c, s, ct, st, a, d):
        return [
            [c, -s * ct, s * st, a * c],
            [s, c * ct, -c * st, a * s],
            [0.0, st, ct, d],
            [0.0, 0.0, 0.0, 1.0],
        ]

    def loss(xp, a, d, twist, q, target):
        T = [[1.0 if i == j else 0.0 for j in range(4)] for i in range(4)]
        for n in range(joints):
            turn = xp.cos(q[n]), xp.sin(q[n]), xp.cos(twist[n]), xp.sin(twist[n])
            T = product(T, matrix(*turn, a[n], d[n]))
        return sum((T[i][3] - target[i]) ** 2 for i in range(3))

    def by_hand(a, d, twist, q, target):
        c, s, ct, st = jnp.cos(q), jnp.sin(q), jnp.cos(twist), jnp.sin(twist)
        entries = [jnp.broadcast_to(e, q.shape) for row in matrix(c, s, ct, st, a, d) for e in row]
        A = jnp.stack(entries, axis=2).reshape(*q.shape, 4, 4)
        T = functools.reduce(jnp.matmul, [A[:, n] for n in range(joints)])
        return jnp.sum((T[:, :3, 3] - target) ** 2, axis=1)

    return Problem(loss, by_hand, normal(joints), normal(3), **dict.fromkeys(("a", "d", "twist"), (joints,)))


@entry
def heat(cells=16, steps=20):
    """Heat flow along a rod, with a conductivity to learn between each two cells."""

    def loss(xp, log_k, u, y):
        k = [xp.exp(v) for v in log_k]
        for _ in range(steps):
            flow = [0.0, *(k[i] * (u[i + 1] - u[i]) for i in range(cells - 1)), 0.0]
            u = [u[i] + 0.1 * (flow[i + 1] - flow[i]) for i in range(cells)]
        return squares(u, y)

    def by_hand(log_k, u, y):
        k = jnp.exp(log_k)
        for _ in range(steps):
            flow = jnp.pad(k * (u[:, 1:] - u[:, :-1]), ((0, 0), (1, 1)))
            u = u + 0.1 * (flow[:, 1:] - flow[:, :-1])
        return jnp.sum((u - y) ** 2, axis=1)

    return Problem(loss, by_hand, normal(cells), normal(cells), log_k=(cells - 1,))


@entry
def reaction_diffusion(rows=6, columns=8, steps=6):
    """Fisher's equation on a torus, in a flat list: how fast a species spreads and grows."""
    cells = rows * columns

    def loss(xp, spread, growth, u, y):
        def at(i, j):
            return u[i % rows * columns + j % columns]

        for _ in range(steps):
            new = []
            for k in range(cells):
                i, j = divmod(k, columns)
                flow = at(i - 1, j) + at(i + 1, j) + at(i, j - 1) + at(i, j + 1) - 4.0 * u[k]
                new.append(u[k] + 0.1 * (spread * flow + growth * u[k] * (1.0 - u[k])))
            u = new
        return squares(u, y)

    def by_hand(spread, growth, u, y):
        u = u.reshape(-1, rows, columns)
        for _ in range(steps):
            flow = sum(jnp.roll(u, by, axis) for axis in (1, 2) for by in (1, -1)) - 4.0 * u
            u = u + 0.1 * (spread * flow + growth * u * (1.0 - u))
        return jnp.sum((u.reshape(-1, cells) - y) ** 2, axis=1)

    field = uniform(0.0, 1.0, cells)
    return Problem(loss, by_hand, field, field, spread=1.0, growth=2.0)


@entry
def pinn_oscillator(width=8):
    """Squared error of a network u(x) in u″ + u = 0, by derivatives within the loss."""

    def loss(xp, w, b, out, x):
        def u(x):
            return sum(out[i] * xp.tanh(w[i] * x + b[i]) for i in range(width))

        return (derivative(xp, derivative(xp, u))(x) + u(x)) ** 2

    def by_hand(w, b, out, x):
        def u(x):
            return jnp.tanh(w * x + b) @ out

        return jax.vmap(lambda x: jax.grad(jax.grad(u))(x) + u(x))(x) ** 2

    return Problem(loss, by_hand, normal(), w=(width,), b=(width,), out=(width,))


@entry
def pinn_heat(width=10):
    """Squared error of a network u(x, t) in ∂²u/∂x² = ∂u/∂t."""

    def loss(xp, w1, b1, w2, b2, out, z):
        def u(x, t):
            h = [xp.tanh(w1[i][0] * x + w1[i][1] * t + b1[i]) for i in range(width)]
            h = [xp.tanh(s + bias) for s, bias in zip(times(w2, h), b2)]
            return inner(out, h)

        u_xx = derivative(xp, derivative(xp, u))(z[0], z[1])
        return (u_xx - derivative(xp, u, 1)(z[0], z[1])) ** 2

    def by_hand(w1, b1, w2, b2, out, z):
        def u(x, t):
            return jnp.tanh(jnp.tanh(w1 @ jnp.stack([x, t]) + b1) @ w2.T + b2) @ out

        def residual(x, t):
            return jax.grad(jax.grad(u))(x, t) - jax.grad(u, 1)(x, t)

        return jax.vmap(residual)(z[:, 0], z[:, 1]) ** 2

    shapes = {"w1": (width, 2), "b1": (width,), "w2": (width, width), "b2": (width,), "out": (width,)}
    return Problem(loss, by_hand, normal(2), **shapes)


# Features, transforms and roots


@entry
def fourier_features(waves=8, powers=6):
    """Waves of a frequency that is learned, and a polynomial."""

    def loss(xp, f, a, b, c, x, y):
        s = p = 0.0
        for k in range(waves):
            s += a[k] * xp.cos((k + 1) * f * x) + b[k] * xp.sin((k + 1) * f * x)
        for coefficient in reversed(c):
            p = p * x + coefficient
        return (s + p - y) ** 2

    def by_hand(f, a, b, c, x, y):
        angles = x[:, None] * f * jnp.arange(1.0, waves + 1.0)
        terms = x[:, None] ** jnp.arange(float(powers))
        return (jnp.cos(angles) @ a + jnp.sin(angles) @ b + terms @ c - y) ** 2

    return Problem(loss, by_hand, normal(), normal(), f=1.3, a=(waves,), b=(waves,), c=(powers,))


@entry
def dft(length=16):
    """The spectrum of a windowed signal, in logarithms."""
    turns = 2.0 * np.pi * np.outer(np.arange(length // 2 + 1), np.arange(length)) / length

    def loss(xp, window, x, y):
        error = 0.0
        for k in range(length // 2 + 1):
            re = sum(window[i] * x[i] * math.cos(2.0 * math.pi * k * i / length) for i in range(length))
            im = sum(window[i] * x[i] * math.sin(2.0 * math.pi * k * i / length) for i in range(length))
            error += (xp.log(re * re + im * im + 0.1) - y[k]) ** 2
        return error

    def by_hand(window, x, y):
        z = x * window
        power = (z @ np.cos(turns).T) ** 2 + (z @ np.sin(turns).T) ** 2
        return jnp.sum((jnp.log(power + 0.1) - y) ** 2, axis=1)

    return Problem(loss, by_hand, normal(length), normal(length // 2 + 1), window=(length,))


@entry
def pairs(inputs=8):
    """A weight for each pair of inputs, in one flat list."""

    def loss(xp, w, x, y):
        s, place = 0.0, 0
        for i in range(inputs):
            for j in range(i + 1, inputs):
                s += w[place] * x[i] * x[j]
                place += 1
        return (s - y) ** 2

    def by_hand(w, x, y):
        i, j = np.triu_indices(inputs, 1)
        return ((x[:, i] * x[:, j]) @ w - y) ** 2

    return Problem(loss, by_hand, normal(inputs), normal(), w=(inputs * (inputs - 1) // 2,))


@entry
def factorization_machine(inputs=8, factors=3):
    """A weight for each pair again, as the product of two vectors."""

    def loss(xp, w, v, x, y):
        s = inner(w, x)
        for i in range(inputs):
            for j in range(i + 1, inputs):
                s += inner(v[i], v[j]) * x[i] * x[j]
        return (s - y) ** 2

    def by_hand(w, v, x, y):
        i, j = np.triu_indices(inputs, 1)
        return (x @ w + (x[:, i] * x[:, j]) @ (v @ v.T)[i, j] - y) ** 2

    return Problem(loss, by_hand, normal(inputs), normal(), w=(inputs,), v=(inputs, factors))


@entry
def graph_network(nodes=20, layers=2):
    """A network on a graph: a layer adds up the neighbours of a node, of which there are one to five."""
    rng = np.random.default_rng(3)
    near = [sorted(rng.permutation(nodes)[: rng.integers(1, 6)].tolist()) for _ in range(nodes)]

    def loss(xp, own, other, b, x, y):
        for k in range(layers):
            sums = [sum(x[j] for j in of) for of in near]
            x = [xp.tanh(own[k] * v + other[k] * s + b[k]) for v, s in zip(x, sums)]
        return (sum(x) / nodes - y) ** 2

    def by_hand(own, other, b, x, y):
        beside = np.array([[float(j in of) for j in range(nodes)] for of in near])
        for k in range(layers):
            x = jnp.tanh(own[k] * x + other[k] * (x @ beside.T) + b[k])
        return (x.mean(axis=1) - y) ** 2

    return Problem(loss, by_hand, normal(nodes), normal(), own=(layers,), other=(layers,), b=(layers,))


@entry
def newton(steps=8):
    """Kepler's equation E − e sin E = M by Newton's method, the orbit's e learned."""

    def loss(xp, w, M, y):
        e, E = 0.8 / (1.0 + xp.exp(-(w[0] + w[1] * M))), M
        for _ in range(steps):
            E = E - (E - e * xp.sin(E) - M) / (1.0 - e * xp.cos(E))
        return (E - y) ** 2

    return Problem(loss, None, normal(), normal(), w=[0.3, 0.1])
