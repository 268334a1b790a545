"""Train a network on a file of yours, or, as train_xor.py and train_linear.py do, on the lab's data.

python examples/train.py --data my.csv --target column
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import table
from program import run  # it puts the checkout on the path, so it is before what needs that

import nn
from autograd import DrawingError, compile, draw, lesson
from autograd.files import whole_file
from nn.picture import example_graph

ENGINES = ("auto", "scalar", "numpy", "native")  # those of nn.fit
WEIGHTS = "weights.npz"
OPTIMIZERS = {"sgd": nn.SGD, "adam": nn.Adam}
DATA = {"xor": lambda rng: nn.data.xor(), "linear": lambda rng: nn.data.linear(100, rng)}


def start(name: str, seed: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, nn.MLP, nn.MatrixMLP]:
    """The generator of a seed, and by it a data set's X and Y and the lab's network, in both forms."""
    rng = np.random.default_rng(seed)
    X, Y = DATA[name](rng)
    scalar = nn.MLP(2, [4, 4, 1], activation="sigmoid", bias=False, rng=rng)
    return rng, X, Y, scalar, nn.MatrixMLP.from_state_dict(scalar.state_dict(), "sigmoid")


def main(name: str, arguments: list[str] | None = None) -> int:
    """Train the lab's network on a data set, cross-check it, and write what there is to see."""
    options = _options(name, arguments)
    say = (lambda *_: None) if options.quiet else print
    out: Path = options.out
    rng, X, Y, scalar, matrix = start(name, options.seed)
    model = matrix if options.engine == "matrix" else scalar
    say(f"{name}: {len(X)} points, the 2-4-4-1 network, {_trained_by(options)}")
    history = _fit(name, options, model, X, Y, nn.squared_error, rng)
    if history is None:
        return 1
    epochs = len(history.loss)

    if model is scalar and options.engine != "scalar":
        say(f"\nThe matrix program in the network's loss:\n\n{_source(scalar, X, Y)}")
    say("\n    x1      x2   target  prediction  class")
    for (x1, x2), [y], [p] in zip(X, Y, nn.predict(model, X)):
        wrong = "" if (p > 0.5) == (y > 0.5) else "  <- misjudged"
        say(f"{x1:6.3f}  {x2:6.3f}  {y:6.0f}  {p:10.4f}  {int(p > 0.5):5d}{wrong}")

    scalar.load_state_dict(model.state_dict())
    matrix.load_state_dict(model.state_dict())
    say("")
    print(f"after {epochs} epochs: loss {matrix.loss(X, Y):.6f}, accuracy {history.accuracy:.1%}")
    print(f"largest scalar–matrix gradient difference: {gradient_difference(scalar, matrix, X, Y):.1e}")
    engine = "matrices by hand" if model is matrix else f"engine {history.engine}"
    print(f"training took {history.seconds:.2f} s ({engine})")
    written = [out / WEIGHTS]
    if not options.no_plots:
        written += _pictures(name, scalar, X, Y, history, out)
    for path in written:
        print(f"wrote {path}")
    return 0


def train_on_file(arguments: list[str] | None = None) -> int:
    """Train a network on a CSV file, judge it on rows that it has not seen, and say what was done."""
    options = _options("", arguments)
    say = (lambda *_: None) if options.quiet else print
    rng = np.random.default_rng(options.seed)
    try:
        data = table.read(options.data, options.target, options.validation, rng)
        new = table.rows_like(data, options.predict) if options.predict else None
    except ValueError as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    train = len(data.X) - data.held_out
    X, Y = data.X[:train], data.Y[:train]
    loss = nn.squared_error if not data.classes else nn.binary_cross_entropy
    if len(data.classes) > 2:
        loss = nn.cross_entropy
    widths = [*options.hidden, Y.shape[1]]
    model = nn.MLP(X.shape[1], widths, activation="tanh", rng=rng)
    say("\n".join(data.notes))
    shape = "-".join(map(str, [X.shape[1], *widths]))
    say(
        f"{train} rows for training, {data.held_out} for validation, a {shape} network,"
        f" {_trained_by(options)}"
    )
    history = _fit("train", options, model, X, Y, loss, rng)
    if history is None:
        return 1
    print(f"after {len(history.loss)} epochs: training {_judged(model, data, X, Y)}")
    if data.held_out:
        print(f"validation: {_judged(model, data, data.X[train:], data.Y[train:])}")
    print(f"training took {history.seconds:.2f} s (engine {history.engine})")
    written = [options.out / WEIGHTS]
    if options.predict:
        written.append(_predicted(model, data, new, options.out))
    if not options.no_plots:
        written += _loss_picture(options.target, history, options.out)
    for path in written:
        print(f"wrote {path}")
    return 0


