"""The shipped Swin and MViTv2 detectors beside the same with Detectron2's own backbone and FPN, from one state dict.

Detectron2 has these detectors as LazyConfigs of its projects ViTDet and MViTv2, which its wheel leaves out; stated here
is how they put the backbone under the FPN.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from detectron2_pair import CHANNELS, assert_equal_detections, assert_equal_training, build_pair, narrow_heads
from torch import nn

pytestmark = pytest.mark.detectron2

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "detectron2"
SIDE = 128
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "drop_path_rate": 0.0}
MVIT: dict[str, Any] = {"embed_dim": 8, "num_heads": 1, "drop_path_rate": 0.0}
LASTS = (0, 2, 4, 6)
# the config, and how many losses its detector has
DETECTORS = {
    "mask_rcnn_swin_t_fpn_12e": 5,
    "cascade_mask_rcnn_swin_b_fpn_50e": 9,
    "mask_rcnn_mvitv2_t_fpn_36e": 5,
    "cascade_mask_rcnn_mvitv2_t_fpn_36e": 9,
}


def ours_config(name: str) -> Any:
    """Ours as shipped, made small."""
    from detectron2.config import LazyConfig

    model = narrow_heads(LazyConfig.load(str(CONFIGS / f"{name}.py")).model)
    backbone = model.backbone
    backbone.bottom_up.update(SWIN if "swin" in name else {**MVIT, "last_block_indices": LASTS})
    backbone.neck.out_channels = CHANNELS
    if "square_pad" in backbone:
        backbone.square_pad = SIDE
    return model


def stock_config(name: str) -> Any:
    """The same with Detectron2's backbone, as its projects configure it, under Detectron2's FPN."""
    from detectron2.config import LazyCall as L
    from detectron2.modeling import FPN, MViT
    from detectron2.modeling.backbone import SwinTransformer
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    if "swin" in name:
        bottom_up, features = L(SwinTransformer)(**SWIN), [f"p{stage}" for stage in range(4)]
    else:
        features = [f"scale{stage}" for stage in range(2, 6)]
        depth, norm = LASTS[-1] + 1, partial(nn.LayerNorm, eps=1e-6)
        bottom_up = L(MViT)(**MVIT, depth=depth, last_block_indexes=LASTS, norm_layer=norm, out_features=features)
    model = ours_config(name)
    neck, square_pad = model.backbone.neck, model.backbone.get("square_pad", 0)
    model.backbone = L(FPN)(
        bottom_up=bottom_up,
        in_features=features,
        out_channels=CHANNELS,
        norm=neck.get("norm") or "",
        top_block=L(LastLevelMaxPool)(),
        square_pad=square_pad,
    )
    return model


@pytest.mark.parametrize("name", DETECTORS)
def test_equal_losses_and_gradients_in_training(name: str) -> None:
    pair = build_pair(stock_config(name), ours_config(name))
    assert_equal_training(*pair, num_losses=DETECTORS[name])


@pytest.mark.parametrize("name", DETECTORS)
def test_equal_detections(name: str) -> None:
    assert_equal_detections(*build_pair(stock_config(name), ours_config(name)))


@pytest.mark.parametrize("name", DETECTORS)
def test_published_shapes_match_detectron2(name: str) -> None:
    theirs, ours = build_pair(stock_config(name), ours_config(name))
    assert ours.backbone.output_shape() == theirs.backbone.output_shape()
