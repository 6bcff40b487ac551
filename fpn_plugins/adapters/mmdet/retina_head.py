"""RetinaNet's head for MMDetection, with per-level loss weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.dense_heads import RetinaHead as StockRetinaHead
from torch import Tensor

from ...registry import MODELS
from ...training import check_level_weights, weigh_levels
from .init_cfg import SafeInit


@MODELS.register_module()
class RetinaHead(SafeInit, StockRetinaHead):
    """mmdet's ``RetinaHead`` (``models/dense_heads/retina_head.py``), all of its arguments, and ``level_weights``.

    ``level_weights`` are factors of each level's classification and box loss, high to low resolution; ``None`` is
    mmdet's own loss. The divisor of both losses stays the number of positive anchors of all levels. The state dict is
    mmdet's.

    Raises:
        ValueError: see `check_level_weights`.
    """

    default_prefix = "bbox_head."

    def __init__(self, *args: Any, level_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.level_weights = check_level_weights(level_weights, self.prior_generator.num_levels)

    def loss_by_feat(self, *args: Any, **kwargs: Any) -> dict[str, list[Tensor]]:
        """Compute mmdet's losses, one entry per level, and multiply each by its level's weight."""
        losses = super().loss_by_feat(*args, **kwargs)
        if self.level_weights is None:
            return losses
        return {name: weigh_levels(values, self.level_weights) for name, values in losses.items()}
