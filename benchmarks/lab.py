"""The lab's experiment over 100 seeds, by the matrix engine, beside the lab's published losses.

Each seed is one run of examples/train_xor.py or train_linear.py with --engine matrix --seed N.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from train import start

import nn

EPOCHS = range(0, 10_000, 1000)
PUBLISHED = {
    "xor": [0.3454, 0.1217, 0.1123, 0.0920, 0.0475, 0.0400, 0.0343, 0.0290, 0.0247, 0.0209],
    "linear": [0.2241, 0.0227, 0.0081, 0.0068, 0.0069, 0.0067, 0.0063, 0.0060, 0.0057, 0.0055],
}


def train(data, seed, lr):
    """The history of the run with this seed."""
    _, X, Y, _, model = start(data, seed)
    sgd = nn.SGD(model.parameters(), lr=lr)
    return nn.fit(model, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=10_000, progress=False)


def main():
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds, from 0 on")
    parser.add_argument("--lr", type=float, default=2.0, help="learning rate")
    options = parser.parse_args()
    if options.seeds < 1 or not options.lr > 0:
        parser.error("the number of seeds and the learning rate are above 0")
    for data, published in PUBLISHED.items():
        histories = [train(data, seed, options.lr) for seed in range(options.seeds)]
        losses = np.array([[history.loss[epoch] for epoch in EPOCHS] for history in histories])
        accuracies = np.array([history.accuracy for history in histories])
        print(f"{data}, {options.seeds} seeds, lr {options.lr:g}")
        print(f"{'epoch':>8}{'the lab':>10}{'median':>12}{'best':>12}{'worst':>12}{'below the lab':>16}")
        for epoch, lab, column in zip(EPOCHS, published, losses.T):
            spread = f"{np.median(column):12.6f}{column.min():12.6f}{column.max():12.6f}"
            print(f"{epoch:8}{lab:10.4f}{spread}{np.sum(column < lab):16}")
        print(
            f"accuracy 100 % in {np.sum(accuracies == 1.0)} of {options.seeds}; worst {accuracies.min():.1%}"
        )
        print(f"{np.median([history.seconds for history in histories]):.2f} s a run (median)\n", flush=True)


if __name__ == "__main__":
    main()
