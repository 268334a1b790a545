"""What the search for results that are not finite costs code that has none.

Each line is one piece of work with the checks and without them, side by side in one run: eager code
without the lines of value.py that raise, programs without what is watched for what a primitive would mask.
The three columns of times take turns, a few milliseconds each, and each time is the best of its repeats;
the last column, the same code with its checks a second time, says how far the others can be trusted.
"""

import argparse
import contextlib
import gc
import importlib
import math
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

os.environ.update(dict.fromkeys(("AUTOGRAD_THREADS", "OMP_NUM_THREADS"), "1"))
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import autograd
import nn
from autograd.program import compiled, emit
from nn.run import Run
from nn.trainers import Trainer

try:
    from autograd.program import native
except ImportError:
    native = None

ROOT = Path(nn.__file__).resolve().parent.parent


def without_checks():
    """The packages, imported once more from a copy whose graphs of Values do not look for anomalies."""
    ours = {
        name: sys.modules.pop(name) for name in list(sys.modules) if re.match(r"(autograd|nn)(\.|$)", name)
    }
    with tempfile.TemporaryDirectory() as folder:
        for package in ("autograd", "nn"):
            shutil.copytree(ROOT / package, Path(folder, package))
        file = Path(folder, "autograd", "value.py")
        check = r"\n( +)if (\w+) - \2:.*\n\1    raise .*"
        text, removed = re.subn(check, "", file.read_text())
        if removed < 8:
            sys.exit(f"value.py has {removed} checks of the form that is removed here, not 8 or more")
        file.write_text(text)
        sys.path.insert(0, folder)
        try:
            return importlib.import_module("nn")
        finally:
            sys.path.remove(folder)
            for name in [name for name in sys.modules if re.match(r"(autograd|nn)(\.|$)", name)]:
                del sys.modules[name]
            sys.modules.update(ours)


@contextlib.contextmanager
def unwatched():
    """Programs that are compiled here do not look for what a primitive would mask."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(emit, "_unnoticed", lambda arrays: set()))
        if native:
            stack.enter_context(
                mock.patch.object(native, "_watched", lambda b, x, out=None: x if out is None else out)
            )
        yield


def problem(nn, nouts, n, activation):
    """A model, its optimizer and n points; nn is the package, or its copy without checks."""
    rng = np.random.default_rng(0)
    X, Y = nn.data.xor() if n == 21 else nn.data.linear(n, rng)
    model = nn.MLP(2, nouts, activation=activation, bias=activation == "relu", rng=rng)
    return model, nn.SGD(model.parameters(), lr=0.01), X, Y


def eager_step(nn, *network):
    """steps → None, by Values."""
    model, sgd, X, Y = problem(nn, *network)
    loss = nn.MeanLoss(model, nn.squared_error)

    def run(steps):
        for _ in range(steps):
            sgd.zero_grad()
            loss.backward(X, Y)
            sgd.step()

    return run


def training_step(engine, *network):
    """steps → None, as fit takes them."""
    model, sgd, X, Y = problem(nn, *network)
    run = Run(X, Y, [], None, np.random.default_rng(0), False, 2**62)
    training = Trainer(engine, model, nn.squared_error, sgd, run)

    def advance(steps):
        end = len(run.losses) + steps
        while len(run.losses) < end:
            training.advance(end - len(run.losses))

    training.pace, training.verifier = 10**9, None  # all at once
    return advance


def program_step(engine, *network):
    """steps → None, by p.backward."""
    model, _, X, Y = problem(nn, *network)
    program = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine=engine)

    def run(steps):
        for _ in range(steps):
            program.backward(X, Y[:, 0])

    run(1)
    return run


def blind(step):
    """The same, without a look at the results or at NumPy's flags either."""

    def run(steps):
        with (
            mock.patch.object(compiled, "_finite", lambda outputs: True),
            mock.patch.object(np, "errstate", lambda **_: contextlib.nullcontext()),
        ):
            step(steps)

    return run


def compare(name, runs, seconds, repeats):
    """Print a line: microseconds a step with the checks and without, and the ratio; and with them again."""
    run = runs[0]
    run(2)
    begun = time.perf_counter()
    run(2)
    steps = max(1, int(2 * seconds / (time.perf_counter() - begun)))
    for run in runs:
        run(steps)
    gc.collect()
    gc.freeze()
    best = [math.inf] * len(runs)
    for _ in range(repeats):
        for i, run in enumerate(runs):
            begun = time.perf_counter()
            run(steps)
            best[i] = min(best[i], (time.perf_counter() - begun) / steps)
    checked, unchecked, again = best
    times = f"{1e6 * checked:12,.3f}{1e6 * unchecked:12,.3f}"
    print(f"{name:48}{times}{100 * (checked / unchecked - 1):+11.1f} %{100 * (again / checked - 1):+11.1f} %")


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=300, help="how many repeats, each of 5 ms")
    repeats = parser.parse_args().repeats
    lab, wide, demo = [4, 4, 1], [64, 64, 1], [16, 16, 1]
    networks = {
        "2-4-4-1, 21 points": (lab, 21, "sigmoid"),
        "2-4-4-1, 100 points": (lab, 100, "sigmoid"),
        "2-64-64-1, 128 points": (wide, 128, "sigmoid"),
        "2-16-16-1 with relu, 100 points": (demo, 100, "relu"),
    }
    print(f"best of {repeats} repeats that take turns")
    print(f"{'µs a step':48}{'checked':>12}{'unchecked':>12}{'cost':>13}{'noise':>13}")
    first, *_ = networks
    steps = [eager_step(nn, *networks[first]), eager_step(without_checks(), *networks[first])]
    compare(f"Values, {first}", [*steps, eager_step(nn, *networks[first])], 0.01, repeats)
    for engine in ["numpy", "native"] if native else ["numpy"]:
        for name, network in networks.items():
            if engine == "native" and network[0] is wide:
                continue  # it has no machine code: too many sums
            steps = [training_step(engine, *network)]
            with unwatched():
                steps.append(training_step(engine, *network))
            compare(f"fit, {engine}, {name}", [*steps, training_step(engine, *network)], 0.005, repeats)
        steps = [program_step(engine, *networks[first])]
        with unwatched():
            steps.append(blind(program_step(engine, *networks[first])))
        compare(
            f"p.backward, {engine}, {first}", [*steps, program_step(engine, *networks[first])], 0.005, repeats
        )


if __name__ == "__main__":
    main()
