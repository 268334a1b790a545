"""All that computes Programs, ours and others: their results, to be held to each other in units.

    exact, errors = exactly(program)
    for name, compute in ENGINES.items():
        print(name, units(compute(program), exact, errors))

Each gives the same Results of a program, whose loss is the mean, over the rows, of the sum of its outputs.
"""

import functools
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import exact
import numpy as np
from exact import LIMIT, ULP, Bounded, Dual
from programs import ARRAYS, PLAIN, VALUES, Program, folded

import autograd
from autograd import Value, derive, dot, total
from autograd.program.compiled import Engine
from autograd.program.variant import Kernel

# "outputs" (rows, outputs); "loss" (1,); its "gradient" by leaf; its "slope" (1,) in the program's
# direction; "second", the slope's gradient, which is the Hessian times the direction.
Results = dict[str, np.ndarray]
# Units, of others LIMIT. The slope of its softplus, exp(x − out), rounds at the size of x, up to 37.
LIMITS = {"jax": 30.0}
FLOOR = 1e-200  # a factor that underflows on one way to a derivative, and not on another, may be 0
KINDS = ("outputs", "loss", "gradient", "slope", "second")


def units(found: Results, other: Results, errors: Results) -> dict[str, float]:
    """By kind, the largest difference in units: see exact.py."""
    worst = {}
    for kind in found.keys() & other.keys():
        difference = np.abs(found[kind] - other[kind])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(difference == 0.0, 0.0, difference / errors[kind])
        worst[kind] = float(np.max(ratio, initial=0.0))
    return worst


def exactly(program: Program) -> tuple[Results, Results]:
    """The results by mpmath, rounded to floats, and their errors; or Undecided at a kink."""
    f, n = program.function(exact.FUNCTIONS), len(program.leaves)
    leaves = [
        Dual(Dual(Bounded(w), {"d": Bounded(d)}), {i: Dual(Bounded(1.0))})
        for i, (w, d) in enumerate(zip(program.leaves, program.direction))
    ]
    outputs = [f(*(Dual(Dual(Bounded(x))) for x in row), *leaves) for row in program.rows]
    loss = exact.total(itertools.chain(*outputs)) / len(outputs)
    zero = Dual(Bounded(0.0))
    gradient = [loss.slopes.get(i, zero) for i in range(n)]
    found = {
        "outputs": [[out.value.value for out in row] for row in outputs],
        "loss": [loss.value.value],
        "gradient": [slope.value for slope in gradient],
        "slope": [loss.value.slopes.get("d", zero.value)],
        "second": [slope.slopes.get("d", zero.value) for slope in gradient],
    }
    shaped = {kind: np.array(numbers, dtype=object) for kind, numbers in found.items()}
    values = {kind: _each(lambda x: float(x.value), array) for kind, array in shaped.items()}
    errors = {kind: _each(lambda x: x.error, array) for kind, array in shaped.items()}
    return values, {kind: errors[kind] + np.abs(values[kind]) * (ULP / 2) + FLOOR for kind in values}


def _each(function: Callable[[Any], float], array: np.ndarray) -> np.ndarray:
    return np.array([function(x) for x in array.flat]).reshape(array.shape)


# Ours


def _loss(outputs: list[Any]) -> Any:
    return outputs[0] if len(outputs) == 1 else total(outputs)


def eager(program: Program) -> Results:
    """By Values and backward()."""
    leaves, outputs, loss = _recorded(program)
    loss.backward()
    gradient = [w.grad for w in leaves]
    for w in leaves:
        w.grad = 0.0
    slope = dot(program.direction, derive(loss, leaves))
    slope.backward()
    return _results(outputs, loss.data, gradient, slope.data, [w.grad for w in leaves])


def derived(program: Program) -> Results:
    """By derive, and derive again."""
    leaves, outputs, loss = _recorded(program)
    gradient = derive(loss, leaves)
    slope = dot(program.direction, gradient)
    second = derive(slope, leaves)
    return _results(outputs, loss.data, [g.data for g in gradient], slope.data, [g.data for g in second])


