"""compile: a function of one example, in scalars, as a program over whole data sets.

    @autograd.compile
    def loss(x, y):
        return nn.squared_error(model(x), y)

    loss(X, Y)  # the mean over the rows
    loss.backward(X, Y)  # the same; adds its gradient to the parameters' grads
    print(loss.source)  # the matrix program that the scalars turned out to be

The function runs once, and its graph is simplified, lifted to arrays and written as NumPy source, or,
where llvmlite is installed and the graph is small, compiled to machine code.
"""

from __future__ import annotations

import functools
import inspect
import math
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tracing, value
from ..errors import gradient_anomaly
from ..graph import collector_off, operands, parents, topological_order
from ..value import Value
from .reading import Kernel, Reading
from .record import Recording, example, outputs_of

ENGINES = ("auto", "numpy", "native")


def compile(f: Any = None, *, reduce: str = "mean", engine: str = "auto") -> Any:
    """f, a function of one example, as a Program over data sets; also a decorator.

    f takes an argument for each array that the program is called with: a Value where the array has
    shape (N,), a list of Values for (N, k), a list of lists for (N, k, m). It returns a Value, or a
    list of them if it is only evaluated; of an object with a method `outputs`, as nn's models have,
    that is compiled. Values that f takes from elsewhere are live: read at every call.

    f runs once for each new shape of a row, and what it does then is the program: it may not compare
    Values or take their float(), and what it draws at random, or reads from a Value's `data`, stays
    what it was then. Overflow is sought in sums and products as they are computed here, which near
    the largest float may be another than the row's, and is found even where what follows would mask it.

    reduce: "mean" or "sum" of the rows. engine: "numpy", "native" (machine code, with the extra
    `native`), or "auto", native where that is installed and the graph is small.
    """
    if f is None:
        return functools.partial(compile, reduce=reduce, engine=engine)
    return Program(f, reduce, engine)


