"""The lab's figures, by matplotlib (the extra `plot`)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from autograd.files import whole_file

from .losses import Loss, squared_error
from .predict import predict

# Okabe and Ito's blue and vermillion, which differ for the colour-blind too, and in grey.
CLASSES = ("#0072B2", "#D55E00")
SHADES = ("#0072B2", "#FFFFFF", "#D55E00")
STYLE: Any = {"font.size": 14, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "path"}
# Metadata without a date, for each suffix, so that equal figures are equal files.
DATES: dict[str, dict[str, Any]] = {".svg": {"Date": None}, ".png": {}, ".pdf": {"CreationDate": None}}


def loss_figure(losses: Any, title: str = "") -> Any:
    """The losses of a History, or of a list, by epoch on a logarithmic scale; returns the matplotlib Figure.

    >>> figure = nn.plot.loss_figure([0.5, 0.1, 0.02], title="XOR")
    >>> figure.axes[0].get_yscale()
    'log'
    """
    from matplotlib import rc_context

    losses = getattr(losses, "loss", losses)
    with rc_context(STYLE):
        figure = _figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(losses, color=CLASSES[0], linewidth=2)
        axes.set(xlabel="epoch", ylabel="mean loss", yscale="log", title=title)
        axes.set_xlim(0, 1.03 * max(len(losses), 1))  # leaves room for the last tick's label
        axes.grid(alpha=0.3)
    return figure


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as .svg, .png or .pdf; the same figure gives the same bytes, in every run.

    Raises ValueError for another suffix, and OSError if the file cannot be written; an old file is then
    unchanged.

    >>> nn.plot.save(nn.plot.loss_figure([0.5, 0.1, 0.02]), "loss.svg")
    """
    from matplotlib import rc_context

    if (suffix := Path(path).suffix.lower()) not in DATES:
        raise ValueError(f"a figure is saved as {', '.join(DATES)}, not as {str(path)!r}")
    with rc_context({"svg.hashsalt": "nn.plot"}), whole_file(path) as file:
        figure.savefig(file, format=suffix[1:], dpi=200, metadata=DATES[suffix])


def result_figure(model: Any, X: Any, Y: Any, title: str = "", loss: Loss = squared_error) -> Any:
    """Ground truth and predicted class side by side, over the model's output as a surface.

    X has shape (examples, 2) and Y (examples, 1), of 0 or 1 (-1 or 1 for hinge); returns the matplotlib
    Figure. The line is the loss's decision, where the output is 0.5 for squared_error, and 0 for
    binary_cross_entropy and hinge. Points on the wrong side of the line are ringed.

    >>> X, Y = nn.data.xor()
    >>> model = nn.MLP(2, [4, 1], activation="sigmoid")
    >>> nn.plot.save(nn.plot.result_figure(model, X, Y, title="before training"), "result.svg")
    """
    from matplotlib import rc_context
    from matplotlib.colors import LinearSegmentedColormap

    decision = getattr(loss, "decision", 0.5)
    X, labels = np.asarray(X, dtype=float), np.asarray(Y).ravel() > 0.5
    if X.ndim != 2 or X.shape[1] != 2 or len(labels) != len(X) or predict(model, X[:1]).shape[1] != 1:
        raise ValueError(
            "result_figure draws models of two inputs and one output, with a target for each row"
        )
    predicted = predict(model, X).ravel() > decision
    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.08 * np.maximum(high - low, 1e-9)
    x1, x2 = (np.linspace(low[k] - margin[k], high[k] + margin[k], 81) for k in (0, 1))
    surface = predict(model, np.stack(np.meshgrid(x1, x2), axis=-1).reshape(-1, 2)).reshape(81, 81)

    reach = max(0.75, float(np.quantile(np.abs(surface - decision), 0.9)))  # logits go far beyond 1

    with rc_context(STYLE):
        figure = _figure(figsize=(11, 5), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        shades = LinearSegmentedColormap.from_list("classes", SHADES)
        for axes, classes, name in zip(panels, (labels, predicted), ("ground truth", "predicted class")):
            image = axes.imshow(
                surface, extent=(x1[0], x1[-1], x2[0], x2[-1]), origin="lower", interpolation="bilinear",
                cmap=shades, vmin=decision - reach, vmax=decision + reach, alpha=0.45,
            )  # fmt: skip
            if surface.min() < decision < surface.max():
                axes.contour(x1, x2, surface, levels=[decision], colors="#333333", linewidths=1.5)
            for k, marker in ((0, "o"), (1, "s")):
                points = X[classes == bool(k)]
                axes.scatter(
                    *points.T, s=50, marker=marker, color=CLASSES[k], edgecolor="white", label=f"class {k}",
                    zorder=3,
                )  # fmt: skip
            wrong = X[labels != predicted]
            if len(wrong):
                axes.scatter(
                    *wrong.T, s=170, facecolor="none", edgecolor="black", linewidth=1.8, label="misjudged",
                    zorder=4,
                )  # fmt: skip
            axes.set(title=name, xlabel="$x_1$", aspect="equal")
        panels[0].set_ylabel("$x_2$")
        handles, names = panels[1].get_legend_handles_labels()
        bar = figure.colorbar(image, ax=panels, shrink=0.9, extend="both")
        bar.set_label(f"output $p$, line at {decision:g}")
        figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(title)
    return figure


def _figure(**settings: Any) -> Any:
    """A Figure that notebooks show by themselves; matplotlib's own class needs %matplotlib inline there."""
    return _figure_class()(**settings)


@functools.cache
def _figure_class() -> Any:
    from io import BytesIO

    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            file = BytesIO()
            self.savefig(file, format="png", dpi=144)
            return file.getvalue()

        def _repr_html_(self) -> None:  # matplotlib's own, for web pages, would come before the picture
            return None

    return ShownFigure
