"""Files of a feature cache: damage, kills, several processes, a full folder, and a folder that cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fpn_plugins.backbones import map_files
from fpn_plugins.backbones.map_files import MapFiles

CPU = torch.device("cpu")
MAPS = [torch.arange(24.0).view(1, 2, 3, 4), torch.zeros(1).expand(1, 8, 40, 50)]


def key(number: int) -> str:
    return f"{number:064x}"


def total(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def write_one(folder: Path, number: int = 0) -> Path:
    MapFiles(folder, 10**6).write(key(number), MAPS)
    return folder / f"{key(number)}.safetensors"


def age(file: Path, seconds: float) -> None:
    used = time.time() - seconds
    os.utime(file, (used, used))


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(1, 3, 4, 5),
        torch.randn(1, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(1, 4, 5, 3).permute(0, 3, 1, 2)[:, :, 1:, :4],
        torch.zeros(1).expand(1, 3, 400, 500),
        torch.randn(1, 3, 4, 5).bfloat16(),
        torch.randn(1, 1, 1, 1).double(),
    ],
    ids=["contiguous", "channels-last", "cropped", "expanded", "bf16", "one value"],
)
def test_maps_come_back_with_type_memory_format_and_alignment(x: Tensor, tmp_path: Path) -> None:
    files = MapFiles(tmp_path, 10**6)
    files.write(key(1), [x, x])
    for found in files.read(key(1), CPU) or [None]:
        assert torch.equal(found, x) and found.dtype == x.dtype and found.stride() == x.stride()
        assert found.data_ptr() % 64 == x.data_ptr() % 64
    assert total(tmp_path) < 5000


@pytest.mark.parametrize("length", [0, 1, 7, 100, -1])
def test_a_truncated_file_is_no_file(length: int, tmp_path: Path) -> None:
    file = write_one(tmp_path)
    file.write_bytes(file.read_bytes()[:length])
    files = MapFiles(tmp_path, 10**6)
    assert files.read(key(0), CPU) is None
    files.write(key(0), MAPS)
    assert torch.equal(files.read(key(0), CPU)[0], MAPS[0])


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    file = write_one(tmp_path)
    content = file.read_bytes()
    files = MapFiles(tmp_path, 10**6)
    for position in range(len(content)):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        found = files.read(key(0), CPU)
        assert found is None or all(torch.equal(m, other) for m, other in zip(found, MAPS, strict=True))


def test_the_files_never_take_more_than_their_room(tmp_path: Path) -> None:
    """Of a run, the first files stay; those of earlier runs go, the longest unused first."""
    size = write_one(tmp_path / "measure").stat().st_size
    files = MapFiles(tmp_path, 10 * size + size // 2)
    with pytest.warns(UserWarning, match=rf"cache '.*' is full \(max_bytes={files.max_bytes}\)"):
        for number in range(15):
            files.write(key(number), MAPS)
            assert total(tmp_path) <= files.max_bytes
    assert sorted(file.stem for file in tmp_path.glob("*.safetensors")) == [key(number) for number in range(10)]
    for number in range(10):
        age(tmp_path / f"{key(number)}.safetensors", 1000 - number)
    later = MapFiles(tmp_path, files.max_bytes)
    assert later.read(key(0), CPU) is not None  # used, so it is young again
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(100, 104):
            later.write(key(number), MAPS)
            assert total(tmp_path) <= later.max_bytes
    left = {int(file.stem, 16) for file in tmp_path.glob("*.safetensors")}
    assert left >= {0, 100, 101, 102, 103} and not left & {1, 2, 3, 4}
    with pytest.warns(UserWarning, match="is full"):
        MapFiles(tmp_path / "small", size - 1).write(key(0), MAPS)
    assert not list((tmp_path / "small").glob("*.safetensors"))


@pytest.mark.parametrize("text", ["", "00", "garbage" * 3, None])
def test_a_lost_total_is_counted_again(text: str | None, tmp_path: Path) -> None:
    size = write_one(tmp_path).stat().st_size
    ledger = tmp_path / "total"
    assert int(ledger.read_text()) == size
    ledger.unlink() if text is None else ledger.write_text(text)
    write_one(tmp_path, 1)
    assert int(ledger.read_text()) == 2 * size == total(tmp_path)


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from fpn_plugins.backbones.map_files import MapFiles
files = MapFiles(Path(sys.argv[1]), 10**6)
files.write("a" * 64, [torch.ones(1, 2, 3, 4)])
def kill(*_):
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "before the content":
    os.truncate = kill
else:
    os.replace = kill
files.write("b" * 64, [torch.ones(1, 2, 3, 4)])
"""


