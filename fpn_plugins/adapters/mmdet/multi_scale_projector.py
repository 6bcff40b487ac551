"""MultiScaleProjector for MMDetection, in the vocabulary of mmdet's necks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...registry import MODELS
from .arguments import Cfg, act_factory, conv_factory, extra_levels, norm_factory, own_type
from .init_cfg import SafeInit
from .simple_pyramid import levels_above


@MODELS.register_module()
class MultiScaleProjector(SafeInit, necks.MultiScaleProjector, BaseModule):
    """`fpn_plugins.MultiScaleProjector` with the arguments of `SimpleFeaturePyramid` in this scope.

    Args:
        num_outs: number of outputs; levels above the last scale are max-pooled.
        scale_factors, num_blocks, squeeze_above: see the core class.
        add_extra_convs: ``'on_output'`` computes the levels above the last scale by convolutions instead.
        norm_cfg: mmcv's; ``LN2d`` without a scope is ours, and the default; ``BN`` is LW-DETR's.
        act_cfg: activation of the CSP layers.
        init_cfg: mmengine's; without it the convolutions keep PyTorch's initialization.
        more: further arguments of the core class (``output_norm``, ``resample_act``).

    Raises:
        ValueError: see the core class; ``num_outs`` smaller than the number of scales.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        scale_factors: Sequence[float] = (2.0, 1.0, 0.5),
        num_blocks: int = 3,
        squeeze_above: int | None = None,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = {"type": "LN2d", "eps": 1e-6},  # noqa: B006  (copied, never changed)
        act_cfg: Cfg | None = {"type": "SiLU"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = None,
        **more: Any,
    ) -> None:
        above = levels_above(num_outs, scale_factors)
        super().__init__(
            in_channels,
            out_channels,
            scale_factors,
            num_blocks,
            extra_levels(above, add_extra_convs, relu_before_extra_convs),
            squeeze_above,
            norm=norm_factory(None if norm_cfg is None else own_type(norm_cfg)),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg
