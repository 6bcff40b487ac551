"""FPN and its relatives for MMDetection, with every argument of mmdet's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, extra_levels, level_indices, norm_factory, upsample_from_cfg
from .init_cfg import SafeInit

XAVIER = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}


class FPNArguments(SafeInit):
    """Constructor mixin: mmdet's arguments, defaults and initialization of ``FPN`` (``models/necks/fpn.py``).

    See mmdet for the arguments. Notes on three of them:

    - ``end_level`` is inclusive, as mmdet implements it (its docstring says exclusive).
    - ``add_extra_convs=True`` means ``'on_input'``; without it, extra levels are max-pooled.
    - ``upsample_cfg`` also takes the learned ``mode='deconv'``, ``'pixel_shuffle'``, ``'carafe'`` and ``'dysample'``,
      with arguments of their classes (``dict(mode='carafe', kernel_size=5)``).

    Raises:
        ValueError: ``num_outs`` smaller than the number of levels, levels out of range, unknown ``add_extra_convs`` or
            upsampling mode.
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
        no_norm_on_lateral: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        act_cfg: Cfg | None = None,
        upsample_cfg: Cfg = {"mode": "nearest"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = XAVIER,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        super().__init__(
            in_channels,  # type: ignore[call-arg]
            out_channels,
            in_indices=indices,
            extra_levels=extra_levels(num_outs - len(indices), add_extra_convs, relu_before_extra_convs),
            upsample_mode=upsample_from_cfg(upsample_cfg),
            norm=norm_factory(norm_cfg),
            norm_on_lateral=not boolean("no_norm_on_lateral", no_norm_on_lateral),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg


@MODELS.register_module()
class FPN(FPNArguments, necks.FPN, BaseModule):
    """Drop-in for mmdet's ``FPN`` on `fpn_plugins.FPN`; see `FPNArguments`."""


@MODELS.register_module()
class PAFPN(FPNArguments, necks.PAFPN, BaseModule):
    """Drop-in for mmdet's ``PAFPN``; see `FPNArguments`. ``bottom_up_act='relu'`` follows the paper."""


@MODELS.register_module()
class SSDPyramid(FPNArguments, necks.SSDPyramid, BaseModule):
    """`fpn_plugins.SSDPyramid` with the arguments of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class TopDownPyramid(FPNArguments, necks.TopDownPyramid, BaseModule):
    """`fpn_plugins.TopDownPyramid` with the arguments of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class SingleScale(FPNArguments, necks.SingleScale, BaseModule):
    """`fpn_plugins.SingleScale` with mmdet's ``FPN`` arguments; ``start_level`` and ``end_level`` choose the map."""
