"""Histories, models and optimizers as a notebook shows them, and as a line; the progress bar of fit."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from autograd.notebook import paragraph, polyline, preformatted, table


def history_line(history: Any) -> str:
    """<History of 10,000 epochs: loss 0.128 to 0.00031, accuracy 100.0%, 1.2 s, engine native>"""
    losses = history.loss
    said = [f"loss {losses[0]:.6g} to {losses[-1]:.6g}"] if losses else []
    if history.accuracy is not None:
        said.append(f"accuracy {history.accuracy:.1%}")
    said += [f"{history.seconds:.3g} s", *([f"engine {history.engine}"] if history.engine else [])]
    return f"<History of {len(losses):,} epoch{'s' * (len(losses) != 1)}: {', '.join(said)}>"


def history_html(history: Any) -> str:
    reason = paragraph(f"Not a faster engine: {history.reason}") if history.reason else ""
    return preformatted(history_line(history)) + reason + polyline(history.loss, "mean loss by epoch")


def model_html(model: Any) -> str:
    """A table of a model's parameters."""
    rows = []
    for name, found in model.named_parameters():
        array = found if isinstance(found, np.ndarray) else found.data  # a MatrixMLP has Parameters
        rows.append((name, _shape_text(array.shape), f"{array.size:,}"))
    head = paragraph(f"{type(model).__name__}: {_counted(model.parameters())}")
    return head + table(("parameter", "shape", "numbers"), rows)


def optimizer_line(optimizer: Any) -> str:
    """SGD(28 parameters, lr=2.0, momentum=0.0, steps=0)"""
    said = ", ".join(f"{name}={x!r}" for name, x in _optimizer_settings(optimizer).items())
    return f"{type(optimizer).__name__}({_counted(optimizer.parameters)}, {said})"


def optimizer_html(optimizer: Any) -> str:
    count = sum(np.size(p.data) for p in optimizer.parameters)
    rows = [("parameters", f"{count:,}")] + [
        (name, f"{x}") for name, x in _optimizer_settings(optimizer).items()
    ]
    return paragraph(type(optimizer).__name__) + table(("setting", "value"), rows)


def _counted(parameters: Iterable[Any]) -> str:
    """28 parameters"""
    count = sum(np.size(p.data) for p in parameters)
    return f"{count:,} parameter{'s' * (count != 1)}"


def _optimizer_settings(optimizer: Any) -> dict[str, Any]:
    hidden = ("parameters", "state")
    return {n: x for n, x in vars(optimizer).items() if n not in hidden and not n.startswith("_")}


def _shape_text(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def progress_bar(wanted: bool = False) -> Any:
    """tqdm's class for this place: a widget in a notebook, text in a terminal; else None, unless wanted.

    Without ipywidgets a notebook gets the text bar. Without tqdm the result is None; if a bar is wanted, a
    line says how to get it.
    """
    in_notebook = _in_notebook()
    if not (wanted or in_notebook or sys.stderr.isatty()):
        return None
    try:
        if in_notebook and importlib.util.find_spec("ipywidgets"):
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
    except ImportError:
        if wanted:
            print("no progress bar: it comes with the extra `progress`: pip install tqdm", file=sys.stderr)
        return None
    return tqdm


def _in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, as in a notebook, VS Code or Colab."""
    if "IPython" not in sys.modules:
        return False
    shell = sys.modules["IPython"].get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None
