"""SSD's neck for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean, integers
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, norm_factory
from .init_cfg import SafeInit

INIT: list[Cfg] = [
    {"type": "Xavier", "distribution": "uniform", "layer": "Conv2d"},
    {"type": "Constant", "val": 1, "layer": "BatchNorm2d"},
]


@MODELS.register_module()
class SSDNeck(SafeInit, necks.SSDNeck, BaseModule):
    """Drop-in for mmdet's ``SSDNeck`` (``models/necks/ssd_neck.py``) on `fpn_plugins.SSDNeck`.

    Raises:
        ValueError: ``out_channels`` that do not begin with ``in_channels``; also see the core class.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        level_strides: Sequence[int],
        level_paddings: Sequence[int],
        l2_norm_scale: float | None = 20.0,
        last_kernel_size: int = 3,
        use_depthwise: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        act_cfg: Cfg | None = {"type": "ReLU"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = INIT,
        **more: Any,
    ) -> None:
        channels, given = integers("out_channels", out_channels, 1), check_in_channels(in_channels)
        count = len(channels) - len(given)
        if count < 1 or channels[: len(given)] != given:
            raise ValueError(
                f"out_channels={list(channels)} must begin with in_channels={list(given)}, then list those of each "
                "added level"
            )
        super().__init__(
            given,
            channels[len(given) :],
            integers("level_strides", level_strides, 1, count),
            integers("level_paddings", level_paddings, 0, count),
            l2_norm_scale,
            last_kernel_size,
            boolean("use_depthwise", use_depthwise),
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Apply ``init_cfg``, and give the first map's norm its initial scale."""
        if self.l2_norm is not None and not self.is_init:
            self.l2_norm.reset_parameters()
        super().init_layers()
