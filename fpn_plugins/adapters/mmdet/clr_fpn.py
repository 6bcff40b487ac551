"""CLRNet's FPN for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from ... import necks
from ...checks import boolean, integer
from ...registry import MODELS
from .arguments import Cfg
from .fpn import XAVIER, FPNArguments


@MODELS.register_module()
class CLRFPN(FPNArguments, necks.FPN, BaseModule):
    """Drop-in for mmdet's ``CLRFPN`` (``models/necks/clrnet_fpn.py``): `fpn_plugins.FPN` with other conventions.

    ``end_level`` is exclusive; ``add_extra_convs=True`` reads the input or, without ``extra_convs_on_inputs``, the
    output; maps after the last of ``in_channels`` are left out. As in mmdet, convolutions keep the initialization of
    mmcv's ``ConvModule``: of ``init_cfg``, only a ``Pretrained`` file is applied; ``attention`` and ``cfg`` have no
    effect.

    Raises:
        ValueError: see `FPNArguments`.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        extra_convs_on_inputs: bool = True,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        attention: bool = False,
        act_cfg: Cfg | None = None,
        upsample_cfg: Cfg = {"mode": "nearest"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = XAVIER,
        cfg: Any = None,
        **more: Any,
    ) -> None:
        if boolean("extra_convs_on_inputs", extra_convs_on_inputs) is False and add_extra_convs is True:
            add_extra_convs = "on_output"
        boolean("attention", attention)
        last = -1 if integer("end_level", end_level) == -1 else integer("end_level", end_level, 1) - 1
        extra = (add_extra_convs, relu_before_extra_convs, no_norm_on_lateral)
        layers = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg, "upsample_cfg": upsample_cfg}
        super().__init__(in_channels, out_channels, num_outs, start_level, last, *extra, **{**layers, **more})
        self.init_cfg = init_cfg

    def init_layers(self) -> None:
        """Leave the weights as they were drawn."""
        self._is_init = True

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Map one ``B C H W`` per entry of ``in_channels``, and more that are not read, to the pyramid."""
        return super().forward(inputs[: len(self.in_channels)] if isinstance(inputs, (list, tuple)) else inputs)
