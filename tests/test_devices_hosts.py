"""Pyramids of all hosts on fake CUDA tensors, and planted mistakes, which have to fail.

`test_devices.py` covers the registered modules, ``adapters/mmdet/test_devices.py`` those in MMDetection's registry.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fake_cuda import assert_runs_on_cuda
from registered import BACKBONE_ARGUMENTS, BACKBONE_HOSTS, build
from torch import Tensor, nn

from fpn_plugins import FPN, Pyramid

NECK = {"type": "FPN", "out_channels": 16}
SWIN = {"type": "Swin", **BACKBONE_ARGUMENTS["Swin"]}
IMAGES = torch.empty(2, 3, 65, 97, device="meta")
OPTIONS = {"channels_last": True, "autocast": "bfloat16"}
NAMES = [pytest.param(name, marks=BACKBONE_HOSTS.get(name, ())) for name in ("ImagePyramid", "TimmBackbone", "ViT")]


@pytest.mark.parametrize("name", NAMES)
def test_pyramid(name: str) -> None:
    assert_runs_on_cuda(Pyramid(build(name), NECK, **OPTIONS), IMAGES)


@pytest.mark.torchvision
@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["", "options"])
def test_pyramid_of_torchvision(options: dict[str, Any]) -> None:
    from fpn_plugins.adapters.torchvision import PyramidBackbone

    assert_runs_on_cuda(PyramidBackbone(SWIN, NECK, **options), IMAGES)


@pytest.mark.detectron2
@pytest.mark.parametrize("options", [{}, OPTIONS, {"square_pad": 128}], ids=["", "options", "square_pad"])
def test_pyramid_of_detectron2(options: dict[str, Any]) -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    assert_runs_on_cuda(PyramidBackbone(SWIN, NECK, **options), IMAGES)


@pytest.mark.detectron2
@pytest.mark.parametrize("builder", ["resnet_fpn_backbone", "retinanet_resnet_fpn_backbone"])
def test_builders_of_detectron2(builder: str) -> None:
    from detectron2.config import get_cfg
    from detectron2.modeling import build_backbone

    import fpn_plugins.adapters.detectron2  # noqa: F401

    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = f"build_fpn_plugins_{builder}"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    assert_runs_on_cuda(backbone, IMAGES)


# ------------------------------------------------------------------------------------------------------------- planted


class Added(nn.Module):
    """Adds a tensor that is made without a device."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.linspace(0, 1, x.shape[-1])


class Indexed(nn.Module):
    """Gathers with indices that are made without a device."""

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(-1, torch.arange(x.shape[-1]))


class Returned(nn.Module):
    """Returns a tensor that is made without a device."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(x.shape)


class Kept(nn.Module):
    """Keeps a constant that is no buffer, so that it does not move with the module."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = torch.ones(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.mark.parametrize("planted", [Added, Indexed, Returned, Kept])
def test_a_tensor_on_the_wrong_device_fails(planted: type[nn.Module]) -> None:
    pyramid = Pyramid({**SWIN, "out_indices": (0,)}, FPN([16], 16))
    pyramid.neck.output_convs[0] = nn.Sequential(pyramid.neck.output_convs[0], planted())
    with pytest.raises((RuntimeError, AssertionError), match=r"device|cpu"):
        assert_runs_on_cuda(pyramid, IMAGES)
