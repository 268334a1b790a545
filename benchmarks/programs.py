"""Compiled programs against what else there is: NumPy and C by hand, JAX, PyTorch, micrograd.

All of it in float64, on one thread and in one run. A step is forward, backward and an update by SGD, on
all examples. Its time is the difference between a run of many steps and a run of one, each the best of
several, over the difference in steps: what a run costs once, as recording and compiling, does not count.
It takes about three minutes.
"""

import argparse
import ctypes
import gc
import importlib.util
import inspect
import itertools
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path

# Before NumPy and JAX are imported, which read these once.
os.environ.update(dict.fromkeys(("AUTOGRAD_THREADS", "OMP_NUM_THREADS"), "1"))
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from eager import MicroValue, micro_demo_step, micro_sigmoid, moons
from train import start

import autograd
import nn

try:
    import jax
except ImportError:
    jax = None
try:
    import torch
except ImportError:
    torch = None

CC, LLVM = shutil.which("cc"), importlib.util.find_spec("llvmlite")
ENGINES = ["numpy", "native"] if LLVM else ["numpy"]
REPEATS = 5


def seconds(f, *arguments):
    """How long a call takes."""
    begun = time.perf_counter()
    f(*arguments)
    return time.perf_counter() - begun


def enough_steps(run):
    """So many that run(steps) takes far longer than run(1)."""
    once, steps = min(seconds(run, 1), seconds(run, 1)), 4
    while (more := min(seconds(run, steps), seconds(run, steps)) - once) < once + 0.2:
        steps *= 8 if 8 * more < once else 2
    return steps


def per_step(runs, repeats=REPEATS, **steps):
    """Microseconds a step of each of the runs, which take turns: what else the computer does meets all."""
    gc.collect()
    gc.freeze()  # or the collector goes through all that was imported, at the cost of who calls it most
    steps = {name: steps.get(name) or enough_steps(run) for name, run in runs.items()}
    few, many = ({name: math.inf for name in runs} for _ in range(2))
    for _ in range(repeats):
        for name, run in runs.items():
            few[name] = min(few[name], seconds(run, 1))
            many[name] = min(many[name], seconds(run, steps[name]))
    return {name: 1e6 * (many[name] - few[name]) / (steps[name] - 1) for name in runs}


def per_call(calls, repeats=100, number=100):
    """Microseconds a call of each of these takes, the best of many in turns."""
    best = dict.fromkeys(calls, math.inf)
    for _ in range(repeats):
        for name, call in calls.items():
            best[name] = min(best[name], timeit.timeit(call, number=number))
    return {name: 1e6 * taken / number for name, taken in best.items()}


def agree(runs, steps=10):
    """Exit unless from the same weights all runs come to the same."""
    ends = {name: np.concatenate([np.ravel(w) for w in run(steps)]) for name, run in runs.items()}
    first, *rest = ends
    for name in rest:
        if not np.max(np.abs(ends[name] - ends[first])) < 1e-9:
            sys.exit(f"{name} and {first} do not compute the same: their parameters differ in {steps} steps")


def title(text, *columns):
    """Print the head of a table."""
    print(f"\n{text:52}" + "".join(f"{column:>14}" for column in columns))


def row(name, numbers, goal=""):
    """Print a line of a table."""
    print(f"{name:52}" + "".join(f"{number:14,.2f}" for number in numbers) + (goal and f"   (goal: {goal})"))


def rows(*columns):
    """Print a line for each name, and return the lines."""
    lines = {name: [column[name] for column in columns] for name in columns[0]}
    for name, numbers in lines.items():
        row(name, numbers)
    return lines


def ratio(times, above, below, goal):
    """Print how many times as long one takes as the other, if both have been measured."""
    if above in times and below in times:
        quotients = (f"{a / b:13,.2f}×" for a, b in zip(times[above], times[below]))
        print(f"{f'    {above} ÷ {below}':52}{''.join(quotients)}   (goal: {goal})")


# The peers. Each takes the data, three weight matrices and the rate, and gives a function run(steps): it
# takes these steps from these weights on, and returns where they lead.


