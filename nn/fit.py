"""fit: the training loop."""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator

from autograd import total

from . import checks
from .checkpoint import load_checkpoint, save_checkpoint
from .losses import Loss, sequence, squared_error
from .matrix import MatrixMLP
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
    """The mean loss of a data set, recorded scalar by scalar; a MatrixMLP has the same method."""

    def __init__(self, model: Any, loss: Loss):
        self.model = model
        self.loss = loss

    def backward(self, X: Any, Y: Any) -> float:
        """The mean loss; adds its gradient to every parameter's grad."""
        X, Y = checks.examples(X, Y)
        targets = Y[:, 0] if Y.shape[1] == 1 else Y  # bare, as the prediction is
        losses = total([self.loss(self.model(x), y) for x, y in zip(X.tolist(), targets.tolist())])
        if losses.dx is None:
            raise TypeError("the loss is a number, and not a Value: it depends on no parameter")
        mean = losses * (1.0 / len(X))
        mean.backward()
        return mean.data


def predict(model: Any, X: Any) -> np.ndarray:
    """The model's predictions for the rows of X, of shape (examples, outputs)."""
    X = checks.numbers("X", X)
    if X.ndim != 2:
        raise ValueError(f"X has shape {X.shape}: it needs a row for each example")
    if isinstance(model, MatrixMLP):
        predictions = model(X)
        if not np.isfinite(predictions).all():
            raise FloatingPointError("a prediction is not finite")
        return predictions
    return np.array([[float(p) for p in sequence(model(x))] for x in X.tolist()])


def accuracy(model: Any, X: Any, Y: Any, loss: Loss = squared_error) -> float:
    """The share of outputs on the side of the loss's decision where their target is."""
    X, Y = checks.examples(X, Y)
    predictions = predict(model, X)
    if predictions.shape != Y.shape:
        raise ValueError(f"the predictions have shape {predictions.shape} and Y {Y.shape}")
    return float(np.mean((predictions > getattr(loss, "decision", 0.5)) == (Y > 0.5)))


@np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is noticed, and said once
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
    is a terminal. checkpoint: a file to save the training in at the start, every log_every epochs (a
    tenth of all if not given) and at the end; resume: such a file to go on from, with the same data
    and settings to the last bit as if there had been no break. Ctrl-C ends training with the last
    whole epoch.

    Raises ValueError or TypeError for what does not fit; ArithmeticError, naming the epoch, when the
    loss stops being finite: the parameters are then those of the last epoch where it was. After any
    other error in an epoch they are those before it.
    """
    epochs = checks.whole("epochs", epochs)
    size = None if batch_size is None else checks.whole("batch_size", batch_size)
    log_every = None if log_every is None else checks.whole("log_every", log_every)
    given, rng = rng is not None, checks.generator(rng)
    X, Y = checks.examples(X, Y)
    _check_together(model, X, Y, loss, optimizer)
    data = ""
    if checkpoint or resume:
        if not hasattr(model, "state_dict"):
            raise TypeError(f"a checkpoint needs a model with a state_dict, as a Module has, not {model!r}")
        data = hashlib.sha256(X.tobytes() + Y.tobytes()).hexdigest()  # so that none is taken for another
    program = model if isinstance(model, MatrixMLP) else MeanLoss(model, loss)
    losses, seconds = load_checkpoint(resume, model, optimizer, rng, data) if resume else ([], 0.0)
    start = time.perf_counter() - seconds

    def batches() -> Iterator[Any]:
        if size is None:
            return iter([slice(None)])
        order = rng.permutation(len(X))
        return (order[i : i + size] for i in range(0, len(X), size))

    # An update makes new data and leaves the old as it is, so that keeping it is enough.
    def snapshot() -> tuple[Any, ...]:
        data = [p.data for p in optimizer.parameters]
        random = rng.bit_generator.state if size or given else None
        return len(losses), data, list(optimizer.state), optimizer.steps, random

    def restore(snapshot: tuple[Any, ...]) -> None:
        epochs_done, data, optimizer.state, optimizer.steps, random = snapshot
        del losses[epochs_done:]
        for p, old in zip(optimizer.parameters, data):
            p.data = old
        if random:
            rng.bit_generator.state = random

    def save() -> None:
        if checkpoint:
            save_checkpoint(checkpoint, model, optimizer, rng, losses, time.perf_counter() - start, data)

    save()  # at once, so that a file that cannot be written is known before there is anything to lose
    share = math.nan
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
        with contextlib.suppress(ArithmeticError):  # the accuracy is then unknown
            share = accuracy(model, X, Y, loss)
    except ArithmeticError as error:
        restore(before)
        raise ArithmeticError(
            f"the loss stopped being finite in epoch {epoch}: {error}; the parameters are"
            f" those before epoch {len(losses)}, and a smaller learning rate may keep it finite"
        ) from error
    except BaseException:
        restore(now)
        raise
    finally:
        getattr(bar, "close", lambda: None)()
    save()
    return History(losses, share, time.perf_counter() - start)


def _check_together(model: Any, X: np.ndarray, Y: np.ndarray, loss: Any, optimizer: Any) -> None:
    """Refuse what does not go together, before anything is trained."""
    if not callable(loss):
        raise TypeError(f"loss is a function of a prediction and a target, not {loss!r}")
    if isinstance(model, MatrixMLP) and loss is not squared_error:
        raise ValueError("a MatrixMLP has the loss squared_error and no other")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is one such as nn.SGD(model.parameters(), lr=0.1), not {optimizer!r}")
    if hasattr(model, "parameters"):
        if not set(map(id, model.parameters())) & set(map(id, optimizer.parameters)):
            raise ValueError("the optimizer has other parameters than the model: nothing would be learnt")
    targets = getattr(loss, "targets", ())
    if targets and not np.isin(Y, targets).all():
        raise ValueError(f"this loss takes targets of {' or '.join(f'{t:g}' for t in targets)} alone")
    shapes = f"X has shape {X.shape} and Y {Y.shape}"
    try:
        outputs = predict(model, X[:1]).shape[1]
    except ArithmeticError:
        return  # training says where
    except (ValueError, TypeError) as error:
        raise ValueError(f"{shapes}, which the model does not take: {error}") from None
    if Y.shape[1] != outputs:
        raise ValueError(f"{shapes}, but the model's outputs are {outputs}")


def _progress(epochs: range, wanted: bool | None) -> tuple[Any, Callable[[str], None]]:
    """epochs, in a progress bar if there is to be one, and what prints a line beside it."""
    if wanted or (wanted is None and sys.stderr.isatty()):
        try:
            from tqdm import tqdm

            return tqdm(epochs, initial=epochs.start, total=epochs.stop, unit=" epochs"), tqdm.write
        except ImportError:
            if wanted:
                print(
                    "no progress bar: it comes with the extra `progress`: pip install tqdm",
                    file=sys.stderr,
                )
    return epochs, print
