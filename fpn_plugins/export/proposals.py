"""Proposals of a region proposal network from a pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .boxes import BoxCoder, GridAnchors, Size
from .dense import Found, SelectionRule, rows
from .selection import best


class ProposalNetwork(nn.Module):
    """Head of a region proposal network and the selection of its proposals, as in both toolboxes.

    Args:
        head: maps a list of maps to two lists, logits ``B A H W`` and box offsets ``B A*4 H W`` per level.
        anchors: anchors of each level.
        coder: decoder of the offsets.
        candidates: highest number of anchors per level.
        rule: selection of proposals; those of different levels do not suppress each other.
        levels: index in the pyramid of each map that the head reads.
        ranks_sigmoid: whether anchors are ranked by sigmoid scores (mmdet, whose equal scores are then frequent)
            instead of logits.
    """

    def __init__(
        self,
        head: nn.Module,
        anchors: Sequence[GridAnchors],
        coder: BoxCoder,
        candidates: int,
        rule: SelectionRule,
        levels: Sequence[int],
        ranks_sigmoid: bool,
    ) -> None:
        super().__init__()
        self.head, self.anchors = head, nn.ModuleList(anchors)
        self.coder, self.candidates, self.rule = coder, candidates, rule
        self.levels, self.ranks_sigmoid = tuple(levels), ranks_sigmoid

    def forward(self, maps: Sequence[Tensor], size: Size) -> Found:
        """Propose boxes on images of ``size`` from their pyramid; their labels are levels."""
        logits, offsets = self.head([maps[level] for level in self.levels])
        per_level = [self._candidates(*level, size) for level in zip(self.anchors, logits, offsets, strict=True)]
        boxes, scores = (torch.cat(parts, 1) for parts in zip(*per_level, strict=True))
        batch = scores.shape[0]
        levels = torch.arange(len(self.levels), device=scores.device).repeat_interleave(self.candidates)
        images = torch.arange(batch, device=scores.device)[:, None].expand_as(scores)
        found = Found(boxes.flatten(0, 1), scores.flatten(), levels.repeat(batch), images.flatten())
        return self.rule.select(found, batch, size)

    def _candidates(self, anchors: nn.Module, logits: Tensor, offsets: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Return boxes ``B K 4`` and scores ``B K`` of the best anchors of one level."""
        width = logits.shape[-1]
        scores, offsets = rows(logits, 1).squeeze(-1), rows(offsets, 4)
        scores, numbers = best(scores.sigmoid() if self.ranks_sigmoid else scores, self.candidates)
        offsets = offsets.gather(1, numbers[..., None].expand(-1, -1, 4))
        return self.coder.decode(offsets, anchors(numbers, width), size), scores
