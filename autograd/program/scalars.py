"""scalars: the graph of Values that the passes before lift work on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..graph import parents, topological_order
from ..locks import cached_property
from ..value import Constant, Value
from .products import Product
from .simplify import AFTERWARDS, simplify


class Nest(NamedTuple):
    """The form of a list or tuple of parts with several shapes, or of a dict, with its `keys`."""

    kind: Callable[..., Any]
    forms: list[Any]
    keys: list[Any] | None = None

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all parts, those in inner Nests too, in order."""
        return [shape for form in self.forms for shape in shapes_of(form)]


def shapes_of(form: Any) -> list[tuple[int, ...]]:
    """The shapes of the arrays in a form."""
    return form.shapes if isinstance(form, Nest) else [form]


def formed(form: Any, arrays: Iterator[np.ndarray]) -> Any:
    """The arrays in this form."""
    if not isinstance(form, Nest):
        return next(arrays)
    parts = [formed(each, arrays) for each in form.forms]
    return form.kind(parts if form.keys is None else zip(form.keys, parts))


@dataclass
class Scalars:
    """Outputs as a graph of scalars: of one example, until they are differentiated.

    `inputs` has an array of leaves for each argument, named by `names`; a leaf stands for one number a row if
    `by_row`, and `rows` for the number of rows. The other leaves are live: `leaves`, in the order in which
    f uses them. `form` is the shape of f's result or, if the result has parts of several shapes, their Nest.

    `kind` says what is computed: "rows", f's outputs for each row; "value", their mean or sum (`reduce`); or
    "gradient", the mean or sum and its `gradient` by leaf, a Value or number, but for weights in `products`.
    `adjoints` has the derivatives by other Values too. `became` has a dict for each simplification: Values,
    and their simpler forms.
    """

    title: str
    names: Sequence[str]
    inputs: list[np.ndarray]
    outputs: list[Any]
    form: Any
    reduce: str = "mean"
    kind: str = "rows"
    by_row: bool = True
    rows: Value = field(default_factory=lambda: Value(1.0, label="N"))
    gradient: dict[Value, Any] = field(default_factory=dict)
    adjoints: dict[Value, Any] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    became: list[dict[Value, Any]] = field(default_factory=list)
    leaves: list[Value] = field(default_factory=list)
    recorded: list[Any] = field(default_factory=list)  # the outputs of the recording, not simplified
    indices: dict[Any, list[int]] = field(default_factory=dict)  # an index's values, by its place in inputs
    labels: dict[Value, str] = field(default_factory=dict)  # by Modules, for leaves: see label
    declared: list[np.ndarray] = field(default_factory=list)  # arrays that hold leaves, the nearest first

    @property
    def listed(self) -> bool:
        """Whether f returned more than a Value or a number."""
        return self.form != ()

    @property
    def input_leaves(self) -> list[Value]:
        """The leaves that stand for data."""
        return [v for array in self.inputs for v in array.flat]

    def wanted(self) -> list[Any]:
        """The outputs and, for the kind "gradient", that by each leaf: Values, numbers or, in Products, 0."""
        leaves = self.leaves if self.kind == "gradient" else ()
        return [*self.outputs, *(self.gradient.get(v, 0.0) for v in leaves)]

    @cached_property
    def order(self) -> list[Value]:
        """The wanted Values and all that they are computed from, operands first."""
        return topological_order(*(v for v in self.wanted() if isinstance(v, Value)))

    def live_leaves(self) -> list[Value]:
        """The leaves that are neither data nor numbers of the program, in the order in which f uses them."""
        known = set(self.input_leaves)
        leaves = [v for v in reversed(self.order) if v.row is None and not isinstance(v, Constant)]
        return [v for v in leaves if v not in known]

    def without_gradient(self, kind: str) -> Scalars:
        """The same scalars for f's outputs alone, or for their mean alone."""
        outputs = [self.latest(v) for v in self.recorded] if kind == "rows" else self.outputs
        return replace(self, kind=kind, outputs=outputs, gradient={}, adjoints={}, products=[])

    def without(self, products: Collection[Product]) -> Scalars:
        """The same scalars with Values in place of these Products."""
        gradient = {v: g for product in products for v, g in product.values().items()}
        rest = [product for product in self.products if product not in products]
        return replace(self, gradient=gradient | self.gradient, products=rest)

    def latest(self, v: Any) -> Any:
        """The present form of a Value of the recording, or of a later graph: a Value or a number."""
        for became in self.became:
            v = became.get(v, v)
        return v

    def adjoint(self, v: Value) -> Any:
        """The derivative by a Value of the recording, a Value or a number; None if there is none."""
        return self.latest(self.adjoints.get(self.became[0].get(v, v)))

    def label(self, v: Value) -> str:
        """The label of a leaf, by the Module that holds it or its own; "" if there is none."""
        return self.labels.get(v, v.label)

    def __str__(self) -> str:
        order = self.order
        names = {v: self.label(v) or f"v{i}" for i, v in enumerate(order)}

        def text(x: Any) -> str:
            if isinstance(x, tuple):
                return f"[{', '.join(map(text, x))}]"
            if isinstance(x, Constant) or not isinstance(x, Value):
                return f"{x._data if isinstance(x, Value) else x:g}"
            return names[x]

        lines = [
            f"{names[v]} = {v.op}({', '.join(text(x) for x in (v.x, v.y) if x is not None)})"
            for v in order
            if parents(v)
        ]
        lines.append(f"return {', '.join(map(text, self.outputs))}")
        if self.kind == "gradient":
            others = {*self.leaves}.difference(*(product.weights for product in self.products))
            lines += [
                f"∂ by {names.get(v, self.label(v))}: {text(self.gradient.get(v, 0.0))}"
                for v in self.leaves
                if v in others
            ]
        for product in self.products:
            formula = f"dot({text(product.adjoints)}, {text(product.factors)})"
            for row, *numbers in product.steps:
                formula = f"{row.name}({', '.join([*map(text, numbers), formula])})"
            lines.append(f"∂ by {text(product.weights)}: {formula}")
        return "\n".join(lines)


def simplified(scalars: Scalars) -> Scalars:
    """The same outputs, gradient and adjoints from fewer Values."""
    differentiated = bool(scalars.became)  # the first simplification comes before, the second after
    if differentiated and scalars.kind == "rows" and not any(v.row in AFTERWARDS for v in scalars.order):
        return scalars  # there is nothing new to simplify
    factors = {id(xs): xs for product in scalars.products for xs in product.factors}
    # Factors are wanted, too: with a Value for each weight, all would have several users.
    wanted = [*scalars.outputs, *scalars.gradient.values(), *itertools.chain(*factors.values())]
    by_row = scalars.input_leaves if differentiated and scalars.by_row else ()
    rows = scalars.rows if differentiated else None
    forward = {scalars.latest(v) for v in scalars.became[0]} if scalars.adjoints else None
    became = simplify(wanted, by_row, rows, forward)
    gradient = {v: became.get(g, g) for v, g in scalars.gradient.items()}
    simpler = {product: product.simpler(became, gradient) for product in scalars.products}
    if None in simpler.values():
        return simplified(scalars.without([product for product in simpler if not simpler[product]]))
    after = replace(
        scalars,
        outputs=[became.get(v, v) for v in scalars.outputs],
        gradient=gradient,
        products=[*filter(None, simpler.values())],
        became=[*scalars.became, became],
    )
    return after if differentiated else replace(after, leaves=after.live_leaves(), recorded=scalars.outputs)
