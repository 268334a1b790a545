"""compile: a function of one example, in scalars, as a program over whole data sets.

    @autograd.compile
    def loss(x, y):
        return nn.squared_error(model(x), y)

    loss(X, Y)  # the mean over the rows
    loss.backward(X, Y)  # the mean again; adds its gradient to the parameters' grads
    print(loss.source)  # the matrix program that the scalars turned out to be

The function is recorded, and its graph simplified, lifted to arrays and written as NumPy source, or,
where llvmlite is installed and the graph is small, compiled to machine code.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import operator
import os
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    get_args,
    overload,
)

import numpy as np

from .. import tracing, value
from ..files import PrivateFolder
from ..graph import collector_off
from ..locks import new_lock
from ..notebook import preformatted
from ..value import Array, Traced, Value, number
from .array_api import Source
from .batches import PIECE, Data, are_batches, first_of_batches, loaded, over_batches
from .c_source import CSource
from .evaluation import Block, Evaluation, of_row, place, refuse_index, replay, tried
from .matrices import Matrices
from .record import Call, example, is_alike, is_index, outputs_of
from .rows import FLOAT, MASKED, Readable, few, has_masked, read, readable
from .scalars import Scalars, formed
from .variant import SMALLEST_BLOCK, Kernel, Passes, Variant, through

Engine = Literal["auto", "numpy", "native"]
Reduction = Literal["mean", "sum"]
Kind = Literal["rows", "value", "gradient"]  # see Variant
REALS = {"float64": "double", "float32": "float"}  # in C
MOST_RECORDED = 1 << 13  # rows that recording sees
P = ParamSpec("P")
Q = ParamSpec("Q")
Result = TypeVar("Result", covariant=True)  # of f


class Decorator(Protocol):
    """The type of compile(reduce=..., engine=...)."""

    def __call__(self, f: Callable[P, Result], /) -> Program[P, Result]: ...


@overload
def compile(
    f: Callable[P, Result],
    *,
    reduce: Reduction = "mean",
    engine: Engine = "auto",
    cache: str | os.PathLike[str] | None = None,
) -> Program[P, Result]: ...
@overload
def compile(
    *, reduce: Reduction = "mean", engine: Engine = "auto", cache: str | os.PathLike[str] | None = None
) -> Decorator: ...
def compile(
    f: Any = None,
    *,
    reduce: Reduction = "mean",
    engine: Engine = "auto",
    cache: str | os.PathLike[str] | None = None,
) -> Any:
    """f, a function of one example, as a Program over data sets; also a decorator.

    f takes an argument for each array that the program is called with, by place or by name: a Value where
    the array has shape (N,), an array of Values of shape (k,) for (N, k), of shape (k, m) for (N, k, m), ...
    f returns a Value or, if no gradient is wanted, lists, tuples, dicts or arrays of Values; one output of an
    object with a method `outputs`, as nn's models have, is a list too. Values that f takes from elsewhere are
    live: their data are read at every call. A method in a class is compiled for each instance.

    f runs twice for each new shape of a row, on the first row and the last, and the graph is the program.
    While it runs, a comparison of Values gives a condition for `where`, and `x.data` is `x.detach()`. Whole
    numbers of a row can be indices, as in table[int(x)]: f then runs for each of their values. A TypeError
    says where f branches on Values, reads their grads, draws random numbers or looks a number up, or where
    the graphs differ otherwise; an IndexError says which row has no element in a table. Overflow is an error
    even where later operations would mask it. Sums and products are computed in another order than in f, so
    that numbers near the largest float may overflow in only one of the two.

    The derivative of an elementwise function over a large array is a program too, with a row for each number,
    and as fast as NumPy by hand:

        slope = autograd.compile(autograd.grad(lambda x: np.sin(x) * np.exp(-x * x)))
        slope.per_example(np.linspace(-3.0, 3.0, 1_000_000))  # f'(x) for each x

    reduce: "mean" or "sum" of the rows. engine: "numpy", "native" (machine code, with the extra `native`), or
    "auto": NumPy at first, and machine code where the extra is installed and the calls take so long that it
    pays. It is made in the background, and takes over at a call that depends on the program and on the shapes
    of the data alone: a run repeats to the last bit. cache: a folder that keeps machine code for later
    processes; it is made if there is none, and refused with a PermissionError if others can write to it.

    >>> w = Value(3.0, "w")
    >>> @autograd.compile
    ... def loss(x, y):
    ...     return (w * x - y) ** 2
    >>> X, Y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])
    >>> print(f"{loss(X, Y):.4f}")  # the mean over the rows
    4.6667
    >>> print(f"{loss.backward(X, Y):.4f}, {w.grad:.4f}")  # adds the gradient to w.grad
    4.6667, 9.3333
    """
    if f is None:
        return functools.partial(compile, reduce=reduce, engine=engine, cache=cache)
    return Program(f, reduce, engine, cache)


class Recorded(NamedTuple):
    """The graph that f gave, its matrices, the live leaves, and the data, by argument, for matrices.run."""

    graph: Any
    matrices: Matrices
    leaves: list[np.ndarray]
    data: dict[str, np.ndarray]


class Program(Generic[P, Result]):
    """A compiled function: see compile().

    Arrays have the examples along the first axis. They may be outside of memory: np.memmap, a data set of
    HDF5, Zarr or Dask, anything with `shape`, `dtype` and slices. Rows are read in blocks, on as many threads
    as set_threads allows. An executor changes no bit of a result if the engine is "numpy" or "native"; for
    "auto" it has machine code at once.

    Instead of arrays, a call takes batches: a list or an iterator of tuples of arrays, or of functions of no
    arguments that load one. An `executor`, which has a method submit as those of concurrent.futures, loky and
    Dask have, gets the batches, or pieces of the arrays. Its workers need this package; they get source or
    machine code, the numbers of the leaves, and the batch. A function is called by the worker, so that no
    data are sent. A batch must not be a future of data that are on a worker, as they would be lost with it
    (TypeError).

    If anything on the way to a result or a gradient is not
    finite, the first row that fails is computed again with Values, and their ArithmeticError then names the
    row or a NaN among its data. NaN in the data is an error if a result depends on it; an infinity is an
    error where it is one in eager code. Arrays that a call returns are the caller's own.

    >>> square = autograd.compile(lambda x: x**2)
    >>> square(np.array([1.0, 3.0])), square.per_example(np.array([1.0, 3.0]))
    (5.0, array([1., 9.]))
    >>> square((np.array([x]),) for x in (1.0, 3.0))  # batches of one row each
    5.0
    """

    passes: Passes  # see the package
    explain: Callable[..., Any]  # see autograd/learn

    def __init__(
        self,
        f: Callable[P, Any],
        reduce: Reduction = "mean",
        engine: Engine = "auto",
        cache: str | os.PathLike[str] | None = None,
    ):
        if not callable(f) or isinstance(f, Program):
            what = "one that is compiled already" if callable(f) else f"{f!r:.80}"
            raise TypeError(f"compile takes a function of one example, not {what}")
        if reduce not in get_args(Reduction):
            raise ValueError(f'reduce is "mean" or "sum", not {reduce!r}')
        if engine not in get_args(Engine):
            raise ValueError(f"unknown engine {engine!r}; there are {', '.join(get_args(Engine))}")
        if engine == "native" and Kernel is None:
            raise ImportError("machine code needs the extra `native`: pip install llvmlite")
        self._f: Any = f
        self.reduce, self._engine = reduce, engine
        self._cache = None if cache is None else os.fspath(cache)
        if self._cache is not None:
            PrivateFolder(self._cache)  # raises its errors now
        self._call = _listing(f) if callable(getattr(f, "outputs", None)) else f
        functools.update_wrapper(self, f, updated=())
        self._memory = _Memory()
        self._of_instances: dict[int, _Memory] = {}

    # Calls take arrays where f takes Values, and no type can say so: each method has the signature of f, for
    # editors to show, and one of arrays.

    @overload
    def __call__(
        self: Program[P, Sequence[Any] | Array | Mapping[str, Any]],
        *arrays: Data,
        executor: Any = None,
        **named: Data,
    ) -> Any: ...
    @overload
    def __call__(self: Program[P, Value | float], *arrays: P.args, **named: P.kwargs) -> float: ...
    @overload
    def __call__(
        self: Program[P, Value | float], *arrays: Data, executor: Any = None, **named: Data
    ) -> float: ...
    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The mean (or sum) over the rows, a float; if f returns a list, its outputs for each row."""
        variant, results = self._run("value", arrays, named)
        return formed(variant.scalars.form, iter(results)) if variant.listed else float(results[0])

    @overload
    def per_example(self, *arrays: P.args, **named: P.kwargs) -> Any: ...
    @overload
    def per_example(self, *arrays: Data, executor: Any = None, **named: Data) -> Any: ...
    def per_example(self, *arrays: Any, **named: Any) -> Any:
        """The result of f for each row: shape (N,) or, if f returns an array or nested lists, (N, ...).

        A list or tuple of parts with several shapes gives a list or tuple of such arrays, and a dict gives a
        dict of arrays. A program without data has no axis N.
        """
        variant, results = self._run("rows", arrays, named)
        return formed(variant.scalars.form, iter(results))

    @overload
    def value_and_grad(self, *arrays: P.args, **named: P.kwargs) -> tuple[float, list[Array]]: ...
    @overload
    def value_and_grad(
        self, *arrays: Data, executor: Any = None, **named: Data
    ) -> tuple[float, list[Array]]: ...
    def value_and_grad(self, *arrays: Any, **named: Any) -> tuple[float, list[np.ndarray]]:
        """The mean (or sum), and its gradient: an array for each of `leaves`. Nothing is written."""
        _, (result, *gradient) = self._run("gradient", arrays, named)
        return float(result), gradient

    @overload
    def backward(self, *arrays: P.args, **named: P.kwargs) -> float: ...
    @overload
    def backward(self, *arrays: Data, executor: Any = None, **named: Data) -> float: ...
    def backward(self, *arrays: Any, **named: Any) -> float:
        """The mean (or sum); adds its gradient to the grad of every live leaf."""
        variant, (result, *gradient) = self._run("gradient", arrays, named)
        with value.backward_lock:
            for v, grad in zip(variant.live, [x for grads in gradient for x in grads.ravel().tolist()]):
                v._grad += grad
        return float(result)

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Program[P, Result]: ...
    @overload
    def __get__(
        self: Program[Concatenate[Any, Q], Result], instance: object, owner: Any = None
    ) -> Program[Q, Result]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """The program of a method, for its instance; the recordings live as long as the instance."""
        bind = getattr(type(self._f), "__get__", None)
        if instance is None or bind is None:
            return self
        bound: Program[Any, Any] = Program(
            bind(self._f, instance, owner), self.reduce, self._engine, self._cache
        )
        key = id(instance)
        with self._memory.lock:
            if key not in self._of_instances:
                try:
                    weakref.finalize(instance, self._of_instances.pop, key).atexit = False
                except TypeError:
                    raise TypeError(
                        "compile keeps a program for each object: add '__weakref__' to the __slots__ of"
                        f" {type(instance).__name__}"
                    ) from None
                self._of_instances[key] = bound._memory
            bound._memory = self._of_instances[key]
        return bound

    @property
    def leaves(self) -> list[np.ndarray]:
        """The live leaves, as arrays of Values, which `source` takes after the data."""
        return [array.copy() for array in self._latest().leaves]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of `leaves`."""
        return [array.shape for array in self._latest().leaves]

    @property
    def numbers(self) -> list[np.ndarray]:
        """The numbers of `leaves`, an array for each: `function` takes them after the data.

        They can be set, to such arrays of NumPy, PyTorch or JAX: all Values get their numbers, or none.
        Raises ValueError for too few or too many arrays, or another shape, and TypeError for an array that
        holds anything but real numbers.

        >>> w = Value(3.0, "w")
        >>> loss = autograd.compile(lambda x: (w * x) ** 2).for_rows_of(())
        >>> loss.numbers, loss.shapes
        ([array(3.)], [()])
        >>> loss.numbers = [np.array(2.0)]
        >>> w.data
        2.0
        """
        variant = self._latest()
        return variant.data(variant.state().copy())

    @numbers.setter
    def numbers(self, numbers: Iterable[Data]) -> None:
        variant, arrays = self._latest(), list(numbers)
        names = [variant.names.of[leaf] for leaf in variant.lifted.leaves]
        expected = ", ".join(f"{name} {shape}" for name, shape in zip(names, self.shapes)) or "none"
        if len(arrays) != len(names):
            raise ValueError(f"{len(arrays)} arrays for {len(names)} arrays of leaves: {expected}")
        checked = []
        for name, shape, given in zip(names, self.shapes, arrays):
            tensor: Any = given  # of PyTorch, perhaps with a gradient, of half precision or on a device
            is_tensor = hasattr(tensor, "detach") and hasattr(tensor, "cpu")
            array = _array(name, tensor.detach().cpu().double() if is_tensor else given)
            if array.shape != shape:
                raise ValueError(
                    f"{name} has the shape {shape}, not {array.shape}: the leaves are {expected}"
                )
            checked += array.ravel().tolist()
        for v, x in zip(variant.live, checked):
            v.data = x

    def for_rows_of(self, *shapes: Any, **named: Any) -> Program[P, Result]:
        """Record f for rows of these shapes before there are data, and return this program.

        A shape is that of one row of an argument: () for a number, (2,) or 2 for two. Then `leaves`,
        `numbers`, `source` and `function` are there. f runs on two rows of distinct numbers: one rises
        between 0 and 1, one falls between 2 and 1. Numbers used as indices are 0, and f is recorded for all
        indices of their tables. Raises ArithmeticError if f fails for both rows, and ValueError if a loss
        refuses their numbers, as binary_cross_entropy does: call the program with your data instead.

        >>> model = nn.MLP(2, [4, 1])
        >>> loss = autograd.compile(lambda x, y: nn.squared_error(model(x), y)).for_rows_of((2,), ())
        >>> loss.shapes
        [(4, 2), (4,), (4,), ()]
        """
        sizes = [_shape_of_row(shape) for shape in (*shapes, *named.values())]
        n = sum(map(math.prod, sizes))
        rising = np.arange(1.0, n + 1.0) / (n + 1.0)
        flat = iter(np.split(np.stack([rising, 2.0 - rising]), np.cumsum([*map(math.prod, sizes)]), axis=1))
        examples = [next(flat).reshape(2, *size) for size in sizes]
        given, key = self._checked(examples[: len(shapes)], dict(zip(named, examples[len(shapes) :])))
        arrays = [array[:].copy() for array in given]
        while True:
            try:
                self._variant("gradient", arrays, key)
            except TypeError:
                if key in self._memory.recordings:  # it returns a list
                    break
                if not self._zero_indices(arrays, key):
                    raise
            except (ArithmeticError, ValueError) as error:
                advice = "for_rows_of has numbers between 0 and 2: call the program with your data instead"
                raise type(error)(f"{error}; {advice}") from error
            else:
                break
        with self._memory.lock:  # it is the latest now, also where it was recorded before
            self._memory.recordings[key] = self._memory.recordings.pop(key)
        return self

    def _zero_indices(self, arrays: Sequence[np.ndarray], key: Any) -> bool:
        """Set the numbers to 0 that f uses as indices, and say whether there are others than before."""
        f, names = self._named(key, len(arrays))
        found = False
        for row in (0, 1):
            leaves = [example(name, array[row], Traced) for name, array in zip(names, arrays)]
            with contextlib.suppress(Exception), tracing.tracing(tracing.COMPILE):
                outputs_of(f, leaves)
            for array, of_array in zip(arrays, leaves):
                for index, v in np.ndenumerate(of_array):
                    if is_index(v) and array[(0, *index)] != 0.0:
                        array[(slice(None), *index)], found = 0.0, True
        return found

    @property
    def source(self) -> str:
        """The program as Python source: the result and, if f has one output, the gradient by leaf array."""
        return str(Source(self._latest().names))

    def show(self, stage: str = "print") -> None:
        """Print the result of a pass for the latest recording: "record", "simplify", ..., "lift", "print".

        autograd.program.PASSES has all passes. f is recorded anew, with its leaves as they are now.
        """
        if stage not in self.passes:
            raise ValueError(f"unknown pass {stage!r}; there are {', '.join(self.passes)}")
        latest, key = self._latest(), self._latest_key()
        shown: Any = self._call_of(self._memory.samples[key], key)
        for name, each in self.passes.items():
            shown = each(replace(shown, kind=latest.kind) if name == "differentiate" else shown)
            if name == stage:
                break
        print(shown)

    @property
    def matrices(self) -> Matrices:
        """The arrays of `source`: the place of a Value in them, and how each entry is computed."""
        return Matrices(self._latest().names)

    def recorded(self, *arrays: Any, **named: Any) -> Recorded:
        """The graph and the matrices that compute the gradient for these arrays."""
        given, key = self._checked(arrays, named)
        variant = self._variant("gradient", given, key)
        data = dict(zip(self._named(key, len(given))[1], [read(a, 0, len(a)) for a in given]))
        return Recorded(
            self._memory.recordings[key].outputs[0], Matrices(variant.names), variant.leaves, data
        )

    def example(self, row: int, *arrays: Any, **named: Any) -> tuple[Any, dict[str, np.ndarray]]:
        """f of one row of these arrays, in eager code: its Value or list of Values, and the row's leaves.

        The leaves are arrays of Values by argument, labelled x[0], x[1], ...
        """
        given, key = self._checked(arrays, named)
        f, names = self._named(key, len(given))
        leaves = [example(name, array[row], Traced) for name, array in zip(names, given)]
        outputs, form = outputs_of(f, leaves)
        return outputs if form != () else outputs[0], dict(zip(names, leaves))

    def is_alike(self, *arrays: Any) -> bool:
        """Whether f, recorded again for these arrays, gives the graph of before; what f reads may change."""
        given, key = self._checked(arrays, {})
        recorded = self._memory.recordings.get(key)
        return recorded is not None and is_alike(recorded, self._call_of(given, key))

    @property
    def graph(self) -> Any:
        """The graph that f recorded: its output, which can be drawn, or a list of them."""
        recording = self._memory.recordings[self._latest_key()]
        return recording.outputs if recording.listed else recording.outputs[0]

    def function(self, xp: Any) -> Callable[..., tuple[Any, ...]]:
        """The function of `source` for an array module: numpy, torch, jax.numpy, dask.array, ...

        The function takes the data and then an array for each of `leaves`, all of that module. It returns
        the result and the gradient by leaf array or, if f returns a list, its outputs for each row.

        If a number on the way to the results is not finite, or an index has no element, NumPy's function
        raises a FloatingPointError or the IndexError of a call. Functions of other modules may be traced
        (jax.jit, torch.compile) or run later (Dask), and cannot raise: there the results that depend on such
        a number are NaN or infinite. So a finite result hides nothing. value_and_grad of the same data raises
        the error that names the row and the reason.

        >>> w = Value(3.0, "w")
        >>> run = autograd.compile(lambda x: (w * x) ** 2).for_rows_of(()).function(np)
        >>> print(*run(np.array([1.0, 2.0]), np.array(3.0)))
        22.5 15.0
        """
        variant = self._latest()
        if xp is not np:
            return variant.function(xp, nan=True)
        count, rows_of = len(variant.scalars.names), tuple(a.shape for a in variant.scalars.inputs)

        def function(*arrays: Any) -> tuple[Any, ...]:
            given, key = self._checked(arrays[:count], {})
            if key != rows_of:
                raise ValueError(f"{_shapes(given)}: this function is for rows of shapes {rows_of}")
            n = len(given[0]) if given else 1

            def run(first: int, rows: Sequence[np.ndarray]) -> Sequence[Any]:
                if not variant.has_indices(rows):
                    refuse_index(variant, Block(rows, first, n))
                for fast in (True, False):
                    by_numpy = functools.partial(variant.run_raising, data=arrays[count:], fast=fast)
                    if (outputs := tried(by_numpy, rows)) is not None:
                        return outputs
                raise FloatingPointError(
                    "a result, or a number on the way to it, is not finite: value_and_grad of the program, or"
                    " per_example, names the row and the reason for the same data"
                )

            return tuple(variant.in_blocks(run, given, native=False))

        return function

    def c_source(
        self,
        kind: Kind | None = None,
        dtype: Literal["float64", "float32"] = "float64",
        weights: bool = False,
    ) -> str:
        """The program as one C99 file that needs <math.h> alone, for microcontrollers too.

        kind: "rows" for the result of f for each row, "value" for the mean (or sum), "gradient" for that and
        its gradient by leaf array; by default, what `source` shows. dtype: "float64" or "float32", C's double
        or float. If `weights`, the leaves are constants with their present numbers, and else arguments.

        A comment has the shapes of the arguments: the number of rows, the data, the leaves, and the arrays
        to write, which may not overlap others. The function allocates nothing and keeps no state: up to 8,192
        numbers to work on are on the stack, and more are an argument. It does not notice numbers that are not
        finite, nor an index beyond its table, which gives 0. Raises NotImplementedError for primitives that
        <math.h> has no function for: polygamma, and users' own.

        >>> b = Value(0.5, "b")
        >>> @autograd.compile
        ... def line(x):
        ...     return 2.0 * x + b
        >>> line(np.array([1.0]))
        2.5
        >>> print(line.c_source("rows", weights=True).partition("<stddef.h>")[2].strip())
        static const double b = 0.5;
        <BLANKLINE>
        void line_of_rows(size_t n, const double *x, double *restrict line)
        {
            for (size_t row = 0; row < n; row++) {
                line[row] = (2.0 * x[row]) + b;
            }
        }
        """
        if kind is not None and kind not in get_args(Kind):
            raise ValueError(f"unknown kind {kind!r}; there are {', '.join(get_args(Kind))}")
        if dtype not in REALS:
            raise ValueError(f"dtype is {' or '.join(map(repr, REALS))}, not {dtype!r}")
        variant = self._variant(kind, self._sample(), self._latest_key()) if kind else self._latest()
        return str(CSource(variant.names, REALS[dtype], variant.data() if weights else None))

    def variant(self, kind: str, *arrays: Any) -> Variant:
        """The variant for arrays like these: "rows", "value" or "gradient" (see Variant)."""
        return self._variant(kind, *self._checked(arrays, {}))

    def __repr__(self) -> str:
        name = getattr(self._f, "__qualname__", self._f)
        if not self._memory.recordings:
            return f"<Program of {name}, engine {self._engine}: call it with data to record it>"
        latest = self._latest()
        rows = [f"{argument} {_row_shape(a)}" for argument, a in zip(latest.scalars.names, self._sample())]
        leaves = sum(array.size for array in latest.leaves)
        engine = "native" if latest.native else "numpy"
        return f"<Program of {name}: {', '.join([*rows, f'{leaves:,} live leaves', f'engine {engine}'])}>"

    def _sample(self) -> list[np.ndarray]:
        return self._memory.samples[self._latest_key()]

    def _repr_html_(self) -> str:
        shown = preformatted(repr(self))
        return shown + preformatted(self.source) if self._memory.recordings else shown

    def __reduce__(self) -> Any:
        # The name that the decorator replaced leads to this Program; any other f goes along.
        found: Any = sys.modules.get(getattr(self, "__module__", ""))
        for name in getattr(self, "__qualname__", "?").split("."):
            found = getattr(found, name, None)
        if isinstance(found, Program) and found is not self:  # found is of the class, self of an instance
            return getattr, (self._f.__self__, found._f.__name__)
        return (
            self.__qualname__
            if found is self
            else (Program, (self._f, self.reduce, self._engine, self._cache))
        )

    def _latest_key(self) -> Any:
        """The key of the latest recording."""
        if not self._memory.recordings:
            raise RuntimeError(
                "this program has recorded nothing yet: call it with data first, or for_rows_of"
            )
        return next(reversed(self._memory.recordings))

    def _latest(self) -> Variant:
        """The variant of the latest recording that `source` shows."""
        with self._memory.lock:
            key, variants = self._latest_key(), self._memory.variants
            return variants.get((key, "gradient")) or variants[key, "rows"]

    def _checked(self, given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Sequence[Readable], Any]:
        """The arrays of a call, and a key: the shapes of their rows, and the names of those given by name."""
        if named:
            with contextlib.suppress(ValueError):  # builtins may have no signature
                bound = inspect.signature(self._call).bind(*given, **named)
                given, named = bound.args, bound.kwargs
            given = [*given, *named.values()]
        arrays = given
        # Shapes that were right before need no other look; those of anything but arrays of floats are not.
        rows = _rows(tuple([a.shape if type(a) is np.ndarray and a.dtype == FLOAT else () for a in given]))
        if rows is None:
            names = self._named(tuple(named), len(given))[1]
            arrays = [_array(name, a) if (r := readable(a)) is None else r for name, a in zip(names, given)]
            rows = _rows(tuple([a.shape for a in arrays]))
        if rows is None or (not arrays and _takes_arguments(self._call)):
            raise ValueError(f"{_shapes(arrays)}: they need a row for each example, and equally many rows")
        return arrays, (*rows, *named) if named else rows

    def _named(self, key: Any, n: int) -> tuple[Callable[..., Any], list[str]]:
        """f as a function of n rows by place, and their names; those in the key belong to the last rows."""
        last = [name for name in key if isinstance(name, str)]
        first = n - len(last)

        def call(*rows: Any) -> Any:
            return self._call(*rows[:first], **dict(zip(last, rows[first:])))

        return call if last else self._call, [*argument_names(self._call, first), *last]

    def _call_of(self, arrays: Sequence[Readable], key: Any) -> Call:
        """f and these arrays, or the first of many rows with the last, as the first pass takes them."""
        n = len(arrays[0]) if arrays else 0
        end = max(2, min((few(array, MOST_RECORDED) for array in arrays), default=0))
        given = [read(array, 0, min(n, end)) for array in arrays]
        if n > end:
            given = [np.concatenate([rows, read(a, n - 1, n)]) for rows, a in zip(given, arrays)]
        name = getattr(self._f, "__name__", type(self._f).__name__.lower())
        f, names = self._named(key, len(arrays))
        return Call(f, names, given, name if name.isidentifier() else "result", self.reduce)

    def _variant(self, kind: str, arrays: Sequence[Readable], key: Any) -> Variant:
        """The variant of the recording for rows of these shapes; records f if there is none yet."""
        memory = self._memory
        variant = memory.variants.get((key, kind))
        if variant is None:
            with memory.lock:
                variant = memory.variants.get((key, kind))
                if variant is None and (key not in memory.recordings or not memory.recordings[key].listed):
                    self._record(self._call_of(arrays, key), key, kind, _shapes(arrays))
                    variant = memory.variants.get((key, kind))
        if variant is None:
            raise TypeError("this program returns a list of outputs: it has no mean, and no gradient")
        return variant

    @collector_off()
    def _record(self, call: Call, key: Any, kind: str, shapes: str) -> None:
        names, arrays = call.names, call.arrays
        try:
            recording = through(self.passes, call, "record")
            simplified = through(self.passes, recording, "simplify")
        except ArithmeticError as error:
            raise of_row(0, error, names, arrays) from error
        except ValueError as error:
            raise ValueError(f"{shapes}: {error}") from error
        made: dict[Any, Variant] = {}
        for each in ("gradient", "value", "rows") if not recording.listed else ("rows",):
            try:
                made[key, each] = Variant(
                    each, simplified, self._engine, self.passes, made.get((key, "gradient")), self._cache
                )
            except ArithmeticError as error:
                if each == kind:  # other kinds are made when they are asked for, perhaps for another row
                    total = len(arrays[0]) if arrays else 1
                    block = Block(arrays, 0, total)
                    replay(call.f, names, kind, self.reduce == "mean", block, [0])
                    raise of_row(0, error, names, arrays) from error
        if recording.listed:
            made[key, "value"] = made[key, "rows"]
        self._memory.variants.update(made)
        self._memory.recordings[key] = recording
        self._memory.samples[key] = [array[[0, -1]] for array in arrays]

    def _run(
        self, kind: str, given: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Variant, Sequence[Any]]:
        """A variant and its outputs for these arrays; those for rows and gradients are the caller's own."""
        executor, named = _executor_in(named) if named else (None, named)
        is_batched = len(given) == 1 and not named and self._takes_batches(given[0])
        if executor is None and not is_batched:
            run: Any = self._evaluated
        else:
            run = functools.partial(self._over_batches, is_batched, executor)
        if not tracing.modes:
            return run(kind, given, named)
        # The caller is compiled or differentiated itself: derivatives by live leaves would be lost.
        with tracing.untraced():
            variant, outputs = run(kind, given, named)
            live = variant.live
        for v in live:
            tracing.refuse(v, "runs a program over")
        return variant, outputs

    def _takes_batches(self, given: Any) -> bool:
        """Whether the only argument of a call is batches, and no array."""

        def binds(n: int) -> bool:
            try:
                inspect.signature(self._call).bind(*[None] * n)
            except TypeError:
                return False
            except ValueError:  # builtins may have no signature
                return True
            return True

        return type(given) is not np.ndarray and are_batches(
            given, lambda n: binds(n) and (n == 1 or not binds(1))
        )

    def _over_batches(
        self, is_batched: bool, executor: Any, kind: str, given: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Variant, Sequence[Any]]:
        """A variant and its outputs for all rows of batches, or of arrays whose pieces an executor gets."""
        if is_batched:
            first, batches = first_of_batches(given[0], executor)
            arrays, key = self._checked(first, {})
        else:
            arrays, key = self._checked(given, named)
            batches = iter(())
        variant = self._variant(kind, arrays, key)
        step = 0
        if not is_batched:
            rows = PIECE // max(1, sum(math.prod(array.shape[1:]) for array in arrays))
            step = max(1 << rows.bit_length() >> 1, variant.block(native=True))  # whole blocks
            if not arrays or len(arrays[0]) <= step:
                return self._evaluated(kind, given, named)
            pieces = range(0, len(arrays[0]), step)
            batches = (tuple(array[i : i + step] for array in arrays) for i in pieces)

        shapes = key[: len(arrays)]  # without the names of arguments

        def checked(batch: Any) -> Sequence[Readable]:
            found, rows = self._checked(loaded(batch), {})
            if rows != shapes:
                raise ValueError(f"its rows have shapes {rows}, and those of the first batch {shapes}")
            return found

        evaluation = Evaluation(
            variant, functools.partial(self._named, key, len(arrays)), False, variant.state(), 0
        )
        return variant, over_batches(evaluation, checked, batches, executor, step)

    def _evaluated(
        self, kind: str, given: Sequence[Any], named: Mapping[str, Any]
    ) -> tuple[Variant, Sequence[Any]]:
        arrays, key = self._checked(given, named)
        variant = self._variant(kind, arrays, key)
        n = len(arrays[0]) if arrays else 1
        variant = variant.for_rows(n)
        native = variant.is_native(n)
        is_block = n <= SMALLEST_BLOCK or n <= variant.block(native)  # the first takes less time
        state = None if is_block else variant.state()  # one for all blocks
        call = Evaluation(variant, functools.partial(self._named, key, len(arrays)), native, state, n)
        if is_block:
            return variant, call.of_rows(0, [read(array, 0, n) for array in arrays])
        return variant, variant.in_blocks(call.of_rows, arrays, native)


def _executor_in(named: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
    """The executor among the named arguments of a call, or None, and the others."""
    executor = named.get("executor")
    if executor is None or not callable(getattr(executor, "submit", None)):
        return None, named
    return executor, {name: given for name, given in named.items() if name != "executor"}


class _Memory:
    """Recordings, and rows for them, by key (see Program._checked); variants by key and kind; a lock."""

    def __init__(self) -> None:
        self.lock = new_lock()
        self.recordings: dict[Any, Scalars] = {}
        self.samples: dict[Any, list[np.ndarray]] = {}
        self.variants: dict[Any, Variant] = {}


def _shape_of_row(shape: Any) -> tuple[int, ...]:
    """The shape, given as a tuple or an int; TypeError or ValueError if it is no shape."""
    try:
        sizes = tuple(map(operator.index, shape if isinstance(shape, tuple | list) else (shape,)))
    except TypeError:
        raise TypeError(
            f"the shape of a row is () for a number, or a tuple of ints, not {shape!r:.80}"
        ) from None
    if any(n < 0 for n in sizes):
        raise ValueError(f"the shape of a row has no negative lengths: {shape}")
    return sizes


def _listing(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, with a single output put into a list."""

    @functools.wraps(f, updated=())
    def listed(*rows: Any, **named: Any) -> Any:
        result = f(*rows, **named)
        return result if isinstance(result, list | tuple | dict | np.ndarray) else [result]

    return listed


def _array(name: str, given: Any) -> np.ndarray:
    """An argument of a call as floats; TypeError, with row and column, if an element is no real number."""
    if any(map(has_masked, given if isinstance(given, list | tuple) else [given])):
        raise TypeError(f"{name} has masked elements: {MASKED}")
    try:
        array = np.asarray(given)
    except ValueError:
        raise ValueError(f"the rows of {name} differ in length") from None
    foreign = not isinstance(
        getattr(given, "dtype", array.dtype), np.dtype
    )  # so that NaN may be missing data
    if array.dtype.kind in "fiub" and not (foreign and np.isnan(array).any()):
        return array.astype(float)
    labels = list(given.columns) if hasattr(given, "dtypes") and array.ndim == 2 else []
    if labels and len(set(labels)) == len(labels):  # a data frame, whose columns have types of their own
        return np.stack([_array(f"{name}, column {label}", given[label]) for label in labels], axis=1)
    # One by one; times as strings, because they might become whole numbers as objects.
    objects = np.asarray(array.astype(str) if array.dtype.kind in "mM" else given, dtype=object)
    numbers = np.empty(objects.shape)
    for index, x in np.ndenumerate(objects):
        try:
            numbers[index] = number(x)
        except (TypeError, OverflowError):
            raise TypeError(f"{place(name, *index)} is {x!r:.80}, and no real number") from None
    return numbers


@functools.lru_cache
def _rows(shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...] | None:
    """The shapes of the rows of arrays of these shapes; None if they are not equally many, or none."""
    if not all(shapes) or len({shape[0] for shape in shapes}) > 1 or (shapes and not shapes[0][0]):
        return None
    return tuple(shape[1:] for shape in shapes)


def _row_shape(array: np.ndarray) -> str:
    return f"({', '.join(['N', *map(str, array.shape[1:])])}{',' * (array.ndim == 1)})"


def _shapes(arrays: Sequence[Readable]) -> str:
    return f"arrays of shapes {', '.join(str(array.shape) for array in arrays)}" if arrays else "no arrays"


def _takes_arguments(f: Callable[..., Any]) -> bool:
    """Whether f cannot be called without arguments."""
    try:
        inspect.signature(f).bind()
    except TypeError:
        return True
    except ValueError:  # builtins may have no signature
        return False
    return False


def argument_names(f: Callable[..., Any], n: int) -> list[str]:
    """The names of f's first n arguments; x3 for the fourth if f does not name it."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return (names + [f"x{i}" for i in range(len(names), n)])[:n]
