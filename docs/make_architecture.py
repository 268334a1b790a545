"""Draw docs/architecture.svg: one graph, its readings, and the passes of compile.

python docs/make_architecture.py

The picture is 640 wide, so that its text is as large as a page's on a desktop, and legible on a phone.
"""

import html
import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do

from autograd import Value
from autograd.program import PASSES

PATH = Path(__file__).with_name("architecture.svg")
WIDTH, MARGIN = 640, 24
INNER = WIDTH - 2 * MARGIN
INK, GREY, BLUE, ORANGE = "#1b2733", "#5b6b7a", "#0072b2", "#d55e00"
PAPER, BAND, CARD, LINE = "#ffffff", "#eef3f7", "#ffffff", "#b9c7d3"
SANS = "Helvetica, Arial, 'Liberation Sans', sans-serif"
MONO = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"

HEADS = {GREY: "head", ORANGE: "orange-head"}

READINGS = [
    ("loss.backward()", "the gradient as numbers, added to every leaf", "value.py"),
    ("derive(loss, [w])", "the gradient as a graph, which has gradients again", "derive.py"),
    ("draw(loss)", "a picture with every value and gradient", "draw.py"),
    ("explain(loss, w)", "the chain rule in symbols, rules and numbers", "learn/"),
    ("compile(f)", "a program of matrices over a whole data set", "program/"),
]
BANDS = [  # the passes by what they work on
    ("scalars of one example", ["record", "simplify", "differentiate", "simplify again"]),
    ("arrays", ["lift", "simplify arrays", "plan", "roll"]),
    ("source", ["name", "print"]),
]


def text(x, y, said, size=18, color=INK, font=SANS, anchor="start", weight="normal"):
    style = f'font-family="{font}" font-size="{size}" fill="{color}" text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}" {style} font-weight="{weight}">{html.escape(said)}</text>'


def box(x, y, width, height, fill=CARD, stroke=LINE, radius=8):
    shape = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"'
    return f'<rect {shape} fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'


def arrow(*points, color=GREY):
    path = " L ".join(f"{x:g} {y:g}" for x, y in points)
    style = f'fill="none" stroke="{color}" stroke-width="2" marker-end="url(#{HEADS[color]})"'
    return f'<path d="M {path}" {style}/>'


def program_and_graph(y):
    """The program, and the graph that it records, with the numbers that it computes."""
    w, x = Value(-3.0), Value(2.0)
    product = w * x
    difference = product - 1.0
    loss = difference**2
    yield text(MARGIN, y + 20, "A program of scalars records one graph", 22, weight="bold")
    yield box(MARGIN, y + 36, INNER, 76, "#f7f9fb")
    yield text(MARGIN + 16, y + 67, 'w, x = Value(-3.0, "w"), Value(2.0, "x")', 18, font=MONO)
    yield text(MARGIN + 16, y + 97, "loss = (w * x - 1.0) ** 2", 18, font=MONO)
    top, middle, bottom = y + 158, y + 193, y + 228
    for name, leaf, at in (("w", w, top), ("x", x, bottom)):
        yield box(MARGIN, at - 20, 104, 40)
        yield text(MARGIN + 52, at + 6, f"{name} = {leaf.data:g}".replace("-", "−"), 18, anchor="middle")
        yield arrow((MARGIN + 104, at), (MARGIN + 166, middle + (at - middle) * 0.35))
    centers = [MARGIN + 194, MARGIN + 306, MARGIN + 418]
    for center, sign, v in zip(centers, ("×", "− 1", "x²"), (product, difference, loss)):
        yield f'<circle cx="{center}" cy="{middle}" r="27" fill="#e3f0f9" stroke="{BLUE}" stroke-width="2"/>'
        yield text(center, middle + 7, sign, 20, BLUE, anchor="middle", weight="bold")
        yield arrow((center + 27, middle), (center + 84 - 2 * (v is loss), middle))
        if v is not loss:
            yield text(center + 55, middle - 10, f"{v.data:g}".replace("-", "−"), 17, anchor="middle")
    yield box(MARGIN + 500, middle - 20, INNER - 500, 40, stroke=ORANGE)
    yield text(MARGIN + 500 + (INNER - 500) / 2, middle + 6, f"{loss.data:g}", 18, ORANGE, anchor="middle")
    yield text(MARGIN + 500 + (INNER - 500) / 2, middle + 42, "loss", 17, GREY, anchor="middle")


