"""The Trainer of fit(), which counts epochs and goes back, and its stepper, which takes the steps.

    stepper.state                   the numbers that steps replace; setting an old state undoes steps
    stepper.take(x, y, batch, n)    n steps, each on the next batch of these examples; the loss before each
    stepper.read()                  copy the state from the optimizer and its parameters
    stepper.write_back()            copy the state to the optimizer and its parameters

One stepper computes with Values, one with arrays and one with machine code. The last two run what was
recorded once, so a verifier checks them. If one is wrong, Values go on from its last verified state.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.random import Generator

from autograd import compile, total
from autograd.program import Program, Variant, pack
from autograd.program.reachable import random_generators, restore, states

from . import checks
from .losses import Loss
from .matrix import MatrixMLP
from .optim import Optimizer
from .verify import Verifier, one_line

Engine = Literal["auto", "scalar", "numpy", "native"]
TRAINING_ENGINES = get_args(Engine)
ADVICE = (
    "something is done that no graph shows, such as a random draw, a look-up by a target or a read of"
    " a Value's data: engine scalar does it"
)


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


def _targets(Y: np.ndarray) -> np.ndarray:
    """Y, of shape (examples, outputs); if there is one output, of shape (examples,), as the prediction is."""
    return Y[:, 0] if Y.shape[1] == 1 else Y


@dataclass
class Run:
    """The data of a training run, and its settings.

    `losses` has the mean loss of each epoch so far, as it was before that epoch's updates. An epoch
    is one step on all examples or, with batch_size, a step for each batch, in an order that rng draws.
    `draws` says whether rng is part of the state, and `epochs` is how many epochs the run has.
    """

    X: np.ndarray
    Y: np.ndarray
    losses: list[float]
    batch_size: int | None
    rng: Generator
    draws: bool
    epochs: int
    started: float = field(default_factory=time.perf_counter)


class Trainer:
    """Trains by a stepper or, from where a verified stepper goes wrong, by Values.

    `verifier` finds where; without one, the stepper counts as right. It looks after 1, 2, 4, 8, ... epochs
    and after the last, and at losses alone if gradients would take more than a share of the time. A wrong
    stepper is a TypeError with `strict`; otherwise `say` prints the difference, and `reason` keeps it.
    """

    SHARE = 0.02

    def __init__(
        self,
        stepper: Any,
        run: Run,
        verifier: Verifier | None = None,
        fallback: Callable[[], Any] = lambda: None,
        strict: bool = False,
        say: Callable[[str], None] = print,
        reason: str = "",
    ):
        self.stepper, self.run, self.losses, self.reason = stepper, run, run.losses, reason
        self.verifier, self.fallback, self.strict, self.say = verifier, fallback, strict, say
        self.pace = 1  # epochs in one call of the stepper: a twentieth of a second, for Ctrl-C to be heard
        self.first, self.spent = len(self.losses), 0.0
        self.failed: int | None = None
        # The state that was last verified, and the states before the last two calls of advance.
        self.verified = self.earlier = self.latest = self.state

    @property
    def engine(self) -> str:
        return self.stepper.engine

    def advance(self, epochs: int) -> None:
        """Train for one epoch or more, up to that many; ArithmeticError if the loss is not finite."""
        self.mark_epoch()
        done = len(self.losses)
        due = min(self.run.epochs, self.first + (1 << (done - self.first).bit_length()))
        try:
            self._train(epochs if self.verifier is None else min(epochs, due - done))
        except ArithmeticError:
            self.rewind_to_finite()
            if self.verify():
                raise
        else:
            if self.verifier and len(self.losses) == due:
                self._look(self.verifier)

    def _train(self, epochs: int) -> None:
        X, Y, n, size = self.run.X, self.run.Y, len(self.run.X), self.run.batch_size
        if size is None:
            start = time.perf_counter()
            self.losses.extend(self.stepper.take(X, Y, n, min(epochs, self.pace)))
            if self.stepper.is_fast and time.perf_counter() - start < 0.05:
                self.pace *= 2
        else:
            order = self.run.rng.permutation(n)
            losses = list(self.stepper.take(X[order], Y[order], size, -(-n // size)))
            ends = np.minimum(np.arange(1, len(losses) + 1) * size, n)
            self.losses.append(float(np.diff(ends, prepend=0) @ losses) / n)

    @property
    def state(self) -> Any:
        """The number of epochs, and all that an epoch changes; setting it puts the model back, too."""
        random = self.run.rng.bit_generator.state if self.run.draws else None
        return len(self.losses), random, self.stepper.state

    @state.setter
    def state(self, state: Any) -> None:
        epochs, random, self.stepper.state = state  # an update makes new numbers, so that old ones stay
        del self.losses[epochs:]
        if random:
            self.run.rng.bit_generator.state = random
        self.stepper.write_back()

    def mark_epoch(self) -> None:
        """Make the present state the one to rewind to."""
        self.earlier, self.latest = self.latest, self.state

    def rewind(self) -> None:
        """Go back to the latest end of an epoch."""
        self.state = self.latest

    def rewind_to_finite(self) -> int:
        """Go back to the parameters of the last finite loss; returns the epoch whose loss is not finite."""
        if self.failed is None:
            self.failed = len(self.losses)
            epochs = max(self.failed - 1, 0)
            self.state = self.latest if self.latest[0] <= epochs else self.earlier
            if again := max(epochs - len(self.losses), 0):
                self.losses.extend(self.stepper.take(self.run.X, self.run.Y, len(self.run.X), again))
            self.stepper.write_back()
        return self.failed

    def verify(self) -> bool:
        """Whether the present state is right; if not, go back to the last verified one and on with Values."""
        if self.verifier is None or self.verified[0] == len(self.losses):
            return True
        difference = self.verifier.difference(self.stepper)
        if not difference:
            self.verified = self.state
            return True
        epoch = len(self.losses)
        self.state = self.earlier = self.latest = self.verified
        text = f"after {epoch} epochs {difference}"
        if self.strict:
            raise TypeError(
                f"{text}; the parameters are those before epoch {len(self.losses)}. Perhaps {ADVICE}"
            )
        self.say(f"engine scalar goes on from epoch {len(self.losses)}: {text}")
        self.reason, self.verifier, self.failed, self.pace = text, None, None, 1
        self.stepper = self.fallback()
        self.earlier = self.latest = self.state
        return False

    def _look(self, verifier: Verifier) -> None:
        """Verify after the last epoch, and before it if the share of time is enough.

        If that is enough for the losses alone, compare them, and verify all if they are wrong.
        """
        start = time.perf_counter()
        time_left = self.SHARE * (start - self.run.started) - self.spent
        last = len(self.losses) == self.run.epochs
        if (
            last
            or verifier.seconds <= time_left
            or (verifier.losses_seconds <= time_left and verifier.difference(self.stepper, whole=False))
        ):
            self.verify()
        self.spent += time.perf_counter() - start


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

    def take(self, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Iterator[float]:
        for rows in _batches(len(x), batch, steps):
            self.optimizer.zero_grad()
            loss = self.program.backward(x[rows], y[rows])
            if not math.isfinite(loss):
                raise FloatingPointError(f"it is {loss}")
            self.optimizer.step()
            yield loss

    def write_back(self) -> None:
        """Nothing: the parameters are its state."""


def _batches(n: int, batch: int, steps: int) -> Iterator[slice]:
    """The rows of each step, from the first again after the last."""
    starts = range(0, n, batch)
    for k in range(steps):
        yield slice(starts[k % len(starts)], starts[k % len(starts)] + batch)


class NumpyStepper:
    """Steps of all the optimizer's parameters as one array, by a compiled program in NumPy.

    Each slot of the optimizer's state is an array too, and `twin`, a copy of the optimizer, updates them.
    """

    engine, is_fast = "numpy", True

    def __init__(self, program: Program[..., Any], variant: Variant, optimizer: Optimizer):
        self.program, self.variant = program, variant
        self.optimizer, self.twin = optimizer, copy.copy(optimizer)
        place = {p: i for i, p in enumerate(optimizer.parameters)}
        used = [v for leaves in variant.leaves for v in leaves.flat if v in place]
        # In the program's order, so that its arrays are slices of this one.
        self.values = list(dict.fromkeys([*used, *optimizer.parameters]))
        self.places = [place[v] for v in self.values]
        self.unused = np.zeros(len(self.values) - len(used))
        self.arrays: list[tuple[slice, np.ndarray, np.ndarray | None]] = []  # of the program
        start = 0
        for leaves, now in zip(variant.leaves, variant.data()):
            moved = np.array([v in place for v in leaves.flat], dtype=bool).reshape(leaves.shape)
            part = slice(start, start := start + int(moved.sum()))
            self.arrays.append((part, now, None if moved.all() else moved))
        self.read()

    @property
    def state(self) -> Any:
        return self.packed, self.twin.steps

    @state.setter
    def state(self, state: Any) -> None:
        self.packed, self.twin.steps = state

    def read(self) -> None:
        kept = [self.optimizer.state[i] for i in self.places]
        self.packed = np.array([v.data for v in self.values]), tuple(map(np.array, zip(*kept)))
        self.twin.steps = self.optimizer.steps

    def take(self, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Iterator[float]:
        losses, error = [], None
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                for rows in _batches(len(x), batch, steps):
                    losses.append(self._step(x[rows], y[rows]))
        except ArithmeticError as found:
            error = found
        yield from losses
        if error:
            raise error

    def _step(self, x: np.ndarray, y: np.ndarray) -> float:
        numbers, kept = self.packed
        data = [
            numbers[part].reshape(now.shape) if moved is None else _merged(now, moved, numbers[part])
            for part, now, moved in self.arrays
        ]
        try:
            result, *grads = self.variant.run_numpy((x, y), data, fast=True)
            loss = float(result)
        except FloatingPointError:
            loss = math.nan
        if not math.isfinite(loss):
            self.write_back()
            loss, grads = self.program.value_and_grad(x, y)  # slower, with errors that say where
        parts = [
            grad.ravel() if moved is None else grad[moved] for grad, (_, _, moved) in zip(grads, self.arrays)
        ]
        self.twin.steps += 1
        gradient = np.concatenate([*parts, self.unused])
        try:
            self.packed = self.twin.update(numbers, gradient, kept)
        except FloatingPointError:  # the next step's loss shows it, as with Values
            with np.errstate(all="ignore"):
                self.packed = self.twin.update(numbers, gradient, kept)
        return loss

    def write_back(self) -> None:
        numbers, kept = self.packed
        for v, number in zip(self.values, numbers.tolist()):
            v.data = number
        states = zip(*(slot.tolist() for slot in kept)) if kept else [()] * len(self.values)
        for i, state in zip(self.places, states):
            self.optimizer.state[i] = state
        self.optimizer.steps = self.twin.steps


def _merged(now: np.ndarray, moved: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The array with the numbers of the part that the optimizer moves."""
    array = now.copy()
    array[moved] = numbers
    return array


