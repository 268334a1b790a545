"""Steppers: objects that take the steps of training, by Values, by arrays or by machine code.

stepper.state          the numbers that steps replace; setting an old state undoes steps
stepper.take(x, y, batch, n, losses)
                       n steps, each on the next batch of these examples; `losses` gets the loss before each
stepper.read()         copy the state from the optimizer and its parameters
stepper.write_back()   copy the state to the optimizer and its parameters
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from autograd import Value, total
from autograd.program import Program, Variant, pack
from autograd.value import write

from . import checks
from .batches import Batches
from .losses import Loss
from .optim import Optimizer


class MeanLoss:
    """The mean loss of a data set, recorded scalar by scalar; a MatrixMLP has the same method backward.

    >>> w = Value(2.0)
    >>> nn.MeanLoss(lambda x: w * x[0], nn.squared_error).backward([[1.0], [3.0]], [0.0, 0.0])
    10.0
    >>> w.grad
    10.0
    """

    def __init__(self, model: Any, loss: Loss):
        self.model = model
        self.loss = loss

    def backward(self, X: Any, Y: Any) -> float:
        """The mean loss; adds its gradient to every parameter's grad."""
        X, Y = checks.examples(X, Y)
        Y = checks.targets(Y.copy())  # copies, as a model may write into its row
        ys: Any = Y.tolist() if Y.ndim == 1 else Y
        model, loss = self.model, self.loss
        each = [loss(model(x), y) for x, y in zip(X.copy(), ys)]
        try:
            losses = total(each)
        except TypeError:
            raise TypeError(f"the loss of one example is one Value, not {each[0]!r:.80}") from None
        if losses._dx is None:
            raise TypeError("the loss is a number, and not a Value: it depends on no parameter")
        mean = losses * (1.0 / len(X))
        mean.backward()
        return mean.data

    def of_example(self, x: np.ndarray, y: Any) -> Any:
        """The loss of a row and its target, into which the model may write."""
        return self.loss(self.model(x), y)


class ScalarStepper:
    """Steps by `program`, whose backward(x, y) adds to the grads of the optimizer's parameters."""

    engine, is_fast = "scalar", False

    def __init__(self, program: Any, optimizer: Optimizer):
        self.program, self.optimizer = program, optimizer

    @property
    def state(self) -> Any:
        """The parameters' data, and the optimizer's state and number of steps."""
        optimizer = self.optimizer
        return [p.data for p in optimizer.parameters], list(optimizer.state), optimizer.steps

    @state.setter
    def state(self, state: Any) -> None:
        data, kept, self.optimizer.steps = state
        self.optimizer.state = list(kept)
        for p, old in zip(self.optimizer.parameters, data):
            p.data = old

    def take(self, x: Any, y: Any, batch: int, steps: int, losses: list[float]) -> None:
        for rows in _batches(len(x), batch, steps):
            self.optimizer.zero_grad()
            loss = self.program.backward(x[rows], y[rows])
            if not math.isfinite(loss):
                raise FloatingPointError(f"it is {loss}")
            self.optimizer.step()
            losses.append(loss)

    def read(self) -> None:
        """Do nothing: the parameters themselves are the state."""

    write_back = read


def _batches(n: int, batch: int, steps: int) -> Iterator[slice]:
    """The rows of each step; after the last row, the first one follows again."""
    starts = range(0, n, batch)
    for k in range(steps):
        yield slice(starts[k % len(starts)], starts[k % len(starts)] + batch)


