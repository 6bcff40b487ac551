"""Ways to train for small objects, as lines at the end of a recipe's config of Detectron2."""

from __future__ import annotations

import numpy as np

from fpn_plugins.data.level_weights import balanced_level_weights, nearest_anchor_level
from fpn_plugins.recipes import Recipe

PYRAMID_STRIDE = 16  # of the map that an image pyramid takes, at the scale 1


def image_pyramid(plan: Recipe) -> str:
    """Take each level from the map of stride 16 of an image that is larger or smaller by the level's stride."""
    inner = dict(plan.backbone)
    frozen = inner.pop("frozen_stages")
    inner["out_indices"] = [plan.backbone["out_indices"][plan.anchors.strides.index(PYRAMID_STRIDE)]]
    scales = [PYRAMID_STRIDE / stride for stride in plan.anchors.strides]
    backbone = {"type": "ImagePyramid", "backbone": inner, "scales": scales, "frozen_stages": frozen}
    return f"\nmodel.backbone.bottom_up = {backbone!r}\n"


def level_weights(plan: Recipe) -> str:
    """Weigh the levels' losses by the number of objects, as `tools/level_weights.py` does."""
    levels = nearest_anchor_level(*plan.data.resized(plan.size), plan.anchors.sizes)
    weights = balanced_level_weights(np.bincount(levels, minlength=len(plan.anchors.strides)).tolist())
    return f"\nmodel.level_weights = {[round(weight, 3) for weight in weights]}\n"


WAYS = {"pyramid": image_pyramid, "level-weights": level_weights}
