"""A CSV file as arrays to train on: numbers scaled, texts as 0 and 1, gaps filled, and a line on each."""

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

GAPS = {"", "na", "n/a", "nan", "null", "none", "?"}
MOST_TEXTS = 20  # a column with more of them, such as names, tells rows apart and teaches nothing
MOST_CLASSES = 10  # whole numbers with more of them are a number to predict


Encode = Callable[[list[str]], list[np.ndarray]]  # cells of a column → inputs


@dataclass
class Table:
    """X of shape (rows, inputs) and Y (rows, outputs), of which the last `held_out` are for validation.

    encoders: how each column becomes inputs.
    classes: the target's classes, in order, or [] where it is a number; then target = mean + spread · y.
    notes: a line for each decision.
    """

    X: np.ndarray
    Y: np.ndarray
    encoders: dict[str, Encode]
    held_out: int
    classes: list[str] = field(default_factory=list)
    mean: float = 0.0
    spread: float = 1.0
    notes: list[str] = field(default_factory=list)


def read(path: Path, target: str, share: float, rng: np.random.Generator) -> Table:
    """The table of a CSV file with a header line, its rows in the order of rng.

    All that is learnt from columns (means, scales, values of a text) is of the training rows alone. Raises
    ValueError, with the change that the file or the options need.
    """
    columns = _columns(path)
    if target not in columns:
        raise ValueError(f"{path} has no column {target!r}: it has {', '.join(columns)}")
    present = [i for i, text in enumerate(columns[target]) if not _is_gap(text)]
    notes = []
    if missing := len(columns[target]) - len(present):
        notes.append(f"{_count(missing, 'row')} without {target} left out")
    if len(present) < 2:
        raise ValueError(
            f"{path} has {_count(len(present), 'row')} with {target}: training needs two or more"
        )
    held_out = min(round(share * len(present)), len(present) - 1)
    train = len(present) - held_out
    order = rng.permutation(present)
    shuffled = {name: [cells[i] for i in order] for name, cells in columns.items()}
    Y, classes, mean, spread, note = _target(target, shuffled.pop(target), train)
    notes.append(note)
    encoders: dict[str, Encode] = {}
    for name, cells in shuffled.items():
        encode, note = _input(name, cells, train)
        notes.append(note)
        if encode:
            encoders[name] = encode
    if not encoders:
        raise ValueError(f"{path} has no column but {target} to learn from: {'; '.join(notes)}")
    return Table(_inputs(shuffled, encoders), Y, encoders, held_out, classes, mean, spread, notes)


def rows_like(table: Table, path: Path) -> np.ndarray:
    """The inputs of another CSV file with the same columns, encoded as the table's; ValueError if not."""
    columns = _columns(path)
    if missing := [name for name in table.encoders if name not in columns]:
        raise ValueError(f"{path} has no column {missing[0]!r}: it has {', '.join(columns)}")
    try:
        return _inputs(columns, table.encoders)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _inputs(columns: dict[str, list[str]], encoders: dict[str, Encode]) -> np.ndarray:
    return np.column_stack([x for name, encode in encoders.items() for x in encode(columns[name])])


