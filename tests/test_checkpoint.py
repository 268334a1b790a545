"""Checkpoints: what they hold, what is refused, and what kills, damage and other writers leave of them."""

import contextlib
import io
import itertools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_fit import X, Y, same, training

import nn
from autograd import Value


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "run.npz"
    model, _ = training()
    nn.save_checkpoint(path, model, model.optimizer, np.random.default_rng(1), [0.3, 0.2, 0.1], 1.5)
    return path


def test_a_checkpoint_holds_what_was_saved(checkpoint: Path) -> None:
    assert load(checkpoint) == ([0.3, 0.2, 0.1], 1.5)


def test_training_resumes_on_the_same_data_alone(tmp_path: Path) -> None:
    training()[1](3, checkpoint=tmp_path / "run.npz")
    model, train = training()
    with pytest.raises(ValueError, match=r"run\.npz: data \(SHA-256\) was '\w+ and is '"):
        train(5, x=X + 0.1, resume=tmp_path / "run.npz")
    assert same(model, training()[0])
    assert len(load(tmp_path / "run.npz")[0]) == 3  # by hand, it goes wherever it fits


class Scaled(nn.Module):
    """A model of one's own, with settings of its own."""

    def __init__(
        self, first: str, second: str, slope: float = 0.1, squash: Callable[..., Any] = Value.tanh
    ) -> None:
        setattr(self, first, Value(0.3))
        setattr(self, second, nn.Layer(2, 1, activation="tanh", nonlin=False, rng=np.random.default_rng(0)))
        self.slope, self.squash, self._calls = slope, squash, 0

    def __call__(self, x: Any) -> Any:
        self._calls += 1
        scale: Any
        layer: Any
        scale, layer = (x for x in vars(self).values() if isinstance(x, Value | nn.Layer))
        return scale * self.squash(layer(x)) * self.slope


def resumable(
    names: tuple[str, str] = ("scale", "layer"),
    optimizer: Any = nn.SGD,
    order: int = 1,
    batch_size: int | None = 4,
    loss: Callable[..., Any] = nn.squared_error,
    model: Any = (),
    **rest: Any,
) -> Any:
    """A training that knows each setting by a name."""
    if model:
        made: Any = nn.MLP(2, [3, 1], **dict(model), rng=np.random.default_rng(0))
    else:
        made = Scaled(*names, **{k: rest.pop(k) for k in ("slope", "squash") if k in rest})
    opt = optimizer(made.parameters()[::order], **{"lr": 0.1, **rest})
    settings = {"optimizer": opt, "batch_size": batch_size, "loss": loss, "rng": np.random.default_rng(0)}
    return made, opt, lambda epochs, **kwargs: nn.fit(made, X, Y, epochs=epochs, **settings, **kwargs)


TANH, RELU = {"activation": "tanh"}.items(), {"activation": "relu"}.items()


@pytest.mark.parametrize(
    "before, after, said",
    [
        ({}, {"lr": 0.2}, r"optimizer\.lr was 0\.1 and is 0\.2;"),
        ({"momentum": 0.5}, {}, r"optimizer\.momentum was 0\.5 and is 0\.0"),
        (
            {"optimizer": nn.Adam, "betas": (0.5, 0.9)},
            {"optimizer": nn.Adam, "eps": 1e-6},
            r"betas was \[0\.5, 0\.9\] and is \[0\.9, 0\.999\], optimizer\.eps was 1e-08 and is 1e-06",
        ),
        ({}, {"batch_size": 8}, "batch_size was 4 and is 8"),
        ({}, {"batch_size": None}, "batch_size was 4 and is None"),
        ({}, {"loss": nn.binary_cross_entropy}, "loss was 'squared_error' and is 'binary_cross_entr"),
        ({}, {"slope": 0.2}, r"model\.slope was 0\.1 and is 0\.2"),
        ({}, {"squash": Value.sin}, r"model\.squash was 'tanh' and is 'sin'"),
        ({}, {"names": ("gain", "layer")}, "gain is missing"),
        ({}, {"order": -1}, r"parameter 0 of the optimizer was scale and is layer\.bias\[0\]"),
        ({"order": 2}, {"order": 3}, r"parameter 1 of .* was layer\.weight\[0, 1\] and is layer\.bias\[0\]"),
        ({"order": 3}, {}, r"parameter 1 of .* was layer\.bias\[0\] and is layer\.weight\[0, 0\]"),
        ({"model": TANH}, {"model": RELU}, r"model\.layers\.0\.activation was 'tanh' and is 'relu'"),
    ],
)
def test_resuming_with_other_settings_says_which_and_changes_nothing(
    tmp_path: Path, before: Any, after: Any, said: str
) -> None:
    resumable(**before)[2](3, checkpoint=tmp_path / "run.npz")
    model, optimizer, train = resumable(**after)
    with pytest.raises(ValueError, match=rf"run\.npz: .*{said}"):
        train(6, resume=tmp_path / "run.npz")
    untouched, its_optimizer, _ = resumable(**after)
    assert same(model, untouched) and same(optimizer, its_optimizer)


