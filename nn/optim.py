"""SGD and Adam, as PyTorch documents them.

    optimizer = nn.Adam(model.parameters(), lr=0.01)
    optimizer.step()  # moves the parameters by their grads

An update is written once, as arithmetic on a parameter and its state. Marked as elementwise, it takes all
parameters at once, as one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from autograd import Value
from autograd.node import grad_of
from autograd.tracing import modes
from autograd.value import write

from . import checks
from .notebook import optimizer_html, optimizer_line


def elementwise(update: Callable[..., Any]) -> Callable[..., Any]:
    """Mark an Optimizer's update as arithmetic that treats each element of an array by itself."""
    update.elementwise = True  # type: ignore[attr-defined]
    return update


class Optimizer:
    """Moves `parameters`: objects with `data` and `grad`, each a float or an array.

    `lr` is the learning rate, which may be set at any time. Updates carry `state` from step to step: for each
    parameter a tuple, zeros at first, with an item for each of `slots`. `steps` counts the updates.

    >>> class Halving(nn.Optimizer):
    ...     def update(self, data, grad, state):
    ...         return 0.5 * data, state
    >>> w = Value(8.0)
    >>> Halving([w], lr=1.0).step()
    >>> w.data
    4.0
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
        self.lr = self._initial_lr = checks.positive("lr", lr)
        self.steps = 0
        self._state: list[tuple[Any, ...]] | None = [(0.0,) * len(self.slots) for _ in self.parameters]
        self._arrays: tuple[np.ndarray, ...] | None = None  # the state as arrays; None if the list is newer
        self._compiled: Any = None  # kept by Training, for the next training

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
        parameters = self.parameters
        if modes or not getattr(type(self).update, "elementwise", False) or not self._are_values():
            for i, p in enumerate(parameters):
                p.data, self.state[i] = self.update(p.data, p.grad, self.state[i])
            return
        n = len(parameters)
        data = np.fromiter([p._data for p in parameters], float, n)  # faster than np.array
        try:
            grad = np.fromiter([p._grad for p in parameters], float, n)
        except AttributeError:  # some never had one
            grad = np.fromiter(map(grad_of, parameters), float, n)
        with np.errstate(all="ignore"):  # the next loss shows an overflow, as with floats
            moved, self.state_arrays = self.update(data, grad, self.state_arrays)
        write(parameters, moved.tolist())

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        for p in self.parameters:
            p.grad = 0.0

    @property
    def state(self) -> list[tuple[Any, ...]]:
        """For each parameter a tuple, with an item for each of `slots`."""
        if self._state is None:
            parts = [self._split(array) for array in self._arrays or ()]
            self._state = list(zip(*parts)) if parts else [()] * len(self.parameters)
        self._arrays = None  # the list may be written into
        return self._state

    @state.setter
    def state(self, state: list[tuple[Any, ...]]) -> None:
        self._state, self._arrays = state, None

    @property
    def state_arrays(self) -> tuple[np.ndarray, ...]:
        """The state as an array for each of `slots`: that of all parameters, end to end."""
        if self._arrays is None:
            columns = list(zip(*self.state))
            self.state_arrays = tuple(
                np.array(column, dtype=float) if self._are_values() else self._joined(column)
                for column in columns
            )
        return self._arrays or ()

    @state_arrays.setter
    def state_arrays(self, arrays: tuple[np.ndarray, ...]) -> None:
        self._state, self._arrays = None, tuple(arrays)

    def _are_values(self) -> bool:
        return set(map(type, self.parameters)) == {Value}

    def _joined(self, parts: Iterable[Any]) -> np.ndarray:
        """One array of a number or an array for each parameter."""
        shaped = (np.broadcast_to(part, np.shape(p.data)) for part, p in zip(parts, self.parameters))
        return np.concatenate([part.ravel() for part in shaped])

    def _split(self, array: np.ndarray) -> list[Any]:
        """The parts of such an array."""
        if self._are_values():
            return array.tolist()
        shapes = [np.shape(p.data) for p in self.parameters]
        parts = np.split(array, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        return [part.reshape(shape) if shape else part.item() for part, shape in zip(parts, shapes)]

    def state_dict(self) -> dict[str, np.ndarray]:
        """`steps`, and each slot as one array: that of all parameters, end to end."""
        arrays = dict(zip(self.slots, map(np.array, self.state_arrays)))
        return {"steps": np.array(self.steps), **arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the state that state_dict() of an equal optimizer gave; errors as for a Module's."""
        checked = checks.state(state, self.state_dict())
        steps = float(checked["steps"])
        if not (0.0 <= steps < 2.0**53 and steps.is_integer()):  # up to there a float counts by ones
            raise ValueError(f"steps is {steps}, not a whole number from 0 to below 2**53")
        self.steps = int(steps)
        self.state_arrays = tuple(np.array(checked[name]) for name in self.slots)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}  # programs stay with the original


class SGD(Optimizer):
    """v ← momentum v + g, then p ← p − lr v: gradient descent, with or without momentum.

    With weight_decay, p ← p − lr weight_decay p − lr v: decoupled from the gradient, as in AdamW.

    Raises ValueError unless lr is above 0, momentum at least 0 and below 1, and weight_decay at least 0.

    >>> w = Value(1.0)
    >>> w.grad = 2.0
    >>> nn.SGD([w], lr=0.25).step()
    >>> w.data
    0.5
    """

    slots = ("velocity",)

    def __init__(
        self, parameters: Iterable[Any], lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ):
        super().__init__(parameters, lr)
        self.momentum = checks.fraction("momentum", momentum)
        self.weight_decay = checks.at_least_0("weight_decay", weight_decay)

    @elementwise
    def update(self, data: Any, grad: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The class's formula; the first v is g."""
        velocity = self.momentum * state[0] + grad if self.momentum else grad
        return _decayed(data, self.lr, self.weight_decay) - self.lr * velocity, (velocity,)


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba, 2015).

    m ← β₁ m + (1 − β₁) g and v ← β₂ v + (1 − β₂) g², then
    p ← p − lr (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps) at step t.

    With weight_decay it is AdamW (Loshchilov and Hutter, 2019): p ← p − lr weight_decay p comes first.

    Raises ValueError unless lr and eps are above 0, the betas at least 0 and below 1, and weight_decay at
    least 0.

    >>> w = Value(1.0)
    >>> w.grad = 2.0
    >>> nn.Adam([w], lr=0.25).step()
    >>> round(w.data, 6)
    0.75
    """

    slots = ("m", "v")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(parameters, lr)
        if np.shape(betas) != (2,):
            raise ValueError(f"betas are two numbers, not {betas!r}")
        b1, b2 = betas
        self.betas = checks.fraction("beta 1", b1), checks.fraction("beta 2", b2)
        self.eps = checks.positive("eps", eps)
        self.weight_decay = checks.at_least_0("weight_decay", weight_decay)

    @elementwise
    def update(self, data: Any, grad: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The class's formula."""
        b1, b2 = self.betas
        m = b1 * state[0] + (1.0 - b1) * grad
        v = b2 * state[1] + (1.0 - b2) * grad * grad
        m_unbiased = m / (1.0 - b1**self.steps)
        v_unbiased = v / (1.0 - b2**self.steps)
        moved = _decayed(data, self.lr, self.weight_decay)
        return moved - self.lr * m_unbiased / (v_unbiased**0.5 + self.eps), (m, v)


def _decayed(data: Any, lr: Any, weight_decay: float) -> Any:
    """The data after the step that weight decay takes by itself."""
    return data - lr * weight_decay * data if weight_decay else data
