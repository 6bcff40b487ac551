"""BiFPN for MMDetection, in mmdet's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, level_indices, norm_factory
from .init_cfg import SafeInit


@MODELS.register_module()
class BiFPN(SafeInit, necks.BiFPN, BaseModule):
    """`fpn_plugins.BiFPN` with the usual arguments of mmdet's necks.

    mmdet itself has no BiFPN; the one in its ``projects/EfficientDet`` pads the max-pool with 0 instead of minus
    infinity. Weights are initialized as in EfficientDet; an ``init_cfg`` replaces that.

    Arguments are those of mmdet's ``FPN``, ``num_repeats``, the number of BiFPN layers, and ``with_cp``, the core's
    ``gradient_checkpointing``. Outputs above the last used input are max-pooled. ``conv_cfg`` is for every convolution,
    including the depthwise ones; the default ``norm_cfg`` is EfficientDet's.

    Raises:
        ValueError: ``num_outs`` smaller than the number of used inputs, levels out of range.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        num_repeats: int = 3,
        start_level: int = 0,
        end_level: int = -1,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "BN", "eps": 1e-3, "momentum": 0.01},  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = {"type": "SiLU"},  # noqa: B006  (copied, never changed)
        with_cp: bool = False,
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        super().__init__(
            in_channels,
            out_channels,
            in_indices=indices,
            num_extra_levels=num_outs - len(indices),
            num_repeats=num_repeats,
            norm=norm_factory(norm_cfg),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            gradient_checkpointing=boolean("with_cp", with_cp),
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg
