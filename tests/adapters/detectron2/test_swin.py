"""Swin under Detectron2: its own Swin detectors' checkpoints, official weights, and the recipe's weight decay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from precision import assert_same_maps
from torch import nn

from fpn_plugins import Swin
from fpn_plugins.weights.maps import swin as tables

pytestmark = pytest.mark.detectron2

NARROW: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8)}


def pyramid(**arguments: Any) -> Any:
    from fpn_plugins.adapters.detectron2 import PyramidBackbone

    neck = {"type": "FPN", "out_channels": 32, "norm": "LN", "extra_levels": {"num_levels": 1}}
    return PyramidBackbone(Swin(drop_path_rate=0.0, **NARROW, **arguments), neck, square_pad=64)


def holder(backbone: nn.Module) -> nn.Module:
    """What a detector is to its checkpointer."""
    model = nn.Module()
    model.backbone = backbone
    return model.eval()


def stock() -> Any:
    from detectron2.modeling import FPN
    from detectron2.modeling.backbone import SwinTransformer
    from detectron2.modeling.backbone.fpn import LastLevelMaxPool

    swin = SwinTransformer(**NARROW, drop_path_rate=0.0)
    names = ("p0", "p1", "p2", "p3")
    return FPN(swin, names, 32, norm="LN", top_block=LastLevelMaxPool(), square_pad=64)


def test_checkpoints_of_detectron2_swin_detectors_load_as_they_are(tmp_path: Path) -> None:
    from detectron2.checkpoint import DetectionCheckpointer

    theirs, ours = holder(stock()), holder(pyramid())
    for p in theirs.parameters():
        p.data.add_(torch.randn_like(p) * 0.1)
    DetectionCheckpointer(theirs, str(tmp_path)).save("swin")
    kept = DetectionCheckpointer(ours)._load_model({"model": theirs.state_dict(), "matching_heuristics": False})
    assert not kept.missing_keys and not kept.unexpected_keys
    ours = holder(pyramid())
    DetectionCheckpointer(ours).load(str(tmp_path / "swin.pth"))
    x = torch.randn(1, 3, 64, 96, dtype=torch.double)
    with torch.no_grad():
        got, expected = ours.double().backbone(x), theirs.double().backbone(x)
    assert list(got) == list(expected)
    assert_same_maps(got, expected)


def test_official_releases_load_through_the_heuristics_of_detectron2(tmp_path: Path) -> None:
    """``train.init_checkpoint = "....pth?matching_heuristics=True"``, as in our configs and the ViTDet project's."""
    from detectron2.checkpoint import DetectionCheckpointer

    source = Swin(**NARROW)
    weights, _ = tables.official().inverse().apply(source.state_dict())
    classifier = {"norm.weight": torch.ones(128), "head.weight": torch.ones(9, 128), "head.bias": torch.ones(9)}
    index = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49, dtype=torch.long)}
    torch.save({"model": {**weights, **classifier, **index}}, tmp_path / "swin.pth")
    model = holder(pyramid())
    DetectionCheckpointer(model).load(f"{tmp_path}/swin.pth?matching_heuristics=True")
    loaded = model.backbone.bottom_up.state_dict()
    assert all(loaded[key].equal(value) for key, value in weights.items())


def test_decay_is_off_where_the_recipe_says_so() -> None:
    from detectron2.config import LazyConfig, instantiate

    configs = Path(__file__).resolve().parents[3] / "configs" / "detectron2"
    optimizer = LazyConfig.load(str(configs / "mask_rcnn_swin_t_fpn_12e.py")).optimizer
    model = holder(pyramid(use_abs_pos=True))
    optimizer.params.model = model
    decay = {id(p): group["weight_decay"] for group in instantiate(optimizer).param_groups for p in group["params"]}
    for key, p in model.backbone.bottom_up.named_parameters():
        free = "norm" in key or key.endswith(("relative_position_bias_table", "absolute_pos_embed"))
        assert decay[id(p)] == (0.0 if free else 0.05), key
