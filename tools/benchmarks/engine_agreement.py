"""Measure how far an exported detector and the toolbox's agree, picture by picture."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from engine_views import View, classes, panoptic_quality
from torch import Tensor

from fpn_plugins.analysis import Agreement, evaluate_predictions
from fpn_plugins.analysis.agreement import SCORE_TOLERANCE, iou_of_masks
from fpn_plugins.inference import Detections, PanopticSegments

EQUAL_IOU = 0.999  # of masks
SIDE_TOLERANCE = 1e-3  # IoU of boxes this near the threshold of suppression is decided by rounding


class Tally:
    """Agreement of an exported detector with the toolbox's on some pictures.

    Args:
        overlap: IoU from which on a better object of the class suppresses another.
    """

    def __init__(self, overlap: float) -> None:
        self.overlap, self.pictures, self.agreed = overlap, 0, Agreement()
        self.masks: list[tuple[float, float]] = []  # IoU, and largest distance from 0.5 of a pixel that differs
        self.unequal: list[dict[str, Any]] = []
        self.pixels: list[float] = []
        self.logits = 0.0
        self.segments: tuple[list[PanopticSegments], list[PanopticSegments]] = [], []
        self.coco: tuple[list[Any], list[Any]] = [], []

    def add(self, host: View, engine: View) -> None:
        """Compare what both say about a picture."""
        self.pictures += 1
        pairs = self.agreed.add(self.pictures, host.objects, engine.objects)
        if host.objects.masks is not None:
            self.masks += [_mask_pair(host, i, engine, j) for i, j in pairs]
        self.unequal += unequal(host.objects, engine.objects, pairs, self.overlap)
        for found, kept in zip((host, engine), self.coco, strict=True):
            labels = range(1 + max(found.objects.labels.tolist(), default=0))
            kept += found.objects.to_coco(self.pictures, list(labels))
        if host.segments is None or engine.segments is None:
            return
        assert host.logits is not None and engine.logits is not None
        self.logits = max(self.logits, float((host.logits - engine.logits).abs().max()))
        self.pixels.append(float((classes(host.segments) == classes(engine.segments)).float().mean()))
        for segments, kept_segments in zip((host.segments, engine.segments), self.segments, strict=True):
            kept_segments.append(segments)

    def row(self) -> dict[str, Any]:
        """Return all measures as JSON holds them."""
        agreed = self.agreed
        row: dict[str, Any] = {name: getattr(agreed, name) for name in ("total", "matched", "box_difference")}
        row |= {"score_difference": agreed.score_difference, "pictures": self.pictures, "unequal": self.unequal}
        itself, engine = (average_precision(self.coco[0], results) for results in self.coco)
        row["ap"] = {kind: engine[kind] - itself[kind] for kind in engine}
        if self.masks:
            row["masks"] = len(self.masks)
            row["equal_masks"] = sum(iou >= EQUAL_IOU for iou, _ in self.masks)
            row["mask_iou"] = min(iou for iou, _ in self.masks)
            row["edge"] = max(distance for _, distance in self.masks)
        if self.pixels:
            row |= {"pixels": sum(self.pixels) / len(self.pixels), "logits": self.logits}
            row["pq"] = panoptic_quality(*self.segments)
        return row


def _mask_pair(host: View, i: int, engine: View, j: int) -> tuple[float, float]:
    """Return the IoU of two masks, and the largest distance from 0.5 of the probability of a pixel that differs."""
    assert host.objects.masks is not None and engine.objects.masks is not None
    first, second = host.objects.masks[i], engine.objects.masks[j]
    pixels = (first ^ second).nonzero()
    if not len(pixels):
        return 1.0, 0.0
    both = torch.stack([host.probability(i, pixels), engine.probability(j, pixels)])
    return iou_of_masks(first, second), float((both - 0.5).abs().max())


def unequal(
    first: Detections, second: Detections, pairs: Sequence[tuple[int, int]], overlap: float
) -> list[dict[str, Any]]:
    """Describe the objects that one detector alone has, and why.

    The reason is ``"overlap"`` if a better object of the other detector overlaps it by the threshold of suppression,
    ``"tie"`` if it overlaps one of equal score by more, ``"last"`` if it is the last one of a list that holds an
    object more before it, and ``"unknown"`` otherwise.
    """
    result = []
    matched = [{pair[side] for pair in pairs} for side in (0, 1)]
    alone = [sorted(set(range(len(found.scores))) - own) for found, own in zip((first, second), matched, strict=True)]
    for side, (own, other) in enumerate(((first, second), (second, first))):
        for index in alone[side]:
            score, label = float(own.scores[index]), int(own.labels[index])
            entry = {"toolbox": side == 0, "score": score, "label": label, "place": index + 1}
            entry |= _rival(own.boxes[index], score, label, other, overlap)
            above = [i for i in alone[1 - side] if float(other.scores[i]) >= score - SCORE_TOLERANCE]
            if entry["why"] == "unknown" and index >= len(other.scores) - len(above) and above:
                entry["why"] = "last"
            result.append(entry)
    return result


def _rival(box: Tensor, score: float, label: int, other: Detections, overlap: float) -> dict[str, Any]:
    """Find the object that suppresses a box in the other detector."""
    from torchvision.ops import box_iou

    better = (other.labels == label) & (other.scores >= score - SCORE_TOLERANCE)
    if not bool(better.any()):
        return {"why": "unknown"}
    ious = box_iou(box[None].double(), other.boxes[better].double())[0]
    best = int((ious - overlap).abs().argmin())
    best = best if abs(float(ious[best]) - overlap) <= SIDE_TOLERANCE else int(ious.argmax())
    iou, gap = float(ious[best]), float(other.scores[better][best]) - score
    why = "overlap" if abs(iou - overlap) <= SIDE_TOLERANCE else "unknown"
    if iou > overlap and abs(gap) <= SCORE_TOLERANCE:
        why = "tie"
    return {"why": why, "iou": iou, "score_gap": gap}


def average_precision(truth: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the AP of results of COCO's format, of boxes and of masks, if other results count as the truth."""
    kinds = {"bbox": "bbox", "segm": "segmentation"}
    annotations = [{**entry, "id": i + 1, "iscrowd": 0, "area": _area(entry)} for i, entry in enumerate(truth)]
    labels = sorted({entry["category_id"] for entry in (*truth, *results)})
    images = sorted({entry["image_id"] for entry in (*truth, *results)})
    content = {
        "images": [{"id": i, "width": 1, "height": 1} for i in images],
        "categories": [{"id": label, "name": str(label)} for label in labels],
        "annotations": annotations,
    }
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "truth.json", Path(folder) / "results.json"
        for file, written in zip(files, (content, results), strict=True):
            file.write_text(json.dumps(written), encoding="utf-8")
        return {
            kind: evaluate_predictions(*files, kind)["AP"] for kind, key in kinds.items() if truth and key in truth[0]
        }


def _area(entry: Mapping[str, Any]) -> float:
    return float(entry["bbox"][2] * entry["bbox"][3])
