"""Value: a float that remembers how it was computed, and backward() through that memory.

    x, w = Value(2.0, label="x"), Value(-3.0, label="w")
    loss = (w * x - 1.0) ** 2
    loss.backward()          # w.grad is now ∂loss/∂w = 2 (wx − 1) x = -28.0

`dot`, `matvec` and `total` make one node of many operands.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import mul as times
from typing import Any

import numpy as np

from . import copying, ops
from .errors import anomaly, gradient_anomaly
from .graph import parents, topological_order
from .locks import new_lock
from .ops import Primitive


class Value:
    """A scalar in a computation graph.

    `data` is its value and `grad` the gradient that backward() found for it; both may be set, to
    floats. A Value that a primitive computed also knows the primitive's name, `op`, its operands
    `x` and `y`, and the local derivatives `dx` = ∂self/∂x and `dy` = ∂self/∂y at the operands'
    values of that moment. An operand is a Value, a number (its local derivative is None: nobody asks
    for it) or, for `dot` and `total`, a tuple of Values or of numbers. A leaf has no operands, and
    op "".

    Raises TypeError unless `data` is one real number.
    """

    __slots__ = ("data", "grad", "label", "op", "x", "y", "dx", "dy")

    def __init__(self, data: Any, label: str = ""):
        if not isinstance(label, str):
            raise TypeError(f"a label is a string, not {label!r:.80}")
        self.data: float = number(data)
        self.grad: float = 0.0
        self.label = label
        self.op = ""
        self.x: Any = None
        self.y: Any = None
        self.dx: Any = None
        self.dy: Any = None

    # The operators of the innermost loops have their row of the table written out, for speed; a
    # test holds them to the table. `d - d` is NaN, and so true, just where d is not finite.

    def __add__(self, other: Any) -> Value:
        if type(other) is Value:
            y, dy = other.data, 1.0
        elif type(other) is float:
            y, dy = other, None
        else:
            return _binary(ops.add, self, other)
        out = _new(Value)
        out.data = d = self.data + y
        if d - d:
            raise anomaly(ops.add, self, other)
        out.grad = 0.0
        out.label = ""
        out.op = "add"
        out.x = self
        out.y = other
        out.dx = 1.0
        out.dy = dy
        return out

    def __sub__(self, other: Any) -> Value:
        if type(other) is Value:
            y, dy = other.data, -1.0
        elif type(other) is float:
            y, dy = other, None
        else:
            return _binary(ops.sub, self, other)
        out = _new(Value)
        out.data = d = self.data - y
        if d - d:
            raise anomaly(ops.sub, self, other)
        out.grad = 0.0
        out.label = ""
        out.op = "sub"
        out.x = self
        out.y = other
        out.dx = 1.0
        out.dy = dy
        return out

    def __mul__(self, other: Any) -> Value:
        x = self.data
        if type(other) is Value:
            y, dy = other.data, x
        elif type(other) is float:
            y, dy = other, None
        else:
            return _binary(ops.mul, self, other)
        out = _new(Value)
        out.data = d = x * y
        if d - d:
            raise anomaly(ops.mul, self, other)
        out.grad = 0.0
        out.label = ""
        out.op = "mul"
        out.x = self
        out.y = other
        out.dx = y
        out.dy = dy
        return out

    def __truediv__(self, other: Any) -> Value:
        return _binary(ops.div, self, other)

    def __pow__(self, other: Any) -> Value:
        return _binary(ops.pow, self, other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Value:
        return _binary(ops.sub, other, self)

    def __rtruediv__(self, other: Any) -> Value:
        return _binary(ops.div, other, self)

    def __rpow__(self, other: Any) -> Value:
        return _binary(ops.pow, other, self)

    def __neg__(self) -> Value:
        return _unary(ops.neg, self)

    def __pos__(self) -> Value:
        return self

    def __abs__(self) -> Value:
        return _unary(ops.abs, self)

    def exp(self) -> Value:
        """e^x."""
        return _unary(ops.exp, self)

    def log(self) -> Value:
        """The natural logarithm."""
        return _unary(ops.log, self)

    def sqrt(self) -> Value:
        """The square root; its derivative at 0 is infinite, and an error if asked for."""
        return _unary(ops.sqrt, self)

    def sin(self) -> Value:
        """The sine of radians."""
        return _unary(ops.sin, self)

    def cos(self) -> Value:
        """The cosine of radians."""
        return _unary(ops.cos, self)

    def tanh(self) -> Value:
        """The hyperbolic tangent."""
        return _unary(ops.tanh, self)

    def sigmoid(self) -> Value:
        """1 / (1 + e^(−x)); never overflows."""
        try:
            s = 1.0 / (1.0 + _exp(-self.data))
        except OverflowError:
            return _unary(ops.sigmoid, self)
        out = _new(Value)
        out.data = s
        if s - s:
            raise anomaly(ops.sigmoid, self)
        out.grad = 0.0
        out.label = ""
        out.op = "sigmoid"
        out.x = self
        out.y = None
        out.dx = s * (1.0 - s)
        out.dy = None
        return out

    def relu(self) -> Value:
        """max(x, 0), with derivative 0 at 0."""
        x = self.data
        out = _new(Value)
        out.data = d = 0.0 if x <= 0.0 else x
        if d - d:
            raise anomaly(ops.relu, self)
        out.grad = 0.0
        out.label = ""
        out.op = "relu"
        out.x = self
        out.y = None
        out.dx = 1.0 if x > 0.0 else 0.0
        out.dy = None
        return out

    def softplus(self) -> Value:
        """log(1 + e^x); never overflows."""
        return _unary(ops.softplus, self)

    def conjugate(self) -> Value:
        """Itself, as it is real; numpy.var and numpy.vdot ask for it."""
        return self

    def __eq__(self, other: Any) -> Any:
        if not isinstance(other, Value):
            read(self, "compares by ==")
        return NotImplemented  # Values are equal if they are the same

    __hash__ = object.__hash__

    def __lt__(self, other: Any) -> Any:
        return read(self, "compares") < (read(other, "compares") if isinstance(other, Value) else other)

    def __le__(self, other: Any) -> Any:
        return read(self, "compares") <= (read(other, "compares") if isinstance(other, Value) else other)

    def __gt__(self, other: Any) -> Any:
        return read(self, "compares") > (read(other, "compares") if isinstance(other, Value) else other)

    def __ge__(self, other: Any) -> Any:
        return read(self, "compares") >= (read(other, "compares") if isinstance(other, Value) else other)

    def __float__(self) -> float:
        return float(read(self, "takes the float() of"))

    def __bool__(self) -> bool:
        read(self, "takes the bool() of")
        return True  # as of any object: `if neuron.b` asks whether there is one

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    @property
    def parents(self) -> tuple[Value, ...]:
        """The Values that this one was computed from."""
        return parents(self)

    _op = property(lambda self: self.op, doc="`op`, for code written for micrograd.")
    _prev = property(lambda self: set(self.parents), doc="`parents`, for code written for micrograd.")

    def backward(self) -> None:
        """Add ∂self/∂leaf to the `grad` of every leaf; set that of the nodes between.

        The derivatives are those at the values recorded when the graph was built. Raises
        ArithmeticError if this pass finds a gradient that is not finite; the leaves then keep the
        grads that they had.
        """
        with backward_lock:  # graphs on several threads may share leaves
            order = topological_order(self)
            leaves = [v for v in order if not v.op]
            before = [v.grad for v in leaves]
            try:
                for v in order:
                    v.grad = 0.0
                self.grad = 1.0
                for v in reversed(order):
                    g = v.grad
                    if g - g:
                        raise gradient_anomaly(v, order)
                    dx = v.dx
                    if dx is not None:
                        x = v.x
                        if type(x) is tuple:
                            for p, d in zip(x, dx):
                                p.grad += g * d
                        else:
                            x.grad += g * dx
                    dy = v.dy
                    if dy is not None:
                        y = v.y
                        if type(y) is tuple:
                            for p, d in zip(y, dy):
                                p.grad += g * d
                        else:
                            y.grad += g * dy
                # Added once and whole, so that a second pass exactly doubles what the first one gave.
                for v, grad in zip(leaves, [b + v.grad for v, b in zip(leaves, before)]):
                    v.grad = grad
            except BaseException:
                for v in order:
                    v.grad = 0.0
                for v, b in zip(leaves, before):
                    v.grad = b
                raise

    def __copy__(self) -> Value:
        read(self, "copies")
        return copying.copy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Value:
        read(self, "copies")
        return copying.deepcopy(self, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        read(self, "copies")
        return copying.reduce(self, protocol)

    def _repr_svg_(self) -> str | None:
        from .draw import DrawingError, draw

        try:
            return draw(self).svg()
        except DrawingError:  # too large, or nothing here that renders: the notebook shows the repr
            return None

    @staticmethod
    def _record(primitive: Primitive, *operands: Any) -> Value:
        out = (_binary if primitive.dy else _unary)(primitive, *operands)
        if out is NotImplemented:
            names = " and ".join(type(operand).__name__ for operand in operands)
            raise TypeError(f"{primitive.name} takes Values and numbers, not {names}")
        return out

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        primitive = _BY_UFUNC.get(ufunc)
        if primitive and method == "__call__" and not kwargs:
            return np.frompyfunc(primitive, len(inputs), 1)(*inputs)
        if any(isinstance(out, Value) for out in kwargs.get("out", ())):
            raise TypeError(f"numpy.{ufunc.__name__} cannot write into a Value")
        # Element by element, by the operators and methods of the Values in arrays of objects.
        inputs = tuple(np.array(x, dtype=object) if isinstance(x, Value) else x for x in inputs)
        return getattr(ufunc, method)(*inputs, **kwargs)


class Constant(Value):
    """A number among the Values of a vector: compile() takes it for a number, and other leaves for live."""

    __slots__ = ()


def read(v: Value, use: str) -> float:
    """v.data, for a use that no graph knows of; an error where that is refused."""
    if use in refused.errors:
        raise refused.errors[use](v, use)
    return v.data


@contextlib.contextmanager
def refusing(error: Callable[[Value, str], Exception], *uses: str) -> Iterator[None]:
    """Where this thread's Values may not be read for these uses."""
    before = refused.errors
    refused.errors = {**dict.fromkeys(uses, error), **before}
    try:
        yield
    finally:
        refused.errors = before


