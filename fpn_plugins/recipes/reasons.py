"""Say why a recipe chose what it chose, and compare its anchors with the toolboxes' own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..analysis import AnchorReach, anchor_reach
from ..extras import needed_for
from .anchors import Anchors
from .settings import Settings

with needed_for("recipes"):
    import numpy as np

if TYPE_CHECKING:
    from .plan import Recipe

SMALL = 32  # pixels: COCO's small objects have sides below
MOST_IMAGES = 200  # on which the reach of anchors is counted


def quantile(boxes: np.ndarray, part: float) -> float:
    """Return a quantile of the square roots of the boxes' areas; boxes are widths and heights, ``2 N``."""
    return float(np.quantile(np.sqrt(boxes[0] * boxes[1]), part))


def explain_anchors(anchors: Anchors, boxes: np.ndarray, reasons: list[Any]) -> None:
    """Add the reasons of levels and anchors; ``boxes`` are widths and heights after resizing, ``2 N``."""
    low, high = (quantile(boxes, part) for part in (0.01, 0.99))
    sizes = anchors.sizes
    levels = f"P{int(math.log2(anchors.strides[0]))} to P{int(math.log2(anchors.strides[-1]))}"
    finer = "; --finest 4 adds P2 for the small ones" if anchors.strides[0] == 8 and low < SMALL else ""
    reasons.append(("levels", levels, f"98 % of the objects have {low:.0f} to {high:.0f} px after resizing{finer}"))
    ratios = ", ".join(f"{ratio:.2f}" for ratio in anchors.ratios)
    value = f"{sizes[0][0]:.0f} to {sizes[-1][-1]:.0f} px; height / width {ratios}"
    sides = "from the smallest object on" if anchors.per_octave > 1 else "of the most overlap with the boxes"
    reasons.append(("anchors", value, f"{sides}; ratios are quantiles of the boxes'"))


def explain_training(plan: Recipe, settings: Settings, reasons: list[Any]) -> None:
    """Add the reasons of rate, augmentation, running mean and end."""
    low, high = settings.meant_for
    fits = low <= plan.data.pictures <= high
    few = (
        ""
        if fits
        else f" (the recipe is meant for {low} images or more)"
        if plan.data.pictures < low
        else " (meant for fewer)"
    )
    rate = f"{plan.rate:g}, backbone x {plan.backbone_rate:g}"
    colors = " and colors" if plan.photometric else ""
    reasons += [
        (
            "rate",
            rate,
            f"AdamW for batches of {plan.batch}; the backbone is pretrained; warm-up {plan.warmup}, then cosine",
        ),
        (
            "augmentation",
            f"sizes {plan.short_sides[0]} to {plan.short_sides[-1]}, flips: {plan.flips}{colors}",
            f"recipe {plan.name}{few}",
        ),
        ("weights", f"running mean, momentum {plan.ema[0]:g}", "evaluated and saved in place of the last ones"),
        (
            "evaluation",
            f"every {plan.eval_period} iterations",
            "a twentieth of the time; the best weights are kept",
        ),
        ("end", f"after {plan.patience} evaluations without a better AP", "more would not help"),
    ]


def recipe_title(plan: Recipe) -> str:
    """Return a line that names a plan."""
    names = {"retinanet": "RetinaNet", "faster_rcnn": "Faster R-CNN", "mask_rcnn": "Mask R-CNN"}
    return f"{names[plan.detector]}, {plan.backbone['name']}, {plan.neck['type']}: recipe {plan.name!r}"


def stock_anchors(detector: str) -> Anchors:
    """Return both toolboxes' own anchors of a detector, for comparison."""
    if detector == "retinanet":
        return Anchors((8, 16, 32, 64, 128), 4.0, 3, (0.5, 1.0, 2.0))
    return Anchors((4, 8, 16, 32, 64), 8.0, 1, (0.5, 1.0, 2.0))


def reach_of(plan: Recipe) -> dict[str, dict[str, AnchorReach]]:
    """Count what the plan's anchors and the toolboxes' own reach, on at most 200 training images.

    Returns:
        ``"fitted"`` and ``"stock"``: coverage by size class, see `fpn_plugins.analysis.anchor_reach`.
    """
    both = {"fitted": plan.anchors, "stock": stock_anchors(plan.detector)}
    return {
        name: anchor_reach(
            *(plan.data.train.ann_file, anchors.strides, anchors.sizes, anchors.ratios),
            resize=plan.size,
            most_images=MOST_IMAGES,
        )
        for name, anchors in both.items()
    }
