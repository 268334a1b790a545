"""The figures, read back from matplotlib's objects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

from nn.plot import CLASSES, loss_figure, result_figure, save


def points(axes: Any, label: str) -> set[tuple[float, float]]:
    [found] = [c for c in axes.collections if c.get_label() == label] or [None]
    return set() if found is None else {tuple(point) for point in found.get_offsets().tolist()}


def test_the_loss_is_on_a_logarithmic_scale() -> None:
    [axes] = loss_figure([1.0, 0.1, 0.01], "a title").axes
    assert (axes.get_yscale(), axes.get_title(), axes.get_xlabel()) == ("log", "a title", "epoch")
    assert axes.lines[0].get_ydata().tolist() == [1.0, 0.1, 0.01]
    loss_figure([0.5])


def test_the_axis_of_epochs_ends_beyond_the_last_round_number() -> None:
    figure = loss_figure(np.linspace(1.0, 0.1, 10_000))
    [axes] = figure.axes
    low, high = axes.get_xlim()
    assert low == 0 and 10_000 in axes.get_xticks() and 10_000 < high < 10_500


def test_saved_twice_a_figure_has_the_same_bytes(tmp_path: Path) -> None:
    X, Y = nn.data.xor()
    model = nn.MatrixMLP([np.array([[1.0, 0.0]])], activation="sigmoid")
    make: Callable[[], Any]
    for make in lambda: loss_figure([1.0, 0.1], "a title"), lambda: result_figure(model, X, Y):
        for name in "a.svg", "b.svg":
            save(make(), tmp_path / name)
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
        assert b"<dc:date>" not in (tmp_path / "a.svg").read_bytes()


def test_truth_and_prediction_are_side_by_side_and_the_misjudged_ringed() -> None:
    X, Y = nn.data.xor()
    model = nn.MatrixMLP([np.array([[1.0, 0.0]])], activation="tanh")  # p = x1: class 1 on the right half
    truth, predicted = result_figure(model, X, Y).axes[:2]

    rows = [(tuple(x), y == 1.0, x[0] > 0.5) for x, [y] in zip(X.tolist(), Y)]
    assert (truth.get_title(), predicted.get_title()) == ("ground truth", "predicted class")
    for k in (0, 1):
        assert points(truth, f"class {k}") == {x for x, y, _ in rows if y == k}
        assert points(predicted, f"class {k}") == {x for x, _, p in rows if p == k}
    for axes in (truth, predicted):
        assert points(axes, "misjudged") == {x for x, y, p in rows if y != p}
        assert len(axes.images) == 1
    assert len(CLASSES) == 2


def test_the_line_is_the_losss_own_decision() -> None:
    X, Y = nn.data.xor()
    model = nn.MatrixMLP([np.array([[1.0, 0.0]])], activation="tanh")  # a linear output: p = x1
    X = X - 0.3
    for loss, level in (nn.squared_error, 0.5), (nn.binary_cross_entropy, 0.0), (nn.hinge, 0.0):
        targets = 2.0 * Y - 1.0 if loss is nn.hinge else Y
        truth, predicted = result_figure(model, X, targets, loss=loss).axes[:2]
        assert points(truth, "class 1") == {tuple(x) for x, [y] in zip(X.tolist(), Y) if y == 1.0}
        assert points(predicted, "class 1") == {tuple(x) for x in X.tolist() if x[0] > level}
        [line] = [c for c in predicted.collections if hasattr(c, "levels")]
        assert line.levels.tolist() == [level]


def test_a_figure_is_saved_as_its_suffix_says(tmp_path: Path) -> None:
    figure = loss_figure([1.0, 0.1])
    for name, magic in ("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG"), ("a.pdf", b"%PDF"):
        save(figure, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)
    for name in "a.bmp", "a":
        with pytest.raises(ValueError, match=r"saved as \.svg, \.png, \.pdf, not as"):
            save(figure, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_where_all_is_one_class_and_right_there_is_no_boundary_and_no_ring() -> None:
    X, Y = nn.data.xor()
    sides = result_figure(nn.MatrixMLP([np.zeros((1, 2))], activation="tanh"), X, 0.0 * Y).axes[:2]
    found = [[c.get_label() for c in axes.collections] for axes in sides]
    assert found == [["class 0", "class 1"]] * 2
