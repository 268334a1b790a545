"""Explain one weight of the lab's network: the chain of its partial derivatives, and its matrix entry.

python examples/explain.py --weight "w2[2,1]"
python examples/explain.py --weight "w1[0,1]" --data linear --point 5 --trained runs/linear/weights.npz
"""

import argparse
import html
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from program import run
from train import DATA, start

import autograd
import nn
from autograd import DrawingError, derivation, explain, lesson
from autograd.files import whole_file
from autograd.program import matrices
from nn.picture import example_graph


def main() -> int:
    """Print the explanation of one point and of all, the matrix program, and where σ′ comes from."""
    options = _options()
    _, X, Y, model, _ = start(options.data, options.seed)
    weights = {p.label: p for p in model.parameters()}
    try:
        if options.trained:
            _load(model, options.trained)
        weight = _chosen("weight", options.weight, weights)
        x, y = _chosen("point", options.point, dict(enumerate(zip(X, Y))))
    except ValueError as error:
        print(f"explain: {error}", file=sys.stderr)
        return 1
    loss, clusters = example_graph(model, x, y, nn.squared_error)

    @autograd.compile
    def mean_loss(x: Any, y: Any) -> Any:
        return nn.squared_error(model(x), y)

    point = f"Point {options.point} of {options.data}: x = ({x[0]:.3g}, {x[1]:.3g}), y = {y[0]:g}"
    sections = {
        point: explain(loss, weight, data=clusters.data),
        "The matrix program of one point": matrices(loss, clusters.data).source,
        f"All {len(X)} points: the mean of their losses": mean_loss.explain(weight, X, Y[:, 0]),
        "Where σ′ comes from": derivation("sigmoid"),
    }
    for title, section in sections.items():
        shown = section.latex() if options.latex and not isinstance(section, str) else section
        print(f"{title}\n{'═' * len(title)}\n\n{shown}\n")
    if options.html:
        with whole_file(options.html) as file:
            file.write(_page(options.weight, sections).encode())
        print(f"wrote {options.html}")
    if options.lesson:
        try:
            lesson(loss, clusters=clusters, title=f"The lab's network. {point}").save(options.lesson)
        except DrawingError as error:
            print(f"explain: no {options.lesson}: {error}", file=sys.stderr)
            return 1
        print(f"wrote {options.lesson}")
    return 0


def _load(model: nn.MLP, path: Path) -> None:
    """Take the weights of a checkpoint that training wrote."""
    try:
        with np.load(path) as saved:
            model.load_state_dict({name: saved[f"model.{name}"] for name in model.state_dict()})
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} has no weights of the lab's network: {error}") from None


def _chosen(what: str, name: Any, known: dict[Any, Any]) -> Any:
    if name not in known:
        *_, last = known
        raise ValueError(f"there is no {what} {name!r}: the first is {next(iter(known))}, the last {last}")
    return known[name]


def _page(title: str, sections: dict[str, Any]) -> str:
    body = "".join(
        f"<h2>{html.escape(title)}</h2>"
        + (f"<pre>{html.escape(section)}</pre>" if isinstance(section, str) else section._repr_html_())
        for title, section in sections.items()
    )
    style = "<style>body{font:16px sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}</style>"
    return f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>{style}{body}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add(
        "--weight",
        default="w2[2,1]",
        metavar="NAME",
        help="w1[0,0] to w1[3,1], w2[0,0] to w2[3,3] or w3[0,0] to w3[0,3], in quotes (default: %(default)s)",
    )
    add("--data", choices=list(DATA), default="xor", help="the data set (default: %(default)s)")
    add(
        "--point",
        type=int,
        default=3,
        metavar="N",
        help="the index of a point, from 0 (default: %(default)s)",
    )
    add("--seed", type=int, default=0, metavar="N", help="seed of the random weights and data (default: 0)")
    add("--trained", type=Path, metavar="FILE", help="weights.npz that training wrote")
    add("--html", type=Path, metavar="FILE", help="write a page too, with the formulas as MathML")
    add("--lesson", type=Path, metavar="FILE", help="write the lesson, a page that steps through both passes")
    add("--latex", action="store_true", help="print LaTeX")
    options = parser.parse_args()
    if options.seed < 0:
        parser.error("the seed is a whole number of at least 0")
    return options


if __name__ == "__main__":
    run(main)