def _recorded(program: Program) -> tuple[list[Value], list[list[float]], Value]:
    f, leaves = program.function(VALUES), [Value(w) for w in program.leaves]
    outputs = [f(*map(Value, row), *leaves) for row in program.rows]
    return leaves, [[v.data for v in row] for row in outputs], total(map(_loss, outputs)) / len(outputs)


def compiled(program: Program, engine: Engine) -> Results:
    """By autograd.compile: the program, its loss, and the slope, which derive gives, each as a program."""
    f, leaves = program.function(VALUES), [Value(w, f"w{i}") for i, w in enumerate(program.leaves)]
    rows = np.array(program.rows)

    def slope_of(x: Any) -> Value:
        return dot(program.direction, derive(_loss(f(*x, *leaves)), leaves))

    outputs = autograd.compile(lambda x: f(*x, *leaves), engine=engine).per_example(rows)
    loss = autograd.compile(lambda x: _loss(f(*x, *leaves)), engine=engine)
    slope = autograd.compile(slope_of, engine=engine, reduce="sum")
    found = loss.backward(rows)
    gradient = [w.grad for w in leaves]
    for w in leaves:
        w.grad = 0.0
    slopes = slope.backward(rows)
    return _results(outputs, found, gradient, slopes / len(rows), [w.grad / len(rows) for w in leaves])


def by_arrays(program: Program) -> Results:
    """The outputs alone, by the table's functions of arrays."""
    outputs = program.function(ARRAYS)(*np.array(program.rows).T, *program.leaves)
    return {"outputs": np.stack([np.broadcast_to(out, len(program.rows)) for out in outputs], axis=1)}


def _results(outputs: Any, loss: Any, gradient: Any, slope: Any, second: Any) -> Results:
    numbers = zip(KINDS, (outputs, [loss], gradient, [slope], second))
    return {kind: np.array(x, dtype=float) for kind, x in numbers}


ENGINES: dict[str, Callable[[Program], Results]] = {
    "eager": eager,
    "derive": derived,
    "arrays": by_arrays,
    "numpy": functools.partial(compiled, engine="numpy"),
}
if Kernel is not None:
    ENGINES["native"] = functools.partial(compiled, engine="native")


# Others

COMMON = (
    "tan asin acos atan atan2 sinh cosh asinh acosh atanh log1p expm1 log2 log10 hypot logaddexp floor ceil"
    " remainder copysign"
).split()


