"""YOLOv3's neck for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import integers, positive_int
from ...features import FeatureSpec
from ...initialization import init_convs
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module()
class YOLOV3Neck(SafeInit, necks.YOLOV3Neck, BaseModule):
    """Drop-in for mmdet's ``YOLOV3Neck`` (``models/necks/yolo_neck.py``) on `fpn_plugins.YOLOV3Neck`.

    As in mmdet, ``in_channels``, ``out_channels`` and the outputs go from low to high resolution, and the inputs from
    high to low.

    Raises:
        ValueError: another number of channels than ``num_scales``.
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "BN", "requires_grad": True},  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = {"type": "LeakyReLU", "negative_slope": 0.1},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        count = positive_int("num_scales", num_scales)
        super().__init__(
            integers("in_channels", in_channels, 1, count)[::-1],
            integers("out_channels", out_channels, 1, count)[::-1],
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does
            **more,
        )
        self.num_scales = count
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Apply ``init_cfg``, then draw the weights of every convolution as mmcv does, which is what mmdet keeps."""
        super().init_layers()
        init_convs(self, "kaiming_normal")

    def out_specs(self, in_specs: Sequence[FeatureSpec]) -> tuple[FeatureSpec, ...]:
        """Return the specs of the outputs, low to high resolution."""
        return super().out_specs(in_specs)[::-1]

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map ``B C H W``, high to low resolution, to outputs from low to high resolution."""
        return super().forward(inputs)[::-1]