def test_settings_may_be_changed_by_loading_by_hand(tmp_path: Path) -> None:
    trained, _, train = resumable()
    whole = train(3, checkpoint=tmp_path / "run.npz")
    model, optimizer, _ = resumable(lr=0.2, slope=0.3)
    losses, _ = nn.load_checkpoint(tmp_path / "run.npz", model, optimizer, np.random.default_rng(0))
    assert losses == whole.loss and same(model, trained) and optimizer.lr == 0.2


def load(path: Any, **settings: Any) -> Any:
    """Loads into a fresh training, and says what changed if it is refused."""
    model, _ = training(seed=5, **settings)
    before = training(seed=5, **settings)[0]
    rng = np.random.default_rng(5)
    try:
        return nn.load_checkpoint(path, model, model.optimizer, rng)
    except ValueError:
        assert same(model, before) and same(model.optimizer, before.optimizer)
        assert rng.bit_generator.state == np.random.default_rng(5).bit_generator.state
        raise


def test_ctrl_c_while_loading_leaves_all_as_it_was(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("json.loads", interrupt)
    model, _ = training(seed=5)
    with pytest.raises(KeyboardInterrupt):
        nn.load_checkpoint(checkpoint, model, model.optimizer, np.random.default_rng(5))
    assert same(model, training(seed=5)[0])


PCG64 = '{"bit_generator": "PCG64", "state": {"state": 1, "inc": 1}, "has_uint32": 0, "uinteger": %s}'


def rewrite(path: Path, **changes: Any) -> None:
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **{name: a for name, a in arrays.items() if a is not None})


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"nouts": (5, 1)}, r"layers.0.weight has shape \(4, 2\), not \(5, 2\)"),
        (
            {"nouts": (4, 4, 1)},
            r"layers.1.weight has shape \(1, 4\), not \(4, 4\)|layers.2.weight is missing",
        ),
        ({"optimizer": nn.Adam}, "trained by SGD, not Adam"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(checkpoint: Path, settings: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"run\.npz: .*({said})"):
        load(checkpoint, **settings)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"model.layers.0.bias": np.array([{}, 1, 2, 3], dtype=object)}, "bias.npy is not an array"),
        ({"model.layers.0.bias": np.array(list("abcd"))}, "not real numbers"),
        ({"loss": None}, "loss is missing"),
        ({"rng": np.array("{}")}, "run.npz"),
        ({"rng": np.array("no json")}, "run.npz"),
        ({"rng": np.array('{"bit_generator": "MT19937"}')}, "run.npz"),
        ({"optimizer.steps": np.array(float("nan"))}, "steps is nan"),
        ({"optimizer.steps": np.array(-1)}, "steps is -1"),
        ({"optimizer.steps": np.array(math.inf)}, "steps is inf"),
        ({"rng": np.array("[" * 100_000)}, "run.npz"),
        ({"rng": np.array('{"bit_generator": "PCG64", "state": {"state": -1, "inc": 1}}')}, "run.npz"),
        ({"rng": np.array(PCG64 % 1.5)}, "rng is not a state of this generator"),
        ({"loss": np.array([1j])}, "loss holds complex"),
        ({"format": np.array(1)}, "format is 1, not 2: another version of nn saved it"),
        ({"seconds": np.array([1.0, 2.0])}, r"seconds has shape \(2,\)"),
        ({"seconds": np.array(-1.0)}, "seconds is -1.0"),
        ({"seconds": np.array(math.nan)}, "seconds is nan"),
        ({"seconds": np.array(1e300)}, r"seconds is 1e\+300"),
        ({"loss": np.array([0.3, math.nan])}, "loss is not one finite number for each epoch"),
        ({"model.layers.0.bias": np.array([1.0, 2.0, math.inf, 4.0])}, "layers.0.bias is not finite"),
        ({"optimizer.velocity": np.full(17, math.nan)}, "velocity is not finite"),
        ({"optimizer.steps": np.array(2**60)}, "steps is 1.1529"),
        ({"optimizer.steps": np.array(0.5)}, "steps is 0.5"),
        ({"settings": None}, "settings is missing"),
        ({"settings": np.array("[" * 100_000)}, "run.npz"),
        ({"order": None}, "order is missing"),
        (
            {"order": np.array([math.nan])},
            "parameter 0 of the optimizer was none of the model's and is layers",
        ),
    ],
)
def test_checkpoints_with_wrong_contents_are_refused(checkpoint: Path, changes: Any, said: str) -> None:
    rewrite(checkpoint, **changes)
    with pytest.raises(ValueError, match=said):
        load(checkpoint)


