"""`PyramidBackbone` of Detectron2: errors, several necks, precision, memory format."""

from __future__ import annotations

import pytest
import torch
from precision import assert_same_gradients, assert_same_maps

pytestmark = pytest.mark.detectron2


def test_errors_of_pyramid_backbone() -> None:
    from detectron2.config import get_cfg
    from detectron2.layers import ShapeSpec
    from detectron2.modeling import build_resnet_backbone

    from fpn_plugins import FPN
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    small = {"type": "TimmBackbone", "name": "resnet18"}
    with pytest.raises(ValueError, match=r"in_channels=\[8, 16\].*publishes channels \[64, 128, 256, 512\]"):
        PyramidBackbone(small, FPN([8, 16]))
    with pytest.raises(ValueError, match="use out_indices instead"):
        PyramidBackbone(small, {"type": "FPN"}, in_features=["res2"])
    with pytest.raises(ValueError, match="FPM.*choose one of.*FPN"):
        PyramidBackbone(small, {"type": "FPM"})
    resnet = build_resnet_backbone(get_cfg(), ShapeSpec(channels=3))
    with pytest.raises(ValueError, match="the backbone has no"):
        PyramidBackbone(resnet, {"type": "FPN"}, in_features=["res7"])
    for neck in ("FPN", ["FPN"], [], 5):
        with pytest.raises(TypeError, match=r"neck=.* must be a neck, a mapping such as"):
            PyramidBackbone(small, neck)
    with pytest.raises(TypeError, match="bottom_up='resnet18' must be a backbone, or a mapping such as"):
        PyramidBackbone("resnet18", {"type": "FPN"})
    vit = {"type": "ViT", "img_size": 32, "embed_dim": 8, "depth": 2, "num_heads": 1, "global_block_indices": ()}
    with pytest.raises(ValueError, match=r"the maps \['c4', 'c4'\] share a stride"):
        PyramidBackbone({**vit, "out_block_indices": (0, 1)}, None)


def test_applies_several_necks_one_after_the_other() -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    fpn = {"type": "FPN", "out_channels": 32, "norm": "FrozenBN", "extra_levels": {"num_levels": 1}}
    backbone = PyramidBackbone({"type": "TimmBackbone", "name": "resnet10t"}, [fpn, {"type": "BFP"}])
    outputs = backbone(torch.randn(1, 3, 64, 64))
    assert list(outputs) == ["p2", "p3", "p4", "p5", "p6"] and type(backbone.neck[1]).__name__ == "BFP"


def test_autocast_returns_single_precision() -> None:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    parts = {"type": "TimmBackbone", "name": "resnet10t", "norm_eval": True}, {"type": "FPN", "out_channels": 16}
    usual, fast = PyramidBackbone(*parts), PyramidBackbone(*parts, autocast="bfloat16")
    fast.load_state_dict(usual.state_dict())
    images = torch.randn(1, 3, 96, 128)
    for (name, wanted), got in zip(usual(images).items(), fast(images).values(), strict=True):
        error = float((got - wanted).norm() / wanted.norm())
        assert got.dtype == torch.float32 and 1e-5 < error < 0.05, name
    sum(x.sum() for x in fast(images).values()).backward()
    with pytest.raises(ValueError, match="autocast='bf16' is unknown; choose one of"):
        PyramidBackbone(*parts, autocast="bf16")


def test_without_a_neck_it_is_a_bottom_up_network() -> None:
    from detectron2.modeling.backbone import FPN

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    bottom_up = PyramidBackbone({"type": "TimmBackbone", "name": "resnet10t"}, neck=None)
    pyramid = FPN(bottom_up, in_features=["c3", "c4", "c5"], out_channels=16)
    assert {name: tuple(x.shape[2:]) for name, x in pyramid(torch.randn(1, 3, 64, 96)).items()} == {
        "p3": (8, 12),
        "p4": (4, 6),
        "p5": (2, 3),
    }


def test_channels_last_changes_the_memory_format_alone() -> None:
    """Maps, gradients, and the regions that Detectron2 pools from channels-last maps are equal."""
    from detectron2.modeling.poolers import ROIPooler
    from detectron2.structures import Boxes

    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    parts = {"type": "TimmBackbone", "name": "resnet10t", "norm_eval": True}, {"type": "FPN", "out_channels": 16}
    usual, fast = PyramidBackbone(*parts), PyramidBackbone(*parts, channels_last=True)
    fast.load_state_dict(usual.state_dict())
    weights = [p for p in fast.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    images = torch.randn(1, 3, 96, 128, dtype=torch.double)
    usual.double(), fast.double()
    wanted, got = list(usual(images).values()), list(fast(images).values())
    assert got[0].is_contiguous(memory_format=torch.channels_last) and not got[0].is_contiguous()
    boxes, pool = [Boxes([[3.0, 5, 60, 90]])], ROIPooler(7, [1 / 4, 1 / 8, 1 / 16, 1 / 32], 2, "ROIAlignV2")
    assert_same_maps(got, wanted)
    pooled = [pool([m.float() for m in maps], boxes) for maps in (got, wanted)]  # its boxes are in single precision
    assert_same_maps(*pooled)
    grads = [
        torch.autograd.grad(sum(x.square().mean() for x in maps), list(model.parameters()))
        for maps, model in ((got, fast), (wanted, usual))
    ]
    assert_same_gradients(*grads)
