"""Random trainings by every engine, held to the scalar engine, for as long as one likes.

    python tests/soak_training.py --minutes 30

A training is a random model, loss, data set and optimizer. Some do what no graph shows: branch on a Value's
data, look up a target, drop out, count steps. An engine may then refuse, or say that Values went on; what it
may not do is to end elsewhere than the scalar engine without a word. "Elsewhere" is by the training's own
sensitivity: how far it goes astray when its first parameters are a hundred roundings off. The first silent
difference ends the run with status 1 and the seed of that training, which --seed tries again.
"""

import argparse
import contextlib
import io
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

import nn
from autograd import Value, maximum, total
from autograd.program.variant import Kernel

ENGINES = (
    "auto",
    "auto without native",
    "auto without native",
    "numpy",
    "numpy",
    "native" if Kernel is not None else "auto",
)
SHIFT = 2.0**-45


class Stepped(nn.SGD):
    """Its rate falls at a step."""

    at = 3

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * (1.0 if self.steps < self.at else 0.1) * grad, (state[0],)


class LookedUp(Stepped):
    """Its rate falls at some steps, by a look-up."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * {s: 0.1 for s in range(self.at, 999)}.get(self.steps, 1.0) * grad, (state[0],)


class Decaying(nn.SGD):
    """Its rate falls with each update of a parameter."""

    def update(self, data: float, grad: Any, state: Any) -> Any:
        self.lr *= 0.999
        return data - self.lr * grad, (state[0],)


class Normed(nn.SGD):
    """Its update looks at all gradients."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * grad / (1.0 + sum(p.grad**2 for p in self.parameters)), (state[0],)


