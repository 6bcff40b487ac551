"""Keep feature maps in a folder: one file per key, bounded in size, shared by processes that may be killed at any time.

A file is written under a temporary name and renamed, so that it is complete or absent. The folder's total is a number
in a file of its own, which is changed under a lock before a file grows: it may be too large after a kill, never too
small, and is counted anew before anything is removed.
"""

from __future__ import annotations

import json
import os
import time
import warnings
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..extras import needed_for
from ..files import locked, write_atomically
from .fingerprint import memory_of

SUFFIX = ".safetensors"
_PURPOSE = "feature caches"
_TOTAL, _DIGITS = "total", 20
_LOCK_SECONDS = 60
_ALIGNMENT = 64  # bytes; of memory that PyTorch allocates on a CPU, and a divisor of that on accelerators
_FREED_SHARE = 20  # an eviction frees one part in so many of the folder, because it lists all files


class _Full(Exception):
    """No file can be removed to make room."""


class MapFiles:
    """Feature maps on disk by key.

    Args:
        folder: created with the first file.
        max_bytes: all files together, those that are being written included, never take more.

    When the folder is full, files that were not used since this object was made are removed, the longest unused first.
    Files in use stay, because an epoch asks for each of them once: removing those that were not used for the longest
    time would remove what is asked for next.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        with needed_for(_PURPOSE):
            import safetensors  # noqa: F401
        self.folder, self.max_bytes = folder, max_bytes
        self.writable = max_bytes > 0
        self._start = time.time()

    def read(self, key: str, device: torch.device) -> list[Tensor] | None:
        """Return the maps of a key with the strides that they were written with; ``None`` if its file is not whole."""
        with needed_for(_PURPOSE):
            from safetensors import SafetensorError, safe_open

        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
                layouts = json.loads(metadata["layouts"])
                memories = [file.get_tensor(str(index)) for index in range(len(layouts))]
            whole = metadata["checksum"] == _checksum(metadata["layouts"], memories)
            if not whole or [str(memory.dtype) for memory in memories] != [layout["dtype"] for layout in layouts]:
                return None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None
        with suppress(OSError):  # a folder that can only be read
            os.utime(path)
        return [_map(*pair, device) for pair in zip(memories, layouts, strict=True)]

    def write(self, key: str, maps: Sequence[Tensor]) -> None:
        """Write the maps of a key; from the first one on that cannot be written, warn once and write no more."""
        if not self.writable:
            return
        try:
            content = _content(maps)
            self.folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(self._path(key)) as temporary:
                with locked(self.folder / _TOTAL, _LOCK_SECONDS):
                    self._reserve(temporary, len(content))
                with open(temporary, "r+b") as file:
                    file.write(content)
        except _Full:
            self._stop(f"is full (max_bytes={self.max_bytes}); the maps of further images are computed each time")
        except OSError as error:
            self._stop(f"cannot be written ({error}); maps that it lacks are computed each time")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"

    def _stop(self, reason: str) -> None:
        self.writable = False
        warnings.warn(f"the feature cache {str(self.folder)!r} {reason}", stacklevel=2)

    def _reserve(self, temporary: Path, size: int) -> None:
        """Let an empty file grow to ``size`` bytes, within ``max_bytes``; the caller holds the lock."""
        total = self._read_total()
        if total is None or total + size > self.max_bytes:
            total = self._make_room(size)
        with open(self.folder / _TOTAL, "w", encoding="ascii") as file:
            file.write(f"{total + size:0{_DIGITS}d}")
        os.truncate(temporary, size)

    def _read_total(self) -> int | None:
        """Return the last total; ``None`` if there is none, or its writer was killed."""
        try:
            text = (self.folder / _TOTAL).read_text("ascii")
            return int(text) if len(text) == _DIGITS else None
        except (OSError, ValueError):
            return None

    def _make_room(self, size: int) -> int:
        """Count the files, and remove unused ones if ``size`` more bytes need it; return the total.

        Raises:
            _Full: what is left needs the room.
        """
        files, total = [], 0
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX):
                    with suppress(FileNotFoundError):  # a temporary file of another process, renamed meanwhile
                        status = entry.stat()
                        total += status.st_size
                        files.append((status.st_mtime, status.st_size, entry))
        limit = self.max_bytes - size
        goal = limit if total <= limit else limit - self.max_bytes // _FREED_SHARE
        for used, freed, entry in sorted(files, key=lambda file: file[0]):
            if total <= goal or used >= self._start:
                break
            if not entry.name.startswith("."):
                os.unlink(entry.path)
                total -= freed
        if total > limit:
            raise _Full
        return total


def _content(maps: Sequence[Tensor]) -> bytes:
    """Serialize maps: the memory that each one covers, and how it lies there."""
    with needed_for(_PURPOSE):
        from safetensors.torch import save

    memories, layouts = {}, []
    for index, m in enumerate(maps):
        covered = 1 + sum((size - 1) * stride for size, stride in zip(m.shape, m.stride(), strict=True))
        memories[str(index)] = m.detach().as_strided((covered,), (1,)).to("cpu", copy=True)
        start = m.data_ptr() % _ALIGNMENT // m.element_size()
        layouts.append({"dtype": str(m.dtype), "size": m.shape, "stride": m.stride(), "start": start})
    text = json.dumps(layouts)
    return save(memories, {"layouts": text, "checksum": _checksum(text, memories.values())})


def _map(memory: Tensor, layout: dict[str, Any], device: torch.device) -> Tensor:
    """Copy a map out of a file to memory aligned like that of the computed map: kernels may round by alignment."""
    start = layout["start"]
    buffer = memory.new_empty(start + len(memory), device=device)
    buffer[start:] = memory
    return buffer.as_strided(layout["size"], layout["stride"], start)


def _checksum(layouts: str, memories: Iterable[Tensor]) -> str:
    """Return the CRC-32 of maps and of how they lie in memory, which safetensors does not check."""
    value = zlib.crc32(layouts.encode())
    for memory in memories:
        value = zlib.crc32(memory_of(memory), value)
    return str(value)
