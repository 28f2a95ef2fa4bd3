"""Files of weights from strangers: what is read, and that nothing in them runs or is believed."""

import json
import pickle
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import numpy as np
import pytest
from safetensors.numpy import save_file

from ctrak_jax.errors import UsageError
from ctrak_jax.models.checkpoints import DIFFUSERS, config_file, open_file, safe, weights_in
from ctrak_jax.models.checkpoints.config_file import read_config
from tests.wild import forms

# safetensors


def test_every_dtype_holds_the_same_values():
    found = open_file(forms() / "dtypes" / "all.safetensors").tensors
    floats = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]
    for name in floats:
        np.testing.assert_array_equal(found[name].astype(np.float64), found["F64"])
    assert found["F64"].ravel().tolist() == [0, 0.5, -1.75, 448, 2**-6, -0.125, 1, 3.5]
    assert {str(found[name].dtype) for name in ("I64", "I32", "U8", "BOOL")} == {
        *("int64", "int32", "uint8", "bool")
    }


def test_what_safetensors_writes_is_read_with_its_metadata(tmp_path):
    values = {
        "a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "s": np.float16(2),
        "e": np.ones((0, 2)),
    }
    save_file({k: np.asarray(v) for k, v in values.items()}, tmp_path / "x", metadata={"k": "v"})
    found = open_file(tmp_path / "x")
    assert found.metadata == {"k": "v"}
    for name, value in values.items():
        np.testing.assert_array_equal(found.tensors[name], value)


def written(file: Path, header: Any, values: bytes = bytes(8), length: int | None = None) -> Path:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + values)
    return file


def entry(**changes: Any) -> dict[str, Any]:
    return {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("header", "length", "message"),
    [
        (entry(data_offsets=[0, 16]), None, "not within the file"),
        (entry(data_offsets=[4, 12]), None, "not within the file"),
        (entry(data_offsets=[-4, 4]), None, "no list of numbers"),
        (entry(shape=[2**62, 4]), None, "not within the file"),
        (entry(shape=[2.0]), None, "no list of numbers"),
        (entry(dtype="F4"), None, "'x' is of dtype F4, which is not read"),
        ({"x": 3}, None, "is not that of a tensor"),
        (entry(), 2**39, "header of .* bytes is not within"),
        (entry(), 5, "cannot be used"),
    ],
)
def test_a_header_is_compared_with_the_file(tmp_path, header, length, message):
    file = written(tmp_path / "x.safetensors", header, length=length)
    with pytest.raises(UsageError, match=message) as caught:
        open_file(file)
    assert "\n" not in str(caught.value)


# Pickles


class Call:
    """Pickles as the call of a function by its name."""

    def __init__(self, function: Any, *given: Any):
        self.call = function, given

    def __reduce__(self):
        return self.call


class GlobalName:
    """Pickles as a name of a module that need not be there."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


Python: Any = pickle._Pickler  # pyright: ignore[reportAttributeAccessIssue]


class Writer(Python):
    """Writes what torch.save writes, without PyTorch."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, Raw) else None

    def save_global_name(self, obj: GlobalName) -> None:
        self.write(b"c" + f"{obj.module}\n{obj.name}\n".encode())

    def save_rebuilt(self, obj: "Tensor") -> None:
        self.save_global_name(GlobalName("torch._utils", "_rebuild_tensor_v2"))
        self.save((obj.raw, 0, obj.shape, obj.strides, False, {}))
        self.write(b"R")

    dispatch: ClassVar[dict[type, Any]] = {
        **Python.dispatch,
        GlobalName: save_global_name,
    }


class Raw:
    """A storage, by its reference."""

    def __init__(self, kind: str, key: str, elements: int, *view: None):
        self.pid = ("storage", GlobalName("torch", kind), key, "cpu", elements, *view)


class Tensor:
    """A contiguous float32 tensor."""

    def __init__(self, key: str, shape: tuple[int, ...], *view: None):
        self.raw = Raw("FloatStorage", key, int(np.prod(shape)), *view)
        self.shape = shape
        self.strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


Writer.dispatch[Tensor] = Writer.save_rebuilt


def dumped(content: Any) -> bytes:
    out = BytesIO()
    Writer(out, 2).dump(content)
    return out.getvalue()


