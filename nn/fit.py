"""fit: the training loop."""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.random import Generator

from autograd import Value
from autograd.program import Program

from . import checks
from .checkpoint import load_checkpoint, save_checkpoint
from .losses import Loss, sequence, squared_error
from .matrix import MatrixMLP
from .notebook import history_html, history_line, progress_bar
from .optim import Optimizer
from .trainers import TRAINING_ENGINES, Run, Trainer, trainer


@dataclass(repr=False)
class History:
    """The course of a training run.

    loss: the mean loss of each epoch, as it was before that epoch's updates; accuracy: at the end;
    seconds: of training, before a break and after; engine: the one that trained, "" if none did;
    reason: why it was not a faster one.
    """

    loss: list[float]
    accuracy: float = math.nan
    seconds: float = 0.0
    engine: str = ""
    reason: str = ""

    def __repr__(self) -> str:
        return history_line(self)

    def _repr_html_(self) -> str:
        return history_html(self)


def predict(model: Any, X: Any) -> np.ndarray:
    """The model's predictions for the rows of X, of shape (examples, outputs)."""
    _check_model(model)
    X = checks.numbers("X", X)
    if X.ndim != 2:
        advice = checks.column("X", X)
        raise ValueError(f"X has shape {X.shape}: it needs a row for each example{advice}")
    if isinstance(model, MatrixMLP):
        predictions = model(X)
        if not np.isfinite(predictions).all():
            raise FloatingPointError("a prediction is not finite")
        return predictions
    try:
        rows = [_outputs_of_row(model, x) for x in X.copy()]  # a model may write into its row
    except ArithmeticError as error:
        raise type(error)(f"{checks.unknown(X=X)}{error}") from error
    if len(widths := set(map(len, rows))) > 1:
        raise ValueError(f"the model gives {' or '.join(map(str, sorted(widths)))} outputs, by the row")
    return np.array(rows)


def _outputs_of_row(model: Any, x: np.ndarray) -> list[float]:
    """The model's outputs for a row, as numbers."""
    output = model(x)
    outputs = sequence(output)
    if not all(isinstance(p, Value | Real) for p in outputs):
        raise TypeError(f"a model returns a Value or a vector of them, not {output!r:.80}")
    return [p.data if isinstance(p, Value) else float(p) for p in outputs]


def accuracy(model: Any, X: Any, Y: Any, loss: Loss = squared_error) -> float:
    """The share of outputs that are on their target's side of the loss's decision."""
    X, Y = checks.examples(X, Y)
    predictions = predict(model, X)
    if predictions.shape != Y.shape:
        raise ValueError(f"the predictions have shape {predictions.shape} and Y {Y.shape}")
    return float(np.mean((predictions > getattr(loss, "decision", 0.5)) == (Y > 0.5)))