class ArrayStepper:
    """Steps of all the optimizer's parameters as one array, by a compiled program in blocks of rows.

    Each slot of the optimizer's state is an array too, and `twin`, a copy of the optimizer, updates them.
    """

    is_fast = True

    def __init__(
        self,
        program: Program[..., Any],
        variant: Variant,
        optimizer: Optimizer,
        engine: str = "numpy",
        executor: Any = None,
    ):
        self.program, self.variant, self.engine, self.executor = program, variant, engine, executor
        self.optimizer, self.twin = optimizer, copy.copy(optimizer)
        place = {p: i for i, p in enumerate(optimizer.parameters)}
        # Which live leaves are trained; the order of the parameters is that of these leaves, and then others.
        self.trained = np.array([v in place for v in variant.live], dtype=bool)
        used = [v for v in variant.live if v in place]
        self.values = list(dict.fromkeys([*used, *optimizer.parameters]))
        self.places = np.array([place[v] for v in self.values])  # in the optimizer's list
        self.order = np.argsort(self.places)
        self.unused = np.zeros(len(self.values) - len(used))
        self.are_all = len(used) == len(self.trained)
        self.kernel = variant.kernel if engine == "native" else None  # its errors come now
        self.read()

    @property
    def state(self) -> Any:
        return self.packed, self.twin.steps

    @state.setter
    def state(self, state: Any) -> None:
        self.packed, self.twin.steps = state

    def read(self) -> None:
        data = np.array([v._data for v in self.values])
        self.packed = data, tuple(array[self.places] for array in self.optimizer.state_arrays)
        vars(self.twin).update(vars(copy.copy(self.optimizer)))  # the learning rate, and all else
        self.live = self.variant.state()

    def take(self, x: Any, y: Any, batch: int, steps: int, losses: list[float]) -> None:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            for rows in _batches(len(x), batch, steps):
                losses.append(self._step(*((x, y) if batch >= len(x) else (x[rows], y[rows]))))

    def _step(self, x: Any, y: Any) -> float:
        numbers, kept = self.packed
        state = numbers[: len(self.live)]
        if not self.are_all:
            state = self.live.copy()
            state[self.trained] = numbers[: len(numbers) - len(self.unused)]
        loss, *grads = self._evaluated(x, y, state)
        parts = [grad.ravel() for grad in grads]
        if not self.are_all:
            parts = [np.concatenate(parts)[self.trained]]
        gradient = np.concatenate([*parts, self.unused])
        self.twin.steps += 1
        try:
            self.packed = self.twin.update(numbers, gradient, kept)
        except FloatingPointError:  # the next step's loss shows the overflow, as with Values
            with np.errstate(all="ignore"):
                self.packed = self.twin.update(numbers, gradient, kept)
        return float(loss)

    def _evaluated(self, x: Any, y: Any, state: np.ndarray) -> Sequence[Any]:
        """The loss and its gradient; the program's errors name the row."""
        if isinstance(x, Batches) or self.executor is not None:
            self.write_back()
            given = (iter(x),) if isinstance(x, Batches) else (x, y)
            named = {} if self.executor is None else {"executor": self.executor}
            loss, grads = self.program.value_and_grad(*given, **named)
            return loss, *grads
        variant, native = self.variant, self.kernel is not None
        try:
            if native or len(x) > variant.block(native):
                return variant.evaluate((x, y), state, native)
            rows = x[:], y[:]
            if not variant.has_indices(rows):
                raise FloatingPointError
            outputs = variant.run_numpy(rows, variant.data(state), fast=True)  # NumPy raises: see take
            if math.isfinite(outputs[0]):
                return outputs
            raise FloatingPointError
        except ArithmeticError:
            self.write_back()
            loss, grads = self.program.value_and_grad(x, y)  # slower
            return loss, *grads

    def write_back(self) -> None:
        numbers, kept = self.packed
        write(self.values, numbers.tolist())
        self.optimizer.state_arrays = tuple(slot[self.order] for slot in kept)
        self.optimizer.steps = self.twin.steps


class NativeStepper:
    """Steps by a kernel that takes whole training steps (see Variant.training_kernel)."""

    engine, is_fast = "native", True

    def __init__(
        self,
        kernel: Any,
        others: list[Value],
        program: Program[..., Any],
        variant: Variant,
        optimizer: Optimizer,
    ):
        self.kernel, self.others, self.optimizer = kernel, others, optimizer
        self.program, self.variant = program, variant
        self.packed: tuple[Any, ...] = None, None, None
        self.read()

    def read(self) -> None:
        optimizer = self.optimizer
        data = [p._data for p in optimizer.parameters]
        rest = [*(v._data for v in self.others), optimizer.lr, optimizer.steps]
        self.state = np.concatenate([data, *optimizer.state_arrays, rest])
        self.packed = None, None, None  # the data may have changed, too

    def take(self, x: Any, y: Any, batch: int, steps: int, losses: list[float]) -> None:
        if self.packed[0] is not x or self.packed[1] is not y:
            arrays = x[:], y[:]
            if not self.variant.has_indices(arrays):
                self.program.value_and_grad(x, y)  # raises an error that names the row
            self.packed = x, y, pack(arrays)
        columns = self.packed[2]
        found, numbers = np.empty(steps), self.state.copy()
        taken = self.kernel.iterate(columns, len(x), batch, numbers, steps, found)
        if not _spoilt(self.state, numbers):
            self.state = numbers
            losses += found[:taken].tolist()
            if taken < steps:
                raise self._error(x, y, found[taken]) or AssertionError
            return
        for taken in range(steps):  # one by one, as some step made numbers that are not finite
            numbers = self.state.copy()
            if not self.kernel.iterate(columns, len(x), batch, numbers, 1, found[taken:], taken):
                raise self._error(x, y, found[taken]) or AssertionError
            if _spoilt(self.state, numbers) and (error := self._error(x, y)):
                raise error
            self.state = numbers  # no error in loss or gradient: the next step's loss shows the overflow
            losses.append(found[taken].item())

    def _error(self, x: np.ndarray, y: np.ndarray, loss: float | None = None) -> ArithmeticError | None:
        """The error of the loss or its gradient at the present numbers, if one is not finite."""
        self.write_back()
        try:
            self.program.value_and_grad(x, y)
        except ArithmeticError as error:
            return error
        return None if loss is None else FloatingPointError(f"it is {loss}")

    def write_back(self) -> None:
        parameters, slots = self.optimizer.parameters, len(self.optimizer.slots)
        data, *kept = self.state[: (1 + slots) * len(parameters)].reshape(1 + slots, len(parameters))
        write(parameters, data.tolist())
        self.optimizer.state_arrays = tuple(map(np.array, kept))
        self.optimizer.steps = int(self.state[-1])


def _spoilt(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a number that was finite is no longer finite."""
    return not bool(np.isfinite(after[np.isfinite(before)]).all())
