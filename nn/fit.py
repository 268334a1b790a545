"""Training: the epochs of a training run, one after the other, and fit, which runs them to their end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from autograd.program import Program
from autograd.program.rows import in_parts

from . import checks
from .accuracy import accuracy
from .batches import Batches, are_examples
from .checkpoint import load_checkpoint, save_checkpoint
from .losses import Loss, squared_error
from .matrix import MatrixMLP
from .notebook import history_html, history_line, progress_bar
from .optim import Optimizer
from .predict import check_model, predict
from .run import Run
from .trainers import TRAINING_ENGINES, Engine, Trainer


class Epoch(NamedTuple):
    """An epoch of a training run: its number, from 0, its mean loss, and the seconds of training so far.

    The loss is as it was before the updates of this epoch.

    >>> nn.Epoch(0, 0.25, 0.01).loss
    0.25
    """

    epoch: int
    loss: float
    seconds: float


@dataclass(repr=False)
class History:
    """The course of a training run.

    loss: the mean loss of each epoch, as it was before that epoch's updates; accuracy: at the end, None for a
    loss that decides between no classes; seconds: of training, before a break and after; engine: the engine
    that trained, "" if none did; reason: why no faster engine trained.

    >>> history = nn.History([0.5, 0.25], accuracy=1.0, engine="numpy")
    >>> min(history.loss)
    0.25
    """

    loss: list[float]
    accuracy: float | None = None
    seconds: float = 0.0
    engine: str = ""
    reason: str = ""

    def __repr__(self) -> str:
        return history_line(self)

    def _repr_html_(self) -> str:
        return history_html(self)


class Training:
    """The training of a model, as an iterable of its epochs.

    >>> X, Y = nn.data.xor()
    >>> model = nn.MLP(2, [4, 1], activation="tanh", rng=np.random.default_rng(0))
    >>> adam = nn.Adam(model.parameters(), lr=0.05)
    >>> for epoch in nn.Training(model, X, Y, loss=nn.squared_error, optimizer=adam, epochs=1000):
    ...     if epoch.loss < 0.01:
    ...         break
    >>> epoch.epoch < 500
    True

    model: a Module, or any function of one example's inputs over the optimizer's parameters, or a
    MatrixMLP (its loss is squared_error). X has shape (examples, inputs), Y (examples, outputs) or
    (examples,). An epoch is one step on all examples or, with batch_size, a step for each batch of
    examples in an order shuffled by rng. Large data that are not in memory are read in blocks, and shuffled
    by 64 runs of successive rows at a time. Without Y, X is batches of X and Y, as autograd.compile takes
    them; with batch_size, a list of batches is shuffled, and rows within each batch. An iterator is for one
    epoch.

    The loop gets an Epoch after epoch 0 and then after every `every`-th. There, model and optimizer have the
    state after that epoch, and the loop may read and change them, such as its lr. (Only "scalar" leaves
    gradients in `grad`.) After `break`, another loop over the same object goes on from there, up to `epochs`
    in all. `losses` has the loss of each epoch so far, `history` the whole course.

    engine: "scalar" records model and loss anew for each example, "numpy" and "native" compile them
    once, as autograd.compile does, and train arrays; "auto" takes the fastest of those that work here, and
    machine code only where the epochs take NumPy longer than making it. A MatrixMLP has an engine of its own.
    The optimizer keeps the compiled program for the next training of the same model and loss.
    Compiled training is compared with model, loss and update at the start, now and then, before a save and at
    the end. If they differ, training goes back to the last state where they agreed, but not behind the last
    turn of the loop: "auto" goes on from there with "scalar", and says so in a line on standard error; the
    others raise TypeError.

    executor: one that computes the gradients of batches, or of pieces of large X and Y, as for
    autograd.compile; not with batch_size. A RuntimeError says that it has lost a worker for good.

    cache: a folder that keeps machine code for later processes, as for autograd.compile.

    checkpoint: a file to save the training in at the start, after each turn of the loop, and at the end;
    resume: such a file to go on from, with the same engine to the last bit as without the break. Data, loss,
    batch_size and the numbers, texts and functions that model and optimizer have as attributes must be as
    they were; the file has the learning rate of the moment.

    Raises ValueError or TypeError for arguments that do not fit; ArithmeticError, naming the epoch, when the
    loss stops being finite: the parameters are then those of the last finite loss. After any other error in
    an epoch, Ctrl-C included, they are those before that epoch.
    """

    def __init__(
        self,
        model: Any,
        X: Any,
        Y: Any = None,
        *,
        loss: Loss,
        optimizer: Optimizer,
        epochs: int,
        every: int = 1,
        batch_size: int | None = None,
        checkpoint: Any = None,
        resume: Any = None,
        rng: Generator | None = None,
        engine: Engine = "auto",
        executor: Any = None,
        cache: str | os.PathLike[str] | None = None,
    ):
        self.epochs, self.every = checks.whole("epochs", epochs), checks.whole("every", every)
        size = None if batch_size is None else checks.whole("batch_size", batch_size)
        draws, self._rng = rng is not None or size is not None, checks.generator(rng)
        if engine not in TRAINING_ENGINES:
            raise ValueError(f"unknown engine {engine!r}; there are {', '.join(TRAINING_ENGINES)}")
        _check_executor(executor, model, engine, size)
        batches = Batches(X, executor) if Y is None and are_examples(X) else None
        if batches is None and Y is None:
            raise TypeError("training takes X and Y, or batches of both")
        if batches and size is None and (engine == "scalar" or isinstance(model, MatrixMLP)):
            raise ValueError("a step on all batches needs a compiled model: give a batch_size, or no engine")
        read = checks.numbers if isinstance(model, MatrixMLP) else checks.rows
        X, Y = batches.sample if batches else (X, Y)
        X, Y = checks.examples(X, Y, read)
        _check_together(model, X, Y, loss, optimizer)
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self._X, self._Y, self._engine, self._checkpoint = X, Y, engine, checkpoint
        self._settings = {"loss": getattr(loss, "__name__", type(loss).__name__), "batch_size": size}
        self.losses: list[float] = []
        self.seconds = 0.0
        if checkpoint or resume:
            if not hasattr(model, "state_dict"):
                said = "a checkpoint needs a model with a state_dict, as a Module has"
                raise TypeError(f"{said}, not {model!r}")
            digest = hashlib.sha256(str(len(batches)).encode() if batches else b"")
            for array in (X, Y):
                for _, (part,) in in_parts(array):
                    digest.update(part.tobytes())
            self._settings["data (SHA-256)"] = digest.hexdigest()
        if resume:
            self.losses, self.seconds = load_checkpoint(resume, model, optimizer, self._rng, self._settings)
        self._run = Run(X, Y, self.losses, size, self._rng, draws, self.epochs, batches, executor, cache)
        self._trainer: Trainer | None = None
        self._accuracy: float | None = None
        self._save()  # if the file cannot be written, raise before training has results to lose

    def __len__(self) -> int:
        """How many Epochs a loop gets from the start."""
        return -(-self.epochs // self.every)

    def __iter__(self) -> Iterator[Epoch]:
        for is_due in self.advances():
            if is_due:
                try:
                    yield Epoch(len(self.losses) - 1, self.losses[-1], self.seconds)
                finally:  # after the body of the loop, and after break
                    self._save()
                if self._trainer:
                    self._trainer.resume()

    def advances(self) -> Iterator[bool]:
        """Train some epochs, and say whether there is an Epoch for the loop, until all are done."""
        with self._guarded():
            if self._trainer is None:
                self._trainer = Trainer(self._engine, self.model, self.loss, self.optimizer, self._run, _warn)
            else:
                self._trainer.resume()
        while len(self.losses) < self.epochs:
            yield self._advance(self._trainer)
        with self._guarded():
            self._trainer.mark_epoch()
            self._trainer.stepper.write_back()
            self._accuracy = self._trainer.accuracy(self._Y, self.loss)
        self._save()

    def _advance(self, trainer: Trainer) -> bool:
        next_due = -(-len(self.losses) // self.every) * self.every
        with self._guarded():
            trainer.advance(min(self.epochs, next_due + 1) - len(self.losses))
            if len(self.losses) != next_due + 1 or (self._checkpoint and not trainer.verify()):
                return False
            trainer.stepper.write_back()
        return True

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """After an error, model and optimizer are as after the last whole epoch."""
        start, trainer = time.perf_counter(), self._trainer
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # a loss that is not finite is said below
                yield
        except KeyboardInterrupt:
            if trainer:
                trainer.rewind()
                self._stop()
            raise
        except ArithmeticError as error:
            epoch = len(self.losses)
            if trainer:
                epoch = trainer.rewind_to_finite()
                self._save()  # else the file may have parameters that overflowed
            in_data = checks.unknown(X=self._X, Y=self._Y)
            smaller = ", and a smaller learning rate may keep it finite"
            is_in_batch = self._run.batch_size and re.search(r"\brow \d", str(error))
            shuffled = "in a batch of shuffled rows, " if is_in_batch else ""
            is_given = in_data or " is nan: " in str(
                error
            )  # other batches are looked at by the program alone
            advice = ": leave out such rows, or fill them in" if is_given else smaller
            raise ArithmeticError(
                f"{in_data}the loss stopped being finite in epoch {epoch}: {shuffled}{error}; the parameters"
                f" are those before epoch {len(self.losses)}{advice}"
            ) from error
        except BaseException:
            if trainer:
                trainer.rewind()
            raise
        finally:
            self.seconds += time.perf_counter() - start

    def _stop(self) -> None:
        """Verify and save the training so far, as at its end."""
        if self._trainer:
            self._trainer.stepper.write_back()
            self._trainer.verify()
            self._save()

    def _save(self) -> None:
        if self._checkpoint:
            course = self._rng, self.losses, self.seconds, self._settings
            save_checkpoint(self._checkpoint, self.model, self.optimizer, *course)

    @property
    def history(self) -> History:
        """The course so far, with the accuracy at the end or, before that, of the model as it is now."""
        share = self._accuracy
        if len(self.losses) < self.epochs:
            with contextlib.suppress(ArithmeticError), np.errstate(over="ignore", invalid="ignore"):
                if self._run.batches is None:
                    share = accuracy(self.model, self._X, self._Y, self.loss)
                elif self._trainer:
                    share = self._trainer.accuracy(self._Y, self.loss)
        by = (self._trainer.engine, self._trainer.reason) if self._trainer else ()
        return History(self.losses, share, self.seconds, *by)


def fit(
    model: Any,
    X: Any,
    Y: Any = None,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int | None = None,
    log_every: int | None = None,
    progress: bool | None = None,
    checkpoint: Any = None,
    resume: Any = None,
    rng: Generator | None = None,
    engine: Engine = "auto",
    executor: Any = None,
    cache: str | os.PathLike[str] | None = None,
) -> History:
    """Train model until `epochs` epochs are done: nn.Training run to its end; returns its history.

    The arguments are those of nn.Training, and so are the errors. log_every: print the loss every so many
    epochs. progress: a bar, by default in a notebook and where standard error is a terminal. A checkpoint is
    saved at the start, every log_every epochs (a tenth of all if not given) and at the end. Ctrl-C ends
    training with the last whole epoch.

    >>> X, Y = nn.data.xor()
    >>> model = nn.MLP(2, [4, 1], activation="tanh", rng=np.random.default_rng(0))
    >>> adam = nn.Adam(model.parameters(), lr=0.05)
    >>> history = nn.fit(model, X, Y, loss=nn.binary_cross_entropy, optimizer=adam, epochs=200)
    >>> len(history.loss), history.accuracy
    (200, 1.0)
    """
    epochs = checks.whole("epochs", epochs)
    log_every = None if log_every is None else checks.whole("log_every", log_every)
    training = Training(
        model, X, Y, loss=loss, optimizer=optimizer, epochs=epochs,
        every=log_every or (max(1, epochs // 10) if checkpoint else epochs),
        batch_size=batch_size, checkpoint=checkpoint, resume=resume, rng=rng, engine=engine,
        executor=executor, cache=cache,
    )  # fmt: skip
    bar, say = _progress(len(training.losses), epochs, progress)
    try:
        for is_due in training.advances():
            if bar is not None:
                bar.update(len(training.losses) - bar.n)
            if is_due and log_every:
                say(f"epoch {len(training.losses) - 1} loss: {training.losses[-1]}")
            if is_due:
                training._save()
    except KeyboardInterrupt:
        training._stop()
    finally:
        if bar is not None:
            bar.close()
    return training.history


def _check_executor(executor: Any, model: Any, engine: str, batch_size: int | None) -> None:
    """Raise an error for an executor, or for arguments that do not go with one."""
    if executor is None:
        return
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor is one of concurrent.futures, or alike, not {executor!r:.80}")
    if batch_size is not None:
        raise ValueError("steps of a batch_size follow one another, and an executor cannot share them")
    if engine == "scalar" or isinstance(model, MatrixMLP):
        raise ValueError("an executor's workers need a compiled model: leave engine out, or the executor")


def _warn(line: str) -> None:
    """Print a line on standard error, above a progress bar if there is one."""
    tqdm = sys.modules.get("tqdm")
    (tqdm.tqdm.write if tqdm else print)(line, file=sys.stderr)


@np.errstate(over="ignore", invalid="ignore")
def _check_together(model: Any, X: Any, Y: Any, loss: Any, optimizer: Any) -> None:
    """Raise an error for arguments that do not go together, before training starts."""
    check_model(model)
    if not callable(loss) or isinstance(loss, Program):
        raise TypeError(f"loss is a function of a prediction and a target, not {loss!r}")
    if isinstance(model, MatrixMLP) and loss is not squared_error:
        raise ValueError("a MatrixMLP has the loss squared_error and no other")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is one such as nn.SGD(model.parameters(), lr=0.1), not {optimizer!r}")
    if hasattr(model, "parameters"):
        if not set(map(id, model.parameters())) & set(map(id, optimizer.parameters)):
            raise ValueError("the optimizer has other parameters than the model: nothing would be learnt")
    if takes := getattr(loss, "takes", None):
        for first, (part,) in in_parts(Y):
            for row, column in np.argwhere(~takes(part))[:1].tolist():
                _refuse_row(first + row, loss, *[part[row, column].item()] * 2)
    shapes = f"X has shape {X.shape} and Y {Y.shape}"
    try:
        outputs = predict(model, X[:1]).shape[1]
    except ArithmeticError:
        return  # training reports it
    except (ValueError, TypeError) as error:
        raise ValueError(f"{shapes}, which the model does not take: {error}") from None
    if takes_rows := getattr(loss, "takes_rows", None):
        if Y.shape[1] in (1, outputs):
            for first, (part,) in in_parts(Y):
                for row in np.flatnonzero(~takes_rows(part, outputs))[:1].tolist():
                    _refuse_row(first + row, loss, [0.0] * outputs, part[row])
            return
    if Y.shape[1] != outputs:
        numbers = ", or nn.cross_entropy as the loss" if Y.shape[1] == 1 else ""
        classes = f": classes need one-hot rows, as np.eye({outputs})[classes] has{numbers}"
        is_classes = Y.shape[1] == 1 and all(np.isin(y, range(outputs)).all() for _, (y,) in in_parts(Y))
        raise ValueError(f"{shapes}, but the model's outputs are {outputs}{classes if is_classes else ''}")


def _refuse_row(row: int, loss: Any, prediction: Any, target: Any) -> None:
    """Raise the loss's error for a target that it does not take, with the row."""
    try:
        loss(prediction, target)
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from None


def _progress(done: int, epochs: int, wanted: bool | None) -> tuple[Any, Callable[..., None]]:
    """The progress bar or None, and the function that prints a line above the bar."""
    if wanted is False:
        return None, print
    bar = progress_bar(wanted is True)
    return (bar(initial=done, total=epochs, unit=" epochs"), bar.write) if bar else (None, print)
