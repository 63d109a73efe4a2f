"""Test layer: files. A network comes back from its file as it was; what is no such file is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import vgcore as vg
from networks import BATCH, LAYERS, data, same


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_save_and_load(tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("safetensors")
    net = vg.Network(3, LAYERS, dtype=dtype, rng=2**80 + 1)
    x = data(3, dtype)
    net.step(x, np.zeros((BATCH, 2), dtype), "mse", lr=0.1)
    path = tmp_path / "net.safetensors"
    net.save(path)
    again = vg.load(str(path))
    assert same(net, again)
    assert again.layers == net.layers
    assert (again.seed, again.dtype, repr(again)) == (net.seed, net.dtype, repr(net))
    assert np.array_equal(again.forward(x), net.forward(x))
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.safetensors"]


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    numpy_io = pytest.importorskip("safetensors.numpy")
    net = vg.mlp(depth=5, width=4, rng=0)
    net.save(tmp_path / "net.safetensors")
    tensors = numpy_io.load_file(tmp_path / "net.safetensors")
    assert tensors["hidden.weight"].shape == (5, 4, 4)
    other = vg.mlp(depth=5, width=4, rng=1)
    other.load_parameters(tensors)
    assert same(net, other)


def test_files_that_are_no_network(tmp_path: Path) -> None:
    numpy_io = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "x.safetensors"
    with pytest.raises(FileNotFoundError, match="no such file"):
        vg.load(path)
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(vg.ArgumentError, match="not a safetensors file"):
        vg.load(path)
    numpy_io.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(vg.ArgumentError, match="no vgcore network"):
        vg.load(path)
    for damaged in [
        "{",
        "[]",
        '{"format": 99}',
        '{"format": 1}',
        '{"format": 1, "seed": "0", "in_features": 4, "layers": [{}]}',
    ]:
        numpy_io.save_file({"a": np.zeros(3)}, path, metadata={"vgcore_network": damaged})
        with pytest.raises(vg.ArgumentError, match=r"damaged|upgrade"):
            vg.load(path)


def test_saving_without_safetensors_names_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(vg.MissingDependencyError, match=r'pip install "vgcore\[io\]"'):
        vg.mlp(depth=1, width=2).save(tmp_path / "x")
    with pytest.raises(ImportError, match="loading a network"):
        vg.load(tmp_path / "x")
