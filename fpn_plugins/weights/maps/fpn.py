"""FPN: the layouts of mmdet, Detectron2 and torchvision -> ours.

Ours, with ``i`` the position of the level from the highest resolution and ``k`` that of the extra level::

    lateral_convs.<i>.conv.*   lateral_convs.<i>.norm.*
    output_convs.<i>.conv.*    output_convs.<i>.norm.*
    extra_levels.convs.<k>.conv.*
    upsamples.<j>.*            j counting the steps of the top-down path, from the lowest resolution
    after_merge.*              of a layer after each merge that has weights
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet(num_levels: int) -> KeyMap:
    """Build the table of mmdet's ``FPN`` and ``PAFPN``, whose extra levels follow ``num_levels`` others."""
    places = [("lateral_convs.<i>", "lateral_convs.<i>")]
    places += [(f"fpn_convs.{i}", f"output_convs.{i}") for i in range(num_levels)]
    places += [(f"fpn_convs.<k+{num_levels}>", "extra_levels.convs.<k>")]
    # PAFPN's second path
    places += [("downsample_convs.<i>", "downsample_convs.<i>"), ("pafpn_convs.<i>", "bottom_up_convs.<i>")]
    plugin = ("plugin.<*>", "after_merge.<*>")  # FPN_DropBlock's, if another layer than DropBlock
    return KeyMap("mmdet FPN", [*conv_modules("", places).rules, plugin])


def mmdet_carafe(num_levels: int, num_merged: int) -> KeyMap:
    """Build the table of mmdet's ``FPN_CARAFE``: extra levels are laterals, upsampling counts from the finest level.

    Args:
        num_levels: number of levels that have an input.
        num_merged: number of levels of the top-down path, extra levels included.
    """
    places = [(f"lateral_convs.{i}", f"lateral_convs.{i}") for i in range(num_levels)]
    places += [(f"lateral_convs.<k+{num_levels}>", "extra_levels.convs.<k>")]
    places += [("fpn_convs.<i>", "output_convs.<i>")]
    upsamples: list[tuple[str, str | None]] = []
    for i in range(num_merged - 1):
        theirs, ours = f"upsample_modules.{i}", f"upsamples.{num_merged - 2 - i}"
        upsamples += [(f"{theirs}.{part}", f"{ours}.deconv.{part}") for part in ("weight", "bias")]
        upsamples += [(f"{theirs}.init_pos", None)]  # DySample's, a constant
        upsamples += [(f"{theirs}.<*>", f"{ours}.<*>")]
    return KeyMap("mmdet FPN_CARAFE", [*conv_modules("", places).rules, *upsamples])


def detectron2(first_stage: int) -> KeyMap:
    """Build the table of Detectron2's ``FPN``, whose names start at ``first_stage``, log2 of the finest stride."""
    rules = []
    for theirs, ours in (("fpn_lateral", "lateral_convs"), ("fpn_output", "output_convs")):
        place = f"{theirs}<i+{first_stage}>"
        rules += [(f"{place}.norm.<*>", f"{ours}.<i>.norm.<*>"), (f"{place}.<*>", f"{ours}.<i>.conv.<*>")]
    rules += [(f"top_block.p{6 + k}.<*>", f"extra_levels.convs.{k}.conv.<*>") for k in range(2)]
    return KeyMap("detectron2 FPN", rules)


def torchvision() -> KeyMap:
    """Build the table of torchvision's ``FeaturePyramidNetwork``; since 0.13, names include the convolution's index."""
    rules = []
    for theirs, ours in (("inner_blocks", "lateral_convs"), ("layer_blocks", "output_convs")):
        for place, part in ((f"{theirs}.<i>.0", "conv"), (f"{theirs}.<i>.1", "norm"), (f"{theirs}.<i>", "conv")):
            rules += [(f"{place}.<*>", f"{ours}.<i>.{part}.<*>")]
    rules += [(f"extra_blocks.p{6 + k}.<*>", f"extra_levels.convs.{k}.conv.<*>") for k in range(2)]
    return KeyMap("torchvision FPN", rules)


@dataclass(frozen=True)
class FPNLayouts:
    """Tables for the keys of an FPN with ``num_levels`` inputs and ``num_merged`` top-down levels."""

    num_levels: int
    num_merged: int

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """Return the tables of all layouts; Detectron2's finest stage is read from ``keys``."""
        stages = [int(match[1]) for key in keys if (match := re.match(r"fpn_lateral(\d+)\.", key))]
        mmdets = [mmdet(self.num_levels), mmdet_carafe(self.num_levels, self.num_merged)]
        return [*mmdets, detectron2(min(stages, default=2)), torchvision()]


def detectron2_backbone(levels: Iterable[int]) -> KeyMap:
    """Redirect convolutions of ``levels`` (log2 of strides), which Detectron2 has beside ``bottom_up``, to ``neck``."""
    names = [f"fpn_{kind}{level}.<*>" for level in levels for kind in ("lateral", "output")]
    return KeyMap("detectron2 FPN backbone", [(name, f"neck.{name}") for name in [*names, "top_block.<*>"]])
