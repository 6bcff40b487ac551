"""ChannelMapper: mmdet's layout -> ours.

Ours, with ``i`` the position of the map from the highest resolution and ``k`` that of the extra level::

    convs.<i>   extra_levels.convs.<k>     each with conv.*, norm.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``ChannelMapper``."""
    places = [("convs.<i>", "convs.<i>"), ("extra_convs.<k>", "extra_levels.convs.<k>")]
    return conv_modules("mmdet ChannelMapper", places)
