"""FPN: the layouts of mmdet, detectron2 and torchvision -> ours.

Ours, with ``i`` the position of the level from the highest resolution and ``k`` that of the extra level::

    lateral_convs.<i>.conv.*   lateral_convs.<i>.norm.*
    output_convs.<i>.conv.*    output_convs.<i>.norm.*
    extra_levels.convs.<k>.conv.*
    upsamples.<j>.*            j counting the steps of the top-down path, from the lowest resolution
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet(num_levels: int) -> KeyMap:
    """mmdet's ``FPN`` and ``PAFPN``: in ``fpn_convs`` the extra levels follow the ``num_levels`` output convs."""
    places = [("lateral_convs.<i>", "lateral_convs.<i>")]
    places += [(f"fpn_convs.{i}", f"output_convs.{i}") for i in range(num_levels)]
    places += [(f"fpn_convs.<k+{num_levels}>", "extra_levels.convs.<k>")]
    # PAFPN's second path
    places += [("downsample_convs.<i>", "downsample_convs.<i>"), ("pafpn_convs.<i>", "bottom_up_convs.<i>")]
    return conv_modules("mmdet FPN", places)


def mmdet_carafe(num_levels: int, num_merged: int) -> KeyMap:
    """mmdet's ``FPN_CARAFE``: extra levels are laterals too, and upsampling counts from the highest resolution.

    Args:
        num_levels: levels that have an input.
        num_merged: levels of the top-down path, the extra ones too.
    """
    places = [(f"lateral_convs.{i}", f"lateral_convs.{i}") for i in range(num_levels)]
    places += [(f"lateral_convs.<k+{num_levels}>", "extra_levels.convs.<k>")]
    places += [("fpn_convs.<i>", "output_convs.<i>")]
    upsamples: list[tuple[str, str | None]] = []
    for i in range(num_merged - 1):
        theirs, ours = f"upsample_modules.{i}", f"upsamples.{num_merged - 2 - i}"
        upsamples += [(f"{theirs}.{part}", f"{ours}.deconv.{part}") for part in ("weight", "bias")]
        upsamples += [(f"{theirs}.<*>", f"{ours}.<*>")]
    return KeyMap("mmdet FPN_CARAFE", [*conv_modules("", places).rules, *upsamples])


def detectron2(first_stage: int) -> KeyMap:
    """detectron2's ``FPN``: ``fpn_lateral<s>``, ``s`` = log2 of the stride, ``first_stage`` at the finest level."""
    rules = []
    for theirs, ours in (("fpn_lateral", "lateral_convs"), ("fpn_output", "output_convs")):
        place = f"{theirs}<i+{first_stage}>"
        rules += [(f"{place}.norm.<*>", f"{ours}.<i>.norm.<*>"), (f"{place}.<*>", f"{ours}.<i>.conv.<*>")]
    rules += [(f"top_block.p{6 + k}.<*>", f"extra_levels.convs.{k}.conv.<*>") for k in range(2)]
    return KeyMap("detectron2 FPN", rules)


def torchvision() -> KeyMap:
    """torchvision's ``FeaturePyramidNetwork``, with the convolution's index (since 0.13) and without (before)."""
    rules = []
    for theirs, ours in (("inner_blocks", "lateral_convs"), ("layer_blocks", "output_convs")):
        rules += [
            (f"{theirs}.<i>.0.<*>", f"{ours}.<i>.conv.<*>"),
            (f"{theirs}.<i>.1.<*>", f"{ours}.<i>.norm.<*>"),
            (f"{theirs}.<i>.<*>", f"{ours}.<i>.conv.<*>"),
        ]
    rules += [(f"extra_blocks.p{6 + k}.<*>", f"extra_levels.convs.{k}.conv.<*>") for k in range(2)]
    return KeyMap("torchvision FPN", rules)


class FPNLayouts:
    """The tables to try for the keys of an FPN of ``num_levels`` inputs and ``num_merged`` levels of its path."""

    def __init__(self, num_levels: int, num_merged: int) -> None:
        self.num_levels = num_levels
        self.num_merged = num_merged

    def __call__(self, keys: Iterable[str]) -> list[KeyMap]:
        """Tables of the layouts; detectron2's finest stage is read from ``keys``."""
        stages = [int(match[1]) for key in keys if (match := re.match(r"fpn_lateral(\d+)\.", key))]
        mmdets = [mmdet(self.num_levels), mmdet_carafe(self.num_levels, self.num_merged)]
        return [*mmdets, detectron2(min(stages, default=2)), torchvision()]


def detectron2_backbone(levels: Iterable[int]) -> KeyMap:
    """detectron2 keeps the convolutions of the pyramid beside ``bottom_up``; we keep them in ``neck``.

    Args:
        levels: ``log2`` of the strides that the pyramid is built on.
    """
    stages = tuple(levels)
    rules = [
        (f"fpn_{kind}{level}.<*>", f"neck.fpn_{kind}{level}.<*>") for kind in ("lateral", "output") for level in stages
    ]
    return KeyMap("detectron2 FPN backbone", [*rules, ("top_block.<*>", "neck.top_block.<*>")])
