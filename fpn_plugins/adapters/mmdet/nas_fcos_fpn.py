"""NAS-FCOS's FPN for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, conv_factory, level_indices, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module(name=["NASFCOSFPN", "NASFCOS_FPN"])
class NASFCOSFPN(SafeInit, necks.NASFCOSFPN, BaseModule):
    """Drop-in for mmdet's ``NASFCOS_FPN`` (``models/necks/nasfcos_fpn.py``) on `fpn_plugins.NASFCOSFPN`.

    ``end_level`` is inclusive, and ``add_extra_convs`` has no effect, as in mmdet: extra levels are convolutions.

    Raises:
        ValueError: levels out of range, not exactly three of them, or an ``init_cfg``, which mmdet forbids.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 1,
        end_level: int = -1,
        add_extra_convs: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        init_cfg: None = None,
        **more: Any,
    ) -> None:
        if init_cfg is not None:
            raise ValueError(f"init_cfg={init_cfg!r}: NASFCOS_FPN initializes itself, leave it out")
        boolean("add_extra_convs", add_extra_convs)
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        super().__init__(
            in_channels,
            out_channels,
            num_outs - len(indices),
            indices,
            norm=norm_factory(norm_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = None

    def init_layers(self) -> None:
        """Initialize as mmdet does: what is outside the graph, like Caffe2."""
        super().init_layers()
        self.init_outer("caffe2_xavier")


NASFCOS_FPN = NASFCOSFPN
