"""Translate mmdet's arguments to the core's: layer configs, level numbers, extra levels, types."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from torch import Tensor, nn

from ... import necks
from ...backbones import BACKBONES
from ...layers import WINOGRAD_REMOVED, ActFactory, ConvFactory, NormFactory
from ...registry import MODELS
from ...upsampling import UPSAMPLE_MODES, UpsampleMode

Cfg = Mapping[str, Any]
EXTRA_SOURCES = {"on_input": "input", "on_lateral": "lateral", "on_output": "output"}
# activations of mmcv's ConvModule that take no `inplace`
_WITHOUT_INPLACE = ("Tanh", "PReLU", "Sigmoid", "HSigmoid", "Swish", "GELU")


def conv_factory(conv_cfg: Cfg | None) -> ConvFactory | None:
    """Translate ``conv_cfg`` (``ConvWS``, ``DCNv2``, ...) to a convolution factory; ``None`` is ``nn.Conv2d``.

    Raises:
        ValueError: ``fpn_plugins.WinogradConv2d``, which was removed.
    """
    if conv_cfg is None:
        return None
    if conv_cfg.get("type") == "fpn_plugins.WinogradConv2d":
        raise ValueError(WINOGRAD_REMOVED)
    return partial(build_conv_layer, dict(conv_cfg))


def norm_factory(norm_cfg: Cfg | None) -> NormFactory | None:
    """Translate ``norm_cfg`` to a norm factory; ``requires_grad`` and ``eps`` keep mmcv's meaning and defaults."""
    if norm_cfg is None:
        return None

    def build(channels: int) -> nn.Module:
        return build_norm_layer(dict(norm_cfg), channels)[1]

    return build


def act_factory(act_cfg: Cfg | None) -> ActFactory | None:
    """Translate ``act_cfg`` to a factory of activations that are not in place, as in mmdet's FPN."""
    if act_cfg is None:
        return None
    arguments = dict(act_cfg)
    kind = arguments.get("type")
    if getattr(kind, "__name__", kind) not in _WITHOUT_INPLACE:
        arguments.setdefault("inplace", False)
    return partial(build_activation_layer, arguments)


def interpolate(x: Tensor, size: tuple[int, int], **upsample_cfg: Any) -> Tensor:
    """Resize ``x`` (``B C h w``) to ``size``, or by the ``scale_factor`` of mmdet's ``upsample_cfg``."""
    return F.interpolate(x, None if "scale_factor" in upsample_cfg else size, **upsample_cfg)


# modes of F.interpolate for maps
_FIXED = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")


def upsample_from_cfg(upsample_cfg: Cfg) -> UpsampleMode:
    """Translate ``upsample_cfg`` to the core's learned mode of that name, or to `interpolate`.

    Raises:
        ValueError: a mode that neither supports.
    """
    arguments = dict(upsample_cfg)
    mode = arguments.get("mode", "nearest")
    if arguments == {"mode": "nearest"}:
        return "nearest"
    if mode in _FIXED:
        return partial(interpolate, **arguments)
    if mode not in UPSAMPLE_MODES:
        raise ValueError(f"upsample_cfg mode={mode!r} must be one of {sorted({*_FIXED, *UPSAMPLE_MODES})}")
    del arguments["mode"]
    return {"type": mode, **arguments}


def level_indices(num_inputs: int, start_level: int, end_level: int, num_outs: int) -> range:
    """Resolve mmdet's ``start_level`` and (inclusive) ``end_level`` to positions of the inputs.

    Raises:
        ValueError: a level out of range, or ``num_outs`` that does not fit the levels.
    """
    last = num_inputs - 1 if end_level == -1 else end_level
    if not 0 <= start_level <= last < num_inputs:
        raise ValueError(
            f"start_level={start_level}, end_level={end_level} must choose from the {num_inputs} inputs: "
            f"0 <= start_level <= end_level <= {num_inputs - 1} (end_level is inclusive, -1 is the last)"
        )
    indices = range(start_level, last + 1)
    if num_outs < len(indices):
        raise ValueError(
            f"num_outs={num_outs} is smaller than the {len(indices)} levels {list(indices)}; "
            f"set num_outs={len(indices)} or more, or choose fewer levels with start_level"
        )
    if last < num_inputs - 1 and num_outs != len(indices):
        raise ValueError(
            f"num_outs={num_outs} with end_level={end_level}: extra levels exist only above the last input; "
            f"set num_outs={len(indices)} or end_level=-1"
        )
    return indices


def extra_levels(number: int, add_extra_convs: bool | str, relu: bool) -> necks.ExtraLevels | None:
    """Translate mmdet's ``add_extra_convs`` and ``relu_before_extra_convs`` to the core's `ExtraLevels`.

    Raises:
        ValueError: unknown ``add_extra_convs``.
    """
    source = "on_input" if add_extra_convs is True else add_extra_convs
    if source and source not in EXTRA_SOURCES:
        raise ValueError(f"add_extra_convs={add_extra_convs!r} must be a bool or one of {sorted(EXTRA_SOURCES)}")
    if number == 0:
        return None
    if not source:
        return necks.ExtraLevels(number, "max_pool")
    return necks.ExtraLevels(number, "conv", source=EXTRA_SOURCES[str(source)], relu=relu, bare=False)


def own_type(config: Cfg) -> dict[str, Any]:
    """Replace a type name with this package's class of that name, if any: the active scope is mmdet's.

    Classes registered with ``register_neck`` or ``register_backbone`` are found too; they take the core's arguments.
    """
    name = config.get("type")
    if isinstance(name, str):
        own = name.removeprefix(f"{MODELS.scope}.")
        name = {**BACKBONES, **necks.NECKS, **MODELS.module_dict}.get(own, name)
    return {**config, "type": name}