class Program:
    """A compiled function: see compile().

    Arrays have the examples along the first axis. Where anything on the way to a result or a gradient is
    not finite, the rows are computed with Values, and the ArithmeticError of the first that fails names
    the row too. An infinity among the data is no error where eager code makes none of it.
    """

    def __init__(self, f: Any, reduce: str = "mean", engine: str = "auto"):
        if not callable(f) or isinstance(f, Program):
            what = "one that is compiled already" if callable(f) else f"{f!r:.80}"
            raise TypeError(f"compile takes a function of one example, not {what}")
        if reduce not in ("mean", "sum"):
            raise ValueError(f'reduce is "mean" or "sum", not {reduce!r}')
        if engine not in ENGINES:
            raise ValueError(f"unknown engine {engine!r}; there are {', '.join(ENGINES)}")
        if engine == "native" and Kernel is None:
            raise ImportError("machine code needs the extra `native`: pip install llvmlite")
        self._f, self._reduce, self._engine = f, reduce, engine
        outputs = getattr(f, "outputs", None)
        self._call = outputs if callable(outputs) else f
        functools.update_wrapper(self, f, updated=())
        self._lock = threading.RLock()
        self._recordings: dict[Any, Recording] = {}  # by the shapes of a row
        self._readings: dict[Any, Reading] = {}  # by those, and its kind

    def __call__(self, *arrays: Any) -> Any:
        """The mean (or sum) over the rows, a float; of a list of outputs, an array with a row for each."""
        reading, (result,) = self._run("value", arrays)
        return result if reading.recording.listed else float(result)

    def per_example(self, *arrays: Any) -> np.ndarray:
        """What f gives for each row: shape (N,), or (N, outputs)."""
        return self._run("rows", arrays)[1][0]

    def value_and_grad(self, *arrays: Any) -> tuple[float, list[np.ndarray]]:
        """The mean (or sum), and its gradient: an array for each of `leaves`. Nothing is written."""
        _, (result, *gradient) = self._run("gradient", arrays)
        return float(result), [np.asarray(grad) for grad in gradient]

    def backward(self, *arrays: Any) -> float:
        """The mean (or sum); adds its gradient to the grad of every live leaf."""
        reading, (result, *gradient) = self._run("gradient", arrays)
        with value.backward_lock:
            for leaves, grads in zip(reading.leaves, gradient):
                for v, grad in zip(leaves.flat, grads.ravel().tolist()):
                    v._grad += grad
        return float(result)

    @property
    def leaves(self) -> list[np.ndarray]:
        """The live leaves, as arrays of Values: those that `source` takes after its data."""
        return self._latest().leaves

    @property
    def numbers(self) -> list[np.ndarray]:
        """What the live leaves hold: an array for each of `leaves`, which `function` takes after the data."""
        return self._latest().data()

    @property
    def source(self) -> str:
        """The program as Python source: its result and, of a scalar, the gradient by leaf array."""
        return self._latest().source().text()

    @property
    def graph(self) -> Any:
        """The graph that f recorded: its output, which can be drawn, or a list of them."""
        recording = self._latest().recording
        return recording.returned if recording.listed else recording.returned[0]

    def function(self, xp: Any) -> Callable[..., tuple[Any, ...]]:
        """The function of `source` for an array module: numpy, torch, jax.numpy, ...

        It takes the data and then an array for each of `leaves`, all of them that module's, and
        returns the result and the gradient by leaf array, or, of a list of outputs, (outputs,).
        """
        return self._latest().function(xp)

    def reading(self, kind: str, *arrays: Any) -> Reading:
        """What is computed for arrays like these: "rows", "value" or "gradient" (see Reading)."""
        return self._reading(kind, *self._checked(arrays))

    def __repr__(self) -> str:
        return f"<Program of {getattr(self._f, '__qualname__', self._f)}>"

    def __reduce__(self) -> Any:
        # What the decorator replaced is found under its name, as this Program; else f goes along.
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        for name in getattr(self, "__qualname__", "?").split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else (Program, (self._f, self._reduce, self._engine))

    def _latest(self) -> Reading:
        """What `source` shows, of what was recorded last."""
        with self._lock:
            if not self._recordings:
                raise RuntimeError("this program has recorded nothing yet: call it with data first")
            key = next(reversed(self._recordings))
            return self._readings.get((key, "gradient")) or self._readings[key, "rows"]

    def _checked(self, given: Sequence[Any]) -> tuple[list[np.ndarray], Any]:
        """The arrays of a call, and the shapes of their rows."""
        arrays = [a if type(a) is np.ndarray and a.dtype == np.float64 else _array(a) for a in given]
        shapes = [a.shape for a in arrays]
        if not arrays or not all(shapes) or len({shape[0] for shape in shapes}) > 1 or not shapes[0][0]:
            raise ValueError(f"{_shapes(arrays)}: they need a row for each example, and as many of them")
        return arrays, tuple([shape[1:] for shape in shapes])

    def _reading(self, kind: str, arrays: Sequence[np.ndarray], key: Any) -> Reading:
        """What was recorded for rows of these shapes; f is recorded if it has not been."""
        reading = self._readings.get((key, kind))
        if reading is None:
            with self._lock:
                reading = self._readings.get((key, kind))
                if reading is None and (key not in self._recordings or not self._recordings[key].listed):
                    self._record(arrays, key, kind)
                    reading = self._readings.get((key, kind))
        if reading is None:
            raise TypeError("this program returns a list of outputs: it has no mean, and no gradient")
        return reading

    @collector_off()
    def _record(self, arrays: Sequence[np.ndarray], key: Any, kind: str) -> None:
        if max(a.ndim for a in arrays) > 3:
            raise ValueError(f"{_shapes(arrays)}: a row is a number, a vector or a matrix")
        name = getattr(self._f, "__name__", type(self._f).__name__.lower())
        name = name if name.isidentifier() else "result"
        try:
            recording = Recording(self._call, argument_names(self._call, len(arrays)), arrays)
        except ArithmeticError as error:
            raise type(error)(f"row 0: {error}") from error
        except ValueError as error:
            raise ValueError(f"{_shapes(arrays)}: {error}") from error
        made = {}
        for each in ("rows", "value", "gradient") if not recording.listed else ("rows",):
            try:
                made[key, each] = Reading(each, recording, self._reduce, name, self._engine)
            except ArithmeticError as error:
                if each == kind:  # else it is made again when it is asked for, perhaps of another row
                    self._replay(arrays, kind == "gradient")
                    raise type(error)(f"row 0: {error}") from error
        if recording.listed:
            made[key, "value"] = made[key, "rows"]
        self._readings.update(made)
        self._recordings[key] = recording

    def _run(self, kind: str, given: Sequence[Any]) -> tuple[Reading, Sequence[Any]]:
        """A reading and its outputs for these arrays, all of them finite."""
        arrays, key = self._checked(given)
        reading = self._reading(kind, arrays, key)
        if tracing.modes:  # this is within a function that is compiled or differentiated itself
            for v in (v for leaves in reading.leaves for v in leaves.flat):
                tracing.refuse(v, "runs a program over")
        outputs: Sequence[Any]
        if reading.native:
            outputs = reading.run_native(arrays)
            if _finite(outputs):
                return reading, outputs
        data = reading.data()
        for fast in (True, False):
            try:
                outputs = _raising(reading.run_numpy, arrays, data, fast)
            except FloatingPointError:
                continue
            if _finite(outputs):
                return reading, outputs
        self._replay(arrays, kind == "gradient")  # which says what was wrong, and in which row
        with np.errstate(all="ignore"):
            outputs = reading.run_numpy(arrays, data, fast=False)
        if _finite(outputs):
            return reading, outputs
        raise OverflowError("the result of each row is finite, but they overflow when added")

    def _replay(self, arrays: Sequence[np.ndarray], gradient: bool) -> None:
        """Compute row by row with Values, up to the first error."""
        names = argument_names(self._call, len(arrays))
        share = 1.0 / len(arrays[0]) if self._reduce == "mean" else 1.0
        for i in range(len(arrays[0])):
            try:
                inputs = [example(name, a[i]) for name, a in zip(names, arrays)]
                (output, *_), _ = outputs_of(self._call, inputs)
                if gradient and isinstance(output, Value):
                    _differentiate(output, {v for leaves in inputs for v in leaves.flat}, share)
            except ArithmeticError as error:
                raise type(error)(f"row {i}: {error}") from error


