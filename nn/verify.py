"""Verifier: compares compiled training with model and loss on Values, and with the update on floats.

    verifier = Verifier(MeanLoss(model, loss), program, optimizer, *representative(X, Y), generators)
    verifier.difference(stepper)  # "", or a sentence: "the loss of row 5 is 9801.0 and with Values 99.5"

A function may do things that its graph does not show: draw random numbers, look a target up, read a Value's
data. So some rows are computed with Values, and some steps with floats, at the present parameters, and
compared up to rounding. No tolerance is absolute, because data may be of any magnitude.
"""

from __future__ import annotations

import copy
import math
import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from autograd import Value, derive
from autograd.check import EPSILON, UNITS, rounding_errors
from autograd.graph import topological_order
from autograd.node import data_of
from autograd.program import Program
from autograd.program.reachable import restore, states
from autograd.program.rows import Readable, few, in_parts

from .optim import Optimizer

CLOSE = 1e-9  # relative differences up to this count as none, as a closer look would take longer
OPERATIONS_A_LOOK = 50_000  # operations with Values for all rows of a look together
STEPS, LATER_STEPS = 10, 3  # steps of the first look and of later ones, as an update may differ by step
MOST_TARGETS = 1000  # distinct targets to look at, if targets repeat
MOST_NUMBERS = 1 << 18  # of an X that is looked at as a whole; of others, rows are chosen in one pass
SAMPLE, COLUMNS = 1 << 12, 32  # rows at equal distances, and columns whose extremes are among the rows


