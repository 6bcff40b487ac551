"""Predictions in COCO's results format, drawn on their images next to the ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .figures import new_figure, save_png

if TYPE_CHECKING:
    import numpy as np


def draw_objects(
    axis: Any, image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], title: str
) -> None:
    """Draw objects with boxes, masks and labels on a matplotlib axis.

    Args:
        axis: matplotlib axis.
        image: ``H W 3``, RGB, 0..255.
        objects: COCO annotations or results; ``segmentation`` (RLE) and ``score`` are optional.
        names: category id -> name.
        title: title of the axis.
    """
    import matplotlib
    import numpy as np
    from matplotlib.patches import Rectangle

    palette = matplotlib.colormaps["tab10"]
    order = {category: index for index, category in enumerate(sorted(names))}
    overlay = np.zeros((*image.shape[:2], 4))
    for entry in objects:
        color = palette(order[entry["category_id"]] % 10)
        mask = _mask(entry, image.shape[0], image.shape[1])
        if mask is not None:
            overlay[mask] = (*color[:3], 0.45)
        x, y, w, h = entry["bbox"]
        axis.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=color, linewidth=1.2))
        label = names[entry["category_id"]] + (f" {entry['score']:.2f}" if "score" in entry else "")
        box = {"facecolor": color, "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
        axis.text(x, max(y - 2, 6), label, fontsize=5.5, color="white", bbox=box, clip_on=True)
    axis.imshow(image)
    axis.imshow(overlay)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def draw_predictions(
    ann_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    num_images: int = 4,
    min_score: float = 0.5,
) -> Path:
    """Draw ground truth and the predictions of one or more runs, a row per image, into a PNG.

    Args:
        ann_file: COCO annotations.
        image_dir: folder of the images.
        predictions: run title -> results.
        path: PNG file.
        num_images: the images with the most objects are shown.
        min_score: predictions below are left out.
    """
    import numpy as np
    from PIL import Image
    from pycocotools.coco import COCO

    truth = COCO(os.fspath(ann_file))
    names = {category["id"]: category["name"] for category in truth.loadCats(truth.getCatIds())}
    ids = sorted(truth.getImgIds(), key=lambda i: -len(truth.getAnnIds(i, iscrowd=False)))[:num_images]
    figure = new_figure(3.4 * (1 + len(predictions)), 2.8 * len(ids))
    axes = figure.subplots(len(ids), 1 + len(predictions), squeeze=False)
    for line, image_id in zip(axes, ids, strict=False):
        image = np.asarray(Image.open(Path(image_dir) / truth.loadImgs(image_id)[0]["file_name"]).convert("RGB"))
        annotations = [
            {**entry, "segmentation": truth.annToRLE(entry)} for entry in truth.loadAnns(truth.getAnnIds(image_id))
        ]
        draw_objects(line[0], image, annotations, names, "ground truth")
        for axis, (title, results) in zip(line[1:], predictions.items(), strict=False):
            shown = [r for r in results if r["image_id"] == image_id and r["score"] >= min_score]
            draw_objects(axis, image, shown, names, f"{title}, score >= {min_score}")
    return save_png(figure, path, dpi=120)


def _mask(entry: Mapping[str, Any], height: int, width: int) -> np.ndarray | None:
    from pycocotools import mask as mask_utils

    segmentation = entry.get("segmentation")
    if not isinstance(segmentation, Mapping):
        return None
    if isinstance(segmentation["counts"], list):
        segmentation = mask_utils.frPyObjects(dict(segmentation), height, width)
    return mask_utils.decode(segmentation).astype(bool)