def _differentiate(output: Value, inputs: set[Value], seed: float) -> None:
    """Raise what output.backward() would, but for gradients that lead to the inputs alone."""
    needed: dict[Value, None] = {}
    for v in topological_order(output):
        if (not v.row and v not in inputs) or not needed.keys().isdisjoint(parents(v)):
            needed[v] = None
    order = list(needed)
    with value.backward_lock:
        before = [v._grad for v in order]
        try:
            for v in order:
                v._grad = 0.0
            output._grad = seed
            for v in reversed(order):
                if not math.isfinite(v._grad):
                    raise gradient_anomaly(v, order)
                for p, partial in operands(v):
                    if partial is not None:
                        p._grad += v._grad * partial
        finally:
            for v, grad in zip(order, before):
                v._grad = grad


def _array(given: Any) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:
        raise ValueError("the rows of an array differ in length") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a program takes arrays of real numbers, not of {array.dtype}")
    return array.astype(float)


def _shapes(arrays: Sequence[np.ndarray]) -> str:
    return f"arrays of shapes {', '.join(str(array.shape) for array in arrays)}" if arrays else "no arrays"


@np.errstate(over="raise", divide="raise", invalid="raise")  # as a decorator it takes a third of the time
def _raising(f: Callable[..., Any], *given: Any) -> Any:
    return f(*given)


@np.errstate(all="ignore")
def _finite(outputs: Sequence[Any]) -> bool:
    numbers = [x.ravel() for x in outputs]
    flat = numbers[0] if len(numbers) == 1 else np.concatenate(numbers)
    # Looked at first, as it takes a fifth of the time: it is finite unless a number is above 1e154.
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def argument_names(f: Callable[..., Any], n: int) -> list[str]:
    """The names of f's first n arguments; x3 for the fourth of those that it does not name."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (names + [f"x{i}" for i in range(len(names), n)])[:n]