def _predicted(model: nn.MLP, data: table.Table, X: Any, out: Path) -> Path:
    """Write the predictions for new rows, a line each: a class, or a number in the target's unit."""
    p = nn.predict(model, X)
    if not data.classes:
        lines = [f"{x:.6g}" for x in (data.mean + data.spread * p[:, 0]).tolist()]
    else:
        chosen = p.argmax(axis=1) if p.shape[1] > 1 else (p[:, 0] > 0.0).astype(int)
        lines = [data.classes[k] for k in chosen]
    with whole_file(out / "predictions.csv") as file:
        file.write("\n".join(["prediction", *lines, ""]).encode())
    return out / "predictions.csv"


def _judged(model: nn.MLP, data: table.Table, X: np.ndarray, Y: np.ndarray) -> str:
    """The accuracy of classes beside that of the most frequent; of a number, the error in its own unit."""
    p = nn.predict(model, X)
    if not data.classes:
        error, spread = (data.spread * np.sqrt(np.mean(d**2)) for d in (p - Y, Y))
        return f"root mean squared error {error:.4g}; always saying the training mean has {spread:.4g}"
    chosen, true = (
        (a[:, 0] > level if a.shape[1] == 1 else a.argmax(axis=1)) for a, level in ((p, 0.0), (Y, 0.5))
    )
    train = data.Y[: len(data.Y) - data.held_out]
    usual = (train[:, 0] > 0.5).mean() > 0.5 if Y.shape[1] == 1 else train.sum(axis=0).argmax()
    right, baseline = np.mean(chosen == true), np.mean(true == usual)
    return f"accuracy {right:.1%}; always saying the most frequent class has {baseline:.1%}"


def _trained_by(options: argparse.Namespace) -> str:
    return f"{options.engine} engine, {options.optimizer}, lr {options.lr:g}"


