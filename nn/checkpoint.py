"""Checkpoints: the state of a training run, in one .npz file without pickled objects.

Settings (learning rate, batch size, ...) are not in it: they are the caller's to repeat.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from typing import Any

import numpy as np
from numpy.random import Generator

from . import checks

FORMAT = 1


def save_checkpoint(
    path: Any, model: Any, optimizer: Any, rng: Generator, loss: Any, seconds: float, data: str = ""
) -> None:
    """Write the state of a training run: a crash at any moment leaves the old file or the new, whole.

    `loss` is the loss of each epoch so far, `seconds` what they took, and `data` a name of what the
    model is trained on.
    """
    arrays = {
        "format": np.array(FORMAT),
        "optimizer": np.array(type(optimizer).__name__),
        "rng": np.array(json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)),
        "loss": np.array(loss, dtype=float),
        "seconds": np.array(seconds),
        "data": np.array(data),
        **{f"model.{name}": array for name, array in model.state_dict().items()},
        **{f"optimizer.{name}": array for name, array in optimizer.state_dict().items()},
    }
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    partial = path + ".partial"
    try:
        with open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise


def load_checkpoint(
    path: Any, model: Any, optimizer: Any, rng: Generator, data: str | None = None
) -> tuple[list[float], float]:
    """Put model, optimizer and rng into the state saved at path.

    Returns the loss of each epoch so far, and the seconds they took.

    Raises OSError where the file cannot be opened, and ValueError where it is cut short, damaged, or
    of another architecture, optimizer, generator or (if given) data; everything is then as it was.
    """
    arrays = _read(path)
    model_before, optimizer_before = model.state_dict(), optimizer.state_dict()
    rng_before = rng.bit_generator.state
    try:
        if arrays["format"] != FORMAT:
            raise ValueError(f"its format is {arrays['format']}, not {FORMAT}")
        if arrays["optimizer"] != type(optimizer).__name__:
            raise ValueError(f"it was trained by {arrays['optimizer']}, not {type(optimizer).__name__}")
        if data is not None and arrays["data"] != data:
            raise ValueError("it was trained on other data")
        model.load_state_dict(_under("model.", arrays))
        optimizer.load_state_dict(_under("optimizer.", arrays))
        rng.bit_generator.state = json.loads(str(arrays["rng"]))
        return checks.numbers("loss", arrays["loss"]).ravel().tolist(), float(arrays["seconds"])
    except BaseException as error:
        model.load_state_dict(model_before)
        optimizer.load_state_dict(optimizer_before)
        rng.bit_generator.state = rng_before
        if not isinstance(error, Exception):
            raise
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path}: {reason}") from None


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _read(path: Any) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint file."""
    with open(path, "rb") as file:
        try:
            if any(member.compress_type for member in zipfile.ZipFile(file).infolist()):
                raise ValueError("it is compressed, and no checkpoint is")  # nor is there room for a bomb
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except Exception as error:  # zipfile and NumPy raise many kinds on damaged files
            raise ValueError(f"{path} is not a whole checkpoint: {error}") from None