@pytest.mark.parametrize(
    "name, method, said",
    [
        ("x.npy", zipfile.ZIP_DEFLATED, "it is compressed"),
        ("loss", zipfile.ZIP_STORED, "it has two members of one name"),
    ],
)
def test_archives_that_are_not_as_saved_are_refused(
    checkpoint: Path, name: str, method: int, said: str
) -> None:
    with zipfile.ZipFile(checkpoint, "a", method) as z:
        z.writestr(name, npy([0.5]))
    with pytest.raises(ValueError, match=said):
        load(checkpoint)


def test_a_crash_while_writing_leaves_the_old_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = checkpoint.read_bytes()

    def crash(*_: Any) -> None:
        raise OSError("disk full")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, crash)
            with pytest.raises(OSError, match="disk full"):
                training()[1](9, checkpoint=checkpoint)
        assert checkpoint.read_bytes() == before and list(checkpoint.parent.iterdir()) == [checkpoint]


def test_training_that_overflows_leaves_a_checkpoint_of_what_was_finite(checkpoint: Path) -> None:
    for engine in ("scalar", "numpy"):
        model, train = training(lr=1e308)
        with pytest.raises(ArithmeticError, match="those before epoch 0"):
            train(5, y=1e3 * Y, checkpoint=checkpoint, log_every=1, engine=engine)
        resumed, _ = training(seed=5)
        assert nn.load_checkpoint(checkpoint, resumed, resumed.optimizer, np.random.default_rng())[0] == []
        assert same(resumed, model)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Any]:
    """A directory in memory, where there is one: a disk would take most of the time."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield pathlib.Path(directory)


# Damage


def state(model: nn.MLP, optimizer: nn.SGD, rng: np.random.Generator) -> Any:
    """Everything that loading sets, to the last bit."""
    arrays = [*model.state_dict().items(), *optimizer.state_dict().items()]
    return [(name, a.tobytes()) for name, a in arrays], repr(rng.bit_generator.state)


def tiny(seed: int) -> tuple[nn.MLP, nn.SGD, np.random.Generator]:
    """The least there is to load into."""
    model = nn.MLP(1, [1], bias=False, rng=np.random.default_rng(seed))
    return model, nn.SGD(model.parameters(), lr=1.0), np.random.default_rng(seed)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array))
    return file.getvalue()


def npy_saying(dtype: str, shape: str, content: bytes = bytes(8)) -> bytes:
    """An .npy file that says of itself what need not be so."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def archive(members: Any, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of (name, content) pairs, with the right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as z:
        for name, content in members:
            z.writestr(name, content)
    return file.getvalue()


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as z:
        return {name: z.read(name) for name in z.namelist()}