class Signed(nn.SGD):
    """Its update branches."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        return data - self.lr * (1.0 if grad > 0.0 else -1.0), (state[0],)


class InPlace(nn.SGD):
    """Its update changes what it is given, if that can be changed."""

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        velocity = state[0]
        velocity *= 0.9
        velocity += grad
        data -= self.lr * velocity
        return data, (velocity,)


class RMSProp(nn.Optimizer):
    """An honest one, with a state and without a count."""

    slots = ("mean",)

    def update(self, data: Any, grad: Any, state: Any) -> Any:
        mean = 0.9 * state[0] + 0.1 * grad * grad
        return data - self.lr * grad / (mean + 1e-12) ** 0.5, (mean,)


@dataclass
class Training:
    """A training, made anew from its seed for each engine."""

    model: Any
    parameters: list[Value]
    loss: Any
    optimizer: nn.Optimizer
    X: np.ndarray
    Y: np.ndarray
    epochs: int
    batch_size: int | None
    forgetful: bool  # whether it does the same when it is run again
    name: str


def make(seed: int) -> Training:
    rng = np.random.default_rng(seed)
    pick: Callable[..., Any] = lambda *options: options[rng.integers(len(options))]  # noqa: E731
    n, inputs = int(rng.integers(1, 40)), int(rng.integers(1, 4))
    kind = pick("continuous", "tiny", "huge", "classes", "binary", "signs")
    targets: dict[str, Callable[[], np.ndarray]] = {
        "continuous": lambda: rng.normal(size=n),
        "tiny": lambda: 1e-5 * rng.normal(size=n),
        "huge": lambda: 1e4 * rng.normal(size=n),
        "classes": lambda: np.floor(5.0 * rng.random(n) ** 3),
        "binary": lambda: (rng.random(n) < 0.1).astype(float),
        "signs": lambda: np.where(rng.random(n) < 0.3, 1.0, -1.0),
    }
    Y = targets[kind]()
    X = rng.normal(size=(n, inputs)) * 10.0 ** pick(0, 0, 0, -3, 1)
    if rng.random() < 0.2:
        Y[rng.integers(n)] *= 50.0 if kind in ("continuous", "huge", "tiny") else 1.0
    clock: list[nn.Optimizer] = []
    forgetful = True
    draws: Any = np.random.default_rng(seed) if rng.random() < 0.5 else random.Random(seed)

    # The model
    structure = pick("MLP", "MLP", "MLP", "loop", "formula")
    if structure == "MLP":
        widths = [int(rng.integers(1, 5)) for _ in range(rng.integers(0, 3))]
        network: Any = nn.MLP(
            inputs,
            [*widths, 1],
            activation=pick("relu", "tanh", "sigmoid", "softplus"),
            bias=pick(True, False),
            rng=rng,
        )
        parameters, plain = network.parameters(), network
    else:
        parameters = [Value(x) for x in rng.normal(size=4)]
        a, b, c, d = parameters

        def loop(x: Any) -> Any:
            h = 0.0
            for _ in range(2):
                for each in x:
                    h = (a * h + b * each + c).tanh()
            return d * h

        plain = (
            loop
            if structure == "loop"
            else lambda x: a * x[0] + b * (c * x[-1]).sin() + d**2 / (1.0 + x[0] ** 2)
        )
    oddity = pick(*[""] * 9, "branch", "look-up", "dropout", "schedule", "detached", "counter")
    tally = [0]
    when = int(rng.integers(2, 30))

    def model(x: Any) -> Any:
        p = plain(x)
        if oddity == "branch":
            return p if p.data < 0.3 else 0.5 * p
        if oddity == "look-up":
            return p * {X[-1, 0]: 2.0}.get(x[0], 1.0)
        if oddity == "dropout":
            return p * (0.0 if draws.random() < 0.02 else 1.0)
        if oddity == "schedule":
            return p if clock[0].steps < when else 0.9 * p
        if oddity == "detached":
            return p * (1.0 + p.data**2)
        if oddity == "counter":
            tally[0] += 1
            return p * (1.0 + 0.01 * (tally[0] % 7))
        return p

    forgetful = oddity != "counter"

    # The loss
    def huber(p: Any, y: Any) -> Any:
        e = p - y
        return 0.5 * e * e if abs(e.data) < 1.0 else abs(e) - 0.5

    def smooth_huber(p: Any, y: Any) -> Any:
        e = abs(p - y)
        return 0.5 * (e - maximum(e - 1.0, 0.0)) ** 2 + maximum(e - 1.0, 0.0)

    rare = float(Y[-1])
    scale = 10.0 ** rng.integers(-6, 7)
    losses: dict[str, Callable[..., Value]] = {
        "squared": nn.squared_error,
        "scaled": lambda p, y: scale * (p - y) ** 2,
        "huber": huber,
        "smooth huber": smooth_huber,
        "weighted": lambda p, y: (3.0 if y == rare else 1.0) * (p - y) ** 2,
        "looked up": lambda p, y: {rare: 5.0}.get(y, 1.0) * (p - y) ** 2,
        "absolute": lambda p, y: abs(p - y),
        "penalty": lambda p, y: (p - y) ** 2 + 1e-3 * total([w * w for w in parameters]),
        "focal": lambda p, y: (p - y) ** 2 * abs((p - y).data),
    }
    if kind == "binary":
        losses["cross-entropy"] = nn.binary_cross_entropy
    if kind == "signs":
        losses["hinge"] = nn.hinge
    called = pick("squared", "absolute", "smooth huber", *losses)

    # The optimizer
    lr = 10.0 ** rng.uniform(-4, -0.5) / max(1.0, np.abs(Y).max() if called != "scaled" else 1e3)
    optimizers: dict[str, Callable[..., nn.Optimizer]] = {
        "SGD": lambda: nn.SGD(parameters, lr=lr),
        "momentum": lambda: nn.SGD(parameters, lr=lr, momentum=0.9),
        "Adam": lambda: nn.Adam(parameters, lr=lr),
        "RMSProp": lambda: RMSProp(parameters, lr=lr),
        **{
            c.__name__: lambda c=c: c(parameters, lr=lr)
            for c in (Stepped, LookedUp, Decaying, Normed, Signed, InPlace)
        },
    }
    chosen = pick("SGD", "momentum", "Adam", "Adam", *optimizers)
    optimizer = optimizers[chosen]()
    if isinstance(optimizer, Stepped):
        optimizer.at = int(rng.integers(2, 40))
    clock.append(optimizer)
    epochs = int(rng.integers(1, 60))
    size = int(rng.integers(1, n + 1)) if rng.random() < 0.3 else None
    name = f"{structure} {oddity}, {called} of {n} {kind} targets, {chosen}, {epochs} epochs by {size}"
    return Training(
        model,
        parameters,
        optimizer=optimizer,
        loss=losses[called],
        X=X,
        Y=Y,
        epochs=epochs,
        batch_size=size,
        forgetful=forgetful,
        name=name,
    )


def run(seed: int, engine: Any, shift: float = 0.0) -> Any:
    """The history of a training, its losses and last parameters, and what was said; or the error."""
    t = make(seed)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(t.parameters))
    for p, sign in zip(t.parameters, signs.tolist()):
        p.data += sign * shift * (abs(p.data) or 1.0)
    said = io.StringIO()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(said))
            if engine == "auto without native":
                stack.enter_context(mock.patch("nn.trainers._pays", lambda *_: False))
            history = nn.fit(
                t.model,
                t.X,
                t.Y,
                loss=t.loss,
                optimizer=t.optimizer,
                epochs=t.epochs,
                batch_size=t.batch_size,
                engine=engine.split()[0],
                rng=np.random.default_rng(seed),
                progress=False,
            )
    except Exception as error:
        return error, None, said.getvalue()
    return history, np.array([*history.loss, *(p.data for p in t.parameters)]), said.getvalue()


def tried(seed: int, engine: Any) -> tuple[str, str]:
    """How an engine's training went: "alike", "refused", ..., and what was silently different."""
    history, reference, _ = run(seed, "scalar")
    other, found, said = run(seed, engine)
    t = make(seed)
    raised = [type(h).__name__ if isinstance(h, Exception) else "" for h in (history, other)]
    if any(raised):
        if raised[0] == raised[1]:
            return "not finite", ""
        if not engine.startswith("auto") and not isinstance(other, nn.History | ArithmeticError):
            return "refused", ""
        return ("", f"one raises: {history!r:.200}, {other!r:.200}") if t.forgetful else ("stateful", "")
    if bool(said) != (other.engine == "scalar") or (other.engine == "scalar" and not other.reason):
        return "", f"engine {other.engine} said {said!r}, reason {other.reason!r}"
    if said and not t.forgetful:
        return "stateful", ""
    if "trains" in said:
        same = np.array_equal(found, reference)
        return "fell back", "" if same else "fell back at once, and is not the same to the bit"
    _, shifted, _ = run(seed, "scalar", SHIFT)
    if shifted is None:
        return "undecided", ""
    n = t.epochs
    size = np.concatenate(
        [np.full(n, np.abs(reference[:n]).max()), np.full(len(t.parameters), np.abs(reference[n:]).max())]
    )
    drift = np.abs(shifted - reference)
    drift = np.maximum(
        drift, np.concatenate([np.full(n, drift[:n].max()), np.full(len(t.parameters), drift[n:].max())])
    )
    off = np.abs(found - reference) / (1e-9 * np.abs(reference) + 1e-12 * size + 100.0 * drift + 1e-300)
    if drift.max() > 1e-6 * size.max():
        return "undecided", ""
    if off.max() > 1.0:
        where = "a loss" if off.argmax() < n else "a parameter"
        return "", f"{where} is off by {off.max():.3g} times what is allowed"
    return ("gave way" if said else f"alike ({other.engine})"), ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--trainings", type=int, default=None, help="how many at most (default: no limit)")
    parser.add_argument("--seed", type=int, default=None, help="of the first training (default: drawn)")
    arguments = parser.parse_args()
    first = random.SystemRandom().randrange(2**48) if arguments.seed is None else arguments.seed
    end = time.monotonic() + 60.0 * arguments.minutes
    outcomes: Counter[str] = Counter()
    status, seed = 0, first
    try:
        while time.monotonic() < end and seed - first < (arguments.trainings or math.inf):
            engine = ENGINES[seed % len(ENGINES)]
            outcome, wrong = tried(seed, engine)
            if wrong:
                print(f"seed {seed}, engine {engine}: {wrong}\n  {make(seed).name}")
                status = 1
                break
            outcomes[outcome] += 1
            seed += 1
            if (seed - first) % 100 == 0:
                print(f"{seed - first} trainings: {dict(outcomes)}", flush=True)
    except KeyboardInterrupt:
        print()
    print(f"{seed - first} trainings from seed {first}: {dict(outcomes)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