def archive(file: Path, content: bytes, storages: dict[str, bytes], **how: Any) -> Path:
    with zipfile.ZipFile(file, "w", **how) as out:
        out.writestr("x/data.pkl", content)
        for key, values in storages.items():
            out.writestr(f"x/data/{key}", values)
    return file


def one_file(file: Path, content: bytes, storages: dict[str, bytes]) -> Path:
    """As before PyTorch 1.6."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts = [*(pickle.dumps(each, 2) for each in head), content, pickle.dumps(list(storages), 2)]
    values = [struct.pack("<q", len(v) // 4) + v for v in storages.values()]
    file.write_bytes(b"".join([*parts, *values]))
    return file


VALUES = np.arange(6, dtype=np.float32)


def test_tensors_are_read_in_both_formats(tmp_path):
    new = dumped({"a": Tensor("0", (2, 3))})
    old = dumped({"a": Tensor("0", (2, 3), None)})
    for file in (
        archive(tmp_path / "new.bin", new, {"0": VALUES.tobytes()}),
        one_file(tmp_path / "old.ckpt", old, {"0": VALUES.tobytes()}),
    ):
        np.testing.assert_array_equal(open_file(file).tensors["a"], VALUES.reshape(2, 3))


def test_a_trainers_objects_beside_the_weights_are_passed_over(tmp_path):
    callback = GlobalName("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    content = {"epoch": 3, "callbacks": {callback: 1}, "state_dict": {"a": Tensor("0", (6,))}}
    file = archive(tmp_path / "x.ckpt", dumped(content), {"0": VALUES.tobytes()})
    assert list(open_file(file).tensors) == ["a"]


def test_nothing_in_a_pickle_runs(tmp_path):
    trace = tmp_path / "trace"
    calls = [
        (Path.touch, (trace,)),
        (eval, ("1",)),
        (getattr, ("", "join")),
        (open, (str(trace), "w")),
    ]
    for number, (function, given) in enumerate(calls):
        content = pickle.dumps({"state_dict": {}, "x": Call(function, *given)}, 2)
        file = archive(tmp_path / f"{number}.ckpt", content, {})
        with pytest.raises(UsageError, match=r"its pickle asks for .*, which is no part of a"):
            open_file(file)
    # A library whose objects are passed over is not imported, and its function not called.
    place = str(trace).encode()
    content = b"\x80\x02cnumpy\nsave\nU" + bytes([len(place)]) + place + b"K\x01\x86R."
    assert not trace.exists()
    with pytest.raises(UsageError):
        open_file(archive(tmp_path / "y.ckpt", content, {}))
    assert not (tmp_path / "trace.npy").exists()


def test_sizes_in_a_pickle_are_bounded(tmp_path):
    whole = dumped({"a": Tensor("0", (6,))})
    bomb = archive(tmp_path / "a.bin", whole, {"0": bytes(2**20)}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UsageError, match=r"compressed or larger"):
        open_file(bomb)
    with pytest.raises(UsageError, match=r"storage 0 holds 5 numbers instead of 6"):
        open_file(archive(tmp_path / "b.bin", whole, {"0": VALUES[:5].tobytes()}))
    # Many tensors of one storage.
    many = {str(n): Tensor("0", (5000,)) for n in range(1000)}
    file = archive(tmp_path / "c.bin", dumped(many), {"0": bytes(20_000)})
    with pytest.raises(UsageError, match=r"its tensors are larger than 4 times its"):
        open_file(file)
    old = dumped({"a": Tensor("0", (6,), None)})
    for cut in (VALUES[:5].tobytes(), b""):
        file = one_file(tmp_path / "d.bin", old, {"0": VALUES.tobytes()})
        file.write_bytes(file.read_bytes()[: -24 + len(cut)])
        with pytest.raises(UsageError, match=r"it ends after|is not its tensors'"):
            open_file(file)


def test_containers_within_themselves_end(tmp_path):
    """Ten lists of ten of the next, thirty deep: 10^30 items for a reader that walks them all."""
    inner: Any = []
    for _ in range(30):
        inner = [inner] * 10
    with pytest.raises(UsageError, match=r"is list, expected tensors by their names"):
        open_file(archive(tmp_path / "x.bin", pickle.dumps({"x": inner}, 2), {}))
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UsageError, match=r"is list, expected tensors by their names"):
        open_file(archive(tmp_path / "y.bin", pickle.dumps({"x": loop}, 2), {}))


# Shards and places


def shards(folder: Path, places: Any) -> Path:
    save_file({"a": VALUES}, folder / "one.safetensors")
    index = folder / "x.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    return index


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"a": "../one.safetensors"}, r"'\.\./one\.safetensors' is no file beside it"),
        ({"a": "/etc/passwd"}, r"is no file beside it"),
        ({"a": "x.safetensors.index.json"}, r"is no file beside it"),
        ({"a": "two.safetensors"}, r"two\.safetensors is missing, which .* names; fetch it"),
        ({"b": "one.safetensors"}, r"one\.safetensors also has 'a'"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, r"lacks 'b'"),
        ({}, r"has no weight_map"),
    ],
)
def test_a_list_of_shards_names_what_lies_beside_it(tmp_path, places, message):
    with pytest.raises(UsageError, match=message):
        open_file(shards(tmp_path, places))


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["fp16.safetensors", "safetensors"], "safetensors"),
        (["fp16.safetensors", "bin"], "bin"),
        (["non_ema.safetensors", "fp16.safetensors"], "fp16.safetensors"),
        (["bin", "safetensors.index.json"], "safetensors.index.json"),
        (["safetensors.index.fp16.json"], "safetensors.index.fp16.json"),
        (["safetensors.fp16.index.json"], "safetensors.fp16.index.json"),
        (["fp16.safetensors.index.json"], "fp16.safetensors.index.json"),
        (["bin.index.fp16.json"], "bin.index.fp16.json"),
        (["my_own.safetensors"], "my_own.safetensors"),
    ],
)
def test_averages_then_full_precision_and_every_spelling_of_a_list(tmp_path, there, taken):
    for name in there:
        (tmp_path / f"diffusion_pytorch_model.{name}").touch()
    assert weights_in(tmp_path, DIFFUSERS).name == f"diffusion_pytorch_model.{taken}"


def test_other_files_are_told_apart(tmp_path):
    for content, message in [
        (b"<html>", "is no file of weights: expected safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (b"", "is no file of weights"),
    ]:
        (tmp_path / "x.safetensors").write_bytes(content)
        with pytest.raises(UsageError, match=message):
            open_file(tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match=r"none: No such file"):
        open_file(tmp_path / "none")
    assert not safe.is_safe(b"PK\x03\x04aaaaaaaaa")


# Flax's msgpack


@pytest.mark.parametrize("within", [False, True], ids=["the tree", "an array"])
def test_lists_that_claim_the_whole_file_are_refused_before_they_are_made(tmp_path, within):
    """20 lists within each other of as many items each as the file has bytes."""
    length = 50_000
    bomb = (b"\xdd" + struct.pack(">I", length // 2)) * 20 + bytes(length)
    if within:
        bomb = msgpack.packb({"a": msgpack.ExtType(1, bomb)})
    (tmp_path / "a.msgpack").write_bytes(bomb)
    with pytest.raises(UsageError, match=r"cannot be used \(25000 exceeds max_array_len"):
        open_file(tmp_path / "a.msgpack")


# config.json


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers_per_block": 300_000}, "layers_per_block is 300000, expected from 1 to 128"),
        ({"layers_per_block": [2, 300_000]}, r"layers_per_block is \[2, 300000\]"),
        ({"layers_per_block": "2"}, "layers_per_block is '2'"),
        ({"down_block_types": ["DownBlock2D"] * 1000}, r"down_block_types is \['Do.*\.\.\.\],"),
        ({"text_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers is 1000000000"),
    ],
)
def test_a_network_of_too_many_layers_is_refused(tmp_path, settings, message):
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=message):
        read_config(tmp_path / "config.json")


def test_a_config_without_end_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(config_file, "LARGEST", 100)
    (tmp_path / "config.json").write_text(json.dumps({"a": "b" * 100}))
    with pytest.raises(UsageError, match=r"config\.json has more than 100 bytes; fetch"):
        read_config(tmp_path / "config.json")
    fine = {"layers_per_block": 2, "block_out_channels": [320, 640], "num_hidden_layers": 24}
    (tmp_path / "config.json").write_text(json.dumps(fine))
    assert read_config(tmp_path / "config.json") == fine