def step(X, Y, w1, w2, w3, lr):
    """One step by hand in matrices, a column for each example; the loss before it."""
    h1 = sigmoid(w1 @ X.T)
    h2 = sigmoid(w2 @ h1)
    error = w3 @ h2
    error -= Y.T
    delta3 = error * (lr / len(X))
    delta2 = w3.T * delta3
    delta2 *= h2
    delta2 *= 1.0 - h2
    delta1 = w2.T @ delta2
    delta1 *= h1
    delta1 *= 1.0 - h1
    w3 -= delta3 @ h2.T
    w2 -= delta2 @ h1.T
    w1 -= delta1 @ X
    return 0.5 * float(np.vdot(error, error)) / len(X)


def sigmoid(z):
    """σ(z), in z's place."""
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1.0
    return np.divide(1.0, z, out=z)


def by_hand(X, Y, weights, lr):
    """NumPy, written by hand."""
    X, Y = np.ascontiguousarray(X), np.ascontiguousarray(Y)

    def run(steps):
        w1, w2, w3 = (w.copy() for w in weights)
        for _ in range(steps):
            step(X, Y, w1, w2, w3, lr)
        return w1, w2, w3

    return run


# COLUMNS is N, or so much more that the vectors are whole: the others' `share` of the mean is 0.
C = """
#include <math.h>
#include <string.h>

void train(const double *X, const double *Y, double *weights, double *losses, double lr, long steps)
{
    struct { double w1[4][2], w2[4][4], w3[4]; } w;
    double x[2][COLUMNS] = {0}, y[COLUMNS] = {0}, share[COLUMNS] = {0}, h1[4][COLUMNS], h2[4][COLUMNS];
    for (int n = 0; n < N; n++)
        x[0][n] = X[2 * n], x[1][n] = X[2 * n + 1], y[n] = Y[n], share[n] = 1.0 / N;
    memcpy(&w, weights, sizeof w);
    for (long step = 0; step < steps; step++) {
        for (int i = 0; i < 4; i++) {
            #pragma omp simd
            for (int n = 0; n < COLUMNS; n++)
                h1[i][n] = 1 / (1 + exp(-(w.w1[i][0] * x[0][n] + w.w1[i][1] * x[1][n])));
        }
        for (int i = 0; i < 4; i++) {
            #pragma omp simd
            for (int n = 0; n < COLUMNS; n++) {
                double z = 0;
                for (int j = 0; j < 4; j++) z += w.w2[i][j] * h1[j][n];
                h2[i][n] = 1 / (1 + exp(-z));
            }
        }
        double g1[4][2] = {0}, g2[4][4] = {0}, g3[4] = {0}, loss = 0;
        #pragma omp simd reduction(+ : loss, g1, g2, g3)
        for (int n = 0; n < COLUMNS; n++) {
            double error = -y[n], d1[4] = {0};
            for (int i = 0; i < 4; i++) error += w.w3[i] * h2[i][n];
            double d3 = error * share[n];
            loss += 0.5 * error * d3;
            for (int i = 0; i < 4; i++) {
                double d2 = d3 * w.w3[i] * h2[i][n] * (1 - h2[i][n]);
                g3[i] += d3 * h2[i][n];
                for (int j = 0; j < 4; j++) g2[i][j] += d2 * h1[j][n], d1[j] += d2 * w.w2[i][j];
            }
            for (int i = 0; i < 4; i++) {
                d1[i] *= h1[i][n] * (1 - h1[i][n]);
                for (int j = 0; j < 2; j++) g1[i][j] += d1[i] * x[j][n];
            }
        }
        losses[step] = loss;
        for (int i = 0; i < 4; i++) {
            for (int j = 0; j < 2; j++) w.w1[i][j] -= lr * g1[i][j];
            for (int j = 0; j < 4; j++) w.w2[i][j] -= lr * g2[i][j];
            w.w3[i] -= lr * g3[i];
        }
    }
    memcpy(weights, &w, sizeof w);
}
"""
C_FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp-simd")


