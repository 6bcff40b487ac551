"""Second stages: box heads, alone or in a cascade, and mask heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .boxes import BoxCoder, Size
from .dense import Found, SelectionRule
from .regions import RegionPooler


class BoxStage(nn.Module):
    """One box head: scores of boxes, and better boxes.

    Args:
        pooler: samples the maps inside the boxes.
        head: maps regions ``N C h w`` to logits ``N K+1`` (background last) and box offsets ``N 4`` or ``N K*4``.
        coder: decoder of the offsets.
    """

    def __init__(self, pooler: RegionPooler, head: nn.Module, coder: BoxCoder) -> None:
        super().__init__()
        self.pooler, self.head, self.coder = pooler, head, coder

    def forward(self, maps: Sequence[Tensor], boxes: Tensor, images: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Return logits ``N K+1`` and boxes ``N 1 4``, or ``N K 4`` if each class has its own."""
        logits, offsets = self.head(self.pooler(maps, boxes, images))
        return logits, self.coder.decode(offsets.unflatten(1, (-1, 4)), boxes[:, None], size)


class RegionDetector(nn.Module):
    """Detector of two stages, or of a cascade: proposals, their scores and boxes, and the selection of objects.

    Args:
        proposals: maps a pyramid and the size of the images to `Found`.
        stages: box heads; of several, each refines the boxes of the one before, and all vote on the scores.
        rule: selection of objects.
        scores: ``"softmax"`` or ``"sigmoid"``.
        averages_logits: whether the stages' logits are averaged (mmdet) instead of their scores (Detectron2).
    """

    def __init__(
        self,
        proposals: nn.Module,
        stages: Sequence[BoxStage],
        rule: SelectionRule,
        scores: str = "softmax",
        averages_logits: bool = False,
    ) -> None:
        super().__init__()
        self.proposals, self.stages = proposals, nn.ModuleList(stages)
        self.rule, self.scores, self.averages_logits = rule, scores, averages_logits

    def forward(self, maps: Sequence[Tensor], size: Size) -> Found:
        """Detect objects on images of ``size`` from their pyramid."""
        proposals = self.proposals(maps, size)
        boxes, images, votes = proposals.boxes, proposals.images, []
        for index, stage in enumerate(self.stages):
            logits, refined = stage(maps, boxes, images, size)
            votes.append(logits if self.averages_logits else self._activate(logits))
            if index < len(self.stages) - 1:
                boxes = _boxes_of_best_class(refined, logits)
        scores = torch.stack(votes).mean(0) if len(votes) > 1 else votes[0]
        scores = (self._activate(scores) if self.averages_logits else scores)[:, :-1]
        return self.rule.select(_pairs(refined, scores, images), maps[0].shape[0], size)

    def _activate(self, logits: Tensor) -> Tensor:
        return logits.softmax(1) if self.scores == "softmax" else logits.sigmoid()


def _boxes_of_best_class(boxes: Tensor, logits: Tensor) -> Tensor:
    """Select one box ``N 4`` of ``N K 4`` for each region; the background has none."""
    if boxes.shape[1] == 1:
        return boxes.squeeze(1)
    labels = logits[:, :-1].argmax(1)
    return boxes.gather(1, labels[:, None, None].expand(-1, 1, 4)).squeeze(1)


def _pairs(boxes: Tensor, scores: Tensor, images: Tensor) -> Found:
    """List each pair of region and class: boxes ``N 1 4`` or ``N K 4``, scores ``N K``, images ``N``."""
    classes = scores.shape[1]
    labels = torch.arange(classes, device=scores.device).expand_as(scores)
    images = images[:, None].expand_as(scores)
    boxes = boxes.expand(-1, classes, -1)
    return Found(boxes.flatten(0, 1), scores.flatten(), labels.flatten(), images.flatten())


class MaskStage(nn.Module):
    """Mask heads of found objects; probabilities of several are averaged.

    Args:
        poolers: sample the maps inside the boxes, one for each head.
        heads: map regions ``N C h w`` to logits ``N K H W``, or ``N 1 H W`` for all classes alike.
    """

    def __init__(self, poolers: Sequence[RegionPooler], heads: Sequence[nn.Module]) -> None:
        super().__init__()
        self.poolers, self.heads = nn.ModuleList(poolers), nn.ModuleList(heads)

    def forward(self, maps: Sequence[Tensor], found: Found) -> Tensor:
        """Return the probability ``N H W`` of each cell of each object's box."""
        votes = []
        for pooler, head in zip(self.poolers, self.heads, strict=True):
            logits = head(pooler(maps, found.boxes, found.images))
            if logits.shape[1] > 1:
                rows = torch.arange(found.labels.shape[0], device=logits.device)
                logits = logits[rows, found.labels][:, None]
            votes.append(logits.squeeze(1).sigmoid())
        return torch.stack(votes).mean(0) if len(votes) > 1 else votes[0]


def paste_masks(masks: Tensor, boxes: Tensor, size: Size, threshold: float) -> Tensor:
    """Paste probabilities ``N h w`` of the cells of boxes ``N 4`` into images: booleans ``N H W``.

    Bilinear sampling of a box is a product of two matrices of weights with the mask between them.
    """
    height, width = size
    rows = _sampling_weights(height, boxes[:, 1], boxes[:, 3], masks.shape[1])
    columns = _sampling_weights(width, boxes[:, 0], boxes[:, 2], masks.shape[2])
    return rows @ masks @ columns.transpose(1, 2) >= threshold


def _sampling_weights(length: int, start: Tensor, end: Tensor, cells: int) -> Tensor:
    """Return the weight ``N length cells`` of each cell of a box side (``N`` starts and ends) at each pixel."""
    pixels = torch.arange(length, device=start.device, dtype=start.dtype) + 0.5
    places = (pixels - start[:, None]) / (end - start)[:, None] * cells - 0.5
    distances = places[..., None] - torch.arange(cells, device=start.device, dtype=start.dtype)
    return (1 - distances.abs()).clamp(min=0)
