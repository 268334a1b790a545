"""Write docs/api.md, the page of the public API, from the docstrings.

    python docs/make_api.py

Public are the names that a module lists in `__all__`; without that list, its own functions and classes.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

from autograd import Value, explain
from autograd.ops import TABLE, Primitive

PATH = Path(__file__).with_name("api.md")
MODULES = {  # in the order of the page, with the names if they are not all that are public
    "autograd": None,
    "autograd.linalg": None,
    "autograd.learn": None,
    "autograd.program": None,
    "autograd.ops": ["Primitive"],
    "nn": None,
    "nn.data": None,
    "nn.init": None,
    "nn.plot": None,
    "nn.picture": None,
}
START = """\
# The public API

`python docs/make_api.py` writes this page from the docstrings. Their examples run as tests after these lines:

```python
import numpy as np

import autograd
import nn
import nn.picture
import nn.plot
from autograd import *  # the names below
from autograd.ops import Primitive
```
"""


def public() -> Iterator[tuple[str, str, Any]]:
    """(module, name, object) for each public name, once, where it is first listed."""
    seen: set[int] = set()
    for module_name, names in MODULES.items():
        module = importlib.import_module(module_name)
        own = [name for name, x in vars(module).items() if getattr(x, "__module__", "") == module_name]
        for name in names or getattr(module, "__all__", [n for n in own if not n.startswith("_")]):
            x = getattr(module, name)
            if callable(x) and not isinstance(x, Primitive) and id(x) not in seen:
                seen.add(id(x))
                yield module_name, name, x


def content() -> str:
    """The page as Markdown."""
    listed = list(public())
    rows, anchors = [], Counter[str]()
    for module, name, x in listed:
        anchor = f"{module}.{name}".lower().replace(".", "")  # as GitHub makes it of the heading
        nth = f"-{anchors[anchor]}" if anchors[anchor] else ""
        anchors[anchor] += 1
        rows.append(f"| [`{module}.{name}`](#{anchor}{nth}) | {prose(summary(x))} |")
    parts = [START, "| name | purpose |\n|---|---|\n" + "\n".join(rows)]
    for module_name in MODULES:
        parts.append(f"## {module_name}")
        described = importlib.import_module(module_name)
        parts.append(prose(summary(described)))
        for name in getattr(described, "__all__", ()):
            if isinstance(table := getattr(described, name), dict):
                parts.append(f"`{name}` is a dict with {', '.join(f'`{key}`' for key in table)}.")
        for module, name, x in listed:
            if module == module_name:
                parts += entry(module, name, x)
        if module_name == "autograd.ops":
            parts.append(primitives())
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def entry(module: str, name: str, x: Any) -> Iterator[str]:
    """A name with its signature, its docstring and, of a class, its methods and properties."""
    yield f"### {module}.{name}"
    if not (inspect.isclass(x) and issubclass(x, BaseException)):
        yield f"```python\n{name}{signature(x)}\n```"
    yield from paragraphs(x)
    if inspect.isclass(x):
        yield "\n".join(members(x))


def members(x: type) -> Iterator[str]:
    """The methods and properties of a class that have a docstring, as items of a list."""
    for name, member in vars(x).items():
        shown = not name.startswith("_") or name == "__call__"
        if shown and inspect.getdoc(member) and (callable(member) or is_described(member)):
            called = getattr(member, "__func__", member)
            title = f".{name}" if name != "__call__" else ""
            how = f"{title}{signature(called, bound=True)}" if callable(called) else title
            text = "\n\n".join(paragraphs(member))
            yield f"- `{how}`: {textwrap.indent(text, '  ').strip()}"


def is_described(member: Any) -> bool:
    """Whether a member of a class is a property or a method that is bound to the class."""
    return isinstance(member, property | classmethod | staticmethod)


def signature(x: Any, bound: bool = False) -> str:
    """The signature as it is written, without the first argument of what is bound."""
    found = inspect.signature(x)
    parts: list[str] = []
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    for p in list(found.parameters.values())[bound:]:
        if p.kind == p.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        text = f"{stars.get(p.kind, '')}{p.name}{annotation(': ', p.annotation)}"
        parts.append(text if p.default is p.empty else f"{text} = {default(p.default)}")
    returned = annotation(" -> ", found.return_annotation).replace(" -> None", "")
    line = f"({', '.join(parts)}){returned}"
    if len(line) <= 100 or bound:
        return line
    return "".join(["(\n", *(f"    {part},\n" for part in parts), f"){returned}"])


def annotation(mark: str, x: Any) -> str:
    """A mark and a type as it is written; "" without one."""
    if x is inspect.Parameter.empty:
        return ""
    text = x if isinstance(x, str) else re.sub(r"\b([a-z_]+\.)+", "", inspect.formatannotation(x))
    return mark + text


def default(x: Any) -> str:
    """A default value: a function by its name, a text in double quotes."""
    return x.__name__ if inspect.isfunction(x) else f'"{x}"' if isinstance(x, str) else repr(x)


def summary(x: Any) -> str:
    """The first sentence of the docstring."""
    return " ".join((inspect.getdoc(x) or "").split("\n\n")[0].split())


def paragraphs(x: Any) -> Iterator[str]:
    """The docstring as Markdown: examples and what is indented as code."""
    for block in re.split(r"\n\n", inspect.getdoc(x) or ""):
        if block.startswith(">>>"):
            yield f"```pycon\n{block}\n```"
        elif block.startswith("    "):
            yield f"```text\n{textwrap.dedent(block)}\n```"
        else:
            yield prose(block)


def prose(text: str) -> str:
    """Text with the characters escaped that Markdown would read, outside of `code`."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(
        p if p.startswith("`") else re.sub(r"((?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|[*<|\[\]])", r"\\\1", p)
        for p in pieces
    )


def primitives() -> str:
    """The table of primitives, with the derivatives as `explain` writes them."""
    lines = [
        "Every operation is one row of `autograd.ops.TABLE`, and a function: `autograd.exp(x)` takes numbers,"
        " Values and arrays. f is the result; derivatives left empty are 0.",
        "",
        "| row | sign in drawings | ∂f/∂x | ∂f/∂y |",
        "|---|---|---|---|",
    ]
    for row in TABLE.values():
        cells = [f"`{row.name}`", row.symbol, *derivatives(row)]
        lines.append("| " + " | ".join(prose(cell).replace("  ", " ") for cell in cells) + " |")
    return "\n".join(lines)


def derivatives(row: Primitive) -> list[str]:
    """The local derivatives by the first and the second operand, as text."""
    if row.name in VECTORS:
        return VECTORS[row.name]
    count = 2 if row.dy else 1
    return [derivative(row, k, count) for k in range(count)] + [""] * (2 - count)


VECTORS = {"where": ["", "1 for the branch taken, else 0"], "dot": ["y", "x"], "total": ["1 each", ""]}


def derivative(row: Primitive, k: int, count: int) -> str:
    """The derivative by operand k."""
    for numbers in (0.5, 2.0), (1.5, 0.5):  # some primitives have no value at the first
        operands = [Value(number, label) for number, label in zip(numbers, "xy")][:count]
        try:
            out = row(*operands)
            out.label = "f"
            return str(explain(out, operands[k]).rows[-1].ways[0].rule)
        except ValueError:  # explain says that the derivative is 0
            return ""
        except ArithmeticError:
            continue
    return ""


if __name__ == "__main__":
    PATH.write_text(content(), encoding="utf-8")
