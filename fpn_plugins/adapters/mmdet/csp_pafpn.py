"""YOLOX's and RTMDet's necks for MMDetection, with every argument of mmdet's own classes."""

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


YOLOX_BN = {"type": "BN", "momentum": 0.03, "eps": 0.001}
DOUBLED = {"scale_factor": 2, "mode": "nearest"}


class CSPArguments(SafeInit):
    """Constructor mixin: arguments, defaults and initialization of mmdet's ``YOLOXPAFPN``.

    An ``upsample_cfg`` that doubles the resolution resizes to the finer map instead, with the same result wherever
    mmdet's works. ``block='c2f'`` and other arguments of the core class can be added.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        upsample_cfg: Cfg = DOUBLED,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = YOLOX_BN,
        act_cfg: Cfg | None = {"type": "Swish"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = KAIMING,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        super().__init__(
            in_channels,  # type: ignore[call-arg]
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


@MODELS.register_module(name=["CSPPAFPN", "YOLOXPAFPN"])
class CSPPAFPN(CSPArguments, necks.CSPPAFPN, BaseModule):
    """Drop-in for mmdet's ``YOLOXPAFPN`` (``models/necks/yolox_pafpn.py``); see `CSPArguments`."""


YOLOXPAFPN = CSPPAFPN


@MODELS.register_module()
class CSPNeXtPAFPN(CSPArguments, necks.CSPNeXtPAFPN, BaseModule):
    """Drop-in for mmdet's ``CSPNeXtPAFPN`` (``models/necks/cspnext_pafpn.py``); see `CSPArguments`.

    As in mmdet, ``conv_cfg`` leaves the first convolution of each block as it is.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_csp_blocks: int = 3,
        use_depthwise: bool = False,
        expand_ratio: float = 0.5,
        upsample_cfg: Cfg = DOUBLED,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = YOLOX_BN,
        act_cfg: Cfg | None = {"type": "Swish"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = KAIMING,
        **more: Any,
    ) -> None:
        layers = (upsample_cfg, conv_cfg, norm_cfg, act_cfg, init_cfg)
        more["expand_ratio"] = expand_ratio
        super().__init__(in_channels, out_channels, num_csp_blocks, use_depthwise, *layers, **more)


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
