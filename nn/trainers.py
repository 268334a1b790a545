"""What fit() trains with: the optimizer as it is, or packed in arrays, or a loop in machine code."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from autograd import compile, derive, total
from autograd.program import Program, Reading, pack

from . import checks
from .losses import Loss
from .matrix import MatrixMLP
from .optim import Optimizer

ENGINES = ("auto", "scalar", "numpy", "native")


class MeanLoss:
    """The mean loss of a data set, recorded scalar by scalar; a MatrixMLP has the same method."""

    def __init__(self, model: Any, loss: Loss):
        self.model = model
        self.loss = loss

    def backward(self, X: Any, Y: Any) -> float:
        """The mean loss; adds its gradient to every parameter's grad."""
        X, Y = checks.examples(X, Y)
        targets = _targets(Y.copy())  # copies, as a model may write into its row
        ys = targets.tolist() if targets.ndim == 1 else targets
        each = [self.loss(self.model(x), y) for x, y in zip(X.copy(), ys)]
        try:
            losses = total(each)
        except TypeError:
            raise TypeError(f"the loss of one example is one Value, not {each[0]!r:.80}") from None
        if losses.dx is None:
            raise TypeError("the loss is a number, and not a Value: it depends on no parameter")
        mean = losses * (1.0 / len(X))
        mean.backward()
        return mean.data


def _targets(Y: np.ndarray) -> np.ndarray:
    """Y, of shape (examples, outputs), bare if there is one output, as the prediction then is."""
    return Y[:, 0] if Y.shape[1] == 1 else Y


@dataclass
class Run:
    """What there is to train on, and how.

    `losses` has the mean loss of each epoch so far, as it was before that epoch's updates. An epoch
    is one step on all examples or, with batch_size, a step for each batch, in an order that rng draws.
    `draws` says whether rng must be set back with the rest.
    """

    X: np.ndarray
    Y: np.ndarray
    losses: list[float]
    batch_size: int | None
    rng: Generator
    draws: bool


class Trainer:
    """Trains by `program`, whose backward(x, y) adds to the grads of the optimizer's parameters."""

    engine = "scalar"

    def __init__(self, program: Any, optimizer: Optimizer, run: Run):
        self.program, self.optimizer = program, optimizer
        self.X, self.Y, self.losses, self.batch_size = run.X, run.Y, run.losses, run.batch_size
        self.rng, self.draws = run.rng, run.draws
        self.before = self.now = self.snapshot()  # as they were before the last epoch, and before this one

    def advance(self, epochs: int) -> None:
        """Train for an epoch, or for more up to that many; ArithmeticError if the loss is not finite."""
        self.keep()
        if self.batch_size is None:
            self.losses.append(self.step(self.X, self.Y))
        else:
            losses = [self.step(self.X[rows], self.Y[rows]) * len(rows) for rows in self.batches()]
            self.losses.append(sum(losses) / len(self.X))

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Take a step on these examples; their mean loss before it."""
        self.optimizer.zero_grad()
        loss = self.program.backward(x, y)
        if not math.isfinite(loss):
            raise FloatingPointError(f"it is {loss}")
        self.optimizer.step()
        return loss

    def batches(self) -> list[np.ndarray]:
        """The rows of each step of an epoch, in an order that rng draws."""
        size = self.batch_size or len(self.X)
        order = self.rng.permutation(len(self.X))
        return [order[i : i + size] for i in range(0, len(self.X), size)]

    def keep(self) -> None:
        """Count what is now as the end of an epoch."""
        self.before, self.now = self.now, self.snapshot()

    def rewind(self) -> None:
        """Go back to the end of the last whole epoch, the model with it."""
        self.restore(self.now)
        self.write_back()

    def rewind_to_finite(self) -> None:
        """Go back to the parameters that had the last loss which is finite, the model with it."""
        self.restore(self.before)
        self.write_back()

    # An update makes new data and leaves the old as they are, so that keeping them is enough.

    def snapshot(self) -> tuple[Any, ...]:
        """How far training has come."""
        return len(self.losses), self.rng.bit_generator.state if self.draws else None, self.state()

    def restore(self, snapshot: tuple[Any, ...]) -> None:
        """Go back to where a snapshot was taken."""
        epochs, random, state = snapshot
        del self.losses[epochs:]
        if random:
            self.rng.bit_generator.state = random
        self.set_state(state)

    def state(self) -> Any:
        """The parameters, and what the optimizer keeps."""
        optimizer = self.optimizer
        return [p.data for p in optimizer.parameters], list(optimizer.state), optimizer.steps

    def set_state(self, state: Any) -> None:
        """Go back to that."""
        data, self.optimizer.state, self.optimizer.steps = state
        for p, old in zip(self.optimizer.parameters, data):
            p.data = old

    def write_back(self) -> None:
        """Put the model's parameters and its optimizer into the state that training has reached."""


