"""Check a panoptic annotation file with its label images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..extras import needed_for
from . import panoptic_rules as rules
from .findings import Findings, Rule, short
from .image_check import check_files, check_headers
from .image_headers import SAMPLE, read_headers, sampled
from .json_values import is_number, is_whole

_DECODED = 32  # label images whose pixels are compared with the segments
_MAX_ID = 256**3


@dataclass(frozen=True)
class PanopticSet:
    """Panoptic annotation file with its images, and what will read it.

    Attributes:
        ann_file: panoptic annotation file.
        image_dir: folder of the images.
        mask_dir: folder of the RGB label images.
        stuff_dir: folder of the gray label images, for Detectron2; ``None`` skips them.
        instances_file: annotation file of the things alone, for Detectron2; ``None`` skips it.
        classes: names of things and stuff in the model's order; ``None`` skips the comparison.
        trained: whether it is trained on.
        evaluated: whether it is evaluated.
        toolbox: the only toolbox that will read it; ``None`` holds it to the rules of both.
    """

    ann_file: Path
    image_dir: Path
    mask_dir: Path
    stuff_dir: Path | None = None
    instances_file: Path | None = None
    classes: tuple[str, ...] | None = None
    trained: bool = True
    evaluated: bool = True
    toolbox: str | None = None

    def joined(self, other: PanopticSet) -> PanopticSet:
        """Return one set for the uses of both, which have the same files."""
        return replace(self, trained=self.trained or other.trained, evaluated=self.evaluated or other.evaluated)


def read_panoptic(ann_file: Path) -> dict[str, Any]:
    """Read a panoptic annotation file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a panoptic annotation file.
    """
    if not ann_file.is_file():
        raise FileNotFoundError(f"ann_file={str(ann_file)!r} does not exist; give the panoptic annotation file (.json)")
    try:
        content = json.loads(ann_file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"ann_file={str(ann_file)!r} is not JSON ({error})") from error
    lists = [content.get(key) for key in ("images", "annotations", "categories")] if isinstance(content, dict) else [0]
    if not all(isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) for entries in lists):
        raise ValueError(f"ann_file={str(ann_file)!r} is not a panoptic annotation file: lists of objects are missing")
    for entry in content["categories"]:
        if (
            not is_whole(entry.get("id"))
            or not isinstance(entry.get("name"), str)
            or entry.get("isthing") not in (0, 1)
        ):
            raise ValueError(
                f"ann_file={str(ann_file)!r}: category {entry!r} is malformed; expected an integer 'id', a string "
                "'name' and 'isthing' 0 or 1"
            )
    return content


def check_panoptic(
    source: PanopticSet, findings: Findings, limit: int | None = SAMPLE
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Check a panoptic set; return the names of its things and of its stuff in the order of their labels."""
    content = read_panoptic(source.ann_file)
    images = _check_images(content, findings)
    annotations = _check_annotations(content, images, source, findings)
    names = _check_categories(content, source, findings)
    entries = [images[image_id] for image_id in annotations]
    if check_files(entries, source.image_dir, findings):
        check_headers(entries, source.image_dir, findings, limit)
    _check_masks(images, annotations, source, findings, limit)
    if source.stuff_dir is not None:
        _check_stuff(entries, source.stuff_dir, findings, limit)
    return names


def _check_images(content: dict[str, Any], findings: Findings) -> dict[Any, dict[str, Any]]:
    valid = {}
    for image in content["images"]:
        sides = [image.get("width"), image.get("height")]
        if is_whole(image.get("id")) and isinstance(image.get("file_name"), str) and all(map(is_whole, sides)):
            valid[image["id"]] = image
        else:
            findings.add(rules.IMAGE, repr({key: image.get(key) for key in ("id", "file_name", "width", "height")}))
    return valid


