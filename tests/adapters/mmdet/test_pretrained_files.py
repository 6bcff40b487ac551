"""``init_cfg=dict(type='Pretrained')`` of every registered class: nothing is executed, and the file fits or fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet_arguments import ARGUMENTS, NO_NETWORKS
from payload import Payload
from torch import Tensor, nn

from fpn_plugins.weights import write_checkpoint

pytestmark = [pytest.mark.mmdet, pytest.mark.timm]
pytest.importorskip("mmdet")

from mmengine.model import PretrainedInit  # noqa: E402

import fpn_plugins.adapters.mmdet  # noqa: E402
from fpn_plugins.registry import MODELS  # noqa: E402

# mmdet's classes that forbid init_cfg
WITHOUT = NO_NETWORKS | {"DyHead", "RFP", "FPN_CARAFE", "NASFCOSFPN", "NASFCOS_FPN"}
NAMES = sorted(set(MODELS.module_dict) - WITHOUT)


def build(name: str, **arguments: Any) -> nn.Module:
    return MODELS.build({"type": f"fpn_plugins.{name}", **ARGUMENTS[name], **arguments})  # whatever the default scope


def initialize(name: str, file: Path, prefix: str | None = None) -> nn.Module:
    init = {"type": "Pretrained", "checkpoint": str(file), **({"prefix": prefix} if prefix else {})}
    module = build(name, init_cfg=init)
    module.init_weights()
    assert module.is_init and module.init_cfg == init
    return module


def random_state(name: str) -> dict[str, Tensor]:
    """Own weights that no initialization yields."""
    state = build(name).state_dict()
    return {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()}


def assert_has(module: nn.Module, state: dict[str, Tensor]) -> None:
    found = module.state_dict()
    assert set(found) == set(state) and all(torch.equal(found[key], value) for key, value in state.items())


def test_every_registered_class_is_tested():
    assert set(ARGUMENTS) | WITHOUT == set(MODELS.module_dict)
    assert set(MODELS.module_dict) <= {*fpn_plugins.adapters.mmdet.__all__}


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_file_is_refused_and_not_executed(name: str, tmp_path: Path):
    file, trace = tmp_path / "x.pth", tmp_path / "trace"
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": Payload(trace)}, file)
    with pytest.raises(ValueError, match="x.pth.*refused posix.mkdir"):
        initialize(name, file)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["mmengine.Pretrained", PretrainedInit, "override"])
@pytest.mark.parametrize("name", ["FPN", "TimmBackbone", "RetinaHead"])
def test_other_names_of_the_initializer_are_no_way_around(name: str, kind: Any, tmp_path: Path):
    file, trace = tmp_path / "x.pth", tmp_path / "trace"
    torch.save({"state_dict": {"a": torch.ones(1)}, "meta": Payload(trace)}, file)
    init: dict[str, Any] = {"type": kind, "checkpoint": str(file)}
    if kind == "override":
        part = next(key for key, _ in build(name).named_children())
        override = {"type": "Pretrained", "name": part, "checkpoint": str(file)}
        init = {"type": "Normal", "layer": "Conv2d", "override": override}
    with pytest.raises(ValueError, match="refused posix.mkdir|give a Pretrained file an entry of its own"):
        build(name, init_cfg=init).init_weights()
    assert not trace.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_other_weights_is_refused(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"x\.pth"):
        initialize(name, write_checkpoint({"other_model.weight": torch.ones(2, 3)}, tmp_path / "x.pth"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["", "default", "some.place."])
def test_own_weights_are_loaded_from_their_place(name: str, place: str, tmp_path: Path):
    state = random_state(name)
    assert state
    prefix = MODELS.get(name).default_prefix if place == "default" else place
    content = {prefix + key: value for key, value in state.items()}
    if place:
        content["other.weight"] = torch.ones(1)
    file = write_checkpoint(content, tmp_path / "x.pth")
    assert_has(initialize(name, file, place if place == "some.place." else None), state)


def test_a_missing_prefix_is_an_error_that_lists_the_present_ones(tmp_path: Path):
    file = write_checkpoint({"neck.weight": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"prefix='head\.'.*neck\.weight"):
        initialize("FPN", file, "head")
