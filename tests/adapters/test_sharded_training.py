"""Sharded trainings of both toolboxes, on two processes that are started once: losses of one, whole files, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.distributed import on_two_processes
from sharded_trainings import CONFIGS, ITERATIONS, OPTIONS, ROOT, SAVED, checkpoint, everything
from versions import SHARDS

from fpn_plugins.weights.training_state import read_training_checkpoint

pytestmark = [pytest.mark.mmdet, pytest.mark.detectron2, pytest.mark.timm, SHARDS]
WEIGHTS = {"mmdet": "state_dict", "detectron2": "model"}
TOOLBOXES = pytest.mark.parametrize("toolbox", CONFIGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module", autouse=True)
def losses(tiny_coco: Path, folder: Path) -> list[dict[str, Any]]:
    """Losses that each process found; the trainings are in ``folder``."""
    return on_two_processes(everything, str(tiny_coco), str(folder))


def read(toolbox: str, folder: Path, name: str, iteration: int = ITERATIONS) -> dict[str, Any]:
    return read_training_checkpoint(checkpoint(toolbox, folder / toolbox / name, iteration))


def optimizer_of(toolbox: str, content: dict[str, Any]) -> dict[str, Any]:
    return content["optimizer"] if toolbox == "mmdet" else content["trainer"]["optimizer"]


def largest_difference(own: Any, other: Any) -> float:
    """Over all tensors of two nested states of the same structure."""
    if isinstance(own, torch.Tensor):
        assert own.shape == other.shape and own.dtype == other.dtype
        return float((own.double() - other.double()).abs().max()) if own.numel() else 0.0
    if isinstance(own, dict):
        assert list(own) == list(other)
        own, other = list(own.values()), list(other.values())
    if isinstance(own, (list, tuple)):
        return max([largest_difference(a, b) for a, b in zip(own, other, strict=True)], default=0.0)
    assert own == other
    return 0.0


@TOOLBOXES
def test_losses_are_those_of_one_process(losses: list[dict[str, Any]], toolbox: str) -> None:
    for found in losses:
        assert len(found[toolbox]["own"]) == ITERATIONS
        for own, expected in zip(found[toolbox]["own"], found[toolbox]["expected"], strict=True):
            assert len(own) == 5 and own == pytest.approx(expected, rel=2e-3, abs=1e-5)


@TOOLBOXES
def test_checkpoints_are_whole(folder: Path, toolbox: str, monkeypatch: pytest.MonkeyPatch, tiny_coco: Path) -> None:
    """One process builds the detector of the config and loads weights and optimizer strictly."""
    from fpn_plugins.adapters.hosts import host_of

    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))
    monkeypatch.chdir(ROOT)
    path = checkpoint(toolbox, folder / toolbox / "sharded", ITERATIONS)
    model = host_of(CONFIGS[toolbox]).load(CONFIGS[toolbox], str(path), OPTIONS[toolbox])
    content = read(toolbox, folder, "sharded")
    assert list(content[WEIGHTS[toolbox]]) == list(model.state_dict())
    shapes = sorted(tuple(parameter.shape) for parameter in model.parameters())
    states = optimizer_of(toolbox, content)["state"].values()
    assert sorted(tuple(state["exp_avg"].shape) for state in states) == shapes


@TOOLBOXES
def test_checkpoints_are_those_of_a_training_that_is_not_sharded(folder: Path, toolbox: str) -> None:
    """After one iteration of both; in later ones, Adam's steps amplify rounding errors."""
    own, other = (read(toolbox, folder, name, 1) for name in ("sharded", "whole"))
    assert own.keys() == other.keys()
    assert largest_difference(own[WEIGHTS[toolbox]], other[WEIGHTS[toolbox]]) < 1e-4
    states = [optimizer_of(toolbox, content) for content in (own, other)]
    assert largest_difference(*(state["state"] for state in states)) < 1e-4
    assert largest_difference(*(state["param_groups"] for state in states)) == 0


@TOOLBOXES
def test_a_resumed_training_ends_bit_equal(folder: Path, toolbox: str) -> None:
    own, resumed = (read(toolbox, folder, name) for name in ("sharded", "sharded_resumed"))
    assert largest_difference(own[WEIGHTS[toolbox]], resumed[WEIGHTS[toolbox]]) == 0
    assert largest_difference(optimizer_of(toolbox, own)["state"], optimizer_of(toolbox, resumed)["state"]) == 0


@TOOLBOXES
def test_a_training_that_was_not_sharded_goes_on_sharded(folder: Path, toolbox: str) -> None:
    own, resumed = (read(toolbox, folder, name) for name in ("whole", "whole_resumed"))
    start = read(toolbox, folder, "whole", SAVED)
    steps = [largest_difference(start[WEIGHTS[toolbox]], end[WEIGHTS[toolbox]]) for end in (own, resumed)]
    assert steps[0] > 0 and largest_difference(own[WEIGHTS[toolbox]], resumed[WEIGHTS[toolbox]]) < 0.1 * steps[0]


@pytest.mark.parametrize("name", ["model_wrapper", "state_dict_cfg", "activation_checkpointing"])
def test_options_of_mmengines_strategy_without_effect_are_named(name: str) -> None:
    from fpn_plugins.adapters.mmdet import FSDPStrategy

    with pytest.raises(ValueError, match=rf"\['{name}'\] of strategy have no effect .* remove them"):
        FSDPStrategy(**{name: {}})


@pytest.mark.parametrize("value", ["True", {"enable": True}, {"enabled": 1}])
def test_wrong_options_of_detectron2s_config_are_named(value: Any) -> None:
    from fpn_plugins.adapters.detectron2.sharding import shard_as_configured

    with pytest.raises(ValueError, match=r"train\.fsdp=.* must have True or False for .*train\.fsdp\.enabled=True"):
        shard_as_configured(torch.nn.Linear(2, 2), {"fsdp": value})


def test_one_process_of_detectron2_is_not_sharded() -> None:
    from fpn_plugins.adapters.detectron2.sharding import shard_as_configured

    model = torch.nn.Linear(2, 2)
    shard_as_configured(model, {"fsdp": {"enabled": True}, "device": "cpu"})
    assert type(model.weight) is torch.nn.Parameter
