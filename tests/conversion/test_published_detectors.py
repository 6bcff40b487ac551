"""Published detectors of EVA-02 and of the Perception Encoder: all of their keys load in both toolboxes.

``published/<name>.txt`` lists the keys and shapes of the detector that the published code builds (baaivision/EVA, MIT;
facebookresearch/perception_models, Apache-2.0); ``<0-3,5>`` stands for each of these numbers.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fpn_plugins.conversion.detectors import convert

pytestmark = [pytest.mark.timm, pytest.mark.mmdet, pytest.mark.detectron2]

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parents[1] / "configs"
PE: dict[str, Any] = {
    **{"type": "ViT", "patch_size": 16, "prefix_tokens_in_windows": "drop", "window_positions": "window"},
    **{"pretrain_img_size": 512, "window_size": 32, "tile_positions": True, "final_norm": False},
    "global_block_indices": (12, 24, 36, 49),
}
# published name -> stem of a config with the same heads, and the ViT, or what to change of the config's
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "eva02_B_coco_bsl": ("cascade_mask_rcnn_eva02_b_vitdet_65e", {"pretrained": False}),
    "eva02_L_coco_bsl": ("cascade_mask_rcnn_eva02_l_vitdet_73e", {"pretrained": False}),
    "mask_rcnn_PEspatial_G_coco36ep": (
        "mask_rcnn_vitdet_b_100e",
        {"name": "vit_pe_spatial_gigantic_patch14_448", **PE},
    ),
    "mask_rcnn_PEcore_G_coco75ep": ("mask_rcnn_vitdet_b_100e", {"name": "vit_pe_core_gigantic_patch14_448", **PE}),
}


def numbers(text: str) -> list[str]:
    """Return the numbers of ``0-3,5``."""
    spans = [part.split("-") for part in text.split(",")]
    return [str(n) for span in spans for n in range(int(span[0]), int(span[-1]) + 1)]


def published(name: str) -> dict[str, Tensor]:
    """Read the keys of a detector, with values on the meta device."""
    state = {}
    for line in (HERE / "published" / f"{name}.txt").read_text().splitlines():
        key, shape = line.split()
        pieces = re.split("<(.*?)>", key)
        choices = [numbers(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
        value = torch.empty([int(side) for side in shape.split("x")], device="meta")
        state.update(dict.fromkeys(map("".join, itertools.product(*choices)), value))
    return state


def in_detectron2(stem: str, vit: dict[str, Any]) -> Any:
    from detectron2.config import LazyConfig, instantiate

    model = LazyConfig.load(str(CONFIGS / "detectron2" / f"{stem}.py")).model
    model.backbone.bottom_up = vit if "type" in vit else {**model.backbone.bottom_up, **vit}
    with torch.device("meta"):
        return instantiate(model)


def in_mmdet(stem: str, vit: dict[str, Any]) -> Any:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    register_all_modules()
    model = Config.fromfile(str(CONFIGS / "mmdet" / f"{stem}.py")).model
    model.backbone.backbone = vit if "type" in vit else {**model.backbone.backbone, **vit}
    with torch.device("meta"):
        return MODELS.build(model)


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", DETECTORS)
def test_every_key_of_a_published_detector_loads_in_both_toolboxes(name: str):
    stem, vit = DETECTORS[name]
    theirs = published(name)
    detectron2 = in_detectron2(stem, vit)
    assert not set(theirs) <= set(detectron2.state_dict())
    detectron2.load_state_dict(theirs)
    target = in_mmdet(stem, vit).state_dict()
    converted, report = convert(theirs, target)
    assert shapes(converted) == shapes(target)
    assert report.source == "detectron2" and all(".freqs_" in key for key in report.dropped)
    assert not report.restarted and not report.computed


def test_a_key_that_no_table_has_is_an_error():
    stem, vit = DETECTORS["mask_rcnn_PEcore_G_coco75ep"]
    theirs = published("mask_rcnn_PEspatial_G_coco36ep")  # with factors of the branches
    with pytest.raises(ValueError, match=r"fits this module only in part.*ls_1\.gamma"):
        in_detectron2(stem, vit).load_state_dict(theirs)
    with pytest.raises(ValueError, match="another architecture"):
        convert(theirs, in_mmdet(stem, vit).state_dict())
    with pytest.raises(ValueError, match="no table explains"):
        convert({**theirs, "backbone.net.adapter.weight": torch.ones(1)}, in_mmdet(stem, vit).state_dict())
