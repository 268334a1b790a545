"""Scalar against matrix: two implementations that share no code agree, and finite differences with both.

Differences are relative in the maximum norm: the largest |difference| of any entry of a weight
matrix, over the largest |entry| of that matrix's gradient.
"""

from typing import Any

import numpy as np
import pytest

import nn

DATA = {"xor": nn.data.xor(), "linear": nn.data.linear(100, np.random.default_rng(0))}


def both(
    seed: int, nin: int = 2, nouts: Any = (4, 4, 1), activation: str = "sigmoid", bias: bool = False
) -> tuple[nn.MLP, nn.MatrixMLP]:
    rng = np.random.default_rng(seed)
    scalar = nn.MLP(nin, list(nouts), activation=activation, bias=bias, rng=rng)
    for p in scalar.parameters():  # biases start at 0, which would hide them
        p.data = p.data or float(rng.normal())
    return scalar, nn.MatrixMLP.from_state_dict(scalar.state_dict(), activation)


def gradients(
    scalar: nn.MLP, matrix: nn.MatrixMLP, X: np.ndarray, Y: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """[(scalar, matrix)] gradients of the mean loss, a pair of arrays for each parameter array."""
    losses = nn.MeanLoss(scalar, nn.squared_error).backward(X, Y), matrix.backward(X, Y)
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)
    grads = iter(
        [p.grad for _, nested in scalar.named_parameters() for p in np.ravel(np.array(nested, object))]
    )
    return [
        (np.array([next(grads) for _ in range(p.grad.size)]), p.grad.ravel()) for p in matrix.parameters()
    ]


def numeric(matrix: nn.MatrixMLP, X: np.ndarray, Y: np.ndarray, h: float = 1e-5) -> list[np.ndarray]:
    """Central differences of the matrix network's loss, an array for each of its parameters."""
    found = []
    for p in matrix.parameters():
        data, slopes = p.data, []
        for entry in np.ndindex(data.shape):
            p.data = data.copy()
            p.data[entry] += h
            up = matrix.loss(X, Y)
            p.data[entry] -= 2 * h
            slopes.append((up - matrix.loss(X, Y)) / (2 * h))
        p.data = data
        found.append(np.array(slopes))
    return found


def difference(a: np.ndarray, b: np.ndarray) -> Any:
    return np.max(np.abs(a - b)) / np.max(np.abs(b))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("examples", ["full batch", "one example"])
def test_all_28_gradients_agree_over_200_draws_of_weights(data: str, examples: str) -> None:
    X, Y = DATA[data]
    for seed in range(200):
        scalar, matrix = both(seed)
        row = seed % len(X)
        x, y = (X, Y) if examples == "full batch" else (X[row : row + 1], Y[row : row + 1])
        pairs = gradients(scalar, matrix, x, y)
        assert sum(a.size for a, _ in pairs) == 28
        for a, b in pairs:  # w1's gradient is 0 at the point (0, 0)
            assert difference(a, b) < 1e-13 if b.any() else not a.any()
        if seed < 50:
            for (a, b), c in zip(pairs, numeric(matrix, x, y)):
                assert np.max(np.abs(a - c)) < 1e-8 * max(np.max(np.abs(b)), 1e-2)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("bias", [False, True])
def test_other_widths_activations_and_biases_agree(activation: str, bias: bool) -> None:
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2))
    for seed in range(20):
        scalar, matrix = both(seed, 3, (5, 1, 6, 2), activation, bias)
        assert nn.predict(scalar, X) == pytest.approx(nn.predict(matrix, X), rel=1e-12)
        for (a, b), c in zip(gradients(scalar, matrix, X, Y), numeric(matrix, X, Y)):
            assert np.max(np.abs(a - b)) <= 1e-13 * max(np.max(np.abs(b)), 1e-2)
            assert np.max(np.abs(a - c)) <= 1e-7 * max(np.max(np.abs(b)), 1.0)


def test_shapes_that_numpy_would_broadcast_are_refused() -> None:
    X, Y = DATA["xor"]
    scalar, matrix = both(0)
    assert matrix.loss(X, Y.ravel()) == matrix.loss(X, Y)
    mean = nn.MeanLoss(scalar, nn.squared_error)
    for x, y in ((X, Y[:1]), (X, Y.T), (X, np.hstack([Y, Y])), (X[:, :1], Y), (X[:0], Y[:0]), (X[0], Y[0])):
        for f in (matrix.loss, matrix.backward, mean.backward):
            with pytest.raises(ValueError, match=r"shape|inputs|outputs"):
                f(x, y)
    assert not any(p.grad for p in scalar.parameters())
    with pytest.raises(ValueError, match=r"layers\.1\.bias is missing"):
        state = both(0, bias=True)[1].state_dict()
        del state["layers.1.bias"]
        nn.MatrixMLP.from_state_dict(state, "tanh")


@pytest.mark.parametrize("data", DATA)
def test_trajectories_of_1000_epochs_agree(data: str) -> None:
    X, Y = DATA[data]
    models = both(0)
    losses = []
    for model in models:
        # At lr 2 some draws train on the edge of stability, where any rounding grows exponentially.
        sgd = nn.SGD(model.parameters(), lr=1.0)
        losses.append(nn.fit(model, X, Y, loss=nn.squared_error, optimizer=sgd, epochs=1000).loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    for name, weights in models[0].state_dict().items():
        assert difference(weights, models[1].state_dict()[name]) < 1e-9
