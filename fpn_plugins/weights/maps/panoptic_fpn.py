"""Panoptic FPN: the semantic branch of mmdet and Detectron2 -> ours.

Ours, with ``i`` the position of the level from the highest resolution and ``k`` that of the convolution in its branch::

    branches.<i>.<k>.conv.*   branches.<i>.<k>.norm.*
"""

import re
from collections.abc import Iterable, Sequence

from ..key_map import KeyMap
from .mmcv import conv_modules

MAX_CONVS = 8  # of one branch: a stride of 1024 at a common stride of 4


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``PanopticFPNHead`` without ``conv_logits``; GN comes first, for the inverse."""
    theirs, ours = "conv_upsample_layers.<i>.conv.<k>", "branches.<i>.<k>"
    table = conv_modules("mmdet PanopticFPNHead", [(theirs, ours)])
    return KeyMap(table.layout, [(f"{theirs}.gn.<*>", f"{ours}.norm.<*>"), *table.rules])


def detectron2(names: Sequence[str]) -> KeyMap:
    """Build the table of Detectron2's ``SemSegFPNHead`` without ``predictor``, which alternates convs and upsampling.

    ``names`` are the head's features (``p2``, ``p3``, ...), high to low resolution.
    """
    rules = []
    for i, name in enumerate(names):
        for k in range(MAX_CONVS):
            theirs, ours = f"{name}.{2 * k}", f"branches.{i}.{k}"
            rules += [(f"{theirs}.norm.<*>", f"{ours}.norm.<*>"), (f"{theirs}.<*>", f"{ours}.conv.<*>")]
    return KeyMap("detectron2 SemSegFPNHead", rules)


def semantic_layouts(keys: Iterable[str]) -> list[KeyMap]:
    """Collect the tables for the keys of a semantic branch; Detectron2's features are read from ``keys``."""
    features = {match[0]: int(match[1]) for key in keys if (match := re.match(r"[a-z]+(\d+)(?=\.\d+\.)", key))}
    return [mmdet(), detectron2(sorted(features, key=lambda name: features[name]))]


def mmdet_head() -> KeyMap:
    """Redirect mmdet's branches, which are in the head itself, to our ``semantic_merge``."""
    name = "conv_upsample_layers.<*>"
    return KeyMap("mmdet PanopticFPNHead", [(name, f"semantic_merge.{name}")])


def detectron2_head(names: Iterable[str]) -> KeyMap:
    """Redirect the branches of features ``names``, which are in Detectron2's head itself, to our ``semantic_merge``."""
    return KeyMap("detectron2 SemSegFPNHead", [(f"{name}.<*>", f"semantic_merge.{name}.<*>") for name in names])


def panoptic_fpn() -> KeyMap:
    """Redirect the keys of a plain FPN, in any layout, to the pyramid of a `PanopticFPN`."""
    parts = [(f"{part}.<*>",) * 2 for part in ("fpn", "semantic_merge")]
    return KeyMap("FPN", [*parts, ("<*>", "fpn.<*>")])
