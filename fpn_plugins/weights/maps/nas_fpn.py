"""NAS-FPN: mmdet's layout -> ours.

Ours, with ``r`` the number of the repeat and ``n`` that of the cell::

    lateral_convs.<i>   extra_levels.<k>   cells.<r>.nodes.<n>.output_conv     each with conv.*, norm.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules

# mmdet names a cell by its operation, its inputs' levels and its own; ours are numbered; cells 4 and 6 have no weights
_CELLS = {"gp_64_4": 0, "sum_44_4": 1, "sum_43_3": 2, "sum_34_4": 3, "sum_55_5": 5, "sum_77_7": 7, "gp_75_6": 8}


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``NASFPN``."""
    places = [("lateral_convs.<i>", "lateral_convs.<i>"), ("extra_downsamples.<k>.0", "extra_levels.<k>")]
    for cell, number in _CELLS.items():
        places += [(f"fpn_stages.<r>.{cell}.out_conv", f"cells.<r>.nodes.{number}.output_conv")]
    return conv_modules("mmdet NASFPN", places)
