"""Every registered backbone trains two iterations and evaluates on the synthetic set, in both toolboxes' own loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fpn_plugins import BACKBONES, build_backbone, build_neck

CHANNELS = 32


@dataclass(frozen=True)
class Case:
    """A small backbone and its neck.

    Attributes:
        arguments: arguments of the backbone, the same in both toolboxes.
        neck: name of the neck; its strides are computed.
        detectron2: arguments of the neck in the core's vocabulary, which Detectron2 uses too.
        mmdet: arguments of the neck in mmdet's vocabulary besides ``num_outs``, which is computed.
        hosts: markers of the hosts that the backbone needs.
    """

    arguments: Mapping[str, Any]
    neck: str = "FPN"
    detectron2: Mapping[str, Any] = field(default_factory=dict)
    mmdet: Mapping[str, Any] = field(default_factory=dict)
    hosts: tuple[pytest.MarkDecorator, ...] = ()


RESNET = {"type": "TimmBackbone", "name": "resnet10t", "out_indices": [1, 2, 3]}
TINY_ENCODER = {"embed_dim": 32, "depth": 2, "num_heads": 4}
TINY_VIT = {**TINY_ENCODER, "depth": 4, "img_size": 320, "window_size": 7, "global_block_indices": [1, 3]}
# a registered backbone without a case fails
CASES: dict[str, Case] = {
    "TimmBackbone": Case({"name": "resnet10t"}, hosts=(pytest.mark.timm,)),
    "Swin": Case({"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4}),
    "MViT": Case(
        {
            "name": "mvitv2_tiny",
            "embed_dim": 16,
            "last_block_indices": [0, 2, 4, 6],
            "window_size": 16,
            "drop_path_rate": 0.1,
            "gradient_checkpointing": True,
        }
    ),
    "ImagePyramid": Case({"backbone": RESNET}, "SSDPyramid", hosts=(pytest.mark.timm,)),
    "ViT": Case(
        TINY_VIT,
        "SimpleFeaturePyramid",
        detectron2={"extra_levels": {"num_levels": 1}},
    ),
    "DetectoRSResNet": Case({"base_channels": 4, "frozen_stages": 0, "norm_eval": True}),
    "MultiDepthViT": Case({"vit": TINY_VIT, "depths": [1, 2, 3, 4]}),
    "SpatialTuningAdapter": Case(
        {"vit": {"type": "ViT", **TINY_VIT, "out_block_indices": [1, 2, 3]}, "detail_channels": 8}
    ),
    "ViTAdapter": Case({"vit": TINY_VIT, "conv_inplane": 8, "n_points": 2}),
    "HybridCNNViT": Case(
        {"cnn": {**RESNET, "out_indices": [1, 2, 3, 4]}, "vit": TINY_ENCODER}, hosts=(pytest.mark.timm,)
    ),
    "TimmHybrid": Case({"name": "vit_small_r26_s32_224", "model_args": TINY_ENCODER}, hosts=(pytest.mark.timm,)),
}
NAMES = [pytest.param(name, marks=case.hosts) for name, case in CASES.items()]


def test_every_backbone_has_a_case() -> None:
    assert set(CASES) == set(BACKBONES)


def backbone_of(name: str) -> dict[str, Any]:
    """Config of the backbone for either toolbox."""
    return {"type": name, **CASES[name].arguments}


def neck_of(name: str) -> dict[str, Any]:
    """Config of the neck for Detectron2."""
    return {"type": CASES[name].neck, "out_channels": CHANNELS, **CASES[name].detectron2}


def strides_of(name: str) -> list[int]:
    """Strides of the neck's outputs, from the specs that the classes publish."""
    specs = build_backbone(backbone_of(name)).feature_specs
    return [spec.stride for spec in build_neck(neck_of(name), specs).out_specs(specs)]


@pytest.mark.mmdet
@pytest.mark.parametrize("name", NAMES)
def test_mmdet(name: str, train_in_mmdet: Callable[..., None]) -> None:
    case, strides = CASES[name], strides_of(name)
    neck = {"type": case.neck, "out_channels": CHANNELS, "num_outs": len(strides), **case.mmdet}
    train_in_mmdet("backbone.backbone.", neck, strides, backbone_of(name))


@pytest.mark.detectron2
@pytest.mark.parametrize("name", NAMES)
def test_detectron2(name: str, train_in_detectron2: Callable[..., None]) -> None:
    train_in_detectron2("backbone.bottom_up.", neck_of(name), strides_of(name), backbone_of(name))