def in_c(X, Y, weights, lr, flags):
    """C with the loop over the steps inside, for the lab's network."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "lab.c"), Path(folder, "lab.so")
        source.write_text(C)
        files = "-shared", "-fPIC", "-o", library, source, "-lm"
        subprocess.run([CC, *C_FLAGS, *flags, f"-DN={len(X)}", *files], check=True)
        train = ctypes.CDLL(str(library)).train
    train.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_double, ctypes.c_long]
    X, Y = np.ascontiguousarray(X), np.ascontiguousarray(Y)

    def run(steps):
        w, losses = np.concatenate([w.ravel() for w in weights]), np.empty(steps)
        train(X.ctypes.data, Y.ctypes.data, w.ctypes.data, losses.ctypes.data, lr, steps)
        return [w]

    return run


def best_in_c(X, Y, weights, lr):
    """C with the best of a few flags, and those flags."""
    widest = [[], ["-mprefer-vector-width=512"]] if platform.machine() == "x86_64" else [[]]
    columns = (len(X), -8 * (-len(X) // 8))
    choices = [(f"-DCOLUMNS={n}", *flags) for n in columns for flags in widest]
    runs = {flags: in_c(X, Y, weights, lr, flags) for flags in choices}
    agree(runs)
    times = per_step(runs, repeats=3)
    flags = min(times, key=times.get)
    return runs[flags], " ".join((*C_FLAGS, *flags))


def in_jax(X, Y, weights, lr, product):
    """JAX with the loop over the steps inside one compiled call."""
    jax.config.update("jax_enable_x64", True)
    X, Y, weights = (jax.tree.map(jax.numpy.asarray, part) for part in (X.T, Y.T, list(weights)))

    def loss(ws):
        h = X
        for w in ws[:-1]:
            h = jax.nn.sigmoid(product(w, h))
        return 0.5 * jax.numpy.mean(jax.numpy.square(product(ws[-1], h) - Y))

    def update(_, state):
        value, gradient = jax.value_and_grad(loss)(state[0])
        return [w - lr * g for w, g in zip(state[0], gradient)], value

    loop = jax.jit(lambda ws, steps: jax.lax.fori_loop(0, steps, update, (ws, 0.0)))
    return lambda steps: jax.block_until_ready(loop(weights, steps))[0]


def in_torch(X, Y, weights, lr):
    """PyTorch, eager."""
    torch.set_num_threads(1)
    X, Y, linear = torch.tensor(X), torch.tensor(Y), torch.nn.functional.linear

    def run(steps):
        ws = [torch.tensor(w, requires_grad=True) for w in weights]
        for _ in range(steps):
            h = X
            for w in ws[:-1]:
                h = torch.sigmoid(linear(h, w))
            loss = 0.5 * torch.nn.functional.mse_loss(linear(h, ws[-1]), Y)
            loss.backward()
            with torch.no_grad():
                for w in ws:
                    w.sub_(w.grad, alpha=lr)
                    w.grad = None
        return [w.detach().numpy() for w in ws]

    return run


def in_micrograd(X, Y, weights, lr):
    """micrograd, with a σ of one node made for it."""
    X, Y, weights = X.tolist(), Y.ravel().tolist(), [w.tolist() for w in weights]

    def run(steps):
        layers = [[[MicroValue(w) for w in unit] for unit in layer] for layer in weights]
        parameters = [w for layer in layers for unit in layer for w in unit]
        for _ in range(steps):
            loss = 0.0
            for x, y in zip(X, Y):
                for layer in layers:
                    x = [sum(w * v for w, v in zip(unit, x)) for unit in layer]
                    x = [micro_sigmoid(z) for z in x] if layer is not layers[-1] else x
                loss = loss + 0.5 * (x[0] - y) ** 2
            loss = loss * (1.0 / len(X))
            for p in parameters:
                p.grad = 0
            loss.backward()
            for p in parameters:
                p.data -= lr * p.grad
        return [[p.data for p in parameters]]

    return run


# Ours, as functions run(steps) too.


def ours(model, loss, X, Y, lr, engine, fit=True):
    """A model's training from where it is now: in fit or, if not, by a program and the optimizer."""
    parameters = in_order(model)
    begin = [p.data for p in parameters]
    program = None if fit else autograd.compile(lambda x, y: loss(model(x), y), engine=engine)

    def run(steps):
        for p, data in zip(parameters, begin):
            p.data = data
        sgd = nn.SGD(parameters, lr=lr)
        if fit:
            nn.fit(model, X, Y, loss=loss, optimizer=sgd, epochs=steps, progress=False, engine=engine)
        for _ in range(0 if fit else steps):
            sgd.zero_grad()
            program.backward(X, Y)
            sgd.step()
        return [[p.data for p in parameters]]

    return run


