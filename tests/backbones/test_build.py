"""Backbones are built from mappings, and users register their own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from timm_networks import frozen_parameters
from torch import Tensor, nn

from fpn_plugins import (
    BACKBONES,
    FPN,
    FeatureSpec,
    TimmBackbone,
    build_backbone,
    check_pyramid,
    register_backbone,
)
from fpn_plugins.weights import write_checkpoint


class Strided(nn.Module):
    """One convolution."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride=4, padding=1)
        self.feature_specs = (FeatureSpec(width, 4),)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.conv(x),)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what a test registers."""
    for name in ("Strided", "Silent", "Positional", "Typed"):
        monkeypatch.setitem(BACKBONES, name, nn.Module)
        del BACKBONES[name]


@pytest.mark.timm
def test_built_from_a_mapping() -> None:
    backbone = build_backbone({"type": "TimmBackbone", "name": "resnet18", "out_indices": [1, 2]})
    assert type(backbone) is BACKBONES["TimmBackbone"] is TimmBackbone
    assert backbone.feature_specs == (FeatureSpec(64, 4), FeatureSpec(128, 8))
    assert build_backbone(backbone) is backbone


@pytest.mark.timm
def test_a_mapping_with_an_unknown_type_or_argument() -> None:
    with pytest.raises(ValueError, match=r"backbone type='TimBackbone' is unknown; .* \(near: TimmBackbone\)"):
        build_backbone({"type": "TimBackbone"})
    with pytest.raises(ValueError, match="backbone type=None is unknown.*see register_backbone"):
        build_backbone({"name": "resnet18"})
    with pytest.raises(TypeError, match="backbone='resnet18' must be a backbone, or a mapping"):
        build_backbone("resnet18")
    with pytest.raises(TypeError, match="out_indexes"):
        build_backbone({"type": "TimmBackbone", "name": "resnet18", "out_indexes": [1]})


def test_a_registered_backbone_is_built_and_feeds_a_neck() -> None:
    assert register_backbone(Strided) is Strided
    assert register_backbone(Strided) is Strided  # again, as a reloaded module does
    backbone = build_backbone({"type": "Strided", "width": 6})
    neck = FPN([spec.channels for spec in backbone.feature_specs], 8)
    assert [tuple(m.shape) for m in neck(backbone(torch.randn(1, 3, 16, 24)))] == [(1, 8, 4, 6)]


def test_the_backbone_of_the_docs_is_built_frozen_and_loaded(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/extending.md").read_text()
    (code,) = re.findall(r"```python\n# my_backbones/strided\.py\n(.*?)```", page, re.S)
    exec(compile(code, "strided.py", "exec"), {"__name__": "my_backbones.strided"})
    source = build_backbone({"type": "Strided", "width": 4})
    file = write_checkpoint(source.state_dict(), tmp_path / "strided.pth")
    backbone = build_backbone({"type": "Strided", "width": 4, "frozen_stages": 0, "checkpoint": file})
    check_pyramid(backbone(torch.randn(1, 3, 32, 64)), backbone.feature_specs, (32, 64))
    assert frozen_parameters(backbone) == {"stem.weight", "stem.bias"}
    assert torch.equal(backbone.stage.weight, source.stage.weight)
    with pytest.raises(ValueError, match="does not fit Strided"):
        build_backbone({"type": "Strided", "width": 8, "checkpoint": file})


def test_classes_that_cannot_be_built_are_not_registered() -> None:
    class Positional(Strided):
        def __init__(self, width: int, /) -> None:
            super().__init__(width)

    class Typed(Strided):
        def __init__(self, type: str = "") -> None:
            super().__init__()

    for refused, message in (
        (Positional, "'Positional' needs keyword parameters: rename 'width'"),
        (Typed, "rename 'type'"),
    ):
        with pytest.raises(TypeError, match=message):
            register_backbone(refused)
    values: list[Any] = [Strided(), int, "Strided"]
    for value in values:
        with pytest.raises(TypeError, match=r"must be a subclass of nn\.Module"):
            register_backbone(value)
    with pytest.raises(ValueError, match=r"backbone name 'ViT' is taken by fpn_plugins\.backbones\.vit\.vit\.ViT"):
        register_backbone(type("ViT", (Strided,), {}))
    assert not {"Positional", "Typed"} & set(BACKBONES)


def test_a_registered_backbone_has_to_publish_its_specs() -> None:
    @register_backbone
    class Silent(nn.Module):
        pass

    with pytest.raises(TypeError, match="backbone 'Silent' publishes no feature_specs; set feature_specs"):
        build_backbone({"type": "Silent"})
