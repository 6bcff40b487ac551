"""Detectors of either toolbox evaluated on a COCO-format set, all on the same pixels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..data import CocoSplit
from ..inference import Detections, read_image
from .coco_ap import evaluate_predictions

Predict = Callable[[Any], Detections]


def images(split: CocoSplit, number: int | None) -> Iterator[tuple[int, Any]]:
    """``(id, H W 3)`` of each image, or of the first ``number``, with a progress bar.

    Raises:
        ValueError: ``number`` below 1.
    """
    from tqdm import tqdm

    if number is not None and number < 1:
        raise ValueError(f"number={number} of images must be at least 1; leave it out for all")
    entries = json.loads(split.ann_file.read_text(encoding="utf-8"))["images"][:number]
    for entry in tqdm(entries, desc="images"):
        yield entry["id"], read_image(split.image_dir / entry["file_name"])


def category_ids(ann_file: Path) -> list[int]:
    """Ids of the set's categories, in the order of the classes."""
    return sorted(category["id"] for category in json.loads(ann_file.read_text(encoding="utf-8"))["categories"])


def detect(
    detectors: Mapping[str, Predict], split: CocoSplit, number: int | None
) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, dict[int, Detections]]]:
    """AP of each detector, by kind and metric, and what each found on each image, without masks.

    Args:
        detectors: by name; all get the same images.
        split: of a COCO-format set.
        number: only so many images, or all.
    """
    ids = category_ids(split.ann_file)
    found: dict[str, dict[int, Detections]] = {name: {} for name in detectors}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in detectors}
    for image_id, image in images(split, number):
        for name, detector in detectors.items():
            one = detector(image)
            results[name] += one.to_coco(image_id, ids)
            found[name][image_id] = one._replace(masks=None)  # of a whole set they would fill the memory
    scores = {name: _evaluate(split.ann_file, results[name], set(found[name])) for name in detectors}
    return scores, found


def _evaluate(ann_file: Path, results: list[dict[str, Any]], image_ids: set[int]) -> dict[str, dict[str, float]]:
    """AP of boxes and, where there are some, of masks, on some of the images."""
    kinds = ["bbox", "segm"] if any("segmentation" in entry for entry in results) else ["bbox"]
    with tempfile.TemporaryDirectory() as folder:
        truth, file = Path(folder) / "truth.json", Path(folder) / "results.json"
        truth.write_text(json.dumps(_only(ann_file, image_ids)))
        file.write_text(json.dumps(results))
        return {kind: evaluate_predictions(truth, file, kind) for kind in kinds}


def _only(ann_file: Path, image_ids: set[int]) -> dict[str, Any]:
    """The annotations of some images."""
    content = json.loads(ann_file.read_text(encoding="utf-8"))
    content["images"] = [entry for entry in content["images"] if entry["id"] in image_ids]
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in image_ids]
    return content
