"""Reduce a COCO-format folder to a few images, to check that a detector can overfit them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..checks import positive_int
from ..files import locked
from .coco_folder import find_split, read_coco


def make_coco_subset(root: str | os.PathLike[str], target: str | os.PathLike[str], num_images: int = 16) -> Path:
    """Copy the first training images with objects to a new folder, as both its train split and its val split.

    Args:
        root: COCO-format folder in a layout of `find_split`.
        target: folder to write in COCO's layout; must not exist.
        num_images: number of images.

    Returns:
        ``target``.

    Raises:
        FileExistsError: ``target`` exists.
        ValueError: ``num_images`` is below 1, or fewer images have objects.
    """
    target = Path(target)
    if target.exists():
        raise FileExistsError(f"target={str(target)!r} exists; remove it or choose another")
    split = find_split(root, "train")
    content = select_images(read_coco(split.ann_file), num_images)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.partial")
    with locked(target):
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            for name in ("train", "val"):
                _write_split(temporary, name, content, split.image_dir)
            os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def _write_split(root: Path, name: str, content: dict[str, Any], image_dir: Path) -> None:
    for image in content["images"]:
        file = root / f"{name}2017" / image["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image_dir / image["file_name"], file)
    ann_file = root / "annotations" / f"instances_{name}2017.json"
    ann_file.parent.mkdir(exist_ok=True)
    ann_file.write_text(json.dumps(content), encoding="utf-8")


def select_images(content: dict[str, Any], num_images: int) -> dict[str, Any]:
    """Reduce COCO content to the first images by id with objects; crowd regions do not count."""
    positive_int("num_images", num_images)
    filled = sorted({entry["image_id"] for entry in content["annotations"] if not entry.get("iscrowd")})
    if len(filled) < num_images:
        raise ValueError(f"num_images={num_images}, but only {len(filled)} images have objects; ask for fewer")
    chosen = set(filled[:num_images])
    for name in (image["file_name"] for image in content["images"] if image["id"] in chosen):
        if os.path.isabs(name) or ".." in Path(name).parts:
            raise ValueError(f"file_name={name!r} leads out of the image folder, where nothing is written; rename it")
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [entry for entry in content["annotations"] if entry["image_id"] in chosen],
    }
