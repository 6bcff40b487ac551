"""Find the files of a panoptic data set in COCO's layout.

    annotations/panoptic_train2017.json   segments of each image, and the categories of things and stuff
    annotations/panoptic_train2017/       an RGB PNG per image: R + 256 G + 256^2 B is the id of the pixel's segment
    annotations/instances_train2017.json  only things, as for instance segmentation
    panoptic_stuff_train2017/             a gray PNG per image: 0 things, 1, 2, ... stuff, 255 void
    train2017/                            the images

Detectron2 trains semantic heads on the gray PNGs (its ``datasets/prepare_panoptic_fpn.py`` makes them for COCO);
MMDetection derives the same labels from the RGB PNGs.
"""

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class PanopticSplit:
    """One split of a panoptic data set.

    Attributes:
        image_dir: folder of the images.
        ann_file: panoptic annotation file.
        mask_dir: folder of the RGB PNGs.
        instances_file: annotation file of things only.
        stuff_dir: folder of the gray PNGs.
        things: category id -> name of the things, in ascending order of id.
        stuff: category id -> name of the stuff, in ascending order of id.
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
        split: ``"train"`` or ``"val"``.

    Raises:
        ValueError: the file is not a panoptic annotation file, because its categories have no ``isthing``.
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
    """Read and cache ids and names of things and stuff: COCO's file takes seconds, and configs are built repeatedly."""
    categories = json.loads(path.read_text(encoding="utf-8")).get("categories", [])
    if not categories or any("isthing" not in category for category in categories):
        raise ValueError(f"{str(path)!r} is not a panoptic annotation file: its categories have no 'isthing'")
    ordered = sorted(categories, key=lambda category: category["id"])
    return tuple(
        tuple((category["id"], category["name"]) for category in ordered if category["isthing"] == kind)
        for kind in (1, 0)
    )
