"""Panoptic FPN for MMDetection: the semantic head, with every argument of mmdet's own class, and the neck."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.seg_heads import PanopticFPNHead as MMDetPanopticFPNHead
from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import integer, positive_ints
from ...registry import MODELS
from ...weights import redirect_keys
from ...weights.maps.panoptic_fpn import mmdet_head
from .arguments import Cfg, conv_factory, norm_factory
from .fpn import FPNArguments
from .init_cfg import SafeInit


@MODELS.register_module()
class PanopticFPN(FPNArguments, necks.PanopticFPN, BaseModule):
    """`fpn_plugins.PanopticFPN` with the arguments of mmdet's ``FPN``; see `FPNArguments`.

    ``num_outs`` counts the levels of the pyramid, which follow the semantic map. For mmdet's panoptic detector, whose
    ``semantic_head`` computes the semantic map, and for its dense heads, which read every map, use `FPN` and
    `PanopticFPNHead` instead.
    """


@MODELS.register_module()
class PanopticFPNHead(SafeInit, MMDetPanopticFPNHead):
    """Drop-in for mmdet's ``PanopticFPNHead`` on the core's `SemanticMerge`; losses and predictions are mmdet's.

    Deliberate difference: on images whose sides are not multiples of the last stride, where mmdet's sum of the levels
    raises an error, each level is resized to the finer one. See mmdet for the arguments: level ``start_level`` is
    upsampled ``start_level`` times, the next one once more, and so on; ``end_level`` is exclusive. ``host`` takes
    ``loss_seg`` and ``init_cfg``.

    Raises:
        ValueError: no level between ``start_level`` and ``end_level``.
        TypeError: an argument that mmdet's class does not have.
    """

    default_prefix = "semantic_head."

    def __init__(
        self,
        num_things_classes: int = 80,
        num_stuff_classes: int = 53,
        in_channels: int = 256,
        inner_channels: int = 128,
        start_level: int = 0,
        end_level: int = 4,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "GN", "num_groups": 32, "requires_grad": True},  # noqa: B006  (never changed)
        **host: Any,
    ) -> None:
        positive_ints(in_channels=in_channels, inner_channels=inner_channels)
        integer("num_things_classes", num_things_classes, 0)
        integer("num_stuff_classes", num_stuff_classes, 0)
        levels = range(integer("start_level", start_level), integer("end_level", end_level))
        if not levels or start_level < 0:
            raise ValueError(
                f"start_level={start_level}, end_level={end_level} choose no levels: end_level is exclusive, so "
                "0, 4 are the four levels p2 to p5"
            )
        super().__init__(
            num_things_classes,
            num_stuff_classes,
            in_channels,
            inner_channels,
            start_level,
            end_level=start_level,  # so that mmdet builds no branches of its own
            **host,
        )
        del self.conv_upsample_layers
        self.end_level = end_level
        self.num_stages = len(levels)
        self.semantic_merge = necks.SemanticMerge(
            [in_channels] * len(levels),
            inner_channels,
            num_upsamples=levels,
            norm=norm_factory(norm_cfg),
            conv=conv_factory(conv_cfg),
        )
        redirect_keys(self, mmdet_head())

    def forward(self, x: Sequence[Tensor]) -> dict[str, Tensor]:
        """Predict from pyramid ``x``: logits ``seg_preds`` (``B num_classes H W``), merged map ``seg_feats``."""
        merged = self.semantic_merge(x[self.start_level : self.end_level])
        return {"seg_preds": self.conv_logits(merged), "seg_feats": merged}
