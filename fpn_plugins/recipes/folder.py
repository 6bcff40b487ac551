"""Describe the data that a recipe is planned for."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import number
from ..data import CocoSplit, find_split
from ..data.coco_folder import read_coco
from ..data.data_check import read_checked
from ..extras import needed_for
from ..files import write_atomically

with needed_for("recipes"):
    import numpy as np


@dataclass(frozen=True)
class TrainingData:
    """Data set in COCO's format, as a recipe needs to know it.

    Attributes:
        train: training split.
        val: validation split.
        pictures: number of training images with objects.
        val_pictures: number of validation images.
        boxes: widths and heights of the training objects divided by their image's shorter side, ``2 N``.
        sides: median shorter and longer side of the training images in pixels.
        masks: whether every training object has a mask.
    """

    train: CocoSplit
    val: CocoSplit
    pictures: int
    val_pictures: int
    boxes: np.ndarray
    sides: tuple[int, int]
    masks: bool


def read_folder(
    root: str | os.PathLike[str], val_part: float | None = None, split_into: str | os.PathLike[str] | None = None
) -> TrainingData:
    """Read a folder in a layout of `fpn_plugins.data.find_split`.

    Args:
        root: folder of the data set.
        val_part: share of the training images that are set aside for validation, above 0 and below 1, for a folder
            without a validation split; the choice is the same every time.
        split_into: folder for the two annotation files that ``val_part`` makes.

    Raises:
        FileNotFoundError: no such folder, or a split is missing; lists the expected files.
        ValueError: no objects to train on, ``val_part`` out of range or for a folder that has a validation split, or a
            file that is not a COCO file.
    """
    train = find_split(root, "train")
    try:
        val = find_split(root, "val")
    except FileNotFoundError as error:
        if val_part is None:
            raise FileNotFoundError(f"{error}; or set a part of the training images aside: --val-part 0.2") from error
        assert split_into is not None
        train, val = set_aside(train, val_part, Path(split_into))
    else:
        if val_part is not None:
            raise ValueError(f"val_part={val_part}: root={str(root)!r} has a validation split; leave --val-part out")
    content = read_checked(train.ann_file)
    images = {image["id"]: image for image in content["images"]}
    objects = _objects(content, train.ann_file)
    used = [images[number] for number in dict.fromkeys(a["image_id"] for a in objects)]
    shorter = {image["id"]: min(image["width"], image["height"]) for image in used}
    boxes = np.array([[side / shorter[a["image_id"]] for side in a["bbox"][2:]] for a in objects], float).T
    sides = np.median([sorted((image["width"], image["height"])) for image in used], axis=0)
    return TrainingData(
        *(train, val, len(used), len(read_coco(val.ann_file, annotated=False)["images"]), boxes),
        (round(sides[0]), round(sides[1])),
        all(a.get("segmentation") for a in objects),
    )


def set_aside(train: CocoSplit, part: float, folder: Path) -> tuple[CocoSplit, CocoSplit]:
    """Write the annotation files ``train.json`` and ``val.json`` of a split's two parts.

    Raises:
        ValueError: ``part`` is not between 0 and 1, or one part would have no image with objects.
    """
    if not 0 < number("val_part", part) < 1:
        raise ValueError(f"val_part={part} must be above 0 and below 1, such as 0.2")
    content = read_checked(train.ann_file)
    used = sorted({a["image_id"] for a in _objects(content, train.ann_file)}, key=str)
    random.Random(0).shuffle(used)
    count = max(1, round(part * len(used)))
    if count >= len(used):
        raise ValueError(f"val_part={part}: {len(used)} images with objects are too few to set {count} of them aside")
    chosen = set(used[:count])
    found = []
    for name in ("train", "val"):
        path = folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(_part(content, chosen, name == "val")), encoding="utf-8")
        found.append(CocoSplit(path.resolve(), train.image_dir, train.categories))
    return found[0], found[1]


def _objects(content: dict[str, Any], ann_file: Path) -> list[dict[str, Any]]:
    found = [a for a in content["annotations"] if not a.get("iscrowd") and min(a["bbox"][2:]) > 0]
    if not found:
        raise ValueError(f"{str(ann_file)!r} has no objects with a box; there is nothing to train on")
    return found


def _part(content: dict[str, Any], chosen: set[Any], inside: bool) -> dict[str, Any]:
    images = [image for image in content["images"] if (image["id"] in chosen) == inside]
    objects = [entry for entry in content["annotations"] if (entry["image_id"] in chosen) == inside]
    return {**content, "images": images, "annotations": objects}
