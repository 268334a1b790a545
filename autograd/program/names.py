"""names: the names of a program's arrays.

An array of leaves takes the common name of their labels, or the first and the last name: w1_w4. An array that
is affine in w1 is z1, and its activation h1; the adjoint of z1 is delta1, and the gradient by w1 is grad_w1.
Where the user's labels name all entries of an array, h[0], h[1], ..., the array is h.
"""

from __future__ import annotations

import copy
import keyword
import math
import re
import unicodedata
from collections import Counter
from typing import Any

from .. import ops, special
from ..graph import topological_order
from ..value import Value
from .arrays import Array, Contract, Input, Leaf, Map, coordinates, entry_name, listing, reached
from .plan import Plan

NONLINEAR = (ops.sigmoid, ops.tanh, ops.relu, ops.softplus)


# Names that printers use for themselves.
RESERVED = {"xp", "N", "range", "program", "constants", "__debug__", "take", "finite", "power"}
RESERVED |= {"comparable"}
RESERVED |= {"sigmoid", "relu", "softplus", "maximum", "minimum", "step", "largest", "smallest"}
RESERVED |= {"tensordot", "flip", "windows"}
RESERVED |= set(vars(special))


class Names:
    """The names of a plan, in one namespace: those of arrays that have a role, and any that unique() gives.

    `of` has the names of arrays; `proposed` has names for arrays that get a line of their own; `quantities`
    has the arrays that a layer consists of, such as z1 and h1.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self._taken = set(RESERVED)
        scalars, leaves = plan.lifted.scalars, plan.lifted.leaves
        self._stems = {v: scalars.label(v).partition("[")[0] for leaf in leaves for v in leaf.values.flat}
        self._labels = set(self._stems.values())  # users know leaves by them: no other array may have one
        self._repeats: Counter[str] = Counter()
        self.title = ""
        self.arguments: list[str] = []
        self.of: dict[Array, str] = {}
        self.proposed: dict[Array, str] = {}
        self.quantities: set[Array] = set()

    def __str__(self) -> str:
        names = self.copy()
        proposed = {array: names.unique(name) for array, name in self.proposed.items()}
        plan = self.plan
        return listing(plan.statements, plan.lifted.outputs, {**proposed, **self.of}, plan.written)

    def unique(self, name: str, is_label: bool = False) -> str:
        """The name, or one that begins with it: an identifier that is free, and taken from now on."""
        name = unicodedata.normalize("NFKC", name)  # as Python reads identifiers
        name = "".join(c if f"_{c}".isidentifier() else "_" for c in name)
        name = f"_{name}" if not name.isidentifier() or keyword.iskeyword(name) else name
        unique = name
        while unique in self._taken or (unique in self._labels and not is_label):
            self._repeats[name] += 1
            unique = f"{name}_{self._repeats[name] + 1}"
        self._taken.add(unique)
        return unique

    def of_leaf(self, leaf: Leaf, number: int) -> str:
        """The name of an array of leaves, by their labels; labels of other leaves are not free."""
        stems = self.stems(leaf)
        if len(stems) == 1:
            return self.unique(stems[0] or f"w{number}", is_label=bool(stems[0]))
        alike = {
            stem
            for stem in self._labels
            if re.fullmatch(rf"{re.escape(stems[0].rstrip('0123456789'))}\d+", stem)
        }
        if alike == {*stems}:  # x1 and x2 are x, if there is no x3 elsewhere
            return self.unique(stems[0].rstrip("0123456789"))
        return self.unique(f"{stems[0]}_{stems[-1]}" if all(stems) else f"w{number}")

    def of_labelled(self) -> dict[Array, str]:
        """Names of the arrays whose entries have the labels h[0], h[1], ...; other names avoid all labels."""
        lifted, scalars = self.plan.lifted, self.plan.lifted.scalars
        labels: dict[Array, dict[tuple[int, ...], str]] = {}
        for v in scalars.became[0] if scalars.became else ():
            if v.row and v.label:
                self._labels.add(v.label.partition("[")[0])
                array, place = lifted.array_of(now := scalars.latest(v)), lifted.place(now)
                if array is not None and place and array.terms:
                    labels.setdefault(array, {})[coordinates(place[1], array.shape)] = v.label
        found: dict[Array, str] = {}
        for array, of in labels.items():
            stem = next(iter(of.values())).partition("[")[0]
            ordered = all(label == entry_name(stem, index) for index, label in of.items())
            if (
                ordered
                and len(of) == math.prod(array.shape)
                and stem not in self._taken
                and stem.isidentifier()
            ):
                found[array] = self.unique(stem, is_label=True)
        return found

    def stems(self, leaf: Leaf) -> list[str]:
        """The names in the labels of an array of leaves: "w1" of "w1[0,0]", "w1[0,1]", ..."""
        return list(dict.fromkeys(self._stems[v] for v in leaf.values.flat))

    def copy(self) -> Names:
        """The same names, to which a printer may add."""
        twin = copy.copy(self)
        twin._taken, twin._repeats = set(self._taken), Counter(self._repeats)
        return twin


def name(planned: Plan) -> Names:
    """Name the arrays of a plan by their roles."""
    lifted, scalars = planned.lifted, planned.lifted.scalars
    names = Names(planned)
    title = {"rows": "{}_of_rows", "value": "{}", "gradient": "{}_gradient"}[scalars.kind]
    names.title = names.unique(title.format(scalars.title))
    names.arguments = [names.unique(argument) for argument in scalars.names]
    of = names.of
    errors: list[Array] = []  # p − y
    activations: dict[str, Any] = {}  # the function of each activation, by its name, h1
    parts: set[Array] = set()  # w x, of w x + b
    layers: dict[Array, str] = {}  # "1" for arrays affine in a leaf array w1, and for those that follow
    data = Input if scalars.by_row else Input | Leaf
    for array in planned.arrays:
        if isinstance(array, Input):
            of[array] = names.arguments[array.argument]
    for i, leaf in enumerate(lifted.leaves, 1):
        of[leaf] = names.of_leaf(leaf, i)
    of |= names.of_labelled()
    recorded = topological_order(*(v for v in scalars.became[0].values() if isinstance(v, Value)))
    of_forward = dict.fromkeys(lifted.array_of(scalars.latest(v)) for v in recorded)
    forward = reached(array for array in of_forward if array is not None)  # arrays of the forward pass
    for array in planned.arrays:
        row = array.row if isinstance(array, Map) else None
        operands = [view.array for view in array.views]
        by = [p for p in operands if isinstance(p, Leaf)]
        before = [layers[p] for p in operands if p in layers]
        if array not in forward:
            continue
        if not scalars.by_row and len({*by}) > 1:  # a program of one example, whose data may be leaves too
            by = sorted(by, key=lambda leaf: -len(leaf.shape))[:1]
        if isinstance(array, Contract) and by and len(by) < len(operands):
            digits = re.search(r"\d+$", of[by[0]]) if len(names.stems(by[0])) == 1 else None
            layers[array] = digits[0] if digits else str(len(set(layers.values())) + 1)
        elif row is ops.add and before and (by or len(before) == 2):
            layers[array] = before[0]
            parts |= {p for p in operands if p in layers and planned.uses[p] == 1}
        elif row is ops.sub and all(
            p in layers or p in names.quantities or isinstance(p, data) for p in operands
        ):
            given = sum(isinstance(p, data) for p in operands)
            if len(before) == 1 or (given == 1 and len(operands) == 2):  # but not 1 − h, as in gates
                errors.append(array)
        elif row in NONLINEAR and before:
            h = f"h{before[0]}"
            is_first = activations.setdefault(h, row) is row  # no other function has the name h1
            if array not in of:
                of[array] = names.unique(h if is_first else f"{row.name}{before[0]}")
            names.quantities.add(array)
    roles = [(array, scalars.title) for array in lifted.results]
    roles += zip(lifted.gradient, (f"grad_{of[leaf]}" for leaf in lifted.leaves))
    deltas: dict[Array, str] = {}
    for v, adjoint in scalars.adjoints.items():
        layer, of_adjoint = lifted.array_of(scalars.latest(v)), lifted.array_of(scalars.latest(adjoint))
        # Neither is a number or simplified away; an error p − y is no delta, even where the two are equal.
        if layer in layers and of_adjoint and of_adjoint not in forward:
            deltas.setdefault(of_adjoint, f"delta{layers[layer]}")
    for array, role in [*roles, *deltas.items()]:
        if array.terms and array not in of:
            of[array] = names.unique(role)
    names.proposed = {array: f"z{digit}" for array, digit in layers.items() if array not in parts}
    names.quantities.update(names.proposed)
    names.proposed.update(dict.fromkeys(errors, "error"))
    return names
