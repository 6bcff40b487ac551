"""RetinaNet for Detectron2, with per-level loss weights and a choice of loss normalizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, RetinaNet
from detectron2.modeling.box_regression import _dense_box_regression_loss
from detectron2.structures import Boxes
from detectron2.utils.events import get_event_storage
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor

from ...checks import probability
from ...training import check_level_weights, weigh_levels


@META_ARCH_REGISTRY.register()
class FPNPluginsRetinaNet(RetinaNet):
    """Detectron2's ``RetinaNet`` with per-level loss weights and a choice of the loss normalizer's momentum.

    Args:
        level_weights: factor of each level's classification and box loss, high to low resolution; ``None`` or empty is
            Detectron2's own loss. In YAML: ``MODEL.FPN_PLUGINS.LEVEL_WEIGHTS``. The divisor of both losses stays the
            running mean of the number of positive anchors of all levels.
        normalizer_momentum: momentum of that running mean, which starts at 100. Detectron2 fixes it at 0.9; 0 divides
            by the positive anchors of the batch alone, as mmdet does (``docs/same_training.md``). In YAML:
            ``MODEL.FPN_PLUGINS.NORMALIZER_MOMENTUM``.
        **kwargs: Detectron2's.

    The state dict is Detectron2's.

    Raises:
        ValueError: see `check_level_weights`; also for a momentum outside of 0 <= momentum < 1.
    """

    @configurable
    def __init__(
        self, *, level_weights: Sequence[float] | None = None, normalizer_momentum: float = 0.9, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.level_weights = check_level_weights(level_weights, len(self.head_in_features))
        self.normalizer_momentum = probability("normalizer_momentum", normalizer_momentum)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Read Detectron2's arguments and ours from a config."""
        ours = cfg.MODEL.FPN_PLUGINS
        return {
            **super().from_config(cfg),
            "level_weights": ours.LEVEL_WEIGHTS,
            "normalizer_momentum": ours.NORMALIZER_MOMENTUM,
        }

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute Detectron2's losses level by level, multiply each by its weight, and sum them.

        Anchors and predictions (``B A num_classes``, ``B A 4``) are given per level; labels and boxes per image, over
        the anchors of all levels. The label -1 is ignored, and ``num_classes`` is background.
        """
        if self.level_weights is None:
            return super().losses(anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes)
        labels, boxes = torch.stack(gt_labels), torch.stack(gt_boxes)  # B R, B R 4
        normalizer = self._normalizer(labels)
        counts = [len(level) for level in anchors]
        levels = zip(
            *(anchors, pred_logits, pred_anchor_deltas, labels.split(counts, 1), boxes.split(counts, 1)), strict=True
        )
        pairs = [self._level_losses(*level) for level in levels]
        totals = [torch.stack(weigh_levels(part, self.level_weights)).sum() for part in zip(*pairs, strict=True)]
        return {"loss_cls": totals[0] / normalizer, "loss_box_reg": totals[1] / normalizer}

    def _normalizer(self, labels: Tensor) -> float:
        """Update and return Detectron2's running mean of the number of positive anchors; log the number per image."""
        num_positive = self._positive(labels).sum().item()
        get_event_storage().put_scalar("num_pos_anchors", num_positive / len(labels))
        return self._ema_update("loss_normalizer", max(num_positive, 1), 100)

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float | None = None) -> float:
        """Update Detectron2's running mean with this detector's momentum, unless the caller gives one."""
        return super()._ema_update(
            name, value, initial_value, self.normalizer_momentum if momentum is None else momentum
        )

    def _positive(self, labels: Tensor) -> Tensor:
        return (labels >= 0) & (labels != self.num_classes)

    def _level_losses(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, labels: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum the focal loss and the box loss of one level with Detectron2's own functions."""
        valid = labels >= 0
        targets = torch.nn.functional.one_hot(labels[valid], self.num_classes + 1)[:, :-1]  # background has no class
        loss_cls = sigmoid_focal_loss_jit(
            logits[valid],
            targets.to(logits.dtype),
            alpha=self.focal_loss_alpha,
            gamma=self.focal_loss_gamma,
            reduction="sum",
        )
        loss_box_reg = _dense_box_regression_loss(
            [anchors],
            self.box2box_transform,
            [deltas],
            boxes.unbind(),
            self._positive(labels),
            box_reg_loss_type=self.box_reg_loss_type,
            smooth_l1_beta=self.smooth_l1_beta,
        )
        return loss_cls, loss_box_reg