def in_order(model):
    """The parameters as micrograd orders them, which for weights alone is row by row."""
    neurons = [neuron for layer in model.layers for neuron in layer.neurons]
    return [p for neuron in neurons for p in (*neuron.w, neuron.b) if p is not None]


def network(width):
    """2-w-w-1, 128 points, and its weight matrices."""
    rng = np.random.default_rng(0)
    X, Y = nn.data.linear(128, rng)
    model = nn.MLP(2, [width, width, 1], activation="sigmoid", bias=False, rng=rng)
    return X, Y, model, list(model.state_dict().values())


def first_and_next(model, X, Y, engine):
    """Seconds to the first result of a fresh program, and for the next one."""
    begun = time.perf_counter()
    program = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine=engine)
    program.value_and_grad(X, Y)
    return time.perf_counter() - begun, seconds(program.value_and_grad, X, Y)


# The tables


def lab():
    """1: the lab's network on its two data sets."""
    columns, flags = [], []
    for data in ("xor", "linear"):
        _, X, Y, model, matrix = start(data, 0)
        problem = X, Y, [w.data for w in matrix.parameters()], 2.0
        runs = {"NumPy by hand": by_hand(*problem)}
        if CC:
            runs["C by hand"], chosen = best_in_c(*problem)
            flags.append(f"C for {len(X)} points: {chosen}")
        if jax:
            runs["JAX"] = in_jax(*problem, jax.numpy.matmul)
            # Quicker, for matrices as small as these.
            runs["JAX without matmul"] = in_jax(*problem, lambda w, h: (w[:, :, None] * h).sum(axis=1))
        if torch:
            runs["PyTorch"] = in_torch(*problem)
        if MicroValue:
            runs["micrograd"] = in_micrograd(*problem)
        for engine in ENGINES:
            runs[f"fit, {engine}"] = ours(model, nn.squared_error, X, Y, 2.0, engine)
        runs["p.backward and step"] = ours(model, nn.squared_error, X, Y, 2.0, "numpy", fit=False)
        agree(runs)
        columns.append(per_step(runs))
    title("1. the lab's network, µs a step", "21 points", "100 points")
    times = rows(*columns)
    ratio(times, "fit, numpy", "NumPy by hand", "at most 1.2")
    ratio(times, "p.backward and step", "NumPy by hand", "at most 2.5")
    ratio(times, "fit, native", "C by hand", "at most 1.1")
    ratio(times, "NumPy by hand", "fit, native", "at least 15")
    ratio(times, "JAX", "fit, native", "at least 3")
    ratio(times, "JAX without matmul", "fit, native", "at least 3")
    for line in flags:
        print(line)


def wide():
    """2: wider networks."""
    title("2. 2-w-w-1 on 128 points, µs a step", "NumPy by hand", "fit", "ratio")
    goals = {"numpy": "ratio at most 1.2", "native": "ratio at most 0.5"}
    for width, engine in itertools.product((16, 64, 256), ENGINES):
        X, Y, model, weights = network(width)
        hand, fit = by_hand(X, Y, weights, 0.01), ours(model, nn.squared_error, X, Y, 0.01, engine)
        runs = {"hand": hand, "fit": fit}
        agree(runs)
        # Recording the widest takes seconds, which vary: its run is longer, and not often repeated.
        longer, repeats = (8, 2) if width == 256 else (2, REPEATS)
        steps = longer * enough_steps(hand)
        times = per_step(runs, repeats, hand=steps, fit=steps)
        row(f"w = {width}, {engine}", [*times.values(), times["fit"] / times["hand"]], goals[engine])


