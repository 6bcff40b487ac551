"""Check a COCO annotation file for problems that make training fail late or learn the wrong thing."""

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .coco_folder import category_names, is_integer, read_coco
from .coco_report import CocoReport, make_report

_EXAMPLES = 5


@dataclass
class _Problems:
    """Examples of each kind of problem; kinds are descriptions for the user."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, example: str | None) -> None:
        if example is not None:
            self.found.setdefault(kind, []).append(example)

    def add_duplicates(self, kind: str, values: Iterable[Any]) -> None:
        for value, count in Counter(map(repr, values)).items():
            if count > 1:
                self.add(kind, f"{value} ({count} times)")

    def raise_if_any(self, ann_file: Path) -> None:
        if not self.found:
            return
        lines = [
            f"  {len(examples)} x {kind}: {'; '.join(examples[:_EXAMPLES])}"
            + ("; ..." if len(examples) > _EXAMPLES else "")
            for kind, examples in self.found.items()
        ]
        raise ValueError(f"ann_file={str(ann_file)!r} cannot be trained on; correct it:\n" + "\n".join(lines))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _image_problem(image: dict[str, Any]) -> str | None:
    well_formed = (
        is_integer(image.get("id"))
        and isinstance(image.get("file_name"), str)
        and all(is_integer(image.get(side)) and image[side] > 0 for side in ("width", "height"))
    )
    return None if well_formed else repr({key: image.get(key) for key in ("id", "file_name", "width", "height")})


def _box_problem(box: Any) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return repr(box)
    return repr(box) if box[2] < 0 or box[3] < 0 else None


def _rle_problem(size: Any, counts: Any, image: dict[str, Any] | None) -> str | None:
    if image and size != [image["height"], image["width"]]:
        return f"RLE size {size!r}, image is [{image['height']}, {image['width']}] (height, width)"
    if isinstance(counts, str):
        return None
    if not isinstance(counts, list) or not all(map(is_integer, counts)):
        return f"RLE counts are a {type(counts).__name__}, expected a list of integers or a string"
    pixels = image["height"] * image["width"] if image else sum(counts)
    return None if sum(counts) == pixels else f"RLE covers {sum(counts)} of {pixels} px"


def _mask_problem(segmentation: Any, image: dict[str, Any] | None) -> str | None:
    """Describe the problem; ``None`` for valid polygons, for RLE of the image's size, and without a mask."""
    if isinstance(segmentation, dict):
        return _rle_problem(segmentation.get("size"), segmentation.get("counts"), image)
    if not isinstance(segmentation, list):
        return f"a {type(segmentation).__name__}"
    for polygon in segmentation:
        if not isinstance(polygon, list) or not all(map(_is_number, polygon)):
            return "a polygon is not a flat list of numbers"
        if len(polygon) < 6 or len(polygon) % 2:
            return f"a polygon of {len(polygon)} numbers"
    return None


def _check_classes(content: dict[str, Any], classes: Sequence[str] | None, problems: _Problems) -> None:
    names = category_names(content)
    ids = [category["id"] for category in content["categories"]]
    problems.add_duplicates("category id used twice", ids)
    problems.add_duplicates("category name used twice", names)
    if ids != sorted(ids):
        # mmdet numbers classes by their position in this list, Detectron2 by id
        problems.add("list of categories not in ascending order of id, so toolboxes would disagree", repr(ids))
    if classes is None:
        return
    both = f"the file has {list(names)}, the model {list(classes)}"
    unknown = [name for name in names if name not in classes]
    if unknown:
        problems.add("category of the file that the model does not have", f"{', '.join(map(repr, unknown))}: {both}")
    elif list(names) != list(classes)[: len(names)]:
        problems.add("order of categories differs from the model's, so labels would be swapped", both)


def _check_annotation(annotation: dict[str, Any], images: dict[int, Any], ids: set[int], problems: _Problems) -> None:
    number, image_id, category_id = (annotation.get(key) for key in ("id", "image_id", "category_id"))
    image = images.get(image_id) if isinstance(image_id, int) and is_integer(image_id) else None
    known_category = is_integer(category_id) and category_id in ids
    found = {
        "annotation without integer id": None if is_integer(number) else f"image_id {image_id!r}",
        "annotation of an unknown image": None if image else f"image_id {image_id!r}",
        "annotation of an unknown category": None if known_category else f"category_id {category_id!r}",
        "annotation whose bbox is not [x, y, width, height]": _box_problem(annotation.get("bbox")),
        "annotation without area (px)": None if _is_number(annotation.get("area")) else repr(annotation.get("area")),
        "annotation with malformed segmentation": _mask_problem(annotation.get("segmentation") or [], image),
    }
    for kind, problem in found.items():
        problems.add(kind, None if problem is None else f"annotation {number!r}: {problem}")


def _check_files(images: list[dict[str, Any]], image_dir: Path) -> None:
    # one listing instead of one query per image: seconds instead of minutes on network file systems
    listed = set(os.listdir(image_dir)) if image_dir.is_dir() else set()
    names = [image["file_name"] for image in images]
    missing = [name for name in names if name not in listed and not (image_dir / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} images are not in image_dir={str(image_dir)!r}"
            f"{'' if image_dir.is_dir() else ' (which is not a folder)'}: {', '.join(missing[:_EXAMPLES])}"
            f"{', ...' if len(missing) > _EXAMPLES else ''}; give the folder that 'file_name' is relative to"
        )


def check_content(ann_file: Path, content: dict[str, Any], classes: Sequence[str] | None = None) -> None:
    """Check ``content``, the result of `read_coco`; arguments and errors are those of `check_coco`."""
    if isinstance(classes, str):
        raise TypeError(f"classes={classes!r} is a single string; expected a sequence of names, e.g. ({classes!r},)")
    problems = _Problems()
    images = {image["id"]: image for image in content["images"] if _image_problem(image) is None}
    for image in content["images"]:
        problems.add("image without valid id, file_name, width and height", _image_problem(image))
    problems.add_duplicates("image id used twice", (image.get("id") for image in content["images"]))
    problems.add_duplicates("annotation id used twice", (annotation.get("id") for annotation in content["annotations"]))
    _check_classes(content, classes, problems)
    category_ids = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        _check_annotation(annotation, images, category_ids, problems)
    problems.raise_if_any(ann_file)


def check_coco(
    ann_file: str | os.PathLike[str],
    image_dir: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    check_images: bool = True,
    annotated: bool = True,
) -> CocoReport:
    """Check an annotation file and count its content.

    Args:
        ann_file: COCO annotation file.
        image_dir: folder that the ``file_name`` of each image is relative to.
        classes: class names of the model in order; ``None`` skips the comparison.
        check_images: require that the image files exist; they are not opened.
        annotated: require annotations; COCO's files for test images have none.

    Raises:
        TypeError: ``classes`` is a single string.
        FileNotFoundError: the annotation file or an image is missing.
        ValueError: the file is not a COCO object-detection file, or holds data that cannot be trained on; one message
            lists the number and up to five examples of each problem.
    """
    path = Path(ann_file)
    content = read_coco(path, annotated)
    check_content(path, content, classes)
    if check_images:
        _check_files(content["images"], Path(image_dir))
    return make_report(path, content)
