"""fit: the training loop."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from autograd import total

from .checkpoint import load_checkpoint, save_checkpoint
from .losses import Loss, sequence, squared_error
from .matrix import MatrixMLP
from .module import whole
from .optim import Optimizer


@dataclass
class History:
    """The course of a training run.

    loss: the mean loss of each epoch, as it was before that epoch's updates; accuracy: at the end;
    seconds: all it took, before a break and after.
    """

    loss: list[float]
    accuracy: float = math.nan
    seconds: float = 0.0


class MeanLoss:
    """The mean loss of a data set, recorded scalar by scalar; MatrixMLP has the same method."""

    def __init__(self, model: Any, loss: Loss):
        self.model = model
        self.loss = loss

    def backward(self, X: np.ndarray, Y: np.ndarray) -> float:
        """The mean loss; adds its gradient to every parameter's grad."""
        targets = Y[:, 0] if Y.shape[1:] == (1,) else Y  # bare, as the prediction is
        rows = zip(X.tolist(), targets.tolist())
        mean = total([self.loss(self.model(x), y) for x, y in rows]) * (1.0 / len(X))
        mean.backward()
        return mean.data


def predict(model: Any, X: Any) -> np.ndarray:
    """The model's predictions for the rows of X, of shape (examples, outputs)."""
    if isinstance(model, MatrixMLP):
        predictions = model(X)
        if not np.isfinite(predictions).all():
            raise FloatingPointError("a prediction is not finite")
        return predictions
    outputs = [model(x) for x in np.asarray(X, dtype=float).tolist()]
    return np.array([[float(p) for p in sequence(out)] for out in outputs])


def accuracy(model: Any, X: Any, Y: Any, loss: Loss = squared_error) -> float:
    """The share of outputs on the side of the loss's decision where their target is."""
    decision = getattr(loss, "decision", 0.5)
    return float(np.mean((predict(model, X) > decision) == (np.asarray(Y).reshape(len(X), -1) > 0.5)))


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
) -> History:
    """Train model until `epochs` epochs are done, and say how it went.

    model: a Module, or any function of one example's inputs over the optimizer's parameters, or a
    MatrixMLP (its loss is squared_error). X has shape (examples, inputs), Y (examples, outputs) or
    (examples,). An epoch is one step on all examples or, with batch_size, a step for each batch of
    examples in an order shuffled by rng.

    Prints the loss every log_every epochs. progress: a bar on standard error, by default where that
    is a terminal. checkpoint: a file to save the training in every log_every epochs (a tenth of all
    if not given) and at the end; resume: such a file to go on from, to the last bit as if there had
    been no break. Ctrl-C ends training after the last whole epoch.

    Raises ValueError or TypeError for data that does not fit; ArithmeticError, naming the epoch,
    when the loss stops being finite: the parameters are then those of the last epoch where it was.
    """
    epochs = whole("epochs", epochs)
    X, Y = _checked_data(model, X, Y)
    if isinstance(model, MatrixMLP) and loss is not squared_error:
        raise ValueError("a MatrixMLP has the loss squared_error and no other")
    program = model if isinstance(model, MatrixMLP) else MeanLoss(model, loss)
    size = len(X) if batch_size is None else whole("batch_size", batch_size)
    log_every = None if log_every is None else whole("log_every", log_every)
    rng = rng or np.random.default_rng()
    losses, seconds = load_checkpoint(resume, model, optimizer, rng) if resume else ([], 0.0)
    start = time.perf_counter() - seconds

    def batches() -> Iterator[Any]:
        if batch_size is None:
            return iter([slice(None)])
        order = rng.permutation(len(X))
        return (order[i : i + size] for i in range(0, len(X), size))

    # An update makes new data and leaves the old as it is, so that keeping it is enough.
    def snapshot() -> tuple[Any, ...]:
        data = [p.data for p in optimizer.parameters]
        shuffling = rng.bit_generator.state if batch_size else None
        return len(losses), data, list(optimizer.state), optimizer.steps, shuffling

    def restore(snapshot: tuple[Any, ...]) -> None:
        epochs_done, data, optimizer.state, optimizer.steps, shuffling = snapshot
        del losses[epochs_done:]
        for p, old in zip(optimizer.parameters, data):
            p.data = old
        if shuffling:
            rng.bit_generator.state = shuffling

    def save() -> None:
        if checkpoint:
            save_checkpoint(checkpoint, model, optimizer, rng, losses, time.perf_counter() - start)

    epoch = len(losses)
    bar, say = _progress(range(epoch, epochs), progress)
    before = now = snapshot()  # as they were before the last epoch, and before this one
    try:
        for epoch in bar:
            before, now = now, snapshot()
            mean = 0.0
            for batch in batches():
                x, y = X[batch], Y[batch]
                optimizer.zero_grad()
                batch_loss = program.backward(x, y)
                if not math.isfinite(batch_loss):
                    raise FloatingPointError(f"it is {batch_loss}")
                mean += batch_loss * (len(x) / len(X))
                optimizer.step()
            losses.append(mean)
            if log_every and epoch % log_every == 0:
                say(f"epoch {epoch} loss: {mean}")
            if epoch % (log_every or max(1, epochs // 10)) == 0:
                save()
        epoch = len(losses)
        before, now = now, snapshot()
        share = accuracy(model, X, Y, loss)
    except KeyboardInterrupt:
        restore(now)
        share = accuracy(model, X, Y, loss)
    except ArithmeticError as error:
        restore(before)
        raise ArithmeticError(f"the loss stopped being finite in epoch {epoch}: {error}") from error
    finally:
        getattr(bar, "close", lambda: None)()
    save()
    return History(losses, share, time.perf_counter() - start)


def _checked_data(model: Any, X: Any, Y: Any) -> tuple[np.ndarray, np.ndarray]:
    """X and Y as arrays of floats with a row for each example."""
    X, Y = np.asarray(X), np.asarray(Y)
    for name, array in (("X", X), ("Y", Y)):
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} holds {array.dtype}, not real numbers")
    shapes = f"X has shape {X.shape} and Y {Y.shape}"
    if X.ndim != 2 or Y.ndim not in (1, 2) or len(X) != len(Y):
        raise ValueError(f"{shapes}: they need a row for each example, and as many of them")
    if len(X) == 0:
        raise ValueError(f"{shapes}: there is no example to learn from")
    X, Y = X.astype(float), Y.astype(float).reshape(len(Y), -1)
    try:
        outputs = predict(model, X[:1]).shape[1]
    except ArithmeticError:
        return X, Y  # training says where
    except (ValueError, TypeError) as error:
        raise ValueError(f"{shapes}, which the model does not take: {error}") from None
    if Y.shape[1] != outputs:
        raise ValueError(f"{shapes}, but the model has {outputs} outputs")
    return X, Y


def _progress(epochs: range, wanted: bool | None) -> tuple[Any, Callable[[str], None]]:
    """epochs, in a progress bar if there is to be one, and what prints a line beside it."""
    if wanted or (wanted is None and sys.stderr.isatty()):
        try:
            from tqdm import tqdm

            return tqdm(epochs, initial=epochs.start, total=epochs.stop, unit=" epochs"), tqdm.write
        except ImportError:
            if wanted:
                print('no progress bar: pip install "scalar-autograd[progress]" has it', file=sys.stderr)
    return epochs, print
