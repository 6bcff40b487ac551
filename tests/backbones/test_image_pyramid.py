"""One network on the image at several sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from precision import assert_same_maps

from fpn_plugins import FPN, ImagePyramid, TimmBackbone

pytestmark = pytest.mark.timm


def test_each_level_is_the_backbone_on_a_resized_image() -> None:
    backbone = TimmBackbone("resnet10t", out_indices=(2, 3)).double().eval()
    pyramid = ImagePyramid(backbone, scales=(2, 1, 0.5))
    image = torch.randn(1, 3, 50, 66, dtype=torch.double)
    with torch.no_grad():
        maps = pyramid(image)
        for m, size in zip(maps, ((100, 132), (50, 66), (25, 33)), strict=True):
            resized = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
            assert_same_maps(m, backbone(resized)[1])
    assert [spec.stride for spec in pyramid.feature_specs] == [8, 16, 32]


def test_necks_take_its_maps() -> None:
    pyramid = ImagePyramid({"type": "TimmBackbone", "name": "resnet10t", "out_indices": (1, 2)}, index=0)
    neck = FPN([spec.channels for spec in pyramid.feature_specs], 8)
    assert [spec.stride for spec in neck.out_specs(pyramid.feature_specs)] == [2, 4, 8]
    assert [m.shape[1] for m in neck(pyramid(torch.randn(1, 3, 33, 47)))] == [8, 8, 8]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": (0.5, 1)}, r"scales=\[0.5, 1\] must be positive and descend"),
        ({"scales": ()}, "must be positive"),
        ({"scales": (1.5,)}, "scale 1.5 turns the stride .* into"),
        ({"index": 3}, "index=3 must be a position among the backbone's 1 maps"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    backbone = TimmBackbone("resnet10t", out_indices=(2,))
    with pytest.raises(ValueError, match=message):
        ImagePyramid(backbone, **arguments)


@pytest.mark.mmdet
def test_in_mmdet() -> None:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    inner = {"type": "TimmBackbone", "name": "resnet10t", "out_indices": (3,), "norm_eval": True}
    backbone = {"type": "fpn_plugins.ImagePyramid", "backbone": inner}
    neck = {"type": "SSDPyramid", "out_channels": 8, "num_outs": 3}
    model = MODELS.build({"type": "fpn_plugins.PyramidBackbone", "backbone": backbone, "neck": neck})
    before = model.backbone.backbone.model.conv1[0].weight.clone()
    model.init_weights()
    assert torch.equal(before, model.backbone.backbone.model.conv1[0].weight)
    assert [m.shape[-1] for m in model(torch.randn(1, 3, 64, 64))] == [8, 4, 2]
