"""HybridEncoder for MMDetection, in the vocabulary of mmdet's necks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, extra_levels, level_indices, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module()
class HybridEncoder(SafeInit, necks.HybridEncoder, BaseModule):
    """`fpn_plugins.HybridEncoder` with arguments in mmdet's vocabulary.

    Args:
        in_channels, out_channels: see the core class.
        num_outs: number of outputs; levels above the last input are max-pooled.
        start_level, end_level: positions of the first and (inclusive) last input map, see mmdet's ``FPN``.
        add_extra_convs: ``'on_output'`` computes the levels above the last input by convolutions instead.
        relu_before_extra_convs: whether each but the first of these convolutions follows a ReLU.
        norm_cfg, act_cfg, conv_cfg: mmcv's, of the convolutions.
        init_cfg: mmengine's; without it the layers keep PyTorch's initialization, which is RT-DETR's.
        more: further arguments of the core class (``block``, ``downsample``, ``mlp_channels``, ...).

    Raises:
        ValueError: see the core class; ``num_outs`` smaller than the number of input maps.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "BN"},  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = {"type": "SiLU"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        super().__init__(
            in_channels,
            out_channels,
            in_indices=indices,
            extra_levels=extra_levels(num_outs - len(indices), add_extra_convs, relu_before_extra_convs),
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg
