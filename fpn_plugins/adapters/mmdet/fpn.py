"""FPN and its relatives for MMDetection, with every argument of mmdet's own classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule

from ... import necks
from ...registry import MODELS
from .factories import Cfg, act_factory, conv_factory, norm_factory, upsample_mode

EXTRA_SOURCES = {"on_input": "input", "on_lateral": "lateral", "on_output": "output"}
XAVIER = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}


class FPNArguments:
    """mmdet's arguments, defaults and initialisation of ``FPN`` (``models/necks/fpn.py``), translated for a core class.

    Changing ``type='FPN'`` to ``type='fpn_plugins.FPN'`` in a config changes nothing else; mmdet's checkpoints load as
    they are. See mmdet for the arguments. Notes on three of them:

    - ``end_level`` is inclusive, as mmdet implements it (its docstring says exclusive).
    - ``add_extra_convs=True`` is ``'on_input'``; without it, extra levels are max-pooled.
    - ``upsample_cfg`` also takes the learned ``mode='deconv'``, ``'pixel_shuffle'`` and ``'carafe'``, with arguments of
      their classes (``dict(mode='carafe', kernel_size=5)``).

    ``more`` are further arguments of the core class, by its own names (``fusion='avg'``); one that it does not have is
    a ``TypeError``.

    Raises:
        ValueError: ``num_outs`` smaller than the number of levels, levels out of range, unknown ``add_extra_convs`` or
            mode of upsampling.
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
        indices = level_indices(len(in_channels), start_level, end_level, num_outs)
        super().__init__(
            in_channels,  # type: ignore[call-arg]
            out_channels,
            in_indices=indices,
            extra_levels=extra_levels(num_outs - len(indices), add_extra_convs, relu_before_extra_convs),
            upsample_mode=upsample_mode(upsample_cfg),
            norm=norm_factory(norm_cfg),
            norm_on_lateral=not no_norm_on_lateral,
            act=act_factory(act_cfg),
            conv=conv_factory(conv_cfg),
            init="kaiming_normal",  # what mmcv's ConvModule does; `init_weights` applies init_cfg
            **more,
        )
        self.num_outs = num_outs
        self.init_cfg = init_cfg


@MODELS.register_module()
class FPN(FPNArguments, necks.FPN, BaseModule):
    """`fpn_plugins.FPN` in the place of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class PAFPN(FPNArguments, necks.PAFPN, BaseModule):
    """`fpn_plugins.PAFPN` in the place of mmdet's; see `FPNArguments`. ``bottom_up_act='relu'`` is the paper's."""


@MODELS.register_module()
class SSDPyramid(FPNArguments, necks.SSDPyramid, BaseModule):
    """`fpn_plugins.SSDPyramid` with the arguments of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class TopDownPyramid(FPNArguments, necks.TopDownPyramid, BaseModule):
    """`fpn_plugins.TopDownPyramid` with the arguments of mmdet's ``FPN``; see `FPNArguments`."""


@MODELS.register_module()
class SingleScale(FPNArguments, necks.SingleScale, BaseModule):
    """`fpn_plugins.SingleScale` with mmdet's ``FPN`` arguments; ``start_level`` and ``end_level`` choose the map."""


def level_indices(num_inputs: int, start_level: int, end_level: int, num_outs: int) -> range:
    """Positions of the inputs that mmdet's ``start_level`` and (inclusive) ``end_level`` choose.

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
    """mmdet's ``add_extra_convs`` and ``relu_before_extra_convs`` as the core's declaration.

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
    """The config with our class in place of its name, where we have one: the active scope is mmdet's."""
    name = config.get("type")
    if isinstance(name, str):
        name = MODELS.module_dict.get(name.removeprefix(f"{MODELS.scope}."), name)
    return {**config, "type": name}
