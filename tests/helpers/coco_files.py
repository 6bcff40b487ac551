"""A small COCO annotation file without faults, with its images, for tests that put faults in."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

WIDTH, HEIGHT = 100, 80


def rle(left: int = 10, top: int = 10, side: int = 20) -> dict[str, Any]:
    """The compressed run-length encoding of a square, as JSON holds it."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[top : top + side, left : left + side] = 1
    encoded = mask_utils.encode(mask)
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


_GOOD = {
    "info": {},
    "images": [
        {"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT},
        {"id": 2, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
        {"id": 3, "file_name": "c.jpg", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "bbox": [10, 10, 20, 20],
            "area": 400,
            "iscrowd": 0,
            "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 3,
            "bbox": [0, 0, 40, 40.5],
            "area": 1600.0,
            "iscrowd": 0,
            "segmentation": {"size": [80, 100], "counts": [0, 1600, 6400]},
        },
        {
            "id": 3,
            "image_id": 2,
            "category_id": 7,
            "bbox": [0, 0, 99, 99],
            "area": 9801,
            "iscrowd": 0,
            "segmentation": [],
        },
        {
            "id": 4,
            "image_id": 2,
            "category_id": 7,
            "bbox": [5, 5, 5, 5],
            "area": 25,
            "iscrowd": 1,
            "segmentation": rle(5, 5, 5),
        },
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
}


def good_content() -> dict[str, Any]:
    """A fresh copy of the content, whose third annotation has no mask."""
    return copy.deepcopy(_GOOD)


def content_with_masks() -> dict[str, Any]:
    """The content with a mask in every annotation."""
    content = good_content()
    content["annotations"][2]["segmentation"] = rle()
    return content


def write_json(path: Path, content: Any) -> Path:
    """Write JSON into a folder that may not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_image(path: Path, size: tuple[int, int] = (WIDTH, HEIGHT), mode: str = "RGB", **options: Any) -> Path:
    """Write an image with some texture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def write_images(folder: Path, content: dict[str, Any]) -> None:
    """Write the images of a content."""
    for image in content["images"]:
        write_image(folder / image["file_name"], (int(image["width"]), int(image["height"])))


def write_folder(root: Path, train: dict[str, Any], val: dict[str, Any] | None = None) -> Path:
    """Write a COCO-format folder with both splits."""
    for split, content in (("train", train), ("val", train if val is None else val)):
        write_json(root / "annotations" / f"instances_{split}2017.json", content)
        write_images(root / f"{split}2017", good_content())
    return root