def by_torch(program: Program) -> Results:
    """By torch.autograd, in float64."""
    import torch

    tensor = functools.partial(torch.tensor, dtype=torch.float64)
    of_gamma = _torch_polygamma()
    functions: dict[str, Any] = {
        **{name: getattr(torch, name) for name in "exp log sqrt sin cos tanh sigmoid relu sign".split()},
        **{name: getattr(torch, name) for name in COMMON},
        **{name: getattr(torch, name) for name in ("erf", "erfc")},
        "lgamma": lambda x: of_gamma.apply(-1, x),
        "polygamma": lambda n, x: of_gamma.apply(int(n), x),
        "cbrt": lambda x: x ** (1.0 / 3.0),
        "floor_divide": lambda x, y: torch.floor(x.detach() / y),
        "softplus": lambda x: torch.nn.functional.softplus(x, threshold=700.0),  # 20, of its own
        # The second derivative of its own, by x and then by y, is 0 where y is 0, and should be 1 / x.
        "pow": lambda x, y: torch.exp(y * torch.log(x)),
        "abs": abs,
        "step": lambda x, y: (torch.sign(x - y) + 1.0) / 2.0,
        "maximum": folded(lambda x, y: torch.maximum(*_doubles(x, y, tensor))),
        "minimum": folded(lambda x, y: torch.minimum(*_doubles(x, y, tensor))),
        **PLAIN,
        "detach": torch.detach,
    }
    leaves = [tensor(w, requires_grad=True) for w in program.leaves]

    def gradient(output: Any) -> list[Any]:
        if not output.requires_grad:
            return [torch.zeros((), dtype=torch.float64)] * len(leaves)
        found = torch.autograd.grad(
            output, leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return list(found)

    f = program.function(functions)
    outputs = torch.stack([torch.stack(f(*row, *leaves)) for row in tensor(program.rows)])
    loss = torch.sum(outputs) / len(outputs)
    first = gradient(loss)
    slope = sum(d * g for d, g in zip(program.direction, first))
    second = gradient(slope)
    numbers = outputs, loss, torch.stack(first), slope, torch.stack(second)
    return _results(*(x.detach().numpy() for x in numbers))


def _torch_polygamma() -> Any:
    """lgamma for n = −1, and the derivatives of it: torch.polygamma(1, x) is accurate to 1e-12 alone."""
    import torch

    class Polygamma(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, n: int, x: Any) -> Any:
            ctx.n = n
            ctx.save_for_backward(x)
            if n < 1:
                return torch.digamma(x) if n == 0 else torch.lgamma(x)
            return (
                (-1.0) ** (n + 1) * math.factorial(n) * torch.special.zeta(torch.tensor(n + 1.0).double(), x)
            )

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            return None, slope * Polygamma.apply(ctx.n + 1, *ctx.saved_tensors)

    return Polygamma


def _doubles(x: Any, y: Any, tensor: Callable[[Any], Any]) -> list[Any]:
    return [tensor(v) if isinstance(v, float | int) else v for v in (x, y)]


def by_jax(program: Program) -> Results:
    """By jax.grad, in float64."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    tanh = jax.custom_jvp(jnp.tanh)  # of its own, the second derivative of a tiny x cancels: 1e-16 for x
    tanh.defjvps(lambda slope, out, x: slope * (1.0 - out * out))
    functions: dict[str, Any] = {
        **{name: getattr(jnp, name) for name in "exp log sqrt sin cos sign".split()},
        **{name: getattr(jax.nn, name) for name in "sigmoid relu softplus".split()},
        **{name: getattr(jnp, name) for name in COMMON},
        **{name: getattr(jax.scipy.special, name) for name in ("erf", "erfc")},
        "polygamma": lambda n, x: jax.scipy.special.polygamma(int(n), x),
        "lgamma": jax.scipy.special.gammaln,
        "cbrt": jnp.cbrt,
        "copysign": lambda x, y: x * jnp.sign(x) * jnp.sign(y),
        "floor_divide": lambda x, y: jnp.floor(x / y),
        "abs": lambda x: x * jnp.sign(x),  # of its own, the slope at 0 is 1
        "step": lambda x, y: (jnp.sign(x - y) + 1.0) / 2.0,
        "maximum": folded(jnp.maximum),
        "minimum": folded(jnp.minimum),
        "tanh": tanh,
        **PLAIN,
        "detach": jax.lax.stop_gradient,
    }
    f = program.function(functions)
    direction = np.array(program.direction)

    def outputs(leaves: Any) -> Any:
        return [f(*row, *leaves) for row in np.array(program.rows)]

    def loss(leaves: Any) -> Any:
        return sum(map(sum, outputs(leaves))) / len(program.rows)

    gradient = jax.grad(loss)

    def slope(leaves: Any) -> Any:
        return gradient(leaves) @ direction

    leaves = jnp.array(program.leaves)
    return _results(*(compute(leaves) for compute in (outputs, loss, gradient, slope, jax.grad(slope))))


ORACLES: dict[str, Callable[[Program], Results]] = {"torch": by_torch, "jax": by_jax}
INSTALLED = [name for name in ORACLES if importlib.util.find_spec(name)]


def excess(differences: dict[tuple[str, str, str], float]) -> tuple[float, tuple[str, str, str]]:
    """The worst of compared()'s differences, in limits of what is right, and whose it is."""
    return max((d / max(LIMITS.get(name, LIMIT) for name in pair), pair) for pair, d in differences.items())


def compared(program: Program, names: Iterable[str]) -> dict[tuple[str, str, str], float]:
    """The difference in units of each two of `names` and mpmath, by kind; or Undecided at a kink."""
    right, errors = exactly(program)
    results = {"mpmath": right}
    for name in names:
        results[name] = {**ENGINES, **ORACLES}[name](program)
    return {
        (a, b, kind): found
        for a, b in itertools.combinations(results, 2)
        for kind, found in units(results[a], results[b], errors).items()
    }
