"""Measure how well the anchors of a pyramid cover the objects of a data set, without any training.

An anchor matches an object from an intersection over union of 0.5 on (RetinaNet, arXiv:1708.02002, section 4). Both
toolboxes assign the best anchor to an object without such an anchor, which the regression then has to move farther.
Anchors that are small relative to the stride of their level leave gaps, whatever the features.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.coco_check import is_object
from ..data.coco_folder import read_coco
from ..data.coco_report import SIZE_CLASSES, area_of, size_class
from ..data.statistics import check_resize, resize_factor
from ..extras import needed_for

with needed_for("statistics of data sets"):
    import numpy as np

MOST_OVERLAPS = 10_000_000  # pairs of an object and an anchor that are computed at once
MOST_LAYOUTS = 8  # sizes of images whose anchors are kept


@dataclass(frozen=True)
class AnchorReach:
    """Coverage of the objects of a size class by anchors.

    Attributes:
        objects: number of objects, without crowd regions, and boxes outside their image or below 1 px.
        best_iou: mean over the objects of the best intersection over union with an anchor.
        covered: share of objects that some anchor overlaps by the threshold or more.
        positives: mean number of such anchors per object.
    """

    objects: int
    best_iou: float
    covered: float
    positives: float


def anchor_reach(
    ann_file: str | os.PathLike[str],
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    threshold: float = 0.5,
    divisibility: int = 32,
    resize: tuple[int, int] | None = None,
    most_images: int | None = None,
) -> dict[str, AnchorReach]:
    """Match the anchors of a pyramid with the objects of a data set.

    Anchors are centered at the multiples of the stride, as in both toolboxes.

    Args:
        ann_file: COCO annotation file.
        strides: strides of the levels in input pixels.
        sizes: sides of the square anchors of each level in pixels; anchors of other ratios have the same area.
        ratios: height / width.
        threshold: intersection over union from which an anchor matches an object.
        divisibility: images are padded to multiples of this many pixels.
        resize: shorter side and limit of the longer side of images in pixels; ``None`` keeps their size.
        most_images: number of images to match, evenly chosen; ``None`` is all.

    Returns:
        Coverage by COCO size class, of sizes after resizing; classes without objects are absent.

    Raises:
        ImportError: pycocotools is missing.
        ValueError: ``strides`` and ``sizes`` differ in length or are empty, ``resize`` is no pair of sides, or the file
            is not a COCO annotation file.
        FileNotFoundError: no such file.
    """
    check_resize(resize)
    if not strides or len(strides) != len(sizes):
        raise ValueError(f"strides={list(strides)}, sizes={list(sizes)}: expected as many of both, and at least one")
    found: dict[str, list[tuple[float, int]]] = {}
    layouts: dict[tuple[int, ...], np.ndarray] = {}
    images = list(_objects_by_image(read_coco(ann_file)))
    for image, objects in images[:: 1 if most_images is None else -(-len(images) // most_images) or 1]:
        factor = resize_factor(image, resize)
        sides = (round(image[side] * factor) for side in ("height", "width"))
        shape = tuple(-(-side // divisibility) * divisibility for side in sides)
        if shape not in layouts:
            if len(layouts) == MOST_LAYOUTS:
                layouts.clear()
            layouts[shape] = np.concatenate(
                [_anchors(shape, stride, of_level, ratios) for stride, of_level in zip(strides, sizes, strict=True)]
            )
        # all objects of a crowded image at once would take gigabytes
        step = max(1, MOST_OVERLAPS // len(layouts[shape]))
        for part in (objects[start : start + step] for start in range(0, len(objects), step)):
            overlaps = _overlaps(np.array([entry["bbox"] for entry in part], float) * factor, layouts[shape])
            for entry, best, served in zip(part, overlaps.max(1), (overlaps >= threshold).sum(1), strict=True):
                found.setdefault(size_class(area_of(entry) * factor**2), []).append((best, served))
    return {name: _summary(found[name], threshold) for name in SIZE_CLASSES if name in found}


def _objects_by_image(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    by_image: dict[int, list[dict[str, Any]]] = {}
    images = {image["id"]: image for image in content["images"]}
    for entry in content["annotations"]:
        # others are no objects for the toolboxes either
        if entry["image_id"] in images and is_object(entry, images[entry["image_id"]]):
            by_image.setdefault(entry["image_id"], []).append(entry)
    return ((image, by_image[image["id"]]) for image in content["images"] if image["id"] in by_image)


def _anchors(shape: tuple[int, ...], stride: int, sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Left, top, width and height of each anchor of a level, shape ``N 4``."""
    y, x = (np.arange(0, side, stride, dtype=float) for side in shape)
    side, ratio = (values.ravel() for values in np.meshgrid(sizes, np.sqrt(ratios)))
    widths, heights = side / ratio, side * ratio
    x, y, index = (values.ravel() for values in np.meshgrid(x, y, np.arange(len(widths))))
    width, height = widths[index], heights[index]
    return np.stack([x - width / 2, y - height / 2, width, height], 1)


def _overlaps(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Intersection over union of each box with each anchor."""
    with needed_for("counts of anchors"):
        from pycocotools import mask

    return np.asarray(mask.iou(boxes, anchors, [0] * len(anchors)))


def _summary(found: Sequence[tuple[float, int]], threshold: float) -> AnchorReach:
    best, positives = (np.array(values, float) for values in zip(*found, strict=True))
    return AnchorReach(len(found), float(best.mean()), float((best >= threshold).mean()), float(positives.mean()))
