"""Trainer: trains a model by the steps of a stepper (see steppers.py), counts epochs, and restores states.

The compiled steppers repeat one recording, so a verifier checks them. If one is wrong, training goes on with
Values from the last verified state.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable
from dataclasses import replace
from types import MethodType
from typing import Any, Literal, get_args

import numpy as np

from autograd import Value, compile
from autograd.locks import cached_property
from autograd.program import Program, Variant
from autograd.program.reachable import fingerprint, random_generators, restore, states
from autograd.program.rows import Readable
from autograd.program.variant import PAYS

from . import checks
from .accuracy import share_of, share_of_batches
from .matrix import MatrixMLP
from .optim import Optimizer
from .predict import MANY, program_of
from .run import CHUNKS, Run
from .steppers import ArrayStepper, MeanLoss, NativeStepper, ScalarStepper
from .verify import Verifier, one_line, representative

Engine = Literal["auto", "scalar", "numpy", "native"]
TRAINING_ENGINES = get_args(Engine)
ADVICE = (
    "something is done that no graph shows, such as a random draw, a look-up by a target or a read of"
    " a Value's data: engine scalar does it"
)


class Compiled:
    """The program of a model's mean loss, and machine code for its training steps.

    An optimizer keeps it for the next call with the same model and loss, as recording takes much longer than
    a step. `epochs` counts the epochs that it trained, `seconds` is their time, and `looks` the time of its
    verifications.
    """

    is_opaque = (
        True  # to the search for objects that model and loss can reach: a loss may reach the optimizer
    )

    def __init__(self, mean: MeanLoss, run: Run, generators: list[Any]):
        self.mean, self.shapes, self.generators = mean, _row_shapes(run), generators
        self.program = compile(mean.of_example, engine="numpy", cache=run.cache)
        self.variant: Variant = self.program.variant("gradient", run.X, run.Y)
        self.shared: Any = None  # the program with machine code, for batches and executors
        self.kernel: Any = None
        self.predictor: Any = None
        self.others: list[Value] = []  # the live leaves that the kernel reads beside the parameters
        self.constants: Any = [], []  # a fingerprint of the optimizer's settings, as they are in the kernel
        self.seen = fingerprint(mean.model, mean.loss)
        self.epochs, self.seconds, self.looks = 0, 0.0, 0.0
        self.looked = 0  # by later calls and turns of the caller's loop
        self.look = 0.0, 0.0  # the seconds of a Verifier's last full look, and of its look at the losses

    def is_for(self, mean: MeanLoss, run: Run) -> bool:
        same = _is_one(self.mean.model, mean.model) and _is_one(self.mean.loss, mean.loss)
        return same and self.shapes == _row_shapes(run)

    def is_stale(self, verifier: Verifier) -> bool:
        """Whether model and loss are no longer those that were recorded.

        They are recorded again, and the graphs compared, if something that they can reach has changed. In
        ever fewer calls, a row is compared with the Values, for changes that no object shows.
        """
        seen = fingerprint(self.mean.model, self.mean.loss)
        if seen[0] != self.seen[0]:
            if not self.program.is_alike(verifier.X, verifier.Y):
                return True
            self.seen = seen
        self.looked += 1
        is_power = self.looked & (self.looked - 1) == 0
        return is_power and verifier.differs_in_row(self.looked % len(verifier.X))

    def predictor_for(self, X: Readable) -> Program[..., Any] | None:
        """A program of the model, if rows are many or calls repeat; None if no program is right."""
        if self.predictor is None and (len(X) >= MANY or self.looked):
            self.predictor = program_of(self.mean.model, X)
        return self.predictor

    def stepper(self, engine: str, optimizer: Optimizer, run: Run) -> tuple[Any, str]:
        """The fastest stepper of that engine, and why "auto" could not use machine code that would pay."""
        constants, reason, variant = _settings_seen(optimizer), "", self.variant
        is_shared = run.is_shared
        in_blocks = is_shared or run.rows > variant.block(native=True)
        has_kernel = self.kernel is not None and constants[0] == self.constants[0]
        is_made = "kernel" in vars(variant) if in_blocks else has_kernel
        if engine == "native" or (engine == "auto" and (is_made or _pays(variant, run))):
            try:
                if is_shared and self.shared is None:
                    self.shared = compile(self.mean.of_example, engine="native", cache=run.cache)
                if in_blocks:
                    program = self.shared if is_shared else self.program
                    return ArrayStepper(program, variant, optimizer, "native", run.executor), ""
                if not has_kernel:
                    self.kernel, self.others = _training_kernel(variant, optimizer)
                    self.constants = constants
                return NativeStepper(self.kernel, self.others, self.program, variant, optimizer), ""
            except Exception as error:  # an update that cannot be recorded may work on arrays
                if engine == "native":
                    raise
                reason = one_line(error)
        return ArrayStepper(self.program, variant, optimizer, executor=run.executor), reason


def _row_shapes(run: Run) -> tuple[Any, ...]:
    return run.X.shape[1:], run.Y.shape[1:]


def _is_one(a: Any, b: Any) -> bool:
    """Whether two names have the same object; a method is a new object each time."""
    if isinstance(a, MethodType) and isinstance(b, MethodType):
        return a.__self__ is b.__self__ and a.__func__ is b.__func__
    return a is b


def _settings_seen(optimizer: Optimizer) -> tuple[list[Any], list[Any]]:
    """A fingerprint of all that an update computes with, but for the learning rate and the state."""
    live = ("lr", "_initial_lr", "steps", "_state", "_arrays", "_compiled", "parameters")
    settings = [x for item in sorted(vars(optimizer).items()) if item[0] not in live for x in item]
    return fingerprint(type(optimizer), *settings, [*map(id, optimizer.parameters)])


def _pays(variant: Variant, run: Run) -> bool:
    """Whether machine code is made before NumPy would have taken all steps of the run."""
    steps = run.steps * variant.numpy_seconds(run.rows)
    return variant.has_code() and steps >= PAYS * variant.kernel_seconds


def _training_kernel(variant: Variant, optimizer: Optimizer) -> tuple[Any, list[Value]]:
    """Machine code for training steps, with the learning rate and the number of steps among its state."""
    twin = copy.copy(optimizer)

    def update(data: Any, grad: Any, state: Any, lr: Any, step: Any) -> Any:
        twin.lr, twin.steps = lr, step
        return twin.update(data, grad, state)

    slots, lr, steps = len(optimizer.slots), optimizer.lr, optimizer.steps
    return variant.training_kernel(optimizer.parameters, slots, update, lr, steps)


class Trainer:
    """Trains a model by an engine's stepper or, from where a verified stepper goes wrong, by Values.

    "auto" is machine code where llvmlite is installed and the run is long enough, NumPy for other functions
    that compile, and Values where neither works: `say` prints why, and `reason` keeps it.
    TypeError if another engine does not work, or turns out to be wrong.

    A verifier looks after 1, 2, 4, 8, ... epochs and after the last, and only at losses if gradients would
    take more than SHARE of the time. A program that an earlier call, or turn of the caller's loop, compiled
    is used again if nothing has changed that model, loss and optimizer can reach.
    """

    SHARE = 0.02

    def __init__(
        self,
        engine: str,
        model: Any,
        loss: Any,
        optimizer: Optimizer,
        run: Run,
        say: Callable[[str], None] = print,
    ):
        self.model, self.optimizer, self.losses, self.say = model, optimizer, run.losses, say
        if isinstance(model, MatrixMLP):
            self.wanted, self.run = "scalar", run
        else:
            self.wanted, self.run = engine, replace(run, Y=checks.targets(run.Y))
        self.by_values: Any = model if isinstance(model, MatrixMLP) else MeanLoss(model, loss)
        self.compiled: Compiled | None = None
        if run.batch_size and run.reads_in_order:
            say(f"batches are drawn from {CHUNKS} runs of rows at a time, as the data are not in memory")
        self._begin()

    def _begin(self) -> None:
        """Make the stepper, and the present state the one that training starts from."""
        self.settings, self.is_fresh = _settings_seen(self.optimizer), False
        self.stepper, self.verifier, self.reason = self._made()
        self.pace = 1  # epochs in one call of the stepper: a twentieth of a second, for Ctrl-C to be heard
        self.failed: int | None = None
        # The state that was last verified, and the states before the last two calls of advance.
        self.verified = self.earlier = self.latest = self.state

    def _made(self) -> tuple[Any, Verifier | None, str]:
        """A stepper, its verifier, and why no faster stepper was made."""
        kept, self.optimizer._compiled, self.compiled = self.optimizer._compiled, None, None
        mean, run, reason = self.by_values, self.run, ""
        if self.wanted == "scalar":
            return ScalarStepper(mean, self.optimizer), None, ""
        if kept and kept.is_for(mean, run):
            with contextlib.suppress(Exception):  # recording anew raises the error again
                stepper, reason = kept.stepper(self.wanted, self.optimizer, run)
                verifier = self._verifier(kept)
                if not kept.is_stale(verifier):
                    self.compiled = self.optimizer._compiled = kept
                    return stepper, verifier, reason
        generators = random_generators(mean.model, mean.loss, self.optimizer, run.rng)
        before = states(generators)
        try:
            return self._compiled_stepper(generators)
        except Exception as error:  # of any class: the user's code may not take Values or arrays
            restore(generators, before)  # model, loss or update may have drawn from them
            if self.wanted != "auto" or run.is_shared:
                raise
            reason = one_line(error)
            self.say(f"engine scalar trains, as no other can: {reason}")
        return ScalarStepper(mean, self.optimizer), None, reason

    def _compiled_stepper(self, generators: list[Any]) -> tuple[Any, Verifier, str]:
        """A stepper, compiled now and verified."""
        optimizer = self.optimizer
        if type(optimizer).step is not Optimizer.step or type(optimizer).zero_grad is not Optimizer.zero_grad:
            said = f"{type(optimizer).__name__} has a step() or zero_grad() of its own"
            raise TypeError(f"{said}: the engine scalar alone runs those")
        if self.wanted == "native":
            compile(self.by_values.of_example, engine="native")  # raises an error that says what is missing
        compiled = Compiled(self.by_values, self.run, generators)
        if compiled.variant.scalars.gradient.keys().isdisjoint(optimizer.parameters):
            raise TypeError("the loss depends on no parameter of the optimizer")
        stepper, reason = compiled.stepper(self.wanted, optimizer, self.run)
        verifier = self._verifier(compiled)
        difference = verifier.difference(stepper)
        if difference and stepper.engine == "native" and self.wanted == "auto":
            stepper, reason = ArrayStepper(compiled.program, compiled.variant, optimizer), difference
            verifier = self._verifier(compiled)  # a new one, as the first look is the longest
            difference = verifier.difference(stepper)
        if difference:
            raise TypeError(f"{difference}. Perhaps {ADVICE}")
        self.compiled, self.is_fresh = compiled, True
        optimizer._compiled = compiled
        compiled.seconds = time.perf_counter() - self.run.started
        return stepper, verifier, reason

    def _verifier(self, compiled: Compiled) -> Verifier:
        verifier = Verifier(
            self.by_values, compiled.program, self.optimizer, *self.looked_at, compiled.generators
        )
        verifier.seconds, verifier.losses_seconds = compiled.look
        return verifier

    @cached_property
    def looked_at(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The examples that verifiers choose from, and their numbers."""
        return representative(self.run.X, self.run.Y)

    @property
    def engine(self) -> str:
        return self.stepper.engine

    def advance(self, epochs: int) -> None:
        """Train for one epoch or more, up to that many; ArithmeticError if the loss is not finite."""
        self.mark_epoch()
        start, done = time.perf_counter(), len(self.losses)
        before = self.compiled.epochs if self.compiled else 0  # epochs that count for the next look
        due = min(self.run.epochs, done - before + (1 << before.bit_length()))
        try:
            self._train(epochs if self.verifier is None else min(epochs, due - done))
        except ArithmeticError:
            self.rewind_to_finite()
            if self.verify():
                raise
            return
        finally:
            if self.compiled:
                self.compiled.epochs += len(self.losses) - done
                self.compiled.seconds += time.perf_counter() - start
        if self.verifier and self.compiled and len(self.losses) == due:
            self._look(self.verifier, self.compiled)

    def _train(self, epochs: int) -> None:
        size = self.run.batch_size
        if size is None:
            start = time.perf_counter()
            self.stepper.take(*self.run.whole, min(epochs, self.pace), self.losses)
            if self.stepper.is_fast and time.perf_counter() - start < 0.05:
                self.pace *= 2
        else:
            losses: list[float] = []
            rows: list[int] = []
            for x, y in self.run.shuffled():
                starts = range(0, len(x), size)
                self.stepper.take(x, y, size, len(starts), losses)
                rows += [min(size, len(x) - start) for start in starts]
            self.losses.append(float(np.array(rows) @ losses) / sum(rows))

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
        """Let rewind() return to the present state."""
        if self.latest[0] < len(self.losses):
            self.earlier = self.latest
        self.latest = self.state

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
                self.stepper.take(*self.run.whole, again, self.losses)
            self.stepper.write_back()
        return self.failed

    def verify(self) -> bool:
        """Whether the present state is right; if not, go on with Values from the last verified state."""
        if self.verifier is None or self.verified[0] == len(self.losses):
            return True
        difference = self.verifier.difference(self.stepper)
        if not difference:
            self.verified = self.state
            return True
        epoch = len(self.losses)
        self.state = self.earlier = self.latest = self.verified
        text = f"after {epoch} epochs {difference}"
        if self.wanted != "auto" or self.run.is_shared:
            raise TypeError(
                f"{text}; the parameters are those before epoch {len(self.losses)}. Perhaps {ADVICE}"
            )
        self.say(f"engine scalar goes on from epoch {len(self.losses)}: {text}")
        self.reason, self.verifier, self.failed, self.pace = text, None, None, 1
        self.compiled = self.optimizer._compiled = None
        self.stepper, self.wanted = ScalarStepper(self.by_values, self.optimizer), "scalar"
        self.earlier = self.latest = self.state
        return False

    def _look(self, verifier: Verifier, compiled: Compiled) -> None:
        """Verify after the last epoch, and after others if there is time left for a look.

        If the time is only enough for the losses, compare those, and verify all if they are wrong.
        """
        start = time.perf_counter()
        time_left = self.SHARE * compiled.seconds - compiled.looks
        last = len(self.losses) == self.run.epochs
        self.stepper.write_back()
        if (
            (last and self.is_fresh)
            or verifier.seconds <= time_left
            or (verifier.losses_seconds <= time_left and verifier.difference(self.stepper, whole=False))
            or (last and compiled.is_stale(verifier))
        ):
            self.verify()
        compiled.look = verifier.seconds, verifier.losses_seconds
        compiled.looks += time.perf_counter() - start

    def accuracy(self, Y: Readable, loss: Any) -> float | None:
        """The share that is right; ArithmeticError if an output is not finite, after the last update."""
        predictor = self.compiled.predictor_for(self.run.X) if self.compiled else None
        if self.run.batches is None:
            return share_of(self.model, self.run.X, Y, loss, predictor)
        return share_of_batches(self.model, self.run.batches, loss, predictor)

    def resume(self) -> None:
        """Take over the caller's changes to model and optimizer since the last epoch."""
        checks.at_least_0("lr", self.optimizer.lr)
        if self.compiled and _settings_seen(self.optimizer)[0] != self.settings[0]:
            self._begin()
            return
        self.stepper.read()
        if self.compiled and self.verifier and self.compiled.is_stale(self.verifier):
            self._begin()
        else:
            self.mark_epoch()
            self.verified = self.latest
