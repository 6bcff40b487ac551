"""HRFPN: mmdet's layout -> ours.

Ours, with ``i`` the position of the output from the highest resolution::

    reduction_conv   output_convs.<i>     each with conv.*, norm.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``HRFPN``."""
    return conv_modules("mmdet HRFPN", [("reduction_conv",) * 2, ("fpn_convs.<i>", "output_convs.<i>")])