# Uses of a Value that no graph knows of, and that give no error by themselves.
UNSEEN = ("takes the float() of", "takes the bool() of", "compares by ==", "copies")


class _Refused(threading.local):
    errors: dict[str, Callable[[Value, str], Exception]] = {}  # noqa: RUF012  never changed, but replaced


def number(x: Any) -> float:
    """x as a float; TypeError unless it is one real number (or an array that holds just one)."""
    if type(x) is float or type(x) is int:
        return float(x)
    if isinstance(x, np.ndarray) and x.size == 1:
        x = x.item()
    if not isinstance(x, (Value, str, bytes, bytearray, np.complexfloating)):
        try:
            return float(x)
        except (TypeError, ValueError):
            pass
    what = f"an array of shape {x.shape}" if isinstance(x, np.ndarray) else f"{type(x).__name__} {x!r}"
    raise TypeError(f"a Value holds one real number, not {what:.80}")


def _scalar(x: Any) -> float:
    """An operand that is no Value; an array of one element stays an array, so that shapes are kept."""
    if type(x) is not float and isinstance(x, np.ndarray) and x.ndim:
        raise TypeError("an array is no scalar")
    return number(x)


def maximum(x: Any, y: Any) -> Any:
    """The larger of two Values or numbers, element by element in arrays; equals share the gradient."""
    return ops.maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of two Values or numbers, element by element in arrays; equals share the gradient."""
    return ops.minimum(x, y)


def dot(ws: Iterable[Any], xs: Iterable[Any]) -> Value:
    """Σ wᵢ xᵢ as one node; ws and xs are equally many Values or numbers."""
    (out,) = matvec((ws,), xs)
    return out


def matvec(rows: Iterable[Iterable[Any]], xs: Iterable[Any]) -> list[Value]:
    """`dot` of each row with xs: a matrix–vector product, one node a row.

    The nodes share one tuple of operands, which is what makes a layer of neurons fast.
    """
    xs, x_data, x_live = _vector(xs)
    outs = []
    for row in rows:
        ws, w_data, w_live = _vector(row)
        if len(ws) != len(xs):
            raise ValueError(f"dot needs equally many operands on both sides, not {len(ws)} and {len(xs)}")
        out = _new(Value)
        out.data = d = sum(map(times, w_data, x_data), 0.0)
        if d - d:
            raise anomaly(ops.dot, ws, xs)
        out.grad = 0.0
        out.label = ""
        out.op = "dot"
        out.x = ws
        out.y = xs
        out.dx = x_data if w_live else None
        out.dy = w_data if x_live else None
        outs.append(out)
    return outs


def total(xs: Iterable[Any]) -> Value:
    """Σ xᵢ as one node; xs are Values or numbers."""
    xs, data, live = _vector(xs)
    return _node(ops.total, sum(data, 0.0), xs, None, [1.0] * len(xs) if live else None, None)


def _vector(xs: Iterable[Any]) -> tuple[tuple[Any, ...], Sequence[float], bool]:
    """Operands of `dot` and `total`: themselves, their data, and whether they are Values.

    All are Values or none is: a number among Values becomes a leaf.
    """
    xs = tuple(xs)
    if xs and type(xs[0]) is Value:
        try:
            return xs, [x._data for x in xs], True
        except AttributeError:
            pass  # not all are
    if set(map(type, xs)) == _FLOAT:
        return xs, xs, False
    if any(isinstance(x, Value) for x in xs):
        xs = tuple(x if isinstance(x, Value) else Constant(x) for x in xs)
        return xs, [x.data for x in xs], True
    xs = tuple(map(number, xs))
    return xs, xs, False


def _binary(primitive: Primitive, x: Any, y: Any) -> Any:
    """The node of primitive(x, y); NotImplemented if one is neither a Value nor a number."""
    dx = dy = None
    try:
        if x_live := isinstance(x, Value):
            a = x.data
        else:
            a = x = _scalar(x)
        if y_live := isinstance(y, Value):
            b = y.data
        else:
            b = y = _scalar(y)
    except TypeError:
        return NotImplemented
    try:
        d = primitive.compute(a, b)
    except _UNDEFINED as cause:
        raise anomaly(primitive, x, y, cause) from None
    if x_live:
        try:
            dx = primitive.dx(a, b, d)
        except _UNDEFINED:
            dx = math.nan  # there is none; backward() says so if it gets here
    if y_live:
        try:
            dy = primitive.dy(a, b, d)  # type: ignore[misc]
        except _UNDEFINED:
            dy = math.nan
    return _node(primitive, d, x, y, dx, dy)


def _unary(primitive: Primitive, x: Value) -> Value:
    """The node of primitive(x)."""
    a = x.data
    try:
        d = primitive.compute(a)
    except _UNDEFINED as cause:
        raise anomaly(primitive, x, None, cause) from None
    try:
        dx = primitive.dx(a, d)
    except _UNDEFINED:
        dx = math.nan
    return _node(primitive, d, x, None, dx, None)


def _node(primitive: Primitive, data: float, x: Any, y: Any, dx: Any, dy: Any) -> Value:
    out = _new(Value)
    out.data = data
    out.grad = 0.0
    out.label = ""
    out.op = primitive.name
    out.x = x
    out.y = y
    out.dx = dx
    out.dy = dy
    if data - data:  # NaN, and so true, just where data is not finite
        raise anomaly(primitive, x, y)
    return out


# The slot of `data`, by a name that no other type has: reading it checks that it is a Value's.
Value._data = Value.data  # type: ignore[attr-defined, misc]
_new = Value.__new__
_UNDEFINED = (ArithmeticError, ValueError)  # what Python's float arithmetic and math raise
_FLOAT = {float}
_exp = math.exp
refused = _Refused()
_BY_UFUNC = {row.numpy: row for row in ops.TABLE.values() if isinstance(row.numpy, np.ufunc)}
backward_lock = new_lock()