class NativeStepper:
    """Steps by a kernel that takes whole training steps (see Variant.training_kernel)."""

    engine, is_fast = "native", True

    def __init__(self, kernel: Any, program: Program[..., Any], optimizer: Optimizer):
        self.kernel, self.program, self.optimizer = kernel, program, optimizer
        self.packed: tuple[Any, ...] = None, None, None
        self.read()

    def read(self) -> None:
        data = [p.data for p in self.optimizer.parameters]
        kept = np.array(self.optimizer.state, dtype=float).T.ravel()  # slot by slot
        self.state = np.array([*data, *kept, self.optimizer.steps], dtype=float)

    def take(self, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Iterator[float]:
        if self.packed[0] is not x or self.packed[1] is not y:
            self.packed = x, y, pack([x, y])
        columns = self.packed[2]
        losses, numbers = np.empty(steps), self.state.copy()
        taken = self.kernel.iterate(columns, len(x), batch, numbers, steps, losses)
        if not _spoilt(self.state, numbers):
            self.state = numbers
            yield from losses[:taken].tolist()
            if taken < steps:
                raise self._error(x, y, losses[taken]) or AssertionError
            return
        for taken in range(steps):  # some step had a finite loss and made numbers that are not finite
            numbers = self.state.copy()
            if not self.kernel.iterate(columns, len(x), batch, numbers, 1, losses[taken:], taken):
                raise self._error(x, y, losses[taken]) or AssertionError
            if _spoilt(self.state, numbers) and (error := self._error(x, y)):
                raise error
            self.state = numbers  # the update made them: the next step's loss shows it
            yield losses[taken].item()

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
        data, rest = self.state[: len(parameters)].tolist(), self.state[len(parameters) : -1]
        for p, number in zip(parameters, data):
            p.data = number
        kept = rest.reshape(slots, len(parameters)).T.tolist()
        self.optimizer.state = [tuple(state) for state in kept]
        self.optimizer.steps = int(self.state[-1])


def _spoilt(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a number that was finite no longer is."""
    return not bool(np.isfinite(after[np.isfinite(before)]).all())


def trainer(
    engine: str,
    model: Any,
    loss: Any,
    optimizer: Optimizer,
    run: Run,
    say: Callable[[str], None] = print,
) -> Trainer:
    """A Trainer of the model with a stepper of this engine.

    "auto" is machine code where llvmlite is installed and the graph is small, NumPy for other functions that
    compile, and Values where neither works: `say` prints why. TypeError if another engine does not work.
    """
    if isinstance(model, MatrixMLP):
        return Trainer(ScalarStepper(model, optimizer), run)
    mean = MeanLoss(model, loss)
    reason = ""
    if engine != "scalar":
        generators = random_generators(model, loss, optimizer, run.rng)
        before = states(generators)
        try:
            run = replace(run, Y=_targets(run.Y))
            stepper, verifier, reason = _compiled_stepper(engine, mean, optimizer, run.X, run.Y, generators)
            fallback = lambda: ScalarStepper(mean, optimizer)  # noqa: E731
            return Trainer(stepper, run, verifier, fallback, engine != "auto", say, reason)
        except Exception as error:  # of any class: the user's code may not take Values or arrays
            restore(generators, before)  # model, loss or update may have drawn from them
            if engine != "auto":
                raise
            reason = one_line(error)
            say(f"engine scalar trains, as no other can: {reason}")
    return Trainer(ScalarStepper(mean, optimizer), run, reason=reason)


def _compiled_stepper(
    engine: str, mean: MeanLoss, optimizer: Optimizer, X: np.ndarray, Y: np.ndarray, generators: list[Any]
) -> tuple[Any, Verifier, str]:
    """A compiled stepper, its verifier, and the reason if it is not the fastest one."""
    if type(optimizer).step is not Optimizer.step or type(optimizer).zero_grad is not Optimizer.zero_grad:
        name = type(optimizer).__name__
        raise TypeError(f"{name} has a step() or zero_grad() of its own: the engine scalar alone runs those")

    if engine == "native":
        compile(mean.of_example, engine="native")  # raises an error that says what is missing
    program = compile(mean.of_example, engine="numpy")
    variant = program.variant("gradient", X, Y)
    if variant.scalars.gradient.keys().isdisjoint(optimizer.parameters):
        raise TypeError("the loss depends on no parameter of the optimizer")

    def verified(stepper: Any) -> tuple[Any, Verifier]:
        verifier = Verifier(
            mean, program, optimizer, X, Y, generators
        )  # a new one, as the first look is the longest
        if difference := verifier.difference(stepper):
            raise TypeError(f"{difference}. Perhaps {ADVICE}")
        return stepper, verifier

    reason = ""
    if engine == "native" or (engine == "auto" and variant.has_code() and variant.is_small()):
        twin = copy.copy(optimizer)

        def update(data: Any, grad: Any, state: Any, step: Any) -> Any:
            twin.steps = step
            return twin.update(data, grad, state)

        try:
            slots = len(optimizer.slots)
            kernel = variant.training_kernel(optimizer.parameters, slots, update, optimizer.steps)
            return *verified(NativeStepper(kernel, program, optimizer)), ""
        except Exception as error:  # an update that cannot be recorded may work on arrays
            if engine == "native":
                raise
            reason = one_line(error)
    return *verified(NumpyStepper(program, variant, optimizer)), reason
