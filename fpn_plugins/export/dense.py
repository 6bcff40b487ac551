"""RetinaNet's detections from a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .boxes import BoxCoder, GridAnchors, Size, clip_boxes, larger_than
from .selection import best_pairs, positions, suppressed


class Found(NamedTuple):
    """Objects of all images of a batch, image by image, by falling score.

    Attributes:
        boxes: corners ``N 4`` in pixels of the images given.
        scores: ``N``.
        labels: ``N``, class indices.
        images: ``N``, index of each object's image.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    images: Tensor

    def at(self, indices: Tensor) -> Found:
        """Select objects by index."""
        return Found(*(values[indices] for values in self))


@dataclass(frozen=True)
class SelectionRule:
    """Rule by which objects are selected from scored boxes.

    Attributes:
        score_threshold: scores up to this one are dropped.
        iou_threshold: see `suppressed`.
        limit: highest number of objects per image.
        class_agnostic: objects of different classes suppress each other too.
        min_side: boxes that are not wider and higher than this are dropped first; ``None`` keeps all.
        drops_empty: boxes are clipped to the image at last, and those without area are dropped.
    """

    score_threshold: float
    iou_threshold: float
    limit: int
    class_agnostic: bool = False
    min_side: float | None = None
    drops_empty: bool = False

    def select(self, found: Found, batch: int, size: Size) -> Found:
        """Select objects among ``found``, given in any order."""
        kept = found.scores > self.score_threshold
        if self.min_side is not None:
            kept = kept & larger_than(found.boxes, self.min_side)
        found = found.at(positions(kept))
        groups = torch.zeros_like(found.labels) if self.class_agnostic else found.labels
        found = found.at(
            suppressed(found.boxes, found.scores, groups, found.images, batch, self.iou_threshold, self.limit)
        )
        if not self.drops_empty:
            return found
        found = found._replace(boxes=clip_boxes(found.boxes, size))
        return found.at(positions(larger_than(found.boxes, 0)))


class DenseDetector(nn.Module):
    """RetinaNet's head and the selection of its objects, as in both toolboxes.

    Args:
        head: maps a list of maps to two lists, logits ``B A*C H W`` and box offsets ``B A*4 H W`` per level.
        anchors: anchors of each level.
        coder: decoder of the offsets.
        num_classes: number of classes.
        candidates: highest number of pairs of anchor and class per level.
        rule: selection of objects among the candidates of all levels.
        levels: index in the pyramid of each map that the head reads.
    """

    def __init__(
        self,
        head: nn.Module,
        anchors: Sequence[GridAnchors],
        coder: BoxCoder,
        num_classes: int,
        candidates: int,
        rule: SelectionRule,
        levels: Sequence[int],
    ) -> None:
        super().__init__()
        self.head, self.anchors = head, nn.ModuleList(anchors)
        self.coder, self.num_classes, self.candidates = coder, num_classes, candidates
        self.rule, self.levels = rule, tuple(levels)

    def forward(self, maps: Sequence[Tensor], size: Size) -> Found:
        """Detect objects on images of ``size`` from their pyramid."""
        logits, offsets = self.head([maps[level] for level in self.levels])
        per_level = [self._candidates(*level, size) for level in zip(self.anchors, logits, offsets, strict=True)]
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*per_level, strict=True))
        batch = scores.shape[0]
        images = torch.arange(batch, device=scores.device)[:, None].expand_as(scores)
        found = Found(boxes.flatten(0, 1), scores.flatten(), labels.flatten(), images.flatten())
        return self.rule.select(found, batch, size)

    def _candidates(self, anchors: nn.Module, logits: Tensor, offsets: Tensor, size: Size) -> tuple[Tensor, ...]:
        """Return boxes ``B K 4``, scores and labels ``B K`` of the best candidates of one level."""
        width = logits.shape[-1]
        logits, offsets = rows(logits, self.num_classes), rows(offsets, 4)
        scores, numbers, labels = best_pairs(logits, self.candidates)
        offsets = offsets.gather(1, numbers[..., None].expand(-1, -1, 4))
        return self.coder.decode(offsets, anchors(numbers, width), size), scores, labels


def rows(prediction: Tensor, values: int) -> Tensor:
    """Reorder ``B A*values H W`` to ``B H*W*A values``, one row per anchor."""
    return prediction.permute(0, 2, 3, 1).reshape(prediction.shape[0], -1, values)
