"""A GPT of scalars: it learns from documents, the lines of a text file or made-up names, and writes new ones.

python examples/gpt.py --data my.txt

Every number in the model is a Value, and its loops are over tokens, heads and channels: compile finds the
matrices in them. The model has one block, of attention and of a network of two layers. Norms divide by the
root mean square, and have no weights.
"""

import argparse
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from program import run

import nn
from autograd import Value, compile, dot

HEADS, BATCH, RATE, TEMPERATURE = 4, 32, 0.02, 0.7
END = "\n"  # the first symbol, token 0: it is before and after each document, and after the shorter ones
STARTS = "al bel cor da el fen gal hal jor ka lor mi nor or per quin ral sel to ul ver wil yo zan"
MIDDLES = "a be di e la li ma mo na o ra ri ru sa ta ve"
ENDINGS = "dan dor la len lin mir na nor ra ric rin ron sa th tha via wen wyn"

Vector = list[Value]


def made_up_names(n: int, rng: Generator) -> list[str]:
    """Names of three syllables, all different."""
    names = [*map("".join, itertools.product(STARTS.split(), MIDDLES.split(), ENDINGS.split()))]
    return [*map(str, rng.choice(names, n, replace=False))]


def documents_in(path: str) -> list[str]:
    """The lines of a text file, without the blank ones."""
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {path} as text in UTF-8: {error}") from None
    documents = [line.strip() for line in lines if line.strip()]
    if len(documents) < 2:
        raise argparse.ArgumentTypeError(f"{path} needs two documents or more, each on a line")
    return documents


def normed(x: Vector) -> Vector:
    """x over its root mean square."""
    scale = (dot(x, x) / len(x) + 1e-5) ** -0.5
    return [scale * channel for channel in x]


def added(x: Vector, y: Vector) -> Vector:
    return [a + b for a, b in zip(x, y)]


class GPT(nn.Module):
    """For each token of a document, a logit for each symbol that may come next."""

    def __init__(self, symbols: int, context: int, width: int, rng: Generator, heads: int = HEADS):
        def vectors(n: int) -> list[Vector]:
            return [[Value(x) for x in row] for row in rng.normal(0.0, 0.1, (n, width)).tolist()]

        def linear(outputs: int) -> nn.Layer:
            return nn.Layer(width, outputs, nonlin=False, bias=False, rng=rng)

        self.head_width = width // heads
        self.symbols, self.positions = vectors(symbols), vectors(context)
        self.query, self.key, self.value, self.mix, self.logits = map(linear, [width] * 4 + [symbols])
        self.mlp = nn.MLP(width, [4 * width, width], bias=False, rng=rng)

    def __call__(self, tokens: Any) -> list[Vector]:
        xs = [added(self.symbols[int(token)], position) for token, position in zip(tokens, self.positions)]
        xs = [added(x, y) for x, y in zip(xs, self.attention([*map(normed, xs)]))]
        xs = [added(x, self.mlp.outputs(normed(x))) for x in xs]
        return [self.logits.outputs(normed(x)) for x in xs]

    def attention(self, xs: list[Vector]) -> list[Vector]:
        """For each token, a mixture of the tokens up to it; each head has its own slice of the channels."""
        queries, keys, values = ([*map(layer.outputs, xs)] for layer in (self.query, self.key, self.value))
        mixtures = []
        for t, query in enumerate(queries):
            mixture: Vector = []
            for start in range(0, len(query), self.head_width):
                head = slice(start, start + self.head_width)
                scores = [dot(query[head], key[head]) / math.sqrt(self.head_width) for key in keys[: t + 1]]
                shares = nn.softmax(scores)
                channels = zip(*(value[head] for value in values[: t + 1]))
                mixture += [dot(shares, channel) for channel in channels]
            mixtures.append(self.mix.outputs(mixture))
        return mixtures


