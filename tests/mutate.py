"""Mutation testing: break the engine in every small way that cosmic-ray knows, and see the tests notice.

    pip install -e ".[mutation]" && python tests/mutate.py
    python tests/mutate.py autograd/derive.py --lines 60-75

Each mutant is tested in a fork of one process that has everything imported but the project: POSIX only.
Prints the survivors, which `mutants.md` explains, and how many were killed.
"""

import argparse
import ast
import difflib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np  # noqa: F401, for the forks
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
SLOW = "million or hundred_thousand or other_libraries or of_jax or native]"
SYNTAX = "-W", "error::SyntaxWarning"  # Python itself notices `x is 1`
TESTS = {  # by file, those that notice most first
    "autograd/derive.py": "derive transforms simplify compile tracing random_programs value check",
    "autograd/value.py": "value tracing random_programs derive transforms compile nn simplify draw engines",
    "autograd/ops.py": "value tracing derive random_programs transforms simplify compile vector_math nn",
    "autograd/program/lift.py": "compile simplify",
    "autograd/program/grids.py": "compile simplify",
    "autograd/program/places.py": "compile simplify",
    "autograd/program/partial.py": "compile",
    "autograd/program/uneven.py": "compile simplify",
}


def mutants(file: str, first: int, last: int) -> Iterator[tuple[int, str]]:
    """(line, mutated source) of the mutants of these lines, but those that differ in annotations alone."""
    code = (ROOT / file).read_text()
    tree = get_ast(code)
    meant = meaning(code)
    for name in operator_names():
        if get_operator(name).arguments():
            continue  # of variables that a configuration names
        operator = get_operator(name)()
        places = (place for node in ast_nodes(tree) for place in operator.mutation_positions(node))
        for i, ((line, _), _) in enumerate(places):
            if first <= line <= last and meaning(mutated := mutate_code(code, operator, i)) != meant:
                yield line, mutated


def meaning(code: str) -> str:
    """The code's syntax tree, without annotations where Python does not evaluate them."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return code
    if "from __future__ import annotations" in code:
        for node in ast.walk(tree):
            for annotation in ("annotation", "returns"):
                if getattr(node, annotation, None):
                    setattr(node, annotation, ast.Constant(None))
    return ast.dump(tree)


def test_mutant(tree: Path, file: str, mutated: str) -> int:
    """The tests' exit code, 0 if they notice nothing, in a copy of the tree with this mutant."""
    resource.setrlimit(resource.RLIMIT_CPU, (40, 40))  # endless loops
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "copy"
        shutil.copytree(tree, copy)
        (copy / file).write_text(mutated)
        os.chdir(copy)
        sys.dont_write_bytecode = True
        return test(file)


def test(file: str) -> int:
    """The exit code of the file's tests in the working directory."""
    sys.stdout = sys.stderr = open(os.devnull, "w")
    names = [f"tests/test_{name}.py" for name in TESTS[file].split()]
    return int(
        pytest.main(
            ["-x", "-q", *SYNTAX, "-p", "no:cacheprovider", "--no-header", "-k", f"not ({SLOW})", *names]
        )
    )


def fork(work: Callable[..., int], *arguments: Any) -> int:
    """Start work(*arguments) in a child, which exits with its result."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = work(*arguments)
    finally:
        os._exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help=f"of {', '.join(TESTS)}; all if none")
    parser.add_argument("--lines", help="only mutants of the lines FIRST-LAST")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    first, _, last = (arguments.lines or "1-1000000").partition("-")
    hypothesis.settings.register_profile(
        "mutants",
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    hypothesis.settings.load_profile("mutants")
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "runs", "build"))
        os.chdir(tree)
        for file in arguments.files or TESTS:
            if os.waitpid(fork(test, file), 0)[1]:
                raise SystemExit(f"the tests of {file} fail before anything is changed")
            waiting = list(mutants(file, int(first), int(last or first)))
            number, survivors, running = len(waiting), 0, dict[int, tuple[int, str]]()
            while waiting or running:
                if waiting and len(running) < arguments.workers:
                    mutant = waiting.pop(0)
                    running[fork(test_mutant, tree, file, mutant[1])] = mutant
                    continue
                pid, status = os.wait()
                mutant = running.pop(pid)
                if not status:
                    survivors += 1
                    print(difference(file, *mutant), flush=True)
            share = 1.0 - survivors / max(number, 1)
            print(f"{file}: {number - survivors} of {number} mutants killed, {share:.1%}", flush=True)


def difference(file: str, line: int, mutated: str) -> str:
    lines = difflib.unified_diff(
        (ROOT / file).read_text().splitlines(), mutated.splitlines(), n=0, lineterm=""
    )
    changed = [text for text in lines if text[:1] in "+-" and text[:3] not in ("+++", "---")]
    return f"{file}:{line}\n" + "\n".join(changed)


if __name__ == "__main__":
    main()
