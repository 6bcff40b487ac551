"""Hostile and damaged checkpoint files, made by scripts: each is refused in one line, in bounded time and memory."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from payload import Payload

GOOD = {"backbone.w": torch.ones(4)}
FILES: dict[str, Callable[[Path, Path], Any]] = {}
HUGE = 2**40


def file(name: str) -> Callable:
    """Register a function that writes the file at its first argument; the second is what a payload would create."""

    def register(write: Callable[[Path, Path], Any]) -> Callable:
        FILES[name] = write
        return write

    return register


def saved(name: str, content: Callable[[Path], Any], **options: Any) -> None:
    FILES[name] = lambda path, trace: torch.save(content(trace), path, **options)


def dumped(name: str, content: Callable[[Path], Any], protocol: int = 4) -> None:
    FILES[name] = lambda path, trace: path.write_bytes(pickle.dumps(content(trace), protocol))


def raw(name: str, data: bytes) -> None:
    FILES[name] = lambda path, trace: path.write_bytes(data)


def repack(path: Path, edit: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_STORED) -> None:
    """Write an archive of torch.save whose records were edited."""
    buffer = io.BytesIO()
    torch.save(GOOD, buffer)
    with zipfile.ZipFile(buffer) as archive:
        records = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    edit(records)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records.items():
            archive.writestr(name, data)


def with_pickle(name: str, data: bytes) -> None:
    """Put a pickle in place of the one in an archive of torch.save."""

    def write(path: Path, trace: Path) -> None:
        repack(path, lambda records: records.update({"archive/data.pkl": data}))

    FILES[name] = write


def as_arrays(content: Any) -> Any:
    """Replace tensors by arrays, as in Detectron2's files."""
    if isinstance(content, dict):
        return {key: as_arrays(value) for key, value in content.items()}
    return content.numpy() if isinstance(content, torch.Tensor) else content


# ------------------------------------------------------------------------------------------------------------ payloads

for place, content in {
    "meta": lambda trace: {"state_dict": GOOD, "meta": Payload(trace)},
    "weights": lambda trace: {"state_dict": {"w": Payload(trace)}},
    "top": Payload,
    "message_hub": lambda trace: {"state_dict": GOOD, "message_hub": {"x": [Payload(trace)]}},
}.items():
    saved(f"payload_{place}.pth", content)
    saved(f"payload_{place}_old.pth", content, _use_new_zipfile_serialization=False)
    dumped(f"payload_{place}.pkl", lambda trace, content=content: as_arrays(content(trace)))
    dumped(f"payload_{place}_protocol_0.pkl", lambda trace, content=content: as_arrays(content(trace)), 0)
    dumped(f"payload_{place}_plain.pth", content)
OPS = b"cos\nmkdir\n(V{}\ntR."
for suffix in ("bin", "pt", "pkl"):
    FILES[f"global.{suffix}"] = lambda path, trace: path.write_bytes(OPS.replace(b"{}", str(trace).encode()))
