"""YOLOX's neck for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from ... import necks
from ...checks import boolean, integer, mapping, shown
from ...registry import MODELS
from ...upsampling import UpsampleMode
from .arguments import Cfg, act_factory, conv_factory, norm_factory, upsample_from_cfg
from .init_cfg import SafeInit

KAIMING = {
    "type": "Kaiming",
    "layer": "Conv2d",
    "a": math.sqrt(5),
    "distribution": "uniform",
    "mode": "fan_in",
    "nonlinearity": "leaky_relu",
}


@MODELS.register_module(name=["CSPPAFPN", "YOLOXPAFPN"])
class CSPPAFPN(SafeInit, necks.CSPPAFPN, BaseModule):
    """`fpn_plugins.CSPPAFPN` with the arguments, defaults and initialization of mmdet's ``YOLOXPAFPN``.

    Drop-in for ``models/necks/yolox_pafpn.py``. An ``upsample_cfg`` that doubles the resolution resizes to the finer
    map instead, with the same result wherever mmdet's works.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        upsample_cfg: Cfg = {"scale_factor": 2, "mode": "nearest"},  # noqa: B006  (copied, never changed)
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "BN", "momentum": 0.03, "eps": 0.001},  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = {"type": "Swish"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = KAIMING,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            num_blocks=integer("num_csp_blocks", num_csp_blocks, 0),
            depthwise=boolean("use_depthwise", use_depthwise),
            upsample_mode=to_finer(upsample_cfg),
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.init_cfg = init_cfg


YOLOXPAFPN = CSPPAFPN


def to_finer(upsample_cfg: Cfg) -> UpsampleMode:
    """Translate ``nn.Upsample`` arguments; a doubling of the resolution resizes to the finer map instead."""
    arguments = {"mode": "nearest", **mapping("upsample_cfg", upsample_cfg, "dict(scale_factor=2, mode='nearest')")}
    if arguments.pop("scale_factor", None) == 2:
        return upsample_from_cfg(arguments)
    try:
        return partial(_fixed, nn.Upsample(**upsample_cfg))
    except TypeError as error:
        raise TypeError(f"upsample_cfg={shown(upsample_cfg)}: {error}") from error


def _fixed(upsample: nn.Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    return upsample(x)
