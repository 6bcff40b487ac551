"""Check a COCO annotation file for problems that make training fail late or learn the wrong thing."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..extras import needed_for
from . import coco_rules as rules
from .coco_folder import category_names
from .coco_report import area_of
from .coco_set import CocoSet
from .findings import Findings, Rule, short
from .json_values import is_id, is_number, is_whole, mix_types
from .segmentations import long_polygons, mask_problem


@lru_cache(maxsize=1)
def _info_is_needed() -> bool:
    """Return whether the installed pycocotools fails on a file without ``info``, as versions 2.0.9 and 2.0.10 do."""
    with needed_for("evaluations"):
        from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {"images": [{"id": 1}], "annotations": [], "categories": []}
    coco.createIndex()
    try:
        coco.loadRes([{"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}])
    except KeyError:
        return True
    return False


def _image_problem(image: dict[str, Any]) -> str | None:
    well_formed = (
        is_id(image.get("id"))
        and isinstance(image.get("file_name"), str)
        and all(is_whole(image.get(side)) and image[side] > 0 for side in ("width", "height"))
    )
    return None if well_formed else repr({key: image.get(key) for key in ("id", "file_name", "width", "height")})


def _check_images(content: dict[str, Any], source: CocoSet, findings: Findings) -> dict[Any, dict[str, Any]]:
    """Check the entries of images; return the valid ones by id."""
    images = {image["id"]: image for image in content["images"] if _image_problem(image) is None}
    for image in content["images"]:
        findings.add(rules.IMAGE, _image_problem(image))
    findings.add_duplicates(rules.IMAGE_TWICE, (image.get("id") for image in content["images"]))
    if mix_types(list(images)):
        texts = [number for number in images if isinstance(number, str)]
        findings.add(rules.MIXED_IDS, f"{short(map(repr, texts))} among numbers")
    if "segm" in source.evaluated:
        for image in images.values():
            if isinstance(image["width"], float) or isinstance(image["height"], float):
                findings.add(rules.FLOAT_SIZE, f"image {image['id']!r}: {image['width']} x {image['height']}")
    return images


def _check_categories(content: dict[str, Any], source: CocoSet, findings: Findings) -> None:
    names = category_names(content)
    ids = [category["id"] for category in content["categories"]]
    findings.add_duplicates(rules.CATEGORY_ID_TWICE, ids)
    findings.add_duplicates(rules.CATEGORY_NAME_TWICE, names)
    for name in names:
        findings.add(rules.CATEGORY_BRACES, repr(name) if "{{" in name else None)
    if ids != sorted(ids):
        findings.add(rules.UNORDERED_ALONE if source.toolbox else rules.UNORDERED, repr(ids))
    if source.classes is None:
        return
    classes, both = list(source.classes), f"the file has {list(names)}, the model {list(source.classes)}"
    unknown = [name for name in names if name not in classes]
    absent = [name for name in classes if name not in names]
    if unknown and not source.subset:
        findings.add(rules.UNKNOWN_CLASS, f"{', '.join(map(repr, unknown))}: {both}")
    elif source.toolbox == "mmdet":
        labels = source.label_names(content)
        if absent:
            findings.add(
                rules.ABSENT_CLASS, f"metainfo classes {short(absent)} are not in it, which has {short(names)}"
            )
        elif list(labels) != classes:
            order = f"metainfo classes {short(classes)} are in another order than the file's {short(labels)}"
            findings.add(rules.CLASS_ORDER, order)
    elif list(names) != classes[: len(names)]:
        findings.add(rules.CLASS_ORDER, both)


def _box_problem(box: Any) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return repr(box)
    return repr(box) if box[2] < 0 or box[3] < 0 else None


def _segmentation_fault(annotation: dict[str, Any], image: Any, source: CocoSet) -> tuple[Rule, str] | None:
    segmentation = annotation.get("segmentation") or []
    problem = mask_problem(segmentation, image)
    if problem is not None and "segm" not in source.evaluated:
        if source.toolbox == "mmdet" and not source.masks:
            return rules.MASK_UNREAD, problem
        if isinstance(segmentation, list) and mask_problem(long_polygons(segmentation), image) is None:
            return rules.SHORT_POLYGONS, problem
    if problem is not None:
        return rules.MASK, problem
    if not segmentation and source.needs_masks:
        return rules.NO_MASK, f"image_id {annotation.get('image_id')!r}"
    if source.polygons and isinstance(segmentation, dict) and not annotation.get("iscrowd"):
        return rules.RLE_AS_POLYGON, f"image_id {annotation.get('image_id')!r}"
    return None


def _crowd_fault(annotation: dict[str, Any], source: CocoSet) -> tuple[Rule, str] | None:
    if "iscrowd" not in annotation:
        return (rules.NO_CROWD, f"image_id {annotation.get('image_id')!r}") if source.evaluated else None
    crowd = annotation["iscrowd"]
    return None if isinstance(crowd, (bool, int, float)) and crowd in (0, 1) else (rules.CROWD, repr(crowd))


def _annotation_faults(
    annotation: dict[str, Any], images: dict[Any, Any], categories: set[Any], source: CocoSet
) -> list[tuple[Rule, str]]:
    """List the faults of one annotation as pairs of kind and detail."""
    number, image_id, category = (annotation.get(key) for key in ("id", "image_id", "category_id"))
    image = images.get(image_id) if is_id(image_id) else None
    faults = [_segmentation_fault(annotation, image, source), _crowd_fault(annotation, source)]
    if not is_id(number):
        faults.append((rules.ANNOTATION_ID, f"image_id {image_id!r}"))
    elif source.evaluated and isinstance(number, str) and not number.isdecimal():
        faults.append((rules.TEXT_ID, f"image_id {image_id!r}"))
    if image is None:
        faults.append((rules.UNKNOWN_IMAGE, f"image_id {image_id!r}"))
    if not is_id(category) or category not in categories:
        faults.append((rules.UNKNOWN_CATEGORY, f"category_id {category!r}"))
    box = _box_problem(annotation.get("bbox"))
    if box is not None:
        faults.append((rules.BOX, box))
    if not is_number(annotation.get("area")):
        unread = source.toolbox == "detectron2" and not source.evaluated
        faults.append((rules.AREA_UNREAD if unread else rules.AREA, repr(annotation.get("area"))))
    if annotation.get("ignore"):
        faults.append((rules.IGNORE, f"image_id {image_id!r}"))
    return [fault for fault in faults if fault is not None]


def is_object(annotation: dict[str, Any], image: dict[str, Any], min_side: int = 0) -> bool:
    """Return whether both toolboxes train on an annotation without errors; see `CocoSet` for ``min_side``."""
    x, y, width, height = annotation["bbox"]
    inside = x + width > 0 and x < image["width"] and y + height > 0 and y < image["height"]
    large = min(width, height) >= 1 and area_of(annotation) > 0
    used = not annotation.get("iscrowd") and not annotation.get("ignore")
    return used and large and inside and min(image["width"], image["height"]) >= min_side


def check_content(content: dict[str, Any], source: CocoSet, findings: Findings) -> list[dict[str, Any]]:
    """Check ``content``, the result of `read_coco`; return the entries of its valid images.

    Raises:
        TypeError: the classes are a single string.
        ValueError: a category without an integer id or without a name.
    """
    if isinstance(source.classes, str):
        raise TypeError(f"classes={source.classes!r} is a single string; expected a sequence of names")
    images = _check_images(content, source, findings)
    findings.add_duplicates(rules.ANNOTATION_TWICE, (entry.get("id") for entry in content["annotations"]))
    _check_categories(content, source, findings)
    chosen = {
        entry["id"] for entry in content["categories"] if not source.subset or entry["name"] in (source.classes or ())
    }
    categories = {category["id"] for category in content["categories"]}
    objects = 0
    for annotation in content["annotations"]:
        faults = _annotation_faults(annotation, images, categories, source)
        for rule, detail in faults:
            findings.add(rule, f"annotation {annotation.get('id')!r}: {detail}")
        if not any(rule.error for rule, _ in faults) and annotation["category_id"] in chosen:
            objects += is_object(annotation, images[annotation["image_id"]], source.min_side)
    _check_use(content, source, findings, objects)
    return list(images.values())


def _check_use(content: dict[str, Any], source: CocoSet, findings: Findings, objects: int) -> None:
    """Check what concerns the file as a whole."""
    annotations = content["annotations"]
    crowd = sum(bool(entry.get("iscrowd")) for entry in annotations)
    if source.annotated and not objects and not findings.have_errors:
        found = f"{len(content['images'])} images, {len(annotations)} annotations, {crowd} of them crowd regions"
        findings.add(rules.NOTHING if source.trained else rules.NOTHING_TO_FIND, found)
    if source.evaluated and "info" not in content and _info_is_needed():
        findings.add(rules.NO_INFO, "no 'info'")
    if source.trained and source.learns_masks and not source.masks:
        findings.add(rules.UNREAD_MASKS, "no transform of its pipeline reads masks")
    if source.masks and not source.needs_masks:
        _check_mixed_masks(annotations, findings)


def _check_mixed_masks(annotations: list[dict[str, Any]], findings: Findings) -> None:
    """Find annotations without a mask in images in which others have one."""
    objects = [entry for entry in annotations if not entry.get("iscrowd") and is_id(entry.get("image_id"))]
    with_mask = {entry["image_id"] for entry in objects if entry.get("segmentation")}
    for entry in objects:
        if not entry.get("segmentation") and entry["image_id"] in with_mask:
            findings.add(rules.SOME_MASKS, f"annotation {entry.get('id')!r}: image_id {entry['image_id']!r}")
