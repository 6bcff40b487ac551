"""COCO's panoptic format: annotations of a synthetic scene, and finding a split of a panoptic data set in a folder.

    annotations/panoptic_train2017.json   segments of each image, and the categories of things and stuff
    annotations/panoptic_train2017/       an RGB PNG per image: R + 256 G + 256^2 B is the id of the pixel's segment
    annotations/instances_train2017.json  things alone, as for instance segmentation
    panoptic_stuff_train2017/             a grey PNG per image: 0 things, 1, 2, ... stuff, 255 void
    train2017/                            the images

The folder of grey PNGs is what Detectron2 trains semantic heads on (its ``datasets/prepare_panoptic_fpn.py`` makes it
for COCO); MMDetection derives the same from the RGB ones.
"""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .scene import Scene, extent
from .shapes import CATEGORIES
from .stuff import STUFF

_COLORS = (
    (220, 60, 50),
    (60, 120, 220),
    (240, 190, 40),
    (150, 80, 190),
    (110, 110, 110),
    (90, 160, 90),
    (60, 170, 180),
)


@dataclass(frozen=True)
class PanopticSplit:
    """One split of a panoptic data set.

    Attributes:
        image_dir: folder of the images.
        ann_file: panoptic annotation file.
        mask_dir: folder of the RGB PNGs.
        instances_file: annotation file of the things alone.
        stuff_dir: folder of the grey PNGs.
        things: names by category id, in ascending order of id.
        stuff: the same of the stuff.
    """

    image_dir: Path
    ann_file: Path
    mask_dir: Path
    instances_file: Path
    stuff_dir: Path
    things: dict[int, str]
    stuff: dict[int, str]


def find_panoptic_split(root: str | os.PathLike[str], split: str) -> PanopticSplit:
    """Find the files of a split in COCO's own layout.

    Args:
        root: folder of the data set.
        split: `"train"` or `"val"`.

    Raises:
        ValueError: the panoptic file is not one: its categories do not say what is a thing.
        FileNotFoundError: files or folders are missing; lists them.
    """
    root = Path(root)
    annotations, name = root / "annotations", f"{split}2017"
    ann_file = annotations / f"panoptic_{name}.json"
    mask_dir, stuff_dir = annotations / f"panoptic_{name}", root / f"panoptic_stuff_{name}"
    instances_file, image_dir = annotations / f"instances_{name}.json", root / name
    missing = [str(path) for path in (ann_file, mask_dir, instances_file, stuff_dir, image_dir) if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"root={str(root)!r} has no panoptic split {split!r}: {', '.join(missing)} missing. Make a synthetic set "
            "with panoptic=True (make_synthetic_coco.py --panoptic); for COCO, Detectron2's prepare_panoptic_fpn.py "
            "makes the panoptic_stuff_* folders"
        )
    things, stuff = _categories(ann_file, ann_file.stat().st_mtime_ns)
    return PanopticSplit(image_dir, ann_file, mask_dir, instances_file, stuff_dir, dict(things), dict(stuff))


@lru_cache(maxsize=16)
def _categories(path: Path, changed: int) -> tuple[tuple[tuple[int, str], ...], ...]:
    """Ids and names of things and of stuff; COCO's file takes seconds to read, and a config is built more than once."""
    categories = json.loads(path.read_text(encoding="utf-8")).get("categories", [])
    if not categories or any("isthing" not in category for category in categories):
        raise ValueError(f"{str(path)!r} is not a panoptic annotation file: its categories have no 'isthing'")
    ordered = sorted(categories, key=lambda category: category["id"])
    return tuple(
        tuple((category["id"], category["name"]) for category in ordered if category["isthing"] == kind)
        for kind in (1, 0)
    )


def panoptic_segments(scene: Scene) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Segments of a scene with stuff; every pixel belongs to one.

    Args:
        scene: with `stuff`.

    Returns:
        Segment id of each pixel (int32, shape H x W, from 1) and COCO's `segments_info`: one with `iscrowd = 1` for all
        members of a crowd region, the other things from back to front, then stuff.

    Raises:
        ValueError: the scene has no stuff.
    """
    crowd = [index for index, o in enumerate(scene.objects) if o.is_crowd]
    groups = [crowd] if crowd else []
    groups += [[index] for index, o in enumerate(scene.objects) if not o.is_crowd]
    found = [
        (np.isin(scene.owner, group), CATEGORIES.index(scene.objects[group[0]].category), int(group is crowd))
        for group in groups
    ]
    behind = scene.owner < 0
    found += [((_stuff_of(scene) == kind) & behind, len(CATEGORIES) + kind, 0) for kind in range(len(STUFF))]
    ids = np.zeros((scene.height, scene.width), dtype=np.int32)
    segments: list[dict[str, Any]] = []
    for mask, category, is_crowd in found:
        if mask.any():
            ids[mask] = len(segments) + 1
            segments.append({"id": len(segments) + 1, "category_id": category + 1, "iscrowd": is_crowd, **extent(mask)})
    return ids, segments


def ids_as_rgb(ids: np.ndarray) -> np.ndarray:
    """Segment ids (H x W) as the pixels of COCO's PNG (uint8, H x W x 3)."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def stuff_labels(scene: Scene) -> np.ndarray:
    """Detectron2's semantic labels of a scene: 0 for things, 1 + index for stuff. uint8, shape H x W."""
    return np.where(scene.owner < 0, _stuff_of(scene) + 1, 0).astype(np.uint8)


def _stuff_of(scene: Scene) -> np.ndarray:
    if scene.stuff is None:
        raise ValueError("the scene has no stuff: set scene.stuff = draw_stuff(scene.height, scene.width, rng) first")
    return scene.stuff


def panoptic_categories() -> list[dict[str, Any]]:
    """COCO's `categories` of the synthetic set: things have the ids that they have for instance segmentation."""
    return [
        {
            "id": number,
            "name": name,
            "supercategory": "shape" if name in CATEGORIES else "background",
            "isthing": int(name in CATEGORIES),
            "color": list(color),
        }
        for number, (name, color) in enumerate(zip((*CATEGORIES, *STUFF), _COLORS, strict=True), start=1)
    ]
