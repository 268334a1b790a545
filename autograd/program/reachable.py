"""reachable: the objects that a function can reach, for its random generators and its parameters' names."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import math
import pickle
import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.random import BitGenerator

from ..value import Value

MOST_OBJECTS = 100_000  # a search ends after these
MOST_LEAVES, MOST_AXES = 1_000_000, 8  # of an array that a user declares
PLAIN = {bool, float, int, str, type(None), Value}
LIBRARIES = {"autograd", "nn", "numpy", *sys.stdlib_module_names}  # they hold none of the user's objects
INSTALLED = {"site-packages", "dist-packages"}  # folders of other libraries, which hold none either


def random_generators(*users: Any) -> list[Any]:
    """The global random generators, and those that functions and objects can reach."""
    kinds = (BitGenerator, random.Random)
    found = _objects(random.random, np.random.rand, *users)
    return [x for x in found if isinstance(x, kinds) and not isinstance(x, random.SystemRandom)]


def declared(*users: Any) -> list[tuple[str, np.ndarray]]:
    """The arrays of leaves that functions can reach, with their names, the nearest first.

    They are the parameters of Modules, other arrays and nested lists, which have no name: "". A name is the
    end of the one that the nearest Module has: "norm_bias" for layers.1.norm.bias.
    """
    found: dict[Any, tuple[str, np.ndarray]] = {}  # by the first leaf, the shape, and whether a Module has it
    shapes: dict[int, tuple[int, ...]] = {}
    for x in _objects(*users):
        if callable(getattr(type(x), "named_parameters", None)):
            with contextlib.suppress(Exception):  # another library's, or one whose parameters have no order
                for name, array in x.named_parameters():
                    words = [word for word in name.split(".") if not word.isdigit()]
                    if isinstance(array, np.ndarray) and array.size and all(map(_is_leaf, array.flat)):
                        key = array.flat[0], array.shape, True
                        found.setdefault(key, ("_".join(words[-2:]), array))
        elif isinstance(x, np.ndarray | list | tuple):
            shape = _nest_shape(x, shapes)
            if shape and math.prod(shape) <= MOST_LEAVES:
                key = next(_nest_leaves(x, len(shape))), shape, False
                if key not in found:
                    leaves = np.fromiter(_nest_leaves(x, len(shape)), dtype=object)
                    found[key] = "", leaves.reshape(shape)
    return list(found.values())


def _nest_shape(x: Any, known: dict[int, tuple[int, ...]], most: int = MOST_AXES) -> tuple[int, ...]:
    """The shape of an array or of nested lists of leaves, else (); a list may hold itself."""
    if isinstance(x, np.ndarray):
        is_small = x.dtype == object and x.size <= MOST_LEAVES
        return x.shape if is_small and all(map(_is_leaf, x.flat)) else ()
    if not isinstance(x, list | tuple) or not x or not most:
        return ()
    if id(x) not in known:
        known[id(x)] = ()  # until it is known
        if _is_leaf(x[0]):
            known[id(x)] = (len(x),) if all(map(_is_leaf, x)) else ()
        elif shape := _nest_shape(x[0], known, most - 1):
            if all(_nest_shape(part, known, most - 1) == shape for part in x):
                known[id(x)] = (len(x), *shape)
    return known[id(x)]


def _is_leaf(x: Any) -> bool:
    return isinstance(x, Value) and x.row is None


def _nest_leaves(x: Any, depth: int) -> Iterator[Value]:
    if depth == 1 or isinstance(x, np.ndarray):
        return iter(x.flat if isinstance(x, np.ndarray) else x)
    return itertools.chain.from_iterable(_nest_leaves(part, depth - 1) for part in x)


def fingerprint(*users: Any) -> tuple[list[Any], list[Any]]:
    """A list that is equal to an earlier one if nothing that the users can reach has changed since.

    It has numbers and texts, the contents of arrays and of lists of numbers, and which other objects there
    are; and not the numbers of Values. The second list keeps those objects, so that no other gets their ids.
    """
    marks: list[Any] = []
    held: list[Any] = []
    for x in _objects(*users):
        if isinstance(x, np.ndarray):
            marks.append(hash((x.shape, x.dtype.str, x.tobytes())))
        elif type(x) in PLAIN and type(x) is not Value:
            marks.append(x)
        elif _is_plain(x) and Value not in map(type, x):
            marks += [len(x), *x]
        elif type(x) is list and _is_plain(x):
            marks += map(id, x)
            held.append([*x])
        else:
            marks.append(id(x))
            held.append(x)
    return marks, held


def _objects(*users: Any) -> Iterator[Any]:
    """What functions and objects lead to, by closures, attributes and globals, the nearest first.

    gc.get_objects() would be shorter, but may find another thread's half-made tuple, which crashes Python.
    """
    stack: deque[Any] = deque(users)
    seen: dict[int, Any] = {}
    # The users' packages, or that of the nearest function, may be installed, too.
    own = {*map(_package, users)} - LIBRARIES
    while stack and len(seen) < MOST_OBJECTS:
        x = stack.popleft()
        try:
            if type(x) in PLAIN or isinstance(x, Value):
                yield x
                continue
            if id(x) in seen or isinstance(x, ModuleType) or getattr(type(x), "is_opaque", False):
                continue
            if isinstance(x, np.ndarray):
                yield x
                if x.dtype == object and x.size and not isinstance(x.flat[0], Value):
                    stack += x.ravel().tolist()
                continue
            seen[id(x)] = x
            if isinstance(x, (FunctionType, type)):
                package = _package(x)
                if package in LIBRARIES:
                    continue
                own = own or {package}
                if package not in own and _is_installed(package):
                    continue
            yield x
            if _is_plain(x):
                continue
            if isinstance(x, FunctionType):  # its globals are those of the whole module, and it uses some
                names = _names(x.__code__)
                used = [x.__globals__[name] for name in names if name in x.__globals__]
                modules = [vars(module) for module in used if isinstance(module, ModuleType)]
                stack += [*used, *(module[name] for module in modules for name in names if name in module)]
                stack += [x.__closure__, x.__defaults__, x.__kwdefaults__, x.__dict__]
            elif callable(x) and hasattr(x, "__self__"):  # NumPy's builtins would lead to the whole module
                stack += [x.__self__, getattr(x, "__func__", None)]
            elif not hasattr(x, "__code__"):
                stack += gc.get_referents(x)
        except Exception:  # a lazy object, which fails to load when its attributes are read
            continue


def _package(x: Any) -> str:
    """The package of a function or a class, or of an object's class."""
    of = x if isinstance(x, FunctionType | type) else type(x)
    return str(of.__module__).partition(".")[0]  # which may be anything


@functools.cache
def _is_installed(package: str) -> bool:
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return not INSTALLED.isdisjoint(Path(file).parts)


def _is_plain(x: Any) -> bool:
    """Whether x is a list or tuple whose elements lead to no other objects: a vector of leaves, say."""
    if type(x) not in (list, tuple):
        return False
    is_vector = bool(x) and type(x[0]) is type(x[-1]) is Value
    return is_vector or PLAIN.issuperset(map(type, x))


@functools.cache
def _names(code: CodeType) -> set[str]:
    """The names of globals and attributes in a function and in those that it defines."""
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if isinstance(c, CodeType)))


def states(generators: Sequence[Any]) -> list[bytes]:
    """The states of generators, for comparing and restoring them."""
    return [pickle.dumps(g.getstate() if isinstance(g, random.Random) else g.state) for g in generators]


def restore(generators: Sequence[Any], before: list[bytes]) -> None:
    """Put generators into the states that they had."""
    for g, old, now in zip(generators, before, states(generators)):
        if old != now and isinstance(g, random.Random):
            g.setstate(pickle.loads(old))
        elif old != now:
            g.state = pickle.loads(old)