def _check_categories(
    content: dict[str, Any], source: PanopticSet, findings: Findings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    categories = content["categories"]
    kinds = [entry["isthing"] for entry in categories]
    if kinds != sorted(kinds, reverse=True):
        late = [entry["name"] for index, entry in enumerate(categories) if entry["isthing"] and 0 in kinds[:index]]
        findings.add(rules.STUFF_FIRST, f"things {short(late)} after stuff")
    if source.toolbox != "mmdet":
        categories = sorted(categories, key=lambda entry: entry["id"])
    things, stuff = (tuple(entry["name"] for entry in categories if entry["isthing"] == kind) for kind in (1, 0))
    if source.classes is not None and source.classes != things + stuff:
        findings.add(rules.CLASSES, f"metainfo has {short(source.classes, 12)}, the file {short(things + stuff, 12)}")
    if source.instances_file is not None:
        _compare_instances(source.instances_file, categories, findings)
    return things, stuff


def _compare_instances(instances_file: Path, categories: Sequence[dict[str, Any]], findings: Findings) -> None:
    from .coco_folder import read_coco

    ordered = sorted(read_coco(instances_file)["categories"], key=lambda entry: entry["id"])
    instances = [(entry["id"], entry["name"]) for entry in ordered]
    things = sorted((entry["id"], entry["name"]) for entry in categories if entry["isthing"])
    if instances != things:
        findings.add(rules.INSTANCES, f"{str(instances_file)!r} has {instances[:6]}, the panoptic file {things[:6]}")


def _check_annotations(
    content: dict[str, Any], images: dict[Any, dict[str, Any]], source: PanopticSet, findings: Findings
) -> dict[Any, dict[str, Any]]:
    """Check the segments of each image; return the valid annotations by image id."""
    things = {entry["id"]: entry["isthing"] for entry in content["categories"]}
    valid, objects = {}, 0
    for annotation in content["annotations"]:
        image_id, segments = annotation.get("image_id"), annotation.get("segments_info")
        listed = isinstance(segments, list) and all(isinstance(segment, dict) for segment in segments)
        if not listed or not is_whole(image_id) or image_id not in images or not annotation.get("file_name"):
            findings.add(rules.SEGMENTS, f"image_id {image_id!r}")
            continue
        valid[image_id] = annotation
        findings.add_duplicates(rules.SEGMENT, (f"image {image_id}, id {segment.get('id')}" for segment in segments))
        for segment in segments:
            sound = _check_segment(
                segment, f"image {image_id}, segment {segment.get('id')!r}", things, source, findings
            )
            objects += sound and bool(things[segment["category_id"]]) and not segment.get("iscrowd")
    for image_id, image in images.items():
        findings.add(rules.NO_SEGMENTS, None if image_id in valid else f"image {image_id!r} ({image['file_name']})")
    if source.trained and not objects:
        findings.add(rules.NOTHING, f"{len(images)} images, {len(valid)} annotations")
    return valid


def _check_segment(
    segment: dict[str, Any], where: str, things: dict[Any, int], source: PanopticSet, findings: Findings
) -> bool:
    number, category, box = segment.get("id"), segment.get("category_id"), segment.get("bbox")
    known = is_whole(category) and category in things
    boxed = isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and is_number(segment.get("area"))
    faults = {
        rules.SEGMENT: not isinstance(number, int) or not 0 < number < _MAX_ID,
        rules.CATEGORY: not known,
        rules.BOX: not boxed,
        rules.CROWD: source.evaluated and segment.get("iscrowd") not in (0, 1),
    }
    for rule, wrong in faults.items():
        findings.add(rule, where if wrong else None)
    return known


def _check_masks(
    images: dict[Any, Any], annotations: dict[Any, Any], source: PanopticSet, findings: Findings, limit: int | None
) -> None:
    """Check names and headers of the label images, and the pixels of a few."""
    for image_id, annotation in annotations.items():
        wanted, stated = images[image_id]["file_name"].replace(".jpg", ".png"), annotation["file_name"]
        findings.add(
            rules.FILE_NAME, None if wanted == stated else f"image {image_id!r}: {stated!r}, expected {wanted!r}"
        )
    if not check_files(list(annotations.values()), source.mask_dir, findings):
        return
    chosen = sampled(list(annotations.values()), limit)
    paths = [source.mask_dir / entry["file_name"] for entry in chosen]
    _check_label_headers([images[entry["image_id"]] for entry in chosen], paths, "RGB", rules.MASK_MODE, findings)
    if not findings.have_errors:
        for annotation in sampled(chosen, _DECODED):
            _check_pixels(annotation, source.mask_dir, findings)


def _check_label_headers(
    images: Sequence[dict[str, Any]], paths: Sequence[Path], mode: str, rule: Rule, findings: Findings
) -> None:
    for image, path, header in zip(images, paths, read_headers(paths), strict=True):
        where = f"image {image['id']!r} ({path})"
        if isinstance(header, str):
            findings.add(rules.MASK_DAMAGED, f"{where}: {header}")
            continue
        findings.add(rule, None if header.mode == mode else f"{where}: mode {header.mode}")
        same = (header.width, header.height) == (image["width"], image["height"])
        findings.add(rules.MASK_SIZE, None if same else f"{where}: {header.width} x {header.height} px")


def _check_pixels(annotation: dict[str, Any], mask_dir: Path, findings: Findings) -> None:
    with needed_for("label images"):
        import numpy as np
        from PIL import Image

    with Image.open(mask_dir / annotation["file_name"]) as image:
        ids = np.asarray(image).astype(np.int64) @ (1, 256, 65536)
    found, listed = set(np.unique(ids).tolist()) - {0}, {segment["id"] for segment in annotation["segments_info"]}
    if found != listed:
        detail = f"in the image alone {sorted(found - listed)[:5]}, in the file alone {sorted(listed - found)[:5]}"
        findings.add(rules.PIXELS, f"image {annotation['image_id']!r}: {detail}")


def _check_stuff(images: Sequence[dict[str, Any]], stuff_dir: Path, findings: Findings, limit: int | None) -> None:
    named = [{**image, "file_name": str(Path(image["file_name"]).with_suffix(".png"))} for image in images]
    if not check_files(named, stuff_dir, findings):
        return
    chosen = sampled(named, limit)
    _check_label_headers(chosen, [stuff_dir / entry["file_name"] for entry in chosen], "L", rules.STUFF_MODE, findings)
