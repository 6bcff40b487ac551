"""Draw detections in COCO's results format on their images, alone or next to the ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import needed_for
from .figures import draw_box, new_figure, save_png

if TYPE_CHECKING:
    import numpy as np


def draw_objects(
    axis: Any, image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], title: str = ""
) -> None:
    """Draw objects with boxes, masks and labels on a matplotlib axis.

    Args:
        axis: matplotlib axis.
        image: ``H W 3``, RGB, 0..255.
        objects: COCO annotations or results; ``segmentation`` (RLE) and ``score`` are optional.
        names: category id -> name.
        title: title of the axis.
    """
    with needed_for("pictures"):
        import matplotlib
        import numpy as np

    palette = matplotlib.colormaps["tab10"]
    order = {category: index for index, category in enumerate(sorted(names))}
    overlay = np.zeros((*image.shape[:2], 4))
    for entry in objects:
        color = palette(order[entry["category_id"]] % 10)
        mask = _mask(entry, image.shape[0], image.shape[1])
        if mask is not None:
            overlay[mask] = (*color[:3], 0.45)
        label = names[entry["category_id"]] + (f" {entry['score']:.2f}" if "score" in entry else "")
        draw_box(axis, entry["bbox"], color, label)
    axis.imshow(image)
    axis.imshow(overlay)
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def draw_detections(
    image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], path: str | os.PathLike[str]
) -> Path:
    """Draw objects (see `draw_objects`) on an image, and write it to the PNG ``path``, which is returned.

    The PNG has the size of the image; small images are enlarged so that labels are legible.
    """
    height, width = image.shape[:2]
    figure = new_figure(width / 100, height / 100)
    figure.set_layout_engine("none")
    draw_objects(figure.add_axes((0, 0, 1, 1)), image, objects, names)
    return save_png(figure, path, dpi=max(100, 60000 // max(height, width)))


def draw_predictions(
    ann_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    predictions: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | os.PathLike[str],
    num_images: int = 4,
    min_score: float = 0.5,
) -> Path:
    """Draw the ground truth and the predictions of one or more runs, one row per image.

    Args:
        ann_file: COCO annotation file.
        image_dir: folder of the images.
        predictions: title of a run -> results in COCO's format.
        path: PNG file to write; it is returned.
        num_images: number of images to draw, those with the most objects.
        min_score: lowest score to draw.
    """
    with needed_for("pictures"):
        import numpy as np
        from PIL import Image
        from pycocotools.coco import COCO

    truth = COCO(os.fspath(ann_file))
    names = {category["id"]: category["name"] for category in truth.loadCats(truth.getCatIds())}
    ids = sorted(truth.getImgIds(), key=lambda i: -len(truth.getAnnIds(i, iscrowd=False)))[:num_images]
    figure = new_figure(3.4 * (1 + len(predictions)), 2.8 * len(ids))
    axes = figure.subplots(len(ids), 1 + len(predictions), squeeze=False)
    for line, image_id in zip(axes, ids, strict=True):
        image = np.asarray(Image.open(Path(image_dir) / truth.loadImgs(image_id)[0]["file_name"]).convert("RGB"))
        annotations = truth.loadAnns(truth.getAnnIds(image_id))
        objects = [{**entry, "segmentation": truth.annToRLE(entry)} for entry in annotations]
        draw_objects(line[0], image, objects, names, "ground truth")
        for axis, (title, results) in zip(line[1:], predictions.items(), strict=True):
            shown = [r for r in results if r["image_id"] == image_id and r["score"] >= min_score]
            draw_objects(axis, image, shown, names, f"{title}, score >= {min_score}")
    return save_png(figure, path, dpi=120)


def _mask(entry: Mapping[str, Any], height: int, width: int) -> np.ndarray | None:
    with needed_for("pictures of masks"):
        from pycocotools import mask as mask_utils

    rle = entry.get("segmentation")
    if not isinstance(rle, Mapping):
        return None
    compressed = mask_utils.frPyObjects(dict(rle), height, width) if isinstance(rle["counts"], list) else rle
    return mask_utils.decode(compressed).astype(bool)
