"""A notebook in a kernel of its own: each object shows itself at the end of a cell."""

import math
import sys
from typing import Any

import numpy as np
import pytest

import autograd
import nn
from autograd import Value, total
from nn.notebook import progress_bar

SETUP = """
import numpy as np, autograd, nn
from autograd import Value, draw
X, Y = nn.data.xor()
model = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=np.random.default_rng(0))
optimizer = nn.SGD(model.parameters(), lr=2.0)
@autograd.compile
def loss(x, y):
    return nn.squared_error(model(x), y)
loss(X, Y[:, 0])
a, b = Value(2.0, "y"), Value(3.0, "x")
f = (a / b - b) ** 2
f.backward()
"""
TRAINING = "history = nn.fit(model, X, Y, loss=nn.squared_error, optimizer=optimizer, epochs=2000)"
CELLS = {
    "f": ["Value(data=", "<svg", "max-width:100%"],
    "draw(f)": ["<svg", "max-width:100%"],
    "history": ["2,000 epochs", "<polyline", "logarithmic scale"],
    "loss": ["x (N, 2), y (N,), 28 live leaves", "def loss_gradient"],
    "model": ["28 parameters", "layers.1.weight", "4 × 4"],
    "nn.MatrixMLP.from_state_dict(model.state_dict(), 'sigmoid')": ["28", "4 × 4"],
    "optimizer": ["SGD", "lr", "2.0"],
}


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[Any]]:
    """The outputs of SETUP, TRAINING, the cells, and a figure, from a kernel without matplotlib's backend."""
    for module in "nbclient", "nbformat", "ipykernel":
        pytest.importorskip(module, reason="the extra notebook is not installed")
    import nbclient
    import nbformat

    sources = [SETUP, TRAINING, *CELLS, "from nn.plot import loss_figure\nloss_figure(history.loss)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return {cell.source: cell.outputs for cell in notebook.cells}


@pytest.mark.parametrize("source", CELLS)
def test_what_a_cell_shows(outputs: dict[str, list[Any]], source: str) -> None:
    [output] = outputs[source]
    shown = output["data"]["text/html"]
    for words in CELLS[source]:
        assert words in shown, shown[:500]
    assert len(output["data"]["text/plain"]) < 300


def test_a_figure_appears_by_itself(outputs: dict[str, list[Any]]) -> None:
    pytest.importorskip("matplotlib")
    [output] = next(outputs[source] for source in outputs if "loss_figure" in source)
    assert output["data"]["image/png"].startswith("iVBOR") and "text/html" not in output["data"]


def test_fit_has_a_bar_in_a_notebook(outputs: dict[str, list[Any]]) -> None:
    pytest.importorskip("tqdm")
    shown = [str(output.get("text") or output.get("data")) for output in outputs[TRAINING]]
    assert any("2000/2000" in text or "widget" in text for text in shown)


def test_a_bar_is_shown_where_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    assert progress_bar() is None  # tests have no terminal
    assert progress_bar(wanted=True).__module__.startswith("tqdm.std")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert progress_bar().__module__.startswith("tqdm.std")
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert progress_bar() is None


def test_a_large_graph_shows_its_number_alone() -> None:
    v = total([Value(float(i)) for i in range(200)])
    assert "201 nodes" in v._repr_html_() and "<svg" not in v._repr_html_() and "19900.0" in v._repr_html_()


def test_histories_of_any_length_are_a_line() -> None:
    for losses in [], [0.5], [0.5, 0.1], [1.0 / (i + 1) for i in range(10_000)], [math.inf, math.nan, -1.0]:
        history = nn.History(losses, 0.75, 1.5, "numpy", "")
        assert len(repr(history)) < 120 and f"{len(losses):,} epoch" in repr(history)
        assert ("<polyline" in history._repr_html_()) == (np.isfinite(losses).sum() > 1)
        assert len(history._repr_html_()) < 10_000
    assert "accuracy" not in repr(nn.History([1.0]))


def test_a_program_says_what_it_is_before_and_after_it_has_data() -> None:
    program = autograd.compile(lambda x, w: x * w, engine="numpy")
    assert "call it with data" in repr(program) and "<pre" in program._repr_html_()
    program(np.ones(3), np.ones(3))
    assert "x (N,), w (N,), 0 live leaves, engine numpy>" in repr(program)
    assert "def program" in program._repr_html_()


def test_optimizers_show_their_settings() -> None:
    model = nn.MLP(2, [3, 1])
    said = repr(nn.Adam(model.parameters(), lr=0.01))
    assert said == "Adam(13 parameters, lr=0.01, steps=0, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)"
