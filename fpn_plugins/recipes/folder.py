"""Describe the data that a recipe is planned for."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checks import number
from ..data import CocoSplit, find_split
from ..data.coco_check import is_object
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
        boxes: widths and heights of the training objects, as far as they are in their image, divided by the image's
            shorter side, ``2 N``.
        aspects: longer side of each object's image, divided by the shorter one, ``N``.
        sides: median shorter and longer side of the training images in pixels.
        masks: whether every training object has a mask.
        files: training images with objects.
    """

    train: CocoSplit
    val: CocoSplit
    pictures: int
    val_pictures: int
    boxes: np.ndarray
    aspects: np.ndarray
    sides: tuple[int, int]
    masks: bool
    files: tuple[Path, ...] = ()

    def resized(self, size: tuple[int, int]) -> np.ndarray:
        """Return the boxes in pixels, ``2 N``, after resizing to a shorter side and a limit of the longer side."""
        return np.asarray(self.boxes * np.minimum(size[0], size[1] / self.aspects))


def read_folder(
    root: str | os.PathLike[str],
    val_part: float | None = None,
    split_into: str | os.PathLike[str] | None = None,
    masks: bool = True,
) -> TrainingData:
    """Read a folder in a layout of `fpn_plugins.data.find_split`.

    Args:
        root: folder of the data set.
        val_part: share of the training images that are set aside for validation, above 0 and below 1, for a folder
            without a validation split; the choice is the same every time.
        split_into: folder for the two parts that ``val_part`` makes, in a layout of `fpn_plugins.data.find_split`.
        masks: whether the toolbox reads masks; without, malformed ones are no error, and the data counts as without.

    Raises:
        FileNotFoundError: no such folder, or a split is missing; lists the expected files.
        FileExistsError: another ``val_part`` was made in ``split_into``, on which a training may depend.
        ValueError: no objects to train on or to evaluate, ``val_part`` out of range or for a folder that has a
            validation split, or a file that is not a COCO file.
    """
    train = find_split(root, "train")
    try:
        val = find_split(root, "val")
    except FileNotFoundError as error:
        if val_part is None:
            raise FileNotFoundError(f"{error}; or set a part of the training images aside: --val-part 0.2") from error
        assert split_into is not None
        train, val = set_aside(train, val_part, Path(split_into), masks)
    else:
        if val_part is not None:
            raise ValueError(f"val_part={val_part}: root={str(root)!r} has a validation split; leave --val-part out")
    content = read_checked(train.ann_file, masks)
    images = {image["id"]: image for image in content["images"]}
    objects = _objects(content, train.ann_file)
    used = [images[number] for number in dict.fromkeys(a["image_id"] for a in objects)]
    stored = np.sort([[images[a["image_id"]][side] for side in ("width", "height")] for a in objects]).T
    boxes = np.array([_sides_inside(a["bbox"], images[a["image_id"]]) for a in objects]).T / stored[0]
    sides = np.median([sorted((image["width"], image["height"])) for image in used], axis=0)
    return TrainingData(
        *(train, val, len(used), _count_evaluated(val.ann_file), boxes, stored[1] / stored[0]),
        (round(sides[0]), round(sides[1])),
        masks and all(a.get("segmentation") for a in objects),
        tuple(train.image_dir / image["file_name"] for image in used),
    )


def set_aside(train: CocoSplit, part: float, folder: Path, masks: bool = True) -> tuple[CocoSplit, CocoSplit]:
    """Write the annotation files of a split's two parts, and link the images beside them.

    The folder then is a data set in itself, for commands with ``--root``.

    Raises:
        FileExistsError: one of the files exists with other content.
        ValueError: ``part`` is not between 0 and 1, or one part would have no image with objects.
    """
    if not 0 < number("val_part", part) < 1:
        raise ValueError(f"val_part={part} must be above 0 and below 1, such as 0.2")
    content = read_checked(train.ann_file, masks)
    used = sorted({a["image_id"] for a in _objects(content, train.ann_file)}, key=str)
    random.Random(0).shuffle(used)
    count = max(1, round(part * len(used)))
    if count >= len(used):
        raise ValueError(f"val_part={part}: {len(used)} images with objects are too few to set {count} of them aside")
    chosen = set(used[:count])
    annotations = folder / "annotations"
    parts = {name: _part(content, chosen, name == "val") for name in ("train", "val")}
    texts = {annotations / f"{name}.json": json.dumps(part) for name, part in parts.items()}
    for path, text in texts.items():
        # images for validation must not become images for the training that is continued there
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(
                f"{str(path)!r} exists with another choice of images: leave --val-part and the data as they were, or "
                "give another --work-dir"
            )
    annotations.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for name in parts:
        with suppress(OSError):  # it is there, or the file system has no links; training does not need it
            (folder / name).symlink_to(train.image_dir.resolve(), target_is_directory=True)
    first, second = (CocoSplit(path.resolve(), train.image_dir, train.categories) for path in texts)
    return first, second


def _objects(content: dict[str, Any], ann_file: Path) -> list[dict[str, Any]]:
    images = {image["id"]: image for image in content["images"]}
    found = [a for a in content["annotations"] if is_object(a, images[a["image_id"]])]
    if not found:
        raise ValueError(
            f"{str(ann_file)!r} has no objects with a box of at least 1 px in its image; there is nothing to train on"
        )
    return found


def _sides_inside(box: Sequence[float], image: dict[str, Any]) -> list[float]:
    """Return width and height of the part of a box that is in its image, as both toolboxes clip it."""
    pairs = zip(box[:2], box[2:], (image["width"], image["height"]), strict=True)
    return [min(start + side, limit) - max(start, 0) for start, side, limit in pairs]


def _count_evaluated(ann_file: Path) -> int:
    """Count the images of a file for validation, by whose AP the best weights and the end are chosen."""
    content = read_coco(ann_file, annotated=False)
    if all(a.get("iscrowd") for a in content["annotations"]):
        raise ValueError(
            f"{str(ann_file)!r} has no objects to evaluate, and the best weights are chosen by the AP: annotate its "
            "images, or move images with objects there"
        )
    return len(content["images"])


def _part(content: dict[str, Any], chosen: set[Any], inside: bool) -> dict[str, Any]:
    images = [image for image in content["images"] if (image["id"] in chosen) == inside]
    objects = [entry for entry in content["annotations"] if (entry["image_id"] in chosen) == inside]
    part = {**content, "images": images, "annotations": objects}
    if inside:  # evaluations stop without keys that trainings do not need
        part.setdefault("info", {})
        part["annotations"] = [entry if "iscrowd" in entry else {**entry, "iscrowd": 0} for entry in objects]
    return part
