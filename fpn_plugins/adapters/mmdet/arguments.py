"""Translate mmdet's arguments to the core's: layer configs, level numbers, extra levels, types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch.nn.functional as F
from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from torch import Tensor, nn

from ... import necks
from ...backbones import BACKBONES
from ...checks import boolean, integer, mapping, near_names, positive_int, shown
from ...keywords import type_name
from ...layers import WINOGRAD_REMOVED, ActFactory, ConvFactory, NormFactory
from ...registry import MODELS
from ...upsampling import UPSAMPLE_MODES, UpsampleMode

Cfg = Mapping[str, Any]
EXTRA_SOURCES = {"on_input": "input", "on_lateral": "lateral", "on_output": "output"}
# activations of mmcv's ConvModule that take no `inplace`
_WITHOUT_INPLACE = ("Tanh", "PReLU", "Sigmoid", "HSigmoid", "Swish", "GELU")


def _checked(argument: str, cfg: Any) -> dict[str, Any]:
    """Return a copy of a layer's config whose ``type`` exists.

    Raises:
        TypeError: not a mapping, or a ``type`` that is neither a name nor a class.
        ValueError: no ``type``, or an unknown one (suggests similar names).
    """
    arguments = dict(mapping(argument, cfg, "dict(type='BN'), or None"))
    kind = arguments.get("type")
    if kind is None:
        raise ValueError(f"{argument}={shown(arguments)} has no type; write dict(type='BN', ...)")
    if isinstance(kind, str):
        with MODELS.parent.switch_scope_and_registry(None) as registry:  # as mmcv does
            known = registry.get(kind) is not None
            names = {**MODELS.parent.module_dict, **registry.module_dict}
        if not known:
            raise ValueError(f"{argument}={shown(arguments)}: type={kind!r} is unknown{near_names(kind, names)}")
    elif not callable(kind):
        raise TypeError(f"{argument}={shown(arguments)}: type={shown(kind)} must be a name or a class")
    return arguments


def _building(argument: str, cfg: Mapping[str, Any], build: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap mmcv's ``build``, whose errors then name the config; mmcv reports some by assertions."""

    def build_layer(*args: Any, **kwargs: Any) -> Any:
        try:
            return build(*args, **kwargs)
        except (TypeError, ValueError, KeyError, AssertionError) as error:
            raise ValueError(f"{argument}={shown(dict(cfg))}: {error}") from error

    return build_layer


def conv_factory(conv_cfg: Cfg | None) -> ConvFactory | None:
    """Translate ``conv_cfg`` (``ConvWS``, ``DCNv2``, ...) to a convolution factory; ``None`` is ``nn.Conv2d``.

    Raises:
        ValueError: ``fpn_plugins.WinogradConv2d``, which was removed.
    """
    if conv_cfg is None:
        return None
    if isinstance(conv_cfg, Mapping) and conv_cfg.get("type") == "fpn_plugins.WinogradConv2d":
        raise ValueError(WINOGRAD_REMOVED)
    arguments = _checked("conv_cfg", conv_cfg)
    return _building("conv_cfg", arguments, partial(build_conv_layer, arguments))


def norm_factory(norm_cfg: Cfg | None) -> NormFactory | None:
    """Translate ``norm_cfg`` to a norm factory; ``requires_grad`` and ``eps`` keep mmcv's meaning and defaults."""
    if norm_cfg is None:
        return None
    arguments = _checked("norm_cfg", norm_cfg)

    def build(channels: int) -> nn.Module:
        return build_norm_layer(arguments, channels)[1]

    return _building("norm_cfg", arguments, build)


def act_factory(act_cfg: Cfg | None) -> ActFactory | None:
    """Translate ``act_cfg`` to a factory of activations that are not in place, as in mmdet's FPN."""
    if act_cfg is None:
        return None
    arguments = _checked("act_cfg", act_cfg)
    kind = arguments.get("type")
    if getattr(kind, "__name__", kind) not in _WITHOUT_INPLACE:
        arguments.setdefault("inplace", False)
    return _building("act_cfg", arguments, partial(build_activation_layer, arguments))


