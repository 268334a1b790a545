"""Compiled losses of many kinds, those of gallery.py: their sources, and their time beside JAX.

A time in µs is that of a mean loss and its gradient, in float64 on one thread: the least of many calls, for
which those who are compared take turns. JAX, as it comes, hands each call to a thread of its own, which
costs 10 µs; --sync spares it that. Lines and gathers are those of the NumPy source's function. Compiling is
from the function to the first result. It takes two to three minutes.
"""

import argparse
import functools
import math
import os
import platform
import sys
import time
from pathlib import Path

# Before NumPy and JAX are imported, which read these once.
os.environ.update(dict.fromkeys(("AUTOGRAD_THREADS", "OMP_NUM_THREADS"), "1"))
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

from gallery import GALLERY, flat, in_scalars, jax, of_source

from autograd.program.variant import Kernel

ENGINES = {"NumPy": "numpy", "native": "native"} if Kernel else {"NumPy": "numpy"}
HAND, SCALARS = "JAX", "scalars"
ROUNDS, SECONDS = 16, 0.03  # a round is that long for each who is compared
MOST_LINES = 40


def seconds(f):
    """How long a call takes."""
    begun = time.perf_counter()
    f()
    return time.perf_counter() - begun


def in_turns(calls):
    """The least time of a call of each, in microseconds."""
    least = dict.fromkeys(calls, math.inf)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            end = time.perf_counter() + SECONDS
            while time.perf_counter() < end:
                least[name] = min(least[name], seconds(call))
    return {name: 1e6 * least[name] for name in calls}


def in_jax(problem, rows, losses):
    """A function of all rows in JAX, as a call that gives their mean and its gradient."""
    parameters = tuple(map(jax.numpy.asarray, problem.parameters.values()))
    columns = list(map(jax.numpy.asarray, rows))
    mean = jax.jit(jax.value_and_grad(lambda parameters, *columns: losses(*parameters, *columns).mean()))
    return lambda: jax.block_until_ready(mean(parameters, *columns))


def measured(name, most, n):
    """A line of the table, JAX of the same scalars among it if those are at most so many."""
    problem = GALLERY[name]()
    rows, calls, results, line = problem.rows(n), {}, {}, {}
    for engine in ENGINES:
        leaves = problem.leaves()
        program = problem.program(ENGINES[engine], leaves)
        calls[engine] = functools.partial(program.value_and_grad, *rows)
        taken = seconds(calls[engine])
        if not line:
            line = of_source(program, rows)
        line[f"s {engine}"] = taken
        results[engine] = [program.backward(*rows), *(leaf.grad for leaf in flat(leaves))]
    if jax:
        calls[HAND] = in_jax(problem, rows, problem.by_hand)
        if line["operations"] <= most:
            calls[SCALARS] = in_jax(problem, rows, in_scalars(problem))
    for peer in calls.keys() - ENGINES:
        line[f"s {peer}"] = seconds(calls[peer])
        loss, gradient = calls[peer]()
        results[peer] = [loss, *np.concatenate(list(map(np.ravel, gradient)))]
    for who, result in results.items():
        if not np.allclose(result, results["NumPy"], rtol=0.0, atol=1e-9 * np.max(np.abs(result))):
            sys.exit(f"{name}: {who} and NumPy do not compute the same")
    times = in_turns(calls)
    line |= {f"µs {who}": time for who, time in times.items()}
    return line | {f"{engine} ÷ {HAND}": times[engine] / times[HAND] for engine in ENGINES if jax}


def show(name, numbers, columns):
    """Print a line of the table."""
    digits = [1 if "µs" in column else 2 if "s " in column or "÷" in column else 0 for column in columns]
    fields = [f"{numbers[c]:13,.{d}f}" if c in numbers else f"{'–':>13}" for c, d in zip(columns, digits)]
    print(f"{name:26}" + "".join(fields), flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=GALLERY, help=", ".join(GALLERY))
    most = "JAX of the same scalars too, where they are at most so many operations: 1,000 take XLA seconds"
    parser.add_argument("--scalars", type=int, default=0, metavar="N", help=most)
    parser.add_argument("--rows", type=int, default=100, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--sync", action="store_true", help="JAX computes in the thread that calls it")
    options = parser.parse_args()
    versions = f"NumPy {np.__version__}" + (f", JAX {jax.__version__}" if jax else "")
    print(f"Python {platform.python_version()}, {versions}; float64, one thread, {options.rows} rows")
    for name, found in {"JAX": jax, "llvmlite, for native,": Kernel}.items():
        if not found:
            print(f"{name} is not installed: its columns are left out")
    peers = (HAND, SCALARS) if jax and options.scalars else (HAND,) if jax else ()
    columns = ["operations", "lines", "gathers", *(f"s {who}" for who in (*ENGINES, *peers))]
    columns += [f"µs {who}" for who in (*ENGINES, *peers)]
    columns += [f"{engine} ÷ {HAND}" for engine in ENGINES if jax]
    print("\n" + " " * 26 + "".join(f"{column:>13}" for column in columns))
    lines = []
    if jax:
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_cpu_enable_async_dispatch", not options.sync)
    for name in options.only or GALLERY:
        lines.append(measured(name, options.scalars, options.rows))
        show(name, lines[-1], columns)
    plain = sum(line["gathers"] == 0 and line["lines"] <= MOST_LINES for line in lines)
    print(f"\nno gathers and at most {MOST_LINES} lines: {plain} of {len(lines)}")
    for column in columns[-len(ENGINES) :] if jax else ():
        mean = math.exp(sum(math.log(line[column]) for line in lines) / len(lines))
        print(f"{column} by hand, geometric mean: {mean:.2f}")
    compiled = [
        line["s native"] / line[f"s {SCALARS}"] for line in lines if f"s {SCALARS}" in line and Kernel
    ]
    if compiled:
        mean = math.exp(sum(map(math.log, compiled)) / len(compiled))
        print(f"native ÷ JAX of the same scalars, to compile, geometric mean of {len(compiled)}: {mean:.3f}")


if __name__ == "__main__":
    main()
