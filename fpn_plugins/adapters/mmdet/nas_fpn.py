"""NAS-FPN for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import positive_int
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, level_indices, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module()
class NASFPN(SafeInit, necks.NASFPN, BaseModule):
    """`fpn_plugins.NASFPN` with the arguments, defaults and initialization of mmdet's (``models/necks/nas_fpn.py``).

    ``end_level`` is inclusive, as mmdet implements it.

    Raises:
        ValueError: levels out of range, or not exactly five of them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        stack_times: int,
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: Cfg | None = None,
        init_cfg: Cfg | Sequence[Cfg] | None = {"type": "Caffe2Xavier", "layer": "Conv2d"},  # noqa: B006  (not changed)
        **more: Any,
    ) -> None:
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        super().__init__(
            in_channels,
            out_channels,
            num_extra_levels=num_outs - len(indices),
            num_repeats=positive_int("stack_times", stack_times),
            in_indices=indices,
            norm=norm_factory(norm_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg
