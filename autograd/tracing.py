"""tracing: how Values are read while a function is compiled or differentiated.

A number that then leaves the graph is lost: compile would bake the number in for every row, and a
transform would miss its derivative. So each thread has a mode, which decides how Values are read:

    with tracing(COMPILE):
        f(*inputs)  # comparisons give Conditions, and x.data is x.detach()

The inputs of f, and all Values computed from them, are of class Traced: their mode holds in threads that
f starts, too.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any, overload

import numpy as np

from . import ops
from .errors import refusal
from .locks import in_forked_child
from .node import Node, V
from .ops import Primitive

TRANSFORM, COMPILE = 1, 2
modes: dict[int, int] = {}  # the mode of each thread that traces; eager code only tests whether it is empty
branches: dict[int, Any] = {}  # the condition of each thread that runs a branch of `where`


@contextlib.contextmanager
def tracing(mode: int) -> Iterator[None]:
    """Put this thread in a mode; COMPILE wins where compile and a transform are nested."""
    with _entry(modes, max(mode, modes.get(get_ident(), 0))):
        yield


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Put this thread in eager mode, for a program that a traced function calls."""
    with _entry(modes, 0), _entry(branches, None):
        yield


@contextlib.contextmanager
def _entry(entries: dict[int, Any], entry: Any) -> Iterator[None]:
    """Set this thread's entry until the block ends."""
    thread = get_ident()
    before = entries.get(thread)
    entries[thread] = entry
    try:
        yield
    finally:
        if before is None:
            del entries[thread]
        else:
            entries[thread] = before


def mode_of(v: Any) -> int:
    """The mode in which this thread reads v: 0 in eager code."""
    return modes.get(get_ident()) or (max(list(modes.values()), default=0) if v.traced else 0)


def refuse(v: Any, use: str, mode: int = TRANSFORM) -> None:
    """Raise TypeError if v is read in this mode or a stricter one, because those forbid this use of v."""
    if modes and (now := mode_of(v)) >= mode:
        raise refusal(v, use, now == COMPILE)


class Condition:
    """A comparison of Values that differs from row to row: `where` takes it, and &, | and ~ combine it.

    In arithmetic, a Condition is 1 or 0, as a bool is. `value` is its node in the graph. `inverted` marks
    a result of ~, which turns Python's bools into −2 and −1. `masks` marks an element of an array of
    comparisons, which NumPy adds as bools.
    """

    __slots__ = ("value", "inverted", "masks")

    def __init__(self, value: Any, inverted: bool = False, masks: bool = False):
        self.value, self.inverted, self.masks = value, inverted, masks

    def __and__(self, other: Any) -> Condition:
        return self._with(ops.logical_and, other)

    def __or__(self, other: Any) -> Condition:
        return self._with(ops.logical_or, other)

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Condition:
        inverted = not (self.inverted or self.masks)  # ~ of NumPy's bool is a bool
        return Condition(self.value._record(ops.logical_not, self.value), inverted, self.masks)

    def _with(self, row: Primitive, other: Any) -> Condition:
        if not isinstance(other, Condition | bool | np.bool_):
            return NotImplemented
        masks = self.masks or (isinstance(other, Condition) and other.masks)
        inverted = [self.inverted, isinstance(other, Condition) and other.inverted]
        other = other.value if isinstance(other, Condition) else float(other)
        of_both = all(inverted) if row is ops.logical_and else any(inverted)
        return Condition(self.value._record(row, self.value, other), of_both, masks)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise refusal(self.value, "branches on", True)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return array_function(function, args, kwargs)

    def choose(self, a: Any, b: Any) -> Any:
        """a where the condition holds, else b; for arrays, element by element."""
        a, b = self._branch(a), (~self)._branch(b)
        if isinstance(a, Condition) or isinstance(b, Condition):
            if all(isinstance(x, Condition | bool | np.bool_) for x in (a, b)):
                return (self & a) | (~self & b)
            a, b = _as_number(a), _as_number(b)
        choice = functools.partial(self.value._choice, self.value)
        if any(isinstance(x, list | tuple | np.ndarray) for x in (a, b)):
            return np.frompyfunc(choice, 2, 1)(a, b)
        return choice(a, b)

    def _branch(self, branch: Any) -> Any:
        """The result of a branch; a function is recorded so that rows of other branches raise nothing."""
        if not callable(branch):
            return branch
        outer = branches.get(get_ident())
        with _entry(
            branches, self.value if outer is None else outer._record(ops.logical_and, outer, self.value)
        ):
            return branch()


