"""FPN and its relatives for MMDetection, with every argument of mmdet's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...checks import boolean, mapping, near_names, shown
from ...features import check_in_channels
from ...registry import MODELS
from .arguments import (
    Cfg,
    act_factory,
    build_part,
    conv_factory,
    extra_levels,
    level_indices,
    norm_factory,
    upsample_from_cfg,
)
from .init_cfg import SafeInit

XAVIER = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}
DROP_BLOCK = {"type": "DropBlock", "drop_prob": 0.3, "block_size": 3, "warmup_iters": 0}


class FPNArguments(SafeInit):
    """Constructor mixin: mmdet's arguments, defaults and initialization of ``FPN`` (``models/necks/fpn.py``).

    See mmdet for the arguments. Notes on three of them:

    - ``end_level`` is inclusive, as mmdet implements it (its docstring says exclusive).
    - ``add_extra_convs=True`` means ``'on_input'``; without it, extra levels are max-pooled.
    - ``upsample_cfg`` also takes the learned ``mode='deconv'``, ``'pixel_shuffle'``, ``'carafe'`` and ``'dysample'``,
      with arguments of their classes (``dict(mode='carafe', kernel_size=5)``).

    Raises:
        ValueError: ``num_outs`` smaller than the number of levels, levels out of range, unknown ``add_extra_convs`` or
            upsampling mode.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: Cfg | None = None,
        norm_cfg: Cfg | None = None,
        act_cfg: Cfg | None = None,
        upsample_cfg: Cfg = {"mode": "nearest"},  # noqa: B006  (copied, never changed)
        init_cfg: Cfg | Sequence[Cfg] | None = XAVIER,  # noqa: B006  (never changed)
        **more: Any,
    ) -> None:
        indices = level_indices(len(check_in_channels(in_channels)), start_level, end_level, num_outs)
        super().__init__(
            in_channels,  # type: ignore[call-arg]
            out_channels,
            in_indices=indices,
            extra_levels=extra_levels(num_outs - len(indices), add_extra_convs, relu_before_extra_convs),
            upsample_mode=upsample_from_cfg(upsample_cfg),
            norm=norm_factory(norm_cfg),
            norm_on_lateral=not boolean("no_norm_on_lateral", no_norm_on_lateral),
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg


@MODELS.register_module()
class FPN(FPNArguments, necks.FPN, BaseModule):
    """Drop-in for mmdet's ``FPN`` on `fpn_plugins.FPN`; see `FPNArguments`."""


@MODELS.register_module()
class FPN_DropBlock(FPN):  # noqa: N801  (mmdet's name)
    """Drop-in for mmdet's ``FPN_DropBlock``: `FPN` with a layer after each merge.

    Args:
        *args, **more: see `FPNArguments`.
        plugin: config of the layer: ``DropBlock`` with mmdet's arguments, or another registered class; ``None`` for
            none.

    Raises:
        ValueError: an argument that ``DropBlock`` does not have, which mmdet ignores; see also `FPNArguments`.
    """

    def __init__(self, *args: Any, plugin: Cfg | None = DROP_BLOCK, **more: Any) -> None:
        super().__init__(*args, after_merge=None if plugin is None else _plugin(plugin), **more)


def _plugin(config: Cfg) -> Any:
    arguments = dict(mapping("plugin", config, "dict(type='DropBlock', drop_prob=0.3, block_size=3)"))
    if arguments.get("type") not in ("DropBlock", "mmdet.DropBlock"):
        return partial(build_part, "plugin", config)
    names = {"drop_prob": "drop_prob", "block_size": "block_size", "warmup_iters": "warmup_steps"}
    unknown = sorted(set(arguments) - {"type", *names})
    missing = sorted({"drop_prob", "block_size"} - set(arguments))
    if unknown or missing:
        problem = f"has no {unknown[0]!r}{near_names(unknown[0], names)}" if unknown else f"needs {missing[0]}"
        raise ValueError(f"plugin={shown(arguments)}: DropBlock {problem}")
    given = {names[key]: value for key, value in arguments.items() if key in names}
    return {"type": "drop_block", "warmup_steps": 2000, **given}


@MODELS.register_module()
class PAFPN(FPNArguments, necks.PAFPN, BaseModule):
    """Drop-in for mmdet's ``PAFPN``; see `FPNArguments`. ``bottom_up_act='relu'`` follows the paper."""


@MODELS.register_module()
class SSDPyramid(FPNArguments, necks.SSDPyramid, BaseModule):
    """`fpn_plugins.SSDPyramid` with the arguments of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class TopDownPyramid(FPNArguments, necks.TopDownPyramid, BaseModule):
    """`fpn_plugins.TopDownPyramid` with the arguments of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class SingleScale(FPNArguments, necks.SingleScale, BaseModule):
    """`fpn_plugins.SingleScale` with mmdet's ``FPN`` arguments; ``start_level`` and ``end_level`` choose the map."""
