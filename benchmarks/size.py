"""Large data sets: blocks, threads, memory, files, and a cluster; ratios from one run.

    python benchmarks/size.py             # 1,000,000 rows
    python benchmarks/size.py --large     # 10,000,000 rows in memory, and 60,000,000 in a file of 1.4 GB

The program is the mean loss of the lab's 2-4-4-1 network and its gradient. Times are the best of several.
Each part runs in a process of its own, so that a library's threads do not meet another's.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

from training import best

import autograd
import nn

SMALL, LARGE, IN_FILE = 1_000_000, 10_000_000, 60_000_000


def network():
    return nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))


def program(engine, rows=1 << 17):
    """The loss of the network as a program, which is compiled and has run."""
    model = network()
    loss = autograd.compile(lambda x, y: nn.squared_error(model(x), y), engine=engine)
    X, Y = data(rows)
    loss.value_and_grad(X, Y)
    return loss


def data(rows):
    rng = np.random.default_rng(1)
    X = rng.uniform(size=(rows, 2))
    return X, np.where(X[:, 0] > X[:, 1], 0.0, 1.0)


def by_hand(weights):
    """The mean loss and its gradient on whole arrays, as one writes them in NumPy."""
    w1, w2, w3 = weights

    def sigmoid(z):
        return 1.0 / (1.0 + np.exp(-z))

    def value_and_grad(X, Y):
        h1 = sigmoid(X @ w1.T)
        h2 = sigmoid(h1 @ w2.T)
        error = (h2 @ w3.T)[:, 0] - Y
        delta3 = (error / len(X))[:, None]
        delta2 = (delta3 @ w3) * h2 * (1.0 - h2)
        delta1 = (delta2 @ w2) * h1 * (1.0 - h1)
        return 0.5 * np.mean(error * error), [delta1.T @ X, delta2.T @ h1, delta3.T @ h2]

    return value_and_grad


def weights():
    return list(network().state_dict().values())


class Memory:
    """The most memory that this process has taken since it began to watch, in MB."""

    def __enter__(self):
        self._ended, self.before = False, self._now()
        self.most = self.before
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended = True
        self._thread.join()

    @property
    def taken(self):
        return self.most - self.before

    def _watch(self):
        while not self._ended:
            self.most = max(self.most, self._now())
            time.sleep(0.002)

    @staticmethod
    def _now():
        """Resident pages that belong to no file."""
        fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) / 1024


# The parts: each prints numbers by name, and the process that started it reads them


def part_numpy(engine, threads):
    autograd.set_threads(threads)
    X, Y = data(SMALL)
    loss = program(engine)
    print("seconds", best(lambda: loss.value_and_grad(X, Y)))


def part_hand():
    X, Y = data(SMALL)
    value_and_grad = by_hand(weights())
    expected, found = program("numpy").value_and_grad(X, Y)[0], value_and_grad(X, Y)[0]
    assert abs(found - expected) < 1e-12
    print("seconds", best(lambda: value_and_grad(X, Y)))


def part_jax():
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return
    jax.config.update("jax_enable_x64", True)
    X, Y = map(jnp.asarray, data(SMALL))

    def loss(ws, X, Y):
        h = jax.nn.sigmoid(jax.nn.sigmoid(X @ ws[0].T) @ ws[1].T) @ ws[2].T
        return 0.5 * jnp.mean((h[:, 0] - Y) ** 2)

    run = jax.jit(jax.value_and_grad(loss))
    ws = [jnp.asarray(w) for w in weights()]
    print("seconds", best(lambda: jax.block_until_ready(run(ws, X, Y)), 8))


def part_memory(engine, rows, what):
    X, Y = data(rows)
    loss = program(engine)
    model = network()
    adam = nn.Adam(model.parameters())
    settings = {"loss": nn.squared_error, "optimizer": adam, "engine": engine, "progress": False}
    nn.fit(model, X[: 1 << 17], Y[: 1 << 17], epochs=1, **settings)
    with Memory() as memory:
        start = time.perf_counter()
        if what == "gradient":
            loss.value_and_grad(X, Y)
        elif what == "nan":
            seconds = best(lambda: loss.value_and_grad(X, Y))
            X[-1, 0] = np.nan
            start = time.perf_counter()
            try:
                loss.value_and_grad(X, Y)
            except ArithmeticError as error:
                assert str(error).startswith(f"x, row {rows - 1}, column 0 is nan")
            print("passes", (time.perf_counter() - start) / seconds)
        else:
            nn.fit(model, X, Y, epochs=1 if what == "fit" else 4, **settings)
    print("seconds", time.perf_counter() - start)
    print("MB", memory.taken)


def part_file(engine, folder, rows):
    """A pass over files that are mapped into memory, and the reading of them: from disk, from memory."""
    paths = [Path(folder) / name for name in ("x", "y")]
    X, Y = (np.memmap(path, float, mode="r", shape=shape) for path, shape in zip(paths, ((rows, 2), (rows,))))
    loss, buffer = program(engine), np.empty(1 << 17)

    def forget():
        """Let the system drop the files from its memory."""
        for path in paths:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read():
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    for name, job in (("reading", read), ("seconds", lambda: loss.value_and_grad(X, Y))):
        cold = []
        for _ in range(2):
            forget()
            cold.append(best(job, 1))
        print(f"cold_{name}", min(cold))
        print(name, best(job, 3))
    with Memory() as memory:
        loss.value_and_grad(X, Y)
    print("MB", memory.taken)


class Load:
    """A function that loads a batch from a file, on a worker."""

    def __init__(self, path):
        self.path = path

    def __call__(self):
        table = np.load(self.path, mmap_mode="r")
        return table[:, :2], table[:, 2]


def part_cluster(engine, rows):
    """Eight files on two workers, against two threads of this process."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        return
    # Else workers give their memory back after each array: see docs/large.md.
    memory = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}
    dask.config.set({"distributed.nanny.pre-spawn-environ": memory})
    loss = program(engine)
    autograd.set_threads(2)
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with tempfile.TemporaryDirectory() as folder:
        X, Y = data(rows)
        batches = [Load(Path(folder) / f"{i}.npy") for i in range(8)]
        for batch in batches:
            np.save(batch.path, np.column_stack([X, Y]))
        here = best(lambda: loss.value_and_grad(batches), 6)
        with LocalCluster(**settings) as cluster, Client(cluster) as client:
            executor = client.get_executor()
            there = best(lambda: loss.value_and_grad(batches, executor=executor), 10)
            assert loss.value_and_grad(batches, executor=executor)[0] == loss.value_and_grad(batches)[0]
    print("here", here)
    print("there", there)


