"""SSH's neck for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import integer
from ...features import check_in_channels
from ...layers import init_convs
from ...registry import MODELS
from .arguments import Cfg, conv_factory, norm_factory
from .fpn import XAVIER
from .init_cfg import SafeInit


@MODELS.register_module()
class SSH(SafeInit, necks.SSH, BaseModule):
    """Drop-in for mmdet's ``SSH`` (``models/necks/ssh.py``); its checkpoints load as they are.

    ``out_channels`` can also be one number for all maps.

    Raises:
        TypeError: an argument of another type.
        ValueError: ``num_scales`` that is not the number of channels, or output channels that are no multiples of 4.
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: Sequence[int],
        out_channels: int | Sequence[int],
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "BN"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = XAVIER,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        if integer("num_scales", num_scales, 1) != len(check_in_channels(in_channels)):
            raise ValueError(f"num_scales={num_scales} must be the number of in_channels={list(in_channels)}")
        super().__init__(
            in_channels,
            out_channels,
            norm=norm_factory(norm_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Apply ``init_cfg``, then reinitialize the convolutions, as mmengine does with mmdet's own module."""
        first = not self.is_init
        super().init_layers()
        if first:
            init_convs(self, "kaiming_normal")
