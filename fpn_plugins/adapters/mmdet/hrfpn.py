"""HRFPN for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean, one_of, positive_int
from ...layers import init_convs
from ...registry import MODELS
from .arguments import Cfg, conv_factory, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module()
class HRFPN(SafeInit, necks.HRFPN, BaseModule):
    """Drop-in for mmdet's ``HRFPN`` (``models/necks/hrfpn.py``); its checkpoints load as they are.

    ``norm_cfg`` is checked and not used, as in mmdet; ``norm`` of the core adds norms.

    Raises:
        TypeError: an argument of another type.
        ValueError: a ``pooling_type`` other than ``'AVG'`` and ``'MAX'``; mmdet averages for any other text.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int = 5,
        pooling_type: str = "AVG",
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        with_cp: bool = False,
        stride: int = 1,
        init_cfg: Cfg | Sequence[Cfg] | None = {"type": "Caffe2Xavier", "layer": "Conv2d"},  # noqa: B006  (not changed)
        **more: Any,
    ) -> None:
        norm_factory(norm_cfg)
        checkpointed = boolean("with_cp", with_cp)
        super().__init__(
            in_channels,
            out_channels,
            num_levels=positive_int("num_outs", num_outs),
            pooling=one_of("pooling_type", pooling_type, ("AVG", "MAX")).lower(),
            stride=stride,
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **{"gradient_checkpointing": checkpointed, **more},
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Apply ``init_cfg``, then reinitialize the first convolution, as mmengine does with mmdet's own module."""
        first = not self.is_init
        super().init_layers()
        if first:
            init_convs(self.reduction_conv, "kaiming_normal")