@np.errstate(over="ignore", invalid="ignore")  # fit itself reports a loss that is not finite
def fit(
    model: Any,
    X: Any,
    Y: Any,
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
    engine: str = "auto",
) -> History:
    """Train model until `epochs` epochs are done; returns the course of the training.

    model: a Module, or any function of one example's inputs over the optimizer's parameters, or a
    MatrixMLP (its loss is squared_error). X has shape (examples, inputs), Y (examples, outputs) or
    (examples,). An epoch is one step on all examples or, with batch_size, a step for each batch of
    examples in an order shuffled by rng.

    engine: "scalar" records model and loss anew for each example, "numpy" and "native" compile them
    once, as autograd.compile does, and train arrays, which the model gets back every log_every epochs
    and at the end; "auto" takes the fastest of those that work here. A MatrixMLP has an engine of its own.
    Compiled training is compared with model, loss and update at the start, now and then, before a save and at
    the end. If they differ, training goes back to the last state where they agreed: "auto" goes on from there
    with "scalar", and says so in a line on standard error; the others raise TypeError.

    Prints the loss every log_every epochs. progress: a bar, by default in a notebook and where standard
    error is a terminal. checkpoint: a file to save the training in at the start, every log_every epochs
    (a tenth of all if not given) and at the end; resume: such a file to go on from, with the same engine
    to the last bit as without the break. Data, loss, batch_size and the numbers, texts and functions that
    model and optimizer have as attributes must be as they were. Ctrl-C ends training with the last whole
    epoch.

    Raises ValueError or TypeError for arguments that do not fit; ArithmeticError, naming the epoch, when the
    loss stops being finite: the parameters are then those of the last finite loss. After any other error in
    an epoch, they are those before that epoch.
    """
    epochs = checks.whole("epochs", epochs)
    size = None if batch_size is None else checks.whole("batch_size", batch_size)
    log_every = None if log_every is None else checks.whole("log_every", log_every)
    given, rng = rng is not None, checks.generator(rng)
    X, Y = checks.examples(X, Y)
    if engine not in TRAINING_ENGINES:
        raise ValueError(f"unknown engine {engine!r}; there are {', '.join(TRAINING_ENGINES)}")
    _check_together(model, X, Y, loss, optimizer)
    settings = {"loss": getattr(loss, "__name__", type(loss).__name__), "batch_size": size}
    if checkpoint or resume:
        if not hasattr(model, "state_dict"):
            raise TypeError(f"a checkpoint needs a model with a state_dict, as a Module has, not {model!r}")
        settings["data (SHA-256)"] = hashlib.sha256(X.tobytes() + Y.tobytes()).hexdigest()
    losses, seconds = load_checkpoint(resume, model, optimizer, rng, settings) if resume else ([], 0.0)
    start = time.perf_counter() - seconds

    def save() -> None:
        if checkpoint:
            save_checkpoint(checkpoint, model, optimizer, rng, losses, time.perf_counter() - start, settings)

    save()  # a file that cannot be written is an error before there is anything to lose
    share = math.nan
    every = log_every or (max(1, epochs // 10) if checkpoint else epochs)
    bar, say = _progress(len(losses), epochs, progress)
    training: Trainer | None = None
    try:
        draws = given or size is not None
        run = Run(X, Y, losses, size, rng, draws, epochs)
        training = trainer(engine, model, loss, optimizer, run, lambda line: say(line, file=sys.stderr))
        while (epoch := len(losses)) < epochs:
            next_log = -(-epoch // every) * every
            training.advance(min(epochs, next_log + 1) - epoch)
            if bar is not None:
                bar.update(len(losses) - epoch)
            if len(losses) == next_log + 1 and (not checkpoint or training.verify()):
                if log_every:
                    say(f"epoch {next_log} loss: {losses[next_log]}")
                training.stepper.write_back()
                save()
        training.mark_epoch()
        training.stepper.write_back()
        share = accuracy(model, X, Y, loss)
    except KeyboardInterrupt:
        if training:
            training.rewind()
            training.verify()
        with contextlib.suppress(ArithmeticError):  # the accuracy is then unknown
            share = accuracy(model, X, Y, loss)
    except ArithmeticError as error:
        epoch = len(losses)
        if training:
            epoch = training.rewind_to_finite()
            save()  # else the file may have parameters that overflowed
        in_data = checks.unknown(X=X, Y=Y)
        advice = "" if in_data else ", and a smaller learning rate may keep it finite"
        raise ArithmeticError(
            f"{in_data}the loss stopped being finite in epoch {epoch}: {error}; the parameters are"
            f" those before epoch {len(losses)}{advice}"
        ) from error
    except BaseException:
        if training:
            training.rewind()
        raise
    finally:
        if bar is not None:
            bar.close()
    save()
    seconds = time.perf_counter() - start
    return History(losses, share, seconds, *((training.engine, training.reason) if training else ()))


def _check_model(model: Any) -> None:
    """Raise TypeError for a model that cannot be called with a row."""
    if not callable(model) or isinstance(model, type | Program):
        said = "a model is a function of one example's inputs, as a Module with __call__ is"
        raise TypeError(f"{said}, not {model!r:.80}")


def _check_together(model: Any, X: np.ndarray, Y: np.ndarray, loss: Any, optimizer: Any) -> None:
    """Raise an error for arguments that do not go together, before training starts."""
    _check_model(model)
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
        for y in Y[~takes(Y)][:1].tolist():
            loss(y, y)  # raises an error that says what is wrong
    shapes = f"X has shape {X.shape} and Y {Y.shape}"
    try:
        outputs = predict(model, X[:1]).shape[1]
    except ArithmeticError:
        return  # training reports it
    except (ValueError, TypeError) as error:
        raise ValueError(f"{shapes}, which the model does not take: {error}") from None
    if Y.shape[1] != outputs:
        raise ValueError(f"{shapes}, but the model's outputs are {outputs}")


def _progress(done: int, epochs: int, wanted: bool | None) -> tuple[Any, Callable[..., None]]:
    """The progress bar or None, and the function that prints a line beside it."""
    if wanted is False:
        return None, print
    bar = progress_bar(wanted is True)
    return (bar(initial=done, total=epochs, unit=" epochs"), bar.write) if bar else (None, print)
