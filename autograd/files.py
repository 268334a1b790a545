"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import time
from collections.abc import Iterator
from typing import Any, BinaryIO


@contextlib.contextmanager
def whole_file(path: Any) -> Iterator[BinaryIO]:
    """A file to write bytes into; a crash at any moment leaves the old file or the whole new one at path.

    If several processes write to one path at once, the file of one of them remains. Raises OSError with a
    sentence that names the path.

        with whole_file("a.txt") as file:
            file.write(b"text")
    """
    with named_in_errors(path):
        path = os.path.realpath(os.fsdecode(path))  # a link stays a link
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device cannot be replaced
            with open(path, "wb") as file:
                yield file
            return
        _remove_abandoned(path)
        partial = f"{path}.{os.urandom(8).hex()}.partial"  # a name of its own: others may be writing to path
        try:
            with open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if os.path.exists(path):
                os.chmod(partial, stat.S_IMODE(os.stat(path).st_mode))  # as private as it was
            os.replace(partial, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(partial)
            raise


@contextlib.contextmanager
def named_in_errors(path: Any) -> Iterator[None]:
    """Give an OSError raised inside a message with the path, which the error of a full disk lacks."""
    try:
        yield
    except OSError as error:
        path = os.fsdecode(path)
        folder = os.path.dirname(path)
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and not os.path.isdir(folder or "."):
            reason = f"there is no folder {folder}"
        raise type(error)(f"cannot write {path}: {reason[:1].lower()}{reason[1:]}") from error


def _remove_abandoned(path: str) -> None:
    """Remove partial files for path that killed processes left: not written to for an hour."""
    for partial in glob.glob(f"{glob.escape(path)}.{'[0-9a-f]' * 16}.partial"):
        # Another process may have removed the file, or hold it open: Windows removes no open file.
        with contextlib.suppress(OSError):
            if time.time() - os.path.getmtime(partial) > 3600.0:
                os.remove(partial)