def readings(y):
    """A card for each reading of the graph."""
    yield text(MARGIN, y + 20, "Everything else reads that graph", 22, weight="bold")
    for i, (call, gives, place) in enumerate(READINGS):
        top = y + 38 + 72 * i
        last = i == len(READINGS) - 1
        yield box(MARGIN, top, INNER, 62, "#e3f0f9" if last else CARD, BLUE if last else LINE)
        yield text(MARGIN + 16, top + 26, call, 19, BLUE, MONO, weight="bold")
        yield text(WIDTH - MARGIN - 16, top + 26, f"autograd/{place}", 16, GREY, MONO, "end")
        yield text(MARGIN + 16, top + 50, gives, 18)


def passes(y):
    """The passes of compile, in order, by what they work on; and what comes out."""
    yield text(MARGIN, y + 20, "compile: ten passes from scalars to matrices", 22, weight="bold")
    width, gap, height = 128, 16, 46
    left = MARGIN + (INNER - 4 * width - 3 * gap) / 2
    lefts = [left + i * (width + gap) for i in range(4)]
    tops = [y + 74 + 122 * k for k in range(3)]
    for (title, names), top in zip(BANDS, tops):
        yield box(MARGIN - 8, top - 36, INNER + 16, height + 52, BAND, BAND)
        yield text(left, top - 13, title, 17, GREY)
        shown = [*names, "Python source", "machine code"] if names[-1] == "print" else names
        for i, (x, name) in enumerate(zip(lefts, shown)):
            made = name not in PASSES
            yield box(x, top, width, height, BLUE if made else CARD, BLUE if made else LINE)
            label = PAPER if made else INK
            yield text(
                x + width / 2,
                top + 29,
                name,
                17 - made,
                label,
                anchor="middle",
                weight="bold" if made else "normal",
            )
            if i and name != "machine code":
                yield arrow((lefts[i - 1] + width, top + height / 2), (x - 2, top + height / 2))
    for above, below in itertools.pairwise(tops):
        half = above + height + 28
        start, end = lefts[3] + width / 2, lefts[0] + width / 2
        yield arrow((start, above + height), (start, half), (end, half), (end, below - 30), (end, below - 2))
    side, first, last = lefts[3] + width + 14, tops[1] + height / 2, tops[2] + height / 2
    yield arrow(
        (lefts[3] + width, first), (side, first), (side, last), (lefts[3] + width + 2, last), color=ORANGE
    )


def content():
    """The picture as SVG text."""
    assert [name for _, names in BANDS for name in names] == list(PASSES), "a pass is not in the picture"
    parts = [*program_and_graph(20), *readings(290), *passes(716)]
    height = 716 + 74 + 2 * 122 + 46 + 32
    heads = [
        f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
        f' orient="auto"><path d="M 0 0 L 10 5 L 0 10 z" fill="{color}"/></marker>'
        for color, name in HEADS.items()
    ]
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img">'
    )
    title = "<title>One graph, its five readings, and the ten passes of compile</title>"
    paper = f'<rect width="{WIDTH}" height="{height}" rx="12" fill="{PAPER}"/>'
    return "\n".join([start, title, f"<defs>{''.join(heads)}</defs>", paper, *parts, "</svg>\n"])


if __name__ == "__main__":
    PATH.write_text(content(), encoding="utf-8")
