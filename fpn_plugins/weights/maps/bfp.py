"""BFP: mmdet's layout -> ours."""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """mmdet's ``BFP``: the convolution of a ConvModule is called as ours, its norm by its kind."""
    places = ("refine", "refine.g", "refine.theta", "refine.phi", "refine.conv_out")
    return conv_modules("mmdet BFP", [(place, place) for place in places])


def bfp_layouts(keys: Iterable[str]) -> list[KeyMap]:
    """The tables to try for the keys of a BFP."""
    return [mmdet()]
