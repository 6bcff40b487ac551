"""RFP for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mmdet.registry import MODELS as MMDET
from mmengine.model import BaseModule, xavier_init
from torch import nn

from ... import necks
from ...checks import boolean, mapping, positive_ints
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import (
    Cfg,
    act_factory,
    build_part,
    conv_factory,
    extra_levels,
    level_indices,
    norm_factory,
    upsample_from_cfg,
)
from .init_cfg import SafeInit


@MODELS.register_module()
class RFP(SafeInit, necks.RFP, BaseModule):
    """`fpn_plugins.RFP` with the arguments, defaults and initialization of mmdet's ``RFP`` (``models/necks/rfp.py``).

    ``in_channels`` leaves out the image, which the neck still reads first: the backbone has ``output_img=True``
    (mmdet's ``DetectoRS_ResNet``) or ``output_image=True`` (``fpn_plugins.DetectoRSResNet``).

    Args:
        rfp_steps: number of passes.
        rfp_backbone: config of the backbone of a further pass, mmdet's ``DetectoRS_ResNet`` or one of this package; any
            module with ``rfp_forward``.
        aspp_out_channels: channels of each branch of the ASPP.
        aspp_dilations: mmdet's.
        init_cfg: mmdet forbids it.
        image_channels: channels of the image.
        more: further arguments of the core class.

    The others are those of mmdet's ``FPN``.

    Raises:
        ValueError: an ``init_cfg``, levels that leave out a map, or arguments outside the core's values.
    """

    def __init__(
        self,
        rfp_steps: int,
        rfp_backbone: Cfg,
        aspp_out_channels: int,
        aspp_dilations: Sequence[int] = (1, 3, 6, 1),
        init_cfg: None = None,
        *,
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
        image_channels: int = 3,
        **more: Any,
    ) -> None:
        if init_cfg is not None:
            raise ValueError(f"init_cfg={init_cfg!r}: RFP initializes itself, leave it out")
        channels = check_in_channels(in_channels)
        indices = level_indices(len(channels), start_level, end_level, num_outs)
        if len(indices) != len(channels):
            raise ValueError(
                f"start_level={start_level}, end_level={end_level}: RFP uses all maps, each of which feeds a stage back"
            )
        positive_ints(rfp_steps=rfp_steps, aspp_out_channels=aspp_out_channels, image_channels=image_channels)
        mapping("rfp_backbone", rfp_backbone, "dict(type='DetectoRS_ResNet', ...)")
        super().__init__(
            [image_channels, *channels],
            partial(build_part, "rfp_backbone", _scoped(rfp_backbone)),
            out_channels,
            rfp_steps,
            aspp_out_channels,
            aspp_dilations,
            extra_levels=extra_levels(num_outs - len(indices), add_extra_convs, relu_before_extra_convs),
            upsample_mode=upsample_from_cfg(upsample_cfg),
            norm=norm_factory(norm_cfg),
            norm_on_lateral=not boolean("no_norm_on_lateral", no_norm_on_lateral),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does before `init_weights`
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = None

    def init_layers(self) -> None:
        """Initialize as mmdet does: Xavier for the FPN, the further backbones' own, and a gate of one half."""
        for layer in self.fpn.modules():
            if isinstance(layer, nn.Conv2d):
                xavier_init(layer, distribution="uniform")
        for backbone in self.backbones:
            if hasattr(backbone, "init_weights"):
                backbone.init_weights()  # type: ignore[operator]
        self.reset_gate()
        self._is_init = True


def _scoped(config: Cfg) -> Cfg:
    """Return a backbone's config whose type, a class of mmdet's, has its scope, whatever scope is active."""
    kind = config.get("type")
    theirs = isinstance(kind, str) and "." not in kind and kind in MMDET.module_dict
    return {**config, "type": f"mmdet.{kind}"} if theirs else config
