"""Imports go one way, also those in functions and for type checkers, and a private name is in one file."""

import ast
import graphlib
import symtable
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("autograd", "nn")
    for path in (ROOT / package).rglob("*.py")
}
# A unit imports units of earlier lines alone, also through others. Those not named here make no circle.
ORDER = [line.split() for line in """
    autograd.node
    autograd.ops
    autograd.graph
    autograd.value
    autograd.derive
    autograd.draw autograd.transforms autograd.program
    autograd.check autograd.learn
    autograd
    nn
""".strip().splitlines()]  # fmt: skip


def imported(module: str) -> Iterator[str]:
    """The modules of ours that a module imports, anywhere in its file."""
    above = f"{module}.x" if FILES[module].name == "__init__.py" else module
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*above.split(".")[: -node.level], node.module or ""] if node.level else [node.module]
            names = [".".join([*filter(None, base), alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            while name and name not in FILES:  # of a package: `from autograd import Value`
                name = name.rpartition(".")[0]
            yield name


def unit(module: str) -> str:
    """nn, a package of the engine or one of its modules."""
    parts = module.split(".")
    return "nn" if parts[0] == "nn" else ".".join(parts[:2])


def imports(of: Callable[..., Any] = lambda module: module) -> dict[str, set[str]]:
    """The modules, or units of modules, that each imports."""
    graph: dict[str, set[str]] = {of(module): set() for module in FILES}
    for module in FILES:
        graph[of(module)] |= {of(name) for name in imported(module) if name} - {of(module)}
    return graph


def ways(graph: dict[str, set[str]], start: str) -> dict[str, list[str]]:
    """A way from a module to each that it imports, itself or through others."""
    found = {start: [start]}
    for module in (queue := [start]):
        for name in graph[module] - found.keys():
            found[name] = [*found[module], name]
            queue.append(name)
    return found


@pytest.mark.parametrize("of", [lambda module: module, unit], ids=["files", "units"])
def test_imports_make_no_circle(of: Callable[..., Any]) -> None:
    try:
        graphlib.TopologicalSorter(imports(of)).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' ← '.join(error.args[1])}")


def test_imports_go_one_way() -> None:
    graph = imports(unit)
    wrong = []
    for i, line in enumerate(ORDER):
        for module in graph.keys() & set(line):
            found = ways(graph, module)
            later = {name for names in ORDER[i:] for name in names} - {module}
            wrong += [" imports ".join(found[name]) for name in later & found.keys()]
    assert not wrong


def test_a_private_name_is_in_one_file() -> None:
    files = defaultdict(set)
    for module, path in FILES.items():
        for name in symtable.symtable(path.read_text(), str(path), "exec").get_symbols():
            if name.is_assigned() and not name.is_imported() and name.get_name().startswith("_"):
                files[name.get_name()].add(module)
    assert {name for name, modules in files.items() if len(modules) > 1} == {"__all__"}
