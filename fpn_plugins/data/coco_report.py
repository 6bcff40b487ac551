"""Count the content of a COCO annotation file."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .json_values import is_number

SIZE_CLASSES: dict[str, float] = {"small": 32.0**2, "medium": 96.0**2, "large": math.inf}
"""COCO's size classes: name -> area in px at which the next class begins."""


def size_class(area: float) -> str:
    """Return COCO's size class of an area in px, see `SIZE_CLASSES`."""
    return next((name for name, limit in SIZE_CLASSES.items() if area < limit), "large")


@dataclass(frozen=True)
class CocoReport:
    """Content of a checked annotation file.

    Attributes:
        ann_file: annotation file.
        images: number of images.
        empty_images: images without any annotation.
        annotations: number of annotations, crowd regions included.
        crowd: number of crowd regions.
        small: number of objects (without crowd regions, as in the next three) of less than 32 x 32 px.
        medium: number of objects of less than 96 x 96 px.
        large: number of other objects.
        per_category: category name -> number of objects, in order of category id.
        without_mask: objects without segmentation: fine for boxes, not for masks.
        boxes_outside: boxes that extend beyond their image by more than 1 px; both toolboxes clip them.
        zero_size_boxes: boxes without width or height; both toolboxes skip them, and COCO's own train2017 has two.
        id_zero: annotations with id 0, which COCO's evaluation reads as "not matched", so a match counts as a miss.
        modes: Pillow's color mode -> number of image files, of those whose header was read.
    """

    ann_file: Path
    images: int
    empty_images: int
    annotations: int
    crowd: int
    small: int
    medium: int
    large: int
    per_category: dict[str, int]
    without_mask: int
    boxes_outside: int
    zero_size_boxes: int
    id_zero: int
    modes: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Format as a compact table; counts of suspicious objects appear only if nonzero."""
        warnings = [
            ("without mask", self.without_mask),
            ("boxes outside image", self.boxes_outside),
            ("boxes of zero size", self.zero_size_boxes),
            ("annotations of id 0", self.id_zero),
        ]
        rows = [
            ("images", f"{self.images} ({self.empty_images} without annotations)"),
            ("annotations", f"{self.annotations} ({self.crowd} crowd regions)"),
            ("small/medium/large", f"{self.small}/{self.medium}/{self.large}"),
            *((name, str(count)) for name, count in warnings if count),
            *self._image_rows(),
            ("categories", str(len(self.per_category))),
            *((f"  {name}", str(count)) for name, count in self.per_category.items()),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join([str(self.ann_file), *(f"  {name:<{width}}  {value}" for name, value in rows)])

    def _image_rows(self) -> list[tuple[str, str]]:
        """Rows about the image files: color modes other than RGB, and how many were read if not all."""
        read = sum(self.modes.values())
        modes = ", ".join(f"{mode} {count}" for mode, count in self.modes.items())
        rows = [("color modes", modes)] if set(self.modes) - {"RGB"} else []
        return rows + (
            [("headers read", f"{read} of {self.images} (--all reads all)")] if 0 < read < self.images else []
        )


def area_of(annotation: dict[str, Any]) -> float:
    """Return the area of an annotation in px, that of its box if it states none; Detectron2 trains without areas."""
    area: Any = annotation.get("area")
    _, _, width, height = annotation["bbox"]
    return float(area if is_number(area) else width * height)


def _leaves_image(box: list[float], image: dict[str, Any]) -> bool:
    x, y, width, height = box
    return x < -1 or y < -1 or x + width > image["width"] + 1 or y + height > image["height"] + 1


def make_report(ann_file: Path, content: dict[str, Any], modes: dict[str, int] | None = None) -> CocoReport:
    """Count the content of a file.

    Args:
        ann_file: annotation file, for the title of the table.
        content: result of `read_coco` without the problems that `check_coco` reports.
        modes: color mode -> number of image files.
    """
    images = {image["id"]: image for image in content["images"]}
    annotations = content["annotations"]
    objects = [annotation for annotation in annotations if not annotation.get("iscrowd")]
    sizes = Counter(size_class(area_of(annotation)) for annotation in objects)
    per_category = Counter(annotation["category_id"] for annotation in objects)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    return CocoReport(
        ann_file=ann_file,
        images=len(images),
        empty_images=len(images) - len({annotation["image_id"] for annotation in annotations}),
        annotations=len(annotations),
        crowd=len(annotations) - len(objects),
        small=sizes["small"],
        medium=sizes["medium"],
        large=sizes["large"],
        per_category={category["name"]: per_category[category["id"]] for category in categories},
        without_mask=sum(not annotation.get("segmentation") for annotation in objects),
        boxes_outside=sum(_leaves_image(a["bbox"], images[a["image_id"]]) for a in annotations),
        zero_size_boxes=sum(0 in a["bbox"][2:] for a in annotations),
        id_zero=sum(a["id"] == 0 for a in annotations),
        modes=modes or {},
    )
