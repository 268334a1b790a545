"""Checkpoints: the state of a training run, in one .npz file without pickled objects.

The file's settings (learning rate, activation, ...) are only compared with the caller's, who repeats them.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from operator import itemgetter
from typing import Any, BinaryIO

import numpy as np
from numpy.random import Generator

from autograd.files import named_in_errors, whole_file

from . import checks
from .module import settings as settings_of

FORMAT = 2

# The header that np.save writes before an array's bytes. NumPy's reader would evaluate it as Python, with
# its warnings, and allocate any size that it names.
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..{'descr': '([<>|][biufcSU]\d+)', 'fortran_order': (True|False), "
    rb"'shape': \(([\d, ]*)\), } *\n",
    re.DOTALL,
)


def save_checkpoint(
    path: Any,
    model: Any,
    optimizer: Any,
    rng: Generator,
    loss: Any,
    seconds: float,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write the state of a training run: a crash at any moment leaves the old file or the new, whole.

    `loss` is the loss of each epoch so far, `seconds` their time, and `settings` has all else that must be
    the same when training goes on, in types that JSON can hold; those of model and optimizer are added.

    Raises OSError if the file cannot be written, and ValueError for losses that are not finite.

    >>> model, rng = nn.MLP(2, [3, 1]), np.random.default_rng(0)
    >>> adam = nn.Adam(model.parameters())
    >>> nn.save_checkpoint("run.npz", model, adam, rng, loss=[0.5, 0.25], seconds=1.5)
    """
    losses, seconds = _history(np.array(loss, dtype=float), seconds)
    arrays = {
        "format": np.array(FORMAT),
        "optimizer": np.array(type(optimizer).__name__),
        "rng": np.array(_generator_text(rng)),
        "loss": np.array(losses, dtype=float),
        "seconds": np.array(seconds),
        "settings": np.array(json.dumps(_settings(model, optimizer, settings or {}))),
        "initial_lr": np.array(float(getattr(optimizer, "_initial_lr", 0.0))),
        "order": np.array(_order(model, optimizer)),
        **{f"model.{name}": array for name, array in model.state_dict().items()},
        **{f"optimizer.{name}": array for name, array in optimizer.state_dict().items()},
    }
    path = os.fsdecode(path)
    with named_in_errors(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


@np.errstate(all="ignore")  # a number too large for a float becomes inf, which is refused
def load_checkpoint(
    path: Any, model: Any, optimizer: Any, rng: Generator, settings: Mapping[str, Any] | None = None
) -> tuple[list[float], float]:
    """Put model, optimizer and rng into the state saved at path.

    Returns the loss of each epoch so far, and the seconds that the epochs took. If settings are given, they
    and those of the model and the optimizer (activation, lr, ...) must equal the saved ones.

    Raises OSError if the file cannot be opened, and ValueError if it is cut short, damaged, or of another
    architecture, optimizer, order of its parameters, generator or settings; everything is then unchanged.
    Memory stays within a few times the size of the file.

    >>> model, rng = nn.MLP(2, [3, 1]), np.random.default_rng(0)
    >>> adam = nn.Adam(model.parameters())
    >>> nn.save_checkpoint("run.npz", model, adam, rng, loss=[0.5, 0.25], seconds=1.5)
    >>> nn.load_checkpoint("run.npz", model, adam, rng)
    ([0.5, 0.25], 1.5)
    """
    path = os.fsdecode(path)
    if os.path.exists(path) and not os.path.isfile(path):  # to read a pipe would wait
        raise ValueError(f"{path} is not a file")
    with open(path, "rb") as file:
        try:
            arrays = _read(file)
        except Exception as error:  # zipfile and NumPy raise many kinds on damaged files
            raise ValueError(f"{path} is not a whole checkpoint: {_reason(error)}") from None
    model_before, optimizer_before = model.state_dict(), optimizer.state_dict()
    rng_before, lr = rng.bit_generator.state, getattr(optimizer, "lr", None)
    try:
        if (format := _scalar("format", "iu", arrays)) != FORMAT:
            raise ValueError(f"its format is {format}, not {FORMAT}: another version of nn saved it")
        if (trained_by := _scalar("optimizer", "U", arrays)) != type(optimizer).__name__:
            raise ValueError(f"it was trained by {trained_by}, not {type(optimizer).__name__}")
        model.load_state_dict(_under("model.", arrays))
        _check_order(
            checks.numbers("order", arrays["order"]).ravel().tolist(), _order(model, optimizer), model
        )
        saved = json.loads(_scalar("settings", "U", arrays))
        initial_lr = _scalar("initial_lr", "f", arrays) if "initial_lr" in arrays else None
        if lr == getattr(optimizer, "_initial_lr", None) == initial_lr:
            # The caller has not changed the learning rate, so take the one that a schedule had set.
            optimizer.lr = checks.at_least_0("optimizer.lr", saved["optimizer.lr"])
        if settings is not None:
            _check_settings(saved, _settings(model, optimizer, settings))
        optimizer.load_state_dict(_under("optimizer.", arrays))
        _check_finite(model.state_dict(), model_before)
        _check_finite(optimizer.state_dict(), optimizer_before)
        _set_generator(rng, _scalar("rng", "U", arrays))
        return _history(checks.numbers("loss", arrays["loss"]), _scalar("seconds", "iuf", arrays))
    except BaseException as error:
        model.load_state_dict(model_before)
        optimizer.load_state_dict(optimizer_before)
        rng.bit_generator.state = rng_before
        if lr is not None:
            optimizer.lr = lr
        if not isinstance(error, Exception):
            raise
        raise ValueError(f"{path}: {_reason(error)}") from None


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type for member in members):
            raise ValueError("it is compressed, and no checkpoint is")
        if sum(member.file_size for member in members) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members are larger than itself")
        arrays = {member.filename.removesuffix(".npy"): _npy_array(archive, member) for member in members}
        if len(arrays) < len(members):
            raise ValueError("it has two members of one name")
        return arrays


