"""SGD and Adam, as PyTorch documents them.

An update is written once, as arithmetic on one parameter and its state, so that it works where a
parameter's data is a float and where it is an array.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import checks
from .notebook import optimizer_html, optimizer_line


class Optimizer:
    """Moves `parameters`: objects with `data` and `grad`, each a float or an array.

    Updates carry `state` from step to step: for each parameter a tuple, zeros at first, with an item for
    each of `slots`. `steps` counts the updates.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Any], lr: float):
        if hasattr(parameters, "parameters"):
            raise TypeError("an optimizer takes parameters: give it model.parameters(), not the model")
        if not isinstance(parameters, Iterable):
            raise TypeError(f"an optimizer takes a list, as model.parameters() gives, not {parameters!r:.80}")
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(
                "an optimizer needs at least one parameter; a Module's are the Values set on it,"
                " as by self.w = Value(0.0)"
            )
        for p in self.parameters:
            if not (hasattr(p, "data") and hasattr(p, "grad")):
                said = f"a parameter has data and grad, as a Value does, and {type(p).__name__} has not"
                raise TypeError(f"{said}: give the optimizer model.parameters()")
        if len(set(map(id, self.parameters))) < len(self.parameters):
            raise ValueError("a parameter is there twice, and would be moved twice a step")
        self.lr = checks.positive("lr", lr)
        self.steps = 0
        self.state: list[tuple[Any, ...]] = [(0.0,) * len(self.slots) for _ in self.parameters]

    def __repr__(self) -> str:
        return optimizer_line(self)

    def _repr_html_(self) -> str:
        return optimizer_html(self)

    def update(self, data: Any, grad: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The parameter's next data and its next state."""
        raise NotImplementedError

    def step(self) -> None:
        """Update every parameter by its grad."""
        self.steps += 1
        for i, p in enumerate(self.parameters):
            p.data, self.state[i] = self.update(p.data, p.grad, self.state[i])

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        for p in self.parameters:
            p.grad = 0.0

    def state_dict(self) -> dict[str, np.ndarray]:
        """`steps`, and each slot as one array: that of all parameters, end to end."""
        state = {"steps": np.array(self.steps)}
        for k, name in enumerate(self.slots):
            pairs = zip(self.parameters, self.state)
            state[name] = np.concatenate([np.broadcast_to(s[k], np.shape(p.data)).ravel() for p, s in pairs])
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state that state_dict() of an equal optimizer gave; errors as for a Module's."""
        checked = checks.state(state, self.state_dict())
        steps = float(checked["steps"])
        if not (0.0 <= steps < 2.0**53 and steps.is_integer()):  # up to there a float counts by ones
            raise ValueError(f"steps is {steps}, not a whole number from 0 to below 2**53")
        self.steps = int(steps)
        shapes = [np.shape(p.data) for p in self.parameters]
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        slots = [np.split(checked[name], ends) for name in self.slots]
        self.state = [
            tuple(parts[i].reshape(shape) if shape else parts[i].item() for parts in slots)
            for i, shape in enumerate(shapes)
        ]


class SGD(Optimizer):
    """v ← momentum v + g, then p ← p − lr v: gradient descent, with or without momentum.

    Raises ValueError unless lr is above 0 and momentum at least 0 and below 1.
    """

    slots = ("velocity",)

    def __init__(self, parameters: Iterable[Any], lr: float, momentum: float = 0.0):
        super().__init__(parameters, lr)
        self.momentum = checks.fraction("momentum", momentum)

    def update(self, data: Any, grad: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The class's formula; the first v is g."""
        velocity = self.momentum * state[0] + grad if self.momentum else grad
        return data - self.lr * velocity, (velocity,)


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015).

    m ← β₁ m + (1 − β₁) g and v ← β₂ v + (1 − β₂) g², then
    p ← p − lr (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps) at step t.

    Raises ValueError unless lr and eps are above 0 and the betas at least 0 and below 1.
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        if np.shape(betas) != (2,):
            raise ValueError(f"betas are two numbers, not {betas!r}")
        b1, b2 = betas
        self.betas = checks.fraction("beta 1", b1), checks.fraction("beta 2", b2)
        self.eps = checks.positive("eps", eps)

    def update(self, data: Any, grad: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The class's formula."""
        b1, b2 = self.betas
        m = b1 * state[0] + (1.0 - b1) * grad
        v = b2 * state[1] + (1.0 - b2) * grad * grad
        m_unbiased = m / (1.0 - b1**self.steps)
        v_unbiased = v / (1.0 - b2**self.steps)
        return data - self.lr * m_unbiased / (v_unbiased**0.5 + self.eps), (m, v)
