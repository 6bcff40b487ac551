"""Compute the panoptic quality of segmentations with panopticapi, in the same way for every toolbox and engine."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..data import PanopticSplit
from ..extras import needed_for
from ..inference import PanopticSegments, read_image
from ..inference.pictures import errors_naming

Segmenter = Callable[[Any], PanopticSegments]
_KINDS = {"PQ": None, "PQ_things": True, "PQ_stuff": False}


def evaluate_panoptic(
    segmenters: Mapping[str, Segmenter], split: PanopticSplit, num_images: int | None = None
) -> dict[str, dict[str, float]]:
    """Segment the images of a panoptic split, and compute PQ.

    Args:
        segmenters: name -> function of an image ``H W 3``, RGB, 0..255; a predictor's method gets what that reads.
        split: split of a panoptic data set.
        num_images: number of images to evaluate, from the first; ``None`` is all.

    Returns:
        ``PQ``, ``PQ_things`` and ``PQ_stuff`` by name, each from 0 to 1; -1 if there are no such segments.

    Raises:
        ValueError: a segmenter's classes are not the data set's; or an image that it refuses, which the message names.
    """
    truth = json.loads(split.ann_file.read_text(encoding="utf-8"))
    annotated = {entry["image_id"]: entry for entry in truth["annotations"]}
    images = [image for image in truth["images"] if image["id"] in annotated][:num_images]
    categories = {category["id"]: category for category in truth["categories"]}
    scores = {}
    for name, segment in segmenters.items():
        read = getattr(getattr(segment, "__self__", None), "read", read_image)
        with tempfile.TemporaryDirectory() as folder:
            pairs = []
            for image in images:
                file = split.image_dir / image["file_name"]
                with errors_naming(file):
                    segments = segment(read(file))
                found = _written(segments, Path(folder) / f"{image['id']}.png", split)
                pairs.append((annotated[image["id"]], {**found, "image_id": image["id"]}))
            scores[name] = _quality(pairs, split.mask_dir, Path(folder), categories)
    return scores


def _written(found: PanopticSegments, path: Path, split: PanopticSplit) -> dict[str, Any]:
    """Write a segmentation as COCO's RGB PNG; return its annotation."""
    with needed_for("panoptic evaluations"):
        import numpy as np
        from PIL import Image

    ids = found.ids.numpy()
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(path)
    things, stuff = list(split.things), list(split.stuff)
    present, segments = set(np.unique(ids).tolist()), []
    for segment in found.segments:
        known = things if segment.is_thing else stuff
        if segment.label >= len(known):
            raise ValueError(
                f"the detector found class {segment.label} of the {'things' if segment.is_thing else 'stuff'}, the "
                f"data set {str(split.ann_file)!r} has {len(known)}; evaluate it on the data it was trained for"
            )
        if segment.id in present:
            segments.append({"id": segment.id, "category_id": known[segment.label]})
    return {"file_name": path.name, "segments_info": segments}


def _quality(pairs: list[Any], truth: Path, found: Path, categories: dict[int, Any]) -> dict[str, float]:
    with needed_for("panoptic evaluations"):
        from panopticapi.evaluation import pq_compute_single_core

    with contextlib.redirect_stdout(io.StringIO()):
        counts = pq_compute_single_core(0, pairs, str(truth), str(found), categories)
    result = {}
    for name, things in _KINDS.items():
        try:
            result[name] = float(counts.pq_average(categories, isthing=things)[0]["pq"])
        except ZeroDivisionError:
            result[name] = -1.0
    return result
