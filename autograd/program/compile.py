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

from .. import value
from ..derive import derive
from ..graph import topological_order
from ..value import Value
from .emit import FAST, HELPERS, Source
from .lift import Lifted
from .record import Recording, example, outputs_of
from .simplify import simplify

ENGINES = ("auto", "numpy", "native")


def compile(f: Any = None, *, reduce: str = "mean", engine: str = "auto") -> Any:
    """f, a function of one example, as a Program over data sets; also a decorator.

    f takes an argument for each array that the program is called with: a Value where the array has
    shape (N,), a list of Values for (N, k), a list of lists for (N, k, m). It returns a Value, or a
    list of them if it is only evaluated; an object with a method `outputs`, as nn's models have,
    counts as that function. Values that f takes from elsewhere are live: read at every call.

    f runs once for each new shape of a row, and what it does then is the program: it may not compare
    Values or take their float(), and numbers that it reads from a Value's `data` are constants.

    reduce: "mean" or "sum" of the rows. engine: "numpy", "native" (machine code, with the extra
    `native`), or "auto", native where that is installed and the graph is small.
    """
    if f is None:
        return functools.partial(compile, reduce=reduce, engine=engine)
    return Program(f, reduce, engine)


class Program:
    """A compiled function: see compile().

    Arrays have the examples along the first axis. A row whose result is not finite raises the
    ArithmeticError that f raises for it, which names the row as well.
    """

    def __init__(self, f: Any, reduce: str = "mean", engine: str = "auto"):
        if not callable(f):
            raise TypeError(f"compile takes a function of one example, not {f!r:.80}")
        if reduce not in ("mean", "sum"):
            raise ValueError(f'reduce is "mean" or "sum", not {reduce!r}')
        if engine not in ENGINES:
            raise ValueError(f"unknown engine {engine!r}; there are {', '.join(ENGINES)}")
        self._f, self._reduce, self._engine = f, reduce, engine
        self._call = getattr(f, "outputs", f)
        functools.update_wrapper(self, f, updated=())
        self._lock = threading.RLock()
        self._recordings: dict[Any, _Recorded] = {}

    def __call__(self, *arrays: Any) -> Any:
        """The mean (or sum) over the rows, a float; of a list of outputs, an array with a row for each."""
        arrays, recorded = self._recorded(arrays)
        if recorded.listed:
            return self._run(recorded.reading("rows"), arrays)[0]
        return float(self._run(recorded.reading("value"), arrays)[0])

    def per_example(self, *arrays: Any) -> np.ndarray:
        """What f gives for each row: shape (N,), or (N, outputs)."""
        arrays, recorded = self._recorded(arrays)
        return self._run(recorded.reading("rows"), arrays)[0]

    def value_and_grad(self, *arrays: Any) -> tuple[float, list[np.ndarray]]:
        """The mean (or sum), and its gradient: an array for each of `leaves`. Nothing is written."""
        arrays, recorded = self._recorded(arrays)
        result, *gradient = self._run(recorded.reading("gradient"), arrays)
        return float(result), gradient

    def backward(self, *arrays: Any) -> float:
        """The mean (or sum); adds its gradient to the grad of every live leaf."""
        arrays, recorded = self._recorded(arrays)
        reading = recorded.reading("gradient")
        result, *gradient = self._run(reading, arrays)
        with value.backward_lock:
            for leaves, grads in zip(reading.leaves, gradient):
                for v, grad in zip(leaves.flat, grads.ravel().tolist()):
                    v.grad += grad
        return float(result)

    @property
    def leaves(self) -> list[np.ndarray]:
        """The live leaves, as arrays of Values: those that `source` takes after its data."""
        return self._latest().main.leaves

    @property
    def source(self) -> str:
        """The program as Python source: its result and, of a scalar, the gradient by leaf array."""
        return self._latest().main.source.text(HELPERS)

    @property
    def graph(self) -> Any:
        """The graph that f recorded: its output, which can be drawn, or a list of them."""
        recorded = self._latest()
        return recorded.recording.outputs if recorded.listed else recorded.recording.outputs[0]

    def function(self, xp: Any) -> Callable[..., tuple[Any, ...]]:
        """The function of `source` for an array module: numpy, torch, jax.numpy, ...

        It takes the data and then an array for each of `leaves`, all of them that module's, and
        returns the result and the gradient by leaf array, or, of a list of outputs, (outputs,).
        """
        return self._latest().main.function(xp, HELPERS)

    def __repr__(self) -> str:
        return f"<Program of {getattr(self._f, '__qualname__', self._f)}>"

    def __reduce__(self) -> Any:
        # What the decorator replaced is found under its name, as this Program; else f goes along.
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        for name in getattr(self, "__qualname__", "?").split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else (Program, (self._f, self._reduce, self._engine))

    def _latest(self) -> _Recorded:
        if not self._recordings:
            raise RuntimeError("this program has recorded nothing yet: call it with data first")
        return next(reversed(self._recordings.values()))

    def _recorded(self, given: Sequence[Any]) -> tuple[list[np.ndarray], _Recorded]:
        """The arrays of a call, and what was recorded for rows of their shapes."""
        arrays = [a if type(a) is np.ndarray and a.dtype == float else _array(a, given) for a in given]
        shapes = [a.shape for a in arrays]
        recorded = self._recordings.get(tuple([shape[1:] for shape in shapes]))
        if not arrays or not all(shapes) or len({shape[0] for shape in shapes}) > 1 or not shapes[0][0]:
            raise ValueError(f"{_shapes(arrays)}: they need a row for each example, and as many of them")
        return arrays, recorded or self._record(arrays)

    def _record(self, arrays: list[np.ndarray]) -> _Recorded:
        key = tuple(array.shape[1:] for array in arrays)
        with self._lock:
            if key not in self._recordings:
                if max(map(len, key)) > 2:
                    raise ValueError(f"{_shapes(arrays)}: a row is a number, a vector or a matrix")
                names = _argument_names(self._call, len(arrays))
                try:
                    recording = Recording(self._call, names, arrays)
                except ArithmeticError as error:
                    raise type(error)(f"row 0: {error}") from error
                except ValueError as error:
                    raise ValueError(f"{_shapes(arrays)}: {error}") from error
                self._recordings[key] = _Recorded(recording, self._reduce, self._name(), self._lock)
            return self._recordings[key]

    def _name(self) -> str:
        name = getattr(self._f, "__name__", type(self._f).__name__.lower())
        return name if name.isidentifier() else "result"

    def _run(self, reading: Reading, arrays: list[np.ndarray]) -> list[Any]:
        """The reading's outputs for these rows, all finite."""
        for helpers in (FAST, HELPERS):
            try:
                with np.errstate(over="raise", divide="raise", invalid="raise"):
                    outputs = reading(arrays, helpers)
                if _finite(outputs):
                    return outputs
            except FloatingPointError:
                continue
            break
        self._replay(arrays, reading.kind == "gradient")  # which says what was wrong, and where
        with np.errstate(all="ignore"):
            outputs = reading(arrays, HELPERS)
        if _finite(outputs):
            return outputs  # something on the way was not, that no Value stands for
        raise OverflowError("each row is finite, but they overflow when added")

    def _replay(self, arrays: list[np.ndarray], gradient: bool) -> None:
        """Compute row by row with Values, up to the first error."""
        names = _argument_names(self._call, len(arrays))
        for i in range(len(arrays[0])):
            try:
                outputs = outputs_of(self._call, [example(name, a[i]) for name, a in zip(names, arrays)])[0]
                if gradient:
                    derive(outputs[0], [v for v in topological_order(outputs[0]) if not v.op])
            except ArithmeticError as error:
                raise type(error)(f"row {i}: {error}") from error


