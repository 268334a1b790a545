"""Files that are written whole or not at all, and a folder for code."""

from __future__ import annotations

import contextlib
import glob
import hashlib
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


class PrivateFolder:
    """A folder that only its owner can write to, as code from its files runs in this process.

    It is made if there is none. Raises OSError with a sentence that names it if another user owns it, or can
    write to it.
    """

    def __init__(self, path: Any):
        self.path = path = os.path.abspath(os.fsdecode(path))
        with named_in_errors(path):
            os.makedirs(path, mode=0o700, exist_ok=True)
        if hasattr(os, "getuid"):  # Windows has other rights, which its folders of users have set
            found = os.stat(path)
            if found.st_uid != os.getuid() or found.st_mode & 0o022:
                raise PermissionError(f"{path} is no safe place for machine code: others can write to it")

    def read(self, name: str) -> bytes | None:
        """What was written to this file, or None if nothing was, or if the file is damaged."""
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                digest, content = file.read(32), file.read()
        except OSError:
            return None
        return content if hashlib.sha256(content).digest() == digest else None

    def write(self, name: str, content: bytes) -> None:
        """Keep these bytes in a file; a full disk is no error, as the file is only to save time."""
        with contextlib.suppress(OSError), whole_file(os.path.join(self.path, name)) as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)


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
