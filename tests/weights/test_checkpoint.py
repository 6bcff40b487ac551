"""Checkpoint files: every format is read, nothing is executed, and a failed write leaves no partial file."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from payload import Payload
from torch import Tensor

from fpn_plugins.weights import read_checkpoint, write_checkpoint

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1, 2, 3])}


def assert_is_state(read: dict[str, Tensor]) -> None:
    assert set(read) == set(STATE)
    for key, value in STATE.items():
        assert torch.equal(read[key], value) and read[key].dtype == value.dtype


def as_arrays() -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in STATE.items()}


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.bin", "weights.safetensors", "weights"])
def test_what_was_written_is_read(tmp_path: Path, name: str):
    path = write_checkpoint(STATE, tmp_path / "deep" / "er" / name)
    assert path == tmp_path / "deep" / "er" / name
    assert_is_state(read_checkpoint(path))
    assert_is_state(read_checkpoint(str(path)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "meta": {"epoch": 12}, "optimizer": {"state": {}}},
        lambda state: {"model": state, "optimizer": {"param_groups": []}, "iteration": 3},
        lambda state: {"model_state": state, "epoch": 1},
        lambda state: {"teacher": state},
        lambda state: {"student": state},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"ema": {"module": state, "updates": 3}, "epoch": 1},
        lambda state: {"model_ema": state},
        lambda state: {"state_dict": state, "state_dict_ema": {"other": torch.zeros(1)}},
        lambda state: {"ema_state": state, "iteration": 3},
        lambda state: {"ema_state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
)
def test_containers_are_unwrapped(tmp_path: Path, wrap: Callable):
    torch.save(wrap(STATE), tmp_path / "x.pth")
    assert_is_state(read_checkpoint(tmp_path / "x.pth"))


def test_a_layer_named_like_a_container_is_no_container(tmp_path: Path):
    torch.save({"model": torch.ones(2)}, tmp_path / "x.pth")
    assert set(read_checkpoint(tmp_path / "x.pth")) == {"model"}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_of_detectron2_are_read(tmp_path: Path, protocol: int):
    content = {"model": as_arrays(), "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    assert_is_state(read_checkpoint(tmp_path / "x.pkl"))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_arrays_of_any_order_and_scalars_are_read(tmp_path: Path, protocol: int):
    arrays = {"f": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "step": np.int64(3), "half": np.float16([1.5])}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(arrays, protocol))
    read = read_checkpoint(tmp_path / "x.pkl")
    assert torch.equal(read["f"], torch.arange(6.0, dtype=torch.double).reshape(2, 3))
    assert read["step"].item() == 3
    assert read["half"].dtype == torch.float16


@pytest.mark.filterwarnings("error")  # torch warns of tensors over read-only memory
def test_read_arrays_can_be_written_to(tmp_path: Path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(as_arrays(), pickle.HIGHEST_PROTOCOL))
    read = read_checkpoint(tmp_path / "x.pkl")
    read["a.weight"].add_(1)
    assert torch.equal(read["a.weight"], STATE["a.weight"] + 1)


def test_python_2_pickles_are_read(tmp_path: Path):
    """Detectron's oldest files hold byte strings; the array is NumPy's own protocol-0 text."""
    content = pickle.dumps({"a": np.arange(3.0), "lr": 0.1}, protocol=0)
    (tmp_path / "x.pkl").write_bytes(content)
    assert torch.equal(read_checkpoint(tmp_path / "x.pkl")["a"], torch.arange(3.0, dtype=torch.double))


# ------------------------------------------------------------------------------------------------------- refusing


def save_torch(content: object, path: Path) -> None:
    torch.save(content, path)


def save_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("name", "save"),
    [("x.pth", save_torch), ("x.pkl", save_pickle), ("x.pth", save_pickle), ("x.bin", save_torch)],
)
def test_a_payload_is_refused_and_does_not_run(tmp_path: Path, name: str, save: Callable):
    trace = tmp_path / "trace"
    save({"a": torch.ones(1).numpy() if name == "x.pkl" else torch.ones(1), "b": Payload(trace)}, tmp_path / name)
    with pytest.raises(ValueError, match="cannot read checkpoint.*not executed"):
        read_checkpoint(tmp_path / name)
    assert not trace.exists()


def test_the_payload_would_have_run(tmp_path: Path):
    """Otherwise the test above proves nothing."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "trace")))
    assert (tmp_path / "trace").is_dir()


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.pkl"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, name: str, keep: float):
    path = tmp_path / name
    if name == "x.pkl":
        save_pickle(as_arrays(), path)
    else:
        write_checkpoint({"a": torch.randn(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=f"cannot read checkpoint .*{name}.*damaged"):
        read_checkpoint(path)


def test_a_missing_file_is_not_found(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere.pth' does not exist"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_checkpoint(tmp_path)  # a folder


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {"state_dict": {}}, {"model": {"lr": 0.1}}])
def test_a_file_without_tensors_is_an_error(tmp_path: Path, content: object):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="contains no tensors"):
        read_checkpoint(tmp_path / "x.pth")


# ---------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str):
    path = write_checkpoint(STATE, tmp_path / name)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        write_checkpoint({"a": torch.ones(3), "b": lambda: None}, path)  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [name]


def test_a_write_interrupted_before_the_rename_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_checkpoint(STATE, tmp_path / "x.pth")
    before = path.read_bytes()

    def interrupted(*unused: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint({"a": torch.zeros(1)}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.pth"]


def test_a_write_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path):
    write_checkpoint({"old": torch.ones(1)}, tmp_path / "x.pth")
    assert_is_state(read_checkpoint(write_checkpoint(STATE, tmp_path / "x.pth")))
    assert os.listdir(tmp_path) == ["x.pth"]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path):
    """A temporary file is private; the checkpoint it becomes must be readable like any other new file."""
    (tmp_path / "ordinary").touch()
    path = write_checkpoint(STATE, tmp_path / "x.pth")
    assert path.stat().st_mode == (tmp_path / "ordinary").stat().st_mode


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_views_and_channels_last_tensors_are_written(tmp_path: Path, name: str):
    state = {
        "t": torch.arange(6.0).reshape(2, 3).t(),
        "c": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    read = read_checkpoint(write_checkpoint(state, tmp_path / name))
    assert all(torch.equal(read[key], value) for key, value in state.items())


def test_the_advice_of_pytorch_to_execute_a_file_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "x.pth")
    text = (
        "Weights only load failed. This file can still be loaded, to do so you have two options, do those steps only "
        "if you trust the source.\n\tPlease file an issue: WeightsUnpickler error: Unsupported operand 149\nCheck"
    )

    def refuse(*unused: object, **options: object) -> None:
        raise pickle.UnpicklingError(text)

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(ValueError, match=r"\(UnpicklingError: Unsupported operand 149\)"):
        read_checkpoint(tmp_path / "x.pth")