class _Recorded:
    """A recording and its readings, each made when it is first asked for."""

    def __init__(self, recording: Recording, reduce: str, name: str, lock: Any):
        self.recording, self.listed = recording, recording.listed
        self._reduce, self._name, self._lock = reduce, name, lock
        self._readings: dict[str, Reading] = {}

    def reading(self, kind: str) -> Reading:
        reading = self._readings.get(kind)
        if reading is None:
            if self.listed and kind != "rows":
                raise TypeError("this program returns a list of outputs: it has no mean, and no gradient")
            with self._lock:
                reading = self._readings.get(kind) or Reading(kind, self.recording, self._reduce, self._name)
                self._readings[kind] = reading
        return reading

    @property
    def main(self) -> Reading:
        return self.reading("rows" if self.listed else "gradient")


class Reading:
    """One thing to compute from a recording: "rows", what it gives for each; "value", their mean or sum;
    or "gradient", that and its gradient. `leaves` are the live leaves, as arrays.
    """

    def __init__(self, kind: str, recording: Recording, reduce: str, name: str):
        self.kind = kind
        inputs = [v for leaves in recording.inputs for v in leaves.flat]
        gradient: dict[Value, Any] = {}
        adjoints: dict[Value, Any] = {}
        if kind == "rows":
            outputs = recording.outputs
        elif kind == "value":
            outputs = [recording.result(reduce)]
        else:
            result, gradient, adjoints = recording.gradient(reduce)
            outputs = [result]
        became = simplify([*outputs, *gradient.values()], inputs, recording.rows)
        wanted = [became.get(v, v) for v in (*outputs, *gradient.values())]
        lifted = Lifted([v for v in wanted if isinstance(v, Value)], recording.inputs, recording.rows)
        arrays = [array for array in lifted.arrays if array.op == "leaf"]
        shape = (len(outputs),) if recording.listed else ()
        first = lifted.stacked(shape, [became.get(v, v) for v in outputs], by_row=kind == "rows")
        rest = []
        if kind == "gradient":
            for array in arrays:
                grads = [gradient.get(v, 0.0) for v in array.data.flat]
                rest.append(lifted.stacked(array.shape, [became.get(g, g) for g in grads]))
        pairs = [(became.get(v), became.get(adjoint)) for v, adjoint in adjoints.items()]
        title = name if kind == "value" else f"{name}_gradient" if kind == "gradient" else f"{name}_of_rows"
        self.source = Source(title, name, lifted, recording.names, arrays, first, rest, pairs)
        self.leaves = [array.data for array in arrays]
        self._functions: dict[int, Callable[..., Any]] = {}

    def function(self, xp: Any, helpers: dict[str, str]) -> Callable[..., Any]:
        namespace: dict[str, Any] = {}
        exec(self.source.text(helpers), namespace)
        constants = [self.source.constants] if self.source.constants else []
        return namespace["program"](xp, *constants)

    def __call__(self, arrays: list[np.ndarray], helpers: dict[str, str]) -> list[np.ndarray]:
        """The outputs, with the data that the leaves have now."""
        function = self._functions.get(id(helpers))
        if function is None:
            function = self._functions[id(helpers)] = self.function(np, helpers)
        data = [np.array([v.data for v in leaves.flat]).reshape(leaves.shape) for leaves in self.leaves]
        return [np.asarray(output) for output in function(*arrays, *data)]  # a few are plain numbers


def _array(given: Any, everything: Sequence[Any]) -> np.ndarray:
    try:
        array = np.asarray(given)
    except ValueError:
        raise ValueError("the rows of an array differ in length") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a program takes arrays of real numbers, not of {array.dtype}")
    return array.astype(float)


def _shapes(arrays: Sequence[np.ndarray]) -> str:
    return f"arrays of shapes {', '.join(str(array.shape) for array in arrays)}" if arrays else "no arrays"


def _finite(outputs: Sequence[Any]) -> bool:
    # Not finite, or large enough to overflow here: both are looked into. isfinite would take longer.
    return all(math.isfinite(np.add.reduce(x, axis=None)) for x in outputs)


def _argument_names(f: Callable[..., Any], n: int) -> list[str]:
    """The names of f's first n arguments; x3 for the fourth of those that it does not name."""
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        parameters = ()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (names + [f"x{i}" for i in range(len(names), n)])[:n]
