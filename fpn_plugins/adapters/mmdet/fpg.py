"""FPG for MMDetection, with every argument of mmdet's own class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mmengine.model import BaseModule
from torch import nn

from ... import necks
from ...checks import boolean, integer, integers, mapping, one_of, positive_int, sequence, shown
from ...features import check_in_channels
from ...layers import ConvFactory, make_conv
from ...necks.fpg_grid import ORDERS, OrderedConv, Transition
from ...registry import MODELS
from ...upsampling import UpsampleMode
from .arguments import Cfg, act_factory, conv_factory, level_indices, norm_factory, upsample_from_cfg
from .init_cfg import SafeInit

DIRECTIONS = {"bu": "bottom_up", "td": "top_down"}
CONV_OPTIONS = ("dilation", "groups", "padding_mode", "bias")
OPTIONS = ("kernel_size", "stride", "padding", "conv_cfg", "norm_cfg", "act_cfg", "inplace", "order", *CONV_OPTIONS)
UPSAMPLING = ("scale_factor", "mode", "align_corners")
INIT_CFG: list[Cfg] = [
    {"type": "Caffe2Xavier", "layer": "Conv2d"},
    {"type": "Constant", "layer": ["_BatchNorm", "_InstanceNorm", "GroupNorm", "LayerNorm"], "val": 1.0},
]


@MODELS.register_module()
class FPG(SafeInit, necks.FPG, BaseModule):
    """`fpn_plugins.FPG` with the arguments, defaults and initialization of mmdet's (``models/necks/fpg.py``).

    Transitions are mmdet's: ``type`` ``'conv'``, ``'interpolation_conv'`` or ``'last_conv'`` with arguments of mmcv's
    ``ConvModule`` (without spectral norm), ``'identity'``, or ``None``. Convolutions always pad as their kernel needs,
    coarser maps are always upsampled, in one mode, and ``skip_inds=None`` skips nothing; see the core class for what
    else differs. ``end_level`` is inclusive, as mmdet implements it. ``norm_cfg`` has no effect, as in mmdet.

    Raises:
        ValueError: levels, paths or transitions outside these values.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        stack_times: int,
        paths: Sequence[str],
        inter_channels: int | Sequence[int] | None = None,
        same_down_trans: Cfg | None = None,
        same_up_trans: Cfg | None = {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1},  # noqa: B006
        across_lateral_trans: Cfg | None = {"type": "conv", "kernel_size": 1},  # noqa: B006
        across_down_trans: Cfg | None = {"type": "conv", "kernel_size": 3},  # noqa: B006
        across_up_trans: Cfg | None = None,
        across_skip_trans: Cfg | None = {"type": "identity"},  # noqa: B006
        output_trans: Cfg = {"type": "last_conv", "kernel_size": 3},  # noqa: B006
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool = False,
        norm_cfg: Cfg | None = None,
        skip_inds: Sequence[Sequence[int]] | None = None,
        init_cfg: Cfg | Sequence[Cfg] | None = INIT_CFG,  # noqa: B006
        **more: Any,
    ) -> None:
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        norm_factory(norm_cfg)
        directions = sequence("paths", paths, "directions")
        if len(directions) != positive_int("stack_times", stack_times):
            raise ValueError(f"paths={shown(paths)} must have stack_times={stack_times} entries")
        skipped = "none" if skip_inds is None else [integers("skip_inds", entry, 0) for entry in skip_inds]
        super().__init__(
            in_channels,
            out_channels,
            inter_channels,
            indices,
            num_outs - len(indices),
            boolean("add_extra_convs", add_extra_convs),
            [DIRECTIONS[one_of("paths", direction, DIRECTIONS)] for direction in directions],
            same_up=transition("same_up_trans", same_up_trans),
            same_down=transition("same_down_trans", same_down_trans),
            across_lateral=transition("across_lateral_trans", across_lateral_trans),
            across_down=transition("across_down_trans", across_down_trans),
            across_up=transition("across_up_trans", across_up_trans),
            across_skip=transition("across_skip_trans", across_skip_trans),
            output_conv=transition("output_trans", output_trans, "last_conv"),  # type: ignore[arg-type]
            skipped_paths=skipped,
            upsample_mode=_upsample_mode(same_down_trans, across_down_trans),
            norm=None,  # each transition has its own
            act=None,
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg


def transition(argument: str, cfg: Any, kind: str = "") -> Transition | None:
    """Translate a transition's config.

    Args:
        argument: its name, for messages.
        cfg: mmdet's config.
        kind: its only ``type``; ``""`` for those of the grid.
    """
    if cfg is None and not kind:
        return None
    arguments = dict(mapping(argument, cfg, "dict(type='conv', kernel_size=3)"))
    kinds = (kind,) if kind else ("conv", "interpolation_conv", "identity")
    if one_of(f"{argument} type", arguments.pop("type", None), kinds) == "identity":
        return "identity"
    unknown = sorted(set(arguments) - {*OPTIONS, *(UPSAMPLING if "down" in argument else ())})
    if unknown:
        raise TypeError(f"{argument} has no argument {unknown[0]!r}; it takes {sorted(OPTIONS)}")
    return partial(_build, argument, {"kernel_size": 3, **arguments})


def _build(argument: str, cfg: Cfg, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """Build mmcv's ``ConvModule`` as an `OrderedConv`."""
    kernel_size, dilation = integer(f"{argument} kernel_size", cfg["kernel_size"], 1), cfg.get("dilation", 1)
    padding = dilation * (kernel_size // 2)
    if kernel_size % 2 == 0 or cfg.get("stride", stride) != stride or cfg.get("padding", padding) != padding:
        raise ValueError(
            f"{argument}={shown(dict(cfg))} must have an odd kernel_size, stride={stride} and padding={padding}, which "
            "give the map the size of its level"
        )
    order = tuple(sequence(f"{argument} order", cfg.get("order", ORDERS[0]), "names"))
    if order not in ORDERS:
        raise ValueError(f"{argument} order={order} must be one of {list(ORDERS)}")
    act_cfg = cfg.get("act_cfg", {"type": "ReLU"})
    options = {key: cfg[key] for key in CONV_OPTIONS if key in cfg and cfg[key] != "auto"}
    conv: ConvFactory = partial(_conv, make_conv(conv_factory(cfg.get("conv_cfg"))), {"padding": padding, **options})
    norm, act = norm_factory(cfg.get("norm_cfg")), act_factory(act_cfg)
    return OrderedConv(in_channels, out_channels, kernel_size, stride, norm=norm, act=act, conv=conv, order=order)


def _conv(conv: ConvFactory, options: Cfg, *args: Any, **kwargs: Any) -> nn.Module:
    return conv(*args, **{**kwargs, **options})


def _upsample_mode(*cfgs: Cfg | None) -> UpsampleMode:
    """Return the mode of the transitions that read coarser maps; one that is a bare convolution has none of its own."""
    modes = []
    for cfg in cfgs:
        if cfg is not None and cfg.get("type") == "interpolation_conv":
            if cfg.get("scale_factor", 2) != 2:
                raise ValueError(f"scale_factor={cfg['scale_factor']} of an interpolation_conv must be 2")
            modes.append({key: cfg[key] for key in UPSAMPLING[1:] if cfg.get(key) is not None})
    if any(mode != modes[0] for mode in modes):
        raise ValueError(f"same_down_trans and across_down_trans must have one mode of upsampling, not {modes}")
    return upsample_from_cfg({"mode": "nearest", **modes[0]} if modes else {"mode": "nearest"})
