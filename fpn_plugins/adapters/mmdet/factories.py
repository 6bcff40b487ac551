"""mmcv's ``conv_cfg``, ``norm_cfg``, ``act_cfg`` and ``upsample_cfg`` as the factories that the core takes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from torch import Tensor, nn

from ...layers import WINOGRAD_REMOVED, ActFactory, ConvFactory, NormFactory
from ...upsampling import UPSAMPLE_MODES, UpsampleMode

Cfg = Mapping[str, Any]

# activations of mmcv's ConvModule that know no `inplace`
_WITHOUT_INPLACE = ("Tanh", "PReLU", "Sigmoid", "HSigmoid", "Swish", "GELU")


def conv_factory(conv_cfg: Cfg | None) -> ConvFactory | None:
    """Convolutions of mmcv's registry (``ConvWS``, ``DCNv2``, ...); ``None`` is the core's ``nn.Conv2d``.

    Raises:
        ValueError: ``fpn_plugins.WinogradConv2d``, which was removed.
    """
    if conv_cfg is None:
        return None
    if conv_cfg.get("type") == "fpn_plugins.WinogradConv2d":
        raise ValueError(WINOGRAD_REMOVED)
    return partial(build_conv_layer, dict(conv_cfg))


def norm_factory(norm_cfg: Cfg | None) -> NormFactory | None:
    """Norms of mmcv's registry; ``requires_grad`` and ``eps`` keep mmcv's meaning and defaults."""
    if norm_cfg is None:
        return None

    def build(channels: int) -> nn.Module:
        return build_norm_layer(dict(norm_cfg), channels)[1]

    return build


def act_factory(act_cfg: Cfg | None) -> ActFactory | None:
    """Activations of mmcv's registry, not in place, as mmdet's FPN has them."""
    if act_cfg is None:
        return None
    arguments = dict(act_cfg)
    kind = arguments.get("type")
    if getattr(kind, "__name__", kind) not in _WITHOUT_INPLACE:
        arguments.setdefault("inplace", False)
    return partial(build_activation_layer, arguments)


class Interpolate:
    """``F.interpolate`` with mmdet's ``upsample_cfg``: to the finer map's size, unless it fixes a ``scale_factor``."""

    def __init__(self, upsample_cfg: Cfg) -> None:
        self.arguments = dict(upsample_cfg)

    def __call__(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Upsample ``x`` (``B C h w``) to ``size``, or by the fixed factor."""
        if "scale_factor" in self.arguments:
            return F.interpolate(x, **self.arguments)
        return F.interpolate(x, size=size, **self.arguments)


_FIXED = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")  # of F.interpolate, for maps


def upsample_mode(upsample_cfg: Cfg) -> UpsampleMode:
    """The core's learned mode of that name with its arguments, or what ``F.interpolate`` does with ``upsample_cfg``.

    Raises:
        ValueError: a mode that neither has.
    """
    arguments = dict(upsample_cfg)
    mode = arguments.get("mode", "nearest")
    if arguments == {"mode": "nearest"}:
        return "nearest"
    if mode in _FIXED:
        return Interpolate(arguments)
    if mode not in UPSAMPLE_MODES:
        raise ValueError(f"upsample_cfg mode={mode!r} must be one of {sorted({*_FIXED, *UPSAMPLE_MODES})}")
    del arguments["mode"]
    return {"type": mode, **arguments}