def demo():
    """3: micrograd's demo."""
    X, Y = map(np.array, moons())
    model = nn.MLP(2, [16, 16, 1], rng=np.random.default_rng(0))
    parameters, runs = in_order(model), {}
    if MicroValue:
        runs["micrograd"] = micro_demo
        for p, data in zip(parameters, micro_demo(0)[0]):  # all start where micrograd does
            p.data = data

    def loss(p, y):
        return nn.hinge(p, y) + 1e-4 * autograd.dot(parameters, parameters)

    for engine in ENGINES:
        runs[f"fit, {engine}"] = ours(model, loss, X, Y, 0.1, engine)
    runs["p.backward and step"] = ours(model, loss, X, Y, 0.1, "numpy", fit=False)
    agree(runs, steps=3)  # one of micrograd's takes seconds
    title("3. micrograd's demo, µs a step", "100 points")
    times = rows(per_step(runs, repeats=3, micrograd=2))
    for engine in ENGINES:
        ratio(times, "micrograd", f"fit, {engine}", "at least 5,000")


def micro_demo(steps):
    """micrograd's demo as a run."""
    step = micro_demo_step()
    for _ in range(steps):
        step()
    return [[p.data for p in inspect.getclosurevars(step).nonlocals["model"].parameters()]]


def latency():
    """4: from compile() to the first result, for the lab's network."""
    title("4. the first result of a program, lab's network, ms", "21 points")
    for engine, goal in zip(ENGINES, ("at most 60", "at most 250")):
        problems = [start("xor", 0) for _ in range(REPEATS)]
        first = min(first_and_next(model, X, Y, engine)[0] for _, X, Y, model, _ in problems)
        row(engine, [1e3 * first], goal)


def epochs():
    """5: the training of examples/train_xor.py."""
    title("5. fit, 10,000 epochs of XOR, ms", "in all", "but for one")
    for engine, goal in zip(ENGINES, ("at most 500", "at most 15")):
        _, X, Y, model, _ = start("xor", 0)
        run = ours(model, nn.squared_error, X, Y, 2.0, engine)
        whole, one = (min(seconds(run, steps) for _ in range(REPEATS)) for steps in (10_000, 1))
        row(engine, [1e3 * whole, 1e3 * (whole - one)], goal)


def growth():
    """6: what it takes to record and lift, by the number of scalar operations."""
    title("6. 2-w-w-1, to record and lift", "operations", "ms", "ns each")
    each = []
    for width, goal in ((12, ""), (24, ""), (64, "at most 2,000 ms"), (128, "")):
        X, Y, model, weights = network(width)
        operations = 6 * sum(w.size for w in weights)  # × and +: once forward, twice backward
        taken = min(np.subtract(*first_and_next(model, X, Y, "numpy")) for _ in range(3))
        each.append(1e9 * taken / operations)
        row(f"w = {width}", [operations, 1e3 * taken, each[-1]], goal)
    most = max(later / earlier for earlier, later in itertools.combinations(each, 2))
    print(f"{'    ns each ÷ that of a narrower network, at most':80}{most:13,.2f}×   (goal: at most 1.3)")


