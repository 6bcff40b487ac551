"""Draw detections in COCO's results format on their images, alone or next to the ground truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import needed_for
from ..files import write_atomically
from .figures import check_png, new_figure, save_png
from .labels import Mark, annotate, color_of

if TYPE_CHECKING:
    import numpy as np


def annotate_objects(
    image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], enlarge: bool = True
) -> np.ndarray:
    """Draw objects with boxes, masks and labels into a copy of an image.

    Args:
        image: ``H W 3``, RGB, 0..255.
        objects: COCO annotations or results; ``segmentation`` (polygons or RLE) and ``score`` are optional.
        names: category id -> name; its order selects the colors.
        enlarge: see `annotate`.
    """
    order = {category: index for index, category in enumerate(names)}
    marks = []
    for entry in objects:
        label, score = names[entry["category_id"]], entry.get("score")
        mask = _mask(entry, image.shape[0], image.shape[1])
        text = label if score is None else f"{label} {score:.2f}"
        color = color_of(order[entry["category_id"]])
        marks.append(Mark(entry["bbox"], color, text, mask, 1.0 if score is None else score))
    return annotate(image, marks, enlarge)


def draw_objects(
    axis: Any, image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], title: str = ""
) -> None:
    """Draw objects on a matplotlib axis with a title; for the other arguments, see `annotate_objects`."""
    axis.imshow(annotate_objects(image, objects, names))
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def draw_detections(
    image: np.ndarray, objects: Sequence[Mapping[str, Any]], names: Mapping[int, str], path: str | os.PathLike[str]
) -> Path:
    """Draw objects on an image (see `annotate_objects`), and write it to the PNG ``path``, which is returned.

    The PNG has the size of the image; small images are enlarged so that labels are legible.
    """
    with needed_for("pictures"):
        from PIL import Image

    path = check_png(path)
    with write_atomically(path) as temporary:
        Image.fromarray(annotate_objects(image, objects, names)).save(temporary, compress_level=3)
    return path


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
    return save_png(figure, path, dpi=160)


def _mask(entry: Mapping[str, Any], height: int, width: int) -> np.ndarray | None:
    with needed_for("pictures of masks"):
        import numpy as np
        from pycocotools import mask as mask_utils

    shape = entry.get("segmentation")
    if not shape:
        return None
    if not isinstance(shape, Mapping):
        polygons = [np.asarray(polygon, float).ravel().tolist() for polygon in shape]
        compressed = mask_utils.merge(mask_utils.frPyObjects(polygons, height, width))
    else:
        compressed = mask_utils.frPyObjects(dict(shape), height, width) if isinstance(shape["counts"], list) else shape
    return mask_utils.decode(compressed).astype(bool)
