"""softmax, and the activations that are no row of the table of primitives.

A layer takes them by name: nn.MLP(2, [8, 1], activation="silu"). Dropout and batch norm are not here, because
in training they compute another function than in use, and this package trains the function that it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from autograd import erfc, expm1, logsumexp, maximum, sigmoid, where


def softmax(xs: Iterable[Any]) -> list[Any]:
    """exp(xᵢ) / Σ exp(xⱼ) for each of xs, Values or numbers: positive shares with the sum 1.

    Nothing overflows as long as no difference of two xs does.

    >>> [round(p.data, 3) for p in nn.softmax([Value(1000.0), Value(1001.0)])]
    [0.269, 0.731]
    """
    xs = list(xs)
    whole = logsumexp(xs)
    return [(x - whole).exp() for x in xs]


def leaky_relu(z: Any) -> Any:
    """z where z is positive, else 0.01 z; the derivative at 0 is the mean of both slopes."""
    return maximum(z, 0.01 * z)


def elu(z: Any) -> Any:
    """z where z is positive, else eᶻ − 1."""
    return where(z > 0.0, z, lambda: expm1(z))


def gelu(z: Any) -> Any:
    """z Φ(z), with Φ the standard normal distribution function: ½ z erfc(−z / √2)."""
    return 0.5 * z * erfc(-math.sqrt(0.5) * z)


def silu(z: Any) -> Any:
    """z σ(z)."""
    return z * sigmoid(z)
