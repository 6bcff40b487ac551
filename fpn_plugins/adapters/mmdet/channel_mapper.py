"""ChannelMapper for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean, integer, shown
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, extra_levels, norm_factory
from .fpn import XAVIER
from .init_cfg import SafeInit


@MODELS.register_module()
class ChannelMapper(SafeInit, necks.ChannelMapper, BaseModule):
    """Drop-in for mmdet's ``ChannelMapper`` (``models/necks/channel_mapper.py``); its checkpoints load as they are.

    Raises:
        TypeError: an argument of another type.
        ValueError: an even ``kernel_size``, a ``num_outs`` below the number of inputs, which mmdet ignores, or a
            ``bias`` that is neither a bool nor ``'auto'``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        kernel_size: int = 3,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        act_cfg: Cfg | None = {"type": "ReLU"},  # noqa: B006  (copied, never changed)
        bias: bool | str = "auto",
        num_outs: int | None = None,
        init_cfg: Cfg | Sequence[Cfg] | None = XAVIER,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        number = len(check_in_channels(in_channels))
        num_outs = number if num_outs is None else integer("num_outs", num_outs, number)
        if isinstance(bias, str) and bias != "auto":
            raise ValueError(f"bias={shown(bias)} must be True, False or 'auto'")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=kernel_size,
            extra_levels=extra_levels(num_outs - number, "on_input", relu=False),
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            bias=None if isinstance(bias, str) else boolean("bias", bias),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg
