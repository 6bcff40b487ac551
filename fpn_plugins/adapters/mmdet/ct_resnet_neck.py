"""CenterNet's neck for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import boolean, integers, positive_int
from ...registry import MODELS
from .arguments import Cfg, conv_factory, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module()
class CTResNetNeck(SafeInit, necks.CTResNetNeck, BaseModule):
    """Drop-in for mmdet's ``CTResNetNeck`` (``models/necks/ct_resnet_neck.py``) on `fpn_plugins.CTResNetNeck`.

    As in mmdet, it reads the last of any number of maps. ``init_cfg`` is applied after the initialization, where mmdet
    ignores it.

    Raises:
        ValueError: lists of different lengths.
    """

    def __init__(
        self,
        in_channels: int,
        num_deconv_filters: Sequence[int],
        num_deconv_kernels: Sequence[int],
        use_dcn: bool = True,
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        filters = integers("num_deconv_filters", num_deconv_filters, 1)
        if not filters:
            raise ValueError("num_deconv_filters=[] must list the channels of at least one layer")
        super().__init__(
            [positive_int("in_channels", in_channels)],
            filters,
            integers("num_deconv_kernels", num_deconv_kernels, 1, len(filters)),
            norm=norm_factory({"type": "BN"}),
            conv=conv_factory({"type": "DCNv2"} if boolean("use_dcn", use_dcn) else None),
            **more,
        )
        self.use_dcn = use_dcn
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Draw mmdet's initial weights."""
        self.reset_parameters()
        super().init_layers()

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map the last of ``inputs`` (``B C H W``) to a tuple of one map."""
        return super().forward(inputs[-1:] if isinstance(inputs, (list, tuple)) else inputs)
