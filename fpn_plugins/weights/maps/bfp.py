"""BFP: mmdet's layout -> ours."""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet() -> KeyMap:
    """Build the table of mmdet's ``BFP``, which differs only in the names of norms."""
    places = ("refine", "refine.g", "refine.theta", "refine.phi", "refine.conv_out")
    return conv_modules("mmdet BFP", [(place, place) for place in places])
