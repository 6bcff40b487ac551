"""Checkpoints of a training: read completely without executing anything, and never resumed from when damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from payload import Payload

from fpn_plugins.weights.training_state import UnusableCheckpointError, find_resumable, read_training_checkpoint

KEYS = ("model", "optimizer")


def training_state(step: int = 1) -> dict[str, Any]:
    """Return what toolboxes save, NumPy's objects in logs included."""
    weight = torch.nn.Parameter(torch.full((300,), float(step)))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    return {"model": {"w": torch.full((300,), float(step))}, "optimizer": optimizer.state_dict(), "iteration": step}


def write(path: Path, step: int, content: Any = None) -> Path:
    torch.save(training_state(step) if content is None else content, path)
    os.utime(path, ns=(step * 10**9,) * 2)
    return path


def test_optimizer_numbers_and_arrays_are_read(tmp_path: Path) -> None:
    extra = {
        "best": np.float64(0.5),
        "counter": np.array(7),
        "list": [np.int64(3), (1, None)],
        "array": np.arange(6.0).reshape(2, 3),
    }
    found = read_training_checkpoint(write(tmp_path / "a.pth", 1, {**training_state(), **extra, "shared": [extra] * 3}))
    assert found["optimizer"]["param_groups"][0]["momentum"] == 0.9
    assert found["optimizer"]["state"][0]["momentum_buffer"].equal(torch.ones(300))
    assert found["best"] == 0.5 and found["list"] == [3, (1, None)] and found["shared"][2]["best"] == 0.5
    assert found["counter"].equal(torch.tensor(7))  # an array without dimensions is a tensor, unlike a scalar
    assert found["array"].equal(torch.arange(6.0, dtype=torch.float64).view(2, 3))


@pytest.mark.mmdet
def test_logs_of_mmengine_are_read(tmp_path: Path) -> None:
    from mmengine.logging import HistoryBuffer

    content = {"log": HistoryBuffer([1.5, 2.5], [1, 2], 7), "shared": HistoryBuffer()}
    log = read_training_checkpoint(write(tmp_path / "a.pth", 1, content))["log"]
    assert (log.values, log.counts, log.max_length) == ([1.5, 2.5], [1, 2], 7)


@pytest.mark.parametrize("place", ["optimizer", "iteration", "message_hub"])
def test_nothing_is_executed(place: str, tmp_path: Path) -> None:
    file = write(tmp_path / "x.pth", 1, {**training_state(), place: [Payload(tmp_path / "trace")]})
    with pytest.raises(UnusableCheckpointError, match=r"x\.pth.*refused posix\.mkdir"):
        read_training_checkpoint(file)
    assert not (tmp_path / "trace").exists()


def test_arrays_that_share_memory_are_refused(tmp_path: Path) -> None:
    """Rebuilt arrays are copies, which may not use more memory than the file justifies."""
    array = np.zeros(10_000)
    file = write(tmp_path / "x.pth", 1, [{"a": array}, *({"a": array.view()} for _ in range(100))])
    with pytest.raises(UnusableCheckpointError, match=r"x\.pth"):
        read_training_checkpoint(file)


def test_missing_and_odd_files_are_errors(tmp_path: Path) -> None:
    nested: Any = []
    for _ in range(100):
        nested = [nested]
    for content in (nested, {"a": nested}, [1]):
        with pytest.raises(UnusableCheckpointError, match=r"x\.pth|nested"):
            read_training_checkpoint(write(tmp_path / "x.pth", 1, content))
    with pytest.raises(UnusableCheckpointError, match="does not exist"):
        read_training_checkpoint(tmp_path / "none.pth")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """Change one byte of a tensor, which torch.load does not notice."""
    data = bytearray(path.read_bytes())
    position = data.index(torch.full((300,), 3.0).numpy().tobytes())
    data[position + 50] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [cut, halve, empty, flip, Path.unlink], ids=lambda function: function.__name__)
def test_the_checkpoint_before_a_damaged_one_is_found(damage: Any, tmp_path: Path) -> None:
    write(tmp_path / "1.pth", 1)
    write(tmp_path / "2.pth", 2)
    write(tmp_path / "best.pth", 4, {"model": {}})  # weights alone
    write(tmp_path / ".3.pth", 5)  # of a writer that was killed
    last = write(tmp_path / "3.pth", 3)
    assert find_resumable(tmp_path, "3.pth", KEYS) == (last, [])
    assert find_resumable(tmp_path, last, KEYS) == (last, [])
    damage(last)
    if last.exists():
        os.utime(last, ns=(6 * 10**9,) * 2)
    path, damaged = find_resumable(tmp_path, "3.pth", KEYS)
    assert path == tmp_path / "2.pth" and len(damaged) == 1 and "3.pth' is damaged and not resumed from" in damaged[0]


def test_nothing_is_found_where_all_are_damaged(tmp_path: Path) -> None:
    for name in ("1.pth", "2.pth"):
        halve(write(tmp_path / name, 1))
    path, damaged = find_resumable(tmp_path, "2.pth", KEYS)
    assert path is None and len(damaged) == 2
    assert find_resumable(tmp_path, ".", KEYS)[0] is None  # an empty file last_checkpoint