class PackedTrainer(Trainer):
    """Trains one array, of all the optimizer's parameters, by a compiled program in NumPy.

    What the optimizer keeps of each parameter is an array too; its twin here updates them.
    """

    engine = "numpy"

    def __init__(self, program: Program, reading: Reading, optimizer: Optimizer, run: Run):
        self.reading, self.original, self.twin = reading, optimizer, copy.copy(optimizer)
        place = {p: i for i, p in enumerate(optimizer.parameters)}
        used = [v for leaves in reading.leaves for v in leaves.flat if v in place]
        # In the order in which the program takes them, so that its arrays are slices of this one.
        self.values = list(dict.fromkeys([*used, *optimizer.parameters]))
        self.places = [place[v] for v in self.values]
        self.unused = np.zeros(len(self.values) - len(used))
        self.arrays: list[tuple[slice, np.ndarray, np.ndarray | None]] = []  # of the program
        start = 0
        for leaves, now in zip(reading.leaves, reading.data()):
            moved = np.array([v in place for v in leaves.flat], dtype=bool).reshape(leaves.shape)
            part = slice(start, start := start + int(moved.sum()))
            self.arrays.append((part, now, None if moved.all() else moved))
        carried = [optimizer.state[i] for i in self.places]
        self.packed = np.array([v.data for v in self.values]), tuple(map(np.array, zip(*carried)))
        super().__init__(program, optimizer, run)

    def advance(self, epochs: int) -> None:
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            for _ in range(min(epochs, 100)):  # to set this takes as long as two products of matrices
                super().advance(1)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Take a step on these examples; their mean loss before it."""
        numbers, carried = self.packed
        data = [
            numbers[part].reshape(now.shape) if moved is None else _merged(now, moved, numbers[part])
            for part, now, moved in self.arrays
        ]
        try:
            result, *grads = self.reading.run_numpy((x, y), data, fast=True)
            loss = float(result)
        except FloatingPointError:
            loss = math.nan
        if not math.isfinite(loss):
            self.write_back()
            loss, grads = self.program.value_and_grad(x, y)  # with more care, and errors that say where
        parts = [
            grad.ravel() if moved is None else grad[moved] for grad, (_, _, moved) in zip(grads, self.arrays)
        ]
        self.twin.steps += 1
        gradient = np.concatenate([*parts, self.unused])
        try:
            self.packed = self.twin.update(numbers, gradient, carried)
        except FloatingPointError:  # the next step says what comes of it, as among Values
            with np.errstate(all="ignore"):
                self.packed = self.twin.update(numbers, gradient, carried)
        return loss

    def one_step(self) -> np.ndarray:
        """The parameters as a step on all examples would leave them."""
        now = self.snapshot()
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            self.step(self.X, self.Y)
        numbers = np.empty(len(self.places))
        numbers[self.places] = self.packed[0]
        self.restore(now)
        return numbers

    def state(self) -> Any:
        return self.packed, self.twin.steps

    def set_state(self, state: Any) -> None:
        self.packed, self.twin.steps = state

    def write_back(self) -> None:
        numbers, carried = self.packed
        for v, number in zip(self.values, numbers.tolist()):
            v.data = number
        states = zip(*(slot.tolist() for slot in carried)) if carried else [()] * len(self.values)
        for i, state in zip(self.places, states):
            self.original.state[i] = state
        self.original.steps = self.twin.steps


def _merged(now: np.ndarray, moved: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """An array of which the optimizer moves a part."""
    array = now.copy()
    array[moved] = numbers
    return array


class NativeTrainer(Trainer):
    """Trains by a kernel that takes whole training steps (see Reading.training_kernel)."""

    engine = "native"

    def __init__(self, kernel: Any, program: Program, optimizer: Optimizer, run: Run):
        self.kernel = kernel
        data = [p.data for p in optimizer.parameters]
        carried = [number for state in optimizer.state for number in state]
        self.numbers = np.array([*data, *carried, optimizer.steps], dtype=float)
        self.columns = pack([run.X, run.Y])
        self.pace = 16  # epochs at a time: as many as take a twentieth of a second, for Ctrl-C to be heard
        super().__init__(program, optimizer, run)

    def advance(self, epochs: int) -> None:
        self.keep()
        n = len(self.X)
        if self.batch_size is None:
            start = time.perf_counter()
            losses, error = self._take(min(epochs, self.pace), n, self.columns)
            if time.perf_counter() - start < 0.05:
                self.pace *= 2
            self.losses += losses
        else:
            order = np.concatenate(self.batches())
            columns = pack([self.X[order], self.Y[order]])
            losses, error = self._take(-(-n // self.batch_size), self.batch_size, columns)
            if not error:
                ends = np.minimum(np.arange(1, len(losses) + 1) * self.batch_size, n)
                self.losses.append(float(np.diff(ends, prepend=0) @ losses) / n)
        if error:
            raise error

    def _take(
        self, steps: int, batch: int, columns: np.ndarray
    ) -> tuple[list[float], ArithmeticError | None]:
        """Take steps; their losses, as far as all was finite, and what then was not."""
        losses, numbers = np.empty(steps), self.numbers.copy()
        taken = self.kernel.iterate(columns, len(self.X), batch, numbers, steps, losses)
        if not _spoilt(self.numbers, numbers):
            self.numbers = numbers
            return losses[:taken].tolist(), None if taken == steps else self._error(losses[taken])
        for taken in range(steps):  # some step had a finite loss, and led to numbers that are not
            numbers = self.numbers.copy()
            if not self.kernel.iterate(columns, len(self.X), batch, numbers, 1, losses[taken:], taken):
                return losses[:taken].tolist(), self._error(losses[taken])
            if _spoilt(self.numbers, numbers) and (error := self._error()):
                return losses[:taken].tolist(), error
            self.numbers = numbers  # it was the update: the next step says what comes of it
        return losses.tolist(), None

    def _error(self, loss: float | None = None) -> ArithmeticError | None:
        """What is not finite in the loss, or in its gradient, with the numbers as they are now."""
        self.write_back()
        try:
            self.program.value_and_grad(self.X, self.Y)
        except ArithmeticError as error:
            return error
        return None if loss is None else FloatingPointError(f"it is {loss}")

    def one_step(self) -> np.ndarray:
        numbers = self.numbers.copy()
        self.kernel.iterate(self.columns, len(self.X), len(self.X), numbers, 1, np.empty(1))
        return numbers[: len(self.optimizer.parameters)]

    def rewind_to_finite(self) -> None:
        if self.batch_size is not None:
            return super().rewind_to_finite()
        # The epoch before the last one: from the last snapshot that was taken before it, the way again.
        epochs = max(len(self.losses) - 1, 0)
        snapshot = self.now if self.now[0] <= epochs else self.before
        self.restore(snapshot)
        if epochs > len(self.losses):
            self.losses += self._take(epochs - len(self.losses), len(self.X), self.columns)[0]
        self.write_back()

    def state(self) -> Any:
        return self.numbers

    def set_state(self, state: Any) -> None:
        self.numbers = state

    def write_back(self) -> None:
        parameters, slots = self.optimizer.parameters, len(self.optimizer.slots)
        data, rest = self.numbers[: len(parameters)].tolist(), self.numbers[len(parameters) : -1]
        for p, number in zip(parameters, data):
            p.data = number
        carried = rest.reshape(len(parameters), slots).tolist()
        self.optimizer.state = [tuple(state) for state in carried]
        self.optimizer.steps = int(self.numbers[-1])


def _spoilt(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a number that was finite is so no more."""
    return not bool(np.isfinite(after[np.isfinite(before)]).all())


