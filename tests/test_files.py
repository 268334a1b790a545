"""Files that cannot be written: a sentence with the path, and what was there before."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn
from autograd import Value, draw, lesson
from autograd.files import whole_file


def writers() -> Iterator[Any]:
    """What writes a file, by the suffix of it."""
    model = nn.MLP(2, [2, 1])
    optimizer = nn.SGD(model.parameters(), lr=0.1)
    x = Value(0.5, "x").exp()
    yield ".dot", draw(x).save
    yield ".html", lambda path: lesson(x).save(path)
    yield (
        ".npz",
        lambda path: nn.save_checkpoint(path, model, optimizer, np.random.default_rng(0), [1.0], 1.0),
    )
    plot = pytest.importorskip("nn.plot")
    pytest.importorskip("matplotlib")
    figure = plot.loss_figure([1.0, 0.5])
    for suffix in ".svg", ".png", ".pdf":
        yield suffix, lambda path: plot.save(figure, path)


def test_a_full_disk_leaves_what_was_there_and_the_error_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    for suffix, write in writers():
        path = tmp_path / f"a{suffix}"
        path.write_text("before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError) as error:
                write(path)
        assert str(error.value) == f"cannot write {path}: no space left on device"
        assert [file.name for file in tmp_path.iterdir()] == [path.name] and path.read_text() == "before"
        write(path)
        assert path.stat().st_size > 100, suffix
        path.unlink()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for suffix, write in writers():
        path = tmp_path / "missing" / f"a{suffix}"
        if suffix != ".npz":  # a checkpoint makes its folder
            with pytest.raises(FileNotFoundError) as error:
                write(path)
            assert str(error.value) == f"cannot write {path}: there is no folder {path.parent}"
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match=r"^cannot write .*: (not a directory|file exists)$"):
            write(tmp_path / "file" / f"a{suffix}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=r"^cannot write .*a\.dot: permission denied$"):
        draw(Value(1.0)).save(tmp_path / "a.dot")


def test_links_stay_links_and_pipes_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with whole_file(tmp_path / "link") as file:
        file.write(b"text")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_bytes() == b"text"
    with pytest.raises(OSError, match=r"^cannot write /dev/full: no space left on device$"):
        with whole_file("/dev/full") as file:
            file.write(b"text")
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only some systems have it")
def test_an_example_whose_output_cannot_be_written_ends_with_a_line() -> None:
    program = Path(__file__).parent.parent / "examples" / "mazur.py"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, program], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.splitlines() == ["[Errno 28] No space left on device"]
