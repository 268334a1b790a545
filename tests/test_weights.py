"""Weights to and from PyTorch and .safetensors files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nn

X = np.random.default_rng(0).normal(size=(5, 3))


def model(activation: str = "tanh", seed: int = 0, **settings: Any) -> Any:
    return nn.MLP(3, [4, 4, 2], activation=activation, rng=np.random.default_rng(seed), **settings)


def same(a: Any, b: Any) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_numbered_layers_load_in_their_order_and_others_are_named() -> None:
    ours, theirs = model(), model(seed=1)
    arrays = theirs.state_dict().values()
    names = [f"{number}.{part}" for number in (0, 3, 11) for part in ("weight", "bias")]
    ours.load_state_dict(dict(zip(names[::-1], [*arrays][::-1])))
    assert same(ours, theirs)
    names[0] = "fc.weight"
    with pytest.raises(ValueError, match=r"layers.0.weight is missing; given are fc.weight, 0.bias, 3.w"):
        ours.load_state_dict(dict(zip(names, arrays)))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_state_of_tensors_loads_and_returns(dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    linear = [torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4), torch.nn.Tanh()]
    theirs = torch.nn.Sequential(*linear, torch.nn.Linear(4, 2)).to(getattr(torch, dtype))
    ours = model()
    ours.load_state_dict(dict(theirs.named_parameters()))  # tensors that have gradients
    with torch.no_grad():
        wanted = theirs.double()(torch.tensor(X)).numpy()
    assert nn.predict(ours, X) == pytest.approx(wanted, rel=1e-13)
    theirs.load_state_dict(nn.to_torch(ours).state_dict())


@pytest.mark.parametrize("name", sorted({*nn.layers.ACTIVATIONS}))
@pytest.mark.parametrize("bias", [True, False])
def test_to_torch_computes_the_same(name: str, bias: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = model(name, bias=bias)
    with torch.no_grad():
        theirs = nn.to_torch(ours)(torch.tensor(X)).numpy()
    assert nn.predict(ours, X) == pytest.approx(theirs, rel=1e-12)


def test_without_pytorch_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match="pip install torch"):
        nn.to_torch(model())


def test_safetensors_round_trip_and_half_precision(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors", reason="safetensors is not installed")
    path = tmp_path / "model.safetensors"
    ours, other = model(), model(seed=1)
    nn.save_safetensors(path, ours)
    nn.load_safetensors(path, other)
    assert same(ours, other)
    for dtype, kind in (("float16", np.float16), ("float32", np.float32)):
        from safetensors.numpy import save_file

        save_file({name: a.astype(kind) for name, a in ours.state_dict().items()}, path)
        nn.load_safetensors(path, other)
        assert nn.predict(other, X) == pytest.approx(nn.predict(ours, X), rel=1e-2, abs=1e-2), dtype
    halves = {
        name: np.ascontiguousarray((a.astype("<f4").view("<u4") >> 16).astype("<u2"))
        for name, a in ours.state_dict().items()
    }
    parts = {
        name: library.TensorSpec(dtype="bfloat16", shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes)
        for name, a in halves.items()
    }
    path.write_bytes(library.serialize(parts))
    nn.load_safetensors(path, other)
    assert nn.predict(other, X) == pytest.approx(nn.predict(ours, X), rel=1e-1, abs=1e-1)


def test_a_damaged_file_and_other_names_change_nothing(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    path = tmp_path / "model.safetensors"
    nn.save_safetensors(path, nn.MLP(3, [4, 2]))
    ours = model()
    with pytest.raises(ValueError, match=r"layers.2.weight is missing; given are layers"):
        nn.load_safetensors(path, ours)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"model.safetensors is no whole .safetensors file"):
        nn.load_safetensors(path, ours)
    assert same(ours, model())