def _columns(path: Path) -> dict[str, list[str]]:
    """The cells of a CSV file by column."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            head_line = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=head_line.count)  # as a spreadsheet's language has it
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8: save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"{path} is no CSV file: {error}") from None
    if len(rows) < 2:
        raise ValueError(f"{path} needs a line with the columns' names, and rows below it")
    head = [name.strip() for name in rows[0]]
    if len(set(head)) < len(head):
        raise ValueError(f"{path} has two columns of one name: {', '.join(head)}")
    for i, row in enumerate(rows[1:], 1):
        if len(row) != len(head):
            raise ValueError(f"{path}, row {i} has {_count(len(row), 'cell')}, and the head {len(head)}")
    columns = {name: [cell.strip() for cell in cells] for name, cells in zip(head, zip(*rows[1:]))}
    if delimiter == ",":
        return columns
    decimal = re.compile(r"([+-]?\d+),(\d+)")  # a comma, as where files have semicolons
    return {name: [decimal.sub(r"\1.\2", cell) for cell in cells] for name, cells in columns.items()}


def _target(name: str, cells: list[str], train: int) -> tuple[np.ndarray, list[str], float, float, str]:
    """Y, the classes, mean and spread, and the note on a target."""
    numbers = _numbers(cells)
    distinct = set(cells) if numbers is None else set(numbers.tolist())
    whole = numbers is None or all(x.is_integer() for x in numbers.tolist())
    if whole and len(distinct) <= (MOST_TEXTS if numbers is None else MOST_CLASSES):
        classes = sorted(distinct)
        of_rows = np.array([classes.index(x) for x in (cells if numbers is None else numbers.tolist())])
        names = [x if isinstance(x, str) else f"{x:g}" for x in classes]
        if len(classes) < 2:
            raise ValueError(f"{name} is {names[0]} in all rows: there is nothing to learn")
        if len(set(of_rows[:train].tolist())) < len(classes):
            raise ValueError(f"{name} has a class without a training row: {', '.join(names)}")
        Y = of_rows[:, None] if len(classes) == 2 else np.eye(len(classes))[of_rows]
        return (
            Y.astype(float),
            names,
            0.0,
            1.0,
            f"{name}: the target, {len(names)} classes: {', '.join(names)}",
        )
    if numbers is None:
        raise ValueError(f"{name} has {len(distinct)} different texts: too many for classes")
    mean, spread = _scale(numbers[:train])
    if not spread:
        raise ValueError(f"{name} is the same number in all rows: there is nothing to learn")
    note = f"{name}: the target, a number, scaled by mean {mean:.4g} and standard deviation {spread:.4g}"
    return (numbers[:, None] - mean) / spread, [], mean, spread, note


def _input(name: str, cells: list[str], train: int) -> tuple[Encode | None, str]:
    """How a column becomes inputs, None if it does not, and the note on it."""
    gaps = sum(map(_is_gap, cells))
    numbers = _numbers(cells)
    if numbers is None:
        texts = sorted({cell for cell in cells[:train] if not _is_gap(cell)})
        if not 2 <= len(texts) <= MOST_TEXTS:
            odd = next((cell for cell in cells if not _is_gap(cell) and _numbers([cell]) is None), "")
            return None, f"{name}: text with {_count(len(texts), 'value')}, such as {odd!r}, left out"
        filled = f", {_count(gaps, 'gap')} as 0 in all of them" if gaps else ""
        note = f"{name}: text with {len(texts)} values, an input of 0 or 1 for each{filled}"
        return lambda cells: [np.array([float(cell == text) for cell in cells]) for text in texts], note
    mean, spread = _scale(numbers[:train])
    if not spread:
        return None, f"{name}: the same in all rows, left out"
    filled = f", {_count(gaps, 'gap')} filled with the mean" if gaps else ""
    note = f"{name}: a number, scaled by mean {mean:.4g} and standard deviation {spread:.4g}{filled}"

    def scaled(cells: list[str]) -> list[np.ndarray]:
        numbers = _numbers(cells, may_be_gaps=True)
        if numbers is None:
            raise ValueError(f"{name} is a number, and here has a text")
        return [np.where(np.isnan(numbers), 0.0, (numbers - mean) / spread)]

    return scaled, note


def _numbers(cells: list[str], may_be_gaps: bool = False) -> np.ndarray | None:
    """The cells as floats, gaps as NaN; None if one of them is a text, or all are gaps and may not be."""
    try:
        numbers = [math.nan if _is_gap(cell) else float(cell) for cell in cells]
    except ValueError:
        return None
    if any(map(math.isinf, numbers)) or (all(map(math.isnan, numbers)) and not may_be_gaps):
        return None
    return np.array(numbers)


def _scale(numbers: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of what is no gap; (0, 0) if all are."""
    known = numbers[~np.isnan(numbers)]
    if not known.size or known.min() == known.max():
        return 0.0, 0.0
    return float(known.mean()), float(known.std())


def _is_gap(cell: str) -> bool:
    return cell.lower() in GAPS


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"
