"""Initial weights: functions (fan_in, fan_out, rng) -> array of shape (fan_out, fan_in)."""

import numpy as np
from numpy.random import Generator


def xavier_uniform(fan_in: int, fan_out: int, rng: Generator) -> np.ndarray:
    """Uniform on ±√(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010).

    >>> weights = nn.init.xavier_uniform(2, 4, np.random.default_rng(0))
    >>> weights.shape, bool(abs(weights).max() < 1.0)
    ((4, 2), True)
    """
    bound = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-bound, bound, (fan_out, fan_in))


def xavier_normal(fan_in: int, fan_out: int, rng: Generator) -> np.ndarray:
    """Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010).

    >>> weights = nn.init.xavier_normal(200, 200, np.random.default_rng(0))
    >>> f"{weights.var():.4f}"
    '0.0050'
    """
    return rng.normal(0.0, (2.0 / (fan_in + fan_out)) ** 0.5, (fan_out, fan_in))


def he_uniform(fan_in: int, fan_out: int, rng: Generator) -> np.ndarray:
    """Uniform on ±√(6 / fan_in), for relu (He et al., 2015).

    >>> model = nn.MLP(6, [8, 1], init=nn.init.he_uniform)
    >>> bool(abs(model.state_dict()["layers.0.weight"]).max() < 1.0)
    True
    """
    bound = (6.0 / fan_in) ** 0.5
    return rng.uniform(-bound, bound, (fan_out, fan_in))


def he_normal(fan_in: int, fan_out: int, rng: Generator) -> np.ndarray:
    """Normal with variance 2 / fan_in, for relu (He et al., 2015).

    >>> weights = nn.init.he_normal(200, 200, np.random.default_rng(0))
    >>> f"{weights.var():.4f}"
    '0.0100'
    """
    return rng.normal(0.0, (2.0 / fan_in) ** 0.5, (fan_out, fan_in))


INITIALISERS = [name for name in globals() if name.endswith(("uniform", "normal"))]