def trainer(engine: str, model: Any, loss: Any, optimizer: Optimizer, run: Run) -> Trainer:
    """What trains the model by an engine.

    "auto" is machine code where llvmlite is installed and the graph is small, NumPy for whatever else
    can be compiled, and Values for what cannot. Raises TypeError if another engine cannot.
    """
    if isinstance(model, MatrixMLP):
        return Trainer(model, optimizer, run)
    if engine != "scalar":
        random = run.rng.bit_generator.state
        try:
            return _compiled(engine, model, loss, optimizer, replace(run, Y=_targets(run.Y)))
        except Exception:  # of many kinds, as what is the user's has met no Values or no arrays before
            if engine != "auto":
                raise
            run.rng.bit_generator.state = random  # the model may have drawn from it
    return Trainer(MeanLoss(model, loss), optimizer, run)


def _compiled(engine: str, model: Any, loss: Any, optimizer: Optimizer, run: Run) -> Trainer:
    if type(optimizer).step is not Optimizer.step or type(optimizer).zero_grad is not Optimizer.zero_grad:
        name = type(optimizer).__name__
        raise TypeError(f"{name} has a step() or zero_grad() of its own: the engine scalar alone runs those")

    def loss_of_example(x: Any, y: Any) -> Any:
        return loss(model(x), y)

    loss_of_example.__name__ = "loss"
    if engine == "native":
        compile(loss_of_example, engine="native")  # or an error that says what is missing
    program = compile(loss_of_example, engine="numpy")
    reading = program.reading("gradient", run.X, run.Y)
    if reading.gradient.keys().isdisjoint(optimizer.parameters):
        raise TypeError("the loss depends on no parameter of the optimizer")
    if engine == "native" or (engine == "auto" and reading.has_code() and reading.is_small()):
        twin = copy.copy(optimizer)

        def update(data: Any, grad: Any, state: Any, step: Any) -> Any:
            twin.steps = step
            return twin.update(data, grad, state)

        try:
            slots = len(optimizer.slots)
            kernel = reading.training_kernel(optimizer.parameters, slots, update, optimizer.steps)
            native = NativeTrainer(kernel, program, optimizer, run)
            _verify(native, model, loss, optimizer)
            return native
        except Exception:  # the update can perhaps be done on arrays, if it cannot be recorded
            if engine == "native":
                raise
    packed = PackedTrainer(program, reading, optimizer, run)
    _verify(packed, model, loss, optimizer)
    return packed


