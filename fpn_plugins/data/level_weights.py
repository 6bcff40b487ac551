"""Weigh RetinaNet's levels by the object sizes of a data set, to emphasize levels with few objects.

An object belongs to the level with the anchor size nearest to it in log2 of sqrt(w h), at the image size of training.
RetinaNet's own matcher takes all anchors of IoU >= 0.5 (arXiv:1708.02002, section 4), on any level; the anchor
of largest IoU is on the object's level for about 95 of 100 boxes, and on a neighboring level for the others. With p_l
the share of the objects on level l, of L levels:

    q_l = (1 - smoothing) p_l + smoothing / L          gives an empty level a finite weight
    w_l = q_l ** -exponent / sum_k(p_k q_k ** -exponent)

Exponent 0 weighs all levels 1; with exponent 1 and no smoothing, all levels contribute equally in total. The mean of
the weights over the objects is 1, so the loss keeps its scale if objects of all levels have the same loss. The scheme
is this package's own; inverse frequency with an exponent is common for rare classes (LVIS's repeat factors, word2vec).
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..extras import needed_for
from ..features import FeatureSpec, level_names
from .statistics import object_sizes

with needed_for("statistics of data sets"):
    import numpy as np

RETINANET_STRIDES = (8, 16, 32, 64, 128)


def level_anchor_sizes(
    strides: Sequence[int] = RETINANET_STRIDES, octave_base_scale: float = 4, scales_per_octave: int = 3
) -> list[list[float]]:
    """Compute the sides of each level's square anchors in px; the defaults are RetinaNet's 32 ... 812.

    Args:
        strides: strides of the levels in px, high to low resolution.
        octave_base_scale: smallest anchor of a level in strides, as in mmdet.
        scales_per_octave: number of sizes per level, evenly spaced in log2 over one octave, as in mmdet.

    Raises:
        ValueError: strides that do not ascend, or a scale that is not positive.
    """
    if not strides or list(strides) != sorted(set(strides)) or strides[0] < 1:
        raise ValueError(f"strides={list(strides)} must ascend and be positive, e.g. {list(RETINANET_STRIDES)}")
    if octave_base_scale <= 0 or scales_per_octave < 1:
        raise ValueError(
            f"octave_base_scale={octave_base_scale} must be above 0 and scales_per_octave={scales_per_octave} at least "
            "1; RetinaNet has 4 and 3"
        )
    octave = [octave_base_scale * 2 ** (i / scales_per_octave) for i in range(scales_per_octave)]
    return [[stride * scale for scale in octave] for stride in strides]


def nearest_anchor_level(width: np.ndarray, height: np.ndarray, sizes: Sequence[Sequence[float]]) -> np.ndarray:
    """Find the level that has the anchor size nearest to each box in log2 of sqrt(w h).

    Args:
        width: widths of ``N`` boxes in input pixels, above 0.
        height: heights of the boxes.
        sizes: anchor sides of each level in px, see `level_anchor_sizes`; of two equally near sizes, the larger wins.

    Returns:
        ``N`` positions in ``sizes``.
    """
    pairs = sorted((math.log2(size), position) for position, level in enumerate(sizes) for size in level)
    octaves, positions = (np.array(part) for part in zip(*pairs, strict=True))
    borders = (octaves[1:] + octaves[:-1]) / 2
    octave = np.log2(np.asarray(width, float) * np.asarray(height, float)) / 2
    return positions[np.searchsorted(borders, octave, side="right")]


def balanced_level_weights(counts: Sequence[int], exponent: float = 0.5, smoothing: float = 0.1) -> list[float]:
    """Compute the levels' weights by the formula at the top of this file.

    Args:
        counts: number of objects on each level.
        exponent: 0 weighs all levels 1; 1 weighs them by inverse frequency.
        smoothing: share of a uniform distribution to mix in, 0 to 1.

    Raises:
        ValueError: no objects, a negative count or exponent, smoothing out of range, or an empty level without
            smoothing.
    """
    shares = np.asarray(counts, float)
    if not shares.size or shares.min() < 0 or shares.sum() == 0:
        raise ValueError(f"counts={list(counts)} must hold at least one object, and none below 0")
    if exponent < 0 or not 0 <= smoothing <= 1:
        raise ValueError(f"exponent={exponent} must be 0 or more and smoothing={smoothing} between 0 and 1")
    shares = shares / shares.sum()
    smooth = (1 - smoothing) * shares + smoothing / len(shares)
    if exponent and smooth.min() == 0:
        raise ValueError(f"counts={list(counts)}: an empty level has no inverse frequency; set smoothing above 0")
    weights = smooth**-exponent
    return (weights / (shares @ weights)).tolist()


def level_weight_report(
    ann_file: str | os.PathLike[str],
    strides: Sequence[int] = RETINANET_STRIDES,
    octave_base_scale: float = 4,
    scales_per_octave: int = 3,
    resize: tuple[int, int] | None = (800, 1333),
    exponent: float = 0.5,
    smoothing: float = 0.1,
) -> dict[str, Any]:
    """Count the objects of each level in an annotation file, and compute the levels' weights.

    See `object_sizes`, `level_anchor_sizes` and `balanced_level_weights` for the arguments.

    Returns:
        Content for a JSON file: ``ann_file``, ``resize``, ``exponent``, ``smoothing``, ``objects``, and ``levels``,
        each with ``level``, ``stride`` and ``anchor_sizes`` in px, ``objects``, ``share`` (0..1) and ``weight``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has a problem that `check_coco` reports, or an argument is out of range.
    """
    sizes = level_anchor_sizes(strides, octave_base_scale, scales_per_octave)
    names = level_names(FeatureSpec(1, stride) for stride in strides)
    width, height = object_sizes(ann_file, resize)
    if not width.size:
        raise ValueError(f"{Path(ann_file).name} holds no object to weigh the levels by")
    counts = np.bincount(nearest_anchor_level(width, height, sizes), minlength=len(sizes)).tolist()
    weights = balanced_level_weights(counts, exponent, smoothing)
    columns = zip(names, strides, sizes, counts, weights, strict=True)
    return {
        "ann_file": Path(ann_file).name,
        "resize": list(resize) if resize else None,
        "exponent": exponent,
        "smoothing": smoothing,
        "objects": sum(counts),
        "levels": [
            {"level": n, "stride": s, "anchor_sizes": a, "objects": c, "share": c / sum(counts), "weight": w}
            for n, s, a, c, w in columns
        ],
    }
