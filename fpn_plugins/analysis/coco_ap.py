"""Compute COCO average precision from a prediction file with pycocotools, in the same way for every toolbox."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

from ..checks import one_of
from ..extras import needed_for

# in the order of pycocotools' `stats`
COCO_METRICS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L")
IOU_TYPES = {"bbox": "bbox", "segm": "segmentation"}


def evaluate_predictions(
    ann_file: str | os.PathLike[str], predictions: str | os.PathLike[str], iou_type: str = "bbox"
) -> dict[str, float]:
    """Evaluate predictions in COCO's results format.

    Args:
        ann_file: COCO annotation file.
        predictions: JSON list of ``{image_id, category_id, bbox, score, segmentation}``, as written by mmdet's
            ``CocoMetric`` (``outfile_prefix``) and Detectron2's ``COCOEvaluator``.
        iou_type: ``"bbox"`` or ``"segm"``.

    Returns:
        ``AP`` (IoU 0.50:0.95), ``AP50``, ``AP75``, ``AP_S`` (area < 32^2 px), ``AP_M``, ``AP_L`` (> 96^2 px), each from
        0 to 1, or -1 if the data set has no object of that size.

    Raises:
        ValueError: unknown ``iou_type``, or predictions that are not a list, or lack boxes or masks.
        FileNotFoundError: a file is missing.
    """
    with needed_for("evaluations"):
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    results = _read(Path(predictions), IOU_TYPES[one_of("iou_type", iou_type, IOU_TYPES)])
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(os.fspath(ann_file))
        evaluation = COCOeval(truth, truth.loadRes(results) if results else _nothing(truth), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_METRICS, evaluation.stats, strict=False)}


def _nothing(truth: Any) -> Any:
    """Make results without detections, which `loadRes` does not accept."""
    with needed_for("evaluations"):
        from pycocotools.coco import COCO

    results = COCO()
    results.dataset = {**truth.dataset, "annotations": []}
    results.createIndex()
    return results


def _read(path: Path, field: str) -> list[dict[str, Any]]:
    results = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(results, list):
        raise ValueError(f"predictions={str(path)!r} holds a {type(results).__name__}; expected COCO's list of results")
    without = sum(field not in result for result in results)
    if without:
        raise ValueError(f"{without} of {len(results)} predictions in {str(path)!r} have no {field!r}")
    if field == "segmentation":
        # with a box present, pycocotools would take the mask's area from the box
        return [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    return results