def _npy_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """The array of an .npy file, whose size must be the one in its header."""
    file = archive.read(member)
    header = HEADER.fullmatch(file, 0, 10 + int.from_bytes(file[8:10], "little"))
    if not header:
        raise ValueError(f"{member.filename} is not an array of numbers or text")
    dtype, fortran, shape = (group.decode() for group in header.groups())
    array = np.frombuffer(file, dtype, offset=header.end())
    order: Any = "F" if fortran == "True" else "C"
    return array.reshape([int(n) for n in re.findall(r"\d+", shape)], order=order).copy()


def _scalar(name: str, kinds: str, arrays: dict[str, np.ndarray]) -> Any:
    """The number or text of this name, whose dtype has one of these kinds."""
    array = arrays[name]
    if array.shape or array.dtype.kind not in kinds:
        raise ValueError(f"{name} has shape {array.shape} and holds {array.dtype}")
    if kinds == "U":  # decoded by Python, as NumPy makes broken strings of invalid code points
        return array.astype(array.dtype.newbyteorder("<")).tobytes().decode("utf-32-le").rstrip("\0")
    return array.item()


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _settings(model: Any, optimizer: Any, others: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that must be the same when training goes on, by name."""
    parts = {"model": settings_of(model), "optimizer": settings_of(optimizer)}
    of_parts = {f"{part}.{name}": x for part, found in parts.items() for name, x in found.items()}
    of_parts.pop("optimizer.steps", None)  # steps are state
    return {"model": type(model).__name__, **of_parts, **others}


def _check_settings(saved: Any, now: dict[str, Any]) -> None:
    """Raise ValueError for settings that differ from the saved ones."""
    now = json.loads(json.dumps(now))
    differ = [
        f"{name:.60} was {saved.get(name)!r:.24} and is {now.get(name)!r:.24}"
        for name in {**now, **saved}
        if repr(saved.get(name)) != repr(now.get(name))
    ]
    if differ:
        raise ValueError(
            f"{', '.join(differ[:2])}{', …' if differ[2:] else ''}; to change settings,"
            " nn.load_checkpoint(path, model, optimizer, rng) and fit without resume"
        )


def _order(model: Any, optimizer: Any) -> list[int]:
    """The place of each of the optimizer's parameters among the model's, by name; −1 for other parameters."""
    places = {id(p): i for i, (*_, p) in enumerate(_elements(model))}
    return [places.get(id(p), -1) for p in optimizer.parameters]


def _check_order(saved: Any, now: list[int], model: Any) -> None:
    """Raise ValueError for an optimizer with other parameters than the saved one, or in another order."""
    if saved == now:
        return
    names = {i: f"{name}{[*at] or ''}" for i, (name, at, _) in enumerate(_elements(model))}
    places = next((i, *pair) for i, pair in enumerate(zip_longest(saved, now)) if pair[0] != pair[1])
    before, after = (names.get(place, "none of the model's") for place in places[1:])
    raise ValueError(f"parameter {places[0]} of the optimizer was {before} and is {after}")


def _elements(model: Any) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """(name, place in the array, parameter), in the order of names; a parameter is a Value or an array."""
    for name, array in sorted(getattr(model, "named_parameters", tuple)(), key=itemgetter(0)):
        for at, p in np.ndenumerate(np.array(array, dtype=object)):
            yield name, at, p


def _check_finite(state: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> None:
    """Raise ValueError if a number that was finite before is no longer finite."""
    for name, array in state.items():
        if (np.isfinite(before[name]) & ~np.isfinite(array)).any():
            raise ValueError(f"{name} is not finite")


def _history(loss: np.ndarray, seconds: float) -> tuple[list[float], float]:
    """The losses and the seconds; ValueError if they cannot be those of a run."""
    if loss.ndim != 1 or not np.isfinite(loss).all():
        raise ValueError("loss is not one finite number for each epoch")
    if not 0.0 <= seconds < 2.0**53:  # a larger float cannot count them
        raise ValueError(f"seconds is {seconds}, not a number from 0 to below 2**53")
    return loss.tolist(), float(seconds)


def _generator_text(rng: Generator) -> str:
    """The state of a generator as JSON."""
    return json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)


def _set_generator(rng: Generator, text: str) -> None:
    """Put a generator into a state."""
    state = json.loads(text, object_hook=_check_positions)
    rng.bit_generator.state = state
    if json.loads(_generator_text(rng)) != state:
        raise ValueError("rng is not a state of this generator")


def _check_positions(state: dict[str, Any]) -> dict[str, Any]:
    """Raise ValueError for positions outside the buffers of MT19937 and Philox, where NumPy would read."""
    if not (0 <= state.get("pos", 0) <= 624 and 0 <= state.get("buffer_pos", 0) <= 4):
        raise ValueError("rng has a position beside its buffer")
    return state


def _reason(error: Exception) -> str:
    """An error's message in one line of bounded length, as it may repeat text of the file."""
    said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    return "".join(c if c.isprintable() else "?" for c in said[:300]) or type(error).__name__
