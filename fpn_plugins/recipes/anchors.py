"""Fit the anchors of a pyramid to the boxes of a data set.

The levels have three sizes an octave, as RetinaNet's (arXiv:1708.02002, section 4), or one, as region proposals have
(arXiv:1612.03144, section 4.1); the side of the smallest is fitted. An anchor of another side than a box overlaps it by
half or more if the sides differ by a factor of at most sqrt(2). With one size an octave, that can be all, and proposals
are trained with an overlap of 0.7: there the side within the octave matters as much as the smallest object.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from ..extras import needed_for

with needed_for("recipes"):
    import numpy as np
SMALLEST, LARGEST = 0.01, 0.99  # quantiles of the object sizes that the anchors have to reach
RATIO_QUANTILES = (0.1, 0.5, 0.9)
ONE_RATIO = 1.25  # boxes whose ratios differ by less have anchors of one ratio
LEAST_SCALE = 1.5  # anchors that are smaller than that many strides leave gaps between them
MOST_SCALE = 8.0
FIRST_LEVELS = (2, 3)
FINEST = {4: 2, 8: 3}  # stride and level of the finest map
LAST_LEVEL = 7
PHASES = 16  # sides within an octave that are tried
MOST_BOXES = 5000  # with which they are compared
STEP = 1 / 64  # of the scale and of the ratios' roots, which both toolboxes round alike


@dataclass(frozen=True)
class Anchors:
    """Anchors of consecutive levels: sides ``stride * scale * 2 ** (k / per_octave)``, each with every ratio.

    Attributes:
        strides: stride of each level in input pixels, high to low resolution.
        scale: side of a level's smallest square anchor in strides.
        per_octave: sizes of a level.
        ratios: height / width, ascending.
    """

    strides: tuple[int, ...]
    scale: float
    per_octave: int
    ratios: tuple[float, ...]

    @property
    def sizes(self) -> list[list[float]]:
        """Sides of the square anchors of each level in pixels, as MMDetection rounds them."""
        return [[float(stride * scale) for scale in self.scales] for stride in self.strides]

    @property
    def scales(self) -> np.ndarray:
        """Sides of a level's square anchors in strides, in single precision."""
        steps = np.array([2 ** (k / self.per_octave) for k in range(self.per_octave)])
        return np.asarray(steps * self.scale, np.float32)


def choose_anchors(detector: str, boxes: np.ndarray, finest: int | None = None) -> Anchors:
    """Fit the anchors of a detector to boxes.

    Args:
        detector: ``"retinanet"``, ``"faster_rcnn"`` or ``"mask_rcnn"``.
        boxes: widths and heights in input pixels, ``2 N``.
        finest: stride of RetinaNet's finest map, 4 or 8; ``None`` is that of `fit_anchors`.

    Raises:
        ValueError: another ``finest``, or one for a detector whose finest map always has the stride 4.
    """
    if detector != "retinanet":
        if finest not in (None, 4):
            raise ValueError(f"finest={finest!r} is a choice of detector='retinanet'; {detector!r} begins at stride 4")
        # regions are pooled from P2 to P5, and P6 is for proposals alone
        return replace(fit_anchors(boxes[0], boxes[1], per_octave=1, first_level=2), strides=(4, 8, 16, 32, 64))
    anchors = fit_anchors(boxes[0], boxes[1])
    if finest is None:
        return anchors
    if finest not in FINEST:
        raise ValueError(f"finest={finest!r} must be the stride of RetinaNet's finest map, 4 or 8")
    given = fit_anchors(boxes[0], boxes[1], first_level=FINEST[finest])
    # the coarsest map remains, which sees most of the image
    last = max(anchors.strides[-1], given.strides[-1])
    return replace(given, strides=tuple(stride for stride in (4, 8, 16, 32, 64, 128) if finest <= stride <= last))


