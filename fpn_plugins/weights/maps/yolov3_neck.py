"""YOLOV3Neck: mmdet's layout -> ours.

Ours, with ``i`` counting from the lowest resolution::

    levels.<i>.block.{0,1,2,3,4}.{conv,norm}.*   levels.<i>.reduce_conv.{conv,norm}.*
"""

from ..key_map import KeyMap
from .mmcv import conv_modules


def mmdet(num_levels: int) -> KeyMap:
    """Build the table of mmdet's ``YOLOV3Neck``, which counts from 1, for a number of levels."""
    places = [
        (f"detect{level + 1}.conv{k + 1}", f"levels.{level}.block.{k}") for level in range(num_levels) for k in range(5)
    ]
    places += [(f"conv{level}", f"levels.{level}.reduce_conv") for level in range(1, num_levels)]
    return conv_modules("mmdet YOLOV3Neck", places)
