"""Measure how well the anchors of a pyramid cover the objects of a data set, without any training.

An anchor matches an object from an intersection over union of 0.5 on (RetinaNet, arXiv:1708.02002, section 4). Both
toolboxes assign the best anchor to an object without such an anchor, which the regression then has to move farther.
Anchors that are small relative to the stride of their level leave gaps, whatever the features.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SIZE_CLASSES = ("small", "medium", "large")


@dataclass(frozen=True)
class AnchorReach:
    """Coverage of the objects of a size class by anchors.

    Attributes:
        objects: number of objects, without crowd regions.
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
) -> dict[str, AnchorReach]:
    """Match the anchors of a pyramid with the objects of a data set, without resizing its images.

    Anchors are centered at the multiples of the stride, as in both toolboxes.

    Args:
        ann_file: COCO annotation file.
        strides: strides of the levels in input pixels.
        sizes: sides of the square anchors of each level in pixels; anchors of other ratios have the same area.
        ratios: height / width.
        threshold: intersection over union from which an anchor matches an object.
        divisibility: images are padded to multiples of this many pixels.

    Returns:
        Coverage by COCO size class; classes without objects are absent.

    Raises:
        ValueError: ``strides`` and ``sizes`` differ in length or are empty, or the file is not a COCO annotation file.
        FileNotFoundError: no such file.
    """
    import numpy as np

    from fpn_plugins.data.coco_folder import read_coco
    from fpn_plugins.data.coco_report import size_class

    if not strides or len(strides) != len(sizes):
        raise ValueError(f"strides={list(strides)}, sizes={list(sizes)}: expected as many of both, and at least one")
    found: dict[str, list[tuple[float, int]]] = {}
    layouts: dict[tuple[int, int], np.ndarray] = {}
    for image, objects in _objects_by_image(read_coco(ann_file)):
        shape = tuple(-(-image[side] // divisibility) * divisibility for side in ("height", "width"))
        if shape not in layouts:
            layouts[shape] = np.concatenate(
                [_anchors(shape, stride, of_level, ratios) for stride, of_level in zip(strides, sizes, strict=True)]
            )
        overlaps = _overlaps(objects, layouts[shape])
        for entry, best, served in zip(objects, overlaps.max(1), (overlaps >= threshold).sum(1), strict=True):
            found.setdefault(size_class(entry["area"]), []).append((best, served))
    return {name: _summary(found[name], threshold) for name in SIZE_CLASSES if name in found}


def _objects_by_image(content: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    by_image: dict[int, list[dict[str, Any]]] = {}
    for entry in content["annotations"]:
        if not entry.get("iscrowd", 0) and min(entry["bbox"][2:]) > 0:
            by_image.setdefault(entry["image_id"], []).append(entry)
    return ((image, by_image[image["id"]]) for image in content["images"] if image["id"] in by_image)


def _anchors(shape: tuple[int, ...], stride: int, sizes: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """Left, top, width and height of each anchor of a level, shape ``N 4``."""
    import numpy as np

    y, x = (np.arange(0, side, stride, dtype=float) for side in shape)
    side, ratio = (values.ravel() for values in np.meshgrid(sizes, np.sqrt(ratios)))
    widths, heights = side / ratio, side * ratio
    x, y, index = (values.ravel() for values in np.meshgrid(x, y, np.arange(len(widths))))
    width, height = widths[index], heights[index]
    return np.stack([x - width / 2, y - height / 2, width, height], 1)


def _overlaps(objects: Sequence[dict[str, Any]], anchors: np.ndarray) -> np.ndarray:
    """Intersection over union of each object with each anchor."""
    import numpy as np
    from pycocotools import mask

    boxes = np.array([entry["bbox"] for entry in objects], float)
    return np.asarray(mask.iou(boxes, anchors, [0] * len(anchors)))


def _summary(found: Sequence[tuple[float, int]], threshold: float) -> AnchorReach:
    import numpy as np

    best, positives = (np.array(values, float) for values in zip(*found, strict=True))
    return AnchorReach(len(found), float(best.mean()), float((best >= threshold).mean()), float(positives.mean()))