def elementwise():
    """7: the derivative of an elementwise function over a large array."""
    title("7. f'(x) of f(x) = sin(x) exp(−x²/2) + atan(x), ms", "10⁵ numbers", "10⁶ numbers")
    sizes = 10**5, 10**6
    arrays = [np.random.default_rng(0).normal(size=n) for n in sizes]

    def f(x, xp=autograd):
        return xp.sin(x) * xp.exp(-0.5 * x * x) + xp.atan(x)

    def by_hand(x):
        return np.exp(-0.5 * x * x) * (np.cos(x) - x * np.sin(x)) + 1.0 / (1.0 + x * x)

    runs = {"NumPy by hand": by_hand}
    for engine in ENGINES:
        runs[engine] = autograd.compile(autograd.grad(f), engine=engine).per_example
    if jax:
        jax.config.update("jax_enable_x64", True)
        in_jax = jax.jit(jax.vmap(jax.grad(lambda x: f(x, jax.numpy))))
        runs["JAX, compiled"] = lambda x: in_jax(x).block_until_ready()
    times = {}
    for name, run in runs.items():
        for x in arrays:
            if not np.allclose(run(x), by_hand(x), rtol=1e-12, atol=1e-14):
                sys.exit(f"{name} gives other derivatives")
        times[name] = [1e3 * min(seconds(run, x) for _ in range(4 * REPEATS)) for x in arrays]
        row(name, times[name])
    slope = autograd.grad(f)
    some = arrays[0][:2000].tolist()
    each = min(seconds(lambda: [slope(x) for x in some]) for _ in range(REPEATS)) / len(some)
    row("grad(f) of one number after the other", [1e3 * each * n for n in sizes])
    for engine in ENGINES:
        ratio(times, engine, "NumPy by hand", "at most 3")


def calls():
    """8: what a call costs, for the lab's network and one row in an array of NumPy's."""
    _, X, Y, model, matrix = start("xor", 0)
    x, y, weights = X[:1], Y[:1], [w.data for w in matrix.parameters()]

    def loss(x, y):
        return nn.squared_error(model(x), y)

    def by_hand(x, y):
        h = x.T
        for w in weights[:-1]:
            h = sigmoid(w @ h)
        return 0.5 * (weights[-1] @ h - y.T)[0] ** 2

    # With a rate of 0, a step is a value and its gradient, and subtracts nothing.
    hand = [lambda: float(by_hand(x, y).mean()), lambda: by_hand(x, y), lambda: step(x, y, *weights, 0.0)]
    columns = {"NumPy by hand": hand}
    for engine in ENGINES:
        p = autograd.compile(loss, engine=engine)
        methods = p, p.per_example, p.value_and_grad
        columns[engine] = [lambda method=method: method(x, y) for method in methods]
    if jax:
        jax.config.update("jax_enable_x64", True)
        ws = list(map(jax.numpy.asarray, weights))

        def of_rows(ws, x, y):
            h = x.T
            for w in ws[:-1]:
                h = jax.nn.sigmoid(w @ h)
            return 0.5 * jax.numpy.square(ws[-1] @ h - y.T)[0]

        def mean(ws, x, y):
            return jax.numpy.mean(of_rows(ws, x, y))

        jitted = map(jax.jit, (mean, of_rows, jax.value_and_grad(mean)))
        columns["JAX, compiled"] = [lambda f=f: jax.block_until_ready(f(ws, x, y)) for f in jitted]
    for name, each in columns.items():
        found = [f() for f in each]  # the first number is the row's loss in each
        if not np.allclose([np.ravel(x[0] if isinstance(x, tuple) else x)[0] for x in found], hand[1]()):
            sys.exit(f"{name} gives other losses")
    title("8. a call with one row, lab's network, µs", "value", "per_example", "with gradient")
    times = per_call({(name, i): f for name, each in columns.items() for i, f in enumerate(each)})
    for name, each in columns.items():
        row(name, [times[name, i] for i in range(len(each))], "at most 7" if name == "native" else "")


def main():
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    modules = {"NumPy": np, "JAX": jax, "PyTorch": torch}
    versions = [f"{name} {module.__version__}" for name, module in modules.items() if module]
    print(f"Python {sys.version.split()[0]}, {', '.join(versions)}; float64, one thread")
    print(f"best of {REPEATS} repeats, of 3 where a repeat takes seconds, and of 2 where it takes many")
    needed = {"JAX": jax, "PyTorch": torch, "micrograd": MicroValue, "cc": CC, "llvmlite, for native,": LLVM}
    for name in (name for name in needed if not needed[name]):
        print(f"{name} is not installed: its rows are left out")
    lab()
    wide()
    demo()
    latency()
    epochs()
    growth()
    elementwise()
    calls()


if __name__ == "__main__":
    main()
