"""What every example starts with: the checkout on the path, and an end without a traceback."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout will do


def run(main: Callable[[], int]) -> None:
    """Exit with main's status; with one line where a file cannot be written, or Ctrl-C comes."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        _drop_output()
        status = 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        status = 130
    except OSError as error:
        said = f"cannot write {error.filename}: {error.strerror}" if error.filename else error
        print(said, file=sys.stderr)
        _drop_output()  # a full disk may have its file too
        status = 1
    sys.exit(status)


def _drop_output() -> None:
    """Send the rest of the output nowhere: Python would fail again when it writes that at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
