"""The documents in docs/ are what the code makes now."""

import html
import json
import re
from pathlib import Path

import pytest

from autograd.learn.lesson import Lesson

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_labs_lesson_is_up_to_date():
    """But for the drawing, which differs with the version of Graphviz."""
    page = (DOCS / "lesson.html").read_text("utf-8")
    data = json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    )
    svg = re.search(r'<div id="drawing">(.*?)</div>\n<div id="under">', page, re.DOTALL)[1]
    made = Lesson(data["title"], svg, data).html()
    assert page.splitlines() == made.splitlines(), "run: python examples/explain.py --lesson docs/lesson.html"
    assert html.escape(data["title"]) in page and len(data["nodes"]) == 51


def test_the_notebook_runs_and_prints_what_is_stored():
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebook` is not installed")
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebook` is not installed")
    stored = nbformat.read(DOCS / "lesson.ipynb", as_version=4)
    run = nbformat.read(DOCS / "lesson.ipynb", as_version=4)
    resources = {"metadata": {"path": str(DOCS)}}
    nbclient.NotebookClient(run, timeout=120, kernel_name="python3", resources=resources).execute()

    def said(notebook):
        for cell in notebook.cells:  # what is printed may come in pieces
            shown = [o for o in cell.get("outputs", []) if o.get("name") != "stderr"]  # as the bar's time
            texts = [o.get("text") or o["data"].get("text/plain") for o in shown]
            yield "".join(texts)

    def rounded(text):  # the last digits depend on the processor
        return re.sub(r"\d\.\d{6,}", lambda x: f"{float(x[0]):.6g}", str(text))

    assert [rounded(text) for text in said(run)] == [rounded(text) for text in said(stored)]
    assert any(
        "<svg" in output.get("data", {}).get("text/html", "")
        for cell in run.cells
        for output in cell.get("outputs", [])
    )
