"""Transforms: from a function to the function that gives its derivatives.

    def f(w, x):
        return np.sin(w @ x) ** 2

    grad(f)(w, x)  # ∂f/∂w, in the shape of w
    hessian(f, argnums=(0, 1))(w, x)  # a tuple of tuples of second derivatives
    grad(grad(grad(lambda x: x**4)))(2.0)  # 48.0

f is differentiated by its arguments at the places `argnums`: floats, NumPy arrays, and nested lists, tuples
and dicts of those, as {"w": w, "b": b}. f gets Values in their places, and derivatives come back in the
arguments' form. Other arguments are passed on unchanged. f may compare its Values and branch: the branch
taken is differentiated. A TypeError is raised where a derivative would be lost: where f takes float() or
bool() of a Value, reads its grad, copies it, or looks it up in a dict. `x.data` is a number without a
derivative.

Results are numbers, unless f depends on Values from outside: on arguments that are Values, or on a model's
parameters. Then results are Values, which can be differentiated again, drawn and compiled; one that depends
on no outside Value is a number. So transforms of transforms work.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ParamSpec

import numpy as np

from . import ops
from .derive import adjoints, pushforward
from .node import data_of
from .tracing import TRANSFORM, Values, modes, tracing
from .value import Constant, Traced, Value, number, settle

ArgNums = int | Sequence[int]
P = ParamSpec("P")


def grad(f: Callable[P, Any], argnums: ArgNums = 0) -> Callable[P, Any]:
    """The gradient of f, which has one output, by one argument; by several, a tuple of gradients.

    For an elementwise function of a large array, compile(grad(f)).per_example(x) is f' at each number of x,
    thousands of times as fast as grad(f) of one number after the other.

    Raises TypeError where f returns more than one number, and ArithmeticError where a derivative is not
    finite.

    >>> grad(lambda x: x**3)(2.0)
    12.0
    >>> grad(lambda w, x: w @ x, argnums=(0, 1))(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    (array([3., 4.]), array([1., 2.]))
    >>> grad(grad(lambda x: x**3))(2.0)
    12.0
    """
    both = value_and_grad(f, argnums)
    return _named_after(f, lambda *args, **kwargs: both(*args, **kwargs)[1])


def value_and_grad(f: Callable[P, Any], argnums: ArgNums = 0) -> Callable[P, tuple[Any, Any]]:
    """The result of f and its gradient, as a pair; see grad.

    >>> value_and_grad(lambda x: x**2)(3.0)
    (9.0, 6.0)
    """
    places = places_of(f, argnums)

    def both(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        with TracedCall(f, places, args, kwargs) as call:
            if _form_shape(call.result) != ():
                raise TypeError(
                    f"grad takes a function with one output, and {call.name} returned {call.result!r:.80}:"
                    " jacobian takes one with several"
                )
            table = call.table([call.outputs + call.gradient(call.outputs[0])])
        return table[:, :1].item(), formed(table[:, 1:], 0.0, call.by(argnums))

    return _named_after(f, both)


def jacobian(f: Callable[P, Any], argnums: ArgNums = 0) -> Callable[P, Any]:
    """The derivatives of the result of f: of a number, an array, or lists, tuples or dicts of those.

    Each number of the result is replaced by its derivatives, in the form of the argument: a dict for a dict.
    The derivatives of an array by an array are one array, of shape (*result, *argument).

    >>> jacobian(lambda v: [v[0] * v[1], v[0] + v[1]])([2.0, 3.0])
    [[3.0, 2.0], [1.0, 1.0]]
    """
    places = places_of(f, argnums)

    def derivatives(*args: Any, **kwargs: Any) -> Any:
        with TracedCall(f, places, args, kwargs) as call:
            table = call.table([call.gradient(output) for output in call.outputs])
        return formed(table, call.result, call.by(argnums))

    return _named_after(f, derivatives)


def hessian(f: Callable[P, Any], argnums: ArgNums = 0) -> Callable[P, Any]:
    """The second derivatives of f, which has one output: the Jacobian of its gradient.

    >>> hessian(lambda v: v[0] ** 2 * v[1])(np.array([3.0, 5.0]))
    array([[10.,  6.],
           [ 6.,  0.]])
    """
    return jacobian(grad(f, argnums), argnums)


def jvp(
    f: Callable[P, Any], primals: Sequence[Any], tangents: Sequence[Any], argnums: ArgNums | None = None
) -> tuple[Any, Any]:
    """f(*primals), and its derivative in the direction of tangents: the Jacobian times a vector.

    Each primal, or each that argnums names, has a tangent of the same form. The Jacobian is not computed:
    the tangents go forward along the graph once.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 0.0))
    (6.0, 3.0)
    """
    if not (isinstance(primals, list | tuple) and isinstance(tangents, list | tuple)):
        raise TypeError("jvp takes primals and tangents as tuples, (x,) if there is one")
    places = places_of(f, range(len(primals)) if argnums is None else argnums)
    with TracedCall(f, places, primals, {}) as call:
        if _form_shape(tuple(tangents)) != _form_shape(call.arguments):
            shapes = f"{_form_shape(tuple(tangents))}, and the arguments {_form_shape(call.arguments)}"
            raise ValueError(f"the tangents have shapes {shapes}")
        given = list(numbers_in(tuple(tangents), call.arguments))
        call.gives_values |= any(isinstance(x, Value) for x in given)
        directions = [x if isinstance(x, Value) else Constant(x) for x in given]
        table = call.table([call.outputs, pushforward(zip(call.variables, directions), call.outputs)])
    result, slope = (formed(row, 0.0, call.result) for row in (table[:1], table[1:]))
    return result, slope


def hvp(f: Callable[P, Any], primals: Sequence[Any], tangents: Sequence[Any], argnums: ArgNums = 0) -> Any:
    """The Hessian of f times a vector: the derivative of its gradient in the direction of tangents.

    Each argument that argnums names has a tangent. The Hessian is not computed.

    >>> hvp(lambda v: v[0] ** 2 * v[1], ([3.0, 5.0],), ([1.0, 0.0],))
    [10.0, 6.0]
    """
    return jvp(grad(f, argnums), primals, tangents, argnums)[1]


class TracedCall:
    """One call of f on `variables`: the `result`, and the numbers in the result as `outputs`.

    `gives_values` is true if f depends on Values from outside. When the call ends, each variable that stands
    for an argument's Value becomes part of that Value's graph.
    """

    def __init__(self, f: Any, places: Sequence[int], args: Sequence[Any], kwargs: dict[str, Any]):
        self.name = getattr(f, "__qualname__", repr(f))
        n = len(args)
        if not all(-n <= i < n for i in places) or len({i % n for i in places}) < len(places):
            by_name = ", besides those by name, by which nothing is differentiated" if kwargs else ""
            raise ValueError(f"{self.name} was called with {n} arguments{by_name}, and argnums is {places}")
        self.arguments = tuple(args[i] for i in places)
        self.given = list(numbers_in(self.arguments))
        self.settled: list[Value] = []
        # A new leaf stands for each number and Value, so that walks from the outputs end at the arguments.
        try:
            self.variables: list[Value] = [Traced(data_of(x)) for x in self.given]
        except TypeError as error:
            by = next(_no_numbers((f"argument {i % n}", form) for i, form in zip(places, self.arguments)))
            raise TypeError(f"{self.name} cannot be differentiated by {by}: {error}") from None
        args = list(args)
        for i, variables in zip(places, formed(table_of([self.variables]).view(Values), 0.0, self.arguments)):
            args[i] = variables
        try:
            with tracing(TRANSFORM):
                self.result = f(*args, **kwargs)
        except BaseException:
            self.__exit__()
            raise
        try:
            self.outputs = [x if isinstance(x, Value) else number(x) for x in numbers_in(self.result)]
        except TypeError:
            wrong = next(_no_numbers([("result", self.result)]))
            said = f"{self.result!r:.80}, and not Values or numbers" + f": see {wrong}" * (wrong != "result")
            raise TypeError(f"{self.name} returned {said}") from None
        self.settled, leaves = settle([*self.variables, *self.outputs])
        known = set(self.variables)
        self.gives_values = any(isinstance(x, Value) for x in self.given) or any(
            v not in known and not isinstance(v, Constant) for v in leaves
        )

    def gradient(self, output: Any) -> list[Any]:
        """The derivatives of an output by the variables."""
        if not isinstance(output, Value):
            return [0.0] * len(self.variables)
        if self.gives_values:
            found = adjoints({output: 1.0}, self.variables)
            return [found.get(v, 0.0) for v in self.variables]
        for v in self.variables:
            v._grad = 0.0
        output.backward()  # backward() gives numbers in a fraction of the time
        return [v._grad for v in self.variables]

    def table(self, rows: list[list[Any]]) -> np.ndarray:
        """The results as a table: of Values if the call gives Values, else of numbers."""
        if not self.gives_values:
            return table_of([[data_of(x) for x in row] for row in rows])
        # A leaf belongs to the caller: labels and changes of a result must not reach it.
        rows = [[x * 1.0 if isinstance(x, Value) and not x.row else x for x in row] for row in rows]
        self.settled += [x for row in rows for x in row if type(x) is Value]
        return table_of(rows)

    def __enter__(self) -> TracedCall:
        return self

    def __exit__(self, *_: Any) -> None:
        if modes:  # an outer call still traces them
            for v in self.settled:
                v.__class__ = Traced
        for v, x in zip(self.variables, self.given):
            if isinstance(x, Value):
                v.row, v.x, v.y, v._dx = ops.mul, x, 1.0, 1.0
            else:
                v.__class__ = Constant

    def by(self, argnums: ArgNums) -> Any:
        """The arguments to differentiate by: a tuple, or the one that argnums names."""
        return self.arguments if isinstance(argnums, list | tuple | range) else self.arguments[0]


def _named_after(f: Any, transform: Callable[..., Any]) -> Callable[..., Any]:
    return functools.wraps(f, updated=())(transform)


def places_of(f: Any, argnums: Any) -> tuple[int, ...]:
    """argnums as a tuple."""
    if not callable(f):
        raise TypeError(f"only a function can be differentiated, not {f!r:.80}")
    try:
        return tuple(map(operator.index, argnums if isinstance(argnums, list | tuple | range) else [argnums]))
    except TypeError:
        raise TypeError(f"argnums is the place of an argument, or several, not {argnums!r:.80}") from None


# A form is a number or a Value, an array of them, or a list, tuple or dict of forms.


def _held_by(form: Any) -> Iterable[Any]:
    return form.values() if isinstance(form, dict) else form


def numbers_in(form: Any, like: Any = None) -> Iterator[Any]:
    """The numbers and Values in a form; dicts are read in the key order of those in `like`, if given."""
    if isinstance(form, dict) and like is not None:
        form, like = [form[key] for key in like], like.values()
    if isinstance(form, list | tuple | dict):
        for part, other in zip(_held_by(form), itertools.repeat(None) if like is None else like):
            yield from numbers_in(part, other)
    elif isinstance(form, np.ndarray):
        yield from form.ravel().tolist()
    else:
        yield form


def paths(name: str, form: Any) -> Iterator[str]:
    """The names of the numbers in a form: x, x[0][1], x[0,1], x['w']."""
    if isinstance(form, list | tuple | dict):
        for key, part in form.items() if isinstance(form, dict) else enumerate(form):
            yield from paths(f"{name}[{key!r}]", part)
    elif isinstance(form, np.ndarray) and form.ndim:
        for index in np.ndindex(form.shape):
            yield f"{name}[{','.join(map(str, index))}]"
    else:
        yield name


def _no_numbers(forms: Iterable[tuple[str, Any]]) -> Iterator[str]:
    """The paths of items that are neither numbers nor Values, in pairs of a name and a form."""
    for name, form in forms:
        for path, x in zip(paths(name, form), numbers_in(form)):
            try:
                number(data_of(x))
            except TypeError:
                yield path


def _form_shape(form: Any) -> Any:
    """A form's shape; a list of shapes for a list, and a dict of them for a dict."""
    if isinstance(form, dict):
        return {key: _form_shape(part) for key, part in form.items()}
    if isinstance(form, list | tuple):
        return [_form_shape(part) for part in form]
    return form.shape if isinstance(form, np.ndarray) else ()


def formed(table: np.ndarray, outer: Any, inner: Any) -> Any:
    """A table's numbers: its rows arranged in the outer form, the columns of each row in the inner form."""
    for axis, form in enumerate((outer, inner)):
        if isinstance(form, list | tuple | dict):
            ends = np.cumsum([len(list(numbers_in(part))) for part in _held_by(form)], dtype=int)
            pieces = zip(np.split(table, ends[:-1], axis), _held_by(form))
            found = [formed(t, *((outer, part) if axis else (part, inner))) for t, part in pieces]
            if isinstance(form, dict):
                return dict(zip(form, found))
            make = list if isinstance(form, list) else getattr(form, "_make", tuple)  # a named tuple's
            return make(found)
    shape = _form_shape(outer) + _form_shape(inner)
    if isinstance(outer, np.ndarray) or isinstance(inner, np.ndarray):
        return table.reshape(shape)
    return table.item()


def table_of(rows: list[list[Any]]) -> np.ndarray:
    """Rows as an array, of objects if any is a Value."""
    dtype = object if any(isinstance(x, Value) for row in rows for x in row) else float
    table = np.empty((len(rows), len(rows[0]) if rows else 0), dtype=dtype)
    for i, row in enumerate(rows):
        table[i] = row
    return table
