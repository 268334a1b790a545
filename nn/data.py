"""The lab's two data sets: X of shape (examples, 2) and Y of shape (examples, 1)."""

import numpy as np
from numpy.random import Generator

from .checks import generator, whole


def linear(n: int = 100, rng: Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
    """n points uniform on the unit square; label 0 where x1 > x2, else 1.

    >>> X, Y = nn.data.linear(50, rng=np.random.default_rng(0))
    >>> X.shape, Y.shape
    ((50, 2), (50, 1))
    """
    X = generator(rng).uniform(size=(whole("n", n), 2))
    return X, np.where(X[:, :1] > X[:, 1:], 0.0, 1.0)


def xor(n: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """n points (t, t) with label 0 and, except for t = ½, points (t, 1 − t) with label 1; t from 0 to 1.

    The lab's n = 11 gives 21 points.

    >>> X, Y = nn.data.xor(2)
    >>> np.hstack([X, Y]).tolist()
    [[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0]]
    """
    if whole("n", n) < 2:
        raise ValueError("xor needs n of at least 2")
    points = []
    for i in range(n):
        t = 1.0 / (n - 1) * i  # the lab's 0.1 i, with the same rounding
        points.append((t, t, 0.0))
        if 2 * i != n - 1:
            points.append((t, 1.0 - t, 1.0))
    data = np.array(points)
    return data[:, :2], data[:, 2:]
