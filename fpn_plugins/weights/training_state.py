"""Read the checkpoints of a training, and find the newest complete one, without executing what they hold."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .archives import check_torch
from .arrays import PickledArray, array_table
from .checkpoint import read_content
from .unpickling import Discarded

_MAX_DEPTH = 64


class UnusableCheckpointError(ValueError):
    """A file that a user named is missing or damaged, holds more than data, or does not fit the model."""


class PickledLog(Discarded):
    """mmengine's ``HistoryBuffer``: values of a training's log.

    Attributes:
        values: logged values.
        counts: numbers of samples behind each value.
        max_length: number of values kept at most.
    """

    values: list[float]
    counts: list[int]
    max_length: int

    def __setstate__(self, state: Any) -> None:
        self.values, self.counts = (_numbers(state[f"_{name}_history"]) for name in ("log", "count"))
        self.max_length = int(state["max_length"])


def _numbers(array: PickledArray) -> list[Any]:
    if array.tensor.dim() != 1:
        raise ValueError(f"a log has shape {tuple(array.tensor.shape)}; expected a list of values")
    found: list[Any] = array.tensor.tolist()
    return found


_REBUILT = {**array_table(lambda number: None), "mmengine.logging.history_buffer.HistoryBuffer": PickledLog}


def read_training_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read everything in a checkpoint: weights, optimizer, schedules, logs; nothing in it is executed.

    Args:
        path: file that `read_checkpoint` reads.

    Returns:
        Content of the file on the CPU, with NumPy's arrays as tensors, its scalars as numbers, mmengine's logs as
        `PickledLog`, and ``{}`` for other objects that are not data.

    Raises:
        UnusableCheckpointError: the file is missing, damaged, truncated or hostile, or contains no dict.
    """
    try:
        content = read_content(path, _REBUILT)
        if not isinstance(content, Mapping):
            raise ValueError(f"checkpoint {os.fspath(path)!r} contains a {type(content).__name__}, not a dict")
        return dict(_plain(content, {}, 0))
    except (ValueError, OSError) as error:
        raise UnusableCheckpointError(str(error)) from error


def _plain(value: Any, done: dict[int, Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError(f"its values are nested more than {_MAX_DEPTH} deep, or contain themselves")
    if isinstance(value, PickledArray):
        tensor: Tensor = value.tensor
        return tensor.item() if value.is_scalar else tensor
    if isinstance(value, Discarded) and not isinstance(value, PickledLog):
        return {}
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, dict):
        done[id(value)] = value
        for key, part in value.items():
            value[key] = _plain(part, done, depth + 1)
    elif isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        done[id(value)] = type(value)(_plain(part, done, depth + 1) for part in value)
        return done[id(value)]
    return value


def find_resumable(
    folder: str | os.PathLike[str], named: str | os.PathLike[str], required: Iterable[str]
) -> tuple[Path | None, list[str]]:
    """Find the checkpoint to resume from: the named one, or the newest complete one of the folder if that is damaged.

    Args:
        folder: folder with ``*.pth`` files.
        named: name or path of the last checkpoint, as the toolboxes write it into the file ``last_checkpoint``.
        required: keys that a checkpoint other than the named one must have, because files of weights alone and of the
            best model may lie beside it.

    Returns:
        Path, or ``None`` if there is no complete checkpoint, and a message for each damaged file.
    """
    first = Path(folder, named)
    damaged = []
    for path in [first, *(found for found in _newest_first({Path(folder), first.parent}) if found != first)]:
        try:
            content = _check_whole(path)
        except Exception as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            damaged.append(f"checkpoint {str(path)!r} is damaged and not resumed from ({reason})")
            continue
        if path == first or set(required) <= set(content):
            return path, damaged
    return None, damaged


def _newest_first(folders: Iterable[Path]) -> Iterator[Path]:
    files = [path for folder in folders for path in folder.glob("*.pth") if not path.name.startswith(".")]
    yield from sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _check_whole(path: Path) -> Mapping[str, Any]:
    """Return a file's content without its tensors; every byte of them is checked against the archive's checksums."""
    if not path.is_file():
        raise FileNotFoundError("it does not exist")
    _, content = check_torch(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                raise ValueError(f"its record {broken!r} has another checksum")
    if not isinstance(content, Mapping):
        raise ValueError("it contains no dict")
    return content
