"""Measure the object sizes of a data set, and assign objects to pyramid levels.

A level with almost no objects costs time but is hardly trained; the shares show this before training. Levels:

    FPN        k = floor(4 + log2(sqrt(w h) / 224)), clipped to p2..p5   (Lin et al., arXiv:1612.03144, equation 1)
    RetinaNet  nearest base anchor, 32 on p3 ... 512 on p7, in log2      (Lin et al., arXiv:1708.02002, section 4)
"""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from ..checks import positive_int
from ..extras import needed_for
from .coco_folder import category_names
from .coco_report import SIZE_CLASSES, size_class
from .data_check import read_checked

with needed_for("statistics of data sets"):
    import numpy as np

_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_FPN_LEVELS = (2, 5)
_RETINANET_LEVELS = (3, 7)


def fpn_level(width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the level 2..5 of ``N`` boxes, with sizes in input pixels above 0, by equation 1 of the FPN paper."""
    # log2(w h) / 2 instead of log2(sqrt(w h)) is exact at the borders between levels, where w h is a power of two
    level = np.floor(4 + np.log2(np.asarray(width, float) * np.asarray(height, float) / 224**2) / 2)
    return np.clip(level, *_FPN_LEVELS).astype(int)


def retinanet_level(width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the level 3..7 of ``N`` boxes (see `fpn_level`) with the nearest base anchor in log2 of sqrt(w h)."""
    octave = np.log2(np.asarray(width, float) * np.asarray(height, float) / 32**2) / 2
    return np.clip(np.floor(octave + 0.5) + 3, *_RETINANET_LEVELS).astype(int)


def _level_share(levels: np.ndarray, first: int, last: int) -> dict[str, float]:
    return {f"p{level}": float(np.mean(levels == level)) if levels.size else 0.0 for level in range(first, last + 1)}


def _class_counts(areas: list[float]) -> dict[str, int]:
    counts = Counter(map(size_class, areas))
    return {name: counts[name] for name in SIZE_CLASSES}


def resize_factor(image: dict[str, Any], resize: tuple[int, int] | None) -> float:
    """Return the factor by which both toolboxes resize an image; 1 without ``resize``, see `size_statistics`."""
    if resize is None:
        return 1.0
    short, long = sorted((image["width"], image["height"]))
    return min(resize[0] / short, resize[1] / long)


def check_resize(resize: Any) -> None:
    """Raise ``ValueError`` unless ``resize`` is ``None`` or a shorter and a longer side, see `size_statistics`."""
    is_pair = isinstance(resize, (tuple, list)) and len(resize) == 2
    if resize is not None and not (is_pair and 0 < resize[0] <= resize[1]):
        raise ValueError(f"resize={resize!r} is not (shorter side, longest side) in px; expected e.g. (800, 1333)")


def _category_statistics(content: dict[str, Any], objects: list[dict[str, Any]]) -> dict[str, Any]:
    areas: dict[int, list[float]] = {number: [] for number in sorted(c["id"] for c in content["categories"])}
    for annotation in objects:
        areas[annotation["category_id"]].append(annotation["area"])
    return {
        name: {
            "objects": len(values),
            **_class_counts(values),
            "median_sqrt_area": float(np.median(np.sqrt(values))) if values else None,
        }
        for name, values in zip(category_names(content), areas.values(), strict=True)
    }


def _histogram(sides: np.ndarray, bins: int) -> dict[str, list[float]]:
    if not sides.size:
        return {"edges": [], "counts": []}
    # margins of 1 % keep the smallest and the largest object off the outer edges
    edges = np.geomspace(0.99 * sides.min(), 1.01 * sides.max(), bins + 1)
    return {"edges": edges.tolist(), "counts": np.histogram(sides, edges)[0].tolist()}


def _resized_boxes(
    content: dict[str, Any], objects: list[dict[str, Any]], resize: tuple[int, int] | None
) -> np.ndarray:
    """Compute widths and heights in px after resizing, ``2 N``."""
    factors = {image["id"]: resize_factor(image, resize) for image in content["images"]}
    sizes = [[side * factors[a["image_id"]] for side in a["bbox"][2:]] for a in objects]
    return np.array(sizes, dtype=float).reshape(-1, 2).T


def _read_objects(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read and check an annotation file; return it, and its annotations without crowd regions and zero-size boxes."""
    content = read_checked(path)
    return content, [a for a in content["annotations"] if not a.get("iscrowd") and min(*a["bbox"][2:], a["area"]) > 0]


def object_sizes(ann_file: str | os.PathLike[str], resize: tuple[int, int] | None = None) -> np.ndarray:
    """Read the box widths and heights of an annotation file in px, ``2 N``; see `size_statistics`."""
    check_resize(resize)
    return _resized_boxes(*_read_objects(Path(ann_file)), resize)


def size_statistics(
    ann_file: str | os.PathLike[str], bins: int = 24, resize: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Measure the object sizes of an annotation file, without crowd regions and boxes of zero size.

    Args:
        ann_file: COCO annotation file.
        bins: number of histogram bins, equally wide in log(sqrt(area)).
        resize: shorter side and limit of the longer side in px of images in training, (800, 1333) in both toolboxes;
            affects only the pyramid levels. ``None`` keeps the size of images.

    Returns:
        Content for a JSON file: ``ann_file``, ``resize``, ``objects``, ``size_classes`` (counts),
        ``sqrt_area_percentiles`` (px; empty without objects), ``histogram`` (``edges`` in px, ``counts``),
        ``per_category``, and ``fpn_level_share``, ``retinanet_level_share`` (share of objects per level, 0..1).

    Raises:
        TypeError: ``bins`` is not an integer.
        FileNotFoundError: no such file.
        ValueError: the file has a problem that `check_coco` reports, or an argument is out of range.
    """
    positive_int("bins", bins)
    check_resize(resize)
    content, objects = _read_objects(Path(ann_file))
    areas = [annotation["area"] for annotation in objects]
    boxes = _resized_boxes(content, objects, resize)
    return {
        "ann_file": Path(ann_file).name,
        "resize": list(resize) if resize else None,
        "objects": len(objects),
        "size_classes": _class_counts(areas),
        "sqrt_area_percentiles": {str(p): float(np.percentile(np.sqrt(areas), p)) for p in _PERCENTILES if areas},
        "histogram": _histogram(np.sqrt(areas), bins),
        "per_category": _category_statistics(content, objects),
        "fpn_level_share": _level_share(fpn_level(*boxes), *_FPN_LEVELS),
        "retinanet_level_share": _level_share(retinanet_level(*boxes), *_RETINANET_LEVELS),
    }
