"""BFP: mmdet's layout -> ours."""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap
from .fpn import MMCV_NORMS


def mmdet() -> KeyMap:
    """mmdet's ``BFP``: the convolution of a ConvModule is called as ours, its norm by its kind."""
    rules = []
    for place in ("refine", "refine.g", "refine.theta", "refine.phi", "refine.conv_out"):
        rules += [(f"{place}.{norm}.{{*}}", f"{place}.norm.{{*}}") for norm in MMCV_NORMS]
        rules += [(f"{place}.conv.{{*}}", f"{place}.conv.{{*}}")]
    return KeyMap("mmdet BFP", rules)


def bfp_layouts(keys: Iterable[str]) -> list[KeyMap]:
    """The tables to try for the keys of a BFP."""
    return [mmdet()]
