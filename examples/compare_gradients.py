"""Every gradient of the lab's network three ways: by scalars, by matrices, and by finite differences."""

import argparse

import numpy as np
from program import run
from train import DATA, start

import nn

STEP = 1e-5
AGREE = {"scalar–matrix": 1e-13, "scalar–numeric": 1e-8}  # relative to the largest entry of a matrix


def main() -> int:
    """Print a table for each weight matrix; 1 if anything in it disagrees, else 0."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The exit status is 1 if they disagree: scalars and matrices by more than 1e-13, or scalars "
        "and central differences by more than 1e-8, of a matrix's largest gradient.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", choices=list(DATA), default="xor", help="the data set")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the data")
    options = parser.parse_args()
    if options.seed < 0:
        parser.error("the seed is a whole number of at least 0")

    _, X, Y, scalar, matrix = start(options.data, options.seed)
    loss = nn.MeanLoss(scalar, nn.squared_error).backward(X, Y)
    matrix.backward(X, Y)
    print(f"Gradients of the mean loss, {loss:.6f}, over the {len(X)} {options.data} points")

    agree = True
    for layer, w in zip(scalar.layers, matrix.parameters()):
        parameters = layer.parameters()
        by_scalar = np.array([p.grad for p in parameters])
        by_matrix = w.grad.ravel()
        numeric = numeric_gradient(matrix, w, X, Y).ravel()
        print(f"\n{'':8}{'scalar':>24}{'matrix':>24}{'numeric':>24}")
        for p, *values in zip(parameters, by_scalar, by_matrix, numeric):
            print(f"{p.label:8}" + "".join(f"{value:24.16f}" for value in values))
        for name, other in (("scalar–matrix", by_matrix), ("scalar–numeric", numeric)):
            difference = np.max(np.abs(by_scalar - other)) / np.max(np.abs(by_matrix))
            agree = agree and bool(difference <= AGREE[name])
            print(f"largest {name} difference: {difference:.1e} of the largest (at most {AGREE[name]:.0e})")
    print(f"\nThe gradients {'agree' if agree else 'DISAGREE'}.")
    return 0 if agree else 1


def numeric_gradient(model: nn.MatrixMLP, w: nn.Parameter, X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """(L(w + h) − L(w − h)) / 2h for each entry of the weight matrix w of the model."""
    data, gradient = w.data, np.empty_like(w.data)
    for entry in np.ndindex(data.shape):
        losses = []
        for h in (STEP, -STEP):
            w.data = data.copy()
            w.data[entry] += h
            losses.append(model.loss(X, Y))
        gradient[entry] = (losses[0] - losses[1]) / (2.0 * STEP)
    w.data = data
    return gradient


if __name__ == "__main__":
    run(main)
