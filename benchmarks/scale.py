"""Graphs of a million nodes: the time and the memory that each operation takes.

Each operation runs in a process of its own, which builds the graph, prepares what the operation needs,
and then measures it; peak memory is the whole process's. Python's garbage collector is off, except with
--collector. The graphs: a chain, x a + b of that again and so on; a wide one, the sum of many products
w x; and a random one, each node of any of the thousand before it.
"""

import argparse
import copy
import gc
import pickle
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import autograd
from autograd import Value, derive, draw, total
from autograd.draw import DrawingError

# A function of one example, of about that many nodes, and the leaves that it closes over


def chain(nodes):
    """A node for each × and each +, one after the other."""
    a, b = Value(0.999, "a"), Value(0.001, "b")

    def f(x):
        for _ in range(nodes // 2):
            x = x * a + b
        return x

    return f, [a, b]


def wide(nodes):
    """A leaf and a product for each term of one sum."""
    w = [Value(1.0 / nodes, f"w[{i}]") for i in range(nodes // 2)]
    return lambda x: total([v * x for v in w]), w


def dag(nodes):
    """Products, σ, and tanh of differences; the result is the sum of all."""
    leaves = [Value(0.5, "a"), Value(-0.25, "b")]

    def f(x):
        rng = random.Random(0)
        made, count = [*leaves, x], 0
        while count < nodes:
            p, q = (made[-1 - int(rng.random() * min(1000, len(made)))] for _ in range(2))
            kind = rng.randrange(3)
            made.append(p * q if kind == 0 else p.sigmoid() if kind == 1 else (p - q).tanh())
            count += 2 if kind == 2 else 1
        return total(made)

    return f, leaves


GRAPHS = {"chain": chain, "wide": wide, "random": dag}


# What is measured: each is a function of the graph's function and leaves that prepares, and yields, and
# is measured from there on, to the next yield or to its end


def build(f, leaves):
    """f(x), once."""
    yield
    f(Value(0.5))


def backward(f, leaves):
    """Gradients of all leaves."""
    out = f(Value(0.5))
    yield
    out.backward()


def derived(f, leaves):
    """The gradient by two leaves as a graph."""
    out = f(Value(0.5))
    yield
    derive(out, leaves[:2])


def backward_of_derived(f, leaves):
    """Second derivatives, by backward() through that graph."""
    x = Value(0.5)
    out = derive(f(x), [*leaves[:1], x])[0]
    yield
    out.backward()


def deepcopy(f, leaves):
    """copy.deepcopy."""
    out = f(Value(0.5))
    yield
    copy.deepcopy(out)


def dumps(f, leaves):
    """pickle.dumps."""
    out = f(Value(0.5))
    yield
    pickle.dumps(out)


def loads(f, leaves):
    """pickle.loads."""
    pickled = pickle.dumps(f(Value(0.5)))
    yield
    pickle.loads(pickled)


def drawing(f, leaves):
    """draw(), which refuses."""
    out = f(Value(0.5))
    yield
    try:
        draw(out)
    except DrawingError:
        return
    raise AssertionError("this was to be refused")


def free(f, leaves):
    """The last reference goes."""
    out = f(Value(0.5))
    out.backward()
    yield
    del out


ROWS = np.linspace(0.1, 0.9, 3)


def compiled(f, leaves):
    """A program's first gradient of three rows: record, simplify, lift, emit, run. Then another."""
    program = autograd.compile(f)
    yield
    program.backward(ROWS)
    yield
    program.backward(ROWS)


OPERATIONS = {
    "build": build,
    "backward": backward,
    "derive": derived,
    "backward of that": backward_of_derived,
    "copy.deepcopy": deepcopy,
    "pickle.dumps": dumps,
    "pickle.loads": loads,
    "draw refuses": drawing,
    "free": free,
    "compile and run": compiled,
}


def measure(graph, operation, nodes):
    """Seconds of an operation, or of each part of it, after the peak of this process's memory in bytes."""
    steps = OPERATIONS[operation](*GRAPHS[graph](nodes))
    next(steps)
    seconds, start = [], time.perf_counter()
    for _ in steps:
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    seconds.append(time.perf_counter() - start)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, *seconds


def main():
    """Print a row for each graph and operation."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1_000_000, help="about how many each graph has")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=list(GRAPHS), help="which of them")
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--collector", action="store_true", help="with Python's garbage collector on")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nodes < 1000:
        parser.error("the graphs have at least 1000 nodes")
    if options.here:
        if not options.collector:
            gc.disable()
        print(*measure(options.graphs[0], options.operations[0], options.nodes))
        return
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}; graphs of {options.nodes:,} nodes")
    print(f"{'graph':8}{'operation':22}{'seconds':>10}{'µs a node':>12}{'peak GB':>10}{'bytes a node':>14}")
    for graph in options.graphs:
        for operation in options.operations:
            command = [sys.executable, __file__, "--here", "--nodes", str(options.nodes)]
            command += ["--graphs", graph, "--operations", operation]
            command += ["--collector"] * options.collector
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{graph:8}{operation:22}{'failed':>10}", flush=True)
                continue
            peak, *times = map(float, done.stdout.split())
            for name, seconds in zip((operation, "  and again"), times):
                a_node = (
                    f"{1e6 * seconds / options.nodes:12.2f}{peak / 1e9:10.2f}{peak / options.nodes:14.0f}"
                )
                print(f"{graph:8}{name:22}{seconds:10.2f}{a_node}", flush=True)


if __name__ == "__main__":
    main()
