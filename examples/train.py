"""What train_xor.py and train_linear.py share: the lab's experiment on one of its data sets."""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import program  # noqa: F401  (puts the checkout on the path)

import nn
from autograd import DrawingError, compile, draw, lesson
from nn.picture import example_graph

ENGINES = {"auto": "auto", "scalar": "scalar", "compiled": "numpy", "native": "native", "matrix": "auto"}
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
    optimizer = OPTIMIZERS[options.optimizer](model.parameters(), lr=options.lr)
    weights = out / "weights.npz"
    trained_by = f"{options.engine} engine, {options.optimizer}, lr {options.lr:g}"
    say(f"{name}: {len(X)} points, the 2-4-4-1 network, {trained_by}")
    try:
        history = nn.fit(
            model, X, Y, loss=nn.squared_error, optimizer=optimizer, epochs=options.epochs,
            batch_size=options.batch_size, log_every=None if options.quiet else max(1, options.epochs // 10),
            progress=False if options.quiet else None, checkpoint=weights,
            resume=weights if options.resume else None, rng=rng, engine=ENGINES[options.engine],
        )  # fmt: skip
    except (ArithmeticError, ImportError, ValueError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    epochs = len(history.loss)
    if epochs < options.epochs:
        print(f"stopped after {epochs} of {options.epochs} epochs; --resume goes on")

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
    written = [weights]
    if not options.no_plots:
        written += _pictures(name, scalar, X, Y, history, out)
    for path in written:
        print(f"wrote {path}")
    return 0


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
    written = []
    if importlib.util.find_spec("matplotlib"):
        from nn.plot import loss_figure, result_figure, save

        save(loss_figure(history.loss, f"{name}: loss"), out / "loss.svg")
        accuracy = f"{name}: accuracy {history.accuracy:.1%} after {len(history.loss)} epochs"
        save(result_figure(model, X, Y, accuracy), out / "result.svg")
        written += [out / "loss.svg", out / "result.svg"]
    else:
        print("no loss.svg and result.svg: they come with the extra `plot`: pip install matplotlib")
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


def _options(name: str, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"Train the lab's 2-4-4-1 sigmoid network on the {name} data, and show what it learnt."
    )
    add = parser.add_argument
    add(
        "--epochs",
        type=_whole(1),
        default=10_000,
        metavar="N",
        help="passes over the data, in all (default: %(default)s)",
    )
    add("--lr", type=_rate, default=2.0, metavar="RATE", help="learning rate (default: %(default)s)")
    add(
        "--seed",
        type=_whole(0),
        default=0,
        metavar="N",
        help="of the weights, the data and the batches (default: 0)",
    )
    add(
        "--optimizer", choices=sorted(OPTIMIZERS), default="sgd", help="what moves the weights (default: sgd)"
    )
    add("--batch-size", type=_whole(1), metavar="N", help="examples a step, if not all of them")
    add(
        "--engine",
        choices=sorted(ENGINES),
        default="auto",
        help="what computes the gradients: Values, the matrices found in their graph (compiled), machine code"
        " for it (native, with llvmlite), the matrices by hand, or the fastest of the first three here"
        " (default: auto)",
    )
    add(
        "--out",
        type=Path,
        default=Path("runs") / name,
        metavar="DIR",
        help="where the files go (default: %(default)s)",
    )
    add("--resume", action="store_true", help="go on from DIR/weights.npz (give the other options as before)")
    add("--no-plots", action="store_true", help="write no figures")
    add("--quiet", action="store_true", help="print the outcome alone")
    options = parser.parse_args(arguments)
    if options.resume and not (options.out / "weights.npz").is_file():
        parser.error(f"there is no {options.out / 'weights.npz'} to resume from")
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