def damaged(data: Any, rng: Any) -> Any:
    """Bytes cut off, flipped, inserted, removed, overwritten or copied elsewhere: at one place, or three."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 3])):
        i, j = (int(k) for k in rng.integers(len(data) + 1, size=2))
        n = int(rng.integers(1, 40))
        kind = rng.integers(6)
        if kind == 0:
            del data[i:]
        elif kind == 1:
            data[i : i + 1] = bytes(byte ^ 1 << rng.integers(8) for byte in data[i : i + 1])
        elif kind == 2:
            data[i:i] = rng.bytes(n)
        elif kind == 3:
            del data[i : i + n]
        elif kind == 4:
            data[i : i + n] = rng.choice([rng.bytes(n), bytes(n), b"\xff" * n])
        else:
            data[i : i + n] = data[j : j + n]
    return bytes(data)


VALUES = [
    *(math.nan, math.inf, -math.inf, -1, 0.5, 1e300, 2**53, 2**64 - 1, -(2**63), 1j, True, "", "1", b"1"),
    *([], [1.0], [math.nan] * 3, [[1.0]], ["a", "b"], np.zeros((0, 9)), np.zeros(9), np.zeros((1,) * 40)),
    *(np.array({}), np.zeros(3, "M8[s]"), np.zeros(3, "f4,f4"), "\ud800", "a" * 9999, "a\nb"),
    *(np.longdouble("1e4000"), np.full((1, 1), np.longdouble("1e4000"))),
    *("[" * 9999, '{"a":' * 9999, "1" * 9999, "null", "{}", '{"bit_generator": "PCG64", "state": 1}'),
    np.frombuffer(b"\x01\x00\xa0\x7f", "f4")[0],  # a signalling NaN
]
DTYPES = "<f16", "<f3", "<U0", "|V0", "\\d", "f8,f8", "(9,)f8", "<U9" + "9" * 99
SHAPES = "(10**15,)", "(-1,)", "(1L,)", "(1and 2,)", f"({'9' * 9999},)", "(0, 1e9)"
STRANGE = [
    *map(npy, VALUES),
    *(npy_saying(repr(dtype), "()") for dtype in DTYPES),
    *(npy_saying("'<f8'", shape) for shape in SHAPES),
    npy_saying("'<U1'", "()", b"\xff\xff\xff\xff"),  # no code points, either of them
    npy_saying("'<U1'", "()", b"\x00\x00\x11\x00"),
    b"",
    b"text",
]


def rebuilt(content: dict[str, bytes], rng: np.random.Generator) -> bytes:
    """An archive with the right checksums: a member is missing, renamed, twice, damaged or another."""
    content = dict(content)
    name = rng.choice(list(content))
    kind = rng.integers(8)
    if kind == 0:
        del content[name]
    elif kind == 1:
        content[damaged(name.encode(), rng).decode("latin1") or "x"] = content.pop(name)
    elif kind == 2:
        return archive([*content.items(), (name.removesuffix(".npy"), rng.choice([content[name], *STRANGE]))])
    elif kind < 5:
        content[name] = damaged(content[name], rng)
    else:
        content[name] = STRANGE[rng.integers(len(STRANGE))]
    return archive(content.items())


@pytest.mark.slow
def test_10000_damaged_checkpoints_are_refused_in_one_sentence_or_load_just_what_they_hold(
    memory: Path, recwarn: pytest.WarningsRecorder
) -> None:
    path = memory / "run.npz"
    nn.save_checkpoint(path, *tiny(0), [0.3, 0.2, 0.1], 1.5, {"data": "data"})
    whole, content = path.read_bytes(), members(path)
    rng = np.random.default_rng(0)
    loaded_into = tiny(1)
    before = state(*loaded_into)
    refused = 0
    for case in range(10_000):
        data = damaged(whole, rng) if case % 2 else rebuilt(content, rng)
        path.write_bytes(data)
        try:
            losses, seconds = nn.load_checkpoint(path, *loaded_into)
        except ValueError as error:
            refused += 1
            said = str(error)
            assert type(error) is ValueError and said.startswith(str(path)), case
            assert len(said) < len(str(path)) + 400 and said.isprintable(), case
            assert not said.endswith(": "), case
            assert state(*loaded_into) == before, case
            continue
        model, optimizer, generator = loaded_into
        with np.load(io.BytesIO(whole if case % 2 else data)) as saved:
            held = {name: array.tolist() for name, array in saved.items()}
        assert model.state_dict()["layers.0.weight"].tolist() == held["model.layers.0.weight"], case
        assert optimizer.steps == held["optimizer.steps"], case
        assert optimizer.state_dict()["velocity"].tolist() == held["optimizer.velocity"], case
        assert generator.bit_generator.state == json.loads(held["rng"]), case
        assert (losses, seconds) == (held["loss"], held["seconds"]), case
        loaded_into = tiny(1)
    assert not recwarn.list
    assert 8000 < refused < 9900  # the others are damaged where nobody reads, or hold other numbers


def nested(content: dict[str, bytes], depth: int) -> bytes:
    """An archive that is small for the sizes of its members: each of the added ones has the next inside."""
    inside, entries = bytes(10**5), list[Any]()
    for k in range(depth):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as z:
            z.writestr(f"model.{k}.npy", npy(np.frombuffer(inside, np.uint8)))
            for entry in entries:
                entry.header_offset += z.start_dir - len(inside)
            entries += z.infolist()
            inside, shell = file.getvalue()[: z.start_dir], len(inside)
            assert len(inside) > shell
    file = io.BytesIO(inside)
    with zipfile.ZipFile(file, "a") as z:
        for name, array in content.items():
            z.writestr(name, array)
        z.filelist += entries
    return file.getvalue()


def shared(content: dict[str, bytes], times: int) -> bytes:
    """An archive whose directory has an entry many times."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as z:
        for name, array in content.items():
            z.writestr(name, array)
        z.writestr("model.0.npy", npy(np.zeros(10**5)))
        z.filelist += [z.getinfo("model.0.npy")] * times
    return file.getvalue()