def loss_of(model: GPT, engine: Any = "auto") -> Any:
    """The model's compiled loss: the cross-entropy of each next token times its weight, added."""

    @compile(reduce="sum", engine=engine)
    def loss(tokens: Any, weights: Any) -> Value:
        return dot(weights, [*map(nn.cross_entropy, model(tokens[:-1]), tokens[1:])])

    return loss


def padded(documents: list[str], symbols: str, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, of shape (documents, context + 1), and weights of the next tokens: 1, or 0 after the end."""
    texts = [f"{END}{document}{END}"[: context + 1] for document in documents]
    tokens = np.array([[*map(symbols.index, text.ljust(context + 1, END))] for text in texts])
    return tokens, np.array([np.arange(context) < len(text) - 1 for text in texts], dtype=float)


def loss_by_pairs(tokens: np.ndarray, weights: np.ndarray, train: int) -> float:
    """The mean loss of the documents from `train` on, by the pairs of symbols in those before."""
    pairs = np.ones([tokens.max() + 1] * 2)
    np.add.at(pairs, (tokens[:train, :-1], tokens[:train, 1:]), weights[:train])
    shares = pairs / pairs.sum(axis=1, keepdims=True)
    right = shares[tokens[train:, :-1], tokens[train:, 1:]]
    return float(-np.average(np.log(right), weights=weights[train:]))


def new_document(model: GPT, symbols: str, rng: Generator) -> str:
    """A document whose symbols are drawn one by one, by the model's shares for each."""
    tokens = [0]
    while len(tokens) <= len(model.positions):
        shares = nn.softmax(logit / TEMPERATURE for logit in model(tokens)[-1])
        tokens.append(rng.choice(len(symbols), p=[share.data for share in shares]))
        if tokens[-1] == 0:
            break
    return "".join(symbols[token] for token in tokens).strip(END)


def main() -> int:
    options = _options()
    rng = np.random.default_rng(options.seed)
    documents = options.data or made_up_names(1000, rng)
    rng.shuffle(documents)
    train = len(documents) - max(1, len(documents) // 10)  # the rest is for validation
    symbols = END + "".join(sorted(set("".join(documents))))
    context = min(options.context, max(map(len, documents)) + 1)
    tokens, weights = padded(documents, symbols, context)
    model = GPT(len(symbols), context, options.width, rng)
    loss, adam = loss_of(model), nn.Adam(model.parameters(), lr=RATE)
    print(f"{len(documents)} documents, {len(symbols)} symbols, {len(adam.parameters):,} parameters")

    def mean(f: Callable[..., float], rows: Any) -> float:
        return f(tokens[rows], weights[rows] / weights[rows].sum())

    for step in range(options.steps):
        adam.zero_grad()
        now = mean(loss.backward, rng.integers(train, size=BATCH))
        adam.lr = RATE * (1.0 - step / options.steps)
        adam.step()
        if step % max(1, options.steps // 10) == 0:
            print(f"step {step}: loss {now:.3f}", flush=True)
    print(f"validation: loss {mean(loss, slice(train, None)):.3f}", end="")
    print(f"; by frequencies of pairs {loss_by_pairs(tokens, weights, train):.3f}\n")
    for _ in range(20):
        print(new_document(model, symbols, rng))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=documents_in, metavar="FILE", help="a text file, a document a line")
    for name, default, about in (
        ("steps", 300, f"steps of Adam, each on {BATCH} documents"),
        ("context", 16, "tokens that the model sees at most: longer documents are cut"),
        ("width", 16, f"channels of a token, a multiple of the {HEADS} heads"),
        ("seed", 0, "of all that is drawn"),
    ):
        about += " (default: %(default)s)"
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=about)
    options = parser.parse_args()
    if min(options.steps, options.context, options.width) < 1 or options.width % HEADS or options.seed < 0:
        parser.error(f"numbers are at least 1, the seed at least 0, and the width is a multiple of {HEADS}")
    return options


if __name__ == "__main__":
    run(main)
