"""HTML for notebooks, and the same tables as text for terminals."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    return f'<pre style="font-family:monospace">{html.escape(text)}</pre>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table with its text on the left."""
    lines = [
        "".join(f'<{cell} style="text-align:left">{html.escape(text)}</{cell}>' for text in row)
        for cell, row in [("th", head), *(("td", row) for row in rows)]
    ]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def polyline(numbers: Sequence[float], label: str, width: int = 320, height: int = 80) -> str:
    """A small curve of numbers as SVG, with their range in a caption; "" for fewer than two finite numbers.

    The scale is logarithmic where all numbers are above 0 and the largest is more than ten times the least.
    """
    last, step = len(numbers) - 1, max(1, 2 * len(numbers) // width)
    shown = [(i, y) for i, y in enumerate(numbers) if (i % step == 0 or i == last) and math.isfinite(y)]
    if len(shown) < 2:
        return ""
    low, high = min(y for _, y in shown), max(y for _, y in shown)
    logarithmic = low > 0.0 and high > 10.0 * low
    scale = math.log if logarithmic else float
    bottom, span = scale(low), (scale(high) - scale(low)) or 1.0
    right, top = (width - 8) / last, height - 8
    points = " ".join(
        f"{4 + right * i:.1f},{4 + top * (1 - (scale(y) - bottom) / span):.1f}" for i, y in shown
    )
    said = f"{label}: from {low:.3g} to {high:.3g}, {'logarithmic' if logarithmic else 'linear'} scale"
    return (
        f'<figure style="margin:0"><svg viewBox="0 0 {width} {height}" width="{width}" role="img"'
        f' aria-label="{html.escape(said)}" style="max-width:100%;height:auto;border-left:1px solid #808080;'
        f'border-bottom:1px solid #808080"><polyline points="{points}" fill="none" stroke="#0072B2"'
        f' stroke-width="2"/></svg><figcaption>{html.escape(said)}</figcaption></figure>'
    )