def _fit(
    name: str, options: argparse.Namespace, model: Any, X: Any, Y: Any, loss: Any, rng: np.random.Generator
) -> nn.History | None:
    """The history of a training by the options; None where an error has been printed."""
    weights = options.out / WEIGHTS
    optimizer = OPTIMIZERS[options.optimizer](model.parameters(), lr=options.lr)
    try:
        history = nn.fit(
            model, X, Y, loss=loss, optimizer=optimizer, epochs=options.epochs, batch_size=options.batch_size,
            log_every=None if options.quiet else max(1, options.epochs // 10),
            progress=False if options.quiet else None, checkpoint=weights,
            resume=weights if options.resume else None, rng=rng,
            engine="auto" if options.engine == "matrix" else options.engine,
        )  # fmt: skip
    except (ArithmeticError, ImportError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    if len(history.loss) < options.epochs:
        print(f"stopped after {len(history.loss)} of {options.epochs} epochs; --resume goes on")
    return history


def _source(model: nn.MLP, X: Any, Y: Any) -> str:
    @compile
    def loss(x: Any, y: Any) -> Any:
        return nn.squared_error(model(x), y)

    loss.value_and_grad(X, Y[:, 0])
    return loss.source


def gradient_difference(scalar: nn.MLP, matrix: nn.MatrixMLP, X: Any, Y: Any) -> float:
    """The largest difference between the two networks' gradients of the mean loss."""
    for model, mean_loss in ((scalar, nn.MeanLoss(scalar, nn.squared_error)), (matrix, matrix)):
        model.zero_grad()
        mean_loss.backward(X, Y)
    by_hand = np.concatenate([p.grad.ravel() for p in matrix.parameters()])
    return float(np.max(np.abs([p.grad for p in scalar.parameters()] - by_hand)))


def _pictures(name: str, model: nn.MLP, X: Any, Y: Any, history: nn.History, out: Path) -> list[Path]:
    written = _loss_picture(name, history, out)
    if written:
        from nn.plot import result_figure, save

        accuracy = f"{name}: accuracy {history.accuracy:.1%} after {len(history.loss)} epochs"
        save(result_figure(model, X, Y, accuracy), out / "result.svg")
        written.append(out / "result.svg")
    model.zero_grad()
    worst = np.abs(nn.predict(model, X) - Y).argmax()  # where there is most to see
    loss, clusters = example_graph(model, X[worst], Y[worst], nn.squared_error)
    loss.backward()
    try:
        draw(loss, clusters=clusters).save(out / "graph.svg")
        title = (
            f"{name}: the point that the network gets most wrong, x = ({X[worst, 0]:.3g}, {X[worst, 1]:.3g})"
        )
        lesson(loss, clusters=clusters, title=title).save(out / "lesson.html")
        written += [out / "graph.svg", out / "lesson.html"]
        print(f"lesson.html steps through both passes of point {worst}, which the network gets most wrong")
    except DrawingError as error:
        print(f"no graph.svg and lesson.html: {error}")
    return written


def _loss_picture(name: str, history: nn.History, out: Path) -> list[Path]:
    if not importlib.util.find_spec("matplotlib"):
        print("no figures: they come with the extra `plot`: pip install matplotlib")
        return []
    from nn.plot import loss_figure, save

    save(loss_figure(history.loss, f"{name}: loss"), out / "loss.svg")
    return [out / "loss.svg"]


def _options(name: str, arguments: list[str] | None) -> argparse.Namespace:
    """The options for one of the lab's data sets or, without a name, for a file."""
    about = f"Train the lab's 2-4-4-1 sigmoid network on the {name} data, and show its result."
    parser = argparse.ArgumentParser(description=about if name else __doc__.partition(",")[0] + ".")
    add = parser.add_argument
    if not name:
        add("--data", type=Path, required=True, metavar="FILE", help="a CSV file, with a line of names")
        add("--target", required=True, metavar="COLUMN", help="the column to predict: classes or a number")
        add(
            "--validation",
            type=_share,
            default=0.2,
            metavar="SHARE",
            help="share of the rows to judge by, which are not trained on (default: %(default)s)",
        )
        add(
            "--predict",
            type=Path,
            metavar="FILE",
            help="another CSV file with the same columns; its predictions go to DIR/predictions.csv",
        )
        add(
            "--hidden",
            type=_whole(1),
            nargs="*",
            default=[16, 16],
            metavar="N",
            help="neurons of each hidden layer (default: 16 16)",
        )
    add(
        "--epochs",
        type=_whole(1),
        default=10_000 if name else 500,
        metavar="N",
        help="passes over the data, in all (default: %(default)s)",
    )
    add(
        "--lr",
        type=_rate,
        default=2.0 if name else 0.01,
        metavar="RATE",
        help="learning rate (default: %(default)s)",
    )
    add(
        "--seed",
        type=_whole(0),
        default=0,
        metavar="N",
        help="of the weights, the data and the batches (default: 0)",
    )
    add(
        "--optimizer",
        choices=sorted(OPTIMIZERS),
        default="sgd" if name else "adam",
        help="the rule that moves the weights (default: %(default)s)",
    )
    add("--batch-size", type=_whole(1), metavar="N", help="examples a step, if not all of them")
    add(
        "--engine",
        choices=[*ENGINES, "matrix"] if name else ENGINES,
        default="auto",
        help="computes the gradients: scalar (Values), numpy (the matrices found in their graph), native"
        " (machine code, with llvmlite) or auto, the fastest of those here"
        + (", or matrix (matrices written by hand)" if name else "")
        + " (default: auto)",
    )
    add(
        "--out",
        type=Path,
        default=Path("runs") / name if name else None,
        metavar="DIR",
        help=f"where the files go (default: runs/{name or 'the name of FILE'})",
    )
    add("--resume", action="store_true", help="go on from DIR/weights.npz (give the other options as before)")
    add("--no-plots", action="store_true", help="write no figures")
    add("--quiet", action="store_true", help="print the outcome alone")
    options = parser.parse_args(arguments)
    options.out = options.out or Path("runs") / options.data.stem
    if options.resume and not (options.out / WEIGHTS).is_file():
        parser.error(f"there is no {options.out / WEIGHTS} to resume from")
    return options


def _whole(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if text.isdecimal() and int(text) >= least:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")

    return whole


def _rate(text: str) -> float:
    try:
        if 0.0 < (rate := float(text)) < float("inf"):
            return rate
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a finite number above 0")


def _share(text: str) -> float:
    try:
        if 0.0 <= (share := float(text)) < 1.0:
            return share
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1")


if __name__ == "__main__":
    run(train_on_file)