def interpolate(x: Tensor, size: tuple[int, int], **upsample_cfg: Any) -> Tensor:
    """Resize ``x`` (``B C h w``) to ``size``, or by the ``scale_factor`` of mmdet's ``upsample_cfg``."""
    return F.interpolate(x, None if "scale_factor" in upsample_cfg else size, **upsample_cfg)


# modes of F.interpolate for maps, and its arguments
_FIXED = ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
_INTERPOLATE = {"mode", "scale_factor", "align_corners", "recompute_scale_factor", "antialias"}


def upsample_from_cfg(upsample_cfg: Cfg) -> UpsampleMode:
    """Translate ``upsample_cfg`` to the core's learned mode of that name, or to `interpolate`.

    Raises:
        TypeError: not a mapping.
        ValueError: a mode that neither supports, or an argument that ``F.interpolate`` does not have.
    """
    arguments = dict(mapping("upsample_cfg", upsample_cfg, "dict(mode='nearest')"))
    mode = arguments.get("mode", "nearest")
    if arguments == {"mode": "nearest"}:
        return "nearest"
    unknown = sorted(set(arguments) - _INTERPOLATE)
    if mode in _FIXED and unknown:
        near = near_names(unknown[0], _INTERPOLATE)
        raise ValueError(f"upsample_cfg={arguments!r} has an unknown argument {unknown[0]!r}{near}")
    if mode in _FIXED:
        return partial(interpolate, **arguments)
    if not isinstance(mode, str) or mode not in UPSAMPLE_MODES:
        raise ValueError(f"upsample_cfg mode={mode!r} must be one of {sorted({*_FIXED, *UPSAMPLE_MODES})}")
    del arguments["mode"]
    return {"type": mode, **arguments}


def level_indices(num_inputs: int, start_level: int, end_level: int, num_outs: int) -> range:
    """Resolve mmdet's ``start_level`` and (inclusive) ``end_level`` to positions of the inputs.

    Raises:
        TypeError: not an integer.
        ValueError: a level out of range, or ``num_outs`` that does not fit the levels.
    """
    positive_int("num_outs", num_outs)
    start_level, end_level = integer("start_level", start_level), integer("end_level", end_level)
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
    boolean("relu_before_extra_convs", relu)
    source = "on_input" if add_extra_convs is True else add_extra_convs
    if source is not False and source not in (0, *EXTRA_SOURCES):
        raise ValueError(f"add_extra_convs={add_extra_convs!r} must be a bool or one of {sorted(EXTRA_SOURCES)}")
    if number == 0:
        return None
    if not source:
        return necks.ExtraLevels(number, "max_pool")
    return necks.ExtraLevels(number, "conv", source=EXTRA_SOURCES[str(source)], relu=relu, bare=False)


def own_type(config: Cfg, argument: str = "norm_cfg") -> dict[str, Any]:
    """Replace a type name with this package's class of that name, if any: the active scope is mmdet's.

    Classes registered with ``register_neck`` or ``register_backbone`` are found too; they take the core's arguments.

    Raises:
        TypeError: ``config``, which is given as ``argument``, is not a mapping.
        ValueError: a config of Detectron2.
    """
    own = type_name(argument, mapping(argument, config, "dict(type='fpn_plugins.FPN', ...)"))
    name = config.get("type")
    if isinstance(name, str):
        name = {**BACKBONES, **necks.NECKS, **MODELS.module_dict}.get(own, name)
    return {**config, "type": name}


def build_part(argument: str, config: Cfg) -> Any:
    """Build a module of this package, or another registered one, from its config, given as ``argument``.

    Raises:
        TypeError: not a config.
        ValueError: no ``type``, or an unknown one (suggests similar names).
    """
    found = own_type(config, argument)
    kind = found["type"]
    if kind is None:
        raise ValueError(
            f"{argument}={shown(dict(config))} has no type; write dict(type='fpn_plugins.TimmBackbone', ...)"
        )
    if not isinstance(kind, str) and not callable(kind):
        raise TypeError(f"{argument} type={shown(kind)} must be a name or a class")
    if isinstance(kind, str):
        try:
            MODELS.get(kind)
        except ValueError as error:
            raise ValueError(f"{argument}: {error}") from None
    return MODELS.build(found)