def fit_anchors(
    widths: np.ndarray, heights: np.ndarray, per_octave: int = 3, first_level: int | None = None
) -> Anchors:
    """Fit levels, sizes and ratios to boxes.

    The smallest anchor reaches the 1 % quantile of the boxes' sizes, and the last level the 99 % quantile, by sides
    that differ by at most a sixth of an octave; with one size an octave, the smallest anchor is up to half an octave
    smaller or larger, where the anchors overlap the boxes most on average (less than half counts as none). The ratios
    are the 10, 50 and 90 % quantiles. The scale is one that both toolboxes round to the same anchors.

    Args:
        widths: widths of ``N`` boxes in input pixels, above 0.
        heights: their heights.
        per_octave: sizes of a level, 1 to 3.
        first_level: 2 or 3; ``None`` is 3 unless the smallest anchor would measure less than 1.5 of its strides.

    Returns:
        Anchors of three to five levels, at most up to level 7.

    Raises:
        ValueError: no boxes.
    """
    if not len(widths):
        raise ValueError("widths=[] has no boxes; anchors are fitted to at least one")
    sides = np.sqrt(np.asarray(widths, float) * np.asarray(heights, float))
    smallest, largest = np.quantile(sides, [SMALLEST, LARGEST])
    smallest *= 2 ** (1 / 6)
    if first_level is None:
        first_level = FIRST_LEVELS[int(smallest >= LEAST_SCALE * 2 ** FIRST_LEVELS[1])]
    scale = float(np.clip(smallest / 2**first_level, LEAST_SCALE, MOST_SCALE))
    ratios = _ratios(np.asarray(heights) / np.asarray(widths))
    if per_octave == 1:
        scale = _best_scale(np.asarray(widths, float), np.asarray(heights, float), scale, 2**first_level, ratios)
    octaves = math.log2(largest / (scale * 2**first_level)) - (per_octave - 1) / per_octave - 1 / 6
    levels = int(np.clip(math.ceil(octaves) + 1, 3, min(5, LAST_LEVEL + 1 - first_level)))
    strides = tuple(2 ** (first_level + level) for level in range(levels))
    return _round_alike(Anchors(strides, scale, per_octave, ratios))


def _best_scale(widths: np.ndarray, heights: np.ndarray, scale: float, stride: int, ratios: tuple[float, ...]) -> float:
    """Move the scale by up to half an octave to where centered anchors of one size an octave overlap the boxes most."""
    step = -(-len(widths) // MOST_BOXES)
    widths, heights = widths[::step, None], heights[::step, None]
    roots, octaves = np.sqrt(ratios), 2.0 ** np.arange(LAST_LEVEL)

    def overlap(candidate: float) -> float:
        sides = stride * candidate * octaves[:, None]
        wide, high = (sides / roots).ravel(), (sides * roots).ravel()
        shared = np.minimum(widths, wide) * np.minimum(heights, high)
        best = (shared / (widths * heights + wide * high - shared)).max(1)
        return float(np.where(best >= 0.5, best, 0).mean())

    phases = scale * 2 ** (np.arange(PHASES) / PHASES - 0.5)
    return max(np.clip(phases, LEAST_SCALE, MOST_SCALE * math.sqrt(2)).tolist(), key=overlap)


def _ratios(ratios: np.ndarray) -> tuple[float, ...]:
    """Choose one or three ratios, squares of multiples of 1/64, whose roots are exact in single precision."""
    roots = np.sqrt(np.clip(np.quantile(ratios, RATIO_QUANTILES), 0.1, 10.0))
    low, middle, high = np.where(np.abs(roots - 1) < 0.05, 1, np.round(roots / STEP) * STEP)
    chosen = (middle,) if high**2 < ONE_RATIO * low**2 or not low < middle < high else (low, middle, high)
    return tuple(float(root**2) for root in chosen)


def _round_alike(anchors: Anchors) -> Anchors:
    """Move scale and roots of ratios by as few 64ths as possible to anchors that both toolboxes round alike."""
    nearest, roots = round(anchors.scale / STEP), np.sqrt(anchors.ratios)
    moves = itertools.product(range(-8, 9), *(range(-1, 2) for _ in roots))
    for move, *shifts in sorted(moves, key=lambda steps: sum(map(abs, steps))):
        ratios = tuple(float((root + shift * STEP) ** 2) for root, shift in zip(roots, shifts, strict=True))
        moved = replace(anchors, scale=max(LEAST_SCALE, (nearest + move) * STEP), ratios=ratios)
        if np.array_equal(mmdet_sides(moved), detectron2_sides(moved)):
            return moved
    return replace(anchors, scale=nearest * STEP)


def mmdet_sides(anchors: Anchors) -> np.ndarray:
    """Compute widths and heights of the first level's anchors as MMDetection rounds them, ``2 sizes ratios``."""
    heights = np.sqrt(np.array(anchors.ratios, np.float32))
    widths = np.float32(1) / heights
    stride = np.float32(anchors.strides[0])
    return np.stack([(stride * part)[None] * anchors.scales[:, None] for part in (widths, heights)])


def detectron2_sides(anchors: Anchors) -> np.ndarray:
    """Compute the same as `mmdet_sides` as Detectron2 rounds them."""
    pairs = [[(math.sqrt(side**2.0 / ratio), ratio) for ratio in anchors.ratios] for side in anchors.sizes[0]]
    sides = np.array([[(width, ratio * width) for width, ratio in row] for row in pairs])
    return 2 * np.asarray(np.moveaxis(sides, -1, 0) / 2, np.float32)
