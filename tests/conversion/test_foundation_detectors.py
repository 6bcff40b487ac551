"""Whole detectors of EVA-02, which its fork of Detectron2 publishes, load in Detectron2 and convert to mmdet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published_vits import baai_eva_detector
from torch import Tensor

from fpn_plugins.conversion.detectors import convert
from fpn_plugins.weights import strip_prefix
from fpn_plugins.weights.maps import simple_pyramid

pytestmark = [pytest.mark.timm, pytest.mark.mmdet, pytest.mark.detectron2]

ROOT = Path(__file__).resolve().parents[2]
EVA: dict[str, Any] = {
    **{"type": "ViT", "name": "eva02_base_patch14_224", "patch_size": 16, "pretrain_img_size": 64},
    **{"embed_dim": 24, "depth": 2, "num_heads": 2, "window_size": 4, "global_block_indices": [1]},
    **{"prefix_tokens_in_windows": "drop", "window_positions": "window", "antialias_positions": False},
}


@pytest.fixture(autouse=True)
def coco(tiny_coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo's configs find a data set."""
    monkeypatch.setenv("FPN_PLUGINS_COCO", str(tiny_coco))


def in_mmdet() -> Any:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    model = Config.fromfile(str(ROOT / "configs/mmdet/demo_mask_rcnn_vitdet.py")).model
    model.backbone.backbone = EVA
    return MODELS.build(model).eval()


def in_detectron2() -> Any:
    from detectron2.config import LazyConfig, instantiate

    model = LazyConfig.load(str(ROOT / "configs/detectron2/demo_mask_rcnn_vitdet.py")).model
    model.backbone.bottom_up = EVA
    return instantiate(model).eval()


def published(detector: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Draw weights of a detector; return them, and with backbone and pyramid named as in EVA-02's fork."""
    ours = {key: torch.randn_like(value) for key, value in detector.state_dict().items() if value.is_floating_point()}
    parts = {name: strip_prefix(ours, f"backbone.{name}.") for name in ("bottom_up", "neck")}
    to_theirs = simple_pyramid.detectron2(2, [len(layers) for layers in detector.backbone.neck.resamples]).inverse()
    theirs = {key: value for key, value in ours.items() if not key.startswith("backbone.")}
    theirs |= {f"backbone.net.{key}": value for key, value in baai_eva_detector(parts["bottom_up"]).items()}
    theirs |= {f"backbone.{to_theirs.find(key)[1]}": value for key, value in parts["neck"].items()}
    return ours, theirs


def test_published_detectors_load_in_detectron2_and_convert_to_mmdet() -> None:
    detectron2, mmdet = in_detectron2(), in_mmdet()
    ours, theirs = published(detectron2)
    assert not any(key.startswith("backbone.bottom_up") for key in theirs)
    detectron2.load_state_dict(theirs)
    loaded = detectron2.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in ours.items())
    converted, report = convert(theirs, mmdet.state_dict())
    expected, _ = convert(loaded, mmdet.state_dict())
    assert report.source == "detectron2" and any("rope_win" in key for key in report.dropped)
    assert converted.keys() == expected.keys() == mmdet.state_dict().keys()
    assert all(torch.equal(converted[key], value) for key, value in expected.items())
    mmdet.load_state_dict(converted)


def test_an_unknown_key_of_the_backbone_is_named() -> None:
    _, theirs = published(in_detectron2())
    with pytest.raises(ValueError, match="no table explains"):
        convert({**theirs, "backbone.net.adapter.weight": torch.ones(1)}, in_mmdet().state_dict())
