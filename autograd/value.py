"""Value: a float that remembers how it was computed, and backward() through that memory.

    x, w = Value(2.0, label="x"), Value(-3.0, label="w")
    loss = (w * x - 1.0) ** 2
    loss.backward()          # w.grad is now ∂loss/∂w = 2 (wx − 1) x = -28.0

`dot`, `matvec` and `total` make one node of many operands.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import mul as times
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, SupportsFloat, TypeAlias, TypeVar, overload

import numpy as np

from . import copying, ops
from .errors import anomaly, gradient_anomaly, no_number
from .functions import BY_UFUNC
from .graph import parents, topological_order
from .locks import new_lock
from .node import Node, data_of, grad_of
from .ops import Primitive
from .tracing import (
    COMPILE,
    TRANSFORM,
    Condition,
    array_function,
    array_ufunc,
    branches,
    harmless,
    mode_of,
    modes,
    refuse,
)

Array = np.ndarray[Any, Any]
Operand = TypeVar("Operand", contravariant=True)
Result = TypeVar("Result", covariant=True)


class Number(Protocol):
    """A real number, Python's or NumPy's. Numbers can be hashed, which tells them from arrays."""

    def __float__(self) -> float: ...
    def __hash__(self) -> int: ...


class Method(Protocol[Operand, Result]):
    """The type of an operator or a comparison, which takes an array element by element."""

    @overload
    def __call__(self, other: Array, /) -> Array: ...
    @overload
    def __call__(self, other: Operand, /) -> Result: ...


Operator: TypeAlias = Method["Value | Number", "Value"]
Comparison: TypeAlias = Method["Value | Number", bool]
Equality: TypeAlias = Method[object, bool]


_subclasses: list[str] = []  # users' classes: if there are none, a result's class needs no search


def _unary_method(row: Primitive, doc: str = "") -> Callable[[Value], Value]:
    def method(self: Value) -> Value:
        return _unary(row, self)

    method.__name__, method.__doc__ = row.name, doc
    return method


def _as_operator(method: Any) -> Operator:
    """The method itself, typed."""
    return method


def _binary_method(row: Primitive, reflected: bool = False) -> Operator:
    def method(self: Value, other: Any) -> Value:
        return _binary(row, self, other)

    def reflected_method(self: Value, other: Any) -> Value:
        return _binary(row, other, self)

    return _as_operator(reflected_method if reflected else method)


def _comparison(of_floats: Any, row: Primitive, swap: bool = False) -> Any:
    """The method of a comparison: a bool or, where that may differ from row to row, a Condition."""

    def compare(self: Value, other: Any) -> Any:
        if isinstance(other, np.ndarray) and other.ndim:
            return NotImplemented  # NumPy compares each element
        if modes and COMPILE in (mode_of(self), mode_of(other) if isinstance(other, Value) else 0):
            out = _binary(row, other, self) if swap else _binary(row, self, other)
            return NotImplemented if out is NotImplemented else Condition(out)
        return of_floats(self._data, data_of(other))

    return compare


def _not_equal(self: Value, other: Any) -> Any:
    equal: Any = self.__eq__(other)
    if isinstance(equal, Condition):
        return Condition((~equal).value)
    return equal if equal is NotImplemented else not equal


class Value(Node):
    """A scalar that remembers how it was computed. `backward()` finds its derivative by every leaf.

    >>> w, x = Value(-3.0, "w"), Value(2.0, "x")
    >>> loss = (w * x - 1.0) ** 2
    >>> loss.backward()
    >>> loss.data, w.grad, x.grad
    (49.0, -28.0, 42.0)

    Operators of Python, methods such as `exp` and `relu`, and NumPy's functions take Values and numbers, and
    record what they compute. `data` is the number and `grad` the gradient; both may be set, to real numbers.
    `label` names a Value in drawings, errors and sources. Raises TypeError unless `data` is one real number.

    A computed Value keeps its primitive, a row of the table, as `row`, its operands as `x` and `y`, and the
    local derivatives `dx` = ∂self/∂x and `dy` = ∂self/∂y, which are not updated later. An operand is a Value,
    a number, or a tuple of either; a local derivative is None for numbers, and where no gradient flows back.
    A leaf has no operands, and row None. `op` is the row's name, "" for a leaf. Other attributes may be set.
    Operators of a subclass return the subclass.

    As in micrograd, `out = Value(data, (x, y), "name")` is the result of an operation made by hand. Its
    `_backward` is set to a function that adds out.grad times the local derivatives to x.grad and y.grad:
    backward() calls that function, and nothing else knows that derivative.
    """

    __slots__ = ()
    shape: ClassVar[tuple[()]] = ()
    _repr_html_: ClassVar[Callable[[Value], str]]  # draw.py sets it

    def __init__(
        self, data: SupportsFloat, children: Iterable[Value] | str = (), op: str = "", label: str = ""
    ):
        self._data = data if type(data) is float else number(data)
        self._grad = 0.0
        self.row = self.x = self.y = self._dx = self._dy = None
        if isinstance(children, str):  # Value(2.0, "w")
            label, children = children, ()
        if label:
            self.label = label
        if children:
            self.x = tuple(children)
            if not all(isinstance(child, Value) for child in self.x) or not isinstance(op, str):
                raise TypeError(f"children are Values and op is a name, not {children!r:.80} and {op!r:.80}")
            self.row, self._dx = ops.by_hand(op), _ByHand()

    @property
    def data(self) -> float:
        """The number; while compile records, the detached Value, because a number would be baked in."""
        if modes and mode_of(self) == COMPILE and type(self) is not Constant:
            return self.detach()  # type: ignore[return-value]
        return self._data

    @data.setter
    def data(self, data: SupportsFloat) -> None:
        if modes:
            refuse(self, "sets the data of", COMPILE)
        self._data = data if type(data) is float else number(data)
        latest_write[0] = next(_writes)

    @property
    def grad(self) -> float:
        """The gradient that backward() found."""
        if modes:
            refuse(self, "reads the grad of")
        try:
            return self._grad
        except AttributeError:  # the same as grad_of, in half the time
            return 0.0

    @grad.setter
    def grad(self, grad: SupportsFloat) -> None:
        self._grad = grad if type(grad) is float else number(grad)

    @property
    def label(self) -> str:
        """A name, in drawings, errors and sources."""
        return getattr(self, "_label", "")

    @label.setter
    def label(self, label: str) -> None:
        if not isinstance(label, str):
            raise TypeError(f"a label is a string, not {label!r:.80}")
        self._label = label

    @property
    def dx(self) -> Any:
        """The local derivative ∂self/∂x."""
        if modes:
            refuse(self, "reads the derivative of", COMPILE)
        return self._dx

    @property
    def dy(self) -> Any:
        """The local derivative ∂self/∂y."""
        if modes:
            refuse(self, "reads the derivative of", COMPILE)
        return self._dy

    @property
    def op(self) -> str:
        """The name of the primitive that computed this Value; "" for a leaf."""
        return self.row.name if self.row else ""

    def item(self) -> float:
        """`data`, under NumPy's name."""
        return self.data

    detach = _unary_method(ops.detach, "A Value of the same number, through which no gradient flows back.")

    # The operators of the innermost loops have their row of the table written out, for speed; a
    # test proves them equal. `d - d` is NaN, and so true, exactly where d is not finite.

    @_as_operator
    def __add__(self, other: Any) -> Value:
        if type(other) is Value:
            y, dy = other._data, 1.0
        elif type(other) is float:
            y, dy = other, None
        else:
            return _binary(ops.add, self, other)
        out = _new(Value)
        out._data = d = self._data + y
        if d - d:
            raise anomaly(ops.add, self, other)
        out.row = _ADD
        out.x = self
        out.y = other
        out._dx = 1.0
        out._dy = dy
        return out

    @_as_operator
    def __sub__(self, other: Any) -> Value:
        if type(other) is Value:
            y, dy = other._data, -1.0
        elif type(other) is float:
            y, dy = other, None
        else:
            return _binary(ops.sub, self, other)
        out = _new(Value)
        out._data = d = self._data - y
        if d - d:
            raise anomaly(ops.sub, self, other)
        out.row = _SUB
        out.x = self
        out.y = other
        out._dx = 1.0
        out._dy = dy
        return out

    @_as_operator
    def __mul__(self, other: Any) -> Value:
        try:
            x = self._data
            if type(other) is Value:
                y, dy = other._data, x
            elif type(other) is float:
                y, dy = other, None
            else:
                return _binary(ops.mul, self, other)
            out = _new(Value)
            out._data = d = x * y
            if d - d:
                raise anomaly(ops.mul, self, other)
            out.row = _MUL
            out.x = self
            out.y = other
            out._dx = y
            out._dy = dy
            return out
        except SystemError as error:  # NumPy's dot went on after an error: raise that error
            raise _original(error) from None

    __truediv__: Operator = _binary_method(ops.div)
    __pow__: Operator = _binary_method(ops.pow)
    __mod__: Operator = _binary_method(ops.remainder)
    __floordiv__: Operator = _binary_method(ops.floor_divide)
    __radd__: Operator = __add__
    __rmul__: Operator = __mul__
    __rsub__: Operator = _binary_method(ops.sub, reflected=True)
    __rtruediv__: Operator = _binary_method(ops.div, reflected=True)
    __rpow__: Operator = _binary_method(ops.pow, reflected=True)
    __rmod__: Operator = _binary_method(ops.remainder, reflected=True)
    __rfloordiv__: Operator = _binary_method(ops.floor_divide, reflected=True)
    __neg__ = _unary_method(ops.neg)
    __abs__ = _unary_method(ops.abs)
    __floor__ = _unary_method(ops.floor)
    __ceil__ = _unary_method(ops.ceil)

    def __pos__(self) -> Value:
        return self

    exp = _unary_method(ops.exp, "e^x.")
    log = _unary_method(ops.log, "The natural logarithm.")
    sqrt = _unary_method(ops.sqrt, "The square root; its derivative at 0 is infinite: backward() reports it.")
    sin = _unary_method(ops.sin, "The sine of radians.")
    cos = _unary_method(ops.cos, "The cosine of radians.")
    tanh = _unary_method(ops.tanh, "The hyperbolic tangent.")
    softplus = _unary_method(ops.softplus, "log(1 + e^x); never overflows.")

    def sigmoid(self) -> Value:
        """1 / (1 + e^(−x)); never overflows."""
        try:
            s = 1.0 / (1.0 + _exp(-self._data))
        except OverflowError:
            return _unary(ops.sigmoid, self)
        out = _new(Value)
        out._data = s
        if s - s:
            raise anomaly(ops.sigmoid, self)
        out.row = _SIGMOID
        out.x = self
        out.y = None
        out._dx = s * (1.0 - s)
        out._dy = None
        return out

    def relu(self) -> Value:
        """max(x, 0), with derivative 0 at 0."""
        x = self._data
        out = _new(Value)
        out._data = d = 0.0 if x <= 0.0 else x
        if d - d:
            raise anomaly(ops.relu, self)
        out.row = _RELU
        out.x = self
        out.y = None
        out._dx = 1.0 if x > 0.0 else 0.0
        out._dy = None
        return out

    def conjugate(self) -> Value:
        """The Value itself, which is real; numpy.var and numpy.vdot call this."""
        return self

    # Comparisons compare the numbers. While compile records, they give Conditions, which `where` takes.

    __eq__: Equality = _comparison(operator.eq, ops.equal)
    __ne__: Equality = _not_equal  # type: ignore[assignment]
    __lt__: Comparison = _comparison(operator.lt, ops.less)
    __le__: Comparison = _comparison(operator.le, ops.less_equal)
    __gt__: Comparison = _comparison(operator.gt, ops.less, swap=True)
    __ge__: Comparison = _comparison(operator.ge, ops.less_equal, swap=True)

    __hash__ = object.__hash__  # Values are keys by identity

    def __bool__(self) -> bool:
        refuse(self, "takes the bool() of")
        return True  # as for any object: `if neuron.b` asks whether there is a bias

    def __int__(self) -> int:
        raise no_number(self)

    if not TYPE_CHECKING:  # so that float(v) and math.exp(v) are errors in an editor, too
        __float__ = __int__

    def __round__(self, digits: int | None = None) -> float:
        refuse(self, "rounds", COMPILE)
        return round(self._data, digits)

    def __format__(self, form: str) -> str:
        if not form:
            return str(self)
        refuse(self, "formats", COMPILE)
        return format(self._data, form)

    def __repr__(self) -> str:
        return f"Value(data={self._data}, grad={grad_of(self)})"

    @property
    def parents(self) -> tuple[Value, ...]:
        """The Values that this one was computed from."""
        return parents(self)

    _op = property(lambda self: self.op, doc="`op`, for code written for micrograd.")
    _prev = property(lambda self: set(self.parents), doc="`parents`, for code written for micrograd.")

    def backward(self) -> None:
        """Add ∂self/∂leaf to the `grad` of every leaf; set the `grad` of the nodes between.

        The derivatives are those at the values recorded when the graph was built. Raises
        ArithmeticError if this pass finds a gradient that is not finite; the leaves then keep the
        grads that they had.
        """
        with backward_lock:  # graphs on several threads may share leaves
            order = topological_order(self, gradient_only=True)
            leaves = [v for v in order if v.row is None]
            before = [v._grad for v in leaves]
            try:
                for v in order:
                    v._grad = 0.0
                self._grad = 1.0
                accumulate(order)
                # A leaf's gradient is added in one step, so that a second pass exactly doubles the grads.
                for v, grad in zip(leaves, [b + v._grad for v, b in zip(leaves, before)]):
                    v._grad = grad
            except BaseException:
                for v in order:
                    v._grad = 0.0
                for v, b in zip(leaves, before):
                    v._grad = b
                raise

    def __copy__(self) -> Value:
        refuse(self, "copies")
        return copying.copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Value:
        refuse(self, "copies")
        return copying.deepcopy(self, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        refuse(self, "copies")
        return copying.reduce(self, protocol)

    @staticmethod
    def _record(primitive: Primitive, *operands: Any) -> Value:
        if primitive is ops.where:
            return Value._choice(operands[0], *operands[1])
        out = (_binary if primitive.dy else _unary)(primitive, *operands)
        if out is NotImplemented:
            names = " and ".join(type(operand).__name__ for operand in operands)
            raise TypeError(f"{primitive.name} takes Values and numbers, not {names}")
        return out

    @staticmethod
    def _choice(condition: Value, a: Any, b: Any) -> Value:
        """The node of `where`: a if the condition's data is 1, b if it is 0."""
        ys, data, are_values = _vector((a, b))
        taken = condition._data != 0.0
        slopes = [float(taken), float(not taken)] if are_values else None
        cls = _result_class(Value, (condition, *ys))
        return _node(ops.where, data[0 if taken else 1], condition, ys, None, slopes, cls)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return array_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return array_function(function, args, kwargs)

    @property
    def _backward(self) -> Callable[[], Any]:
        """The function of an operation made by hand, for code written for micrograd."""
        return self._dx.function if isinstance(self._dx, _ByHand) else lambda: None

    @_backward.setter
    def _backward(self, function: Callable[[], Any]) -> None:
        if not isinstance(self._dx, _ByHand):
            raise TypeError(
                "_backward is for a Value made by hand, Value(data, (x, y), name): it has parents"
            )
        self._dx.function = function

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Copy the fast operators into a subclass, with cls for Value, so that they return the subclass."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            _subclasses.append(cls.__qualname__)
        names = {**globals(), "Value": cls}
        for name, method in _FAST.items():
            if getattr(getattr(cls, name), "__code__", None) is method.__code__:
                setattr(cls, name, types.FunctionType(_FAST[name].__code__, names, name))
        for name in ("__radd__", "__rmul__"):
            if getattr(cls, name) in (Value.__add__, Value.__mul__):
                setattr(cls, name, _REFLECTED[name])


# pydoc sorts by `_fields` first: help(Value) opens with backward, and has the operators last.
_public = [name for name in vars(Value) if not name.startswith("_")]
Value._fields = tuple(sorted(_public, key=lambda name: name != "backward"))  # type: ignore[attr-defined]


def number(x: Any) -> float:
    """x as a float; TypeError unless it is one real number (or an array that holds just one)."""
    if type(x) is float or type(x) is int:
        return float(x)
    if isinstance(x, np.ndarray) and x.size == 1:
        x = x.item()
    if isinstance(x, Value):
        raise TypeError("a Value holds one real number, not a Value: use that itself, or its data")
    if not isinstance(x, (str, bytes, bytearray, np.complexfloating)):
        try:
            return float(x)
        except (TypeError, ValueError):
            pass
    what = f"an array of shape {x.shape}" if isinstance(x, np.ndarray) else f"{type(x).__name__} {x!r}"
    raise TypeError(f"a Value holds one real number, not {what:.80}")


def _number_operand(x: Any) -> float:
    """A number as an operand; TypeError for an array, even of one element, as NumPy keeps its shape."""
    if type(x) is not float and isinstance(x, np.ndarray) and x.ndim:
        raise TypeError("an array is no scalar")
    return number(x)


def accumulate(order: Sequence[Value]) -> None:
    """Pass the grads of these Values, operands first, back to their operands: the chain rule."""
    for v in reversed(order):
        g = v._grad
        if g - g:
            raise gradient_anomaly(v, order)
        dx = v._dx
        if dx is not None:
            x = v.x
            if type(x) is tuple:
                for p, d in zip(x, dx):
                    p._grad += g * d
            else:
                x._grad += g * dx
        dy = v._dy
        if dy is not None:
            y = v.y
            if type(y) is tuple:
                for p, d in zip(y, dy):
                    p._grad += g * d
            else:
                y._grad += g * dy


def slopes(output: Value, seed: float = 1.0, order: Sequence[Value] = ()) -> dict[Value, float]:
    """∂output/∂v for each Value v of output's graph, as backward() finds it; `order` is the part to visit.

    No grad is changed. Raises ArithmeticError as backward() does.
    """
    graph = topological_order(output)
    with backward_lock:
        before = [grad_of(v) for v in graph]
        try:
            for v in graph:
                v._grad = 0.0
            output._grad = seed
            accumulate(order or topological_order(output, gradient_only=True))  # backward()'s order of sums
            return {v: v._grad for v in graph}
        finally:
            for v, grad in zip(graph, before):
                v._grad = grad


class Extreme(Protocol):
    """The type of maximum and minimum."""

    @overload
    def __call__(self, x: Value, y: Value | float, /, *more: Value | float) -> Value: ...
    @overload
    def __call__(self, x: float, y: Value, /, *more: Value | float) -> Value: ...
    @overload
    def __call__(self, *xs: Any) -> Any: ...


def _as_extreme(function: Any) -> Extreme:
    return function


@_as_extreme
def maximum(*xs: Any) -> Any:
    """The largest of two or more Values or numbers; for arrays and lists, element by element.

    The largest of more than two is one node, `largest`. Operands that are equal to it share its gradient
    equally.

    >>> maximum(Value(3.0), 1.0, 2.0).data
    3.0
    """
    return _extremum(ops.maximum, ops.largest, xs)


@_as_extreme
def minimum(*xs: Any) -> Any:
    """The smallest of two or more Values or numbers; for arrays and lists, element by element.

    The smallest of more than two is one node, `smallest`. Operands that are equal to it share its gradient
    equally.

    >>> [v.data for v in minimum([Value(3.0), Value(-1.0)], 0.0)]
    [0.0, -1.0]
    """
    return _extremum(ops.minimum, ops.smallest, xs)


def _extremum(of_two: Primitive, of_many: Primitive, xs: Sequence[Any]) -> Any:
    if len(xs) < 2:
        raise TypeError(f"{of_two.name} takes two or more numbers, or lists or arrays of them, not {len(xs)}")
    xs = [np.array(x) if isinstance(x, list | tuple) else x for x in xs]
    arrays = [x for x in xs if isinstance(x, np.ndarray)]
    are_values = any(isinstance(x, Value) for x in xs) or any(array.dtype == object for array in arrays)
    if len(xs) == 2 or not are_values:
        return functools.reduce(of_two, xs)
    if arrays:
        return np.frompyfunc(lambda *each: _extremum(of_two, of_many, each), len(xs), 1)(*xs)
    return _extremum_of(of_many, xs)


def _extremum_of(row: Primitive, xs: Iterable[Any]) -> Value:
    def slopes(data: Sequence[float], out: float) -> list[float]:
        share = 1.0 / (data.count(out) or math.nan)  # NaN is equal to nothing
        return [share if x == out else 0.0 for x in data]

    return _reduction(row, tuple(xs), slopes)


def _reduction(row: Primitive, xs: tuple[Any, ...], slopes: Callable[..., list[float]]) -> Value:
    """The node of one of ops.REDUCTIONS, without the numbers that change no result."""
    xs = tuple([x for x in xs if isinstance(x, Value) or x != ops.REDUCTIONS[row]]) or xs
    xs, data, are_values = _vector(harmless(ops.total, xs) if branches else xs)
    cls = _result_class(Value, xs) if modes or _subclasses else Value
    out = row.compute(data)
    return _node(row, out, xs, None, slopes(data, out) if are_values else None, None, cls)


def dot(ws: Iterable[Any], xs: Iterable[Any]) -> Value:
    """Σ wᵢ xᵢ as one node; ws and xs are equally many Values or numbers.

    >>> z = dot([Value(2.0), Value(3.0)], [10.0, 1.0])
    >>> z.data, z.op
    (23.0, 'dot')
    """
    (out,) = matvec((ws,), xs)
    return out


def matvec(rows: Iterable[Iterable[Any]], xs: Iterable[Any]) -> list[Value]:
    """`dot` of each row with xs: a matrix–vector product, one node a row.

    The nodes share one tuple of operands, which makes a layer of neurons fast.

    >>> [z.data for z in matvec([[1.0, 2.0], [0.0, 1.0]], [Value(3.0), Value(4.0)])]
    [11.0, 4.0]
    """
    xs, x_data, x_is_value = _vector(harmless(ops.total, tuple(xs)) if branches else xs)
    cls = _result_class(Value, xs) if modes or _subclasses else Value
    outs = []
    for row in rows:
        ws = harmless(ops.total, tuple(row)) if branches else tuple(row)
        try:  # as in _vector, without a call
            w_data: Sequence[float] = [w._data for w in ws]
            w_is_value = True
        except AttributeError:
            ws, w_data, w_is_value = _vector(ws)
        if len(ws) != len(xs):
            raise ValueError(f"dot needs equally many operands on both sides, not {len(ws)} and {len(xs)}")
        out = _new(_result_class(cls, ws) if _subclasses or (modes and cls is Value) else cls)
        out._data = d = sum(map(times, w_data, x_data), 0.0)
        if d - d:
            raise anomaly(ops.dot, ws, xs)
        out.row = _DOT
        out.x = ws
        out.y = xs
        out._dx = x_data if w_is_value else None
        out._dy = w_data if x_is_value else None
        outs.append(out)
    return outs


def total(xs: Iterable[Any]) -> Value:
    """Σ xᵢ as one node; xs are Values or numbers.

    >>> total([Value(1.0), Value(2.0), 3.0]).data
    6.0
    """
    xs, data, are_values = _vector(harmless(ops.total, tuple(xs)) if branches else xs)
    cls = _result_class(Value, xs) if modes or _subclasses else Value
    slopes = [1.0] * len(xs) if are_values else None
    return _node(ops.total, sum(data, 0.0), xs, None, slopes, None, cls)


def logsumexp(xs: Iterable[Any]) -> Value:
    """log Σ exp(xᵢ) as one node, which never overflows; xs are Values or numbers, at least one.

    The derivative by xᵢ is exp(xᵢ) / Σ exp(xⱼ).

    >>> logsumexp([Value(1000.0), Value(1000.0)]).data
    1000.6931471805599
    """
    xs = tuple(xs)
    if not xs:
        raise ValueError("logsumexp takes at least one Value or number")
    return _reduction(ops.logsumexp, xs, lambda data, out: [math.exp(x - out) for x in data])


_OF_VECTORS: dict[Primitive, Any] = {
    ops.dot: dot,
    ops.total: total,
    ops.logsumexp: logsumexp,
    ops.largest: functools.partial(_extremum_of, ops.largest),
    ops.smallest: functools.partial(_extremum_of, ops.smallest),
}


def applied(row: Primitive, x: Any, y: Any = None) -> Value:
    """Record a row of the table for Values and numbers or, where the row takes vectors, sequences of them."""
    function = _OF_VECTORS.get(row, row)
    v = x if isinstance(x, Value) else y
    if function is row and isinstance(v, Value):  # as row() comes to, which looks for arrays, too
        function = functools.partial(v._record, row)
    return function(x) if y is None else function(x, y)


def _vector(xs: Iterable[Any]) -> tuple[tuple[Any, ...], Sequence[float], bool]:
    """Operands of `dot`, `total` and `where`: themselves, their data, and whether they are Values.

    All are Values or none is: a number among Values becomes a leaf.
    """
    xs = tuple(xs)
    if xs and type(xs[0]) is not float:
        try:
            return xs, [x._data for x in xs], True
        except AttributeError:
            pass  # some are no Values
    if set(map(type, xs)) == _FLOAT:
        return xs, xs, False
    if any(isinstance(x, Value) for x in xs):
        xs = tuple(x if isinstance(x, Value) else Constant(x) for x in xs)
        return xs, [x._data for x in xs], True
    xs = tuple(map(number, xs))
    return xs, xs, False


def _result_class(cls: type[Value], xs: Sequence[Any]) -> type[Value]:
    """The class of a result: the subclass of Value that an operand has, or else cls."""
    if _PLAIN.issuperset(map(type, xs)):
        return cls
    for x in xs:
        if type(x) not in _PLAIN and isinstance(x, Value):
            cls = type(x)
            if cls is not Traced:  # a user's subclass comes first: the result needs its methods
                break
    return cls


def _operands_and_class(row: Primitive, operands: tuple[Any, ...]) -> tuple[tuple[Any, ...], type[Value]]:
    """The operands to take and the result's class, where functions are traced or Value has subclasses."""
    if branches:
        operands = harmless(row, operands)
    return operands, _result_class(Value, operands)


def _binary(primitive: Primitive, x: Any, y: Any) -> Any:
    """The node of primitive(x, y); NotImplemented if one is neither a Value nor a number."""
    cls = Value
    if modes or _subclasses:
        (x, y), cls = _operands_and_class(primitive, (x, y))
    dx = dy = None
    try:
        if x_is_value := isinstance(x, Value):
            a = x._data
        else:
            a = x = _number_operand(x)
        if y_is_value := isinstance(y, Value):
            b = y._data
        else:
            b = y = _number_operand(y)
    except TypeError:
        return NotImplemented
    try:
        d = primitive.compute(a, b)
    except _UNDEFINED as cause:
        raise anomaly(primitive, x, y, cause) from None
    if x_is_value:
        try:
            dx = primitive.dx(a, b, d)
        except _UNDEFINED:
            dx = math.nan  # no derivative: backward() raises if it gets here
    if y_is_value:
        try:
            dy = primitive.dy(a, b, d)  # type: ignore[misc]
        except _UNDEFINED:
            dy = math.nan
    out = _new(cls)  # as in _node, whose call would take a tenth of the time
    out._data = d
    out.row = primitive
    out.x = x
    out.y = y
    out._dx = dx
    out._dy = dy
    if d - d:
        raise anomaly(primitive, x, y)
    return out


def _unary(primitive: Primitive, x: Value) -> Value:
    """The node of primitive(x)."""
    cls = Value
    if modes or _subclasses:
        (x,), cls = _operands_and_class(primitive, (x,))
    a = x._data
    try:
        d = primitive.compute(a)
    except _UNDEFINED as cause:
        raise anomaly(primitive, x, None, cause) from None
    try:
        dx = primitive.dx(a, d)
    except _UNDEFINED:
        dx = math.nan
    out = _new(cls)
    out._data = d
    out.row = primitive
    out.x = x
    out.y = None
    out._dx = dx
    out._dy = None
    if d - d:
        raise anomaly(primitive, x)
    return out


def _node(primitive: Primitive, data: float, x: Any, y: Any, dx: Any, dy: Any, cls: type[Value]) -> Value:
    out = _new(cls)
    out._data = data
    out.row = primitive
    out.x = x
    out.y = y
    out._dx = dx
    out._dy = dy
    if data - data:  # NaN, and so true, exactly where data is not finite
        raise anomaly(primitive, x, y)
    return out


def _original(error: BaseException) -> BaseException:
    """The original error, which CPython wrapped in SystemError because C code went on after it."""
    while isinstance(error, SystemError) and error.__cause__ is not None:
        error = error.__cause__
    return error


class _ByHand:
    """Stands in `dx` for local derivatives: iterating it runs the `_backward` written by hand."""

    __slots__ = ("function",)

    def __init__(self) -> None:
        self.function: Callable[[], Any] = _missing

    def __iter__(self) -> Iterator[float]:
        self.function()
        return iter(())


def _missing() -> None:
    raise TypeError(
        "a Value made by hand has no _backward: set it to a function that adds to its parents' grads"
    )


def _numpy_method(function: Any) -> Callable[..., Any]:
    return lambda self, *other: function(self, *other)


# On a plain array of Values, NumPy's ufuncs call the elements' methods of these names.
for _spelled in (
    "tan arcsin arccos arctan arctan2 sinh cosh arcsinh arccosh arctanh exp2 expm1 log1p log2 log10 cbrt"
    " hypot deg2rad rad2deg degrees radians fabs"
).split():
    setattr(Value, _spelled, _numpy_method(BY_UFUNC[getattr(np, _spelled)]))

_new = Value.__new__
_PLAIN: set[type] = {Value, float}
_UNDEFINED = (ArithmeticError, ValueError)  # the errors of Python's float arithmetic and of math
_FLOAT = {float}
_exp = math.exp
_ADD, _SUB, _MUL, _DOT, _SIGMOID, _RELU = ops.add, ops.sub, ops.mul, ops.dot, ops.sigmoid, ops.relu
backward_lock = new_lock()
# The number here changes after each writing of data: compiled programs read their leaves again only then.
_writes = itertools.count()
latest_write = [next(_writes)]
_FAST: dict[str, Any] = {
    name: getattr(Value, name) for name in ("__add__", "__sub__", "__mul__", "sigmoid", "relu")
}
_REFLECTED = {
    "__radd__": lambda self, x: self.__add__(x) if type(x) is float else _binary(ops.add, x, self),
    "__rmul__": lambda self, x: self.__mul__(x) if type(x) is float else _binary(ops.mul, x, self),
}


class Constant(Value):
    """A number among the Values of a vector: compile() bakes it in, and reads other leaves at each call."""

    __slots__ = ()


_PLAIN.add(Constant)


_indices = itertools.count(1)


class Traced(Value):
    """A Value given to, or computed in, a function that is compiled or differentiated.

    Threads that the function starts trace it, too. A Traced Value is no key of a dict, because a look-up by
    its number would miss.
    """

    __slots__ = ()

    traced = True
    is_index: int  # set for data that may be an index: 0, or the number of its last use as an index

    def __index__(self) -> int:
        """The data as an index; compile finds the elements for the data of other rows (see lookup.py)."""
        if not hasattr(self, "is_index") or mode_of(self) == TRANSFORM:
            raise no_number(self)
        self.is_index = next(_indices)
        if not self._data.is_integer():
            raise TypeError(f"an index is a whole number, and {self.label} is {self._data}")
        return int(self._data)

    def __int__(self) -> int:
        return self.x.__index__() if self.row is ops.detach else self.__index__()

    # Unlike the fast operators, these make operands harmless in a branch of `where`.

    __add__ = _binary_method(ops.add)
    __sub__ = _binary_method(ops.sub)
    __mul__ = _binary_method(ops.mul)
    sigmoid = _unary_method(ops.sigmoid)
    relu = _unary_method(ops.relu)

    def __hash__(self) -> int:
        if modes and sys._getframe(1).f_globals.get("__name__", "").partition(".")[0] not in (
            "autograd",
            "nn",
        ):
            refuse(self, "looks up")
        return object.__hash__(self)


def write(values: Iterable[Value], numbers: Iterable[float]) -> None:
    """Set the data of many Values, without the checks of `data`."""
    for v, number in zip(values, numbers):
        v._data = number
    latest_write[0] = next(_writes)


def settle(outputs: Iterable[Any]) -> tuple[list[Value], list[Value]]:
    """Turn the Traced nodes of the outputs' graph into plain Values; return those nodes and all leaves."""
    found: list[Value] = []
    leaves: list[Value] = []
    seen = set[int]()  # of ids, because a Traced Value may refuse hash()
    stack: list[Any] = [x for x in outputs if isinstance(x, Value)]
    while stack:
        v = stack.pop()
        if id(v) not in seen:
            seen.add(id(v))
            if type(v) is tuple:  # operands, which nodes may share
                stack += v
                continue
            if v.row is None:
                leaves.append(v)
            else:
                for x, slopes in ((v.x, v._dx), (v.y, v._dy)):
                    if slopes is not None or (type(x) is not tuple and isinstance(x, Value)):
                        stack.append(x)
            if type(v) is Traced:
                v.__class__ = Value  # type: ignore[assignment]
                found.append(v)
    return found, leaves