@pytest.mark.parametrize("moment", ["before the content", "before the name"])
def test_a_killed_writer_leaves_nothing_that_is_read(moment: str, tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL and process.stdout == b"writing\n"
    assert [name[:1] for name in sorted(os.listdir(tmp_path)) if name.endswith(".safetensors")] == [".", "a"]
    size = (tmp_path / f"{'a' * 64}.safetensors").stat().st_size
    files = MapFiles(tmp_path, 10**6)
    assert files.read("a" * 64, CPU) is not None and files.read("b" * 64, CPU) is None
    assert int((tmp_path / "total").read_text()) == 2 * size  # too much is safe; it is counted when it matters
    files.write("b" * 64, MAPS)
    assert files.read("b" * 64, CPU) is not None
    assert not list(tmp_path.glob(".*.safetensors"))


WRITES = """
import sys, torch
from pathlib import Path
from fpn_plugins.backbones.map_files import MapFiles
for room in map(int, sys.argv[2:]):
    files = MapFiles(Path(sys.argv[1], str(room)), room)
    for number in range(60):
        name, maps = f"{number:064x}", [torch.full((1, 2, 30, 40), float(number))]
        found = files.read(name, torch.device("cpu"))
        assert found is None or torch.equal(found[0], maps[0])
        files.write(name, maps)
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """One with room for everything, and one with room for a third."""
    room, enough = 200_000, 10**7
    (tmp_path / str(room)).mkdir()
    command = [sys.executable, "-c", WRITES, str(tmp_path), str(room), str(enough)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    largest = 0
    while any(process.poll() is None for process in processes):
        sizes = []
        for entry in os.scandir(tmp_path / str(room)):
            with contextlib.suppress(FileNotFoundError):
                sizes.append(entry.stat().st_size)
        largest = max(largest, sum(sizes))
        time.sleep(0.01)
    errors = [process.stderr.read().decode() for process in processes if process.stderr]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert largest <= room + 20
    for folder, least, most in ((tmp_path / str(room), 10, 20), (tmp_path / str(enough), 60, 60)):
        kept = [int(file.stem, 16) for file in folder.glob("*.safetensors")]
        assert least <= len(kept) <= most and total(folder) <= int(folder.name)
        for number in kept:
            assert torch.equal(MapFiles(folder, room).read(key(number), CPU)[0], torch.full((1, 2, 30, 40), number))


def test_a_full_disk_or_a_folder_without_permission_warns_once(tmp_path: Path, monkeypatch: Any) -> None:
    write_one(tmp_path)
    files = MapFiles(tmp_path, 10**6)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(map_files.os, "truncate", full)
    with pytest.warns(UserWarning, match=r"cannot be written \(.*No space left") as warned:
        for number in (1, 2):
            files.write(key(number), MAPS)
    assert len(warned) == 1
    assert files.read(key(0), CPU) is not None and len(list(tmp_path.glob("*.safetensors"))) == 1
    (tmp_path / "file").write_text("")
    blocked = MapFiles(tmp_path / "file" / "maps", 10**6)
    with pytest.warns(UserWarning, match="cannot be written"):
        blocked.write(key(1), MAPS)
    assert blocked.read(key(1), CPU) is None


def test_a_folder_that_can_only_be_read_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    write_one(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(map_files.os, "utime", refuse)
    assert MapFiles(tmp_path, 10**6).read(key(0), CPU) is not None


def test_without_room_nothing_is_made(tmp_path: Path) -> None:
    MapFiles(tmp_path / "maps", 0).write(key(0), MAPS)
    assert not (tmp_path / "maps").exists()