def _verify(training: PackedTrainer | NativeTrainer, model: Any, loss: Any, optimizer: Optimizer) -> None:
    """Hold a compiled trainer to model, loss and update as they are, on a few examples and parameters.

    They may do what cannot be recorded and cannot be noticed: draw random numbers, look a target up,
    read a Value's data.
    """
    program, X, targets = training.program, training.X, training.Y
    _, first = np.unique(targets, axis=0, return_index=True)
    rows = np.unique([*first[:4], *np.linspace(0, len(X) - 1, 4).astype(int)])
    try:
        examples = zip(X[rows].tolist(), targets[rows].tolist())
        mean = total([loss(model(x), y) for x, y in examples]) * (1.0 / len(rows))
        slopes = derive(mean, optimizer.parameters)
        found, gradient = program.value_and_grad(X[rows], targets[rows])
        _, whole = program.value_and_grad(X, targets)
        stepped = training.one_step()
    except ArithmeticError:
        return  # training says where
    by_leaf = [
        {v: g for vs, gs in zip(program.leaves, grads) for v, g in zip(vs.flat, gs.ravel().tolist())}
        for grads in (gradient, whole)
    ]
    wanted = [mean.data, *(slope.data for slope in slopes)]
    if not np.allclose([found, *(by_leaf[0].get(p, 0.0) for p in optimizer.parameters)], wanted, 1e-7, 1e-7):
        raise TypeError(
            "what was compiled is not this loss of this model: they do something that is not in the graph,"
            " such as to draw random numbers, look up a target, or read a Value's data. Engine scalar runs it"
        )
    twin = copy.copy(optimizer)
    twin.steps += 1
    for i in np.unique(np.linspace(0, len(stepped) - 1, 20).astype(int)):
        p = optimizer.parameters[i]
        moved, _ = twin.update(p.data, by_leaf[1].get(p, 0.0), optimizer.state[i])
        close = math.isclose(moved, stepped[i], rel_tol=1e-6, abs_tol=1e-7 + 1e-6 * abs(p.data))
        if math.isfinite(moved) and not close:
            raise TypeError(
                f"{type(optimizer).__name__}.update is not arithmetic on one parameter: the engine"
                " scalar alone runs it"
            )
