"""NAS-FPN: mmdet's layout -> ours.

Ours, with ``r`` the number of the repeat and ``n`` that of the cell::

    lateral_convs.<i>   extra_levels.<k>   cells.<r>.nodes.<n>.output_conv     each with conv.*, norm.*
"""

from __future__ import annotations

from collections.abc import Iterable

from ..key_map import KeyMap
from .mmcv import conv_modules

# mmdet names a cell by its operation, its inputs' levels and its own; ours are numbered, and two have no weights
CELLS = {
    "gp_64_4": 0,
    "sum_44_4": 1,
    "sum_43_3": 2,
    "sum_34_4": 3,
    "sum_55_5": 5,
    "sum_77_7": 7,
    "gp_75_6": 8,
}


def mmdet() -> KeyMap:
    """mmdet's ``NASFPN``."""
    places = [("lateral_convs.<i>", "lateral_convs.<i>"), ("extra_downsamples.<k>.0", "extra_levels.<k>")]
    ours = "cells.<r>.nodes.%d.output_conv"
    places += [(f"fpn_stages.<r>.{cell}.out_conv", ours % number) for cell, number in CELLS.items()]
    return conv_modules("mmdet NASFPN", places)


def nas_fpn_layouts(keys: Iterable[str]) -> list[KeyMap]:
    """The tables to try for the keys of a NAS-FPN."""
    return [mmdet()]
