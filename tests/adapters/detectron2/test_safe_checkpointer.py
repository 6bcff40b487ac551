"""Detectron2's checkpoints: nothing is executed, damaged ones are skipped, files that do not fit are errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import FILES
from torch import nn

pytestmark = pytest.mark.detectron2
pytest.importorskip("detectron2")

from fpn_plugins.adapters.detectron2.checkpointer import SafeCheckpointer  # noqa: E402
from fpn_plugins.weights.training_state import UnusableCheckpointError  # noqa: E402

HOSTILE = ("payload_meta.pkl", "payload_weights.pkl", "payload_top_protocol_0.pkl", "payload_meta.pth", "global.pkl")


def model(value: float = 1.0) -> nn.Module:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


class State:
    """What a trainer saves."""

    number = 0

    def state_dict(self) -> dict[str, Any]:
        return {"iteration": self.number}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.number = state["iteration"]


def three_checkpoints(folder: Path) -> None:
    for number in (1, 2, 3):
        state = State()
        state.number = number
        SafeCheckpointer(model(number), str(folder), trainer=state).save(f"model_{number}", iteration=number)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name, tmp_path / "trace")
    with pytest.raises(UnusableCheckpointError, match=rf"{name}.*refused"):
        SafeCheckpointer(model()).load(str(tmp_path / name))
    assert not (tmp_path / "trace").exists()


def test_the_last_checkpoint_is_resumed_from(tmp_path: Path) -> None:
    three_checkpoints(tmp_path)
    fresh, state = model(0), State()
    checkpointer = SafeCheckpointer(fresh, str(tmp_path), trainer=state)
    assert checkpointer.has_checkpoint()
    assert checkpointer.resume_or_load("")["iteration"] == 3
    assert state.number == 3 and float(fresh[0].bias[0].detach()) == 3


@pytest.mark.parametrize("damage", ["truncated", "untagged", "missing"])
def test_the_one_before_a_damaged_one_is_resumed_from(damage: str, tmp_path: Path, caplog: Any) -> None:
    three_checkpoints(tmp_path)
    last = tmp_path / "model_3.pth"
    if damage == "untagged":
        (tmp_path / "last_checkpoint").write_text("")
    elif damage == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-200])
    state = State()
    with caplog.at_level("WARNING", "fvcore.common.checkpoint"):
        SafeCheckpointer(model(), str(tmp_path), trainer=state).resume_or_load("")
    assert state.number == (3 if damage == "untagged" else 2)
    assert "is damaged and not resumed from" in caplog.text and "Resuming from" in caplog.text


def test_weights_are_loaded_if_no_checkpoint_is_complete(tmp_path: Path) -> None:
    SafeCheckpointer(model(), str(tmp_path)).save("model_1")
    (tmp_path / "model_1.pth").write_bytes(b"")
    torch.save({"model": model(5).state_dict()}, tmp_path / "weights.bin")
    fresh = model(0)
    checkpointer = SafeCheckpointer(fresh, str(tmp_path))
    checkpointer.resume_or_load(str(tmp_path / "weights.bin"))
    assert not checkpointer.has_checkpoint() and float(fresh[1].bias[0].detach()) == 5


def test_an_interrupted_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_checkpoints(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def interrupted(content: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SafeCheckpointer(model(9), str(tmp_path)).save("model_3")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("weights", ["none", "some", "shapes", "all"])
def test_files_that_do_not_fit_are_errors(weights: str, complete: bool, tmp_path: Path) -> None:
    state = model(7).state_dict()
    content = {
        "none": {"backbone.x": torch.ones(1)},
        "some": {"0.weight": state["0.weight"]},
        "shapes": {key: torch.ones(5) for key in state},
        "all": {f"module.{key}": value for key, value in state.items()},
    }[weights]
    torch.save({"model": content}, tmp_path / "x.pth")
    fresh = model(0)
    if weights in ("none", "shapes") or (complete and weights == "some"):
        with pytest.raises(UnusableCheckpointError, match=r"x\.pth.*does not fit the config.*convert_checkpoint"):
            SafeCheckpointer(fresh, complete=complete).load(str(tmp_path / "x.pth"))
    else:
        SafeCheckpointer(fresh, complete=complete).load(str(tmp_path / "x.pth"))
        assert float(fresh[0].weight[0, 0].detach()) == 7


@pytest.mark.parametrize("kind", ["zoo", "caffe2", "pycls", "safetensors", "heuristics"])
def test_every_format_of_detectron2_is_read(kind: str, tmp_path: Path) -> None:
    state = model(7).state_dict()
    arrays = {key: value.numpy() for key, value in state.items()}
    path, query = tmp_path / f"x.{'pkl' if kind in ('zoo', 'caffe2') else 'pth'}", ""
    if kind == "zoo":
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "x", "step": np.int64(3)}))
    elif kind == "caffe2":  # weights without a place are matched by name and shape
        path.write_bytes(pickle.dumps({"blobs": {**arrays, "0.weight_momentum": arrays["0.weight"]}}))
    elif kind == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path := tmp_path / "x.safetensors")
    else:
        path = tmp_path / "x.pyth" if kind == "pycls" else path
        torch.save({"model_state": state} if kind == "pycls" else {"model": state}, path)
        query = "?matching_heuristics=True" if kind == "heuristics" else ""
    fresh = model(0)
    SafeCheckpointer(fresh).load(str(path) + query)
    assert kind == "caffe2" or float(fresh[1].bias[0].detach()) == 7


def test_missing_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnusableCheckpointError, match=r"none\.pth"):
        SafeCheckpointer(model()).load(str(tmp_path / "none.pth"))