FILES["inst.pkl"] = lambda path, trace: path.write_bytes(f"(V{trace}\nios\nmkdir\n.".encode())
FILES["getattr.pth"] = lambda path, trace: repack(
    path,
    lambda records: records.update(
        {"archive/data.pkl": f"\x80\x02c__builtin__\ngetattr\n(cos\nsystem\nVmkdir {trace}\ntR.".encode("latin1")}
    ),
)
raw("eval.pkl", b"cbuiltins\neval\n(V__import__('os').getpid()\ntR.")
raw("pickle_of_numpy.npy.pkl", b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nload\n(I0\ntS'b'\ntR.")

# ----------------------------------------------------------------------------------------------- memory and endlessness


def itself() -> dict[str, Any]:
    content: dict[str, Any] = {"a": torch.ones(1)}
    content["state_dict"] = content
    return content


saved("contains_itself.pth", lambda trace: itself())
saved("contains_itself_old.pth", lambda trace: itself(), _use_new_zipfile_serialization=False)


def encoded(times: int, codec: str) -> bytes:
    """Pickle that encodes bytes again and again; "hex" doubles their length each time."""
    start = b"\x80\x02" + b"c_codecs\nencode\n" * times + b"X\x04\x00\x00\x00abcd"
    codec_op = b"X" + struct.pack("<I", len(codec)) + codec.encode()
    return start + (codec_op + b"\x86R") * times + b"."


for codec in ("hex", "HEX", "base64", "hex_codec", "utf-7", "zlib"):
    raw(f"codec_{codec}.pkl", encoded(60, codec))
    with_pickle(f"codec_{codec}.pth", encoded(60, codec))
with_pickle("bytearray.pth", b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + HUGE.to_bytes(6, "little") + b"\x85R.")
raw("memo_index.pkl", b"\x80\x02]r\xff\xff\xff\x7f.")
with_pickle("memo_index.pth", b"\x80\x02]r\xff\xff\xff\x7f.")
raw("long_string.pkl", b"\x80\x04\x8d" + HUGE.to_bytes(8, "little") + b"a.")
raw("long_bytes.pkl", b"\x80\x04\x8e" + HUGE.to_bytes(8, "little") + b"a.")
raw("long_frame.pkl", b"\x80\x04\x95" + HUGE.to_bytes(8, "little") + b"N.")
raw("nested_key.pkl", b"\x80\x02}N" + b"\x85" * 400_000 + b"Ns.")
with_pickle("nested_key.pth", b"\x80\x02}N" + b"\x85" * 400_000 + b"Ns.")
with_pickle("nested_set.pth", b"\x80\x02c__builtin__\nset\n]N" + b"\x85" * 400_000 + b"a\x85R.")
DEEP = b"N" + b"\x85" * 400_000
raw("nested_key_of_dict.pkl", b"\x80\x02(" + DEEP + b"Nd.")
raw("nested_frozenset.pkl", b"\x80\x04(" + DEEP + b"\x91.")
raw("nested_item.pkl", b"\x80\x04\x8f(" + DEEP + b"\x90.")
raw("nested_dtype.pkl", b"\x80\x02cnumpy\ndtype\n" + DEEP + b"\x85R.")
with_pickle("nested_key_of_dict.pth", b"\x80\x02(" + DEEP + b"Nd.")
with_pickle("nested_storage.pth", b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + DEEP + b"NK\x01tQ.")
REBUILD = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
REBUILD += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQK\x00%sK\x01\x85\x89NtR."
with_pickle("string_shape.pth", REBUILD % (b"X\x01\x00\x00\x00a\x8a\x06" + HUGE.to_bytes(6, "little") + b"\x86"))
with_pickle("long_shape.pth", REBUILD % (b"(" + b"\x8a\x08" * 1 + b"\xff" * 7 + b"\x7f" + b"K\x02" * 100_000 + b"t"))
raw("unbuilt.pkl", b"\x80\x02}X\x01\x00\x00\x00wcnumpy.core.multiarray\n_reconstruct\n)Rs.")
COPIES = b"\x80\x02](" + b"N" * 100_000 + b"eq\x00" + b"0](" + b"c__builtin__\nset\nh\x00\x85R" * 5_000 + b"e."
with_pickle("copied_lists.pth", COPIES.replace(b"__builtin__\nset", b"torch\nSize"))
raw("copied_lists.pkl", COPIES.replace(b"__builtin__\nset", b"collections\nOrderedDict"))
saved("stride_0.pth", lambda trace: {"state_dict": {"w": torch.ones(1).expand(10**6, 10**6)}})
saved("stride_0_old.pth", lambda trace: {"w": torch.ones(1).expand(10**9)}, _use_new_zipfile_serialization=False)
shared = torch.ones(1000)
saved("many_views.pth", lambda trace: {"state_dict": {f"w{i}": shared.view(-1) for i in range(20_000)}})


@file("deflated.pth")
def deflated(path: Path, trace: Path) -> None:
    key = "archive/data/0"
    repack(path, lambda records: records.update({key: bytes(200_000_000)}), zipfile.ZIP_DEFLATED)


@file("short_storage.pth")
def short_storage(path: Path, trace: Path) -> None:
    repack(path, lambda records: records.update({"archive/data/0": b"abcd"}))


@file("no_storage.pth")
def no_storage(path: Path, trace: Path) -> None:
    repack(path, lambda records: records.pop("archive/data/0"))


@file("huge_storage_old.pth")
def huge_storage(path: Path, trace: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(77)}, buffer, _use_new_zipfile_serialization=False)
    path.write_bytes(buffer.getvalue().replace(b"KM", b"\x8a\x06" + HUGE.to_bytes(6, "little")))


# ------------------------------------------------------------------------------------------------- unusual and damaged

dumped("strings.pkl", lambda trace: {"model": {"w": np.array(["a", "bc"])}})
dumped("bytes.pkl", lambda trace: {"model": {"w": np.array([b"a", b"bc"])}})
dumped("objects.pkl", lambda trace: {"model": {"w": np.array([Payload(trace), None])}})
dumped("fields.pkl", lambda trace: {"model": {"w": np.zeros(2, [("a", "f4"), ("b", "i4")])}})
dumped("dates.pkl", lambda trace: {"model": {"w": np.zeros(2, "M8[s]")}})
dumped("integer_keys.pkl", lambda trace: {0: np.zeros(2), 1: np.zeros(2)})
saved("integer_keys.pth", lambda trace: {"state_dict": {0: torch.ones(2), 1: torch.ones(2)}})
saved("sparse.pth", lambda trace: {"state_dict": {"w": torch.eye(3).to_sparse()}})
saved("sparse_csr.pth", lambda trace: {"state_dict": {"w": torch.eye(3).to_sparse_csr()}})
saved(
    "quantized.pth", lambda trace: {"state_dict": {"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}}
)
saved("meta.pth", lambda trace: {"state_dict": {"w": torch.ones(3, device="meta")}})
saved("nan.pth", lambda trace: {"state_dict": {"backbone.w": torch.full((3,), torch.nan), "b": torch.ones(1)}})
dumped("nan.pkl", lambda trace: {"model": {"backbone.w": np.full(3, np.nan)}})
saved("module.pth", lambda trace: torch.nn.Linear(2, 2))
saved("empty_dict.pth", lambda trace: {})
saved("numbers.pth", lambda trace: {"state_dict": {"lr": 0.1}})
raw("empty.pth", b"")
raw("empty.safetensors", b"")
raw("text.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")
raw("page.pth", b"<!DOCTYPE html><html></html>")
raw("header.safetensors", HUGE.to_bytes(8, "little") + b"{}")
raw(
    "offsets.safetensors",
    (80).to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[9999999],"data_offsets":[0,4]}}'.ljust(80) + b"abcd",
)
raw("zip.pth", b"PK\x03\x04" + b"\0" * 100)
FILES["hidden_methods.pth"] = lambda path, trace: torch.save({"state_dict": attributed()}, path)


def attributed() -> OrderedDict:
    """Return a dict whose methods are hidden by attributes."""
    content: OrderedDict = OrderedDict(GOOD)
    vars(content).update(get=1, keys=None)
    return content


def write_all(folder: Path, trace: Path) -> list[Path]:
    """Write every file into ``folder``."""
    paths = []
    for name, write in FILES.items():
        write(folder / name, trace)
        paths.append(folder / name)
    os.symlink(folder / "nowhere.pth", folder / "dangling.pth")
    os.symlink("loop.pth", folder / "loop.pth")
    return [*paths, folder / "dangling.pth", folder / "loop.pth"]