def run(part, *arguments):
    """What a part prints, by name; {} where a library is absent."""
    command = [sys.executable, __file__, "--part", part, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return {name: float(x) for name, x in (line.split() for line in done.stdout.splitlines() if line)}


def main(large):
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores\n")
    hand = run("hand")["seconds"]
    jax = run("jax").get("seconds")
    print(f"{SMALL:,} rows               seconds  faster than NumPy by hand{'  than JAX' if jax else ''}")
    print(f"NumPy by hand               {hand:.4f}")
    if jax:
        print(f"JAX, all threads            {jax:.4f}")
    for engine in ENGINES:
        for threads in dict.fromkeys((1, cores)):
            seconds = run("numpy", engine, threads)["seconds"]
            against = f"{jax / seconds:10.2f}" if jax else ""
            print(f"{engine:6}, {threads} thread{'s' if threads > 1 else ' '}          {seconds:.4f}"
                  f"  {hand / seconds:25.2f}{against}")  # fmt: skip
    rows = LARGE if large else SMALL
    print(f"\n{rows:,} rows: seconds, and memory beyond the data")
    for engine in ENGINES:
        one, four = (run("memory", engine, rows, what) for what in ("fit", "fit4"))
        gradient, nan = (run("memory", engine, rows, what) for what in ("gradient", "nan"))
        epoch = (four["seconds"] - one["seconds"]) / 3
        beside = (one["seconds"] - epoch) / epoch
        print(f"{engine:6}  gradient {gradient['seconds']:.3f} s, {gradient['MB']:.0f} MB")
        print(f"        NaN in the last row: {nan['passes']:.2f} passes")
        print(f"        fit, besides its epochs: {beside:.1f} passes, {one['MB']:.0f} MB")
    if large:
        with tempfile.TemporaryDirectory() as folder:
            X, Y = data(IN_FILE // 60)
            for name, array in (("x", X), ("y", Y)):
                with open(Path(folder) / name, "wb") as file:
                    for _ in range(60):
                        array.tofile(file)
                    os.fsync(file.fileno())
            print(f"\n{IN_FILE:,} rows in files, mapped into memory: against reading them")
            for engine in ENGINES:
                found = run("file", engine, folder, IN_FILE)
                cold = found["cold_seconds"] / found["cold_reading"]
                ratio = found["seconds"] / found["reading"]
                print(f"{engine:6}  from the disk {found['cold_seconds']:.2f} s, {cold:.2f} × reading")
                print(f"        from memory {found['seconds']:.2f} s, {ratio:.2f} × reading")
                print(f"        memory beyond the data: {found['MB']:.0f} MB")
    print("\n8 tasks of a million rows: Dask's two workers against two threads")
    for engine in ENGINES:
        if found := run("cluster", engine, SMALL):
            print(f"{engine:6}  {found['here']:.3f} s here, {found['there'] / found['here']:.2f} × there")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--large", action="store_true", help="ten and sixty times as many rows")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        import llvmlite  # noqa: F401

        ENGINES = ["numpy", "native"]
    except ImportError:
        ENGINES = ["numpy"]
    if options.part:
        part, *arguments = options.part
        globals()[f"part_{part}"](*(int(a) if a.isdecimal() else a for a in arguments))
    else:
        main(options.large)
