"""Train from files, on a cluster: each worker loads its files, and sends the sums of gradients back.

    python examples/cluster.py                         # two processes of this computer, by dask.distributed
    python examples/cluster.py --scheduler tcp://...   # a cluster that runs, with this package on its workers
    python examples/cluster.py --processes 2           # without Dask, by concurrent.futures

The files, 64 unless --files says another number, are made if the folder has none: points of the unit square,
with class 1 where x₁ < x₂. The workers need to see the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import nn


class Load:
    """A function that loads a file as a batch of X and Y; it travels to the worker, and the data do not."""

    def __init__(self, path: Path):
        self.path = path

    def __call__(self) -> tuple[np.ndarray, np.ndarray]:
        table = np.load(self.path, mmap_mode="r")
        return table[:, :2], table[:, 2]


def make_files(folder: Path, count: int, rows: int) -> None:
    """Write files of points, one number a column: x₁, x₂, class."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        X, Y = nn.data.linear(rows, rng=np.random.default_rng(i))
        np.save(folder / f"{i:03}.npy", np.hstack([X, Y]))


@contextlib.contextmanager
def executor_of(scheduler: str | None, processes: int | None) -> Iterator[Any]:
    """The executor that the options ask for."""
    if processes:
        with ProcessPoolExecutor(processes) as pool:
            yield pool
        return
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise SystemExit("Dask is missing: pip install distributed, or use --processes 2") from None
    if scheduler:
        with Client(scheduler) as client:
            yield client.get_executor()
        return
    # Else workers give their memory back after each array: see docs/large.md.
    memory = {"MALLOC_TRIM_THRESHOLD_": 2**28, "MALLOC_MMAP_THRESHOLD_": 2**25}
    dask.config.set({"distributed.nanny.pre-spawn-environ": memory})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            yield client.get_executor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/cluster"), help="where the files are")
    parser.add_argument("--files", type=int, default=64, help="how many to make")
    parser.add_argument("--rows", type=int, default=10_000, help="rows in each file that is made")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--scheduler", help="the address of a Dask scheduler")
    parser.add_argument("--processes", type=int, help="processes of this computer, without Dask")
    options = parser.parse_args()
    if not list(options.folder.glob("*.npy")):
        make_files(options.folder, options.files, options.rows)
    batches = [Load(path.resolve()) for path in sorted(options.folder.glob("*.npy"))]
    model = nn.MLP(2, [4, 4, 1], activation="sigmoid", rng=np.random.default_rng(0))
    adam = nn.Adam(model.parameters(), lr=0.3)
    with executor_of(options.scheduler, options.processes) as executor:
        training = nn.Training(
            model, batches, loss=nn.binary_cross_entropy, optimizer=adam, epochs=options.epochs,
            every=max(1, options.epochs // 5), executor=executor, checkpoint=options.folder / "run.npz",
        )  # fmt: skip
        for epoch in training:
            print(f"epoch {epoch.epoch} loss: {epoch.loss:.6f}")
        print(training.history)


if __name__ == "__main__":
    main()
