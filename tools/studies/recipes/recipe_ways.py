"""Ways to train for small objects, as changes to a plan and a config of Detectron2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fpn_plugins.data.level_weights import balanced_level_weights, nearest_anchor_level
from fpn_plugins.recipes import Recipe
from fpn_plugins.recipes.anchors import fit_anchors
from fpn_plugins.recipes.network import choose_backbone, choose_neck

PYRAMID_STRIDE = 16  # of the map that an image pyramid takes, at the scale 1


def from_stride_4(plan: Recipe) -> tuple[Recipe, str]:
    """Begin the levels at P2, each with the anchors that the next one had; the last level remains."""
    boxes = plan.data.boxes * plan.size[0]
    reasons: list[Any] = []
    anchors = fit_anchors(boxes[0], boxes[1], first_level=2)
    anchors = replace(anchors, strides=tuple(sorted({*anchors.strides, *plan.anchors.strides})))
    given = plan.backbone
    frozen = given["frozen_stages"]
    backbone = choose_backbone(given["name"], given.get("checkpoint"), frozen, anchors.strides, plan.device, reasons)
    neck, anchors = choose_neck(plan.neck["type"], backbone, anchors, plan.detector, plan.channels, reasons)
    return replace(plan, backbone=backbone, neck=neck, anchors=anchors), ""


def image_pyramid(plan: Recipe) -> tuple[Recipe, str]:
    """Take each level from the map of stride 16 of an image that is larger or smaller by the level's stride."""
    inner = dict(plan.backbone)
    frozen = inner.pop("frozen_stages")
    inner["out_indices"] = [plan.backbone["out_indices"][plan.anchors.strides.index(PYRAMID_STRIDE)]]
    scales = [PYRAMID_STRIDE / stride for stride in plan.anchors.strides]
    backbone = {"type": "ImagePyramid", "backbone": inner, "scales": scales, "frozen_stages": frozen}
    return plan, f"\nmodel.backbone.bottom_up = {backbone!r}\n"


def level_weights(plan: Recipe) -> tuple[Recipe, str]:
    """Weigh the levels' losses by the number of objects, as `tools/level_weights.py` does."""
    levels = nearest_anchor_level(*(plan.data.boxes * plan.size[0]), plan.anchors.sizes)
    weights = balanced_level_weights(np.bincount(levels, minlength=len(plan.anchors.strides)).tolist())
    return plan, f"\nmodel.level_weights = {[round(weight, 3) for weight in weights]}\n"


WAYS = {"p2": from_stride_4, "pyramid": image_pyramid, "level-weights": level_weights}
