"""Match the detections of two detectors one to one, and measure the differences of matched detections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..inference import Detections

BOX_TOLERANCE = 0.01  # pixels
SCORE_TOLERANCE = 1e-4


@dataclass
class Agreement:
    """Agreement of two detectors on a set of images.

    Attributes:
        total: number of detections, averaged over the two detectors.
        matched: number of pairs of the same class within both tolerances.
        box_difference: largest difference of a corner coordinate among matched pairs, in pixels.
        score_difference: largest difference of scores among matched pairs.
        mask_iou: smallest intersection over union of the masks of a matched pair; 1 without masks.
        unmatched: image id -> number of unmatched detections, if there are any.
    """

    total: float = 0
    matched: int = 0
    box_difference: float = 0.0
    score_difference: float = 0.0
    mask_iou: float = 1.0
    unmatched: dict[int, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Return the share of matched detections, from 0 to 1; 1 if there are no detections."""
        return self.matched / self.total if self.total else 1.0

    def add(
        self,
        image_id: int,
        first: Detections,
        second: Detections,
        box_tolerance: float = BOX_TOLERANCE,
        score_tolerance: float = SCORE_TOLERANCE,
    ) -> list[tuple[int, int]]:
        """Match the detections on an image, see `agreement`; return the index in each list of matched ones."""
        matched = _match(first, second, box_tolerance, score_tolerance)
        self.matched += len(matched)
        self.total += (len(first.scores) + len(second.scores)) / 2
        unmatched = len(first.scores) + len(second.scores) - 2 * len(matched)
        if unmatched:
            self.unmatched[image_id] = unmatched
        for i, j in matched:
            difference = float((first.boxes[i] - second.boxes[j]).abs().max())
            self.box_difference = max(self.box_difference, difference)
            self.score_difference = max(self.score_difference, float((first.scores[i] - second.scores[j]).abs()))
            if first.masks is not None and second.masks is not None:
                self.mask_iou = min(self.mask_iou, iou_of_masks(first.masks[i], second.masks[j]))
        return matched


def agreement(
    pairs: Iterable[tuple[int, Detections, Detections]],
    box_tolerance: float = BOX_TOLERANCE,
    score_tolerance: float = SCORE_TOLERANCE,
) -> Agreement:
    """Match detections one to one.

    Args:
        pairs: image id, and each detector's detections on this image.
        box_tolerance: largest difference of a corner coordinate, in pixels.
        score_tolerance: largest difference of scores, which range from 0 to 1.
    """
    result = Agreement()
    for image_id, first, second in pairs:
        result.add(image_id, first, second, box_tolerance, score_tolerance)
    return result


def iou_of_masks(first: Tensor, second: Tensor) -> float:
    """Return the intersection over union of two masks ``H W``; 1 if both are empty."""
    union = int((first | second).sum())
    return int((first & second).sum()) / union if union else 1.0


def _match(
    first: Detections, second: Detections, box_tolerance: float, score_tolerance: float
) -> list[tuple[int, int]]:
    """Pair detections within the tolerances, nearest boxes first, each detection at most once."""
    if not len(first.scores) or not len(second.scores):
        return []
    distance = (first.boxes[:, None] - second.boxes[None]).abs().amax(-1)
    apart = (first.labels[:, None] != second.labels[None]) | (distance > box_tolerance)
    apart |= (first.scores[:, None] - second.scores[None]).abs() > score_tolerance
    return _nearest_first(distance.masked_fill(apart, float("inf")))


def _nearest_first(distance: Tensor) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    used: tuple[set[int], set[int]] = (set(), set())
    columns = distance.shape[1]
    for flat in torch.argsort(distance.flatten()).tolist():
        i, j = divmod(flat, columns)
        if not torch.isfinite(distance[i, j]):
            break
        if i not in used[0] and j not in used[1]:
            pairs.append((i, j))
            used[0].add(i)
            used[1].add(j)
    return pairs
