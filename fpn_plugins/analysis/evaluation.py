"""Evaluate detectors of either toolbox on the same pixels of a COCO-format set."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import CocoSplit
from ..data.coco_folder import read_coco
from ..extras import needed_for
from ..inference import Detections, read_image
from ..inference.pictures import errors_naming
from .coco_ap import evaluate_predictions

Predict = Callable[[Any], Detections]
Scores = dict[str, dict[str, float]]


def evaluate_detectors(
    detectors: Mapping[str, Predict], split: CocoSplit, num_images: int | None = None
) -> tuple[dict[str, Scores], dict[str, dict[int, Detections]]]:
    """Run detectors on the images of a split, and evaluate their detections.

    Args:
        detectors: name -> function of an image ``H W 3``, RGB, 0..255; all get the same images, except that one with
            a ``reader`` gets what it reads, and one with a ``toolbox`` gray values of 16 bits as that reads them.
        split: split of a COCO-format set.
        num_images: number of images to evaluate, from the first; ``None`` is all.

    Returns:
        Each detector's AP by kind (``"bbox"``, ``"segm"``) and metric, see `evaluate_predictions`; and its detections
        by image id, without masks.

    Raises:
        ValueError: ``num_images`` below 1; or an image that a detector refuses, which the message names.
    """
    with needed_for("progress bars"):
        from tqdm import tqdm

    if num_images is not None and num_images < 1:
        raise ValueError(f"num_images={num_images} must be at least 1; leave it out to evaluate all images")
    truth = read_coco(split.ann_file)
    truth["images"] = truth["images"][:num_images]
    ids = sorted(category["id"] for category in truth["categories"])
    found: dict[str, dict[int, Detections]] = {name: {} for name in detectors}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in detectors}
    for entry in tqdm(truth["images"], desc="images"):
        file = split.image_dir / entry["file_name"]
        images: dict[Any, Any] = {}
        for name, detector in detectors.items():
            reader, toolbox = getattr(detector, "reader", None), getattr(detector, "toolbox", None)
            with errors_naming(file):
                if (reader, toolbox) not in images:
                    images[reader, toolbox] = read_image(file, toolbox) if reader is None else reader(file)
                detections = detector(images[reader, toolbox])
            results[name] += detections.to_coco(entry["id"], ids)
            found[name][entry["id"]] = detections._replace(masks=None)  # masks of all images may not fit into memory
    image_ids = {entry["id"] for entry in truth["images"]}
    truth["annotations"] = [entry for entry in truth["annotations"] if entry["image_id"] in image_ids]
    return {name: _evaluate(truth, results[name]) for name in detectors}, found


def _evaluate(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Scores:
    """Compute box AP and, if there are masks, mask AP."""
    kinds = ["bbox", "segm"] if any("segmentation" in entry for entry in results) else ["bbox"]
    with tempfile.TemporaryDirectory() as folder:
        truth_file, results_file = Path(folder) / "truth.json", Path(folder) / "results.json"
        truth_file.write_text(json.dumps(truth), encoding="utf-8")
        results_file.write_text(json.dumps(results), encoding="utf-8")
        return {kind: evaluate_predictions(truth_file, results_file, kind) for kind in kinds}
