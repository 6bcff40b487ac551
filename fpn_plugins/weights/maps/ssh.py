"""SSH: mmdet's layout -> ours.

Ours, with ``i`` the position of the map from the highest resolution::

    levels.<i>.conv3x3   levels.<i>.context.{conv5x5_1,conv5x5_2,conv7x7_2,conv7x7_3}     each with conv.*, norm.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules

_CONTEXT = ("conv5x5_1", "conv5x5_2", "conv7x7_2", "conv7x7_3")


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``SSH``."""
    places = [("ssh_module<i>.conv3x3", "levels.<i>.conv3x3")]
    places += [(f"ssh_module<i>.context_module.{conv}", f"levels.<i>.context.{conv}") for conv in _CONTEXT]
    return conv_modules("mmdet SSH", places)
