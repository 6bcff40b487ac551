"""CARAFE's FPN for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from ... import necks
from ...checks import mapping, sequence
from ...features import check_in_channels
from ...layers import ActConv2d, init_convs
from ...registry import MODELS
from ...upsampling import CARAFE, PixelShuffleUpsample, UpsampleMode, fit
from .arguments import Cfg, act_factory, level_indices, norm_factory
from .init_cfg import SELF_INITIALIZED, SafeInit

ACT_LAST = ("conv", "norm", "act")
ACT_FIRST = ("act", "conv", "norm")
CARAFE_CFG = {"type": "carafe", "up_kernel": 5, "up_group": 1, "encoder_kernel": 3, "encoder_dilation": 1}

# mmdet's types of upsampling, and DySample -> the core's names of their arguments
ARGUMENTS: dict[str, dict[str, str]] = {
    "nearest": {},
    "bilinear": {},
    "deconv": {"upsample_kernel": "kernel_size"},
    "pixel_shuffle": {"upsample_kernel": "kernel_size"},
    "carafe": {
        "up_kernel": "kernel_size",
        "up_group": "groups",
        "encoder_kernel": "encoder_kernel_size",
        "encoder_dilation": "encoder_dilation",
        "compressed_channels": "compressed_channels",
    },
    "dysample": {name: name for name in ("style", "groups", "dyscope")},
}


@MODELS.register_module()
class FPN_CARAFE(SafeInit, necks.FPN, BaseModule):  # noqa: N801  (mmdet's name)
    """`fpn_plugins.FPN` with the arguments, defaults and initialization of mmdet's ``FPN_CARAFE``.

    Drop-in for ``models/necks/fpn_carafe.py`` that needs no compiled operator. Unlike in mmdet's ``FPN``, extra levels
    are strided convolutions of the last input that take part in the top-down path. Deliberate difference: where a map
    is one cell larger than twice the coarser one, the last row or column is repeated; mmdet fails there. Beyond mmdet's
    types, ``upsample_cfg=dict(type='dysample')`` takes the arguments of `fpn_plugins.upsampling.DySample`.

    Raises:
        ValueError: levels out of range; an ``order`` or ``upsample_cfg`` unknown to mmdet, including
            ``type=None``, with which mmdet itself cannot build a second level; an ``init_cfg``, which mmdet forbids.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: Cfg | None = None,
        act_cfg: Cfg | None = None,
        order: Sequence[str] = ACT_LAST,
        upsample_cfg: Cfg = CARAFE_CFG,
        init_cfg: None = None,
        **more: Any,
    ) -> None:
        if init_cfg is not None:
            raise ValueError(f"init_cfg={init_cfg!r}: FPN_CARAFE initializes itself, leave it out")
        order = sequence("order", order, "names of layers")
        if order not in (ACT_LAST, ACT_FIRST):
            raise ValueError(f"order={order} must be {ACT_LAST} or {ACT_FIRST}")
        act, first = act_factory(act_cfg), order == ACT_FIRST
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        levels = {"op": "conv", "source": "input", "relu": False, "bare": False, "in_top_down": True}
        extra = num_outs - len(indices)
        super().__init__(
            in_channels,
            out_channels,
            in_indices=indices,
            extra_levels={"num_levels": extra, **levels} if extra else None,
            upsample_mode=upsample_from_carafe_cfg(upsample_cfg),
            norm=norm_factory(norm_cfg),
            act=None if first else act,
            conv=partial(ActConv2d, act) if first and act else None,
            init="kaiming_normal",  # what mmcv's ConvModule does before `init_weights`
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = None

    def init_layers(self) -> None:
        """Initialize as mmdet does, in its order: each layer by itself, all by Xavier, learned upsampling again."""
        BaseModule.init_weights(self)
        convs = [part for part in (self.lateral_convs, self.extra_levels, self.output_convs) if part is not None]
        upsamples = list(reversed(self.upsamples))
        for part in convs:
            init_convs(part, "kaiming_normal")
        for upsample in upsamples:
            _init_upsample(upsample)
        for layer in (layer for part in (*convs, *upsamples) for layer in part.modules()):
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                xavier_init(layer, distribution="uniform")
        for upsample in upsamples:
            if isinstance(upsample, CARAFE):
                _init_upsample(upsample)
        for layer in self.modules():  # what mmdet does not have
            if isinstance(layer, SELF_INITIALIZED) and not isinstance(layer, CARAFE):
                layer.reset_parameters()


def _init_upsample(layer: nn.Module) -> None:
    """Draw the weights of mmdet's learned upsampling; it draws those of CARAFE's encoder twice."""
    if isinstance(layer, (CARAFE, PixelShuffleUpsample)):
        init_convs(layer, "xavier_uniform")
    if isinstance(layer, CARAFE):
        nn.init.normal_(layer.content_encoder.weight, std=0.001)


def upsample_from_carafe_cfg(upsample_cfg: Cfg) -> UpsampleMode:
    """Translate ``FPN_CARAFE``'s ``upsample_cfg`` to the core's upsampling.

    Raises:
        ValueError: a type that is not one of mmdet's or ``'dysample'``, or an argument that the type does not have.
    """
    arguments = dict(mapping("upsample_cfg", upsample_cfg, "dict(type='carafe', up_kernel=5)"))
    kind = arguments.pop("type", None)
    if not isinstance(kind, str) or kind not in ARGUMENTS:
        raise ValueError(f"upsample_cfg type={kind!r} must be one of {sorted(ARGUMENTS)}")
    names = ARGUMENTS[kind]
    unknown = sorted(set(arguments) - set(names))
    if unknown:
        raise ValueError(f"upsample_cfg of type={kind!r} has no {unknown}, it has {sorted(names)}")
    if "upsample_kernel" in names and "upsample_kernel" not in arguments:
        raise ValueError(f"upsample_cfg of type={kind!r} needs upsample_kernel, the side of its kernel")
    if kind == "bilinear":
        return _bilinear_doubled
    return {"type": kind, **{names[key]: value for key, value in arguments.items()}}


def _bilinear_doubled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Double the size, then crop: resizing directly to an odd size would weight the cells differently."""
    return fit(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), size)