def test_what_a_file_promises_takes_no_memory(checkpoint: Path) -> None:
    content = members(checkpoint)
    promises = [
        npy_saying("'<f8'", "(1000000000000000,)"),
        npy_saying("'<f8'", "(100000000,)"),
        npy_saying("'<f8'", "(0, 1000000000000000)", b""),
        npy_saying("'<U0'", "(1000000000,)", b""),
        npy_saying("'<U500000000'", "()"),
        npy_saying("'(100000000,)f8'", "(1,)"),
        npy_saying("[('a', '<f8', (100000000,))]", "()"),
        npy_saying("(" * 9000, "()"),
    ]
    bombs = [archive({**content, "loss.npy": promise}.items()) for promise in promises]
    zeros = npy(np.zeros(10**6))
    bombs += [archive({**content, "loss.npy": zeros}.items(), zipfile.ZIP_DEFLATED)]
    bombs += [nested(content, 100), shared(content, 100)]
    for bomb in bombs:
        checkpoint.write_bytes(bomb)
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"run\.npz"):
            load(checkpoint)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 5 * len(bomb) + 10**6


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM])
def test_generators_of_every_kind_resume(tmp_path: Path, kind: Any) -> None:
    model, optimizer, _ = tiny(0)
    rng, other = np.random.Generator(kind(0)), np.random.Generator(kind(1))
    rng.random(3)
    nn.save_checkpoint(tmp_path / "run.npz", model, optimizer, rng, [], 0.0)
    assert nn.load_checkpoint(tmp_path / "run.npz", model, optimizer, other) == ([], 0.0)
    assert rng.integers(2**63, size=1000).tolist() == other.integers(2**63, size=1000).tolist()


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox])
def test_positions_beside_a_generators_buffer_are_refused(tmp_path: Path, kind: Any) -> None:
    model, optimizer, _ = tiny(0)
    rng = np.random.Generator(kind(0))
    nn.save_checkpoint(tmp_path / "run.npz", model, optimizer, rng, [], 0.0)
    text = json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)
    for position in (-1, 625, 2**31 - 1):
        moved = re.sub(r'pos": \d+', f'pos": {position}', text)
        rewrite(tmp_path / "run.npz", rng=np.array(moved))
        with pytest.raises(ValueError, match="beside its buffer"):
            nn.load_checkpoint(tmp_path / "run.npz", model, optimizer, rng)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    special: list[Any] = [tmp_path]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        special += [tmp_path / "pipe", "/dev/zero", "/dev/null"]
    for path in special:
        with pytest.raises(ValueError, match=f"{path} is not a file"):
            load(path)
    (tmp_path / "empty.npz").touch()
    with pytest.raises(ValueError, match=r"empty\.npz is not a whole checkpoint"):
        load(tmp_path / "empty.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npz")


# Kills, and others who write


def test_files_that_kills_have_left_are_removed_after_an_hour(checkpoint: Path) -> None:
    abandoned, others, young = (
        checkpoint.with_name(name)
        for name in (f"run.npz.{1:016x}.partial", f"run2.npz.{1:016x}.partial", f"run.npz.{2:016x}.partial")
    )
    for path in (abandoned, others, young):
        path.write_bytes(b"half")
    for path in (abandoned, others):
        os.utime(path, (time.time() - 4000,) * 2)
    model, _ = training()
    nn.save_checkpoint(checkpoint, model, model.optimizer, np.random.default_rng(1), [], 0.0)
    assert set(checkpoint.parent.iterdir()) == {checkpoint, others, young}


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is being read")
def test_threads_may_save_to_one_path_and_load_from_it(tmp_path: Path) -> None:
    errors = []

    def work(k: int) -> None:
        try:
            model, optimizer, rng = tiny(k)
            for path in [tmp_path / f"{k}.npz", tmp_path / "all.npz"] * 10:
                model.load_state_dict({"layers.0.weight": [[k]]})
                nn.save_checkpoint(path, model, optimizer, rng, [k] * 10**k, k)
                losses, seconds = nn.load_checkpoint(path, model, optimizer, rng)
                [[weight]] = model.state_dict()["layers.0.weight"]
                assert losses == [weight] * 10 ** int(weight) and seconds == weight
                assert weight == k or path.name == "all.npz"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k % 4,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"{k}.npz" for k in range(4)), "all.npz"]


def kill(directory: Any) -> None:
    """Kill training at 100 moments, and resume from what each leaves; says what it found there."""
    path = os.path.join(directory, "run.npz")
    epochs, settings, data = 30, dict[str, Any](optimizer=nn.Adam, batch_size=2, nouts=(2, 1)), (X[:4], Y[:4])

    def start(engine: Any) -> Any:
        """The process that trains, and when it started."""
        began = time.perf_counter()
        if not (child := os.fork()):
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    training(**settings)[1](epochs, *data, checkpoint=path, log_every=1, engine=engine)
            finally:
                os._exit(0)
        return child, began

    whole, seconds = {}, {}
    engines = ["scalar", "numpy"] * 4 + ["scalar", "native" if find_spec("llvmlite") else "numpy"]
    for engine in dict.fromkeys(engines):
        model, train = training(**settings)
        whole[engine] = model, train(epochs, *data, engine=engine).loss
        child, began = start(engine)
        os.waitpid(child, 0)
        seconds[engine] = time.perf_counter() - began
    moments = np.random.default_rng(0)
    kills, at, torn = 0, set(), 0
    for engine in itertools.cycle(engines):
        if os.path.exists(path):
            os.remove(path)
        files = set(os.listdir(directory))
        child, began = start(engine)
        time.sleep(max(0.0, began + moments.uniform(0.0, seconds[engine]) - time.perf_counter()))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):  # it was done before
            continue
        saved = os.path.exists(path)
        left = {*os.listdir(directory)} - files - {"run.npz"}
        torn += any(not zipfile.is_zipfile(os.path.join(directory, name)) for name in left)
        if saved:
            at.add(len(load(path, optimizer=nn.Adam, nouts=(2, 1))[0]))
        model, train = training(**settings)
        losses = train(epochs, *data, resume=path if saved else None, engine=engine).loss
        expected, expected_losses = whole[engine]
        assert losses == expected_losses and same(model, expected)
        assert same(model.optimizer, expected.optimizer)
        kills += 1
        if kills == 100:
            break
    print(json.dumps([kills, torn, sorted(at)]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.slow
def test_training_killed_at_100_moments_resumes_to_the_same_bits(memory: Path) -> None:
    here = os.path.dirname(__file__)
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]; import test_checkpoint; test_checkpoint.kill(sys.argv[1])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, memory, here, os.path.dirname(here)],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a fork has no other threads
    )
    assert ran.returncode == 0, ran.stderr
    kills, torn, at = json.loads(ran.stdout.splitlines()[-1])
    assert kills == 100 and torn >= 3 and len(at) >= 5  # in the middle of writing, and at many epochs
