"""COCO's panoptic annotations of a synthetic scene: segments, PNGs and categories."""

from pathlib import Path
from typing import Any

import numpy as np

from fpn_plugins.files import write_atomically

from .masks import extent
from .scene import Scene
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


def panoptic_segments(scene: Scene) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """List the segments of a scene with stuff; every pixel belongs to one segment.

    Args:
        scene: scene with `stuff`.

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
    """Convert segment ids (H x W) to the pixels of COCO's PNG (uint8, H x W x 3)."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def stuff_labels(scene: Scene) -> np.ndarray:
    """Detectron2's semantic labels of a scene: 0 for things, 1 + index for stuff; uint8, shape H x W."""
    return np.where(scene.owner < 0, _stuff_of(scene) + 1, 0).astype(np.uint8)


def _stuff_of(scene: Scene) -> np.ndarray:
    if scene.stuff is None:
        raise ValueError("the scene has no stuff: set scene.stuff = draw_stuff(scene.height, scene.width, rng) first")
    return scene.stuff


def write_panoptic(scene: Scene, name: str, mask_dir: Path, stuff_dir: Path) -> list[dict[str, Any]]:
    """Write the two PNGs of a scene with stuff.

    Args:
        scene: scene with `stuff`.
        name: name of the files, without suffix.
        mask_dir: folder of the RGB PNG.
        stuff_dir: folder of the gray PNG.

    Returns:
        The scene's segments.
    """
    from PIL import Image

    ids, segments = panoptic_segments(scene)
    for folder, pixels in ((mask_dir, ids_as_rgb(ids)), (stuff_dir, stuff_labels(scene))):
        with write_atomically(folder / f"{name}.png") as temporary:
            Image.fromarray(pixels).save(temporary, format="PNG")
    return segments


def panoptic_categories() -> list[dict[str, Any]]:
    """COCO's `categories` of the synthetic set; things have the same ids as for instance segmentation."""
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
