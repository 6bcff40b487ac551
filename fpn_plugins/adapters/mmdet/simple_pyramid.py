"""SimpleFeaturePyramid for MMDetection, in the vocabulary of mmdet's ``projects/ViTDet``, and its channel-first LN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import numbers, positive_int
from ...layers import LayerNorm2d
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, extra_levels, norm_factory, own_type
from .init_cfg import SafeInit


@MODELS.register_module()
class LN2d(LayerNorm2d):
    """Channel-first LayerNorm as a ``norm_cfg``, for ViTDet's pyramid and heads.

    ``dict(type='fpn_plugins.LN2d', eps=1e-6)`` is Detectron2's ``norm="LN"``; without ``eps``, mmcv sets 1e-5, as it
    does for mmdet's ``projects/ViTDet``. mmcv's own ``LN`` normalizes the last dimension, not the channels.
    """


@MODELS.register_module()
class SimpleFeaturePyramid(SafeInit, necks.SimpleFeaturePyramid, BaseModule):
    """`fpn_plugins.SimpleFeaturePyramid` with the arguments of ``SimpleFPN`` in mmdet's ``projects/ViTDet``.

    Checkpoints of that project load as they are. ``in_channels``, a list of one, replaces ``backbone_channel``;
    arguments that are not listed are those of mmdet's ``FPN``.

    Args:
        num_outs: number of outputs; levels above the last scale are max-pooled.
        scale_factors: see the core class.
        add_extra_convs: ``'on_output'`` computes the levels above the last scale by convolutions instead.
        norm_cfg: mmcv's; ``LN2d`` without a scope is ours. The default is Detectron2's.
        init_cfg: mmengine's; without it the convolutions keep PyTorch's initialization, as in Detectron2.
        more: further arguments of the core class (``init='kaiming_normal'`` is that project's).

    Raises:
        ValueError: see the core class; ``num_outs`` smaller than the number of scales.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5),
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "LN2d", "eps": 1e-6},  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = None,
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        above = levels_above(num_outs, scale_factors)
        super().__init__(
            in_channels,
            out_channels,
            scale_factors,
            extra_levels=extra_levels(above, add_extra_convs, relu_before_extra_convs),
            norm=norm_factory(None if norm_cfg is None else own_type(norm_cfg)),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg


def levels_above(num_outs: int, scale_factors: Sequence[float]) -> int:
    """Count the levels above the last scale; ``ValueError`` if ``num_outs`` is smaller than the number of scales."""
    if positive_int("num_outs", num_outs) < len(numbers("scale_factors", scale_factors)):
        raise ValueError(
            f"num_outs={num_outs} is smaller than the {len(scale_factors)} levels of "
            f"scale_factors={list(scale_factors)}; set num_outs={len(scale_factors)} or more"
        )
    return num_outs - len(scale_factors)