class Verifier:
    """Compares steppers with one model, loss, data set and optimizer.

    It looks at all rows of a small data set. In a large one, it looks at each distinct target the first time,
    and every time at rows spread over targets, inputs and losses, with the largest and smallest of each. The
    rows of X and Y have the `numbers` in all of the data.
    """

    def __init__(
        self,
        mean_loss: Any,
        program: Program[..., Any],
        optimizer: Optimizer,
        X: np.ndarray,
        Y: np.ndarray,
        numbers: np.ndarray,
        generators: Sequence[Any],
    ):
        self.mean_loss, self.program, self.optimizer, self.X, self.Y = mean_loss, program, optimizer, X, Y
        self.numbers, self.generators = numbers, generators  # what the rows are called
        used = [v for array in program.leaves for v in array.flat]
        self.leaves = list({*optimizer.parameters, *used})
        place = {v: k for k, v in enumerate(used)}  # in the gradient; a 0 follows for other parameters
        self.places = np.array([place.get(p, len(used)) for p in optimizer.parameters])
        self.steps = STEPS  # how many to look at
        self.seconds = self.losses_seconds = 0.0  # of the last look, and of its part for the losses
        self.most = 0  # how many rows to look at; distinct targets come on top, the first time
        self.rows = np.arange(len(X))  # `most` rows, or all; rows chosen by their losses come on top

    def difference(self, stepper: Any, whole: bool = True) -> str:
        """The first difference as a sentence, or "" if there is none; without `whole`, of losses alone.

        Afterwards the optimizer is in the stepper's state, and all else is unchanged. An ArithmeticError that
        the compiled program raises too is no difference, because training reports the error.
        """
        start = time.perf_counter()
        state, grads = stepper.state, [v.grad for v in self.leaves]
        before = states(self.generators)
        try:
            stepper.write_back()
            rows = self._rows()
            found = self._in_losses(rows)
            self.losses_seconds = time.perf_counter() - start
            if whole and not found:
                found = self._in_gradients(stepper, rows, careful=False)
            if whole and found:
                stepper.state = state
                stepper.write_back()
                found = self._in_gradients(stepper, rows, careful=True)
            return "a random generator moves" if states(self.generators) != before else found
        except ArithmeticError:
            return ""
        finally:
            restore(self.generators, before)
            stepper.state = state
            stepper.write_back()
            for v, grad in zip(self.leaves, grads):
                v.grad = grad
            if whole:
                self.steps, self.seconds = LATER_STEPS, time.perf_counter() - start

    def differs_in_row(self, i: int) -> bool:
        """Whether a row's loss or its gradient differs with Values, at the present parameters."""
        grads = [v.grad for v in self.leaves]
        try:
            found = self._compiled(i)
            wanted, slack = self._by_values(i, careful=False, near=found)
            return not (np.abs(found - wanted) <= slack).all()
        except ArithmeticError:
            return False  # training reports the error
        except Exception:
            return True
        finally:
            for v, grad in zip(self.leaves, grads):
                v.grad = grad

    def _loss(self, i: int) -> Any:
        """The loss of a row by Values, computed from copies, because a model may write into its row."""
        y = self.Y[i]
        return self.mean_loss.of_example(self.X[i].copy(), y.copy() if y.ndim else y.item())

    def _rows(self) -> np.ndarray:
        """The rows to look at."""
        n = len(self.X)
        targets: Any = []
        if not self.most:
            order = topological_order(self._loss(0))
            operations = sum(len(v.x) if type(v.x) is tuple else 1 for v in order)
            self.most = min(max(OPERATIONS_A_LOOK // operations, 16), 256)
            if n > self.most:
                columns = self.X.T[: max(1, 2**20 // n)]  # sorting more would take long
                inputs = np.unique([row for column in columns for row in spread(column, 8)])
                targets = spread(self.Y, MOST_TARGETS)
                self.rows = np.union1d(some(inputs, self.most // 2), some(targets, self.most // 2))
                if len(targets) > n / 2:  # targets are numbers, and no classes
                    targets = []
        if n <= self.most:
            return self.rows
        losses = self.program.per_example(self.X, self.Y)
        return np.unique([*self.rows, *targets, *spread(losses, self.most // 4)]).astype(int)

    def _in_losses(self, rows: np.ndarray) -> str:
        """The first difference in the losses of these rows; it may be a rounding error."""
        for i, found in zip(rows, self.program.per_example(self.X[rows], self.Y[rows])):
            try:
                loss = self._loss(i)
            except ArithmeticError:
                return f"Values raise an error of row {self.numbers[i]}"
            except Exception as error:
                return f"row {self.numbers[i]} with Values: {one_line(error)}"
            loss = data_of(loss)
            if not abs(found - loss) <= CLOSE * abs(loss):
                return f"the loss of row {self.numbers[i]} is {found} and with Values {loss}"
        return ""

    def _in_gradients(self, stepper: Any, rows: np.ndarray, careful: bool) -> str:
        """The first difference; `careful` computes bounds of the rounding errors, which takes longer."""
        kept = []
        for i in rows:
            found = self._compiled(i)
            try:
                wanted, slack = self._by_values(i, careful, found)
            except ArithmeticError:
                self.program.value_and_grad(self.X[i : i + 1], self.Y[i : i + 1])
                return f"Values raise an error of row {self.numbers[i]} that is not found otherwise"
            except Exception as error:
                return f"row {self.numbers[i]} with Values: {one_line(error)}"
            for k in np.flatnonzero(~(np.abs(found - wanted) <= slack)):
                row = self.numbers[i]
                which = f"gradient of row {row} by parameter {k - 1}" if k else f"loss of row {row}"
                return f"the {which} is {found[k]} and with Values {wanted[k]}"
            if max(slack[1:]) <= 1e-3 * max(abs(wanted[1:])):  # else rounding may choose the side of a kink
                kept.append((i, wanted, slack))
        if not kept:
            return ""
        rows, wanted, slack = (np.array(column) for column in zip(*kept))
        loss, *gradient = np.mean(wanted, axis=0)
        return self._in_steps(stepper, rows, loss, np.array(gradient), np.mean(slack, axis=0))

    def _by_values(self, i: int, careful: bool, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A row's loss and then its gradient, and the difference that rounding may make to each.

        The difference is computed, which takes longer, only if `careful`, or if the numbers are not `near`.
        """
        parameters = self.optimizer.parameters
        loss = self._loss(i)
        if not isinstance(loss, Value):
            wanted = np.array([loss, *[0.0] * len(parameters)])
            return wanted, CLOSE * abs(wanted)
        if careful:
            slopes = derive(loss, parameters)
            error = rounding_errors(topological_order(loss, *slopes), rearranged=True)
            slack = UNITS * np.array([error[v] for v in (loss, *slopes)])
            wanted = np.array([loss.data, *(slope.data for slope in slopes)])
        else:
            for p in parameters:
                p.grad = 0.0
            loss.backward()
            wanted = np.array([loss.data, *(p.grad for p in parameters)])
            if not (np.abs(near - wanted) <= CLOSE * np.abs(wanted)).all():
                return self._by_values(i, careful=True, near=near)
            slack = np.zeros(len(wanted))
        return wanted, np.maximum(slack, CLOSE * np.abs(wanted))

    def _compiled(self, i: int) -> np.ndarray:
        """A row's loss and then its gradient, by the compiled program."""
        loss, grads = self.program.value_and_grad(self.X[i : i + 1], self.Y[i : i + 1])
        return np.concatenate([[loss], np.concatenate([*map(np.ravel, grads), [0.0]])[self.places]])

    def _in_steps(
        self, stepper: Any, rows: np.ndarray, loss: float, gradient: np.ndarray, slack: np.ndarray
    ) -> str:
        """The first difference in steps on these rows, each from the present parameters.

        The Values hold NaN while the stepper takes a step, because they are out of date in training.
        """
        optimizer, twin = self.optimizer, copy.copy(self.optimizer)
        parameters, name = optimizer.parameters, f"{type(optimizer).__name__}.update"
        data, states, steps = [p.data for p in parameters], list(optimizer.state), optimizer.steps
        own = ("steps", "_state", "_arrays")
        attributes = dict(vars(twin))
        for step in range(steps, steps + self.steps):
            for p, number, g in zip(parameters, data, gradient.tolist()):
                p.data, p.grad = number, g
            twin.state, twin.steps = list(states), step
            try:
                twin.step()
            except Exception as error:
                if isinstance(error, ArithmeticError):
                    raise
                return f"{name} with floats: {one_line(error)}"
            if any(x is not attributes.get(k) for k, x in vars(twin).items() if k not in own):
                return f"{name} changes the optimizer"
            wanted = np.array([(p.data, *state) for p, state in zip(parameters, twin.state)])
            old = np.array([(number, *state) for number, state in zip(data, states)])
            for p, number in zip(parameters, data):
                p.data = number
            optimizer.state, optimizer.steps = list(states), step
            stepper.read()
            given = stepper.state
            unchanged = pickle.dumps(given)
            for p in parameters:
                p.data = p.grad = math.nan
            losses: list[float] = []
            stepper.take(self.X[rows], self.Y[rows], len(rows), 1, losses)
            stepper.write_back()
            if pickle.dumps(given) != unchanged:
                return f"{name} changes its arguments"
            if not abs(losses[0] - loss) <= slack[0] + CLOSE * abs(loss):
                return f"the mean loss of {len(rows)} rows is {losses[0]} and with Values {loss}"
            got = np.array([(p.data, *state) for p, state in zip(parameters, optimizer.state)])
            slacks = CLOSE * np.abs(wanted - old) + 4.0 * EPSILON * (np.abs(wanted) + np.abs(old))
            for p, number, g in zip(parameters, data, gradient.tolist()):
                p.data, p.grad = number, g  # an update may read the parameters
            for i in np.flatnonzero(~_within(got, wanted, slacks).all(axis=1)):
                for shift in (slack[1 + i], -slack[1 + i]):  # the difference may be the gradient's rounding
                    moved, state = twin.update(data[i], gradient[i] + shift, states[i])
                    slacks[i] += 2.0 * np.abs(np.array([moved, *state]) - wanted[i])
                if not _within(got[i], wanted[i], slacks[i]).all():
                    texts = (" ".join(map(str, numbers.tolist())) for numbers in (old[i], got[i], wanted[i]))
                    return (
                        "step {} by {} takes parameter {} and its state from {} to {}, and with floats to {}"
                    ).format(step + 1, name, i, *texts)
            states = list(optimizer.state)
        return ""


def _within(got: np.ndarray, wanted: np.ndarray, slacks: np.ndarray) -> np.ndarray:
    return (np.abs(got - wanted) <= slacks) | ~np.isfinite(wanted)


def representative(X: Readable, Y: Readable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The examples to choose from, X and Y, and their numbers: all, if they are not too many.

    In large data these are rows at equal distances, the first with each distinct target, up to MOST_TARGETS,
    and those with the smallest and largest numbers of some columns.
    """
    n = len(X)
    if few(X, n, MOST_NUMBERS) == n:
        return X[:], Y[:], np.arange(n)
    # With these, targets that differ have other sums.
    factors = 1.0 + np.random.default_rng(0).random(Y.shape[1:])
    known: np.ndarray = np.empty(0)
    parts, extremes = [], dict[tuple[int, float], tuple[float, Any]]()
    step, most_targets = -(-n // few(X, SAMPLE)), few(X, MOST_TARGETS)
    for start, (x, y) in in_parts(X, Y):
        chosen = [np.arange(-start % step, len(x), step)]
        if len(known) <= most_targets:
            sums = (y * factors).reshape(len(y), -1).sum(axis=1)
            is_new = np.append(known, np.nan)[np.searchsorted(known, sums)] != sums
            new, first = np.unique(sums[is_new], return_index=True)
            known = np.union1d(known, new)
            chosen.append(np.flatnonzero(is_new)[first])
        for j, column in enumerate([*x.T[:COLUMNS], *y.reshape(len(y), -1).T[:COLUMNS]]):
            for sign, i in ((1.0, int(column.argmin())), (-1.0, int(column.argmax()))):
                if not sign * column[i] >= extremes.get((j, sign), (np.inf, None))[0]:
                    extremes[j, sign] = sign * column[i], (x[i : i + 1], y[i : i + 1], np.array([start + i]))
        rows = np.unique(np.concatenate(chosen))
        parts.append((x[rows], y[rows], start + rows))
    found = [np.concatenate(arrays) for arrays in zip(*parts, *(extreme for _, extreme in extremes.values()))]
    _, first = np.unique(found[2], return_index=True)
    x, y, numbers = (array[first] for array in found)
    return x, y, numbers


def spread(keys: np.ndarray, most: int) -> np.ndarray:
    """At most `most` rows with distinct keys, from the smallest key to the largest."""
    _, first = np.unique(keys, axis=0, return_index=True)
    return some(first, most)


def some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spread, with the first and the last."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def one_line(error: Exception) -> str:
    """An error's class and message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