def _as_number(x: Any) -> Any:
    """A condition as 1 or 0, and anything else as it is."""
    if not isinstance(x, Condition):
        return x
    if x.inverted:
        raise refusal(x.value, "computes with", True)
    return x.choose(1.0, 0.0)


def _of_numbers(name: str, of_masks: bool) -> Any:
    def method(self: Condition, *others: Any) -> Any:
        if not of_masks and self.masks and all(isinstance(x, Condition) and x.masks for x in others):
            raise refusal(self.value, "computes with", True)
        return getattr(_as_number(self), name)(*map(_as_number, others))

    return method


for _group, _of_masks in (
    ("add radd sub rsub mul rmul truediv rtruediv pow rpow neg pos abs", False),
    ("eq ne lt le gt ge float int round format", True),
):
    for _method in _group.split():
        setattr(Condition, f"__{_method}__", _of_numbers(f"__{_method}__", _of_masks))


def harmless(row: Primitive, operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands of a primitive in a branch of `where`, with safe numbers in rows that take another branch.

    In those rows, the primitive is then finite, raises nothing, and passes back a gradient of 0.
    """
    condition = branches.get(get_ident())
    if condition is None:
        return operands

    def replaced(mask: list[bool], x: float, choose: Any = condition._choice) -> tuple[Any, ...]:
        return tuple(choose(condition, y, x) if replace else y for y, replace in zip(operands, mask))

    if _is_finite_everywhere(row):  # finite, unless a row's data are NaN or large
        return replaced([isinstance(x, Node) and x.row is None and x.traced for x in operands], 1.0)
    are_values = [isinstance(x, Node) for x in operands]
    for mask in (are_values, [True] * len(operands)):  # for x / 0, the 0 must be replaced too
        for x in POINTS:
            if _is_regular(row, replaced(mask, x, choose=lambda _, y, x: x)):
                return replaced(mask, x)
    return operands


POINTS = (1.0, 0.5, 2.0, -0.5, 0.0)


@functools.cache
def _is_finite_everywhere(row: Primitive) -> bool:
    """Whether a primitive and its derivatives are finite at all numbers of ordinary size."""
    ordinary = (-1e3, -1.0, 0.0, 1.0, 1e3)
    places = [(x, y) for x in ordinary for y in ordinary] if row.dy else [(x,) for x in ordinary]
    return row in (ops.dot, ops.total) or all(_is_regular(row, numbers) for numbers in places)


def _is_regular(row: Primitive, numbers: Any) -> bool:
    try:
        out = row.compute(*numbers)
        slopes = [slope(*numbers, out) or 0.0 for slope in (row.dx, row.dy) if slope]
        return all(map(math.isfinite, (out, *slopes)))
    except Exception:  # a user's primitive may raise anything
        return False


# NumPy


class Values(np.ndarray):
    """The array of Values that a traced function is given: NumPy's functions take it as they take a Value."""

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return array_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return array_function(function, args, kwargs)


def array_ufunc(ufunc: Any, method: str, inputs: Any, kwargs: dict[str, Any]) -> Any:
    """Apply a ufunc to Values and arrays of Values, by rows of the table or by the operators of Values."""
    function = BY_UFUNC.get(ufunc) if method == "__call__" and not kwargs else None
    if function and not any(isinstance(x, np.ndarray | list | tuple) for x in inputs):
        return function(*(x.item() if isinstance(x, np.generic) else x for x in inputs))
    arrays = list(map(_as_array, inputs))
    if function and not any(isinstance(x, Condition) for a in arrays if a.dtype == object for x in a.flat):
        result = np.frompyfunc(function, len(arrays), 1)(*arrays)
        if ufunc in _COMPARISONS and isinstance(result, np.ndarray):
            if all(isinstance(x, bool) for x in result.flat):
                return result.astype(bool)  # a mask
            for x in result.flat:
                if isinstance(x, Condition):
                    x.masks = True
        return _viewed(result, *inputs)
    if ufunc is np.add and method == "reduce":  # the sum of masks is a count
        arrays = [np.frompyfunc(_as_number, 1, 1)(x) if x.dtype == object else x for x in arrays]
    if any(isinstance(out, Node) for out in kwargs.get("out", ())):
        raise TypeError(f"numpy.{ufunc.__name__} cannot write into a Value")
    kwargs = {name: np.asarray(x) if isinstance(x, Values) else x for name, x in kwargs.items()}
    if "out" in kwargs:
        kwargs["out"] = tuple(map(np.asarray, kwargs["out"]))
    try:
        return _viewed(getattr(ufunc, method)(*arrays, **kwargs), *inputs)
    except (TypeError, AttributeError) as error:
        missing = f"no attribute '{ufunc.__name__}'"
        if not str(error).startswith(("loop of ufunc", "ufunc '")) and not str(error).endswith(missing):
            raise
    known = sorted(row.__name__ for row in BY_UFUNC)
    raise TypeError(f"numpy.{ufunc.__name__} does not take Values: there are {', '.join(known)}")


def array_function(function: Any, args: Any, kwargs: Any) -> Any:
    """Apply a NumPy function that is no ufunc to Values or arrays of Values."""
    if function in BY_FUNCTION and (function is not np.where or len(args) == 3):
        return BY_FUNCTION[function](*args, **kwargs)
    return _viewed(function._implementation(*args, **kwargs), *args)


def _as_array(x: Any) -> np.ndarray:
    return np.asarray(x, dtype=object if isinstance(x, Node) else None)


def _viewed(result: Any, *inputs: Any) -> Any:
    """An array of objects gets the class Values if an input had that class, or if any thread traces."""
    if isinstance(result, np.ndarray) and result.dtype == object:
        if modes or any(isinstance(x, Values) for x in inputs):
            return result.view(Values)
    return result


@overload
def where(condition: bool, a: V | Callable[[], V], b: V | float | Callable[[], V | float]) -> V: ...
@overload
def where(condition: bool, a: float | Callable[[], float], b: V | Callable[[], V]) -> V: ...
@overload
def where(condition: Any, a: Any, b: Any) -> Any: ...
def where(condition: Any, a: Any, b: Any) -> Any:
    """a where a condition holds, else b: numbers, Values, or arrays of them, element by element.

    The condition is a comparison, such as x > 0, or an array of comparisons. In compiled code it may differ
    from row to row, and both branches are recorded. With a single condition, a branch may be a function of
    no arguments: if it is not taken, the branch neither raises nor spoils a gradient.

    >>> x = Value(-4.0)
    >>> where(x > 0.0, lambda: x.sqrt(), 0.0)
    0.0
    >>> where(x > 0.0, x, -x).data
    4.0

    Raises TypeError for any other condition.
    """
    if isinstance(condition, np.bool_ | int) and -2 <= condition <= 1:
        taken = condition & 1  # ~True is −2, but after any ~, & and | of bools the last bit is right
        branch = a if taken else b
        if callable(a) or callable(b) or not any(isinstance(x, list | tuple | np.ndarray) for x in (a, b)):
            return branch() if callable(branch) else branch
        return np.where(bool(taken), _as_array(a), _as_array(b))  # broadcast to the shape of both
    if isinstance(condition, Condition):
        return condition.choose(a, b)
    given = np.asarray(condition)
    if not all(isinstance(c, bool | Condition) for c in given.ravel().tolist()) or not given.ndim:
        raise TypeError(f"where takes a condition, such as x > 0, not {condition!r:.80}")
    if callable(a) or callable(b):
        raise TypeError(
            "a branch that is a function goes with one condition, not with an array of conditions"
        )
    if given.dtype == bool:
        return np.where(given, _as_array(a), _as_array(b))
    return _viewed(np.frompyfunc(where, 3, 1)(given, _as_array(a), _as_array(b)))


_COMPARISONS: dict[Any, Any] = {
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
}
BY_UFUNC: dict[Any, Any] = {  # functions.py and linalg.py add entries to both dicts
    row.numpy: row
    for row in ops.TABLE.values()
    if isinstance(row.numpy, np.ufunc) and row not in ops.CONDITIONS
} | _COMPARISONS
BY_FUNCTION: dict[Any, Any] = {np.where: where}


@in_forked_child
def _keep_own_entries() -> None:
    """Forget the parent's other threads."""
    for entries in (modes, branches):
        for thread in entries.keys() - {get_ident()}:
            del entries[thread]
