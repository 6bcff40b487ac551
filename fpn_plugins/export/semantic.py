"""Semantic logits of Panoptic FPN at the size of the images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .boxes import Size


class SemanticLogits(nn.Module):
    """Semantic head and the resizing of its logits.

    Args:
        head: maps a sequence of maps to logits ``B C h w``.
        levels: index in the pyramid of each map that the head reads.
        factor: logits are enlarged by this factor (Detectron2); ``None`` resizes them to the images (mmdet).
    """

    def __init__(self, head: nn.Module, levels: Sequence[int], factor: int | None) -> None:
        super().__init__()
        self.head, self.levels, self.factor = head, tuple(levels), factor

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Compute logits ``B C H W`` from the pyramid of images of ``size``."""
        logits = self.head([maps[level] for level in self.levels])
        if self.factor is None:
            return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=False)
        return F.interpolate(logits, scale_factor=float(self.factor), mode="bilinear", align_corners=False)
