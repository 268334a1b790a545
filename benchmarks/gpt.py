"""The GPT of examples/gpt.py beside JAX's arrays: compiling, and the time of a loss and its gradient.

    python benchmarks/gpt.py

Float64 on one thread, 27 symbols, 16 tokens, 4 heads. Compiling is from the function to the first result. A
time in µs is the least of many calls, for which those who are compared take turns. A program of ours is
compiled once for any number of documents, and JAX compiles for each.
"""

import argparse
import functools
import sys
from pathlib import Path

from kinds import ENGINES, in_turns, jax, seconds  # first: it sets the threads of NumPy and JAX

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

import gpt
import numpy as np

SYMBOLS, TOKENS, HEADS = 27, 16, 4


def in_jax(parameters, tokens, weights):
    """The loss of gpt.loss_of in arrays, by the parameters' names."""
    jnp = jax.numpy

    def normed(x):
        return x * (jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5) ** -0.5

    def linear(name, x):
        return x @ parameters[name + ".weight"].T

    x = parameters["symbols"][tokens[:, :-1]] + parameters["positions"]
    shape = (*x.shape[:2], HEADS, x.shape[2] // HEADS)
    y = normed(x)
    q, k, v = (linear(name, y).reshape(shape) for name in ("query", "key", "value"))
    scores = jnp.einsum("nthd,nshd->nhts", q, k) * shape[-1] ** -0.5
    shares = jax.nn.softmax(jnp.where(jnp.tri(TOKENS, dtype=bool), scores, -jnp.inf))
    x = x + linear("mix", jnp.einsum("nhts,nshd->nthd", shares, v).reshape(x.shape))
    x = x + linear("mlp.layers.1", jax.nn.relu(linear("mlp.layers.0", normed(x))))
    logits = linear("logits", normed(x))
    right = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=2)[..., 0]
    return jnp.sum(weights * (jax.nn.logsumexp(logits, axis=2) - right))


def main():
    """Print a line for each width and number of documents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, nargs="+", default=[16, 64], metavar="N")
    parser.add_argument("--documents", type=int, nargs="+", default=[1, 32], metavar="N")
    parser.add_argument("--engine", nargs="+", choices=ENGINES.values(), default=list(ENGINES.values()))
    options = parser.parse_args()
    if jax:
        jax.config.update("jax_enable_x64", True)
    else:
        print("JAX is not installed: its numbers are left out")
    for width in options.width:
        rng = np.random.default_rng(0)
        model = gpt.GPT(SYMBOLS, TOKENS, width, rng, HEADS)
        programs = {engine: gpt.loss_of(model, engine) for engine in options.engine}
        for n in options.documents:
            tokens = rng.integers(SYMBOLS, size=(n, TOKENS + 1))
            weights = np.full((n, TOKENS), 1.0 / (n * TOKENS))
            rows = tokens.astype(float), weights
            calls = {e: functools.partial(program.value_and_grad, *rows) for e, program in programs.items()}
            if jax:
                of_arrays = jax.jit(jax.value_and_grad(in_jax))
                given = jax.tree.map(jax.numpy.asarray, (model.state_dict(), tokens, weights))
                calls["JAX"] = lambda f=of_arrays, given=given: jax.block_until_ready(f(*given))
            compiling = {}
            for name, call in list(calls.items()):
                try:
                    compiling[name] = seconds(call)
                except NotImplementedError as error:
                    print(f"width {width}, {n:2} documents, {name:6}: {error}")
                    del calls[name]
            results = [call()[0] for call in calls.values()]
            if not np.allclose(results, results[0], rtol=1e-10, atol=0.0):
                sys.exit(f"the losses differ: {dict(zip(calls, results))}")
            times = in_turns(calls)
            for name, time in times.items():
                ratio = f", {time / times['JAX']:.2f} × JAX" if jax else ""
                first = f", first call {compiling[name]:.2f} s"
                print(f"width {width}, {n:2} documents, {name:6}: {time:9,.1f} µs{ratio}{first}", flush=True)


if __name__ == "__main__":
    main()
